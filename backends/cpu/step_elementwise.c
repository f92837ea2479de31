/* step_elementwise.c - ops that see one element at a time. */
#include "cpu.h"

#include <string.h>

static int prepare_flat(const qat_cpu_site *c, qat_cpu_step *s)
{
	qat_cpu_flat *f = &s->u.flat;

	f->n = qat_value_elements(qat_cpu_in(c, 0));
	for (int i = 0; i < 2; i++)
		f->y[i] = qat_cpu_dst(c, i);
	for (int i = 0; i < 3; i++)
		f->x[i] = qat_cpu_src(c, i);
	return QAT_OK;
}

static int run_add(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_flat *f = &s->u.flat;

	(void)rt;
	cpu->kernels->elementwise->add(f->y[0], f->x[0], f->x[1], f->n);
	return QAT_OK;
}

static int run_mul(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_flat *f = &s->u.flat;

	(void)rt;
	cpu->kernels->elementwise->mul(f->y[0], f->x[0], f->x[1], f->n);
	return QAT_OK;
}

static int prepare_scale(const qat_cpu_site *c, qat_cpu_step *s)
{
	s->u.flat.factor = (float)c->n->attr.scale.factor;
	return prepare_flat(c, s);
}

static int run_scale(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_flat *f = &s->u.flat;

	(void)rt;
	cpu->kernels->elementwise->scale(f->y[0], f->x[0], f->factor, f->n);
	return QAT_OK;
}

static int run_cast(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_flat *f = &s->u.flat;

	(void)rt;
	cpu->kernels->quantize->cast(f->y[0], f->x[0], f->n);
	return QAT_OK;
}

const qat_cpu_op qat_cpu_add = { "ee", "e", prepare_flat, run_add, NULL };
const qat_cpu_op qat_cpu_mul = { "ee", "e", prepare_flat, run_mul, NULL };
const qat_cpu_op qat_cpu_scale = { "e", "e", prepare_scale, run_scale, NULL };
const qat_cpu_op qat_cpu_cast = { "h", "h", prepare_flat, run_cast, NULL };

/* ---- activations ---- */

static int prepare_act(const qat_cpu_site *c, qat_cpu_step *s)
{
	s->u.flat.kind = c->n->attr.act.kind;
	return prepare_flat(c, s);
}

static int check_act(const qat_cpu_site *c, char *why, int64_t room)
{
	static const char unknown[] = "no such activation";
	const int64_t kind = c->n->attr.act.kind;

	if (kind >= QAT_ACT_GELU_TANH && kind <= QAT_ACT_RELU)
		return QAT_SUPPORT_NATIVE;
	if (room >= (int64_t)sizeof unknown)
		memcpy(why, unknown, sizeof unknown);
	return QAT_SUPPORT_NO;
}

static int run_act(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_flat *f = &s->u.flat;

	(void)rt;
	cpu->kernels->elementwise->act(f->y[0], f->x[0], f->kind, f->n);
	return QAT_OK;
}

static int run_act_grad(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_flat *f = &s->u.flat;

	(void)rt;
	cpu->kernels->elementwise->act_grad(f->y[0], f->x[0], f->x[1], f->kind, f->n);
	return QAT_OK;
}

static int run_glu(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_flat *f = &s->u.flat;

	(void)rt;
	cpu->kernels->elementwise->glu(f->y[0], f->x[0], f->x[1], f->kind, f->n);
	return QAT_OK;
}

static int run_glu_grad(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_flat *f = &s->u.flat;

	(void)rt;
	cpu->kernels->elementwise->glu_grad(f->y[0], f->y[1], f->x[0], f->x[1], f->x[2], f->kind,
					    f->n);
	return QAT_OK;
}

const qat_cpu_op qat_cpu_act = { "e", "e", prepare_act, run_act, check_act };
const qat_cpu_op qat_cpu_act_grad = { "ee", "e", prepare_act, run_act_grad, check_act };
const qat_cpu_op qat_cpu_glu = { "ee", "e", prepare_act, run_glu, check_act };
const qat_cpu_op qat_cpu_glu_grad = { "eee", "ee", prepare_act, run_glu_grad, check_act };

/* ---- the optimizer ---- */

static int prepare_sum_squares(const qat_cpu_site *c, qat_cpu_step *s)
{
	s->u.flat.sum = qat_cpu_out_data(c, 0);
	s->u.flat.x[0] = qat_cpu_src(c, 0);
	s->u.flat.n = qat_value_elements(qat_cpu_in(c, 0));
	return QAT_OK;
}

static int run_sum_squares(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_flat *f = &s->u.flat;

	(void)rt;
	*f->sum = cpu->kernels->elementwise->sum_squares(f->x[0], f->n);
	return QAT_OK;
}

/* What an update changes, it changes where it is: the outputs are the same memory. */
static int check_in_place(const qat_cpu_site *c, int count)
{
	static const int from[] = { 0, 2, 3, 4 };

	for (int i = 0; i < count; i++)
		if (qat_cpu_out_data(c, i) != qat_cpu_in_data(c, from[i]))
			return qat_fail(QAT_EINVAL, "cpu: %s: output %d is not where input %d is",
					c->n->name, i, from[i]);
	return QAT_OK;
}

static int prepare_adamw(const qat_cpu_site *c, qat_cpu_step *s)
{
	s->u.update = (qat_cpu_update){
		.p = qat_cpu_in_data(c, 0), .g = qat_cpu_in_data(c, 1),
		.m = qat_cpu_in_data(c, 2), .v = qat_cpu_in_data(c, 3),
		.hyper = qat_cpu_in_data(c, 4), .n = qat_value_elements(qat_cpu_in(c, 0)),
	};
	return check_in_place(c, 3);
}

static int run_adamw(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_update *u = &s->u.update;

	(void)rt;
	cpu->kernels->elementwise->adamw(u->p, u->g, u->m, u->v, u->hyper, u->n);
	return QAT_OK;
}

static int prepare_adamw8(const qat_cpu_site *c, qat_cpu_step *s)
{
	s->u.update8 = (qat_update8_args){
		.p = qat_cpu_in_data(c, 0), .g = qat_cpu_in_data(c, 1),
		.first = qat_cpu_in_data(c, 2), .second = qat_cpu_in_data(c, 3),
		.unit = qat_cpu_in_data(c, 4), .hyper = qat_cpu_in_data(c, 5),
		.n = qat_value_elements(qat_cpu_in(c, 0)),
		.stream = (uint32_t)c->n->attr.update.stream,
	};
	return check_in_place(c, 4);
}

static int run_adamw8(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	qat_update8_args *u = &s->u.update8;

	u->seed = rt->seed;
	u->step = rt->step;
	cpu->kernels->moment->adamw8(u);
	return QAT_OK;
}

const qat_cpu_op qat_cpu_sum_squares = { "e", "d", prepare_sum_squares, run_sum_squares, NULL };
const qat_cpu_op qat_cpu_adamw = { "fffff", "fff", prepare_adamw, run_adamw, NULL };
const qat_cpu_op qat_cpu_adamw8 = { "ffquff", "fquf", prepare_adamw8, run_adamw8, NULL };
