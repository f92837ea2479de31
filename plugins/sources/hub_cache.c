/* hub_cache.c - the cache that huggingface_hub and others share:
 *
 *   models--owner--name/refs/<revision>            a commit
 *                       snapshots/<commit>/<file>  a link to ../../blobs/<etag>
 *                       blobs/<etag>               contents
 *                       blobs/<etag>.incomplete    what is there of them so far
 *   .locks/models--owner--name/<etag>.lock         held by who downloads
 */
#include "hub.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int hub_cache_folder(hub_repo *r)
{
	const char *slash = strchr(r->name, '/');

	return hub_text(&r->folder, "%s/models--%.*s--%s", r->env.cache, (int)(slash - r->name),
			r->name, slash + 1);
}

int hub_cache_snapshot(hub_repo *r)
{
	free(r->snapshot);
	return hub_text(&r->snapshot, "%s/snapshots/%s", r->folder, r->commit);
}

int hub_cache_blob(char **out, const hub_repo *r, const char *etag, const char *end)
{
	return hub_text(out, "%s/blobs/%s%s", r->folder, etag, end);
}

/* Contents that a link leads to count, a link to nothing does not. */
int hub_cache_has(const hub_repo *r, const char *file)
{
	char *path = NULL;
	struct stat st;
	int has;

	if (hub_text(&path, "%s/%s", r->snapshot, file))
		return 0;
	has = !stat(path, &st) && S_ISREG(st.st_mode);
	free(path);
	return has;
}

int hub_cache_folders(const char *path)
{
	char *copy = strdup(path);
	int rc = copy ? QAT_OK : qat_fail(QAT_ENOMEM, "out of memory");

	for (char *p = copy ? strchr(copy + 1, '/') : NULL; p && !rc; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(copy, 0777) && errno != EEXIST)
			rc = qat_fail(QAT_EIO, "%s: %s: HF_HOME or HF_HUB_CACHE may name another "
				      "cache", copy, strerror(errno));
		*p = '/';
	}
	free(copy);
	return rc;
}

/* A small file that is there whole or not at all. */
static int write_small(const char *path, const char *text)
{
	const size_t n = strlen(text);
	char *temp = NULL;
	int fd, rc = hub_cache_folders(path);

	if (!rc)
		rc = hub_text(&temp, "%s.%ld.tmp", path, (long)getpid());
	if (rc)
		return rc;
	fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0 || write(fd, text, n) != (ssize_t)n)
		rc = qat_fail(QAT_EIO, "%s: %s", temp, strerror(errno));
	if (fd >= 0 && close(fd) && !rc)
		rc = qat_fail(QAT_EIO, "%s: %s", temp, strerror(errno));
	if (!rc && rename(temp, path))
		rc = qat_fail(QAT_EIO, "%s: %s", path, strerror(errno));
	if (rc)
		unlink(temp);
	free(temp);
	return rc;
}

/* ---- revisions ---- */

int hub_cache_commit(hub_repo *r)
{
	char *path = NULL, text[HUB_COMMIT + 2] = "";
	FILE *f = NULL;
	size_t n;

	if (hub_commit_valid(r->revision)) {
		memcpy(r->commit, r->revision, sizeof r->commit);
		return QAT_OK;
	}
	if (hub_text(&path, "%s/refs/%s", r->folder, r->revision))
		return QAT_ENOMEM;
	f = fopen(path, "re");
	free(path);
	n = f ? fread(text, 1, sizeof text - 1, f) : 0;
	if (f)
		fclose(f);
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (!hub_commit_valid(text))
		return qat_fail(QAT_ENOTFOUND, "%s: revision %s is not in the cache, %s", r->name,
				r->revision, r->env.cache);
	memcpy(r->commit, text, sizeof r->commit);
	return QAT_OK;
}

/* Tells those who save all of a disk that this is a cache: https://bford.info/cachedir/ */
static void tag(const hub_repo *r)
{
	char *path = NULL;

	if (!hub_text(&path, "%s/CACHEDIR.TAG", r->env.cache) && access(path, F_OK))
		write_small(path, "Signature: 8a477f597d28d172789f06886806bc55\n");
	free(path);
}

int hub_cache_remember(const hub_repo *r)
{
	hub_repo old = { .name = r->name, .revision = r->revision, .env = r->env,
			 .folder = r->folder };
	char *path = NULL;
	int rc;

	tag(r);
	if (!strcmp(r->revision, r->commit))
		return QAT_OK;
	if (!hub_cache_commit(&old) && !strcmp(old.commit, r->commit))
		return QAT_OK;
	rc = hub_text(&path, "%s/refs/%s", r->folder, r->revision);
	if (!rc)
		rc = write_small(path, r->commit);
	free(path);
	return rc;
}

/* ---- links and locks ---- */

/* Where there are no links, the file itself takes the place. */
static int link_or_move(const char *path, const char *etag, const char *blob)
{
	char *to = NULL;
	int rc = hub_text(&to, "../../blobs/%s", etag);

	if (rc)
		return rc;
	unlink(path);		/* a link to nothing */
	if (symlink(to, path) && errno != EEXIST) {
		if ((errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS) ||
		    rename(blob, path))
			rc = qat_fail(QAT_EIO, "%s: %s", path, strerror(errno));
	}
	free(to);
	return rc;
}

int hub_cache_link(const hub_repo *r, const char *file, const char *etag)
{
	char *path = NULL, *blob = NULL;
	int rc;

	if (hub_cache_has(r, file))
		return QAT_OK;
	rc = hub_text(&path, "%s/%s", r->snapshot, file);
	if (!rc)
		rc = hub_cache_blob(&blob, r, etag, "");
	if (!rc)
		rc = hub_cache_folders(path);
	if (!rc)
		rc = link_or_move(path, etag, blob);
	free(path);
	free(blob);
	return rc;
}

/* Another process may be at the same file: then wait for it. */
static int wait_for(int fd, const hub_repo *r)
{
	int rc = QAT_OK, told = 0;

	while (!rc && flock(fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return QAT_OK;	/* no locks here: contents are checked all the same */
		if (!told++)
			r->request->progress(r->request->context, "waits for another process",
					     r->done, r->total);
		nanosleep(&(struct timespec){ .tv_nsec = 100000000L }, NULL);
		rc = hub_stopped(&r->stop);
	}
	return rc;
}

int hub_cache_lock(int *fd, const hub_repo *r, const char *etag)
{
	char *path = NULL;
	int rc = hub_text(&path, "%s/.locks/%s/%s.lock", r->env.cache, strrchr(r->folder, '/') + 1,
			  etag);

	*fd = -1;
	if (!rc)
		rc = hub_cache_folders(path);
	if (!rc) {
		*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
		if (*fd < 0)
			rc = qat_fail(QAT_EIO, "%s: %s", path, strerror(errno));
	}
	if (!rc)
		rc = wait_for(*fd, r);
	if (rc && *fd >= 0) {
		close(*fd);
		*fd = -1;
	}
	free(path);
	return rc;
}
