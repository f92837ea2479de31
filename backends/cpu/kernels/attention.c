/* attention.c - softmax(scale Q K^T) V and its gradient, f32 inside. Per ISA.
 *
 * One thread has one head of one sequence (gradient: one head of keys and all heads of
 * queries that share it), NR queries at a time; keys that no query of the block may see
 * are skipped. Everything is kept transposed, [key][query], so that the queries are the
 * lanes of vectors, and what one product writes is packed for the next:
 *   S^T = K Q^T,  P^T = exp(scale S^T - lse),  O^T = V^T P^T
 *   dP^T = V dO^T,  dS^T = scale P^T (dP^T - D),  D = rowsum(dO O)
 *   dQ^T = K^T dS^T,  dK = dS^T Q,  dV = P^T dO  (the last two summed over blocks in order)
 * Every element is a chain over ascending channels or keys, and a key that is not seen adds
 * 0: a query's bits do not depend on its block, on how many keys lie behind it, or on
 * whether the keys come from a cache. A single query goes without panels.
 */
#include "gemm_tile.h"
#include "kernels.h"
#include "pack.h"
#include "vmath.h"

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_max_threads(void) { return 1; }
static int omp_get_thread_num(void) { return 0; }
#endif

/* Keys that a single query takes at once: their sums do not wait for each other. */
enum { CHAINS = 8 };

/* Panels of a head: "across" has MR keys side by side, [keys / MR][d][MR]; "along" has MR
 * channels, [d / MR][keys][MR]. */
typedef struct head {
	const qat_attention_args *a;
	int64_t b, h, kv;
	int64_t length, d;		/* queries */
	int64_t rows, keys, position;	/* of k and v: each sequence's, in use; of query 0 */
	uint32_t key_dtype;
	float *k_across, *k_along, *v_across, *v_along;
	float *q_across, *do_across;	/* [d][NR queries] */
	float *q_along, *do_along;	/* [d / NR][NR queries][NR] */
	float *p, *ds;			/* [keys][NR] */
	float *dk, *dv;			/* tiles [keys / MR][d / NR][MR][NR] */
} head;

/* A block of queries and the keys that it sees; keys start at a multiple of MR. */
typedef struct block {
	int64_t first, queries, key, end;
} block;

static int64_t tiles(int64_t n, int64_t width)
{
	return div_up(n, width);
}

/* Hands out a thread's workspace, in floats; with base NULL it only counts. */
static float *take(float *base, int64_t *used, int64_t n)
{
	float *p = base ? base + *used : NULL;

	*used += round_up(n, 16);
	return p;
}

static int64_t place(head *h, const qat_attention_args *a, float *base, int gradient)
{
	const int64_t t = a->cache_rows ? a->cache_rows : a->length, d = a->head_dim;
	const int64_t tp = round_up(t, MR), dp = round_up(d, MR), wide = round_up(d, NR);
	int64_t used = 0;

	h->a = a;
	h->length = a->length;
	h->d = d;
	h->rows = t;
	h->position = a->cache_rows ? a->position : 0;
	h->keys = h->position + h->length;
	h->key_dtype = a->cache_rows ? a->cache_dtype : a->dtype;
	h->k_across = take(base, &used, max64(tp, CHAINS) * d);
	h->q_across = take(base, &used, d * NR);
	h->p = take(base, &used, tp * NR);
	if (!gradient) {
		h->v_along = take(base, &used, t * dp);
		return used;
	}
	h->v_across = take(base, &used, tp * d);
	h->k_along = take(base, &used, t * dp);
	h->do_across = take(base, &used, d * NR);
	h->q_along = take(base, &used, wide * NR);
	h->do_along = take(base, &used, wide * NR);
	h->ds = take(base, &used, tp * NR);
	h->dk = take(base, &used, tp * wide);
	h->dv = take(base, &used, tp * wide);
	return used;
}

static void place_head(head *h, const qat_attention_args *a, int gradient)
{
	const int64_t each = place(h, a, NULL, gradient);

	place(h, a, (float *)a->workspace + each * omp_get_thread_num(), gradient);
}

static int64_t attention_workspace(const qat_attention_args *a)
{
	head h;

	return 4 * place(&h, a, NULL, 0) * omp_get_max_threads();
}

static int64_t attention_grad_workspace(const qat_attention_args *a)
{
	head h;

	return 4 * place(&h, a, NULL, 1) * omp_get_max_threads();
}

/* Element where token t of head `index` starts. */
static int64_t at(const head *h, int64_t t, int64_t index, int64_t ld)
{
	return (h->b * h->length + t) * ld + index * h->d;
}

/* The same of key t. */
static int64_t key_at(const head *h, int64_t t, int64_t ld)
{
	return (h->b * h->rows + t) * ld + h->kv * h->d;
}

/* All keys (or values) of the head as panels. */
static void keys_across(const head *h, float *out, const void *x, int64_t ld)
{
	for (int64_t t = 0; t < h->keys; t += MR)
		pack_across(out + t * h->d, MR, x, h->key_dtype, key_at(h, t, ld), ld,
			    min64(MR, h->keys - t), h->d);
}

static void keys_along(const head *h, float *out, const void *x, int64_t ld)
{
	for (int64_t c = 0; c < h->d; c += MR)
		pack_along(out + c * h->keys, MR, x, h->key_dtype, key_at(h, 0, ld) + c, ld,
			   min64(MR, h->d - c), h->keys);
}

static void queries_across(const head *h, float *out, const void *x, int64_t ld, const block *b)
{
	pack_across(out, NR, x, h->a->dtype, at(h, b->first, h->h, ld), ld, b->queries, h->d);
}

static void queries_along(const head *h, float *out, const void *x, int64_t ld, const block *b)
{
	for (int64_t c = 0; c < h->d; c += NR)
		pack_along(out + c * NR, NR, x, h->a->dtype, at(h, b->first, h->h, ld) + c, ld,
			   min64(NR, h->d - c), b->queries);
}

static block block_at(const head *h, int64_t first)
{
	const qat_attention_args *a = h->a;
	block b = { .first = first, .queries = min64(NR, h->length - first) };

	if (a->window > 0)
		b.key = max64(0, h->position + first - a->window + 1) / MR * MR;
	b.end = a->causal ? min64(h->keys, h->position + first + b.queries) : h->keys;
	return b;
}

/* out [key][query] = rows of panels times b, for the keys of the block. */
static void key_products(const head *h, float *out, const float *panels, const float *b,
			 const block *k)
{
	for (int64_t t = k->key; t < k->end; t += MR)
		gemm_tile(out + t * NR, NULL, panels + t * h->d, b, h->d);
}

/* 1 where query first + lane sees the key. */
QAT_INLINE int sees(int64_t causal, int64_t window, int32_t ahead, int32_t lane)
{
	/* ahead = key - first query: key <= query is ahead <= lane */
	return (!causal || ahead <= lane) && (window <= 0 || lane - ahead < window);
}

/* s = scale s, -infinity where the query does not see the key. */
QAT_INLINE void scale_row(float *restrict s, const qat_attention_args *a, int64_t ahead)
{
	const float scale = (float)a->scale;
	const int64_t causal = a->causal, window = a->window;

	if ((!causal || ahead <= 0) && (window <= 0 || NR - 1 - ahead < window)) {
		for (int i = 0; i < NR; i++)
			s[i] = scale * s[i];
		return;
	}
	for (int i = 0; i < NR; i++)
		s[i] = sees(causal, window, (int32_t)ahead, i) ? scale * s[i] : -INFINITY;
}

/* P^T in place of S^T, not yet divided by its sums. */
static void softmax_columns(const head *h, const block *b, float *restrict top,
			    float *restrict sum)
{
	for (int i = 0; i < NR; i++) {
		top[i] = -INFINITY;
		sum[i] = 0.0f;
	}
	for (int64_t t = b->key; t < b->end; t++) {
		float *restrict s = h->p + t * NR;

		scale_row(s, h->a, t - h->position - b->first);
		for (int i = 0; i < NR; i++)
			top[i] = s[i] > top[i] ? s[i] : top[i];
	}
	for (int64_t t = b->key; t < b->end; t++) {
		float *restrict s = h->p + t * NR;

		for (int i = 0; i < NR; i++) {
			s[i] = vexp(s[i] - top[i]);
			sum[i] += s[i];
		}
	}
}

/* Tiles [channel][query] times factor[query] to rows of y. */
static void channel_products(const head *h, void *y, int64_t ld, const float *panels,
			     const float *weights, const float *factor, const block *b)
{
	float tile[MR * NR] __attribute__((aligned(64)));

	for (int64_t c = 0; c < h->d; c += MR) {
		const int64_t have = min64(MR, h->d - c);

		gemm_tile(tile, NULL, panels + (c * h->keys + b->key * MR), weights + b->key * NR,
			  b->end - b->key);
		for (int64_t q = 0; q < b->queries; q++) {
			float row[MR];

			for (int64_t i = 0; i < have; i++)
				row[i] = tile[i * NR + q] * factor[q];
			store_floats(y, h->a->dtype, at(h, b->first + q, h->h, ld) + c, row, have);
		}
	}
}

static void forward_block(const head *h, int64_t first)
{
	const qat_attention_args *a = h->a;
	const block b = block_at(h, first);
	float top[NR], sum[NR];

	queries_across(h, h->q_across, a->q, a->ldq, &b);
	key_products(h, h->p, h->k_across, h->q_across, &b);
	softmax_columns(h, &b, top, sum);
	for (int64_t q = 0; q < b.queries; q++)
		a->lse[(h->b * h->length + first + q) * a->heads + h->h] = top[q] + logf(sum[q]);
	for (int i = 0; i < NR; i++)
		sum[i] = 1.0f / sum[i];
	channel_products(h, a->out, a->ldo, h->v_along, h->p, sum, &b);
}

/* ---- one query ---- */

/* p [from .. to) = scale times k q. */
static void scores(const head *h, float *restrict p, const float *restrict q, int64_t from,
		   int64_t to)
{
	const qat_attention_args *a = h->a;
	float *restrict k = h->k_across;

	for (int64_t t = from; t < to; t += CHAINS) {
		float sum[CHAINS] = { 0.0f };

		for (int64_t j = 0; j < CHAINS; j++)
			load_floats(k + j * h->d, a->k, h->key_dtype,
				    key_at(h, min64(t + j, to - 1), a->ldk), h->d);
		for (int64_t c = 0; c < h->d; c++)
			for (int j = 0; j < CHAINS; j++)
				sum[j] = madd(k[j * h->d + c], q[c], sum[j]);
		for (int64_t j = 0; j < min64(CHAINS, to - t); j++)
			p[t + j] = (float)a->scale * sum[j];
	}
}

/* As softmax_columns, of one column. */
static float softmax(float *restrict p, int64_t from, int64_t to, float *out_top)
{
	float top = -INFINITY, sum = 0.0f;

	for (int64_t t = from; t < to; t++)
		top = p[t] > top ? p[t] : top;
	for (int64_t t = from; t < to; t++)
		p[t] = vexp(p[t] - top);
	for (int64_t t = from; t < to; t++)
		sum += p[t];
	*out_top = top;
	return sum;
}

static void one_query(const head *h)
{
	const qat_attention_args *a = h->a;
	const int64_t end = h->keys;
	const int64_t from = a->window > 0 ? max64(0, h->position - a->window + 1) : 0;
	float *restrict q = h->q_across, *restrict out = h->q_across + h->d;
	float *restrict p = h->p, *restrict row = h->k_across;
	float top, sum;

	load_floats(q, a->q, a->dtype, at(h, 0, h->h, a->ldq), h->d);
	scores(h, p, q, from, end);
	sum = softmax(p, from, end, &top);
	a->lse[h->b * a->heads + h->h] = top + logf(sum);
	for (int64_t c = 0; c < h->d; c++)
		out[c] = 0.0f;
	for (int64_t t = from; t < end; t++) {
		const float *v = view_floats(row, a->v, h->key_dtype, key_at(h, t, a->ldv), h->d);

		for (int64_t c = 0; c < h->d; c++)
			out[c] = madd(v[c], p[t], out[c]);
	}
	sum = 1.0f / sum;
	for (int64_t c = 0; c < h->d; c++)
		out[c] *= sum;
	store_floats(a->out, a->dtype, at(h, 0, h->h, a->ldo), out, h->d);
}

static void all_queries(const head *h)
{
	const qat_attention_args *a = h->a;

	keys_across(h, h->k_across, a->k, a->ldk);
	keys_along(h, h->v_along, a->v, a->ldv);
	for (int64_t first = 0; first < a->length; first += NR)
		forward_block(h, first);
}

static void attention_run(const qat_attention_args *a)
{
	const int64_t shared = a->heads / a->kv_heads;

#pragma omp parallel for schedule(dynamic)
	for (int64_t i = 0; i < a->batch * a->heads; i++) {
		head h;

		place_head(&h, a, 0);
		h.b = i / a->heads;
		h.h = i % a->heads;
		h.kv = h.h / shared;
		if (a->length == 1)
			one_query(&h);
		else
			all_queries(&h);
	}
}

/* ---- gradient ---- */

/* lse and D = dO . O of the block's queries; lanes past them get 0. */
static void row_sums(const head *h, const block *b, float *lse, float *dot)
{
	const qat_attention_args *a = h->a;

	for (int64_t q = 0; q < NR; q++) {
		const int64_t t = b->first + (q < b->queries ? q : 0);
		float sum = 0.0f;

		for (int64_t c = 0; c < h->d; c += NR) {
			const int64_t n = min64(NR, h->d - c), i = at(h, t, h->h, a->ldo) + c;
			float x[NR], y[NR];

			load_floats(x, a->out, a->dtype, i, n);
			load_floats(y, a->dout, a->dtype, i, n);
			for (int64_t j = 0; j < n; j++)
				sum += x[j] * y[j];
		}
		dot[q] = sum;
		lse[q] = a->lse[(h->b * h->length + t) * a->heads + h->h];
	}
}

/* P^T and dS^T from S^T and dP^T, in place. Keys not seen and lanes past the queries: 0. */
static void slopes(const head *h, const block *b, const float *restrict lse,
		   const float *restrict dot)
{
	const float scale = (float)h->a->scale;
	const int32_t queries = (int32_t)b->queries;

	for (int64_t t = b->key; t < b->end; t++) {
		float *restrict p = h->p + t * NR, *restrict ds = h->ds + t * NR;

		scale_row(p, h->a, t - b->first);
		for (int32_t i = 0; i < NR; i++) {
			const float v = vexp(p[i] - lse[i]);

			p[i] = i < queries ? v : 0.0f;
			ds[i] = i < queries ? scale * v * (ds[i] - dot[i]) : 0.0f;
		}
	}
}

/* out tiles += x^T [key][query] times b [query][channel], for the keys of the block. */
static void key_sums(const head *h, float *out, const float *x, const float *b, const block *k)
{
	const int64_t wide = tiles(h->d, NR);
	float panel[NR * MR] __attribute__((aligned(64)));

	for (int64_t t = k->key; t < k->end; t += MR) {
		const int64_t have = min64(MR, k->end - t);

		if (have < MR)
			memset(panel, 0, sizeof panel);
		for (int64_t i = 0; i < have; i++)
			for (int64_t q = 0; q < NR; q++)
				panel[q * MR + i] = x[(t + i) * NR + q];
		for (int64_t c = 0; c < wide; c++) {
			float *tile = out + (t * wide + c * MR) * NR;

			gemm_tile(tile, tile, panel, b + c * NR * NR, k->queries);
		}
	}
}

static void gradient_block(const head *h, int64_t first)
{
	const qat_attention_args *a = h->a;
	const block b = block_at(h, first);
	float lse[NR], dot[NR], one[NR];

	for (int i = 0; i < NR; i++)
		one[i] = 1.0f;
	queries_across(h, h->q_across, a->q, a->ldq, &b);
	queries_across(h, h->do_across, a->dout, a->ldo, &b);
	queries_along(h, h->q_along, a->q, a->ldq, &b);
	queries_along(h, h->do_along, a->dout, a->ldo, &b);
	row_sums(h, &b, lse, dot);
	key_products(h, h->p, h->k_across, h->q_across, &b);
	key_products(h, h->ds, h->v_across, h->do_across, &b);
	slopes(h, &b, lse, dot);
	channel_products(h, a->dq, a->ldq, h->k_along, h->ds, one, &b);
	key_sums(h, h->dk, h->ds, h->q_along, &b);
	key_sums(h, h->dv, h->p, h->do_along, &b);
}

/* Tiles of dK or dV to their rows. */
static void store_keys(const head *h, void *y, int64_t ld, const float *tiles_)
{
	const int64_t wide = tiles(h->d, NR);

	for (int64_t t = 0; t < h->length; t++)
		for (int64_t c = 0; c < h->d; c += NR)
			store_floats(y, h->a->dtype, key_at(h, t, ld) + c,
				     tiles_ + ((t / MR * wide + c / NR) * MR + t % MR) * NR,
				     min64(NR, h->d - c));
}

static void attention_grad(const qat_attention_args *a)
{
	const int64_t shared = a->heads / a->kv_heads;

#pragma omp parallel for schedule(dynamic)
	for (int64_t i = 0; i < a->batch * a->kv_heads; i++) {
		head h;
		size_t sums;

		place_head(&h, a, 1);
		sums = (size_t)(round_up(h.length, MR) * round_up(h.d, NR)) * 4;
		memset(h.dk, 0, sums);
		memset(h.dv, 0, sums);
		h.b = i / a->kv_heads;
		h.kv = i % a->kv_heads;
		keys_across(&h, h.k_across, a->k, a->ldk);
		keys_along(&h, h.k_along, a->k, a->ldk);
		keys_across(&h, h.v_across, a->v, a->ldv);
		for (h.h = h.kv * shared; h.h < (h.kv + 1) * shared; h.h++)
			for (int64_t first = 0; first < a->length; first += NR)
				gradient_block(&h, first);
		store_keys(&h, a->dk, a->ldk, h.dk);
		store_keys(&h, a->dv, a->ldv, h.dv);
	}
}

extern const qat_attention_kernels QAT_NAME(qat_attention);
const qat_attention_kernels QAT_NAME(qat_attention) = {
	.workspace = attention_workspace, .run = attention_run,
	.grad_workspace = attention_grad_workspace, .grad = attention_grad,
};
