/* step_quantized.c - codes: quantize, dequantize, products of codes, masks, ranges. */
#include "cpu.h"

#include <stdio.h>
#include <stdlib.h>

#include <qatrun/numerics.h>

static const qat_scheme *scheme(const qat_node *n, int i)
{
	return n->schemes[i] ? n->schemes[i]->schemes[0] : NULL;
}

static int refuse(char *why, int64_t room, const char *text)
{
	snprintf(why, (size_t)room, "%s", text);
	return QAT_SUPPORT_NO;
}

/* Schemes of the node on matrices of `shape`. */
static int check_scheme(const qat_scheme_set *set, const qat_value *v, char *why, int64_t room)
{
	if (!set || set->count < 1 || !set->schemes[0])
		return refuse(why, room, "it has no scheme");
	if (set->count > 1)
		return refuse(why, room, "its scheme changes at run time");
	if (!qat_quantize_supports(set->schemes[0], v->shape[0], v->shape[1])) {
		snprintf(why, (size_t)room, "no kernel for scheme %s on %lld x %lld",
			 set->schemes[0]->name ? set->schemes[0]->name : "",
			 (long long)v->shape[0], (long long)v->shape[1]);
		return QAT_SUPPORT_NO;
	}
	return QAT_SUPPORT_NATIVE;
}

static int check_one(const qat_cpu_site *c, char *why, int64_t room)
{
	return check_scheme(c->n->schemes[0], qat_cpu_in(c, 0), why, room);
}

/* ---- quantize ---- */

/* Where the packed weights go, and the codes where nobody keeps them. */
static void place_packed(const qat_cpu_site *c, qat_cpu_step *s, uint32_t layout)
{
	qat_cpu_quantize *q = &s->u.quantize;
	char *at = qat_cpu_out_data(c, 0);

	if (layout == QAT_CPU_PACKED_ALONE && qat_qmm_packs_in_place(&q->plan)) {
		q->packed = q->a.codes = at;
	} else if (layout == QAT_CPU_PACKED_ALONE) {
		q->packed = at;
		q->a.codes = qat_cpu_work(c, &s->workspace, q->a.rows * q->a.cols);
	} else {
		q->packed = at ? at + qat_cpu_round64(q->a.rows * q->a.cols) : NULL;
	}
}

static uint32_t layout_of(const qat_cpu_site *c, qat_qmm *plan)
{
	const uint32_t wanted = qat_cpu_codes_layout(c->cpu, c->g, c->n, c->keep, plan);

	if (!c->layout)
		return wanted;
	return c->layout[c->n->out[0]] ? c->layout[c->n->out[0]] : QAT_CPU_SINGLE;
}

static int prepare_quantize(const qat_cpu_site *c, qat_cpu_step *s)
{
	qat_cpu_quantize *q = &s->u.quantize;
	const qat_value *x = qat_cpu_in(c, 0);
	uint32_t layout;

	q->a = (qat_quantize_args){
		.scheme = scheme(c->n, 0), .rows = x->shape[0], .cols = x->shape[1],
		.x = qat_cpu_src(c, 0), .given_scale = qat_cpu_in_data(c, 1),
		.given_zero = qat_cpu_in_data(c, 2), .codes = qat_cpu_out_data(c, 0),
		.scale = qat_cpu_out_data(c, 1), .zero = qat_cpu_out_data(c, 2),
		.mask = qat_cpu_out_data(c, 3),
	};
	if (qat_measures_blocks(q->a.scheme) && !q->a.given_scale)
		q->a.room = qat_cpu_work(c, &s->workspace, 4 * q->a.rows * q->a.cols);
	layout = layout_of(c, &q->plan);
	if (layout != QAT_CPU_SINGLE)
		place_packed(c, s, layout);
	return QAT_OK;
}

static int run_quantize(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_quantize_args *a = &s->u.quantize.a;
	const int bad = cpu->kernels->quantize->quantize(a);

	if (bad && a->given_scale && rt->bad_node == QAT_NONE)
		rt->bad_node = s->node;
	if (s->u.quantize.packed)
		qat_qmm_pack(cpu->dense, &s->u.quantize.plan, s->u.quantize.packed, a->codes,
			     a->scale ? a->scale : a->given_scale,
			     a->scale ? a->zero : a->given_zero);
	return QAT_OK;
}

const qat_cpu_op qat_cpu_quantize_op = { "efz", "qfzu", prepare_quantize, run_quantize,
					 check_one };

/* ---- dequantize ---- */

const void *qat_cpu_plain_codes(const qat_cpu_site *c, qat_cpu_step *s, int64_t i,
				qat_cpu_unpack *u)
{
	const qat_value *v = qat_cpu_in(c, i);
	const qat_node *q = v->node == QAT_NONE ? NULL : c->g->nodes[v->node];
	uint32_t layout;

	*u = (qat_cpu_unpack){ .packed = NULL };
	if (!q || q->op != QAT_OP_QUANTIZE || v->id != q->out[0])
		return qat_cpu_in_data(c, i);
	layout = qat_cpu_codes_layout(c->cpu, c->g, q, c->keep, &u->plan);
	if ((c->layout ? c->layout[v->id] : layout) != QAT_CPU_PACKED_ALONE ||
	    qat_qmm_packs_in_place(&u->plan))
		return qat_cpu_in_data(c, i);
	u->packed = qat_cpu_in_data(c, i);
	u->codes = qat_cpu_work(c, &s->workspace, qat_value_bytes(v));
	return u->codes;
}

void qat_cpu_unpack_codes(const qat_cpu *cpu, const qat_cpu_unpack *u)
{
	if (u->packed)
		qat_qmm_unpack(cpu->dense, &u->plan, u->codes, u->packed);
}

void qat_cpu_fill_decode(const qat_cpu_site *c, qat_cpu_step *s, qat_cpu_decode *d)
{
	const qat_value *x = qat_cpu_in(c, 0);

	d->a = (qat_dequantize_args){
		.scheme = scheme(c->n, 0), .rows = x->shape[0], .cols = x->shape[1],
		.codes = qat_cpu_plain_codes(c, s, 0, &d->unpack),
		.scale = qat_cpu_in_data(c, 1), .zero = qat_cpu_in_data(c, 2),
		.y = qat_cpu_dst(c, 0),
	};
}

static int prepare_dequantize(const qat_cpu_site *c, qat_cpu_step *s)
{
	qat_cpu_fill_decode(c, s, &s->u.dequantize);
	return QAT_OK;
}

static int run_dequantize(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	(void)rt;
	qat_cpu_unpack_codes(cpu, &s->u.dequantize.unpack);
	cpu->kernels->quantize->dequantize(&s->u.dequantize.a);
	return QAT_OK;
}

const qat_cpu_op qat_cpu_dequantize = { "qfz", "e", prepare_dequantize, run_dequantize,
					check_one };

/* ---- qmatmul ---- */

static int check_product(const qat_cpu_site *c, char *why, int64_t room)
{
	const qat_node *n = c->n;
	const int codes = n->schemes[0] != NULL;
	const uint32_t x = qat_cpu_in(c, 0)->dtype;
	const qat_value *w = qat_cpu_in(c, 3);
	int rc = check_scheme(n->schemes[1], w, why, room);
	qat_qmm plan;

	if (rc && codes)
		rc = check_scheme(n->schemes[0], qat_cpu_in(c, 0), why, room);
	if (!rc)
		return rc;
	if (codes ? x != QAT_I8 && x != QAT_U8 : x != QAT_F32 && x != QAT_BF16)
		return refuse(why, room, "its left operand is neither codes nor floats");
	if (qat_qmm_plan(c->cpu->dense, &plan, w->shape[0], w->shape[1], scheme(n, 0), x,
			 scheme(n, 1)))
		return refuse(why, room, qat_host_->error());
	return QAT_SUPPORT_NATIVE;
}

/* Packed by the quantize before, when the graph was compiled, or each time. */
static int where_packed(const qat_cpu_site *c, uint32_t *layout)
{
	const qat_value *codes = qat_cpu_in(c, 3);
	const int64_t node = codes->node;
	const qat_cpu_site q = { .cpu = c->cpu, .g = c->g, .keep = c->keep, .layout = c->layout,
				 .n = node == QAT_NONE ? NULL : c->g->nodes[node] };
	qat_qmm plan;

	*layout = q.n && q.n->op == QAT_OP_QUANTIZE ? layout_of(&q, &plan)
						    : qat_cpu_stored_layout(c);
	return *layout == QAT_CPU_STREAMED ? QAT_CPU_PACK_STREAM
	     : *layout == QAT_CPU_SINGLE ? QAT_CPU_PACK_ALWAYS : QAT_CPU_PACKED;
}

static void place_weight(const qat_cpu_site *c, qat_cpu_step *s)
{
	qat_cpu_qmm *q = &s->u.qmm;
	const char *at = qat_cpu_in_data(c, 3);
	uint32_t layout;

	q->pack = where_packed(c, &layout);
	q->program = c->program;
	for (int i = 0; i < QAT_CPU_PARTS; i++) {
		const qat_value *v = qat_cpu_in(c, 3 + i);

		q->value[i] = v ? v->id : QAT_NONE;
		q->part[i] = qat_cpu_in_data(c, 3 + i);
		if (v && q->pack == QAT_CPU_PACK_STREAM)
			q->part[i] = qat_cpu_work(c, &s->workspace, qat_value_bytes(v));
	}
	if (layout == QAT_CPU_PACKED_ALONE || layout == QAT_CPU_STORED)
		q->a.weight = at;
	if ((layout == QAT_CPU_CODES_AND_PACKED || layout == QAT_CPU_STORED_PLAIN) && at)
		q->a.weight = at + qat_cpu_round64(qat_value_bytes(qat_cpu_in(c, 3)));
	if (q->pack == QAT_CPU_PACK_ALWAYS || q->pack == QAT_CPU_PACK_STREAM)
		q->a.weight = q->room = qat_cpu_work(c, &s->workspace, q->plan.weight_bytes);
}

static int prepare_qmatmul(const qat_cpu_site *c, qat_cpu_step *s)
{
	qat_cpu_qmm *q = &s->u.qmm;
	const qat_value *x = qat_cpu_in(c, 0), *w = qat_cpu_in(c, 3);
	const int rc = qat_qmm_plan(c->cpu->dense, &q->plan, w->shape[0], w->shape[1],
				    scheme(c->n, 0), x->dtype, scheme(c->n, 1));

	if (rc)
		return rc;
	q->a = (qat_qmm_args){
		.m = x->shape[0], .x = qat_cpu_in_data(c, 0), .x_dtype = x->dtype,
		.x_scale = qat_cpu_in_data(c, 1), .x_zero = qat_cpu_in_data(c, 2),
		.bias = qat_cpu_in_data(c, 6), .y = qat_cpu_dst(c, 0), .ldy = w->shape[0],
	};
	q->a.workspace = qat_cpu_work(c, &s->workspace,
				      qat_qmm_workspace(c->cpu->dense, &q->plan, q->a.m));
	place_weight(c, s);
	return QAT_OK;
}

static void pack(const qat_cpu *cpu, const qat_cpu_qmm *q, void *to)
{
	qat_qmm_pack(cpu->dense, &q->plan, to, q->part[0], q->part[1], q->part[2]);
}

static int load_parts(const qat_cpu_qmm *q)
{
	int rc = QAT_OK;

	for (int i = 0; i < QAT_CPU_PARTS && !rc; i++)
		if (q->value[i] != QAT_NONE)
			rc = q->program->load(q->program->context, q->value[i],
					      (void *)(uintptr_t)q->part[i]);
	return rc;
}

/* What is loaded is gone before the next one comes. */
int qat_cpu_pack_stored(qat_cpu *cpu, const qat_cpu_site *c, qat_cpu_step *s, uint8_t *done)
{
	qat_cpu_qmm q = s->u.qmm;
	const int plain = qat_cpu_stored_layout(c) == QAT_CPU_STORED_PLAIN;
	void *own[QAT_CPU_PARTS] = { NULL };
	int rc = QAT_OK;

	if (done[q.value[0]] || c->program->loaded[q.value[0]])
		return QAT_OK;
	done[q.value[0]] = 1;
	for (int i = 0; i < QAT_CPU_PARTS && !plain && !rc; i++) {
		if (q.value[i] == QAT_NONE)
			continue;
		q.part[i] = own[i] = malloc((size_t)qat_value_bytes(qat_cpu_in(c, 3 + i)));
		if (!own[i])
			rc = qat_fail(QAT_ENOMEM, "cpu: %s: out of memory", c->n->name);
	}
	for (int i = 1; i < QAT_CPU_PARTS && plain; i++)	/* the core has filled these */
		q.value[i] = QAT_NONE;
	if (!rc)
		rc = load_parts(&q);
	if (!rc)
		pack(cpu, &q, (void *)(uintptr_t)q.a.weight);
	for (int i = 0; i < QAT_CPU_PARTS; i++)
		free(own[i]);
	return rc;
}

static int run_qmatmul(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	qat_cpu_qmm *q = &s->u.qmm;
	const int rc = q->pack == QAT_CPU_PACK_STREAM ? load_parts(q) : QAT_OK;

	(void)rt;
	if (rc)
		return rc;
	if (q->pack != QAT_CPU_PACKED)
		pack(cpu, q, q->room);
	return qat_qmm_run(cpu->dense, &q->plan, &q->a);
}

/* The left operand's type is check_product's. */
const qat_cpu_op qat_cpu_qmatmul = { "*fzqfzf", "e", prepare_qmatmul, run_qmatmul,
				     check_product };

/* ---- mask ---- */

static int prepare_mask(const qat_cpu_site *c, qat_cpu_step *s)
{
	const qat_value *g = qat_cpu_in(c, 0);

	s->u.mask = (qat_cpu_mask){ .y = qat_cpu_dst(c, 0), .g = qat_cpu_src(c, 0),
				    .mask = qat_cpu_in_data(c, 1), .rows = g->shape[0],
				    .cols = g->shape[1] };
	return QAT_OK;
}

static int run_mask(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_mask *m = &s->u.mask;

	(void)rt;
	cpu->kernels->quantize->mask(m->y, m->g, m->mask, m->rows, m->cols);
	return QAT_OK;
}

const qat_cpu_op qat_cpu_mask_op = { "eu", "e", prepare_mask, run_mask, NULL };

/* ---- observe ---- */

static int prepare_observe(const qat_cpu_site *c, qat_cpu_step *s)
{
	const qat_value *x = qat_cpu_in(c, 0);

	s->u.observe = (qat_cpu_observe){ .scheme = scheme(c->n, 0), .rows = x->shape[0],
					  .cols = x->shape[1], .x = qat_cpu_src(c, 0),
					  .before = qat_cpu_in_data(c, 1),
					  .after = qat_cpu_out_data(c, 0),
					  .counts_before = qat_cpu_in_data(c, 2),
					  .counts = qat_cpu_out_data(c, 1) };
	return QAT_OK;
}

static float element(qat_src x, int64_t i)
{
	return x.dtype == QAT_F32 ? ((const float *)x.data)[i]
				  : qat_bf16_to_f32(((const uint16_t *)x.data)[i]);
}

/* Block k of a range: of block_rows x block_cols elements. */
static void observe_block(const qat_cpu_observe *o, int64_t k, int64_t block_rows,
			  int64_t block_cols)
{
	const int64_t groups = o->cols / block_cols;
	const int64_t first = k / groups * block_rows * o->cols + k % groups * block_cols;
	float lo = INFINITY, hi = -INFINITY;

	for (int64_t i = 0; i < block_rows * block_cols; i++) {
		const float x = element(o->x, first + i / block_cols * o->cols + i % block_cols);

		lo = x < lo || x != x ? x : lo;
		hi = x > hi || x != x ? x : hi;
		if (o->counts)
			qat_counts_add(o->counts + k * QAT_COUNTS, x);
	}
	o->after[2 * k] = o->before[2 * k];
	o->after[2 * k + 1] = o->before[2 * k + 1];
	qat_range_add(o->scheme, o->after + 2 * k, lo, hi);
}

/* Calibration is rare, and this is not where its time goes: one thread, element by
 * element. A NaN stays: nothing is below or above it. */
static int run_observe(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_observe *o = &s->u.observe;
	const int64_t rows = qat_range_rows(o->scheme), cols = qat_range_cols(o->scheme);
	const int64_t block_rows = rows ? rows : o->rows, block_cols = cols ? cols : o->cols;
	const int64_t blocks = o->rows / block_rows * (o->cols / block_cols);

	(void)cpu;
	(void)rt;
	for (int64_t i = 0; o->counts && i < blocks * QAT_COUNTS; i++)
		o->counts[i] = o->counts_before[i];
	for (int64_t k = 0; k < blocks; k++)
		observe_block(o, k, block_rows, block_cols);
	return QAT_OK;
}

static int check_observe(const qat_cpu_site *c, char *why, int64_t room)
{
	const int rc = check_one(c, why, room);

	if (rc != QAT_SUPPORT_NATIVE)
		return rc;
	snprintf(why, (size_t)room, "one thread, element by element");
	return QAT_SUPPORT_GENERIC;
}

const qat_cpu_op qat_cpu_observe_op = { "efd", "fd", prepare_observe, run_observe,
					check_observe };
