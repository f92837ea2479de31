/* quantized.c - codes: made, decoded, multiplied. The arithmetic is numerics.h's; here
 * is where blocks lie.
 *
 * Product of codes, numeric contract 4. Where both sides' codes stand for integers:
 *   y[m, n] = sum over groups j ascending of fl(fl(sx sw) fl(I_j)), each addition one fl
 * with I_j = sum of the products of integers, and each scale first multiplied by the
 * power of two by which its integers are too large (exact). Between two power-of-two
 * scales a term is one rounding of the exact I_j 2^(ex + ew). One group is its term
 * alone; several are added to +0. The bias is one more addition in f32.
 * Where a side has no integers (a float matrix, wide float grids, tables, float zeros)
 * the sum is in double over the decoded values, unrounded: CLOSE.
 */
#include "reference.h"

static const qat_scheme *scheme_of(const ref_call *c, int side)
{
	const qat_scheme_set *set = c->n->schemes[side];
	int64_t i = 0;

	if (!set)
		return NULL;
	if (set->selector >= 0 && set->selector < c->rt->n_selected)
		i = c->rt->selected[set->selector];
	return set->schemes[i >= 0 && i < set->count ? i : 0];
}

static const char *refused(const qat_scheme *s)
{
	if (s->rounding != QAT_ROUND_NEAREST_EVEN)
		return "stochastic rounding is not in the reference";
	if (s->scale_rule < QAT_SCALE_ABSMAX || s->scale_rule > QAT_SCALE_TWO_LEVEL)
		return "the scheme's scale rule is not in the reference";
	if (s->grid == QAT_GRID_TABLE && !s->table)
		return "the scheme's grid is a table that it does not have";
	return NULL;
}

/* Columns of a group over which the scales of both sides are constant; 0 where neither
 * grouping divides the other. */
static int64_t common_group(const qat_scheme *x, const qat_scheme *w, int64_t k)
{
	const int64_t a = x->block_cols ? x->block_cols : k, b = w->block_cols ? w->block_cols : k;

	return a < b ? (b % a ? 0 : a) : (a % b ? 0 : b);
}

const char *ref_schemes_refused(const qat_graph *g, const qat_node *n)
{
	int shift;

	for (int side = 0; side < 2; side++)
		for (int64_t i = 0; n->schemes[side] && i < n->schemes[side]->count; i++)
			if (refused(n->schemes[side]->schemes[i]))
				return refused(n->schemes[side]->schemes[i]);
	if (n->op == QAT_OP_QMATMUL && n->schemes[0] && n->schemes[1]) {
		const qat_scheme *x = n->schemes[0]->schemes[0], *w = n->schemes[1]->schemes[0];

		if (qat_code_integer(x, &shift) && qat_code_integer(w, &shift) &&
		    !common_group(x, w, g->values[n->in[0]]->shape[1]))
			return "groups of the input and of the weight do not nest";
	}
	return NULL;
}

/* ---- blocks ---- */

typedef struct blocks {
	const qat_scheme *s;
	int64_t rows, cols;		/* of a block */
	int64_t groups;			/* blocks side by side */
} blocks;

static blocks blocks_of(const qat_scheme *s, const ref_view *x)
{
	blocks b = { .s = s, .rows = s->block_rows ? s->block_rows : x->rows,
		     .cols = s->block_cols ? s->block_cols : x->cols };

	b.groups = x->cols / b.cols;
	return b;
}

static int64_t block_at(const blocks *b, int64_t row, int64_t col)
{
	return row / b->rows * b->groups + col / b->cols;
}

/* Element i, in row-major order, of block k of a matrix of b->groups * b->cols columns. */
static int64_t element(const blocks *b, int64_t k, int64_t i)
{
	const int64_t row = k / b->groups * b->rows + i / b->cols;

	return row * b->groups * b->cols + k % b->groups * b->cols + i % b->cols;
}

static void set_bit(const ref_view *mask, int64_t row, int64_t col)
{
	((uint8_t *)mask->data)[row * mask->cols + col / 8] |= (uint8_t)(1u << col % 8);
}

/* The scale of the second level that block k has: given, or from all elements under it.
 * *at is where `second` was made for before, -1: nowhere. */
static float second_scale(const ref_call *c, const blocks *b, int64_t k, int64_t *at, float second)
{
	const ref_view *x = &c->in[0];
	const int64_t rows = b->s->second_rows ? b->s->second_rows : x->rows;
	const int64_t group = k / b->groups * b->rows / rows;
	qat_block_stats stats;

	if (b->s->scale_rule != QAT_SCALE_TWO_LEVEL || *at == group)
		return second;
	*at = group;
	if (c->in[1].data)
		return ref_float(&c->in[1], group);
	qat_stats_init(&stats);
	for (int64_t i = group * rows * x->cols; i < (group + 1) * rows * x->cols; i++)
		qat_stats_add(&stats, ref_float(x, i));
	return qat_second_scale(b->s, stats.amax, stats.bad);
}

/* The range of block k by its elements, where it is not all of them. */
static int measure(const ref_call *c, const blocks *b, int64_t k, qat_block_stats *stats)
{
	const int64_t n = b->rows * b->cols;
	float *x;

	if (!qat_measures_blocks(b->s) || c->in[1].data)
		return QAT_OK;
	x = malloc((size_t)n * sizeof *x);
	if (!x)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", c->n->name);
	for (int64_t i = 0; i < n; i++)
		x[i] = ref_float(&c->in[0], element(b, k, i));
	qat_stats_measure(b->s, stats, x, n);
	free(x);
	return QAT_OK;
}

/* Scale and zero point of block k: given, or from its elements and then stored. */
static int block_scale(ref_call *c, const blocks *b, int64_t k, float second, float *scale,
		       float *zero)
{
	qat_block_stats stats;
	int rc;

	qat_stats_init(&stats);
	stats.second = second;
	for (int64_t i = 0; i < b->rows * b->cols; i++)
		qat_stats_add(&stats, ref_float(&c->in[0], element(b, k, i)));
	if (c->in[1].data && stats.bad && c->rt->bad_node == QAT_NONE)
		c->rt->bad_node = c->n->id;
	if (c->in[1].data && b->s->scale_rule != QAT_SCALE_TWO_LEVEL) {
		*zero = (float)ref_or_zero(&c->in[2], k);
		*scale = ref_float(&c->in[1], k);
		return QAT_OK;
	}
	rc = measure(c, b, k, &stats);
	if (rc)
		return rc;
	*scale = qat_block_scale(b->s, &stats, zero);
	ref_put(&c->out[1], k, *scale);
	if (c->out[2].data)
		ref_put(&c->out[2], k, *zero);
	return QAT_OK;
}

int ref_quantize(ref_call *c)
{
	const ref_view *x = &c->in[0], *mask = &c->out[3];
	const blocks b = blocks_of(scheme_of(c, 0), x);
	const int64_t count = x->n / (b.rows * b.cols);
	int64_t second_at = -1;
	float second = 1.0f;

	for (int64_t i = 0; mask->data && i < mask->n; i++)
		((uint8_t *)mask->data)[i] = 0;
	for (int64_t k = 0; k < count; k++) {
		float zero, scale;
		int rc;

		second = second_scale(c, &b, k, &second_at, second);
		rc = block_scale(c, &b, k, second, &scale, &zero);
		if (rc)
			return rc;

		for (int64_t i = 0; i < b.rows * b.cols; i++) {
			const int64_t at = element(&b, k, i);
			int inside;

			((uint8_t *)c->out[0].data)[at] =
				qat_code(b.s, ref_float(x, at), scale, zero, &inside);
			if (mask->data && inside)
				set_bit(mask, at / x->cols, at % x->cols);
		}
	}
	return QAT_OK;
}

int ref_dequantize(ref_call *c)
{
	const ref_view *codes = &c->in[0];
	const blocks b = blocks_of(scheme_of(c, 0), codes);

	for (int64_t i = 0; i < codes->n; i++) {
		const int64_t k = block_at(&b, i / codes->cols, i % codes->cols);

		ref_put(&c->out[0], i, qat_decode(b.s, ((const uint8_t *)codes->data)[i],
						  ref_float(&c->in[1], k),
						  (float)ref_or_zero(&c->in[2], k)));
	}
	return QAT_OK;
}

int ref_mask(ref_call *c)
{
	const ref_view *g = &c->in[0], *mask = &c->in[1];

	for (int64_t i = 0; i < g->n; i++) {
		const int64_t row = i / g->cols, col = i % g->cols;
		const uint8_t byte = ((const uint8_t *)mask->data)[row * mask->cols + col / 8];

		ref_put(&c->out[0], i, byte >> col % 8 & 1 ? ref_get(g, i) : 0.0);
	}
	return QAT_OK;
}

/* A NaN stays in the range: nothing is below or above it. */
int ref_observe(ref_call *c)
{
	const ref_view *x = &c->in[0];
	const qat_scheme *s = scheme_of(c, 0);
	const qat_scheme ranges = { .block_rows = qat_range_rows(s),
				    .block_cols = qat_range_cols(s) };
	const blocks b = blocks_of(&ranges, x);
	const double *before = c->in[2].data;
	float *range = c->out[0].data;
	double *counts = c->out[1].data;

	for (int64_t i = 0; counts && i < c->out[1].n; i++)
		counts[i] = before[i];
	for (int64_t k = 0; k < x->n / (b.rows * b.cols); k++) {
		float lo = INFINITY, hi = -INFINITY;

		for (int64_t i = 0; i < b.rows * b.cols; i++) {
			const float v = ref_float(x, element(&b, k, i));

			lo = v < lo || v != v ? v : lo;
			hi = v > hi || v != v ? v : hi;
			if (counts)
				qat_counts_add(counts + k * QAT_COUNTS, v);
		}
		range[2 * k] = ref_float(&c->in[1], 2 * k);
		range[2 * k + 1] = ref_float(&c->in[1], 2 * k + 1);
		qat_range_add(s, range + 2 * k, lo, hi);
	}
	return QAT_OK;
}

/* ---- products of codes ---- */

/* One side: what codes stand for, scales, zero points. s NULL: a float matrix. */
typedef struct side {
	const qat_scheme *s;
	const ref_view *codes, *scale, *zero;
	blocks b;
	int shift;			/* integers are 2^shift too large */
} side;

static side side_of(const ref_call *c, int which)
{
	side x = { .s = scheme_of(c, which), .codes = &c->in[3 * which],
		   .scale = &c->in[3 * which + 1], .zero = &c->in[3 * which + 2] };

	if (x.s)
		x.b = blocks_of(x.s, x.codes);
	return x;
}

static int64_t integer(const side *x, int64_t row, int64_t col)
{
	const int64_t i = row * x->codes->cols + col;
	const uint8_t code = ((const uint8_t *)x->codes->data)[i];

	if (x->s->grid == QAT_GRID_FLOAT)
		return (int64_t)(qat_float_value(x->s, code) * qat_pow2(x->shift));
	return (int8_t)code - (int64_t)ref_or_zero(x->zero, block_at(&x->b, row, col));
}

/* Where one scale is constant, scales come once a group: column g * group. */
static float group_scale(const side *x, int64_t row, int64_t col)
{
	return ref_float(x->scale, block_at(&x->b, row, col)) * qat_pow2(-x->shift);
}

static float group_term(const side *x, const side *w, int64_t m, int64_t n, int64_t first,
			const int64_t *integers[2], int64_t group)
{
	const float sx = group_scale(x, m, first), sw = group_scale(w, n, first);
	int64_t sum = 0;

	for (int64_t k = first; k < first + group; k++)
		sum += integers[0][k] * integers[1][k];
	if (qat_scale_is_pow2(x->s) && qat_scale_is_pow2(w->s))
		return (float)((double)sx * (double)sw * (double)sum);
	return sx * sw * (float)sum;
}

static int64_t *integers_of(const ref_call *c, const side *x)
{
	int64_t *p = calloc((size_t)x->codes->n + 1, sizeof *p);

	if (!p)
		qat_fail(QAT_ENOMEM, "%s: out of memory", c->n->name);
	for (int64_t i = 0; p && i < x->codes->n; i++)
		p[i] = integer(x, i / x->codes->cols, i % x->codes->cols);
	return p;
}

static int integer_product(ref_call *c, const side *x, const side *w)
{
	const int64_t k = w->codes->cols, group = common_group(x->s, w->s, k);
	int64_t *xi = integers_of(c, x), *wi = xi ? integers_of(c, w) : NULL;
	const int rc = wi ? QAT_OK : QAT_ENOMEM;

	for (int64_t i = 0; wi && i < c->out[0].n; i++) {
		const int64_t m = i / w->codes->rows, n = i % w->codes->rows;
		const int64_t *integers[2] = { xi + m * k, wi + n * k };
		float y = group == k ? group_term(x, w, m, n, 0, integers, k) : 0.0f;

		for (int64_t first = 0; group < k && first < k; first += group)
			y += group_term(x, w, m, n, first, integers, group);
		if (c->in[6].data)
			y += ref_float(&c->in[6], n);
		ref_put(&c->out[0], i, y);
	}
	free(xi);
	free(wi);
	return rc;
}

/* x^ in double, without the roundings of qat_decode. */
static double decoded(const side *x, int64_t i)
{
	const qat_scheme *s = x->s;
	int64_t k;
	double scale, zero;
	uint8_t code;

	if (!s)
		return ref_get(x->codes, i);
	k = block_at(&x->b, i / x->codes->cols, i % x->codes->cols);
	scale = ref_get(x->scale, k);
	zero = ref_or_zero(x->zero, k);
	code = ((const uint8_t *)x->codes->data)[i];
	if (s->grid == QAT_GRID_FLOAT)
		return scale * qat_float_value(s, code);
	if (s->grid == QAT_GRID_TABLE)
		return scale * s->table[code];
	if (s->zero == QAT_ZERO_FLOAT)
		return scale * ((int8_t)code - s->qmin - (s->qmax - s->qmin + 1) / 2) + zero;
	return scale * ((int8_t)code - zero);
}

static double *all_decoded(const ref_call *c, const side *x)
{
	double *p = ref_doubles(c, x->codes->n);

	for (int64_t i = 0; p && i < x->codes->n; i++)
		p[i] = decoded(x, i);
	return p;
}

static int float_product(ref_call *c, const side *x, const side *w)
{
	const int64_t k = w->codes->cols;
	double *xv = all_decoded(c, x), *wv = xv ? all_decoded(c, w) : NULL;
	const int rc = wv ? QAT_OK : QAT_ENOMEM;

	for (int64_t i = 0; wv && i < c->out[0].n; i++) {
		const double *a = xv + i / w->codes->rows * k, *b = wv + i % w->codes->rows * k;
		double sum = 0.0;

		for (int64_t j = 0; j < k; j++)
			sum += a[j] * b[j];
		ref_put(&c->out[0], i, sum + ref_or_zero(&c->in[6], i % w->codes->rows));
	}
	free(xv);
	free(wv);
	return rc;
}

int ref_qmatmul(ref_call *c)
{
	side x = side_of(c, 0), w = side_of(c, 1);

	if (x.s && qat_code_integer(x.s, &x.shift) && qat_code_integer(w.s, &w.shift))
		return integer_product(c, &x, &w);
	return float_product(c, &x, &w);
}
