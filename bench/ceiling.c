/* ceiling.c - what this processor multiplies at most, from registers: the figure that
 * products of matrices are measured against.
 *
 * Prints a line for each kind and number of threads: kind, threads, 1e9 operations a
 * second (a multiplication and an addition are two), instructions. The best of several
 * short runs, as neighbours of a virtual machine come and go.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { THREADS_MAX = 256, RUNS = 8, BATCH = 2000, SUMS = 16 };

static const double run_seconds = 0.06;

typedef struct kernel {
	const char *kind, *name;
	int (*available)(void);
	double (*run)(void);		/* BATCH rounds; operations done */
} kernel;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- kernels: SUMS independent sums hide the latency of an instruction ---- */

static _Thread_local volatile float sink;

static int always(void)
{
	return 1;
}

/* Whatever the compiler makes of four floats. */
static double plain_f32(void)
{
	typedef float vec __attribute__((vector_size(16)));
	vec s[8] = { 0 }, x = { 0.5f, 0.5f, 0.5f, 0.5f };

	for (int i = 0; i < BATCH; i++)
#pragma GCC unroll 8
		for (int k = 0; k < 8; k++) {
			s[k] = s[k] * x + x;
			__asm__ volatile("" : "+x"(s[k]));
		}
#pragma GCC unroll 8
	for (int k = 0; k < 8; k++)
		sink = s[k][0];
	return (double)BATCH * 8 * 4 * 2;
}

#ifdef __x86_64__
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TARGET(set) __attribute__((target(set)))

static int has_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static int has_avx512(void)
{
	return __builtin_cpu_supports("avx512f");
}

static int has_bf16(void)
{
	return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

static int has_vnni(void)
{
	return has_avx512() && __builtin_cpu_supports("avx512vnni");
}

TARGET("avx2,fma") static double avx2_f32(void)
{
	__m256 s[12], x = _mm256_set1_ps(0.5f);

#pragma GCC unroll 12
	for (int k = 0; k < 12; k++)
		s[k] = x;
	for (int i = 0; i < BATCH; i++)
#pragma GCC unroll 12
		for (int k = 0; k < 12; k++) {
			s[k] = _mm256_fmadd_ps(s[k], x, x);
			__asm__ volatile("" : "+x"(s[k]));
		}
#pragma GCC unroll 12
	for (int k = 0; k < 12; k++)
		sink = _mm256_cvtss_f32(s[k]);
	return (double)BATCH * 12 * 8 * 2;
}

TARGET("avx512f") static double avx512_f32(void)
{
	__m512 s[SUMS], x = _mm512_set1_ps(0.5f);

#pragma GCC unroll 16
	for (int k = 0; k < SUMS; k++)
		s[k] = x;
	for (int i = 0; i < BATCH; i++)
#pragma GCC unroll 16
		for (int k = 0; k < SUMS; k++) {
			s[k] = _mm512_fmadd_ps(s[k], x, x);
			__asm__ volatile("" : "+v"(s[k]));
		}
#pragma GCC unroll 16
	for (int k = 0; k < SUMS; k++)
		sink = _mm512_cvtss_f32(s[k]);
	return (double)BATCH * SUMS * 16 * 2;
}

TARGET("avx512f,avx512bf16") static double avx512_bf16(void)
{
	__m512 s[SUMS];
	__m512i bits = _mm512_set1_epi16(0x3c00);
	__m512bh x;

	memcpy(&x, &bits, sizeof x);
#pragma GCC unroll 16
	for (int k = 0; k < SUMS; k++)
		s[k] = _mm512_setzero_ps();
	for (int i = 0; i < BATCH; i++)
#pragma GCC unroll 16
		for (int k = 0; k < SUMS; k++) {
			s[k] = _mm512_dpbf16_ps(s[k], x, x);
			__asm__ volatile("" : "+v"(s[k]));
		}
#pragma GCC unroll 16
	for (int k = 0; k < SUMS; k++)
		sink = _mm512_cvtss_f32(s[k]);
	return (double)BATCH * SUMS * 32 * 2;
}

TARGET("avx512f,avx512vnni") static double avx512_int8(void)
{
	__m512i s[SUMS], x = _mm512_set1_epi8(3);

#pragma GCC unroll 16
	for (int k = 0; k < SUMS; k++)
		s[k] = x;
	for (int i = 0; i < BATCH; i++)
#pragma GCC unroll 16
		for (int k = 0; k < SUMS; k++) {
			s[k] = _mm512_dpbusd_epi32(s[k], x, x);
			__asm__ volatile("" : "+v"(s[k]));
		}
#pragma GCC unroll 16
	for (int k = 0; k < SUMS; k++)
		sink = (float)_mm512_cvtsi512_si32(s[k]);
	return (double)BATCH * SUMS * 64 * 2;
}

/* ---- tiles ---- */

typedef struct tile_config {
	uint8_t palette, start, reserved[14];
	uint16_t bytes[16];
	uint8_t rows[16];
} tile_config;

/* The system gives a process the tiles only when asked. */
static int tiles_granted(void)
{
	enum { ARCH_REQ_XCOMP_PERM_ = 0x1023, XFEATURE_TILEDATA = 18 };

	return !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM_, XFEATURE_TILEDATA);
}

static int has_tile_bf16(void)
{
	return __builtin_cpu_supports("amx-bf16") && tiles_granted();
}

static int has_tile_int8(void)
{
	return __builtin_cpu_supports("amx-int8") && tiles_granted();
}

/* Full tiles of 16 rows x 64 bytes, all zero. gcc 12 mistakes the size of what
 * _tile_loadconfig reads, hence the asm. */
TARGET("amx-tile") static void tiles_begin(void)
{
	static const uint8_t zeros[16 * 64];
	tile_config c = { .palette = 1 };

	for (int i = 0; i < 8; i++) {
		c.bytes[i] = 64;
		c.rows[i] = 16;
	}
	__asm__ volatile("ldtilecfg %0" :: "m"(c));
	_tile_zero(0);
	_tile_zero(1);
	_tile_zero(2);
	_tile_zero(3);
	_tile_loadd(4, zeros, 64);
	_tile_loadd(5, zeros, 64);
	_tile_loadd(6, zeros, 64);
	_tile_loadd(7, zeros, 64);
}

TARGET("amx-tile,amx-bf16") static double tile_bf16(void)
{
	tiles_begin();
	for (int i = 0; i < BATCH; i++) {
		_tile_dpbf16ps(0, 4, 6);
		_tile_dpbf16ps(1, 4, 7);
		_tile_dpbf16ps(2, 5, 6);
		_tile_dpbf16ps(3, 5, 7);
	}
	_tile_release();
	return (double)BATCH * 4 * 16 * 16 * 32 * 2;
}

TARGET("amx-tile,amx-int8") static double tile_int8(void)
{
	tiles_begin();
	for (int i = 0; i < BATCH; i++) {
		_tile_dpbssd(0, 4, 6);
		_tile_dpbssd(1, 4, 7);
		_tile_dpbssd(2, 5, 6);
		_tile_dpbssd(3, 5, 7);
	}
	_tile_release();
	return (double)BATCH * 4 * 16 * 16 * 64 * 2;
}
#endif

/* The fastest of a kind counts. */
static const kernel kernels[] = {
	{ "f32", "plain", always, plain_f32 },
#ifdef __x86_64__
	{ "f32", "avx2 fma", has_avx2, avx2_f32 },
	{ "f32", "avx512 fma", has_avx512, avx512_f32 },
	{ "bf16", "avx512 vdpbf16ps", has_bf16, avx512_bf16 },
	{ "bf16", "amx tdpbf16ps", has_tile_bf16, tile_bf16 },
	{ "int8", "avx512 vpdpbusd", has_vnni, avx512_int8 },
	{ "int8", "amx tdpbssd", has_tile_int8, tile_int8 },
#endif
};

/* ---- threads ---- */

typedef struct crew {
	const kernel *kernel;
	pthread_barrier_t start;
} crew;

typedef struct worker {
	crew *crew;
	double operations, seconds;
} worker;

static void *work(void *self)
{
	worker *w = self;
	double begin, end;

	w->crew->kernel->run();
	pthread_barrier_wait(&w->crew->start);
	begin = now();
	end = begin;
	for (w->operations = 0.0; end - begin < run_seconds; end = now())
		w->operations += w->crew->kernel->run();
	w->seconds = end - begin;
	return NULL;
}

/* 1e9 operations a second of one run; threads that could not start end the program. */
static double run_once(const kernel *k, int threads)
{
	static worker workers[THREADS_MAX];
	pthread_t ids[THREADS_MAX];
	crew c = { .kernel = k };
	double rate = 0.0;

	pthread_barrier_init(&c.start, NULL, (unsigned)threads);
	for (int i = 0; i < threads; i++) {
		workers[i].crew = &c;
		if (pthread_create(&ids[i], NULL, work, &workers[i])) {
			fprintf(stderr, "ceiling: cannot start %d threads\n", threads);
			exit(1);
		}
	}
	for (int i = 0; i < threads; i++) {
		pthread_join(ids[i], NULL);
		rate += workers[i].operations / workers[i].seconds;
	}
	pthread_barrier_destroy(&c.start);
	return 1e-9 * rate;
}

static double best_of(const kernel *k, int threads)
{
	double best = 0.0;

	for (int i = 0; i < RUNS; i++) {
		const double rate = run_once(k, threads);

		best = rate > best ? rate : best;
	}
	return best;
}

static void measure(const char *kind, int threads)
{
	const char *name = NULL;
	double best = 0.0;

	for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
		double rate;

		if (strcmp(kernels[i].kind, kind) || !kernels[i].available())
			continue;
		rate = best_of(&kernels[i], threads);
		if (rate > best) {
			best = rate;
			name = kernels[i].name;
		}
	}
	if (name)
		printf("%s\t%d\t%.1f\t%s\n", kind, threads, best, name);
}

int main(int argc, char **argv)
{
	static const char *const kinds[] = { "f32", "bf16", "int8" };
	const int threads = argc > 1 ? atoi(argv[1]) : 2;

	if (argc > 2 || threads < 1 || threads > THREADS_MAX) {
		fprintf(stderr, "usage: ceiling [threads, 1 to %d]\n", THREADS_MAX);
		return 2;
	}
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		measure(kinds[i], 1);
		if (threads > 1)
			measure(kinds[i], threads);
	}
	return 0;
}
