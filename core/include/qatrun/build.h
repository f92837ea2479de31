/* build.h - graph building, one short call per op, for models and optimizers.
 *
 */
#ifndef QATRUN_BUILD_H
#define QATRUN_BUILD_H

#include <qatrun/graph.h>

#define QAT_BUILD static inline __attribute__((unused)) int64_t

QAT_BUILD qat_embedding(const qat_graph_api *g, qat_builder *b, int64_t table, int64_t ids,
			const char *site)
{
	const int64_t in[] = { table, ids };

	return g->node(b, QAT_OP_EMBEDDING, NULL, 2, in, NULL, site);
}

/* x w^T + bias; w [out, in]; bias may be QAT_ABSENT. */
QAT_BUILD qat_linear(const qat_graph_api *g, qat_builder *b, int64_t x, int64_t w, int64_t bias,
		     const char *site)
{
	const int64_t in[] = { x, w, bias };
	const qat_attr attr = { .matmul = { .trans_a = 0, .trans_b = 1 } };

	return g->node(b, QAT_OP_MATMUL, &attr, 3, in, NULL, site);
}

QAT_BUILD qat_add(const qat_graph_api *g, qat_builder *b, int64_t x, int64_t y)
{
	const int64_t in[] = { x, y };

	return g->node(b, QAT_OP_ADD, NULL, 2, in, NULL, NULL);
}

QAT_BUILD qat_act(const qat_graph_api *g, qat_builder *b, int64_t x, int64_t kind)
{
	const qat_attr attr = { .act = { .kind = kind } };

	return g->node(b, QAT_OP_ACT, &attr, 1, &x, NULL, NULL);
}

/* f(gate) * up */
QAT_BUILD qat_glu(const qat_graph_api *g, qat_builder *b, int64_t gate, int64_t up, int64_t kind)
{
	const int64_t in[] = { gate, up };
	const qat_attr attr = { .act = { .kind = kind } };

	return g->node(b, QAT_OP_GLU, &attr, 2, in, NULL, NULL);
}

QAT_BUILD qat_layer_norm(const qat_graph_api *g, qat_builder *b, int64_t x, int64_t w,
			 int64_t bias, double epsilon, const char *site)
{
	const int64_t in[] = { x, w, bias };
	const qat_attr attr = { .norm = { .epsilon = epsilon } };

	return g->node(b, QAT_OP_LAYER_NORM, &attr, 3, in, NULL, site);
}

QAT_BUILD qat_rms_norm(const qat_graph_api *g, qat_builder *b, int64_t x, int64_t w,
		       double epsilon, const char *site)
{
	const int64_t in[] = { x, w };
	const qat_attr attr = { .norm = { .epsilon = epsilon } };

	return g->node(b, QAT_OP_RMS_NORM, &attr, 2, in, NULL, site);
}

QAT_BUILD qat_rope(const qat_graph_api *g, qat_builder *b, int64_t x, int64_t cos, int64_t sin,
		   int64_t head_dim)
{
	const int64_t in[] = { x, cos, sin };
	const qat_attr attr = { .rope = { .head_dim = head_dim } };

	return g->node(b, QAT_OP_ROPE, &attr, 3, in, NULL, NULL);
}

QAT_BUILD qat_attention(const qat_graph_api *g, qat_builder *b, int64_t q, int64_t k, int64_t v,
			const qat_attr *attr, const char *site)
{
	const int64_t in[] = { q, k, v };

	return g->node(b, QAT_OP_ATTENTION, attr, 3, in, NULL, site);
}

#endif
