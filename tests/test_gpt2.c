/* test_gpt2.c - gpt2: parameters and network. */
#include "fake_graph.h"

#include "../plugins/models/gpt2.c"

static gpt2_config *config_new(void)
{
	gpt2_config *c = host_defaults(host_interface(&qat_plugin_v1, "gpt2"));

	c->vocab_size = 100;
	c->n_embd = 32;
	c->n_layer = 2;
	c->n_head = 8;
	c->n_positions = 16;
	fake_clear();
	return c;
}

START_TEST(numbers)
{
	gpt2_config *c = config_new();
	qat_model_info i = { .size = sizeof i };

	ck_assert_int_eq(gpt2_vtable.check(c, &i), QAT_OK);
	ck_assert(i.vocabulary == 100 && i.hidden == 32 && i.layers == 2);
	ck_assert(i.context == 16 && i.tied == 1);
	c->n_head = 5;
	ck_assert_int_eq(gpt2_vtable.check(c, &i), QAT_EINVAL);
	ck_says("n_head 5");
	c->n_head = 8;
	c->add_cross_attention = 1;
	ck_assert_int_eq(gpt2_vtable.check(c, &i), QAT_ENOTSUP);
	c->add_cross_attention = 0;
	c->n_embd = 1 << 20;
	c->n_layer = 4096;
	ck_assert_int_eq(gpt2_vtable.check(c, &i), QAT_EINVAL);
	ck_says("out of reach");
	free(c);
}
END_TEST

START_TEST(parameters)
{
	static const struct { const char *name, *hub; int64_t rows, cols; } want[] = {
		{ "embed.weight", "wte.weight", 100, 32 },
		{ "positions.weight", "wpe.weight", 16, 32 },
		{ "layers.0.norm1.weight", "h.0.ln_1.weight", 32, 1 },
		{ "layers.0.norm1.bias", "h.0.ln_1.bias", 32, 1 },
		{ "layers.0.attn.qkv.weight", "h.0.attn.c_attn.weight", 96, 32 },
		{ "layers.0.attn.qkv.bias", "h.0.attn.c_attn.bias", 96, 1 },
		{ "layers.0.attn.o.weight", "h.0.attn.c_proj.weight", 32, 32 },
		{ "layers.0.attn.o.bias", "h.0.attn.c_proj.bias", 32, 1 },
		{ "layers.0.norm2.weight", "h.0.ln_2.weight", 32, 1 },
		{ "layers.0.norm2.bias", "h.0.ln_2.bias", 32, 1 },
		{ "layers.0.mlp.up.weight", "h.0.mlp.c_fc.weight", 128, 32 },
		{ "layers.0.mlp.up.bias", "h.0.mlp.c_fc.bias", 128, 1 },
		{ "layers.0.mlp.down.weight", "h.0.mlp.c_proj.weight", 32, 128 },
		{ "layers.0.mlp.down.bias", "h.0.mlp.c_proj.bias", 32, 1 },
	};
	gpt2_config *c = config_new();

	ck_assert_int_eq(gpt2_vtable.params(c, fake_add, NULL), QAT_OK);
	ck_assert_int_eq(fake_n_params, 2 + 2 * 12 + 2);
	for (int i = 0; i < 14; i++) {
		const fake_param *p = &fake_params[i];
		const int linear = i >= 2 && want[i].cols > 1;

		ck_assert_str_eq(p->name, want[i].name);
		ck_assert_str_eq(p->hub, want[i].hub);
		ck_assert_int_eq(p->p.shape[0], want[i].rows);
		ck_assert_int_eq(p->p.shape[1], want[i].cols);
		ck_assert_uint_eq(p->p.flags, linear ? QAT_PARAM_HUB_TRANSPOSED : 0);
	}
	ck_assert_int_eq(fake_find("layers.1.norm2.weight")->p.init, QAT_INIT_ONES);
	ck_assert_int_eq(fake_find("layers.1.norm2.bias")->p.init, QAT_INIT_ZEROS);
	ck_assert_str_eq(fake_params[26].hub, "ln_f.weight");
	fake_clear();
	c->tie_word_embeddings = 0;
	c->n_inner = 40;
	ck_assert_int_eq(gpt2_vtable.params(c, fake_add, NULL), QAT_OK);
	ck_assert_int_eq(fake_find("lm_head.weight")->p.shape[0], 100);
	ck_assert_int_eq(fake_find("layers.0.mlp.up.weight")->p.shape[0], 40);
	free(c);
}
END_TEST

START_TEST(network_of_one_layer)
{
	static const uint32_t ops[] = {
		QAT_OP_EMBEDDING, QAT_OP_EMBEDDING, QAT_OP_ADD, QAT_OP_LAYER_NORM, QAT_OP_MATMUL,
		QAT_OP_SPLIT, QAT_OP_ATTENTION, QAT_OP_MATMUL, QAT_OP_ADD, QAT_OP_LAYER_NORM,
		QAT_OP_MATMUL, QAT_OP_ACT, QAT_OP_MATMUL, QAT_OP_ADD, QAT_OP_LAYER_NORM, 0
	};
	static const int32_t ids[] = { 0, 1, 2, 0, 1, 2 };
	gpt2_config *c = config_new();
	qat_outputs out = { .size = sizeof out };
	const fake_node *split = &fake_nodes[5];

	c->n_layer = 1;
	ck_assert_int_eq(gpt2_vtable.params(c, fake_add, NULL), QAT_OK);
	ck_assert_int_eq(gpt2_vtable.build(c, NULL, &out), QAT_OK);
	fake_expect(ops);
	for (int i = 0; i < fake_n_params; i++)
		ck_assert_msg(fake_params[i].used == 1, "%s is not used", fake_params[i].name);
	ck_assert_int_eq(fake_residuals, 5);
	ck_assert_uint_eq(fake_consts[0].dtype, QAT_I32);
	ck_assert_int_eq(fake_consts[0].shape[0], 6);
	ck_assert_mem_eq(fake_consts[0].data, ids, sizeof ids);
	ck_assert_int_eq(split->attr.split.count, 3);
	ck_assert_int_eq(split->attr.split.width[2], 32);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(fake_site("layers.0.attn")->in[i], split->out + i);
	ck_assert_double_eq(fake_site("layers.0.attn")->attr.attention.scale, 0.5);
	ck_assert_int_eq(fake_site("layers.0.attn")->attr.attention.head_dim, 4);
	ck_assert_int_eq(fake_nodes[11].attr.act.kind, QAT_ACT_GELU_TANH);
	ck_assert_int_eq(out.head, fake_nodes[0].in[0]);
	ck_assert_int_eq(out.hidden, fake_nodes[14].out);
	free(c);
}
END_TEST

START_TEST(variants)
{
	gpt2_config *c = config_new();
	qat_outputs out = { .size = sizeof out };

	c->scale_attn_by_inverse_layer_idx = 1;
	ck_assert_double_eq(score_scale(c, 0), 0.5);
	ck_assert_double_eq(score_scale(c, 3), 0.125);
	c->scale_attn_weights = 0;
	ck_assert_double_eq(score_scale(c, 3), 0.25);
	ck_assert_int_eq(gpt2_vtable.params(c, fake_add, NULL), QAT_OK);
	c->n_positions = 2;
	ck_assert_int_eq(gpt2_vtable.build(c, NULL, &out), QAT_EINVAL);
	ck_says("n_positions 2");
	c->n_positions = 16;
	fake_missing = "layers.0.attn.qkv.bias";
	ck_assert_int_eq(gpt2_vtable.build(c, NULL, &out), QAT_ENOTFOUND);
	free(c);
}
END_TEST

START_TEST(spare)
{
	ck_assert(gpt2_vtable.spare(NULL, "h.11.attn.bias"));
	ck_assert(gpt2_vtable.spare(NULL, "transformer.h.0.attn.masked_bias"));
	ck_assert(!gpt2_vtable.spare(NULL, "h.12.attn.c_attn.bias"));
	ck_assert(!gpt2_vtable.spare(NULL, "h.12.ln_1.bias"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gpt2");
	TCase *t = tcase_create("gpt2");

	tcase_add_checked_fixture(t, NULL, fake_clear);
	tcase_add_test(t, numbers);
	tcase_add_test(t, parameters);
	tcase_add_test(t, network_of_one_layer);
	tcase_add_test(t, variants);
	tcase_add_test(t, spare);
	suite_add_tcase(suite, t);
	return host_run(suite);
}
