/* test_numerics.c - the numeric contract, element by element, against values that were
 * worked out by hand or published. Schemes that plugins make are tested with them. */
#include <check.h>
#include <stdlib.h>

#include <qatrun/numerics.h>

static const float nan_ = NAN;

/* ---- stored formats ---- */

START_TEST(bf16)
{
	static const struct { uint32_t x; uint16_t h; } t[] = {
		{ 0x3f800000, 0x3f80 }, { 0x3f808000, 0x3f80 },	/* tie to even: down */
		{ 0x3f818000, 0x3f82 },				/* tie to even: up */
		{ 0x3f808001, 0x3f81 }, { 0x7f7fffff, 0x7f80 },	/* overflow to infinity */
		{ 0x7f800000, 0x7f80 }, { 0xff800000, 0xff80 }, { 0x80000000, 0x8000 },
		{ 0x00000001, 0x0000 }, { 0x7f800001, 0x7fc0 },	/* NaN stays NaN */
		{ 0xffffffff, 0xffff },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		ck_assert_uint_eq(qat_f32_to_bf16(qat_f32_from_bits(t[i].x)), t[i].h);
	for (uint32_t h = 0; h < 0x10000; h++) {
		const float x = qat_bf16_to_f32((uint16_t)h);

		ck_assert(qat_f32_to_bf16(x) == h || (x != x && (h & 0x40) == 0));
	}
}
END_TEST

START_TEST(f16)
{
	static const struct { float x; uint16_t h; } t[] = {
		{ 1, 0x3c00 }, { -2, 0xc000 }, { 65504, 0x7bff }, { 65519, 0x7bff },
		{ 65520, 0x7c00 }, { 6.103515625e-05f, 0x0400 },	/* smallest normal */
		{ 5.9604644775390625e-8f, 0x0001 },			/* smallest of all */
		{ 2.98023223876953125e-8f, 0x0000 },			/* half of it: to even */
		{ 8.94069671630859375e-8f, 0x0002 },			/* 1.5 of it: to even */
		{ 6.0975551605224609375e-05f, 0x03ff },			/* largest subnormal */
		{ 1.00048828125f, 0x3c00 }, { 1.00146484375f, 0x3c02 },	/* ties */
		{ 0.333333343f, 0x3555 }, { -0.0f, 0x8000 },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		ck_assert_uint_eq(qat_f32_to_f16(t[i].x), t[i].h);
	for (uint32_t h = 0; h < 0x10000; h++) {
		const float x = qat_f16_to_f32((uint16_t)h);

		ck_assert(x != x || qat_f32_to_f16(x) == h);
	}
	ck_assert_uint_eq(qat_f32_to_f16(nan_) & 0x7e00, 0x7e00);
}
END_TEST

START_TEST(powers)
{
	for (int e = -149; e <= 127; e++)
		ck_assert_float_eq(qat_pow2(e), ldexpf(1.0f, e));
	for (int b = 0; b < 255; b++) {
		ck_assert_float_eq(qat_e8m0_to_f32((uint8_t)b), ldexpf(1.0f, b - 127));
		ck_assert_uint_eq(qat_f32_to_e8m0(qat_e8m0_to_f32((uint8_t)b)), b);
	}
	ck_assert_float_nan(qat_e8m0_to_f32(255));
	ck_assert_uint_eq(qat_f32_to_e8m0(nan_), 255);
}
END_TEST

/* ---- float grids: the table of OCP MX 1.0, 5.3 ---- */

static qat_scheme float_grid(int ebits, int mbits, int emax, float largest)
{
	return (qat_scheme){
		.size = sizeof(qat_scheme), .grid = QAT_GRID_FLOAT, .bits = 1 + ebits + mbits,
		.ebits = ebits, .mbits = mbits, .emax = emax, .largest = largest,
		.scale_format = QAT_E8M0, .scale_rule = QAT_SCALE_POW2_FLOOR,
	};
}

START_TEST(float_grids)
{
	static const struct { int ebits, mbits, emax; float largest, normal, step; } t[] = {
		{ 2, 1, 2, 6, 1, 0.5f }, { 2, 3, 2, 7.5f, 1, 0.125f },
		{ 3, 2, 4, 28, 0.25f, 0.0625f }, { 4, 3, 8, 448, 0.015625f, 0.001953125f },
		{ 5, 2, 15, 57344, 6.103515625e-05f, 1.52587890625e-05f },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		const qat_scheme s = float_grid(t[i].ebits, t[i].mbits, t[i].emax, t[i].largest);
		const int signs = 1 << (t[i].ebits + t[i].mbits);
		int inside;

		ck_assert_float_eq(qat_float_value(&s, 1), t[i].step);
		ck_assert_float_eq(qat_float_value(&s, (uint8_t)(1 << t[i].mbits)), t[i].normal);
		for (int c = 0; c < signs && qat_float_value(&s, (uint8_t)c) <= t[i].largest; c++) {
			const float v = qat_float_value(&s, (uint8_t)c);

			ck_assert_int_eq(qat_code(&s, v, 1.0f, 0, &inside), c);
			ck_assert_int_eq(qat_code(&s, -v, 1.0f, 0, &inside), c | signs);
			ck_assert_float_eq(qat_decode(&s, (uint8_t)(c | signs), 1.0f, 0), -v);
		}
		ck_assert_float_eq(qat_decode(&s, qat_code(&s, 1e9f, 1.0f, 0, &inside), 1.0f, 0),
				   t[i].largest);
		ck_assert_int_eq(inside, 0);
	}
}
END_TEST

/* Every midpoint of neighbours goes to the one with the even pattern. */
START_TEST(float_ties)
{
	const qat_scheme grids[] = {
		float_grid(2, 1, 2, 6), float_grid(2, 3, 2, 7.5f), float_grid(3, 2, 4, 28),
		float_grid(4, 3, 8, 448), float_grid(5, 2, 15, 57344),
	};

	for (size_t i = 0; i < sizeof grids / sizeof *grids; i++) {
		const qat_scheme *s = &grids[i];

		for (int c = 0; qat_float_value(s, (uint8_t)c) < s->largest; c++) {
			const float lo = qat_float_value(s, (uint8_t)c);
			const float mid = lo + (qat_float_value(s, (uint8_t)(c + 1)) - lo) / 2;
			int inside;

			ck_assert_int_eq(qat_code(s, mid, 1, 0, &inside), c & 1 ? c + 1 : c);
			ck_assert_int_eq(qat_code(s, nextafterf(mid, 0), 1, 0, &inside), c);
			ck_assert_int_eq(qat_code(s, nextafterf(mid, 1e9f), 1, 0, &inside), c + 1);
		}
	}
}
END_TEST

START_TEST(e4m3_scale)
{
	static const struct { float x, y; } t[] = {
		{ 448, 448 }, { 464, 448 }, { 1e30f, 448 }, { 17, 16 }, { 19, 20 }, { 18, 18 },
		{ 0.001953125f, 0.001953125f }, { 0.0009765625f, 0 },
		{ 0.0029296875f, 0.00390625f }, { -3.3f, -3.25f },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		ck_assert_float_eq(qat_round_e4m3(t[i].x), t[i].y);
	ck_assert_float_nan(qat_round_e4m3(nan_));
}
END_TEST

/* The significands where the rules part, for each grid: ceil goes up above that of the
 * largest value, even from half a mantissa step below 2. */
START_TEST(exponent_rules)
{
	static const struct { int ebits, mbits, emax; float largest, above, even; } t[] = {
		{ 2, 1, 2, 6, 1.5f, 1.75f }, { 2, 3, 2, 7.5f, 1.875f, 1.9375f },
		{ 3, 2, 4, 28, 1.75f, 1.875f }, { 4, 3, 8, 448, 1.75f, 1.9375f },
		{ 5, 2, 15, 57344, 1.75f, 1.875f },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		qat_scheme s = float_grid(t[i].ebits, t[i].mbits, t[i].emax, t[i].largest);
		const int low = -t[i].emax;

		ck_assert_int_eq(qat_scale_exponent(&s, 1), low);
		ck_assert_int_eq(qat_scale_exponent(&s, nextafterf(2, 0)), low);
		ck_assert_int_eq(qat_scale_exponent(&s, 2), low + 1);
		s.scale_rule = QAT_SCALE_POW2_CEIL;
		ck_assert_int_eq(qat_scale_exponent(&s, t[i].above), low);
		ck_assert_int_eq(qat_scale_exponent(&s, nextafterf(t[i].above, 2)), low + 1);
		ck_assert_int_eq(qat_scale_exponent(&s, 2), low + 1);
		s.scale_rule = QAT_SCALE_POW2_EVEN;
		ck_assert_int_eq(qat_scale_exponent(&s, nextafterf(t[i].even, 0)), low);
		ck_assert_int_eq(qat_scale_exponent(&s, t[i].even), low + 1);
		ck_assert_int_eq(qat_scale_exponent(&s, 0), -127);
		ck_assert_int_eq(qat_scale_exponent(&s, 1e-44f), -127);
	}
}
END_TEST

/* ---- integer blocks ---- */

static qat_scheme int_grid(int qmin, int qmax, int rule, double divisor)
{
	return (qat_scheme){
		.size = sizeof(qat_scheme), .grid = QAT_GRID_UNIFORM, .bits = 8, .qmin = qmin,
		.qmax = qmax, .scale_format = QAT_F32, .scale_rule = rule, .divisor = divisor,
		.zero = rule == QAT_SCALE_MINMAX ? QAT_ZERO_INT : QAT_ZERO_NONE,
		.gradient = QAT_GRAD_STE_CLIPPED,
	};
}

static float scale_of(const qat_scheme *s, float *zero, float a, float b)
{
	qat_block_stats stats;

	qat_stats_init(&stats);
	qat_stats_add(&stats, a);
	qat_stats_add(&stats, b);
	return qat_block_scale(s, &stats, zero);
}

/* Nothing, almost nothing, a scale that its format cannot hold, and what is not finite. */
START_TEST(odd_blocks)
{
	qat_scheme s = int_grid(-127, 127, QAT_SCALE_ABSMAX, 127);
	float zero;
	int inside;

	ck_assert_float_eq(scale_of(&s, &zero, 0, -0.0f), 1.0f);
	ck_assert_float_eq(scale_of(&s, &zero, 0, 7.88e-31f), 1.0f);
	ck_assert_float_eq(scale_of(&s, &zero, 0, 7.8886091e-31f), 7.8886091e-31f / 127.0f);
	ck_assert_float_nan(scale_of(&s, &zero, 1, nan_));
	ck_assert_float_nan(scale_of(&s, &zero, -INFINITY, 1));
	ck_assert_float_nan(qat_decode(&s, qat_code(&s, 1, nan_, 0, &inside), nan_, 0));
	s.scale_format = QAT_F16;
	ck_assert_float_eq(scale_of(&s, &zero, 0, 1e-6f), 1.0f);	/* 7.9e-9: 0 in f16 */
	ck_assert_float_nan(scale_of(&s, &zero, 0, 1e10f));		/* infinity in f16 */
	s = int_grid(-128, 127, QAT_SCALE_MINMAX, 0);
	ck_assert_float_eq(scale_of(&s, &zero, 0, 0), 1.0f);
	ck_assert_float_eq(zero, -128.0f);
	ck_assert_float_eq(qat_decode(&s, qat_code(&s, 0, 1, zero, &inside), 1, zero), 0.0f);
	ck_assert_float_nan(scale_of(&s, &zero, -3e38f, 3e38f));	/* width past fp32 */
}
END_TEST

/* x * fl(1/s), not x / s: the two part at some midpoints. */
START_TEST(reciprocal)
{
	const qat_scheme s = int_grid(-127, 127, QAT_SCALE_ABSMAX, 127);
	int differ = 0, inside;

	for (int i = 1; i < 200; i++)
		for (int k = 0; k < 127; k++) {
			const float scale = (float)i, x = ((float)k + 0.5f) * scale;
			volatile const float r = 1.0f / scale;
			volatile const float y = x * r;
			const int code = (int8_t)qat_code(&s, x, scale, 0, &inside);
			const int want = (int)nearbyintf(y);

			ck_assert_int_eq(code, want > 127 ? 127 : want);
			ck_assert_int_eq(inside, want <= 127);
			differ += want != (int)nearbyintf(x / scale);
		}
	ck_assert_int_gt(differ, 0);
}
END_TEST

START_TEST(clamped)
{
	const qat_scheme s = int_grid(-8, 7, QAT_SCALE_SIGNED, -8);
	static const struct { float x; int code, inside; } t[] = {
		{ 7.5f, 7, 0 }, { 7.49f, 7, 1 }, { -8.5f, -8, 1 }, { -8.51f, -8, 0 },
		{ 1e20f, 7, 0 }, { -1e20f, -8, 0 }, { 0.5f, 0, 1 }, { 1.5f, 2, 1 },
		{ -2.5f, -2, 1 },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		int inside;

		ck_assert_int_eq((int8_t)qat_code(&s, t[i].x, 1, 0, &inside), t[i].code);
		ck_assert_int_eq(inside, t[i].inside);
	}
}
END_TEST

START_TEST(table)
{
	static const float values[] = { -1, -0.25f, 0.25f, 2 };
	const qat_scheme s = { .grid = QAT_GRID_TABLE, .bits = 2, .table = values };
	static const struct { float y; int code; } t[] = {
		{ -9, 0 }, { -0.625f, 0 }, { -0.62f, 1 }, { 0, 2 }, { 1.125f, 2 }, { 1.2f, 3 },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		ck_assert_int_eq(qat_table_code(&s, t[i].y), t[i].code);
}
END_TEST

/* 2 * E2M1 are integers of a byte; E3M2 would need 448. */
START_TEST(integers)
{
	const qat_scheme e2m1 = float_grid(2, 1, 2, 6), e2m3 = float_grid(2, 3, 2, 7.5f);
	const qat_scheme e3m2 = float_grid(3, 2, 4, 28), i8 = int_grid(-127, 127, 1, 127);
	int shift;

	ck_assert_int_eq(qat_code_integer(&e2m1, &shift), 1);
	ck_assert_int_eq(shift, 1);
	ck_assert_int_eq(qat_code_integer(&e2m3, &shift), 1);
	ck_assert_int_eq(shift, 3);
	ck_assert_int_eq(qat_code_integer(&e3m2, &shift), 0);
	ck_assert_int_eq(qat_code_integer(&i8, &shift), 1);
	ck_assert_int_eq(shift, 0);
}
END_TEST

/* ---- randomness: known answers of Random123's kat_vectors ---- */

START_TEST(philox)
{
	static const struct { uint64_t seed, element; uint32_t sequence, site, out[4]; } t[] = {
		{ 0, 0, 0, 0, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
		{ UINT64_MAX, UINT64_MAX, UINT32_MAX, UINT32_MAX,
		  { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
		{ 0x299f31d0a4093822, 0x85a308d3243f6a88, 0x13198a2e, 0x03707344,
		  { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
	};
	uint32_t out[4];

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		qat_philox(out, t[i].seed, t[i].element, t[i].sequence, t[i].site);
		for (int k = 0; k < 4; k++)
			ck_assert_uint_eq(out[k], t[i].out[k]);
	}
	ck_assert_float_eq(qat_uniform(0), 0.0f);
	ck_assert_float_eq(qat_uniform(0x80000000), 0.5f);
	ck_assert_float_lt(qat_uniform(UINT32_MAX), 1.0f);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("numerics");
	TCase *t = tcase_create("numerics");
	SRunner *runner;
	int failed;

	tcase_add_test(t, bf16);
	tcase_add_test(t, f16);
	tcase_add_test(t, powers);
	tcase_add_test(t, float_grids);
	tcase_add_test(t, float_ties);
	tcase_add_test(t, e4m3_scale);
	tcase_add_test(t, exponent_rules);
	tcase_add_test(t, odd_blocks);
	tcase_add_test(t, reciprocal);
	tcase_add_test(t, clamped);
	tcase_add_test(t, table);
	tcase_add_test(t, integers);
	tcase_add_test(t, philox);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
