/* fetch.c - finding a source for a name, and what the core lends it. */
#include "fetch.h"

#include <stdlib.h>

#include <qatrun/json.h>

#include "kinds.h"
#include "option.h"
#include "output.h"
#include "plugin.h"
#include "progress.h"

struct search {
	const char *name;
	const qat_model_source *found;
	int asked;			/* sources */
};

static int take_first(void *context, const qat_interface *i, const void *vtable)
{
	struct search *s = context;
	const qat_model_source *source = vtable;

	(void)i;
	s->asked++;
	if (!source->probe(NULL, s->name))
		return 0;
	s->found = source;
	return 1;
}

static int stopped(void *context)
{
	(void)context;
	return qat_stopped();
}

static void progress(void *context, const char *file, int64_t done, int64_t total)
{
	(void)context;
	qat_progress_bytes(file, done, total);
}

/* What the configuration asks for, before gigabytes are fetched in vain: a family that there
 * is, with options that it takes. */
static int check_config(const json_t *config, const char *where, qat_arena *arena)
{
	const qat_option_env env = { .arena = arena, .folder = "/" };
	const char *family = json_string_value(json_object_get(config, "model_type"));
	qat_instance model;
	int rc;

	if (!family || !qat_plugin_name_valid(family))
		return qat_fail(QAT_EFORMAT, "%s: names no model_type", where);
	rc = qat_instance_default(&model, QAT_KIND_MODEL, family, &env);
	return rc ? rc : qat_option_fill_json(model.self, model.interface->options, config, where,
					      &env);
}

static int look(void *context, const char *folder)
{
	qat_arena *arena = context;
	const char *path = qat_arena_format(arena, "%s/config.json", folder);
	json_error_t e;
	json_t *config;
	int rc;

	if (!path)
		return QAT_ENOMEM;
	rc = qat_json_parse_file(&config, &e, path, 0);
	if (rc == QAT_ENOMEM)
		return qat_fail(rc, "%s: out of memory", path);
	if (rc)
		return qat_fail(rc, "%s:%d: %s", path, e.line, e.text);
	rc = check_config(config, path, arena);
	json_decref(config);
	return rc;
}

static int copy_result(const char **path, const char **revision, const qat_source_result *r,
		       qat_arena *arena)
{
	*path = qat_arena_text(arena, r->path);
	*revision = r->revision ? qat_arena_text(arena, r->revision) : NULL;
	return *path && (*revision || !r->revision) ? QAT_OK : QAT_ENOMEM;
}

int qat_fetch(const char **path, const char **revision, const qat_pipeline_model *m, int quiet,
	      qat_arena *arena)
{
	struct search s = { .name = m->hub };
	qat_source_result r = { .size = sizeof r };
	const qat_source_request request = {
		.size = sizeof request, .name = m->hub, .revision = m->revision,
		.stopped = stopped, .progress = progress, .look = look, .context = arena
	};
	int rc = qat_plugin_each(QAT_KIND_SOURCE, take_first, &s);

	if (rc < 0)
		return rc;
	if (!s.found && s.asked)
		return qat_fail(QAT_ENOTFOUND, "%s is no path here, and no name that a model can be "
				"downloaded by: write owner/name", m->hub);
	if (!s.found)
		return qat_fail(QAT_ENOTFOUND, "%s is no path here, and no plugin that could "
				"download it is installed: the source plugins are built where "
				"libcurl's development files are; or give a file or a folder",
				m->hub);
	qat_signals_catch();
	qat_progress_begin("download", quiet);
	rc = s.found->fetch(NULL, &request, &r);
	qat_progress_end();
	qat_signals_restore();
	if (!rc)
		rc = copy_result(path, revision, &r, arena);
	s.found->release(r.path);
	s.found->release(r.revision);
	return rc;
}
