/* tracker_files.c - see tracker_files.h. */
#include "tracker_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"

enum { DEPTH_MAX = 8, PATH_ROOM = 4096 };

/* A walk through a folder; `path` is where it is. */
struct walk {
	json_t *mark;
	int (*file)(struct walk *w, int in, const char *name);
	int sync;
	size_t top;		/* of `path`: the folder itself */
	char path[PATH_ROOM];
};

static int failed(const struct walk *w)
{
	return qat_fail(QAT_EIO, "%s: %s", w->path, strerror(errno));
}

static int walk_folder(struct walk *w, int fd, int depth);

static int walk_entry(struct walk *w, int in, const char *name, int depth)
{
	const size_t length = strlen(w->path);
	struct stat st;
	int rc = QAT_OK, fd;

	if (length + strlen(name) + 2 > sizeof w->path)
		return qat_fail(QAT_EIO, "%s: a path below it is too long", w->path);
	w->path[length] = '/';
	strcpy(w->path + length + 1, name);
	if (fstatat(in, name, &st, AT_SYMLINK_NOFOLLOW)) {
		rc = failed(w);
	} else if (S_ISREG(st.st_mode)) {
		rc = w->file(w, in, name);
	} else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX) {
		fd = openat(in, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		rc = fd < 0 ? failed(w) : walk_folder(w, fd, depth + 1);
	}
	w->path[length] = '\0';
	return rc;
}

/* Takes fd. */
static int walk_folder(struct walk *w, int fd, int depth)
{
	DIR *d = fdopendir(fd);
	const struct dirent *e;
	int rc = QAT_OK;

	if (!d) {
		rc = failed(w);
		close(fd);
		return rc;
	}
	while (!rc && (e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			rc = walk_entry(w, fd, e->d_name, depth);
	/* some file systems cannot do that to a folder, and say EINVAL */
	if (!rc && w->sync && fsync(fd) && errno != EINVAL)
		rc = failed(w);
	closedir(d);
	return rc;
}

static int walk(struct walk *w, const char *folder)
{
	const size_t n = strlen(folder);
	int fd;

	if (n >= sizeof w->path)
		return qat_fail(QAT_EIO, "%s: the path is too long", folder);
	memcpy(w->path, folder, n + 1);
	w->top = n + 1;
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? QAT_OK : failed(w);
	return walk_folder(w, fd, 0);
}

/* ---- the mark ---- */

static int note_file(struct walk *w, int in, const char *name)
{
	const int fd = openat(in, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int rc = QAT_OK;

	if (fd < 0 || fsync(fd) || fstat(fd, &st))
		rc = failed(w);
	else if (json_object_set_new(w->mark, w->path + w->top, json_integer(st.st_size)))
		rc = qat_fail(QAT_ENOMEM, "%s: out of memory, or a name that is not UTF-8",
			      w->path);
	if (fd >= 0)
		close(fd);
	return rc;
}

int qat_tracker_files_mark(json_t **out, const char *folder)
{
	struct walk w = { .mark = json_object(), .file = note_file, .sync = 1 };
	const int rc = w.mark ? walk(&w, folder) : qat_fail(QAT_ENOMEM, "out of memory");

	if (rc)
		json_decref(w.mark);
	else
		*out = w.mark;
	return rc;
}

/* ---- going back to it ---- */

static int cut_file(struct walk *w, int in, const char *name)
{
	const json_t *then = json_object_get(w->mark, w->path + w->top);
	const json_int_t bytes = json_integer_value(then);
	struct stat st;
	int fd, bad;

	if (!json_is_integer(then) || bytes < 0)
		return unlinkat(in, name, 0) ? failed(w) : QAT_OK;
	fd = openat(in, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	bad = fd < 0 || fstat(fd, &st) || (st.st_size > bytes && ftruncate(fd, bytes));
	bad = bad ? failed(w) : QAT_OK;
	if (!bad && st.st_size < bytes)
		bad = qat_fail(QAT_EIO, "%s: %lld of %lld bytes are there", w->path,
			       (long long)st.st_size, (long long)bytes);
	if (fd >= 0)
		close(fd);
	return bad;
}

int qat_tracker_files_cut(const char *folder, const json_t *mark)
{
	struct walk w = { .mark = (json_t *)(uintptr_t)mark, .file = cut_file };

	return walk(&w, folder);
}
