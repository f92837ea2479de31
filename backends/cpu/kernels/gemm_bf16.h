/* gemm_bf16.h - what both kinds of products of bf16 share: operands, the right one's panels, and
 * elements of y. Part of gemm_bf16.c and gemm_bf16_tiles.c, which say before what they
 * multiply at once: MR rows and NV vectors of columns of y, and DEEP of k.
 *
 * Panels of the right operand are [k / 2][NR] pairs, up to whole DEEP. Operands that are f32, or
 * codes, are rounded or decoded on the way: they never exist in bf16.
 */
#ifndef QAT_CPU_GEMM_BF16_H
#define QAT_CPU_GEMM_BF16_H

#include "decode.h"
#include "turn.h"

enum { NR = NV * LANES, PAIR = 4 };
enum { ACROSS = 1536, PIECE = 512, PACK_PAIRS = 16 };
enum { PACKED_MAX = 8 << 20, DEPTH_MIN = 1536 };	/* bytes of an operand; of k */
enum { STREAM_MIN = 1 << 17 };		/* elements */

typedef struct product {
	const qat_gemm_args *g;
	char *b, *a;			/* packed */
	int64_t row;			/* bytes between rows of the left one */
	float *kept;			/* tiles between two steps of k */
	float *own;			/* of each thread: tiles between two chunks of k */
	int64_t down;			/* rows of a task */
	int64_t j0, cols, panels;	/* of y, now */
	int64_t i0, rows, span;		/* likewise; span: as many as are packed at once */
	int64_t p0, depth, pairs;	/* of k, now */
	int64_t step;			/* the most that depth may be */
	int32_t direct;			/* the left operand is read in place */
	int32_t stream;			/* y is written past the caches */
} product;

/* ---- operands, as rows of bf16 ---- */

typedef struct side {
	qat_src x;
	const qat_dequantize_args *codes;
	int64_t ld;
	int far;			/* rows lie where they push each other out of the cache */
} side;

/* Rows that are apart by a multiple of many bytes share few places in the caches. */
static int in_the_way(int64_t ld, int64_t bytes)
{
	return ld * 2 % bytes == 0;
}

/* n elements of row r from column c, made in out. */
static void row_to(const side *s, uint16_t *out, int64_t r, int64_t c, int64_t n)
{
	if (s->codes)
		QAT_NAME(qat_decode_bf16)(s->codes, out, r, c, n);
	else if (s->x.dtype == QAT_BF16)
		memcpy(out, (const uint16_t *)s->x.data + r * s->ld + c, (size_t)n * 2);
	else
		store_floats(out, QAT_BF16, 0, (const float *)s->x.data + r * s->ld + c, n);
}

/* The same in place where it is there already, else in buf. */
static const uint16_t *row_of(const side *s, uint16_t *buf, int64_t r, int64_t c, int64_t n)
{
	if (!s->codes && s->x.dtype == QAT_BF16 && !s->far)
		return (const uint16_t *)s->x.data + r * s->ld + c;
	row_to(s, buf, r, c, n);
	return buf;
}

/* The left operand's lines are read whole, and once. */
static side left_side(const qat_gemm_args *g)
{
	return (side){ g->a, g->codes_a, g->lda, 0 };
}

static side right_side(const qat_gemm_args *g)
{
	return (side){ g->b, g->codes_b, g->ldb, in_the_way(g->ldb, 1024) };
}

/* ---- packing ---- */

/* out [width] pairs of rows r and r + 1, columns c.. of which there are n. A row behind
 * the last one is zero. */
QAT_INLINE void pair_rows(uint32_t *restrict out, const uint16_t *restrict x,
			  const uint16_t *restrict y, int64_t n, int64_t width)
{
	for (int64_t i = 0; i < n; i++)
		out[i] = x[i] | (uint32_t)y[i] << 16;
	for (int64_t i = n; i < width; i++)
		out[i] = 0;
}

/* `pairs` pairs of rows of the operand from r on, at most PACK_PAIRS, into panels of `width`
 * columns that are `panel` bytes apart; n columns from c on. Rows behind `last` are zero. */
QAT_INLINE void spread_rows(char *out, const side *s, int64_t r, int64_t last, int64_t pairs,
			    int64_t c, int64_t n, int64_t width, int64_t panel)
{
	static const uint16_t zero[PIECE];
	const int64_t piece = PIECE / width * width;
	uint16_t buf[2 * PACK_PAIRS][PIECE];
	const uint16_t *x[2 * PACK_PAIRS];

	for (int64_t i = 0; i < n; i += piece) {
		const int64_t len = min64(piece, n - i);

		for (int64_t k = 0; k < 2 * pairs; k++)
			x[k] = r + k <= last ? row_of(s, buf[k], r + k, c + i, len) : zero;
		for (int64_t j = 0; j < len; j += width) {
			uint32_t *to = (uint32_t *)(void *)(out + (i + j) / width * panel);
			const int64_t have = min64(width, len - j);

			for (int64_t k = 0; k < pairs; k++, to += width)
				if (have == width)
					pair_rows(to, x[2 * k] + j, x[2 * k + 1] + j, width, width);
				else
					pair_rows(to, x[2 * k] + j, x[2 * k + 1] + j, have, width);
		}
	}
}

/* ---- pairs of f32 and of codes, made in registers ---- */

/* bf16_of 16 numbers, in the upper halves; what is below is garbage. */
QAT_INLINE __m512i upper_bf16(__m512 v)
{
	const __m512i u = _mm512_castps_si512(v);
	const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
	const __m512i near = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);

	return _mm512_mask_or_epi32(near, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), u,
				    _mm512_set1_epi32(0x400000));
}

QAT_INLINE __m512i pair_of(__m512 x, __m512 y)
{
	const __m512i lo = _mm512_srli_epi32(upper_bf16(x), 16);

	return _mm512_ternarylogic_epi32(_mm512_set1_epi32(0xffff), lo, upper_bf16(y), 0xca);
}

/* 16 codes times their scale. */
QAT_INLINE __m512 steps_of(const int8_t *codes, float scale)
{
	const __m128i k = _mm_loadu_si128((const __m128i *)(const void *)codes);

	return _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(k)));
}

/* Whether codes are integers without zero points whose scale is one for a row, or for vectors
 * of it that a shift finds: *shift, 63 for rows. */
static int is_plain(const side *s, int64_t c, int *shift)
{
	const qat_dequantize_args *d = s->codes;
	const int64_t block = d ? d->scheme->block_cols : 0;

	*shift = block ? __builtin_ctzll((uint64_t)block) : 63;
	return d && d->scheme->grid == QAT_GRID_UNIFORM && !d->zero &&
	       d->scheme->zero != QAT_ZERO_FLOAT && d->scheme->block_rows == 1 &&
	       c % LANES == 0 && (!block || (block == INT64_C(1) << *shift && block >= LANES));
}

/* Rows r and r + 1 of the operand, n columns from c on, into panels of NR. */
QAT_INLINE void pair_codes(char *out, const side *s, int64_t r, int64_t c, int64_t n,
			   int64_t panel, int shift)
{
	const qat_dequantize_args *d = s->codes;
	const int64_t groups = shift == 63 ? 1 : d->cols >> shift;
	const int8_t *x = (const int8_t *)d->codes + r * d->cols, *y = x + d->cols;
	const float *a = d->scale + r * groups, *b = a + groups;

	for (int64_t j = c; j < c + n; j += NR, out += panel)
#pragma GCC unroll 3
		for (int64_t k = 0; k < NR; k += LANES) {
			const int64_t g = shift == 63 ? 0 : (j + k) >> shift;

			_mm512_storeu_si512(out + k * PAIR, pair_of(steps_of(x + j + k, a[g]),
								    steps_of(y + j + k, b[g])));
		}
}

QAT_INLINE void pair_floats(char *out, const side *s, int64_t r, int64_t c, int64_t n,
			    int64_t panel)
{
	const float *x = (const float *)s->x.data + r * s->ld, *y = x + s->ld;

	for (int64_t j = c; j < c + n; j += NR, out += panel)
#pragma GCC unroll 3
		for (int64_t k = 0; k < NR; k += LANES)
			_mm512_storeu_si512(out + k * PAIR, pair_of(_mm512_loadu_ps(x + j + k),
								    _mm512_loadu_ps(y + j + k)));
}

/* `pairs` pairs of rows from r on. */
static void pair_panels(char *out, const side *s, int64_t r, int64_t pairs, int64_t c, int64_t n,
			int64_t panel, int plain, int shift)
{
	for (int64_t i = 0; i < pairs; i++, r += 2, out += NR * PAIR)
		if (plain && shift == 63)
			pair_codes(out, s, r, c, n, panel, 63);
		else if (plain)
			pair_codes(out, s, r, c, n, panel, shift);
		else
			pair_floats(out, s, r, c, n, panel);
}

/* As spread_rows for panels of NR columns. */
static void spread_right(char *out, const side *s, int64_t r, int64_t last, int64_t pairs,
			 int64_t c, int64_t n, int64_t panel)
{
	int shift;
	const int plain = is_plain(s, c, &shift), f32 = !s->codes && s->x.dtype == QAT_F32;
	const int64_t whole = (plain || f32) && last - r + 1 >= 2 * pairs ? n / NR * NR : 0;

	if (whole)
		pair_panels(out, s, r, pairs, c, whole, panel, plain, shift);
	if (whole < n)
		spread_rows(out + whole / NR * panel, s, r, last, pairs, c + whole, n - whole, NR,
			    panel);
}

/* 16 columns of a panel, from as many rows of the operand of which `have` exist: n elements
 * of k from p on, and zeros up to `pairs` pairs. */
static void turn_rows(char *out, const side *s, int64_t r, int64_t have, int64_t p, int64_t n,
		      int64_t pairs)
{
	uint16_t buf[16][PIECE];
	const uint16_t *x[16];

	for (int64_t i = 0; i < 16; i++)
		x[i] = i < have ? row_of(s, buf[i], r + i, p, n) : NULL;
	for (int64_t k = 0; k < n; k += 32) {
		const int64_t len = min64(32, n - k);
		const __mmask32 part = (__mmask32)(0xffffffffu >> (32 - len));
		__m512i v[16];

#pragma GCC unroll 16
		for (int i = 0; i < 16; i++)
			v[i] = x[i] ? _mm512_maskz_loadu_epi16(part, x[i] + k)
				    : _mm512_setzero_si512();
		transpose(v);
		for (int64_t i = 0; i < min64(16, pairs - k / 2); i++)
			_mm512_storeu_si512(out + (k / 2 + i) * NR * PAIR, v[i]);
	}
}

/* Part t of the right operand: some pairs of all panels, or 16 columns. */
static void pack_right(const product *w, int64_t t)
{
	const qat_gemm_args *g = w->g;
	const side s = right_side(g);
	const int64_t panel = w->pairs * NR * PAIR;

	if (g->trans_b) {
		const int64_t j = t * 16, have = max64(0, min64(16, w->cols - j));
		char *out = w->b + t / NV * panel + t % NV * 16 * PAIR;

		for (int64_t p = 0; p < w->depth; p += PIECE)
			turn_rows(out + p / 2 * NR * PAIR, &s, w->j0 + j, have, w->p0 + p,
				  min64(PIECE, w->depth - p), w->pairs - p / 2);
	} else {
		const int64_t first = t * PACK_PAIRS, end = min64(w->pairs, first + PACK_PAIRS);

		spread_right(w->b + first * NR * PAIR, &s, w->p0 + 2 * first,
			     w->p0 + w->depth - 1, end - first, w->j0, w->cols, panel);
	}
}

static int64_t right_parts(const product *w)
{
	return w->g->trans_b ? w->panels * NV : div_up(w->pairs, PACK_PAIRS);
}

/* ---- y ---- */

/* n elements of a finished row to y. */
static void finish_row(const qat_gemm_args *g, float *restrict t, int64_t i, int64_t j,
		       int64_t n)
{
	if (g->bias)
		for (int64_t k = 0; k < n; k++)
			t[k] += g->bias[j + k];
	if (g->addend) {
		const float *c = g->addend + i * g->ld_addend + j;

		for (int64_t k = 0; k < n; k++)
			t[k] += c[k];
	}
	store_floats(g->y.data, g->y.dtype, i * g->ldy + j, t, n);
}

QAT_INLINE void expect_rows(const qat_gemm_args *g, int64_t i, int64_t j, int64_t bytes)
{
	for (int64_t r = i; r < min64(i + MR, g->m); r++) {
		const char *y = (const char *)g->y.data + (r * g->ldy + j) * bytes;

		for (int64_t k = 0; k < NR * bytes; k += 64)
			__builtin_prefetch(y + k, 1);
		for (int64_t k = 0; g->addend && k < NR; k += 16)
			__builtin_prefetch(g->addend + r * g->ld_addend + j + k);
	}
}

/* Asks for the memory that a tile goes to, long before it does. */
QAT_INLINE void expect(const qat_gemm_args *g, int64_t i, int64_t j)
{
	if (g->y.dtype == QAT_F32)
		expect_rows(g, i, j, 4);
	else
		expect_rows(g, i, j, 2);
}

/* A large y that is not read here either need not come into the caches first. */
static int may_stream(const qat_gemm_args *g)
{
	return g->y.dtype == QAT_F32 && !g->addend && (uintptr_t)g->y.data % 64 == 0 &&
	       g->ldy % LANES == 0 && g->m * g->n >= STREAM_MIN;
}

/* k in whole DEEP for which the right operand's columns are not too many bytes. */
static int64_t depth_of(const qat_gemm_args *g)
{
	const int64_t cols = round_up(min64(g->n, ACROSS), NR);
	const int64_t most = max64(DEPTH_MIN, PACKED_MAX / (2 * cols));

	return round_up(div_up(g->k, div_up(g->k, most)), DEEP);
}

#endif
