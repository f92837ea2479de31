/* step_gradient.c - products of codes, backwards: the gradient becomes codes, and the product
 * is the forward pass's, with these on the left and the other side's rows as its k. */
#include "cpu.h"

#include <stdio.h>

/* Codes of a gradient; of the other side, whose scales are in the gradient already. Plans
 * keep their schemes, and blocks differ by `length`: so they are made from these. */
static const qat_scheme left = { .size = sizeof left, .numerics = QAT_NUMERICS,
	.grid = QAT_GRID_UNIFORM, .bits = 8, .qmin = -127, .qmax = 127, .block_rows = 1,
	.scale_format = QAT_F32, .scale_rule = QAT_SCALE_ABSMAX, .divisor = 127.0 };
static const qat_scheme right = { .size = sizeof right, .numerics = QAT_NUMERICS,
	.grid = QAT_GRID_UNIFORM, .bits = 8, .qmin = -128, .qmax = 127,
	.scale_format = QAT_F32, .scale_rule = QAT_SCALE_ABSMAX, .divisor = 127.0 };

static int check(const qat_cpu_site *c, char *why, int64_t room)
{
	if (c->n->schemes[0]->count == 1)
		return QAT_SUPPORT_NATIVE;
	snprintf(why, (size_t)room, "its scheme changes at run time");
	return QAT_SUPPORT_NO;
}

static void place(const qat_cpu_site *c, qat_cpu_step *s, qat_cpu_gradient *q)
{
	const int64_t rows = q->a.batch * q->a.length, m = q->product.m;

	q->a.codes = qat_cpu_work(c, &s->workspace, rows * q->a.channels);
	q->a.scale = qat_cpu_work(c, &s->workspace, 4 * m * q->plan.groups);
	q->packed = qat_cpu_work(c, &s->workspace, q->plan.weight_bytes);
	if (q->side)
		q->room = qat_cpu_work(c, &s->workspace,
				       c->cpu->kernels->grad->workspace(&q->a));
	q->product.workspace = qat_cpu_work(c, &s->workspace,
					    qat_qmm_workspace(c->cpu->dense, &q->plan, m));
	q->product.x = q->a.codes;
	q->product.x_scale = q->a.scale;
	q->product.weight = q->packed;
}

static int fill(const qat_cpu_site *c, qat_cpu_step *s, qat_cpu_gradient *q)
{
	const qat_value *dy = qat_cpu_in(c, 0), *codes = qat_cpu_in(c, 1);
	const int64_t cols = codes->shape[1];
	const int side = c->n->attr.qmatmul_grad.side != 0;
	int rc;

	q->side = side;
	q->codes = qat_cpu_plain_codes(c, s, 1, &q->unpack);
	q->a = (qat_grad_args){
		.batch = c->g->batch, .length = c->g->length, .channels = dy->shape[1],
		.dy = qat_cpu_src(c, 0), .fold = qat_cpu_in_data(c, 2),
		.fold_rows = c->n->schemes[0]->schemes[0]->block_rows,
		.qmax = (1 << (c->n->attr.qmatmul_grad.bits - 1)) - 1,
		.stream = (uint32_t)c->n->attr.qmatmul_grad.stream,
	};
	q->left = left;
	q->left.block_cols = side ? c->g->length : 0;
	rc = qat_qmm_plan(c->cpu->dense, &q->plan, cols, codes->shape[0], &q->left, QAT_I8,
			  &right);
	if (rc)
		return rc;
	q->product = (qat_qmm_args){ .m = dy->shape[side], .y = qat_cpu_dst(c, 0), .ldy = cols,
				     .adds = 1, .addend = qat_cpu_in_data(c, 3), .stream = side };
	place(c, s, q);
	return QAT_OK;
}

static int prepare(const qat_cpu_site *c, qat_cpu_step *s)
{
	return fill(c, s, &s->u.gradient);
}

static void number(qat_cpu_gradient *q, const qat_runtime *rt)
{
	q->a.seed = rt->seed;
	q->a.sequence = rt->sequence;
}

static int multiply(qat_cpu *cpu, const qat_cpu_gradient *q)
{
	qat_cpu_unpack_codes(cpu, &q->unpack);
	qat_qmm_pack_along(cpu->dense, &q->plan, q->packed, q->codes);
	return qat_qmm_run(cpu->dense, &q->plan, &q->product);
}

static int run(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	qat_cpu_gradient *q = &s->u.gradient;

	number(q, rt);
	cpu->kernels->grad->codes(q->side ? NULL : &q->a, q->side ? &q->a : NULL, q->room);
	return multiply(cpu, q);
}

/* ---- both sides, whose codes are made at once ---- */

static int run_both(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	qat_cpu_gradients *q = &s->u.gradients;
	int rc;

	number(&q->rows, rt);
	number(&q->columns, rt);
	cpu->kernels->grad->codes(&q->rows.a, &q->columns.a, q->columns.room);
	rc = multiply(cpu, &q->columns);
	return rc ? rc : multiply(cpu, &q->rows);
}

int qat_cpu_gradients_fuse(const qat_cpu_site *c, const qat_node *other, qat_cpu_step *s)
{
	qat_cpu_gradients *q = &s->u.gradients;
	const int side = c->n->attr.qmatmul_grad.side != 0;
	qat_cpu_site d = *c;
	int rc;

	d.n = other;
	rc = fill(c, s, side ? &q->columns : &q->rows);
	if (!rc)
		rc = fill(&d, s, side ? &q->rows : &q->columns);
	s->run = run_both;
	return rc;
}

const qat_cpu_op qat_cpu_qmatmul_grad = { "eqff", "e", prepare, run, check };
