/* attention_bf16.c - attention of bf16: attention_bf16.h; empty where the ISA has no products
 * of pairs, attention_tiles.c where it has tiles. Per ISA. */
#include "attention.h"

#if defined __AVX512BF16__ && !defined __AMX_BF16__
#include "attention_bf16.h"

static int64_t place(head *h, lot *l, float *base)
{
	const int64_t turned = h->span * h->pairs * PAIR, paired = h->wide * h->span / 2 * PAIR;
	int64_t used = 0;

	h->k_turned = take_bytes(base, &used, turned);
	h->v_pairs = take_bytes(base, &used, paired);
	h->s = take_bytes(base, &used, h->span * LINE);
	l->q = take_bytes(base, &used, h->pairs * LINE);
	return used;
}

static int64_t attention_workspace(const qat_attention_args *a)
{
	head h;
	lot l;

	measure(&h, a);
	return 4 * place(&h, &l, NULL) * omp_get_max_threads();
}

/* 16 scores of each row, in units of log 2; returns the top ones. */
NEVER_INLINE vf score_tile(const head *h, const lot *l, int64_t t, vf unit, vf top, int edge)
{
	float *s = (float *)(void *)(h->s + t * LINE);
	vf acc[16];

	clear(acc);
	add_products(acc, h->k_turned + t * h->pairs * PAIR, PAIR, LINE, l->q, h->pairs);
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++) {
		vf x = acc[i] * unit;

		if (edge)
			x = (vf)_mm512_mask_mov_ps((__m512)vf_set(-INFINITY), seen(l, t + i),
						   (__m512)x);
		top = (vf)_mm512_max_ps((__m512)x, (__m512)top);	/* not NaN */
		vf_store(s + i * LANES, x);
	}
	return top;
}

static vf scores(const head *h, const lot *l)
{
	const vf unit = vf_set((float)(h->a->scale * M_LOG2E));
	vf top = vf_set(-INFINITY);

	for (int64_t t = l->from; t < l->to; t += LANES)
		top = whole(l, t) ? score_tile(h, l, t, unit, top, 0)
				  : score_tile(h, l, t, unit, top, 1);
	return top;
}

/* Scores become pairs of P, in place; returns their sum. */
static vf probabilities(const head *h, const lot *l, vf top, vf *rounded)
{
	const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
	__m512 kept = (__m512)vf_set(0.0f);
	vf sum = vf_set(0.0f);

	for (int64_t t = l->from; t < l->to; t += 2) {
		const float *s = (const float *)(const void *)(h->s + t * LINE);
		const vf x = exp2_of(vf_load(s) - top), y = exp2_of(vf_load(s + LANES) - top);
		const __m512i p = pairs_of(x, y);

		sum = sum + x + y;
		kept = _mm512_dpbf16_ps(kept, (__m512bh)p, ones);
		_mm512_storeu_si512(h->s + t / 2 * LINE, p);
	}
	*rounded = (vf)kept;
	return sum;
}

static void values(const head *h, const lot *l, vf rounded)
{
	const int64_t from = l->from / 2 * LINE, pairs = (l->to - l->from) / 2;
	float factor[LANES], tile[LANES * LANES];

	vf_store(factor, vf_set(1.0f) / rounded);
	for (int64_t c = 0; c < h->d; c += LANES) {
		product_tile(tile, h->s + from,
			     h->v_pairs + c / LANES * (h->span / 2 * LINE) + from, pairs, factor);
		store_rows(h, l, h->a->out, h->a->ldo, c, tile);
	}
}

static void run_lot(const head *h, const lot *l)
{
	const qat_attention_args *a = h->a;
	const rows q = rows_of_lot(h, l, a->q.data, a->ldq);
	vf top, sum, rounded;

	turn(h, l->q, &q);
	top = scores(h, l);
	sum = probabilities(h, l, top, &rounded);
	for (int64_t i = 0; i < l->n; i++)
		a->lse[l->token[i] * a->heads + l->part[i]] =
			top[i] * (float)M_LN2 + logf(sum[i]);
	values(h, l, rounded);
}

/* Part i of n of a head's lots. */
static void run_part(head *h, lot *l, int64_t i, int64_t n)
{
	const qat_attention_args *a = h->a;
	const int64_t lots = div_up(h->rows, LANES), first = lots * i / n, end = lots * (i + 1) / n;
	int64_t from;

	find_lot(h, l, first);
	from = l->from;
	expect_lot(h, l, a->q, a->ldq);
	find_lot(h, l, end - 1);
	load_keys(h, a->k, a->ldk, h->k_turned, NULL, from, l->to);
	load_keys(h, a->v, a->ldv, NULL, h->v_pairs, from, l->to);
	for (int64_t k = first; k < end; k++) {
		find_lot(h, l, min64(k + 1, end - 1));
		expect_lot(h, l, a->q, a->ldq);
		expect_lot(h, l, qat_src_of(a->out.data, a->out.dtype), a->ldo);
		find_lot(h, l, k);
		run_lot(h, l);
	}
}

static void attention_run(const qat_attention_args *a)
{
	const int64_t heads = a->batch * a->kv_heads, threads = omp_get_max_threads();
	const int64_t lots = div_up(a->length * a->heads / a->kv_heads, LANES);
	const int64_t parts = min64(lots, div_up(2 * threads, heads));

#pragma omp parallel for schedule(dynamic)
	for (int64_t i = 0; i < heads * parts; i++) {
		const int64_t at = i / parts;
		head h;
		lot l;

		measure(&h, a);
		place(&h, &l, (float *)a->workspace + place(&h, &l, NULL) * omp_get_thread_num());
		h.b = at / a->kv_heads;
		h.kv = at % a->kv_heads;
		run_part(&h, &l, i % parts, parts);
	}
}

const qat_attention_kernels QAT_NAME(qat_attention_bf16) = {
	.workspace = attention_workspace, .run = attention_run,
};
#elif !defined __AMX_BF16__
const qat_attention_kernels QAT_NAME(qat_attention_bf16) = { .run = NULL };
#endif
