/* gradient.c - one rule per differentiable op. g is dL/d(output).
 *
 * A rule asks which inputs want a gradient, appends nodes, and puts each result; ops
 * with an addend input take in what has been summed so far.
 */
#include "ir.h"

#include <qatrun/numerics.h>

#include "error.h"

/* dtype and memory for a contribution to input i that takes in the addend. */
static qat_ir_extra target(const qat_diff *d, const qat_node *n, int i)
{
	return (qat_ir_extra){ .dtype = qat_diff_dtype(d, n->in[i]),
			       .alias = { qat_diff_alias(d, n->in[i]) } };
}

/* The same for a contribution that does not: then a sum, if any, comes after it. */
static void place(qat_ir_extra *e, const qat_diff *d, const qat_node *n, int i, int out)
{
	const int later = qat_diff_addend(d, n->in[i]) != QAT_NONE;

	if (out == 0)
		e->dtype = later ? QAT_F32 : qat_diff_dtype(d, n->in[i]);
	e->alias[out] = later ? 0 : qat_diff_alias(d, n->in[i]);
}

/* v as an operand of a matmul: of the edge type. */
static int64_t operand(qat_diff *d, int64_t v)
{
	const qat_attr attr = { .cast = { .dtype = d->g->graph.precision } };

	if (v < 0 || d->g->graph.values[v]->dtype == d->g->graph.precision)
		return v;
	return qat_ir_node(d->g, QAT_OP_CAST, &attr, 1, &v, NULL, NULL);
}

static int64_t matmul_into(qat_diff *d, const qat_node *n, int i, int64_t a, int ta, int64_t b,
			   int tb)
{
	const qat_attr attr = { .matmul = { .trans_a = ta, .trans_b = tb } };
	const int64_t in[] = { a, b, qat_diff_addend(d, n->in[i]) };
	const qat_ir_extra extra = target(d, n, i);

	if (a < 0 || b < 0)
		return a < 0 ? a : b;
	return qat_ir_node(d->g, QAT_OP_MATMUL, &attr, 3, in, NULL, &extra);
}

static int bias_gradient(qat_diff *d, const qat_node *n, int i, int64_t g)
{
	const int64_t in[] = { g, qat_diff_addend(d, n->in[i]) };
	const qat_ir_extra extra = target(d, n, i);

	return qat_diff_put(d, n->in[i],
			    qat_ir_node(d->g, QAT_OP_REDUCE_ROWS, NULL, 2, in, NULL, &extra), 1);
}

int qat_gradient_embedding(qat_diff *d, const qat_node *n)
{
	const int64_t in[] = { n->in[1], qat_diff_out(d, n, 0), qat_diff_addend(d, n->in[0]) };
	const qat_attr attr = { .embedding = {
		.rows = d->g->graph.values[n->in[0]]->shape[0] } };
	const qat_ir_extra extra = target(d, n, 0);

	return qat_diff_put(d, n->in[0], qat_ir_node(d->g, QAT_OP_EMBEDDING_GRAD, &attr, 3, in,
						     NULL, &extra), 1);
}

/* y = a b^T (+ c): da = g b, db = g^T a. */
int qat_gradient_matmul(qat_diff *d, const qat_node *n)
{
	const int64_t g = qat_diff_out(d, n, 0), e = operand(d, g);
	int rc = e < 0 ? (int)e : QAT_OK;

	if (n->attr.matmul.trans_a || !n->attr.matmul.trans_b)
		return qat_fail(QAT_ENOTSUP, "%s: gradient of this transposition", n->name);
	if (!rc && qat_diff_wants(d, n, 2))
		rc = d->g->graph.values[n->in[2]]->rank == 1 ? bias_gradient(d, n, 2, g)
							     : qat_diff_put(d, n->in[2], g, 0);
	if (!rc && qat_diff_wants(d, n, 1))
		rc = qat_diff_put(d, n->in[1], matmul_into(d, n, 1, e, 1, n->in[0], 0), 1);
	if (!rc && qat_diff_wants(d, n, 0))
		rc = qat_diff_put(d, n->in[0], matmul_into(d, n, 0, e, 0, n->in[1], 0), 1);
	return rc;
}

/* x^ or w^ from the inputs of a qmatmul, in the edge type. */
static int64_t decoded(qat_diff *d, const qat_node *n, int side)
{
	const int64_t in[] = { n->in[3 * side], n->in[3 * side + 1], n->in[3 * side + 2] };
	const qat_ir_extra extra = { .schemes = { n->schemes[side] }, .site = n->site + 1 };

	if (!n->schemes[side])
		return operand(d, in[0]);
	/* q, k, v have one x: what was just decoded is still there. */
	for (int64_t i = d->g->graph.n_nodes - 1; i >= 0; i--) {
		const qat_node *m = d->g->graph.nodes[i];

		if (m->phase != QAT_PHASE_BACKWARD)
			break;
		if (m->op == QAT_OP_DEQUANTIZE && m->in[0] == in[0])
			return m->out[0];
	}
	return qat_ir_node(d->g, QAT_OP_DEQUANTIZE, NULL, 3, in, NULL, &extra);
}

/* Whether a side's gradient is a product of the other's codes, in integers. */
static int by_codes(const qat_diff *d, const qat_node *n, int side)
{
	const qat_scheme_set *set = n->schemes[!side];

	for (int64_t i = 0; set && i < set->count; i++)
		if (!qat_scheme_folds(set->schemes[i]))
			return 0;
	return set && d->g->gradient_bits;
}

/* e: the gradient as an operand of float products. */
static int qmatmul_side(qat_diff *d, const qat_node *n, int side, int64_t e)
{
	const int i = 3 * side;
	const int64_t *codes = n->in + 3 * !side;
	const int64_t in[] = { qat_diff_out(d, n, 0), codes[0], codes[1],
			       qat_diff_addend(d, n->in[i]) };
	const qat_attr attr = { .qmatmul_grad = { .side = side, .bits = d->g->gradient_bits,
						  .stream = (int64_t)n->site << 8 |
							    QAT_RANDOM_GRADIENT } };
	qat_ir_extra extra = target(d, n, i);

	if (!by_codes(d, n, side))
		return qat_diff_put(d, n->in[i],
				    matmul_into(d, n, i, e, side, decoded(d, n, !side), 0), 1);
	extra.schemes[0] = n->schemes[!side];
	return qat_diff_put(d, n->in[i], qat_ir_node(d->g, QAT_OP_QMATMUL_GRAD, &attr, 4, in, NULL,
						     &extra), 1);
}

/* As matmul, on x^ and w^; what flows to codes is the gradient of what they decode to,
 * and quantize's rule takes it on (straight through). */
int qat_gradient_qmatmul(qat_diff *d, const qat_node *n)
{
	const int64_t g = qat_diff_out(d, n, 0);
	int64_t e = g;
	int rc = QAT_OK;

	for (int side = 0; side < 2; side++)
		if (e == g && qat_diff_wants(d, n, 3 * side) && !by_codes(d, n, side))
			e = operand(d, g);
	if (e < 0)
		return (int)e;
	if (qat_diff_wants(d, n, 6))
		rc = bias_gradient(d, n, 6, g);
	for (int side = 1; side >= 0 && !rc; side--)
		if (qat_diff_wants(d, n, 3 * side))
			rc = qmatmul_side(d, n, side, e);
	return rc;
}

/* Only reached where the scheme clips: else the codes stand for x, see differentiate.c. */
int qat_gradient_quantize(qat_diff *d, const qat_node *n)
{
	const int64_t in[] = { qat_diff_out(d, n, 0), n->out[3] };
	qat_ir_extra extra = { .schemes = { n->schemes[0] } };

	place(&extra, d, n, 0, 0);
	return qat_diff_put(d, n->in[0],
			    qat_ir_node(d->g, QAT_OP_MASK, NULL, 2, in, NULL, &extra), 0);
}

int qat_gradient_add(qat_diff *d, const qat_node *n)
{
	const int64_t g = qat_diff_out(d, n, 0);
	int rc = QAT_OK;

	for (int i = 0; i < 2 && !rc; i++)
		if (qat_diff_wants(d, n, i))
			rc = qat_diff_put(d, n->in[i], g, 0);
	return rc;
}

int qat_gradient_mul(qat_diff *d, const qat_node *n)
{
	const int64_t g = qat_diff_out(d, n, 0);
	int rc = QAT_OK;

	for (int i = 0; i < 2 && !rc; i++) {
		const int64_t in[] = { g, n->in[1 - i] };
		qat_ir_extra extra = { 0 };

		if (!qat_diff_wants(d, n, i))
			continue;
		place(&extra, d, n, i, 0);
		rc = qat_diff_put(d, n->in[i],
				  qat_ir_node(d->g, QAT_OP_MUL, NULL, 2, in, NULL, &extra), 0);
	}
	return rc;
}

int qat_gradient_scale(qat_diff *d, const qat_node *n)
{
	const int64_t g = qat_diff_out(d, n, 0);
	qat_ir_extra extra = { 0 };

	place(&extra, d, n, 0, 0);
	return qat_diff_put(d, n->in[0],
			    qat_ir_node(d->g, QAT_OP_SCALE, &n->attr, 1, &g, NULL, &extra), 0);
}

int qat_gradient_act(qat_diff *d, const qat_node *n)
{
	const int64_t in[] = { n->in[0], qat_diff_out(d, n, 0) };
	qat_ir_extra extra = { 0 };

	place(&extra, d, n, 0, 0);
	return qat_diff_put(d, n->in[0],
			    qat_ir_node(d->g, QAT_OP_ACT_GRAD, &n->attr, 2, in, NULL, &extra), 0);
}

/* Put outputs 0..count-1 of a gradient node as contributions to inputs 0..count-1. */
static int put_all(qat_diff *d, const qat_node *n, const int64_t *out, int count)
{
	int rc = QAT_OK;

	for (int i = 0; i < count && !rc; i++)
		if (qat_diff_wants(d, n, i))
			rc = qat_diff_put(d, n->in[i], out[i], 0);
	return rc;
}

int qat_gradient_glu(qat_diff *d, const qat_node *n)
{
	const int64_t in[] = { n->in[0], n->in[1], qat_diff_out(d, n, 0) };
	int64_t out[QAT_MAX_OUT];
	const int64_t rc = qat_ir_node(d->g, QAT_OP_GLU_GRAD, &n->attr, 3, in, out, NULL);

	return rc < 0 ? (int)rc : put_all(d, n, out, 2);
}

/* dx takes in what the residual stream has already; dw and db go their own way. */
static int norm_gradient(qat_diff *d, const qat_node *n, uint32_t op, int64_t *in, int n_stats)
{
	const int64_t sofar = qat_diff_addend(d, n->in[0]);
	qat_ir_extra extra = { .dtype = qat_diff_dtype(d, n->in[0]) };
	int64_t out[QAT_MAX_OUT], id;
	int rc;

	in[2 + n_stats] = qat_diff_out(d, n, 0);
	in[3 + n_stats] = sofar;
	for (int i = 1; i < (n_stats == 2 ? 3 : 2); i++)
		if (qat_diff_wants(d, n, i))
			place(&extra, d, n, i, i);
	id = qat_ir_node(d->g, op, &n->attr, 4 + n_stats, in, out, &extra);
	if (id < 0)
		return (int)id;
	rc = qat_diff_wants(d, n, 0) ? qat_diff_put(d, n->in[0], out[0], 1) : QAT_OK;
	for (int i = 1; i < 3 && !rc; i++)
		if (qat_diff_wants(d, n, i))
			rc = qat_diff_put(d, n->in[i], out[i], 0);
	return rc;
}

int qat_gradient_layer_norm(qat_diff *d, const qat_node *n)
{
	int64_t in[6] = { n->in[0], n->in[1], n->out[1], n->out[2] };

	return norm_gradient(d, n, QAT_OP_LAYER_NORM_GRAD, in, 2);
}

int qat_gradient_rms_norm(qat_diff *d, const qat_node *n)
{
	int64_t in[5] = { n->in[0], n->in[1], n->out[1] };

	return norm_gradient(d, n, QAT_OP_RMS_NORM_GRAD, in, 1);
}

int qat_gradient_rope(qat_diff *d, const qat_node *n)
{
	const int64_t in[] = { qat_diff_out(d, n, 0), n->in[1], n->in[2] };
	qat_attr attr = n->attr;
	qat_ir_extra extra = { 0 };

	attr.rope.inverse = !attr.rope.inverse;
	place(&extra, d, n, 0, 0);
	return qat_diff_put(d, n->in[0],
			    qat_ir_node(d->g, QAT_OP_ROPE, &attr, 3, in, NULL, &extra), 0);
}

int qat_gradient_attention(qat_diff *d, const qat_node *n)
{
	const int64_t in[] = { n->in[0], n->in[1], n->in[2], n->out[0], n->out[1],
			       qat_diff_out(d, n, 0) };
	int64_t out[QAT_MAX_OUT];
	const int64_t rc = qat_ir_node(d->g, QAT_OP_ATTENTION_GRAD, &n->attr, 6, in, out, NULL);

	return rc < 0 ? (int)rc : put_all(d, n, out, 3);
}

int qat_gradient_linear_cross_entropy(qat_diff *d, const qat_node *n)
{
	const int64_t in[] = { n->in[0], n->in[1], n->in[2], n->out[1], qat_diff_out(d, n, 0),
			       qat_diff_addend(d, n->in[1]) };
	qat_ir_extra extra = { 0 };
	int64_t out[QAT_MAX_OUT], id;
	int rc;

	place(&extra, d, n, 0, 0);
	extra.alias[1] = qat_diff_wants(d, n, 1) ? qat_diff_alias(d, n->in[1]) : 0;
	id = qat_ir_node(d->g, QAT_OP_LINEAR_CROSS_ENTROPY_GRAD, NULL, 6, in, out, &extra);
	rc = id < 0 ? (int)id : QAT_OK;
	if (!rc && qat_diff_wants(d, n, 1))
		rc = qat_diff_put(d, n->in[1], out[1], 1);
	if (!rc && qat_diff_wants(d, n, 0))
		rc = qat_diff_put(d, n->in[0], out[0], 0);
	return rc;
}

int qat_gradient_cross_entropy(qat_diff *d, const qat_node *n)
{
	const int64_t in[] = { n->in[0], n->in[1], n->out[1], qat_diff_out(d, n, 0) };
	qat_ir_extra extra = { 0 };

	place(&extra, d, n, 0, 0);
	return qat_diff_put(d, n->in[0], qat_ir_node(d->g, QAT_OP_CROSS_ENTROPY_GRAD, NULL, 4, in,
						     NULL, &extra), 0);
}

int qat_gradient_split(qat_diff *d, const qat_node *n)
{
	int64_t in[QAT_MAX_OUT];
	qat_ir_extra extra = { 0 };

	for (int i = 0; i < n->n_out; i++) {
		in[i] = qat_diff_out(d, n, i);
		if (in[i] == QAT_NONE)
			return qat_fail(QAT_ENOTSUP, "%s: output %d is unused", n->name, i);
	}
	place(&extra, d, n, 0, 0);
	return qat_diff_put(d, n->in[0],
			    qat_ir_node(d->g, QAT_OP_CONCAT, NULL, n->n_out, in, NULL, &extra), 0);
}

int qat_gradient_concat(qat_diff *d, const qat_node *n)
{
	const int64_t g = qat_diff_out(d, n, 0);
	qat_attr attr = { .split = { .count = n->n_in } };
	int64_t out[QAT_MAX_OUT], id;

	for (int i = 0; i < n->n_in; i++)
		attr.split.width[i] = d->g->graph.values[n->in[i]]->shape[1];
	id = qat_ir_node(d->g, QAT_OP_SPLIT, &attr, 1, &g, out, NULL);
	return id < 0 ? (int)id : put_all(d, n, out, (int)n->n_in);
}
