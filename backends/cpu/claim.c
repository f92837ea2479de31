/* claim.c - which nodes become one kernel.
 *
 * Weights that a product reads as codes are packed by the quantize that makes them, once
 * per optimizer step: their codes are private, followed by the packed form. The loss and
 * its gradient are one sweep over the logits where the gradient's factor is an input.
 * Weights that are stored as codes are packed when the graph is compiled, and are then in
 * memory in that form alone.
 */
#include "cpu.h"

#include <string.h>

/* ---- weights ---- */

static int same_plan_as(const qat_graph *g, const qat_node *a, const qat_node *b)
{
	const int floats = !a->schemes[0] && !b->schemes[0] &&
			   g->values[a->in[0]]->dtype == g->values[b->in[0]]->dtype;

	return (floats || (a->schemes[0] && b->schemes[0] &&
			   a->schemes[0]->schemes[0] == b->schemes[0]->schemes[0])) &&
	       a->schemes[1]->schemes[0] == b->schemes[1]->schemes[0];
}

/* Whether m reads the codes of q as a weight, with the scales that q gave or was given. */
static int reads_as_weight(const qat_node *m, const qat_node *q)
{
	const int64_t scale = q->out[1] != QAT_NONE ? q->out[1] : q->in[1];
	const int64_t zero = q->out[1] != QAT_NONE ? q->out[2] : q->in[2];

	return m->op == QAT_OP_QMATMUL && m->in[3] == q->out[0] && m->in[0] != q->out[0] &&
	       m->in[4] == scale && m->in[5] == zero;
}

static int reads(const qat_node *n, int64_t v)
{
	for (int64_t i = 0; i < n->n_in; i++)
		if (n->in[i] == v)
			return 1;
	return 0;
}

/* The product that reads these codes; NULL if none does, or if others than products of
 * one plan, dequantize and qmatmul_grad do. *plain: somebody reads the codes as they are. */
static const qat_node *product_of(const qat_graph *g, const qat_node *q, int *plain)
{
	const qat_node *product = NULL;

	*plain = 0;
	for (int64_t i = 0; i < g->n_nodes; i++) {
		const qat_node *n = g->nodes[i];

		if (!reads(n, q->out[0]))
			continue;
		if (n->op == QAT_OP_DEQUANTIZE || n->op == QAT_OP_QMATMUL_GRAD) {
			*plain = 1;
			continue;
		}
		if (!reads_as_weight(n, q) || (product && !same_plan_as(g, n, product)))
			return NULL;
		product = n;
	}
	return product;
}

uint32_t qat_cpu_codes_layout(const qat_cpu *cpu, const qat_graph *g, const qat_node *q,
			      const uint8_t *keep, qat_qmm *plan)
{
	const qat_value *codes = g->values[q->out[0]];
	const qat_node *m;
	int plain;

	if ((keep && keep[codes->id]) || codes->alias != QAT_NONE)
		return QAT_CPU_SINGLE;
	m = product_of(g, q, &plain);
	if (!m || qat_qmm_plan(cpu->dense, plan, codes->shape[0], codes->shape[1],
			       m->schemes[0] ? m->schemes[0]->schemes[0] : NULL,
			       g->values[m->in[0]]->dtype, m->schemes[1]->schemes[0]))
		return QAT_CPU_SINGLE;
	return plain && !qat_qmm_unpacks(plan) ? QAT_CPU_CODES_AND_PACKED : QAT_CPU_PACKED_ALONE;
}

static void claim_codes(const qat_cpu *cpu, const qat_graph *g, const qat_node *q,
			const uint8_t *keep, qat_claim *out)
{
	const qat_value *codes = g->values[q->out[0]];
	qat_qmm plan;

	out->kernel = qat_cpu_codes_layout(cpu, g, q, keep, &plan);
	if (out->kernel == QAT_CPU_SINGLE)
		return;
	out->n_private = 1;
	out->private_value[0] = codes->id;
	out->private_bytes[0] = plan.weight_bytes;
	if (out->kernel == QAT_CPU_CODES_AND_PACKED)
		out->private_bytes[0] += qat_cpu_round64(qat_value_bytes(codes));
}

/* ---- weights that are stored as codes ---- */

/* Read from the store, and written by nobody. */
static int is_frozen(const qat_graph *g, int64_t v)
{
	if (v == QAT_NONE)
		return 1;
	if (g->values[v]->role != QAT_ROLE_PARAM)
		return 0;
	for (int64_t k = 0; k < g->n_values; k++)
		if (g->values[k]->alias == v)
			return 0;
	return 1;
}

/* Whether n reads the three parts of m's weight, from its input `first` on. */
static int same_parts(const qat_node *n, int64_t first, const qat_node *m)
{
	return n->n_in >= first + 3 && !memcmp(n->in + first, m->in + 3, 3 * sizeof *n->in);
}

/* All readers of m's weight are products of one plan that read it as m does, or decode it:
 * then *plain is set. */
static int one_reading(const qat_graph *g, const qat_node *m, int *plain)
{
	*plain = 0;
	for (int64_t i = 0; i < g->n_nodes; i++) {
		const qat_node *n = g->nodes[i];

		if (!reads(n, m->in[3]))
			continue;
		if (n->op == QAT_OP_DEQUANTIZE)
			*plain = 1;
		else if (n->op != QAT_OP_QMATMUL || n->in[0] == m->in[3] || !same_parts(n, 3, m) ||
			 !same_plan_as(g, n, m))
			return 0;
	}
	return 1;
}

/* A scale or zero point that nobody reads but products that read m's codes. */
static int only_there(const qat_graph *g, int64_t v, const qat_node *m)
{
	for (int64_t i = 0; i < g->n_nodes; i++)
		if (reads(g->nodes[i], v) &&
		    (g->nodes[i]->op != QAT_OP_QMATMUL || !same_parts(g->nodes[i], 3, m) ||
		     g->nodes[i]->in[1] == v || g->nodes[i]->in[2] == v || g->nodes[i]->in[6] == v))
			return 0;
	return 1;
}

static uint32_t find_layout(const qat_cpu_site *c)
{
	const qat_node *m = c->n;
	int plain;

	for (int i = 3; i < 6; i++)
		if (!is_frozen(c->g, m->in[i]) ||
		    (m->in[i] != QAT_NONE && c->keep && c->keep[m->in[i]]))
			return QAT_CPU_SINGLE;
	if (!one_reading(c->g, m, &plain))
		return QAT_CPU_SINGLE;
	for (int i = 4; i < 6; i++)
		if (m->in[i] != QAT_NONE && !plain && !only_there(c->g, m->in[i], m))
			return QAT_CPU_SINGLE;
	if (c->stream)
		return plain ? QAT_CPU_SINGLE : QAT_CPU_STREAMED;
	return plain ? QAT_CPU_STORED_PLAIN : QAT_CPU_STORED;
}

uint32_t qat_cpu_stored_layout(const qat_cpu_site *c)
{
	const uint8_t of = c->layout ? c->layout[c->n->in[3]] : 0;

	if (!c->layout)
		return find_layout(c);
	return of >= QAT_CPU_STORED ? of : QAT_CPU_SINGLE;
}

/* Scales and zero points are within what is packed. */
static int claim_stored(const qat_cpu_site *c, qat_claim *out)
{
	const qat_value *codes = c->g->values[c->n->in[3]];
	const uint32_t kernel = qat_cpu_stored_layout(c);
	qat_qmm plan;
	int rc;

	if (kernel == QAT_CPU_SINGLE)
		return QAT_OK;
	rc = qat_qmm_plan(c->cpu->dense, &plan, codes->shape[0], codes->shape[1],
			  c->n->schemes[0] ? c->n->schemes[0]->schemes[0] : NULL,
			  qat_cpu_in(c, 0)->dtype, c->n->schemes[1]->schemes[0]);
	if (rc)
		return rc;
	out->kernel = kernel;
	out->n_private = 1;
	out->private_value[0] = codes->id;
	out->private_bytes[0] = kernel == QAT_CPU_STREAMED ? 0 : plan.weight_bytes;
	if (kernel == QAT_CPU_STORED_PLAIN)
		out->private_bytes[0] += qat_cpu_round64(qat_value_bytes(codes));
	for (int i = 4; i < 6 && kernel != QAT_CPU_STORED_PLAIN; i++)
		if (c->n->in[i] != QAT_NONE)
			out->private_value[out->n_private++] = c->n->in[i];
	return QAT_OK;
}

/* ---- the loss and its gradient ---- */

static int64_t root(const qat_graph *g, int64_t v)
{
	while (g->values[v]->alias != QAT_NONE)
		v = g->values[v]->alias;
	return v;
}

/* What the gradient takes must be there, and what it writes must be free, already when
 * the forward node runs. */
static int fuses(const qat_graph *g, const qat_node *f, const qat_node *d)
{
	const int64_t addend = d->n_in > 5 ? d->in[5] : QAT_NONE;

	return d->op == QAT_OP_LINEAR_CROSS_ENTROPY_GRAD && d->phase == QAT_PHASE_BACKWARD &&
	       f->phase == QAT_PHASE_FORWARD && !memcmp(d->in, f->in, 3 * sizeof *d->in) &&
	       d->in[3] == f->out[1] && g->values[d->in[4]]->role == QAT_ROLE_INPUT &&
	       (addend == QAT_NONE || g->values[addend]->role == QAT_ROLE_STATE);
}

/* Memory of `v` is touched by nobody between its start and node d. */
static int untouched_before(const qat_graph *g, int64_t v, const qat_node *d)
{
	const int64_t r = root(g, v);

	if (g->values[r]->role != QAT_ROLE_STATE)
		return 1;
	for (int64_t i = 0; i < d->id; i++) {
		const qat_node *n = g->nodes[i];

		for (int64_t k = 0; k < n->n_in + n->n_out; k++) {
			const int64_t id = k < n->n_in ? n->in[k] : n->out[k - n->n_in];

			if (id != QAT_NONE && root(g, id) == r)
				return 0;
		}
	}
	return 1;
}

static const qat_node *find_gradient(const qat_graph *g, const qat_node *f,
				     const uint8_t *taken)
{
	for (int64_t i = f->id + 1; i < g->n_nodes; i++)
		if (!taken[i] && fuses(g, f, g->nodes[i]) &&
		    untouched_before(g, g->nodes[i]->out[1], g->nodes[i]))
			return g->nodes[i];
	return NULL;
}

/* ---- the claim ---- */

/* other: the second node of the claim, NULL: there is one. */
static int prepare(const qat_cpu_site *c, const qat_node *other, qat_cpu_step *s)
{
	if (!other)
		return qat_cpu_op_find(c->n->op)->prepare(c, s);
	if (c->n->op == QAT_OP_QMATMUL_GRAD)
		return qat_cpu_gradients_fuse(c, other, s);
	if (other->op == QAT_OP_QUANTIZE)
		return qat_cpu_rows_to_codes_fuse(c, other, s);
	return qat_cpu_linear_ce_fuse(c, other, s);
}

/* The node that is claimed with c->n, NULL: none. */
static const qat_node *find_other(const qat_cpu_site *c, const uint8_t *taken, qat_claim *out)
{
	const qat_node *other = NULL;

	if (c->n->op == QAT_OP_LINEAR_CROSS_ENTROPY) {
		other = find_gradient(c->g, c->n, taken);
		out->kernel = other ? QAT_CPU_LINEAR_CE : QAT_CPU_SINGLE;
	}
	if (c->n->op == QAT_OP_QMATMUL_GRAD) {
		other = qat_cpu_other_side(c->g, c->n, taken);
		out->kernel = other ? QAT_CPU_GRADIENTS : QAT_CPU_SINGLE;
		out->at = other ? other->id : out->at;
	}
	if (qat_cpu_makes_rows(c->n)) {
		other = qat_cpu_codes_of_rows(c->cpu, c->g, c->n, c->keep, taken);
		out->kernel = other ? QAT_CPU_ROWS_TO_CODES : QAT_CPU_SINGLE;
		out->n_private = other != NULL;
		out->private_value[0] = c->n->out[0];
	}
	if (other)
		out->nodes[out->n_nodes++] = other->id;
	return other;
}

int qat_cpu_claim(void *device, const qat_graph *g, int64_t first, const uint8_t *keep,
		  const uint8_t *taken, qat_claim *out)
{
	const qat_cpu_site c = { .cpu = device, .g = g, .n = g->nodes[first], .keep = keep,
				 .stream = out->stream != 0 };
	const qat_node *other;
	qat_cpu_step s = { .node = first };
	int rc = QAT_OK;

	if (!qat_cpu_op_find(c.n->op))
		return qat_fail(QAT_ENOTSUP, "cpu: %s: no kernel for op %u", c.n->name, c.n->op);
	qat_cpu_use_threads(device);
	out->kernel = QAT_CPU_SINGLE;
	out->n_nodes = 1;
	out->nodes[0] = out->at = first;
	out->n_private = 0;
	memset(out->private_bytes, 0, sizeof out->private_bytes);
	if (qat_cpu_swallows_cast(device, g, c.n, keep)) {
		out->kernel = QAT_CPU_NOTHING;
		out->n_private = 1;
		out->private_value[0] = c.n->out[0];
		out->private_bytes[0] = 0;
		return QAT_OK;
	}
	if (qat_cpu_claim_decoded(device, g, c.n, keep, taken, out)) {
		rc = qat_cpu_gemms_fuse(&c, out, &s);
		out->workspace = s.workspace;
		return rc;
	}
	if (c.n->op == QAT_OP_QUANTIZE)
		claim_codes(device, g, c.n, keep, out);
	if (c.n->op == QAT_OP_QMATMUL)
		rc = claim_stored(&c, out);
	other = find_other(&c, taken, out);
	if (!rc)
		rc = prepare(&c, other, &s);
	out->workspace = s.workspace;
	return rc;
}
