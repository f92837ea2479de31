/* plan_attention.c - plans of attention. */
#include "vulkan.h"

#include <string.h>

enum { FLAT = 256, HEAD_MOST = 256 };		/* as in attention.glsl */

const char *qat_vk_refuse_head(const vk_device *d, const qat_graph *g, const qat_node *n)
{
	(void)d;
	(void)g;
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
	d->push[8] = (uint32_t)s->g->length;
	qat_vk_rows(d, rows * heads);
	return d;
}

/* Input `which`, k or v, into its cache. */
static void append(vk_site *s, int which, int64_t keys)
{
	const qat_value *x = qat_vk_in(s, which), *cache = qat_vk_in(s, 4 + which);
	vk_dispatch *d = qat_vk_emit(s, SHADER_APPEND);

	if (!d)
		return;
	memset(d->spec, 0, sizeof d->spec);
	qat_vk_bind(s, d, 0, x->id, x->dtype);
	qat_vk_bind(s, d, SLOT_OUT, cache->id, cache->dtype);
	d->push[0] = (uint32_t)qat_value_elements(x);
	d->push[1] = (uint32_t)qat_vk_cols(x);
	d->push[2] = (uint32_t)s->g->length;
	d->push[3] = (uint32_t)keys;
	d->positions = keys - s->g->length + 1;
	qat_vk_groups(d, qat_value_elements(x), FLAT);
}

void qat_vk_plan_attention(vk_site *s)
{
	const qat_value *cache = qat_vk_in(s, 5);
	const int64_t keys = cache ? cache->shape[0] / s->g->batch : 0;
	vk_dispatch *d;

	for (int which = 1; cache && which <= 2; which++)
		append(s, which, keys);
	d = emit(s, SHADER_ATTENTION, s->n->attr.attention.heads);
	if (!d || !cache)
		return;
	d->spec[SPEC_KIND] = 1;
	d->push[8] = (uint32_t)keys;
	for (int which = 1; which <= 2; which++)
		qat_vk_bind(s, d, which, s->n->in[4 + which],
			    qat_vk_in(s, 4 + which)->dtype);
}

void qat_vk_plan_attention_grad(vk_site *s)
{
	if (qat_vk_out(s, 0))
		emit(s, SHADER_ATTENTION_DQ, s->n->attr.attention.heads);
	if (qat_vk_out(s, 1) || qat_vk_out(s, 2))
		emit(s, SHADER_ATTENTION_DKV, s->n->attr.attention.kv_heads);
}
