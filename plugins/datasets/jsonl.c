/* jsonl.c - one JSON object a line, one sequence each:
 *   {"text": "..."}                              encoded, every token scored by the next
 *   {"input_ids": [...]}                         the same, encoded already
 *   {"input_ids": [...], "labels": [...]}        labels[t] stands for input_ids[t], -100
 *                                                is not scored: as transformers has it
 * Token t is scored by the label of t + 1, so our labels are those of the file moved by
 * one. A sequence is cut after `length` tokens and filled up with tokens that are not
 * scored. Blank lines are skipped; other keys are ignored.
 */
#include <stdlib.h>

#include <qatrun/json.h>

#include "sequences.h"

enum { NOT_SCORED = -100, LINE_MAX_BYTES = 16 << 20 };

typedef struct jsonl_options {
	qat_strings files;
	int64_t length, limit, add_bos, pad_token_id;
} jsonl_options;

static const qat_option jsonl_table[] = {
	QAT_OPTION(jsonl_options, QAT_OPT_PATHS, files,
		   "files of one JSON object a line: text, or input_ids and labels",
		   .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(jsonl_options, QAT_OPT_INT, length, "tokens of a sequence: longer ones are cut",
		   .flags = QAT_OPT_REQUIRED, .min = 1, .max = 1 << 24),
	QAT_INT(jsonl_options, limit, 0, 0, INT64_C(1) << 53, "first n sequences; 0: all"),
	QAT_BOOL(jsonl_options, add_bos, 0, "begin each text with the BOS token"),
	QAT_INT(jsonl_options, pad_token_id, 0, 0, (1 << 24) - 1,
		"token that fills short sequences; it is not scored"),
	QAT_END
};

/* Sequence i is the pairs from[i] .. from[i + 1]. */
typedef struct pair {
	int32_t token, label;
} pair;

typedef struct jsonl_set {
	pair *pairs;
	int64_t *from;
	int64_t n_pairs, pairs_room;
	int64_t count, from_room;
	int64_t length;
	int32_t pad;
} jsonl_set;

/* Where we read, for messages. */
typedef struct place {
	const char *set, *path;
	int64_t line;
} place;

#define AT "data %s: %s:%lld: "
#define AT_ARGS(w) (w)->set, (w)->path, (long long)(w)->line

/* ---- growing ---- */

static int reserve(void **array, int64_t *room, int64_t want, size_t element, const place *w)
{
	int64_t more = *room + *room / 2 + 1024;
	void *p;

	if (want <= *room)
		return QAT_OK;
	if (more < want)
		more = want;
	if (more > INT64_MAX / 64)
		return qat_fail(QAT_EINVAL, AT "too many tokens", AT_ARGS(w));
	p = realloc(*array, (size_t)more * element);
	if (!p)
		return qat_fail(QAT_ENOMEM, AT "out of memory", AT_ARGS(w));
	*array = p;
	*room = more;
	return QAT_OK;
}

static int begin(jsonl_set *s, const place *w)
{
	void *from = s->from;
	int rc = reserve(&from, &s->from_room, s->count + 2, sizeof *s->from, w);

	s->from = from;
	if (!rc)
		s->from[s->count] = s->n_pairs;
	return rc;
}

static void end(jsonl_set *s)
{
	s->from[++s->count] = s->n_pairs;
}

/* The next token of the sequence and the label that stands for it. */
static int push(jsonl_set *s, int64_t token, int64_t label, const qat_dataset_env *env,
		const place *w)
{
	const int64_t t = s->n_pairs - s->from[s->count];
	void *pairs = s->pairs;
	int rc;

	if (token < 0 || token >= env->vocabulary)
		return qat_fail(QAT_EINVAL, AT "token %lld is outside the model's vocabulary of "
				"%lld", AT_ARGS(w), (long long)token, (long long)env->vocabulary);
	if (label != NOT_SCORED && (label < 0 || label >= env->vocabulary))
		return qat_fail(QAT_EINVAL, AT "label %lld is neither %d nor inside the model's "
				"vocabulary of %lld", AT_ARGS(w), (long long)label, NOT_SCORED,
				(long long)env->vocabulary);
	if (t > 0 && t <= s->length)
		s->pairs[s->n_pairs - 1].label = (int32_t)label;
	if (t >= s->length)
		return QAT_OK;
	rc = reserve(&pairs, &s->pairs_room, s->n_pairs + 1, sizeof *s->pairs, w);
	s->pairs = pairs;
	if (!rc)
		s->pairs[s->n_pairs++] = (pair){ (int32_t)token, NOT_SCORED };
	return rc;
}

/* ---- one line ---- */

static int add_text(jsonl_set *s, const json_t *text, const jsonl_options *o,
		    const qat_dataset_env *env, const place *w)
{
	int32_t *ids = NULL;
	int64_t n = 0;
	int rc;

	if (!env->encode)
		return qat_fail(QAT_EINVAL, AT "text needs a tokenizer, and the model has none: "
				"give input_ids, or say model: {tokenizer: ...}", AT_ARGS(w));
	rc = env->encode(env->context, json_string_value(text),
			 (int64_t)json_string_length(text), &ids, &n);
	if (!rc && o->add_bos)
		rc = push(s, env->bos, env->bos, env, w);
	/* One past the length, BOS included: the last token's label. */
	for (int64_t i = 0; i < n && i + o->add_bos <= s->length && !rc; i++)
		rc = push(s, ids[i], ids[i], env, w);
	if (ids)
		env->release(env->context, ids);
	return rc;
}

static int check_integers(const json_t *array, const char *key, const place *w)
{
	const json_t *item;
	size_t i;

	if (!json_is_array(array))
		return qat_fail(QAT_EFORMAT, AT "%s is not a list of integers", AT_ARGS(w), key);
	json_array_foreach(array, i, item)
		if (!json_is_integer(item))
			return qat_fail(QAT_EFORMAT, AT "%s[%lld] is not an integer", AT_ARGS(w),
					key, (long long)i);
	return QAT_OK;
}

static int add_ids(jsonl_set *s, const json_t *ids, const json_t *labels,
		   const qat_dataset_env *env, const place *w)
{
	const size_t n = json_array_size(ids);
	int rc = check_integers(ids, "input_ids", w);

	if (!rc && labels)
		rc = check_integers(labels, "labels", w);
	if (!rc && labels && json_array_size(labels) != n)
		rc = qat_fail(QAT_EFORMAT, AT "%lld labels for %lld input_ids: one each",
			      AT_ARGS(w), (long long)json_array_size(labels), (long long)n);
	for (size_t i = 0; i < n && i <= (size_t)s->length && !rc; i++) {
		const json_t *label = json_array_get(labels ? labels : ids, i);

		rc = push(s, json_integer_value(json_array_get(ids, i)),
			  json_integer_value(label), env, w);
	}
	return rc;
}

static int add_object(jsonl_set *s, const json_t *object, const jsonl_options *o,
		      const qat_dataset_env *env, const place *w)
{
	const json_t *text = json_object_get(object, "text");
	const json_t *ids = json_object_get(object, "input_ids");
	const json_t *labels = json_object_get(object, "labels");
	int rc = begin(s, w);

	if (rc)
		return rc;
	if (ids)
		rc = add_ids(s, ids, labels, env, w);
	else if (json_is_string(text))
		rc = add_text(s, text, o, env, w);
	else
		rc = qat_fail(QAT_EFORMAT, AT "%s", AT_ARGS(w), text ? "text is not a string" :
			      "an object needs text or input_ids");
	if (!rc && s->n_pairs == s->from[s->count])
		rc = qat_fail(QAT_EFORMAT, AT "a sequence without tokens", AT_ARGS(w));
	if (!rc)
		end(s);
	return rc;
}

static int is_blank(const char *line, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strchr(" \t\r\n", line[i]) || !line[i])
			return 0;
	return 1;
}

static int add_line(jsonl_set *s, const char *line, size_t n, const jsonl_options *o,
		    const qat_dataset_env *env, const place *w)
{
	json_error_t error;
	json_t *object;
	int rc;

	if (is_blank(line, n))
		return QAT_OK;
	rc = qat_json_parse(&object, &error, line, (int64_t)n,
			    JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL);
	if (rc == QAT_ENOMEM)
		return qat_fail(rc, AT "out of memory", AT_ARGS(w));
	if (rc)
		return qat_fail(rc, AT "column %d: %s", AT_ARGS(w), error.column, error.text);
	if (json_is_object(object))
		rc = add_object(s, object, o, env, w);
	else
		rc = qat_fail(QAT_EFORMAT, AT "a line must be one JSON object", AT_ARGS(w));
	json_decref(object);
	return rc;
}

/* ---- files ---- */

/* getline(), but no line grows past all bounds. Bytes of the line, 0 at the end. */
static int read_line(char **line, size_t *room, size_t *bytes, FILE *f, const place *w)
{
	size_t n = 0;
	int c = 0;

	while (c != '\n' && (c = getc_unlocked(f)) != EOF) {
		if (n == LINE_MAX_BYTES)
			return qat_fail(QAT_EFORMAT, AT "a line of more than %d MiB", AT_ARGS(w),
					LINE_MAX_BYTES >> 20);
		if (n == *room) {
			const size_t more = 2 * n + 256;
			char *p = realloc(*line, more);

			if (!p)
				return qat_fail(QAT_ENOMEM, AT "out of memory", AT_ARGS(w));
			*line = p;
			*room = more;
		}
		(*line)[n++] = (char)c;
	}
	*bytes = n;
	return ferror(f) ? qat_fail(QAT_EIO, AT "%s", AT_ARGS(w), strerror(errno)) : QAT_OK;
}

static int add_file(jsonl_set *s, const char *path, const jsonl_options *o,
		    const qat_dataset_env *env)
{
	place w = { .set = env->name, .path = path };
	FILE *f;
	char *line = NULL;
	size_t room = 0, n = 1;
	int rc = sequences_file(&f, path, w.set);

	if (rc)
		return rc;
	while (!rc && n && (!env->limit || s->count < env->limit)) {
		w.line++;
		rc = read_line(&line, &room, &n, f, &w);
		if (!rc && n)
			rc = add_line(s, line, n, o, env, &w);
	}
	free(line);
	fclose(f);
	return rc;
}

static int check_env(const jsonl_options *o, const qat_dataset_env *env)
{
	if (o->pad_token_id >= env->vocabulary)
		return qat_fail(QAT_EINVAL, "data %s: pad_token_id %lld is outside the model's "
				"vocabulary of %lld", env->name, (long long)o->pad_token_id,
				(long long)env->vocabulary);
	return sequences_check(o->add_bos, env);
}

static void jsonl_close(void *set)
{
	jsonl_set *s = set;

	if (!s)
		return;
	free(s->pairs);
	free(s->from);
	free(s);
}

static int jsonl_open(void **out, const void *self, const qat_dataset_env *env)
{
	const jsonl_options *o = self;
	jsonl_set *s;
	int rc = check_env(o, env);

	if (rc)
		return rc;
	s = calloc(1, sizeof *s);
	if (!s)
		return qat_fail(QAT_ENOMEM, "data %s: no memory", env->name);
	s->length = env->length;
	s->pad = (int32_t)o->pad_token_id;
	for (int64_t i = 0; i < o->files.count && !rc; i++)
		rc = add_file(s, o->files.at[i], o, env);
	if (!rc && !s->count)
		rc = qat_fail(QAT_EINVAL, "data %s: its files hold no sequence", env->name);
	if (rc) {
		jsonl_close(s);
		return rc;
	}
	*out = s;
	return QAT_OK;
}

static int64_t jsonl_count(const void *set)
{
	return ((const jsonl_set *)set)->count;
}

static int jsonl_get(const void *set, int64_t i, int32_t *tokens, int32_t *labels)
{
	const jsonl_set *s = set;
	int64_t n;

	if (i < 0 || i >= s->count)
		return qat_fail(QAT_EINVAL, "jsonl: sequence %lld of %lld", (long long)i,
				(long long)s->count);
	n = s->from[i + 1] - s->from[i];
	for (int64_t t = 0; t < s->length; t++) {
		tokens[t] = t < n ? s->pairs[s->from[i] + t].token : s->pad;
		labels[t] = t < n ? s->pairs[s->from[i] + t].label : NOT_SCORED;
	}
	return QAT_OK;
}

static int64_t jsonl_length(const void *self)
{
	return ((const jsonl_options *)self)->length;
}

static int64_t jsonl_limit(const void *self)
{
	return ((const jsonl_options *)self)->limit;
}

static const qat_dataset jsonl_vtable = {
	.size = sizeof(qat_dataset),
	.length = jsonl_length,
	.limit = jsonl_limit,
	.open = jsonl_open,
	.close = jsonl_close,
	.count = jsonl_count,
	.get = jsonl_get,
};

static const qat_interface jsonl_interface = {
	.size = sizeof(qat_interface),
	.kind = QAT_KIND_DATASET,
	.name = "jsonl",
	.summary = "one sequence a line: text, or input_ids and labels",
	.options = jsonl_table,
	.options_size = sizeof(jsonl_options),
	.vtable = &jsonl_vtable,
};

static const qat_interface *const jsonl_all[] = { &jsonl_interface };

QAT_PLUGIN("jsonl", jsonl_all);
