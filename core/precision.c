/* precision.c - the type of every edge, and what runs once per optimizer step.
 *
 * In f32 nothing changes. In bf16 (numeric contract 7) edges between nodes are bf16,
 * except the residual stream, edges that feed only quantize nodes, statistics and
 * logits; operands of matmuls are cast to bf16.
 */
#include "ir.h"

#include <stdlib.h>

#include "error.h"

typedef struct precision {
	qat_ir *to;
	const qat_ir *from;
	int64_t *map;		/* old value -> new */
	int64_t *cast;		/* old value -> its edge-typed form, QAT_NONE */
	uint8_t *fixed;		/* old value made of parameters alone */
} precision;

/* Inputs that must be of the edge type: operands of dense products. */
static int is_operand(const qat_node *n, int64_t i)
{
	switch (n->op) {
	case QAT_OP_MATMUL:               return i < 2;
	case QAT_OP_LINEAR_CROSS_ENTROPY: return i < 2;
	case QAT_OP_ATTENTION:            return i < 3;
	case QAT_OP_QMATMUL:              return i == 0 && !n->schemes[0];
	default:                          return 0;
	}
}

/* Read by quantize nodes and by nothing else. */
static int only_quantized(const qat_ir *g, int64_t v)
{
	int any = 0;

	for (int64_t i = 0; i < g->graph.n_nodes; i++) {
		const qat_node *n = g->graph.nodes[i];

		for (int64_t k = 0; k < n->n_in; k++) {
			if (n->in[k] != v)
				continue;
			if (n->op != QAT_OP_QUANTIZE)
				return 0;
			any = 1;
		}
	}
	return any;
}

static int64_t moved(precision *p, int64_t v)
{
	if (p->map[v] == QAT_NONE)
		p->map[v] = qat_ir_copy_value(p->to, p->from->graph.values[v]);
	return p->map[v];
}

static int64_t edge(precision *p, int64_t v)
{
	const uint32_t type = p->to->graph.precision;
	const qat_attr attr = { .cast = { .dtype = type } };
	int64_t id = moved(p, v);

	if (id < 0 || p->to->values[id]->dtype != QAT_F32 || type == QAT_F32)
		return id;
	if (p->cast[v] == QAT_NONE) {
		p->to->phase = p->fixed[v] ? QAT_PHASE_PROLOGUE : QAT_PHASE_FORWARD;
		p->cast[v] = qat_ir_node(p->to, QAT_OP_CAST, &attr, 1, &id, NULL, NULL);
	}
	return p->cast[v];
}

/* Parameter-only work worth keeping for a step: codes, casts, decoded tables. */
static int is_prologue(const precision *p, const qat_node *n)
{
	if (n->op != QAT_OP_QUANTIZE && n->op != QAT_OP_DEQUANTIZE && n->op != QAT_OP_CAST)
		return 0;
	for (int64_t i = 0; i < n->n_in; i++)
		if (n->in[i] != QAT_NONE && !p->fixed[n->in[i]])
			return 0;
	return 1;
}

/* Types of a moved node's outputs. */
static void retype(precision *p, const qat_node *n, const int64_t *out)
{
	const qat_value *old = p->from->graph.values[n->out[0]];
	qat_value *v = p->to->values[out[0]];

	v->residual = old->residual;
	if (old->dtype == QAT_F32 || old->residual)
		v->dtype = QAT_F32;
	else if (old->dtype == QAT_BF16 && only_quantized(p->from, n->out[0]))
		v->dtype = QAT_F32;
}

static int move_node(precision *p, const qat_node *n)
{
	qat_ir_extra extra = { .schemes = { n->schemes[0], n->schemes[1] } };
	const int prologue = is_prologue(p, n);
	int64_t in[QAT_MAX_IN], out[QAT_MAX_OUT];

	for (int64_t i = 0; i < n->n_in; i++) {
		in[i] = n->in[i] == QAT_NONE ? QAT_NONE
		      : is_operand(n, i) ? edge(p, n->in[i]) : moved(p, n->in[i]);
		if (in[i] < 0 && in[i] != QAT_NONE)
			return (int)in[i];
	}
	extra.site = n->site >= 0 ? qat_ir_site(p->to, p->from->sites[n->site]) + 1 : 0;
	p->to->phase = prologue ? QAT_PHASE_PROLOGUE : QAT_PHASE_FORWARD;
	qat_ir_node(p->to, n->op, &n->attr, n->n_in, in, out, &extra);
	if (p->to->error)
		return p->to->error;
	for (int64_t i = 0; i < n->n_out; i++) {
		if (n->out[i] == QAT_NONE)
			continue;
		p->map[n->out[i]] = out[i];
		p->fixed[n->out[i]] = (uint8_t)prologue;
	}
	retype(p, n, out);
	return QAT_OK;
}

static int start(precision *p, const qat_ir *g)
{
	const size_t n = (size_t)g->graph.n_values;

	*p = (precision){ .to = qat_ir_like(g), .from = g };
	p->map = malloc(n * sizeof *p->map);
	p->cast = malloc(n * sizeof *p->cast);
	p->fixed = calloc(n, 1);
	if (!p->to || !p->map || !p->cast || !p->fixed)
		return qat_fail(QAT_ENOMEM, "precision: out of memory");
	for (size_t i = 0; i < n; i++) {
		const uint32_t role = g->graph.values[i]->role;

		p->map[i] = p->cast[i] = QAT_NONE;
		p->fixed[i] = role == QAT_ROLE_PARAM || role == QAT_ROLE_CONST;
	}
	return QAT_OK;
}

int qat_ir_precision(qat_ir **out, const qat_ir *g, qat_loss *loss)
{
	int64_t *ids[] = { &loss->logits, &loss->nll, &loss->lse, &loss->argmax };
	precision p;
	int rc = start(&p, g);

	for (int64_t i = 0; !rc && i < g->graph.n_nodes; i++)
		rc = move_node(&p, g->graph.nodes[i]);
	if (!rc) {
		for (int i = 0; i < 4; i++)
			if (*ids[i] != QAT_NONE)
				*ids[i] = p.map[*ids[i]];
		p.to->phase = QAT_PHASE_FORWARD;
		*out = p.to;
		p.to = NULL;
	}
	qat_ir_free(p.to);
	free(p.map);
	free(p.cast);
	free(p.fixed);
	return rc;
}
