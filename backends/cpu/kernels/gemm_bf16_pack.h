/* gemm_bf16_pack.h - operands of products of bf16, as the panels that gemm_bf16.c multiplies.
 * Part of it.
 *
 * Panels of the right operand are [k / 2][NR] pairs, those of the left one [k / 2][MR], or its
 * rows as they are. Operands that are f32, or codes, are rounded or decoded on the way: they
 * never exist in bf16.
 */
#ifndef QAT_CPU_GEMM_BF16_PACK_H
#define QAT_CPU_GEMM_BF16_PACK_H

#include "decode.h"
#include "turn.h"

enum { MR = 8, NV = 3, NR = NV * LANES, PAIR = 4 };
enum { ACROSS = 32 * NR, DOWN = 128, PIECE = 512, PACK_PAIRS = 16 };
enum { PACKED_MAX = 8 << 20, DEPTH_MIN = 1536 };	/* bytes of an operand; of k */
enum { STREAM_MIN = 1 << 17 };		/* elements */
enum { CHUNK = 768 };			/* pairs whose left panel stays in the first cache */

typedef struct product {
	const qat_gemm_args *g;
	char *b, *a;			/* packed */
	float *kept;			/* tiles between two steps of k */
	float *own;			/* of each thread: tiles between two chunks of k */
	int64_t down;			/* rows of a block */
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

/* Rows r .. last of the operand, at most 2 PACK_PAIRS, two by two into panels of `width`
 * columns that are `panel` bytes apart; n columns from c on. */
QAT_INLINE void spread_rows(char *out, const side *s, int64_t r, int64_t last, int64_t c,
			    int64_t n, int64_t width, int64_t panel)
{
	static const uint16_t zero[PIECE];
	const int64_t piece = PIECE / width * width, pairs = (last - r) / 2 + 1;
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

/* The pairs of 32 columns of four rows, two pairs of rows to each of four panels of MR. */
QAT_INLINE void weave(char *out, const uint16_t *const x[4], int64_t j, int64_t panel)
{
	static const uint16_t low[32] = {
		0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39,
		8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47,
	};
	const __m512i lo = _mm512_loadu_si512(low);
	const __m512i hi = _mm512_add_epi16(lo, _mm512_set1_epi16(16));
	__m512i v[4], p[2][2];

	for (int k = 0; k < 4; k++)
		v[k] = _mm512_loadu_si512(x[k] + j);
	for (int k = 0; k < 2; k++) {
		p[k][0] = _mm512_permutex2var_epi16(v[2 * k], lo, v[2 * k + 1]);
		p[k][1] = _mm512_permutex2var_epi16(v[2 * k], hi, v[2 * k + 1]);
	}
	for (int k = 0; k < 2; k++, out += 2 * panel) {
		_mm512_storeu_si512(out, _mm512_shuffle_i64x2(p[0][k], p[1][k], 0x44));
		_mm512_storeu_si512(out + panel, _mm512_shuffle_i64x2(p[0][k], p[1][k], 0xee));
	}
}

/* As spread_rows for panels of MR columns. */
static void weave_rows(char *out, const side *s, int64_t r, int64_t last, int64_t c, int64_t n,
		       int64_t panel)
{
	const int64_t whole = (last - r + 1) % 4 ? 0 : n / 32 * 32;
	uint16_t buf[2 * PACK_PAIRS][PIECE];
	const uint16_t *x[2 * PACK_PAIRS];

	for (int64_t i = 0; i < whole; i += PIECE) {
		const int64_t len = min64(PIECE, whole - i);

		for (int64_t k = 0; k <= last - r; k++)
			x[k] = row_of(s, buf[k], r + k, c + i, len);
		for (int64_t j = 0; j < len; j += 32)
			for (int64_t k = 0; k <= last - r; k += 4)
				weave(out + (i + j) / MR * panel + k / 2 * MR * PAIR, x + k, j,
				      panel);
	}
	spread_rows(out + whole / MR * panel, s, r, last, c + whole, n - whole, MR, panel);
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

/* Rows r .. last, an even number of them. */
static void pair_panels(char *out, const side *s, int64_t r, int64_t last, int64_t c, int64_t n,
			int64_t panel, int plain, int shift)
{
	for (; r < last; r += 2, out += NR * PAIR)
		if (plain && shift == 63)
			pair_codes(out, s, r, c, n, panel, 63);
		else if (plain)
			pair_codes(out, s, r, c, n, panel, shift);
		else
			pair_floats(out, s, r, c, n, panel);
}

/* As spread_rows for panels of NR columns. */
static void spread_right(char *out, const side *s, int64_t r, int64_t last, int64_t c, int64_t n,
			 int64_t panel)
{
	int shift;
	const int plain = is_plain(s, c, &shift), f32 = !s->codes && s->x.dtype == QAT_F32;
	const int64_t whole = (plain || f32) && (last - r) % 2 ? n / NR * NR : 0;

	if (whole)
		pair_panels(out, s, r, last, c, whole, panel, plain, shift);
	if (whole < n)
		spread_rows(out + whole / NR * panel, s, r, last, c + whole, n - whole, NR, panel);
}

/* Part t of an operand whose rows are of k: PACK_PAIRS pairs of rows, for panels of `width`. */
QAT_INLINE void spread_part(const product *w, char *out, const side *s, int64_t t, int64_t c,
			    int64_t n, int64_t width)
{
	const int64_t first = t * PACK_PAIRS, end = min64(w->pairs, first + PACK_PAIRS);
	const int64_t r = w->p0 + 2 * first, last = w->p0 + min64(w->depth, 2 * end) - 1;
	const int64_t panel = w->pairs * width * PAIR;

	if (width == MR)
		weave_rows(out + first * width * PAIR, s, r, last, c, n, panel);
	else
		spread_right(out + first * width * PAIR, s, r, last, c, n, panel);
}

/* 16 columns of a panel, from as many rows of the operand of which `have` exist: n elements
 * of k from p on. */
static void turn_rows(char *out, const side *s, int64_t r, int64_t have, int64_t p, int64_t n)
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
		for (int64_t i = 0; i < (len + 1) / 2; i++)
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
				  min64(PIECE, w->depth - p));
		return;
	}
	spread_part(w, w->b, &s, t, w->j0, w->cols, NR);
}

/* Part t of the left operand: some pairs of all tiles, or MR rows of pairs. */
static void pack_left(const product *w, int64_t t)
{
	const qat_gemm_args *g = w->g;
	const side s = left_side(g);
	const int64_t row = w->pairs * PAIR;

	if (g->trans_a) {
		spread_part(w, w->a, &s, t, w->i0, w->rows, MR);
		return;
	}
	for (int64_t r = t * MR; r < min64(w->rows, (t + 1) * MR); r++) {
		uint16_t *to = (uint16_t *)(void *)(w->a + r * row);

		row_to(&s, to, w->i0 + r, w->p0, w->depth);
		if (w->depth % 2)
			to[w->depth] = 0;
	}
}

static int64_t left_parts(const product *w)
{
	if (w->direct)
		return 0;
	return w->g->trans_a ? div_up(w->pairs, PACK_PAIRS) : div_up(w->rows, MR);
}

#endif
