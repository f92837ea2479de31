/* bounds.c - the class of every op, and the bound of those that are CLOSE.
 *
 *   EXACT  quantize, dequantize, mask, observe, qmatmul of codes that stand for integers,
 *          and its gradient from codes, cast, embedding and its gradient, split, concat, add,
 *          mul, scale, rope, adamw, adamw8
 *   CLOSE  all others
 *
 * Bounds are first-order bounds of rounding with sums in f32 in any order: n 2^-24 times
 * the sum of the magnitudes of the terms, and a rounding to the type of the output.
 * Exponentials, tanh and erf may be 8 ulp off. Factors are rounded up to powers of two.
 */
#include "bounds.h"

#include <math.h>
#include <string.h>

#include <qatrun/numerics.h>

#define EPS ldexp(1.0, -24)

int qat_op_exact(uint32_t op, const qat_scheme *const schemes[2])
{
	int shift;

	switch (op) {
	case QAT_OP_QUANTIZE:
	case QAT_OP_DEQUANTIZE:
	case QAT_OP_MASK:
	case QAT_OP_OBSERVE:
	case QAT_OP_CAST:
	case QAT_OP_EMBEDDING:
	case QAT_OP_EMBEDDING_GRAD:
	case QAT_OP_SPLIT:
	case QAT_OP_CONCAT:
	case QAT_OP_ADD:
	case QAT_OP_MUL:
	case QAT_OP_SCALE:
	case QAT_OP_ROPE:
	case QAT_OP_ADAMW:
	case QAT_OP_QMATMUL_GRAD:
	case QAT_OP_ADAMW8:
		return 1;
	case QAT_OP_QMATMUL:
		return schemes[0] && qat_code_integer(schemes[0], &shift) &&
		       qat_code_integer(schemes[1], &shift);
	default:
		return 0;
	}
}

int qat_node_exact(const qat_node *n)
{
	const qat_scheme *schemes[2] = { n->schemes[0] ? n->schemes[0]->schemes[0] : NULL,
					 n->schemes[1] ? n->schemes[1]->schemes[0] : NULL };

	return qat_op_exact(n->op, schemes);
}

/* A neighbour in the type of the output. */
static double ulp(uint32_t dtype, double y)
{
	return fabs(y) * (dtype == QAT_BF16 ? ldexp(1.0, -7) : dtype == QAT_F64 ? 0 : 2 * EPS) +
	       1e-44;
}

/* 2^-7 where edges inside an op may have been bf16. */
static double edge(const qat_numbers *x)
{
	return x->c->in[0].dtype == QAT_BF16 ? ldexp(1.0, -7) : 0.0;
}

/* ---- products ---- */

static double matmul(const qat_numbers *x, int64_t i)
{
	const qat_attr *a = &x->c->attr;
	const qat_judged_input *m = &x->c->in[0], *w = &x->c->in[1], *c = &x->c->in[2];
	const int ta = a->matmul.trans_a != 0, tb = a->matmul.trans_b != 0;
	const int64_t k = ta ? m->rows : m->cols, cols = tb ? w->rows : w->cols;
	const int64_t row = i / cols, col = i % cols;
	double sum = c->dtype ? fabs(x->in[2][c->cols ? i : col]) : 0.0;

	for (int64_t j = 0; j < k; j++)
		sum += fabs(x->in[0][ta ? j * m->cols + row : row * m->cols + j] *
			    x->in[1][tb ? col * w->cols + j : j * w->cols + col]);
	return 2 * (double)(k + 1) * EPS * sum;
}

/* Magnitude of a decoded element before a float zero cancels. */
static double decoded(const qat_numbers *x, int side, int64_t row, int64_t col)
{
	const qat_scheme *s = x->c->schemes[side];
	const qat_judged_input *m = &x->c->in[3 * side];
	const int64_t i = row * m->cols + col;
	int64_t b, rows, cols;
	double scale, zero;

	if (!s)
		return fabs(x->in[0][i]);
	rows = s->block_rows ? s->block_rows : m->rows;
	cols = s->block_cols ? s->block_cols : m->cols;
	b = row / rows * (m->cols / cols) + col / cols;
	scale = fabs(x->in[3 * side + 1][b]);
	zero = x->c->in[3 * side + 2].dtype ? fabs(x->in[3 * side + 2][b]) : 0.0;
	if (s->grid == QAT_GRID_FLOAT)
		return scale * s->largest;
	if (s->grid == QAT_GRID_TABLE)
		return scale * fmax(fabs(s->table[0]), fabs(s->table[(1 << s->bits) - 1]));
	return s->zero == QAT_ZERO_FLOAT ? scale * (s->qmax - s->qmin) + zero
					 : scale * (fabs(x->in[3 * side][i]) + zero);
}

static double qmatmul(const qat_numbers *x, int64_t i)
{
	const int64_t k = x->c->in[0].cols, cols = x->c->in[3].rows;
	double sum = x->c->in[6].dtype ? fabs(x->in[6][i % cols]) : 0.0;

	for (int64_t j = 0; j < k; j++)
		sum += decoded(x, 0, i / cols, j) * decoded(x, 1, i % cols, j);
	return 2 * (double)(k + 2) * EPS * sum;
}

/* ---- norms ---- */

static double row_mean(const double *x, int64_t n)
{
	double sum = 0;

	for (int64_t i = 0; i < n; i++)
		sum += fabs(x[i]) / (double)n;
	return sum;
}

static double row_top(const double *x, int64_t n)
{
	double top = 0;

	for (int64_t i = 0; i < n; i++)
		top = fmax(top, fabs(x[i]));
	return top;
}

/* d: how far a mean, and so each x - mean, may be off; xhat then is rstd d off, and the
 * variance twice that. Statistics themselves: which > 0. */
static double norm(const qat_numbers *x, int which, int64_t i)
{
	const int layer = x->c->op == QAT_OP_LAYER_NORM;
	const int64_t n = x->c->in[0].cols, r = which ? i : i / n;
	const double *row = x->in[0] + r * n, rstd = x->out[1 + layer][r];
	const double mean = layer ? x->out[1][r] : 0.0;
	const double d = (double)(n + 2) * EPS * (row_mean(row, n) + EPS * row_top(row, n));
	const double relative = (double)(n + 8) * EPS + (layer ? 4 * rstd * d : 0.0);
	double w, xhat;

	if (which == 1 && layer)
		return 2 * d;
	if (which)
		return relative * rstd;
	w = fabs(x->in[1][i % n]) + (x->c->attr.norm.plus_one ? 1.0 : 0.0);
	xhat = fabs((row[i % n] - mean) * rstd);
	return w * (xhat * 2 * relative + (layer ? 2 * rstd * d : 0.0)) +
	       8 * EPS * (w * (xhat + fabs(mean) * rstd) + fabs(x->out[0][i])) +
	       (layer && x->c->in[2].dtype ? 4 * EPS * fabs(x->in[2][i % n]) : 0.0);
}

static double norm_grad(const qat_numbers *x, int which, int64_t i)
{
	const int layer = x->c->op == QAT_OP_LAYER_NORM_GRAD;
	const int64_t n = x->c->in[0].cols, rows = x->c->in[0].rows;
	const double w = x->top[1] + (x->c->attr.norm.plus_one ? 1.0 : 0.0);
	const double rstd = x->top[2 + layer], dy = x->top[3 + layer];
	const double reach = (x->top[0] + (layer ? x->top[2] : 0.0)) * rstd;
	double sum = 0;

	if (which == 0)
		return (double)(n + 16) * 2 * EPS * rstd * w * dy * (2 + reach * reach) +
		       (x->c->in[4 + layer].dtype ? 4 * EPS * fabs(x->in[4 + layer][i]) : 0.0);
	for (int64_t r = 0; r < rows; r++)
		sum += fabs(x->in[3 + layer][r * n + i]) * (which == 1 ? reach : 1.0);
	return 2 * (double)(rows + 8) * EPS * sum;
}

/* ---- attention ---- */

static double attention(const qat_numbers *x, int which, int64_t i)
{
	const qat_attr *a = &x->c->attr;
	const double d = (double)a->attention.head_dim, t = (double)x->c->length;
	const double score = 2 * (d + 2) * EPS * d * x->top[0] * x->top[1] * a->attention.scale;
	const double p = 2 * score + 4 * (t + 8) * EPS;

	if (which)
		return score + (t + 8) * 2 * EPS + 4 * EPS * fabs(x->out[1][i]);
	return (2 * p + edge(x)) * x->top[2];
}

static double attention_grad(const qat_numbers *x, int which)
{
	const qat_attr *a = &x->c->attr;
	const double d = (double)a->attention.head_dim, t = (double)x->c->length;
	const double rows = t * (double)(a->attention.heads / a->attention.kv_heads);
	const double score = 2 * (d + 2) * EPS * d * x->top[0] * x->top[1] * a->attention.scale;
	const double p = 2 * score + 4 * EPS * (8 + x->top[4]) + edge(x);
	const double dp = d * x->top[5] * (x->top[2] + x->top[3]);
	const double ds = a->attention.scale * dp * (2 * p + 4 * (d + t + 8) * EPS + 2 * edge(x));

	switch (which) {
	case 0:  return ds * x->top[1];
	case 1:  return rows * ds * x->top[0];
	default: return rows * x->top[5] * (2 * p + 4 * (t + 8) * EPS);
	}
}

/* ---- losses ---- */

/* How far a logit may be off, and how large it may be. */
static double logit_error(const qat_numbers *x, int linear, double *size)
{
	const double k = (double)x->c->in[0].cols;

	*size = linear ? k * x->top[0] * x->top[1] : x->top[0];
	return linear ? 2 * (k + 2) * EPS * *size : 0.0;
}

static double loss(const qat_numbers *x, int which, int64_t i)
{
	const int linear = x->c->op == QAT_OP_LINEAR_CROSS_ENTROPY;
	const double v = (double)(linear ? x->c->in[1].rows : x->c->in[0].cols);
	double size;
	const double e = logit_error(x, linear, &size);

	if (which == 2)
		return 0.0;
	return 2 * e + 2 * (v + 16) * EPS + 8 * EPS * (size + fabs(x->out[which][i]));
}

static double loss_grad(const qat_numbers *x, int which, int64_t i)
{
	const int linear = x->c->op == QAT_OP_LINEAR_CROSS_ENTROPY_GRAD;
	const double rows = (double)x->c->in[0].rows, g = x->top[linear ? 4 : 3];
	double size, p;
	const double e = logit_error(x, linear, &size);

	p = e + 8 * EPS * (4 + size + x->top[linear ? 3 : 2]);
	if (!linear)
		return g * p;
	p += edge(x);
	if (which == 0)
		return 2 * g * x->top[1] * (p + 2 * EPS * ((double)x->c->in[1].rows + 2));
	return rows * g * x->top[0] * (p + 2 * EPS * (rows + 2)) +
	       (x->c->in[5].dtype ? 4 * EPS * fabs(x->in[5][i]) : 0.0);
}

/* ---- the rest ---- */

/* An activation is x times a factor up to 1.1, its slope has terms to the third power. */
static double act(const qat_numbers *x, int which, int64_t i)
{
	const double a = fabs(x->in[0][i]), b = x->in[1] ? fabs(x->in[1][i]) : 0.0;
	const double value = 16 * EPS * a, slope = 16 * EPS * (1 + pow(fmin(a, 12.0), 3));

	switch (x->c->op) {
	case QAT_OP_ACT:      return value;
	case QAT_OP_ACT_GRAD: return slope * b;
	case QAT_OP_GLU:      return value * b;
	default:              return (which ? value : slope * b) * fabs(x->in[2][i]);
	}
}

static double reduce_rows(const qat_numbers *x, int64_t i)
{
	const qat_judged_input *m = &x->c->in[0];
	double sum = x->c->in[1].dtype ? fabs(x->in[1][i]) : 0.0;

	for (int64_t r = 0; r < m->rows; r++)
		sum += fabs(x->in[0][r * m->cols + i]);
	return 2 * (double)(m->rows + 1) * EPS * sum;
}

static double by_op(const qat_numbers *x, int which, int64_t i)
{
	switch (x->c->op) {
	case QAT_OP_MATMUL:      return matmul(x, i);
	case QAT_OP_QMATMUL:     return qmatmul(x, i);
	case QAT_OP_LAYER_NORM:
	case QAT_OP_RMS_NORM:    return norm(x, which, i);
	case QAT_OP_LAYER_NORM_GRAD:
	case QAT_OP_RMS_NORM_GRAD: return norm_grad(x, which, i);
	case QAT_OP_ATTENTION:   return attention(x, which, i);
	case QAT_OP_ATTENTION_GRAD: return attention_grad(x, which);
	case QAT_OP_CROSS_ENTROPY:
	case QAT_OP_LINEAR_CROSS_ENTROPY: return loss(x, which, i);
	case QAT_OP_CROSS_ENTROPY_GRAD:
	case QAT_OP_LINEAR_CROSS_ENTROPY_GRAD: return loss_grad(x, which, i);
	case QAT_OP_ACT:
	case QAT_OP_ACT_GRAD:
	case QAT_OP_GLU:
	case QAT_OP_GLU_GRAD:    return act(x, which, i);
	case QAT_OP_REDUCE_ROWS: return reduce_rows(x, i);
	case QAT_OP_SUM_SQUARES: return 1e-12 * x->out[0][0];
	default:                 return 0.0;
	}
}

double qat_op_bound(const qat_numbers *x, int which, int64_t i)
{
	const double b = by_op(x, which, i);

	return x->type_out[which] == QAT_I32 ? b : b + ulp(x->type_out[which], x->out[which][i]);
}

double qat_number(uint32_t dtype, const void *data, int64_t i)
{
	switch (dtype) {
	case QAT_F32:  return ((const float *)data)[i];
	case QAT_BF16: return qat_bf16_to_f32(((const uint16_t *)data)[i]);
	case QAT_F16:  return qat_f16_to_f32(((const uint16_t *)data)[i]);
	case QAT_F64:  return ((const double *)data)[i];
	case QAT_I8:   return ((const int8_t *)data)[i];
	case QAT_U8:   return ((const uint8_t *)data)[i];
	default:       return ((const int32_t *)data)[i];
	}
}

int qat_number_same(uint32_t dtype, const void *a, const void *b, int64_t i)
{
	const int64_t size = qat_dtype_bytes(dtype);

	return !memcmp((const char *)a + i * size, (const char *)b + i * size, (size_t)size) ||
	       (isnan(qat_number(dtype, a, i)) && isnan(qat_number(dtype, b, i)));
}
