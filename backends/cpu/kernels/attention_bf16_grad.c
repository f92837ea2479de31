/* attention_bf16_grad.c - the gradient of attention of bf16: attention_bf16.h; empty where the
 * ISA has no products of pairs, attention_tiles_grad.c where it has tiles. Per ISA. */
#include "attention.h"

#if defined __AVX512BF16__ && !defined __AMX_BF16__
#include "attention_bf16.h"

/* A long sequence has two sums over rows, so that two threads can share a head; whether they do
 * changes nothing. */
enum { LONG = 512, PARTS = 2 };

/* Lots of rows whose sums over rows are added up before they leave the registers. */
enum { LOTS = 4 };

enum { CODES = TALL * LANES * 2 };	/* bytes of a tile in bf16 */

static int64_t place_grad(head *h, lot l[LOTS], float *base)
{
	const int64_t turned = h->span * h->pairs * PAIR, paired = h->wide * h->span / 2 * PAIR;
	int64_t used = 0;

	h->k_turned = take_bytes(base, &used, turned);
	h->v_turned = take_bytes(base, &used, turned);
	h->k_pairs = take_bytes(base, &used, paired);
	h->v_pairs = NULL;
	h->dk = take(base, &used, h->parts * h->span * h->wide);
	h->dv = take(base, &used, h->parts * h->span * h->wide);
	for (int i = 0; i < LOTS; i++)
		l[i].x = take_bytes(base, &used, h->span / 2 * LINE);
	for (int i = 0; i < LOTS; i++)
		l[i].q = take_bytes(base, &used, h->pairs * LINE);
	for (int i = 0; i < LOTS; i++)
		l[i].dout = take_bytes(base, &used, h->pairs * LINE);
	for (int i = 0; i < LOTS; i++)
		l[i].q_pairs = take_bytes(base, &used, h->wide * 8 * PAIR);
	for (int i = 0; i < LOTS; i++)
		l[i].dout_pairs = take_bytes(base, &used, h->wide * 8 * PAIR);
	for (int i = 0; i < LOTS; i++)
		l[i].p_tile = take_bytes(base, &used, CODES);
	for (int i = 0; i < LOTS; i++)
		l[i].ds_tile = take_bytes(base, &used, CODES);
	return used;
}

static void measure_grad(head *h, const qat_attention_args *a)
{
	measure(h, a);
	h->parts = a->length < LONG ? 1 : PARTS;
}

/* What a thread works on. */
static void place_of(head *h, lot l[LOTS], int64_t thread)
{
	const int64_t each = place_grad(h, l, NULL);

	place_grad(h, l, (float *)h->a->workspace + each * thread);
}

static int64_t attention_grad_workspace(const qat_attention_args *a)
{
	head h;
	lot l[LOTS];

	measure_grad(&h, a);
	return 4 * place_grad(&h, l, NULL) * omp_get_max_threads();
}

/* D of the rows, of an output in f32. */
static vf row_dots(const head *h, const lot *l)
{
	const qat_attention_args *a = h->a;
	float dots[LANES] = { 0 };

	for (int64_t i = 0; i < l->n; i++) {
		const int64_t at = l->token[i] * a->ldo + l->part[i] * h->d;
		const float *out = (const float *)a->out.data + at;
		const uint16_t *dout = (const uint16_t *)a->dout.data + at;
		__m512 sum = _mm512_setzero_ps();

		for (int64_t c = 0; c < h->d; c += LANES) {
			const __mmask16 part = lanes_of(h->d - c);
			const __m256i y = _mm256_maskz_loadu_epi16(part, dout + c);

			sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(part, out + c),
					      _mm512_cvtpbh_ps((__m256bh)y), sum);
		}
		dots[i] = _mm512_reduce_add_ps(sum);
	}
	return vf_load(dots);
}

/* The same of an output in bf16, in pairs of channels. */
static vf row_dots_in_pairs(const head *h, const char *out, const char *dout)
{
	__m512 sum = (__m512)vf_set(0.0f);

	for (int64_t p = 0; p < h->pairs; p++)
		sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_loadu_si512(out + p * LINE),
				       (__m512bh)_mm512_loadu_si512(dout + p * LINE));
	return (vf)sum;
}

/* What is in the place of q is lost. */
static vf dots_of_lot(const head *h, const lot *l)
{
	rows out;

	if (h->a->out.dtype == QAT_F32)
		return row_dots(h, l);
	out = rows_of_lot(h, l, h->a->out.data, h->a->ldo);
	turn(h, l->q, &out);
	return row_dots_in_pairs(h, l->q, l->dout);
}

/* Rows that do not exist see nothing: their P is 0. */
static void load_lot(const head *h, lot *l)
{
	const qat_attention_args *a = h->a;
	const rows q = rows_of_lot(h, l, a->q.data, a->ldq);
	const rows dout = rows_of_lot(h, l, a->dout.data, a->ldo);

	turn(h, l->dout, &dout);
	pair_all(h, l->dout_pairs, 8 * LINE, &dout);
	l->dot = dots_of_lot(h, l);
	turn(h, l->q, &q);
	pair_all(h, l->q_pairs, 8 * LINE, &q);
	l->factor = vf_set((float)a->scale);
	l->lse = vf_set(-INFINITY);
	for (int64_t i = 0; i < l->n; i++)
		l->lse[i] = a->lse[l->token[i] * a->heads + l->part[i]] * (float)-M_LOG2E;
}

/* ---- tiles ---- */

/* P of TALL keys: f32 into p, rounded into the lot's tile. */
QAT_INLINE void keep_p(const lot *l, int64_t t, vf p[TALL][BESIDE], vf acc[TALL][BESIDE], int j,
		       vf unit, int edge)
{
#pragma GCC unroll 8
	for (int i = 0; i < TALL; i++) {
		vf x = exp2_of(vf_fma(acc[i][j], unit, l->lse));

		if (edge)
			x = (vf)_mm512_maskz_mov_ps(seen(l, t + i), (__m512)x);
		p[i][j] = x;
		_mm256_storeu_si256((__m256i *)(void *)(l->p_tile + i * 32),
				    (__m256i)_mm512_cvtneps_pbh((__m512)x));
	}
}

QAT_INLINE void p_tile(const head *h, const lot *l, int64_t t, vf p[TALL][BESIDE], int n)
{
	const vf unit = vf_set((float)(h->a->scale * M_LOG2E));
	vf acc[TALL][BESIDE];

	clear(acc);
	add_products(acc, n, turned_key(h, h->k_turned, t), PAIR, LINE, l->q, h->pairs * LINE,
		     h->pairs);
#pragma GCC unroll 2
	for (int j = 0; j < n; j++)
		if (whole(l + j, t))
			keep_p(l + j, t, p, acc, j, unit, 0);
		else
			keep_p(l + j, t, p, acc, j, unit, 1);
}

/* dS of TALL keys, rounded: pairs of rows, and pairs of keys. */
QAT_INLINE void ds_tile(const head *h, const lot *l, int64_t t, vf p[TALL][BESIDE], int n)
{
	vf acc[TALL][BESIDE];

	clear(acc);
	add_products(acc, n, turned_key(h, h->v_turned, t), PAIR, LINE, l->dout,
		     h->pairs * LINE, h->pairs);
#pragma GCC unroll 2
	for (int j = 0; j < n; j++)
#pragma GCC unroll 4
		for (int i = 0; i < TALL; i += 2) {
			const vf x = p[i][j] * (acc[i][j] - l[j].dot);
			const vf y = p[i + 1][j] * (acc[i + 1][j] - l[j].dot);

			_mm512_storeu_si512(l[j].ds_tile + i * 32,
					    (__m512i)_mm512_cvtne2ps_pbh((__m512)y, (__m512)x));
			_mm512_storeu_si512(l[j].x + (t + i) / 2 * LINE, pairs_of(x, y));
		}
}

NEVER_INLINE void make_one(const head *h, const lot *l, int64_t t)
{
	vf p[TALL][BESIDE];

	p_tile(h, l, t, p, 1);
	ds_tile(h, l, t, p, 1);
}

NEVER_INLINE void make_two(const head *h, const lot *l, int64_t t)
{
	vf p[TALL][BESIDE];

	p_tile(h, l, t, p, 2);
	ds_tile(h, l, t, p, 2);
}

/* y, rows of `wide` channels, n panels of them, of TALL keys += x^T with, of several lots. */
QAT_INLINE void add_tile(const head *h, float *y, const char *x, const char *with, int n,
			 int64_t lots)
{
	vf acc[TALL][BESIDE];

#pragma GCC unroll 8
	for (int i = 0; i < TALL; i++)
#pragma GCC unroll 2
		for (int j = 0; j < n; j++)
			acc[i][j] = vf_load(y + i * h->wide + j * LANES);
	for (int64_t k = 0; k < lots; k++, x += CODES, with += h->wide * 8 * PAIR)
		add_products(acc, n, x, 8 * PAIR, PAIR, with, 8 * LINE, 8);
#pragma GCC unroll 8
	for (int i = 0; i < TALL; i++)
#pragma GCC unroll 2
		for (int j = 0; j < n; j++)
			vf_store(y + i * h->wide + j * LANES, acc[i][j]);
}

NEVER_INLINE void add_keys(const head *h, float *y, const char *x, const char *with, int64_t lots)
{
	int64_t c = 0;

	for (; c + LANES < h->wide; c += 2 * LANES)
		add_tile(h, y + c, x, with + c / LANES * (8 * LINE), 2, lots);
	if (c < h->wide)
		add_tile(h, y + c, x, with + c / LANES * (8 * LINE), 1, lots);
}

/* ---- lots ---- */

/* What the lots from number `first` on read and write. */
static void want_lots(ahead *w, const head *h, int64_t first)
{
	const qat_attention_args *a = h->a;
	int64_t from, to;

	tokens_of(h, first, first + LOTS, &from, &to);
	want_queries(w, h, a->dout, a->ldo, from, to);
	want_queries(w, h, qat_src_of(a->out.data, a->out.dtype), a->ldo, from, to);
	want_queries(w, h, a->q, a->ldq, from, to);
	want_keys(w, h, a->k, a->ldk, from, to);
	want_keys(w, h, a->v, a->ldv, from, to);
	want_queries(w, h, qat_src_of(a->dq.data, a->dq.dtype), a->ldq, from, to);
}

/* Where sums over rows go, and the head that the thread probably has next. */
static void want_end(ahead *w, const head *h)
{
	const qat_attention_args *a = h->a;
	const int64_t i = h->b * a->kv_heads + h->kv + h->threads;
	head next = *h;

	want_keys(w, h, qat_src_of(a->dk.data, a->dk.dtype), a->ldk, 0, h->keys);
	want_keys(w, h, qat_src_of(a->dv.data, a->dv.dtype), a->ldv, 0, h->keys);
	if (i >= h->heads)
		return;
	take_head(&next, i);
	want_lots(w, &next, 0);
}

/* Of key t in the sums over a part's rows. */
static int64_t sums_at(const head *h, int64_t part, int64_t t)
{
	return (part * h->span + t) * h->wide;
}

/* Keys before `to`, and nothing in their sums yet. */
static void start_keys(head *h, int64_t to)
{
	const int64_t at = sums_at(h, h->part, h->summed);
	const int64_t bytes = (round_up(to, LANES) - h->summed) * h->wide * 4;

	load_keys(h, to);
	if (bytes <= 0)
		return;
	memset(h->dk + at, 0, (size_t)bytes);
	memset(h->dv + at, 0, (size_t)bytes);
	h->summed = round_up(to, LANES);
}

/* TALL keys and lots a .. b; as many keys are left. */
static void gradient_keys(head *h, const lot *l, int64_t a, int64_t b, int64_t t, int64_t left)
{
	const int64_t at = sums_at(h, h->part, t);
	int64_t i = a;

	ask(&h->ahead, 2 * left / TALL);
	for (; i + 1 < b; i += 2)
		make_two(h, l + i, t);
	if (i < b)
		make_one(h, l + i, t);
	ask(&h->ahead, 2 * left / TALL - 1);
	add_keys(h, h->dk + at, l[a].ds_tile, l[a].q_pairs, b - a);
	add_keys(h, h->dv + at, l[a].p_tile, l[a].dout_pairs, b - a);
}

/* n lots from number `first` on. Those that see a key are neighbours. */
static void gradient_lots(head *h, lot l[LOTS], int64_t first, int64_t n)
{
	int64_t a = 0, b = 0;

	h->ahead = (ahead){ .n = 0 };
	if (first + n < h->lots)
		want_lots(&h->ahead, h, first + n);
	else
		want_end(&h->ahead, h);
	for (int64_t i = 0; i < n; i++) {
		find_lot(h, l + i, first + i);
		load_lot(h, l + i);
	}
	start_keys(h, l[n - 1].to);
	for (int64_t t = l[0].from; t < l[n - 1].to; t += TALL) {
		while (l[a].to <= t)
			a++;
		while (b < n && l[b].from <= t)
			b++;
		gradient_keys(h, l, a, b, t, l[n - 1].to - t);
	}
	products(h, l, n, h->k_pairs, h->a->dq, h->a->ldq);
}

/* 16 channels of key t, of all rows. Only the last part sees all keys. */
static vf sum_of(const head *h, const float *sums, int64_t t, int64_t c, const int64_t end[PARTS])
{
	vf sum = vf_load(sums + sums_at(h, h->parts - 1, t) + c);

	for (int64_t i = 0; i + 1 < h->parts; i++)
		if (t < end[i])
			sum += vf_load(sums + sums_at(h, i, t) + c);
	return sum;
}

static void store_sums(const head *h, qat_dst y, int64_t ld, const float *sums, float factor,
		       int64_t from, int64_t to)
{
	int64_t end[PARTS];
	lot l;

	for (int64_t i = 0; i < h->parts; i++) {
		find_lot(h, &l, start_of(h, i + 1) - 1);
		end[i] = l.to;
	}
	for (int64_t t = from; t < to; t++)
		for (int64_t c = 0; c < h->d; c += 2 * LANES) {
			const int64_t c1 = c + LANES < h->wide ? c + LANES : c;
			const vf v0 = sum_of(h, sums, t, c, end) * vf_set(factor);
			const vf v1 = sum_of(h, sums, t, c1, end) * vf_set(factor);

			store_channels(y, (h->b * h->key_rows + t) * ld + h->kv * h->d + c,
				       v0, v1, h->d - c);
		}
}

/* Part i of n of the keys. */
static void store_keys(const head *h, int64_t i, int64_t n)
{
	const qat_attention_args *a = h->a;
	const int64_t from = h->keys * i / n, to = h->keys * (i + 1) / n;

	store_sums(h, a->dk, a->ldk, h->dk, (float)a->scale, from, to);
	store_sums(h, a->dv, a->ldv, h->dv, 1.0f, from, to);
}

/* ---- heads ---- */

static void gradient_part(head *h, lot l[LOTS], int64_t part)
{
	const int64_t end = start_of(h, part + 1);

	h->part = part;
	h->summed = 0;
	for (int64_t i = start_of(h, part); i < end; i += LOTS)
		gradient_lots(h, l, i, min64(LOTS, end - i));
}

/* Heads from number `first` on, fewer than threads; sums of number i are where thread i works. */
static void share_heads(const head *all, int64_t first)
{
	const int64_t n = (all->heads - first) * all->parts;

#pragma omp parallel for schedule(dynamic)
	for (int64_t i = 0; i < n; i++) {
		head h = *all, sums = *all;
		lot l[LOTS];

		place_of(&sums, l, i / h.parts);
		place_of(&h, l, omp_get_thread_num());
		h.dk = sums.dk;
		h.dv = sums.dv;
		take_head(&h, first + i / h.parts);
		gradient_part(&h, l, i % h.parts);
	}
#pragma omp parallel for schedule(dynamic)
	for (int64_t i = 0; i < n; i++) {
		head h = *all;
		lot l[LOTS];

		place_of(&h, l, i / h.parts);
		take_head(&h, first + i / h.parts);
		store_keys(&h, i % h.parts, h.parts);
	}
}

static void attention_grad(const qat_attention_args *a)
{
	int64_t whole;
	head all;

	measure_grad(&all, a);
	whole = all.parts > 1 ? all.heads / all.threads * all.threads : all.heads;
#pragma omp parallel for schedule(dynamic)
	for (int64_t i = 0; i < whole; i++) {
		head h = all;
		lot l[LOTS];

		place_of(&h, l, omp_get_thread_num());
		take_head(&h, i);
		for (int64_t k = 0; k < h.parts; k++)
			gradient_part(&h, l, k);
		store_keys(&h, 0, 1);
	}
	if (whole < all.heads)
		share_heads(&all, whole);
}

const qat_attention_kernels QAT_NAME(qat_attention_bf16_grad) = {
	.grad_workspace = attention_grad_workspace, .grad = attention_grad,
};
#elif !defined __AMX_BF16__
const qat_attention_kernels QAT_NAME(qat_attention_bf16_grad) = { .grad = NULL };
#endif
