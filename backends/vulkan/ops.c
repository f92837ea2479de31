/* ops.c - which ops there are, what they take, and what their plans are made with. */
#include "../op_types.h"
#include "vulkan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROUPS_MOST = 65535, TILE = 32 };

/* By op. Letters of types, optional values included, as in op_types.h. */
static const vk_op ops[QAT_OP_COUNT] = {
	[QAT_OP_EMBEDDING] = { "ei", "e", qat_vk_plan_embedding, NULL },
	[QAT_OP_EMBEDDING_GRAD] = { "ief", "f", qat_vk_plan_embedding_grad, NULL },
	[QAT_OP_MATMUL] = { "eee", "e", qat_vk_plan_matmul, NULL },
	[QAT_OP_QMATMUL] = { "xfzqfze", "e", qat_vk_plan_qmatmul, qat_vk_refuse_scheme },
	[QAT_OP_QUANTIZE] = { "efz", "qfzu", qat_vk_plan_quantize, qat_vk_refuse_scheme },
	[QAT_OP_DEQUANTIZE] = { "qfz", "e", qat_vk_plan_dequantize, qat_vk_refuse_scheme },
	[QAT_OP_MASK] = { "eu", "e", qat_vk_plan_mask, NULL },
	[QAT_OP_OBSERVE] = { "efd", "fd", qat_vk_plan_observe,
			     qat_vk_refuse_observe },
	[QAT_OP_ADD] = { "ee", "e", qat_vk_plan_flat, NULL },
	[QAT_OP_MUL] = { "ee", "e", qat_vk_plan_flat, NULL },
	[QAT_OP_SCALE] = { "e", "e", qat_vk_plan_flat, NULL },
	[QAT_OP_ACT] = { "e", "e", qat_vk_plan_flat, NULL },
	[QAT_OP_ACT_GRAD] = { "ee", "e", qat_vk_plan_flat, NULL },
	[QAT_OP_GLU] = { "ee", "e", qat_vk_plan_flat, NULL },
	[QAT_OP_GLU_GRAD] = { "eee", "ee", qat_vk_plan_flat, NULL },
	[QAT_OP_LAYER_NORM] = { "eee", "eff", qat_vk_plan_norm, NULL },
	[QAT_OP_LAYER_NORM_GRAD] = { "eeffee", "eff", qat_vk_plan_norm_grad, NULL },
	[QAT_OP_RMS_NORM] = { "ee", "ef", qat_vk_plan_norm, NULL },
	[QAT_OP_RMS_NORM_GRAD] = { "eefee", "ef", qat_vk_plan_norm_grad, NULL },
	[QAT_OP_ROPE] = { "eff", "e", qat_vk_plan_rope, NULL },
	[QAT_OP_ATTENTION] = { "eee--ee", "efee", qat_vk_plan_attention,
			       qat_vk_refuse_head },
	[QAT_OP_ATTENTION_GRAD] = { "eeeefe", "eee", qat_vk_plan_attention_grad,
				    qat_vk_refuse_head },
	[QAT_OP_LINEAR_CROSS_ENTROPY] = { "eei", "ffi", qat_vk_plan_linear_cross_entropy, NULL },
	[QAT_OP_LINEAR_CROSS_ENTROPY_GRAD] = { "eeifff", "ef",
					       qat_vk_plan_linear_cross_entropy_grad, NULL },
	[QAT_OP_CROSS_ENTROPY] = { "ei", "ffi", qat_vk_plan_cross_entropy, NULL },
	[QAT_OP_CROSS_ENTROPY_GRAD] = { "eiff", "e", qat_vk_plan_cross_entropy_grad, NULL },
	[QAT_OP_SPLIT] = { "e", "eeee", qat_vk_plan_split, NULL },
	[QAT_OP_CONCAT] = { "eeee", "e", qat_vk_plan_concat, NULL },
	[QAT_OP_CAST] = { "h", "h", qat_vk_plan_flat, NULL },
	[QAT_OP_REDUCE_ROWS] = { "ef", "f", qat_vk_plan_reduce_rows, NULL },
	[QAT_OP_SUM_SQUARES] = { "e", "d", qat_vk_plan_sum_squares, qat_vk_refuse_double },
	[QAT_OP_ADAMW] = { "fffff", "fff", qat_vk_plan_adamw, NULL },
};

const vk_op *qat_vk_op(uint32_t op)
{
	return op < QAT_OP_COUNT && ops[op].plan ? &ops[op] : NULL;
}

/* ---- what a device can run ---- */

/* A value must be bound whole, and counted in 32 bits. */
static int value_fits(const vk_device *d, const qat_value *v, char letter, char *why,
		      int64_t room)
{
	if (!qat_type_fits(letter, v->dtype)) {
		snprintf(why, (size_t)room, "no kernel for values of type %u there", v->dtype);
		return 0;
	}
	if (qat_value_bytes(v) <= d->largest_range && qat_value_elements(v) <= INT32_MAX)
		return 1;
	snprintf(why, (size_t)room, "a value of %lld MiB, and kernels see at most %lld MiB of one",
		 (long long)(qat_value_bytes(v) >> 20), (long long)(d->largest_range >> 20));
	return 0;
}

static int values_fit(const vk_device *d, const qat_graph *g, const char *letters,
		      const int64_t *id, int64_t n, char *why, int64_t room)
{
	const int64_t known = (int64_t)strlen(letters);

	for (int64_t i = 0; i < n; i++)
		if (id[i] != QAT_NONE && !value_fits(d, g->values[id[i]],
						     i < known ? letters[i] : '?', why, room))
			return 0;
	return 1;
}

int qat_vk_supports(void *device, const qat_graph *g, const qat_node *n, char *why,
		    int64_t room)
{
	const vk_device *d = device;
	const vk_op *op = qat_vk_op(n->op);
	const char *refused;

	if (!op) {
		snprintf(why, (size_t)room, "no kernel for this op yet");
		return QAT_SUPPORT_NO;
	}
	if (!values_fit(d, g, op->in, n->in, n->n_in, why, room) ||
	    !values_fit(d, g, op->out, n->out, n->n_out, why, room))
		return QAT_SUPPORT_NO;
	refused = op->refuse ? op->refuse(d, g, n) : NULL;
	if (refused) {
		snprintf(why, (size_t)room, "%s", refused);
		return QAT_SUPPORT_NO;
	}
	return QAT_SUPPORT_NATIVE;
}

int qat_vk_claim(void *device, const qat_graph *g, int64_t first, const uint8_t *keep,
		 const uint8_t *taken, qat_claim *out)
{
	vk_site s = { .device = device, .g = g, .n = g->nodes[first] };
	const vk_op *op = qat_vk_op(s.n->op);

	(void)keep;
	(void)taken;
	if (!op)
		return qat_fail(QAT_ENOTSUP, "vulkan: %s: no kernel for op %u", s.n->name, s.n->op);
	op->plan(&s);
	free(s.out);
	*out = (qat_claim){ .size = sizeof *out, .n_nodes = 1, .nodes = { first }, .at = first,
			    .workspace = s.workspace };
	return s.rc;
}

/* ---- for plans ---- */

const qat_value *qat_vk_in(const vk_site *s, int64_t i)
{
	return i < s->n->n_in && s->n->in[i] != QAT_NONE ? s->g->values[s->n->in[i]] : NULL;
}

const qat_value *qat_vk_out(const vk_site *s, int64_t i)
{
	return i < s->n->n_out && s->n->out[i] != QAT_NONE ? s->g->values[s->n->out[i]] : NULL;
}

int64_t qat_vk_cols(const qat_value *v)
{
	return v->shape[0] ? qat_value_elements(v) / v->shape[0] : 0;
}

uint32_t qat_vk_bits(double x)
{
	const float f = (float)x;
	uint32_t u;

	memcpy(&u, &f, sizeof u);
	return u;
}

/* An output that nobody reads has no memory: it counts as absent. */
void qat_vk_bind(vk_site *s, vk_dispatch *d, int slot, int64_t value, uint32_t dtype)
{
	const qat_binding *b = value == QAT_NONE || !s->bindings ? NULL : &s->bindings[value];

	d->slot[slot] = (vk_slot){ 0 };
	if (b && b->memory)
		d->slot[slot] = (vk_slot){ b->memory, b->offset,
					   qat_value_bytes(s->g->values[value]) };
	if (slot < SPEC_KIND)
		d->spec[slot] = b && !b->memory ? 0 : dtype;
}

static void bind_all(vk_site *s, vk_dispatch *d)
{
	for (int i = 0; i < s->n->n_in && i < SLOT_OUT; i++)
		if (qat_vk_in(s, i))
			qat_vk_bind(s, d, i, s->n->in[i], qat_vk_in(s, i)->dtype);
	for (int i = 0; i < s->n->n_out; i++)
		if (qat_vk_out(s, i))
			qat_vk_bind(s, d, SLOT_OUT + i, s->n->out[i], qat_vk_out(s, i)->dtype);
	if (s->workspace && s->work)
		d->slot[SLOT_WORK] = (vk_slot){ s->work->memory, s->work->offset, s->workspace };
}

vk_dispatch *qat_vk_emit(vk_site *s, int shader)
{
	vk_dispatch *d;

	if (s->rc)
		return NULL;
	if (s->n_out == s->room) {
		const int64_t room = s->room ? 2 * s->room : 16;
		vk_dispatch *p = realloc(s->out, (size_t)room * sizeof *p);

		if (!p) {
			s->rc = qat_fail(QAT_ENOMEM, "vulkan: out of memory");
			return NULL;
		}
		s->out = p;
		s->room = room;
	}
	d = &s->out[s->n_out++];
	*d = (vk_dispatch){ .shader = shader, .groups = { 1, 1, 1 } };
	bind_all(s, d);
	return d;
}

static uint32_t groups(int64_t n)
{
	return (uint32_t)(n < 1 ? 1 : n > GROUPS_MOST ? GROUPS_MOST : n);
}

void qat_vk_groups(vk_dispatch *d, int64_t n, int64_t per)
{
	d->groups[0] = groups((n + per - 1) / per);
}

void qat_vk_tiles(vk_dispatch *d, int64_t rows, int64_t cols)
{
	d->groups[0] = groups((cols + TILE - 1) / TILE);
	d->groups[1] = groups((rows + TILE - 1) / TILE);
}

void qat_vk_rows(vk_dispatch *d, int64_t n)
{
	d->groups[0] = groups(n);
}
