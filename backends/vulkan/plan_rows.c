/* plan_rows.c - plans of tables, rotary positions, columns and norms. */
#include "vulkan.h"

enum { FLAT = 256 };

void qat_vk_plan_embedding(vk_site *s)
{
	const int64_t n = qat_value_elements(qat_vk_out(s, 0));
	vk_dispatch *d = qat_vk_emit(s, SHADER_EMBEDDING);

	if (!d)
		return;
	d->push[0] = (uint32_t)n;
	d->push[1] = (uint32_t)qat_vk_cols(qat_vk_in(s, 0));
	d->push[2] = (uint32_t)qat_vk_in(s, 0)->shape[0];
	qat_vk_groups(d, n, FLAT);
}

void qat_vk_plan_embedding_grad(vk_site *s)
{
	const qat_value *y = qat_vk_out(s, 0);
	const int64_t n = qat_value_elements(qat_vk_in(s, 0));

	for (uint32_t kind = 0; kind < 2; kind++) {
		vk_dispatch *d = qat_vk_emit(s, SHADER_EMBEDDING_GRAD);

		if (!d)
			return;
		d->spec[SPEC_KIND] = kind;
		d->push[0] = (uint32_t)n;
		d->push[1] = (uint32_t)qat_vk_cols(y);
		d->push[2] = (uint32_t)y->shape[0];
		if (kind)
			qat_vk_rows(d, n);
		else
			qat_vk_groups(d, qat_value_elements(y), FLAT);
	}
}

void qat_vk_plan_rope(vk_site *s)
{
	const qat_value *x = qat_vk_in(s, 0);
	const int64_t pairs = qat_value_elements(x) / 2;
	vk_dispatch *d = qat_vk_emit(s, SHADER_ROPE);

	if (!d)
		return;
	d->push[0] = (uint32_t)pairs;
	d->push[1] = (uint32_t)qat_vk_cols(x);
	d->push[2] = (uint32_t)s->n->attr.rope.head_dim;
	d->push[3] = (uint32_t)s->g->length;
	d->push[4] = s->n->attr.rope.inverse != 0;
	d->positions = qat_vk_in(s, 1)->shape[0] - s->g->length + 1;
	qat_vk_groups(d, pairs, FLAT);
}

/* ---- columns ---- */

typedef struct range { int64_t value, cols, first; } range;

static void copy_columns(vk_site *s, range from, range to, int64_t width)
{
	const int64_t n = s->g->values[from.value]->shape[0] * width;
	vk_dispatch *d = qat_vk_emit(s, SHADER_COLUMNS);

	if (!d)
		return;
	for (int i = 0; i < SPECS; i++)
		d->spec[i] = 0;
	qat_vk_bind(s, d, 0, from.value, s->g->values[from.value]->dtype);
	qat_vk_bind(s, d, SLOT_OUT, to.value, s->g->values[to.value]->dtype);
	d->push[0] = (uint32_t)n;
	d->push[1] = (uint32_t)width;
	d->push[2] = (uint32_t)from.cols;
	d->push[3] = (uint32_t)from.first;
	d->push[4] = (uint32_t)to.cols;
	d->push[5] = (uint32_t)to.first;
	qat_vk_groups(d, n, FLAT);
}

void qat_vk_plan_split(vk_site *s)
{
	int64_t first = 0;

	for (int64_t i = 0; i < s->n->attr.split.count; i++) {
		const int64_t width = s->n->attr.split.width[i];

		if (qat_vk_out(s, i))
			copy_columns(s, (range){ s->n->in[0], qat_vk_cols(qat_vk_in(s, 0)), first },
				     (range){ s->n->out[i], width, 0 }, width);
		first += width;
	}
}

void qat_vk_plan_concat(vk_site *s)
{
	const int64_t cols = qat_vk_cols(qat_vk_out(s, 0));
	int64_t at = 0;

	for (int64_t i = 0; i < s->n->n_in; i++) {
		const int64_t width = qat_vk_in(s, i) ? qat_vk_cols(qat_vk_in(s, i)) : 0;

		if (width)
			copy_columns(s, (range){ s->n->in[i], width, 0 },
				     (range){ s->n->out[0], cols, at }, width);
		at += width;
	}
}

void qat_vk_plan_reduce_rows(vk_site *s)
{
	const qat_value *x = qat_vk_in(s, 0);
	vk_dispatch *d = qat_vk_emit(s, SHADER_REDUCE_ROWS);

	if (!d)
		return;
	d->push[0] = (uint32_t)x->shape[0];
	d->push[1] = (uint32_t)qat_vk_cols(x);
	qat_vk_groups(d, qat_vk_cols(x), FLAT);
}

/* ---- norms ---- */

static void push_norm(const vk_site *s, vk_dispatch *d)
{
	const qat_value *x = qat_vk_in(s, 0);

	d->push[0] = (uint32_t)x->shape[0];
	d->push[1] = (uint32_t)qat_vk_cols(x);
	d->push[2] = s->n->attr.norm.plus_one != 0;
	d->push[3] = qat_vk_bits(s->n->attr.norm.epsilon);
	qat_vk_rows(d, x->shape[0]);
}

void qat_vk_plan_norm(vk_site *s)
{
	vk_dispatch *d = qat_vk_emit(s, SHADER_NORM);

	if (!d)
		return;
	d->spec[SPEC_KIND] = s->n->op == QAT_OP_LAYER_NORM;
	push_norm(s, d);
}

/* dy and the residual are bound where both kinds of norm have them. */
static vk_dispatch *emit_grad(vk_site *s, int shader)
{
	const int layer = s->n->op == QAT_OP_LAYER_NORM_GRAD;
	const qat_value *dy = qat_vk_in(s, 3 + layer), *residual = qat_vk_in(s, 4 + layer);
	vk_dispatch *d = qat_vk_emit(s, shader);

	if (!d)
		return NULL;
	d->spec[SPEC_KIND] = (uint32_t)layer;
	d->spec[SPEC_MORE] = dy->dtype;
	qat_vk_bind(s, d, 6, dy->id, 0);
	qat_vk_bind(s, d, 5, residual ? residual->id : QAT_NONE, residual ? residual->dtype : 0);
	push_norm(s, d);
	return d;
}

void qat_vk_plan_norm_grad(vk_site *s)
{
	vk_dispatch *d;

	if (qat_vk_out(s, 0))
		emit_grad(s, SHADER_NORM_GRAD);
	if (!qat_vk_out(s, 1) && !qat_vk_out(s, 2))
		return;
	d = emit_grad(s, SHADER_NORM_GRAD_ROWS);
	if (d)
		qat_vk_groups(d, d->push[1], FLAT);
}
