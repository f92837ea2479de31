/* test_fp8.c - FP8: codes against torch's types, ends of the grid, what may be clipped. */
#include "plugin_host.h"

#include <qatrun/numerics.h>

#include "float_numbers.h"

#include "../quantizers/fp8.c"

static qat_scheme s;

static int make(const fp8_options *o, int32_t port)
{
	const qat_site site = { sizeof site, port, 4, 50, "layers.1.mlp.down" };

	host_interface(&qat_plugin_v1, "fp8");
	memset(&s, 0x5a, sizeof s);
	s.size = sizeof s;
	return fp8_vtable.scheme(o, &site, 0, &s);
}

START_TEST(schemes)
{
	static const struct {
		int32_t port;
		fp8_options o;
		int64_t rows;
		int range;
	} t[] = {
		{ QAT_PORT_WEIGHT, { .dynamic = 1 }, 1, QAT_RANGE_DYNAMIC },
		{ QAT_PORT_WEIGHT, { .dynamic = 1, .granularity = TENSOR }, 0, QAT_RANGE_DYNAMIC },
		{ QAT_PORT_INPUT, { .dynamic = 1 }, 1, QAT_RANGE_DYNAMIC },
		{ QAT_PORT_INPUT, { .dynamic = 0 }, 0, QAT_RANGE_STATIC },
		{ QAT_PORT_KV, { .dynamic = 1, .granularity = TOKEN }, 1, QAT_RANGE_DYNAMIC },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		ck_assert_int_eq(make(&t[i].o, t[i].port), QAT_OK);
		ck_assert_int_eq(s.block_rows, t[i].rows);
		ck_assert_int_eq(s.block_cols, 0);
		ck_assert_int_eq(s.range, t[i].range);
		ck_assert_int_eq(qat_scheme_clips(&s), t[i].range == QAT_RANGE_STATIC);
	}
}
END_TEST

START_TEST(refused)
{
	static const struct {
		int32_t port;
		fp8_options o;
		const char *why;
	} t[] = {
		{ QAT_PORT_WEIGHT, { .dynamic = 0 }, "dynamic: false is for inputs" },
		{ QAT_PORT_WEIGHT, { .dynamic = 1, .granularity = TOKEN },
		  "a weight has channels" },
		{ QAT_PORT_KV, { .dynamic = 1, .granularity = CHANNEL }, "an input has tokens" },
		{ QAT_PORT_INPUT, { .dynamic = 0, .granularity = TOKEN }, "granularity: tensor" },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		ck_assert_int_eq(make(&t[i].o, t[i].port), QAT_EINVAL);
		ck_says("layers.1.mlp.down");
		ck_says(t[i].why);
	}
}
END_TEST

/* float_hashes 2 and 3 are E4M3 and E5M2. */
START_TEST(against_torch)
{
	const fp8_options o = { .element = _i, .dynamic = 1 };

	ck_assert_int_eq(make(&o, QAT_PORT_WEIGHT), QAT_OK);
	ck_assert_int_eq(s.ebits, float_hashes[2 + _i].ebits);
	ck_assert_uint_eq(values_hash(&s), float_hashes[2 + _i].values);
	ck_assert_uint_eq(codes_hash(&s), float_hashes[2 + _i].codes);
}
END_TEST

START_TEST(ends)
{
	static const struct { int element; float x; int code, inside; } t[] = {
		{ 0, 448, 0x7e, 1 }, { 0, 463.9f, 0x7e, 1 },
		{ 0, 464, 0x7e, 1 },	/* tie: to even */
		{ 0, 464.1f, 0x7e, 0 },
		{ 0, 1e30f, 0x7e, 0 }, { 0, -INFINITY, 0xfe, 0 }, { 0, 0x1p-6f, 0x08, 1 },
		{ 0, 0x1p-9f, 1, 1 }, { 0, 0x1p-10f, 0, 1 }, { 0, 0x1.8p-9f, 2, 1 },
		{ 0, 0x1.c2p-7f, 0x07, 1 }, { 0, -0.0f, 0x80, 1 }, { 0, 1e-40f, 0, 1 },
		{ 1, 57344, 0x7b, 1 }, { 1, 61439, 0x7b, 1 }, { 1, 61440, 0x7b, 0 },
		{ 1, 0x1p-14f, 0x04, 1 }, { 1, 0x1p-16f, 1, 1 }, { 1, 0x1p-17f, 0, 1 },
		{ 1, -0x1.8p-16f, 0x82, 1 }, { 1, NAN, 0, 1 },
	};
	int inside;

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		const fp8_options o = { .element = t[i].element, .dynamic = 1 };

		ck_assert_int_eq(make(&o, QAT_PORT_WEIGHT), QAT_OK);
		ck_assert_msg(qat_code(&s, t[i].x, 1.0f, 0, &inside) == t[i].code, "%a", t[i].x);
		ck_assert_msg(inside == t[i].inside, "%a", t[i].x);
	}
}
END_TEST

/* The largest of a block comes out as the grid's end, for scales rounded either way. */
START_TEST(never_clipped)
{
	for (int v = 0; v < 4; v++) {
		const fp8_options o = { .element = v & 1, .scale_format = v >> 1, .dynamic = 1 };

		ck_assert_int_eq(make(&o, QAT_PORT_WEIGHT), QAT_OK);
		ck_assert_int_eq(qat_scheme_clips(&s), 0);
		for (uint32_t i = 0; i < 20000; i++) {
			const float x = fabsf(number_at(i, 3)) + 1e-29f;
			qat_block_stats b;
			float zero, scale;
			int inside;

			qat_stats_init(&b);
			qat_stats_add(&b, x);
			scale = qat_block_scale(&s, &b, &zero);
			ck_assert_float_eq(qat_float_value(&s, qat_code(&s, x, scale, 0, &inside)),
					   s.largest);
			ck_assert_int_eq(inside, 1);
		}
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("fp8");
	TCase *t = tcase_create("fp8");

	tcase_add_test(t, schemes);
	tcase_add_test(t, refused);
	tcase_add_loop_test(t, against_torch, 0, 2);
	tcase_add_test(t, ends);
	tcase_add_test(t, never_clipped);
	suite_add_tcase(suite, t);
	return host_run(suite);
}
