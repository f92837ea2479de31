/* test_adamw.c - AdamW's numbers for a step, and the node that it appends. */
#include "plugin_host.h"

#include "../plugins/optimizers/adamw.c"

static const double betas[] = { 0.9, 0.999 };

static adamw_options *options_new(void)
{
	adamw_options *o = host_defaults(host_interface(&qat_plugin_v1, "adamw"));

	o->betas = (qat_floats){ betas, 2 };
	return o;
}

START_TEST(hyper)
{
	adamw_options *o = options_new();
	const qat_update u = { .size = sizeof u, .step = 1, .lr = 0.5, .clip = 0.25, .matrix = 1 };
	const qat_update u2 = { .size = sizeof u, .step = 2, .lr = 0.5, .clip = 1 };
	float h[QAT_HYPER_COUNT];

	ck_assert_double_eq(adamw_vtable.lr(o), 1e-3);
	ck_assert_int_eq(adamw_vtable.states(o), 2);
	ck_assert_int_eq(adamw_vtable.hyper(o, &u, h), QAT_OK);
	ck_assert_float_eq(h[0], 0.5f);
	ck_assert_float_eq(h[1], 0.9f);
	ck_assert_float_eq(h[2], 0.999f);
	ck_assert_float_eq(h[3], 1e-8f);
	ck_assert_float_eq(h[4], 0.01f);
	ck_assert_float_eq(h[7], 0.25f);
	/* The first step's moments, unbiased, are the gradient itself. */
	ck_assert_float_eq(h[5], 1.0f - 0.9f);
	ck_assert_float_eq(h[6], 1.0f - 0.999f);
	ck_assert_int_eq(adamw_vtable.hyper(o, &u2, h), QAT_OK);
	ck_assert_float_eq_tol(h[5], 0.19f, 1e-7f);
	ck_assert_float_eq_tol(h[6], 0.001999f, 2e-7f);
	ck_assert_float_eq(h[4], 0.01f);	/* a vector decays too, as in torch */
	o->decay = DECAY_MATRICES;
	ck_assert_int_eq(adamw_vtable.hyper(o, &u2, h), QAT_OK);
	ck_assert_float_eq(h[4], 0.0f);
	ck_assert_int_eq(adamw_vtable.hyper(o, &u, h), QAT_OK);
	ck_assert_float_eq(h[4], 0.01f);
	free(o);
}
END_TEST

START_TEST(refused)
{
	static const double bad[] = { 0.9, 1.0 }, nan_[] = { NAN, 0.9 };
	const qat_update u = { .size = sizeof u, .step = 1, .lr = 1 };
	const qat_update u0 = { .size = sizeof u, .step = 0, .lr = 1 };
	adamw_options *o = options_new();
	float h[QAT_HYPER_COUNT];

	ck_assert_int_eq(adamw_vtable.hyper(o, &u0, h), QAT_EINVAL);
	o->betas = (qat_floats){ bad, 2 };
	ck_assert_int_eq(adamw_vtable.hyper(o, &u, h), QAT_EINVAL);
	ck_says("betas[1] is 1");
	o->betas = (qat_floats){ nan_, 2 };
	ck_assert_int_eq(adamw_vtable.hyper(o, &u, h), QAT_EINVAL);
	o->betas = (qat_floats){ betas, 1 };
	ck_assert_int_eq(adamw_vtable.hyper(o, &u, h), QAT_EINVAL);
	ck_says("two numbers");
	free(o);
}
END_TEST

static int64_t node_in[6], node_count;
static uint32_t node_op;
static int64_t node_result = 9;

static int64_t record(qat_builder *b, uint32_t op, const qat_attr *attr, int64_t n_in,
		      const int64_t *in, int64_t *out, const char *site)
{
	(void)b;
	(void)attr;
	(void)out;
	(void)site;
	ck_assert_int_le(n_in, 6);
	node_op = op;
	node_count = n_in;
	memcpy(node_in, in, (size_t)n_in * sizeof *in);
	return node_result;
}

START_TEST(build)
{
	const qat_graph_api api = { .size = sizeof api, .node = record };
	const int64_t states[] = { 13, 14, 15 };
	adamw_options *o = options_new();

	ck_assert_int_eq(adamw_vtable.build(o, NULL, 11, 12, states, 15), QAT_EABI);
	host_graph = &api;
	ck_assert_int_eq(adamw_vtable.build(o, NULL, 11, 12, states, 15), QAT_OK);
	ck_assert_uint_eq(node_op, QAT_OP_ADAMW);
	ck_assert_int_eq(node_count, 5);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(node_in[i], 11 + i);
	o->moments = MOMENTS_8BIT;
	ck_assert_int_eq(adamw_vtable.build(o, NULL, 11, 12, states, 16), QAT_OK);
	ck_assert_uint_eq(node_op, QAT_OP_ADAMW8);
	ck_assert_int_eq(node_count, 6);
	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(node_in[i], 11 + i);
	node_result = QAT_ENOMEM;
	ck_assert_int_eq(adamw_vtable.build(o, NULL, 11, 12, states, 15), QAT_ENOMEM);
	free(o);
}
END_TEST

/* Codes have the parameter's shape, units two columns and a row for 256 elements. */
START_TEST(state)
{
	adamw_options *o = options_new();
	const qat_tensor p = { .size = sizeof p, .dtype = QAT_F32, .rank = 2,
			       .shape = { 19, 27, 1, 1 } };
	static const uint32_t types[] = { QAT_I8, QAT_U8, QAT_F32 };

	for (int i = 0; i < 2; i++) {
		qat_tensor t = p;

		ck_assert_int_eq(adamw_vtable.state(o, i, &t), QAT_OK);
		ck_assert(!memcmp(&t, &p, sizeof t));
	}
	o->moments = MOMENTS_8BIT;
	ck_assert_int_eq(adamw_vtable.states(o), 3);
	for (int i = 0; i < 3; i++) {
		qat_tensor t = p;

		ck_assert_int_eq(adamw_vtable.state(o, i, &t), QAT_OK);
		ck_assert_uint_eq(t.dtype, types[i]);
		ck_assert_int_eq(t.rank, 2);
		ck_assert_int_eq(t.shape[0], i < 2 ? 19 : 3);
		ck_assert_int_eq(t.shape[1], i < 2 ? 27 : 2);
	}
	free(o);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("adamw");
	TCase *t = tcase_create("adamw");

	tcase_add_test(t, hyper);
	tcase_add_test(t, refused);
	tcase_add_test(t, build);
	tcase_add_test(t, state);
	suite_add_tcase(suite, t);
	return host_run(suite);
}
