/* test_mxfp.c - MXFP4: all codes, all ties, and the three rules for the exponent. MXFP6 and
 * MXFP8: against what torch and torchao gave. */
#include "plugin_host.h"

#include <qatrun/numerics.h>

#include "float_numbers.h"

#include "../quantizers/mxfp.c"

static qat_scheme s;

static int make(int64_t rule, int64_t grad, int64_t cols)
{
	const qat_site site = { sizeof site, QAT_PORT_WEIGHT, 4, cols, "layers.1.mlp.down" };
	const mxfp_options o = { .scale_rule = rule, .gradient = grad };

	host_interface(&qat_plugin_v1, "mxfp4");
	memset(&s, 0x5a, sizeof s);
	s.size = sizeof s;
	return mxfp4_vtable.scheme(&o, &site, 0, &s);
}

START_TEST(scheme)
{
	ck_assert_int_eq(make(0, 0, 96), QAT_OK);
	ck_assert_int_eq(s.block_rows, 1);
	ck_assert_int_eq(s.block_cols, 32);
	ck_assert_int_eq(s.scale_format, QAT_E8M0);
	ck_assert_int_eq(s.scale_rule, QAT_SCALE_POW2_FLOOR);
	ck_assert_int_eq(s.gradient, QAT_GRAD_STE);
	ck_assert_int_eq(qat_scheme_clips(&s), 0);
	ck_assert_int_eq(make(2, 1, 32), QAT_OK);
	ck_assert_int_eq(s.scale_rule, QAT_SCALE_POW2_EVEN);
	ck_assert_int_eq(qat_scheme_clips(&s), 1);
	ck_assert_int_eq(make(0, 0, 100), QAT_EINVAL);
	ck_says("layers.1.mlp.down");
	ck_says("multiples of 32, not 100");
}
END_TEST

START_TEST(codes)
{
	static const float values[] = { 0, 0.5f, 1, 1.5f, 2, 3, 4, 6 };
	int inside;

	ck_assert_int_eq(make(0, 0, 32), QAT_OK);
	for (int c = 0; c < 8; c++) {
		ck_assert_float_eq(qat_float_value(&s, (uint8_t)c), values[c]);
		ck_assert_float_eq(qat_float_value(&s, (uint8_t)(c | 8)), -values[c]);
		ck_assert_int_eq(qat_code(&s, values[c], 1.0f, 0, &inside), c);
		ck_assert_int_eq(inside, 1);
		ck_assert_int_eq(qat_code(&s, -values[c], 1.0f, 0, &inside), c | 8);
	}
}
END_TEST

/* Ties, and a hair to either side of each. */
START_TEST(ties)
{
	static const struct { float tie, even, below, above; } t[] = {
		{ 0.25f, 0, 0, 0.5f }, { 0.75f, 1, 0.5f, 1 }, { 1.25f, 1, 1, 1.5f },
		{ 1.75f, 2, 1.5f, 2 }, { 2.5f, 2, 2, 3 }, { 3.5f, 4, 3, 4 }, { 5, 4, 4, 6 },
	};
	int inside;

	ck_assert_int_eq(make(0, 1, 32), QAT_OK);
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		const float x[] = { t[i].tie, nextafterf(t[i].tie, 0), nextafterf(t[i].tie, 9) };
		const float want[] = { t[i].even, t[i].below, t[i].above };

		for (int k = 0; k < 3; k++) {
			const uint8_t code = qat_code(&s, x[k], 1.0f, 0, &inside);

			ck_assert_float_eq(qat_decode(&s, code, 1.0f, 0), want[k]);
		}
	}
	ck_assert_int_eq(qat_code(&s, 6.9f, 1.0f, 0, &inside), 7);
	ck_assert_int_eq(inside, 1);		/* rounds to 6 */
	ck_assert_int_eq(qat_code(&s, 7.0f, 1.0f, 0, &inside), 7);
	ck_assert_int_eq(inside, 0);		/* would round to 8 */
	ck_assert_int_eq(qat_code(&s, -1e30f, 1.0f, 0, &inside), 15);
}
END_TEST

static int exponent(int64_t rule, float amax)
{
	ck_assert_int_eq(make(rule, 0, 32), QAT_OK);
	return qat_scale_exponent(&s, amax);
}

/* Rules differ at significands 1.5 (ceil goes up above it) and 1.75 (even from it). */
START_TEST(rules)
{
	static const struct { float amax; int floor, ceil, even; } t[] = {
		{ 4, 0, 0, 0 }, { 6, 0, 0, 0 }, { 7, 0, 1, 1 }, { 8, 1, 1, 1 },
		{ 1, -2, -2, -2 }, { 1.5f, -2, -2, -2 }, { 1.75f, -2, -1, -1 },
		{ 1.7499999f, -2, -1, -2 }, { 1.5000001f, -2, -1, -2 },
		{ 1.9999999f, -2, -1, -1 }, { 2, -1, -1, -1 },
		{ 0, -127, -127, -127 }, { 1e-40f, -127, -127, -127 },
		{ 1.17549435e-38f, -127, -127, -127 }, { 3.4028235e38f, 125, 126, 126 },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		ck_assert_int_eq(exponent(0, t[i].amax), t[i].floor);
		ck_assert_int_eq(exponent(1, t[i].amax), t[i].ceil);
		ck_assert_int_eq(exponent(2, t[i].amax), t[i].even);
	}
}
END_TEST

START_TEST(blocks)
{
	qat_block_stats b;
	float zero, scale;
	int inside;

	ck_assert_int_eq(make(0, 0, 32), QAT_OK);
	qat_stats_init(&b);
	qat_stats_add(&b, 0.0f);
	scale = qat_block_scale(&s, &b, &zero);
	ck_assert_int_eq(qat_f32_to_e8m0(scale), 0);
	ck_assert_float_eq(qat_decode(&s, qat_code(&s, 0.0f, scale, 0, &inside), scale, 0), 0.0f);
	qat_stats_init(&b);
	qat_stats_add(&b, 3.0f);
	qat_stats_add(&b, NAN);
	scale = qat_block_scale(&s, &b, &zero);
	ck_assert_int_eq(qat_f32_to_e8m0(scale), 0xff);
	ck_assert_float_nan(qat_decode(&s, qat_code(&s, 3.0f, scale, 0, &inside), scale, 0));
}
END_TEST

/* ---- the wider elements ---- */

static void make_wide(int which, int64_t rule)
{
	const qat_site site = { sizeof site, QAT_PORT_WEIGHT, 4, 64, "layers.1.mlp.down" };
	const mxfp_options o = { .element = which & 1, .scale_rule = rule };

	host_interface(&qat_plugin_v1, which < 2 ? "mxfp6" : "mxfp8");
	s.size = sizeof s;
	ck_assert_int_eq((which < 2 ? mxfp6_vtable : mxfp8_vtable).scheme(&o, &site, 0, &s),
			 QAT_OK);
	ck_assert_int_eq(s.ebits, float_hashes[which].ebits);
	ck_assert_int_eq(s.mbits, float_hashes[which].mbits);
	ck_assert_int_eq(s.bits, which < 2 ? 6 : 8);
	ck_assert_str_eq(s.name, which < 2 ? "mxfp6" : "mxfp8");
}

START_TEST(wide_elements)
{
	static const float largest[] = { 7.5f, 28, 448, 57344 };

	make_wide(_i, 0);
	ck_assert_float_eq(s.largest, largest[_i]);
	ck_assert_uint_eq(values_hash(&s), float_hashes[_i].values);
	ck_assert_uint_eq(codes_hash(&s), float_hashes[_i].codes);
}
END_TEST

/* Bytes of scales, then codes, of blocks of 32. */
static uint64_t blocks_hash(void)
{
	static uint8_t bytes[MX_BLOCKS], made[MX_BLOCKS * 32];
	float x[32], zero, scale;
	qat_block_stats b;
	int inside;

	for (uint32_t k = 0; k < MX_BLOCKS; k++) {
		qat_stats_init(&b);
		for (uint32_t i = 0; i < 32; i++) {
			x[i] = number_at(k * 32 + i, 32);
			qat_stats_add(&b, x[i]);
		}
		scale = qat_block_scale(&s, &b, &zero);
		bytes[k] = qat_f32_to_e8m0(scale);
		for (uint32_t i = 0; i < 32; i++)
			made[k * 32 + i] = qat_code(&s, x[i], scale, 0, &inside);
	}
	return fnv(fnv(fnv_start, bytes, sizeof bytes), made, sizeof made);
}

START_TEST(wide_blocks)
{
	for (int rule = 0; rule < 3; rule++) {
		make_wide(_i, rule);
		ck_assert_uint_eq(blocks_hash(), float_hashes[_i].mx[rule]);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mxfp");
	TCase *t = tcase_create("mxfp");

	tcase_add_test(t, scheme);
	tcase_add_test(t, codes);
	tcase_add_test(t, ties);
	tcase_add_test(t, rules);
	tcase_add_test(t, blocks);
	tcase_add_loop_test(t, wide_elements, 0, 4);
	tcase_add_loop_test(t, wide_blocks, 0, 4);
	suite_add_tcase(suite, t);
	return host_run(suite);
}
