/* cpu_check.h - for the tests of backend cpu: the instruction sets, random matrices, and
 * what an op should give, computed in double.
 */
#ifndef QAT_TEST_CPU_CHECK_H
#define QAT_TEST_CPU_CHECK_H

#include <math.h>
#include <stdint.h>

#include "net.h"

static const char *const isas[] = { "baseline", "avx2", "avx512", "amx" };
enum { ISAS = sizeof isas / sizeof *isas, N = 12, C = 64, V = 37 };

static uint32_t seed = 1;

/* 0: this instruction set does not run here. */
static inline int use_isa(int i)
{
	const qat_instance b = net_backend("cpu");
	qat_device d = { .handle = NULL };

	setenv("QATRUN_CPU_ISA", isas[i], 1);
	if (qat_device_open(&d, &b, 0, 1)) {
		ck_assert_int_ne(i, 0);
		return 0;
	}
	qat_device_close(&d);
	seed = 1;
	return 1;
}

static inline float random_float(void)
{
	seed = seed * 1664525u + 1013904223u;
	return (float)(seed >> 8) * 0x1p-23f - 1.0f;
}

static inline float *floats(int64_t n)
{
	float *x = malloc((size_t)n * sizeof *x);

	for (int64_t i = 0; i < n; i++)
		x[i] = random_float();
	return x;
}

static inline int32_t *ids(int64_t n, int32_t below)
{
	int32_t *x = malloc((size_t)n * sizeof *x);

	for (int64_t i = 0; i < n; i++)
		x[i] = (int32_t)((random_float() + 1.0f) * 0.5f * (float)below) % below;
	return x;
}

static inline void close_to(const float *got, const double *want, int64_t n,
			    double tolerance, const char *what)
{
	for (int64_t i = 0; i < n; i++)
		ck_assert_msg(fabs(got[i] - want[i]) <= tolerance * (1.0 + fabs(want[i])),
			      "%s[%lld]: %.9g, not %.9g", what, (long long)i, got[i], want[i]);
}

/* ---- ops and their gradients ----
 * A function of double matrices. The gradient op must give d(sum dy y) / dx, which is
 * measured by central differences. */

enum { ARGS = 5 };

typedef struct function {
	int n;					/* arguments */
	int64_t size[ARGS], out;		/* elements */
	void (*f)(double *y, double *const *x, const void *context);
	const void *context;
	double *x[ARGS];
} function;

static inline void call(const function *f, double *y)
{
	f->f(y, f->x, f->context);
}

static inline void take(function *f, int i, const float *x, int64_t n)
{
	f->size[i] = n;
	f->x[i] = malloc((size_t)n * sizeof(double));
	for (int64_t k = 0; k < n; k++)
		f->x[i][k] = x[k];
}

static inline void check_value(const function *f, const float *got, double tolerance,
			       const char *what)
{
	double *y = malloc((size_t)f->out * sizeof *y);

	call(f, y);
	close_to(got, y, f->out, tolerance, what);
	free(y);
}

static inline void check_gradient(const function *f, int arg, const float *dy,
				  const float *got, const float *addend, double tolerance,
				  const char *what)
{
	const double h = 1e-5;
	double *a = malloc((size_t)f->out * sizeof *a), *b = malloc((size_t)f->out * sizeof *b);

	for (int64_t i = 0; i < f->size[arg]; i++) {
		const double x = f->x[arg][i];
		double want = addend ? addend[i] : 0.0;

		f->x[arg][i] = x + h;
		call(f, a);
		f->x[arg][i] = x - h;
		call(f, b);
		f->x[arg][i] = x;
		for (int64_t k = 0; k < f->out; k++)
			want += dy[k] * (a[k] - b[k]) / (2 * h);
		close_to(&got[i], &want, 1, tolerance, what);
	}
	free(a);
	free(b);
}

static inline void drop(function *f)
{
	for (int i = 0; i < ARGS; i++)
		free(f->x[i]);
}

/* ---- losses ---- */

typedef struct loss_case { const int32_t *labels; int linear; } loss_case;

/* nll [N] of logits x[0], or of x[0] x[1]^T. */
static inline void f_loss(double *y, double *const *x, const void *context)
{
	const loss_case *c = context;

	for (int r = 0; r < N; r++) {
		double sum = 0, own = 0;

		for (int v = 0; v < V; v++) {
			double z = c->linear ? 0 : x[0][r * V + v];

			for (int i = 0; i < C && c->linear; i++)
				z += x[0][r * C + i] * x[1][v * C + i];
			sum += exp(z);
			own = v == c->labels[r] ? z : own;
		}
		y[r] = c->labels[r] < 0 ? 0 : log(sum) - own;
	}
}

/* ---- running ---- */

/* Says which sets are left out; in a process of its own, as tests are. */
START_TEST(instruction_sets)
{
	if (!use_isa(_i))
		fprintf(stderr, "%s does not run here: not tested\n", isas[_i]);
}
END_TEST

/* Each test once for every instruction set, in _i. */
static inline int cpu_run(const char *name, TCase *first, const TTest *const *tests, size_t n)
{
	TCase *each = tcase_create("instruction sets");
	Suite *s = suite_create(name);
	SRunner *r;
	int failed;

	tcase_add_loop_test(each, instruction_sets, 0, ISAS);
	for (size_t i = 0; i < n; i++)
		tcase_add_loop_test(each, tests[i], 0, ISAS);
	tcase_set_timeout(each, 60);
	if (first)
		suite_add_tcase(s, first);
	suite_add_tcase(s, each);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
