/* files.c - mapped files, whole texts, and drafts: files and folders that are built
 * under a temporary name beside their place, synced, and renamed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <qatrun/json.h>

#include "files.h"

/* Larger than any tokenizer.json; what has no bound is mapped, never read. */
#define TEXT_LIMIT (INT64_C(256) << 20)

enum { TEMP_NAMES = 1000, VALUES_LIMIT = 1 << 20 };

/* A descriptor of a regular file and its size. A pipe would block on open or lie about
 * its size. */
static int open_regular(int *out, int64_t *size, const char *path)
{
	struct stat st;
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return qat_fail(errno == ENOENT ? QAT_ENOTFOUND : QAT_EIO, "%s: %s", path,
				strerror(errno));
	if (fstat(fd, &st)) {
		const int error = errno;

		close(fd);
		return qat_fail(QAT_EIO, "%s: %s", path, strerror(error));
	}
	if (!S_ISREG(st.st_mode)) {
		close(fd);
		return qat_fail(QAT_EINVAL, "%s: not a regular file", path);
	}
	*out = fd;
	*size = st.st_size;
	return QAT_OK;
}

int qat_map_open(qat_map *out, const char *path)
{
	int64_t size = 0;
	void *at = NULL;
	int fd = -1, error;
	int rc = open_regular(&fd, &size, path);

	if (rc)
		return rc;
	if (size > 0)
		at = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
	error = errno;
	close(fd);
	if (at == MAP_FAILED)
		return qat_fail(QAT_EIO, "%s: cannot map: %s", path, strerror(error));
	*out = (qat_map){ .at = at, .length = size };
	return QAT_OK;
}

void qat_map_close(qat_map *map)
{
	if (map->at)
		munmap((void *)(uintptr_t)map->at, (size_t)map->length);
	*map = (qat_map){ 0 };
}

/* The file is private and read-only, so that pages come back from it as they were. */
void qat_map_let_go(const qat_map *map)
{
	if (map->at)
		madvise((void *)(uintptr_t)map->at, (size_t)map->length, MADV_DONTNEED);
}

static int read_all(char *to, int64_t size, int fd, const char *path)
{
	int64_t done = 0;

	while (done < size) {
		const ssize_t n = read(fd, to + done, (size_t)(size - done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return qat_fail(QAT_EIO, "%s: %s", path, strerror(errno));
		if (n == 0)
			return qat_fail(QAT_EIO, "%s: became shorter while it was read", path);
		done += n;
	}
	to[size] = '\0';
	return QAT_OK;
}

int qat_text_read(qat_text *out, const char *path)
{
	int64_t size = 0;
	char *text;
	int fd = -1, rc;

	*out = (qat_text){ 0 };
	if (access(path, F_OK) && errno == ENOENT)
		return QAT_OK;
	rc = open_regular(&fd, &size, path);
	if (rc)
		return rc;
	if (size > TEXT_LIMIT) {
		close(fd);
		return qat_fail(QAT_EFORMAT, "%s: %lld bytes are too many for a document, at "
				"most %lld", path, (long long)size, (long long)TEXT_LIMIT);
	}
	text = malloc((size_t)size + 1);
	rc = text ? read_all(text, size, fd, path)
		  : qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	close(fd);
	if (rc) {
		free(text);
		return rc;
	}
	*out = (qat_text){ .at = text, .length = size };
	return QAT_OK;
}

void qat_text_free(qat_text *text)
{
	free((void *)(uintptr_t)text->at);
	*text = (qat_text){ 0 };
}

/* Values, about: two bytes of text become a value of a hundred in memory. */
static int64_t values_of(const char *text, int64_t length)
{
	int64_t n = 0;
	int quoted = 0;

	for (int64_t i = 0; i < length; i++) {
		if (quoted && text[i] == '\\')
			i++;
		else if (text[i] == '"')
			quoted = !quoted;
		else if (!quoted)
			n += text[i] == ',' || text[i] == '[' || text[i] == '{';
	}
	return n;
}

int qat_json_check(const char *text, int64_t length, const char *path)
{
	if (values_of(text, length) <= VALUES_LIMIT)
		return QAT_OK;
	return qat_fail(QAT_EFORMAT, "%s: JSON of more than %d values: no model has so many", path,
			VALUES_LIMIT);
}

int qat_json_load(json_t **out, const char *text, int64_t length, const char *path)
{
	json_error_t error;
	json_t *root;
	int rc = qat_json_check(text, length, path);

	if (rc)
		return rc;
	rc = qat_json_parse(&root, &error, text, length, JSON_REJECT_DUPLICATES);
	if (rc == QAT_ENOMEM)
		return qat_fail(rc, "%s: out of memory", path);
	if (rc)
		return qat_fail(rc, "%s:%d:%d: not the JSON it should be: %s", path, error.line,
				error.column, error.text);
	*out = root;
	return QAT_OK;
}

char *qat_path_join(const char *folder, const char *name)
{
	char *path;

	if (asprintf(&path, "%s/%s", folder, name) < 0) {
		qat_fail(QAT_ENOMEM, "%s/%s: out of memory", folder, name);
		return NULL;
	}
	return path;
}

int qat_path_has(const char *folder, const char *name)
{
	char path[PATH_MAX];
	struct stat st;
	const int n = snprintf(path, sizeof path, "%s/%s", folder, name);

	return n > 0 && n < (int)sizeof path && !stat(path, &st) && S_ISREG(st.st_mode);
}

int qat_path_is_folder(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISDIR(st.st_mode);
}

int qat_path_begins(const char *path, const void *bytes, int count)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char head[16];
	struct stat st;
	int begins;

	if (fd < 0)
		return 0;
	begins = !fstat(fd, &st) && S_ISREG(st.st_mode)
		&& read(fd, head, (size_t)count) == count && !memcmp(head, bytes, (size_t)count);
	close(fd);
	return begins;
}

int qat_name_is_plain(const char *name)
{
	return *name && !strchr(name, '/') && !strchr(name, '\\') && strcmp(name, ".")
		&& strcmp(name, "..");
}

/* ---- drafts ---- */

/* The path without slashes at its end, so that the temporary name lies beside it. */
static int draft_names(qat_draft *d, const char *path)
{
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')
		n--;
	*d = (qat_draft){ .path = strndup(path, n), .temp = malloc(n + 40) };
	if (d->path && d->temp)
		return QAT_OK;
	return qat_fail(QAT_ENOMEM, "%s: out of memory", path);
}

/* A crashed run may have left names behind; the next free one is taken. */
static int draft_create(qat_draft *d, int folder)
{
	for (int i = 0; i < TEMP_NAMES; i++) {
		snprintf(d->temp, strlen(d->path) + 40, "%s.tmp-%d-%d", d->path, (int)getpid(), i);
		if (folder)
			d->fd = mkdir(d->temp, 0777);
		else
			d->fd = open(d->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (d->fd >= 0) {
			d->is_open = 1;
			return QAT_OK;
		}
		if (errno != EEXIST)
			break;
	}
	return qat_fail(QAT_EIO, "%s: cannot create: %s", d->path, strerror(errno));
}

static void draft_free(qat_draft *d)
{
	free(d->path);
	free(d->temp);
	*d = (qat_draft){ 0 };
}

static int sync_folder(const char *path)
{
	const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = QAT_OK;

	/* Some file systems cannot sync a folder, and say EINVAL. */
	if (fd < 0 || (fsync(fd) && errno != EINVAL))
		rc = qat_fail(QAT_EIO, "%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return rc;
}

static int sync_parent(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *parent;
	int rc;

	if (!slash)
		return sync_folder(".");
	parent = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	if (!parent)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	rc = sync_folder(parent);
	free(parent);
	return rc;
}

int qat_draft_begin(qat_draft *d, const char *path)
{
	int rc = draft_names(d, path);

	if (!rc)
		rc = draft_create(d, 0);
	if (rc)
		draft_free(d);
	return rc;
}

int qat_draft_write(qat_draft *d, const void *data, int64_t bytes)
{
	const char *at = data;

	while (bytes > 0) {
		const size_t part = bytes < 1 << 30 ? (size_t)bytes : (size_t)1 << 30;
		const ssize_t n = write(d->fd, at, part);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return qat_fail(QAT_EIO, "%s: cannot write: %s", d->path, strerror(errno));
		at += n;
		bytes -= n;
	}
	return QAT_OK;
}

int qat_draft_commit(qat_draft *d)
{
	int bad = fsync(d->fd);

	bad |= close(d->fd);
	d->fd = -1;
	if (bad)
		return qat_fail(QAT_EIO, "%s: cannot write: %s", d->path, strerror(errno));
	if (rename(d->temp, d->path))
		return qat_fail(QAT_EIO, "%s: cannot rename to it: %s", d->path, strerror(errno));
	d->is_open = 0;
	return sync_parent(d->path);
}

void qat_draft_end(qat_draft *d)
{
	if (d->is_open && d->fd >= 0)
		close(d->fd);
	if (d->is_open)
		unlink(d->temp);
	draft_free(d);
}

static int folder_refuse(const char *path)
{
	struct stat st;

	if (lstat(path, &st))
		return QAT_OK;
	return qat_fail(QAT_EEXIST, "%s: exists already: remove it or choose another name", path);
}

int qat_folder_begin(qat_draft *d, const char *path)
{
	int rc = draft_names(d, path);

	if (!rc)
		rc = folder_refuse(d->path);
	if (!rc)
		rc = draft_create(d, 1);
	if (rc)
		draft_free(d);
	return rc;
}

int qat_folder_text(qat_draft *d, const char *name, qat_text text)
{
	qat_draft file = { 0 };
	char *path;
	int rc;

	if (!text.at)
		return QAT_OK;
	path = qat_path_join(d->temp, name);
	if (!path)
		return QAT_ENOMEM;
	rc = qat_draft_begin(&file, path);
	if (!rc)
		rc = qat_draft_write(&file, text.at, text.length);
	if (!rc)
		rc = qat_draft_commit(&file);
	qat_draft_end(&file);
	free(path);
	return rc;
}

int qat_folder_commit(qat_draft *d)
{
	int rc = sync_folder(d->temp);

	if (!rc)
		rc = folder_refuse(d->path);
	if (rc)
		return rc;
	if (rename(d->temp, d->path))
		return qat_fail(QAT_EIO, "%s: cannot rename to it: %s", d->path, strerror(errno));
	d->is_open = 0;
	return sync_parent(d->path);
}

static void folder_remove(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	rmdir(path);
}

void qat_folder_end(qat_draft *d)
{
	if (d->is_open)
		folder_remove(d->temp);
	draft_free(d);
}
