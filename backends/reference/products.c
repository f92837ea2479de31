/* products.c - dense products, and the losses that end in one. Sums in double. */
#include "reference.h"

/* An output may be the addend's memory: each element is read before it is written. */
int ref_matmul(ref_call *c)
{
	const ref_view *a = &c->in[0], *b = &c->in[1], *y = &c->out[0];
	const int ta = c->n->attr.matmul.trans_a != 0, tb = c->n->attr.matmul.trans_b != 0;
	const int64_t inner = ta ? a->rows : a->cols;
	const int64_t a_row = ta ? 1 : a->cols, a_step = ta ? a->cols : 1;
	const int64_t b_col = tb ? b->cols : 1, b_step = tb ? 1 : b->cols;
	const int bias = c->in[2].data && c->g->values[c->n->in[2]]->rank == 1;

	for (int64_t i = 0; i < y->n; i++) {
		const int64_t m = i / y->cols, n = i % y->cols;
		double sum = 0.0;

		for (int64_t k = 0; k < inner; k++)
			sum += ref_get(a, m * a_row + k * a_step) *
			       ref_get(b, n * b_col + k * b_step);
		ref_put(y, i, sum + ref_or_zero(&c->in[2], bias ? n : i));
	}
	return QAT_OK;
}

/* ---- cross entropy ---- */

/* Logits of row n into l [v]: given, or x w^T. */
static void logits_given(const ref_call *c, int64_t n, double *l, int64_t v)
{
	for (int64_t i = 0; i < v; i++)
		l[i] = ref_get(&c->in[0], n * v + i);
}

static void logits_product(const ref_call *c, int64_t n, double *l, int64_t v)
{
	const ref_view *x = &c->in[0], *w = &c->in[1];

	for (int64_t i = 0; i < v; i++) {
		l[i] = 0.0;
		for (int64_t k = 0; k < x->cols; k++)
			l[i] += ref_get(x, n * x->cols + k) * ref_get(w, i * w->cols + k);
	}
}

/* log of the sum of exp; *best is the first of the largest. A NaN makes it NaN. */
static double log_sum_exp(const double *l, int64_t v, int64_t *best)
{
	double sum = 0.0;

	*best = 0;
	for (int64_t i = 1; i < v; i++)
		if (l[i] > l[*best])
			*best = i;
	for (int64_t i = 0; i < v; i++)
		sum += exp(l[i] - l[*best]);
	return l[*best] + log(sum);
}

/* A negative label is not scored; one past the vocabulary is NaN. */
static double nll_of(const double *l, double lse, int64_t v, int32_t label)
{
	return label < 0 ? 0.0 : label >= v ? NAN : lse - l[label];
}

static int loss(ref_call *c, const ref_view *labels, int64_t v,
		void logits(const ref_call *, int64_t, double *, int64_t))
{
	double *l = ref_doubles(c, v);

	if (!l)
		return QAT_ENOMEM;
	for (int64_t n = 0; n < labels->n; n++) {
		int64_t best;
		double lse;

		logits(c, n, l, v);
		lse = log_sum_exp(l, v, &best);
		ref_put(&c->out[0], n, nll_of(l, lse, v, ref_id(labels, n)));
		ref_put(&c->out[1], n, lse);
		if (c->out[2].data)
			ref_put(&c->out[2], n, (double)best);
	}
	free(l);
	return QAT_OK;
}

int ref_cross_entropy(ref_call *c)
{
	return loss(c, &c->in[1], c->in[0].cols, logits_given);
}

int ref_linear_cross_entropy(ref_call *c)
{
	return loss(c, &c->in[2], c->in[1].rows, logits_product);
}

/* l becomes g (softmax - onehot); all 0 where the label is not scored. */
static void logits_gradient(double *l, int64_t v, double lse, double g, int32_t label)
{
	for (int64_t i = 0; i < v; i++)
		l[i] = label < 0 ? 0.0 : g * (exp(l[i] - lse) - (i == label));
}

int ref_cross_entropy_grad(ref_call *c)
{
	const int64_t v = c->in[0].cols;
	double *l = ref_doubles(c, v);

	if (!l)
		return QAT_ENOMEM;
	for (int64_t n = 0; n < c->in[0].rows; n++) {
		logits_given(c, n, l, v);
		logits_gradient(l, v, ref_get(&c->in[2], n), ref_get(&c->in[3], n),
				ref_id(&c->in[1], n));
		for (int64_t i = 0; i < v; i++)
			ref_put(&c->out[0], n * v + i, l[i]);
	}
	free(l);
	return QAT_OK;
}

/* dx of row n, and its share of dw [v, k], both from dlogits l. */
static void add_row(const ref_call *c, int64_t n, const double *l, double *dw)
{
	const ref_view *x = &c->in[0], *w = &c->in[1];

	for (int64_t k = 0; k < x->cols; k++) {
		const double xk = ref_get(x, n * x->cols + k);
		double sum = 0.0;

		for (int64_t i = 0; i < w->rows; i++) {
			sum += l[i] * ref_get(w, i * w->cols + k);
			dw[i * w->cols + k] += l[i] * xk;
		}
		if (c->out[0].data)
			ref_put(&c->out[0], n * x->cols + k, sum);
	}
}

int ref_linear_cross_entropy_grad(ref_call *c)
{
	const ref_view *w = &c->in[1];
	double *l = ref_doubles(c, w->rows), *dw = l ? ref_doubles(c, w->n) : NULL;
	const int rc = dw ? QAT_OK : QAT_ENOMEM;

	for (int64_t n = 0; dw && n < c->in[0].rows; n++) {
		logits_product(c, n, l, w->rows);
		logits_gradient(l, w->rows, ref_get(&c->in[3], n), ref_get(&c->in[4], n),
				ref_id(&c->in[2], n));
		add_row(c, n, l, dw);
	}
	for (int64_t i = 0; dw && c->out[1].data && i < w->n; i++)
		ref_put(&c->out[1], i, dw[i] + ref_or_zero(&c->in[5], i));
	free(l);
	free(dw);
	return rc;
}
