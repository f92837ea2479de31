/* gguf_config.c - a config.json from the metadata: one table an architecture, from the
 * keys of GGUF to those of transformers. */
#include <string.h>

#include <qatrun/json.h>

#include "gguf.h"

enum { INTEGER = 1, REAL = 2 };

/* A missing key takes `absent`; a negative one makes it required. */
typedef struct {
	const char *name, *key;
	int type;
	double absent;
} field;

static int set(json_t *config, const qat_gguf *g, const char *name, json_t *value)
{
	if (!json_object_set_new(config, name, value))
		return QAT_OK;
	return qat_fail(QAT_ENOMEM, "%s: out of memory for %s", g->path, name);
}

static int field_set(json_t *config, const qat_gguf *g, const field *f)
{
	const char *arch = g->arch->name;
	int64_t n = (int64_t)f->absent;
	double x = f->absent;
	const int found = f->type == INTEGER ? qat_gguf_int(&n, g, arch, f->key)
					     : qat_gguf_float(&x, g, arch, f->key);

	if (found < 0)
		return found;
	if (!found && f->absent < 0)
		return qat_fail(QAT_EFORMAT, "%s: has no %s.%s", g->path, arch, f->key);
	return set(config, g, f->name, f->type == INTEGER ? json_integer(n) : json_real(x));
}

static int fields_set(json_t *config, const qat_gguf *g, const field *fields)
{
	int rc = QAT_OK;

	for (; !rc && fields->name; fields++)
		rc = field_set(config, g, fields);
	return rc;
}

/* What transformers goes by. */
static int names_set(json_t *config, const qat_gguf *g, const char *class, const char *act,
		     const char *kind)
{
	int rc = set(config, g, "architectures", json_pack("[s]", class));

	if (!rc)
		rc = set(config, g, "model_type", json_string(g->arch->name));
	return rc ? rc : set(config, g, act, json_string(kind));
}

/* Some converters write a tied head as a copy of the embedding. */
static int is_tied(const qat_gguf *g, const qat_gguf_tensor *embed)
{
	const qat_gguf_tensor *head = qat_gguf_tensor_find(g, "output.weight");

	return !head || (head->type == embed->type && head->bytes == embed->bytes
			 && !memcmp(head->data, embed->data, (size_t)head->bytes));
}

static int common_set(json_t *config, const qat_gguf *g)
{
	static const char *const ids[] = { "bos", "eos", "padding" };
	static const char *const names[] = { "bos_token_id", "eos_token_id", "pad_token_id" };
	const qat_gguf_tensor *embed = qat_gguf_tensor_find(g, "token_embd.weight");
	int rc;

	if (!embed)
		return qat_fail(QAT_EFORMAT, "%s: has no tensor \"token_embd.weight\"", g->path);
	rc = set(config, g, "vocab_size", json_integer(embed->dims[1]));
	if (!rc)
		rc = set(config, g, "tie_word_embeddings", json_boolean(is_tied(g, embed)));
	for (int i = 0; !rc && i < 3; i++) {
		char key[64];
		int64_t id = 0;
		int found;

		snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", ids[i]);
		found = qat_gguf_int(&id, g, NULL, key);
		rc = found > 0 ? set(config, g, names[i], json_integer(id)) : found;
	}
	return rc;
}

/* ---- llama ---- */

/* Width of a head, all of which must be rotated. */
static int head_set(json_t *config, const qat_gguf *g)
{
	const char *arch = g->arch->name;
	const int64_t heads = json_integer_value(json_object_get(config, "num_attention_heads"));
	const int64_t hidden = json_integer_value(json_object_get(config, "hidden_size"));
	int64_t width = 0, rotated = 0;
	int has_width, has_rotated;

	if (heads < 1 || hidden < 1)
		return qat_fail(QAT_EFORMAT, "%s: %lld heads of a model of width %lld", g->path,
				(long long)heads, (long long)hidden);
	has_width = qat_gguf_int(&width, g, arch, "attention.key_length");
	has_rotated = qat_gguf_int(&rotated, g, arch, "rope.dimension_count");
	if (has_width < 0 || has_rotated < 0)
		return QAT_ENOTSUP;
	if (!has_width)
		width = has_rotated ? rotated : hidden / heads;
	if (has_rotated && rotated != width)
		return qat_fail(QAT_ENOTSUP, "%s: rotates %lld of the %lld elements of a head; "
				"only whole heads are done", g->path, (long long)rotated,
				(long long)width);
	return set(config, g, "head_dim", json_integer(width));
}

/* What the positions are divided by: one number for each pair, or one for all. */
static int rope_freqs_set(json_t *config, const qat_gguf *g, const qat_gguf_tensor *t)
{
	json_t *list;

	if (t->type->id != GGUF_F32 || t->rank != 1 || t->dims[0] > 65536)
		return qat_fail(QAT_EFORMAT, "%s: tensor \"%s\" is no F32 vector for a head",
				g->path, t->name);
	list = json_array();
	for (int64_t i = 0; i < t->dims[0]; i++) {
		float x;

		qat_gguf_values(t, &x, t->data + i * t->type->bytes, 1);
		if (json_array_append_new(list, json_real((double)x))) {
			json_decref(list);
			return qat_fail(QAT_EFORMAT, "%s: tensor \"%s\": element %lld is no finite "
					"number, or no memory", g->path, t->name, (long long)i);
		}
	}
	return set(config, g, "rope_freqs", list);
}

static int rope_set(json_t *config, const qat_gguf *g)
{
	const qat_gguf_tensor *freqs = qat_gguf_tensor_find(g, GGUF_ROPE_FREQS);
	qat_text type = { 0 };
	double factor = 1;
	int found = qat_gguf_text(&type, g, g->arch->name, "rope.scaling.type");

	if (found < 0)
		return found;
	if (found && !qat_gguf_is(type, "linear") && !qat_gguf_is(type, "none"))
		return qat_fail(QAT_ENOTSUP, "%s: rope scaling of type \"%.*s\" is not done; "
				"linear is", g->path, type.length < 40 ? (int)type.length : 40,
				type.at);
	if (freqs)
		return rope_freqs_set(config, g, freqs);
	if (found && qat_gguf_is(type, "none"))
		return QAT_OK;
	found = qat_gguf_float(&factor, g, g->arch->name, "rope.scaling.factor");
	if (!found)
		found = qat_gguf_float(&factor, g, g->arch->name, "rope.scale_linear");
	if (found < 0)
		return found;
	if (!found || factor == 1)
		return QAT_OK;
	return set(config, g, "rope_scaling", json_pack("{s:s, s:f}", "rope_type", "linear",
							"factor", factor));
}

static int dense_check(const qat_gguf *g)
{
	int64_t experts = 0;

	if (qat_gguf_int(&experts, g, g->arch->name, "expert_count") < 0)
		return QAT_ENOTSUP;
	if (experts > 0)
		return qat_fail(QAT_ENOTSUP, "%s: a mixture of %lld experts; dense models are done",
				g->path, (long long)experts);
	return QAT_OK;
}

static int bias_set(json_t *config, const qat_gguf *g, const char *name, const char *tensor)
{
	return set(config, g, name, json_boolean(qat_gguf_tensor_find(g, tensor) != NULL));
}

static int llama_config(json_t *config, const qat_gguf *g)
{
	static const field fields[] = {
		{ "hidden_size", "embedding_length", INTEGER, -1 },
		{ "intermediate_size", "feed_forward_length", INTEGER, -1 },
		{ "num_hidden_layers", "block_count", INTEGER, -1 },
		{ "num_attention_heads", "attention.head_count", INTEGER, -1 },
		{ "max_position_embeddings", "context_length", INTEGER, -1 },
		{ "rms_norm_eps", "attention.layer_norm_rms_epsilon", REAL, -1 },
		{ "rope_theta", "rope.freq_base", REAL, 10000 },
		{ NULL, NULL, 0, 0 },
	};
	field kv = { "num_key_value_heads", "attention.head_count_kv", INTEGER, 0 };
	int rc = dense_check(g);

	if (!rc)
		rc = names_set(config, g, "LlamaForCausalLM", "hidden_act", "silu");
	if (!rc)
		rc = fields_set(config, g, fields);
	kv.absent = (double)json_integer_value(json_object_get(config, "num_attention_heads"));
	if (!rc)
		rc = field_set(config, g, &kv);
	if (!rc)
		rc = head_set(config, g);
	if (!rc)
		rc = rope_set(config, g);
	if (!rc)
		rc = bias_set(config, g, "attention_bias", "blk.0.attn_q.bias");
	return rc ? rc : bias_set(config, g, "mlp_bias", "blk.0.ffn_up.bias");
}

/* ---- gpt2 ---- */

static int gpt2_config(json_t *config, const qat_gguf *g)
{
	static const field fields[] = {
		{ "n_embd", "embedding_length", INTEGER, -1 },
		{ "n_layer", "block_count", INTEGER, -1 },
		{ "n_head", "attention.head_count", INTEGER, -1 },
		{ "n_positions", "context_length", INTEGER, -1 },
		{ "n_inner", "feed_forward_length", INTEGER, -1 },
		{ "layer_norm_epsilon", "attention.layer_norm_epsilon", REAL, 1e-5 },
		{ NULL, NULL, 0, 0 },
	};
	const int rc = names_set(config, g, "GPT2LMHeadModel", "activation_function", "gelu_new");

	return rc ? rc : fields_set(config, g, fields);
}

/* ---- all ---- */

static const qat_gguf_arch archs[] = {
	{ .name = "llama", .interleaved = 1, .config = llama_config },
	{ .name = "gpt2", .config = gpt2_config },
};

/* Others differ in names, norms or rows: read as one of these they would be wrong. */
int qat_gguf_arch_find(qat_gguf *g)
{
	qat_text name = { 0 };
	const int found = qat_gguf_text(&name, g, NULL, "general.architecture");

	if (found < 0)
		return found;
	if (!found)
		return qat_fail(QAT_EFORMAT, "%s: has no general.architecture", g->path);
	for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
		if (qat_gguf_is(name, archs[i].name)) {
			g->arch = &archs[i];
			return QAT_OK;
		}
	return qat_fail(QAT_ENOTSUP, "%s: architecture \"%.*s\" is not read; llama and gpt2 are",
			g->path, name.length < 60 ? (int)name.length : 60, name.at);
}

int qat_gguf_config(char **out, const qat_gguf *g)
{
	json_t *config = json_object();
	int rc = g->arch->config(config, g);

	if (!rc)
		rc = common_set(config, g);
	if (!rc) {
		*out = qat_json_print(config, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
		if (!*out)
			rc = qat_fail(QAT_ENOMEM, "%s: out of memory", g->path);
	}
	json_decref(config);
	return rc;
}
