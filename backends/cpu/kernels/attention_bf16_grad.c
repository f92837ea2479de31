/* attention_bf16_grad.c - the gradient of attention of bf16: attention_bf16.h; empty where the
 * ISA has no products of pairs, attention_tiles_grad.c where it has tiles. Per ISA. */
#include "attention.h"

#if defined __AVX512BF16__ && !defined __AMX_BF16__
#include "attention_bf16.h"

/* Lots of rows whose sums over rows are added up before they leave the registers. */
enum { LOTS = 4 };

static int64_t place_grad(head *h, lot l[LOTS], float *base)
{
	const int64_t turned = h->span * h->pairs * PAIR, paired = h->wide * h->span / 2 * PAIR;
	int64_t used = 0;

	h->k_turned = take_bytes(base, &used, turned);
	h->v_turned = take_bytes(base, &used, turned);
	h->k_pairs = take_bytes(base, &used, paired);
	h->dk = take(base, &used, h->span * h->wide);
	h->dv = take(base, &used, h->span * h->wide);
	for (int i = 0; i < LOTS; i++) {
		l[i].q = take_bytes(base, &used, h->pairs * LINE);
		l[i].dout = take_bytes(base, &used, h->pairs * LINE);
		l[i].ds = take_bytes(base, &used, h->span / 2 * LINE);
	}
	/* Of all lots in a row: what a sum goes through. */
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

static int64_t attention_grad_workspace(const qat_attention_args *a)
{
	head h;
	lot l[LOTS];

	measure(&h, a);
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
	l->lse = vf_set(-INFINITY);
	for (int64_t i = 0; i < l->n; i++)
		l->lse[i] = a->lse[l->token[i] * a->heads + l->part[i]] * (float)-M_LOG2E;
}

/* P of 16 keys: f32 into p, rounded into the lot's tile. */
NEVER_INLINE void probability_tile(const head *h, const lot *l, int64_t t, vf p[16], int edge)
{
	const vf unit = vf_set((float)(h->a->scale * M_LOG2E));
	vf acc[16];

	clear(acc);
	add_products(acc, h->k_turned + t * h->pairs * PAIR, PAIR, LINE, l->q, h->pairs);
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++) {
		vf x = exp2_of(vf_fma(acc[i], unit, l->lse));

		if (edge)
			x = (vf)_mm512_maskz_mov_ps(seen(l, t + i), (__m512)x);
		p[i] = x;
		_mm256_storeu_si256((__m256i *)(void *)(l->p_tile + i * 32),
				    (__m256i)_mm512_cvtneps_pbh((__m512)x));
	}
}

/* dS of 16 keys, rounded: pairs of rows, and pairs of keys. */
NEVER_INLINE void slope_tile(const head *h, const lot *l, int64_t t, const vf p[16])
{
	vf acc[16];

	clear(acc);
	add_products(acc, h->v_turned + t * h->pairs * PAIR, PAIR, LINE, l->dout, h->pairs);
#pragma GCC unroll 8
	for (int i = 0; i < 16; i += 2) {
		const vf x = p[i] * (acc[i] - l->dot), y = p[i + 1] * (acc[i + 1] - l->dot);

		_mm512_storeu_si512(l->ds_tile + i * 32,
				    (__m512i)_mm512_cvtne2ps_pbh((__m512)y, (__m512)x));
		_mm512_storeu_si512(l->ds + (t + i) / 2 * LINE, pairs_of(x, y));
	}
}

static void make_tile(const head *h, const lot *l, int64_t t)
{
	vf p[16];

	if (whole(l, t))
		probability_tile(h, l, t, p, 0);
	else
		probability_tile(h, l, t, p, 1);
	slope_tile(h, l, t, p);
}

/* y [wide / 16] tiles of 16 keys += x^T with, of n lots. */
NEVER_INLINE void add_keys(const head *h, float *y, const char *x, const char *with, int64_t n)
{
	vf acc[16];

	for (int64_t c = 0; c < h->d; c += LANES, y += LANES * LANES, with += 8 * LINE) {
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++)
			acc[i] = vf_load(y + i * LANES);
		for (int64_t k = 0; k < n; k++)
			add_products(acc, x + k * CODES, 8 * PAIR, PAIR,
				     with + k * h->wide * 8 * PAIR, 8);
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++)
			vf_store(y + i * LANES, acc[i]);
	}
}

static void store_dq(const head *h, const lot *l)
{
	const int64_t from = l->from / 2 * LINE, pairs = (l->to - l->from) / 2;
	float factor[LANES], tile[LANES * LANES];

	vf_store(factor, vf_set((float)h->a->scale));
	for (int64_t c = 0; c < h->d; c += LANES) {
		product_tile(tile, l->ds + from,
			     h->k_pairs + c / LANES * (h->span / 2 * LINE) + from, pairs, factor);
		store_rows(h, l, h->a->dq, h->a->ldq, c, tile);
	}
}

/* The next lots, from number `first` on, and where their gradients go. */
static void expect_lots(const head *h, int64_t first)
{
	const qat_attention_args *a = h->a;
	const int64_t end = min64(first + LOTS, div_up(h->rows, LANES));
	lot l;

	for (int64_t i = first; i < end; i++) {
		find_lot(h, &l, i);
		expect_lot(h, &l, a->q, a->ldq);
		expect_lot(h, &l, qat_src_of(a->out.data, a->out.dtype), a->ldo);
		expect_lot(h, &l, a->dout, a->ldo);
		expect_lot(h, &l, qat_src_of(a->dq.data, a->dq.dtype), a->ldq);
	}
}

/* n lots from number `first` on. Those that see a key are neighbours. */
static void gradient_lots(const head *h, lot l[LOTS], int64_t first, int64_t n)
{
	int64_t a = 0, b = 0;

	expect_lots(h, first + n);
	for (int64_t i = 0; i < n; i++) {
		find_lot(h, l + i, first + i);
		load_lot(h, l + i);
	}
	for (int64_t t = l[0].from; t < l[n - 1].to; t += LANES) {
		while (l[a].to <= t)
			a++;
		while (b < n && l[b].from <= t)
			b++;
		for (int64_t i = a; i < b; i++)
			make_tile(h, l + i, t);
		add_keys(h, h->dk + t * h->wide, l[a].ds_tile, l[a].q_pairs, b - a);
		add_keys(h, h->dv + t * h->wide, l[a].p_tile, l[a].dout_pairs, b - a);
	}
	for (int64_t i = 0; i < n; i++)
		store_dq(h, l + i);
}

static void store_keys(const head *h, qat_dst y, int64_t ld, const float *tiles, float factor)
{
	for (int64_t t = 0; t < h->keys; t++)
		for (int64_t c = 0; c < h->d; c += LANES) {
			const float *x = tiles + t / LANES * LANES * h->wide + c * LANES;

			store_channels(y, (h->b * h->key_rows + t) * ld + h->kv * h->d + c,
				       vf_load(x + t % LANES * LANES) * vf_set(factor), h->d - c);
		}
}

static void gradient_head(head *h, lot l[LOTS])
{
	const qat_attention_args *a = h->a;
	const int64_t lots = div_up(h->rows, LANES);

	memset(h->dk, 0, (size_t)(h->span * h->wide) * 4);
	memset(h->dv, 0, (size_t)(h->span * h->wide) * 4);
	expect_lots(h, 0);
	load_keys(h, a->k, a->ldk, h->k_turned, h->k_pairs, 0, h->keys);
	load_keys(h, a->v, a->ldv, h->v_turned, NULL, 0, h->keys);
	for (int64_t i = 0; i < lots; i += LOTS)
		gradient_lots(h, l, i, min64(LOTS, lots - i));
	store_keys(h, a->dk, a->ldk, h->dk, (float)a->scale);
	store_keys(h, a->dv, a->ldv, h->dv, 1.0f);
}

static void attention_grad(const qat_attention_args *a)
{
#pragma omp parallel for schedule(dynamic)
	for (int64_t i = 0; i < a->batch * a->kv_heads; i++) {
		head h;
		lot l[LOTS];

		measure(&h, a);
		place_grad(&h, l, (float *)a->workspace +
				  place_grad(&h, l, NULL) * omp_get_thread_num());
		h.b = i / a->kv_heads;
		h.kv = i % a->kv_heads;
		gradient_head(&h, l);
	}
}

const qat_attention_kernels QAT_NAME(qat_attention_bf16_grad) = {
	.grad_workspace = attention_grad_workspace, .grad = attention_grad,
};
#elif !defined __AMX_BF16__
const qat_attention_kernels QAT_NAME(qat_attention_bf16_grad) = { .grad = NULL };
#endif
