/* test_int.c - the integer quantizer: which scheme for which options, and what the
 * schemes do to numbers that can be checked by eye. */
#include "plugin_host.h"

#include <qatrun/numerics.h>

#include "../quantizers/int.c"

static const qat_site weight = { sizeof(qat_site), QAT_PORT_WEIGHT, 64, 96, "layers.0.mlp.up" };
static const qat_site input = { sizeof(qat_site), QAT_PORT_INPUT, 64, 96, "layers.0.mlp.up" };
static const qat_site kv = { sizeof(qat_site), QAT_PORT_KV, 64, 96, "layers.0.attn" };

static int_options o;		/* what each test changes */
static qat_scheme s;

static void defaults(const char *name)
{
	void *p = host_defaults(host_interface(&qat_plugin_v1, name));

	memcpy(&o, p, sizeof o);
	free(p);
}

static int make(const qat_site *site)
{
	memset(&s, 0x5a, sizeof s);
	s.size = sizeof s;
	host_message[0] = '\0';
	return int_vtable.scheme(&o, site, 0, &s);
}

/* One block: codes, scale and zero point, and which elements pass a gradient. */
typedef struct block {
	int code[8], inside[8];
	float scale, zero, back[8];
} block;

static block quantize(const float *x, int n)
{
	qat_block_stats stats;
	block b = { .scale = 0 };

	qat_stats_init(&stats);
	for (int i = 0; i < n; i++)
		qat_stats_add(&stats, x[i]);
	b.scale = qat_block_scale(&s, &stats, &b.zero);
	for (int i = 0; i < n; i++) {
		const uint8_t code = qat_code(&s, x[i], b.scale, b.zero, &b.inside[i]);

		b.code[i] = (int8_t)code;
		b.back[i] = qat_decode(&s, code, b.scale, b.zero);
	}
	return b;
}

START_TEST(defaults_of_ports)
{
	defaults("int4");
	ck_assert_int_eq(make(&weight), QAT_OK);
	ck_assert_int_eq(s.size, sizeof s);
	ck_assert_int_eq(s.numerics, QAT_NUMERICS);
	ck_assert_int_eq(s.grid, QAT_GRID_UNIFORM);
	ck_assert_int_eq(s.bits, 4);
	ck_assert_int_eq(s.qmin, -7);
	ck_assert_int_eq(s.qmax, 7);
	ck_assert_double_eq(s.divisor, 7.0);
	ck_assert_int_eq(s.block_rows, 1);
	ck_assert_int_eq(s.block_cols, 0);
	ck_assert_int_eq(s.scale_format, QAT_F32);
	ck_assert_int_eq(s.scale_rule, QAT_SCALE_ABSMAX);
	ck_assert_int_eq(s.gradient, QAT_GRAD_STE_CLIPPED);
	ck_assert_str_eq(s.name, "int4");
	ck_assert_int_eq(qat_scheme_clips(&s), 0);
	ck_assert_int_eq(make(&input), QAT_OK);
	ck_assert_int_eq(s.block_rows, 1);
	ck_assert_int_eq(s.range, QAT_RANGE_DYNAMIC);
	ck_assert_int_eq(make(&kv), QAT_OK);
	ck_assert_int_eq(s.block_rows, 1);
}
END_TEST

START_TEST(widths)
{
	static const char *const all_names[] = {
		"int2", "int3", "int4", "int5", "int6", "int7", "int8"
	};

	for (int bits = 2; bits <= 8; bits++) {
		const qat_interface *i = host_interface(&qat_plugin_v1, all_names[bits - 2]);

		ck_assert_str_eq(i->options[0].name, "bits");
		ck_assert_double_eq(i->options[0].min, bits);
		ck_assert_double_eq(i->options[0].max, bits);
		defaults(all_names[bits - 2]);
		ck_assert_int_eq(make(&weight), QAT_OK);
		ck_assert_int_eq(s.bits, bits);
		ck_assert_int_eq(s.qmax, (1 << (bits - 1)) - 1);
		ck_assert_int_eq(s.qmin, -s.qmax);
		ck_assert_str_eq(s.name, all_names[bits - 2]);
		o.symmetric = 0;
		ck_assert_int_eq(make(&weight), QAT_OK);
		ck_assert_int_eq(s.qmin, -(1 << (bits - 1)));
	}
	defaults("int");
	ck_assert_int_eq(make(&weight), QAT_OK);
	ck_assert_int_eq(s.bits, 8);
}
END_TEST

START_TEST(granularity)
{
	defaults("int8");
	o.group_size = 32;
	ck_assert_int_eq(make(&weight), QAT_OK);
	ck_assert_int_eq(s.block_rows, 1);
	ck_assert_int_eq(s.block_cols, 32);
	ck_assert_int_eq(make(&input), QAT_OK);
	ck_assert_int_eq(s.block_cols, 32);
	o.group_size = 0;
	o.granularity = TENSOR;
	ck_assert_int_eq(make(&weight), QAT_OK);
	ck_assert_int_eq(s.block_rows, 0);
	ck_assert_int_eq(s.block_cols, 0);
	defaults("int8");
	o.dynamic = 0;
	ck_assert_int_eq(make(&input), QAT_OK);
	ck_assert_int_eq(s.block_rows, 0);
	ck_assert_int_eq(s.range, QAT_RANGE_STATIC);
	ck_assert_int_eq(qat_scheme_clips(&s), 1);
}
END_TEST

START_TEST(refused)
{
	static const struct { int_options set; const qat_site *site; const char *says[3]; } t[] = {
		{ { .group_size = 36 }, &weight, { "layers.0.mlp.up", "96 columns", "32 and 48" } },
		{ { .group_size = 100 }, &weight, { "group_size 100", "96", "does is 96" } },
		{ { .granularity = GROUP }, &weight, { "needs a group_size" } },
		{ { .granularity = TOKEN }, &weight, { "weight", "token is for inputs" } },
		{ { .granularity = CHANNEL }, &input, { "input", "channel is for weights" } },
		{ { .granularity = CHANNEL }, &kv, { "kv" } },
		{ { .granularity = TENSOR, .group_size = 32 }, &weight, { "leave one" } },
		{ { .float_zero = 1, .symmetric = 1 }, &weight, { "needs symmetric: false" } },
		{ { .symmetric = 0, .divisor = FULL }, &weight, { "divisor: full" } },
		{ { .dynamic = 0 }, &weight, { "follows the weight" } },
		{ { .dynamic = 0, .granularity = TOKEN }, &input, { "granularity: tensor" } },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		defaults("int4");
		o.group_size = t[i].set.group_size;
		o.granularity = t[i].set.granularity;
		o.float_zero = t[i].set.float_zero;
		o.divisor = t[i].set.divisor;
		if (i == 8)
			o.symmetric = 0;
		if (i >= 9)
			o.dynamic = 0;
		ck_assert_msg(make(t[i].site) == QAT_EINVAL, "case %zu was taken", i);
		for (int k = 0; k < 3 && t[i].says[k]; k++)
			ck_says(t[i].says[k]);
	}
	defaults("int4");
	ck_assert_int_eq(int_vtable.scheme(&o, &weight, 1, &s), QAT_EINVAL);
}
END_TEST

START_TEST(ranges)
{
	defaults("int4");
	o.ranges.range = PERCENTILE;
	ck_assert_int_eq(make(&weight), QAT_OK);
	ck_assert_int_eq(s.measure, QAT_MEASURE_PERCENTILE);
	ck_assert(s.measure_value == 99.99);
	ck_assert_int_eq(qat_scheme_clips(&s), 1);
	o.ranges.range = EMA;
	ck_assert_int_eq(make(&weight), QAT_EINVAL);
	ck_says("range: ema is for inputs");
	ck_assert_int_eq(make(&input), QAT_EINVAL);
	ck_says("say dynamic: false");
	o.dynamic = 0;
	ck_assert_int_eq(make(&input), QAT_OK);
	ck_assert_int_eq(s.measure, QAT_MEASURE_EMA);
	ck_assert(s.measure_value == 0.01);
	o.ranges.range = MSE;
	o.dynamic = 1;
	o.symmetric = 0;
	o.float_zero = 1;
	ck_assert_int_eq(make(&weight), QAT_EINVAL);
	ck_says("range: mse with float_zero");
}
END_TEST

/* amax 7: s = 1, ties go to even. */
START_TEST(narrow)
{
	static const float x[] = { 7, -7, 3.5f, 2.5f, 0.5f, -0.5f, -1.5f, 6.5f };
	static const int codes[] = { 7, -7, 4, 2, 0, 0, -2, 6 };
	block b;

	defaults("int4");
	ck_assert_int_eq(make(&weight), QAT_OK);
	b = quantize(x, 8);
	ck_assert_float_eq(b.scale, 1.0f);
	for (int i = 0; i < 8; i++) {
		ck_assert_int_eq(b.code[i], codes[i]);
		ck_assert_int_eq(b.inside[i], 1);
		ck_assert_float_eq(b.back[i], (float)codes[i]);
	}
}
END_TEST

/* amax 7.5, d 7.5: +7.5 rounds to 8, past the end; -7.5 to -8, which is a code. */
START_TEST(full)
{
	static const float x[] = { 7.5f, -7.5f, 6.5f };
	block b;

	defaults("int4");
	o.divisor = FULL;
	ck_assert_int_eq(make(&weight), QAT_OK);
	ck_assert_int_eq(s.qmin, -8);
	ck_assert_int_eq(qat_scheme_clips(&s), 1);
	b = quantize(x, 3);
	ck_assert_float_eq(b.scale, 1.0f);
	ck_assert_int_eq(b.code[0], 7);
	ck_assert_int_eq(b.inside[0], 0);
	ck_assert_int_eq(b.code[1], -8);
	ck_assert_int_eq(b.inside[1], 1);
	ck_assert_int_eq(b.code[2], 6);
}
END_TEST

/* The first of the largest elements gets code -8, whatever its sign. */
START_TEST(signed_divisor)
{
	static const float up[] = { 1, 8, -8 }, down[] = { 1, -8, 8 };
	block b;

	defaults("int4");
	o.divisor = SIGNED;
	ck_assert_int_eq(make(&weight), QAT_OK);
	b = quantize(up, 3);
	ck_assert_float_eq(b.scale, -1.0f);
	ck_assert_int_eq(b.code[0], -1);
	ck_assert_int_eq(b.code[1], -8);
	ck_assert_int_eq(b.code[2], 7);
	ck_assert_int_eq(b.inside[2], 0);
	ck_assert_float_eq(b.back[1], 8.0f);
	b = quantize(down, 3);
	ck_assert_float_eq(b.scale, 1.0f);
	ck_assert_int_eq(b.code[1], -8);
	ck_assert_int_eq(b.code[2], 7);
}
END_TEST

START_TEST(asymmetric)
{
	static const float positive[] = { 63.75f, 127.5f }, mixed[] = { -1, 126.5f, 0, 0.25f };
	static const float negative[] = { -255, -51 };
	block b;

	defaults("int8");
	o.symmetric = 0;
	ck_assert_int_eq(make(&input), QAT_OK);
	ck_assert_int_eq(s.zero, QAT_ZERO_INT);
	b = quantize(positive, 2);	/* lo is 0, not 63.75 */
	ck_assert_float_eq(b.scale, 0.5f);
	ck_assert_float_eq(b.zero, -128.0f);
	ck_assert_int_eq(b.code[0], 0);	/* 127.5 rounds to 128 */
	ck_assert_int_eq(b.code[1], 127);
	b = quantize(mixed, 4);
	ck_assert_float_eq(b.zero, -126.0f);
	ck_assert_int_eq(b.code[0], -128);
	ck_assert_int_eq(b.code[1], 127);
	ck_assert_float_eq(b.back[2], 0.0f);
	ck_assert_int_eq(b.code[3], -126);	/* 0.5 rounds to 0 */
	b = quantize(negative, 2);
	ck_assert_float_eq(b.scale, 1.0f);
	ck_assert_float_eq(b.zero, 127.0f);
	ck_assert_int_eq(b.code[0], -128);
	ck_assert_int_eq(b.code[1], 76);
}
END_TEST

START_TEST(float_zero)
{
	static const float x[] = { 1, 16, 3.5f, 4.5f }, same[] = { 5, 5 };
	block b;

	defaults("int4");
	o.symmetric = 0;
	o.float_zero = 1;
	ck_assert_int_eq(make(&weight), QAT_OK);
	b = quantize(x, 4);
	ck_assert_float_eq(b.scale, 1.0f);
	ck_assert_float_eq(b.zero, 9.0f);
	ck_assert_int_eq(b.code[0], -8);
	ck_assert_int_eq(b.code[1], 7);
	ck_assert_int_eq(b.code[2], -6);	/* 2.5 above lo rounds to 2 */
	ck_assert_int_eq(b.code[3], -4);	/* 3.5 to 4 */
	ck_assert_float_eq(b.back[0], 1.0f);
	ck_assert_float_eq(b.back[1], 16.0f);
	b = quantize(same, 2);
	ck_assert_float_eq(b.scale, 1e-6f / 15.0f);
	ck_assert_float_eq_tol(b.back[0], 5.0f, 1e-6f);
}
END_TEST

/* 1/7 = 0x3e124925 */
START_TEST(stored_scales)
{
	static const float x[] = { 1, -0.5f };

	defaults("int4");
	ck_assert_int_eq(make(&weight), QAT_OK);
	ck_assert_uint_eq(qat_f32_bits(quantize(x, 2).scale), 0x3e124925);
	o.scale_format = 1;
	ck_assert_int_eq(make(&weight), QAT_OK);
	ck_assert_int_eq(s.scale_format, QAT_BF16);
	ck_assert_float_eq(quantize(x, 2).scale, 0.142578125f);
	o.scale_format = 2;
	ck_assert_int_eq(make(&weight), QAT_OK);
	ck_assert_int_eq(s.scale_format, QAT_F16);
	ck_assert_float_eq(quantize(x, 2).scale, 0.142822265625f);
	ck_assert_int_eq(qat_scheme_clips(&s), 1);
}
END_TEST

START_TEST(gradient)
{
	defaults("int4");
	o.divisor = FULL;
	o.gradient = STE;
	ck_assert_int_eq(make(&weight), QAT_OK);
	ck_assert_int_eq(s.gradient, QAT_GRAD_STE);
	ck_assert_int_eq(qat_scheme_clips(&s), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("int");
	TCase *t = tcase_create("int");

	tcase_add_test(t, defaults_of_ports);
	tcase_add_test(t, widths);
	tcase_add_test(t, granularity);
	tcase_add_test(t, refused);
	tcase_add_test(t, ranges);
	tcase_add_test(t, narrow);
	tcase_add_test(t, full);
	tcase_add_test(t, signed_divisor);
	tcase_add_test(t, asymmetric);
	tcase_add_test(t, float_zero);
	tcase_add_test(t, stored_scales);
	tcase_add_test(t, gradient);
	suite_add_tcase(suite, t);
	return host_run(suite);
}
