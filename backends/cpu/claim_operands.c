/* claim_operands.c - operands of products that never exist as bf16: the product rounds or
 * decodes them while it packs.
 *
 * A cast of a trained parameter is then nothing at all: whoever reads it reads the parameter. A
 * dequantize becomes one kernel with the products that read it, so that the codes live
 * as long as they are needed; a gradient becomes codes for both of its products at once. Floats
 * that only a quantize reads, row by row, are made some rows at a time.
 */
#include "cpu.h"

#include <qatrun/numerics.h>

static int64_t root(const qat_graph *g, int64_t v)
{
	while (g->values[v]->alias != QAT_NONE)
		v = g->values[v]->alias;
	return v;
}

/* How often node n reads value v as an operand of bf16; -1 where it reads it otherwise. */
static int reads_operand(const qat_graph *g, const qat_node *n, int64_t v)
{
	const int head = n->op == QAT_OP_LINEAR_CROSS_ENTROPY ||
			 n->op == QAT_OP_LINEAR_CROSS_ENTROPY_GRAD;
	int count = 0;

	for (int64_t i = 0; i < n->n_in; i++) {
		if (n->in[i] != v)
			continue;
		if (i > 1 || !(head || n->op == QAT_OP_MATMUL) ||
		    g->values[n->in[1 - i]]->dtype != QAT_BF16)
			return -1;
		count++;
	}
	return count;
}

/* ---- casts of parameters that are trained ----
 * The f32 master is there anyway. One that is frozen may be a file's, and better cast once. */

static int is_updated(const qat_graph *g, int64_t v)
{
	for (int64_t i = 0; i < g->n_values; i++)
		if (g->values[i]->alias == v)
			return 1;
	return 0;
}

int qat_cpu_swallows_cast(const qat_cpu *cpu, const qat_graph *g, const qat_node *n,
			  const uint8_t *keep)
{
	const qat_value *x = g->values[n->in[0]], *y = g->values[n->out[0]];
	int any = 0;

	if (n->op != QAT_OP_CAST || !qat_dense_makes_bf16(cpu->dense) ||
	    x->role != QAT_ROLE_PARAM || x->dtype != QAT_F32 || y->dtype != QAT_BF16 ||
	    y->alias != QAT_NONE || keep[y->id] || !is_updated(g, x->id))
		return 0;
	for (int64_t i = 0; i < g->n_nodes; i++) {
		const int reads = reads_operand(g, g->nodes[i], y->id);

		if (reads < 0)
			return 0;
		any |= reads;
	}
	return any;
}

/* ---- dequantize and its products ---- */

/* Whether one of n values of a node lies in memory `r`. */
static int touches(const qat_graph *g, const int64_t *values, int64_t n, int64_t r)
{
	for (int64_t i = 0; i < n; i++)
		if (values[i] != QAT_NONE && root(g, values[i]) == r)
			return 1;
	return 0;
}

/* Node m, which comes later, neither sees what n writes nor writes what n sees. */
static int independent(const qat_graph *g, const qat_node *n, const qat_node *m)
{
	for (int64_t i = 0; i < n->n_out; i++)
		if (n->out[i] != QAT_NONE &&
		    (touches(g, m->in, m->n_in, root(g, n->out[i])) ||
		     touches(g, m->out, m->n_out, root(g, n->out[i]))))
			return 0;
	for (int64_t i = 0; i < n->n_in; i++)
		if (n->in[i] != QAT_NONE && touches(g, m->out, m->n_out, root(g, n->in[i])))
			return 0;
	return 1;
}

/* Each product of the group may run as late as the last of them. */
static int may_wait(const qat_graph *g, const qat_claim *c)
{
	for (int64_t i = 1; i < c->n_nodes; i++)
		for (int64_t k = c->nodes[i] + 1; k <= c->at; k++)
			if (!independent(g, g->nodes[c->nodes[i]], g->nodes[k]))
				return 0;
	return 1;
}

static int add_readers(const qat_graph *g, int64_t v, const uint8_t *taken, qat_claim *out)
{
	const uint32_t phase = g->nodes[out->nodes[0]]->phase;

	for (int64_t i = 0; i < g->n_nodes; i++) {
		const qat_node *m = g->nodes[i];
		const int reads = reads_operand(g, m, v);

		if (!reads)
			continue;
		if (reads != 1 || m->op != QAT_OP_MATMUL || m->phase != phase || taken[i] ||
		    out->n_nodes > QAT_CPU_GEMMS_MAX)
			return 0;
		out->nodes[out->n_nodes++] = out->at = i;
	}
	return out->n_nodes > 1;
}

int qat_cpu_claim_decoded(const qat_cpu *cpu, const qat_graph *g, const qat_node *n,
			  const uint8_t *keep, const uint8_t *taken, qat_claim *out)
{
	const qat_value *y = g->values[n->out[0]];

	if (n->op != QAT_OP_DEQUANTIZE || !qat_dense_makes_bf16(cpu->dense) ||
	    y->dtype != QAT_BF16 || y->alias != QAT_NONE || keep[y->id])
		return 0;
	if (!add_readers(g, y->id, taken, out) || !may_wait(g, out)) {
		out->n_nodes = 1;
		out->at = n->id;
		return 0;
	}
	out->kernel = QAT_CPU_GEMMS;
	out->n_private = 1;
	out->private_value[0] = y->id;
	out->private_bytes[0] = 0;
	return 1;
}

/* ---- rows that are made only to become codes ---- */

static const qat_node *only_reader(const qat_graph *g, int64_t v)
{
	const qat_node *found = NULL;

	for (int64_t i = 0; i < g->n_nodes; i++)
		if (touches(g, g->nodes[i]->in, g->nodes[i]->n_in, v)) {
			if (found)
				return NULL;
			found = g->nodes[i];
		}
	return found;
}

/* Each row has scales of its own, which follow from the row alone. */
static int is_by_rows(const qat_node *q)
{
	const qat_scheme *s = q->schemes[0] && q->schemes[0]->count == 1
			    ? q->schemes[0]->schemes[0] : NULL;

	return s && s->block_rows == 1 && s->scale_rule != QAT_SCALE_TWO_LEVEL &&
	       !qat_measures_blocks(s) && q->in[1] == QAT_NONE && q->in[2] == QAT_NONE;
}

const qat_node *qat_cpu_codes_of_rows(const qat_cpu *cpu, const qat_graph *g, const qat_node *n,
				      const uint8_t *keep, const uint8_t *taken)
{
	const qat_value *y = n->out[0] == QAT_NONE ? NULL : g->values[n->out[0]];
	const qat_node *q;
	qat_qmm plan;

	if (!qat_cpu_makes_rows(n) || !y || y->dtype != QAT_F32 || y->alias != QAT_NONE ||
	    keep[y->id])
		return NULL;
	q = only_reader(g, y->id);
	if (!q || taken[q->id] || q->op != QAT_OP_QUANTIZE || q->phase != n->phase ||
	    !is_by_rows(q))
		return NULL;
	for (int64_t i = 0; i < q->n_out; i++)
		if (q->out[i] != QAT_NONE && g->values[q->out[i]]->alias != QAT_NONE)
			return NULL;
	return qat_cpu_codes_layout(cpu, g, q, keep, &plan) == QAT_CPU_SINGLE ? q : NULL;
}

/* ---- both sides of a gradient as codes ---- */

const qat_node *qat_cpu_other_side(const qat_graph *g, const qat_node *n, const uint8_t *taken)
{
	const qat_node *m = n->id + 1 < g->n_nodes ? g->nodes[n->id + 1] : NULL;

	if (!m || taken[m->id] || n->op != QAT_OP_QMATMUL_GRAD || m->op != n->op ||
	    m->phase != n->phase || m->in[0] != n->in[0] ||
	    m->attr.qmatmul_grad.bits != n->attr.qmatmul_grad.bits ||
	    m->attr.qmatmul_grad.stream != n->attr.qmatmul_grad.stream ||
	    !m->attr.qmatmul_grad.side == !n->attr.qmatmul_grad.side)
		return NULL;
	return independent(g, n, m) ? m : NULL;
}
