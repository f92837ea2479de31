/* recompute.c - time for memory: what the backward pass reads of the forward pass is
 * computed again just before it is read, instead of being kept.
 *
 *   level 1  what is cheap: all but products, attention and losses is done again
 *   level 2  all but the residual stream and losses: each layer runs twice
 *
 * The copies are the same ops on the same inputs, so every bit stays as it was.
 */
#include "ir.h"

#include <stdlib.h>

#include "error.h"

typedef struct recompute {
	qat_ir *to;
	const qat_ir *from;
	int64_t *map;		/* old value -> new */
	int64_t *again;		/* old value -> its copy in the backward pass, QAT_NONE */
	uint8_t *kept;		/* old value: read by a loss, whose gradient may be one kernel
				 * with it */
	int level;
} recompute;

static int is_loss(uint32_t op)
{
	return op == QAT_OP_LINEAR_CROSS_ENTROPY || op == QAT_OP_CROSS_ENTROPY;
}

static int is_heavy(uint32_t op)
{
	return op == QAT_OP_MATMUL || op == QAT_OP_QMATMUL || op == QAT_OP_ATTENTION;
}

/* The forward node whose output v would be computed again; NULL: v is kept. */
static const qat_node *again_from(const recompute *r, int64_t v)
{
	const qat_value *value = r->from->graph.values[v];
	const qat_node *n = value->node == QAT_NONE ? NULL : r->from->graph.nodes[value->node];

	if (!n || n->phase != QAT_PHASE_FORWARD || value->residual || is_loss(n->op) || r->kept[v])
		return NULL;
	return r->level < 2 && is_heavy(n->op) ? NULL : n;
}

static int64_t moved(recompute *r, int64_t v)
{
	if (r->map[v] == QAT_NONE)
		r->map[v] = qat_ir_copy_value(r->to, r->from->graph.values[v]);
	return r->map[v];
}

/* Types, residual marks and shared memory that the ops' rules do not give. */
static void finish_outputs(recompute *r, const qat_node *n, const int64_t *out)
{
	for (int64_t i = 0; i < n->n_out; i++) {
		const qat_value *old;
		qat_value *v;

		if (n->out[i] == QAT_NONE)
			continue;
		old = r->from->graph.values[n->out[i]];
		v = r->to->values[out[i]];
		v->dtype = old->dtype;
		v->residual = old->residual;
		v->alias = old->alias == QAT_NONE ? QAT_NONE : moved(r, old->alias);
	}
}

/* Append a copy of n that reads `in` and runs in `phase`. */
static int append(recompute *r, const qat_node *n, const int64_t *in, uint32_t phase,
		  int64_t *out)
{
	qat_ir_extra extra = { .schemes = { n->schemes[0], n->schemes[1] } };

	extra.site = n->site >= 0 ? qat_ir_site(r->to, r->from->sites[n->site]) + 1 : 0;
	r->to->phase = phase;
	qat_ir_node(r->to, n->op, &n->attr, n->n_in, in, out, &extra);
	if (!r->to->error)
		finish_outputs(r, n, out);
	return r->to->error;
}

/* v as the backward pass reads it: the kept value, or a copy made now. */
static int64_t late(recompute *r, int64_t v)
{
	const qat_node *n = again_from(r, v);
	int64_t in[QAT_MAX_IN], out[QAT_MAX_OUT];

	if (!n)
		return moved(r, v);
	if (r->again[v] != QAT_NONE)
		return r->again[v];
	for (int64_t i = 0; i < n->n_in; i++) {
		in[i] = n->in[i] == QAT_NONE ? QAT_NONE : late(r, n->in[i]);
		if (in[i] < 0 && in[i] != QAT_NONE)
			return in[i];
	}
	if (append(r, n, in, QAT_PHASE_BACKWARD, out))
		return r->to->error;
	for (int64_t i = 0; i < n->n_out; i++)
		if (n->out[i] != QAT_NONE)
			r->again[n->out[i]] = out[i];
	return r->again[v];
}

static int move_node(recompute *r, const qat_node *n)
{
	int64_t in[QAT_MAX_IN], out[QAT_MAX_OUT];

	for (int64_t i = 0; i < n->n_in; i++) {
		in[i] = n->in[i] == QAT_NONE ? QAT_NONE
		      : n->phase == QAT_PHASE_BACKWARD ? late(r, n->in[i]) : moved(r, n->in[i]);
		if (r->to->error)
			return r->to->error;
	}
	if (append(r, n, in, n->phase, out))
		return r->to->error;
	for (int64_t i = 0; i < n->n_out; i++)
		if (n->out[i] != QAT_NONE)
			r->map[n->out[i]] = out[i];
	return QAT_OK;
}

static void mark_kept(recompute *r)
{
	for (int64_t i = 0; i < r->from->graph.n_nodes; i++) {
		const qat_node *n = r->from->graph.nodes[i];

		for (int64_t k = 0; is_loss(n->op) && k < n->n_in; k++)
			if (n->in[k] != QAT_NONE)
				r->kept[n->in[k]] = 1;
	}
}

static void translate(const recompute *r, qat_loss *loss, qat_trained *trained, int64_t n)
{
	int64_t *ids[] = { &loss->logits, &loss->nll, &loss->lse, &loss->argmax };

	for (int i = 0; i < 4; i++)
		*ids[i] = *ids[i] == QAT_NONE ? QAT_NONE : r->map[*ids[i]];
	for (int64_t i = 0; i < n; i++) {
		qat_trained *t = &trained[i];

		t->param = r->map[t->param];
		t->gradient = r->map[t->gradient];
		t->square = t->square == QAT_NONE ? QAT_NONE : r->map[t->square];
		t->hyper = t->hyper == QAT_NONE ? QAT_NONE : r->map[t->hyper];
		for (int64_t k = 0; k < t->n_states; k++)
			t->states[k] = r->map[t->states[k]];
	}
}

int qat_ir_recompute(qat_ir **out, const qat_ir *g, qat_loss *loss, qat_trained *trained,
		     int64_t n_trained, int level)
{
	const size_t n = (size_t)g->graph.n_values;
	recompute r = { .to = qat_ir_like(g), .from = g, .level = level };
	int rc = QAT_OK;

	r.map = malloc(n * sizeof *r.map);
	r.again = malloc(n * sizeof *r.again);
	r.kept = calloc(n, 1);
	if (!r.to || !r.map || !r.again || !r.kept)
		rc = qat_fail(QAT_ENOMEM, "recompute: out of memory");
	for (size_t i = 0; !rc && i < n; i++)
		r.map[i] = r.again[i] = QAT_NONE;
	if (!rc)
		mark_kept(&r);
	for (int64_t i = 0; !rc && i < g->graph.n_nodes; i++)
		rc = move_node(&r, g->graph.nodes[i]);
	if (!rc) {
		translate(&r, loss, trained, n_trained);
		*out = r.to;
		r.to = NULL;
	}
	qat_ir_free(r.to);
	free(r.map);
	free(r.again);
	free(r.kept);
	return rc;
}
