/* dequantize.c - the generic dequantize, to the bit as numerics.h says: whole, or the part of a
 * row that a product packs. Per ISA.
 */
#include "decode.h"

enum { PIECE = 1024 };

typedef struct dequant_call {
	const qat_dequantize_args *d;
	int64_t block_rows, block_cols, groups;
} dequant_call;

static dequant_call dequant_start(const qat_dequantize_args *d)
{
	const qat_scheme *s = d->scheme;
	dequant_call q = { .d = d };

	q.block_rows = s->block_rows ? s->block_rows : max64(d->rows, 1);
	q.block_cols = s->block_cols ? s->block_cols : max64(d->cols, 1);
	q.groups = d->cols / q.block_cols;
	return q;
}

/* qat_float_value without branches. */
QAT_INLINE void float_values(const qat_scheme *s, float *restrict y,
			     const uint8_t *restrict codes, int64_t n, float scale)
{
	const int32_t mbits = s->mbits, bias = (1 << (s->ebits - 1)) - 1;
	const int32_t emask = (1 << s->ebits) - 1, mmask = (1 << mbits) - 1;
	const int32_t sign_at = s->ebits + mbits;

	for (int64_t i = 0; i < n; i++) {
		const int32_t c = codes[i], e = c >> mbits & emask, low = e == 0;
		const int32_t m = (c & mmask) + ((1 - low) << mbits);
		const uint32_t sign = (uint32_t)(c >> sign_at & 1) << 31;
		const uint32_t step = (uint32_t)(e + low - bias - mbits + 127) << 23;
		const float a = (float)m * qat_f32_from_bits(step);

		y[i] = scale * qat_f32_from_bits(qat_f32_bits(a) ^ sign);
	}
}

QAT_INLINE void run_values(const dequant_call *q, float *restrict y,
			   const uint8_t *restrict codes, int64_t n, float scale, int64_t block)
{
	const qat_scheme *s = q->d->scheme;
	const int8_t *restrict k = (const int8_t *)codes;

	if (s->grid == QAT_GRID_TABLE) {
		const int32_t last = (1 << s->bits) - 1;

		for (int64_t i = 0; i < n; i++)
			y[i] = scale * s->table[codes[i] & last];
	} else if (s->grid == QAT_GRID_FLOAT) {
		float_values(s, y, codes, n, scale);
	} else if (s->zero == QAT_ZERO_FLOAT) {
		const float zero = q->d->zero ? ((const float *)q->d->zero)[block] : 0.0f;
		const int32_t base = s->qmin + (s->qmax - s->qmin + 1) / 2;

		for (int64_t i = 0; i < n; i++)
			y[i] = (float)(k[i] - base) * scale + zero;
	} else {
		const int32_t zero = q->d->zero ? ((const int8_t *)q->d->zero)[block] : 0;

		for (int64_t i = 0; i < n; i++)
			y[i] = scale * (float)(k[i] - zero);
	}
}

#if defined __AVX512BW__ && defined __AVX512VL__ && !defined QAT_PLAIN_TILES
/* run_values of a uniform grid with integer zero points, to bf16 without a stop in memory:
 * n elements, or fewer by what is no whole vector; returns how many. */
QAT_INLINE int64_t steps_to_bf16(uint16_t *y, const int8_t *codes, int64_t n, float scale,
				 int32_t zero)
{
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		const __m128i k = _mm_loadu_si128((const __m128i *)(const void *)(codes + i));
		const __m512i c = _mm512_sub_epi32(_mm512_cvtepi8_epi32(k),
						   _mm512_set1_epi32(zero));

		vf_store_bf16(y + i, vf_set(scale) * (vf)_mm512_cvtepi32_ps(c));
	}
	return i;
}
#else
QAT_INLINE int64_t steps_to_bf16(uint16_t *y, const int8_t *codes, int64_t n, float scale,
				 int32_t zero)
{
	(void)y, (void)codes, (void)n, (void)scale, (void)zero;
	return 0;
}
#endif

/* n elements of one block, at most PIECE. */
QAT_INLINE void decode_run(const dequant_call *q, qat_dst y, int64_t to, int64_t at, int64_t n,
			   int64_t block)
{
	const qat_dequantize_args *d = q->d;
	float buf[PIECE];
	int64_t done = 0;

	if (y.dtype == QAT_BF16 && d->scheme->grid == QAT_GRID_UNIFORM &&
	    d->scheme->zero != QAT_ZERO_FLOAT)
		done = steps_to_bf16((uint16_t *)y.data + to, (const int8_t *)d->codes + at, n,
				     d->scale[block],
				     d->zero ? ((const int8_t *)d->zero)[block] : 0);
	run_values(q, buf, (const uint8_t *)d->codes + at + done, n - done, d->scale[block],
		   block);
	store_floats(y.data, y.dtype, to + done, buf, n - done);
}

/* Columns [c, end) of row r to y, from its element `to` on. */
static void dequantize_part(const dequant_call *q, qat_dst y, int64_t to, int64_t r, int64_t c,
			    int64_t end)
{
	while (c < end) {
		const int64_t g = c / q->block_cols, block = r / q->block_rows * q->groups + g;
		const int64_t n = min64(min64(PIECE, end - c), (g + 1) * q->block_cols - c);
		const int64_t at = r * q->d->cols + c;

		if (n == 32)
			decode_run(q, y, to, at, 32, block);
		else
			decode_run(q, y, to, at, n, block);
		c += n;
		to += n;
	}
}

void QAT_NAME(qat_dequantize)(const qat_dequantize_args *d)
{
	const dequant_call q = dequant_start(d);

#pragma omp parallel for schedule(static)
	for (int64_t r = 0; r < d->rows; r++)
		dequantize_part(&q, d->y, r * d->cols, r, 0, d->cols);
}

void QAT_NAME(qat_decode_bf16)(const qat_dequantize_args *d, uint16_t *out, int64_t r, int64_t c,
			       int64_t n)
{
	const dequant_call q = dequant_start(d);

	dequantize_part(&q, qat_dst_of(out, QAT_BF16), 0, r, c, c + n);
}
