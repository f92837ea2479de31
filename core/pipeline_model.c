/* pipeline_model.c - the parts `model` and `device`. */
#include <ctype.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kinds.h"
#include "pipeline_internal.h"
#include "plugin.h"

/* --- model --- */

struct model {
	const char *path, *revision, *family, *tokenizer;
	int64_t init;
};

enum { INIT_LOAD = 0, INIT_RANDOM = 1 };

static const char *const inits[] = { "load", "random", NULL };

const qat_option qat_pipeline_model_options[] = {
	QAT_STRING(struct model, path, NULL, "a file, a folder, or a hub name owner/name"),
	QAT_STRING(struct model, revision, NULL, "branch, tag or commit on the hub"),
	QAT_STRING(struct model, family, NULL, "model plugin, where the file does not say"),
	QAT_ENUM(struct model, init, INIT_LOAD, inits, "where the parameters come from"),
	QAT_STRING(struct model, tokenizer, NULL, "tokenizer plugin, or a file"),
	QAT_END
};

static const qat_option model_parts[] = { { .name = "config" }, QAT_END };

/* owner/name, as a hub has it. */
static int is_hub_name(const char *text)
{
	const char *slash = strchr(text, '/');

	if (!slash || slash == text || !slash[1] || strchr(slash + 1, '/'))
		return 0;
	for (const char *p = text; *p; p++) {
		if (*p != '/' && !isalnum((unsigned char)*p) && !strchr("._-", *p))
			return 0;
	}
	return *text != '.' && *text != '-' && slash[1] != '.' && slash[1] != '-';
}

/* An existing path wins over the hub. */
static int set_path(qat_pipeline *p, const char *text, qat_yaml_node *at)
{
	const char *path = text;
	int rc = QAT_OK;

	if (!*text)
		return qat_yaml_fail(at, QAT_EINVAL, "an empty path");
	if (*text != '/')
		path = qat_arena_format(p->arena, "%s/%s", p->folder, text);
	if (!path)
		return QAT_ENOMEM;
	if (!access(path, F_OK)) {
		p->model.path = path;
		rc = path == text ? QAT_OK : qat_yaml_text_set(at, path);
	} else if (is_hub_name(text)) {
		p->model.hub = text;
	} else {
		rc = qat_yaml_fail(at, QAT_ENOTFOUND, "%s does not exist: give a file, a folder, "
				   "or a hub name (owner/name)", path);
	}
	return rc;
}

/* A name is a plugin, a path is a file for the plugin that the file asks for. */
static int set_tokenizer(qat_pipeline *p, const char *text, qat_yaml_node *at)
{
	const qat_interface *found;
	const void *vtable;
	const char *path;
	int rc;

	if (qat_plugin_name_valid(text)) {
		rc = qat_plugin_find(&found, &vtable, QAT_KIND_TOKENIZER, text);
		p->model.tokenizer = text;
		return rc ? qat_yaml_fail(at, rc, "%s", qat_error()) : QAT_OK;
	}
	path = *text == '/' ? text : qat_arena_format(p->arena, "%s/%s", p->folder, text);
	if (!path)
		return QAT_ENOMEM;
	if (access(path, R_OK))
		return qat_yaml_fail(at, QAT_ENOTFOUND, "%s cannot be read: give a tokenizer's "
				     "file, or the name of a tokenizer", path);
	p->model.tokenizer_file = path;
	return qat_yaml_text_set(at, path);
}

/* A model that is made takes all from `config`; one that is read, from its file. */
static int set_family(qat_pipeline *p, const char *family, const qat_yaml_node *node)
{
	qat_option_env env = { .arena = p->arena, .folder = p->folder };
	qat_option_source source = { .map = p->model.config };
	const qat_yaml_node *at = qat_yaml_get(node, "family");
	qat_instance *i = &p->model.instance;
	int rc;

	p->model.family = family;
	if (p->model.random)
		return qat_instance_new(i, QAT_KIND_MODEL, at, &source, &env);
	if (!family)
		return QAT_OK;
	rc = qat_plugin_find(&i->interface, &i->vtable, QAT_KIND_MODEL, family);
	return rc ? qat_yaml_fail(at, rc, "%s", qat_error()) : QAT_OK;
}

static int check_random(const struct model *m, const qat_yaml_node *node)
{
	if (m->path)
		return qat_yaml_fail(qat_yaml_get(node, "path"), QAT_EINVAL, "init: random makes "
				     "the model from the seed: leave out one of the two");
	if (m->revision)
		return qat_yaml_fail(qat_yaml_get(node, "revision"), QAT_EINVAL, "init: random reads "
				     "nothing from a hub: leave out one of the two");
	if (!m->family)
		return qat_yaml_fail(node, QAT_EINVAL, "init: random needs \"family\", the kind "
				     "of model to make");
	if (!qat_yaml_get(node, "config"))
		return qat_yaml_fail(node, QAT_EINVAL, "init: random needs \"config\", the sizes "
				     "of the model");
	return qat_yaml_expect(qat_yaml_get(node, "config"), QAT_YAML_MAP);
}

static int check_origin(const struct model *m, const qat_yaml_node *node)
{
	if (m->init == INIT_RANDOM)
		return check_random(m, node);
	if (!m->path)
		return qat_yaml_fail(node, QAT_EINVAL, "lacks \"path\": a file, a folder, or a hub "
				     "name (owner/name)");
	if (qat_yaml_get(node, "config"))
		return qat_yaml_fail(qat_yaml_get(node, "config"), QAT_EINVAL, "the file says "
				     "this: \"config\" goes with init: random");
	return QAT_OK;
}

int qat_pipeline_read_model(qat_pipeline *p, const qat_yaml_node *node)
{
	qat_option_env env = { .arena = p->arena, .folder = p->folder };
	qat_option_source source = { .map = node, .owner = "model", .other = model_parts };
	struct model m = { .path = NULL };
	int rc;

	if (!node)
		return qat_yaml_fail(qat_yaml_root(p->doc), QAT_EINVAL, "the pipeline lacks "
				     "\"model\": write model: {path: FILE}");
	rc = qat_yaml_expect(node, QAT_YAML_MAP);
	if (!rc)
		rc = qat_option_fill(&m, qat_pipeline_model_options, &source, &env);
	if (!rc)
		rc = check_origin(&m, node);
	if (rc)
		return rc;
	p->model.node = node;
	p->model.revision = m.revision;
	p->model.random = m.init == INIT_RANDOM;
	p->model.config = qat_yaml_get(node, "config");
	if (m.path)
		rc = set_path(p, m.path, qat_yaml_get(node, "path"));
	if (!rc && m.revision && p->model.path)
		qat_log(QAT_LOG_WARN, "%s: model.revision has no effect: %s is a file or folder here, "
			"which goes before a hub", qat_yaml_where(qat_yaml_get(node, "revision")),
			m.path);
	if (!rc && m.tokenizer)
		rc = set_tokenizer(p, m.tokenizer, qat_yaml_get(node, "tokenizer"));
	return rc ? rc : set_family(p, m.family, node);
}

/* --- device --- */

struct device {
	int64_t index, threads, precision, memory_limit, fallback;
};

static const char *const precisions[] = { "f32", "bf16", NULL };
static const char *const fallbacks[] = { "error", "warn", "allow", "auto", NULL };

static const qat_option device_keys[] = {
	{ .name = "backend" }, { .name = "index" }, { .name = "threads" }, { .name = "precision" },
	{ .name = "memory_limit" }, { .name = "fallback" },
	QAT_END
};

const qat_option qat_pipeline_device_options[] = {
	QAT_INT(struct device, index, 0, 0, 4095, "which of its devices"),
	QAT_INT(struct device, threads, 0, 0, 4096, "threads, 0: one for each processor"),
	QAT_ENUM(struct device, precision, 0, precisions, "of what is computed in float"),
	QAT_OPTION(struct device, QAT_OPT_SIZE, memory_limit, "bytes that a step may take",
		   .flags = 0),
	QAT_ENUM(struct device, fallback, QAT_FALLBACK_AUTO, fallbacks,
		 "where the device cannot run a node: refuse, or run it on the default backend"),
	QAT_END
};

int64_t qat_threads_default(void)
{
	int64_t online = sysconf(_SC_NPROCESSORS_ONLN), may = 0;
	size_t size = CPU_ALLOC_SIZE(8192);
	cpu_set_t *set = CPU_ALLOC(8192);

	if (set && !sched_getaffinity(0, size, set))
		may = CPU_COUNT_S(size, set);
	CPU_FREE(set);
	if (may > 0 && (online < 1 || may < online))
		return may;
	return online > 0 ? online : 1;
}

struct choice {
	uint64_t flag;
	const qat_interface *interface;
};

static int choose(void *context, const qat_interface *i, const void *vtable)
{
	struct choice *c = context;
	const qat_backend *backend = vtable;

	if (!(i->flags & c->flag) || backend->count() < 1)
		return 0;
	c->interface = i;
	return 1;
}

int qat_backend_flagged(const qat_interface **out, uint64_t flag)
{
	struct choice c = { .flag = flag };
	const int rc = qat_plugin_each(QAT_KIND_BACKEND, choose, &c);

	*out = c.interface;
	return rc < 0 ? rc : QAT_OK;
}

/* The backend that the file names, or the one that says it is the default. */
static int set_backend(qat_pipeline *p, const qat_yaml_node *node)
{
	qat_option_env env = { .arena = p->arena, .folder = p->folder };
	qat_option_source source = { .map = node, .other = device_keys };
	const qat_yaml_node *named = qat_yaml_get(node, "backend"), *at = named;
	const qat_interface *chosen;
	int rc;

	if (named && named->type == QAT_YAML_NULL)
		named = NULL;
	if (!named) {
		rc = qat_backend_flagged(&chosen, QAT_IS_DEFAULT);
		if (rc)
			return qat_yaml_fail(node ? node : qat_yaml_root(p->doc), rc, "the default "
					     "backend: %s", qat_error());
		if (!chosen)
			return qat_yaml_fail(node ? node : qat_yaml_root(p->doc), QAT_ENOTFOUND,
					     "no backend is here to be the default: qat-run "
					     "--plugins says why");
		at = qat_yaml_scalar_new(p->doc, "%s", chosen->name);
		if (!at)
			return QAT_ENOMEM;
	}
	return qat_instance_new(&p->device.backend, QAT_KIND_BACKEND, at, &source, &env);
}

int qat_pipeline_read_device(qat_pipeline *p, const qat_yaml_node *node)
{
	static const uint32_t dtypes[] = { QAT_F32, QAT_BF16 };
	qat_option_env env = { .arena = p->arena, .folder = p->folder };
	qat_option_source source = { .map = node, .owner = "device", .checked = 1 };
	struct device d = { .index = 0 };
	int rc = node ? qat_yaml_expect(node, QAT_YAML_MAP) : QAT_OK;

	if (!rc)
		rc = set_backend(p, node);	/* which looks for unknown keys */
	if (rc)
		return rc;
	rc = qat_option_fill(&d, qat_pipeline_device_options, &source, &env);
	if (rc)
		return rc;
	p->device.node = node;
	p->device.index = d.index;
	p->device.threads = d.threads ? d.threads : qat_threads_default();
	p->device.precision = dtypes[d.precision];
	p->device.memory_limit = d.memory_limit;
	p->device.fallback = d.fallback;
	return QAT_OK;
}
