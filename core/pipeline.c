/* pipeline.c - the top of a pipeline file, and its names. */
#include "pipeline.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "hint.h"
#include "pipeline_internal.h"

int qat_name_valid(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			  "0123456789._-");

	return n && n <= QAT_NAME_MAX && !name[n] && *name != '.' && *name != '-';
}

int qat_pipeline_name(const qat_yaml_node *at, const char *what)
{
	const char *text;
	int rc = qat_yaml_string(&text, at);

	if (rc || qat_name_valid(text))
		return rc;
	return qat_yaml_fail(at, QAT_EINVAL, "\"%s\" cannot name %s: names are at most %d letters, "
			     "digits, dots, _ and -, and begin with a letter or digit",
			     qat_yaml_shown(at), what, QAT_NAME_MAX);
}

/* --- names --- */

const char *qat_pipeline_data_name(const void *p, int64_t i)
{
	const qat_pipeline *q = p;

	return i < q->n_data ? q->data[i].name : NULL;
}

const char *qat_pipeline_scheme_name(const void *p, int64_t i)
{
	const qat_pipeline *q = p;

	return i < q->n_schemes ? q->schemes[i].name : NULL;
}

const char *qat_pipeline_sites_name(const void *p, int64_t i)
{
	const qat_pipeline *q = p;

	return i < q->n_sites ? q->sites[i].name : NULL;
}

const char *qat_pipeline_state_name(const void *p, int64_t i)
{
	const qat_pipeline *q = p;

	return i < q->n_states ? q->states[i].name : NULL;
}

static int64_t index_of(const qat_pipeline *p, const char *name, qat_pipeline_names *names)
{
	const char *s;

	for (int64_t i = 0; (s = names(p, i)); i++) {
		if (!strcmp(s, name))
			return i;
	}
	return -1;
}

int64_t qat_pipeline_state_index(const qat_pipeline *p, const char *name)
{
	return index_of(p, name, qat_pipeline_state_name);
}

int64_t qat_pipeline_data_index(const qat_pipeline *p, const char *name)
{
	return index_of(p, name, qat_pipeline_data_name);
}

int64_t qat_pipeline_scheme_index(const qat_pipeline *p, const char *name)
{
	return index_of(p, name, qat_pipeline_scheme_name);
}

const qat_sites *qat_pipeline_sites_find(const qat_pipeline *p, const char *name)
{
	int64_t i = index_of(p, name, qat_pipeline_sites_name);

	return i < 0 ? NULL : &p->sites[i];
}

int qat_pipeline_unknown(const qat_pipeline *p, const qat_yaml_node *at, const char *what,
			 qat_pipeline_names *name)
{
	const char *near = qat_hint_nearest_of(qat_yaml_text(at), name, p), *s;
	char list[400] = "";

	if (near)
		return qat_yaml_fail(at, QAT_EINVAL, "unknown %s \"%s\": did you mean \"%s\"?",
				     what, qat_yaml_shown(at), near);
	for (int64_t i = 0; (s = name(p, i)); i++) {
		size_t used = strlen(list);

		snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", s);
	}
	return qat_yaml_fail(at, QAT_EINVAL, "unknown %s \"%s\": there is %s", what,
			     qat_yaml_shown(at), *list ? list : "none");
}

/* --- the top of the file --- */

struct top {
	const char *name, *output;
	int64_t seed;
};

const qat_option qat_pipeline_top_options[] = {
	QAT_OPTION(struct top, QAT_OPT_STRING, name, "name of the run", .flags = QAT_OPT_REQUIRED),
	QAT_INT(struct top, seed, 0, 0, 0x1p62, "seed of all that is random"),
	QAT_STRING(struct top, output, NULL, "folder of what the run leaves"),
	QAT_END
};

static const qat_option top_parts[] = {
	{ .name = "qatrun" }, { .name = "model" }, { .name = "device" }, { .name = "data" },
	{ .name = "schemes" }, { .name = "sites" }, { .name = "trackers" }, { .name = "settings" },
	{ .name = "steps" },
	QAT_END
};

static int check_version(const qat_yaml_node *root)
{
	const qat_yaml_node *node = qat_yaml_get(root, "qatrun");
	int64_t version;
	int rc;

	if (!node)
		return qat_yaml_fail(root, QAT_EINVAL, "not a pipeline file: its first line says "
				     "\"qatrun: %d\"", QAT_PIPELINE_VERSION);
	rc = qat_yaml_int(&version, node, 1, INT64_MAX);
	if (!rc && version != QAT_PIPELINE_VERSION)
		rc = qat_yaml_fail(node, QAT_ENOTSUP, "the file is of version %lld: this qatrun "
				   "reads version %d", (long long)version, QAT_PIPELINE_VERSION);
	return rc;
}

/* A map with the keys of `root` but those that start with "x-", as a place for anchors. */
static int without_extras(qat_yaml_node *out, const qat_yaml_node *root, qat_arena *arena)
{
	size_t n = (size_t)root->count;

	*out = *root;
	out->count = 0;
	out->keys = qat_arena_array(arena, n + 1, sizeof *out->keys);
	out->items = qat_arena_array(arena, n + 1, sizeof *out->items);
	if (!out->keys || !out->items)
		return QAT_ENOMEM;
	for (int64_t i = 0; i < root->count; i++) {
		if (!strncmp(root->keys[i]->text, "x-", 2))
			continue;
		out->keys[out->count] = root->keys[i];
		out->items[out->count++] = root->items[i];
	}
	return QAT_OK;
}

static int working_folder(const char **out, qat_arena *arena)
{
	char *here = getcwd(NULL, 0);

	if (!here)
		return qat_fail(QAT_EIO, "the working directory: %s", strerror(errno));
	*out = qat_arena_text(arena, here);
	free(here);
	return *out ? QAT_OK : QAT_ENOMEM;
}

/* The absolute path of the output: under the working directory, not the file's folder. */
static int set_output(qat_pipeline *p, const char *given, const qat_yaml_node *root)
{
	qat_yaml_node *node;
	const char *here = NULL;
	int rc;

	if (given && !*given)
		return qat_yaml_fail(qat_yaml_get(root, "output"), QAT_EINVAL, "an empty path");
	if (given && *given == '/') {
		p->output = qat_arena_text(p->arena, given);
		return p->output ? QAT_OK : QAT_ENOMEM;
	}
	rc = working_folder(&here, p->arena);
	if (rc)
		return rc;
	if (given)
		p->output = qat_arena_format(p->arena, "%s/%s", here, given);
	else
		p->output = qat_arena_format(p->arena, "%s/runs/%s", here, p->name);
	if (!p->output)
		return QAT_ENOMEM;
	node = qat_yaml_scalar_new(p->doc, "%s", p->output);
	return qat_yaml_map_set(qat_yaml_root(p->doc), "output", node);
}

static int read_top(qat_pipeline *p, const qat_yaml_node *root)
{
	qat_option_env env = { .arena = p->arena, .folder = p->folder };
	qat_option_source source = { .owner = "the pipeline", .other = top_parts };
	struct top top = { .name = NULL };
	qat_yaml_node plain;
	int rc = without_extras(&plain, root, p->arena);

	source.map = &plain;
	if (!rc)
		rc = qat_option_fill(&top, qat_pipeline_top_options, &source, &env);
	if (!rc)
		rc = qat_pipeline_name(qat_yaml_get(root, "name"), "a run");
	if (rc)
		return rc;
	p->name = top.name;
	p->seed = top.seed;
	return set_output(p, top.output, root);
}

static int read_parts(qat_pipeline *p)
{
	static const struct {
		const char *key;
		int (*read)(qat_pipeline *p, const qat_yaml_node *node);
	} parts[] = {
		{ "model", qat_pipeline_read_model },
		{ "device", qat_pipeline_read_device },
		{ "data", qat_pipeline_read_data },
		{ "schemes", qat_pipeline_read_schemes },
		{ "sites", qat_pipeline_read_sites },
		{ "trackers", qat_pipeline_read_trackers },
		{ "steps", qat_pipeline_read_steps }
	};
	const qat_yaml_node *root = qat_yaml_root(p->doc), *node;
	int rc = qat_yaml_expect(root, QAT_YAML_MAP);

	if (!rc)
		rc = check_version(root);
	if (!rc)
		rc = read_top(p, root);
	for (size_t i = 0; !rc && i < sizeof parts / sizeof *parts; i++) {
		node = qat_yaml_get(root, parts[i].key);
		rc = parts[i].read(p, node && node->type != QAT_YAML_NULL ? node : NULL);
	}
	return rc;
}

/* The absolute folder of a file. */
static int folder_of(const char **out, qat_arena *arena, const char *path)
{
	char *real = realpath(path, NULL), *slash;

	if (!real)
		return qat_fail(QAT_EIO, "%s: %s", path, strerror(errno));
	slash = strrchr(real, '/');
	if (slash == real)
		slash++;
	*slash = 0;
	*out = qat_arena_text(arena, real);
	free(real);
	return *out ? QAT_OK : QAT_ENOMEM;
}

static int pipeline_new(qat_pipeline **out)
{
	qat_pipeline *p = calloc(1, sizeof *p);

	if (!p)
		return qat_fail(QAT_ENOMEM, "out of memory");
	*out = p;
	return qat_arena_new(&p->arena);
}

/* The parts of what was read, as `name`. */
static int finish(qat_pipeline *p, const char *name)
{
	p->file = qat_arena_text(p->arena, name);
	return p->file ? read_parts(p) : QAT_ENOMEM;
}

int qat_pipeline_load(qat_pipeline **out, const char *path, const char *const *sets,
		      int64_t n_sets)
{
	qat_pipeline *p = NULL;
	int rc = pipeline_new(&p);

	if (!rc)
		rc = qat_yaml_load(&p->doc, path, sets, n_sets);
	if (!rc)
		rc = folder_of(&p->folder, p->arena, path);
	if (!rc)
		rc = finish(p, path);
	if (rc) {
		qat_pipeline_free(p);
		return rc;
	}
	*out = p;
	return QAT_OK;
}

int qat_pipeline_parse(qat_pipeline **out, const char *text, const char *name,
		       const char *const *sets, int64_t n_sets)
{
	qat_pipeline *p = NULL;
	int rc = pipeline_new(&p);

	if (!rc)
		rc = qat_yaml_parse(&p->doc, text, (int64_t)strlen(text), name, sets, n_sets);
	if (!rc)
		rc = working_folder(&p->folder, p->arena);
	if (!rc)
		rc = finish(p, name);
	if (rc) {
		qat_pipeline_free(p);
		return rc;
	}
	*out = p;
	return QAT_OK;
}

void qat_pipeline_free(qat_pipeline *p)
{
	if (!p)
		return;
	for (int64_t i = 0; i < p->n_sites; i++) {
		for (int64_t k = 0; k < p->sites[i].n_rules; k++)
			qat_pattern_free(p->sites[i].rules[k].pattern);
	}
	qat_yaml_free(p->doc);
	qat_arena_free(p->arena);
	free(p);
}
