/* attention_bf16.c - attention of bf16: attention_bf16.h; empty where the ISA has no products
 * of pairs, attention_tiles.c where it has tiles. Per ISA. */
#include "attention.h"

#if defined __AVX512BF16__ && !defined __AMX_BF16__
#include "attention_bf16.h"

static int64_t place(head *h, lot l[BESIDE], float *base)
{
	const int64_t turned = h->span * h->pairs * PAIR, paired = h->wide * h->span / 2 * PAIR;
	int64_t used = 0;

	h->k_turned = take_bytes(base, &used, turned);
	h->v_pairs = take_bytes(base, &used, paired);
	h->v_turned = h->k_pairs = NULL;
	for (int i = 0; i < BESIDE; i++)
		l[i].x = take_bytes(base, &used, h->span * LINE);
	for (int i = 0; i < BESIDE; i++)
		l[i].q = take_bytes(base, &used, h->pairs * LINE);
	return used;
}

static int64_t attention_workspace(const qat_attention_args *a)
{
	head h;
	lot l[BESIDE];

	measure(&h, a);
	return 4 * place(&h, l, NULL) * omp_get_max_threads();
}

/* ---- scores ---- */

/* They are f32, [span][16], in the place of P. */
QAT_INLINE float *scores_of(const lot *l, int64_t t)
{
	return (float *)(void *)(l->x + t * LINE);
}

/* Scores of TALL keys in units of log 2. */
QAT_INLINE void keep_scores(lot *l, int64_t t, vf acc[TALL][BESIDE], int j, vf unit, int edge)
{
	vf top = l->top;

#pragma GCC unroll 8
	for (int i = 0; i < TALL; i++) {
		vf x = acc[i][j] * unit;

		if (edge)
			x = (vf)_mm512_mask_mov_ps((__m512)vf_set(-INFINITY), seen(l, t + i),
						   (__m512)x);
		top = (vf)_mm512_max_ps((__m512)x, (__m512)top);	/* not NaN */
		vf_store(scores_of(l, t + i), x);
	}
	l->top = top;
}

QAT_INLINE void score_tile(const head *h, lot *l, int64_t t, int n)
{
	const vf unit = vf_set((float)(h->a->scale * M_LOG2E));
	vf acc[TALL][BESIDE];

	clear(acc);
	add_products(acc, n, turned_key(h, h->k_turned, t), PAIR, LINE, l->q, h->pairs * LINE,
		     h->pairs);
#pragma GCC unroll 2
	for (int j = 0; j < n; j++)
		if (whole(l + j, t))
			keep_scores(l + j, t, acc, j, unit, 0);
		else
			keep_scores(l + j, t, acc, j, unit, 1);
}

NEVER_INLINE void score_one(const head *h, lot *l, int64_t t)
{
	score_tile(h, l, t, 1);
}

NEVER_INLINE void score_two(const head *h, lot *l, int64_t t)
{
	score_tile(h, l, t, 2);
}

/* Of n lots. Two that are neighbours see keys that are. */
static void scores(head *h, lot *l, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		l[i].top = vf_set(-INFINITY);
	for (int64_t t = l[0].from; t < l[n - 1].to; t += TALL) {
		ask(&h->ahead, (l[n - 1].to - t) / TALL);
		if (n == 2 && t < l[0].to && t >= l[1].from)
			score_two(h, l, t);
		else
			score_one(h, t < l[0].to ? l : l + 1, t);
	}
}

/* ---- lots ---- */

/* Scores become pairs of P, in place; returns their sum. */
static vf probabilities(lot *l)
{
	const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
	__m512 kept = (__m512)vf_set(0.0f);
	const vf top = l->top;
	vf sum = vf_set(0.0f);

	for (int64_t t = l->from; t < l->to; t += 2) {
		const float *s = scores_of(l, t);
		const vf x = exp2_of(vf_load(s) - top), y = exp2_of(vf_load(s + LANES) - top);
		const __m512i p = pairs_of(x, y);

		sum = sum + x + y;
		kept = _mm512_dpbf16_ps(kept, (__m512bh)p, ones);
		_mm512_storeu_si512(l->x + t / 2 * LINE, p);
	}
	l->factor = vf_set(1.0f) / (vf)kept;
	return sum;
}

/* n lots from number `first` on. */
static void run_lots(head *h, lot *l, int64_t first, int64_t n)
{
	const qat_attention_args *a = h->a;

	for (int64_t i = 0; i < n; i++) {
		rows q;

		find_lot(h, l + i, first + i);
		q = rows_of_lot(h, l + i, a->q.data, a->ldq);
		turn(h, l[i].q, &q);
	}
	load_keys(h, l[n - 1].to);
	scores(h, l, n);
	for (int64_t i = 0; i < n; i++) {
		const vf sum = probabilities(l + i);

		for (int64_t k = 0; k < l[i].n; k++)
			a->lse[l[i].token[k] * a->heads + l[i].part[k]] =
				l[i].top[k] * (float)M_LN2 + logf(sum[k]);
	}
	products(h, l, n, h->v_pairs, a->out, a->ldo);
}

/* ---- heads ---- */

/* What lots first .. end read and write; most of them are the first to see their keys. */
static void want_lots(ahead *w, const head *h, int64_t first, int64_t end)
{
	const qat_attention_args *a = h->a;
	int64_t from, to;

	tokens_of(h, first, end, &from, &to);
	want_queries(w, h, a->q, a->ldq, from, to);
	want_keys(w, h, a->k, a->ldk, h->position + from, h->position + to);
	want_keys(w, h, a->v, a->ldv, h->position + from, h->position + to);
	want_queries(w, h, qat_src_of(a->out.data, a->out.dtype), a->ldo, from, to);
}

/* What the thread probably does next, as parts take equally long: the start of part i. */
static void want_part(ahead *w, const head *h, int64_t i)
{
	head next = *h;

	if (i >= h->heads * h->parts)
		return;
	take_head(&next, i / h->parts);
	i = start_of(h, i % h->parts);
	want_lots(w, &next, i, i + BESIDE);
}

/* Part i of all. */
static void run_part(head *h, lot *l, int64_t i)
{
	const int64_t first = start_of(h, i % h->parts), end = start_of(h, i % h->parts + 1);

	if (first == end)
		return;
	take_head(h, i / h->parts);
	find_lot(h, l, first);
	h->loaded = l->from / LANES * LANES;
	for (int64_t k = first; k < end; k += BESIDE) {
		const int64_t n = min64(BESIDE, end - k);

		h->ahead = (ahead){ .n = 0 };
		if (k + n < end)
			want_lots(&h->ahead, h, k + n, min64(k + n + BESIDE, end));
		else
			want_part(&h->ahead, h, i + h->threads);
		run_lots(h, l, k, n);
	}
}

static void attention_run(const qat_attention_args *a)
{
	head all;

	measure(&all, a);
	all.parts = min64(all.lots, div_up(2 * all.threads, all.heads));
#pragma omp parallel for schedule(dynamic)
	for (int64_t i = 0; i < all.heads * all.parts; i++) {
		head h = all;
		lot l[BESIDE];

		place(&h, l, (float *)a->workspace + place(&h, l, NULL) * omp_get_thread_num());
		run_part(&h, l, i);
	}
}

const qat_attention_kernels QAT_NAME(qat_attention_bf16) = {
	.workspace = attention_workspace, .run = attention_run,
};
#elif !defined __AMX_BF16__
const qat_attention_kernels QAT_NAME(qat_attention_bf16) = { .run = NULL };
#endif
