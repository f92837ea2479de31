/* step_files.c - what tasks write under the output, and what they may not touch. */
#include "step.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "error.h"
#include "plugin.h"
#include "resume.h"
#include "session.h"
#include "step_internal.h"

/* The run's own records, which no task may name. */
static const char *const records[] = {
	"pipeline.yaml", "results.json", "events.jsonl", "states", "finished.json", "checkpoints",
	"lock"
};

static int component_ok(const char *at, size_t length)
{
	return length > 0 && at[0] != '.';
}

int qat_step_path_check(qat_step *s, const char *path)
{
	const size_t first = strcspn(path, "/");

	for (const char *at = path; ; at += strcspn(at, "/") + 1) {
		if (!component_ok(at, strcspn(at, "/")))
			return qat_fail(QAT_EINVAL, "path \"%s\": it must be a relative path under the "
					"output, without . or .. in it", path);
		if (!at[strcspn(at, "/")])
			break;
	}
	for (size_t i = 0; i < sizeof records / sizeof *records; i++)
		if (strlen(records[i]) == first && !strncmp(path, records[i], first))
			return qat_fail(QAT_EINVAL, "path \"%s\": %s is the run's own: choose another "
					"name", path, records[i]);
	for (int64_t i = 0; i < s->context->p->n_trackers; i++) {
		const char *name = s->context->p->trackers[i].interface->name;

		if (strlen(name) == first && !strncmp(path, name, first))
			return qat_fail(QAT_EINVAL, "path \"%s\": %s is the tracker's: choose "
					"another name", path, name);
	}
	return QAT_OK;
}

/* The full path, with the folders above it made. */
static int under_output(qat_step *s, const char *path, char **out)
{
	char *full = NULL;
	int rc = qat_step_path_check(s, path);

	if (!rc && asprintf(&full, "%s/%s", s->output, path) < 0) {
		full = NULL;
		rc = qat_fail(QAT_ENOMEM, "out of memory");
	}
	for (char *at = full ? full + strlen(s->output) + 1 : NULL; !rc && (at = strchr(at, '/'));
	     at++) {
		*at = '\0';
		if (!mkdir(full, 0777))
			rc = qat_folder_sync(full);
		else if (errno != EEXIST)
			rc = qat_fail(QAT_EIO, "%s: %s", full, strerror(errno));
		*at = '/';
	}
	if (!rc && s->resumed)
		rc = qat_resume_clear_drafts(full);
	if (rc) {
		free(full);
		return rc;
	}
	*out = full;
	return QAT_OK;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path) ? qat_fail(QAT_EIO, "%s: cannot be replaced: %s", path,
				       strerror(errno)) : QAT_OK;
}

/* With --force or --resume, what an earlier run saved at the same place in the same form. */
static int clear_saved(const qat_step *s, const char *path, const qat_format *format)
{
	struct stat st;

	if ((!s->force && !s->resumed) || lstat(path, &st) || !S_ISDIR(st.st_mode) ||
	    format->probe(path) <= 0)
		return QAT_OK;
	return nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static int find_format(const qat_format **out, const qat_step *s, const char *name)
{
	const qat_interface *i;
	const void *vtable = NULL;
	int rc = name ? qat_plugin_find(&i, &vtable, QAT_KIND_FORMAT, name) : QAT_OK;

	*out = name ? vtable : s->context->native;
	if (!rc && !(*out)->save)
		rc = qat_fail(QAT_ENOTSUP, "format %s can only be read: leave `format` out to save "
			      "in our own", name);
	return rc;
}

/* What --force leaves where it is. Without it, an output that is there is refused whole. */
static int check_taken(const qat_step *s, const char *path, const qat_format *format)
{
	char *full = NULL;
	struct stat st;
	int rc = QAT_OK;

	if (asprintf(&full, "%s/%s", s->context->p->output, path) < 0)
		return qat_fail(QAT_ENOMEM, "out of memory");
	if (s->force && !lstat(full, &st) && !(S_ISDIR(st.st_mode) && format->probe(full) > 0))
		rc = qat_fail(QAT_EEXIST, "%s exists, and is no folder of this format that --force "
			      "would replace: remove it or choose another path", full);
	free(full);
	return rc;
}

/* Two steps that save to one place: the second would fail, or replace the first. */
static int check_once(qat_step *s, const char *path)
{
	char *key = NULL;
	int64_t bytes;
	int rc;

	if (asprintf(&key, "save to %s", path) < 0)
		return qat_fail(QAT_ENOMEM, "out of memory");
	if (qat_step_api.recall(s, key, &bytes))
		rc = qat_fail(QAT_EEXIST, "path \"%s\": an earlier step saves there: choose another "
			      "name", path);
	else
		rc = qat_step_api.remember(s, key, "", 0);
	free(key);
	return rc;
}

int qat_step_save_check(qat_step *s, const char *state, const char *path, const char *format)
{
	const qat_pipeline *p = s->context->p;
	const qat_format *f;
	const qat_state *base;
	int rc = qat_step_path_check(s, path);

	if (!rc)
		rc = find_format(&f, s, format);
	if (!rc)
		rc = check_taken(s, path, f);
	if (!rc)
		rc = check_once(s, path);
	if (!rc)
		rc = qat_context_state(s->context, &base, "base");
	return rc ? rc : qat_convert_check(s->context, base,
		qat_predict_sites(p, qat_pipeline_state_index(p, state)), path, f);
}

int qat_step_save(qat_step *s, const char *state, const char *path, const char *format)
{
	const qat_format *f;
	const qat_state *of;
	char *full = NULL;
	int64_t need = 0;
	int rc = under_output(s, path, &full);

	if (!rc)
		rc = qat_context_state(s->context, &of, state);
	if (!rc)
		rc = find_format(&f, s, format);
	if (!rc)
		rc = clear_saved(s, full, f);
	if (!rc)
		rc = qat_convert(s->context, of, NULL, full, f, &need);
	qat_step_need(s, need);
	free(full);
	return rc;
}

int qat_step_dump(qat_step *s, const char *path, const qat_tensor *const *tensors,
		  int64_t count)
{
	char *full = NULL;
	int rc = under_output(s, path, &full);

	if (!rc && !s->context->native->write)
		rc = qat_fail(QAT_ENOTSUP, "%s: the native format does not write tensors", path);
	if (!rc)
		rc = s->context->native->write(full, tensors, count);
	free(full);
	return rc;
}
