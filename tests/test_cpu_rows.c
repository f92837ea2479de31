/* test_cpu_rows.c - rows of floats that backend cpu makes only to become codes: the codes,
 * scales, zero points, masks and statistics have the bits that they have where the floats
 * exist. For every instruction set that runs here, with 1 and 2 threads.
 */
#include "cpu_check.h"

/* More rows than threads take at a time, and no multiple of that. */
enum { ROWS = 1031, OUTPUTS = 8 };

typedef struct rows_case {
	const char *name;
	uint32_t op;
	int64_t inputs;			/* of [ROWS, C]; weights [C] make it three */
	uint32_t dtype;
} rows_case;

static const rows_case cases[] = {
	{ "glu", QAT_OP_GLU, 2, QAT_F32 },
	{ "glu of bf16", QAT_OP_GLU, 2, QAT_BF16 },
	{ "act", QAT_OP_ACT, 1, QAT_F32 },
	{ "rms_norm", QAT_OP_RMS_NORM, 1, QAT_F32 },
	{ "layer_norm", QAT_OP_LAYER_NORM, 1, QAT_F32 },
};

#define BY_ROWS(cols, zero_kind, low) \
	{ .size = sizeof(qat_scheme), .numerics = QAT_NUMERICS, .grid = QAT_GRID_UNIFORM, \
	  .bits = 8, .qmin = low, .qmax = 127, .block_rows = 1, .block_cols = cols, \
	  .scale_format = QAT_F32, .zero = zero_kind, \
	  .scale_rule = zero_kind ? QAT_SCALE_MINMAX : QAT_SCALE_ABSMAX, \
	  .divisor = 127 - (zero_kind ? low : 0), .gradient = QAT_GRAD_STE_CLIPPED, .name = "rows" }

static const qat_scheme schemes[] = {
	BY_ROWS(0, QAT_ZERO_NONE, -127), BY_ROWS(32, QAT_ZERO_NONE, -127),
	BY_ROWS(0, QAT_ZERO_INT, -128), BY_ROWS(16, QAT_ZERO_INT, -128),
};
enum { SCHEMES = sizeof schemes / sizeof *schemes, CASES = sizeof cases / sizeof *cases };

typedef struct rows_net {
	net n;
	void *x[2];
	float *w[2];
	int64_t out[OUTPUTS], n_out;	/* kept */
} rows_net;

/* How the floats are read beside the quantize that may take them in. */
enum { ALONE, KEPT, READ_TWICE };

static void *matrix(uint32_t dtype)
{
	float *x = floats(ROWS * C);
	uint16_t *h;

	if (dtype == QAT_F32)
		return x;
	h = malloc(ROWS * C * sizeof *h);
	for (int i = 0; i < ROWS * C; i++)
		h[i] = qat_f32_to_bf16(x[i]);
	free(x);
	return h;
}

static void keep_out(rows_net *t, int64_t v)
{
	if (v != QAT_NONE)
		t->out[t->n_out++] = net_keep(&t->n, v);
}

static int64_t make_rows(rows_net *t, const rows_case *c)
{
	const qat_attr attr[] = {
		{ .act = { .kind = QAT_ACT_SILU } }, { .norm = { .epsilon = 1e-5 } },
	};
	const int is_norm = c->op == QAT_OP_RMS_NORM || c->op == QAT_OP_LAYER_NORM;
	const qat_ir_extra extra = { .dtype = QAT_F32 };
	int64_t in[3], out[4] = { QAT_NONE, QAT_NONE, QAT_NONE, QAT_NONE }, n = 0;

	for (; n < c->inputs; n++) {
		t->x[n] = matrix(c->dtype);
		in[n] = net_value(&t->n, QAT_ROLE_STATE, c->dtype, ROWS, C, t->x[n]);
	}
	for (int i = 0; i < 2; i++) {
		t->w[i] = floats(C);
		if (is_norm && (i == 0 || c->op == QAT_OP_LAYER_NORM))
			in[n++] = net_param(&t->n, QAT_F32, C, 0, t->w[i]);
	}
	net_op(&t->n, 1, c->op, &attr[is_norm], n, in, out, &extra);
	for (int i = 1; is_norm && i < (c->op == QAT_OP_LAYER_NORM ? 3 : 2); i++)
		keep_out(t, out[i]);
	return out[0];
}

static void start(rows_net *t, const rows_case *c, const qat_scheme_set *set, int how)
{
	const qat_attr attr = { .quantize = { .mask = 1 } };
	const qat_ir_extra extra = { .schemes = { set } };
	int64_t y, q[4];

	memset(t, 0, sizeof *t);
	seed = 17;
	net_start(&t->n, 1, ROWS, QAT_F32);
	y = make_rows(t, c);
	net_op(&t->n, 1, QAT_OP_QUANTIZE, &attr, 1, &y, q, &extra);
	for (int i = 0; i < 4; i++)
		keep_out(t, q[i]);
	if (how == KEPT)
		net_keep(&t->n, y);
	if (how == READ_TWICE)
		net_keep(&t->n, net_op(&t->n, 1, QAT_OP_MUL, NULL, 2, (int64_t[]){ y, y }, NULL,
				       NULL));
}

static void stop(rows_net *t)
{
	net_free(&t->n);
	for (int i = 0; i < 2; i++) {
		free(t->x[i]);
		free(t->w[i]);
	}
}

/* Nodes of the kernel that makes the rows. */
static int64_t nodes_together(const rows_net *t)
{
	uint8_t keep[NET_VALUES] = { 0 }, taken[NET_VALUES] = { 0 };
	qat_claim c = { .size = sizeof c };

	for (int64_t i = 0; i < t->n.n_keep; i++)
		keep[t->n.keep[i]] = 1;
	ck_ok(t->n.device.api->claim(t->n.device.handle, &t->n.g->graph, 0, keep, taken, &c));
	return c.n_nodes;
}

static void same_bits(rows_net *a, rows_net *b, const char *name)
{
	ck_assert_int_eq(a->n_out, b->n_out);
	for (int64_t i = 0; i < a->n_out; i++) {
		void *x = net_read(&a->n, a->out[i]), *y = net_read(&b->n, b->out[i]);
		const qat_value *v = a->n.g->graph.values[a->out[i]];

		ck_assert_msg(!memcmp(x, y, (size_t)qat_value_bytes(v)),
			      "%s: output %lld has other bits", name, (long long)i);
		free(x);
		free(y);
	}
}

static void one(const rows_case *c, const qat_scheme *s, int how)
{
	const qat_scheme *const list[] = { s };
	const qat_scheme_set set = { sizeof set, -1, 1, list };
	rows_net a, b;

	start(&a, c, &set, ALONE);
	start(&b, c, &set, how);
	net_run_all(&a.n, "cpu");
	net_run_all(&b.n, "cpu");
	ck_assert_int_eq(nodes_together(&a), 2);
	ck_assert_int_eq(nodes_together(&b), 1);
	same_bits(&a, &b, c->name);
	stop(&a);
	stop(&b);
}

START_TEST(same_as_apart)
{
	if (!use_isa(_i))
		return;
	for (int i = 0; i < CASES; i++)
		for (int k = 0; k < SCHEMES; k++)
			one(&cases[i], &schemes[k], (i + k) % 2 ? KEPT : READ_TWICE);
}
END_TEST

/* Scales that rows share, or that follow from a part of a row, are not made row by row. */
START_TEST(not_by_rows)
{
	qat_scheme s[] = { schemes[0], schemes[0], schemes[0] };

	if (!use_isa(_i))
		return;
	s[0].block_rows = 0;			/* one scale for all */
	s[1].measure = QAT_MEASURE_PERCENTILE;	/* of a part of the row */
	s[1].measure_value = 0.99;
	s[2].scale_rule = QAT_SCALE_TWO_LEVEL;
	s[2].block_cols = 16;
	for (int k = 0; k < 3; k++) {
		const qat_scheme *const list[] = { &s[k] };
		const qat_scheme_set set = { sizeof set, -1, 1, list };
		rows_net t;

		start(&t, &cases[0], &set, ALONE);
		net_run_all(&t.n, "cpu");
		ck_assert_int_eq(nodes_together(&t), 1);
		stop(&t);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { same_as_apart, not_by_rows };

	return cpu_run("cpu rows", NULL, tests, sizeof tests / sizeof *tests);
}
