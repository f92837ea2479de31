/* quantize_run.h - what is measured of a run of elements, and their codes. Part of quantize.c.
 *
 * Runs of uniform and float grids are branch-free formulas; tables, and blocks that hold NaN or
 * infinity under a given scale, go through numerics.h element by element.
 */
#include "quantize_wide.h"

typedef struct quant_block {
	float scale, zero;
	int exact;			/* 1: element by element */
} quant_block;

/* ---- statistics ---- */

/* Signed integers in the order of floats, and back (NaN past infinity). */
QAT_INLINE int32_t ordered(uint32_t u)
{
	return (int32_t)(u ^ ((uint32_t)((int32_t)u >> 31) & 0x7fffffffu));
}

QAT_INLINE uint32_t run_amax(const float *restrict x, int64_t n)
{
#if defined __AVX512BW__
	return wide_amax(x, n);
#else
	uint32_t top = 0;

#pragma omp simd reduction(max: top)
	for (int64_t i = 0; i < n; i++) {
		const uint32_t u = qat_f32_bits(x[i]) & 0x7fffffffu;

		top = u > top ? u : top;
	}
	return top;
#endif
}

QAT_INLINE void run_range(qat_block_stats *b, const float *restrict x, int64_t n)
{
	int32_t lo = INT32_MAX, hi = INT32_MIN;

#pragma omp simd reduction(min: lo) reduction(max: hi)
	for (int64_t i = 0; i < n; i++) {
		const int32_t v = ordered(qat_f32_bits(x[i]));

		lo = v < lo ? v : lo;
		hi = v > hi ? v : hi;
	}
	const float flo = qat_f32_from_bits((uint32_t)ordered((uint32_t)lo));
	const float fhi = qat_f32_from_bits((uint32_t)ordered((uint32_t)hi));

	b->lo = flo < b->lo ? flo : b->lo;
	b->hi = fhi > b->hi ? fhi : b->hi;
}

static float first_of_magnitude(const float *x, uint32_t magnitude)
{
	while ((qat_f32_bits(*x) & 0x7fffffffu) != magnitude)
		x++;
	return *x;
}

QAT_INLINE void run_stats(const qat_scheme *s, qat_block_stats *b, const float *x, int64_t n)
{
	const uint32_t top = run_amax(x, n);
	const float amax = qat_f32_from_bits(top);

	b->bad |= top >= 0x7f800000u;
	if (amax > b->amax) {
		b->amax = amax;
		if (s->scale_rule == QAT_SCALE_SIGNED)
			b->extreme = first_of_magnitude(x, top);
	}
	if (s->scale_rule == QAT_SCALE_MINMAX || s->scale_rule == QAT_SCALE_FLOAT_ZERO)
		run_range(b, x, n);
}

/* `later` comes after b in the order of elements. */
static void merge_stats(qat_block_stats *b, const qat_block_stats *later)
{
	b->bad |= later->bad;
	if (later->amax > b->amax) {
		b->amax = later->amax;
		b->extreme = later->extreme;
	}
	b->lo = later->lo < b->lo ? later->lo : b->lo;
	b->hi = later->hi > b->hi ? later->hi : b->hi;
}

/* ---- codes of a run; inside[i] is 1 where the gradient passes ---- */

enum { PART = 256 };

/* n <= PART codes that are not clamped yet, and on to the end of a vector. */
QAT_INLINE void uniform_integers(int32_t *restrict q, const float *x, int64_t n, float r,
				 int32_t zero)
{
	const vf far = vf_set(1e6f), near = vf_set(-1e6f);
	float last[LANES] = { 0 };

	for (int64_t i = 0; i < n; i += LANES) {
		const int whole = i + LANES <= n;
		vf w;

		if (!whole)
			memcpy(last, x + i, (size_t)(n - i) * 4);
		w = vf_load(whole ? x + i : last) * r;
		w = vf_round_near(vf_min(far, vf_max(near, w)));
		*(vi_any *)(void *)(q + i) = __builtin_convertvector(w, vi) + zero;
	}
}

QAT_INLINE void uniform_codes(const qat_scheme *s, int8_t *restrict codes,
			      uint8_t *restrict inside, const float *restrict x, int64_t n,
			      const quant_block *b)
{
	const int32_t lo = s->qmin, hi = s->qmax;
	int32_t q[PART + LANES];

#if defined __AVX512BW__
	if (!inside) {
		wide_uniform(s, codes, x, n, b->scale, b->zero);
		return;
	}
#endif
	for (int64_t i = 0; i < n; i += PART) {
		const int64_t len = min64(PART, n - i);

		uniform_integers(q, x + i, len, 1.0f / b->scale, (int32_t)b->zero);
		for (int64_t j = 0; inside && j < len; j++)
			inside[i + j] = q[j] >= lo && q[j] <= hi;
		for (int64_t j = 0; j < len; j++) {
			const int32_t up = q[j] > lo ? q[j] : lo;

			codes[i + j] = (int8_t)(up < hi ? up : hi);
		}
	}
}

QAT_INLINE void shifted_codes(const qat_scheme *s, int8_t *restrict codes,
			      uint8_t *restrict inside, const float *restrict x, int64_t n,
			      const quant_block *b)
{
	const float mid = (float)((s->qmax - s->qmin + 1) / 2), far = 1e6f;
	const float base = b->zero - mid * b->scale, scale = b->scale;
	const int32_t lo = s->qmin, hi = s->qmax;

	for (int64_t i = 0; i < n; i++) {
		const float v = (x[i] - base) / scale, low = v > -far ? v : -far;
		const int32_t q = (int32_t)round_near(low < far ? low : far) + lo;
		const int32_t up = q > lo ? q : lo;

		codes[i] = (int8_t)(up < hi ? up : hi);
		if (inside)
			inside[i] = q >= lo && q <= hi;
	}
}

/* Rounding to multiples of 2^(e - mbits) by adding 1.5 * 2^(e - mbits + 23). */
QAT_INLINE void float_codes(const qat_scheme *s, uint8_t *restrict codes,
			    uint8_t *restrict inside, const float *restrict x, int64_t n,
			    const quant_block *b, int divide)
{
	const int32_t bias = (1 << (s->ebits - 1)) - 1, emin = 1 - bias, mbits = s->mbits;
	const int32_t sign_at = s->ebits + mbits, drop = 23 - mbits;
	const float scale = b->scale, r = 1.0f / scale, top = s->largest, limit = 2.0f * top;
	const float units = qat_pow2(mbits - emin), normal = qat_pow2(emin);

	for (int64_t i = 0; i < n; i++) {
		const float m = fabsf(x[i]), scaled = divide ? m / scale : m * r;
		const float y0 = m < 1.17549435e-38f ? 0.0f : scaled;
		const float y = y0 < limit ? y0 : limit;
		const int32_t e0 = (int32_t)(qat_f32_bits(y) >> 23) - 127;
		const int32_t e = e0 < emin ? emin : e0;
		const float big = qat_f32_from_bits((uint32_t)(e + drop + 127) << 23 | 0x400000u);
		const float a0 = (y + big) - big, a = a0 > top ? top : a0;
		const int32_t small = (int32_t)((a < normal ? a : 0.0f) * units);
		const int32_t large = (int32_t)(qat_f32_bits(a) >> drop) - ((127 - bias) << mbits);
		const int32_t sign = (int32_t)(qat_f32_bits(x[i]) >> 31) << sign_at;

		codes[i] = (uint8_t)(sign | (a < normal ? small : large));
		if (inside)
			inside[i] = a0 <= top;
	}
}

static void exact_codes(const qat_scheme *s, uint8_t *codes, uint8_t *inside, const float *x,
			int64_t n, const quant_block *b)
{
	for (int64_t i = 0; i < n; i++) {
		int in;

		codes[i] = qat_code(s, x[i], b->scale, b->zero, &in);
		if (inside)
			inside[i] = (uint8_t)in;
	}
}

QAT_INLINE void run_codes(const qat_scheme *s, uint8_t *codes, uint8_t *inside, const float *x,
			  int64_t n, const quant_block *b)
{
	if (b->scale != b->scale) {
		memset(codes, 0, (size_t)n);
		if (inside)
			memset(inside, 1, (size_t)n);
	} else if (b->exact || s->grid == QAT_GRID_TABLE) {
		exact_codes(s, codes, inside, x, n, b);
	} else if (s->grid == QAT_GRID_FLOAT && s->scale_rule == QAT_SCALE_TWO_LEVEL) {
		float_codes(s, codes, inside, x, n, b, 1);
	} else if (s->grid == QAT_GRID_FLOAT) {
		float_codes(s, codes, inside, x, n, b, 0);
	} else if (s->zero == QAT_ZERO_FLOAT) {
		shifted_codes(s, (int8_t *)codes, inside, x, n, b);
	} else {
		uniform_codes(s, (int8_t *)codes, inside, x, n, b);
	}
}

/* Bits of columns c .. c + n - 1; the row of the mask was cleared before. */
static void mask_bits(uint8_t *mask, const uint8_t *inside, int64_t c, int64_t n)
{
	int64_t i = 0;

	for (; i < n && (c + i) % 8; i++)
		mask[(c + i) / 8] |= (uint8_t)(inside[i] << (c + i) % 8);
	for (; i + 8 <= n; i += 8) {
		unsigned byte = 0;

		for (int j = 0; j < 8; j++)
			byte |= (unsigned)inside[i + j] << j;
		mask[(c + i) / 8] = (uint8_t)byte;
	}
	for (; i < n; i++)
		mask[(c + i) / 8] |= (uint8_t)(inside[i] << (c + i) % 8);
}
