/* Quantized products against the contract's formula in plain C, bit by bit. */
#include "test_kernels.h"

#define UNIFORM(lo, hi, br, bc, ...) \
	{ .size = sizeof(qat_scheme), .grid = QAT_GRID_UNIFORM, .bits = 8, .qmin = lo, \
	  .qmax = hi, .block_rows = br, .block_cols = bc, .scale_format = QAT_F32, __VA_ARGS__ }
#define ABSMAX(d) .scale_rule = QAT_SCALE_ABSMAX, .divisor = d
#define ZERO .scale_rule = QAT_SCALE_MINMAX, .zero = QAT_ZERO_INT
#define E2M1(bc) \
	{ .size = sizeof(qat_scheme), .grid = QAT_GRID_FLOAT, .bits = 4, .ebits = 2, .mbits = 1, \
	  .largest = 6.0f, .emax = 2, .block_rows = 1, .block_cols = bc, \
	  .scale_format = QAT_E8M0, .scale_rule = QAT_SCALE_POW2_FLOOR }
#define E4M3(bc) \
	{ .size = sizeof(qat_scheme), .grid = QAT_GRID_FLOAT, .bits = 8, .ebits = 4, .mbits = 3, \
	  .largest = 448.0f, .emax = 8, .block_rows = 1, .block_cols = bc, \
	  .scale_format = QAT_F32, ABSMAX(448) }

/* The loops over tiles, with plain C for the instructions (kernels/tiles.h): held on every
 * machine. From plain_tiles.c. */
extern const qat_qmm_kernels qat_qmm_tiles;

static void each_kernel(void (*body)(const qat_kernels *kn))
{
	qat_kernels tiles = *qat_kernels_find("baseline");

	each_isa(body);
	tiles.name = "tiles";
	tiles.qmm = &qat_qmm_tiles;
	body(&tiles);
}

static const struct { qat_scheme x, w; } pairs[] = {
	{ UNIFORM(-127, 127, 1, 0, ABSMAX(127)), UNIFORM(-127, 127, 1, 0, ABSMAX(127)) },
	{ UNIFORM(-127, 127, 1, 0, ABSMAX(127)), UNIFORM(-7, 7, 1, 32, ABSMAX(7)) },
	{ UNIFORM(-127, 127, 1, 32, ABSMAX(127)), UNIFORM(-128, 127, 1, 96, ABSMAX(127.5)) },
	{ UNIFORM(-128, 127, 1, 0, ZERO), UNIFORM(-8, 7, 1, 32, ABSMAX(7.5)) },
	{ UNIFORM(-128, 127, 1, 0, ZERO), UNIFORM(-128, 127, 1, 0, ZERO) },
	{ UNIFORM(-128, 127, 1, 6, ZERO), UNIFORM(-128, 127, 1, 6, ZERO) },
	{ UNIFORM(0, 15, 1, 0, ZERO), UNIFORM(0, 15, 1, 32, ZERO) },
	{ UNIFORM(-127, 127, 0, 0, ABSMAX(127)), UNIFORM(-1, 1, 0, 0, ABSMAX(1)) },
	{ UNIFORM(-127, 127, 1, 0, ABSMAX(127)),
	  UNIFORM(-8, 7, 1, 32, .scale_rule = QAT_SCALE_SIGNED, .divisor = -8) },
	{ E2M1(32), E2M1(32) },
	{ UNIFORM(-127, 127, 1, 32, ABSMAX(127)), E2M1(32) },
};
enum { PAIRS = sizeof pairs / sizeof *pairs };

enum { SPREAD = 1, TINY = 2 };		/* what side_new makes of numbers around 1 */

typedef struct side {
	uint8_t *codes;
	float *scale;
	void *zero;
} side;

static int64_t index_of(const qat_scheme *s, int64_t cols, int64_t r, int64_t c)
{
	const int64_t across = s->block_cols ? cols / s->block_cols : 1;

	return (s->block_rows ? r / s->block_rows : 0) * across +
	       (s->block_cols ? c / s->block_cols : 0);
}

static side side_new(const qat_kernels *kn, const qat_scheme *s, int64_t rows, int64_t cols,
		     int spread)
{
	side out = { guarded(rows * cols), guarded(rows * cols * 4), guarded(rows * cols) };
	float *x = random_floats(rows * cols, 1.0f);
	qat_quantize_args a = {
		.scheme = s, .rows = rows, .cols = cols, .x = qat_src_of(x, QAT_F32),
		.codes = out.codes, .scale = out.scale, .zero = out.zero,
	};

	for (int64_t i = 0; i < rows * cols; i++) {
		if (i / 32 % 5 == 0)
			x[i] = 0.0f;
		if (spread == TINY)
			x[i] *= 0x1p-60f;
		else if (spread)
			x[i] *= qat_pow2((int)(i / 32 * 37 % 200) - 100);
	}
	kn->quantize->quantize(&a);
	free(x);
	return out;
}

static void side_free(side *s)
{
	free(s->codes);
	free(s->scale);
	free(s->zero);
}

static int64_t integer_of(const qat_scheme *s, const side *d, int64_t cols, int64_t r, int64_t c)
{
	int shift;

	qat_code_integer(s, &shift);
	if (s->grid == QAT_GRID_FLOAT)
		return (int64_t)(qat_float_value(s, d->codes[r * cols + c]) * qat_pow2(shift));
	return (int8_t)d->codes[r * cols + c] -
	       (s->zero ? ((int8_t *)d->zero)[index_of(s, cols, r, c)] : 0);
}

enum { BIAS = 1, ADDS = 2 };		/* ADDS: to what y holds */

/* One element by the contract; addend may be NULL. */
static float expected(const qat_scheme *xs, const side *x, const qat_scheme *ws, const side *w,
		      int64_t k, int64_t m, int64_t n, const float *addend)
{
	const int64_t gx = xs->block_cols ? xs->block_cols : k;
	const int64_t gw = ws->block_cols ? ws->block_cols : k, group = gx < gw ? gx : gw;
	int x_shift, w_shift;
	float y = addend ? *addend : 0.0f;

	qat_code_integer(xs, &x_shift);
	qat_code_integer(ws, &w_shift);
	for (int64_t k0 = 0; k0 < k; k0 += group) {
		const float sa = x->scale[index_of(xs, k, m, k0)];
		const float sw = w->scale[index_of(ws, k, n, k0)];
		int64_t sum = 0;
		float term;

		for (int64_t i = k0; i < k0 + group; i++)
			sum += integer_of(xs, x, k, m, i) * integer_of(ws, w, k, n, i);
		if (qat_scale_is_pow2(xs) && qat_scale_is_pow2(ws))
			term = (float)ldexp((double)sum * sa * sw, -x_shift - w_shift);
		else
			term = (sa * qat_pow2(-x_shift)) * (sw * qat_pow2(-w_shift)) * (float)sum;
		y = group == k && !addend ? term : y + term;
	}
	return y;
}

static void one_product(const qat_kernels *kn, const qat_scheme *xs, const qat_scheme *ws, int64_t m,
			int64_t n, int64_t k, int spread, int with, uint32_t dtype)
{
	side x = side_new(kn, xs, m, k, spread), w = side_new(kn, ws, n, k, spread);
	float *b = random_floats(n, 1.0f), *want = guarded(m * n * 4);
	float *addend = with & ADDS ? random_floats(m * n, 1.0f) : NULL;
	qat_dense *d;
	qat_qmm p;
	void *packed;

	ck_assert_int_eq(qat_dense_new(&d, kn), QAT_OK);
	ck_assert_int_eq(qat_qmm_plan(d, &p, n, k, xs, ws), QAT_OK);
	ck_assert_int_eq(p.kind, QAT_QMM_INT);
	for (int64_t i = 0; i < m * n; i++) {
		want[i] = expected(xs, &x, ws, &w, k, i / n, i % n, addend ? addend + i : NULL);
		if (with & BIAS)
			want[i] += b[i % n];
	}
	packed = guarded(p.weight_bytes);
	for (int threads = 1; threads <= 2; threads++) {
		const int64_t room = qat_qmm_workspace(d, &p, m);
		void *y = guarded(m * n * 4), *work = guarded(room);
		const qat_qmm_args a = {
			.m = m, .x = x.codes, .x_scale = x.scale, .x_zero = xs->zero ? x.zero : NULL,
			.weight = packed, .bias = with & BIAS ? b : NULL, .y = qat_dst_of(y, dtype),
			.ldy = n, .workspace = work, .adds = addend != NULL,
			.addend = addend ? y : NULL,
		};

		use_threads(threads);
		if (addend)
			memcpy(y, addend, (size_t)(m * n) * sizeof *addend);
		qat_qmm_pack(d, &p, packed, w.codes, w.scale, ws->zero ? w.zero : NULL);
		ck_assert_int_eq(qat_qmm_run(d, &p, &a), QAT_OK);
		for (int64_t i = 0; i < m * n; i++) {
			const float v = dtype == QAT_F32 ? want[i]
				: qat_bf16_to_f32(qat_f32_to_bf16(want[i]));
			const float g = element(y, dtype, i);

			MUST(qat_f32_bits(g) == qat_f32_bits(v),
			     "%s %lldx%lldx%lld: element %lld is %a, not %a", kn->name, (long long)m,
			     (long long)n, (long long)k, (long long)i, (double)g, (double)v);
		}
		check_guard(work, (room + 63) / 64 * 64);
		check_guard(packed, p.weight_bytes);
		free(y);
		free(work);
	}
	free(packed);
	free(addend);
	free(want);
	free(b);
	side_free(&x);
	side_free(&w);
	qat_dense_free(d);
}

static void all_pairs(const qat_kernels *kn)
{
	static const int64_t sizes[][2] = { { 1, 1 }, { 5, 33 }, { 13, 70 }, { 100, 17 },
					      { 64, 64 } };

	for (int i = 0; i < PAIRS; i++)
		for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++)
			one_product(kn, &pairs[i].x, &pairs[i].w, sizes[j][0], sizes[j][1], 192, 0,
				    j & 1, j & 2 ? QAT_BF16 : QAT_F32);
}

START_TEST(products_of_every_kind_are_exact)
{
	each_kernel(all_pairs);
}
END_TEST

/* Tiles of all kinds and their edges; products of tiny numbers are subnormal, or zero. */
static void large_tiles(const qat_kernels *kn)
{
	static const int kinds[] = { 0, 1, 8 };

	for (int i = 0; i < 3; i++)
		for (int spread = 0; spread <= TINY; spread += TINY) {
			const qat_scheme *x = &pairs[kinds[i]].x, *w = &pairs[kinds[i]].w;

			one_product(kn, x, w, 101, 134, 192, spread, 0, QAT_BF16);
			one_product(kn, x, w, 101, 134, 192, spread, 1, QAT_BF16);
			one_product(kn, x, w, 61, 310, 608, spread, 0, QAT_BF16);
			one_product(kn, x, w, 70, 134, 192, spread, BIAS, QAT_F32);
		}
	one_product(kn, &pairs[0].x, &pairs[0].w, 300, 2304, 16, 0, 0, QAT_F32);	/* tall tasks */
}

START_TEST(rows_of_bf16_from_large_tiles)
{
	each_kernel(large_tiles);
}
END_TEST

/* Sums to what is there: an element that two tiles reach would have its terms twice. */
static void sums_in_place(const qat_kernels *kn)
{
	static const int64_t columns[] = { 17, 48, 70, 134, 310 };
	static const int kinds[] = { 0, 1, 8 };

	for (int i = 0; i < 3; i++)
		for (size_t j = 0; j < sizeof columns / sizeof *columns; j++)
			one_product(kn, &pairs[kinds[i]].x, &pairs[kinds[i]].w, 203, columns[j], 192,
				    0, ADDS, QAT_F32);
}

START_TEST(no_element_is_added_to_twice)
{
	each_kernel(sums_in_place);
}
END_TEST

static void odd_depths(const qat_kernels *kn)
{
	static const int64_t depths[] = { 1, 2, 3, 7, 63, 130, 577, 1031 };

	for (size_t i = 0; i < sizeof depths / sizeof *depths; i++)
		for (int j = 0; j < 5; j += 4) {
			qat_scheme x = pairs[j].x, w = pairs[j].w;

			x.block_cols = w.block_cols = 0;
			one_product(kn, &x, &w, 39, 21, depths[i], 0, 1, QAT_F32);
		}
}

START_TEST(any_depth)
{
	each_kernel(odd_depths);
}
END_TEST

/* Scales near the ends of their range: products of powers of two leave f32 on the way. */
static void extremes(const qat_kernels *kn)
{
	one_product(kn, &pairs[9].x, &pairs[9].w, 7, 19, 960, SPREAD, 0, QAT_F32);
}

START_TEST(powers_of_two_at_their_extremes)
{
	each_kernel(extremes);
}
END_TEST

/* K beyond what int32 holds: worst case codes, sum 255 * 255 * k. */
static void large_sums(const qat_kernels *kn)
{
	enum { K = 70000, N = 3, M = 2 };
	const qat_scheme *s = &pairs[4].x;
	int8_t *codes = guarded(K * N);
	const float scale[N] = { 1.0f, 1.0f, 1.0f };
	const int8_t zero[N] = { -128, -128, -128 };
	float y[M * N];
	qat_qmm_args a = { .m = M, .x = codes, .x_scale = scale, .x_zero = zero,
			   .y = qat_dst_of(y, QAT_F32), .ldy = N };
	void *packed, *work;
	qat_dense *d;
	qat_qmm p;

	memset(codes, 127, K * N);
	ck_assert_int_eq(qat_dense_new(&d, kn), QAT_OK);
	ck_assert_int_eq(qat_qmm_plan(d, &p, N, K, s, s), QAT_OK);
	ck_assert_int_eq(p.kind, QAT_QMM_INT64);
	a.weight = packed = guarded(p.weight_bytes);
	a.workspace = work = guarded(qat_qmm_workspace(d, &p, M));
	qat_qmm_pack(d, &p, packed, codes, scale, zero);
	ck_assert_int_eq(qat_qmm_run(d, &p, &a), QAT_OK);
	for (int i = 0; i < M * N; i++)
		ck_assert(y[i] == (float)(255LL * 255 * K));
	free(packed);
	free(work);
	free(codes);
	qat_dense_free(d);
}

START_TEST(long_sums_are_kept_in_64_bits)
{
	each_kernel(large_sums);
}
END_TEST

/* No integers for these codes: dequantize and multiply, within 2 K 2^-24 sum |a w|. */
static void in_floats(const qat_kernels *kn)
{
	enum { M = 5, N = 18, K = 96 };
	const qat_scheme w8 = E4M3(0), x8 = E4M3(32), w4 = pairs[1].w;
	const qat_scheme *const xs[] = { NULL, &x8, NULL }, *const ws[] = { &w8, &w8, &w4 };

	for (int i = 0; i < 3; i++) {
		side w = side_new(kn, ws[i], N, K, 0), x = side_new(kn, &x8, M, K, 0);
		float *plain = random_floats(M * K, 1.0f), y[M * N];
		qat_qmm_args a = { .m = M, .x = x.codes, .x_scale = x.scale,
				   .y = qat_dst_of(y, QAT_F32), .ldy = N };
		void *packed, *work;
		qat_dense *d;
		qat_qmm p;

		ck_assert_int_eq(qat_dense_new(&d, kn), QAT_OK);
		ck_assert_int_eq(qat_qmm_plan(d, &p, N, K, xs[i], ws[i]), QAT_OK);
		ck_assert_int_eq(p.kind, QAT_QMM_FLOAT);
		a.weight = packed = guarded(p.weight_bytes);
		a.workspace = work = guarded(qat_qmm_workspace(d, &p, M));
		if (!xs[i]) {
			a.x = plain;
			a.x_dtype = QAT_F32;
		}
		qat_qmm_pack(d, &p, packed, w.codes, w.scale, NULL);
		ck_assert_int_eq(qat_qmm_run(d, &p, &a), QAT_OK);
		for (int e = 0; e < M * N; e++) {
			double sum = 0.0, size = 0.0;

			for (int k = 0; k < K; k++) {
				const int64_t r = e / N, n = e % N;
				const double wv = qat_decode(ws[i], w.codes[n * K + k],
					w.scale[index_of(ws[i], K, n, k)], 0.0f);
				const double xv = !xs[i] ? plain[r * K + k] :
					qat_decode(&x8, x.codes[r * K + k],
						   x.scale[index_of(&x8, K, r, k)], 0.0f);

				sum += wv * xv;
				size += fabs(wv * xv);
			}
			CHECK_NEAR(kn->name, y[e], sum, 2 * K * 0x1p-24 * size);
		}
		free(packed);
		free(work);
		free(plain);
		side_free(&w);
		side_free(&x);
		qat_dense_free(d);
	}
}

START_TEST(floats_where_there_are_no_integers)
{
	each_isa(in_floats);
}
END_TEST

static void one_round(const qat_kernels *kn, const qat_scheme *xs, const qat_scheme *ws, int64_t n,
		      int64_t k)
{
	side w = side_new(kn, ws, n, k, 0);
	uint8_t *back = guarded(n * k);
	qat_dense *d;
	qat_qmm p;
	void *packed;

	ck_assert_int_eq(qat_dense_new(&d, kn), QAT_OK);
	ck_assert_int_eq(qat_qmm_plan(d, &p, n, k, xs, ws), QAT_OK);
	ck_assert_int_eq(qat_qmm_unpacks(&p), ws->grid == QAT_GRID_UNIFORM &&
			 (!ws->zero || (kn->qmm->element == 1 && ws->qmax - ws->qmin > 127)));
	packed = guarded(p.weight_bytes);
	qat_qmm_pack(d, &p, packed, w.codes, w.scale, ws->zero ? w.zero : NULL);
	if (qat_qmm_unpacks(&p)) {
		qat_qmm_unpack(d, &p, back, packed);
		MUST(!memcmp(back, w.codes, (size_t)(n * k)), "%s %lldx%lld: other codes", kn->name,
		     (long long)n, (long long)k);
		check_guard(back, n * k);
	}
	free(packed);
	free(back);
	side_free(&w);
	qat_dense_free(d);
}

static void there_and_back(const qat_kernels *kn)
{
	static const int64_t rows[] = { 1, 15, 16, 33, 64 };

	for (int i = 0; i < PAIRS; i++)
		for (size_t j = 0; j < sizeof rows / sizeof *rows; j++)
			one_round(kn, &pairs[i].x, &pairs[i].w, rows[j], 192);
	for (int64_t k = 1; k < 150; k++)
		one_round(kn, &pairs[0].x, &pairs[0].w, 17, k);
}

START_TEST(codes_come_back_from_packed_weights)
{
	each_kernel(there_and_back);
}
END_TEST

START_TEST(groups_that_do_not_nest_are_refused)
{
	qat_scheme x = pairs[2].x, w = pairs[2].w;
	qat_dense *d;
	qat_qmm p;

	x.block_cols = 64;
	ck_assert_int_eq(qat_dense_new(&d, qat_kernels_find("baseline")), QAT_OK);
	ck_assert_int_eq(qat_qmm_plan(d, &p, 16, 192, &x, &w), QAT_ENOTSUP);
	qat_dense_free(d);
}
END_TEST

RUN_TESTS("kernels_qmm", products_of_every_kind_are_exact, rows_of_bf16_from_large_tiles,
	  no_element_is_added_to_twice,
	  any_depth, powers_of_two_at_their_extremes, long_sums_are_kept_in_64_bits,
	  floats_where_there_are_no_integers, codes_come_back_from_packed_weights,
	  groups_that_do_not_nest_are_refused)
