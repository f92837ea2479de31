/* llama.c - Llama 2 and 3, SmolLM2, and what else says model_type llama.
 *   x += o(attention(rope(q(n)), rope(k(n)), v(n)))    n = rms_norm(x)
 *   x += down(act(gate(n)) * up(n))                    n = rms_norm(x)
 * C hidden, F intermediate, H heads, Hkv heads of keys and values, d of one head.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/build.h>
#include <qatrun/model.h>

enum { ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3 };

typedef struct llama_config {
	int64_t vocab_size, hidden_size, intermediate_size, num_hidden_layers;
	int64_t num_attention_heads, num_key_value_heads, head_dim;
	int64_t max_position_embeddings, hidden_act;
	int64_t attention_bias, mlp_bias, tie_word_embeddings;
	double rms_norm_eps, initializer_range;

	double rope_theta, partial_rotary_factor;
	int64_t rope_type, rope_interleaved;
	double rope_factor, rope_low_freq_factor, rope_high_freq_factor;
	int64_t rope_original_positions;
	qat_floats rope_freqs;
} llama_config;

static const char *const rope_types[] = { "default", "linear", "llama3", NULL };
static const char *const acts[] = {
	"silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", NULL
};
static const int64_t act_kinds[] = {
	QAT_ACT_SILU, QAT_ACT_SILU, QAT_ACT_GELU_ERF, QAT_ACT_GELU_TANH, QAT_ACT_GELU_TANH,
	QAT_ACT_RELU
};

/* A key of rope_scaling, or as transformers 5 writes it, of rope_parameters. The former is
 * understood by all. */
#define ROPE_KEY(key) "rope_scaling." key "|rope_parameters." key

#define SIZE(field, max_, help) \
	QAT_OPTION(llama_config, QAT_OPT_INT, field, help, .min = 1, .max = (max_), \
		   .flags = QAT_OPT_REQUIRED)

static const qat_option options[] = {
	SIZE(vocab_size, 1 << 24, "rows of the embedding"),
	SIZE(hidden_size, 1 << 20, "channels of the residual stream"),
	SIZE(intermediate_size, 1 << 22, "channels inside an mlp"),
	SIZE(num_hidden_layers, 4096, "layers"),
	SIZE(num_attention_heads, 1 << 16, "heads of queries"),
	QAT_INT(llama_config, num_key_value_heads, 0, 0, 1 << 16,
		"heads of keys and values; 0: as many as of queries"),
	QAT_INT(llama_config, head_dim, 0, 0, 1 << 16,
		"channels of a head; 0: hidden_size / num_attention_heads"),
	QAT_INT(llama_config, max_position_embeddings, 2048, 1, INT32_MAX,
		"tokens of the longest sequence"),
	QAT_ENUM(llama_config, hidden_act, 0, acts, "activation of the gate"),
	QAT_BOOL(llama_config, attention_bias, 0, "q, k, v and o have biases"),
	QAT_BOOL(llama_config, mlp_bias, 0, "gate, up and down have biases"),
	QAT_BOOL(llama_config, tie_word_embeddings, 0, "lm_head is the embedding's weight"),
	QAT_FLOAT(llama_config, rms_norm_eps, 1e-6, 0, 1, "added to the mean square"),
	QAT_FLOAT(llama_config, initializer_range, 0.02, 0, 1e3,
		  "standard deviation of random weights"),
	QAT_OPTION(llama_config, QAT_OPT_FLOAT, rope_theta, "base of the rotary frequencies",
		   .def = 10000, .min = 1, .max = 1e18, .alias = "rope_parameters.rope_theta"),
	QAT_OPTION(llama_config, QAT_OPT_FLOAT, partial_rotary_factor,
		   "part of a head that is rotated: only 1 is supported", .def = 1, .min = 0,
		   .max = 1, .alias = "rope_parameters.partial_rotary_factor"),
	QAT_OPTION(llama_config, QAT_OPT_ENUM, rope_type, "how rotary frequencies are scaled",
		   .choices = rope_types, .flags = QAT_OPT_BY_ALIAS,
		   .alias = ROPE_KEY("rope_type") "|" ROPE_KEY("type")),
	QAT_BOOL(llama_config, rope_interleaved, 0,
		 "pairs are neighbours: only false is supported"),
	QAT_OPTION(llama_config, QAT_OPT_FLOAT, rope_factor,
		   "linear, llama3: what frequencies are divided by", .def = 1, .min = 1e-6,
		   .max = 1e6, .alias = ROPE_KEY("factor"),
		   .flags = QAT_OPT_BY_ALIAS),
	QAT_OPTION(llama_config, QAT_OPT_FLOAT, rope_low_freq_factor,
		   "llama3: original length / this is the shortest wave fully scaled", .def = 1,
		   .min = 1e-6, .max = 1e6, .alias = ROPE_KEY("low_freq_factor"),
		   .flags = QAT_OPT_BY_ALIAS),
	QAT_OPTION(llama_config, QAT_OPT_FLOAT, rope_high_freq_factor,
		   "llama3: original length / this is the longest wave left alone", .def = 4,
		   .min = 1e-6, .max = 1e6, .alias = ROPE_KEY("high_freq_factor"),
		   .flags = QAT_OPT_BY_ALIAS),
	QAT_OPTION(llama_config, QAT_OPT_INT, rope_original_positions,
		   "llama3: longest sequence before scaling, tokens", .def = 8192, .min = 1,
		   .max = INT32_MAX, .alias = ROPE_KEY("original_max_position_embeddings"),
		   .flags = QAT_OPT_BY_ALIAS),
	QAT_OPTION(llama_config, QAT_OPT_FLOATS, rope_freqs,
		   "divisors of the frequencies, head_dim / 2 of them, in place of rope_type",
		   .min = 1e-6, .max = 1e6),
	QAT_END
};

/* ---- numbers ---- */

static int64_t kv_heads(const llama_config *c)
{
	return c->num_key_value_heads ? c->num_key_value_heads : c->num_attention_heads;
}

static int64_t head_dim(const llama_config *c)
{
	return c->head_dim ? c->head_dim : c->hidden_size / c->num_attention_heads;
}

static int check_heads(const llama_config *c)
{
	const long long heads = c->num_attention_heads, kv = kv_heads(c), d = head_dim(c);

	if (!c->head_dim && c->hidden_size % heads)
		return qat_fail(QAT_EINVAL, "llama: hidden_size %lld is not a multiple of "
				"num_attention_heads %lld: correct one or give head_dim",
				(long long)c->hidden_size, heads);
	if (heads % kv)
		return qat_fail(QAT_EINVAL, "llama: num_attention_heads %lld is not a multiple of "
				"num_key_value_heads %lld", heads, kv);
	if (d % 2)
		return qat_fail(QAT_EINVAL, "llama: head_dim %lld is odd: rotary positions turn "
				"pairs of channels", d);
	return QAT_OK;
}

static int check_rope(const llama_config *c)
{
	if (c->partial_rotary_factor != 1.0)
		return qat_fail(QAT_ENOTSUP, "llama: partial_rotary_factor %g: only whole heads "
				"(1) are supported", c->partial_rotary_factor);
	if (c->rope_interleaved)
		return qat_fail(QAT_ENOTSUP, "llama: rope_interleaved: true is not supported: only "
				"pairs half a head apart are");
	if (c->rope_type == ROPE_LLAMA3 &&
	    !(c->rope_low_freq_factor < c->rope_high_freq_factor))
		return qat_fail(QAT_EINVAL, "llama: low_freq_factor %g must be below "
				"high_freq_factor %g", c->rope_low_freq_factor,
				c->rope_high_freq_factor);
	if (!c->rope_freqs.count)
		return QAT_OK;
	if (c->rope_type != ROPE_DEFAULT)
		return qat_fail(QAT_EINVAL, "llama: rope_freqs with rope_type: %s: give one of "
				"them", rope_types[c->rope_type]);
	if (c->rope_freqs.count != head_dim(c) / 2)
		return qat_fail(QAT_EINVAL, "llama: rope_freqs has %lld numbers, but half of "
				"head_dim is %lld", (long long)c->rope_freqs.count,
				(long long)(head_dim(c) / 2));
	for (int64_t i = 0; i < c->rope_freqs.count; i++)
		if (!(c->rope_freqs.at[i] > 0 && c->rope_freqs.at[i] < INFINITY))
			return qat_fail(QAT_EINVAL, "llama: rope_freqs[%lld] is %g: a divisor "
					"must be positive", (long long)i, c->rope_freqs.at[i]);
	return QAT_OK;
}

/* In double, which does not overflow whatever the sizes are. */
static double elements(const llama_config *c)
{
	const double hidden = (double)c->hidden_size, f = (double)c->intermediate_size;
	const double q = (double)c->num_attention_heads * (double)head_dim(c);
	const double kv = (double)kv_heads(c) * (double)head_dim(c);
	const double layer = hidden * (2 * q + 2 * kv + 3 * f);

	return (double)c->num_hidden_layers * layer + 2 * (double)c->vocab_size * hidden;
}

static int llama_check(const void *self, qat_model_info *out)
{
	const llama_config *c = self;
	int rc = check_heads(c);

	if (!rc)
		rc = check_rope(c);
	if (rc)
		return rc;
	if (!(elements(c) <= 1e13))
		return qat_fail(QAT_EINVAL, "llama: these sizes make %.3g parameters: more than "
				"1e13 are out of reach", elements(c));
	out->vocabulary = c->vocab_size;
	out->hidden = c->hidden_size;
	out->layers = c->num_hidden_layers;
	out->context = c->max_position_embeddings;
	out->tied = c->tie_word_embeddings;
	return QAT_OK;
}

/* ---- parameters ---- */

typedef struct adder {
	int (*add)(void *to, const qat_param *p);
	void *to;
	double deviation;
	int rc;			/* the first error; nothing is added after it */
} adder;

static void add(adder *a, qat_param p)
{
	p.size = sizeof p;
	for (int64_t i = p.rank; i < QAT_MAX_RANK; i++)
		p.shape[i] = 1;
	if (p.init == QAT_INIT_NORMAL)
		p.deviation = a->deviation;
	if (!a->rc)
		a->rc = a->add(a->to, &p);
}

static void add_norm(adder *a, const char *name, const char *hub, int64_t channels)
{
	add(a, (qat_param){ .name = name, .hub_name = hub, .rank = 1, .shape = { channels },
			    .init = QAT_INIT_ONES });
}

/* One kind of linear layer, its bias included. */
typedef struct linear {
	const char *name, *hub;		/* "attn.q", "self_attn.q_proj" */
	int64_t out, in, bias;
	int64_t heads;			/* > 0: its rows are rotated */
} linear;

static void add_linear(adder *a, int64_t layer, const linear *l)
{
	const uint32_t flags = l->heads ? QAT_PARAM_ROPE_ROWS : 0;
	char name[64], hub[80];

	snprintf(name, sizeof name, "layers.%lld.%s.weight", (long long)layer, l->name);
	snprintf(hub, sizeof hub, "model.layers.%lld.%s.weight", (long long)layer, l->hub);
	add(a, (qat_param){ .name = name, .hub_name = hub, .flags = flags, .rank = 2,
			    .shape = { l->out, l->in }, .init = QAT_INIT_NORMAL,
			    .heads = l->heads });
	if (!l->bias)
		return;
	snprintf(name, sizeof name, "layers.%lld.%s.bias", (long long)layer, l->name);
	snprintf(hub, sizeof hub, "model.layers.%lld.%s.bias", (long long)layer, l->hub);
	add(a, (qat_param){ .name = name, .hub_name = hub, .flags = flags, .rank = 1,
			    .shape = { l->out }, .init = QAT_INIT_ZEROS, .heads = l->heads });
}

static void add_layer(adder *a, const llama_config *c, int64_t n)
{
	const int64_t hidden = c->hidden_size, f = c->intermediate_size, d = head_dim(c);
	const int64_t q = c->num_attention_heads * d, kv = kv_heads(c) * d;
	const int64_t ab = c->attention_bias, mb = c->mlp_bias;
	const linear linears[] = {
		{ "attn.q", "self_attn.q_proj", q, hidden, ab, c->num_attention_heads },
		{ "attn.k", "self_attn.k_proj", kv, hidden, ab, kv_heads(c) },
		{ "attn.v", "self_attn.v_proj", kv, hidden, ab, 0 },
		{ "attn.o", "self_attn.o_proj", hidden, q, ab, 0 },
		{ "mlp.gate", "mlp.gate_proj", f, hidden, mb, 0 },
		{ "mlp.up", "mlp.up_proj", f, hidden, mb, 0 },
		{ "mlp.down", "mlp.down_proj", hidden, f, mb, 0 },
	};
	char name[64], hub[80];

	snprintf(name, sizeof name, "layers.%lld.norm1.weight", (long long)n);
	snprintf(hub, sizeof hub, "model.layers.%lld.input_layernorm.weight", (long long)n);
	add_norm(a, name, hub, hidden);
	for (int i = 0; i < 4; i++)
		add_linear(a, n, &linears[i]);
	snprintf(name, sizeof name, "layers.%lld.norm2.weight", (long long)n);
	snprintf(hub, sizeof hub, "model.layers.%lld.post_attention_layernorm.weight",
		 (long long)n);
	add_norm(a, name, hub, hidden);
	for (int i = 4; i < 7; i++)
		add_linear(a, n, &linears[i]);
}

static int llama_params(const void *self, int (*to_add)(void *to, const qat_param *p), void *to)
{
	const llama_config *c = self;
	const int64_t v = c->vocab_size, hidden = c->hidden_size;
	adder a = { .add = to_add, .to = to, .deviation = c->initializer_range };

	add(&a, (qat_param){ .name = "embed.weight", .hub_name = "model.embed_tokens.weight",
			     .rank = 2, .shape = { v, hidden } });
	for (int64_t n = 0; n < c->num_hidden_layers && !a.rc; n++)
		add_layer(&a, c, n);
	add_norm(&a, "norm.weight", "model.norm.weight", hidden);
	if (!c->tie_word_embeddings)
		add(&a, (qat_param){ .name = "lm_head.weight", .hub_name = "lm_head.weight",
				     .rank = 2, .shape = { v, hidden } });
	return a.rc;
}

/* ---- rotary tables ---- */

/* Llama 3's scaling of one frequency, in the order of transformers' fp32 arithmetic. */
static float llama3_frequency(const llama_config *c, float f)
{
	const float original = (float)c->rope_original_positions, factor = (float)c->rope_factor;
	const double low = c->rope_low_freq_factor, high = c->rope_high_freq_factor;
	const float wave = (float)(2.0 * M_PI) / f;
	float smooth;

	if (wave < (float)((double)original / high))
		return f;
	if (wave > (float)((double)original / low))
		return f / factor;
	smooth = (original / wave - (float)low) / (float)(high - low);
	return (1.0f - smooth) * f / factor + smooth * f;
}

/* Frequency of pair i: theta^(-2i/d), as transformers computes it in fp32. */
static float frequency(const llama_config *c, int64_t i)
{
	const float exponent = (float)(2 * i) / (float)head_dim(c);
	const float f = 1.0f / (float)pow((double)(float)c->rope_theta, (double)exponent);

	if (c->rope_freqs.count)
		return f / (float)c->rope_freqs.at[i];
	if (c->rope_type == ROPE_LINEAR)
		return f / (float)c->rope_factor;
	return c->rope_type == ROPE_LLAMA3 ? llama3_frequency(c, f) : f;
}

/* cos and sin [length, d / 2] of position * frequency, an fp32 product. */
static void fill_rope(float *cos_, float *sin_, const llama_config *c, int64_t length)
{
	const int64_t half = head_dim(c) / 2;

	for (int64_t i = 0; i < half; i++) {
		const float f = frequency(c, i);

		for (int64_t t = 0; t < length; t++) {
			const float angle = (float)t * f;

			cos_[t * half + i] = (float)cos((double)angle);
			sin_[t * half + i] = (float)sin((double)angle);
		}
	}
}

/* ---- the network ---- */

typedef struct network {
	const llama_config *c;
	const qat_graph_api *g;
	qat_builder *b;
	int64_t cos, sin;
} network;

static int build_rope(network *w)
{
	const int64_t shape[] = { w->g->context(w->b), head_dim(w->c) / 2 };
	const int64_t n = shape[0] * shape[1];
	float *tables;

	if (shape[0] < 1 || shape[0] > INT32_MAX)
		return qat_fail(QAT_EINVAL, "llama: a sequence of %lld tokens is out of reach",
				(long long)shape[0]);
	tables = calloc((size_t)n, 2 * sizeof *tables);
	if (!tables)
		return qat_fail(QAT_ENOMEM, "llama: no memory for rotary tables of %lld tokens",
				(long long)shape[0]);
	fill_rope(tables, tables + n, w->c, shape[0]);
	w->cos = w->g->constant(w->b, "rope.cos", QAT_F32, 2, shape, tables);
	w->sin = w->g->constant(w->b, "rope.sin", QAT_F32, 2, shape, tables + n);
	free(tables);
	return QAT_OK;
}

static int64_t layer_linear(const network *w, int64_t x, int64_t layer, const char *site,
			    int64_t biased)
{
	int64_t weight, bias = QAT_ABSENT;
	char name[64], param[80];

	snprintf(name, sizeof name, "layers.%lld.%s", (long long)layer, site);
	snprintf(param, sizeof param, "%s.weight", name);
	weight = w->g->param(w->b, param);
	if (biased) {
		snprintf(param, sizeof param, "%s.bias", name);
		bias = w->g->param(w->b, param);
	}
	return qat_linear(w->g, w->b, x, weight, bias, name);
}

/* norm: 1 or 2, of a layer. */
static int64_t layer_norm(const network *w, int64_t x, int64_t layer, int norm)
{
	char name[64], weight[80];

	snprintf(name, sizeof name, "layers.%lld.norm%d", (long long)layer, norm);
	snprintf(weight, sizeof weight, "%s.weight", name);
	return qat_rms_norm(w->g, w->b, x, w->g->param(w->b, weight), w->c->rms_norm_eps, name);
}

static int64_t build_attention(const network *w, int64_t x, int64_t n)
{
	const int64_t biased = w->c->attention_bias, d = head_dim(w->c);
	const qat_attr attr = { .attention = {
		.heads = w->c->num_attention_heads, .kv_heads = kv_heads(w->c), .head_dim = d,
		.causal = 1, .scale = 1.0 / sqrt((double)d),
	} };
	char site[64];
	int64_t q = layer_linear(w, x, n, "attn.q", biased);
	int64_t k = layer_linear(w, x, n, "attn.k", biased);
	const int64_t v = layer_linear(w, x, n, "attn.v", biased);

	snprintf(site, sizeof site, "layers.%lld.attn", (long long)n);
	q = qat_rope(w->g, w->b, q, w->cos, w->sin, d);
	k = qat_rope(w->g, w->b, k, w->cos, w->sin, d);
	x = qat_attention(w->g, w->b, q, k, v, &attr, site);
	return layer_linear(w, x, n, "attn.o", biased);
}

static int64_t build_mlp(const network *w, int64_t x, int64_t n)
{
	const int64_t biased = w->c->mlp_bias;
	const int64_t gate = layer_linear(w, x, n, "mlp.gate", biased);
	const int64_t up = layer_linear(w, x, n, "mlp.up", biased);

	x = qat_glu(w->g, w->b, gate, up, act_kinds[w->c->hidden_act]);
	return layer_linear(w, x, n, "mlp.down", biased);
}

static int64_t residual_add(const network *w, int64_t x, int64_t y)
{
	return w->g->residual(w->b, qat_add(w->g, w->b, x, y));
}

static int llama_build(const void *self, qat_builder *b, qat_outputs *out)
{
	network w = { .c = self, .g = qat_host_->service("graph"), .b = b };
	int64_t embed, x;
	int rc;

	if (!w.g)
		return qat_fail(QAT_EABI, "llama: this core has no service \"graph\"");
	rc = build_rope(&w);
	if (rc)
		return rc;
	embed = w.g->param(b, "embed.weight");
	x = qat_embedding(w.g, b, embed, w.g->input(b, QAT_INPUT_TOKENS), "embed");
	x = w.g->residual(b, x);
	for (int64_t n = 0; n < w.c->num_hidden_layers && x >= 0; n++) {
		x = residual_add(&w, x, build_attention(&w, layer_norm(&w, x, n, 1), n));
		x = residual_add(&w, x, build_mlp(&w, layer_norm(&w, x, n, 2), n));
	}
	x = qat_rms_norm(w.g, b, x, w.g->param(b, "norm.weight"), w.c->rms_norm_eps, "norm");
	out->hidden = x;
	out->head = w.c->tie_word_embeddings ? embed : w.g->param(b, "lm_head.weight");
	return x < 0 ? (int)x : out->head < 0 ? (int)out->head : QAT_OK;
}

/* Frequencies follow from the config; before 2023 they were stored. */
static int llama_spare(const void *self, const char *name)
{
	static const char buffer[] = ".rotary_emb.inv_freq";
	const size_t n = strlen(name), m = sizeof buffer - 1;

	(void)self;
	return n > m && !strcmp(name + n - m, buffer);
}

static const qat_model llama_vtable = {
	.size = sizeof(qat_model),
	.check = llama_check,
	.params = llama_params,
	.build = llama_build,
	.spare = llama_spare,
};

static const qat_interface llama_interface = {
	.size = sizeof(qat_interface),
	.kind = QAT_KIND_MODEL,
	.name = "llama",
	.summary = "Llama 2 and 3, SmolLM2: rotary positions, grouped heads, gated mlp",
	.options = options,
	.options_size = sizeof(llama_config),
	.vtable = &llama_vtable,
};

static const qat_interface *const all[] = { &llama_interface };

QAT_PLUGIN("llama", all);
