/* test_recompute.c - the forward pass done again in the backward pass: a step of training
 * of small models gives the same bits at every level, on every backend that is found, and
 * needs less memory.
 */
#include "graph_kit.h"

#include <stdio.h>

#include "error.h"
#include "exec.h"

enum {
	BATCH = 2, LENGTH = 24, N = BATCH * LENGTH, BACKENDS_MAX = 16, KEEP = 512,
	LEVELS = QAT_RECOMPUTE_LEVELS
};

static const char *backends[BACKENDS_MAX];
static int n_backends;

#define COMMON .size = sizeof(qat_scheme), .numerics = QAT_NUMERICS, .name = "test", \
	.gradient = QAT_GRAD_STE_CLIPPED, .block_rows = 1

static const qat_scheme int4 = {
	COMMON, .grid = QAT_GRID_UNIFORM, .bits = 4, .qmin = -8, .qmax = 7, .divisor = 7.5,
	.scale_format = QAT_F32, .scale_rule = QAT_SCALE_ABSMAX, .block_cols = 32
};
static const qat_scheme int8 = {
	COMMON, .grid = QAT_GRID_UNIFORM, .bits = 8, .qmin = -127, .qmax = 127, .divisor = 127,
	.scale_format = QAT_F32, .scale_rule = QAT_SCALE_ABSMAX
};
static const qat_scheme mxfp4 = {
	COMMON, .grid = QAT_GRID_FLOAT, .bits = 4, .ebits = 2, .mbits = 1, .emax = 2,
	.largest = 6, .scale_format = QAT_E8M0, .scale_rule = QAT_SCALE_POW2_FLOOR,
	.block_cols = 32
};
static const qat_scheme *const int4_at[] = { &int4 }, *const int8_at[] = { &int8 },
	*const mxfp4_at[] = { &mxfp4 };
static const qat_scheme_set int4_set = { sizeof int4_set, -1, 1, int4_at };
static const qat_scheme_set int8_set = { sizeof int8_set, -1, 1, int8_at };
static const qat_scheme_set mxfp4_set = { sizeof mxfp4_set, -1, 1, mxfp4_at };

typedef struct setup {
	const char *name;
	const qat_scheme_set *port[QAT_PORTS];
	int64_t gradient_bits;
} setup;

static const setup setups[] = {
	{ "float", { NULL, NULL, NULL }, 0 },
	{ "int4 x int8", { &int4_set, &int8_set, &int8_set }, 0 },
	{ "mxfp4", { &mxfp4_set, NULL, NULL }, 0 },
	{ "mxfp4 both", { &mxfp4_set, &mxfp4_set, NULL }, 0 },
	{ "gradients as codes", { &int8_set, &int8_set, NULL }, 8 },
};
enum { SETUPS = sizeof setups / sizeof *setups };

static int look_up(void *context, const qat_site *site, const qat_scheme_set **out)
{
	*out = ((const setup *)context)->port[site->port];
	return QAT_OK;
}

/* ---- a step ---- */

typedef struct step {
	kit k;
	qat_loss loss;
	qat_trained *trained;
	int64_t n_trained, keep[KEEP];
} step;

/* An assertion that holds costs a write to a file: not here, where all pass by. */
static const qat_value *value_of(const step *s, int64_t v)
{
	if (v < 0 || v >= s->k.g->graph.n_values)
		ck_abort_msg("value %lld does not exist", (long long)v);
	return s->k.g->graph.values[v];
}

static int64_t root(const step *s, int64_t v)
{
	while (value_of(s, v)->alias != QAT_NONE)
		v = value_of(s, v)->alias;
	return v;
}

static void keep(step *s, int64_t value)
{
	ck_assert_int_lt(s->k.n_keep, KEEP);
	value_of(s, value);
	s->keep[s->k.n_keep++] = value;
	s->k.keep = s->keep;
}

/* Values that are read after a step: in the same order for every form of a graph. */
static void keep_all(step *s)
{
	s->k.n_keep = 0;
	keep(s, s->loss.nll);
	keep(s, s->loss.argmax);
	if (s->loss.logits != QAT_NONE)
		keep(s, s->loss.logits);
	for (int64_t i = 0; i < s->n_trained; i++) {
		const qat_trained *t = &s->trained[i];

		keep(s, t->gradient);
		keep(s, t->square);
		keep(s, t->param);
		for (int64_t k = 0; k < t->n_states; k++)
			keep(s, t->states[k]);
	}
}

static void give_numbers(step *s, int64_t v, int kind, uint64_t seed)
{
	const int64_t n = qat_value_elements(value_of(s, v));
	float *x = malloc((size_t)n * sizeof *x);

	ck_assert_ptr_nonnull(x);
	kit_numbers(x, n, kind, seed);
	kit_give(&s->k, v, x);
	free(x);
}

/* Codes of any size, in moments that are kept as such. */
static void give_state(step *s, int64_t v, uint64_t seed)
{
	const int64_t n = qat_value_elements(value_of(s, v));
	int8_t *x;

	if (value_of(s, v)->dtype == QAT_F32) {
		give_numbers(s, v, KIT_ONES, seed);
		return;
	}
	x = malloc((size_t)n);
	ck_assert_ptr_nonnull(x);
	for (int64_t i = 0; i < n; i++)
		x[i] = (int8_t)(i * i % 255 - 127);
	kit_give(&s->k, v, x);
	free(x);
}

/* Nothing is zero before the step: what is added to and what is updated must survive. */
static void give_contents(step *s)
{
	static const float hyper[8] = { 1e-3f, 0.9f, 0.999f, 1e-8f, 0.01f, 0.1f, 1e-3f, 1.0f };
	const qat_ir *g = s->k.g;
	int32_t ids[N];

	kit_params(&s->k, 5);
	kit_ids(ids, N, 0, KIT_TINY_VOCABULARY - 1, 1);
	kit_give(&s->k, g->inputs[QAT_INPUT_TOKENS], ids);
	kit_ids(ids, N, 0, KIT_TINY_VOCABULARY - 1, 2);
	ids[5] = -100;
	kit_give(&s->k, g->inputs[QAT_INPUT_LABELS], ids);
	give_numbers(s, g->inputs[QAT_INPUT_LOSS_GRADIENT], KIT_ONES, 3);
	for (int64_t i = 0; i < s->n_trained; i++) {
		const qat_trained *t = &s->trained[i];

		give_numbers(s, root(s, t->gradient), KIT_NORMAL, 100 + (uint64_t)i);
		for (int64_t k = 0; k < t->n_states; k++)
			give_state(s, t->states[k], 200 + (uint64_t)(4 * i + k));
		if (t->hyper != QAT_NONE)
			kit_give(&s->k, t->hyper, hyper);
	}
}

typedef struct form {
	const char *model;
	const setup *setup;
	uint32_t precision;
	int tied, accumulate, logits;
	char name[128];
} form;

/* 0 if the model is not there. */
static int step_forward(step *s, const form *f)
{
	memset(s, 0, sizeof *s);
	kit_new(&s->k, BATCH, LENGTH, f->precision);
	if (!kit_tiny(&s->k, &s->loss, f->model, f->tied, f->logits)) {
		kit_free(&s->k);
		return 0;
	}
	kit_passes(&s->k, &s->loss, look_up, (void *)f->setup);
	return 1;
}

static int step_new(step *s, const form *f)
{
	const qat_instance adamw = kit_instance(QAT_KIND_OPTIMIZER, "adamw");

	if (!step_forward(s, f))
		return 0;
	s->k.g->gradient_bits = f->setup->gradient_bits;
	if (adamw.interface && f->setup->gradient_bits)	/* both draw random numbers */
		kit_set(&adamw, "moments", 1);
	ck_assert_msg(!qat_ir_differentiate(s->k.g, &s->loss, f->accumulate, &s->trained,
					    &s->n_trained), "%s", qat_error());
	ck_assert_msg(!qat_ir_optimize(s->k.g, adamw.interface ? &adamw : NULL, s->trained,
				       s->n_trained), "%s", qat_error());
	ck_assert_int_gt(s->n_trained, 0);
	keep_all(s);
	give_contents(s);
	return 1;
}

static void step_recompute(step *out, const step *from, int level)
{
	const size_t bytes = (size_t)from->n_trained * sizeof *from->trained;

	memset(out, 0, sizeof *out);
	out->loss = from->loss;
	out->n_trained = from->n_trained;
	if (bytes) {
		out->trained = malloc(bytes);
		ck_assert_ptr_nonnull(out->trained);
		memcpy(out->trained, from->trained, bytes);
	}
	ck_assert_msg(!qat_ir_recompute(&out->k.g, from->k.g, &out->loss, out->trained,
					out->n_trained, level), "%s", qat_error());
}

static void step_less(step *out, const step *from, int level)
{
	step_recompute(out, from, level);
	keep_all(out);
	give_contents(out);
}

static void step_free(step *s)
{
	free(s->trained);
	kit_free(&s->k);
}

/* ---- what a graph is made of ---- */

static int64_t count(const step *s, uint32_t op, uint32_t phase)
{
	int64_t n = 0;

	for (int64_t i = 0; i < s->k.g->graph.n_nodes; i++)
		n += s->k.g->graph.nodes[i]->op == op && s->k.g->graph.nodes[i]->phase == phase;
	return n;
}

/* Nodes are only added, to the backward pass; of no loss ever, of products and attention
 * at level 2 alone. */
static void check_counts(const step *a, const step *b, int level, const char *name)
{
	int64_t more = 0;

	for (uint32_t op = 0; op < QAT_OP_COUNT; op++) {
		const int heavy = op == QAT_OP_MATMUL || op == QAT_OP_QMATMUL ||
				  op == QAT_OP_ATTENTION;
		const int64_t was = count(a, op, QAT_PHASE_BACKWARD);
		const int64_t is = count(b, op, QAT_PHASE_BACKWARD);
		const int64_t most = was + count(a, op, QAT_PHASE_FORWARD);

		for (uint32_t phase = 0; phase < QAT_PHASES; phase++)
			ck_assert_msg(phase == QAT_PHASE_BACKWARD ||
				      count(a, op, phase) == count(b, op, phase),
				      "%s: other nodes of op %u in phase %u", name, op, phase);
		ck_assert_msg(is >= was && is <= most, "%s: %lld backward nodes of op %u, not "
			      "%lld to %lld", name, (long long)is, op, (long long)was,
			      (long long)most);
		ck_assert_msg(is == was || level > 1 || !heavy, "%s: op %u done again at level 1",
			      name, op);
		if (op == QAT_OP_LINEAR_CROSS_ENTROPY || op == QAT_OP_CROSS_ENTROPY)
			ck_assert_msg(!is, "%s: the loss is done again", name);
		more += is - was;
	}
	ck_assert_msg(more > 0, "%s: nothing is done again", name);
}

/* What the loss gave and what it read is what its gradient reads. */
static void check_loss(const step *s, const char *name)
{
	const int64_t ids[] = { s->loss.nll, s->loss.lse, s->loss.argmax };
	const qat_node *loss = NULL;
	int64_t readers = 0;

	for (int i = 0; i < 3; i++) {
		const int64_t node = value_of(s, ids[i])->node;

		ck_assert_int_ne(node, QAT_NONE);
		loss = s->k.g->graph.nodes[node];
		ck_assert_msg(loss->phase == QAT_PHASE_FORWARD,
			      "%s: value %d of the loss is not of the forward pass", name, i);
	}
	for (int64_t i = 0; i < s->k.g->graph.n_nodes; i++) {
		const qat_node *n = s->k.g->graph.nodes[i];
		const int whole = n->op == QAT_OP_LINEAR_CROSS_ENTROPY_GRAD;

		if (!whole && n->op != QAT_OP_CROSS_ENTROPY_GRAD)
			continue;
		ck_assert_int_eq(n->in[whole ? 3 : 2], s->loss.lse);
		for (int64_t k = 0; k < (whole ? 3 : 2); k++)
			ck_assert_msg(n->in[k] == loss->in[k], "%s: input %lld of the loss is made "
				      "again for its gradient", name, (long long)k);
		readers++;
	}
	ck_assert_int_eq(readers, 1);
}

static int64_t n_aliases(const step *s, int64_t v)
{
	int64_t n = 0;

	for (int64_t i = 0; i < s->k.g->graph.n_values; i++)
		n += value_of(s, i)->alias != QAT_NONE && root(s, i) == v;
	return n;
}

static void check_aliases(const step *a, const step *b, const char *name)
{
	for (int64_t i = 0; i < a->n_trained; i++) {
		const qat_trained *t = &a->trained[i], *u = &b->trained[i];
		const int64_t of = root(a, t->gradient), now = root(b, u->gradient);

		ck_assert_str_eq(value_of(a, t->param)->name, value_of(b, u->param)->name);
		ck_assert_int_eq(value_of(b, now)->role, QAT_ROLE_STATE);
		ck_assert_msg(n_aliases(a, of) > 0 && n_aliases(a, of) == n_aliases(b, now),
			      "%s: gradient of %s left its buffer", name,
			      value_of(a, t->param)->name);
		ck_assert_msg(n_aliases(a, t->param) == n_aliases(b, u->param),
			      "%s: %s is not updated in place", name,
			      value_of(a, t->param)->name);
		ck_assert_int_eq(t->n_states, u->n_states);
		for (int64_t k = 0; k < t->n_states; k++)
			ck_assert_int_eq(n_aliases(a, t->states[k]), n_aliases(b, u->states[k]));
	}
}

/* ---- running ---- */

static void run_on(kit_result *out, const step *s, qat_device *d, const char *name)
{
	kit_run(out, &s->k, d, NULL);
	ck_assert_msg(!out->rc, "%s: %s", name, out->error);
}

static void same(const step *a, const kit_result *x, const step *b, const kit_result *y,
		 const char *name)
{
	ck_assert_int_eq(a->k.n_keep, b->k.n_keep);
	for (int64_t i = 0; i < a->k.n_keep; i++) {
		const int64_t v = a->keep[i], w = b->keep[i];
		const int64_t bytes = qat_value_bytes(value_of(a, v));

		ck_assert_int_eq(bytes, qat_value_bytes(value_of(b, w)));
		ck_assert_msg(!memcmp(x->data[v], y->data[w], (size_t)bytes),
			      "%s: value %lld (%s of what is kept) has other bits", name,
			      (long long)v, i < 2 ? "loss" : "one of the parameters");
	}
}

/* What was given must not come back as the result. */
static void check_moved(const step *s, const kit_result *r, const char *name)
{
	for (int64_t i = 0; i < s->n_trained; i++) {
		const int64_t v = s->trained[i].param;

		if (s->trained[i].n_states)
			ck_assert_msg(memcmp(r->data[v], s->k.content[v],
					     (size_t)qat_value_bytes(value_of(s, v))),
				      "%s: %s is as it was", name, value_of(s, v)->name);
	}
}

static int64_t scratch(const step *s, qat_device *d, qat_plan_size *size)
{
	ck_assert_msg(!qat_exec_predict(size, d, s->k.g, s->keep, s->k.n_keep, 0), "%s",
		      qat_error());
	return size->scratch;
}

/* less[0] is the graph as it was. Where gradients are added to they are state; else they
 * take the place of what the backward pass has done with, and little of that is left for
 * the second level to save in models as small as these. */
static void check_sizes(const step *less, qat_device *d, int accumulate, const char *name)
{
	qat_plan_size was, is;

	scratch(&less[0], d, &was);
	for (int level = 1; level <= LEVELS; level++) {
		const int64_t before = scratch(&less[accumulate ? level - 1 : 0], d, &is);
		const int64_t now = scratch(&less[level], d, &is);

		ck_assert_msg(now < before, "%s: level %d: scratch %lld, before %lld", name,
			      level, (long long)now, (long long)before);
		ck_assert_int_eq(is.params, was.params);
		ck_assert_int_eq(is.state, was.state);
		ck_assert_int_eq(is.step, was.step);
	}
}

/* A backend may do without gradients and moments as codes: those go to another. */
static int has_kernels(const step *s, qat_device *d)
{
	for (int64_t i = 0; i < s->k.g->graph.n_nodes; i++) {
		const qat_node *n = s->k.g->graph.nodes[i];
		char why[256] = "";

		if ((n->op == QAT_OP_QMATMUL_GRAD || n->op == QAT_OP_ADAMW8) &&
		    d->api->supports(d->handle, &s->k.g->graph, n, why, sizeof why) ==
		    QAT_SUPPORT_NO)
			return 0;
	}
	return 1;
}

/* The graph, each level of it, and each level on top of the one before, as a session with
 * a limit comes by them. */
static void one(const form *f)
{
	step less[2 * LEVELS];
	char name[192];

	if (!step_new(&less[0], f)) {
		fprintf(stderr, "model %s is not built: left out\n", f->model);
		return;
	}
	for (int i = 1; i < 2 * LEVELS; i++) {
		const int level = i <= LEVELS ? i : i - LEVELS + 1;

		snprintf(name, sizeof name, "%s: graph %d", f->name, i);
		step_less(&less[i], &less[i <= LEVELS ? 0 : i == LEVELS + 1 ? 1 : i - 1], level);
		check_loss(&less[i], name);
		check_aliases(&less[0], &less[i], name);
		if (i <= LEVELS)
			check_counts(&less[0], &less[i], level, name);
	}
	for (int b = 0; b < n_backends; b++) {
		kit_result want, got;
		qat_device d;

		snprintf(name, sizeof name, "%s: %s", backends[b], f->name);
		ck_assert_msg(kit_open(&d, backends[b], 1), "%s", qat_error());
		if (!has_kernels(&less[0], &d)) {
			fprintf(stderr, "%s: left out: no kernel for gradients as codes\n", name);
			qat_device_close(&d);
			continue;
		}
		check_sizes(less, &d, f->accumulate, name);
		run_on(&want, &less[0], &d, name);
		check_moved(&less[0], &want, name);
		for (int i = 1; i < 2 * LEVELS; i++) {
			snprintf(name, sizeof name, "%s: %s: graph %d", backends[b], f->name, i);
			run_on(&got, &less[i], &d, name);
			same(&less[0], &want, &less[i], &got, name);
			kit_result_free(&got);
		}
		kit_result_free(&want);
		qat_device_close(&d);
	}
	for (int i = 0; i < 2 * LEVELS; i++)
		step_free(&less[i]);
}

static form form_of(int setup_index, int bits)
{
	form f = { .model = bits & 1 ? "gpt2" : "llama", .setup = &setups[setup_index],
		   .precision = bits >> 1 & 1 ? QAT_BF16 : QAT_F32, .accumulate = bits >> 2 & 1,
		   .tied = bits >> 3 & 1, .logits = bits >> 2 == 3 };

	snprintf(f.name, sizeof f.name, "%s, %s, %s%s%s", f.model, f.setup->name,
		 f.precision == QAT_BF16 ? "bf16" : "f32", f.accumulate ? ", accumulate" : "",
		 f.tied ? ", tied" : "");
	return f;
}

START_TEST(steps)
{
	for (int bits = 0; bits < 16; bits++) {
		const form f = form_of(_i, bits);

		if (kit_chosen_model(_i * 16 + bits))
			one(&f);
	}
}
END_TEST

/* ---- gradients ---- */

static int64_t gradient_bytes(const step *s)
{
	int64_t sum = 0;

	for (int64_t i = 0; i < s->n_trained; i++)
		sum += qat_value_bytes(value_of(s, s->trained[i].param));
	return sum;
}

/* Gradients that nothing is added to are made anew in each step, and have no memory of
 * their own: they lie where activations were. */
START_TEST(gradients_that_do_not_last)
{
	form f[2] = { form_of(0, _i), form_of(0, _i) };
	qat_plan_size size[2];
	step s[2];
	qat_device d;

	f[1].accumulate = 1;
	if (!kit_chosen_model(_i) || !step_new(&s[0], &f[0]) || !step_new(&s[1], &f[1]))
		return;
	ck_assert_msg(kit_open(&d, backends[0], 1), "%s", qat_error());
	for (int i = 0; i < 2; i++)
		scratch(&s[i], &d, &size[i]);
	ck_assert_int_ge(size[1].state - size[0].state, gradient_bytes(&s[0]));
	ck_assert_int_lt(size[0].state + size[0].scratch, size[1].state + size[1].scratch);
	qat_device_close(&d);
	for (int i = 0; i < 2; i++)
		step_free(&s[i]);
}
END_TEST

/* ---- nothing to do ---- */

static int output_index(const step *s, int64_t v)
{
	const qat_node *n = s->k.g->graph.nodes[value_of(s, v)->node];
	int i = 0;

	while (n->out[i] != v)
		i++;
	return i;
}

static void same_value(const step *a, int64_t v, const step *b, int64_t w)
{
	const qat_value *x, *y;

	ck_assert_int_eq(v == QAT_NONE, w == QAT_NONE);
	if (v == QAT_NONE)
		return;
	x = value_of(a, v);
	y = value_of(b, w);
	ck_assert_int_eq(x->node, y->node);
	ck_assert_int_eq(x->role, y->role);
	ck_assert_int_eq(x->input, y->input);
	ck_assert_int_eq(x->dtype, y->dtype);
	ck_assert_int_eq(x->residual, y->residual);
	ck_assert_int_eq(x->rank, y->rank);
	ck_assert_int_eq(qat_value_bytes(x), qat_value_bytes(y));
	ck_assert_int_eq(x->alias == QAT_NONE, y->alias == QAT_NONE);
	if (x->node != QAT_NONE)
		ck_assert_int_eq(output_index(a, v), output_index(b, w));
	if (x->role == QAT_ROLE_PARAM)
		ck_assert_str_eq(x->name, y->name);
}

static void same_graph(const step *a, const step *b)
{
	ck_assert_int_eq(a->k.g->graph.n_nodes, b->k.g->graph.n_nodes);
	ck_assert_int_eq(a->k.g->graph.n_values, b->k.g->graph.n_values);
	for (int64_t i = 0; i < a->k.g->graph.n_nodes; i++) {
		const qat_node *n = a->k.g->graph.nodes[i], *m = b->k.g->graph.nodes[i];

		ck_assert_int_eq(n->op, m->op);
		ck_assert_int_eq(n->phase, m->phase);
		ck_assert_int_eq(n->n_in, m->n_in);
		ck_assert_int_eq(n->n_out, m->n_out);
		ck_assert_str_eq(n->name, m->name);
		ck_assert(!memcmp(&n->attr, &m->attr, sizeof n->attr));
		ck_assert(n->schemes[0] == m->schemes[0] && n->schemes[1] == m->schemes[1]);
		for (int64_t k = 0; k < n->n_in; k++)
			same_value(a, n->in[k], b, m->in[k]);
		for (int64_t k = 0; k < n->n_out; k++)
			same_value(a, n->out[k], b, m->out[k]);
	}
	same_value(a, a->loss.nll, b, b->loss.nll);
	same_value(a, a->loss.lse, b, b->loss.lse);
	same_value(a, a->loss.argmax, b, b->loss.argmax);
	same_value(a, a->loss.logits, b, b->loss.logits);
}

START_TEST(forward_alone)
{
	for (int bits = 0; bits < 16; bits++) {
		const form f = form_of(_i, bits);
		step s, less;

		if (!kit_chosen_model(_i * 16 + bits) || !step_forward(&s, &f))
			continue;
		for (int level = 1; level <= LEVELS; level++) {
			step_recompute(&less, &s, level);
			same_graph(&s, &less);
			step_free(&less);
		}
		step_free(&s);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("recompute");
	TCase *c = tcase_create("recompute");
	const char *names[BACKENDS_MAX];
	int n, failed;
	SRunner *r;

	setenv("OMP_WAIT_POLICY", "passive", 0);
	n = kit_names(QAT_KIND_BACKEND, names, BACKENDS_MAX);
	for (int i = 0; i < n; i++) {
		qat_device d;

		if (kit_open(&d, names[i], 1)) {
			qat_device_close(&d);
			backends[n_backends++] = names[i];
		}
	}
	fprintf(stderr, "%d backends to run on\n", n_backends);
	if (!n_backends) {
		fprintf(stderr, "skipped: no backend in QATRUN_PLUGIN_PATH has a device\n");
		return 77;
	}
	tcase_set_timeout(c, 900);
	tcase_add_loop_test(c, steps, 0, SETUPS);
	tcase_add_loop_test(c, gradients_that_do_not_last, 0, 4);
	tcase_add_loop_test(c, forward_alone, 0, SETUPS);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
