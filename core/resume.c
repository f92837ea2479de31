/* resume.c - the record of finished steps: written after each, read by --resume. */
#include "resume_internal.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "error.h"
#include "output.h"
#include "results_internal.h"
#include "sealed.h"

#define AFRESH "put it back, or --force starts afresh"

char *qat_resume_path(const qat_resume *r, const char *fmt, ...)
{
	char *tail = NULL, *path = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&tail, fmt, ap);
	va_end(ap);
	if (n < 0 || asprintf(&path, "%s/%s", r->step->output, tail) < 0) {
		qat_fail(QAT_ENOMEM, "out of memory");
		path = NULL;
	}
	if (n >= 0)
		free(tail);
	return path;
}

void qat_resume_step_name(char *out, size_t room, const char *task, const char *as, int64_t i)
{
	snprintf(out, room, "steps[%lld] (%s%s%s)", (long long)i, task, as ? ", " : "",
		 as ? as : "");
}

static int find_home(qat_resume *r)
{
	struct stat st;

	if (stat(r->step->output, &st))
		return qat_fail(QAT_EIO, "%s: %s", r->step->output, strerror(errno));
	r->device = st.st_dev;
	r->inode = st.st_ino;
	return QAT_OK;
}

int qat_resume_at_home(const qat_resume *r)
{
	struct stat st;

	if (stat(r->step->output, &st) || (st.st_dev == r->device && st.st_ino == r->inode))
		return QAT_OK;		/* gone: what writes there says so */
	return qat_fail(QAT_EIO, "%s: another folder is there than the one that this run began in",
			r->step->output);
}

int qat_resume_each(const char *folder, qat_entry_visit *visit, void *context)
{
	DIR *d = opendir(folder);
	const struct dirent *e;
	int rc = QAT_OK;

	if (!d && errno == ENOENT)
		return QAT_OK;
	if (!d)
		return qat_fail(QAT_EIO, "%s: %s", folder, strerror(errno));
	while (!rc && (e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			rc = visit(context, folder, e->d_name);
	closedir(d);
	return rc;
}

static int remove_in(const char *folder, const char *name)
{
	char *path;
	int rc;

	if (asprintf(&path, "%s/%s", folder, name) < 0)
		return qat_fail(QAT_ENOMEM, "out of memory");
	rc = qat_path_remove(path);
	free(path);
	return rc;
}

static int clear_draft(void *context, const char *folder, const char *name)
{
	const char *of = context;
	const size_t n = strlen(of);

	return strncmp(name, of, n) || strncmp(name + n, ".tmp-", 5) ? QAT_OK
		: remove_in(folder, name);
}

int qat_resume_clear_drafts(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
	int rc;

	if (!folder)
		return qat_fail(QAT_ENOMEM, "out of memory");
	rc = qat_resume_each(folder, clear_draft, (void *)(uintptr_t)(slash ? slash + 1 : path));
	free(folder);
	return rc;
}

/* ---- reading the record ---- */

static const char *state_of(const qat_resume *r, int64_t step)
{
	const qat_pipeline *p = r->step->context->p;

	return p->steps[step].as >= 0 ? p->states[p->steps[step].as].name : NULL;
}

static int check_state(const qat_resume *r, const char *what, const char *state)
{
	char *folder = state ? qat_resume_path(r, "states/%s", state) : NULL;
	int rc = state && !folder ? QAT_ENOMEM : QAT_OK;

	if (folder && r->step->context->native->probe(folder) <= 0)
		rc = qat_fail(QAT_EEXIST, "%s: %s, which it made, is not there: " AFRESH, what,
			      folder);
	free(folder);
	return rc;
}

/* A finished step is the one that the pipeline has at its place. */
static int check_step(qat_resume *r, int64_t i, const json_t *step)
{
	const char *task = json_string_value(json_object_get(step, "task"));
	const char *as = json_string_value(json_object_get(step, "as"));
	const char *then = json_string_value(json_object_get(step, "identity")), *now;
	char what[256];
	int rc;

	if (!task || !then)
		return qat_fail(QAT_EFORMAT, "%s/finished.json: steps[%lld] is not complete: "
				"--force starts afresh", r->step->output, (long long)i);
	qat_resume_step_name(what, sizeof what, task, as, i);
	if (i >= r->step->context->p->n_steps)
		return qat_fail(QAT_EEXIST, "%s: %s was run, and is no longer in the pipeline: "
				AFRESH, r->step->output, what);
	rc = qat_identity_of(r->identity, &now, i);
	if (!rc)
		rc = qat_identity_same(then, now, what, AFRESH);
	return rc ? rc : check_state(r, what, as);
}

static int read_record(qat_resume *r)
{
	char *path = qat_resume_path(r, "finished.json");
	json_t *found = NULL;
	const json_t *step;
	size_t i;
	int rc = path ? qat_sealed_read(&found, path) : QAT_ENOMEM;

	free(path);
	if (rc == QAT_ENOTFOUND)
		return QAT_OK;
	if (rc)
		return qat_fail(rc, "%s: --force starts afresh", qat_error());
	json_array_foreach(json_object_get(found, "steps"), i, step) {
		rc = check_step(r, (int64_t)i, step);
		if (rc) {
			json_decref(found);
			return rc;
		}
	}
	json_decref(r->record);
	r->record = found;
	r->finished = r->first = (int64_t)json_array_size(json_object_get(found, "steps"));
	return QAT_OK;
}

int qat_resume_new(qat_resume **out, qat_step *s, int going_on)
{
	qat_resume *r = calloc(1, sizeof *r);
	int rc = r ? QAT_OK : qat_fail(QAT_ENOMEM, "out of memory");

	if (!rc) {
		r->step = s;
		r->going_on = going_on;
		r->record = json_pack("{s:s, s:[]}", "qatrun", PACKAGE_VERSION, "steps");
		rc = r->record ? qat_identity_new(&r->identity, s)
			       : qat_fail(QAT_ENOMEM, "out of memory");
	}
	if (!rc)
		rc = find_home(r);
	if (!rc && going_on)
		rc = read_record(r);
	for (int64_t i = r ? r->finished : 0; !rc && going_on && i < s->context->p->n_steps; i++)
		rc = qat_points_check(r, i);
	if (rc)
		qat_resume_free(r);
	else
		*out = r;
	return rc;
}

void qat_resume_free(qat_resume *r)
{
	if (!r)
		return;
	json_decref(r->record);
	json_decref(r->point);
	free(r->chosen);
	qat_identity_free(r->identity);
	free(r);
}

int64_t qat_resume_finished(const qat_resume *r)
{
	return r->finished;
}

int qat_resume_found(const qat_resume *r)
{
	return r->finished > 0 || r->points;
}

/* ---- going on ---- */

static int restore_results(qat_resume *r)
{
	qat_results *results = r->step->results;
	json_t *then = json_deep_copy(json_object_get(r->record, "results"));

	if (!then)
		return QAT_OK;
	if (json_object_set(then, "machine", json_object_get(results->document, "machine")) ||
	    json_object_set(then, "name", json_object_get(results->document, "name"))) {
		json_decref(then);
		return qat_fail(QAT_ENOMEM, "out of memory");
	}
	json_decref(results->document);
	results->document = then;
	return QAT_OK;
}

static int is_finished(const qat_resume *r, const char *state)
{
	for (int64_t i = 0; i < r->finished; i++) {
		const char *of = state_of(r, i);

		if (of && !strcmp(of, state))
			return 1;
	}
	return 0;
}

static int remove_unfinished(void *context, const char *folder, const char *name)
{
	return is_finished(context, name) ? QAT_OK : remove_in(folder, name);
}

/* What was told after the point that the run goes on from is told again. */
static int cut_told(qat_resume *r)
{
	const json_t *from = r->point ? r->point : r->record;
	const int64_t events = json_integer_value(json_object_get(from, "events"));

	qat_trackers_cut(r->step->context->p, r->step->output, json_object_get(from, "trackers"));
	return qat_events_cut(r->step->events, events);
}

int qat_resume_apply(qat_resume *r)
{
	char *states = qat_resume_path(r, "states");
	int rc = states ? QAT_OK : QAT_ENOMEM;

	if (!rc && r->going_on)
		rc = restore_results(r);
	if (!rc && r->going_on)
		rc = qat_resume_each(states, remove_unfinished, r);
	for (int64_t i = 0; i < r->finished && !rc; i++)
		rc = qat_points_drop(r, i);
	if (!rc && r->going_on && r->first < r->step->context->p->n_steps)
		rc = qat_points_choose(r, r->first);
	if (!rc && r->going_on)
		rc = cut_told(r);
	if (!rc && r->finished)
		qat_log(QAT_LOG_INFO, "resumed: %lld of %lld steps are done",
			(long long)r->finished, (long long)r->step->context->p->n_steps);
	free(states);
	return rc;
}

int qat_resume_begin(qat_resume *r, int64_t step)
{
	/* that of the first was chosen before trackers were opened */
	return r->going_on && step != r->first ? qat_points_choose(r, step) : QAT_OK;
}

int qat_resume_end(qat_resume *r, int64_t step)
{
	const char *identity;
	char *path = qat_resume_path(r, "finished.json");
	json_t *entry, *results = json_deep_copy(r->step->results->document);
	int64_t events = 0;
	int rc = path ? qat_identity_of(r->identity, &identity, step) : QAT_ENOMEM;

	if (!rc)
		rc = qat_resume_at_home(r);
	if (!rc)
		rc = qat_events_mark(r->step->events, &events);
	if (!rc) {
		entry = json_pack("{s:s, s:s?, s:s}", "task", r->step->plan->task, "as",
				  state_of(r, step), "identity", identity);
		if (json_array_append_new(json_object_get(r->record, "steps"), entry) ||
		    json_object_set_new(r->record, "events", json_integer(events)) ||
		    json_object_set_new(r->record, "trackers",
					qat_trackers_mark(r->step->trackers)) ||
		    json_object_set(r->record, "results", results))
			rc = qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	}
	if (!rc)
		rc = qat_sealed_write(path, r->record);
	if (!rc) {
		r->finished = step + 1;
		rc = qat_points_drop(r, step);
	}
	json_decref(results);
	free(path);
	return rc;
}
