/* test_gguf_documents.c - GGUF: the documents made from metadata, and mutants of whole
 * files. */
#include "gguf_kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- documents ---- */

static json_t *document(void *file, uint32_t which)
{
	qat_text text, again;
	json_t *root;
	const int rc = gguf->document(file, which, &text);

	ck_assert_msg(rc == QAT_OK, "%s", kit_message());
	ck_assert_ptr_nonnull(text.at);
	ck_assert_int_eq(gguf->document(file, which, &again), QAT_OK);
	ck_assert_ptr_eq(text.at, again.at);
	root = json_loadb(text.at, (size_t)text.length, JSON_REJECT_DUPLICATES, NULL);
	ck_assert_ptr_nonnull(root);
	return root;
}

/* `wanted` as JSON is what `root` has under its keys, and nothing else. */
static void json_check(json_t *root, const char *wanted)
{
	json_t *other = json_loads(wanted, JSON_DECODE_ANY, NULL);
	char *text = json_dumps(root, JSON_ENCODE_ANY);

	ck_assert_ptr_nonnull(other);
	ck_assert_msg(json_equal(root, other), "%s\nis not\n%s", text, wanted);
	free(text);
	json_decref(other);
}

static void config_check(const char *wanted)
{
	void *file = build_opened();
	json_t *root = document(file, QAT_DOC_CONFIG);

	json_check(root, wanted);
	json_decref(root);
	gguf->close(file);
}

static void config_fails(int code, const char *message)
{
	void *file = build_opened();
	qat_text text;

	kit_fails(gguf->document(file, QAT_DOC_CONFIG, &text), code, message);
	gguf->close(file);
}

static void llama_small(void)
{
	llama_begin();
	add_u32("llama.embedding_length", 12);
	add_u32("llama.block_count", 2);
	add_u32("llama.attention.head_count", 3);
	add_u32("llama.context_length", 64);
	add_float("llama.attention.layer_norm_rms_epsilon", 1e-5f);
	add_counted("token_embd.weight", 12, 5);
}

#define LLAMA "\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\"," \
	"\"hidden_act\":\"silu\",\"hidden_size\":12,\"num_hidden_layers\":2," \
	"\"num_attention_heads\":3,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5," \
	"\"vocab_size\":5,\"mlp_bias\":false,"

START_TEST(config_llama)
{
	static const float divisors[2] = { 1, 32 };

	llama_small();
	add_u32("llama.feed_forward_length", 20);
	config_check("{" LLAMA "\"intermediate_size\":20,\"num_key_value_heads\":3,\"head_dim\":4,"
		     "\"rope_theta\":1e4,\"attention_bias\":false,\"tie_word_embeddings\":true}");

	llama_small();
	add_key("llama.feed_forward_length", GGUF_U64);
	kit_add_int(&b->values, 20, 8);
	add_u32("llama.attention.head_count_kv", 1);
	add_u32("llama.attention.key_length", 8);
	add_u32("llama.rope.dimension_count", 8);
	add_float("llama.rope.freq_base", 500000);
	add_u32("tokenizer.ggml.bos_token_id", 1);
	add_u32("tokenizer.ggml.eos_token_id", 2);
	add_tensor("rope_freqs.weight", F32, 2, 0, divisors, 8);
	add_counted("output.weight", 12, 4);
	add_counted("blk.0.attn_q.bias", 24, 0);
	config_check("{" LLAMA "\"intermediate_size\":20,\"num_key_value_heads\":1,\"head_dim\":8,"
		     "\"rope_theta\":500000.0,\"attention_bias\":true,\"rope_freqs\":[1.0,32.0],"
		     "\"bos_token_id\":1,\"eos_token_id\":2,\"tie_word_embeddings\":false}");

	llama_small();
	add_u32("llama.feed_forward_length", 20);
	add_text("llama.rope.scaling.type", "linear");
	add_float("llama.rope.scaling.factor", 2.5f);
	add_counted("output.weight", 12, 5);		/* a copy: tied */
	config_check("{" LLAMA "\"intermediate_size\":20,\"num_key_value_heads\":3,\"head_dim\":4,"
		     "\"rope_theta\":10000.0,\"attention_bias\":false,\"tie_word_embeddings\":true,"
		     "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":2.5}}");
}
END_TEST

START_TEST(config_gpt2)
{
	build_begin();
	add_text("general.architecture", "gpt2");
	add_u32("gpt2.embedding_length", 12);
	add_u32("gpt2.block_count", 2);
	add_u32("gpt2.attention.head_count", 3);
	add_u32("gpt2.context_length", 64);
	add_u32("gpt2.feed_forward_length", 48);
	add_float("gpt2.attention.layer_norm_epsilon", 1e-5f);
	add_counted("token_embd.weight", 12, 5);
	config_check("{\"architectures\":[\"GPT2LMHeadModel\"],\"model_type\":\"gpt2\","
		     "\"n_embd\":12,"
		     "\"n_layer\":2,\"n_head\":3,\"n_positions\":64,\"n_inner\":48,"
		     "\"layer_norm_epsilon\":1e-5,\"activation_function\":\"gelu_new\","
		     "\"vocab_size\":5,\"tie_word_embeddings\":true}");
}
END_TEST

START_TEST(config_refused)
{
	static const int per_layer[2] = { 1, 2 };
	static const float infinite[2] = { 1, INFINITY };

	llama_small();
	config_fails(QAT_EFORMAT, "has no llama.feed_forward_length");
	llama_small();
	add_ints("llama.feed_forward_length", per_layer, 2);
	config_fails(QAT_ENOTSUP, "llama.feed_forward_length is not an integer, but an array");
	llama_small();
	add_float("llama.feed_forward_length", 4);
	config_fails(QAT_ENOTSUP, "llama.feed_forward_length is not an integer");
	llama_small();
	add_key("llama.feed_forward_length", GGUF_U64);
	kit_add_int(&b->values, UINT64_MAX, 8);
	config_fails(QAT_ENOTSUP, "not in range");
	llama_small();
	add_u32("llama.feed_forward_length", 20);
	add_float("llama.rope.freq_base", NAN);
	config_fails(QAT_ENOTSUP, "llama.rope.freq_base is not a finite number");
	llama_small();
	add_u32("llama.expert_count", 8);
	config_fails(QAT_ENOTSUP, "8 experts");
	llama_small();
	add_u32("llama.feed_forward_length", 20);
	add_text("llama.rope.scaling.type", "yarn");
	config_fails(QAT_ENOTSUP, "\"yarn\" is not done");
	llama_small();
	add_u32("llama.feed_forward_length", 20);
	add_u32("llama.rope.dimension_count", 2);
	add_u32("llama.attention.key_length", 4);
	config_fails(QAT_ENOTSUP, "rotates 2 of the 4");
	llama_small();
	add_u32("llama.feed_forward_length", 20);
	add_tensor("rope_freqs.weight", F32, 2, 0, infinite, 8);
	config_fails(QAT_EFORMAT, "\"rope_freqs.weight\": element 1");
	llama_begin();
	add_u32("llama.attention.head_count", 0);
	add_u32("llama.embedding_length", 12);
	add_u32("llama.block_count", 2);
	add_u32("llama.context_length", 64);
	add_u32("llama.feed_forward_length", 20);
	add_float("llama.attention.layer_norm_rms_epsilon", 1e-5f);
	config_fails(QAT_EFORMAT, "0 heads");
}
END_TEST

/* ---- tokenizer ---- */

static const char *const tokens[] = { "<s>", "a", "b", "\xc4\xa0", "ab", "<u>", "\"\\", NULL };
static const int types[] = { 3, 1, 1, 1, 1, 4, 1 };
static const char *const merges[] = { "a b", NULL };

static void tokenizer_begin(const char *model, const char *pre)
{
	llama_begin();
	add_text("tokenizer.ggml.model", model);
	if (pre)
		add_text("tokenizer.ggml.pre", pre);
	add_texts("tokenizer.ggml.merges", merges);
}

static void tokenizer_put(const char *pre)
{
	tokenizer_begin("gpt2", pre);
	add_texts("tokenizer.ggml.tokens", tokens);
	add_ints("tokenizer.ggml.token_type", types, 7);
}

static void tokenizer_fails(int code, const char *message)
{
	void *file = build_opened();
	qat_text text;

	kit_fails(gguf->document(file, QAT_DOC_TOKENIZER, &text), code, message);
	gguf->close(file);
}

#define BYTES(regex) "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true," \
	"\"use_regex\":" regex "}"
#define SPLIT(number) "{\"type\":\"Sequence\"," \
	"\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{" \
	"\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" number \
	"| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}," \
	"\"behavior\":\"Isolated\",\"invert\":false}," BYTES("false") "]}"

static const struct {
	const char *pre, *pre_tokenizer, *normalizer;
	int ignore_merges, bos;
} pres[] = {
	{ NULL, BYTES("true"), "null", 0, 0 },
	{ "default", BYTES("true"), "null", 0, 0 },
	{ "gpt-2", BYTES("true"), "null", 0, 0 },
	{ "smollm", "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\","
	  "\"individual_digits\":true}," BYTES("true") "]}", "null", 0, 0 },
	{ "llama-bpe", SPLIT("\\\\p{N}{1,3}"), "null", 1, 1 },
	{ "qwen2", SPLIT("\\\\p{N}"), "{\"type\":\"NFC\"}", 0, 0 },
};

START_TEST(tokenizer)
{
	json_t *root, *model;
	void *file;

	tokenizer_put(pres[_i].pre);
	add_u32("tokenizer.ggml.bos_token_id", 0);
	file = build_opened();
	root = document(file, QAT_DOC_TOKENIZER);
	model = json_object_get(root, "model");
	json_check(json_object_get(root, "version"), "\"1.0\"");
	json_check(json_object_get(root, "pre_tokenizer"), pres[_i].pre_tokenizer);
	json_check(json_object_get(root, "normalizer"), pres[_i].normalizer);
	json_check(json_object_get(root, "decoder"), BYTES("true"));
	json_check(json_object_get(model, "type"), "\"BPE\"");
	json_check(json_object_get(model, "vocab"), "{\"<s>\":0,\"a\":1,\"b\":2,"
		   "\"\\u0120\":3,\"ab\":4,\"<u>\":5,\"\\\"\\\\\":6}");
	json_check(json_object_get(model, "merges"), "[\"a b\"]");
	ck_assert_int_eq(json_is_true(json_object_get(model, "ignore_merges")),
			 pres[_i].ignore_merges);
	json_check(json_object_get(root, "added_tokens"),
		   "[{\"id\":0,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,"
		   "\"rstrip\":false,\"normalized\":false,\"special\":true},"
		   "{\"id\":5,\"content\":\"<u>\",\"single_word\":false,\"lstrip\":false,"
		   "\"rstrip\":false,\"normalized\":false,\"special\":false}]");
	ck_assert_int_eq(json_is_null(json_object_get(root, "post_processor")), !pres[_i].bos);
	json_decref(root);
	gguf->close(file);
}
END_TEST

START_TEST(tokenizer_template)
{
	json_t *root;
	qat_text text;
	void *file;

	tokenizer_put("gpt-2");
	add_u32("tokenizer.ggml.bos_token_id", 0);
	add_u32("tokenizer.ggml.eos_token_id", 5);
	add_bool("tokenizer.ggml.add_bos_token", 1);
	add_text("tokenizer.chat_template", "{{ x }}\n");
	file = build_opened();
	root = document(file, QAT_DOC_TOKENIZER);
	json_check(json_object_get(root, "post_processor"),
		   "{\"type\":\"TemplateProcessing\","
		   "\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
		   "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],"
		   "\"pair\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
		   "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
		   "{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],"
		   "\"special_tokens\":{\"<s>\":"
		   "{\"id\":\"<s>\",\"ids\":[0],\"tokens\":[\"<s>\"]}}}");
	json_decref(root);
	root = document(file, QAT_DOC_TOKENIZER_CONFIG);
	json_check(root, "{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\"bos_token\":\"<s>\","
		   "\"eos_token\":\"<u>\",\"chat_template\":\"{{ x }}\\n\"}");
	json_decref(root);
	for (uint32_t which = 0; which < QAT_DOCS + 1; which++) {
		if (which == QAT_DOC_CONFIG || which == QAT_DOC_TOKENIZER
		    || which == QAT_DOC_TOKENIZER_CONFIG)
			continue;
		ck_assert_int_eq(gguf->document(file, which, &text), QAT_OK);
		ck_assert_ptr_null(text.at);
	}
	gguf->close(file);

	llama_begin();
	file = build_opened();
	ck_assert_int_eq(gguf->document(file, QAT_DOC_TOKENIZER, &text), QAT_OK);
	ck_assert_ptr_null(text.at);
	ck_assert_int_eq(gguf->document(file, QAT_DOC_TOKENIZER_CONFIG, &text), QAT_OK);
	ck_assert_ptr_null(text.at);
	gguf->close(file);
}
END_TEST

START_TEST(tokenizer_refused)
{
	static const char *const twice[] = { "a", "b", "a", NULL };
	static const char *const broken[] = { "a", "\xff", NULL };

	tokenizer_put("tekken");
	tokenizer_fails(QAT_ENOTSUP, "pre is \"tekken\", which is not known");
	tokenizer_begin("llama", NULL);
	tokenizer_fails(QAT_ENOTSUP, "\"llama\" (SentencePiece) is not read");
	tokenizer_begin("bert", NULL);
	tokenizer_fails(QAT_ENOTSUP, "\"bert\" is not read");
	tokenizer_begin("gpt2", NULL);
	tokenizer_fails(QAT_EFORMAT, "tokenizer.ggml.t");
	tokenizer_begin("gpt2", NULL);
	add_texts("tokenizer.ggml.tokens", tokens);
	add_ints("tokenizer.ggml.token_type", types, 6);
	tokenizer_fails(QAT_EFORMAT, "7 tokens have 6 types");
	tokenizer_begin("gpt2", NULL);
	add_texts("tokenizer.ggml.tokens", twice);
	add_ints("tokenizer.ggml.token_type", types, 3);
	tokenizer_fails(QAT_EFORMAT, "token 2, \"a\", is there twice");
	tokenizer_begin("gpt2", NULL);
	add_texts("tokenizer.ggml.tokens", broken);
	add_ints("tokenizer.ggml.token_type", types, 2);
	tokenizer_fails(QAT_EFORMAT, "token 1 is not UTF-8");
	tokenizer_put("gpt-2");
	add_bool("tokenizer.ggml.add_bos_token", 1);
	tokenizer_fails(QAT_EFORMAT, "add_bos_token without bos_token_id");
	tokenizer_put("gpt-2");
	add_bool("tokenizer.ggml.add_bos_token", 1);
	add_u32("tokenizer.ggml.bos_token_id", 7);
	tokenizer_fails(QAT_EFORMAT, "bos_token_id is 7, there are 7 tokens");
	tokenizer_put("gpt-2");
	add_u32("tokenizer.ggml.add_bos_token", 1);
	tokenizer_fails(QAT_ENOTSUP, "add_bos_token is not a bool");
}
END_TEST

/* ---- hostile files ---- */

static void use(const qat_format *format, void *file)
{
	static const char *const all[] = { "embed.weight", "layers.0.attn.q.weight",
					   "layers.0.mlp.up.weight", "norm.weight" };
	qat_text text;

	for (uint32_t i = 0; i < QAT_DOCS; i++)
		format->document(file, i, &text);
	for (int i = 0; i < 4; i++) {
		const qat_param p = param(all[i], i == 1 ? 2 : 0);
		qat_tensor t;
		float *x;

		if (format->find(file, &p, &t) || t.bytes > 1 << 16)
			continue;
		x = malloc((size_t)t.bytes + 4096);
		ck_assert_ptr_nonnull(x);
		format->read(file, &p, x, 0, t.rank < 2 ? 1 : t.shape[0]);
		free(x);
	}
}

START_TEST(mutants)
{
	unsigned char blocks[4 * 34] = { 0 };

	tokenizer_put("smollm");
	add_u32("llama.embedding_length", 12);
	add_u32("llama.block_count", 1);
	add_u32("llama.attention.head_count", 2);
	add_u32("llama.context_length", 64);
	add_u32("llama.feed_forward_length", 20);
	add_float("llama.attention.layer_norm_rms_epsilon", 1e-5f);
	add_u32("tokenizer.ggml.bos_token_id", 0);
	add_bool("tokenizer.ggml.add_bos_token", 1);
	add_counted("token_embd.weight", 12, 7);
	add_counted("blk.0.attn_q.weight", 12, 12);
	add_tensor("blk.0.ffn_up.weight", Q8_0, 64, 2, blocks, sizeof blocks);
	add_counted("output_norm.weight", 12, 0);
	build_put("f.gguf");
	kit_mutate("f.gguf", "f.gguf", gguf, use);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gguf documents");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(t, setup, kit_end);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, config_llama);
	tcase_add_test(t, config_gpt2);
	tcase_add_test(t, config_refused);
	tcase_add_loop_test(t, tokenizer, 0, sizeof pres / sizeof *pres);
	tcase_add_test(t, tokenizer_template);
	tcase_add_test(t, tokenizer_refused);
	tcase_add_test(t, mutants);
	suite_add_tcase(suite, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
