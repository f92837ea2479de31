/* memory.c - memory of backend cpu: host memory, in huge pages where it is large. */
#include "cpu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGNMENT = 64 };
#define HUGE_PAGE ((int64_t)2 << 20)
#define LARGE (2 * HUGE_PAGE)

struct qat_memory {
	char *data;
	int64_t bytes;
	void *base;		/* what was allocated; NULL: imported, not to be written */
	int64_t mapped;		/* bytes mapped at base, 0: from the heap */
};

static int out_of_memory(int64_t bytes)
{
	return qat_fail(QAT_ENOMEM, "cpu: no memory for %lld MiB: a smaller batch, or length, "
			"needs less", (long long)(bytes >> 20));
}

/* Pages come zeroed. They start at a huge page's border, so that all can be huge. */
static int map_pages(qat_memory *m, int huge)
{
	const int64_t room = m->bytes + HUGE_PAGE;
	void *p = mmap(NULL, (size_t)room, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return out_of_memory(m->bytes);
	m->base = p;
	m->mapped = room;
	m->data = (char *)(((uintptr_t)p + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
#ifdef MADV_HUGEPAGE
	if (huge)
		madvise(m->data, (size_t)m->bytes, MADV_HUGEPAGE);
#else
	(void)huge;
#endif
	return QAT_OK;
}

static int from_heap(qat_memory *m, uint32_t use)
{
	const size_t room = (size_t)((m->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);

	m->base = m->data = aligned_alloc(ALIGNMENT, room ? room : ALIGNMENT);
	if (!m->data)
		return out_of_memory(m->bytes);
	if (use == QAT_MEM_STATE)
		memset(m->data, 0, room);
	return QAT_OK;
}

int qat_cpu_alloc(void *device, qat_memory **out, int64_t bytes, uint32_t use)
{
	const qat_cpu *cpu = device;
	qat_memory *m;
	int rc;

	if (bytes < 0 || bytes > INT64_MAX / 2)
		return qat_fail(QAT_EINVAL, "cpu: %lld bytes of memory asked for",
				(long long)bytes);
	m = calloc(1, sizeof *m);
	if (!m)
		return out_of_memory(bytes);
	m->bytes = bytes;
	rc = bytes >= LARGE ? map_pages(m, cpu->huge_pages) : from_heap(m, use);
	if (rc) {
		free(m);
		return rc;
	}
	*out = m;
	return QAT_OK;
}

int qat_cpu_import(void *device, qat_memory **out, const void *data, int64_t bytes)
{
	qat_memory *m;

	(void)device;
	if (bytes < 0 || (!data && bytes))
		return qat_fail(QAT_EINVAL, "cpu: nothing to import");
	m = calloc(1, sizeof *m);
	if (!m)
		return out_of_memory((int64_t)sizeof *m);
	m->data = (char *)(uintptr_t)data;
	m->bytes = bytes;
	*out = m;
	return QAT_OK;
}

void qat_cpu_free(void *device, qat_memory *m)
{
	(void)device;
	if (!m)
		return;
	if (m->mapped)
		munmap(m->base, (size_t)m->mapped);
	else
		free(m->base);
	free(m);
}

void *qat_cpu_at(const qat_memory *m, int64_t offset, int64_t bytes)
{
	if (!m || offset < 0 || bytes < 0 || offset > m->bytes || bytes > m->bytes - offset)
		return NULL;
	return m->data + offset;
}

static int outside(const char *verb, const qat_memory *m, int64_t offset, int64_t bytes)
{
	return qat_fail(QAT_EINVAL, "cpu: %s of %lld bytes at %lld is outside a memory of %lld",
			verb, (long long)bytes, (long long)offset, (long long)(m ? m->bytes : 0));
}

int qat_cpu_write(void *device, qat_memory *m, int64_t offset, const void *data, int64_t bytes)
{
	void *to = qat_cpu_at(m, offset, bytes);

	(void)device;
	if (!to)
		return outside("write", m, offset, bytes);
	if (!m->base)
		return qat_fail(QAT_EINVAL, "cpu: imported memory is read-only");
	if (bytes)
		memcpy(to, data, (size_t)bytes);
	return QAT_OK;
}

int qat_cpu_read(void *device, void *data, qat_memory *m, int64_t offset, int64_t bytes)
{
	const void *from = qat_cpu_at(m, offset, bytes);

	(void)device;
	if (!from)
		return outside("read", m, offset, bytes);
	if (bytes)
		memcpy(data, from, (size_t)bytes);
	return QAT_OK;
}

void *qat_cpu_map(void *device, qat_memory *m)
{
	(void)device;
	return m ? m->data : NULL;
}
