/* qmm.c - plans of quantized products, and which kernel runs one. Compiled once. */
#include <string.h>

#include <qatrun/plugin.h>
#include <qatrun/numerics.h>

#include "../dense.h"

int qat_quantize_supports(const qat_scheme *s, int64_t rows, int64_t cols)
{
	const int uniform = s->grid == QAT_GRID_UNIFORM;

	if (s->scale_rule < QAT_SCALE_ABSMAX || s->scale_rule > QAT_SCALE_TWO_LEVEL ||
	    s->rounding != QAT_ROUND_NEAREST_EVEN || s->bits < 1 || s->bits > 8)
		return 0;
	if (s->block_rows < 0 || (s->block_rows && rows % s->block_rows))
		return 0;
	if (s->block_cols < 0 || (s->block_cols && cols % s->block_cols))
		return 0;
	if (s->scale_rule == QAT_SCALE_TWO_LEVEL && (s->second_rows > 1 || s->block_rows != 1))
		return 0;
	if (uniform)
		return s->qmin <= s->qmax && s->qmin >= -128 && s->qmax <= 127;
	if (s->grid == QAT_GRID_TABLE)
		return s->table != NULL;
	return s->grid == QAT_GRID_FLOAT && s->ebits >= 1 && s->ebits <= 6 && s->mbits >= 0 &&
	       1 + s->ebits + s->mbits <= 8;
}

/* Largest magnitude of a code's integer, zero point subtracted. */
static int64_t largest_integer(const qat_scheme *s, int shift)
{
	if (s->grid == QAT_GRID_FLOAT)
		return (int64_t)(s->largest * qat_pow2(shift));
	if (s->zero == QAT_ZERO_INT)
		return s->qmax - s->qmin;
	return -s->qmin > s->qmax ? -s->qmin : s->qmax;
}

/* A zero point that is subtracted while packing leaves integers that must fit. */
static int folds(const qat_scheme *s, int element)
{
	return s->zero != QAT_ZERO_INT || element > 1 || s->qmax - s->qmin <= 127;
}

static int64_t align64(int64_t n)
{
	return (n + 63) / 64 * 64;
}

static void lay_out(qat_qmm *p, const qat_qmm_kernels *kn)
{
	const int64_t width = 2 * kn->lanes, cols = (p->n + width - 1) / width * width;
	const int64_t codes = 64 + cols * p->groups * p->group4 * kn->element;
	const int64_t side = align64(cols * p->groups * 4);

	p->off_scale = align64(codes);
	p->off_zero = p->off_scale + side;
	p->off_sum = p->off_zero + (p->w_zero ? side : 0);
	p->weight_bytes = p->off_sum + (p->x_zero ? side : 0);
}

/* ---- floats times codes that are bf16 numbers ---- */

/* Codes on their own, and on one block: integers less their zero point, or floats. */
static int are_bf16(const qat_scheme *w)
{
	if (w->grid == QAT_GRID_FLOAT)
		return w->zero == QAT_ZERO_NONE;
	return w->grid == QAT_GRID_UNIFORM && w->zero != QAT_ZERO_FLOAT && folds(w, 1);
}

static int64_t scales_row(const qat_qmm *p)
{
	return (p->n + 15) / 16 * 16;
}

/* Codes as they are, less their zero points, then scales, [groups][scales_row]. */
static int plan_bf16(const qat_dense *d, qat_qmm *p, uint32_t x_dtype)
{
	const int64_t group = p->ws->block_cols ? p->ws->block_cols : p->k;
	const int64_t unit = qat_dense_makes_bf16(d) ? qat_dense_kernels(d)->gemm_bf16->scales : 0;

	if (p->xs || x_dtype != QAT_BF16 || !unit || group % unit || !are_bf16(p->ws))
		return 0;
	p->kind = QAT_QMM_BF16;
	p->group = group;
	p->groups = p->k / group;
	p->off_scale = align64(p->n * p->k);
	p->weight_bytes = align64(p->off_scale + 4 * (p->groups * scales_row(p) + 64));
	return 1;
}

static int64_t weight_block(const qat_qmm *p, int64_t row, int64_t group)
{
	return (p->ws->block_rows ? row / p->ws->block_rows : 0) * p->groups + group;
}

static void pack_row(const qat_qmm *p, int8_t *out, const int8_t *codes, const int8_t *zero,
		     int64_t row)
{
	if (!zero && out != codes)
		memcpy(out, codes, (size_t)p->k);
	for (int64_t k = 0; zero && k < p->k; k++)
		out[k] = (int8_t)(codes[k] - zero[weight_block(p, row, k / p->group)]);
}

static void pack_bf16(const qat_qmm *p, char *packed, const int8_t *codes, const float *scale,
		      const int8_t *zero)
{
	float *out = (float *)(void *)(packed + p->off_scale);
	const int64_t ld = scales_row(p);

#pragma omp parallel for schedule(static)
	for (int64_t r = 0; r < p->n; r++) {
		pack_row(p, (int8_t *)packed + r * p->k, codes + r * p->k, zero, r);
		for (int64_t g = 0; g < p->groups; g++)
			out[g * ld + r] = scale[weight_block(p, r, g)];
	}
	for (int64_t g = 0; g < p->groups; g++)
		memset(out + g * ld + p->n, 0, (size_t)(ld - p->n) * sizeof *out);
	memset(out + p->groups * ld, 0, 64 * sizeof *out);
}

static int run_bf16(qat_dense *d, const qat_qmm *p, const qat_qmm_args *a)
{
	static const float one = 1.0f;
	qat_scheme scheme = *p->ws;
	const qat_dequantize_args codes = { .scheme = &scheme, .rows = p->n, .cols = p->k,
					    .codes = a->weight, .scale = &one };
	const qat_gemm_args g = {
		.m = a->m, .n = p->n, .k = p->k, .a = qat_src_of(a->x, QAT_BF16), .lda = p->k,
		.b = qat_src_of(NULL, QAT_BF16), .ldb = p->k, .trans_b = 1, .codes_b = &codes,
		.bias = a->bias, .y = a->y, .ldy = a->ldy, .bf16 = 1,
		.scale_b = (const float *)(const void *)((const char *)a->weight + p->off_scale),
		.scale_group = p->group, .ld_scale = scales_row(p),
	};

	scheme.block_rows = scheme.block_cols = 0;
	scheme.zero = QAT_ZERO_NONE;
	return qat_dense_matmul(d, &g);
}

/* ---- plans ---- */

/* Columns of the finer of the two groupings; 0 where neither divides the other. */
static int64_t common_group(int64_t k, const qat_scheme *x, const qat_scheme *w)
{
	const int64_t gx = x->block_cols ? x->block_cols : k;
	const int64_t gw = w->block_cols ? w->block_cols : k;
	const int64_t fine = gx < gw ? gx : gw, coarse = gx < gw ? gw : gx;

	return coarse % fine ? 0 : fine;
}

static void plan_float(qat_qmm *p)
{
	p->kind = QAT_QMM_FLOAT;
	p->weight_bytes = align64(4 * p->n * p->k);
}

static void plan_integer(qat_qmm *p, const qat_qmm_kernels *kn)
{
	const qat_scheme *x = p->xs, *w = p->ws;
	const int64_t most = largest_integer(x, p->x_shift) * largest_integer(w, p->w_shift);

	p->groups = p->k / p->group;
	p->group4 = (p->group + kn->step - 1) / kn->step * kn->step;
	p->kind = most <= INT32_MAX / p->group ? QAT_QMM_INT : QAT_QMM_INT64;
	p->w_zero = !folds(w, kn->element);
	p->x_zero = !folds(x, kn->element);
	p->x_direct = kn->element == 1 && x->grid == QAT_GRID_UNIFORM && p->group4 == p->group &&
		      (x->zero != QAT_ZERO_INT || p->x_zero);
	lay_out(p, kn);
}

int qat_qmm_plan(const qat_dense *d, qat_qmm *out, int64_t n, int64_t k, const qat_scheme *x,
		 uint32_t x_dtype, const qat_scheme *w)
{
	const qat_qmm_kernels *kn = qat_dense_kernels(d)->qmm;

	memset(out, 0, sizeof *out);
	out->xs = x;
	out->ws = w;
	out->n = n;
	out->k = k;
	if (k < 1 || n < 1)
		return qat_fail(QAT_EINVAL, "quantized product of %lld x %lld: empty", (long long)n,
				(long long)k);
	if (plan_bf16(d, out, x_dtype))
		return QAT_OK;
	if (!x || !qat_code_integer(x, &out->x_shift) || !qat_code_integer(w, &out->w_shift)) {
		plan_float(out);
		return QAT_OK;
	}
	out->group = common_group(k, x, w);
	if (!out->group)
		return qat_fail(QAT_ENOTSUP, "groups of %lld columns in the input and of %lld in "
				"the weight do not nest: make one a multiple of the other",
				(long long)x->block_cols, (long long)w->block_cols);
	plan_integer(out, kn);
	return QAT_OK;
}

static void widen(const qat_dense *d, const qat_scheme *s, float *out, int64_t rows, int64_t cols,
		  const void *codes, const float *scale, const void *zero)
{
	const qat_dequantize_args a = {
		.scheme = s, .rows = rows, .cols = cols, .codes = codes, .scale = scale,
		.zero = zero, .y = qat_dst_of(out, QAT_F32),
	};

	qat_dense_kernels(d)->quantize->dequantize(&a);
}

void qat_qmm_pack(const qat_dense *d, const qat_qmm *p, void *packed, const void *codes,
		  const float *scale, const void *zero)
{
	if (p->kind == QAT_QMM_FLOAT)
		widen(d, p->ws, packed, p->n, p->k, codes, scale, zero);
	else if (p->kind == QAT_QMM_BF16)
		pack_bf16(p, packed, codes, scale, zero);
	else
		qat_dense_kernels(d)->qmm->pack(p, packed, codes, scale, zero);
}

void qat_qmm_pack_along(const qat_dense *d, const qat_qmm *p, void *packed, const void *codes)
{
	qat_dense_kernels(d)->qmm->pack_along(p, packed, codes);
}

int qat_qmm_packs_in_place(const qat_qmm *p)
{
	return p->kind == QAT_QMM_BF16 && p->ws->zero != QAT_ZERO_INT;
}

int qat_qmm_unpacks(const qat_qmm *p)
{
	if (p->kind == QAT_QMM_BF16)
		return qat_qmm_packs_in_place(p);
	return p->kind != QAT_QMM_FLOAT && p->ws->grid == QAT_GRID_UNIFORM &&
	       (p->ws->zero != QAT_ZERO_INT || p->w_zero);
}

void qat_qmm_unpack(const qat_dense *d, const qat_qmm *p, void *codes, const void *packed)
{
	if (p->kind == QAT_QMM_BF16)
		memcpy(codes, packed, (size_t)(p->n * p->k));
	else
		qat_dense_kernels(d)->qmm->unpack(p, codes, packed);
}

int64_t qat_qmm_workspace(const qat_dense *d, const qat_qmm *p, int64_t m)
{
	if (p->kind == QAT_QMM_BF16)
		return 0;
	if (p->kind == QAT_QMM_FLOAT)
		return align64(4 * m * p->k);
	return qat_dense_kernels(d)->qmm->workspace(p, m);
}

static int run_float(qat_dense *d, const qat_qmm *p, const qat_qmm_args *a)
{
	qat_gemm_args g = {
		.m = a->m, .n = p->n, .k = p->k, .lda = p->k, .ldb = p->k, .trans_b = 1,
		.b = qat_src_of(a->weight, QAT_F32), .bias = a->bias, .y = a->y, .ldy = a->ldy,
	};

	g.a = qat_src_of(a->workspace, QAT_F32);
	if (p->xs)
		widen(d, p->xs, a->workspace, a->m, p->k, a->x, a->x_scale, a->x_zero);
	else if (a->x_dtype == QAT_F32)
		g.a = qat_src_of(a->x, QAT_F32);
	else
		qat_dense_kernels(d)->quantize->cast(qat_dst_of(a->workspace, QAT_F32),
						     qat_src_of(a->x, a->x_dtype), a->m * p->k);
	return qat_dense_matmul(d, &g);
}

int qat_qmm_run(qat_dense *d, const qat_qmm *p, const qat_qmm_args *a)
{
	if (p->kind == QAT_QMM_FLOAT)
		return run_float(d, p, a);
	if (p->kind == QAT_QMM_BF16)
		return run_bf16(d, p, a);
	qat_dense_kernels(d)->qmm->run(p, a);
	return QAT_OK;
}
