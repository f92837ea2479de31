/* attention.c - softmax(scale Q K^T) V and its gradient, f32 inside (where all is bf16 and the
 * ISA has products of pairs: attention_bf16.h). Per ISA.
 *
 * One thread has one head of one sequence (gradient: one head of keys and all heads of
 * queries that share it), QUERIES at a time; keys that no query of the block may see
 * are skipped. Keys are the lanes of scores, channels those of all else, so that K (and V,
 * for the gradient) is turned once for a head and nothing else ever is:
 *   S = Q K^T,  P = exp(scale S - lse),  O = P V
 *   dP = dO V^T,  dS = scale P (dP - D),  D = rowsum(dO O)
 *   dQ = dS K,  dK = dS^T Q,  dV = P^T dO  (the last two summed over blocks in order)
 * Every element is a chain over ascending channels, keys or queries; sums of P go by a key's
 * place among LANES; and a key that is not seen adds 0: a query's bits do not depend on its
 * block, on how many keys lie behind it, or on whether the keys come from a cache. A single
 * query goes without turning the keys.
 */
#include "attention.h"
#include "vmath.h"

#if defined __AVX512F__
enum { MR = 8 };
#else
enum { MR = 4 };
#endif
enum { NV = 2, NR = NV * LANES, QUERIES = 32 };

/* Keys that a single query takes at once: their sums do not wait for each other. */
enum { CHAINS = 8 };
enum { AHEAD = 8 };

/* What a thread works on. Rows are padded: `wide` channels, `span` keys, both multiples of
 * NR, with zeros. */
typedef struct head {
	const qat_attention_args *a;
	int64_t b, h, kv;
	int64_t length, d;		/* queries */
	int64_t rows, keys, position;	/* of k and v: each sequence's, in use; of query 0 */
	int64_t wide, span;
	float *k_turned, *v_turned;	/* [d][span] */
	float *k, *v;			/* [span][wide] */
	float *q, *dout;		/* [QUERIES][wide] */
	float *p, *ds;			/* [QUERIES][span] */
	float *dk, *dv;			/* [span][wide] */
	float *room;			/* [LANES][d] */
} head;

/* A block of queries and the keys that it sees; keys start at a multiple of NR. */
typedef struct block {
	int64_t first, queries, key, end;
} block;

/* Whether attention_bf16.c does it. What out is rounded to does not change what is computed. */
static int in_pairs(const qat_attention_args *a, int gradient)
{
	if (!QAT_NAME(qat_attention_bf16).run || a->q.dtype != QAT_BF16 ||
	    a->k.dtype != QAT_BF16 || a->v.dtype != QAT_BF16)
		return 0;
	return !gradient || (a->dout.dtype == QAT_BF16 && a->dq.dtype == QAT_BF16 &&
			     a->dk.dtype == QAT_BF16 && a->dv.dtype == QAT_BF16);
}

static int64_t place(head *h, const qat_attention_args *a, float *base, int gradient)
{
	const int64_t t = a->cache_rows ? a->cache_rows : a->length, d = a->head_dim;
	int64_t used = 0;

	h->a = a;
	h->length = a->length;
	h->d = d;
	h->rows = t;
	h->position = a->cache_rows ? a->position : 0;
	h->keys = h->position + h->length;
	h->wide = round_up(d, NR);
	h->span = round_up(t, NR);
	h->k_turned = take(base, &used, h->span * d);
	h->q = take(base, &used, max64(QUERIES, CHAINS) * h->wide);
	h->p = take(base, &used, QUERIES * h->span);
	h->room = take(base, &used, LANES * d);
	if (!gradient) {
		h->v = take(base, &used, h->span * h->wide);
		return used;
	}
	h->v_turned = take(base, &used, h->span * d);
	h->k = take(base, &used, h->span * h->wide);
	h->dout = take(base, &used, QUERIES * h->wide);
	h->ds = take(base, &used, QUERIES * h->span);
	h->dk = take(base, &used, h->span * h->wide);
	h->dv = take(base, &used, h->span * h->wide);
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

	if (in_pairs(a, 0))
		return QAT_NAME(qat_attention_bf16).workspace(a);
	return 4 * place(&h, a, NULL, 0) * omp_get_max_threads();
}

static int64_t attention_grad_workspace(const qat_attention_args *a)
{
	head h;

	if (in_pairs(a, 1))
		return QAT_NAME(qat_attention_bf16_grad).grad_workspace(a);
	return 4 * place(&h, a, NULL, 1) * omp_get_max_threads();
}

/* ---- products of a tile: out [MR][NR] = from (zero where NULL) + a b ---- */

/* Element (i, p) of a is a[i * row + p * next]; out and from have rows of ld. */
QAT_INLINE void tile(float *out, const float *from, int64_t ld, const float *a, int64_t row,
		     int64_t next, const float *restrict b, int64_t ldb, int64_t k)
{
	vf acc[MR][NV];

#pragma GCC unroll 8
	for (int i = 0; i < MR; i++)
#pragma GCC unroll 2
		for (int j = 0; j < NV; j++)
			acc[i][j] = from ? vf_load(from + i * ld + j * LANES) : vf_set(0.0f);
	for (int64_t p = 0; p < k; p++, b += ldb) {
		const vf b0 = vf_load(b), b1 = vf_load(b + LANES);

#pragma GCC unroll 8
		for (int i = 0; i < MR; i++) {
			const vf ai = vf_set(a[i * row + p * next]);

			acc[i][0] = vf_fma(ai, b0, acc[i][0]);
			acc[i][1] = vf_fma(ai, b1, acc[i][1]);
		}
	}
#pragma GCC unroll 8
	for (int i = 0; i < MR; i++)
#pragma GCC unroll 2
		for (int j = 0; j < NV; j++)
			vf_store(out + i * ld + j * LANES, acc[i][j]);
}

/* y [QUERIES][span] = x [QUERIES][wide] times turned keys, for the keys of the block. */
static void scores(const head *h, float *y, const float *x, const float *turned, const block *b)
{
	for (int64_t t = b->key; t < b->end; t += NR)
		for (int64_t q = 0; q < b->queries; q += MR)
			tile(y + q * h->span + t, NULL, h->span, x + q * h->wide, h->wide, 1,
			     turned + t, h->span, h->d);
}

/* y [QUERIES][wide] = x [QUERIES][span] times rows of keys. */
static void weighted(const head *h, float *y, const float *x, const float *rows, const block *b)
{
	for (int64_t c = 0; c < h->d; c += NR)
		for (int64_t q = 0; q < b->queries; q += MR)
			tile(y + q * h->wide + c, NULL, h->wide, x + q * h->span + b->key, h->span,
			     1, rows + b->key * h->wide + c, h->wide, b->end - b->key);
}

/* y [span][wide] += x^T [QUERIES][span] times rows of queries. */
static void add_keys(const head *h, float *y, const float *x, const float *rows, const block *b)
{
	for (int64_t t = b->key; t < b->end; t += MR)
		for (int64_t c = 0; c < h->d; c += NR) {
			float *out = y + t * h->wide + c;

			tile(out, out, h->wide, x + t, 1, h->span, rows + c, h->wide, b->queries);
		}
}

/* ---- rows ---- */

static int64_t query_at(const head *h, int64_t t, int64_t ld)
{
	return (h->b * h->length + t) * ld + h->h * h->d;
}

static int64_t key_at(const head *h, int64_t t, int64_t ld)
{
	return (h->b * h->rows + t) * ld + h->kv * h->d;
}

/* `next`: where the row starts that comes AHEAD rows later. Rows of a head lie too far from
 * each other for the processor to see it. */
static void load_row(const head *h, float *out, qat_src x, int64_t at, int64_t next)
{
	const int64_t bytes = qat_dtype_bytes(x.dtype);

	for (int64_t c = 0; c < h->d; c += 64 / bytes)
		__builtin_prefetch((const char *)x.data + (next + c) * bytes);
	load_floats(out, x.data, x.dtype, at, h->d);
	for (int64_t c = h->d; c < h->wide; c++)
		out[c] = 0.0f;
}

static void load_keys(const head *h, float *out, qat_src x, int64_t ld)
{
	for (int64_t t = 0; t < h->keys; t++)
		load_row(h, out + t * h->wide, x, key_at(h, t, ld),
			 key_at(h, min64(t + AHEAD, h->keys - 1), ld));
}

/* Queries of the block, and zeros up to whole tiles. */
static void load_queries(const head *h, float *out, qat_src x, int64_t ld, const block *b)
{
	const int64_t end = round_up(b->queries, MR);

	for (int64_t q = 0; q < b->queries; q++)
		load_row(h, out + q * h->wide, x, query_at(h, b->first + q, ld),
			 query_at(h, min64(b->first + q + AHEAD, h->length - 1), ld));
	for (int64_t i = b->queries * h->wide; i < end * h->wide; i++)
		out[i] = 0.0f;
}

/* Keys become columns. */
static void turn_keys(const head *h, float *restrict out, qat_src x, int64_t ld)
{
	float *restrict row = h->room;

	for (int64_t t = 0; t < h->span; t += LANES) {
		const int64_t have = min64(LANES, h->keys - t);

		for (int64_t i = 0; i < LANES; i++)
			if (i < have)
				load_floats(row + i * h->d, x.data, x.dtype, key_at(h, t + i, ld),
					    h->d);
			else
				memset(row + i * h->d, 0, (size_t)h->d * 4);
		for (int64_t c = 0; c < h->d; c++)
			for (int i = 0; i < LANES; i++)
				out[c * h->span + t + i] = row[i * h->d + c];
	}
}

/* ---- forward ---- */

static block block_at(const head *h, int64_t first)
{
	const qat_attention_args *a = h->a;
	block b = { .first = first, .queries = min64(QUERIES, h->length - first) };

	if (a->window > 0)
		b.key = max64(0, h->position + first - a->window + 1) / NR * NR;
	b.end = a->causal ? min64(h->keys, h->position + first + b.queries) : h->keys;
	return b;
}

/* s = scale s for the keys that query t sees, -infinity for the others of from .. end. */
static void mask_row(const head *h, float *restrict s, int64_t t, int64_t from, int64_t end)
{
	const qat_attention_args *a = h->a;
	const float scale = (float)a->scale;
	const int64_t at = h->position + t, last = a->causal ? min64(at + 1, h->keys) : h->keys;
	const int64_t first = a->window > 0 ? max64(from, at - a->window + 1) : from;

	for (int64_t i = from; i < end; i++)
		s[i] *= scale;
	for (int64_t i = from; i < first; i++)
		s[i] = -INFINITY;
	for (int64_t i = last; i < end; i++)
		s[i] = -INFINITY;
}

/* Probabilities of keys from .. end, multiples of LANES, not yet divided by their sum. */
static float softmax(float *restrict s, int64_t from, int64_t end, float *out_top)
{
	float top[LANES], sum[LANES];

	for (int i = 0; i < LANES; i++) {
		top[i] = -INFINITY;
		sum[i] = 0.0f;
	}
	for (int64_t t = from; t < end; t += LANES)
		for (int i = 0; i < LANES; i++)
			top[i] = s[t + i] > top[i] ? s[t + i] : top[i];
	for (int i = 1; i < LANES; i++)
		top[0] = top[i] > top[0] ? top[i] : top[0];
	*out_top = top[0];
	for (int64_t t = from; t < end; t += LANES)
		for (int i = 0; i < LANES; i++) {
			s[t + i] = vexp(s[t + i] - *out_top);
			sum[i] += s[t + i];
		}
	for (int i = 1; i < LANES; i++)
		sum[0] += sum[i];
	return sum[0];
}

static void store_row(const head *h, qat_dst y, int64_t at, float *restrict row, float factor)
{
	for (int64_t c = 0; c < h->d; c++)
		row[c] *= factor;
	store_floats(y.data, y.dtype, at, row, h->d);
}

static void forward_block(const head *h, int64_t first)
{
	const qat_attention_args *a = h->a;
	const block b = block_at(h, first);
	const int64_t end = round_up(b.end, NR);
	float sum[QUERIES], top;

	load_queries(h, h->q, a->q, a->ldq, &b);
	scores(h, h->p, h->q, h->k_turned, &b);
	for (int64_t q = 0; q < b.queries; q++) {
		float *s = h->p + q * h->span;

		mask_row(h, s, first + q, b.key, end);
		sum[q] = softmax(s, b.key, end, &top);
		a->lse[(h->b * h->length + first + q) * a->heads + h->h] = top + logf(sum[q]);
	}
	weighted(h, h->q, h->p, h->v, &b);
	for (int64_t q = 0; q < b.queries; q++)
		store_row(h, a->out, query_at(h, first + q, a->ldo), h->q + q * h->wide,
			  1.0f / sum[q]);
}

static void all_queries(const head *h)
{
	const qat_attention_args *a = h->a;

	turn_keys(h, h->k_turned, a->k, a->ldk);
	load_keys(h, h->v, a->v, a->ldv);
	for (int64_t first = 0; first < a->length; first += QUERIES)
		forward_block(h, first);
}

/* ---- one query ---- */

/* p [from .. to) = k q; rows has room for CHAINS keys. */
static void one_row(const head *h, float *restrict p, const float *restrict q,
		    float *restrict rows, int64_t from, int64_t to)
{
	const qat_attention_args *a = h->a;

	for (int64_t t = from; t < to; t += CHAINS) {
		float sum[CHAINS] = { 0.0f };

		for (int64_t j = 0; j < CHAINS; j++)
			load_floats(rows + j * h->d, a->k.data, a->k.dtype,
				    key_at(h, min64(t + j, to - 1), a->ldk), h->d);
		for (int64_t c = 0; c < h->d; c++)
			for (int j = 0; j < CHAINS; j++)
				sum[j] = madd(q[c], rows[j * h->d + c], sum[j]);
		for (int64_t j = 0; j < min64(CHAINS, to - t); j++)
			p[t + j] = sum[j];
	}
}

static void one_query(const head *h)
{
	const qat_attention_args *a = h->a;
	const int64_t from = a->window > 0 ? max64(0, h->position - a->window + 1) / NR * NR : 0;
	const int64_t end = round_up(h->keys, NR);
	float *restrict q = h->v, *restrict out = h->v + h->wide;
	float *restrict p = h->p, *restrict row = h->q;
	float top, sum;

	load_floats(q, a->q.data, a->q.dtype, query_at(h, 0, a->ldq), h->d);
	one_row(h, p, q, row, from, h->keys);
	mask_row(h, p, 0, from, end);
	sum = softmax(p, from, end, &top);
	a->lse[h->b * a->heads + h->h] = top + logf(sum);
	for (int64_t c = 0; c < h->d; c++)
		out[c] = 0.0f;
	for (int64_t t = from; t < h->keys; t++) {
		const float *v = view_floats(row, a->v.data, a->v.dtype, key_at(h, t, a->ldv),
					     h->d);

		for (int64_t c = 0; c < h->d; c++)
			out[c] = madd(p[t], v[c], out[c]);
	}
	store_row(h, a->out, query_at(h, 0, a->ldo), out, 1.0f / sum);
}

static void attention_run(const qat_attention_args *a)
{
	const int64_t shared = a->heads / a->kv_heads;

	if (in_pairs(a, 0)) {
		QAT_NAME(qat_attention_bf16).run(a);
		return;
	}
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

/* D = dO . O of a row. */
static float row_dot(const head *h, const float *restrict dout, const float *restrict out)
{
	float lane[LANES] = { 0.0f };

	for (int64_t c = 0; c < h->wide; c += LANES)
		for (int i = 0; i < LANES; i++)
			lane[i] += dout[c + i] * out[c + i];
	for (int i = 1; i < LANES; i++)
		lane[0] += lane[i];
	return lane[0];
}

/* P and dS of a row from scores and dP, in place, for keys from .. end. */
static void slopes(const head *h, float *restrict p, float *restrict ds, int64_t from, int64_t end,
		   float lse, float dot)
{
	const float scale = (float)h->a->scale;

	for (int64_t t = from; t < end; t++) {
		p[t] = vexp(p[t] - lse);
		ds[t] = scale * p[t] * (ds[t] - dot);
	}
}

static void gradient_block(const head *h, int64_t first)
{
	const qat_attention_args *a = h->a;
	const block b = block_at(h, first);
	const int64_t end = round_up(b.end, NR);
	float dot[QUERIES];

	load_queries(h, h->q, qat_src_of(a->out.data, a->out.dtype), a->ldo, &b);
	load_queries(h, h->dout, a->dout, a->ldo, &b);
	for (int64_t q = 0; q < b.queries; q++)
		dot[q] = row_dot(h, h->dout + q * h->wide, h->q + q * h->wide);
	load_queries(h, h->q, a->q, a->ldq, &b);
	scores(h, h->p, h->q, h->k_turned, &b);
	scores(h, h->ds, h->dout, h->v_turned, &b);
	for (int64_t q = 0; q < b.queries; q++) {
		const int64_t t = first + q;

		mask_row(h, h->p + q * h->span, t, b.key, end);
		slopes(h, h->p + q * h->span, h->ds + q * h->span, b.key, end,
		       a->lse[(h->b * h->length + t) * a->heads + h->h], dot[q]);
	}
	add_keys(h, h->dk, h->ds, h->q, &b);
	add_keys(h, h->dv, h->p, h->dout, &b);
	weighted(h, h->q, h->ds, h->k, &b);
	for (int64_t q = 0; q < b.queries; q++)
		store_floats(a->dq.data, a->dq.dtype, query_at(h, first + q, a->ldq),
			     h->q + q * h->wide, h->d);
}

static void store_keys(const head *h, qat_dst y, int64_t ld, const float *rows)
{
	for (int64_t t = 0; t < h->length; t++)
		store_floats(y.data, y.dtype, key_at(h, t, ld), rows + t * h->wide, h->d);
}

static void attention_grad(const qat_attention_args *a)
{
	const int64_t shared = a->heads / a->kv_heads;

	if (in_pairs(a, 1)) {
		QAT_NAME(qat_attention_bf16_grad).grad(a);
		return;
	}
#pragma omp parallel for schedule(dynamic)
	for (int64_t i = 0; i < a->batch * a->kv_heads; i++) {
		head h;

		place_head(&h, a, 1);
		memset(h.dk, 0, (size_t)(h.span * h.wide) * 4);
		memset(h.dv, 0, (size_t)(h.span * h.wide) * 4);
		h.b = i / a->kv_heads;
		h.kv = i % a->kv_heads;
		turn_keys(&h, h.k_turned, a->k, a->ldk);
		turn_keys(&h, h.v_turned, a->v, a->ldv);
		load_keys(&h, h.k, a->k, a->ldk);
		for (h.h = h.kv * shared; h.h < (h.kv + 1) * shared; h.h++)
			for (int64_t first = 0; first < a->length; first += QUERIES)
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
