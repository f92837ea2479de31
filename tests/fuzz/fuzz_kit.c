/* fuzz_kit.c - files in memory, and a host for plugins. */
#include "kinds.h"
#include "fuzz.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ir.h"
#include "plugin.h"
#include "plugin_internal.h"

void fuzz_broken(const char *what, const char *file, int line)
{
	fprintf(stderr, "%s:%d: does not hold: %s (last message: %s)\n", file, line, what,
		qat_error());
	abort();
}

void fuzz_touch(const void *data, size_t size)
{
	static volatile unsigned char sum;
	const unsigned char *at = data;

	for (size_t i = 0; i < size; i++)
		sum = (unsigned char)(sum + at[i]);
}

static void write_all(int fd, const void *data, size_t size)
{
	fuzz_assert(!ftruncate(fd, 0));
	fuzz_assert(pwrite(fd, data, size, 0) == (ssize_t)size);
}

static int memory_file(char path[64])
{
	const int fd = memfd_create("fuzz", MFD_CLOEXEC);

	fuzz_assert(fd >= 0 && !fchmod(fd, 0600));
	snprintf(path, 64, "/proc/self/fd/%d", fd);
	return fd;
}

const char *fuzz_file(const uint8_t *data, size_t size)
{
	static char path[64];
	static int fd = -1;

	if (fd < 0)
		fd = memory_file(path);
	write_all(fd, data, size);
	return path;
}

/* ---- a folder ---- */

static char folder[64];

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

static void remove_folder(void)
{
	nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_folder(void)
{
	static const char *const places[] = { "/dev/shm/qatrun-XXXXXX", "/tmp/qatrun-XXXXXX" };

	for (int i = 0; i < 2 && !*folder; i++) {
		strcpy(folder, places[i]);
		if (!mkdtemp(folder))
			*folder = '\0';
		else
			atexit(remove_folder);
	}
	fuzz_assert(*folder);
	return folder;
}

/* A link to a file in memory, as files in folders are slow to write. */
void fuzz_put(const char *name, const void *data, size_t size)
{
	static struct { char name[64]; int fd; } files[8];
	char path[256], memory[64];
	int i = 0;

	while (files[i].fd && strcmp(files[i].name, name))
		fuzz_assert(++i < 8);
	if (!files[i].fd) {
		files[i].fd = memory_file(memory);
		snprintf(files[i].name, sizeof files[i].name, "%s", name);
		snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
		fuzz_assert(!symlink(memory, path));
	}
	write_all(files[i].fd, data, size);
}

/* ---- plugins ---- */

const qat_interface *fuzz_interface(const qat_plugin *p)
{
	fuzz_assert(!qat_host_service_set("graph", &qat_ir_api));
	fuzz_assert(!p->init || !p->init(&qat_host_table));
	return p->interfaces[0];
}

char *fuzz_text(const uint8_t **at, size_t *left)
{
	const uint8_t *end;
	size_t n;
	char *text;

	if (!*left)
		return NULL;
	end = memchr(*at, 0, *left);
	n = end ? (size_t)(end - *at) : *left;
	text = strndup((const char *)*at, n);
	fuzz_assert(text);
	n += end != NULL;
	*at += n;
	*left -= n;
	return text;
}
