/* test_kernels.h - what the tests of backend cpu's kernels share: every instruction set
 * that runs here, with one thread and with two, which must agree to the bit.
 */
#ifndef QAT_TEST_KERNELS_H
#define QAT_TEST_KERNELS_H

#include <stdio.h>
#include <stdlib.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include <qatrun/numerics.h>
#include <qatrun/plugin.h>

#include "dense.h"

#include <check.h>			/* last: it defines the word fail */

static int test_fail(int code, const char *fmt, va_list ap)
{
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	return code;
}

static const qat_host test_host = { .size = sizeof test_host, .fail = test_fail };
QAT_HIDDEN const qat_host *qat_host_ = &test_host;

static inline void use_threads(int n)
{
#ifdef _OPENMP
	omp_set_num_threads(n);
#else
	(void)n;
#endif
}

/* Runs body(kernels) for every ISA of this machine. */
static inline void each_isa(void (*body)(const qat_kernels *kn))
{
	for (int i = 0; qat_kernels_names[i]; i++) {
		const qat_kernels *kn = qat_kernels_find(qat_kernels_names[i]);

		if (kn)
			body(kn);
	}
}

static uint64_t test_seed = 1;

static inline uint32_t random_word(void)
{
	test_seed = test_seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(test_seed >> 32);
}

/* About normal, by a sum of uniforms. */
static inline float random_float(void)
{
	float sum = -6.0f;

	for (int i = 0; i < 12; i++)
		sum += (float)(random_word() >> 8) * 0x1p-24f;
	return sum;
}

/* As ck_assert_msg, which is too slow for every element of a matrix. */
#define MUST(condition, ...) \
	do { \
		if (!(condition)) \
			ck_abort_msg(__VA_ARGS__); \
	} while (0)

/* n bytes, aligned, with a guard behind that free_guarded checks. */
static inline void *guarded(int64_t bytes)
{
	const size_t room = ((size_t)bytes + 63) / 64 * 64;
	unsigned char *p = aligned_alloc(64, room + 64);

	ck_assert_ptr_nonnull(p);
	memset(p, 0xA5, room + 64);
	return p;
}

static inline void check_guard(const void *p, int64_t bytes)
{
	const unsigned char *end = (const unsigned char *)p + bytes;

	for (size_t i = 0; i < 64; i++)
		MUST(end[i] == 0xA5, "byte %zu past the end was written", i);
}

static inline float *random_floats(int64_t n, float scale)
{
	float *x = guarded(n * 4);

	for (int64_t i = 0; i < n; i++)
		x[i] = scale * random_float();
	return x;
}

/* A copy of n floats as dtype; *back: the values that it holds, in x's place. */
static inline void *as_type(float *x, uint32_t dtype, int64_t n)
{
	uint16_t *h;

	if (dtype == QAT_F32) {
		float *y = guarded(n * 4);

		memcpy(y, x, (size_t)n * 4);
		return y;
	}
	h = guarded(n * 2);
	for (int64_t i = 0; i < n; i++) {
		h[i] = qat_f32_to_bf16(x[i]);
		x[i] = qat_bf16_to_f32(h[i]);
	}
	return h;
}

static inline float element(const void *y, uint32_t dtype, int64_t i)
{
	return dtype == QAT_F32 ? ((const float *)y)[i]
				: qat_bf16_to_f32(((const uint16_t *)y)[i]);
}

/* Relative rounding of a type. */
static inline double unit(uint32_t dtype)
{
	return dtype == QAT_F32 ? 0x1p-24 : 0x1p-8;
}

/* A NaN is near nothing. */
#define CHECK_NEAR(what, got, want, tol) \
	do { \
		const double got_ = (got), want_ = (want), tol_ = (tol); \
		MUST(fabs(got_ - want_) <= tol_, "%s: got %.9g, want %.9g +- %.3g", what, got_, \
		     want_, tol_); \
	} while (0)

static inline int run_tests(const char *name, const TTest *const *tests, int n)
{
	Suite *s = suite_create(name);
	TCase *c = tcase_create(name);
	SRunner *r;
	int failed;

	for (int i = 0; i < n; i++)
		tcase_add_test(c, tests[i]);
	tcase_set_timeout(c, 300);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_set_fork_status(r, CK_NOFORK);	/* OpenMP's threads do not survive a fork */
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#define RUN_TESTS(name, ...) \
	int main(void) \
	{ \
		const TTest *const all[] = { __VA_ARGS__ }; \
		return run_tests(name, all, (int)(sizeof all / sizeof *all)); \
	}

#endif
