/* gpt2.c - GPT-2: learned positions, layer norms before each half of a layer, one matrix
 * for q, k and v, a plain mlp.
 *   x = embed[token] + positions[t]
 *   x += o(attention(split(qkv(layer_norm(x)))))
 *   x += down(act(up(layer_norm(x))))
 * The hub's files hold linear weights as Conv1D does, [in, out]. Their buffers
 * h.*.attn.bias are masks, not parameters.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/build.h>
#include <qatrun/model.h>

typedef struct gpt2_config {
	int64_t vocab_size, n_embd, n_layer, n_head, n_positions, n_inner;
	int64_t activation_function, tie_word_embeddings;
	int64_t scale_attn_weights, scale_attn_by_inverse_layer_idx, add_cross_attention;
	double layer_norm_epsilon, initializer_range;
} gpt2_config;

static const char *const acts[] = {
	"gelu_new", "gelu_pytorch_tanh", "gelu", "silu", "swish", "relu", NULL
};
static const int64_t act_kinds[] = {
	QAT_ACT_GELU_TANH, QAT_ACT_GELU_TANH, QAT_ACT_GELU_ERF, QAT_ACT_SILU, QAT_ACT_SILU,
	QAT_ACT_RELU
};

#define SIZE(field, max_, alias_, help) \
	QAT_OPTION(gpt2_config, QAT_OPT_INT, field, help, .min = 1, .max = (max_), \
		   .flags = QAT_OPT_REQUIRED, .alias = (alias_))

static const qat_option options[] = {
	SIZE(vocab_size, 1 << 24, NULL, "rows of the embedding"),
	SIZE(n_embd, 1 << 20, "hidden_size", "channels of the residual stream"),
	SIZE(n_layer, 4096, "num_hidden_layers", "layers"),
	SIZE(n_head, 1 << 16, "num_attention_heads", "heads"),
	QAT_OPTION(gpt2_config, QAT_OPT_INT, n_positions, "tokens of the longest sequence",
		   .def = 1024, .min = 1, .max = 1 << 24, .alias = "max_position_embeddings|n_ctx"),
	QAT_OPTION(gpt2_config, QAT_OPT_INT, n_inner, "channels inside an mlp; 0: 4 * n_embd",
		   .min = 0, .max = 1 << 22, .alias = "intermediate_size"),
	QAT_ENUM(gpt2_config, activation_function, 0, acts, "activation of the mlp"),
	QAT_BOOL(gpt2_config, tie_word_embeddings, 1, "lm_head is the embedding's weight"),
	QAT_BOOL(gpt2_config, scale_attn_weights, 1, "divide scores by sqrt(channels of a head)"),
	QAT_BOOL(gpt2_config, scale_attn_by_inverse_layer_idx, 0,
		 "also divide the scores of layer n by n + 1"),
	QAT_BOOL(gpt2_config, add_cross_attention, 0, "only false is supported"),
	QAT_FLOAT(gpt2_config, layer_norm_epsilon, 1e-5, 0, 1, "added to the variance"),
	QAT_FLOAT(gpt2_config, initializer_range, 0.02, 0, 1e3,
		  "standard deviation of random weights"),
	QAT_END
};

static int64_t inner(const gpt2_config *c)
{
	return c->n_inner ? c->n_inner : 4 * c->n_embd;
}

/* In double, which does not overflow whatever the sizes are. */
static double elements(const gpt2_config *c)
{
	const double hidden = (double)c->n_embd;

	return hidden * ((double)c->n_layer * (4 * hidden + 2 * (double)inner(c)) +
			 2 * (double)c->vocab_size + (double)c->n_positions);
}

static int gpt2_check(const void *self, qat_model_info *out)
{
	const gpt2_config *c = self;

	if (c->n_embd % c->n_head)
		return qat_fail(QAT_EINVAL, "gpt2: n_embd %lld is not a multiple of n_head %lld",
				(long long)c->n_embd, (long long)c->n_head);
	if (c->add_cross_attention)
		return qat_fail(QAT_ENOTSUP, "gpt2: add_cross_attention: true is not supported");
	if (!(elements(c) <= 1e13))
		return qat_fail(QAT_EINVAL, "gpt2: these sizes make %.3g parameters: more than "
				"1e13 are out of reach", elements(c));
	out->vocabulary = c->vocab_size;
	out->hidden = c->n_embd;
	out->layers = c->n_layer;
	out->context = c->n_positions;
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

/* A matrix [rows, cols] of normal numbers; cols 0: a vector of zeros or ones. */
static void add(adder *a, const char *name, const char *hub, int64_t rows, int64_t cols,
		int64_t init, uint32_t flags)
{
	const qat_param p = {
		.size = sizeof p, .flags = flags, .name = name, .hub_name = hub,
		.rank = cols ? 2 : 1, .shape = { rows, cols ? cols : 1, 1, 1 }, .init = init,
		.deviation = init == QAT_INIT_NORMAL ? a->deviation : 0,
	};

	if (!a->rc)
		a->rc = a->add(a->to, &p);
}

/* What a layer holds: weight and bias each. cols 0: a norm. */
typedef struct part {
	const char *name, *hub;
	int64_t rows, cols;
} part;

static void add_part(adder *a, int64_t layer, const part *p)
{
	char name[64], hub[64];

	snprintf(name, sizeof name, "layers.%lld.%s.weight", (long long)layer, p->name);
	snprintf(hub, sizeof hub, "h.%lld.%s.weight", (long long)layer, p->hub);
	add(a, name, hub, p->rows, p->cols, p->cols ? QAT_INIT_NORMAL : QAT_INIT_ONES,
	    p->cols ? QAT_PARAM_HUB_TRANSPOSED : 0);
	snprintf(name, sizeof name, "layers.%lld.%s.bias", (long long)layer, p->name);
	snprintf(hub, sizeof hub, "h.%lld.%s.bias", (long long)layer, p->hub);
	add(a, name, hub, p->rows, 0, QAT_INIT_ZEROS, 0);
}

static void add_layer(adder *a, const gpt2_config *c, int64_t n)
{
	const int64_t hidden = c->n_embd;
	const part parts[] = {
		{ "norm1", "ln_1", hidden, 0 },
		{ "attn.qkv", "attn.c_attn", 3 * hidden, hidden },
		{ "attn.o", "attn.c_proj", hidden, hidden },
		{ "norm2", "ln_2", hidden, 0 },
		{ "mlp.up", "mlp.c_fc", inner(c), hidden },
		{ "mlp.down", "mlp.c_proj", hidden, inner(c) },
	};

	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		add_part(a, n, &parts[i]);
}

static int gpt2_params(const void *self, int (*to_add)(void *to, const qat_param *p), void *to)
{
	const gpt2_config *c = self;
	const int64_t v = c->vocab_size, hidden = c->n_embd;
	adder a = { .add = to_add, .to = to, .deviation = c->initializer_range };

	add(&a, "embed.weight", "wte.weight", v, hidden, QAT_INIT_NORMAL, 0);
	add(&a, "positions.weight", "wpe.weight", c->n_positions, hidden, QAT_INIT_NORMAL, 0);
	for (int64_t n = 0; n < c->n_layer && !a.rc; n++)
		add_layer(&a, c, n);
	add(&a, "norm.weight", "ln_f.weight", hidden, 0, QAT_INIT_ONES, 0);
	add(&a, "norm.bias", "ln_f.bias", hidden, 0, QAT_INIT_ZEROS, 0);
	if (!c->tie_word_embeddings)
		add(&a, "lm_head.weight", "lm_head.weight", v, hidden, QAT_INIT_NORMAL, 0);
	return a.rc;
}

/* ---- the network ---- */

typedef struct network {
	const gpt2_config *c;
	const qat_graph_api *g;
	qat_builder *b;
} network;

/* positions[t] for every token. */
static int64_t build_positions(const network *w)
{
	const int64_t length = w->g->context(w->b);

	if (length > w->c->n_positions)
		return qat_fail(QAT_EINVAL, "gpt2: sequences of %lld tokens, but the model has "
				"n_positions %lld: shorten the length", (long long)length,
				(long long)w->c->n_positions);
	return qat_embedding(w->g, w->b, w->g->param(w->b, "positions.weight"),
			     w->g->positions(w->b), "positions");
}

/* The parameter `name`.weight or `name`.bias. */
static int64_t param(const network *w, const char *name, const char *which)
{
	char full[80];

	snprintf(full, sizeof full, "%s.%s", name, which);
	return w->g->param(w->b, full);
}

static int64_t layer_linear(const network *w, int64_t x, int64_t layer, const char *site)
{
	int64_t weight, bias;
	char name[64];

	snprintf(name, sizeof name, "layers.%lld.%s", (long long)layer, site);
	weight = param(w, name, "weight");
	bias = param(w, name, "bias");
	return qat_linear(w->g, w->b, x, weight, bias, name);
}

static int64_t norm(const network *w, int64_t x, const char *name)
{
	const int64_t weight = param(w, name, "weight"), bias = param(w, name, "bias");

	return qat_layer_norm(w->g, w->b, x, weight, bias, w->c->layer_norm_epsilon, name);
}

static double score_scale(const gpt2_config *c, int64_t layer)
{
	double scale = 1.0;

	if (c->scale_attn_weights)
		scale /= sqrt((double)(c->n_embd / c->n_head));
	if (c->scale_attn_by_inverse_layer_idx)
		scale /= (double)(layer + 1);
	return scale;
}

static int64_t build_attention(const network *w, int64_t x, int64_t n)
{
	const int64_t hidden = w->c->n_embd;
	const qat_attr thirds = { .split = { .count = 3, .width = { hidden, hidden, hidden } } };
	const qat_attr attr = { .attention = {
		.heads = w->c->n_head, .kv_heads = w->c->n_head, .head_dim = hidden / w->c->n_head,
		.causal = 1, .scale = score_scale(w->c, n),
	} };
	int64_t qkv[QAT_MAX_OUT];
	char name[64];
	int64_t rc;

	snprintf(name, sizeof name, "layers.%lld.norm1", (long long)n);
	x = layer_linear(w, norm(w, x, name), n, "attn.qkv");
	rc = w->g->node(w->b, QAT_OP_SPLIT, &thirds, 1, &x, qkv, NULL);
	if (rc < 0)
		return rc;
	snprintf(name, sizeof name, "layers.%lld.attn", (long long)n);
	x = qat_attention(w->g, w->b, qkv[0], qkv[1], qkv[2], &attr, name);
	return layer_linear(w, x, n, "attn.o");
}

static int64_t build_mlp(const network *w, int64_t x, int64_t n)
{
	char name[64];

	snprintf(name, sizeof name, "layers.%lld.norm2", (long long)n);
	x = layer_linear(w, norm(w, x, name), n, "mlp.up");
	x = qat_act(w->g, w->b, x, act_kinds[w->c->activation_function]);
	return layer_linear(w, x, n, "mlp.down");
}

static int64_t residual_add(const network *w, int64_t x, int64_t y)
{
	return w->g->residual(w->b, qat_add(w->g, w->b, x, y));
}

static int gpt2_build(const void *self, qat_builder *b, qat_outputs *out)
{
	const network w = { .c = self, .g = qat_host_->service("graph"), .b = b };
	int64_t embed, x;

	if (!w.g)
		return qat_fail(QAT_EABI, "gpt2: this core has no service \"graph\"");
	embed = w.g->param(b, "embed.weight");
	x = qat_embedding(w.g, b, embed, w.g->input(b, QAT_INPUT_TOKENS), "embed");
	x = w.g->residual(b, x);
	x = residual_add(&w, x, w.g->residual(b, build_positions(&w)));
	for (int64_t n = 0; n < w.c->n_layer && x >= 0; n++) {
		x = residual_add(&w, x, build_attention(&w, x, n));
		x = residual_add(&w, x, build_mlp(&w, x, n));
	}
	x = norm(&w, x, "norm");
	out->hidden = x;
	out->head = w.c->tie_word_embeddings ? embed : w.g->param(b, "lm_head.weight");
	return x < 0 ? (int)x : out->head < 0 ? (int)out->head : QAT_OK;
}

/* The causal mask, which old files have as a buffer of each layer. */
static int gpt2_spare(const void *self, const char *name)
{
	static const char *const buffers[] = { ".attn.bias", ".attn.masked_bias" };
	const size_t n = strlen(name);

	(void)self;
	for (int i = 0; i < 2; i++) {
		const size_t m = strlen(buffers[i]);

		if (n > m && !strcmp(name + n - m, buffers[i]))
			return 1;
	}
	return 0;
}

static const qat_model gpt2_vtable = {
	.size = sizeof(qat_model),
	.check = gpt2_check,
	.params = gpt2_params,
	.build = gpt2_build,
	.spare = gpt2_spare,
};

static const qat_interface gpt2_interface = {
	.size = sizeof(qat_interface),
	.kind = QAT_KIND_MODEL,
	.name = "gpt2",
	.summary = "GPT-2: learned positions, layer norms, one matrix for q, k and v",
	.options = options,
	.options_size = sizeof(gpt2_config),
	.vtable = &gpt2_vtable,
};

static const qat_interface *const all[] = { &gpt2_interface };

QAT_PLUGIN("gpt2", all);
