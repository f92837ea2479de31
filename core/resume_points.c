/* resume_points.c - checkpoints of the step that runs: written, found again, dropped. */
#include "resume_internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "output.h"
#include "progress.h"
#include "sealed.h"
#include "session.h"

enum { POINTS_MAX = 4096 };

#define DOCUMENT "checkpoint.json"
#define AFRESH "put it back, or remove %s to begin this step again"

/* The checkpoints of a state, by number, upwards. */
typedef struct points {
	char *folder;
	int64_t at[POINTS_MAX];
	int64_t n;
} points;

/* ---- names ---- */

/* The number that a name is, as it is written; -1 else. */
static int64_t number_of(const char *name)
{
	char again[32], *end;
	long long n;

	errno = 0;
	n = strtoll(name, &end, 10);
	if (errno || *end || n < 0)
		return -1;
	snprintf(again, sizeof again, "%lld", n);
	return strcmp(again, name) ? -1 : n;
}

static int upwards(const void *a, const void *b)
{
	const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static int note(void *context, const char *folder, const char *name)
{
	points *p = context;
	const int64_t n = number_of(name);

	(void)folder;
	if (n >= 0 && p->n < POINTS_MAX)
		p->at[p->n++] = n;
	return QAT_OK;
}

static const char *state_of(const qat_resume *r, int64_t step)
{
	const qat_pipeline *p = r->step->context->p;

	return p->steps[step].as >= 0 ? p->states[p->steps[step].as].name : NULL;
}

static void points_free(points *p)
{
	if (p)
		free(p->folder);
	free(p);
}

/* NULL where the step makes no state (then *rc is QAT_OK), or after a failure. */
static points *list_points(const qat_resume *r, int64_t step, int *rc)
{
	const char *state = state_of(r, step);
	points *p = state ? calloc(1, sizeof *p) : NULL;

	*rc = state && !p ? qat_fail(QAT_ENOMEM, "out of memory") : QAT_OK;
	if (!p)
		return NULL;
	p->folder = qat_resume_path(r, "checkpoints/%s", state);
	*rc = p->folder ? qat_resume_each(p->folder, note, p) : QAT_ENOMEM;
	if (*rc) {
		points_free(p);
		return NULL;
	}
	qsort(p->at, (size_t)p->n, sizeof *p->at, upwards);
	return p;
}

static char *path_in(const char *folder, const char *name)
{
	char *path;

	if (asprintf(&path, "%s/%s", folder, name) < 0) {
		qat_fail(QAT_ENOMEM, "out of memory");
		return NULL;
	}
	return path;
}

static char *path_of(const char *folder, int64_t n, const char *suffix)
{
	char name[64];

	snprintf(name, sizeof name, "%lld%s", (long long)n, suffix);
	return path_in(folder, name);
}

/* ---- the best ---- */

/* -1 where none is known. */
static int64_t read_best(const char *folder, double *loss)
{
	char *path = path_in(folder, "best.json");
	json_t *best = NULL;
	int64_t n = -1;

	*loss = INFINITY;
	if (path && !qat_sealed_read(&best, path)) {
		n = json_integer_value(json_object_get(best, "step"));
		*loss = json_number_value(json_object_get(best, "loss"));
	}
	json_decref(best);
	free(path);
	return n;
}

static int write_best(const char *folder, int64_t n, double loss)
{
	char *path = path_in(folder, "best.json");
	json_t *best = json_pack("{s:I, s:f}", "step", (json_int_t)n, "loss", loss);
	int rc = path && best ? qat_sealed_write(path, best)
			      : qat_fail(QAT_ENOMEM, "out of memory");

	json_decref(best);
	free(path);
	return rc;
}

/* ---- dropping ---- */

/* Under another name first: half of a checkpoint must not look like one. */
static int drop(const char *folder, int64_t n)
{
	char *path = path_of(folder, n, ""), *old = path_of(folder, n, ".old");
	int rc = path && old ? qat_path_remove(old) : QAT_ENOMEM;

	if (!rc && rename(path, old) && errno != ENOENT)
		rc = qat_fail(QAT_EIO, "%s: cannot be removed: %s", path, strerror(errno));
	if (!rc)
		rc = qat_path_remove(old);
	free(path);
	free(old);
	return rc;
}

/* All but the newest `keep`, and the best. */
static int prune(qat_resume *r, int64_t step, int64_t keep)
{
	int rc;
	points *p = list_points(r, step, &rc);
	double loss;
	const int64_t best = p ? read_best(p->folder, &loss) : -1;

	for (int64_t i = 0; p && i + keep < p->n && !rc; i++)
		if (p->at[i] != best)
			rc = drop(p->folder, p->at[i]);
	points_free(p);
	return rc;
}

static int remove_other(void *context, const char *folder, const char *name)
{
	char *path;
	int rc;

	(void)context;
	if (number_of(name) >= 0 || !strcmp(name, "best.json"))
		return QAT_OK;
	path = path_in(folder, name);
	rc = path ? qat_path_remove(path) : QAT_ENOMEM;
	free(path);
	return rc;
}

/* Where there is no best, the folder is of no use. */
int qat_points_drop(qat_resume *r, int64_t step)
{
	int rc;
	points *p = list_points(r, step, &rc);
	double loss;

	if (!p)
		return rc;
	rc = prune(r, step, 0);
	if (!rc)
		rc = qat_resume_each(p->folder, remove_other, NULL);
	if (!rc && read_best(p->folder, &loss) < 0)
		rc = qat_path_remove(p->folder);
	if (!rc) {
		*strrchr(p->folder, '/') = 0;
		rmdir(p->folder);	/* the folder of all, once it is empty */
	}
	points_free(p);
	return rc;
}

/* ---- writing ---- */

static json_t *describe(qat_resume *r, const qat_point *p, uint64_t hash, const char *identity,
			int64_t events)
{
	const qat_step *s = r->step;
	const int64_t peak = qat_memory_peak();
	char sum[17];

	snprintf(sum, sizeof sum, "%016llx", (unsigned long long)hash);
	return json_pack("{s:s, s:s?, s:I, s:o, s:s, s:I, s:o, s:f, s:f, s:I, s:I, s:I, s:s}",
			 "task", s->plan->task, "as", state_of(r, s->index),
			 "step", (json_int_t)p->step,
			 "loss", isfinite(p->loss) ? json_real(p->loss) : json_null(),
			 "tensors", sum, "events", (json_int_t)events,
			 "trackers", qat_trackers_mark(s->trackers),
			 "seconds", qat_now() - s->began + s->seconds_before,
			 "timed_seconds", s->timed_seconds,
			 "timed_tokens", (json_int_t)s->timed_tokens,
			 "tokens", (json_int_t)s->tokens,
			 "peak_bytes", (json_int_t)(peak > s->peak_before ? peak : s->peak_before),
			 "identity", identity);
}

static int write_document(qat_resume *r, const char *folder, const qat_point *p, uint64_t hash)
{
	const char *identity;
	char *path = path_in(folder, DOCUMENT);
	json_t *document = NULL;
	int64_t events = 0;
	int rc = path ? qat_identity_of(r->identity, &identity, r->step->index) : QAT_ENOMEM;

	if (!rc)
		rc = qat_events_mark(r->step->events, &events);
	if (!rc) {
		document = describe(r, p, hash, identity, events);
		rc = document ? qat_sealed_write(path, document)
			      : qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	}
	json_decref(document);
	free(path);
	return rc;
}

static int make_folder(const char *path)
{
	if (!mkdir(path, 0777))
		return qat_folder_sync(path);
	return errno == EEXIST ? QAT_OK : qat_fail(QAT_EIO, "%s: %s", path, strerror(errno));
}

/* Removes what could not be finished, and keeps the message that says why. */
static int give_up(int rc, const char *path)
{
	char why[QAT_MESSAGE_MAX];

	snprintf(why, sizeof why, "%s", qat_error());
	qat_path_remove(path);
	return qat_fail(rc, "%s", why);
}

static int write_point(qat_resume *r, qat_session *x, const qat_point *p, const char *folder)
{
	char *draft = path_of(folder, p->step, ".new"), *path = path_of(folder, p->step, "");
	struct stat st;
	uint64_t hash;
	int rc = draft && path ? QAT_OK : QAT_ENOMEM;

	if (rc || !stat(path, &st))	/* this step's, from before it was resumed */
		goto out;
	rc = qat_path_remove(draft);
	if (!rc)
		rc = qat_session_save_whole(x, draft, r->step->tokens, &hash);
	if (!rc)
		rc = write_document(r, draft, p, hash);
	if (!rc && rename(draft, path))
		rc = qat_fail(QAT_EIO, "%s: %s", path, strerror(errno));
	if (!rc)
		rc = qat_folder_sync(path);
	if (rc)
		rc = give_up(rc, draft);
out:
	free(draft);
	free(path);
	return rc;
}

static void record_best(qat_resume *r, int64_t n, double loss)
{
	char name[QAT_NAME_MAX + 64];

	snprintf(name, sizeof name, "checkpoints/%s/%lld", state_of(r, r->step->index),
		 (long long)n);
	qat_row_text(r->step->row, "best_checkpoint", name);
	qat_row_number(r->step->row, "best_loss", loss);
}

static int keep_best(qat_resume *r, const qat_point *p, const char *folder)
{
	double loss;
	int64_t best = read_best(folder, &loss);
	int rc = QAT_OK;

	if (isfinite(p->loss) && (best < 0 || p->loss < loss)) {
		best = p->step;
		loss = p->loss;
		rc = write_best(folder, best, loss);
	}
	if (!rc && best >= 0)
		record_best(r, best, loss);
	return rc;
}

int qat_resume_write(qat_session *x, const qat_point *p)
{
	qat_step *s = qat_session_context(x)->step;
	qat_resume *r = s->resume;
	char *all = qat_resume_path(r, "checkpoints"), *folder = NULL;
	int rc = all ? QAT_OK : QAT_ENOMEM;

	if (!rc)
		rc = qat_resume_at_home(r);
	if (!rc && !state_of(r, s->index))
		rc = qat_fail(QAT_EINVAL, "checkpoints are for steps that make a state");
	if (!rc)
		folder = path_in(all, state_of(r, s->index));
	if (!rc)
		rc = folder ? make_folder(all) : QAT_ENOMEM;
	if (!rc)
		rc = make_folder(folder);
	if (!rc)
		rc = write_point(r, x, p, folder);
	if (!rc)
		rc = keep_best(r, p, folder);
	if (!rc)
		rc = prune(r, s->index, p->keep > 0 ? p->keep : 1);
	if (rc)
		rc = qat_fail(rc, "checkpoint of optimizer step %lld: %s", (long long)p->step,
			      qat_error());
	free(folder);
	free(all);
	return rc;
}

/* ---- finding ---- */

static int read_document(json_t **out, const char *folder)
{
	char *path = path_in(folder, DOCUMENT);
	const int rc = path ? qat_sealed_read(out, path) : QAT_ENOMEM;

	free(path);
	return rc;
}

/* Its content is what it was when it was written. */
static int check_tensors(const qat_resume *r, const char *folder, const json_t *document)
{
	const char *said = json_string_value(json_object_get(document, "tensors"));
	char sum[17];
	uint64_t hash;
	const int rc = qat_session_hash_whole(&hash, r->step->context->native, folder);

	if (rc)
		return rc;
	snprintf(sum, sizeof sum, "%016llx", (unsigned long long)hash);
	return said && !strcmp(said, sum) ? QAT_OK
		: qat_fail(QAT_EFORMAT, "%s: the checksum of its tensors is not that of their "
			   "content", folder);
}

static int same_step(qat_resume *r, int64_t step, const json_t *document, const points *p)
{
	const char *then = json_string_value(json_object_get(document, "identity")), *now;
	char what[256], out[512];
	int rc = qat_identity_of(r->identity, &now, step);

	qat_resume_step_name(what, sizeof what, r->step->context->p->steps[step].task,
			     state_of(r, step), step);
	snprintf(out, sizeof out, AFRESH, p->folder);
	return rc ? rc : qat_identity_same(then ? then : "", now, what, out);
}

int qat_points_check(qat_resume *r, int64_t step)
{
	int rc;
	points *p = list_points(r, step, &rc);

	for (int64_t i = p ? p->n - 1 : -1; i >= 0 && !rc; i--) {
		char *folder = path_of(p->folder, p->at[i], "");
		json_t *document = NULL;

		rc = folder ? QAT_OK : QAT_ENOMEM;
		if (!rc && !read_document(&document, folder)) {
			rc = same_step(r, step, document, p);
			r->points = 1;
			i = 0;
		}
		json_decref(document);
		free(folder);
	}
	points_free(p);
	return rc;
}

/* 1 if the checkpoint is whole: then r->chosen and r->point are it. */
static int choose(qat_resume *r, const char *folder)
{
	json_t *document = NULL;

	if (read_document(&document, folder) || check_tensors(r, folder, document)) {
		json_decref(document);
		return 0;
	}
	r->chosen = strdup(folder);
	r->point = document;
	return 1;
}

static int forget_best(const char *folder, int64_t newest)
{
	char *path = path_in(folder, "best.json");
	double loss;
	int rc = path ? QAT_OK : QAT_ENOMEM;

	if (!rc && read_best(folder, &loss) > newest)
		rc = qat_path_remove(path);
	free(path);
	return rc;
}

/* The newest that is whole; what is newer goes. So does a best of which nothing is left. */
int qat_points_choose(qat_resume *r, int64_t step)
{
	int rc;
	points *p = list_points(r, step, &rc);
	int64_t newest = -1;

	free(r->chosen);
	json_decref(r->point);
	r->chosen = NULL;
	r->point = NULL;
	for (int64_t i = p ? p->n - 1 : -1; i >= 0 && !rc && !r->chosen; i--) {
		char *folder = path_of(p->folder, p->at[i], "");

		rc = folder ? QAT_OK : QAT_ENOMEM;
		if (!rc && choose(r, folder)) {
			newest = p->at[i];
			rc = same_step(r, step, r->point, p);
		} else if (!rc) {
			qat_log(QAT_LOG_WARN, "a torn checkpoint is skipped: %s", qat_error());
			rc = drop(p->folder, p->at[i]);
		}
		free(folder);
	}
	if (p && !rc)
		rc = qat_resume_each(p->folder, remove_other, NULL);
	if (p && !rc)
		rc = forget_best(p->folder, newest);
	points_free(p);
	return rc;
}

int qat_resume_read(qat_session *x, qat_point *out)
{
	qat_step *s = qat_session_context(x)->step;
	qat_resume *r = s->resume;
	const json_t *d = r->point, *loss = json_object_get(d, "loss");
	char *folder;
	qat_point p = { .size = out->size, .loss = NAN, .best = INFINITY };
	int64_t best;
	int rc = QAT_OK;

	if (r->chosen)
		rc = qat_session_load_whole(x, r->chosen);
	if (rc || !r->chosen)
		goto out;
	folder = qat_resume_path(r, "checkpoints/%s", state_of(r, s->index));
	if (!folder)
		return QAT_ENOMEM;
	p.step = json_integer_value(json_object_get(d, "step"));
	p.loss = json_is_number(loss) ? json_number_value(loss) : NAN;
	best = read_best(folder, &p.best);
	if (best >= 0)
		record_best(r, best, p.best);
	free(folder);
	s->seconds_before = json_number_value(json_object_get(d, "seconds"));
	s->timed_seconds = json_number_value(json_object_get(d, "timed_seconds"));
	s->timed_tokens = json_integer_value(json_object_get(d, "timed_tokens"));
	s->tokens = json_integer_value(json_object_get(d, "tokens"));
	s->peak_before = json_integer_value(json_object_get(d, "peak_bytes"));
	qat_log(QAT_LOG_INFO, "%s goes on after optimizer step %lld", state_of(r, s->index),
		(long long)p.step);
out:
	if (!rc)
		*out = p;
	return rc;
}
