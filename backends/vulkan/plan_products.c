/* plan_products.c - plans of dense products and of the losses that end in one. */
#include "vulkan.h"

enum { FLAT = 256 };
#define LOGITS ((int64_t)32 << 20)	/* bytes of logits at once */

/* y [m, n] = sum over k; strides in elements. */
typedef struct product {
	int64_t m, n, k, a_row, a_step, b_col, b_step, a_first, b_first, y_first, add;
} product;

static void push_product(vk_dispatch *d, const product *p)
{
	const int64_t v[] = { p->m, p->n, p->k, p->a_row, p->a_step, p->b_col, p->b_step,
			      p->a_first, p->b_first, p->y_first, p->add };

	for (size_t i = 0; i < sizeof v / sizeof *v; i++)
		d->push[i] = (uint32_t)v[i];
	for (int i = 0; i < SPECS; i++)		/* others make no other pipeline */
		if (i > 2 && i != SPEC_OUT)
			d->spec[i] = 0;
	qat_vk_tiles(d, p->m, p->n);
}

void qat_vk_plan_matmul(vk_site *s)
{
	const qat_value *a = qat_vk_in(s, 0), *b = qat_vk_in(s, 1), *c = qat_vk_in(s, 2);
	const int ta = s->n->attr.matmul.trans_a != 0, tb = s->n->attr.matmul.trans_b != 0;
	const int64_t ac = qat_vk_cols(a), bc = qat_vk_cols(b);
	const product p = { .m = ta ? ac : a->shape[0], .n = tb ? b->shape[0] : bc,
			    .k = ta ? a->shape[0] : ac, .a_row = ta ? 1 : ac,
			    .a_step = ta ? ac : 1, .b_col = tb ? bc : 1, .b_step = tb ? 1 : bc,
			    .add = !c ? 0 : c->rank == 1 ? 1 : 2 };
	vk_dispatch *d = qat_vk_emit(s, SHADER_MATMUL);

	if (d)
		push_product(d, &p);
}

/* ---- losses ---- */

static vk_dispatch *emit_loss(vk_site *s, int shader, int64_t rows, int64_t v, int64_t first,
			      int linear)
{
	vk_dispatch *d = qat_vk_emit(s, shader);

	if (!d)
		return NULL;
	qat_vk_bind(s, d, 6, s->n->in[1 + linear], QAT_I32);
	if (shader == SHADER_CROSS_ENTROPY_GRAD) {
		qat_vk_bind(s, d, 7, s->n->in[2 + linear], QAT_F32);
		qat_vk_bind(s, d, 8, s->n->in[3 + linear], QAT_F32);
	}
	d->spec[SPEC_MORE] = (uint32_t)linear;
	d->push[0] = (uint32_t)rows;
	d->push[1] = (uint32_t)v;
	d->push[2] = (uint32_t)first;
	if (shader == SHADER_CROSS_ENTROPY_GRAD)
		qat_vk_groups(d, rows * v, FLAT);
	else
		qat_vk_rows(d, rows);
	return d;
}

void qat_vk_plan_cross_entropy(vk_site *s)
{
	const qat_value *l = qat_vk_in(s, 0);

	emit_loss(s, SHADER_CROSS_ENTROPY, l->shape[0], qat_vk_cols(l), 0, 0);
}

void qat_vk_plan_cross_entropy_grad(vk_site *s)
{
	const qat_value *l = qat_vk_in(s, 0);

	emit_loss(s, SHADER_CROSS_ENTROPY_GRAD, l->shape[0], qat_vk_cols(l), 0, 0);
}

/* ---- losses over x w^T, whose logits are in the workspace, some rows at a time ---- */

typedef struct linear {
	int64_t n, v, k, rows;		/* rows at a time */
} linear;

static linear plan_rows(vk_site *s)
{
	const qat_value *x = qat_vk_in(s, 0), *w = qat_vk_in(s, 1);
	linear l = { .n = x->shape[0], .v = w->shape[0], .k = qat_vk_cols(w) };

	l.rows = LOGITS / (4 * l.v);
	l.rows = l.rows < 1 ? 1 : l.rows < l.n ? l.rows : l.n;
	s->workspace = 4 * l.rows * l.v;
	return l;
}

static void work_as(vk_dispatch *d, int slot)
{
	d->slot[slot] = d->slot[SLOT_WORK];
	d->spec[slot] = QAT_F32;
}

static void no_addend(vk_dispatch *d)
{
	d->slot[2] = (vk_slot){ 0 };
	d->spec[2] = 0;
}

/* Rows [first, first + rows) of x w^T into the workspace. */
static void emit_logits(vk_site *s, const linear *l, int64_t first, int64_t rows)
{
	const product p = { .m = rows, .n = l->v, .k = l->k, .a_row = l->k, .a_step = 1,
			    .b_col = l->k, .b_step = 1, .a_first = first * l->k };
	vk_dispatch *d = qat_vk_emit(s, SHADER_MATMUL);

	if (!d)
		return;
	no_addend(d);
	work_as(d, SLOT_OUT);
	push_product(d, &p);
}

static void emit_dx(vk_site *s, const linear *l, int64_t first, int64_t rows)
{
	const product p = { .m = rows, .n = l->k, .k = l->v, .a_row = l->v, .a_step = 1,
			    .b_col = 1, .b_step = l->k, .y_first = first * l->k };
	vk_dispatch *d = qat_vk_emit(s, SHADER_MATMUL);

	if (!d)
		return;
	no_addend(d);
	work_as(d, 0);
	push_product(d, &p);
}

/* dw += dl^T x; the first time on top of the addend. */
static void emit_dw(vk_site *s, const linear *l, int64_t first, int64_t rows)
{
	const qat_value *x = qat_vk_in(s, 0), *c = qat_vk_in(s, 5);
	const product p = { .m = l->v, .n = l->k, .k = rows, .a_row = 1, .a_step = l->v,
			    .b_col = 1, .b_step = l->k, .b_first = first * l->k,
			    .add = first || c ? 2 : 0 };
	vk_dispatch *d = qat_vk_emit(s, SHADER_MATMUL);

	if (!d)
		return;
	work_as(d, 0);
	qat_vk_bind(s, d, 1, x->id, x->dtype);
	qat_vk_bind(s, d, SLOT_OUT, s->n->out[1], QAT_F32);
	qat_vk_bind(s, d, 2, first ? s->n->out[1] : c ? c->id : QAT_NONE,
		    first || c ? QAT_F32 : 0);
	push_product(d, &p);
}

void qat_vk_plan_linear_cross_entropy(vk_site *s)
{
	const linear l = plan_rows(s);

	for (int64_t first = 0; first < l.n && !s->rc; first += l.rows) {
		const int64_t rows = l.n - first < l.rows ? l.n - first : l.rows;

		emit_logits(s, &l, first, rows);
		emit_loss(s, SHADER_CROSS_ENTROPY, rows, l.v, first, 1);
	}
}

void qat_vk_plan_linear_cross_entropy_grad(vk_site *s)
{
	const linear l = plan_rows(s);

	for (int64_t first = 0; first < l.n && !s->rc; first += l.rows) {
		const int64_t rows = l.n - first < l.rows ? l.n - first : l.rows;

		emit_logits(s, &l, first, rows);
		emit_loss(s, SHADER_CROSS_ENTROPY_GRAD, rows, l.v, first, 1);
		if (qat_vk_out(s, 0))
			emit_dx(s, &l, first, rows);
		if (qat_vk_out(s, 1))
			emit_dw(s, &l, first, rows);
	}
}
