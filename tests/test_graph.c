/* test_graph.c - the graph and its passes: what is refused and how, codes at sites, types
 * of edges, what runs once a step, where buffers lie.
 */
#include "graph_kit.h"

#include <math.h>
#include <stdio.h>

#include "error.h"
#include "plan.h"
#include "graph_schemes.h"

enum { BATCH = 2, LENGTH = 4, N = BATCH * LENGTH, C = 8, V = 12 };

/* ---- schemes for the tests ---- */

static const qat_scheme full = { INTEGERS, .bits = 4, .qmin = -8, .qmax = 7, .divisor = 7.5 };
static const qat_scheme *const full_at[] = { &full };
static const qat_scheme_set full_set = { sizeof full_set, -1, 1, full_at };

typedef struct rule {
	const char *site;		/* NULL: any */
	int port;
	const qat_scheme_set *set;
} rule;

typedef struct rules {
	const rule *at;
	int count;
	const char *stored;		/* parameter that is stored as codes of `rows8` */
} rules;

static int look_up(void *context, const qat_site *site, const qat_scheme_set **out)
{
	const rules *r = context;

	*out = NULL;
	for (int i = 0; i < r->count; i++)
		if (r->at[i].port == site->port &&
		    (!r->at[i].site || !strcmp(r->at[i].site, site->name)))
			*out = r->at[i].set;
	return QAT_OK;
}

static int look_stored(void *context, const char *param, qat_stored *out)
{
	const rules *r = context;

	out->scheme = r->stored && !strcmp(param, r->stored) ? &rows8 : NULL;
	return QAT_OK;
}

/* ---- a small network: embedding, two layers on one input, attention, a head ---- */

typedef struct net {
	kit k;
	qat_loss loss;
	int64_t embed, a, b, head;	/* parameters */
} net;

static const qat_attr linear = { .matmul = { .trans_b = 1 } };

static int64_t param(kit *k, const char *name, int64_t rows, int64_t cols)
{
	return qat_ir_param(k->g, name, QAT_F32, cols ? 2 : 1, (int64_t[]){ rows, cols });
}

static int64_t node(kit *k, uint32_t op, const qat_attr *attr, int64_t n, const int64_t *in,
		    const char *site)
{
	const int64_t v = qat_ir_api.node(k->g, op, attr, n, in, NULL, site);

	ck_assert_msg(v >= 0, "%s", qat_error());
	return v;
}

static void net_new(net *t, uint32_t precision, int tied, int logits)
{
	const qat_attr heads = { .attention = { .heads = 2, .kv_heads = 2, .head_dim = C / 2,
						.causal = 1, .scale = 0.5 } };
	const qat_attr norm = { .norm = { .epsilon = 1e-5 } };
	qat_outputs out = { .size = sizeof out };
	int64_t x, h, a, b;
	kit *k = &t->k;

	kit_new(k, BATCH, LENGTH, precision);
	t->embed = param(k, "embed.weight", V, C);
	t->a = param(k, "a.weight", C, C);
	t->b = param(k, "b.weight", C, C);
	x = qat_ir_api.residual(k->g, node(k, QAT_OP_EMBEDDING, NULL, 2, (int64_t[]){ t->embed,
		qat_ir_api.input(k->g, QAT_INPUT_TOKENS) }, "embed"));
	h = node(k, QAT_OP_RMS_NORM, &norm, 2, (int64_t[]){ x, param(k, "norm.weight", C, 0) },
		 "norm");
	a = node(k, QAT_OP_MATMUL, &linear, 3, (int64_t[]){ h, t->a, param(k, "a.bias", C, 0) },
		 "a");
	b = node(k, QAT_OP_MATMUL, &linear, 3, (int64_t[]){ h, t->b, QAT_ABSENT }, "b");
	h = node(k, QAT_OP_ATTENTION, &heads, 3, (int64_t[]){ a, b, b }, "attn");
	out.hidden = qat_ir_api.residual(k->g, node(k, QAT_OP_ADD, NULL, 2,
						    (int64_t[]){ x, h }, NULL));
	t->head = out.head = tied ? t->embed : param(k, "lm_head.weight", V, C);
	ck_assert_int_eq(qat_ir_loss(k->g, &t->loss, &out, logits), QAT_OK);
}

static void prepared(net *t, const rule *at, int count, const char *stored, int train)
{
	rules r = { .at = at, .count = count, .stored = stored };
	qat_ir *g;

	ck_assert_msg(qat_ir_prepare(&g, t->k.g, &t->loss, look_up, look_stored, &r, train) ==
		      QAT_OK, "%s", qat_error());
	qat_ir_free(t->k.g);
	t->k.g = g;
	ck_assert_str_eq(qat_op_info(g->nodes[g->values[t->loss.nll]->node]->op)->name,
			 count && !strcmp(at[0].site ? at[0].site : "", "lm_head")
			 ? "cross_entropy" : "linear_cross_entropy");
}

static void typed(net *t)
{
	qat_ir *g;

	ck_assert_int_eq(qat_ir_precision(&g, t->k.g, &t->loss), QAT_OK);
	qat_ir_free(t->k.g);
	t->k.g = g;
}

static int count(const net *t, uint32_t op)
{
	int n = 0;

	for (int64_t i = 0; i < t->k.g->graph.n_nodes; i++)
		n += t->k.g->nodes[i]->op == op;
	return n;
}

/* The only node of an op, or the one whose name starts with `site`. */
static const qat_node *find(const net *t, uint32_t op, const char *site)
{
	for (int64_t i = 0; i < t->k.g->graph.n_nodes; i++) {
		const qat_node *n = t->k.g->nodes[i];

		if (n->op == op && (!site || !strncmp(n->name, site, strlen(site))))
			return n;
	}
	ck_abort_msg("no %s at %s", qat_op_info(op)->name, site ? site : "all");
	return NULL;
}

static const qat_value *value(const net *t, int64_t id)
{
	ck_assert_int_ge(id, 0);
	return t->k.g->values[id];
}

static uint32_t maker(const net *t, int64_t id)
{
	return value(t, id)->node == QAT_NONE ? QAT_OP_NONE
					      : t->k.g->nodes[value(t, id)->node]->op;
}

/* ---- refusals ---- */

typedef struct wrong {
	const char *what;		/* in the message */
	uint32_t op;
	int n;
	struct { uint32_t dtype; int64_t rows, cols; } in[7];
	qat_attr attr;
	int schemes;			/* 1: of both sides */
} wrong;

#define F(r, c) { QAT_F32, r, c }
#define I(n) { QAT_I32, n, 0 }

static const wrong wrongs[] = {
	{ "reserved", QAT_OP_DROPOUT, 1, { F(8, 8) }, { .word = { 0 } }, 0 },
	{ "reserved", QAT_OP_COUNT, 1, { F(8, 8) }, { .word = { 0 } }, 0 },
	{ "takes 2 to 3 inputs, got 1", QAT_OP_MATMUL, 1, { F(8, 8) }, { .word = { 0 } }, 0 },
	{ "[8, 4] does not multiply [8, 4]", QAT_OP_MATMUL, 2, { F(8, 4), F(8, 4) },
	  { .word = { 0 } }, 0 },
	{ "bias", QAT_OP_MATMUL, 3, { F(8, 4), F(4, 5), F(6, 0) }, { .word = { 0 } }, 0 },
	{ "ids", QAT_OP_EMBEDDING, 2, { F(8, 4), F(8, 0) }, { .word = { 0 } }, 0 },
	{ "differ in shape", QAT_OP_ADD, 2, { F(8, 4), F(4, 8) }, { .word = { 0 } }, 0 },
	{ "differ in shape", QAT_OP_GLU, 2, { F(8, 4), F(8, 5) },
	  { .act = { QAT_ACT_SILU } }, 0 },
	{ "differ in shape", QAT_OP_GLU_GRAD, 3, { F(8, 4), F(8, 4), F(8, 5) },
	  { .act = { QAT_ACT_SILU } }, 0 },
	{ "weight does not fit", QAT_OP_RMS_NORM, 2, { F(8, 4), F(5, 0) }, { .word = { 0 } }, 0 },
	{ "bias does not fit", QAT_OP_LAYER_NORM, 3, { F(8, 4), F(4, 0), F(5, 0) },
	  { .word = { 0 } }, 0 },
	{ "tables", QAT_OP_ROPE, 3, { F(8, 8), F(4, 3), F(4, 3) },
	  { .rope = { .head_dim = 8 } }, 0 },
	{ "tables", QAT_OP_ROPE, 3, { F(8, 8), F(3, 4), F(3, 4) },
	  { .rope = { .head_dim = 8 } }, 0 },
	{ "heads", QAT_OP_ATTENTION, 3, { F(8, 8), F(8, 8), F(8, 4) },
	  { .attention = { .heads = 2, .kv_heads = 2, .head_dim = 4 } }, 0 },
	{ "heads", QAT_OP_ATTENTION, 3, { F(8, 8), F(8, 8), F(8, 8) },
	  { .attention = { .heads = 3, .kv_heads = 2, .head_dim = 4 } }, 0 },
	{ "reserved", QAT_OP_ATTENTION, 4, { F(8, 8), F(8, 8), F(8, 8), I(8) },
	  { .attention = { .heads = 2, .kv_heads = 2, .head_dim = 4 } }, 0 },
	{ "label", QAT_OP_CROSS_ENTROPY, 2, { F(8, 4), I(7) }, { .word = { 0 } }, 0 },
	{ "head does not fit", QAT_OP_LINEAR_CROSS_ENTROPY, 3, { F(8, 4), F(9, 5), I(8) },
	  { .word = { 0 } }, 0 },
	{ "count", QAT_OP_SPLIT, 1, { F(8, 4) }, { .split = { 1, { 4 } } }, 0 },
	{ "widths", QAT_OP_SPLIT, 1, { F(8, 4) }, { .split = { 2, { 1, 2 } } }, 0 },
	{ "widths", QAT_OP_SPLIT, 1, { F(8, 4) }, { .split = { 2, { -1, 5 } } }, 0 },
	{ "rows", QAT_OP_CONCAT, 2, { F(8, 4), F(7, 4) }, { .word = { 0 } }, 0 },
	{ "kind", QAT_OP_ACT, 1, { F(8, 4) }, { .act = { 9 } }, 0 },
	{ "type", QAT_OP_CAST, 1, { F(8, 4) }, { .cast = { 77 } }, 0 },
	{ "scheme", QAT_OP_QUANTIZE, 1, { F(8, 4) }, { .word = { 0 } }, 0 },
	{ "scheme", QAT_OP_DEQUANTIZE, 2, { F(8, 4), F(8, 1) }, { .word = { 0 } }, 0 },
	{ "scale", QAT_OP_DEQUANTIZE, 2, { { QAT_I8, 8, 4 }, F(7, 1) }, { .word = { 0 } }, 1 },
	{ "scale", QAT_OP_QUANTIZE, 2, { F(8, 4), F(1, 1) }, { .word = { 0 } }, 1 },
	{ "codes", QAT_OP_QMATMUL, 5, { { QAT_I8, 8, 4 }, F(8, 1), F(0, 0), { QAT_I8, 3, 5 },
	  F(3, 1) }, { .word = { 0 } }, 1 },
	{ "scale", QAT_OP_QMATMUL, 5, { { QAT_I8, 8, 4 }, F(8, 1), F(0, 0), { QAT_I8, 3, 4 },
	  F(4, 1) }, { .word = { 0 } }, 1 },
	{ "mask", QAT_OP_MASK, 2, { F(8, 9), { QAT_U8, 8, 1 } }, { .word = { 0 } }, 0 },
	{ "shape", QAT_OP_ADAMW, 5, { F(8, 9), F(8, 9), F(8, 8), F(8, 9), F(8, 0) },
	  { .word = { 0 } }, 0 },
};

START_TEST(refused)
{
	const wrong *w = &wrongs[_i];
	qat_ir_extra extra = { .schemes = { w->schemes ? &rows8_set : NULL,
					    w->schemes ? &rows8_set : NULL } };
	int64_t in[7];
	kit k;

	kit_new(&k, BATCH, LENGTH, QAT_F32);
	for (int i = 0; i < w->n; i++) {
		char name[8];

		snprintf(name, sizeof name, "p%d", i);
		in[i] = !w->in[i].rows ? QAT_NONE
		      : qat_ir_param(k.g, name, w->in[i].dtype, w->in[i].cols ? 2 : 1,
				     (int64_t[]){ w->in[i].rows, w->in[i].cols });
	}
	ck_assert_msg(qat_ir_node(k.g, w->op, &w->attr, w->n, in, NULL, &extra) < 0,
		      "%d: %s is taken", _i, qat_op_info(w->op)->name);
	ck_assert_msg(strstr(qat_error(), w->what), "%d: \"%s\" does not say \"%s\"", _i,
		      qat_error(), w->what);
	ck_assert_int_lt(k.g->error, 0);
	kit_free(&k);
}
END_TEST

/* A model that goes on after an error gets the first one. */
START_TEST(first_error)
{
	kit k;
	int64_t v;

	kit_new(&k, BATCH, LENGTH, QAT_F32);
	v = qat_ir_api.param(k.g, "nowhere.weight");
	ck_assert_int_lt(v, 0);
	ck_assert_ptr_nonnull(strstr(qat_error(), "nowhere.weight"));
	ck_assert_int_eq(qat_ir_api.node(k.g, QAT_OP_ADD, NULL, 2, (int64_t[]){ v, v }, NULL,
					 NULL), v);
	ck_assert_int_eq(qat_ir_api.input(k.g, QAT_INPUT_TOKENS), v);
	ck_assert_ptr_nonnull(strstr(qat_error(), "nowhere.weight"));
	kit_free(&k);
}
END_TEST

/* ---- prepare ---- */

START_TEST(prepare_both)
{
	const rule r[] = { { "a", QAT_PORT_WEIGHT, &full_set },
			   { "a", QAT_PORT_INPUT, &rows8_set } };
	const qat_node *q;
	net t;

	net_new(&t, QAT_F32, 0, 0);
	prepared(&t, r, 2, NULL, 1);
	q = find(&t, QAT_OP_QMATMUL, "a ");
	ck_assert_int_eq(count(&t, QAT_OP_QMATMUL), 1);
	ck_assert_int_eq(count(&t, QAT_OP_QUANTIZE), 2);
	ck_assert_int_eq(count(&t, QAT_OP_MATMUL), 1);
	ck_assert(q->schemes[0] == &rows8_set && q->schemes[1] == &full_set);
	ck_assert_int_eq(maker(&t, q->in[0]), QAT_OP_QUANTIZE);
	ck_assert_int_eq(maker(&t, q->in[3]), QAT_OP_QUANTIZE);
	ck_assert_str_eq(value(&t, q->in[6])->name, "a.bias");
	/* `full` clips, so the weight has a mask; `rows8` cannot. */
	ck_assert_int_ge(t.k.g->nodes[value(&t, q->in[3])->node]->out[3], 0);
	ck_assert_int_eq(t.k.g->nodes[value(&t, q->in[0])->node]->out[3], QAT_NONE);
	kit_free(&t.k);
}
END_TEST

START_TEST(prepare_weight)
{
	const rule r[] = { { "a", QAT_PORT_WEIGHT, &full_set } };
	const qat_node *q;
	net t;

	net_new(&t, QAT_F32, 0, 0);
	prepared(&t, r, 1, NULL, 0);
	q = find(&t, QAT_OP_QMATMUL, "a ");
	ck_assert_int_eq(count(&t, QAT_OP_QUANTIZE), 1);
	ck_assert_ptr_null(q->schemes[0]);
	ck_assert_int_eq(maker(&t, q->in[0]), QAT_OP_RMS_NORM);
	ck_assert_int_eq(q->in[1], QAT_NONE);
	/* Nothing is trained: no mask. */
	ck_assert_int_eq(t.k.g->nodes[value(&t, q->in[3])->node]->out[3], QAT_NONE);
	kit_free(&t.k);
}
END_TEST

START_TEST(prepare_input)
{
	const rule r[] = { { "a", QAT_PORT_INPUT, &rows8_set } };
	const qat_node *a, *b;
	net t;

	net_new(&t, QAT_F32, 0, 0);
	prepared(&t, r, 1, NULL, 1);
	a = find(&t, QAT_OP_MATMUL, "a ");
	b = find(&t, QAT_OP_MATMUL, "b ");
	ck_assert_int_eq(count(&t, QAT_OP_QMATMUL), 0);
	ck_assert_int_eq(count(&t, QAT_OP_QUANTIZE), 1);
	ck_assert_int_eq(maker(&t, a->in[0]), QAT_OP_DEQUANTIZE);
	ck_assert_int_eq(maker(&t, b->in[0]), QAT_OP_RMS_NORM);
	kit_free(&t.k);
}
END_TEST

/* Two sites that quantize one input alike share the codes; others do not. */
START_TEST(prepare_shared)
{
	const rule alike[] = { { NULL, QAT_PORT_INPUT, &rows8_set },
			       { NULL, QAT_PORT_WEIGHT, &rows8_set },
			       { "embed", QAT_PORT_WEIGHT, NULL },
			       { "lm_head", QAT_PORT_WEIGHT, NULL },
			       { "lm_head", QAT_PORT_INPUT, NULL },
			       { "b", QAT_PORT_INPUT, &full_set } };
	net t;

	for (int different = 0; different < 2; different++) {
		const qat_node *a, *b;

		net_new(&t, QAT_F32, 0, 0);
		prepared(&t, alike, 5 + different, NULL, 1);
		a = find(&t, QAT_OP_QMATMUL, "a ");
		b = find(&t, QAT_OP_QMATMUL, "b ");
		ck_assert_int_eq(a->in[0] == b->in[0], !different);
		ck_assert_int_eq(count(&t, QAT_OP_QUANTIZE), 3 + different);
		kit_free(&t.k);
	}
}
END_TEST

START_TEST(prepare_embedding)
{
	const rule r[] = { { "embed", QAT_PORT_WEIGHT, &rows8_set } };
	const qat_node *e;
	net t;

	net_new(&t, QAT_F32, 0, 0);
	prepared(&t, r, 1, NULL, 1);
	e = find(&t, QAT_OP_EMBEDDING, NULL);
	ck_assert_int_eq(maker(&t, e->in[0]), QAT_OP_DEQUANTIZE);
	ck_assert_uint_eq(value(&t, e->in[0])->dtype, QAT_F32);
	ck_assert_int_eq(value(&t, e->out[0])->residual, 1);
	kit_free(&t.k);
}
END_TEST

/* One table for both ends: its codes are made once where the schemes are the same. */
START_TEST(prepare_tied)
{
	const rule r[] = { { "lm_head", QAT_PORT_WEIGHT, &rows8_set },
			   { "embed", QAT_PORT_WEIGHT, &rows8_set } };
	const qat_node *q, *e;
	net t;

	net_new(&t, QAT_F32, 1, 0);
	prepared(&t, r, 2, NULL, 1);
	q = find(&t, QAT_OP_QMATMUL, "lm_head");
	e = find(&t, QAT_OP_EMBEDDING, NULL);
	ck_assert_int_eq(count(&t, QAT_OP_QUANTIZE), 1);
	ck_assert_int_eq(t.k.g->nodes[value(&t, e->in[0])->node]->in[0], q->in[3]);
	ck_assert_uint_eq(value(&t, q->out[0])->dtype, QAT_F32);
	kit_free(&t.k);
	/* The head alone: the embedding keeps the floats. */
	net_new(&t, QAT_F32, 1, 0);
	prepared(&t, r, 1, NULL, 1);
	ck_assert_int_eq(maker(&t, find(&t, QAT_OP_EMBEDDING, NULL)->in[0]), QAT_OP_NONE);
	kit_free(&t.k);
}
END_TEST

START_TEST(prepare_kv)
{
	const rule r[] = { { "attn", QAT_PORT_KV, &rows8_set } };
	const qat_node *n;
	net t;

	net_new(&t, QAT_F32, 0, 0);
	prepared(&t, r, 1, NULL, 1);
	n = find(&t, QAT_OP_ATTENTION, NULL);
	ck_assert_int_eq(maker(&t, n->in[0]), QAT_OP_MATMUL);
	ck_assert_int_eq(maker(&t, n->in[1]), QAT_OP_DEQUANTIZE);
	ck_assert_int_eq(maker(&t, n->in[2]), QAT_OP_DEQUANTIZE);
	ck_assert_int_eq(count(&t, QAT_OP_QUANTIZE), 1);	/* k is v here */
	kit_free(&t.k);
}
END_TEST

/* What is stored as codes is used so, or decoded where the site wants something else. */
START_TEST(prepare_stored)
{
	const rule r[] = { { "a", QAT_PORT_WEIGHT, &rows8_set },
			   { "a", QAT_PORT_WEIGHT, &full_set } };
	const qat_node *q;
	net t;

	net_new(&t, QAT_F32, 0, 0);
	prepared(&t, r, 1, "a.weight", 0);
	q = find(&t, QAT_OP_QMATMUL, "a ");
	ck_assert_str_eq(value(&t, q->in[3])->name, "a.weight.codes");
	ck_assert_str_eq(value(&t, q->in[4])->name, "a.weight.scale");
	ck_assert_int_eq(count(&t, QAT_OP_QUANTIZE), 0);
	kit_free(&t.k);
	net_new(&t, QAT_F32, 0, 0);
	prepared(&t, r, 2, "a.weight", 0);
	q = find(&t, QAT_OP_QUANTIZE, NULL);
	ck_assert_int_eq(maker(&t, q->in[0]), QAT_OP_DEQUANTIZE);
	kit_free(&t.k);
	net_new(&t, QAT_F32, 0, 0);
	prepared(&t, r, 0, "a.weight", 0);
	ck_assert_int_eq(maker(&t, find(&t, QAT_OP_MATMUL, "a ")->in[1]), QAT_OP_DEQUANTIZE);
	kit_free(&t.k);
}
END_TEST

/* ---- precision and phases ---- */

START_TEST(precision_f32)
{
	net t;

	net_new(&t, QAT_F32, 0, 1);
	typed(&t);
	ck_assert_int_eq(count(&t, QAT_OP_CAST), 0);
	kit_free(&t.k);
}
END_TEST

START_TEST(precision_bf16)
{
	const qat_node *a, *add, *head;
	net t;

	net_new(&t, QAT_BF16, 0, 1);
	typed(&t);
	a = find(&t, QAT_OP_MATMUL, "a ");
	add = find(&t, QAT_OP_ADD, NULL);
	head = find(&t, QAT_OP_MATMUL, "lm_head");
	ck_assert_uint_eq(value(&t, a->in[0])->dtype, QAT_BF16);
	ck_assert_uint_eq(value(&t, a->in[1])->dtype, QAT_BF16);
	ck_assert_uint_eq(value(&t, a->in[2])->dtype, QAT_F32);		/* a bias */
	ck_assert_uint_eq(value(&t, a->out[0])->dtype, QAT_BF16);
	ck_assert_uint_eq(value(&t, find(&t, QAT_OP_ATTENTION, NULL)->out[1])->dtype, QAT_F32);
	ck_assert_uint_eq(value(&t, find(&t, QAT_OP_EMBEDDING, NULL)->out[0])->dtype, QAT_F32);
	ck_assert_uint_eq(value(&t, find(&t, QAT_OP_RMS_NORM, NULL)->in[0])->dtype, QAT_F32);
	ck_assert_uint_eq(value(&t, add->in[0])->dtype, QAT_F32);	/* the residual stream */
	ck_assert_uint_eq(value(&t, add->out[0])->dtype, QAT_F32);
	ck_assert_uint_eq(value(&t, head->in[0])->dtype, QAT_BF16);
	ck_assert_uint_eq(value(&t, head->out[0])->dtype, QAT_F32);	/* logits */
	ck_assert_uint_eq(value(&t, t.loss.nll)->dtype, QAT_F32);
	/* Weights are cast once a step, the residual stream each time. */
	ck_assert_uint_eq(t.k.g->nodes[value(&t, a->in[1])->node]->phase, QAT_PHASE_PROLOGUE);
	ck_assert_uint_eq(t.k.g->nodes[value(&t, head->in[0])->node]->phase, QAT_PHASE_FORWARD);
	kit_free(&t.k);
}
END_TEST

/* Edges that only quantize nodes read stay f32; codes of weights are made once a step. */
START_TEST(precision_codes)
{
	const rule r[] = { { "a", QAT_PORT_WEIGHT, &full_set },
			   { "a", QAT_PORT_INPUT, &full_set },
			   { "b", QAT_PORT_WEIGHT, &full_set },
			   { "b", QAT_PORT_INPUT, &full_set } };
	const qat_node *q;
	net t;

	for (int some = 0; some < 2; some++) {
		net_new(&t, QAT_BF16, 0, 0);
		prepared(&t, r, some ? 2 : 4, NULL, 1);
		typed(&t);
		q = find(&t, QAT_OP_QMATMUL, "a ");
		ck_assert_uint_eq(value(&t, find(&t, QAT_OP_RMS_NORM, NULL)->out[0])->dtype,
				  some ? QAT_BF16 : QAT_F32);
		ck_assert_uint_eq(value(&t, q->out[0])->dtype, QAT_BF16);
		ck_assert_uint_eq(t.k.g->nodes[value(&t, q->in[3])->node]->phase,
				  QAT_PHASE_PROLOGUE);
		ck_assert_uint_eq(t.k.g->nodes[value(&t, q->in[0])->node]->phase,
				  QAT_PHASE_FORWARD);
		kit_free(&t.k);
	}
}
END_TEST

/* A value is made before it is read: phase by phase, then in order. */
static void check_order(const qat_ir *g)
{
	for (int64_t i = 0; i < g->graph.n_nodes; i++) {
		const qat_node *n = g->nodes[i];

		for (int64_t k = 0; k < n->n_in; k++) {
			const int64_t from = n->in[k] == QAT_NONE ? QAT_NONE
								  : g->values[n->in[k]]->node;

			if (from == QAT_NONE)
				continue;
			ck_assert_uint_le(g->nodes[from]->phase, n->phase);
			ck_assert_int_lt(from, i);
		}
	}
}

static double mean_nll(net *t, qat_device *d, int train)
{
	qat_trained *trained = NULL;
	int64_t n_trained;
	int32_t ids[N];
	float seed[N];
	kit_result r;
	double sum = 0;

	if (train)
		ck_assert_int_eq(qat_ir_differentiate(t->k.g, &t->loss, 1, &trained, &n_trained),
				 QAT_OK);
	check_order(t->k.g);
	kit_params(&t->k, 3);
	kit_ids(ids, N, 0, V - 1, 1);
	kit_give(&t->k, t->k.g->inputs[QAT_INPUT_TOKENS], ids);
	kit_give(&t->k, t->k.g->inputs[QAT_INPUT_LABELS], ids);
	kit_numbers(seed, N, KIT_ONES, 1);
	if (train)
		kit_give(&t->k, t->k.g->inputs[QAT_INPUT_LOSS_GRADIENT], seed);
	kit_run(&r, &t->k, d, NULL);
	ck_assert_msg(!r.rc, "%s", r.error);
	for (int i = 0; i < N; i++)
		sum += ((const float *)r.data[t->loss.nll])[i] / N;
	for (int64_t i = 0; train && i < n_trained; i++) {
		const qat_value *v = value(t, trained[i].gradient);

		ck_assert_uint_eq(v->dtype, QAT_F32);
		for (int64_t k = 0; k < qat_value_elements(v); k++)
			ck_assert(isfinite(kit_number(v, r.data[v->id], k)));
	}
	free(trained);
	kit_result_free(&r);
	return sum;
}

/* The whole way in both precisions, with and without codes: near losses. */
START_TEST(whole)
{
	const rule r[] = { { NULL, QAT_PORT_WEIGHT, &rows8_set },
			   { NULL, QAT_PORT_INPUT, &rows8_set },
			   { NULL, QAT_PORT_KV, &rows8_set },
			   { "lm_head", QAT_PORT_WEIGHT, NULL },
			   { "lm_head", QAT_PORT_INPUT, NULL } };
	double loss[2][2];
	qat_device d;

	if (!kit_open(&d, "reference", 1)) {
		fprintf(stderr, "backend reference is not there: the whole way is left out\n");
		return;
	}
	for (int bf16 = 0; bf16 < 2; bf16++)
		for (int codes = 0; codes < 2; codes++) {
			net t;

			net_new(&t, bf16 ? QAT_BF16 : QAT_F32, _i & 1, 0);
			prepared(&t, r, codes ? 5 : 0, NULL, 1);
			typed(&t);
			loss[bf16][codes] = mean_nll(&t, &d, _i >> 1);
			kit_free(&t.k);
		}
	for (int i = 1; i < 4; i++)
		ck_assert_msg(fabs(loss[i / 2][i % 2] - loss[0][0]) <= 0.03, "%d: %g, not %g", i,
			      loss[i / 2][i % 2], loss[0][0]);
	qat_device_close(&d);
}
END_TEST

/* ---- plan ---- */

static void check_plan(const qat_interval *x, const int64_t *bytes, int64_t n, int64_t alignment,
		       int64_t total)
{
	int64_t top = 0;

	for (int64_t i = 0; i < n; i++) {
		ck_assert(x[i].offset >= 0 && x[i].offset % alignment == 0);
		ck_assert_int_ge(x[i].bytes, bytes[i]);
		ck_assert_int_le(x[i].offset + x[i].bytes, total);
		top = x[i].offset + x[i].bytes > top ? x[i].offset + x[i].bytes : top;
		for (int64_t j = 0; j < i; j++)
			ck_assert(x[i].last < x[j].first || x[j].last < x[i].first ||
				  x[i].offset >= x[j].offset + bytes[j] ||
				  x[j].offset >= x[i].offset + bytes[i]);
	}
	ck_assert_int_eq(top, total);
}

START_TEST(plan_random)
{
	enum { MOST = 120 };
	qat_interval x[MOST];
	int64_t bytes[MOST], total;
	int32_t r[3 * MOST];

	for (int n = 0; n <= MOST; n += 1 + n / 4) {
		const int64_t alignment = 1 << (n % 8);

		kit_ids(r, 3 * MOST, 0, 1000, (uint64_t)(_i * 1000 + n));
		for (int i = 0; i < n; i++) {
			x[i] = (qat_interval){ .bytes = r[3 * i], .first = r[3 * i + 1] % 50 };
			x[i].last = x[i].first + r[3 * i + 2] % 20;
			bytes[i] = x[i].bytes;
		}
		ck_assert_int_eq(qat_plan(x, n, alignment, &total), QAT_OK);
		check_plan(x, bytes, n, alignment, total);
	}
}
END_TEST

/* Buffers that follow each other take the room of the two that live at once. */
START_TEST(plan_chain)
{
	qat_interval x[32];
	int64_t total;

	for (int i = 0; i < 32; i++)
		x[i] = (qat_interval){ .bytes = 64, .first = i, .last = i + 1 };
	ck_assert_int_eq(qat_plan(x, 32, 64, &total), QAT_OK);
	ck_assert_int_eq(total, 128);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("graph");
	TCase *c = tcase_create("graph");
	SRunner *r;
	int failed;

	tcase_add_loop_test(c, refused, 0, (int)(sizeof wrongs / sizeof *wrongs));
	tcase_add_test(c, first_error);
	tcase_add_test(c, prepare_both);
	tcase_add_test(c, prepare_weight);
	tcase_add_test(c, prepare_input);
	tcase_add_test(c, prepare_shared);
	tcase_add_test(c, prepare_embedding);
	tcase_add_test(c, prepare_tied);
	tcase_add_test(c, prepare_kv);
	tcase_add_test(c, prepare_stored);
	tcase_add_test(c, precision_f32);
	tcase_add_test(c, precision_bf16);
	tcase_add_test(c, precision_codes);
	tcase_add_loop_test(c, whole, 0, 4);
	tcase_add_loop_test(c, plan_random, 0, 8);
	tcase_add_test(c, plan_chain);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
