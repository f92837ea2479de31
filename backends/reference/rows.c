/* rows.c - row by row: tables, rotary positions, columns, norms. */
#include "reference.h"

/* An id outside the table gives a row of NaN. */
int ref_embedding(ref_call *c)
{
	const ref_view *table = &c->in[0], *y = &c->out[0];

	for (int64_t i = 0; i < y->n; i++) {
		const int32_t id = ref_id(&c->in[1], i / y->cols);

		ref_put(y, i, id < 0 || id >= table->rows ? NAN
			: ref_get(table, id * table->cols + i % y->cols));
	}
	return QAT_OK;
}

/* In f32, in order of the tokens, on top of the addend: EXACT. */
int ref_embedding_grad(ref_call *c)
{
	const ref_view *dy = &c->in[1];
	float *y = c->out[0].data;

	for (int64_t i = 0; i < c->out[0].n; i++)
		y[i] = (float)ref_or_zero(&c->in[2], i);
	for (int64_t i = 0; i < dy->n; i++) {
		const int32_t id = ref_id(&c->in[0], i / dy->cols);

		if (id >= 0 && id < c->out[0].rows)
			y[id * dy->cols + i % dy->cols] += ref_float(dy, i);
	}
	return QAT_OK;
}

/* In f32: fl(fl(a cos) - fl(b sin)), fl(fl(b cos) + fl(a sin)). The inverse negates sin. */
int ref_rope(ref_call *c)
{
	const ref_view *x = &c->in[0], *y = &c->out[0];
	const int64_t d = c->n->attr.rope.head_dim, half = d / 2;
	const float sign = c->n->attr.rope.inverse ? -1.0f : 1.0f;
	const int64_t first = c->rt->position;

	if (first < 0 || first > c->in[1].rows - c->g->length)
		return qat_fail(QAT_EINVAL, "%s: position %lld is outside of its tables",
				c->n->name, (long long)first);
	for (int64_t i = 0; i < x->n / 2; i++) {
		const int64_t at = i / half * d + i % half;
		const int64_t t = first + at / x->cols % c->g->length;
		const float cosine = ref_float(&c->in[1], t * half + i % half);
		const float sine = sign * ref_float(&c->in[2], t * half + i % half);
		const float a = ref_float(x, at), b = ref_float(x, at + half);
		const float ac = a * cosine, bs = b * sine, bc = b * cosine, as = a * sine;

		ref_put(y, at, ac - bs);
		ref_put(y, at + half, bc + as);
	}
	return QAT_OK;
}

/* ---- columns ---- */

static void copy_columns(const ref_view *to, int64_t at, const ref_view *from, int64_t first,
			 int64_t width)
{
	for (int64_t r = 0; r < to->rows; r++)
		for (int64_t i = 0; i < width; i++)
			ref_put(to, r * to->cols + at + i,
				ref_get(from, r * from->cols + first + i));
}

int ref_split(ref_call *c)
{
	int64_t first = 0;

	for (int64_t i = 0; i < c->n->attr.split.count; i++) {
		const int64_t width = c->n->attr.split.width[i];

		if (c->out[i].data)
			copy_columns(&c->out[i], 0, &c->in[0], first, width);
		first += width;
	}
	return QAT_OK;
}

int ref_concat(ref_call *c)
{
	int64_t at = 0;

	for (int64_t i = 0; i < c->n->n_in; i++) {
		copy_columns(&c->out[0], at, &c->in[i], 0, c->in[i].cols);
		at += c->in[i].cols;
	}
	return QAT_OK;
}

int ref_reduce_rows(ref_call *c)
{
	const ref_view *x = &c->in[0];

	for (int64_t i = 0; i < x->cols; i++) {
		double sum = 0.0;

		for (int64_t r = 0; r < x->rows; r++)
			sum += ref_get(x, r * x->cols + i);
		ref_put(&c->out[0], i, sum + ref_or_zero(&c->in[1], i));
	}
	return QAT_OK;
}

/* ---- norms ----
 *   xhat = (x - mean) rstd, mean 0 for rms;  y = w xhat + b
 *   dx = rstd (w dy - [layer: mean(w dy)] - xhat mean(w dy xhat)) + residual */

static double weight(const ref_call *c, int64_t i)
{
	return ref_get(&c->in[1], i) + (c->n->attr.norm.plus_one ? 1.0 : 0.0);
}

static double mean_of(const ref_view *x, int64_t row)
{
	double sum = 0.0;

	for (int64_t i = 0; i < x->cols; i++)
		sum += ref_get(x, row * x->cols + i);
	return sum / (double)x->cols;
}

static double rstd_of(const ref_view *x, int64_t row, double mean, double epsilon)
{
	double sum = 0.0;

	for (int64_t i = 0; i < x->cols; i++) {
		const double d = ref_get(x, row * x->cols + i) - mean;

		sum += d * d;
	}
	return 1.0 / sqrt(sum / (double)x->cols + epsilon);
}

static int norm(ref_call *c, int layer)
{
	const ref_view *x = &c->in[0];

	for (int64_t r = 0; r < x->rows; r++) {
		const double mean = layer ? mean_of(x, r) : 0.0;
		const double rstd = rstd_of(x, r, mean, c->n->attr.norm.epsilon);

		if (layer)
			ref_put(&c->out[1], r, mean);
		ref_put(&c->out[layer ? 2 : 1], r, rstd);
		for (int64_t i = 0; i < x->cols; i++)
			ref_put(&c->out[0], r * x->cols + i, weight(c, i) * rstd *
				(ref_get(x, r * x->cols + i) - mean) +
				(layer ? ref_or_zero(&c->in[2], i) : 0.0));
	}
	return QAT_OK;
}

int ref_layer_norm(ref_call *c) { return norm(c, 1); }
int ref_rms_norm(ref_call *c) { return norm(c, 0); }

/* One row: dx, and shares of dw and db in sums [2, C]. */
static void norm_row(const ref_call *c, int64_t r, int layer, double *sums)
{
	const ref_view *x = &c->in[0], *dy = &c->in[3 + layer], *residual = &c->in[4 + layer];
	const int64_t n = x->cols, at = r * n;
	const double mean = layer ? ref_get(&c->in[2], r) : 0.0;
	const double rstd = ref_get(&c->in[2 + layer], r);
	double along = 0.0, flat = 0.0;

	for (int64_t i = 0; i < n; i++) {
		const double g = ref_get(dy, at + i), xhat = (ref_get(x, at + i) - mean) * rstd;

		sums[i] += g * xhat;
		sums[n + i] += g;
		along += g * weight(c, i) * xhat / (double)n;
		flat += g * weight(c, i) / (double)n;
	}
	for (int64_t i = 0; c->out[0].data && i < n; i++) {
		const double xhat = (ref_get(x, at + i) - mean) * rstd;
		const double g = ref_get(dy, at + i) * weight(c, i);

		ref_put(&c->out[0], at + i, rstd * (g - (layer ? flat : 0.0) - xhat * along) +
			ref_or_zero(residual, at + i));
	}
}

static int norm_grad(ref_call *c, int layer)
{
	const int64_t n = c->in[0].cols;
	double *sums = ref_doubles(c, 2 * n);

	if (!sums)
		return QAT_ENOMEM;
	for (int64_t r = 0; r < c->in[0].rows; r++)
		norm_row(c, r, layer, sums);
	for (int k = 0; k < 1 + layer; k++)
		for (int64_t i = 0; c->out[1 + k].data && i < n; i++)
			ref_put(&c->out[1 + k], i, sums[k * n + i]);
	free(sums);
	return QAT_OK;
}

int ref_layer_norm_grad(ref_call *c) { return norm_grad(c, 1); }
int ref_rms_norm_grad(ref_call *c) { return norm_grad(c, 0); }
