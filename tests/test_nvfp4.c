/* test_nvfp4.c - NVFP4: both levels of scales, against torchao and at their ends. */
#include "plugin_host.h"

#include <qatrun/numerics.h>

#include "float_numbers.h"

#include "../quantizers/nvfp4.c"

static qat_scheme s;

static int make(int64_t dynamic, int64_t gradient, int32_t port, int64_t cols)
{
	const qat_site site = { sizeof site, port, 4, cols, "layers.1.mlp.down" };
	const nvfp4_options o = { .dynamic = dynamic, .gradient = gradient };

	host_interface(&qat_plugin_v1, "nvfp4");
	memset(&s, 0x5a, sizeof s);
	s.size = sizeof s;
	return nvfp4_vtable.scheme(&o, &site, 0, &s);
}

START_TEST(schemes)
{
	ck_assert_int_eq(make(1, STE, QAT_PORT_WEIGHT, 48), QAT_OK);
	ck_assert_int_eq(s.second_rows, 0);
	ck_assert_int_eq(s.block_cols, 16);
	ck_assert_int_eq(qat_scheme_clips(&s), 0);
	ck_assert_int_eq(make(1, STE_CLIPPED, QAT_PORT_INPUT, 48), QAT_OK);
	ck_assert_int_eq(s.second_rows, 1);
	ck_assert_int_eq(qat_scheme_clips(&s), 1);
	ck_assert_int_eq(make(0, STE, QAT_PORT_INPUT, 48), QAT_OK);
	ck_assert_int_eq(s.second_rows, 0);
	ck_assert_int_eq(s.range, QAT_RANGE_STATIC);
	ck_assert_int_eq(qat_range_rows(&s), 0);
	ck_assert_int_eq(qat_range_cols(&s), 0);
	ck_assert_int_eq(make(0, STE, QAT_PORT_WEIGHT, 48), QAT_EINVAL);
	ck_says("dynamic: false is for inputs");
	ck_assert_int_eq(make(1, STE, QAT_PORT_WEIGHT, 40), QAT_EINVAL);
	ck_says("multiples of 16, not 40");
}
END_TEST

START_TEST(against_torchao)
{
	static float x[TWO_ROWS * TWO_COLS];
	static uint8_t bytes[TWO_ROWS * TWO_COLS / 16], codes[TWO_ROWS * TWO_COLS];
	qat_block_stats whole, b;
	float second, zero;
	int inside;

	ck_assert_int_eq(make(1, STE, QAT_PORT_WEIGHT, TWO_COLS), QAT_OK);
	qat_stats_init(&whole);
	for (uint32_t i = 0; i < TWO_ROWS * TWO_COLS; i++) {
		x[i] = ldexpf(number_at(i, TWO_COLS), -(int)(i / TWO_COLS / 2));
		qat_stats_add(&whole, x[i]);
	}
	second = qat_second_scale(&s, whole.amax, whole.bad);
	for (uint32_t k = 0; k < TWO_ROWS * TWO_COLS / 16; k++) {
		float scale;

		qat_stats_init(&b);
		b.second = second;
		for (uint32_t i = 0; i < 16; i++)
			qat_stats_add(&b, x[16 * k + i]);
		scale = qat_block_scale(&s, &b, &zero);
		for (uint32_t i = 0; i < 16; i++)
			codes[16 * k + i] = qat_code(&s, x[16 * k + i], scale, 0, &inside);
		bytes[k] = qat_float_pattern(&(qat_scheme){ .ebits = 4, .mbits = 3 },
					     qat_round_e4m3(scale / second));
	}
	ck_assert_uint_eq(fnv(fnv(fnv_start, bytes, sizeof bytes), codes, sizeof codes),
			  two_level_hash);
}
END_TEST

static float scale_of(float amax, float second)
{
	qat_block_stats b;
	float zero;

	qat_stats_init(&b);
	b.second = second;
	qat_stats_add(&b, amax);
	return qat_block_scale(&s, &b, &zero);
}

START_TEST(ends)
{
	ck_assert_int_eq(make(1, STE_CLIPPED, QAT_PORT_WEIGHT, 16), QAT_OK);
	ck_assert_float_eq(qat_second_scale(&s, 2688, 0), 1);
	ck_assert_float_eq(qat_second_scale(&s, 0, 0), 1);
	ck_assert_float_eq(qat_second_scale(&s, 0x1p-101f, 0), 1);
	ck_assert_float_eq(qat_second_scale(&s, 0x1p-100f, 0), 0x1p-100f / 2688.0f);
	ck_assert_float_nan(qat_second_scale(&s, 1, 1));
	ck_assert_float_eq(scale_of(2688, 1), 448);
	ck_assert_float_eq(scale_of(1e9f, 1), 448);		/* under a calibrated S */
	ck_assert_float_eq(scale_of(0, 1), 0x1p-9f);
	ck_assert_float_eq(scale_of(6 * 0x1.8p-9f, 1), 0x1p-8f);	/* tie: to even */
	ck_assert_float_eq(scale_of(6 * 27, 1), 28);		/* tie: to even */
	ck_assert_float_eq(scale_of(6 * 25, 1), 24);
	ck_assert_float_eq(scale_of(6, 0.25f), 1);
	ck_assert_float_nan(scale_of(NAN, 1));
	ck_assert_float_nan(scale_of(1, NAN));
}
END_TEST

/* x / s, where x * fl(1 / s) rounds to the other side of a tie. */
START_TEST(divides)
{
	int inside, differ = 0;

	ck_assert_int_eq(make(1, STE, QAT_PORT_WEIGHT, 16), QAT_OK);
	for (uint32_t i = 1; i < 100000; i++) {
		const float scale = fabsf(number_at(i, 1000)) + 1e-20f, x = scale * 2.5f;
		const float y = qat_float_value(&s, qat_code(&s, x, scale, 0, &inside));

		ck_assert_float_eq(y, x / scale > 2.5f ? 3 : 2);
		differ += (x * (1.0f / scale) > 2.5f) != (x / scale > 2.5f);
	}
	ck_assert_int_gt(differ, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nvfp4");
	TCase *t = tcase_create("nvfp4");

	tcase_add_test(t, schemes);
	tcase_add_test(t, against_torchao);
	tcase_add_test(t, ends);
	tcase_add_test(t, divides);
	suite_add_tcase(suite, t);
	return host_run(suite);
}
