/* hub_blob.c - contents: asked for, resumed, counted, checked, and only then named. */
#include "hub.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { STEADY = 1 << 20 };	/* bytes of an attempt that is not one of a failing row */

typedef struct job {
	const char *name;
	char etag[HUB_ETAG_MAX + 1];
	int64_t size;
} job;

typedef struct download {
	hub_repo *repo;
	const job *job;
	int fd;
	int64_t have;			/* bytes at the beginning of the file that are there */
	int begun;			/* this exchange has brought some */
	int resumed;			/* some are of another exchange */
} download;

static int file_url(char **out, const hub_repo *r, const char *name)
{
	char *escaped = hub_http_escape(r->http, name);
	int rc = escaped ? hub_text(out, "%s/%s/resolve/%s/%s", r->env.endpoint, r->name,
				    r->commit, escaped)
			 : qat_fail(QAT_ENOMEM, "out of memory");

	free(escaped);
	return rc;
}

/* ---- what there is to do ---- */

static int ask(job *j, const hub_repo *r)
{
	hub_reply reply;
	char *url = NULL;
	int rc = file_url(&url, r, j->name);

	if (!rc)
		rc = hub_http_head(&reply, r->http, url);
	free(url);
	if (rc)
		return rc;
	if (reply.status != 200 && !(reply.linked && reply.status >= 300 && reply.status < 400))
		return hub_refused(r, &reply, j->name);
	if (!*reply.etag || reply.length < 0)
		return qat_fail(QAT_EFORMAT, "%s: %s says no %s of %s: is HF_ENDPOINT a hub?",
				r->name, r->env.endpoint, *reply.etag ? "length" : "checksum",
				j->name);
	if (*reply.commit && strcmp(reply.commit, r->commit) != 0)
		return qat_fail(QAT_EFORMAT, "%s: %s has %s of commit %s where %s was asked for",
				r->name, r->env.endpoint, j->name, reply.commit, r->commit);
	memcpy(j->etag, reply.etag, sizeof j->etag);
	j->size = reply.length;
	return QAT_OK;
}

static int64_t length_of(const hub_repo *r, const char *etag, const char *end)
{
	char *path = NULL;
	struct stat st;
	int64_t n = -1;

	if (hub_cache_blob(&path, r, etag, end))
		return -1;
	if (!stat(path, &st) && S_ISREG(st.st_mode))
		n = st.st_size;
	free(path);
	return n;
}

/* All that is still to come must fit on the disk. */
static int check_room(const hub_repo *r, const job *jobs, int64_t n)
{
	const double mib = 1.0 / (1 << 20);
	struct statvfs v;
	double need = 0, room;
	char *path = NULL;
	int rc = hub_cache_blob(&path, r, "x", "");

	for (int64_t i = 0; i < n; i++)
		if (length_of(r, jobs[i].etag, "") < 0) {
			const int64_t part = length_of(r, jobs[i].etag, ".incomplete");

			need += (double)(jobs[i].size - (part > 0 && part <= jobs[i].size ? part : 0));
		}
	if (!rc && need > 0)
		rc = hub_cache_folders(path);
	if (path && !rc && need > 0 && !statvfs(r->env.cache, &v)) {
		room = (double)v.f_bavail * (double)v.f_frsize;
		if (!(need <= room))
			rc = qat_fail(QAT_EIO, "%s: needs %.1f MiB, but %s has room for %.1f: "
				      "HF_HUB_CACHE may name another disk's folder", r->name,
				      mib * need, r->env.cache, mib * room);
	}
	free(path);
	return rc;
}

/* ---- one file ---- */

static int wrong_length(const download *d, int64_t length)
{
	return qat_fail(QAT_EFORMAT, "%s: %s: the server sends %lld bytes, but has announced %lld: "
			"try again later", d->repo->name, d->job->name, (long long)length,
			(long long)d->job->size);
}

/* The first piece of an answer: does it go on where we are, or begin anew? */
static int begin(download *d, const hub_reply *r)
{
	const int64_t from = r->status == 206 ? r->from : 0;

	d->begun = 1;
	if (r->length >= 0 && r->length != d->job->size)
		return wrong_length(d, r->length);
	if (from && from != d->have)
		return qat_fail(QAT_EFORMAT, "%s: %s: the server sends another part than was asked "
				"for", d->repo->name, d->job->name);
	if (from) {
		d->resumed = 1;
		return QAT_OK;
	}
	d->have = 0;
	d->resumed = 0;
	return ftruncate(d->fd, 0) ? qat_fail(QAT_EIO, "%s: %s", d->job->name, strerror(errno))
				   : QAT_OK;
}

static int take(void *context, const hub_reply *r, const void *data, int64_t bytes)
{
	download *d = context;
	const qat_source_request *q = d->repo->request;
	const char *p = data;
	int rc = d->begun ? QAT_OK : begin(d, r);

	if (!rc && bytes > d->job->size - d->have)
		rc = wrong_length(d, d->have + bytes);
	while (!rc && bytes > 0) {
		const ssize_t n = pwrite(d->fd, p, (size_t)bytes, d->have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return qat_fail(QAT_EIO, "%s: %s: %s", d->repo->env.cache, d->job->name,
					n ? strerror(errno) : "cannot be written");
		p += n;
		bytes -= n;
		d->have += n;
	}
	q->progress(q->context, d->job->name, d->repo->done + d->have, d->repo->total);
	return rc;
}

/* One answer: QAT_OK with all bytes there, or an error; *again if another may go on. */
static int attempt(download *d, int *again, hub_reply *reply, const char *url)
{
	hub_repo *r = d->repo;
	int rc;

	d->begun = 0;
	rc = hub_http_ask(reply, r->http, url, d->have, take, d);
	*again = reply->transient && (!rc || rc == QAT_EIO);
	if (rc && *again)
		return qat_fail(rc, "%s: %s: %s", r->name, d->job->name, qat_host_->error());
	if (rc)
		return rc;
	if (reply->status == 416) {	/* what we have is no part of it */
		*again = 1;
		d->have = 0;
	} else if (reply->status != 200 && reply->status != 206) {
		return hub_refused(r, reply, d->job->name);
	}
	if (d->have == d->job->size)
		return QAT_OK;
	*again = 1;
	return qat_fail(QAT_EIO, "%s: %s: the connection ends after %lld of %lld bytes", r->name,
			d->job->name, (long long)d->have, (long long)d->job->size);
}

static int transfer(download *d)
{
	hub_repo *r = d->repo;
	int64_t most = d->have;
	hub_reply reply;
	char *url = NULL;
	int rc = file_url(&url, r, d->job->name), again = 1, pause;

	for (int row = 1; !rc && again && d->have < d->job->size; row++) {
		rc = attempt(d, &again, &reply, url);
		if (!rc || !again)
			break;
		if (d->have - most >= STEADY) {
			most = d->have;
			row = 1;
		}
		pause = hub_http_pause(r->http, row, &reply);
		if (pause) {
			rc = pause == QAT_EIO ? rc : pause;
			break;
		}
		rc = QAT_OK;
	}
	free(url);
	return rc;
}

/* Whole and what the hub says it is. What is not is of no use, and goes. */
static int check(download *d, int *same)
{
	int rc;

	*same = 0;
	rc = hub_digest_check(same, d->fd, d->job->size, d->job->etag, &d->repo->stop);
	if (rc || *same)
		return rc;
	d->have = 0;
	if (ftruncate(d->fd, 0))
		return qat_fail(QAT_EIO, "%s: %s", d->job->name, strerror(errno));
	return QAT_OK;
}

/* A part of an earlier run may have been damaged on the disk: then once more from the start. */
static int receive(download *d)
{
	int same = 0, rc = transfer(d);

	if (!rc)
		rc = check(d, &same);
	if (!rc && !same && d->resumed) {
		d->resumed = 0;
		rc = transfer(d);
		if (!rc)
			rc = check(d, &same);
	}
	if (!rc && !same)
		rc = qat_fail(QAT_EFORMAT, "%s: %s: what was downloaded does not have the checksum "
			      "that the hub says (%s): it was changed on the way, or at the server",
			      d->repo->name, d->job->name, d->job->etag);
	return rc;
}

static int receive_as(hub_repo *r, const job *j, const char *part, const char *blob)
{
	download d = { .repo = r, .job = j };
	struct stat st;
	int rc;

	d.fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
	if (d.fd < 0 || fstat(d.fd, &st)) {
		rc = qat_fail(QAT_EIO, "%s: %s", part, strerror(errno));
		if (d.fd >= 0)
			close(d.fd);
		return rc;
	}
	if (st.st_size <= j->size)
		d.have = st.st_size;
	d.resumed = d.have > 0;
	rc = receive(&d);
	if (!rc && (ftruncate(d.fd, j->size) || fsync(d.fd)))
		rc = qat_fail(QAT_EIO, "%s: %s", part, strerror(errno));
	if (close(d.fd) && !rc)
		rc = qat_fail(QAT_EIO, "%s: %s", part, strerror(errno));
	if (!rc && rename(part, blob))
		rc = qat_fail(QAT_EIO, "%s: %s", blob, strerror(errno));
	if (rc == QAT_EFORMAT)
		unlink(part);
	return rc;
}

static int run(hub_repo *r, const job *j)
{
	char *part = NULL, *blob = NULL;
	int lock, rc = hub_cache_lock(&lock, r, j->etag);

	if (rc)
		return rc;
	rc = hub_cache_blob(&part, r, j->etag, ".incomplete");
	if (!rc)
		rc = hub_cache_blob(&blob, r, j->etag, "");
	if (!rc)
		rc = hub_cache_folders(blob);
	if (!rc && length_of(r, j->etag, "") != j->size)
		rc = receive_as(r, j, part, blob);
	if (!rc)
		rc = hub_cache_link(r, j->name, j->etag);
	close(lock);
	free(part);
	free(blob);
	r->done += j->size;
	return rc;
}

/* ---- all of them ---- */

static int missing(const hub_repo *r, const char *name)
{
	return qat_fail(QAT_ENOTFOUND, "%s: %s is not in the cache, %s", r->name, name,
			r->env.cache);
}

int hub_blob_fetch(hub_repo *r, const hub_list *files)
{
	job *jobs = calloc((size_t)files->count + 1, sizeof *jobs);
	int64_t n = 0;
	int rc = jobs ? QAT_OK : qat_fail(QAT_ENOMEM, "out of memory");

	for (int64_t i = 0; i < files->count && !rc; i++) {
		if (hub_cache_has(r, files->at[i]))
			continue;
		jobs[n].name = files->at[i];
		rc = r->http ? ask(&jobs[n], r) : missing(r, files->at[i]);
		r->total += jobs[n++].size;
	}
	if (!rc)
		rc = check_room(r, jobs, n);
	if (!rc && n)
		hub_log(QAT_LOG_INFO, "%s: downloads %lld file%s, %.1f MiB, into %s", r->name,
			(long long)n, n > 1 ? "s" : "", (double)(r->total - r->done) / (1 << 20),
			r->snapshot);
	for (int64_t i = 0; i < n && !rc; i++)
		rc = run(r, &jobs[i]);
	free(jobs);
	return rc;
}
