/* attention_bf16.h - attention of bf16 where the ISA sums products of pairs in f32: what it
 * has in common with its gradient. Out is bf16, or f32 where a quantizer reads it. Per ISA.
 *
 * Rows (a token and a head that shares the keys) go 16 at a time, a lot, and are the lanes of
 * all that is made for each of them; keys go TALL at a time:
 *   S^T = K Q^T,  P = 2^(c S - top), c = scale / log 2,  O = P V / rowsum P
 *   dP^T = V dO^T,  dS = P (dP - D),  D = rowsum(dO O),  here P = 2^(c S - lse / log 2)
 *   dQ = scale dS K,  dK = scale dS^T Q,  dV = P^T dO  (the last two summed over rows)
 * Every product is one of tiles of a panel [pairs][16], of which it takes TALL columns, and
 * two others beside each other, so that what is loaded is multiplied more than once: two lots,
 * or 32 channels. P and dS are rounded to bf16 for their products; what O is divided by is the
 * sum of the rounded P, lse that of the others.
 * Every element is a chain over ascending channels, keys or rows (two chains over the rows of
 * a long sequence), two by two, and a key that is not seen adds 0: a query's bits depend on no
 * block here, either, on no key behind it, and not on whether there is a cache. Subnormal
 * factors count as 0.
 */
#ifndef QAT_CPU_ATTENTION_BF16_H
#define QAT_CPU_ATTENTION_BF16_H

#include "attention.h"
#include "attention_ahead.h"
#include "turn.h"

/* Bytes of a pair of bf16, of a panel's row. */
enum { PAIR = 4, LINE = 64 };

/* Of a tile in registers: rows, and panels beside each other. 16 sums, as each takes several
 * cycles; and fewer loads than products, as there are only two of either a cycle. */
enum { TALL = 8, BESIDE = 2 };

enum { AHEAD = 48 };		/* keys that memory is asked for before they are needed */

/* What a thread works on. Behind the last key and the last channel are zeros. */
typedef struct head {
	const qat_attention_args *a;
	int64_t heads, threads;		/* of keys in all sequences */
	int64_t b, kv, shared;
	int64_t d, pairs, wide;		/* channels, two by two, up to whole vectors */
	int64_t key_rows, position;	/* of k and v for each sequence; of query 0 */
	int64_t keys, span;		/* of a sequence, up to whole vectors */
	int64_t rows, lots, parts;	/* queries and heads; what may be a thread's of them */
	int64_t loaded;			/* keys before this one are in what follows */
	char *k_turned, *v_turned;	/* [span / 16][pairs][16] pairs of channels */
	char *k_pairs, *v_pairs;	/* [wide / 16][span / 2][16] pairs of keys */
	int64_t part, summed;		/* of dk and dv: which; keys before this one are in it */
	float *dk, *dv;			/* [parts][span][wide] */
	ahead ahead;
} head;

/* 16 rows, and the keys that they see: those that one of them does, in multiples of TALL,
 * and those that all do. What is the same of several lots is one behind the other. */
typedef struct lot {
	int64_t n;
	int64_t token[LANES], part[LANES];	/* of q's rows; behind n as the last one */
	int64_t from, to, all_from, all_to;
	vi lane_from, lane_to;
	char *q, *dout;			/* [pairs][16] pairs of channels */
	char *q_pairs, *dout_pairs;	/* [wide / 16][8][16] pairs of rows */
	char *x;			/* [span / 2][16] pairs of keys: P or dS */
	char *p_tile, *ds_tile;		/* [TALL keys][8] pairs of rows */
	vf top, factor;			/* of scores; of what x makes of keys */
	vf lse, dot;			/* -lse / log 2; D */
} lot;

static char *take_bytes(float *base, int64_t *used, int64_t n)
{
	return (char *)take(base, used, n / 4);
}

static void measure(head *h, const qat_attention_args *a)
{
	h->a = a;
	h->heads = a->batch * a->kv_heads;
	h->threads = omp_get_max_threads();
	h->shared = a->heads / a->kv_heads;
	h->d = a->head_dim;
	h->pairs = div_up(h->d, 2);
	h->wide = round_up(h->d, LANES);
	h->key_rows = a->cache_rows ? a->cache_rows : a->length;
	h->position = a->cache_rows ? a->position : 0;
	h->keys = h->position + a->length;
	h->span = round_up(h->key_rows, LANES);
	h->rows = a->length * h->shared;
	h->lots = div_up(h->rows, LANES);
}

/* Number i of all heads of keys. */
static void take_head(head *h, int64_t i)
{
	h->b = i / h->a->kv_heads;
	h->kv = i % h->a->kv_heads;
	h->loaded = 0;
}

/* ---- tiles ---- */

/* A function whose tile is to stay in registers. */
#define NEVER_INLINE static __attribute__((noinline))

/* acc [TALL][n] += a b: pair p of a's row i is at a + i * row + p * next; b is n panels
 * [pairs][16], one `panel` bytes behind the other. */
QAT_INLINE void add_products(vf acc[TALL][BESIDE], int n, const char *a, int row, int next,
			     const char *b, int64_t panel, int64_t pairs)
{
	for (int64_t p = 0; p < pairs; p++, a += next, b += LINE) {
		__m512bh y[BESIDE];

#pragma GCC unroll 2
		for (int j = 0; j < n; j++)
			y[j] = (__m512bh)_mm512_loadu_si512(b + j * panel);
#pragma GCC unroll 8
		for (int i = 0; i < TALL; i++) {
			int32_t pair;

			memcpy(&pair, a + i * row, PAIR);
#pragma GCC unroll 2
			for (int j = 0; j < n; j++)
				acc[i][j] = (vf)_mm512_dpbf16_ps((__m512)acc[i][j],
						(__m512bh)_mm512_set1_epi32(pair), y[j]);
		}
	}
}

QAT_INLINE void clear(vf acc[TALL][BESIDE])
{
#pragma GCC unroll 8
	for (int i = 0; i < TALL; i++)
		acc[i][0] = acc[i][1] = vf_set(0.0f);
}

/* 2^x within 2 ulp, 0 where that is subnormal. Of a power of the 32nd root, which is in a table
 * but for its whole part, and a quotient near 1: products of pairs need the same units of the
 * processor as products of floats, of which a polynomial alone takes twice as many. */
QAT_INLINE vf exp2_of(vf x)
{
	static const uint32_t roots[32] __attribute__((aligned(64))) = {
		0x3f800000, 0x3f7ecd87, 0x3f7daac3, 0x3f7c980f, 0x3f7b95c2, 0x3f7aa43a,
		0x3f79c3d3, 0x3f78f4f0, 0x3f7837f0, 0x3f778d3a, 0x3f76f532, 0x3f767043,
		0x3f75fed7, 0x3f75a15b, 0x3f75583f, 0x3f7523f6, 0x3f7504f3, 0x3f74fbaf,
		0x3f7508a4, 0x3f752c4d, 0x3f75672a, 0x3f75b9be, 0x3f76248c, 0x3f76a81e,
		0x3f7744fd, 0x3f77fbb8, 0x3f78ccdf, 0x3f79b907, 0x3f7ac0c7, 0x3f7be4ba,
		0x3f7d257d, 0x3f7e83b3,
	};		/* bits of 2^(i / 32), less i << 18 */
	const vf shift = vf_set(0x1.8p18f), t = x + shift, r = x - (t - shift);
	const __m512i root = _mm512_permutex2var_epi32(_mm512_load_si512(roots), (__m512i)t,
						       _mm512_load_si512(roots + 16));
	const __m512 power = (__m512)_mm512_add_epi32(root, _mm512_slli_epi32((__m512i)t, 18));
	const vf more = vf_fma(vf_set(0.240226492f), r, vf_set(0.693157315f)) * r;
	const __mmask16 normal = _mm512_cmp_ps_mask((__m512)x, (__m512)vf_set(-126.0f),
						    _CMP_NLT_UQ);		/* or NaN */

	return (vf)_mm512_maskz_fmadd_ps(normal, (__m512)more, power, power);
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

/* The same of 32. */
QAT_INLINE __mmask32 words_of(int64_t n)
{
	return (__mmask32)(0xffffffffu >> (2 * LANES - min64(2 * LANES, n)));
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
	return t >= l->all_from && t + TALL <= l->all_to;
}

/* Key t and those behind it of a turned panel. */
QAT_INLINE const char *turned_key(const head *h, const char *turned, int64_t t)
{
	return turned + t / LANES * LANES * h->pairs * PAIR + t % LANES * PAIR;
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

/* Rows lie too far from each other for the processor to see which come next. */
static void expect(const head *h, const rows *r)
{
	for (int64_t i = 0; i < r->n; i++)
		for (int64_t c = 0; c < h->d; c += LINE / 2)
			__builtin_prefetch(r->x[i] + c, 0, 2);
}

/* out [pairs][16] = pairs of channels of 16 rows. */
static void turn(const head *h, char *out, const rows *r)
{
	for (int64_t c = 0; c < h->d; c += 32) {
		const int64_t n = min64(32, h->d - c);
		const __mmask32 part = words_of(n);
		__m512i v[16];

#pragma GCC unroll 16
		for (int i = 0; i < 16; i++)
			v[i] = _mm512_maskz_loadu_epi16(i < r->n ? part : 0, r->x[i] + c);
		transpose(v);
		if (n == 32) {
#pragma GCC unroll 16
			for (int i = 0; i < 16; i++)
				_mm512_storeu_si512(out + (c / 2 + i) * LINE, v[i]);
			continue;
		}
		for (int64_t i = 0; i < (n + 1) / 2; i++)
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

/* The same of all channels; the next 16 are `panel` bytes behind. */
static void pair_all(const head *h, char *out, int64_t panel, const rows *r)
{
	for (int64_t c = 0; c < h->d; c += LANES, out += panel)
		pair_rows(out, r, c, lanes_of(h->d - c));
}

/* n channels of a row, 32 at most. */
QAT_INLINE void store_channels(qat_dst y, int64_t at, vf v0, vf v1, int64_t n)
{
	float *f = (float *)y.data + at;

	if (y.dtype == QAT_F32) {
		_mm512_mask_storeu_ps(f, lanes_of(n), (__m512)v0);
		if (n > LANES)
			_mm512_mask_storeu_ps(f + LANES, lanes_of(n - LANES), (__m512)v1);
	} else {
		_mm512_mask_storeu_epi16((uint16_t *)y.data + at, words_of(n),
					 (__m512i)_mm512_cvtne2ps_pbh((__m512)v1, (__m512)v0));
	}
}

/* TALL rows of a lot, from row i on, and n panels of channels from c on: x times panels. */
QAT_INLINE void product_tile(const head *h, const lot *l, int64_t i, int64_t c, int n,
			     const char *panels, qat_dst y, int64_t ld)
{
	const int64_t from = l->from / 2 * LINE, panel = h->span / 2 * LINE;
	float factor[LANES];
	vf acc[TALL][BESIDE];

	vf_store(factor, l->factor);
	clear(acc);
	add_products(acc, n, l->x + from + i * PAIR, PAIR, LINE,
		     panels + c / LANES * panel + from, panel, (l->to - l->from) / 2);
#pragma GCC unroll 8
	for (int k = 0; k < TALL; k++)
		if (i + k < l->n)
			store_channels(y, l->token[i + k] * ld + l->part[i + k] * h->d + c,
				       acc[k][0] * vf_set(factor[i + k]),
				       acc[k][1] * vf_set(factor[i + k]), h->d - c);
}

NEVER_INLINE void product_one(const head *h, const lot *l, int64_t i, int64_t c,
			      const char *panels, qat_dst y, int64_t ld)
{
	product_tile(h, l, i, c, 1, panels, y, ld);
}

NEVER_INLINE void product_two(const head *h, const lot *l, int64_t i, int64_t c,
			      const char *panels, qat_dst y, int64_t ld)
{
	product_tile(h, l, i, c, 2, panels, y, ld);
}

/* Rows of n lots: x times panels of keys, times factor. */
static void products(const head *h, const lot *l, int64_t n, const char *panels, qat_dst y,
		     int64_t ld)
{
	for (int64_t c = 0; c < h->d; c += 2 * LANES)
		for (int64_t k = 0; k < n; k++)
			for (int64_t i = 0; i < l[k].n; i += TALL)
				if (h->d - c > LANES)
					product_two(h, l + k, i, c, panels, y, ld);
				else
					product_one(h, l + k, i, c, panels, y, ld);
}

/* Key t and 15 more, of `to` that are going to be loaded. */
static void load_some(const head *h, qat_src k, int64_t ld, char *turned, char *pairs, int64_t t,
		      int64_t to)
{
	const rows r = rows_of_keys(h, k, ld, t);

	if (t + AHEAD < to) {
		const rows later = rows_of_keys(h, k, ld, t + AHEAD);

		expect(h, &later);
	}
	if (turned)
		turn(h, turned + t * h->pairs * PAIR, &r);
	if (pairs)
		pair_all(h, pairs + t / 2 * LINE, h->span / 2 * LINE, &r);
}

/* Keys before `to` are loaded only when a lot sees them. */
static void load_keys(head *h, int64_t to)
{
	const qat_attention_args *a = h->a;

	for (; h->loaded < to; h->loaded += LANES) {
		load_some(h, a->k, a->ldk, h->k_turned, h->k_pairs, h->loaded, to);
		load_some(h, a->v, a->ldv, h->v_turned, h->v_pairs, h->loaded, to);
	}
}

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
	l->from = l->lane_from[0] / TALL * TALL;
	l->to = round_up(l->lane_to[LANES - 1], TALL);
	l->all_from = l->lane_from[LANES - 1];
	l->all_to = l->lane_to[0];
}

/* Asks for rows of tokens from .. to, of all heads that share the keys. */
static void want_queries(ahead *w, const head *h, qat_src q, int64_t ld, int64_t from, int64_t to)
{
	want(w, q, (h->b * h->a->length + from) * ld + h->kv * h->shared * h->d, ld,
	     h->shared * h->d, to - from);
}

static void want_keys(ahead *w, const head *h, qat_src k, int64_t ld, int64_t from, int64_t to)
{
	want(w, k, (h->b * h->key_rows + from) * ld + h->kv * h->d, ld, h->d,
	     min64(to, h->keys) - from);
}

/* The tokens of lots first .. end. */
static void tokens_of(const head *h, int64_t first, int64_t end, int64_t *from, int64_t *to)
{
	*from = first * LANES / h->shared;
	*to = min64(h->a->length, div_up(end * LANES, h->shared));
}

/* A head in parts that take equally long: where lots from the first on see ever more keys,
 * those up to x take as long as x^2. */
static int64_t start_of(const head *h, int64_t part)
{
	const double share = (double)part / (double)h->parts;

	if (h->a->causal && !h->position && h->a->window <= 0)
		return (int64_t)((double)h->lots * sqrt(share));
	return h->lots * part / h->parts;
}

#endif
