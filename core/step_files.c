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
#include "session.h"
#include "step_internal.h"

/* The run's own records, which no task may name. */
static const char *const records[] = {
	"pipeline.yaml", "results.json", "events.jsonl", "states", "lock"
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
		if (mkdir(full, 0777) && errno != EEXIST)
			rc = qat_fail(QAT_EIO, "%s: %s", full, strerror(errno));
		*at = '/';
	}
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

/* With --force, what an earlier run saved at the same place in the same form. */
static int clear_saved(const qat_step *s, const char *path, const qat_format *format)
{
	struct stat st;

	if (!s->force || lstat(path, &st) || !S_ISDIR(st.st_mode) || format->probe(path) <= 0)
		return QAT_OK;
	return nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int qat_step_save(qat_step *s, const char *state, const char *path, const char *format)
{
	const qat_format *f = s->context->native;
	const qat_interface *i;
	const void *vtable = NULL;
	const qat_state *of;
	char *full = NULL;
	int rc = under_output(s, path, &full);

	if (!rc)
		rc = qat_context_state(s->context, &of, state);
	if (!rc && format)
		rc = qat_plugin_find(&i, &vtable, QAT_KIND_FORMAT, format);
	f = vtable ? vtable : f;
	if (!rc && !f->save)
		rc = qat_fail(QAT_ENOTSUP, "format %s can only be read", format);
	if (!rc)
		rc = clear_saved(s, full, f);
	if (!rc)
		rc = qat_convert(s->context, of, NULL, full, f);
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
