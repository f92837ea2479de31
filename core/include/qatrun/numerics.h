/* numerics.h - the numeric contract, element by element, in plain C.
 *
 * This is the definition: the reference backend is made of it, others must give its
 * bits where an op's class is EXACT. Compile with -ffp-contract=off and without
 * -ffast-math. fl(x) below is one rounding to fp32, rne rounds half to even.
 */
#ifndef QATRUN_NUMERICS_H
#define QATRUN_NUMERICS_H

#include <math.h>
#include <string.h>

#include <qatrun/scheme.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline uint32_t qat_f32_bits(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof u);
	return u;
}

static inline float qat_f32_from_bits(uint32_t u)
{
	float x;

	memcpy(&x, &u, sizeof x);
	return x;
}

/* bf16: rne; NaN stays NaN (quiet). */
static inline uint16_t qat_f32_to_bf16(float x)
{
	uint32_t u = qat_f32_bits(x);

	if ((u & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t)(u >> 16 | 0x40u);
	return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

static inline float qat_bf16_to_f32(uint16_t h)
{
	return qat_f32_from_bits((uint32_t)h << 16);
}

/* f16: rne, gradual underflow, overflow to infinity. */
static inline uint16_t qat_f32_to_f16(float x)
{
	const uint32_t u = qat_f32_bits(x), sign = u >> 16 & 0x8000u;
	const uint32_t a = u & 0x7fffffffu;

	if (a > 0x7f800000u)
		return (uint16_t)(sign | 0x7e00u | (a >> 13 & 0x3ffu));
	if (a >= 0x477ff000u)				/* 65520 and up */
		return (uint16_t)(sign | 0x7c00u);
	if (a < 0x38800000u) {				/* below 2^-14: units of 2^-24 */
		const float units = qat_f32_from_bits(a) * 16777216.0f;

		return (uint16_t)(sign | (uint32_t)rintf(units));
	}
	return (uint16_t)(sign | ((a - 0x38000000u + 0xfffu + (a >> 13 & 1u)) >> 13));
}

static inline float qat_f16_to_f32(uint16_t h)
{
	const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = h >> 10 & 31u, m = h & 0x3ffu;

	if (e == 31)
		return qat_f32_from_bits(sign | 0x7f800000u | m << 13);
	if (e == 0) {
		const float v = (float)m * 5.9604644775390625e-8f;	/* 2^-24 */

		return sign ? -v : v;
	}
	return qat_f32_from_bits(sign | (e + 112u) << 23 | m << 13);
}

/* 2^e for e in [-149, 127], exact. */
static inline float qat_pow2(int e)
{
	return e >= -126 ? qat_f32_from_bits((uint32_t)(e + 127) << 23)
			 : qat_f32_from_bits(1u << (e + 149));
}

static inline float qat_e8m0_to_f32(uint8_t b)
{
	return b == 0xff ? qat_f32_from_bits(0x7fc00000u) : qat_pow2((int)b - 127);
}

/* x must be a power of two in range, or NaN. */
static inline uint8_t qat_f32_to_e8m0(float x)
{
	const uint32_t u = qat_f32_bits(x);

	if ((u & 0x7fffffffu) > 0x7f800000u)
		return 0xff;
	return (uint8_t)(u >> 23 & 0xffu);	/* 2^-127 is subnormal: exponent field 0 */
}

static inline int qat_is_finite(float x)
{
	return (qat_f32_bits(x) & 0x7f800000u) != 0x7f800000u;
}

/* ---- float grids: sign, ebits, mbits, no infinities ---- */

/* Nearest grid magnitude of a = |y| >= 0, ties to even, gradual underflow, not
 * saturated. The division by a power of two is exact. */
static inline float qat_float_round(const qat_scheme *s, float a)
{
	const int emin = 2 - (1 << (s->ebits - 1));
	const int e0 = (int)(qat_f32_bits(a) >> 23) - 127;
	const int e = e0 < emin ? emin : e0;

	return rintf(a * qat_pow2(s->mbits - e)) * qat_pow2(e - s->mbits);
}

/* Bit pattern of a grid magnitude (as qat_float_round gives, saturated). */
static inline uint8_t qat_float_pattern(const qat_scheme *s, float a)
{
	const int bias = (1 << (s->ebits - 1)) - 1, emin = 1 - bias;
	const int e = (int)(qat_f32_bits(a) >> 23) - 127;

	if (e < emin)			/* subnormal: units of 2^(emin - mbits) */
		return (uint8_t)(int)(a * qat_pow2(s->mbits - emin));
	return (uint8_t)((e + bias) << s->mbits |
			 (int)(qat_f32_bits(a) >> (23 - s->mbits) & ((1u << s->mbits) - 1)));
}

static inline float qat_float_value(const qat_scheme *s, uint8_t code)
{
	const int bias = (1 << (s->ebits - 1)) - 1;
	const int e = code >> s->mbits & ((1 << s->ebits) - 1), m = code & ((1 << s->mbits) - 1);
	const float a = e ? (float)((1 << s->mbits) + m) * qat_pow2(e - bias - s->mbits)
			  : (float)m * qat_pow2(1 - bias - s->mbits);

	return code >> (s->ebits + s->mbits) & 1 ? -a : a;
}

/* ---- scales ---- */

/* E4M3 without infinity, saturating at 448. */
static inline float qat_round_e4m3(float x)
{
	const qat_scheme e4m3 = { .ebits = 4, .mbits = 3 };
	const float a = qat_float_round(&e4m3, fabsf(x));

	return copysignf(a > 448.0f ? 448.0f : a, x);
}

/* A scale as it will be stored; NaN stays NaN. Power-of-two rules are exact already. */
static inline float qat_scale_stored(const qat_scheme *s, float scale)
{
	switch (s->scale_format) {
	case QAT_BF16: return qat_bf16_to_f32(qat_f32_to_bf16(scale));
	case QAT_F16:  return qat_f16_to_f32(qat_f32_to_f16(scale));
	case QAT_E4M3: return qat_round_e4m3(scale);
	default:       return scale;
	}
}

/* What the scale rules need to know of a block. */
typedef struct qat_block_stats {
	float amax;	/* max |x|; power-of-two rules: |x| < 2^-126 counts as 0 */
	float extreme;	/* the first element of that magnitude, with its sign */
	float lo, hi;	/* min and max, unextended */
	int bad;	/* holds a NaN or an infinity */
	float second;	/* TWO_LEVEL: the scale of the second level, S */
} qat_block_stats;

static inline int qat_scale_is_pow2(const qat_scheme *s)
{
	return s->scale_rule >= QAT_SCALE_POW2_FLOOR && s->scale_rule <= QAT_SCALE_POW2_EVEN;
}

/* Exponent of a power-of-two scale, from the bits of amax: never from a logarithm. */
static inline int qat_scale_exponent(const qat_scheme *s, float amax)
{
	const uint32_t u = qat_f32_bits(amax), m = u & 0x7fffffu;
	const uint32_t largest = qat_f32_bits(s->largest) & 0x7fffffu;
	int e = (int)(u >> 23) - 127 - s->emax;

	if (amax < 1.17549435e-38f)
		return -127;
	if (s->scale_rule == QAT_SCALE_POW2_CEIL)
		e += m > largest;
	if (s->scale_rule == QAT_SCALE_POW2_EVEN)
		e += m + (1u << (22 - s->mbits)) >= 0x800000u;
	return e < -127 ? -127 : e > 127 ? 127 : e;
}

static inline int qat_round_int(float v)
{
	/* Past int range the clamp decides; keep the conversion defined. */
	if (v != v)
		return 0;
	return v >= 1e9f ? 1000000000 : v <= -1e9f ? -1000000000 : (int)rintf(v);
}

static inline int qat_clamp_int(int q, int lo, int hi)
{
	return q < lo ? lo : q > hi ? hi : q;
}

/* A scale that cannot serve: 1 for a block of (almost) zeros, NaN past the format. */
static inline float qat_scale_checked(float s)
{
	if (!qat_is_finite(s))
		return qat_f32_from_bits(0x7fc00000u);
	return s == 0.0f ? 1.0f : s;
}

/* TWO_LEVEL: S of all the blocks under it, whose magnitudes end at amax. Scales of blocks
 * then reach up to E4M3's end, 448. bad: a NaN or an infinity is there. */
static inline float qat_second_scale(const qat_scheme *s, float amax, int bad)
{
	if (bad)
		return qat_f32_from_bits(0x7fc00000u);
	return amax < 7.88860905e-31f ? 1.0f : amax / (s->largest * 448.0f);
}

/* TWO_LEVEL: scale of a block, fl(b S); b is E4M3, at least its smallest. */
static inline float qat_two_level_scale(const qat_scheme *s, float amax, float second)
{
	const float b = amax / s->largest / second, least = 0.001953125f;

	return (b < least ? least : qat_round_e4m3(b)) * second;
}

/* Scale (as stored) and zero point of a block. *zero is an integer for ZERO_INT, the
 * float for ZERO_FLOAT, else 0. */
static inline float qat_block_scale(const qat_scheme *s, const qat_block_stats *b, float *zero)
{
	const float tiny = 7.88860905e-31f;		/* 2^-100 */
	const float span = (float)(s->qmax - s->qmin);
	float scale;

	*zero = 0.0f;
	if (b->bad)
		return qat_f32_from_bits(0x7fc00000u);
	if (qat_scale_is_pow2(s))
		return qat_pow2(qat_scale_exponent(s, b->amax));
	if (s->scale_rule == QAT_SCALE_TWO_LEVEL)
		return qat_two_level_scale(s, b->amax, b->second);
	if (s->scale_rule == QAT_SCALE_FLOAT_ZERO) {
		const float width = b->hi - b->lo;

		scale = qat_scale_checked(qat_scale_stored(s,
			(width > 1e-6f ? width : 1e-6f) / span));
		*zero = b->lo + (float)((s->qmax - s->qmin + 1) / 2) * scale;
		return scale;
	}
	if (s->scale_rule == QAT_SCALE_MINMAX) {
		const float lo = b->lo < 0.0f ? b->lo : 0.0f, hi = b->hi > 0.0f ? b->hi : 0.0f;

		*zero = (float)s->qmin;
		if (b->amax < tiny)
			return 1.0f;
		scale = qat_scale_stored(s, (hi - lo) / span);
		if (scale == 0.0f || !qat_is_finite(scale))
			return qat_scale_checked(scale);
		*zero = (float)qat_clamp_int(s->qmin - qat_round_int(lo / scale), s->qmin,
				      s->qmax);
		return scale;
	}
	if (b->amax < tiny)
		return 1.0f;
	scale = s->scale_rule == QAT_SCALE_SIGNED ? b->extreme : b->amax;
	return qat_scale_checked(qat_scale_stored(s, scale / (float)s->divisor));
}

static inline void qat_stats_init(qat_block_stats *b)
{
	memset(b, 0, sizeof *b);
	b->lo = INFINITY;
	b->hi = -INFINITY;
	b->second = 1.0f;
}

static inline void qat_stats_add(qat_block_stats *b, float x)
{
	const float a = fabsf(x);

	b->bad |= !qat_is_finite(x);
	if (a > b->amax) {
		b->amax = a;
		b->extreme = x;
	}
	if (x < b->lo)
		b->lo = x;
	if (x > b->hi)
		b->hi = x;
}

/* ---- one element ---- */

static inline uint8_t qat_table_code(const qat_scheme *s, float y)
{
	int best = 0;

	for (int i = 1; i < 1 << s->bits; i++) {
		const float d = fabsf(s->table[i] - y), d0 = fabsf(s->table[best] - y);

		if (d < d0 || (d == d0 && !(i & 1)))
			best = i;
	}
	return (uint8_t)best;
}

/* Code of x in a block with stored scale `scale` and zero point. *inside is 1 where
 * STE_CLIPPED lets the gradient pass. A NaN scale gives code 0, and so does a NaN under
 * a given scale, where the caller must raise its flag (integers: the code of 0). For FLOAT_ZERO and
 * TWO_LEVEL the contract divides by s; others multiply by r = fl(1/s). */
static inline uint8_t qat_code(const qat_scheme *s, float x, float scale, float zero, int *inside)
{
	*inside = 1;
	if (scale != scale || (x != x && s->grid != QAT_GRID_UNIFORM))
		return 0;
	if (s->grid == QAT_GRID_UNIFORM) {
		const float mid = (float)((s->qmax - s->qmin + 1) / 2);
		const int q = s->zero == QAT_ZERO_FLOAT
			? s->qmin + qat_round_int((x - (zero - mid * scale)) / scale)
			: qat_round_int(x * (1.0f / scale)) + (int)zero;

		*inside = q >= s->qmin && q <= s->qmax;
		return (uint8_t)(int8_t)qat_clamp_int(q, s->qmin, s->qmax);
	}
	if (s->grid == QAT_GRID_TABLE)
		return qat_table_code(s, x * (1.0f / scale));
	{
		const float tiny = 1.17549435e-38f;
		const float y = fabsf(x) < tiny ? 0.0f
			: s->scale_rule == QAT_SCALE_TWO_LEVEL ? fabsf(x) / scale
			: fabsf(x) * (1.0f / scale);
		const float a = qat_float_round(s, y);
		const int sign = (qat_f32_bits(x) >> 31) << (s->ebits + s->mbits);

		*inside = a <= s->largest;
		return (uint8_t)(sign | qat_float_pattern(s, a > s->largest ? s->largest : a));
	}
}

/* x^ = dequantize(code). NaN scale: NaN. */
static inline float qat_decode(const qat_scheme *s, uint8_t code, float scale, float zero)
{
	if (s->grid == QAT_GRID_FLOAT)
		return scale * qat_float_value(s, code);
	if (s->grid == QAT_GRID_TABLE)
		return scale * s->table[code];
	if (s->zero == QAT_ZERO_FLOAT) {
		const int mid = (s->qmax - s->qmin + 1) / 2;
		const float t = (float)((int8_t)code - s->qmin - mid) * scale;

		return t + zero;
	}
	return scale * (float)((int8_t)code - (int)zero);
}

/* 1 if every code stands for an integer of a byte, value * 2^*shift, so that products
 * can be summed as integers and scaled by 2^-shift for each side: UNIFORM is q - z with
 * shift 0, E2M1 is 2 * value with shift 1. 0: the product is taken in floating point. */
static inline int qat_code_integer(const qat_scheme *s, int *shift)
{
	*shift = 0;
	if (s->grid == QAT_GRID_UNIFORM)
		return s->zero != QAT_ZERO_FLOAT;
	if (s->grid != QAT_GRID_FLOAT)
		return 0;
	*shift = s->mbits - (2 - (1 << (s->ebits - 1)));
	return s->largest * qat_pow2(*shift) <= 127.0f;
}

/* Whether quantizing by this scheme can put an element past the grid's ends, so that
 * its gradient needs a mask. An absmax scale with divisor qmax cannot; nor can one of a
 * float grid with at most 3 bits of mantissa, whose end takes in 1/32 more than itself. */
static inline int qat_scheme_clips(const qat_scheme *s)
{
	if (s->gradient == QAT_GRAD_STE)
		return 0;
	if (s->measure)
		return 1;
	if (s->range == QAT_RANGE_DYNAMIC && s->grid == QAT_GRID_FLOAT && s->mbits <= 3 &&
	    s->scale_rule == QAT_SCALE_ABSMAX && s->divisor == (double)s->largest)
		return s->scale_format != QAT_F32 && s->scale_format != QAT_BF16;
	return s->range != QAT_RANGE_DYNAMIC || s->grid != QAT_GRID_UNIFORM ||
	       s->scale_rule != QAT_SCALE_ABSMAX || s->scale_format != QAT_F32 ||
	       s->divisor != (double)s->qmax || s->qmin != -s->qmax;
}

/* ---- ranges that leave elements out ---- */

enum { QAT_MSE_STEPS = 32, QAT_SHRINK = 64 };

/* Statistics of a range shrunk to (64 - i) / 64 of itself. */
static inline qat_block_stats qat_stats_shrunk(const qat_block_stats *b, int i)
{
	const float f = (float)(QAT_SHRINK - i) / (float)QAT_SHRINK;
	qat_block_stats out = *b;

	out.amax *= f;
	out.extreme *= f;
	out.lo *= f;
	out.hi *= f;
	return out;
}

/* Squared error of n elements of a block with these statistics: in double, element i in
 * sum i % 8, which are then added in order. */
static inline double qat_square_error(const qat_scheme *s, const qat_block_stats *b,
				      const float *x, int64_t n)
{
	const int uniform = s->grid == QAT_GRID_UNIFORM && s->zero != QAT_ZERO_FLOAT;
	const float lo = (float)s->qmin, hi = (float)s->qmax;
	double part[8] = { 0 }, sum = 0;
	float zero, r;
	const float scale = qat_block_scale(s, b, &zero);

	r = 1.0f / scale;
	for (int64_t i = 0; i < n; i += 8) {
		for (int k = 0; k < 8 && i + k < n; k++) {
			float y;

			if (uniform) {
				const float q = rintf(x[i + k] * r) + zero, up = q > lo ? q : lo;

				y = scale * ((up < hi ? up : hi) - zero);
			} else {
				int inside;

				y = qat_decode(s, qat_code(s, x[i + k], scale, zero, &inside),
					       scale, zero);
			}
			part[k] += ((double)y - x[i + k]) * ((double)y - x[i + k]);
		}
	}
	for (int k = 0; k < 8; k++)
		sum += part[k];
	return sum;
}

/* How many of n elements lie inside a percentile: at least that part, at least one. */
static inline int64_t qat_percentile_rank(double percent, int64_t n)
{
	const int64_t k = (int64_t)ceil(percent / 100.0 * (double)n);

	return k < 1 ? 1 : k > n ? n : k;
}

/* Element of that rank, from 1, among n finite ones, ascending; magnitudes if asked. By
 * bisection of the bits, which puts -0 before 0. */
static inline float qat_select(const float *x, int64_t n, int64_t rank, int magnitudes)
{
	int64_t lo = magnitudes ? 0 : -0x7f800000 - 1, hi = 0x7f800000;

	while (lo < hi) {
		const int64_t mid = lo + (hi - lo) / 2;
		const int32_t limit = (int32_t)mid;
		int64_t below = 0;

		for (int64_t i = 0; i < n; i++) {
			const int32_t u = (int32_t)(qat_f32_bits(x[i]) & 0x7fffffffu);
			const int32_t v = magnitudes || !(qat_f32_bits(x[i]) >> 31) ? u : -u - 1;

			below += v <= limit;
		}
		if (below >= rank)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo < 0 ? -qat_f32_from_bits((uint32_t)(-lo - 1)) : qat_f32_from_bits((uint32_t)lo);
}

/* Whether a range is less than all of what was seen: a calibration counts. */
static inline int qat_measures_part(const qat_scheme *s)
{
	return s->measure == QAT_MEASURE_PERCENTILE || s->measure == QAT_MEASURE_MSE;
}

/* Whether that of a block is. Scales of two levels follow from whole blocks. */
static inline int qat_measures_blocks(const qat_scheme *s)
{
	return qat_measures_part(s) && s->scale_rule != QAT_SCALE_TWO_LEVEL;
}

/* Statistics of a block's n elements, row by row, made into those of the range that the
 * scheme measures. */
static inline void qat_stats_measure(const qat_scheme *s, qat_block_stats *b, const float *x,
				     int64_t n)
{
	const int64_t rank = qat_percentile_rank(s->measure_value, n);
	qat_block_stats best = *b;
	double least = INFINITY;

	if (b->bad || !qat_measures_blocks(s))
		return;
	if (s->measure == QAT_MEASURE_PERCENTILE) {
		b->lo = qat_select(x, n, n + 1 - rank, 0);
		b->hi = qat_select(x, n, rank, 0);
		b->amax = qat_select(x, n, rank, 1);
		b->extreme = copysignf(b->amax, b->extreme);
		return;
	}
	for (int i = 0; i < QAT_MSE_STEPS; i++) {
		const qat_block_stats t = qat_stats_shrunk(b, i);
		const double e = qat_square_error(s, &t, x, n);

		if (e < least) {
			least = e;
			best = t;
		}
	}
	*b = best;
}

/* A calibrated range after one more batch, whose elements lie in lo .. hi. */
static inline void qat_range_add(const qat_scheme *s, float range[2], float lo, float hi)
{
	const float a = (float)s->measure_value, rest = 1.0f - a;

	if (s->measure == QAT_MEASURE_EMA && range[0] <= range[1]) {
		range[0] = rest * range[0] + a * lo;
		range[1] = rest * range[1] + a * hi;
		return;
	}
	range[0] = lo < range[0] || lo != lo ? lo : range[0];
	range[1] = hi > range[1] || hi != hi ? hi : range[1];
}

/* Histogram of a calibration that leaves elements out: 64 bins for each power of two from
 * 2^-24 to 2^16, those of negative numbers first, ascending. */
enum { QAT_BINS = 40 * 64, QAT_COUNTS = 2 * QAT_BINS };

/* Bin of a magnitude among its sign's; what lies beyond falls into the outer ones. */
static inline int qat_bin(float x)
{
	const int m = (int)((qat_f32_bits(x) & 0x7fffffffu) >> 17) - ((127 - 24) << 6);

	return m < 0 ? 0 : m >= QAT_BINS ? QAT_BINS - 1 : m;
}

/* The magnitude at which bin m begins. */
static inline float qat_bin_start(int m)
{
	return m ? qat_f32_from_bits((uint32_t)(m + ((127 - 24) << 6)) << 17) : 0.0f;
}

static inline void qat_counts_add(double counts[QAT_COUNTS], float x)
{
	const int m = qat_bin(x);

	if (qat_is_finite(x))
		counts[qat_f32_bits(x) >> 31 ? QAT_BINS - 1 - m : QAT_BINS + m] += 1;
}

/* ---- randomness: Philox4x32-10 ---- */

enum {
	QAT_RANDOM_INIT     = 1,	/* purposes: initial weights */
	QAT_RANDOM_ROUND    = 2,	/* stochastic rounding */
	QAT_RANDOM_SHUFFLE  = 3,	/* order of training sequences */
	QAT_RANDOM_DROPOUT  = 4,
	QAT_RANDOM_SELECT   = 5,	/* random precision */
	QAT_RANDOM_SAMPLE   = 6,	/* the next token: element its place, sequence the prompt */
	QAT_RANDOM_GRADIENT = 7,	/* gradients that become codes: element in the sequence */
	QAT_RANDOM_MOMENT   = 8		/* moments that do: element of the parameter, whose number
					 * among the trained stands for the site */
};

/* Four words for a counter: element / 4, sequence (or optimizer step), and
 * site << 8 | purpose. The key is the run's seed. */
static inline void qat_philox(uint32_t out[4], uint64_t seed, uint64_t element4,
			      uint32_t sequence, uint32_t site_purpose)
{
	uint32_t c[4] = { (uint32_t)element4, (uint32_t)(element4 >> 32), sequence, site_purpose };
	uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);

	for (int round = 0; round < 10; round++) {
		const uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];

		c[0] = (uint32_t)(b >> 32) ^ c[1] ^ k0;
		c[1] = (uint32_t)b;
		c[2] = (uint32_t)(a >> 32) ^ c[3] ^ k1;
		c[3] = (uint32_t)a;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	memcpy(out, c, sizeof c);
}

static inline float qat_uniform(uint32_t word)
{
	return (float)(word >> 8) * 5.9604644775390625e-8f;	/* 2^-24 */
}

/* ---- gradients as codes: QAT_OP_QMATMUL_GRAD ---- */

/* Whether a product over the rows of these codes can be summed in integers: they stand for
 * integers as they are, and a row has one scale, which goes to the other operand. */
static inline int qat_scheme_folds(const qat_scheme *s)
{
	return s->grid == QAT_GRID_UNIFORM && s->zero == QAT_ZERO_NONE && s->block_cols == 0 &&
	       s->block_rows >= 0 && s->scale_rule != QAT_SCALE_TWO_LEVEL;
}

/* Scale of gradients whose magnitudes end at amax, for codes of -qmax .. qmax. bad: a NaN or
 * an infinity is among them. */
static inline float qat_grad_scale(float amax, int bad, int qmax)
{
	if (bad)
		return qat_f32_from_bits(0x7fc00000u);
	return amax < 7.88860905e-31f ? 1.0f : qat_scale_checked(amax / (float)qmax);
}

/* Code of x, rounded down or up at random: floor(fl(fl(x r) + u)), r = fl(1 / scale). */
static inline int qat_grad_code(float x, float scale, uint32_t word, int qmax)
{
	if (scale != scale)
		return 0;
	return qat_clamp_int((int)floorf(x * (1.0f / scale) + qat_uniform(word)), -qmax, qmax);
}

/* ---- moments in 8 bits: QAT_OP_ADAMW8 ---- */

/* Elements of a parameter, in order, that share a unit: what code 1 stands for.
 *   m       = c |c| unit,  c of -127 .. 127        codes lie closer the nearer they are to 0
 *   sqrt(v) = c^2 unit,    c of 0 .. 255
 * Between two codes one is drawn so that the mean is m, or v itself, half of a word for each. */
enum { QAT_MOMENT_BLOCK = 256, QAT_FIRST_TOP = 127, QAT_SECOND_TOP = 255 };

/* Unit of a block whose |m|, or sqrt(v), end at top. bad: a NaN or an infinity is among them,
 * and all of the block becomes NaN. */
static inline float qat_moment_unit(float top, int bad, int top_code)
{
	if (bad)
		return qat_f32_from_bits(0x7fc00000u);
	return top < 7.88860905e-31f ? 0.0f : top / (float)(top_code * top_code);	/* 2^-100 */
}

static inline float qat_first_moment(int code, float unit)
{
	return (float)(code < 0 ? -code * code : code * code) * unit;
}

static inline float qat_second_moment(int code, float unit)
{
	const float root = (float)(code * code) * unit;

	return root * root;
}

/* A place between two codes, of 16 random bits. */
static inline float qat_moment_draw(uint32_t bits)
{
	return ((float)bits + 0.5f) * 1.52587890625e-5f;	/* 2^-16 */
}

static inline int qat_first_code(float m, float unit, uint32_t word)
{
	const float x = fabsf(m) * (1.0f / unit), u = qat_moment_draw(word & 0xffffu);
	float c;
	int code;

	if (!(unit > 0))
		return 0;
	c = (float)(int)sqrtf(x);
	code = qat_clamp_int((int)c + (x - c * c > u * (c + c + 1.0f)), 0, QAT_FIRST_TOP);
	return m < 0 ? -code : code;
}

/* Above 0 stays above 0: the root divides. */
static inline int qat_second_code(float v, float unit, uint32_t word)
{
	const float y = sqrtf(v) * (1.0f / unit), u = qat_moment_draw(word >> 16);
	float c, s;

	if (!(unit > 0))
		return 0;
	c = (float)(int)sqrtf(y);
	s = c * c;
	c += (y - s) * (y + s) > u * ((c + c + 1.0f) * (s + s + (c + c + 1.0f)));
	return qat_clamp_int((int)c, v > 0, QAT_SECOND_TOP);
}

#ifdef __cplusplus
}
#endif
#endif
