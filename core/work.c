/* work.c - see work.h. */
#include "work.h"

static double elements(const qat_graph *g, int64_t v)
{
	return v == QAT_NONE ? 0.0 : (double)qat_value_elements(g->values[v]);
}

/* Multiply-adds of attention: of keys that a query may see, each twice head_dim. */
static double attended(const qat_graph *g, const qat_node *n)
{
	const double length = (double)g->length, window = (double)n->attr.attention.window;
	double keys = n->attr.attention.causal ? (length + 1) / 2 : length;

	if (window > 0 && window < keys)
		keys = window;
	return elements(g, n->in[0]) * keys * 2;
}

double qat_work_operations(const qat_graph *g, const qat_node *n)
{
	const double rows = (double)g->values[n->in[0]]->shape[0];

	switch (n->op) {
	case QAT_OP_MATMUL:
	case QAT_OP_QMATMUL_GRAD:
		return 2 * elements(g, n->out[0]) * elements(g, n->in[0]) /
		       (double)g->values[n->out[0]]->shape[0];
	case QAT_OP_QMATMUL:		return 2 * rows * elements(g, n->in[3]);
	case QAT_OP_ATTENTION:		return 2 * attended(g, n);
	case QAT_OP_ATTENTION_GRAD:	return 5 * attended(g, n);
	case QAT_OP_LINEAR_CROSS_ENTROPY:	return 2 * rows * elements(g, n->in[1]);
	case QAT_OP_LINEAR_CROSS_ENTROPY_GRAD:	return 6 * rows * elements(g, n->in[1]);
	default:			return 0.0;
	}
}

int qat_work_kind(const qat_graph *g, const qat_node *n)
{
	const int is_codes = n->op == QAT_OP_QMATMUL_GRAD ||
			     (n->op == QAT_OP_QMATMUL && n->schemes[0]);

	if (is_codes)
		return QAT_CEILING_I8;
	return g->precision == QAT_BF16 ? QAT_CEILING_BF16 : QAT_CEILING_F32;
}

double qat_work_shared(const qat_graph *g, const qat_claim *c, int64_t i)
{
	const qat_node *n = g->nodes[c->nodes[i]];
	double shared = 0.0;

	if (n->op != QAT_OP_LINEAR_CROSS_ENTROPY_GRAD)
		return 0.0;
	for (int64_t k = 0; k < c->n_nodes; k++)
		if (g->nodes[c->nodes[k]]->op == QAT_OP_LINEAR_CROSS_ENTROPY)
			shared = qat_work_operations(g, g->nodes[c->nodes[k]]);
	return shared;
}
