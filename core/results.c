/* results.c - results.json, and lines of events.jsonl. */
#include "results.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <qatrun/json.h>

#include "config.h"
#include "error.h"
#include "pipeline.h"
#include "results_internal.h"

/* --- rows --- */

static void put(qat_row *row, const char *key, json_t *value)
{
	if (row && (!value || json_object_set_new(row->object, key, value)))
		row->results->failed = 1;
	else if (!row)
		json_decref(value);
}

void qat_row_text(qat_row *row, const char *key, const char *value)
{
	json_t *text = value ? json_string(value) : NULL;

	put(row, key, text ? text : json_null());
}

void qat_row_int(qat_row *row, const char *key, int64_t value)
{
	put(row, key, json_integer(value));
}

void qat_row_number(qat_row *row, const char *key, double value)
{
	put(row, key, isfinite(value) ? json_real(value) : json_null());
}

/* A handle for an object, which the document keeps. */
static qat_row *row_new(qat_results *r, json_t *object)
{
	qat_row *row = calloc(1, sizeof *row);

	if (!row || !object) {
		r->failed = 1;
		free(row);
		return NULL;
	}
	row->object = object;
	row->results = r;
	row->next = r->rows;
	r->rows = row;
	return row;
}

/* The value of a key, made where there is none. */
static json_t *member(qat_results *r, json_t *object, const char *key, json_t *fresh)
{
	json_t *value = json_object_get(object, key);

	if (value) {
		json_decref(fresh);
		return value;
	}
	if (json_object_set_new(object, key, fresh))
		r->failed = 1;
	return json_object_get(object, key);
}

qat_row *qat_results_row(qat_results *r, const char *list)
{
	json_t *array = member(r, r->document, list, json_array()), *object = json_object();

	if (json_array_append_new(array, object))
		object = NULL;
	return row_new(r, object);
}

qat_row *qat_results_state(qat_results *r, const char *name)
{
	json_t *states = member(r, r->document, "states", json_object());

	return row_new(r, member(r, states, name, json_object()));
}

qat_row *qat_results_machine(qat_results *r)
{
	return row_new(r, member(r, r->document, "machine", json_object()));
}

/* --- the document --- */

static void describe_machine(qat_results *r)
{
	qat_row *row = qat_results_machine(r);
	struct utsname u;

	if (!uname(&u)) {
		qat_row_text(row, "system", u.sysname);
		qat_row_text(row, "release", u.release);
		qat_row_text(row, "architecture", u.machine);
	}
	qat_row_int(row, "processors", qat_threads_default());
	qat_row_int(row, "memory", (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
}

int qat_results_new(qat_results **out, const char *path, const char *name, int64_t seed)
{
	qat_results *r = calloc(1, sizeof *r);

	if (r)
		r->path = strdup(path);
	if (r)
		r->document = json_pack("{s:s, s:i, s:s, s:I, s:{}, s:[], s:{}, s:[], s:[]}",
					"qatrun", PACKAGE_VERSION, "numerics", QAT_NUMERICS,
					"name", name, "seed", (json_int_t)seed, "machine", "steps",
					"states", "evaluations", "comparisons");
	if (!r || !r->path || !r->document) {
		qat_results_free(r);
		return qat_fail(QAT_ENOMEM, "out of memory");
	}
	describe_machine(r);
	*out = r;
	return QAT_OK;
}

void qat_results_free(qat_results *r)
{
	qat_row *next;

	if (!r)
		return;
	for (qat_row *row = r->rows; row; row = next) {
		next = row->next;
		free(row);
	}
	json_decref(r->document);
	json_decref(r->printed);
	free(r->path);
	free(r);
}

static int write_all(int fd, const char *data, int64_t bytes)
{
	while (bytes > 0) {
		ssize_t n = write(fd, data, (size_t)bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		data += n;
		bytes -= n;
	}
	return 0;
}

int qat_folder_sync(const char *path)
{
	const char *slash = strrchr(path, '/');
	char folder[4096] = ".";
	int fd, bad;

	if (slash && slash - path >= (ptrdiff_t)sizeof folder)
		return qat_fail(QAT_EIO, "%s: the path is too long", path);
	if (slash)
		snprintf(folder, sizeof folder, "%.*s", slash == path ? 1 : (int)(slash - path), path);
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* some file systems cannot do that to a folder, and say EINVAL */
	bad = fd < 0 || (fsync(fd) && errno != EINVAL);
	if (bad)
		qat_fail(QAT_EIO, "%s: %s", folder, strerror(errno));
	if (fd >= 0)
		close(fd);
	return bad ? QAT_EIO : QAT_OK;
}

int qat_file_replace(const char *path, const void *data, int64_t bytes)
{
	char beside[4096];
	int fd, bad;

	if (snprintf(beside, sizeof beside, "%s.new", path) >= (int)sizeof beside)
		return qat_fail(QAT_EIO, "%s: the path is too long", path);
	fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return qat_fail(QAT_EIO, "%s: %s", beside, strerror(errno));
	bad = write_all(fd, data, bytes) || fsync(fd);
	bad = close(fd) || bad;
	if (bad || rename(beside, path)) {
		bad = errno;
		unlink(beside);
		return qat_fail(QAT_EIO, "%s: %s", path, strerror(bad));
	}
	return qat_folder_sync(path);
}

int qat_results_write(qat_results *r)
{
	char *text;
	size_t n;
	int rc;

	if (r->failed)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", r->path);
	text = qat_json_print(r->document, JSON_INDENT(2));
	if (!text)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", r->path);
	n = strlen(text);
	text[n] = '\n';		/* in place of the NUL, which is not written */
	rc = qat_file_replace(r->path, text, (int64_t)n + 1);
	free(text);
	return rc;
}

/* --- events --- */

struct qat_events {
	FILE *file;
	char *path;
	int lost;
};

/* Not waited for, as the other end of a pipe would be. */
static FILE *open_events(const char *path)
{
	const int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "a");

	if (fd >= 0 && !f)
		close(fd);
	return f;
}

int qat_events_new(qat_events **out, const char *path)
{
	qat_events *e = calloc(1, sizeof *e);
	int rc;

	if (e)
		e->path = strdup(path);
	if (!e || !e->path) {
		qat_events_free(e);
		return qat_fail(QAT_ENOMEM, "out of memory");
	}
	e->file = open_events(path);
	if (!e->file) {
		rc = qat_fail(QAT_EIO, "%s: %s", path,
			      errno == ENXIO ? "a pipe that nobody reads" : strerror(errno));
		qat_events_free(e);
		return rc;
	}
	*out = e;
	return QAT_OK;
}

void qat_events_free(qat_events *e)
{
	if (!e)
		return;
	if (e->file)
		fclose(e->file);
	free(e->path);
	free(e);
}

int qat_events_mark(qat_events *e, int64_t *bytes)
{
	struct stat st;

	if (fflush(e->file) || (fsync(fileno(e->file)) && errno != EINVAL) ||
	    fstat(fileno(e->file), &st))
		return qat_fail(QAT_EIO, "%s: %s", e->path, strerror(errno));
	*bytes = st.st_size;
	return QAT_OK;
}

int qat_events_cut(qat_events *e, int64_t bytes)
{
	struct stat st;

	if (fflush(e->file) || fstat(fileno(e->file), &st))
		return qat_fail(QAT_EIO, "%s: %s", e->path, strerror(errno));
	if (st.st_size < bytes)
		qat_log(QAT_LOG_WARN, "%s: lines of the earlier run are missing: %lld of %lld "
			"bytes are there", e->path, (long long)st.st_size, (long long)bytes);
	else if (ftruncate(fileno(e->file), bytes))
		return qat_fail(QAT_EIO, "%s: %s", e->path, strerror(errno));
	return QAT_OK;
}

static json_t *event_value(const qat_event_value *v)
{
	json_t *text = v->text ? json_string(v->text) : NULL;

	if (v->text)
		return text ? text : json_null();
	if (!isfinite(v->number))
		return json_null();
	if (fabs(v->number) < 0x1p53 && v->number == floor(v->number))
		return json_integer((json_int_t)v->number);
	return json_real(v->number);
}

void qat_events_add(qat_events *e, const qat_event_value *values, int64_t count)
{
	json_t *line = json_object();
	struct timespec now;
	int bad;

	clock_gettime(CLOCK_REALTIME, &now);
	json_object_set_new(line, "time", json_real((double)now.tv_sec +
						    (double)(now.tv_nsec / 1000000) / 1000));
	for (int64_t i = 0; i < count; i++)
		json_object_set_new(line, values[i].key, event_value(&values[i]));
	bad = json_dumpf(line, e->file, JSON_COMPACT | JSON_REAL_PRECISION(15));
	json_decref(line);
	bad = fputc('\n', e->file) == EOF || bad;
	bad = fflush(e->file) || bad;
	if (bad && !e->lost++)
		qat_log(QAT_LOG_WARN, "%s: events are lost: %s", e->path, strerror(errno));
}
