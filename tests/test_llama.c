/* test_llama.c - llama: parameters, network and rotary tables against those of
 * transformers. */
#include "fake_graph.h"

#include "../plugins/models/llama.c"

static llama_config *config_new(void)
{
	llama_config *c = host_defaults(host_interface(&qat_plugin_v1, "llama"));

	c->vocab_size = 100;
	c->hidden_size = 24;
	c->intermediate_size = 40;
	c->num_hidden_layers = 2;
	c->num_attention_heads = 6;
	c->num_key_value_heads = 2;
	fake_clear();
	return c;
}

static int check(const llama_config *c, qat_model_info *out)
{
	memset(out, 0, sizeof *out);
	return llama_vtable.check(c, out);
}

START_TEST(info)
{
	llama_config *c = config_new();
	qat_model_info i;

	ck_assert_int_eq(check(c, &i), QAT_OK);
	ck_assert(i.vocabulary == 100 && i.hidden == 24 && i.layers == 2);
	ck_assert(i.context == 2048 && i.tied == 0);
	free(c);
}
END_TEST

START_TEST(refused)
{
	static const double freqs[] = { 1, 0 };
	qat_model_info i;
	llama_config *c = config_new(), base = *c;

	c->hidden_size = 25;
	ck_assert_int_eq(check(c, &i), QAT_EINVAL);
	ck_says("hidden_size 25");
	c->head_dim = 4;
	ck_assert_int_eq(check(c, &i), QAT_OK);
	*c = base;
	c->num_key_value_heads = 4;
	ck_assert_int_eq(check(c, &i), QAT_EINVAL);
	ck_says("num_key_value_heads 4");
	*c = base;
	c->head_dim = 5;
	ck_assert_int_eq(check(c, &i), QAT_EINVAL);
	ck_says("head_dim 5 is odd");
	*c = base;
	c->vocab_size = 1 << 24;
	c->hidden_size = 1 << 20;
	c->head_dim = 64;
	ck_assert_int_eq(check(c, &i), QAT_EINVAL);
	ck_says("out of reach");
	*c = base;
	c->partial_rotary_factor = 0.5;
	ck_assert_int_eq(check(c, &i), QAT_ENOTSUP);
	*c = base;
	c->rope_interleaved = 1;
	ck_assert_int_eq(check(c, &i), QAT_ENOTSUP);
	*c = base;
	c->rope_type = ROPE_LLAMA3;
	c->rope_low_freq_factor = 4;
	ck_assert_int_eq(check(c, &i), QAT_EINVAL);
	*c = base;
	c->rope_freqs = (qat_floats){ freqs, 1 };
	ck_assert_int_eq(check(c, &i), QAT_EINVAL);
	ck_says("rope_freqs has 1");
	c->rope_freqs.count = 2;
	ck_assert_int_eq(check(c, &i), QAT_EINVAL);
	ck_says("rope_freqs[1]");
	c->rope_type = ROPE_LINEAR;
	ck_assert_int_eq(check(c, &i), QAT_EINVAL);
	ck_says("rope_type: linear");
	free(c);
}
END_TEST

START_TEST(parameters)
{
	static const struct { const char *name, *hub; int64_t rows, cols, heads; } want[] = {
		{ "embed.weight", "model.embed_tokens.weight", 100, 24, 0 },
		{ "layers.0.norm1.weight", "model.layers.0.input_layernorm.weight", 24, 1, 0 },
		{ "layers.0.attn.q.weight", "model.layers.0.self_attn.q_proj.weight", 24, 24, 6 },
		{ "layers.0.attn.k.weight", "model.layers.0.self_attn.k_proj.weight", 8, 24, 2 },
		{ "layers.0.attn.v.weight", "model.layers.0.self_attn.v_proj.weight", 8, 24, 0 },
		{ "layers.0.attn.o.weight", "model.layers.0.self_attn.o_proj.weight", 24, 24, 0 },
		{ "layers.0.norm2.weight", "model.layers.0.post_attention_layernorm.weight",
		  24, 1, 0 },
		{ "layers.0.mlp.gate.weight", "model.layers.0.mlp.gate_proj.weight", 40, 24, 0 },
		{ "layers.0.mlp.up.weight", "model.layers.0.mlp.up_proj.weight", 40, 24, 0 },
		{ "layers.0.mlp.down.weight", "model.layers.0.mlp.down_proj.weight", 24, 40, 0 },
	};
	llama_config *c = config_new();

	ck_assert_int_eq(llama_vtable.params(c, fake_add, NULL), QAT_OK);
	ck_assert_int_eq(fake_n_params, 10 + 9 + 2);
	for (int i = 0; i < 10; i++) {
		const fake_param *p = &fake_params[i];

		ck_assert_str_eq(p->name, want[i].name);
		ck_assert_str_eq(p->hub, want[i].hub);
		ck_assert_int_eq(p->p.rank, want[i].cols > 1 ? 2 : 1);
		ck_assert_int_eq(p->p.shape[0], want[i].rows);
		ck_assert_int_eq(p->p.shape[1], want[i].cols);
		ck_assert_int_eq(p->p.heads, want[i].heads);
		ck_assert_uint_eq(p->p.flags, want[i].heads ? QAT_PARAM_ROPE_ROWS : 0);
		ck_assert_int_eq(p->p.init, want[i].cols > 1 ? QAT_INIT_NORMAL : QAT_INIT_ONES);
		ck_assert_double_eq(p->p.deviation, want[i].cols > 1 ? 0.02 : 0);
	}
	ck_assert_str_eq(fake_params[19].hub, "model.norm.weight");
	ck_assert_str_eq(fake_params[20].hub, "lm_head.weight");
	fake_clear();
	c->tie_word_embeddings = c->attention_bias = c->mlp_bias = 1;
	ck_assert_int_eq(llama_vtable.params(c, fake_add, NULL), QAT_OK);
	ck_assert_int_eq(fake_n_params, 10 + 9 + 1 + 2 * 7);
	ck_assert_uint_eq(fake_find("layers.1.attn.k.bias")->p.flags, QAT_PARAM_ROPE_ROWS);
	ck_assert_int_eq(fake_find("layers.1.attn.k.bias")->p.shape[0], 8);
	ck_assert_int_eq(fake_find("layers.1.mlp.down.bias")->p.init, QAT_INIT_ZEROS);
	free(c);
}
END_TEST

static int stop(void *to, const qat_param *p)
{
	(void)p;
	return ++*(int *)to == 3 ? QAT_ENOMEM : QAT_OK;
}

START_TEST(first_error_stops)
{
	llama_config *c = config_new();
	int calls = 0;

	ck_assert_int_eq(llama_vtable.params(c, stop, &calls), QAT_ENOMEM);
	ck_assert_int_eq(calls, 3);
	free(c);
}
END_TEST

START_TEST(network_of_one_layer)
{
	static const uint32_t ops[] = {
		QAT_OP_EMBEDDING, QAT_OP_RMS_NORM, QAT_OP_MATMUL, QAT_OP_MATMUL, QAT_OP_MATMUL,
		QAT_OP_ROPE, QAT_OP_ROPE, QAT_OP_ATTENTION, QAT_OP_MATMUL, QAT_OP_ADD,
		QAT_OP_RMS_NORM, QAT_OP_MATMUL, QAT_OP_MATMUL, QAT_OP_GLU, QAT_OP_MATMUL,
		QAT_OP_ADD, QAT_OP_RMS_NORM, 0
	};
	llama_config *c = config_new();
	qat_outputs out = { .size = sizeof out };

	c->num_hidden_layers = 1;
	ck_assert_int_eq(llama_vtable.params(c, fake_add, NULL), QAT_OK);
	ck_assert_int_eq(llama_vtable.build(c, NULL, &out), QAT_OK);
	fake_expect(ops);
	for (int i = 0; i < fake_n_params; i++)
		ck_assert_msg(fake_params[i].used == 1, "%s is not used", fake_params[i].name);
	ck_assert_int_eq(fake_residuals, 3);
	ck_assert_int_eq(out.hidden, fake_nodes[16].out);
	ck_assert_int_eq(fake_site("layers.0.attn")->attr.attention.heads, 6);
	ck_assert_int_eq(fake_site("layers.0.attn")->attr.attention.kv_heads, 2);
	ck_assert_int_eq(fake_site("layers.0.attn")->attr.attention.causal, 1);
	ck_assert_double_eq(fake_site("layers.0.attn")->attr.attention.scale, 0.5);
	ck_assert_int_eq(fake_nodes[13].attr.act.kind, QAT_ACT_SILU);
	ck_assert_int_eq(fake_site("layers.0.mlp.down")->in[0], fake_nodes[13].out);
	ck_assert_int_eq(fake_site("layers.0.mlp.down")->in[2], QAT_ABSENT);
	ck_assert_int_eq(fake_nodes[9].in[0], fake_nodes[0].out);
	ck_assert_int_eq(fake_nodes[15].in[0], fake_nodes[9].out);
	free(c);
}
END_TEST

START_TEST(tied_and_failing)
{
	llama_config *c = config_new();
	qat_outputs out = { .size = sizeof out };

	c->tie_word_embeddings = 1;
	ck_assert_int_eq(llama_vtable.params(c, fake_add, NULL), QAT_OK);
	ck_assert_int_eq(llama_vtable.build(c, NULL, &out), QAT_OK);
	ck_assert_int_eq(out.head, fake_nodes[0].in[0]);
	fake_missing = "layers.1.attn.v.weight";
	ck_assert_int_eq(llama_vtable.build(c, NULL, &out), QAT_ENOTFOUND);
	free(c);
}
END_TEST

/* Llama-3.2-1B. The numbers are the rule in double; ours is its fp32, as transformers
 * computes it, a few units of the last place away. */
START_TEST(llama3_frequencies)
{
	static const struct { int i; double f; } scaled[] = {
		{ 15, 0.00129054793 }, { 16, 4.29556797e-4 }, { 17, 9.7082878e-5 },
		{ 18, 1.94616382e-5 }, { 31, 9.41830673e-8 },
	};
	llama_config *c = config_new(), plain;

	c->head_dim = 64;
	c->rope_theta = 5e5;
	plain = *c;
	c->rope_type = ROPE_LLAMA3;
	c->rope_factor = 32;
	for (int i = 0; i < 32; i++) {
		const float ratio = frequency(&plain, i) / frequency(c, i);

		if (i <= 14)
			ck_assert_float_eq(ratio, 1.0f);
		if (i >= 18)
			ck_assert_float_eq(ratio, 32.0f);
	}
	ck_assert_double_eq_tol(frequency(&plain, 15), 0.00213111954, 2e-10);
	for (size_t k = 0; k < sizeof scaled / sizeof *scaled; k++)
		ck_assert_double_eq_tol(frequency(c, scaled[k].i) / scaled[k].f, 1.0, 4e-7);
	c->rope_type = ROPE_LINEAR;
	ck_assert_float_eq(frequency(c, 5), frequency(&plain, 5) / 32.0f);
	free(c);
}
END_TEST

START_TEST(rope_tables)
{
	static const double divisors[] = { 1, 2 };
	llama_config *c = config_new();
	qat_outputs out = { .size = sizeof out };
	const float *cos_, *sin_;

	c->rope_freqs = (qat_floats){ divisors, 2 };
	ck_assert_int_eq(llama_vtable.params(c, fake_add, NULL), QAT_OK);
	ck_assert_int_eq(llama_vtable.build(c, NULL, &out), QAT_OK);
	ck_assert_int_eq(fake_n_consts, 2);
	ck_assert_str_eq(fake_consts[0].name, "rope.cos");
	ck_assert_int_eq(fake_consts[0].shape[0], fake_length);
	ck_assert_int_eq(fake_consts[0].shape[1], 2);
	cos_ = fake_consts[0].data;
	sin_ = fake_consts[1].data;
	ck_assert_float_eq(cos_[0], 1.0f);
	ck_assert_float_eq(sin_[1], 0.0f);
	/* d = 4: frequencies 1 and 1 / sqrt(10000) / 2 */
	ck_assert_float_eq(cos_[2 * 2], -0.41614684f);
	ck_assert_float_eq(sin_[2 * 2], 0.90929743f);
	ck_assert_float_eq_tol(sin_[2 * 2 + 1], 0.00999983333f, 1e-9f);
	free(c);
}
END_TEST

START_TEST(spare)
{
	ck_assert(llama_vtable.spare(NULL, "model.layers.3.self_attn.rotary_emb.inv_freq"));
	ck_assert(!llama_vtable.spare(NULL, "model.layers.3.self_attn.q_proj.bias"));
	ck_assert(!llama_vtable.spare(NULL, ""));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("llama");
	TCase *t = tcase_create("llama");

	tcase_add_checked_fixture(t, NULL, fake_clear);
	tcase_add_test(t, info);
	tcase_add_test(t, refused);
	tcase_add_test(t, parameters);
	tcase_add_test(t, first_error_stops);
	tcase_add_test(t, network_of_one_layer);
	tcase_add_test(t, tied_and_failing);
	tcase_add_test(t, llama3_frequencies);
	tcase_add_test(t, rope_tables);
	tcase_add_test(t, spare);
	suite_add_tcase(suite, t);
	return host_run(suite);
}
