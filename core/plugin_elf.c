/* plugin_elf.c - what can be known of a shared object before it is opened.
 *
 * dlopen maps segments without looking whether the file has them: one that was cut short
 * kills the process with SIGBUS. And it runs constructors: so the file must be one that
 * nobody but root and the user can have written.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "plugin.h"

enum { SEGMENTS_MAX = 128 };

/* Our own header, which says what machine this is. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

static int check_owner(const char *path, const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return qat_fail(QAT_EABI, "%s: not a regular file", path);
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return qat_fail(QAT_EABI, "%s: belongs to user %ld: it must be yours or root's",
				path, (long)st->st_uid);
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return qat_fail(QAT_EABI, "%s: others may write it (mode %03o): chmod go-w",
				path, (unsigned)(st->st_mode & 0777));
	return QAT_OK;
}

/* Who may write a folder may put another file in the place of ours. In one above it, a
 * sticky bit (/tmp) keeps others from what is not theirs. */
static int check_folder(const char *folder, const char *path, int above)
{
	struct stat st;

	if (stat(folder, &st))
		return qat_fail(QAT_EIO, "%s: %s", folder, strerror(errno));
	if (!above && st.st_uid != 0 && st.st_uid != geteuid())
		return qat_fail(QAT_EABI, "%s: its folder belongs to user %ld: it must be yours or "
				"root's", path, (long)st.st_uid);
	if ((st.st_mode & S_IWOTH) && !(above && (st.st_mode & S_ISVTX)))
		return qat_fail(QAT_EABI, "%s: anybody may write the folder %s (mode %03o): "
				"chmod o-w", path, folder, (unsigned)(st.st_mode & 0777));
	return QAT_OK;
}

/* The folder of a path that is absolute, and all folders above. */
static int check_folders(const char *absolute, const char *path)
{
	char folder[PATH_MAX];
	int rc = QAT_OK;

	if (strlen(absolute) >= sizeof folder)
		return qat_fail(QAT_EINVAL, "%s: the path is too long", path);
	strcpy(folder, absolute);
	for (int above = 0; !rc && strcmp(folder, "/"); above = 1) {
		char *slash = strrchr(folder, '/');

		slash[slash == folder] = '\0';
		rc = check_folder(folder, path, above);
	}
	return rc;
}

/* Where the search found it, and where it lies if that was a link. */
static int check_place(const char *path)
{
	int rc = *path == '/' ? check_folders(path, path) : QAT_OK;
	char *real;

	if (rc || *path != '/')
		return rc;
	real = realpath(path, NULL);
	if (!real)
		return qat_fail(errno == ENOMEM ? QAT_ENOMEM : QAT_EIO, "%s: %s", path,
				strerror(errno));
	if (strcmp(real, path))
		rc = check_folders(real, path);
	free(real);
	return rc;
}

static int check_header(const char *path, const ElfW(Ehdr) *h, int64_t size)
{
	const ElfW(Ehdr) *own = &__ehdr_start;

	if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0)
		return qat_fail(QAT_EABI, "%s: not an ELF file", path);
	if (h->e_ident[EI_CLASS] != own->e_ident[EI_CLASS])
		return qat_fail(QAT_EABI, "%s: built for %d-bit machines, this is %d-bit", path,
				h->e_ident[EI_CLASS] == ELFCLASS32 ? 32 : 64,
				(int)(8 * sizeof(void *)));
	if (h->e_ident[EI_DATA] != own->e_ident[EI_DATA])
		return qat_fail(QAT_EABI, "%s: built for the other byte order", path);
	if (h->e_machine != own->e_machine)
		return qat_fail(QAT_EABI, "%s: built for another machine (ELF number %u, this "
				"is %u)", path, h->e_machine, own->e_machine);
	if (h->e_type != ET_DYN)
		return qat_fail(QAT_EABI, "%s: not a shared object (ELF type %u)", path,
				h->e_type);
	if (h->e_phentsize != sizeof(ElfW(Phdr)) || !h->e_phnum || h->e_phnum > SEGMENTS_MAX)
		return qat_fail(QAT_EABI, "%s: damaged: %u program headers of %u bytes", path,
				h->e_phnum, h->e_phentsize);
	if (h->e_phoff > (uint64_t)size ||
	    h->e_phnum * sizeof(ElfW(Phdr)) > (uint64_t)size - h->e_phoff)
		return qat_fail(QAT_EABI, "%s: cut short: its program headers lie past the end",
				path);
	return QAT_OK;
}

static int check_segments(const char *path, const ElfW(Phdr) *p, int count, uint64_t size)
{
	int loads = 0, dynamic = 0;

	for (int i = 0; i < count; i++) {
		if (p[i].p_type == PT_LOAD && p[i].p_filesz > p[i].p_memsz)
			return qat_fail(QAT_EABI, "%s: damaged: segment %d is larger in the file "
					"than in memory", path, i);
		if (p[i].p_filesz && (p[i].p_offset > size ||
				      p[i].p_filesz > size - p[i].p_offset))
			return qat_fail(QAT_EABI, "%s: cut short: segment %d lies past the end, "
					"the file has %llu bytes", path, i,
					(unsigned long long)size);
		loads += p[i].p_type == PT_LOAD;
		dynamic += p[i].p_type == PT_DYNAMIC;
	}
	if (!loads || !dynamic)
		return qat_fail(QAT_EABI, "%s: damaged: nothing in it to load", path);
	return QAT_OK;
}

static int check_fd(const char *path, int fd)
{
	ElfW(Phdr) segments[SEGMENTS_MAX];
	ElfW(Ehdr) header;
	struct stat st;
	ssize_t bytes;
	int rc;

	if (fstat(fd, &st))
		return qat_fail(QAT_EIO, "%s: %s", path, strerror(errno));
	rc = check_owner(path, &st);
	if (rc)
		return rc;
	if (pread(fd, &header, sizeof header, 0) != (ssize_t)sizeof header)
		return qat_fail(QAT_EABI, "%s: not an ELF file: %lld bytes", path,
				(long long)st.st_size);
	rc = check_header(path, &header, st.st_size);
	if (rc)
		return rc;
	bytes = (ssize_t)(header.e_phnum * sizeof *segments);
	if (pread(fd, segments, (size_t)bytes, (off_t)header.e_phoff) != bytes)
		return qat_fail(QAT_EIO, "%s: cannot read its program headers", path);
	return check_segments(path, segments, header.e_phnum, (uint64_t)st.st_size);
}

int qat_elf_check(const char *path)
{
	/* a pipe of that name must not hold us up */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;

	if (fd < 0)
		return qat_fail(errno == ENOENT ? QAT_ENOTFOUND : QAT_EIO, "%s: %s", path,
				strerror(errno));
	rc = check_fd(path, fd);
	if (!rc)
		rc = check_place(path);
	close(fd);
	return rc;
}
