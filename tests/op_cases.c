/* op_cases.c - see op_cases.h. Shapes: one row, primes, multiples of nothing, more than a
 * tile; types: all in f32, edges in bf16, and the mixtures that the core makes.
 */
#include "op_cases.h"

#include <stdarg.h>
#include <stdio.h>

#include "error.h"

#include <qatrun/quantizer.h>

typedef struct shape { int64_t batch, length, c; } shape;

static const shape shapes[] = {
	{ 1, 1, 1 }, { 2, 1, 7 }, { 2, 3, 32 }, { 2, 16, 33 }, { 2, 37, 97 }, { 2, 8, 320 },
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* Types of the first input, of the others, of the output. */
typedef struct types { uint32_t first, other, out; } types;

static const types mixtures[] = {
	{ QAT_F32, QAT_F32, QAT_F32 }, { QAT_BF16, QAT_BF16, QAT_BF16 },
	{ QAT_F32, QAT_BF16, QAT_F32 }, { QAT_F32, QAT_F32, QAT_BF16 },
	{ QAT_BF16, QAT_BF16, QAT_F32 }, { QAT_F32, QAT_BF16, QAT_BF16 },
};
enum { MIXTURES = sizeof mixtures / sizeof *mixtures, UNIFORM = 2 };

/* ---- building cases ---- */

static void start(op_case *c, uint32_t op, const shape *s, const types *t, const char *note, ...)
	__attribute__((format(printf, 5, 6)));

static const char *type_name(uint32_t t)
{
	return t == QAT_F32 ? "f32" : t == QAT_BF16 ? "bf16" : t == QAT_F16 ? "f16" : "codes";
}

static void start(op_case *c, uint32_t op, const shape *s, const types *t, const char *note, ...)
{
	char text[96];
	va_list ap;

	va_start(ap, note);
	vsnprintf(text, sizeof text, note, ap);
	va_end(ap);
	*c = (op_case){ .op = op, .precision = t->out, .dtype = t->out, .batch = s->batch,
			.length = s->length, .by_rows = 1 };
	snprintf(c->name, sizeof c->name, "%s %lldx%lldx%lld %s,%s,%s %s", qat_op_info(op)->name,
		 (long long)s->batch, (long long)s->length, (long long)s->c, type_name(t->first),
		 type_name(t->other), type_name(t->out), text);
}

static int64_t elements(const op_input *in)
{
	return in->rows * (in->cols ? in->cols : 1);
}

static void put(op_case *c, int i, uint32_t dtype, int64_t rows, int64_t cols, const void *data,
		int per_row)
{
	op_input *in = &c->in[i];
	int64_t bytes;

	*in = (op_input){ .dtype = dtype, .rows = rows, .cols = cols, .per_row = per_row };
	bytes = elements(in) * qat_dtype_bytes(dtype);
	in->data = malloc((size_t)bytes + 1);
	ck_assert_ptr_nonnull(in->data);
	memcpy(in->data, data, (size_t)bytes);
	if (c->n_in <= i)
		c->n_in = i + 1;
}

static uint64_t seeds;

static void floats(op_case *c, int i, uint32_t dtype, int64_t rows, int64_t cols, int kind,
		   int per_row)
{
	const int64_t n = rows * (cols ? cols : 1);
	float *x = malloc((size_t)n * sizeof *x);

	ck_assert_ptr_nonnull(x);
	kit_numbers(x, n, kind, ++seeds);
	for (int64_t j = 0; dtype != QAT_F32 && j < n; j++)
		((uint16_t *)x)[j] = dtype == QAT_BF16 ? qat_f32_to_bf16(x[j])
						       : qat_f32_to_f16(x[j]);
	put(c, i, dtype, rows, cols, x, per_row);
	free(x);
}

static void ids(op_case *c, int i, int64_t n, int32_t hi, int unscored)
{
	int32_t *x = malloc((size_t)n * sizeof *x);

	ck_assert_ptr_nonnull(x);
	kit_ids(x, n, 0, hi - 1, ++seeds);
	if (unscored)
		x[n / 2] = -100;
	put(c, i, QAT_I32, n, 0, x, 1);
	free(x);
}

static void finish(op_case *c, op_visit *visit, void *context)
{
	visit(context, c);
	for (int i = 0; i < c->n_in; i++)
		free(c->in[i].data);
}

static const char *rows_of(const op_input *in, int64_t from)
{
	return (const char *)in->data + from * (in->cols ? in->cols : 1) *
	       qat_dtype_bytes(in->dtype);
}

void op_case_build(kit *k, const op_case *c, int64_t from, int64_t to)
{
	int64_t in[QAT_MAX_IN];
	qat_ir_extra extra = { .dtype = c->dtype };

	kit_new(k, (to - from) / c->length, c->length, c->precision);
	for (int i = 0; i < 2; i++)
		extra.schemes[i] = c->schemes[i] ? kit_scheme(k, c->schemes[i]) : NULL;
	for (int i = 0; i < c->n_in; i++) {
		const op_input *x = &c->in[i];

		in[i] = !x->dtype ? QAT_NONE
		      : kit_param(k, x->dtype, x->per_row ? to - from : x->rows, x->cols,
				  rows_of(x, x->per_row ? from : 0));
	}
	kit_node(k, c->op, &c->attr, c->n_in, in, NULL, &extra);
}

/* ---- element by element ---- */

static void flat_cases(op_visit *visit, void *context, const shape *s, const types *t)
{
	static const struct { uint32_t op; int n; } ops[] = {
		{ QAT_OP_ADD, 2 }, { QAT_OP_MUL, 2 }, { QAT_OP_SCALE, 1 }, { QAT_OP_ACT, 1 },
		{ QAT_OP_ACT_GRAD, 2 }, { QAT_OP_GLU, 2 }, { QAT_OP_GLU_GRAD, 3 },
	};
	const int64_t rows = s->batch * s->length;

	for (size_t o = 0; o < sizeof ops / sizeof *ops; o++)
		for (int v = 0; v < 5; v++) {
			const int acts = ops[o].op >= QAT_OP_ACT;
			op_case c;

			if (v > (acts ? 4 : 1))
				continue;
			start(&c, ops[o].op, s, t, "variant %d", v);
			if (acts)
				c.attr.act.kind = v ? v : QAT_ACT_SILU;
			else if (ops[o].op == QAT_OP_SCALE)
				c.attr.scale.factor = 0.1;
			for (int i = 0; i < ops[o].n; i++)
				floats(&c, i, i ? t->other : t->first, rows, s->c,
				       v == 0 && !i ? KIT_EDGES : KIT_NORMAL, 1);
			finish(&c, visit, context);
		}
}

static void cast_cases(op_visit *visit, void *context)
{
	static const uint32_t of[] = { QAT_F32, QAT_BF16, QAT_F16 };

	for (int i = 0; i < 9; i++)
		for (int kind = KIT_NORMAL; kind <= KIT_EDGES; kind++) {
			const types t = { of[i / 3], of[i / 3], of[i % 3] };
			op_case c;

			start(&c, QAT_OP_CAST, &shapes[4], &t, "%d", kind);
			c.attr.cast.dtype = t.out;
			floats(&c, 0, t.first, 74, 97, kind, 1);
			finish(&c, visit, context);
		}
}

/* ---- rows ---- */

static void embedding_cases(op_visit *visit, void *context, const shape *s, const types *t)
{
	const int64_t n = s->batch * s->length;
	op_case c;

	start(&c, QAT_OP_EMBEDDING, s, t, "plain");
	floats(&c, 0, t->first, 11, s->c, KIT_NORMAL, 0);
	ids(&c, 1, n, 11, 0);
	finish(&c, visit, context);
	for (int addend = 0; addend < 2 && t->out == QAT_F32; addend++) {
		start(&c, QAT_OP_EMBEDDING_GRAD, s, t, "addend %d", addend);
		c.by_rows = 0;
		c.attr.embedding.rows = 5;
		ids(&c, 0, n, 5, 0);
		floats(&c, 1, t->first, n, s->c, KIT_NORMAL, 1);
		if (addend)
			floats(&c, 2, QAT_F32, 5, s->c, KIT_NORMAL, 0);
		finish(&c, visit, context);
	}
}

static void rope_cases(op_visit *visit, void *context, const shape *s, const types *t)
{
	const int64_t d = s->c % 2 ? 2 * s->c : s->c;

	for (int inverse = 0; inverse < 2; inverse++) {
		op_case c;

		start(&c, QAT_OP_ROPE, s, t, "inverse %d", inverse);
		c.attr.rope.head_dim = d;
		c.attr.rope.inverse = inverse;
		floats(&c, 0, t->first, s->batch * s->length, 3 * d, KIT_NORMAL, 1);
		floats(&c, 1, QAT_F32, s->length + 2, d / 2, KIT_TABLE, 0);
		floats(&c, 2, QAT_F32, s->length + 2, d / 2, KIT_TABLE, 0);
		finish(&c, visit, context);
	}
}

static void column_cases(op_visit *visit, void *context, const shape *s, const types *t)
{
	const int64_t n = s->batch * s->length;
	op_case c;

	start(&c, QAT_OP_SPLIT, s, t, "plain");
	c.dtype = 0;
	c.attr.split.count = 3;
	c.attr.split.width[0] = s->c;
	c.attr.split.width[1] = 1;
	c.attr.split.width[2] = 2 * s->c;
	floats(&c, 0, t->first, n, 3 * s->c + 1, KIT_EDGES, 1);
	finish(&c, visit, context);
	start(&c, QAT_OP_CONCAT, s, t, "plain");
	floats(&c, 0, t->first, n, s->c, KIT_EDGES, 1);
	floats(&c, 1, t->other, n, 1, KIT_EDGES, 1);
	floats(&c, 2, t->other, n, 2 * s->c, KIT_EDGES, 1);
	finish(&c, visit, context);
}

static void sum_cases(op_visit *visit, void *context, const shape *s, const types *t)
{
	const int64_t n = s->batch * s->length;
	op_case c;

	for (int addend = 0; addend < 2; addend++) {
		start(&c, QAT_OP_REDUCE_ROWS, s, t, "addend %d", addend);
		c.by_rows = 0;
		c.dtype = 0;
		floats(&c, 0, t->first, n, s->c, KIT_NORMAL, 1);
		if (addend)
			floats(&c, 1, QAT_F32, s->c, 0, KIT_NORMAL, 0);
		finish(&c, visit, context);
	}
	start(&c, QAT_OP_SUM_SQUARES, s, t, "plain");
	c.by_rows = 0;
	c.dtype = 0;
	floats(&c, 0, t->first, n, s->c, KIT_NORMAL, 1);
	finish(&c, visit, context);
}

static void adamw_cases(op_visit *visit, void *context, const shape *s)
{
	static const float hyper[2][8] = {
		{ 1e-3f, 0.9f, 0.999f, 1e-8f, 0.01f, 0.1f, 1e-3f, 1.0f },
		{ 3e-4f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.5f, 0.3f, 0.37f },
	};

	for (int v = 0; v < 2; v++) {
		op_case c;

		start(&c, QAT_OP_ADAMW, s, &mixtures[0], "hyper %d", v);
		c.by_rows = 0;
		c.dtype = 0;
		for (int i = 0; i < 4; i++)
			floats(&c, i, QAT_F32, s->batch * s->length, s->c,
			       i == 1 || i == 2 ? KIT_SMALL : KIT_NORMAL, 0);
		for (int64_t i = 0; i < elements(&c.in[3]); i++)
			((float *)c.in[3].data)[i] *= ((float *)c.in[3].data)[i];
		put(&c, 4, QAT_F32, 8, 0, hyper[v], 0);
		finish(&c, visit, context);
	}
}

/* Codes of either sign and of all sizes; v: a new parameter's zeros, a unit of no number. */
static void adamw8_cases(op_visit *visit, void *context, const shape *s)
{
	static const float hyper[8] = { 1e-3f, 0.9f, 0.999f, 1e-8f, 0.01f, 0.19f, 2e-3f, 0.7f };
	const int64_t rows = s->batch * s->length, n = rows * s->c;
	const int64_t blocks = (n + QAT_MOMENT_BLOCK - 1) / QAT_MOMENT_BLOCK;

	for (int v = 0; v < 4; v++) {
		int8_t *codes = malloc((size_t)n);
		op_case c;

		ck_assert_ptr_nonnull(codes);
		start(&c, QAT_OP_ADAMW8, s, &mixtures[0], "variant %d", v);
		c.by_rows = 0;
		c.dtype = 0;
		c.attr.update.stream = 5 << 8 | QAT_RANDOM_MOMENT;
		floats(&c, 0, QAT_F32, rows, s->c, KIT_NORMAL, 0);
		floats(&c, 1, QAT_F32, rows, s->c, v == 2 ? KIT_EDGES : KIT_SMALL, 0);
		for (int64_t i = 0; i < n; i++)
			codes[i] = (int8_t)(v == 1 ? 0 : i * i % 255 - 127);
		put(&c, 2, QAT_I8, rows, s->c, codes, 0);
		for (int64_t i = 0; i < n; i++)
			codes[i] = (int8_t)(v == 1 ? 0 : (i * 7 + i / 16) % 256);
		put(&c, 3, QAT_U8, rows, s->c, codes, 0);
		floats(&c, 4, QAT_F32, blocks, 2, KIT_ONES, 0);
		for (int64_t i = 0; i < 2 * blocks; i++)
			((float *)c.in[4].data)[i] *= v == 1 ? 0.0f : 1e-5f;
		if (v == 3)
			((float *)c.in[4].data)[n % 2] = NAN;
		put(&c, 5, QAT_F32, 8, 0, hyper, 0);
		free(codes);
		finish(&c, visit, context);
	}
}

/* ---- norms ---- */

static void norm_cases(op_visit *visit, void *context, const shape *s, const types *t, int v)
{
	const int layer = v & 1, plus_one = v >> 1 & 1, bias = layer && !(v >> 2);
	const int64_t n = s->batch * s->length;
	op_case c;

	start(&c, layer ? QAT_OP_LAYER_NORM : QAT_OP_RMS_NORM, s, t, "variant %d", v);
	c.attr.norm.epsilon = 1e-5;
	c.attr.norm.plus_one = plus_one;
	floats(&c, 0, t->first, n, s->c, KIT_NORMAL, 1);
	floats(&c, 1, QAT_F32, s->c, 0, KIT_ONES, 0);
	if (bias)
		floats(&c, 2, QAT_F32, s->c, 0, KIT_NORMAL, 0);
	finish(&c, visit, context);
	start(&c, layer ? QAT_OP_LAYER_NORM_GRAD : QAT_OP_RMS_NORM_GRAD, s, t, "variant %d", v);
	c.by_rows = 0;
	c.attr.norm.epsilon = 1e-5;
	c.attr.norm.plus_one = plus_one;
	floats(&c, 0, t->first, n, s->c, KIT_NORMAL, 1);
	floats(&c, 1, QAT_F32, s->c, 0, KIT_ONES, 0);
	if (layer)
		floats(&c, 2, QAT_F32, n, 0, KIT_SMALL, 1);
	floats(&c, 2 + layer, QAT_F32, n, 0, KIT_ONES, 1);
	floats(&c, 3 + layer, t->other, n, s->c, KIT_NORMAL, 1);
	if (v >> 2)
		floats(&c, 4 + layer, QAT_F32, n, s->c, KIT_NORMAL, 1);
	finish(&c, visit, context);
}

/* ---- products ---- */

/* v: bits trans_a, trans_b; 0 nothing, 1 bias, 2 addend to be added. */
static void matmul_cases(op_visit *visit, void *context, const shape *s, const types *t, int v)
{
	const int ta = v & 1, tb = v >> 1 & 1, add = v >> 2;
	const int64_t m = s->batch * s->length, k = s->c, n = s->c % 5 * 20 + 3;
	op_case c;

	start(&c, QAT_OP_MATMUL, s, t, "variant %d", v);
	c.attr.matmul.trans_a = ta;
	c.attr.matmul.trans_b = tb;
	c.by_rows = !ta;
	floats(&c, 0, t->first, ta ? k : m, ta ? m : k, KIT_NORMAL, !ta);
	floats(&c, 1, t->first, tb ? n : k, tb ? k : n, KIT_NORMAL, 0);
	if (add == 1)
		floats(&c, 2, QAT_F32, n, 0, KIT_NORMAL, 0);
	if (add == 2)
		floats(&c, 2, QAT_F32, m, n, KIT_NORMAL, 1);
	finish(&c, visit, context);
}

static void attention_case(op_case *c, uint32_t op, const shape *s, const types *t, int v)
{
	const int64_t heads = v & 1 ? 4 : 3, kv = v & 1 ? 2 : 3, d = s->c < 64 ? s->c : 64;
	const int64_t n = s->batch * s->length;

	start(c, op, s, t, "variant %d", v);
	c->dtype = 0;
	c->attr.attention.heads = heads;
	c->attr.attention.kv_heads = kv;
	c->attr.attention.head_dim = d;
	c->attr.attention.causal = !(v >> 1 & 1);
	c->attr.attention.window = v >> 2 ? 5 : 0;
	c->attr.attention.scale = 0.25;
	floats(c, 0, t->first, n, heads * d, KIT_SMALL, 1);
	floats(c, 1, t->first, n, kv * d, KIT_NORMAL, 1);
	floats(c, 2, t->first, n, kv * d, KIT_NORMAL, 1);
}

/* out and lse need only be possible, not those of q, k, v: lse is large enough. */
static void attention_cases(op_visit *visit, void *context, const shape *s, const types *t,
			    int v)
{
	const int64_t n = s->batch * s->length;
	int64_t heads;
	op_case c;

	attention_case(&c, QAT_OP_ATTENTION, s, t, v);
	finish(&c, visit, context);
	attention_case(&c, QAT_OP_ATTENTION_GRAD, s, t, v);
	heads = c.attr.attention.heads;
	floats(&c, 3, t->first, n, c.in[0].cols, KIT_SMALL, 1);
	floats(&c, 4, QAT_F32, n, heads, KIT_ONES, 1);
	for (int64_t i = 0; i < n * heads; i++)
		((float *)c.in[4].data)[i] += 4.0f;
	floats(&c, 5, t->first, n, c.in[0].cols, KIT_NORMAL, 1);
	finish(&c, visit, context);
}

static void loss_cases(op_visit *visit, void *context, const shape *s, const types *t)
{
	const int64_t n = s->batch * s->length, v = s->c + 30;
	op_case c;

	for (int linear = 0; linear < 2; linear++) {
		start(&c, linear ? QAT_OP_LINEAR_CROSS_ENTROPY : QAT_OP_CROSS_ENTROPY, s, t,
		      "plain");
		c.dtype = 0;
		floats(&c, 0, linear ? t->first : QAT_F32, n, linear ? s->c : v, KIT_NORMAL, 1);
		if (linear)
			floats(&c, 1, t->first, v, s->c, KIT_SMALL, 0);
		ids(&c, 1 + linear, n, (int32_t)v, n > 2);
		finish(&c, visit, context);
	}
	start(&c, QAT_OP_CROSS_ENTROPY_GRAD, s, t, "plain");
	floats(&c, 0, QAT_F32, n, v, KIT_NORMAL, 1);
	ids(&c, 1, n, (int32_t)v, n > 2);
	floats(&c, 2, QAT_F32, n, 0, KIT_ONES, 1);
	for (int64_t i = 0; i < n; i++)
		((float *)c.in[2].data)[i] += 3.0f;
	floats(&c, 3, QAT_F32, n, 0, KIT_ONES, 1);
	finish(&c, visit, context);
	for (int addend = 0; addend < 2; addend++) {
		start(&c, QAT_OP_LINEAR_CROSS_ENTROPY_GRAD, s, t, "addend %d", addend);
		c.by_rows = 0;
		floats(&c, 0, t->first, n, s->c, KIT_NORMAL, 1);
		floats(&c, 1, t->first, v, s->c, KIT_SMALL, 0);
		ids(&c, 2, n, (int32_t)v, n > 2);
		floats(&c, 3, QAT_F32, n, 0, KIT_ONES, 1);
		for (int64_t i = 0; i < n; i++)
			((float *)c.in[3].data)[i] += 3.0f;
		floats(&c, 4, QAT_F32, n, 0, KIT_ONES, 1);
		if (addend)
			floats(&c, 5, QAT_F32, v, s->c, KIT_NORMAL, 0);
		finish(&c, visit, context);
	}
}

/* v: bits side, addend, one scale for all, odd bits. */
static void gradient_cases(op_visit *visit, void *context, const shape *s, const types *t, int v)
{
	static const qat_scheme schemes[2] = {
		{ .size = sizeof *schemes, .numerics = QAT_NUMERICS, .grid = QAT_GRID_UNIFORM,
		  .bits = 8, .qmin = -127, .qmax = 127, .block_rows = 1, .name = "row",
		  .scale_format = QAT_F32, .scale_rule = QAT_SCALE_ABSMAX, .divisor = 127 },
		{ .size = sizeof *schemes, .numerics = QAT_NUMERICS, .grid = QAT_GRID_UNIFORM,
		  .bits = 8, .qmin = -128, .qmax = 127, .name = "tensor",
		  .scale_format = QAT_F32, .scale_rule = QAT_SCALE_ABSMAX, .divisor = 127 },
	};
	const int side = v & 1, tensor = v >> 2 & 1;
	const int64_t n = s->batch * s->length, k = s->c % 5 * 20 + 3, rows = side ? n : s->c;
	int8_t *codes = malloc((size_t)(rows * k));
	op_case c;

	ck_assert_ptr_nonnull(codes);
	for (int64_t i = 0; i < rows * k; i++)
		codes[i] = (int8_t)(i * i % 251 - 125);
	codes[0] = -128;
	start(&c, QAT_OP_QMATMUL_GRAD, s, t, "variant %d", v);
	c.by_rows = 0;			/* a row's random numbers go by its place in the run */
	c.dtype = side ? QAT_F32 : t->out;
	c.attr.qmatmul_grad.side = side;
	c.attr.qmatmul_grad.bits = v >> 3 ? 5 : 8;
	c.attr.qmatmul_grad.stream = 3 << 8 | QAT_RANDOM_GRADIENT;
	c.schemes[0] = &schemes[tensor];
	floats(&c, 0, t->first, n, s->c, v >> 3 ? KIT_EDGES : KIT_SMALL, 1);
	put(&c, 1, QAT_I8, rows, k, codes, side);
	floats(&c, 2, QAT_F32, tensor ? 1 : rows, 1, KIT_ONES, 0);
	if (v >> 1 & 1 && c.dtype == QAT_F32)
		floats(&c, 3, QAT_F32, side ? s->c : n, k, KIT_NORMAL, 0);
	free(codes);
	finish(&c, visit, context);
}

static void of_shape(op_visit *visit, void *context, const shape *s)
{
	for (int i = 0; i < MIXTURES; i++) {
		const types *t = &mixtures[i];

		flat_cases(visit, context, s, t);
		embedding_cases(visit, context, s, t);
		rope_cases(visit, context, s, t);
		column_cases(visit, context, s, t);
		for (int v = 0; t->first == t->other && v < 16; v++)
			gradient_cases(visit, context, s, t, v);
		if (t->first == t->other)
			for (int v = 0; v < 12; v++)
				matmul_cases(visit, context, s, t, v);
		for (int v = 0; v < 8; v++)
			norm_cases(visit, context, s, t, v);
	}
	for (int i = 0; i < UNIFORM; i++) {
		sum_cases(visit, context, s, &mixtures[i]);
		for (int v = 0; v < 8; v++)
			attention_cases(visit, context, s, &mixtures[i], v);
		loss_cases(visit, context, s, &mixtures[i]);
	}
	adamw_cases(visit, context, s);
	adamw8_cases(visit, context, s);
}

void op_cases_each(op_visit *visit, void *context)
{
	seeds = 0;
	for (int i = 0; i < SHAPES; i++)
		of_shape(visit, context, &shapes[i]);
	cast_cases(visit, context);
}
