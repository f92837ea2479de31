/* ops.c - the table of ops, and the checks that follow from it. */
#include "../op_types.h"
#include "cpu.h"

#include <stdio.h>

static const qat_cpu_op *const ops[QAT_OP_COUNT] = {
	[QAT_OP_EMBEDDING] = &qat_cpu_embedding,
	[QAT_OP_EMBEDDING_GRAD] = &qat_cpu_embedding_grad,
	[QAT_OP_MATMUL] = &qat_cpu_matmul,
	[QAT_OP_QMATMUL] = &qat_cpu_qmatmul,
	[QAT_OP_QUANTIZE] = &qat_cpu_quantize_op,
	[QAT_OP_DEQUANTIZE] = &qat_cpu_dequantize,
	[QAT_OP_MASK] = &qat_cpu_mask_op,
	[QAT_OP_OBSERVE] = &qat_cpu_observe_op,
	[QAT_OP_ADD] = &qat_cpu_add,
	[QAT_OP_MUL] = &qat_cpu_mul,
	[QAT_OP_SCALE] = &qat_cpu_scale,
	[QAT_OP_ACT] = &qat_cpu_act,
	[QAT_OP_ACT_GRAD] = &qat_cpu_act_grad,
	[QAT_OP_GLU] = &qat_cpu_glu,
	[QAT_OP_GLU_GRAD] = &qat_cpu_glu_grad,
	[QAT_OP_LAYER_NORM] = &qat_cpu_layer_norm,
	[QAT_OP_LAYER_NORM_GRAD] = &qat_cpu_layer_norm_grad,
	[QAT_OP_RMS_NORM] = &qat_cpu_rms_norm,
	[QAT_OP_RMS_NORM_GRAD] = &qat_cpu_rms_norm_grad,
	[QAT_OP_ROPE] = &qat_cpu_rope,
	[QAT_OP_ATTENTION] = &qat_cpu_attention_op,
	[QAT_OP_ATTENTION_GRAD] = &qat_cpu_attention_grad,
	[QAT_OP_LINEAR_CROSS_ENTROPY] = &qat_cpu_linear_ce,
	[QAT_OP_LINEAR_CROSS_ENTROPY_GRAD] = &qat_cpu_linear_ce_grad,
	[QAT_OP_CROSS_ENTROPY] = &qat_cpu_cross_entropy,
	[QAT_OP_CROSS_ENTROPY_GRAD] = &qat_cpu_cross_entropy_grad,
	[QAT_OP_SPLIT] = &qat_cpu_split,
	[QAT_OP_CONCAT] = &qat_cpu_concat,
	[QAT_OP_CAST] = &qat_cpu_cast,
	[QAT_OP_REDUCE_ROWS] = &qat_cpu_reduce_rows,
	[QAT_OP_SUM_SQUARES] = &qat_cpu_sum_squares,
	[QAT_OP_ADAMW] = &qat_cpu_adamw,
	[QAT_OP_QMATMUL_GRAD] = &qat_cpu_qmatmul_grad,
	[QAT_OP_ADAMW8] = &qat_cpu_adamw8,
};

const qat_cpu_op *qat_cpu_op_find(uint32_t op)
{
	return op < QAT_OP_COUNT ? ops[op] : NULL;
}

/* The first value whose letter does not fit it, or -1. */
static int64_t first_misfit(const qat_graph *g, const char *letters, const int64_t *id, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		if (*letters && id[i] != QAT_NONE && !qat_type_fits(*letters, g->values[id[i]]->dtype))
			return i;
		if (!*letters && id[i] != QAT_NONE)
			return i;
		letters += *letters != '\0';
	}
	return -1;
}

int qat_cpu_supports(void *device, const qat_graph *g, const qat_node *n, char *why,
		     int64_t room)
{
	const qat_cpu_op *op = qat_cpu_op_find(n->op);
	const qat_cpu_site c = { .cpu = device, .g = g, .n = n };
	int64_t i;

	if (!op) {
		snprintf(why, (size_t)room, "there is no kernel for op %u", n->op);
		return QAT_SUPPORT_NO;
	}
	i = first_misfit(g, op->in, n->in, n->n_in);
	if (i >= 0) {
		snprintf(why, (size_t)room, "the kernel takes no input %lld of type %u",
			 (long long)i, g->values[n->in[i]]->dtype);
		return QAT_SUPPORT_NO;
	}
	i = first_misfit(g, op->out, n->out, n->n_out);
	if (i >= 0) {
		snprintf(why, (size_t)room, "the kernel gives no output %lld of type %u",
			 (long long)i, g->values[n->out[i]]->dtype);
		return QAT_SUPPORT_NO;
	}
	return op->check ? op->check(&c, why, room) : QAT_SUPPORT_NATIVE;
}

/* ---- a node and its place ---- */

static const qat_value *value(const qat_cpu_site *c, int64_t id)
{
	return id == QAT_NONE ? NULL : c->g->values[id];
}

const qat_value *qat_cpu_in(const qat_cpu_site *c, int64_t i)
{
	return i < c->n->n_in ? value(c, c->n->in[i]) : NULL;
}

const qat_value *qat_cpu_out(const qat_cpu_site *c, int64_t i)
{
	return i < c->n->n_out ? value(c, c->n->out[i]) : NULL;
}

static void *data(const qat_cpu_site *c, const qat_value *v)
{
	const qat_binding *b = v && c->bindings ? &c->bindings[v->id] : NULL;

	return b && b->memory ? qat_cpu_at(b->memory, b->offset, 0) : NULL;
}

void *qat_cpu_in_data(const qat_cpu_site *c, int64_t i)
{
	return data(c, qat_cpu_in(c, i));
}

void *qat_cpu_out_data(const qat_cpu_site *c, int64_t i)
{
	return data(c, qat_cpu_out(c, i));
}

qat_src qat_cpu_src(const qat_cpu_site *c, int64_t i)
{
	const qat_value *v = qat_cpu_in(c, i);

	if (v && c->layout && c->layout[v->id] == QAT_CPU_NOTHING)
		v = value(c, c->g->nodes[v->node]->in[0]);
	return qat_src_of(data(c, v), v ? v->dtype : QAT_F32);
}

qat_dst qat_cpu_dst(const qat_cpu_site *c, int64_t i)
{
	const qat_value *v = qat_cpu_out(c, i);

	return qat_dst_of(data(c, v), v ? v->dtype : QAT_F32);
}

void *qat_cpu_work(const qat_cpu_site *c, int64_t *used, int64_t bytes)
{
	char *at = c->workspace ? c->workspace + *used : NULL;

	*used += qat_cpu_round64(bytes);
	return at;
}
