/* test_cpu_backend.c - the shell of backend cpu: which nodes become one kernel, where weights
 * are packed, what is updated in place; the device and its memory. For every instruction
 * set that runs here, with 1 and 2 threads.
 */
#include "cpu_check.h"

enum { HIDDEN = 40 };

/* ---- in place ---- */

START_TEST(accumulates_in_place)
{
	/* a gradient that is added to what is there: two runs give twice the product */
	const qat_attr attr = { .matmul = { .trans_a = 1 } };
	float *a, *b, *got, *zero;
	double *want;
	int64_t in[3], y, rows[2];
	qat_ir_extra extra = { 0 };
	net n;

	if (!use_isa(_i))
		return;
	a = floats(N * C);
	b = floats(N * V);
	zero = calloc(C * V, sizeof *zero);
	want = calloc(C * V, sizeof *want);
	net_start(&n, 1, N, QAT_F32);
	in[0] = net_param(&n, QAT_F32, N, C, a);
	in[1] = net_param(&n, QAT_F32, N, V, b);
	in[2] = net_value(&n, QAT_ROLE_STATE, QAT_F32, C, V, zero);
	extra.alias[0] = in[2] + 1;
	y = net_keep(&n, net_op(&n, 2, QAT_OP_MATMUL, &attr, 3, in, NULL, &extra));
	rows[0] = in[1];
	rows[1] = net_value(&n, QAT_ROLE_STATE, QAT_F32, V, 0, zero);
	extra.alias[0] = rows[1] + 1;
	rows[0] = net_keep(&n, net_op(&n, 2, QAT_OP_REDUCE_ROWS, NULL, 2, rows, NULL, &extra));
	net_run_all(&n, "cpu");
	ck_ok(net_run(&n, QAT_PHASE_BACKWARD));
	got = net_read(&n, y);
	for (int i = 0; i < C * V; i++)
		for (int k = 0; k < N; k++)
			want[i] += 2.0 * a[k * C + i / V] * b[k * V + i % V];
	close_to(got, want, C * V, 1e-5, "accumulated");
	free(got);
	got = net_read(&n, rows[0]);
	memset(want, 0, V * sizeof *want);
	for (int i = 0; i < N * V; i++)
		want[i % V] += 2.0 * b[i];
	close_to(got, want, V, 1e-5, "reduce_rows");
	net_free(&n);
	free(a);
	free(b);
	free(zero);
	free(got);
	free(want);
}
END_TEST
/* ---- the loss and its gradient ---- */

/* The loss and its gradient. fused: the factor is an input, else it comes of a node. */
typedef struct head_net {
	net n;
	float *x, *w, *g;
	int32_t *label;
	int64_t nll, dx, dw;
} head_net;

static void head_start(head_net *h, int fused, int accumulate)
{
	const qat_attr one = { .scale = { .factor = 1.0 } };
	int64_t in[6], out[4], grad[4];
	qat_ir_extra extra = { 0 };

	seed = 5;
	h->x = floats(N * C);
	h->w = floats(V * C);
	h->g = floats(N);
	h->label = ids(N, V);
	h->label[5] = -100;
	net_start(&h->n, 1, N, QAT_F32);
	in[0] = net_param(&h->n, QAT_F32, N, C, h->x);
	in[1] = net_param(&h->n, QAT_F32, V, C, h->w);
	in[2] = net_value(&h->n, QAT_ROLE_INPUT, QAT_I32, N, 0, h->label);
	net_op(&h->n, 1, QAT_OP_LINEAR_CROSS_ENTROPY, NULL, 3, in, out, NULL);
	in[3] = out[1];
	in[4] = net_value(&h->n, QAT_ROLE_INPUT, QAT_F32, N, 0, h->g);
	if (!fused)
		in[4] = net_op(&h->n, 2, QAT_OP_SCALE, &one, 1, &in[4], NULL, NULL);
	in[5] = net_value(&h->n, QAT_ROLE_STATE, QAT_F32, V, C, NULL);
	extra.alias[1] = in[5] + 1;
	in[5] = accumulate ? in[5] : QAT_NONE;
	net_op(&h->n, 2, QAT_OP_LINEAR_CROSS_ENTROPY_GRAD, NULL, 6, in, grad, &extra);
	h->nll = net_keep(&h->n, out[0]);
	h->dx = net_keep(&h->n, grad[0]);
	h->dw = net_keep(&h->n, grad[1]);
}

static void head_free(head_net *h)
{
	net_free(&h->n);
	free(h->x);
	free(h->w);
	free(h->g);
	free(h->label);
}

/* What the device proposes for the first node of an op. */
static qat_claim claim_of(const net *n, uint32_t op)
{
	const qat_graph *g = &n->g->graph;
	uint8_t keep[NET_VALUES] = { 0 }, taken[NET_VALUES] = { 0 };
	qat_claim c = { .size = sizeof c };
	int64_t first = 0;

	for (int64_t i = 0; i < n->n_keep; i++)
		keep[n->keep[i]] = 1;
	while (g->nodes[first]->op != op)
		first++;
	ck_ok(n->device.api->claim(n->device.handle, g, first, keep, taken, &c));
	return c;
}

START_TEST(fused_loss)
{
	if (!use_isa(_i))
		return;
	for (int accumulate = 0; accumulate < 2; accumulate++) {
		head_net a, b;
		loss_case c = { .linear = 1 };
		function f = { .n = 2, .out = N, .f = f_loss, .context = &c };
		const int64_t *va = &a.nll, *vb = &b.nll;
		float *g2;

		head_start(&a, 1, accumulate);
		head_start(&b, 0, accumulate);
		net_run_all(&a.n, "cpu");
		net_run_all(&b.n, "cpu");
		ck_assert_int_eq(claim_of(&a.n, QAT_OP_LINEAR_CROSS_ENTROPY).n_nodes, 2);
		ck_assert_int_eq(claim_of(&b.n, QAT_OP_LINEAR_CROSS_ENTROPY).n_nodes, 1);
		for (uint32_t phase = QAT_PHASE_FORWARD; phase <= QAT_PHASE_BACKWARD; phase++) {
			ck_ok(net_run(&a.n, phase));
			ck_ok(net_run(&b.n, phase));
		}
		c.labels = a.label;
		take(&f, 0, a.x, N * C);
		take(&f, 1, a.w, V * C);
		g2 = malloc(N * sizeof *g2);
		for (int i = 0; i < N; i++)
			g2[i] = a.g[i] * (float)(1 + accumulate);
		for (int i = 0; i < 3; i++) {
			float *x = net_read(&a.n, va[i]), *y = net_read(&b.n, vb[i]);

			ck_assert_mem_eq(x, y, (size_t)qat_value_bytes(
					 a.n.g->graph.values[va[i]]));
			if (i == 0)
				check_value(&f, x, 1e-5, "nll");
			else
				check_gradient(&f, i - 1, i == 2 ? g2 : a.g, x, NULL, 1e-4,
					       i == 1 ? "dx" : "dw");
			free(x);
			free(y);
		}
		free(g2);
		drop(&f);
		head_free(&a);
		head_free(&b);
	}
}
END_TEST

START_TEST(loss_stays_apart)
{
	/* the buffer is written before the gradient: the addend is not there at the forward */
	const qat_attr attr = { .embedding = { .rows = V } };
	int64_t in[6], out[4], buffer;
	qat_ir_extra extra = { 0 };
	net n;

	if (!use_isa(_i))
		return;
	net_start(&n, 1, N, QAT_F32);
	in[0] = net_param(&n, QAT_F32, N, C, NULL);
	in[1] = net_param(&n, QAT_F32, V, C, NULL);
	in[2] = net_value(&n, QAT_ROLE_INPUT, QAT_I32, N, 0, NULL);
	buffer = net_value(&n, QAT_ROLE_STATE, QAT_F32, V, C, NULL);
	net_op(&n, 1, QAT_OP_LINEAR_CROSS_ENTROPY, NULL, 3, in, out, NULL);
	in[3] = out[1];
	extra.alias[0] = buffer + 1;
	in[5] = net_op(&n, 2, QAT_OP_EMBEDDING_GRAD, &attr, 2, (int64_t[]){ in[2], in[0] }, NULL,
		       &extra);
	extra.alias[0] = 0;
	extra.alias[1] = buffer + 1;
	in[4] = net_value(&n, QAT_ROLE_INPUT, QAT_F32, N, 0, NULL);
	net_op(&n, 2, QAT_OP_LINEAR_CROSS_ENTROPY_GRAD, NULL, 6, in, out, &extra);
	n.device = (qat_device){ .handle = NULL };
	{
		const qat_instance b = net_backend("cpu");

		ck_ok(qat_device_open(&n.device, &b, 0, 1));
	}
	ck_assert_int_eq(claim_of(&n, QAT_OP_LINEAR_CROSS_ENTROPY).n_nodes, 1);
	net_free(&n);
}
END_TEST

/* ---- codes ---- */

#define UNIFORM(most, cols) \
	{ .size = sizeof(qat_scheme), .numerics = QAT_NUMERICS, .grid = QAT_GRID_UNIFORM, \
	  .bits = 8, .qmin = -(most), .qmax = most, .block_rows = 1, .block_cols = cols, \
	  .scale_format = QAT_F32, .scale_rule = QAT_SCALE_ABSMAX, .divisor = most, \
	  .gradient = QAT_GRAD_STE_CLIPPED, .name = "uniform" }

static const qat_scheme int8_token = UNIFORM(127, 0), int8_group = UNIFORM(127, 32);
static const qat_scheme int4_group = UNIFORM(7, 32);
static const qat_scheme *const one_token[] = { &int8_token }, *const one_group[] = { &int8_group };
static const qat_scheme *const one_weight[] = { &int4_group };
static const qat_scheme_set x_set = { sizeof(qat_scheme_set), -1, 1, one_token };
static const qat_scheme_set x2_set = { sizeof(qat_scheme_set), -1, 1, one_group };
static const qat_scheme_set w_set = { sizeof(qat_scheme_set), -1, 1, one_weight };

/* Codes and scales by the contract. */
typedef struct coded { uint8_t codes[HIDDEN * C]; float scale[HIDDEN * C]; } coded;

static void encode(coded *out, const qat_scheme *s, const float *x, int rows)
{
	const int cols = s->block_cols ? (int)s->block_cols : C, groups = C / cols;
	int inside;

	for (int b = 0; b < rows * groups; b++) {
		const int at = b / groups * C + b % groups * cols;
		qat_block_stats stats;
		float zero;

		qat_stats_init(&stats);
		for (int i = 0; i < cols; i++)
			qat_stats_add(&stats, x[at + i]);
		out->scale[b] = qat_block_scale(s, &stats, &zero);
		for (int i = 0; i < cols; i++)
			out->codes[at + i] = qat_code(s, x[at + i], out->scale[b], 0, &inside);
	}
}

/* Numeric contract 4, groups of 32 along k. */
static void product(float *y, const coded *x, const qat_scheme *xs, const coded *w)
{
	const int groups = C / 32, x_groups = xs->block_cols ? groups : 1;

	for (int i = 0; i < N * HIDDEN; i++) {
		const int m = i / HIDDEN, o = i % HIDDEN;

		y[i] = 0;
		for (int j = 0; j < groups; j++) {
			const float s = x->scale[m * x_groups + (x_groups > 1 ? j : 0)] *
					w->scale[o * groups + j];
			int32_t sum = 0;

			for (int k = j * 32; k < j * 32 + 32; k++)
				sum += (int8_t)x->codes[m * C + k] * (int8_t)w->codes[o * C + k];
			y[i] = y[i] + s * (float)sum;
		}
	}
}

enum { WITH_DEQUANTIZE = 1, KEEP_CODES = 2, TWO_PLANS = 4, FROZEN = 8, LOOSE = 16 };

typedef struct code_net {
	net n;
	float *x, *w;
	coded xc, x2c, wc;
	int64_t y, y2, what, codes, weight;
} code_net;

static int64_t quantize(net *n, uint32_t phase, const qat_scheme_set *set, int64_t x,
			int64_t out[4])
{
	const qat_ir_extra extra = { .schemes = { set } };

	return net_op(n, phase, QAT_OP_QUANTIZE, NULL, 1, &x, out, &extra);
}

static void code_values(code_net *t, int how, int64_t q[4])
{
	if (!(how & (FROZEN | LOOSE))) {
		t->weight = net_param(&t->n, QAT_F32, HIDDEN, C, t->w);
		quantize(&t->n, 0, &w_set, t->weight, q);
		return;
	}
	q[0] = net_value(&t->n, how & FROZEN ? QAT_ROLE_PARAM : QAT_ROLE_STATE, QAT_I8, HIDDEN, C,
			 t->wc.codes);
	q[1] = net_param(&t->n, QAT_F32, HIDDEN, C / 32, t->wc.scale);
	q[2] = QAT_NONE;
}

static int64_t code_product(code_net *t, const qat_scheme_set *set, const int64_t x[4],
			    const int64_t w[4])
{
	const int64_t in[] = { x[0], x[1], QAT_NONE, w[0], w[1], QAT_NONE, QAT_NONE };
	const qat_ir_extra extra = { .schemes = { set, &w_set } };

	return net_keep(&t->n, net_op(&t->n, 1, QAT_OP_QMATMUL, NULL, 7, in, NULL, &extra));
}

static void code_start(code_net *t, int how)
{
	const qat_ir_extra decode = { .schemes = { &w_set } };
	int64_t x, q[4], p[4];

	seed = 9;
	t->x = floats(N * C);
	t->w = floats(HIDDEN * C);
	t->y = t->y2 = t->what = QAT_NONE;
	encode(&t->xc, &int8_token, t->x, N);
	encode(&t->x2c, &int8_group, t->x, N);
	encode(&t->wc, &int4_group, t->w, HIDDEN);
	net_start(&t->n, 1, N, QAT_F32);
	code_values(t, how, q);
	t->codes = q[0];
	x = net_param(&t->n, QAT_F32, N, C, t->x);
	quantize(&t->n, 1, &x_set, x, p);
	t->y = code_product(t, &x_set, p, q);
	if (how & TWO_PLANS) {
		quantize(&t->n, 1, &x2_set, x, p);
		t->y2 = code_product(t, &x2_set, p, q);
	}
	if (how & WITH_DEQUANTIZE)
		t->what = net_keep(&t->n, net_op(&t->n, 2, QAT_OP_DEQUANTIZE, NULL, 2, q, NULL,
						 &decode));
	if (how & KEEP_CODES)
		net_keep(&t->n, q[0]);
}

static void same_floats(net *n, int64_t v, const float *want, int64_t count)
{
	float *got = net_read(n, v);

	for (int64_t i = 0; i < count; i++)
		ck_assert_msg(got[i] == want[i], "%lld: %.9g, not %.9g", (long long)i, got[i],
			      want[i]);
	free(got);
}

static void code_check(code_net *t)
{
	float want[HIDDEN * C];

	product(want, &t->xc, &int8_token, &t->wc);
	same_floats(&t->n, t->y, want, N * HIDDEN);
	if (t->y2 != QAT_NONE) {
		product(want, &t->x2c, &int8_group, &t->wc);
		same_floats(&t->n, t->y2, want, N * HIDDEN);
	}
	for (int i = 0; i < HIDDEN * C; i++)
		want[i] = qat_decode(&int4_group, t->wc.codes[i], t->wc.scale[i / 32], 0);
	if (t->what != QAT_NONE)
		same_floats(&t->n, t->what, want, HIDDEN * C);
}

static void code_free(code_net *t)
{
	net_free(&t->n);
	free(t->x);
	free(t->w);
}

START_TEST(codes)
{
	static const int ways[] = { 0, WITH_DEQUANTIZE, KEEP_CODES, KEEP_CODES | WITH_DEQUANTIZE,
				    TWO_PLANS, TWO_PLANS | WITH_DEQUANTIZE, FROZEN,
				    FROZEN | WITH_DEQUANTIZE | TWO_PLANS, LOOSE };

	if (!use_isa(_i))
		return;
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		const int how = ways[i], made = !(how & (FROZEN | LOOSE));
		const int private = made && !(how & (KEEP_CODES | TWO_PLANS));
		code_net t;

		code_start(&t, how);
		net_run_all(&t.n, "cpu");
		code_check(&t);
		ck_ok(net_run(&t.n, QAT_PHASE_FORWARD));	/* with what is packed */
		ck_ok(net_run(&t.n, QAT_PHASE_BACKWARD));
		code_check(&t);
		if (made) {
			const qat_claim c = claim_of(&t.n, QAT_OP_QUANTIZE);

			ck_assert_int_eq(c.n_private, private);
			if (private)
				ck_assert_int_eq(c.private_value[0], t.codes);
			if (how == WITH_DEQUANTIZE)
				ck_assert_int_gt(c.private_bytes[0], HIDDEN * C);
		}
		if (how & KEEP_CODES) {
			uint8_t *got = net_read(&t.n, t.codes);

			ck_assert_mem_eq(got, t.wc.codes, HIDDEN * C);
			free(got);
		}
		code_free(&t);
	}
}
END_TEST

START_TEST(weights_change)
{
	/* what the prologue packed is of the weight as it was then */
	if (!use_isa(_i))
		return;
	for (int how = 0; how <= WITH_DEQUANTIZE; how++) {
		code_net t;

		code_start(&t, how);
		net_open(&t.n, "cpu", 2);
		ck_ok(net_run(&t.n, QAT_PHASE_PROLOGUE));
		for (int i = 0; i < HIDDEN * C; i++)
			t.w[i] = -0.5f * t.w[(i * 7) % (HIDDEN * C)];
		ck_ok(qat_exec_write(t.n.x, t.weight, t.w, HIDDEN * C * 4));
		ck_ok(net_run(&t.n, QAT_PHASE_FORWARD));
		ck_ok(net_run(&t.n, QAT_PHASE_BACKWARD));
		code_check(&t);
		encode(&t.wc, &int4_group, t.w, HIDDEN);
		for (uint32_t phase = 0; phase <= QAT_PHASE_BACKWARD; phase++)
			ck_ok(net_run(&t.n, phase));
		code_check(&t);
		code_free(&t);
	}
}
END_TEST

START_TEST(weight_only)
{
	/* floats times codes, and a bias */
	const qat_ir_extra extra = { .schemes = { NULL, &w_set } };
	int64_t in[7] = { 0, QAT_NONE, QAT_NONE, 0, 0, QAT_NONE, 0 }, q[4], y;
	float *x, *w, *b, *got;
	double want[N * HIDDEN];
	coded c;
	net n;

	if (!use_isa(_i))
		return;
	x = floats(N * C);
	w = floats(HIDDEN * C);
	b = floats(HIDDEN);
	encode(&c, &int4_group, w, HIDDEN);
	net_start(&n, 1, N, QAT_F32);
	quantize(&n, 0, &w_set, net_param(&n, QAT_F32, HIDDEN, C, w), q);
	in[0] = net_param(&n, QAT_F32, N, C, x);
	in[3] = q[0];
	in[4] = q[1];
	in[6] = net_param(&n, QAT_F32, HIDDEN, 0, b);
	y = net_keep(&n, net_op(&n, 1, QAT_OP_QMATMUL, NULL, 7, in, NULL, &extra));
	net_run_all(&n, "cpu");
	got = net_read(&n, y);
	for (int i = 0; i < N * HIDDEN; i++) {
		want[i] = b[i % HIDDEN];
		for (int k = 0; k < C; k++) {
			const int at = i % HIDDEN * C + k;

			want[i] += (double)x[i / HIDDEN * C + k] *
				   qat_decode(&int4_group, c.codes[at], c.scale[at / 32], 0);
		}
	}
	close_to(got, want, N * HIDDEN, 1e-5, "weight-only");
	net_free(&n);
	free(x);
	free(w);
	free(b);
	free(got);
}
END_TEST

START_TEST(static_ranges)
{
	/* a given scale: codes, mask, masked gradient, the range that is observed */
	static const qat_scheme s = {
		.size = sizeof s, .grid = QAT_GRID_UNIFORM, .bits = 8, .qmin = -127, .qmax = 127,
		.scale_format = QAT_F32, .scale_rule = QAT_SCALE_ABSMAX, .divisor = 127,
		.range = QAT_RANGE_STATIC, .gradient = QAT_GRAD_STE_CLIPPED, .name = "static" };
	static const qat_scheme *const list[] = { &s };
	static const qat_scheme_set set = { sizeof set, -1, 1, list };
	const qat_ir_extra extra = { .schemes = { &set } };
	const qat_attr attr = { .quantize = { .mask = 1 } };
	const float scale = 0.005f;
	float range[2] = { INFINITY, -INFINITY }, lo = INFINITY, hi = -INFINITY;
	float *x, *g, *masked, *seen;
	int64_t in[3], out[4], m, r;
	uint8_t *got;
	net n;

	if (!use_isa(_i))
		return;
	x = floats(N * C);
	g = floats(N * C);
	net_start(&n, 1, N, QAT_F32);
	in[0] = net_value(&n, QAT_ROLE_STATE, QAT_F32, N, C, x);
	in[1] = net_param(&n, QAT_F32, 1, 1, &scale);
	in[2] = QAT_NONE;
	net_op(&n, 1, QAT_OP_QUANTIZE, &attr, 3, in, out, &extra);
	net_keep(&n, out[0]);
	m = net_keep(&n, net_op(&n, 2, QAT_OP_MASK, NULL, 2, (int64_t[]){
			net_param(&n, QAT_F32, N, C, g), out[3] }, NULL, &extra));
	in[1] = net_value(&n, QAT_ROLE_STATE, QAT_F32, 1, 2, range);
	r = net_keep(&n, net_op(&n, 1, QAT_OP_OBSERVE, NULL, 2, in, NULL, &extra));
	net_run_all(&n, "cpu");
	got = net_read(&n, out[0]);
	masked = net_read(&n, m);
	seen = net_read(&n, r);
	for (int i = 0; i < N * C; i++) {
		int inside;

		ck_assert_int_eq(got[i], qat_code(&s, x[i], scale, 0, &inside));
		ck_assert(masked[i] == (inside ? g[i] : 0.0f));
		lo = x[i] < lo ? x[i] : lo;
		hi = x[i] > hi ? x[i] : hi;
	}
	ck_assert(seen[0] == lo && seen[1] == hi);
	x[17] = NAN;			/* codes cannot say it: the run stops and names the node */
	net_write(&n);
	ck_assert_int_eq(net_run(&n, QAT_PHASE_FORWARD), QAT_ENUMERIC);
	ck_assert_ptr_nonnull(strstr(qat_error(), "quantize"));
	net_free(&n);
	free(x);
	free(g);
	free(got);
	free(masked);
	free(seen);
}
END_TEST

/* ---- the optimizer ---- */

START_TEST(adamw)
{
	static const float hyper[8] = { 0.01f, 0.9f, 0.99f, 1e-8f, 0.1f, 0.19f, 0.0199f, 0.5f };
	float *start[4], *got[3];
	int64_t in[5], out[4];
	net n;

	if (!use_isa(_i))
		return;
	for (int i = 0; i < 4; i++)
		start[i] = floats(N * C);
	for (int i = 0; i < N * C; i++)
		start[3][i] = fabsf(start[3][i]);
	net_start(&n, 1, N, QAT_F32);
	in[0] = net_param(&n, QAT_F32, N, C, start[0]);
	for (int i = 1; i < 4; i++)
		in[i] = net_value(&n, QAT_ROLE_STATE, QAT_F32, N, C, start[i]);
	in[4] = net_value(&n, QAT_ROLE_INPUT, QAT_F32, 8, 0, hyper);
	net_op(&n, 3, QAT_OP_ADAMW, NULL, 5, in, out, NULL);
	for (int i = 0; i < 3; i++)
		net_keep(&n, out[i]);
	net_run_all(&n, "cpu");
	for (int i = 0; i < 3; i++)
		got[i] = net_read(&n, i ? in[i + 1] : in[0]);	/* where they were */
	for (int i = 0; i < N * C; i++) {
		const double g = start[1][i] * 0.5, m = 0.9 * start[2][i] + 0.1 * g;
		const double v = 0.99 * start[3][i] + 0.01 * g * g;
		const double p = start[0][i] * (1 - 0.001) -
				 0.01 * (m / 0.19) / (sqrt(v / 0.0199) + 1e-8);

		close_to(&got[0][i], &p, 1, 1e-5, "p");
		close_to(&got[1][i], &m, 1, 1e-6, "m");
		close_to(&got[2][i], &v, 1, 1e-6, "v");
	}
	for (int i = 0; i < 4; i++)
		free(start[i]);
	for (int i = 0; i < 3; i++)
		free(got[i]);
	net_free(&n);
}
END_TEST

/* ---- the device ---- */

START_TEST(opening)
{
	const qat_instance b = net_backend("cpu");
	qat_device d = { .handle = NULL };

	ck_assert_uint_eq(b.interface->flags, QAT_IS_DEFAULT);
	ck_assert_int_eq(qat_device_open(&d, &b, 0, -1), QAT_EINVAL);
	ck_assert_int_eq(qat_device_open(&d, &b, 0, 1000000), QAT_EINVAL);
	ck_assert_ptr_nonnull(strstr(qat_error(), "threads"));
	ck_assert_int_eq(qat_device_open(&d, &b, 1, 1), QAT_ENOTFOUND);
	setenv("QATRUN_CPU_ISA", "abacus", 1);
	ck_assert_int_eq(qat_device_open(&d, &b, 0, 1), QAT_ENOTSUP);
	ck_assert_ptr_nonnull(strstr(qat_error(), "baseline"));
	unsetenv("QATRUN_CPU_ISA");
	ck_ok(qat_device_open(&d, &b, 0, 0));
	ck_assert_int_ge(d.caps.threads, 1);
	ck_assert_int_eq(d.caps.alignment, 64);
	ck_assert_int_eq(d.caps.unified, 1);
	ck_assert_int_gt(d.caps.memory, 0);
	ck_assert_ptr_nonnull(strstr(d.caps.name, d.caps.isa));
	qat_device_close(&d);
}
END_TEST

START_TEST(memory)
{
	static const char text[] = "not to be written";
	static const int64_t sizes[] = { 1, 100, (int64_t)5 << 20 };
	const qat_instance b = net_backend("cpu");
	qat_device d = { .handle = NULL };
	qat_memory *m;
	char back[sizeof text];

	ck_ok(qat_device_open(&d, &b, 0, 1));
	for (int i = 0; i < 3; i++) {
		const int64_t n = sizes[i];
		char *p;

		ck_ok(d.api->alloc(d.handle, &m, n, QAT_MEM_STATE));
		p = d.api->map(d.handle, m);
		ck_assert_int_eq((uintptr_t)p % 64, 0);
		for (int64_t k = 0; k < n; k++)
			if (p[k])
				ck_abort_msg("byte %lld is not zero", (long long)k);
		ck_ok(d.api->write(d.handle, m, n - 1, "x", 1));
		ck_ok(d.api->read(d.handle, back, m, n - 1, 1));
		ck_assert_int_eq(back[0], 'x');
		ck_ok(d.api->write(d.handle, m, n, "x", 0));
		ck_assert_int_eq(d.api->write(d.handle, m, n, "x", 1), QAT_EINVAL);
		ck_assert_int_eq(d.api->read(d.handle, back, m, n - 1, 2), QAT_EINVAL);
		ck_assert_int_eq(d.api->write(d.handle, m, -1, "x", 1), QAT_EINVAL);
		ck_assert_int_eq(d.api->read(d.handle, back, m, 0, -1), QAT_EINVAL);
		ck_assert_int_eq(d.api->read(d.handle, back, m, INT64_MAX, 1), QAT_EINVAL);
		ck_assert_int_eq(d.api->read(d.handle, back, m, 0, INT64_MAX), QAT_EINVAL);
		d.api->free(d.handle, m);
	}
	ck_ok(d.api->import(d.handle, &m, text, sizeof text));
	ck_assert_ptr_eq(d.api->map(d.handle, m), text);
	ck_ok(d.api->read(d.handle, back, m, 0, sizeof back));
	ck_assert_str_eq(back, text);
	ck_assert_int_eq(d.api->write(d.handle, m, 0, "x", 1), QAT_EINVAL);
	d.api->free(d.handle, m);
	d.api->free(d.handle, NULL);
	ck_assert_int_eq(d.api->alloc(d.handle, &m, -1, QAT_MEM_STATE), QAT_EINVAL);
	ck_assert_int_eq(d.api->alloc(d.handle, &m, INT64_MAX, QAT_MEM_STATE), QAT_EINVAL);
	ck_assert_int_eq(d.api->alloc(d.handle, &m, INT64_MAX / 4, QAT_MEM_STATE), QAT_ENOMEM);
	qat_device_close(&d);
}
END_TEST

START_TEST(unsupported)
{
	static const qat_scheme *const two[] = { &int8_token, &int8_group };
	static const qat_scheme_set switched = { sizeof switched, 0, 2, two };
	const qat_instance b = net_backend("cpu");
	const qat_ir_extra extra = { .schemes = { &switched } };
	const qat_attr silu = { .act = { .kind = QAT_ACT_SILU } };
	qat_device d = { .handle = NULL };
	qat_node reserved = { .size = sizeof reserved, .op = QAT_OP_DROPOUT, .name = "dropout" };
	char why[128] = "";
	int64_t in[2];
	net n;

	ck_ok(qat_device_open(&d, &b, 0, 1));
	net_start(&n, 1, N, QAT_F32);
	in[0] = net_param(&n, QAT_F64, N, C, NULL);
	in[1] = net_param(&n, QAT_F32, N, C, NULL);
	net_op(&n, 1, QAT_OP_ADD, NULL, 2, in, NULL, NULL);
	net_op(&n, 1, QAT_OP_QUANTIZE, NULL, 1, in + 1, NULL, &extra);
	net_op(&n, 1, QAT_OP_ACT, &silu, 1, in + 1, NULL, NULL);
	n.g->nodes[2]->attr.act.kind = 99;	/* of a core that knows more */
	net_op(&n, 1, QAT_OP_MUL, NULL, 2, (int64_t[]){ in[1], in[1] }, NULL, NULL);
	for (int i = 0; i < 3; i++) {
		why[0] = '\0';
		ck_assert_int_eq(d.api->supports(d.handle, &n.g->graph, n.g->graph.nodes[i], why,
						 sizeof why), QAT_SUPPORT_NO);
		ck_assert_str_ne(why, "");
	}
	ck_assert_int_eq(d.api->supports(d.handle, &n.g->graph, &reserved, why, sizeof why),
			 QAT_SUPPORT_NO);
	ck_assert_int_eq(d.api->supports(d.handle, &n.g->graph, n.g->graph.nodes[3], why,
					 sizeof why), QAT_SUPPORT_NATIVE);
	net_free(&n);
	qat_device_close(&d);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { accumulates_in_place, fused_loss, loss_stays_apart, codes,
				       weights_change, weight_only, static_ranges, adamw };
	TCase *device = tcase_create("device");

	tcase_add_test(device, opening);
	tcase_add_test(device, memory);
	tcase_add_test(device, unsupported);
	return cpu_run("cpu backend", device, tests, sizeof tests / sizeof *tests);
}
