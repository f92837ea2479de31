/* Quantize and dequantize against numerics.h, element by element, bit by bit. */
#include "test_kernels.h"

#define UNIFORM(lo, hi, br, bc, ...) \
	{ .size = sizeof(qat_scheme), .grid = QAT_GRID_UNIFORM, .bits = 8, .qmin = lo, \
	  .qmax = hi, .block_rows = br, .block_cols = bc, .scale_format = QAT_F32, __VA_ARGS__ }
#define FLOATS(e, m, top, em, br, bc, ...) \
	{ .size = sizeof(qat_scheme), .grid = QAT_GRID_FLOAT, .bits = 1 + e + m, .ebits = e, \
	  .mbits = m, .largest = top, .emax = em, .block_rows = br, .block_cols = bc, \
	  __VA_ARGS__ }
#define ABSMAX(d) .scale_rule = QAT_SCALE_ABSMAX, .divisor = d
#define MX(rule) .scale_format = QAT_E8M0, .scale_rule = QAT_SCALE_POW2_##rule

static const float nf4[16] = {
	-1.0f, -0.7f, -0.53f, -0.4f, -0.28f, -0.18f, -0.09f, 0.0f,
	0.08f, 0.16f, 0.25f, 0.34f, 0.44f, 0.56f, 0.72f, 1.0f
};

static const qat_scheme schemes[] = {
	UNIFORM(-127, 127, 1, 0, ABSMAX(127)),
	UNIFORM(-7, 7, 1, 32, ABSMAX(7)),
	UNIFORM(-8, 7, 1, 4, ABSMAX(7.5), .gradient = QAT_GRAD_STE_CLIPPED),
	UNIFORM(-1, 1, 0, 0, ABSMAX(1)),
	UNIFORM(-8, 7, 1, 32, .scale_rule = QAT_SCALE_SIGNED, .divisor = -8),
	UNIFORM(-128, 127, 1, 0, .scale_rule = QAT_SCALE_MINMAX, .zero = QAT_ZERO_INT),
	UNIFORM(0, 15, 1, 32, .scale_rule = QAT_SCALE_MINMAX, .zero = QAT_ZERO_INT),
	UNIFORM(-8, 7, 4, 32, .scale_rule = QAT_SCALE_MINMAX, .zero = QAT_ZERO_INT),
	UNIFORM(0, 15, 1, 32, .scale_rule = QAT_SCALE_FLOAT_ZERO, .zero = QAT_ZERO_FLOAT),
	UNIFORM(-8, 7, 1, 64, .scale_rule = QAT_SCALE_FLOAT_ZERO, .zero = QAT_ZERO_FLOAT),
	FLOATS(2, 1, 6.0f, 2, 1, 32, MX(FLOOR)),
	FLOATS(2, 1, 6.0f, 2, 1, 32, MX(CEIL)),
	FLOATS(2, 1, 6.0f, 2, 1, 32, MX(EVEN)),
	FLOATS(2, 3, 7.5f, 2, 1, 32, MX(FLOOR)),
	FLOATS(3, 2, 28.0f, 4, 1, 32, MX(EVEN)),
	FLOATS(4, 3, 448.0f, 8, 1, 32, MX(FLOOR)),
	FLOATS(5, 2, 57344.0f, 15, 1, 32, MX(CEIL)),
	FLOATS(4, 3, 448.0f, 8, 1, 0, ABSMAX(448)),
	FLOATS(4, 3, 448.0f, 8, 0, 0, ABSMAX(448)),
	{ .size = sizeof(qat_scheme), .grid = QAT_GRID_TABLE, .bits = 4, .table = nf4,
	  .block_rows = 1, .block_cols = 32, ABSMAX(1) },
	UNIFORM(-127, 127, 2, 0, ABSMAX(127)),
};
enum { SCHEMES = sizeof schemes / sizeof *schemes };

static const int32_t formats[] = { QAT_F32, QAT_BF16, QAT_F16, QAT_E4M3 };

/* Every awkward float, then random ones of random magnitude. */
static void fill(float *x, int64_t n, int kind)
{
	static const uint32_t odd[] = {
		0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x00800000, 0x80800000,
		0x3f800000, 0x3f000000, 0xbf000000, 0x3fc00000, 0x40200000, 0x40600000, 0x40a00000,
		0x3e800000, 0x3f400000, 0x7f7fffff, 0xff7fffff, 0x0d800000, 0x1e3ce508
	};
	const int range = kind == 1 ? 250 : kind == 2 ? 24 : 1;

	for (int64_t i = 0; i < n; i++) {
		const int e = (int)(random_word() % (unsigned)range) - range / 2;

		x[i] = kind == 3 ? 0.0f : random_float() * qat_pow2(e);
		if (kind == 4)		/* halves: ties */
			x[i] = rintf(x[i] * 8.0f) * 0.5f;
		if (kind == 1 && random_word() % 8 == 0)
			x[i] = qat_f32_from_bits(odd[random_word() % (sizeof odd / sizeof *odd)]);
		if (kind == 5 && random_word() % 512 == 0)
			x[i] = random_word() & 1 ? NAN : -INFINITY;
	}
}

typedef struct result {
	int bad;
	uint8_t *codes, *mask;
	float *scale;
	void *zero;
} result;

static int64_t blocks_down(const qat_scheme *s, int64_t rows)
{
	return s->block_rows ? rows / s->block_rows : 1;
}

static int64_t blocks_across(const qat_scheme *s, int64_t cols)
{
	return s->block_cols ? cols / s->block_cols : 1;
}

static result result_new(int64_t rows, int64_t cols)
{
	return (result){ 0, guarded(rows * cols), guarded(rows * ((cols + 7) / 8)),
			 guarded(rows * cols * 4), guarded(rows * cols * 4) };
}

static void result_free(result *r)
{
	free(r->codes);
	free(r->mask);
	free(r->scale);
	free(r->zero);
}

/* The definition. given: scales are taken from r, not made. */
static void reference(result *out, const qat_scheme *s, const float *x, int64_t rows,
		      int64_t cols, int given)
{
	const int64_t br = s->block_rows ? s->block_rows : rows;
	const int64_t bc = s->block_cols ? s->block_cols : cols, across = cols / bc;

	memset(out->mask, 0, (size_t)(rows * ((cols + 7) / 8)));
	out->bad = 0;
	for (int64_t b = 0; b < rows / br * across; b++) {
		const int64_t r0 = b / across * br, c0 = b % across * bc;
		qat_block_stats st;
		float zero = 0.0f;

		qat_stats_init(&st);
		for (int64_t i = 0; i < br * bc; i++)
			qat_stats_add(&st, x[(r0 + i / bc) * cols + c0 + i % bc]);
		out->bad |= st.bad;
		if (!given) {
			out->scale[b] = qat_block_scale(s, &st, &zero);
			if (s->zero == QAT_ZERO_INT)
				((int8_t *)out->zero)[b] = (int8_t)zero;
			if (s->zero == QAT_ZERO_FLOAT)
				((float *)out->zero)[b] = zero;
		} else if (s->zero) {
			zero = s->zero == QAT_ZERO_INT ? ((int8_t *)out->zero)[b]
						       : ((float *)out->zero)[b];
		}
		for (int64_t i = 0; i < br * bc; i++) {
			const int64_t r = r0 + i / bc, c = c0 + i % bc;
			int inside;

			out->codes[r * cols + c] = qat_code(s, x[r * cols + c], out->scale[b], zero,
							    &inside);
			out->mask[r * ((cols + 7) / 8) + c / 8] |= (uint8_t)(inside << c % 8);
		}
	}
}

static void compare(const result *got, const result *want, const qat_scheme *s, int64_t rows,
		    int64_t cols, const char *isa, int index)
{
	const size_t blocks = (size_t)(blocks_down(s, rows) * blocks_across(s, cols));
	const size_t zero = s->zero == QAT_ZERO_INT ? 1 : s->zero == QAT_ZERO_FLOAT ? 4 : 0;

	MUST(got->bad == want->bad, "%s scheme %d: bad %d", isa, index, got->bad);
	MUST(!memcmp(got->scale, want->scale, blocks * 4), "%s scheme %d: scales", isa,
		      index);
	MUST(!memcmp(got->zero, want->zero, blocks * zero), "%s scheme %d: zeros", isa,
		      index);
	for (int64_t i = 0; i < rows * cols; i++)
		MUST(got->codes[i] == want->codes[i],
			      "%s scheme %d: code %lld is %d, not %d", isa, index, (long long)i,
			      got->codes[i], want->codes[i]);
	MUST(!memcmp(got->mask, want->mask, (size_t)(rows * ((cols + 7) / 8))),
		      "%s scheme %d: mask", isa, index);
	check_guard(got->codes, (rows * cols + 63) / 64 * 64);
}

static void check_back(const qat_kernels *kn, const qat_scheme *s, const result *want,
		       int64_t rows, int64_t cols, uint32_t dtype)
{
	const int64_t br = s->block_rows ? s->block_rows : rows;
	const int64_t bc = s->block_cols ? s->block_cols : cols;
	void *y = guarded(rows * cols * 4);
	const qat_dequantize_args d = {
		.scheme = s, .rows = rows, .cols = cols, .codes = want->codes,
		.scale = want->scale, .zero = s->zero ? want->zero : NULL,
		.y = qat_dst_of(y, dtype),
	};

	kn->quantize->dequantize(&d);
	for (int64_t i = 0; i < rows * cols; i++) {
		const int64_t b = i / cols / br * (cols / bc) + i % cols / bc;
		const float zero = s->zero == QAT_ZERO_INT ? ((int8_t *)want->zero)[b]
				 : s->zero ? ((float *)want->zero)[b] : 0.0f;
		const float v = qat_decode(s, want->codes[i], want->scale[b], zero);
		const float r = dtype == QAT_F32 ? v : qat_bf16_to_f32(qat_f32_to_bf16(v));
		const float g = element(y, dtype, i);

		MUST(qat_f32_bits(g) == qat_f32_bits(r) || (g != g && r != r),
			      "%s: decoded %a, not %a", kn->name, (double)g, (double)r);
	}
	free(y);
}

static void one_case(const qat_kernels *kn, const qat_scheme *s, int index, int64_t rows,
		     int64_t cols, int kind, uint32_t dtype, int given)
{
	float *x = guarded(rows * cols * 4);
	result want = result_new(rows, cols);
	void *typed;

	fill(x, rows * cols, kind);
	typed = as_type(x, dtype, rows * cols);
	if (given)
		for (int64_t i = 0; i < blocks_down(s, rows) * blocks_across(s, cols); i++) {
			want.scale[i] = 0.01f * (1.0f + fabsf(random_float()));
			if (s->zero == QAT_ZERO_INT)
				((int8_t *)want.zero)[i] = (int8_t)qat_clamp_int(3, s->qmin, s->qmax);
			if (s->zero == QAT_ZERO_FLOAT)
				((float *)want.zero)[i] = random_float();
		}
	reference(&want, s, x, rows, cols, given);
	for (int threads = 1; threads <= 2; threads++) {
		result got = result_new(rows, cols);
		const qat_quantize_args a = {
			.scheme = s, .rows = rows, .cols = cols, .x = qat_src_of(typed, dtype),
			.given_scale = given ? want.scale : NULL,
			.given_zero = given && s->zero ? want.zero : NULL,
			.codes = got.codes, .scale = got.scale, .zero = got.zero, .mask = got.mask,
		};
		qat_quantize_args no_mask = a;

		use_threads(threads);
		got.bad = kn->quantize->quantize(&a);
		if (given) {
			memcpy(got.scale, want.scale, (size_t)(rows * cols) * 4);
			memcpy(got.zero, want.zero, (size_t)(rows * cols) * 4);
		}
		compare(&got, &want, s, rows, cols, kn->name, index);
		no_mask.mask = NULL;
		memset(got.codes, 0x55, (size_t)(rows * cols));
		kn->quantize->quantize(&no_mask);
		compare(&got, &want, s, rows, cols, kn->name, index);
		result_free(&got);
	}
	check_back(kn, s, &want, rows, cols, QAT_F32);
	check_back(kn, s, &want, rows, cols, QAT_BF16);
	result_free(&want);
	free(typed);
	free(x);
}

static void all_schemes(const qat_kernels *kn)
{
	for (int i = 0; i < SCHEMES; i++)
		for (int f = 0; f < (qat_scale_is_pow2(schemes + i) ? 1 : 4); f++)
			for (int kind = 0; kind < 6; kind++) {
				qat_scheme s = schemes[i];
				const uint32_t dtype = kind % 2 ? QAT_BF16 : QAT_F32;

				if (!qat_scale_is_pow2(&s))
					s.scale_format = formats[f];
				ck_assert(qat_quantize_supports(&s, 4, 128));
				one_case(kn, &s, i, 4, 128, kind, dtype, 0);
				one_case(kn, &s, i, 4, 128, kind, QAT_F32, 0);
				one_case(kn, &s, i, 4, 128, kind, dtype, 1);
			}
}

START_TEST(every_scheme_gives_the_definitions_bits)
{
	each_isa(all_schemes);
}
END_TEST

/* Blocks of odd sizes, rows longer than a run, and no multiple of eight columns. */
static void odd_shapes(const qat_kernels *kn)
{
	static const struct { int64_t rows, cols, br, bc; } shapes[] = {
		{ 1, 1, 1, 0 }, { 3, 7, 1, 0 }, { 2, 2500, 1, 0 }, { 3, 60, 1, 20 },
		{ 6, 39, 3, 13 }, { 131, 5, 0, 0 }, { 5, 2049, 0, 0 }, { 1, 4098, 1, 2049 },
		{ 70, 3, 0, 1 },
	};
	static const int which[] = { 0, 4, 5, 8, 10, 15 };

	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		for (size_t k = 0; k < sizeof which / sizeof *which; k++) {
			qat_scheme s = schemes[which[k]];

			s.block_rows = shapes[i].br;
			s.block_cols = shapes[i].bc;
			one_case(kn, &s, which[k], shapes[i].rows, shapes[i].cols, (int)(i + k) % 6,
				 k % 2 ? QAT_BF16 : QAT_F32, 0);
			one_case(kn, &s, which[k], shapes[i].rows, shapes[i].cols, 1, QAT_F32, 1);
		}
}

START_TEST(odd_shapes_too)
{
	each_isa(odd_shapes);
}
END_TEST

static void masks_and_casts(const qat_kernels *kn)
{
	enum { ROWS = 3, COLS = 1037, N = ROWS * COLS };
	float *x = guarded(N * 4), *y = guarded(N * 4);
	uint16_t *h = guarded(N * 2);
	uint8_t *m = guarded(ROWS * ((COLS + 7) / 8));

	for (int i = 0; i < N; i++)
		x[i] = qat_f32_from_bits(random_word());
	for (int i = 0; i < ROWS * ((COLS + 7) / 8); i++)
		m[i] = (uint8_t)random_word();
	kn->quantize->mask(qat_dst_of(y, QAT_F32), qat_src_of(x, QAT_F32), m, ROWS, COLS);
	for (int i = 0; i < N; i++) {
		const int bit = m[i / COLS * ((COLS + 7) / 8) + i % COLS / 8] >> (i % COLS % 8) & 1;

		MUST(qat_f32_bits(y[i]) == (bit ? qat_f32_bits(x[i]) : 0), "mask of %d", i);
	}
	kn->quantize->cast(qat_dst_of(h, QAT_BF16), qat_src_of(x, QAT_F32), N);
	for (int i = 0; i < N; i++)
		MUST(h[i] == qat_f32_to_bf16(x[i]), "bf16 of %a", (double)x[i]);
	kn->quantize->cast(qat_dst_of(y, QAT_F32), qat_src_of(h, QAT_BF16), N);
	for (int i = 0; i < N; i++)
		MUST(qat_f32_bits(y[i]) == (uint32_t)h[i] << 16, "f32 of %x", h[i]);
	kn->quantize->cast(qat_dst_of(h, QAT_F16), qat_src_of(x, QAT_F32), N);
	for (int i = 0; i < N; i++)
		MUST(h[i] == qat_f32_to_f16(x[i]), "f16 of %a", (double)x[i]);
	free(x);
	free(y);
	free(h);
	free(m);
}

START_TEST(masks_and_casts_are_exact)
{
	each_isa(masks_and_casts);
}
END_TEST

RUN_TESTS("kernels_quantize", every_scheme_gives_the_definitions_bits, odd_shapes_too,
	  masks_and_casts_are_exact)
