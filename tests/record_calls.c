/* record_calls.c - preloaded by test_resume_power.sh: what a run of qat-run does to files,
 * in order, a line each to the file RECORD_CALLS, fields separated by tabs:
 *   create PATH      write PATH      sync PATH      rename PATH TO      folder PATH
 *   remove PATH      end
 * Paths are absolute. What stdio writes by itself goes past us; that it is put on the disk
 * does not.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))

enum { ROOM = 8192 };

static int record = -1;

__attribute__((constructor)) static void start(void)
{
	const char *path = getenv("RECORD_CALLS");

	if (path && strstr(program_invocation_short_name, "qat-run"))
		record = (int)syscall(SYS_openat, AT_FDCWD, path,
				      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

static void note(const char *what, const char *a, const char *b)
{
	const int error = errno;
	char line[3 * ROOM];
	int n;

	if (record >= 0) {
		n = snprintf(line, sizeof line, "%s\t%s%s%s\n", what, a, b ? "\t" : "", b ? b : "");
		if (syscall(SYS_write, record, line, n) != n)
			abort();
	}
	errno = error;
}

__attribute__((destructor)) static void end(void)
{
	note("end", "", NULL);
}

/* What a descriptor is open on. */
static void path_of(char out[ROOM], int fd)
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, out, ROOM - 1);
	out[n > 0 ? n : 0] = '\0';
}

static void absolute(char out[ROOM], int folder, const char *path)
{
	char in[ROOM];

	if (*path == '/')
		in[0] = '\0';
	else if (folder != AT_FDCWD)
		path_of(in, folder);
	else if (!getcwd(in, sizeof in))
		in[0] = '\0';
	if (snprintf(out, ROOM, "%s%s%s", in, *path == '/' ? "" : "/", path) >= ROOM)
		abort();
}

static void note_at(const char *what, int folder, const char *path)
{
	char full[ROOM];

	absolute(full, folder, path);
	note(what, full, NULL);
}

static void note_fd(const char *what, int fd)
{
	char path[ROOM];

	path_of(path, fd);
	if (path[0] == '/')
		note(what, path, NULL);
}

/* ---- the calls ---- */

static int open_at(int folder, const char *path, int flags, mode_t mode)
{
	struct stat st;
	const int fresh = (flags & O_CREAT) && fstatat(folder, path, &st, AT_SYMLINK_NOFOLLOW);
	const int fd = (int)syscall(SYS_openat, folder, path, flags, mode);

	if (fd >= 0 && fresh)
		note_at("create", folder, path);
	if (fd >= 0 && (flags & O_TRUNC))
		note_fd("write", fd);
	return fd;
}

#define MODE(flags) \
	mode_t mode = 0; \
	va_list ap; \
	va_start(ap, flags); \
	if (flags & O_CREAT) \
		mode = va_arg(ap, mode_t); \
	va_end(ap)

API int open(const char *path, int flags, ...)
{
	MODE(flags);
	return open_at(AT_FDCWD, path, flags, mode);
}

API int open64(const char *path, int flags, ...)
{
	MODE(flags);
	return open_at(AT_FDCWD, path, flags, mode);
}

API int openat(int folder, const char *path, int flags, ...)
{
	MODE(flags);
	return open_at(folder, path, flags, mode);
}

API int openat64(int folder, const char *path, int flags, ...)
{
	MODE(flags);
	return open_at(folder, path, flags, mode);
}

API ssize_t write(int fd, const void *data, size_t bytes)
{
	note_fd("write", fd);
	return syscall(SYS_write, fd, data, bytes);
}

API int fsync(int fd)
{
	const int rc = (int)syscall(SYS_fsync, fd);

	if (!rc)
		note_fd("sync", fd);
	return rc;
}

API int mkdir(const char *path, mode_t mode)
{
	const int rc = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);

	if (!rc)
		note_at("folder", AT_FDCWD, path);
	return rc;
}

API int rename(const char *from, const char *to)
{
	const int rc = (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
	char a[ROOM], b[ROOM];

	absolute(a, AT_FDCWD, from);
	absolute(b, AT_FDCWD, to);
	if (!rc)
		note("rename", a, b);
	return rc;
}

API int unlinkat(int folder, const char *path, int flags)
{
	const int rc = (int)syscall(SYS_unlinkat, folder, path, flags);

	if (!rc)
		note_at("remove", folder, path);
	return rc;
}

API int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

API int rmdir(const char *path)
{
	return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}
