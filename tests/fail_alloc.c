/* fail_alloc.c - preloaded by test_alloc.sh: the nth allocation fails, and what is left at
 * the end is told.
 *   FAIL_ALLOC_AT=n          which one, from 1; 0: none
 *   FAIL_ALLOC_REPORT=FILE   at the end: "count N", then "SITE n" for each place that made
 *                            what was not freed
 * Libraries that cannot do without memory are left alone: they end the process themselves.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* glibc's own, behind the names that we take. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
extern void __libc_free(void *p);

#define API __attribute__((visibility("default")))
#define HERE ((uintptr_t)__builtin_return_address(0))

enum { LIVE = 1 << 20, PAGES = 1 << 12, SITES = 4096 };

static struct { void *p; uintptr_t site; } *live;	/* by address, open addressing */
static struct { uintptr_t page; int counts; } pages[PAGES];
static atomic_flag lock = ATOMIC_FLAG_INIT;
static long at = -1, count;
static int busy;		/* we are the ones who allocate */

static void acquire(void)
{
	while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire))
		;
}

static void release(void)
{
	atomic_flag_clear_explicit(&lock, memory_order_release);
}

/* Whether allocations of that place count: not those of libraries that give up. */
static int asks(uintptr_t site)
{
	static const char *const others[] = { "libgomp", "libdnnl", "libstdc++", "ld-linux",
					      "libpcre2", NULL };
	const uintptr_t page = site >> 12;
	const size_t i = page % PAGES;
	Dl_info info;

	if (pages[i].page == page)
		return pages[i].counts;
	pages[i].page = page;
	pages[i].counts = dladdr((void *)site, &info) && info.dli_fname;
	for (int k = 0; pages[i].counts && others[k]; k++)
		if (strstr(info.dli_fname, others[k]))
			pages[i].counts = 0;
	return pages[i].counts;
}

/* 1 if this allocation fails. Called with the lock. */
static int turn(uintptr_t site)
{
	const char *wanted;

	if (at < 0) {
		wanted = getenv("FAIL_ALLOC_AT");
		at = wanted ? atol(wanted) : 0;
		live = mmap(NULL, LIVE * sizeof *live, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	}
	return !busy && asks(site) && ++count == at;
}

static size_t slot_of(const void *p)
{
	return (size_t)(((uintptr_t)p >> 4) * 0x9e3779b97f4a7c15u >> 44) % LIVE;
}

static void *note(void *p, uintptr_t site)
{
	for (size_t i = slot_of(p); p && live != MAP_FAILED; i = (i + 1) % LIVE)
		if (!live[i].p || live[i].p == (void *)-1) {
			live[i].p = p;
			live[i].site = site;
			break;
		}
	return p;
}

static void forget(const void *p)
{
	for (size_t i = slot_of(p); p && live && live != MAP_FAILED && live[i].p; i = (i + 1) % LIVE)
		if (live[i].p == p) {
			live[i].p = (void *)-1;
			break;
		}
}

static void *get(void *(*make)(size_t a, size_t b), size_t a, size_t b, uintptr_t site)
{
	void *p = NULL;

	acquire();
	if (turn(site))
		errno = ENOMEM;
	else
		p = note(make(a, b), site);
	release();
	return p;
}

static void *plain(size_t size, size_t unused)
{
	(void)unused;
	return __libc_malloc(size);
}

API void *malloc(size_t size)
{
	return get(plain, size, 0, HERE);
}

API void *calloc(size_t n, size_t size)
{
	return get(__libc_calloc, n, size, HERE);
}

API void *aligned_alloc(size_t align, size_t size)
{
	return get(__libc_memalign, align, size, HERE);
}

API int posix_memalign(void **out, size_t align, size_t size)
{
	void *p = get(__libc_memalign, align, size, HERE);

	if (!p)
		return ENOMEM;
	*out = p;
	return 0;
}

API void *realloc(void *old, size_t size)
{
	const uintptr_t site = HERE;
	void *p = NULL;

	acquire();
	if (turn(site)) {
		errno = ENOMEM;
	} else {
		p = __libc_realloc(old, size);
		if (p || !size)
			forget(old);
		note(p, site);
	}
	release();
	return p;
}

API void free(void *p)
{
	acquire();
	forget(p);
	release();
	__libc_free(p);
}

/* ---- the report ---- */

static int by_site(const void *a, const void *b)
{
	const uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;

	return x < y ? -1 : x > y;
}

static void tell(FILE *f, uintptr_t site, long n)
{
	Dl_info info;
	const char *slash;

	if (!asks(site) || !dladdr((void *)site, &info))
		return;
	slash = strrchr(info.dli_fname, '/');
	/* the C library keeps some things for good; of what it makes for others, copies */
	if (slash && !strncmp(slash, "/libc.so", 8) &&
	    !(info.dli_sname && strstr(info.dli_sname, "strdup")))
		return;
	fprintf(f, "%s+0x%lx %ld\n", slash ? slash + 1 : info.dli_fname,
		(unsigned long)(site - (uintptr_t)info.dli_fbase), n);
}

static __attribute__((destructor)) void report(void)
{
	static uintptr_t sites[SITES];
	const char *path = getenv("FAIL_ALLOC_REPORT");
	size_t n = 0, from = 0;
	FILE *f;

	busy = 1;
	f = path && live && live != MAP_FAILED ? fopen(path, "w") : NULL;
	if (!f)
		return;
	fprintf(f, "count %ld\n", count);
	for (size_t i = 0; i < LIVE && n < SITES; i++)
		if (live[i].p && live[i].p != (void *)-1)
			sites[n++] = live[i].site;
	qsort(sites, n, sizeof *sites, by_site);
	for (size_t i = 1; i <= n; i++)
		if (i == n || sites[i] != sites[from]) {
			tell(f, sites[from], (long)(i - from));
			from = i;
		}
	fclose(f);
}
