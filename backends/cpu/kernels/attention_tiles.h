/* attention_tiles.h - attention of bf16 where the ISA has tiles: what it has in common with its
 * gradient. Out is bf16, or f32 where a quantizer reads it. Per ISA.
 *
 * Rows (a token and a head that shares the keys) go 16 at a time, and are the lanes of all
 * that is made for each of them; keys go 16 at a time, too:
 *   S^T = K Q^T,  P = 2^(c S - top), c = scale / log 2,  O^T = V^T P^T / rowsum P
 *   dP^T = V dO^T,  dS = P (dP - D),  D = rowsum(dO O),  here P = 2^(c S - lse / log 2)
 *   dQ^T = scale K^T dS^T,  dK = scale dS^T Q,  dV = P^T dO  (the last two summed over rows)
 * Right operands are panels [pairs][16], left ones rows: of channels as keys have them, of keys
 * in a copy that is turned once. P and dS are rounded to bf16 for their products; what O is
 * divided by is the sum of the rounded P, lse that of the others. Every element is a chain over
 * channels and keys, 32 by 32 from the first on, or over rows, 16 by 16; a key that is not seen
 * adds 0: a query's bits depend on no block here, either, on no key behind it, and not on
 * whether there is a cache. Subnormal factors count as 0.
 */
#ifndef QAT_CPU_ATTENTION_TILES_H
#define QAT_CPU_ATTENTION_TILES_H

#include "attention.h"
#include "tiles.h"
#include "turn.h"

/* Bytes of a pair of bf16, of a panel's row, of 16 x 16 of bf16, of a whole tile. */
enum { PAIR = 4, LINE = 64, CODES = 512, WHOLE = 1024 };

/* What products go over at a time: channels, and keys. */
enum { CHANNELS = 32, KEYS = 32 };

/* What a thread works on. Behind the last key and the last channel are zeros. */
typedef struct head {
	const qat_attention_args *a;
	int64_t b, kv, shared;
	int64_t d, pairs, wide;		/* channels; as products take them; up to whole vectors */
	int64_t key_rows, position;	/* of k and v for each sequence; of query 0 */
	int64_t keys, span;		/* of a sequence, up to whole KEYS */
	int64_t rows;			/* queries and heads */
	char *k_lines, *v_lines;	/* [span][2 pairs], as keys are */
	char *k_columns, *v_columns;	/* [wide / 16][span / 32] tiles [16 channels][32 keys] */
	char *s;			/* [span][16] scores; in their place [span / 2][16] pairs */
	float *dk, *dv;			/* [span / 16][wide / 16] tiles */
} head;

/* 16 rows, and the keys that they see: those that one of them does, in whole KEYS, and those
 * that all do. */
typedef struct lot {
	int64_t n;
	int64_t token[LANES], part[LANES];	/* of q's rows; behind n as the last one */
	int64_t from, to, all_from, all_to;
	vi lane_from, lane_to;
	char *q, *dout;			/* [pairs][16] pairs of channels */
	char *q_pairs, *dout_pairs;	/* [wide / 16][8][16] pairs of rows */
	char *ds;			/* [span / 2][16] pairs of keys */
	char *p_tile, *ds_tile;		/* [16 keys][8] pairs of rows */
	vf lse, dot;			/* -lse / log 2; D */
} lot;

/* A function whose vectors are to stay in registers. */
#define NEVER_INLINE static __attribute__((noinline))

static char *take_bytes(float *base, int64_t *used, int64_t n)
{
	return (char *)take(base, used, n / 4);
}

static void measure(head *h, const qat_attention_args *a)
{
	h->a = a;
	h->shared = a->heads / a->kv_heads;
	h->d = a->head_dim;
	h->pairs = round_up(h->d, CHANNELS) / 2;
	h->wide = round_up(h->d, LANES);
	h->key_rows = a->cache_rows ? a->cache_rows : a->length;
	h->position = a->cache_rows ? a->position : 0;
	h->keys = h->position + a->length;
	h->span = round_up(h->key_rows, KEYS);
	h->rows = a->length * h->shared;
}

/* ---- numbers ---- */

/* 2^x within 3 ulp; subnormal results are anything as small. */
QAT_INLINE vf exp2_of(vf x)
{
	const __m512 c = _mm512_max_ps((__m512)vf_set(-160.0f), (__m512)x);	/* or NaN */
	const vf n = (vf)_mm512_roundscale_ps(c, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	const vf r = (vf)c - n;
	vf p = vf_set(1.32695341e-3f);

	p = vf_fma(p, r, vf_set(9.671292268e-3f));
	p = vf_fma(p, r, vf_set(5.550710857e-2f));
	p = vf_fma(p, r, vf_set(0.240222469f));
	p = vf_fma(p, r, vf_set(0.6931470037f));
	p = vf_fma(p, r, vf_set(1.0f));
	return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
}

/* 16 pairs (x, y), rounded. */
QAT_INLINE __m512i pairs_of(vf x, vf y)
{
	static const uint16_t places[32] __attribute__((aligned(64))) = {
		0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
		8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31,
	};

	return _mm512_permutexvar_epi16(_mm512_load_si512(places),
					(__m512i)_mm512_cvtne2ps_pbh((__m512)y, (__m512)x));
}

/* The first n lanes, or all. */
QAT_INLINE __mmask16 lanes_of(int64_t n)
{
	return (__mmask16)(0xffffu >> (LANES - min64(LANES, n)));
}

/* Lanes that see key t. */
QAT_INLINE __mmask16 seen(const lot *l, int64_t t)
{
	const __m512i at = _mm512_set1_epi32((int32_t)t);

	return _mm512_cmpgt_epi32_mask((__m512i)l->lane_to, at) &
	       _mm512_cmple_epi32_mask((__m512i)l->lane_from, at);
}

static int whole(const lot *l, int64_t t)
{
	return t >= l->all_from && t + LANES <= l->all_to;
}

/* ---- rows ---- */

/* 16 rows of bf16, of which n exist; the others are not read. */
typedef struct rows {
	const uint16_t *x[16];
	int64_t n;
} rows;

static rows rows_of_keys(const head *h, qat_src k, int64_t ld, int64_t t)
{
	rows r = { .n = max64(0, min64(16, h->keys - t)) };

	for (int64_t i = 0; i < 16; i++)
		r.x[i] = (const uint16_t *)k.data + h->kv * h->d +
			 (h->b * h->key_rows + min64(t + i, h->keys - 1)) * ld;
	return r;
}

static rows rows_of_lot(const head *h, const lot *l, const void *q, int64_t ld)
{
	rows r = { .n = l->n };

	for (int i = 0; i < 16; i++)
		r.x[i] = (const uint16_t *)q + l->token[i] * ld + l->part[i] * h->d;
	return r;
}

/* out [pairs][16] = pairs of channels of 16 rows, zeros up to whole tiles. */
static void turn(const head *h, char *out, const rows *r)
{
	for (int64_t c = 0; c < h->d; c += 32) {
		const __mmask32 part = (__mmask32)(0xffffffffu >> (32 - min64(32, h->d - c)));
		__m512i v[16];

#pragma GCC unroll 16
		for (int i = 0; i < 16; i++)
			v[i] = _mm512_maskz_loadu_epi16(i < r->n ? part : 0, r->x[i] + c);
		transpose(v);
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++)
			_mm512_storeu_si512(out + (c / 2 + i) * LINE, v[i]);
	}
}

/* Pairs of 16 rows, of channels from c on: [8][16]. */
QAT_INLINE void pair_rows(char *out, const rows *r, int64_t c, __mmask16 part)
{
#pragma GCC unroll 8
	for (int i = 0; i < 16; i += 2) {
		const __m256i x = _mm256_maskz_loadu_epi16(i < r->n ? part : 0, r->x[i] + c);
		const __m256i y = _mm256_maskz_loadu_epi16(i + 1 < r->n ? part : 0,
							   r->x[i + 1] + c);

		_mm512_storeu_si512(out + i / 2 * LINE,
				    _mm512_or_si512(_mm512_cvtepu16_epi32(x), _mm512_slli_epi32(
							_mm512_cvtepu16_epi32(y), 16)));
	}
}

/* n channels from c on of a row. */
static void store_channels(qat_dst y, int64_t at, vf v, int64_t n)
{
	const __mmask16 part = lanes_of(n);

	if (y.dtype == QAT_F32)
		_mm512_mask_storeu_ps((float *)y.data + at, part, (__m512)v);
	else
		_mm256_mask_storeu_epi16((uint16_t *)y.data + at, part,
					 (__m256i)_mm512_cvtneps_pbh((__m512)v));
}

/* A tile of a lot's rows, 16 channels from c on. */
static void store_rows(const head *h, const lot *l, qat_dst y, int64_t ld, int64_t c,
		       const float *tile)
{
	for (int64_t i = 0; i < l->n; i++)
		store_channels(y, l->token[i] * ld + l->part[i] * h->d + c,
			       vf_load(tile + i * LANES), h->d - c);
}

/* ---- products: tiles 4 and 6 are whole, 5 and 7 half as deep, for the rows of a lot ---- */

/* acc [16 keys][16 rows] = sums over channels of 16 keys and a lot's panel. */
QAT_INLINE void line_products(vf acc[16], const head *h, const char *lines, const char *panel)
{
	const int64_t pairs = h->pairs;
	float sums[LANES * LANES] __attribute__((aligned(LINE)));

	tile_clear(0);
	for (int64_t p = 0; p < pairs; p += 16, lines += LINE, panel += WHOLE) {
		tile_load(4, lines, pairs * PAIR);
		tile_load(6, panel, LINE);
		tile_dot_pairs(0, 4, 6);
	}
	tile_save(0, sums, LINE);
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		acc[i] = vf_load(sums + i * LANES);
}

/* Tiles 0 .. n - 1 = sums over keys of n <= 4 times 16 channels, `step` bytes apart, and of p. */
QAT_INLINE void column_products(const char *columns, int64_t step, const char *p, int64_t pairs,
				int64_t n)
{
	tile_clear(0);
	tile_clear(1);
	tile_clear(2);
	tile_clear(3);
	for (int64_t k = 0; k < pairs; k += 16, columns += WHOLE, p += WHOLE) {
		tile_load(6, p, LINE);
		tile_load(4, columns, LINE);
		tile_dot_pairs(0, 4, 6);
		if (n > 1) {
			tile_load(4, columns + step, LINE);
			tile_dot_pairs(1, 4, 6);
		}
		if (n > 2) {
			tile_load(4, columns + 2 * step, LINE);
			tile_dot_pairs(2, 4, 6);
		}
		if (n > 3) {
			tile_load(4, columns + 3 * step, LINE);
			tile_dot_pairs(3, 4, 6);
		}
	}
}

/* Rows of y, 16 channels from c on, from sums [16 channels][16 rows], times factor[row]. */
static void store_turned(const head *h, const lot *l, qat_dst y, int64_t ld, int64_t c,
			 const float *sums, vf factors)
{
	float tile[LANES * LANES];
	__m512i v[16];

#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		v[i] = (__m512i)(vf_load(sums + i * LANES) * factors);
	transpose(v);
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		_mm512_storeu_si512(tile + i * LANES, v[i]);
	store_rows(h, l, y, ld, c, tile);
}

/* Rows of y = sums over a lot's keys of p [keys / 2][16 rows] and columns, times factor[row]. */
static void store_products(const head *h, const lot *l, qat_dst y, int64_t ld, const char *p,
			   const char *columns, vf factors)
{
	enum { AT_ONCE = 4 };
	const int64_t from = l->from / 2 * LINE, step = h->span / 2 * LINE;
	float sums[AT_ONCE][LANES * LANES] __attribute__((aligned(LINE)));

	for (int64_t c = 0; c < h->wide; c += AT_ONCE * LANES) {
		const int64_t n = min64(AT_ONCE, (h->wide - c) / LANES);

		column_products(columns + c / LANES * step + from, step, p + from,
				(l->to - l->from) / 2, n);
		tile_save(0, sums[0], LINE);
		tile_save(1, sums[1], LINE);
		tile_save(2, sums[2], LINE);
		tile_save(3, sums[3], LINE);
		for (int64_t i = 0; i < n; i++)
			store_turned(h, l, y, ld, c + i * LANES, sums[i], factors);
	}
}

/* ---- keys ---- */

/* 16 keys' channels as they are, zeros up to whole tiles. */
static void copy_lines(const head *h, char *out, const rows *r)
{
	for (int64_t c = 0; c < h->d; c += 32) {
		const __mmask32 part = (__mmask32)(0xffffffffu >> (32 - min64(32, h->d - c)));

		for (int64_t i = 0; i < 16; i++)
			_mm512_storeu_si512(out + i * h->pairs * PAIR + c * 2,
					    _mm512_maskz_loadu_epi16(i < r->n ? part : 0,
								     r->x[i] + c));
	}
}

/* 32 keys as rows of channels; the next 16 channels are `panel` bytes behind. */
static void turn_columns(const head *h, char *out, int64_t panel, const rows r[2])
{
	for (int64_t c = 0; c < h->d; c += LANES, out += panel) {
		char buf[WHOLE];
		__m512i v[16];

		pair_rows(buf, &r[0], c, lanes_of(h->d - c));
		pair_rows(buf + 8 * LINE, &r[1], c, lanes_of(h->d - c));
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++)
			v[i] = _mm512_loadu_si512(buf + i * LINE);
		transpose(v);
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++)
			_mm512_storeu_si512(out + i * LINE, v[i]);
	}
}

/* Keys from .. to, whole KEYS, as they are multiplied; NULL: not needed. */
static void load_keys(const head *h, qat_src k, int64_t ld, char *lines, char *columns,
		      int64_t from, int64_t to)
{
	for (int64_t t = from; t < to; t += KEYS) {
		rows r[2];

		for (int i = 0; i < 2; i++) {
			r[i] = rows_of_keys(h, k, ld, t + i * LANES);
			if (lines)
				copy_lines(h, lines + (t + i * LANES) * h->pairs * PAIR, &r[i]);
		}
		if (columns)
			turn_columns(h, columns + t / 2 * LINE, h->span / 2 * LINE, r);
	}
}

/* ---- lots ---- */

/* Which rows and keys lot number i has. */
static void find_lot(const head *h, lot *l, int64_t i)
{
	const qat_attention_args *a = h->a;
	const int64_t first = i * LANES;
	int64_t t = first / h->shared, part = first % h->shared;

	l->n = min64(LANES, h->rows - first);
	for (int64_t k = 0; k < LANES; k++) {
		const int64_t at = h->position + t;

		l->token[k] = h->b * a->length + t;
		l->part[k] = h->kv * h->shared + part;
		l->lane_from[k] = a->window > 0 ? (int32_t)max64(0, at - a->window + 1) : 0;
		l->lane_to[k] = (int32_t)(a->causal ? min64(at + 1, h->keys) : h->keys);
		if (k + 1 < l->n && ++part == h->shared) {
			part = 0;
			t++;
		}
	}
	l->from = l->lane_from[0] / KEYS * KEYS;
	l->to = round_up(l->lane_to[LANES - 1], KEYS);
	l->all_from = l->lane_from[LANES - 1];
	l->all_to = l->lane_to[0];
}

#endif
