/* test_range.c - ranges that leave elements out: of blocks against sorting and plain search,
 * of calibrations against the elements that were counted. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "range.h"

enum { N = 1000 };

static float x[N];

/* Normal by the sum of uniforms, with some far out. */
static void fill(uint64_t seed, float offset)
{
	for (int i = 0; i < N; i++) {
		uint32_t w[4];
		float sum = -2.0f;

		qat_philox(w, seed, (uint64_t)i, 0, 0);
		for (int k = 0; k < 4; k++)
			sum += qat_uniform(w[k]);
		x[i] = sum * (i % 100 ? 1.0f : 8.0f) + offset;
	}
	x[7] = 0.0f;
	x[8] = -0.0f;
}

static qat_scheme scheme(int bits, int rule, int measure, double value)
{
	const int half = 1 << (bits - 1);

	return (qat_scheme){
		.size = sizeof(qat_scheme), .grid = QAT_GRID_UNIFORM, .bits = bits,
		.qmin = rule == QAT_SCALE_ABSMAX ? 1 - half : -half, .qmax = half - 1,
		.scale_format = QAT_F32, .scale_rule = rule, .divisor = half - 1,
		.zero = rule == QAT_SCALE_MINMAX ? QAT_ZERO_INT : QAT_ZERO_NONE,
		.measure = measure, .measure_value = value,
	};
}

static qat_block_stats stats_of(void)
{
	qat_block_stats b;

	qat_stats_init(&b);
	for (int i = 0; i < N; i++)
		qat_stats_add(&b, x[i]);
	return b;
}

static int ascending(const void *a, const void *b)
{
	const float p = *(const float *)a, q = *(const float *)b;

	return (p > q) - (p < q);
}

START_TEST(selected)
{
	float sorted[N], sizes[N];

	fill(1, 0.25f);
	memcpy(sorted, x, sizeof x);
	for (int i = 0; i < N; i++)
		sizes[i] = fabsf(x[i]);
	qsort(sorted, N, sizeof *sorted, ascending);
	qsort(sizes, N, sizeof *sizes, ascending);
	for (int i = 0; i < N; i += 9) {
		ck_assert_float_eq(qat_select(x, N, i + 1, 0), sorted[i]);
		ck_assert_float_eq(qat_select(x, N, i + 1, 1), sizes[i]);
	}
	ck_assert_int_eq(qat_percentile_rank(100, 7), 7);
	ck_assert_int_eq(qat_percentile_rank(99, 7), 7);
	ck_assert_int_eq(qat_percentile_rank(50, 8), 4);
	ck_assert_int_eq(qat_percentile_rank(50, 1), 1);
}
END_TEST

START_TEST(percentile)
{
	const qat_scheme s = scheme(4, QAT_SCALE_MINMAX, QAT_MEASURE_PERCENTILE, 99);
	qat_block_stats b;
	int above = 0, below = 0, far = 0;

	fill(2, 0.5f);
	b = stats_of();
	qat_stats_measure(&s, &b, x, N);
	for (int i = 0; i < N; i++) {
		above += x[i] > b.hi;
		below += x[i] < b.lo;
		far += fabsf(x[i]) > b.amax;
	}
	ck_assert_int_eq(above, 10);
	ck_assert_int_eq(below, 10);
	ck_assert_int_eq(far, 10);
	ck_assert_float_eq(fabsf(b.extreme), b.amax);
}
END_TEST

static double plain_error(const qat_scheme *s, const qat_block_stats *b)
{
	float zero;
	const float scale = qat_block_scale(s, b, &zero);
	double sum = 0;
	int inside;

	for (int i = 0; i < N; i++)
		sum += pow((double)qat_decode(s, qat_code(s, x[i], scale, zero, &inside), scale,
					      zero) - x[i], 2);
	return sum;
}

/* bits of _i: asymmetric, width. */
START_TEST(least_error)
{
	const qat_scheme s = scheme(_i & 2 ? 8 : 3, _i & 1 ? QAT_SCALE_MINMAX : QAT_SCALE_ABSMAX,
				    QAT_MEASURE_MSE, 0);
	qat_block_stats all, found;
	double got;

	fill(3 + (uint64_t)_i, 0.1f);
	all = found = stats_of();
	qat_stats_measure(&s, &found, x, N);
	got = plain_error(&s, &found);
	for (int i = 0; i < QAT_MSE_STEPS; i++) {
		const qat_block_stats t = qat_stats_shrunk(&all, i);
		const double e = plain_error(&s, &t);

		ck_assert(got <= e * (1 + 1e-12));
		ck_assert(fabs(qat_square_error(&s, &t, x, N) - e) <= 1e-12 * e);
	}
	ck_assert(_i & 2 || got < plain_error(&s, &all));
}
END_TEST

/* ---- calibrations ---- */

static double counts[QAT_COUNTS];

static void count(float range[2])
{
	const qat_block_stats b = stats_of();

	memset(counts, 0, sizeof counts);
	for (int i = 0; i < N; i++)
		qat_counts_add(counts, x[i]);
	range[0] = b.lo;
	range[1] = b.hi;
}

START_TEST(bins)
{
	for (int m = 1; m < QAT_BINS; m++) {
		const float at = qat_bin_start(m);

		ck_assert_int_eq(qat_bin(at), m);
		ck_assert_int_eq(qat_bin(-nextafterf(at, 0)), m - 1);
	}
	ck_assert_float_eq(qat_bin_start(QAT_BINS), 0x1p16f);
	ck_assert_int_eq(qat_bin(1e30f), QAT_BINS - 1);
	ck_assert_int_eq(qat_bin(0), 0);
	memset(counts, 0, sizeof counts);
	qat_counts_add(counts, NAN);
	qat_counts_add(counts, INFINITY);
	for (int i = 0; i < QAT_COUNTS; i++)
		ck_assert(counts[i] == 0);
}
END_TEST

/* Ends of the bins that hold the elements: within 1 in 64 of those of sorting. */
START_TEST(calibrated_percentile)
{
	const qat_scheme s = scheme(8, QAT_SCALE_MINMAX, QAT_MEASURE_PERCENTILE, 97);
	qat_block_stats exact, b;
	float range[2];

	fill(9, _i ? 3.0f : -0.5f);
	count(range);
	exact = stats_of();
	qat_stats_measure(&s, &exact, x, N);
	ck_assert(qat_range_stats(&b, &s, range, counts));
	ck_assert(b.hi >= exact.hi && b.hi <= exact.hi + fabsf(exact.hi) / 60);
	ck_assert(b.lo <= exact.lo && b.lo >= exact.lo - fabsf(exact.lo) / 60);
	ck_assert(b.amax >= exact.amax && b.amax <= exact.amax * (1 + 1.0f / 60));
	ck_assert(b.hi < range[1] && b.lo > range[0]);
}
END_TEST

START_TEST(calibrated_error)
{
	const qat_scheme s = scheme(_i & 2 ? 8 : 3, _i & 1 ? QAT_SCALE_MINMAX : QAT_SCALE_ABSMAX,
				    QAT_MEASURE_MSE, 0);
	qat_block_stats all, b;
	double least = INFINITY;
	float range[2];

	fill(11, 0.05f);
	count(range);
	all = stats_of();
	ck_assert(qat_range_stats(&b, &s, range, counts));
	for (int i = 0; i < QAT_SHRINK; i++) {
		const qat_block_stats t = qat_stats_shrunk(&all, i);

		least = fmin(least, plain_error(&s, &t));
	}
	ck_assert(plain_error(&s, &b) <= 1.1 * least);
}
END_TEST

START_TEST(all_of_it)
{
	const qat_scheme plain = scheme(8, QAT_SCALE_ABSMAX, QAT_MEASURE_MINMAX, 0);
	const qat_scheme slow = scheme(8, QAT_SCALE_ABSMAX, QAT_MEASURE_EMA, 0.25);
	float range[2] = { INFINITY, -INFINITY }, bad[2] = { NAN, NAN };
	qat_block_stats b;

	qat_range_add(&slow, range, -1, 2);
	ck_assert(range[0] == -1 && range[1] == 2);
	qat_range_add(&slow, range, -3, 0);
	ck_assert(range[0] == -1.5f && range[1] == 1.5f);
	qat_range_add(&plain, range, -1, 2);
	ck_assert(range[0] == -1.5f && range[1] == 2);
	ck_assert(qat_range_stats(&b, &plain, range, NULL));
	ck_assert(b.amax == 2 && b.extreme == 2 && b.lo == -1.5f);
	qat_range_add(&slow, range, NAN, NAN);
	ck_assert(!qat_range_stats(&b, &slow, range, NULL));
	qat_range_add(&slow, bad, -1, 1);
	ck_assert(!qat_range_stats(&b, &slow, bad, NULL));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("range");
	TCase *t = tcase_create("range");
	SRunner *r;
	int failed;

	tcase_add_test(t, selected);
	tcase_add_test(t, percentile);
	tcase_add_loop_test(t, least_error, 0, 4);
	tcase_add_test(t, bins);
	tcase_add_loop_test(t, calibrated_percentile, 0, 2);
	tcase_add_loop_test(t, calibrated_error, 0, 4);
	tcase_add_test(t, all_of_it);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
