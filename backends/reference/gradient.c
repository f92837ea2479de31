/* gradient.c - products of codes, backwards: the gradient becomes codes, too.
 *
 *   side 0: dx[t, i] = c + fl(s[t] fl(sum over o of q[t, o] w[o, i]))
 *   side 1: dw[o, i] = c + sum over sequences b of fl(s[b, o] fl(sum over t in b of q[t, o] x[t, i]))
 *
 * Scales of w, one for each o, or of x, one for each t, have gone to dy before it is
 * rounded. docs/architecture.md, "Gradients as codes".
 */
#include "reference.h"

/* The gradient as codes: line m has `depth` of them in blocks that share a scale. */
typedef struct lines {
	int64_t count, depth, block;
	int8_t *codes;
	float *scale;			/* [count, depth / block] */
} lines;

/* Token and channel of element k of line m. */
static void place(const ref_call *c, int64_t m, int64_t k, int64_t *token, int64_t *channel)
{
	const int side = c->n->attr.qmatmul_grad.side != 0;

	*token = side ? k : m;
	*channel = side ? m : k;
}

/* Element k of line m, times the scale of the other side's row. */
static float folded(const ref_call *c, int64_t m, int64_t k)
{
	const int64_t rows = c->n->schemes[0]->schemes[0]->block_rows;
	int64_t t, o;

	place(c, m, k, &t, &o);
	return ref_float(&c->in[0], t * c->in[0].cols + o) *
	       ref_float(&c->in[2], rows ? k / rows : 0);
}

static uint32_t random_word(const ref_call *c, int64_t m, int64_t k)
{
	const int64_t length = c->g->length;
	uint32_t words[4];
	int64_t t, o, element;

	place(c, m, k, &t, &o);
	element = t % length * c->in[0].cols + o;
	qat_philox(words, c->rt->seed, (uint64_t)(element / 4),
		   (uint32_t)(c->rt->sequence + t / length),
		   (uint32_t)c->n->attr.qmatmul_grad.stream);
	return words[element % 4];
}

static void make_block(const ref_call *c, const lines *l, int64_t m, int64_t first)
{
	const int qmax = (1 << (c->n->attr.qmatmul_grad.bits - 1)) - 1;
	float *scale = &l->scale[(m * l->depth + first) / l->block], amax = 0.0f;
	int bad = 0;

	for (int64_t k = first; k < first + l->block; k++) {
		const float x = folded(c, m, k);

		bad |= !qat_is_finite(x);
		amax = fabsf(x) > amax ? fabsf(x) : amax;
	}
	*scale = qat_grad_scale(amax, bad, qmax);
	for (int64_t k = first; k < first + l->block; k++)
		l->codes[m * l->depth + k] = (int8_t)qat_grad_code(folded(c, m, k), *scale,
								       random_word(c, m, k), qmax);
}

static int make_lines(const ref_call *c, lines *l)
{
	const int64_t rows = c->in[0].rows, cols = c->in[0].cols;
	const int side = c->n->attr.qmatmul_grad.side != 0;

	*l = (lines){ .count = side ? cols : rows, .depth = side ? rows : cols,
		      .block = side ? c->g->length : cols };
	l->codes = malloc((size_t)(rows * cols) + 1);
	l->scale = malloc((size_t)(l->count * (l->depth / l->block) + 1) * sizeof *l->scale);
	if (!l->codes || !l->scale)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", c->n->name);
	for (int64_t m = 0; m < l->count; m++)
		for (int64_t k = 0; k < l->depth; k += l->block)
			make_block(c, l, m, k);
	return QAT_OK;
}

int ref_qmatmul_grad(ref_call *c)
{
	const int8_t *codes = c->in[1].data;
	const int64_t cols = c->in[1].cols;
	lines l;
	const int rc = make_lines(c, &l);

	for (int64_t at = 0; !rc && at < c->out[0].n; at++) {
		const int64_t m = at / cols, i = at % cols;
		float y = (float)ref_or_zero(&c->in[3], at);

		for (int64_t first = 0; first < l.depth; first += l.block) {
			int64_t sum = 0;

			for (int64_t k = first; k < first + l.block; k++)
				sum += (int64_t)l.codes[m * l.depth + k] * codes[k * cols + i];
			y += l.scale[(m * l.depth + first) / l.block] * (float)sum;
		}
		ref_put(&c->out[0], at, y);
	}
	free(l.codes);
	free(l.scale);
	return rc;
}
