/* plan_quantized.c - plans of codes: made, decoded, observed, multiplied. */
#include "vulkan.h"

#include <qatrun/numerics.h>

enum { FLAT = 256, ROWS = 64, SMALL = 64, INTEGER_ZERO = -1000 };

/* The longest sum of products of two codes that an integer of 32 bits always holds. */
enum { LONGEST_ZEROS = 33025, LONGEST = 131071 };

static const qat_scheme *scheme(const qat_node *n, int side)
{
	return n->schemes[side] ? n->schemes[side]->schemes[0] : NULL;
}

/* ---- what there is ---- */

static const char *refused(const qat_scheme_set *set)
{
	const qat_scheme *s = set->schemes[0];

	if (set->count > 1)
		return "schemes that change while it runs have no kernel yet";
	if (s->rounding != QAT_ROUND_NEAREST_EVEN)
		return "stochastic rounding has no kernel yet";
	if (s->grid < QAT_GRID_UNIFORM || s->grid > QAT_GRID_TABLE)
		return "the scheme's grid has no kernel yet";
	if (s->grid == QAT_GRID_TABLE && (!s->table || s->bits < 1 || s->bits > 8))
		return "the scheme's grid is a table that it does not have";
	if (s->scale_rule < QAT_SCALE_ABSMAX || s->scale_rule > QAT_SCALE_TWO_LEVEL)
		return "the scheme's scale rule has no kernel yet";
	return NULL;
}

/* Columns over which the scales of both are constant; 0: neither divides the other. */
static int64_t common_group(const qat_scheme *x, const qat_scheme *w, int64_t k)
{
	const int64_t a = x->block_cols ? x->block_cols : k, b = w->block_cols ? w->block_cols : k;

	return a < b ? (b % a ? 0 : a) : (a % b ? 0 : b);
}

static int integers(const qat_node *n)
{
	int shift;

	return n->schemes[0] && qat_code_integer(scheme(n, 0), &shift) &&
	       qat_code_integer(scheme(n, 1), &shift);
}

static const char *product_refused(const qat_graph *g, const qat_node *n)
{
	const int64_t k = g->values[n->in[3]]->shape[1];
	int64_t group;

	if (!integers(n))
		return NULL;
	group = common_group(scheme(n, 0), scheme(n, 1), k);
	if (!group)
		return "groups of the input and of the weight do not nest";
	if (group > (n->in[2] != QAT_NONE || n->in[5] != QAT_NONE ? LONGEST_ZEROS : LONGEST))
		return "sums that are too long for integers of 32 bits";
	return NULL;
}

/* Whether scales are made of a part of what a block holds. */
static int measures(const qat_node *n)
{
	return n->op == QAT_OP_QUANTIZE && n->in[1] == QAT_NONE &&
	       qat_measures_blocks(scheme(n, 0));
}

const char *qat_vk_refuse_scheme(const vk_device *d, const qat_graph *g, const qat_node *n)
{
	const char *why = NULL;

	for (int side = 0; side < 2 && !why; side++)
		if (n->schemes[side])
			why = refused(n->schemes[side]);
	if (!why && measures(n) && scheme(n, 0)->measure == QAT_MEASURE_MSE)
		why = qat_vk_refuse_double(d, g, n);
	return !why && n->op == QAT_OP_QMATMUL ? product_refused(g, n) : why;
}

const char *qat_vk_refuse_observe(const vk_device *d, const qat_graph *g, const qat_node *n)
{
	const char *why = n->n_in > 2 && n->in[2] != QAT_NONE ? qat_vk_refuse_double(d, g, n)
							      : NULL;

	return why ? why : qat_vk_refuse_scheme(d, g, n);
}

/* ---- schemes in push constants: see shaders/scheme.glsl ---- */

typedef struct blocks { int64_t rows, cols, groups, count; } blocks;

static blocks blocks_of(int64_t rows, int64_t cols, const qat_value *x)
{
	blocks b = { .rows = rows ? rows : x->shape[0], .cols = cols ? cols : qat_vk_cols(x) };

	b.groups = qat_vk_cols(x) / b.cols;
	b.count = qat_value_elements(x) / (b.rows * b.cols);
	return b;
}

enum {
	PUSH_GIVEN = 17, PUSH_NODE, PUSH_SECOND_ROWS, PUSH_SECONDS, PUSH_MASK_COLS, PUSH_BITS,
	PUSH_MOVING, PUSH_RANK, PUSH_RATE
};

static void push_scheme(vk_dispatch *d, const qat_value *x, const qat_scheme *s, const blocks *b)
{
	const uint32_t v[] = {
		(uint32_t)x->shape[0], (uint32_t)qat_vk_cols(x), (uint32_t)b->rows,
		(uint32_t)b->cols, (uint32_t)b->groups, (uint32_t)b->count, (uint32_t)s->grid,
		(uint32_t)s->ebits, (uint32_t)s->mbits, (uint32_t)s->emax, (uint32_t)s->qmin,
		(uint32_t)s->qmax, qat_vk_bits((double)s->largest), (uint32_t)s->scale_format,
		(uint32_t)s->scale_rule, (uint32_t)s->zero, qat_vk_bits(s->divisor)
	};

	memcpy(d->push, v, sizeof v);
	d->push[PUSH_BITS] = (uint32_t)s->bits;
	d->push[PUSH_MOVING] = s->measure == QAT_MEASURE_EMA;
	d->push[PUSH_RATE] = qat_vk_bits(s->measure_value);
	d->table[1] = s->grid == QAT_GRID_TABLE ? s : NULL;
}

/* ---- quantize ---- */

typedef struct quantize {
	const qat_value *x;
	const qat_scheme *s;
	blocks b;
	int64_t second_rows, seconds;
} quantize;

static vk_dispatch *emit_quantize(vk_site *s, const quantize *q, int shader)
{
	vk_dispatch *d = qat_vk_emit(s, shader);

	if (!d)
		return NULL;
	push_scheme(d, q->x, q->s, &q->b);
	d->push[PUSH_GIVEN] = qat_vk_in(s, 1) != NULL;
	d->push[PUSH_NODE] = (uint32_t)s->n->id;
	d->push[PUSH_SECOND_ROWS] = (uint32_t)q->second_rows;
	d->push[PUSH_SECONDS] = (uint32_t)q->seconds;
	d->push[PUSH_MASK_COLS] = (uint32_t)((qat_vk_cols(q->x) + 7) / 8);
	return d;
}

static void emit_scales(vk_site *s, const quantize *q)
{
	const int64_t n = q->b.rows * q->b.cols;
	const int shader = !measures(s->n) ? SHADER_QUANTIZE_SCALES
			 : q->s->measure == QAT_MEASURE_MSE ? SHADER_QUANTIZE_MSE
			 : SHADER_QUANTIZE_PERCENTILE;
	vk_dispatch *d = emit_quantize(s, q, shader);

	if (!d)
		return;
	d->push[PUSH_RANK] = (uint32_t)qat_percentile_rank(q->s->measure_value, n);
	d->reports = qat_vk_in(s, 1) != NULL;
	d->spec[SPEC_KIND] = n <= SMALL && shader == SHADER_QUANTIZE_SCALES;
	if (d->spec[SPEC_KIND])
		qat_vk_groups(d, q->b.count, ROWS);
	else
		qat_vk_rows(d, q->b.count);
}

/* Workspace: scale, 1 / scale and zero point of each block; then the second level. */
void qat_vk_plan_quantize(vk_site *s)
{
	const qat_value *x = qat_vk_in(s, 0);
	const qat_scheme *scheme_ = scheme(s->n, 0);
	quantize q = { .x = x, .s = scheme_, .second_rows = 1,
		       .b = blocks_of(scheme_->block_rows, scheme_->block_cols, x) };
	vk_dispatch *d;

	if (q.s->scale_rule == QAT_SCALE_TWO_LEVEL) {
		q.second_rows = q.s->second_rows ? q.s->second_rows : x->shape[0];
		q.seconds = x->shape[0] / q.second_rows;
	}
	s->workspace = 4 * (3 * q.b.count + q.seconds);
	if (q.seconds) {
		d = emit_quantize(s, &q, SHADER_QUANTIZE_SECOND);
		if (d)
			qat_vk_rows(d, q.seconds);
	}
	emit_scales(s, &q);
	d = emit_quantize(s, &q, SHADER_QUANTIZE);
	if (d)
		qat_vk_groups(d, x->shape[0] * ((qat_vk_cols(x) + 7) / 8), FLAT);
}

void qat_vk_plan_dequantize(vk_site *s)
{
	const qat_value *x = qat_vk_in(s, 0);
	const qat_scheme *scheme_ = scheme(s->n, 0);
	const blocks b = blocks_of(scheme_->block_rows, scheme_->block_cols, x);
	vk_dispatch *d = qat_vk_emit(s, SHADER_DEQUANTIZE);

	if (!d)
		return;
	push_scheme(d, x, scheme_, &b);
	qat_vk_groups(d, qat_value_elements(x), FLAT);
}

void qat_vk_plan_mask(vk_site *s)
{
	const qat_value *x = qat_vk_in(s, 0);
	vk_dispatch *d = qat_vk_emit(s, SHADER_MASK);

	if (!d)
		return;
	d->push[0] = (uint32_t)qat_value_elements(x);
	d->push[1] = (uint32_t)qat_vk_cols(x);
	d->push[2] = (uint32_t)qat_vk_cols(qat_vk_in(s, 1));
	qat_vk_groups(d, qat_value_elements(x), FLAT);
}

static void observe_counts(vk_site *s, const qat_scheme *scheme_, const blocks *b)
{
	const qat_value *x = qat_vk_in(s, 0);

	s->workspace = 4 * b->count * QAT_COUNTS;
	for (uint32_t kind = 0; kind < 3; kind++) {
		vk_dispatch *d = qat_vk_emit(s, SHADER_OBSERVE_COUNTS);

		if (!d)
			return;
		d->spec[SPEC_KIND] = kind;
		push_scheme(d, x, scheme_, b);
		qat_vk_groups(d, kind == 1 ? qat_value_elements(x) : b->count * QAT_COUNTS, FLAT);
	}
}

void qat_vk_plan_observe(vk_site *s)
{
	const qat_value *x = qat_vk_in(s, 0);
	const qat_scheme *scheme_ = scheme(s->n, 0);
	const blocks b = blocks_of(qat_range_rows(scheme_), qat_range_cols(scheme_), x);
	vk_dispatch *d = qat_vk_emit(s, SHADER_OBSERVE);

	if (!d)
		return;
	push_scheme(d, x, scheme_, &b);
	qat_vk_rows(d, b.count);
	if (qat_vk_out(s, 1))
		observe_counts(s, scheme_, &b);
}

/* ---- products of codes ---- */

/* One side, as struct Side of shaders/qmatmul.comp. */
static void push_side(uint32_t *out, const qat_scheme *s, const qat_value *codes)
{
	blocks b;
	int shift;

	if (!s)
		return;
	b = blocks_of(s->block_rows, s->block_cols, codes);
	if (!qat_code_integer(s, &shift))
		shift = 0;
	out[0] = (uint32_t)b.rows;
	out[1] = (uint32_t)b.cols;
	out[2] = (uint32_t)b.groups;
	out[3] = (uint32_t)s->grid;
	out[4] = (uint32_t)s->ebits;
	out[5] = (uint32_t)s->mbits;
	out[6] = (uint32_t)(s->zero == QAT_ZERO_FLOAT ? s->qmin + (s->qmax - s->qmin + 1) / 2
						      : INTEGER_ZERO);
	out[7] = (uint32_t)shift;
}

/* Whether both sides' codes are integers as they stand, and groups of whole words. */
static int words(const qat_scheme *x, const qat_scheme *w, int64_t k, int64_t group)
{
	return x && x->grid == QAT_GRID_UNIFORM && x->zero != QAT_ZERO_FLOAT &&
	       w->grid == QAT_GRID_UNIFORM && w->zero != QAT_ZERO_FLOAT && k % 4 == 0 &&
	       group % 4 == 0;
}

void qat_vk_plan_qmatmul(vk_site *s)
{
	const qat_value *x = qat_vk_in(s, 0), *w = qat_vk_in(s, 3);
	const qat_scheme *sx = scheme(s->n, 0), *sw = scheme(s->n, 1);
	const int64_t k = qat_vk_cols(w);
	const int64_t group = integers(s->n) ? common_group(sx, sw, k) : k;
	const int tiled = words(sx, sw, k, group);
	vk_dispatch *d = qat_vk_emit(s, !tiled ? SHADER_QMATMUL : s->device->integer_dot
					? SHADER_QMATMUL_DOT : SHADER_QMATMUL_TILE);

	if (!d)
		return;
	d->spec[SPEC_KIND] = !integers(s->n);
	d->push[0] = (uint32_t)x->shape[0];
	d->push[1] = (uint32_t)w->shape[0];
	d->push[2] = (uint32_t)k;
	d->push[3] = (uint32_t)group;
	d->push[4] = sx && qat_scale_is_pow2(sx) && qat_scale_is_pow2(sw);
	d->push[5] = qat_vk_in(s, 6) != NULL;
	d->table[0] = sx && sx->grid == QAT_GRID_TABLE ? sx : NULL;
	d->table[1] = sw->grid == QAT_GRID_TABLE ? sw : NULL;
	push_side(d->push + 6, sx, x);
	push_side(d->push + 14, sw, w);
	if (tiled)
		qat_vk_tiles(d, x->shape[0], w->shape[0]);
	else
		qat_vk_groups(d, x->shape[0] * w->shape[0], FLAT);
}
