/* kit.c - parts of a pipeline, from options. A value is written as a scalar whatever it
 * holds; that it is a number, or a plugin, is for the pipeline to check. */
#include "kit.h"

#include <string.h>

enum { NAME_ROOM = 88 };	/* with a NUL; the run's name is at most 100 */

/* ---- schemes ---- */

/* Letters, digits, '.', '_' and '-', as names are; anything else becomes a '-'. */
static void name_copy(char *out, size_t room, const char *text, size_t length)
{
	static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"0123456789._-";
	size_t n = 0;

	for (; n < length && n + 1 < room; n++)
		out[n] = text[n] && strchr(safe, text[n]) ? text[n] : '-';
	out[n] = '\0';
}

int front_scheme_read(front_scheme *out, const char *text, size_t length, const char *option)
{
	const char *colon = memchr(text, ':', length);
	const size_t n = colon ? (size_t)(colon - text) : length;
	const size_t rest = colon ? length - n - 1 : 0;

	if (!n || n >= sizeof out->name || rest >= sizeof out->group || (colon && !rest))
		return qat_front_fail(QAT_EINVAL, "--%s \"%.*s\": write a scheme, or a scheme "
				      "and its group size, as in int4:32", option,
				      length < 200 ? (int)length : 200, text);
	memset(out, 0, sizeof *out);
	memcpy(out->name, text, n);
	memcpy(out->group, text + n + 1, rest);
	name_copy(out->label, sizeof out->label, text, length);
	return QAT_OK;
}

int front_scheme_none(const front_scheme *s)
{
	return !*s->name || !strcmp(s->name, "none");
}

int front_scheme_of(front_scheme *out, const qat_front_given *g, const char *option)
{
	const char *text = qat_front_value(g, option);

	*out = (front_scheme){ .label = "" };
	return text ? front_scheme_read(out, text, strlen(text), option) : QAT_OK;
}

int front_write_scheme(FILE *out, const char *name, const front_scheme *s)
{
	int rc;

	if (front_scheme_none(s))
		return QAT_OK;
	fputs("  ", out);
	rc = qat_front_text(out, name);
	fputs(": {quantizer: ", out);
	if (!rc)
		rc = qat_front_text(out, s->name);
	if (!rc && *s->group) {
		fputs(", group_size: ", out);
		rc = qat_front_text(out, s->group);
	}
	fputs("}\n", out);
	return rc;
}

/* ---- "key: value" ---- */

typedef struct pair {
	const char *key, *option;
} pair;

/* ", key: value" for each option that has one; without the comma where it is the first. */
static int write_pairs(FILE *out, const qat_front_given *g, const pair *pairs, int first)
{
	int rc = QAT_OK;

	for (; !rc && pairs->key; pairs++) {
		const char *value = qat_front_value(g, pairs->option);

		if (!value)
			continue;
		fprintf(out, "%s%s: ", first ? "" : ", ", pairs->key);
		first = 0;
		rc = qat_front_text(out, value);
	}
	return rc;
}

int front_write_fit(FILE *out, const qat_front_given *g, int indent)
{
	static const pair counts[] = {
		{ "steps", "steps" }, { "batch", "batch" }, { "accumulate", "accumulate" },
		{ "clip", "clip" }, { "gradient_bits", "gradient-bits" }, { NULL, NULL }
	};
	static const pair optimizer[] = { { "lr", "lr" }, { "weight_decay", "weight-decay" },
					  { "moments", "moments" }, { NULL, NULL } };
	static const pair schedule[] = { { "name", "schedule" }, { "warmup", "warmup" },
					 { NULL, NULL } };
	int rc;

	fputs("data: train", out);	/* an option that a front lacks has no value */
	rc = write_pairs(out, g, counts, 0);
	fprintf(out, ",\n%*soptimizer: {name: adamw", indent, "");
	if (!rc)
		rc = write_pairs(out, g, optimizer, 0);
	fputs("}, schedule: {", out);
	if (!rc)
		rc = write_pairs(out, g, schedule, 1);
	fputc('}', out);
	return rc;
}

/* ---- the top ---- */

/* The model's file without folder and suffix, then `what`. */
static void default_name(char out[NAME_ROOM], const char *model, const char *what)
{
	size_t n = strlen(model), begin, room = NAME_ROOM - 1, dot;

	while (n > 1 && model[n - 1] == '/')
		n--;
	for (begin = n; begin && model[begin - 1] != '/';)
		begin--;
	for (dot = n; dot > begin && model[dot] != '.';)
		dot--;
	if (dot > begin && n - dot <= 12 && dot + 1 < n &&
	    strcspn(model + dot + 1, "0123456789") >= n - dot - 1)
		n = dot;		/* ".gguf", not ".Q4_1" or ".2" */
	room -= strlen(what) < room / 2 ? strlen(what) + 1 : room / 2;
	name_copy(out, room, model + begin, n - begin);
	if (*out == '.' || *out == '-' || !*out)
		*out = '_';
	n = strlen(out);
	out[n++] = '-';
	name_copy(out + n, NAME_ROOM - n, what, strlen(what));
}

static int write_trackers(FILE *out, const qat_front_given *g)
{
	const char *name;
	int rc = QAT_OK;

	if (!qat_front_value(g, "tracker"))
		return QAT_OK;
	fputs("trackers: [", out);
	for (int64_t i = 0; !rc && (name = qat_front_values(g, "tracker", i)); i++) {
		fputs(i ? ", " : "", out);
		rc = qat_front_text(out, name);
	}
	fputs("]\n", out);
	return rc;
}

int front_write_head(FILE *out, const qat_front_given *g, const char *what)
{
	static const pair device[] = {
		{ "backend", "backend" }, { "precision", "precision" }, { "threads", "threads" },
		{ "memory_limit", "memory-limit" }, { NULL, NULL }
	};
	static const pair seed[] = { { "seed", "seed" }, { NULL, NULL } };
	const char *name = qat_front_value(g, "name"), *output = qat_front_value(g, "output");
	char own[NAME_ROOM] = "_";
	int rc;

	default_name(own, g->word, what);
	fprintf(out, "# A pipeline of %s: qat-run FILE runs it; qat-run --help pipeline, and\n"
		"# --help NAME of a plugin, explain it.\nqatrun: 1\nname: ", g->front->name);
	rc = qat_front_text(out, name ? name : own);
	fputc('\n', out);
	if (!rc)
		rc = write_pairs(out, g, seed, 1);
	if (!rc && output) {
		fputs("\noutput: ", out);
		rc = qat_front_text(out, output);
	}
	fputs("\n\nmodel: {path: ", out);
	if (!rc)
		rc = qat_front_path(out, g->word);
	fputs("}\ndevice: {", out);
	if (!rc)
		rc = write_pairs(out, g, device, 1);
	fputs("}\n", out);
	if (!rc)
		rc = write_trackers(out, g);
	fputc('\n', out);
	return rc;
}

/* ---- data and sites ---- */

static int ends(const char *text, const char *suffix)
{
	const size_t n = strlen(text), s = strlen(suffix);

	return n >= s && !strcmp(text + n - s, suffix);
}

static const char *dataset(const qat_front_given *g, const char *file)
{
	const char *named = qat_front_value(g, "dataset");

	if (named)
		return named;
	return ends(file, ".jsonl") || ends(file, ".json") ? "jsonl" : "text";
}

int front_write_data(FILE *out, const qat_front_given *g, const char *name,
		     const char *option, int limited)
{
	static const pair limit[] = { { "limit", "limit" }, { NULL, NULL } };
	static const pair length[] = { { "length", "length" }, { NULL, NULL } };
	const char *first = qat_front_values(g, option, 0), *file;
	int rc;

	fprintf(out, "  %s: {dataset: ", name);
	rc = qat_front_text(out, dataset(g, first));
	fputs(", files: [", out);
	for (int64_t i = 0; !rc && (file = qat_front_values(g, option, i)); i++) {
		if (strcmp(dataset(g, file), dataset(g, first)) != 0)
			return qat_front_fail(QAT_EINVAL, "--%s: %s is %s and %s is %s: one data "
					      "set is read by one plugin, --dataset says which",
					      option, first, dataset(g, first), file,
					      dataset(g, file));
		fputs(i ? ", " : "", out);
		rc = qat_front_path(out, file);
	}
	fputc(']', out);
	if (!rc)
		rc = write_pairs(out, g, length, 0);
	if (!rc && limited)
		rc = write_pairs(out, g, limit, 0);
	fputs("}\n", out);
	return rc;
}

int front_write_sites(FILE *out, const qat_front_given *g, const char *name,
		      const char *weight, const char *input)
{
	int rc;

	fprintf(out, "  %s: [{match: ", name);
	rc = qat_front_text(out, qat_front_value(g, "sites"));
	for (int i = 0; !rc && i < 2; i++) {
		const char *scheme = i ? input : weight;

		if (!scheme)
			continue;
		fprintf(out, ", %s: ", i ? "input" : "weight");
		rc = qat_front_text(out, scheme);
	}
	fputs("}]\n", out);
	return rc;
}
