/* attention.c - softmax(scale q k^T) v, one row of scores at a time.
 *
 * Head h of q reads head h / (heads / kv_heads) of k and v. Position t of a sequence
 * sees positions [from, to): up to t where causal, and not before t - window + 1.
 *   P = exp(S - lse);  dP = dout v^T;  dS = P (dP - sum(dout out));
 *   dq = scale dS k;  dk = scale dS^T q;  dv = P^T dout
 * With a cache, k and v are the cache's, and token t of this run is position + t there.
 */
#include "reference.h"

/* One head of one query. */
typedef struct query {
	int64_t row, q;			/* token; element of q and out where the head starts */
	int64_t first, from, to;	/* row of position 0; positions seen */
	int64_t kv;			/* column of k and v */
} query;

/* Rows of k and v for each sequence, and where the first query stands among them. */
static int64_t key_rows(const ref_call *c)
{
	return c->n->op == QAT_OP_ATTENTION && c->in[5].data ? c->in[5].rows / c->g->batch
							      : c->g->length;
}

static int64_t first_position(const ref_call *c)
{
	return c->n->op == QAT_OP_ATTENTION && c->in[5].data ? c->rt->position : 0;
}

static query find(const ref_call *c, int64_t row, int64_t h)
{
	const int64_t length = c->g->length, d = c->n->attr.attention.head_dim;
	const int64_t t = first_position(c) + row % length;
	const int64_t window = c->n->attr.attention.window;
	const int64_t per = c->n->attr.attention.heads / c->n->attr.attention.kv_heads;
	query at = { .row = row, .q = row * c->in[0].cols + h * d,
		     .first = row / length * key_rows(c), .to = length, .kv = h / per * d };

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

/* New keys and values into the cache, which then stands in for them. */
static int append(ref_call *c)
{
	const int64_t rows = key_rows(c), position = c->rt->position, length = c->g->length;

	if (position < 0 || position > rows - length)
		return qat_fail(QAT_EINVAL, "%s: position %lld is outside of the cache", c->n->name,
				(long long)position);
	for (int k = 1; k <= 2; k++) {
		const ref_view *from = &c->in[k], *to = &c->in[4 + k];

		for (int64_t i = 0; i < from->n; i++) {
			const int64_t row = i / from->cols, b = row / length;

			ref_put(to, (b * rows + position + row % length) * to->cols +
				i % from->cols, ref_get(from, i));
		}
	}
	return QAT_OK;
}

int ref_attention(ref_call *call)
{
	ref_call with = *call, *c = &with;
	const int64_t heads = c->n->attr.attention.heads, d = c->n->attr.attention.head_dim;
	const int rc = c->in[5].data ? append(c) : QAT_OK;
	double *p = rc ? NULL : ref_doubles(c, key_rows(c));

	if (!p)
		return rc ? rc : QAT_ENOMEM;
	if (c->in[5].data) {
		with.in[1] = with.in[5];
		with.in[2] = with.in[6];
	}
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
