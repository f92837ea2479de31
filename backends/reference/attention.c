/* attention.c - softmax(scale q k^T) v, one row of scores at a time.
 *
 * Head h of q reads head h / (heads / kv_heads) of k and v. Position t of a sequence
 * sees positions [from, to): up to t where causal, and not before t - window + 1.
 *   P = exp(S - lse);  dP = dout v^T;  dS = P (dP - sum(dout out));
 *   dq = scale dS k;  dk = scale dS^T q;  dv = P^T dout
 */
#include "reference.h"

/* One head of one query. */
typedef struct query {
	int64_t row, q;			/* token; element of q and out where the head starts */
	int64_t first, from, to;	/* row of position 0; positions seen */
	int64_t kv;			/* column of k and v */
} query;

static query find(const ref_call *c, int64_t row, int64_t h)
{
	const int64_t length = c->g->length, t = row % length, d = c->n->attr.attention.head_dim;
	const int64_t window = c->n->attr.attention.window;
	const int64_t per = c->n->attr.attention.heads / c->n->attr.attention.kv_heads;
	query at = { .row = row, .q = row * c->in[0].cols + h * d, .first = row - t,
		     .to = length, .kv = h / per * d };

	if (c->n->attr.attention.causal)
		at.to = t + 1;
	if (window > 0 && t - window + 1 > 0)
		at.from = t - window + 1;
	return at;
}

/* Element of k or v where position j's part for this head starts. */
static int64_t key(const ref_call *c, const query *at, int64_t j)
{
	return (at->first + j) * c->in[1].cols + at->kv;
}

static double dot(const ref_view *a, int64_t i, const ref_view *b, int64_t j, int64_t n)
{
	double sum = 0.0;

	for (int64_t k = 0; k < n; k++)
		sum += ref_get(a, i + k) * ref_get(b, j + k);
	return sum;
}

static double score(const ref_call *c, const query *at, int64_t j)
{
	return c->n->attr.attention.scale * dot(&c->in[0], at->q, &c->in[1], key(c, at, j),
						c->n->attr.attention.head_dim);
}

/* Probabilities into p [from, to); returns lse. */
static double softmax(const ref_call *c, const query *at, double *p)
{
	double top = -INFINITY, sum = 0.0;

	for (int64_t j = at->from; j < at->to; j++) {
		p[j] = score(c, at, j);
		top = p[j] > top || p[j] != p[j] ? p[j] : top;
	}
	for (int64_t j = at->from; j < at->to; j++)
		sum += p[j] = exp(p[j] - top);
	for (int64_t j = at->from; j < at->to; j++)
		p[j] /= sum;
	return top + log(sum);
}

int ref_attention(ref_call *c)
{
	const int64_t heads = c->n->attr.attention.heads, d = c->n->attr.attention.head_dim;
	double *p = ref_doubles(c, c->g->length);

	if (!p)
		return QAT_ENOMEM;
	for (int64_t i = 0; i < c->in[0].rows * heads; i++) {
		const query at = find(c, i / heads, i % heads);

		ref_put(&c->out[1], i, softmax(c, &at, p));
		for (int64_t k = 0; k < d; k++) {
			double sum = 0.0;

			for (int64_t j = at.from; j < at.to; j++)
				sum += p[j] * ref_get(&c->in[2], key(c, &at, j) + k);
			ref_put(&c->out[0], at.q + k, sum);
		}
	}
	free(p);
	return QAT_OK;
}

/* The gradients of one query's head, added up; lse and out are those of the forward run. */
static void add_query(const ref_call *c, const query *at, int64_t h, double *dq, double *dk,
		      double *dv)
{
	const ref_view *q = &c->in[0], *k = &c->in[1], *v = &c->in[2];
	const ref_view *out = &c->in[3], *dout = &c->in[5];
	const int64_t d = c->n->attr.attention.head_dim;
	const double lse = ref_get(&c->in[4], at->row * c->n->attr.attention.heads + h);
	const double scale = c->n->attr.attention.scale, through = dot(dout, at->q, out, at->q, d);

	for (int64_t j = at->from; j < at->to; j++) {
		const int64_t kv = key(c, at, j);
		const double p = exp(score(c, at, j) - lse);
		const double ds = scale * p * (dot(dout, at->q, v, kv, d) - through);

		for (int64_t i = 0; i < d; i++) {
			dq[at->q + i] += ds * ref_get(k, kv + i);
			dk[kv + i] += ds * ref_get(q, at->q + i);
			dv[kv + i] += p * ref_get(dout, at->q + i);
		}
	}
}

int ref_attention_grad(ref_call *c)
{
	const int64_t heads = c->n->attr.attention.heads;
	double *sum = ref_doubles(c, c->in[0].n + c->in[1].n + c->in[2].n), *at = sum;

	if (!sum)
		return QAT_ENOMEM;
	for (int64_t i = 0; i < c->in[0].rows * heads; i++) {
		const query q = find(c, i / heads, i % heads);

		add_query(c, &q, i % heads, sum, sum + c->in[0].n,
			  sum + c->in[0].n + c->in[1].n);
	}
	for (int i = 0; i < 3; i++)
		for (int64_t k = 0; k < c->in[i].n; k++, at++)
			if (c->out[i].data)
				ref_put(&c->out[i], k, *at);
	free(sum);
	return QAT_OK;
}
