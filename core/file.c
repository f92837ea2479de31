/* file.c - whole files that others may have put there. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"

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

static int read_open(char **out, size_t *length, int fd, const char *path, int64_t limit)
{
	struct stat st;
	char *text;
	int rc;

	if (fstat(fd, &st))
		return qat_fail(QAT_EIO, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return qat_fail(QAT_EINVAL, "%s: not a regular file", path);
	if (st.st_size > limit)
		return qat_fail(QAT_EFORMAT, "%s: %lld bytes are too many, at most %lld are read",
				path, (long long)st.st_size, (long long)limit);
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	rc = read_all(text, st.st_size, fd, path);
	if (rc) {
		free(text);
		return rc;
	}
	*out = text;
	*length = (size_t)st.st_size;
	return QAT_OK;
}

int qat_file_read(char **out, size_t *length, const char *path, int64_t limit)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int rc;

	if (fd < 0)
		return qat_fail(errno == ENOENT ? QAT_ENOTFOUND : QAT_EIO, "%s: %s", path,
				strerror(errno));
	rc = read_open(out, length, fd, path, limit);
	close(fd);
	return rc;
}
