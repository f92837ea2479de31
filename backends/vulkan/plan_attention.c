/* plan_attention.c - plans of attention. */
#include "vulkan.h"

enum { HEAD_MOST = 256 };		/* as in attention.glsl */

const char *qat_vk_refuse_head(const vk_device *d, const qat_graph *g, const qat_node *n)
{
	(void)d;
	(void)g;
	if (n->op == QAT_OP_ATTENTION && n->n_in > 5 && n->in[5] != QAT_NONE)
		return "caches have no kernel yet";
	return n->attr.attention.head_dim > HEAD_MOST ? "heads of more than 256 channels" : NULL;
}

static vk_dispatch *emit(vk_site *s, int shader, int64_t heads)
{
	const int64_t rows = qat_vk_in(s, 0)->shape[0];
	vk_dispatch *d = qat_vk_emit(s, shader);

	if (!d)
		return NULL;
	d->push[0] = (uint32_t)rows;
	d->push[1] = (uint32_t)s->g->length;
	d->push[2] = (uint32_t)s->n->attr.attention.heads;
	d->push[3] = (uint32_t)s->n->attr.attention.kv_heads;
	d->push[4] = (uint32_t)s->n->attr.attention.head_dim;
	d->push[5] = s->n->attr.attention.causal != 0;
	d->push[6] = (uint32_t)(s->n->attr.attention.window > 0 ? s->n->attr.attention.window : 0);
	d->push[7] = qat_vk_bits(s->n->attr.attention.scale);
	qat_vk_rows(d, rows * heads);
	return d;
}

void qat_vk_plan_attention(vk_site *s)
{
	emit(s, SHADER_ATTENTION, s->n->attr.attention.heads);
}

void qat_vk_plan_attention_grad(vk_site *s)
{
	if (qat_vk_out(s, 0))
		emit(s, SHADER_ATTENTION_DQ, s->n->attr.attention.heads);
	if (qat_vk_out(s, 1) || qat_vk_out(s, 2))
		emit(s, SHADER_ATTENTION_DKV, s->n->attr.attention.kv_heads);
}
