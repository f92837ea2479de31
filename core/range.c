/* range.c - what a calibration saw, made into the statistics that scales follow from. */
#include "range.h"

#include <math.h>

#include <qatrun/numerics.h>

enum { POINTS = 8 };	/* by which a bin stands for its elements */

/* How many elements have magnitudes in bin m. */
static double magnitudes(const double *counts, int m)
{
	return counts[QAT_BINS + m] + counts[QAT_BINS - 1 - m];
}

static double total(const double *counts)
{
	double n = 0;

	for (int i = 0; i < QAT_COUNTS; i++)
		n += counts[i];
	return n;
}

/* The end of the bin that holds the element of that rank, away from 0. */
static float magnitude_of_rank(const double *counts, double rank)
{
	double n = magnitudes(counts, 0);
	int m = 0;

	while (m < QAT_BINS - 1 && n < rank)
		n += magnitudes(counts, ++m);
	return m < QAT_BINS - 1 ? qat_bin_start(m + 1) : INFINITY;
}

/* The value between bins i - 1 and i; nothing is beyond the outer bins. */
static float edge(int i)
{
	if (i <= 0 || i >= QAT_COUNTS)
		return i <= 0 ? -INFINITY : INFINITY;
	return i >= QAT_BINS ? qat_bin_start(i - QAT_BINS) : -qat_bin_start(QAT_BINS - i);
}

/* The upper end of the bin that holds the element of that rank. */
static float low_to_rank(const double *counts, double rank)
{
	double n = counts[0];
	int i = 0;

	while (i < QAT_COUNTS - 1 && n < rank)
		n += counts[++i];
	return edge(i + 1);
}

/* Its lower end, ranks counted from the largest down. */
static float high_to_rank(const double *counts, double rank)
{
	double n = counts[QAT_COUNTS - 1];
	int i = QAT_COUNTS - 1;

	while (i > 0 && n < rank)
		n += counts[--i];
	return edge(i);
}

static void by_percentile(qat_block_stats *b, const qat_scheme *s, const double *counts)
{
	const double n = total(counts), inside = ceil(s->measure_value / 100.0 * n);
	const float amax = magnitude_of_rank(counts, inside);
	const float hi = low_to_rank(counts, inside), lo = high_to_rank(counts, inside);

	b->amax = amax < b->amax ? amax : b->amax;
	b->extreme = copysignf(b->amax, b->extreme);
	b->hi = hi < b->hi ? hi : b->hi;
	b->lo = lo > b->lo ? lo : b->lo;
}

/* Squared error of a bin's elements, spread over it evenly, under a scale. */
static double bin_error(const qat_scheme *s, int i, float scale, float zero)
{
	const int m = i >= QAT_BINS ? i - QAT_BINS : QAT_BINS - 1 - i;
	const double from = qat_bin_start(m), to = qat_bin_start(m + 1);
	double sum = 0;

	for (int k = 0; k < POINTS; k++) {
		const float a = (float)(from + (to - from) * (k + 0.5) / POINTS);
		const float x = i >= QAT_BINS ? a : -a;
		int inside;
		const uint8_t code = qat_code(s, x, scale, zero, &inside);
		const double d = (double)qat_decode(s, code, scale, zero) - x;

		sum += d * d;
	}
	return sum / POINTS;
}

static double error_of(const qat_scheme *s, const qat_block_stats *b, const double *counts)
{
	float zero;
	const float scale = qat_block_scale(s, b, &zero);
	double sum = 0;

	for (int i = 0; i < QAT_COUNTS; i++)
		if (counts[i] > 0)
			sum += counts[i] * bin_error(s, i, scale, zero);
	return sum;
}

static void by_error(qat_block_stats *b, const qat_scheme *s, const double *counts)
{
	qat_block_stats best = *b;
	double least = INFINITY;

	for (int i = 0; i < QAT_SHRINK; i++) {
		const qat_block_stats t = qat_stats_shrunk(b, i);
		const double e = error_of(s, &t, counts);

		if (e < least) {
			least = e;
			best = t;
		}
	}
	*b = best;
}

int qat_range_stats(qat_block_stats *out, const qat_scheme *s, const float range[2],
		    const double *counts)
{
	const float lo = range[0], hi = range[1];

	qat_stats_init(out);
	if (!(lo <= hi && isfinite(lo) && isfinite(hi)))
		return 0;
	out->lo = lo;
	out->hi = hi;
	out->amax = -lo > hi ? -lo : hi;
	out->extreme = -lo > hi ? lo : hi;
	if (s->measure == QAT_MEASURE_PERCENTILE && counts)
		by_percentile(out, s, counts);
	if (s->measure == QAT_MEASURE_MSE && counts && s->scale_rule != QAT_SCALE_TWO_LEVEL)
		by_error(out, s, counts);
	return 1;
}
