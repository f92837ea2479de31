/* test_gradients.c - every gradient rule, and whole small models, against central
 * differences of the loss in double. The gradient comes from backend reference, so it is
 * tested with them.
 *
 * Where codes are involved the loss has no useful differences: then what is compared is
 * the definition of the straight-through gradient, the loss with each x^ = its value of
 * the run + (x - x of the run) where the mask passes (double_ops.h).
 */
#include "graph_kit.h"

#include <math.h>
#include <stdio.h>

#include "double_ops.h"
#include "error.h"

#include <qatrun/quantizer.h>

enum { BATCH = 2, LENGTH = 3, N = BATCH * LENGTH, V = 10, ELEMENTS = 24, MORE = 200 };

static qat_device device;

/* ---- comparing ---- */

static double loss_of(doubles *d, const qat_loss *loss)
{
	const double *g = d->at[d->g->inputs[QAT_INPUT_LOSS_GRADIENT]];
	const qat_value *nll = d->g->values[loss->nll];
	double sum = 0;

	doubles_run(d);
	for (int64_t i = 0; i < nll->shape[0]; i++)
		sum += g[i] * d->at[loss->nll][i];
	return sum;
}

static double difference(doubles *d, const qat_loss *loss, int64_t param, int64_t i)
{
	double *x = &d->at[param][i];
	const double was = *x, h = 1e-4 * (fabs(was) + 0.1);
	double up, down;

	*x = was + h;
	up = loss_of(d, loss);
	*x = was - h;
	down = loss_of(d, loss);
	*x = was;
	return (up - down) / (2 * h);
}

static double largest(const float *x, int64_t n)
{
	double top = 0;

	for (int64_t i = 0; i < n; i++)
		top = fabs(x[i]) > top ? fabs(x[i]) : top;
	return top;
}

/* got, less what was in the buffer before, against differences of up to `most` elements. */
static void compare_param(doubles *d, const qat_loss *loss, const qat_trained *t,
			  const float *got, const float *before, int64_t most,
			  const char *name)
{
	const int64_t n = qat_value_elements(d->g->values[t->param]);
	const int64_t step = n > most ? n / most : 1;
	const double top = largest(got, n);

	for (int64_t i = 0; i < n; i += step) {
		const double want = difference(d, loss, t->param, i);
		const double have = (double)got[i] - (before ? before[i] : 0.0f);

		ck_assert_msg(fabs(have - want) <= 2e-5 * (top + fabs(want)) + 1e-9,
			      "%s: %s[%lld]: gradient %.9g, differences %.9g", name,
			      d->g->values[t->param]->name, (long long)i, have, want);
	}
}

/* All but static ranges. */
static int64_t trainable(const qat_ir *g)
{
	int64_t n = 0;

	for (int64_t i = 0; i < g->graph.n_values; i++)
		n += g->values[i]->role == QAT_ROLE_PARAM && g->values[i]->dtype == QAT_F32 &&
		     !strstr(g->values[i]->name, ".scale");
	return n;
}

static void give_input(kit *k, uint32_t which, int32_t hi)
{
	const int64_t v = k->g->inputs[which];
	const int64_t n = k->g->graph.batch * k->g->graph.length;
	int32_t ids[64];

	if (v == QAT_NONE)
		return;
	kit_ids(ids, n, 0, hi - 1, which);
	if (which == QAT_INPUT_LABELS)
		ids[1] = -100;
	kit_give(k, v, ids);
}

static void give_gradient(kit *k)
{
	float g[64];

	kit_numbers(g, k->g->graph.batch * k->g->graph.length, KIT_ONES, 99);
	kit_give(k, k->g->inputs[QAT_INPUT_LOSS_GRADIENT], g);
}

/* What the buffers hold before, when gradients accumulate. */
static void give_buffers(kit *k, const qat_trained *t, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		int64_t root = t[i].gradient;
		const int64_t count = qat_value_elements(k->g->values[t[i].param]);
		float *x = malloc((size_t)count * sizeof *x);

		ck_assert_ptr_nonnull(x);
		while (k->g->values[root]->alias != QAT_NONE)
			root = k->g->values[root]->alias;
		ck_assert_uint_eq(k->g->values[root]->role, QAT_ROLE_STATE);
		kit_numbers(x, count, KIT_NORMAL, 7 + (uint64_t)i);
		kit_give(k, root, x);
		free(x);
	}
}

static const float *before_of(const kit *k, const qat_trained *t)
{
	int64_t root = t->gradient;

	while (k->g->values[root]->alias != QAT_NONE)
		root = k->g->values[root]->alias;
	return root < k->room ? k->content[root] : NULL;
}

/* Differentiate, run, compare. Frees the case. */
static void check(kit *k, const qat_loss *loss, int accumulate, int32_t vocabulary,
		  int64_t most, const char *name)
{
	qat_trained *trained;
	int64_t n;
	kit_result r;
	doubles d;

	ck_assert_msg(qat_ir_differentiate(k->g, loss, accumulate, &trained, &n) == QAT_OK,
		      "%s: %s", name, qat_error());
	ck_assert_msg(n == trainable(k->g), "%s: %lld of %lld parameters have gradients", name,
		      (long long)n, (long long)trainable(k->g));
	kit_params(k, 5);
	give_input(k, QAT_INPUT_TOKENS, vocabulary);
	give_input(k, QAT_INPUT_LABELS, vocabulary);
	give_gradient(k);
	if (accumulate)
		give_buffers(k, trained, n);
	kit_run(&r, k, &device, NULL);
	ck_assert_msg(!r.rc, "%s: %s", name, r.error);
	doubles_new(&d, k->g);
	doubles_load(&d, k, &r);
	loss_of(&d, loss);
	for (int64_t i = 0; i < n; i++)
		compare_param(&d, loss, &trained[i], r.data[trained[i].gradient],
			      before_of(k, &trained[i]), most, name);
	doubles_free(&d);
	kit_result_free(&r);
	free(trained);
	kit_free(k);
}

/* ---- one op at a time: y [N, V] becomes logits ---- */

static int64_t param(kit *k, int64_t rows, int64_t cols)
{
	return kit_random(k, QAT_F32, rows, cols, KIT_NORMAL,
			  (uint64_t)k->g->graph.n_values + 11);
}

static int64_t node1(kit *k, uint32_t op, const qat_attr *a, int64_t x)
{
	return kit_node(k, op, a, 1, &x, NULL, NULL);
}

static int64_t node2(kit *k, uint32_t op, const qat_attr *a, int64_t x, int64_t y)
{
	const int64_t in[] = { x, y };

	return kit_node(k, op, a, 2, in, NULL, NULL);
}

static int64_t node3(kit *k, uint32_t op, const qat_attr *a, int64_t x, int64_t y, int64_t z)
{
	const int64_t in[] = { x, y, z };

	return kit_node(k, op, a, 3, in, NULL, NULL);
}

static const qat_attr linear = { .matmul = { .trans_b = 1 } };

static int64_t y_embedding(kit *k, int64_t v)
{
	(void)v;
	return node2(k, QAT_OP_EMBEDDING, NULL, param(k, V, V),
		     qat_ir_api.input(k->g, QAT_INPUT_TOKENS));
}

/* v: 0 none, 1 a bias, 2 an addend. */
static int64_t y_matmul(kit *k, int64_t v)
{
	const int64_t x = param(k, N, 7), w = param(k, V, 7);

	if (!v)
		return node2(k, QAT_OP_MATMUL, &linear, x, w);
	return node3(k, QAT_OP_MATMUL, &linear, x, w, v == 1 ? param(k, V, 0) : param(k, N, V));
}

static int64_t y_shared_weight(kit *k, int64_t v)
{
	const int64_t w = param(k, V, V), x = param(k, N, V);

	(void)v;
	return node2(k, QAT_OP_MATMUL, &linear, node2(k, QAT_OP_MATMUL, &linear, x, w), w);
}

static int64_t y_pair(kit *k, int64_t op)
{
	const int64_t a = param(k, N, V);

	return node2(k, (uint32_t)op, NULL, a, param(k, N, V));
}

static int64_t y_itself(kit *k, int64_t op)
{
	const int64_t a = param(k, N, V);

	return node2(k, (uint32_t)op, NULL, a, a);
}

static int64_t y_scale(kit *k, int64_t v)
{
	const qat_attr a = { .scale = { .factor = -0.625 } };

	(void)v;
	return node1(k, QAT_OP_SCALE, &a, param(k, N, V));
}

static int64_t y_act(kit *k, int64_t kind)
{
	const qat_attr a = { .act = { .kind = kind } };

	return node1(k, QAT_OP_ACT, &a, param(k, N, V));
}

static int64_t y_glu(kit *k, int64_t kind)
{
	const qat_attr a = { .act = { .kind = kind } };
	const int64_t gate = param(k, N, V);

	return node2(k, QAT_OP_GLU, &a, gate, param(k, N, V));
}

/* v: 1 no bias, 2 weight is 1 + w. */
static int64_t y_layer_norm(kit *k, int64_t v)
{
	const qat_attr a = { .norm = { .epsilon = 1e-5, .plus_one = v == 2 } };
	const int64_t x = param(k, N, V), w = param(k, V, 0);

	return v == 1 ? node2(k, QAT_OP_LAYER_NORM, &a, x, w)
		      : node3(k, QAT_OP_LAYER_NORM, &a, x, w, param(k, V, 0));
}

static int64_t y_rms_norm(kit *k, int64_t v)
{
	const qat_attr a = { .norm = { .epsilon = 1e-5, .plus_one = v == 2 } };
	const int64_t x = param(k, N, V);

	return node2(k, QAT_OP_RMS_NORM, &a, x, param(k, V, 0));
}

static int64_t y_rope(kit *k, int64_t inverse)
{
	const qat_attr a = { .rope = { .head_dim = V / 5 * 2, .inverse = inverse } };
	const int64_t shape[] = { LENGTH, V / 5 };
	const int64_t mix = param(k, N, V / 5 * 4), w = param(k, V, V / 5 * 4);
	float cosine[LENGTH * V / 5], sine[LENGTH * V / 5];
	int64_t c, s;

	for (int i = 0; i < LENGTH * V / 5; i++) {
		cosine[i] = cosf((float)i);
		sine[i] = sinf((float)i);
	}
	c = qat_ir_api.constant(k->g, "cos", QAT_F32, 2, shape, cosine);
	s = qat_ir_api.constant(k->g, "sin", QAT_F32, 2, shape, sine);
	return node2(k, QAT_OP_MATMUL, &linear, node3(k, QAT_OP_ROPE, &a, mix, c, s), w);
}

/* v: 0 causal, 1 all, 2 causal with a window of 2. */
static int64_t y_attention(kit *k, int64_t v)
{
	const qat_attr a = { .attention = { .heads = 4, .kv_heads = 2, .head_dim = 3,
					    .causal = v != 1, .window = v == 2 ? 2 : 0,
					    .scale = 0.7 } };
	const int64_t q = param(k, N, 12), key = param(k, N, 6), value = param(k, N, 6);

	return node2(k, QAT_OP_MATMUL, &linear,
		     node3(k, QAT_OP_ATTENTION, &a, q, key, value), param(k, V, 12));
}

/* One matrix for keys and values, and of q too where v is 1. */
static int64_t y_attention_shared(kit *k, int64_t v)
{
	const qat_attr a = { .attention = { .heads = 2, .kv_heads = 2, .head_dim = 5,
					    .causal = 1, .scale = 0.4 } };
	const int64_t x = param(k, N, V);

	return node3(k, QAT_OP_ATTENTION, &a, v ? x : param(k, N, V), x, x);
}

static int64_t y_columns(kit *k, int64_t v)
{
	const qat_attr a = { .split = { .count = 3, .width = { 2, 3, 5 } } };
	const int64_t x = param(k, N, V);
	int64_t out[QAT_MAX_OUT];

	(void)v;
	kit_node(k, QAT_OP_SPLIT, &a, 1, &x, out, NULL);
	out[1] = node2(k, QAT_OP_MUL, NULL, out[1], out[1]);
	return node3(k, QAT_OP_CONCAT, NULL, out[2], out[0], out[1]);
}

static int64_t y_cast(kit *k, int64_t v)
{
	const qat_attr a = { .cast = { .dtype = QAT_F32 } };

	(void)v;
	return node1(k, QAT_OP_CAST, &a, param(k, N, V));
}

/* x + f(norm(x)) twice, marked as residual. */
static int64_t y_residual(kit *k, int64_t op)
{
	const qat_attr a = { .norm = { .epsilon = 1e-5 } };
	int64_t x = param(k, N, V);

	for (int i = 0; i < 2; i++) {
		const int64_t w = param(k, V, 0), m = param(k, V, V);
		const int64_t h = node2(k, (uint32_t)op, &a, x, w);

		x = qat_ir_api.residual(k->g, node2(k, QAT_OP_ADD, NULL, x,
				node2(k, QAT_OP_MATMUL, &linear, h, m)));
	}
	return x;
}

static const struct { const char *name; int64_t (*y)(kit *k, int64_t v); int64_t v; } rules[] = {
	{ "embedding", y_embedding, 0 },
	{ "matmul", y_matmul, 0 }, { "matmul, bias", y_matmul, 1 },
	{ "matmul, addend", y_matmul, 2 }, { "a weight twice", y_shared_weight, 0 },
	{ "add", y_pair, QAT_OP_ADD }, { "x + x", y_itself, QAT_OP_ADD },
	{ "mul", y_pair, QAT_OP_MUL }, { "x * x", y_itself, QAT_OP_MUL },
	{ "scale", y_scale, 0 }, { "cast", y_cast, 0 },
	{ "gelu tanh", y_act, QAT_ACT_GELU_TANH }, { "gelu erf", y_act, QAT_ACT_GELU_ERF },
	{ "silu", y_act, QAT_ACT_SILU }, { "relu", y_act, QAT_ACT_RELU },
	{ "glu, gelu tanh", y_glu, QAT_ACT_GELU_TANH },
	{ "glu, gelu erf", y_glu, QAT_ACT_GELU_ERF },
	{ "glu, silu", y_glu, QAT_ACT_SILU }, { "glu, relu", y_glu, QAT_ACT_RELU },
	{ "layer norm", y_layer_norm, 0 }, { "layer norm, no bias", y_layer_norm, 1 },
	{ "layer norm, 1 + w", y_layer_norm, 2 },
	{ "rms norm", y_rms_norm, 0 }, { "rms norm, 1 + w", y_rms_norm, 2 },
	{ "rope", y_rope, 0 }, { "rope, inverse", y_rope, 1 },
	{ "attention", y_attention, 0 }, { "attention, not causal", y_attention, 1 },
	{ "attention, window", y_attention, 2 },
	{ "attention, k is v", y_attention_shared, 0 },
	{ "attention, q is k is v", y_attention_shared, 1 },
	{ "split, concat", y_columns, 0 },
	{ "residual, rms norm", y_residual, QAT_OP_RMS_NORM },
	{ "residual, layer norm", y_residual, QAT_OP_LAYER_NORM },
};

static qat_loss logits_loss(kit *k, int64_t y)
{
	const int64_t in[] = { y, qat_ir_api.input(k->g, QAT_INPUT_LABELS) };
	int64_t out[QAT_MAX_OUT];

	kit_node(k, QAT_OP_CROSS_ENTROPY, NULL, 2, in, out, NULL);
	return (qat_loss){ .logits = y, .nll = out[0], .lse = out[1], .argmax = out[2] };
}

START_TEST(rule)
{
	for (int accumulate = 0; accumulate < 2; accumulate++) {
		qat_loss loss;
		kit k;

		kit_new(&k, BATCH, LENGTH, QAT_F32);
		loss = logits_loss(&k, rules[_i].y(&k, rules[_i].v));
		check(&k, &loss, accumulate, V, ELEMENTS, rules[_i].name);
	}
}
END_TEST

/* The head fused with the loss; x and the head may be one parameter's. */
START_TEST(fused_head)
{
	for (int accumulate = 0; accumulate < 2; accumulate++) {
		qat_outputs out;
		qat_loss loss;
		kit k;

		kit_new(&k, BATCH, LENGTH, QAT_F32);
		out.head = param(&k, V, 7);
		out.hidden = _i ? node2(&k, QAT_OP_EMBEDDING, NULL, out.head,
					qat_ir_api.input(k.g, QAT_INPUT_TOKENS))
				: param(&k, N, 7);
		ck_assert_int_eq(qat_ir_loss(k.g, &loss, &out, 0), QAT_OK);
		check(&k, &loss, accumulate, V, ELEMENTS, _i ? "tied head" : "head");
	}
}
END_TEST

/* ---- codes ---- */

typedef struct variant {
	const char *quantizer, *option[3];
	double value[3];
} variant;

static const variant variants[] = {
	{ "int8", { NULL }, { 0 } },
	{ "int4", { "divisor", "group_size" }, { 1, 4 } },
	{ "int2", { "divisor" }, { 1 } },
	{ "int4", { "symmetric", "group_size" }, { 0, 4 } },
	{ "int4", { "symmetric", "float_zero", "group_size" }, { 0, 1, 4 } },
	{ "int4", { "divisor", "group_size" }, { 2, 8 } },
	{ "mxfp4", { NULL }, { 0 } },
	{ "mxfp4", { "gradient" }, { 1 } },
	{ "mxfp6", { "element", "gradient" }, { 1, 1 } },
	{ "mxfp8", { "element", "gradient" }, { 0, 1 } },
	{ "fp8", { NULL }, { 0 } },
	{ "fp8", { "element", "dynamic" }, { 1, 0 } },
	{ "int4", { "range", "percentile" }, { 1, 75 } },
	{ "int4", { "range", "group_size" }, { 2, 8 } },
	{ "nvfp4", { NULL }, { 0 } },
	{ "nvfp4", { "gradient", "dynamic" }, { 1, 0 } },
	{ "int8", { "dynamic" }, { 0 } },
};

/* Scheme of a variant for a port; 0 if its plugin is not there. */
static int scheme_of(qat_scheme *out, const variant *v, const qat_site *site)
{
	const qat_instance i = kit_instance(QAT_KIND_QUANTIZER, v->quantizer);
	const qat_quantizer *q = i.vtable;

	if (!i.interface)
		return 0;
	/* A weight has no static range; a dynamic input is never measured in part. */
	for (int o = 0; o < 3 && v->option[o]; o++) {
		const int input = site->port == QAT_PORT_INPUT;

		if (strcmp(v->option[o], input ? "range" : "dynamic") != 0)
			ck_assert_msg(kit_set(&i, v->option[o], v->value[o]), "%s has no option %s",
				      v->quantizer, v->option[o]);
	}
	out->size = sizeof *out;
	ck_assert_msg(q->scheme(i.self, site, 0, out) == QAT_OK, "%s", qat_error());
	return 1;
}

typedef struct placement {
	kit *k;				/* whose graph owns the sets */
	const variant *v;
	int ports;			/* bits of QAT_PORT_* */
	int absent;			/* 1: a plugin was not there */
	qat_scheme schemes[64];
	const qat_scheme *at[64];
	qat_scheme_set sets[64];
	int count;
} placement;

static int look_up(void *context, const qat_site *site, const qat_scheme_set **out)
{
	placement *p = context;
	const int i = p->count;

	*out = NULL;
	if (!(p->ports >> site->port & 1))
		return QAT_OK;
	ck_assert_int_lt(i, 64);
	if (!scheme_of(&p->schemes[i], p->v, site)) {
		p->absent = 1;
		return QAT_OK;
	}
	p->at[i] = &p->schemes[i];
	p->sets[i] = (qat_scheme_set){ .size = sizeof *p->sets, .selector = -1, .count = 1,
				       .schemes = &p->at[i] };
	*out = &p->sets[i];
	p->count++;
	return QAT_OK;
}

static const int all_ports[] = {
	1 << QAT_PORT_WEIGHT, 1 << QAT_PORT_INPUT, 1 << QAT_PORT_WEIGHT | 1 << QAT_PORT_INPUT
};

/* Two layers that read one input, one after them, an embedding: all quantized. */
static void straight_through(const variant *v, int ports)
{
	enum { C = 32 };
	placement p = { .v = v, .ports = ports };
	qat_outputs out;
	qat_loss loss;
	int64_t x, w[4], bias;
	kit k;

	kit_new(&k, BATCH, LENGTH, QAT_F32);
	for (int i = 0; i < 4; i++)
		w[i] = param(&k, i == 3 ? V : C, C);
	bias = param(&k, C, 0);
	x = qat_ir_api.node(k.g, QAT_OP_EMBEDDING, NULL, 2, (int64_t[]){ w[3],
			qat_ir_api.input(k.g, QAT_INPUT_TOKENS) }, NULL, "embed");
	for (int i = 0; i < 2; i++)
		w[i] = qat_ir_api.node(k.g, QAT_OP_MATMUL, &linear, 3,
			(int64_t[]){ x, w[i], i ? bias : QAT_ABSENT }, NULL, i ? "b" : "a");
	x = node2(&k, QAT_OP_MUL, NULL, w[0], w[1]);
	out.hidden = qat_ir_api.node(k.g, QAT_OP_MATMUL, &linear, 2, (int64_t[]){ x, w[2] },
				     NULL, "c");
	out.head = w[3];
	ck_assert_int_eq(qat_ir_loss(k.g, &loss, &out, 0), QAT_OK);
	/* Contents go by value ids, which the passes change. */
	for (int64_t i = 0; i < k.room; i++) {
		free(k.content[i]);
		k.content[i] = NULL;
	}
	kit_passes(&k, &loss, look_up, &p);
	if (p.absent) {
		kit_free(&k);
		return;
	}
	check(&k, &loss, 1, V, MORE, v->quantizer);
}

START_TEST(codes)
{
	for (size_t i = 0; i < sizeof all_ports / sizeof *all_ports; i++)
		straight_through(&variants[_i], all_ports[i]);
}
END_TEST

/* ---- models ---- */

static const char *const models[] = { "llama", "gpt2" };

/* bits of _i: model, tied, accumulate, quantized. */
START_TEST(model)
{
	const int which = _i & 1, tied = _i >> 1 & 1, accumulate = _i >> 2 & 1;
	placement p = { .v = &variants[_i & 2 ? 1 : 0],
			.ports = _i >> 3 & 1 ? 1 << QAT_PORT_WEIGHT | 1 << QAT_PORT_INPUT : 0 };
	qat_loss loss;
	kit k;

	kit_new(&k, BATCH, LENGTH, QAT_F32);
	if (!kit_tiny(&k, &loss, models[which], tied, accumulate)) {
		fprintf(stderr, "model %s is not built: left out\n", models[which]);
		kit_free(&k);
		return;
	}
	kit_passes(&k, &loss, look_up, &p);
	if (p.absent) {
		kit_free(&k);
		return;
	}
	check(&k, &loss, accumulate, KIT_TINY_VOCABULARY, ELEMENTS, models[which]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gradients");
	TCase *c = tcase_create("gradients");
	SRunner *r;
	int failed;

	if (!kit_open(&device, "reference", 1)) {
		fprintf(stderr, "skipped: backend reference is not in QATRUN_PLUGIN_PATH\n");
		return 77;
	}
	tcase_set_timeout(c, 120);
	tcase_add_loop_test(c, rule, 0, (int)(sizeof rules / sizeof *rules));
	tcase_add_loop_test(c, fused_head, 0, 2);
	tcase_add_loop_test(c, codes, 0, (int)(sizeof variants / sizeof *variants));
	tcase_add_loop_test(c, model, 0, 16);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	qat_device_close(&device);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
