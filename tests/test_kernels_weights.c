/* Products of bf16 floats with codes of weights, against sums in double, within the bound of
 * the numeric contract (4): 2 K 2^-24 sum |a w|. */
#include "test_kernels.h"

#define SCHEME(g, lo, hi, br, bc, ...) \
	{ .size = sizeof(qat_scheme), .grid = QAT_GRID_##g, .bits = 8, .qmin = lo, .qmax = hi, \
	  .block_rows = br, .block_cols = bc, .scale_format = QAT_F32, __VA_ARGS__ }
#define ABSMAX .scale_rule = QAT_SCALE_ABSMAX
#define ZERO .scale_rule = QAT_SCALE_MINMAX, .zero = QAT_ZERO_INT

/* codes: whether they are bf16 numbers, so that scales can stand outside of sums. */
static const struct { qat_scheme w; int codes; } schemes[] = {
	{ SCHEME(UNIFORM, -7, 7, 1, 32, ABSMAX, .divisor = 7), 1 },
	{ SCHEME(UNIFORM, -127, 127, 1, 0, ABSMAX, .divisor = 127), 1 },
	{ SCHEME(UNIFORM, -127, 127, 0, 0, ABSMAX, .divisor = 127), 1 },
	{ SCHEME(UNIFORM, 0, 15, 1, 32, ZERO), 1 },
	{ SCHEME(UNIFORM, -128, 127, 1, 32, ZERO), 0 },
	{ SCHEME(UNIFORM, 0, 15, 1, 32, .scale_rule = QAT_SCALE_MINMAX, .zero = QAT_ZERO_FLOAT), 0 },
	{ SCHEME(UNIFORM, -7, 7, 1, 2, ABSMAX, .divisor = 7), 1 },
	{ SCHEME(UNIFORM, -7, 7, 1, 3, ABSMAX, .divisor = 7), 1 },
	{ SCHEME(FLOAT, 0, 0, 1, 0, ABSMAX, .divisor = 448, .ebits = 4, .mbits = 3,
		 .largest = 448.0f, .emax = 8), 1 },
	{ SCHEME(FLOAT, 0, 0, 1, 96, .scale_rule = QAT_SCALE_POW2_FLOOR, .ebits = 2, .mbits = 1,
		 .largest = 6.0f, .emax = 2), 1 },
};

/* The last has several steps of k, and of columns. */
static const struct { int64_t m, n, k; } shapes[] = {
	{ 1, 1, 96 }, { 9, 48, 192 }, { 17, 70, 96 }, { 5, 33, 3264 }, { 3, 1600, 3264 },
};

typedef struct weight {
	uint8_t *codes;
	float *scale, *decoded;
	void *zero;
} weight;

static weight weight_new(const qat_kernels *kn, const qat_scheme *s, int64_t n, int64_t k)
{
	weight w = { guarded(n * k), guarded(n * k * 4), guarded(n * k * 4), guarded(n * k * 4) };
	float *x = random_floats(n * k, 1.0f);
	const qat_quantize_args q = { .scheme = s, .rows = n, .cols = k,
		.x = qat_src_of(x, QAT_F32), .codes = w.codes, .scale = w.scale, .zero = w.zero };
	const qat_dequantize_args d = { .scheme = s, .rows = n, .cols = k, .codes = w.codes,
		.scale = w.scale, .zero = s->zero ? w.zero : NULL,
		.y = qat_dst_of(w.decoded, QAT_F32) };

	kn->quantize->quantize(&q);
	kn->quantize->dequantize(&d);
	free(x);
	return w;
}

static void weight_free(weight *w)
{
	free(w->codes);
	free(w->scale);
	free(w->decoded);
	free(w->zero);
}

static void check_sums(const qat_kernels *kn, const void *y, uint32_t type, const float *x,
		       const float *w, const float *bias, int64_t m, int64_t n, int64_t k)
{
	for (int64_t i = 0; i < m; i++)
		for (int64_t j = 0; j < n; j++) {
			double sum = 0.0, size = 0.0;

			for (int64_t p = 0; p < k; p++) {
				sum += (double)x[i * k + p] * w[j * k + p];
				size += fabs((double)x[i * k + p] * w[j * k + p]);
			}
			sum += bias[j];
			CHECK_NEAR(kn->name, element(y, type, i * n + j), sum,
				   2 * (double)k * 0x1p-24 * size + 0x1p-23 * fabs(sum) +
				   unit(type) * fabs(sum));
		}
}

/* The first and the last row alone have the bits that they have beside others. */
static void check_rows(qat_dense *d, const qat_qmm *p, const qat_qmm_args *all)
{
	const int64_t bytes = p->n * qat_dtype_bytes(all->y.dtype);
	void *one = guarded(bytes);

	for (int64_t r = 0; r < all->m; r += all->m > 1 ? all->m - 1 : 1) {
		qat_qmm_args a = *all;

		a.m = 1;
		a.x = (const uint16_t *)all->x + r * p->k;
		a.y.data = one;
		ck_assert_int_eq(qat_qmm_run(d, p, &a), QAT_OK);
		MUST(!memcmp(one, (char *)all->y.data + r * bytes, (size_t)bytes), "row %d",
		     (int)r);
	}
	free(one);
}

static int is_bf16(const qat_kernels *kn, const qat_scheme *s, int64_t k)
{
	const int64_t group = s->block_cols ? s->block_cols : k;

	for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
		if (&schemes[i].w == s)
			return schemes[i].codes && kn->gemm_bf16->scales &&
			       group % kn->gemm_bf16->scales == 0;
	return 0;
}

static void one_product(const qat_kernels *kn, const qat_scheme *s, int64_t m, int64_t n,
			int64_t k, uint32_t type)
{
	weight w = weight_new(kn, s, n, k);
	float *x = random_floats(m * k, 1.0f), *bias = random_floats(n, 1.0f);
	void *left = as_type(x, QAT_BF16, m * k), *y = guarded(m * n * 4), *packed, *work;
	qat_qmm_args a = { .m = m, .x = left, .x_dtype = QAT_BF16, .bias = bias,
			   .y = qat_dst_of(y, type), .ldy = n };
	qat_dense *d;
	qat_qmm p;

	ck_assert_int_eq(qat_dense_new(&d, kn), QAT_OK);
	ck_assert_int_eq(qat_qmm_plan(d, &p, n, k, NULL, QAT_BF16, s), QAT_OK);
	ck_assert_int_eq(p.kind, is_bf16(kn, s, k) ? QAT_QMM_BF16 : QAT_QMM_FLOAT);
	a.weight = packed = guarded(p.weight_bytes);
	a.workspace = work = guarded(qat_qmm_workspace(d, &p, m));
	qat_qmm_pack(d, &p, packed, w.codes, w.scale, s->zero ? w.zero : NULL);
	check_guard(packed, p.weight_bytes);
	ck_assert_int_eq(qat_qmm_run(d, &p, &a), QAT_OK);
	check_sums(kn, y, type, x, w.decoded, bias, m, n, k);
	check_rows(d, &p, &a);
	if (qat_qmm_unpacks(&p)) {
		qat_qmm_unpack(d, &p, w.decoded, packed);
		MUST(!memcmp(w.decoded, w.codes, (size_t)(n * k)), "%s: other codes", kn->name);
	}
	free(work);
	free(packed);
	free(y);
	free(left);
	free(x);
	free(bias);
	weight_free(&w);
	qat_dense_free(d);
}

static void products(const qat_kernels *kn)
{
	for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
		for (size_t j = 0; j < sizeof shapes / sizeof *shapes; j++)
			if (j < 3 || kn->gemm_bf16->scales)
				one_product(kn, &schemes[i].w, shapes[j].m, shapes[j].n,
					    shapes[j].k, (i + j) % 2 ? QAT_BF16 : QAT_F32);
}

START_TEST(scales_stand_outside_of_sums)
{
	each_isa(products);
}
END_TEST

RUN_TESTS("kernels_weights", scales_stand_outside_of_sums)
