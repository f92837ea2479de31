/* norm.c - layer norm and rms norm. Sums over channels in f32, sixteen partial sums
 * added in order, so that every ISA adds alike. Per ISA.
 *
 *   layer: xhat = (x - mean) rstd, rstd = 1 / sqrt(var + epsilon);  rms: mean = 0
 *   y = w xhat + b
 *   dx = rstd (w dy - [layer: mean(w dy)] - xhat mean(w dy xhat))
 *   dw = sum over rows dy xhat, db = sum over rows dy: chunks of rows, added in order
 */
#include "kernels.h"
#include "simd.h"

enum { WIDE = 16, ROW_CHUNK = 32 };

static float fold(const float *lane)
{
	float sum = 0.0f;

	for (int j = 0; j < WIDE; j++)
		sum += lane[j];
	return sum;
}

static float sum_of(const float *restrict x, int64_t n)
{
	float lane[WIDE] = { 0 };
	int64_t i = 0;

	for (; i + WIDE <= n; i += WIDE)
		for (int j = 0; j < WIDE; j++)
			lane[j] += x[i + j];
	for (int j = 0; i < n; i++, j++)
		lane[j] += x[i];
	return fold(lane);
}

/* Sum of (x - mean)^2. */
static float squares_of(const float *restrict x, float mean, int64_t n)
{
	float lane[WIDE] = { 0 };
	int64_t i = 0;

	for (; i + WIDE <= n; i += WIDE)
		for (int j = 0; j < WIDE; j++) {
			const float d = x[i + j] - mean;

			lane[j] += d * d;
		}
	for (int j = 0; i < n; i++, j++)
		lane[j] += (x[i] - mean) * (x[i] - mean);
	return fold(lane);
}

static float dot_of(const float *restrict a, const float *restrict b, int64_t n)
{
	float lane[WIDE] = { 0 };
	int64_t i = 0;

	for (; i + WIDE <= n; i += WIDE)
		for (int j = 0; j < WIDE; j++)
			lane[j] += a[i + j] * b[i + j];
	for (int j = 0; i < n; i++, j++)
		lane[j] += a[i] * b[i];
	return fold(lane);
}

/* A row is widened whole: channels of a model are few. Longer rows go in pieces. */
enum { PIECE = 2048 };

static void row_stats(const qat_norm_args *a, int64_t r)
{
	const int64_t c = a->channels, at = r * c;
	float buf[PIECE], mean = 0.0f, var = 0.0f;

	for (int64_t i = 0; a->centered && i < c; i += PIECE) {
		const int64_t n = min64(PIECE, c - i);

		mean += sum_of(view_floats(buf, a->x.data, a->x.dtype, at + i, n), n);
	}
	mean /= (float)c;
	for (int64_t i = 0; i < c; i += PIECE) {
		const int64_t n = min64(PIECE, c - i);

		var += squares_of(view_floats(buf, a->x.data, a->x.dtype, at + i, n), mean, n);
	}
	if (a->mean)
		a->mean[r] = mean;
	a->rstd[r] = 1.0f / __builtin_sqrtf(var / (float)c + (float)a->epsilon);
}

/* Weights from channel i on, 1 added where the op says so. */
static const float *weights(const qat_norm_args *a, float *buf, int64_t i, int64_t n)
{
	const float *w = view_floats(buf, a->w.data, a->w.dtype, i, n);

	if (!a->plus_one)
		return w;
	for (int64_t j = 0; j < n; j++)
		buf[j] = 1.0f + w[j];
	return buf;
}

static float row_mean(const qat_norm_args *a, int64_t r)
{
	return a->centered ? a->mean[r] : 0.0f;
}

static void row_forward(const qat_norm_args *a, int64_t r)
{
	float xb[PIECE], wb[PIECE], bb[PIECE], y[PIECE];

	row_stats(a, r);
	for (int64_t i = 0; i < a->channels; i += PIECE) {
		const int64_t n = min64(PIECE, a->channels - i), at = r * a->channels + i;
		const float *x = view_floats(xb, a->x.data, a->x.dtype, at, n);
		const float *w = weights(a, wb, i, n);
		const float mean = a->centered ? a->mean[r] : 0.0f, rstd = a->rstd[r];

		for (int64_t j = 0; j < n; j++)
			y[j] = (x[j] - mean) * rstd * w[j];
		if (a->b.data) {
			const float *b = view_floats(bb, a->b.data, a->b.dtype, i, n);

			for (int64_t j = 0; j < n; j++)
				y[j] += b[j];
		}
		store_floats(a->y.data, a->y.dtype, at, y, n);
	}
}

static void norm_run(const qat_norm_args *a)
{
	if (is_shared_out()) {
		for (int64_t r = 0; r < a->rows; r++)
			row_forward(a, r);
		return;
	}
#pragma omp parallel for schedule(static)
	for (int64_t r = 0; r < a->rows; r++)
		row_forward(a, r);
}

/* One piece of a row in the gradient: xhat, w dy, dy as floats. */
typedef struct grad_piece {
	float xhat[PIECE], wdy[PIECE], dyb[PIECE], wb[PIECE], out[PIECE];
	const float *dy;
} grad_piece;

static void load_piece(grad_piece *p, const qat_norm_args *a, int64_t r, int64_t i, int64_t n)
{
	const int64_t at = r * a->channels + i;
	const float mean = row_mean(a, r), rstd = a->rstd[r];
	const float *x = view_floats(p->xhat, a->x.data, a->x.dtype, at, n);
	const float *w = weights(a, p->wb, i, n);

	p->dy = view_floats(p->dyb, a->dy.data, a->dy.dtype, at, n);
	for (int64_t j = 0; j < n; j++) {
		p->xhat[j] = (x[j] - mean) * rstd;
		p->wdy[j] = w[j] * p->dy[j];
	}
}

static void finish_piece(grad_piece *p, const qat_norm_args *a, int64_t r, int64_t i, int64_t n,
			 float m1, float m2)
{
	const int64_t at = r * a->channels + i;
	const float rstd = a->rstd[r];

	for (int64_t j = 0; j < n; j++)
		p->out[j] = rstd * (p->wdy[j] - m1 - p->xhat[j] * m2);
	if (a->residual.data) {
		const float *res = view_floats(p->dyb, a->residual.data, a->residual.dtype, at, n);

		for (int64_t j = 0; j < n; j++)
			p->out[j] += res[j];
	}
	store_floats(a->dx.data, a->dx.dtype, at, p->out, n);
}

static void row_grad(grad_piece *p, const qat_norm_args *a, int64_t r, float *dw, float *db)
{
	const int64_t c = a->channels;
	float m1 = 0.0f, m2 = 0.0f;

	for (int64_t i = 0; i < c; i += PIECE) {
		const int64_t n = min64(PIECE, c - i);

		load_piece(p, a, r, i, n);
		if (a->centered)
			m1 += sum_of(p->wdy, n);
		m2 += dot_of(p->wdy, p->xhat, n);
		for (int64_t j = 0; j < n; j++)
			dw[i + j] += p->dy[j] * p->xhat[j];
		for (int64_t j = 0; db && j < n; j++)
			db[i + j] += p->dy[j];
	}
	m1 /= (float)c;
	m2 /= (float)c;
	for (int64_t i = 0; i < c; i += PIECE) {
		const int64_t n = min64(PIECE, c - i);

		if (c > PIECE)
			load_piece(p, a, r, i, n);
		finish_piece(p, a, r, i, n, m1, m2);
	}
}

static int64_t norm_grad_workspace(int64_t rows, int64_t channels)
{
	return 2 * 4 * div_up(rows, ROW_CHUNK) * channels;
}

/* out [c] = sum of the chunks' partial sums, in order. */
static void add_chunks(float *out, const float *part, int64_t chunks, int64_t stride, int64_t c)
{
	memset(out, 0, (size_t)c * 4);
	for (int64_t k = 0; k < chunks; k++)
		for (int64_t i = 0; i < c; i++)
			out[i] += part[k * stride + i];
}

static void norm_grad(const qat_norm_args *a)
{
	const int64_t chunks = div_up(a->rows, ROW_CHUNK), c = a->channels;
	float *part = a->workspace;

#pragma omp parallel for schedule(static)
	for (int64_t k = 0; k < chunks; k++) {
		const int64_t end = min64(a->rows, (k + 1) * ROW_CHUNK);
		float *dw = part + 2 * k * c, *db = a->db ? dw + c : NULL;
		grad_piece p;

		memset(dw, 0, (size_t)(2 * c) * 4);
		for (int64_t r = k * ROW_CHUNK; r < end; r++)
			row_grad(&p, a, r, dw, db);
	}
	add_chunks(a->dw, part, chunks, 2 * c, c);
	if (a->db)
		add_chunks(a->db, part + c, chunks, 2 * c, c);
}

extern const qat_norm_kernels QAT_NAME(qat_norm);
const qat_norm_kernels QAT_NAME(qat_norm) = { norm_run, norm_grad_workspace, norm_grad };
