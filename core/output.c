/* output.c - the folder of a run. */
#include "output.h"

#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "results.h"

enum { DEPTH_MAX = 16, PATH_ROOM = 4096 };

#define MADE "# Made by qat-run "	/* how our pipeline.yaml begins */

struct qat_output {
	char *path;
	int folder, lock;	/* file descriptors */
};

/* What a run makes, beside the lock. */
static const char *const ours[] = {
	"pipeline.yaml", "pipeline.yaml.new", "finished.json", "finished.json.new", "checkpoints",
	"results.json", "results.json.new", "events.jsonl", "states", NULL
};

/* --- what is there --- */

static int made_by_run(int folder)
{
	char text[sizeof MADE - 1];
	int fd = openat(folder, "pipeline.yaml", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int made;

	if (fd < 0)
		return 0;
	made = read(fd, text, sizeof text) == (ssize_t)sizeof text &&
		!memcmp(text, MADE, sizeof text);
	close(fd);
	return made;
}

/* What may be there of a run that was killed before it had done anything. */
static int is_nothing(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..") || !strcmp(name, "lock") ||
		!strcmp(name, "pipeline.yaml.new");
}

/* 1 where there is something beside the lock, 0 where not, or an error. */
static int occupied(int folder, const char *path)
{
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), found = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return qat_fail(QAT_EIO, "%s: %s", path, strerror(errno));
	}
	while (!found && (e = readdir(d)))
		found = !is_nothing(e->d_name);
	closedir(d);
	return found;
}

static int check(int folder, const char *path, int how)
{
	int rc = occupied(folder, path);

	if (rc <= 0)
		return rc;
	if (how == QAT_OUTPUT_NEW)
		return qat_fail(QAT_EEXIST, "%s is not empty: --force replaces what an earlier run "
				"left there, --resume goes on with it, or name another output",
				path);
	if (!made_by_run(folder))
		return qat_fail(QAT_EEXIST, "%s is not empty, and no run made it (its "
				"pipeline.yaml would say so): name another output", path);
	return QAT_OK;
}

int qat_output_check(const char *path, int how)
{
	int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	if (folder < 0 && errno == ENOENT)
		return QAT_OK;
	if (folder < 0)
		return qat_fail(errno == ENOTDIR ? QAT_EEXIST : QAT_EIO, "%s: %s", path,
				strerror(errno));
	rc = check(folder, path, how);
	close(folder);
	return rc;
}

/* --- emptying --- */

static int remove_entry(int folder, const char *name, int depth);

static int remove_content(int fd, const char *name, int depth)
{
	DIR *d = fdopendir(fd);
	const struct dirent *e;
	int rc = QAT_OK;

	if (!d) {
		close(fd);
		return qat_fail(QAT_EIO, "%s: %s", name, strerror(errno));
	}
	while (!rc && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			rc = remove_entry(dirfd(d), e->d_name, depth + 1);
	}
	closedir(d);
	return rc;
}

/* Removes a file, a link itself, or a folder with all that is in it. */
static int remove_entry(int folder, const char *name, int depth)
{
	int fd, rc;

	if (!unlinkat(folder, name, 0) || errno == ENOENT)
		return QAT_OK;
	if (errno != EISDIR && errno != EPERM)
		return qat_fail(QAT_EIO, "%s: cannot be removed: %s", name, strerror(errno));
	if (depth == DEPTH_MAX)
		return qat_fail(QAT_EIO, "%s: cannot be removed: too many folders in each other",
				name);
	fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return qat_fail(QAT_EIO, "%s: cannot be removed: %s", name, strerror(errno));
	rc = remove_content(fd, name, depth);
	if (!rc && unlinkat(folder, name, AT_REMOVEDIR))
		rc = qat_fail(QAT_EIO, "%s: cannot be removed: %s", name, strerror(errno));
	return rc;
}

int qat_path_remove(const char *path)
{
	return remove_entry(AT_FDCWD, path, 0);
}

/* pipeline.yaml goes last: while it is there, the rest is known to be a run's. */
static int empty(int folder)
{
	int rc = QAT_OK;

	for (int i = 1; !rc && ours[i]; i++)
		rc = remove_entry(folder, ours[i], 0);
	return rc ? rc : remove_entry(folder, ours[0], 0);
}

/* --- the lock --- */

static int in_use(int fd, const char *path)
{
	char text[32] = "";
	ssize_t n = pread(fd, text, sizeof text - 1, 0);
	long pid = n > 0 ? strtol(text, NULL, 10) : 0;

	if (pid > 0)
		return qat_fail(QAT_EEXIST, "%s is in use by process %ld", path, pid);
	return qat_fail(QAT_EEXIST, "%s is in use by another process", path);
}

/* 1 if the locked file is still the one of that name: whoever had it may have removed it
 * between our open and our lock. */
static int still_there(int folder, int fd)
{
	struct stat a, b;

	return !fstat(fd, &a) && !fstatat(folder, "lock", &b, AT_SYMLINK_NOFOLLOW) &&
		a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static int lock(qat_output *o)
{
	for (;;) {
		o->lock = openat(o->folder, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
				 0666);
		if (o->lock < 0)
			return qat_fail(QAT_EIO, "%s/lock: %s", o->path, strerror(errno));
		if (flock(o->lock, LOCK_EX | LOCK_NB)) {
			if (errno == EWOULDBLOCK)
				return in_use(o->lock, o->path);
			return qat_fail(QAT_EIO, "%s/lock: %s", o->path, strerror(errno));
		}
		if (still_there(o->folder, o->lock))
			break;
		close(o->lock);
	}
	if (ftruncate(o->lock, 0) || dprintf(o->lock, "%ld\n", (long)getpid()) < 0)
		return qat_fail(QAT_EIO, "%s/lock: %s", o->path, strerror(errno));
	return QAT_OK;
}

/* --- open, close --- */

/* What lies in a folder is lost with its name. */
static int make_folder(const char *path)
{
	if (!mkdir(path, 0777))
		return qat_folder_sync(path);
	return errno == EEXIST ? QAT_OK : qat_fail(QAT_EIO, "%s: %s", path, strerror(errno));
}

static int make_folders(const char *path)
{
	char part[PATH_ROOM];
	size_t n = strlen(path);
	int rc = QAT_OK;

	if (!n || n >= sizeof part)
		return qat_fail(QAT_EINVAL, "%s: the path is too long", path);
	memcpy(part, path, n + 1);
	for (size_t i = 1; i <= n && !rc; i++) {
		if (part[i] && part[i] != '/')
			continue;
		part[i] = 0;
		rc = make_folder(part);
		part[i] = path[i];
	}
	return rc;
}

static int open_folder(qat_output *o, const char *path)
{
	int rc = make_folders(path);

	if (rc)
		return rc;
	o->path = realpath(path, NULL);
	o->folder = o->path ? open(o->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (o->folder < 0)
		return qat_fail(QAT_EIO, "%s: %s", path, strerror(errno));
	return QAT_OK;
}

int qat_output_open(qat_output **out, const char *path, int how)
{
	qat_output *o = calloc(1, sizeof *o);
	int rc;

	if (!o)
		return qat_fail(QAT_ENOMEM, "out of memory");
	o->folder = o->lock = -1;
	rc = open_folder(o, path);
	if (!rc)
		rc = check(o->folder, o->path, QAT_OUTPUT_REPLACE);	/* else there is nothing of ours to lock */
	if (!rc)
		rc = lock(o);
	if (!rc)
		rc = check(o->folder, o->path, how);
	if (!rc && how == QAT_OUTPUT_REPLACE)
		rc = empty(o->folder);
	if (rc) {
		qat_output_close(o);
		return rc;
	}
	*out = o;
	return QAT_OK;
}

void qat_output_close(qat_output *o)
{
	if (!o)
		return;
	if (o->lock >= 0) {
		if (!flock(o->lock, LOCK_EX | LOCK_NB) && still_there(o->folder, o->lock))
			unlinkat(o->folder, "lock", 0);
		close(o->lock);
	}
	if (o->folder >= 0)
		close(o->folder);
	free(o->path);
	free(o);
}

int qat_output_remove(const qat_output *o, const char *name)
{
	return remove_entry(o->folder, name, 0);
}

const char *qat_output_path(const qat_output *o)
{
	return o->path;
}

int qat_output_store(const qat_output *o, const qat_yaml_node *root)
{
	char path[PATH_ROOM], *text = NULL;
	size_t bytes = 0;
	FILE *file;
	int rc;

	if (snprintf(path, sizeof path, "%s/pipeline.yaml", o->path) >= PATH_ROOM)
		return qat_fail(QAT_EIO, "%s: the path is too long", o->path);
	file = open_memstream(&text, &bytes);
	if (!file)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	fprintf(file, MADE "%s: the pipeline as it was run, which can be run again.\n",
		PACKAGE_VERSION);
	rc = qat_yaml_write(file, root);
	/* glibc may find no room for the text and say nothing: then it is NULL */
	if ((fclose(file) || !text) && !rc)
		rc = qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	if (!rc)
		rc = qat_file_replace(path, text, (int64_t)bytes);
	free(text);
	return rc;
}

/* --- the wish to stop --- */

static volatile sig_atomic_t stops;

static void on_signal(int number)
{
	if (stops && number == SIGINT)
		_exit(130);
	stops = 1;
}

static const struct { int number; void (*handler)(int); } caught[] = {
	{ SIGPIPE, SIG_IGN },		/* a reader that leaves does not end a run */
	{ SIGXFSZ, SIG_IGN },		/* a file too large is an error of the write */
	{ SIGINT, on_signal },
	{ SIGTERM, on_signal }
};

static struct sigaction before[sizeof caught / sizeof *caught];

void qat_signals_catch(void)
{
	for (size_t i = 0; i < sizeof caught / sizeof *caught; i++) {
		struct sigaction a = { .sa_handler = caught[i].handler, .sa_flags = SA_RESTART };

		sigemptyset(&a.sa_mask);
		sigaction(caught[i].number, &a, &before[i]);
	}
}

void qat_signals_restore(void)
{
	for (size_t i = 0; i < sizeof caught / sizeof *caught; i++)
		sigaction(caught[i].number, &before[i], NULL);
}

int qat_stopped(void)
{
	return stops != 0;
}
