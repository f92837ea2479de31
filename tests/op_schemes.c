/* op_schemes.c - cases of codes: every quantizer that is there with its default options,
 * the built-in ones with more, and schemes that no built-in quantizer makes.
 */
#include "op_cases.h"

#include <math.h>
#include <stdio.h>

#include "error.h"

#include <qatrun/quantizer.h>

enum { ROOM = 64 };

typedef struct entry {
	char name[64];
	qat_scheme s;
} entry;

typedef struct variant {
	const char *quantizer, *option[3];
	double value[3];
} variant;

enum { NARROW, FULL, SIGNED };
enum { F32, BF16, F16 };
enum { FLOOR, CEIL, EVEN };
enum { MINMAX, PERCENTILE, MSE, EMA };

static const variant variants[] = {
	{ "int8", { "divisor" }, { FULL } },
	{ "int8", { "symmetric" }, { 0 } },
	{ "int8", { "group_size" }, { 32 } },
	{ "int8", { "scale_format" }, { BF16 } },
	{ "int8", { "dynamic" }, { 0 } },
	{ "int8", { "symmetric", "group_size" }, { 0, 8 } },
	{ "int4", { "divisor", "scale_format" }, { FULL, F16 } },
	{ "int4", { "divisor", "scale_format", "group_size" }, { SIGNED, F16, 32 } },
	{ "int4", { "symmetric", "float_zero", "group_size" }, { 0, 1, 32 } },
	{ "int4", { "symmetric", "group_size" }, { 0, 16 } },
	{ "int2", { "divisor" }, { FULL } },
	{ "int3", { "group_size", "scale_format" }, { 8, BF16 } },
	{ "mxfp4", { "scale_rule", "gradient" }, { CEIL, 1 } },
	{ "mxfp4", { "scale_rule", "gradient" }, { EVEN, 1 } },
	{ "mxfp4", { "scale_rule", "gradient" }, { FLOOR, 1 } },
	{ "mxfp6", { "element", "scale_rule", "gradient" }, { 0, EVEN, 1 } },
	{ "mxfp6", { "element", "scale_rule", "gradient" }, { 1, FLOOR, 1 } },
	{ "mxfp8", { "element", "scale_rule", "gradient" }, { 0, CEIL, 1 } },
	{ "mxfp8", { "element", "scale_rule", "gradient" }, { 1, EVEN, 1 } },
	{ "fp8", { "element", "granularity" }, { 1, 1 } },
	{ "fp8", { "scale_format" }, { BF16 } },
	{ "fp8", { "dynamic" }, { 0 } },
	{ "nvfp4", { "gradient" }, { 1 } },
	{ "int8", { "range", "percentile" }, { PERCENTILE, 90 } },
	{ "int4", { "range", "percentile", "symmetric" }, { PERCENTILE, 80, 0 } },
	{ "int4", { "range", "group_size" }, { MSE, 32 } },
	{ "int3", { "range", "symmetric" }, { MSE, 0 } },
	{ "int4", { "range", "divisor", "scale_format" }, { MSE, SIGNED, F16 } },
	{ "int4", { "range", "granularity" }, { MSE, 1 } },
	{ "int8", { "dynamic", "range" }, { 0, MSE } },
	{ "int8", { "dynamic", "range", "ema_rate" }, { 0, EMA, 0.25 } },
	{ "nvfp4", { "dynamic", "range" }, { 0, PERCENTILE } },
	{ "nvfp4", { "dynamic", "gradient" }, { 0, 1 } },
};

static const float quantiles[16] = {
	-1.0f, -0.7f, -0.525f, -0.395f, -0.284f, -0.185f, -0.091f, 0.0f,
	0.08f, 0.161f, 0.246f, 0.338f, 0.441f, 0.563f, 0.723f, 1.0f
};

#define COMMON .size = sizeof(qat_scheme), .numerics = QAT_NUMERICS, \
	.gradient = QAT_GRAD_STE_CLIPPED, .name = "test"

#define ROWS COMMON, .block_rows = 1

static const entry others[] = {
	{ "e2m1 e4m3 scale", { ROWS, .grid = QAT_GRID_FLOAT, .bits = 4, .ebits = 2,
			       .mbits = 1, .emax = 2, .largest = 6, .block_cols = 16,
			       .scale_format = QAT_E4M3, .scale_rule = QAT_SCALE_ABSMAX,
			       .divisor = 6 } },
	{ "table", { ROWS, .grid = QAT_GRID_TABLE, .bits = 4, .table = quantiles,
		     .block_cols = 16, .scale_format = QAT_BF16,
		     .scale_rule = QAT_SCALE_ABSMAX, .divisor = 1 } },
	{ "int8 tensor", { COMMON, .grid = QAT_GRID_UNIFORM, .bits = 8, .qmin = -128,
			   .qmax = 127, .scale_format = QAT_F32,
			   .scale_rule = QAT_SCALE_MINMAX, .zero = QAT_ZERO_INT } },
};

/* ---- gathering ---- */

static int add(entry *out, int n, const qat_instance *i, const qat_site *site, const char *note)
{
	const qat_quantizer *q = i->vtable;
	entry *e = &out[n];

	memset(e, 0, sizeof *e);
	e->s.size = sizeof e->s;
	if (n >= ROOM || q->scheme(i->self, site, 0, &e->s))
		return n;
	snprintf(e->name, sizeof e->name, "%s%s", i->interface->name, note);
	return n + 1;
}

static int add_variant(entry *out, int n, const variant *v, const qat_site *site)
{
	const qat_instance i = kit_instance(QAT_KIND_QUANTIZER, v->quantizer);
	char note[64] = "";

	if (!i.interface)
		return n;
	for (int o = 0; o < 3 && v->option[o]; o++) {
		ck_assert_msg(kit_set(&i, v->option[o], v->value[o]), "%s has no option %s",
			      v->quantizer, v->option[o]);
		snprintf(note + strlen(note), sizeof note - strlen(note), " %.9s=%g",
			 v->option[o], v->value[o]);
	}
	return add(out, n, &i, site, note);
}

static int divides(const qat_scheme *s, const qat_site *site)
{
	return (!s->block_cols || site->cols % s->block_cols == 0) &&
	       (!s->block_rows || site->rows % s->block_rows == 0);
}

/* The schemes that this site can have. */
static int gather(entry *out, const qat_site *site)
{
	const char *names[ROOM];
	const int n_names = kit_names(QAT_KIND_QUANTIZER, names, ROOM);
	int n = 0;

	for (int i = 0; i < n_names; i++) {
		const qat_instance q = kit_instance(QAT_KIND_QUANTIZER, names[i]);

		if (q.interface)
			n = add(out, n, &q, site, "");
	}
	for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
		n = add_variant(out, n, &variants[i], site);
	for (size_t i = 0; i < sizeof others / sizeof *others && n < ROOM; i++)
		if (divides(&others[i].s, site))
			out[n++] = others[i];
	return n;
}

/* ---- codes, made here by numerics.h ---- */

typedef struct coded {
	uint8_t *codes;
	float *scale, *fzero;
	float *second;			/* of the second level: what is given of two */
	int8_t *zero;
	int64_t s, g;			/* blocks */
	int64_t seconds;
} coded;

static void *room(int64_t n, size_t size)
{
	void *p = calloc((size_t)n + 1, size);

	ck_assert_ptr_nonnull(p);
	return p;
}

static void encode_block(coded *k, const qat_scheme *s, const float *x, int64_t rows,
			 int64_t cols, int64_t b)
{
	const int64_t br = rows / k->s, bc = cols / k->g;
	const int64_t first = b / k->g * br * cols + b % k->g * bc;
	qat_block_stats stats;
	float zero;
	int inside;

	qat_stats_init(&stats);
	if (s->scale_rule == QAT_SCALE_TWO_LEVEL)
		stats.second = k->second[b / k->g * br / (rows / k->seconds)];
	for (int64_t i = 0; i < br * bc; i++)
		qat_stats_add(&stats, x[first + i / bc * cols + i % bc]);
	k->scale[b] = qat_block_scale(s, &stats, &zero);
	k->fzero[b] = zero;
	k->zero[b] = s->zero == QAT_ZERO_INT ? (int8_t)zero : 0;
	for (int64_t i = 0; i < br * bc; i++) {
		const int64_t at = first + i / bc * cols + i % bc;

		k->codes[at] = qat_code(s, x[at], k->scale[b], zero, &inside);
	}
}

static void encode_second(coded *k, const qat_scheme *s, const float *x, int64_t n)
{
	const int64_t each = n / k->seconds;

	for (int64_t b = 0; b < k->seconds; b++) {
		qat_block_stats stats;

		qat_stats_init(&stats);
		for (int64_t i = b * each; i < (b + 1) * each; i++)
			qat_stats_add(&stats, x[i]);
		k->second[b] = qat_second_scale(s, stats.amax, stats.bad);
	}
}

static coded encode(const qat_scheme *s, const float *x, int64_t rows, int64_t cols)
{
	coded k = { .s = s->block_rows ? rows / s->block_rows : 1,
		    .g = s->block_cols ? cols / s->block_cols : 1,
		    .seconds = s->second_rows ? rows / s->second_rows : 1 };

	k.second = room(k.seconds, sizeof(float));
	encode_second(&k, s, x, rows * cols);
	k.codes = room(rows * cols, 1);
	k.scale = room(k.s * k.g, sizeof(float));
	k.fzero = room(k.s * k.g, sizeof(float));
	k.zero = room(k.s * k.g, 1);
	for (int64_t b = 0; b < k.s * k.g; b++)
		encode_block(&k, s, x, rows, cols, b);
	return k;
}

static void coded_free(coded *k)
{
	free(k->codes);
	free(k->scale);
	free(k->fzero);
	free(k->second);
	free(k->zero);
}

/* ---- cases ---- */

typedef struct maker {
	op_visit *visit;
	void *context;
	uint64_t seed;
	int64_t number;			/* of the next case */
} maker;

/* Before a case is made, which takes longer than most devices do with it. */
static int chosen(maker *m)
{
	return kit_chosen(m->number++);
}

static uint32_t code_type(const qat_scheme *s)
{
	return s->grid == QAT_GRID_UNIFORM ? QAT_I8 : QAT_U8;
}

static void put(op_case *c, int i, uint32_t dtype, int64_t rows, int64_t cols, const void *data,
		int per_row)
{
	const int64_t bytes = rows * (cols ? cols : 1) * qat_dtype_bytes(dtype);
	op_input *in = &c->in[i];

	*in = (op_input){ .dtype = dtype, .rows = rows, .cols = cols, .per_row = per_row };
	in->data = room(bytes, 1);
	memcpy(in->data, data, (size_t)bytes);
	if (c->n_in <= i)
		c->n_in = i + 1;
}

static float *numbers(maker *m, int64_t n, int kind)
{
	float *x = room(n, sizeof *x);

	kit_numbers(x, n, kind, 1000 + ++m->seed);
	return x;
}

static void put_floats(op_case *c, int i, uint32_t dtype, int64_t rows, int64_t cols,
		       const float *x, int per_row)
{
	const int64_t n = rows * (cols ? cols : 1);
	uint16_t *h = room(n, sizeof *h);

	for (int64_t j = 0; j < n; j++)
		h[j] = qat_f32_to_bf16(x[j]);
	put(c, i, dtype, rows, cols, dtype == QAT_BF16 ? (const void *)h : x, per_row);
	free(h);
}

/* Codes, scale, zero as inputs i, i + 1, i + 2. */
static void put_codes(op_case *c, int i, const qat_scheme *s, const coded *k, int64_t rows,
		      int64_t cols, int tokens)
{
	const int per_row = tokens && s->block_rows == 1;

	put(c, i, code_type(s), rows, cols, k->codes, tokens);
	put(c, i + 1, QAT_F32, k->s, k->g, k->scale, per_row);
	if (s->zero == QAT_ZERO_INT)
		put(c, i + 2, QAT_I8, k->s, k->g, k->zero, per_row);
	if (s->zero == QAT_ZERO_FLOAT)
		put(c, i + 2, QAT_F32, k->s, k->g, k->fzero, per_row);
}

static void finish(maker *m, op_case *c)
{
	m->visit(m->context, c);
	for (int i = 0; i < c->n_in; i++)
		free(c->in[i].data);
}

/* Scales of two levels: rows are one another's where all of them share the second. */
static int by_rows(const qat_scheme *s, uint32_t op)
{
	return op != QAT_OP_QUANTIZE || s->scale_rule != QAT_SCALE_TWO_LEVEL || s->second_rows;
}

static op_case new_case(uint32_t op, const entry *e, int64_t rows, int64_t cols, uint32_t type,
			const char *note)
{
	op_case c = { .op = op, .precision = QAT_F32, .schemes = { &e->s },
		      .batch = rows % 2 ? 1 : 2, .length = rows % 2 ? rows : rows / 2,
		      .by_rows = e->s.block_rows == 1 && by_rows(&e->s, op) };

	snprintf(c.name, sizeof c.name, "%s [%s] %lldx%lld %s %s", qat_op_info(op)->name, e->name,
		 (long long)rows, (long long)cols, type == QAT_BF16 ? "bf16" : "f32", note);
	return c;
}

/* Kinds of x; the last two hold a NaN and an infinity. */
enum { BAD_NAN = 10, BAD_INFINITY = 11 };

static float *spoiled(maker *m, int64_t n, int kind)
{
	float *x = numbers(m, n, kind >= BAD_NAN ? KIT_NORMAL : kind);

	if (kind >= BAD_NAN)
		x[n / 3] = kind == BAD_NAN ? NAN : -INFINITY;
	return x;
}

static void quantize_cases(maker *m, const entry *e, int64_t rows, int64_t cols)
{
	static const int kinds[] = { KIT_NORMAL, KIT_EDGES, BAD_NAN, BAD_INFINITY };

	for (int v = 0; v < 16; v++) {
		if (!chosen(m))
			continue;

		const int kind = kinds[v / 4], mask = v & 1;
		const uint32_t type = v & 2 ? QAT_BF16 : QAT_F32;
		op_case c = new_case(QAT_OP_QUANTIZE, e, rows, cols, type,
				     kind >= BAD_NAN ? "not finite" : kind ? "edges" : "");
		float *x = spoiled(m, rows * cols, kind);

		c.attr.quantize.mask = mask;
		put_floats(&c, 0, type, rows, cols, x, 1);
		free(x);
		finish(m, &c);
	}
}

/* With the scale of other numbers, so that some are clipped. */
static void given_cases(maker *m, const entry *e, int64_t rows, int64_t cols)
{
	for (int v = 0; v < 4; v++) {
		if (!chosen(m))
			continue;

		const int kind = v < 2 ? v : v + 8;
		op_case c = new_case(QAT_OP_QUANTIZE, e, rows, cols, QAT_F32,
				     v > 1 ? "given, not finite" : "given");
		float *y = numbers(m, rows * cols, KIT_NORMAL);
		float *x = spoiled(m, rows * cols, kind);
		coded k = encode(&e->s, y, rows, cols);

		for (int64_t i = 0; i < rows * cols; i++)
			x[i] *= 1.5f;
		c.attr.quantize.mask = 1;
		c.bad = v > 1;
		put_codes(&c, 0, &e->s, &k, rows, cols, 1);
		free(c.in[0].data);
		if (e->s.scale_rule == QAT_SCALE_TWO_LEVEL) {
			free(c.in[1].data);
			put(&c, 1, QAT_F32, k.seconds, 1, k.second, e->s.second_rows == 1);
		}
		put_floats(&c, 0, QAT_F32, rows, cols, x, 1);
		coded_free(&k);
		free(y);
		free(x);
		finish(m, &c);
	}
}

static void decode_cases(maker *m, const entry *e, int64_t rows, int64_t cols)
{
	for (int v = 0; v < 4; v++) {
		if (!chosen(m))
			continue;

		const uint32_t type = v & 1 ? QAT_BF16 : QAT_F32;
		op_case c = new_case(QAT_OP_DEQUANTIZE, e, rows, cols, type, "");
		float *x = spoiled(m, rows * cols, v & 2 ? BAD_NAN : KIT_NORMAL);
		coded k = encode(&e->s, x, rows, cols);

		c.dtype = type;
		put_codes(&c, 0, &e->s, &k, rows, cols, 1);
		coded_free(&k);
		free(x);
		finish(m, &c);
	}
}

static void mask_cases(maker *m, int64_t rows, int64_t cols)
{
	static const entry none = { .name = "", .s = { .block_rows = 1 } };

	for (int v = 0; v < 4; v++) {
		if (!chosen(m))
			continue;

		const uint32_t in = v & 1 ? QAT_BF16 : QAT_F32, out = v & 2 ? QAT_BF16 : QAT_F32;
		op_case c = new_case(QAT_OP_MASK, &none, rows, cols, in, "");
		float *x = numbers(m, rows * cols, KIT_EDGES);
		uint8_t *bits = room(rows * cols, 1);

		c.schemes[0] = NULL;
		c.dtype = out;
		for (int64_t i = 0; i < rows * cols; i++)
			bits[i] = (uint8_t)(i * 2654435761u >> 9);
		put_floats(&c, 0, in, rows, cols, x, 1);
		put(&c, 1, QAT_U8, rows, (cols + 7) / 8, bits, 1);
		free(bits);
		free(x);
		finish(m, &c);
	}
}

static void observe_cases(maker *m, const entry *e, int64_t rows, int64_t cols)
{
	for (int v = 0; v < 3; v++) {
		if (!chosen(m))
			continue;

		op_case c = new_case(QAT_OP_OBSERVE, e, rows, cols, QAT_F32, "");
		float *x = spoiled(m, rows * cols, v == 2 ? BAD_NAN : KIT_NORMAL);
		const int64_t br = qat_range_rows(&e->s), bc = qat_range_cols(&e->s);
		const int64_t n = (br ? rows / br : 1) * (bc ? cols / bc : 1);
		float *range = room(2 * n, sizeof *range);

		for (int64_t i = 0; i < n; i++) {
			range[2 * i] = v ? -2.0f : INFINITY;
			range[2 * i + 1] = v ? 0.5f : -INFINITY;
		}
		c.by_rows = 0;
		put_floats(&c, 0, QAT_F32, rows, cols, x, 1);
		put(&c, 1, QAT_F32, n, 2, range, 0);
		if (qat_measures_part(&e->s)) {
			double *counts = room(n * QAT_COUNTS, sizeof *counts);

			counts[QAT_COUNTS / 3] = v;
			put(&c, 2, QAT_F64, n, QAT_COUNTS, counts, 0);
			free(counts);
		}
		free(range);
		free(x);
		finish(m, &c);
	}
}

/* x NULL: a float matrix. v: bits bias, bf16 output, bf16 matrix, a NaN in the input. */
static void product_case(maker *m, const entry *x, const entry *w, int64_t rows, int64_t n,
			 int64_t k, int v)
{
	const uint32_t out = v & 2 ? QAT_BF16 : QAT_F32, type = v & 4 ? QAT_BF16 : QAT_F32;
	op_case c = new_case(QAT_OP_QMATMUL, w, rows, k, out, x ? x->name : "weight only");
	float *xs = spoiled(m, rows * k, x && v & 8 ? BAD_NAN : KIT_NORMAL);
	float *ws = numbers(m, n * k, KIT_SMALL), *bias = numbers(m, n, KIT_NORMAL);
	coded xk = { 0 }, wk = encode(&w->s, ws, n, k);

	c.schemes[0] = x ? &x->s : NULL;
	c.schemes[1] = &w->s;
	c.dtype = out;
	c.by_rows = !x || x->s.block_rows == 1;
	if (x) {
		xk = encode(&x->s, xs, rows, k);
		put_codes(&c, 0, &x->s, &xk, rows, k, 1);
	} else {
		put_floats(&c, 0, type, rows, k, xs, 1);
	}
	put_codes(&c, 3, &w->s, &wk, n, k, 0);
	if (v & 1)
		put(&c, 6, QAT_F32, n, 0, bias, 0);
	coded_free(&xk);
	coded_free(&wk);
	free(xs);
	free(ws);
	free(bias);
	finish(m, &c);
}

/* Groups of two sides must nest where integers are summed. */
static int nests(const qat_scheme *x, const qat_scheme *w, int64_t k)
{
	const int64_t a = x->block_cols ? x->block_cols : k, b = w->block_cols ? w->block_cols : k;

	return a < b ? b % a == 0 : a % b == 0;
}

static void product_cases(maker *m, int64_t rows, int64_t n, int64_t k)
{
	static entry xs[ROOM + 1], ws[ROOM + 1];
	const qat_site xsite = { .size = sizeof xsite, .port = QAT_PORT_INPUT, .rows = rows,
				 .cols = k, .name = "x" };
	const qat_site wsite = { .size = sizeof wsite, .port = QAT_PORT_WEIGHT, .rows = n,
				 .cols = k, .name = "w" };
	const int n_xs = gather(xs, &xsite), n_ws = gather(ws, &wsite);

	for (int j = 0; j < n_ws; j++) {
		for (int v = 0; v < 8; v++)
			if (chosen(m))
				product_case(m, NULL, &ws[j], rows, n, k, v);
		for (int i = 0; i < n_xs; i++)
			if (nests(&xs[i].s, &ws[j].s, k) && chosen(m))
				product_case(m, &xs[i], &ws[j], rows, n, k,
					     (i + j) % 4 | (j % 5 ? 0 : 8));
	}
}

/* Sums of codes at the grid's end that do not fit 32 bits. */
static void long_product(maker *m)
{
	enum { K = 40000 };
	static const entry full = { "asymmetric", {
		ROWS, .grid = QAT_GRID_UNIFORM, .bits = 8, .qmin = -128, .qmax = 127,
		.scale_format = QAT_F32, .scale_rule = QAT_SCALE_MINMAX,
		.zero = QAT_ZERO_INT } };
	op_case c = new_case(QAT_OP_QMATMUL, &full, 2, K, QAT_F32, "long");
	int8_t *ends = room(3 * K, 1);
	const float scale[3] = { 1.0f, 0.5f, 0.1f };
	const int8_t zero[3] = { -128, -128, -128 };

	memset(ends, 127, 3 * K);
	c.schemes[0] = c.schemes[1] = &full.s;
	put(&c, 0, QAT_I8, 2, K, ends, 1);
	put(&c, 1, QAT_F32, 2, 1, scale, 1);
	put(&c, 2, QAT_I8, 2, 1, zero, 1);
	put(&c, 3, QAT_I8, 3, K, ends, 0);
	put(&c, 4, QAT_F32, 3, 1, scale, 0);
	put(&c, 5, QAT_I8, 3, 1, zero, 0);
	free(ends);
	finish(m, &c);
}

static void code_cases(maker *m, int port, int64_t rows, int64_t cols, int *schemes)
{
	static entry list[ROOM + 1];
	const qat_site site = { .size = sizeof site, .port = port, .rows = rows, .cols = cols,
				.name = "site" };
	const int n = gather(list, &site);

	*schemes = n > *schemes ? n : *schemes;
	for (int i = 0; i < n; i++) {
		quantize_cases(m, &list[i], rows, cols);
		given_cases(m, &list[i], rows, cols);
		decode_cases(m, &list[i], rows, cols);
		observe_cases(m, &list[i], rows, cols);
	}
	mask_cases(m, rows, cols);
}

int op_cases_schemes(op_visit *visit, void *context, int64_t *all)
{
	static const int64_t sizes[][2] = { { 1, 32 }, { 6, 33 }, { 34, 96 }, { 5, 1184 } };
	maker m = { .visit = visit, .context = context };
	int schemes = 0;

	for (int i = 0; i < 4; i++)
		for (int port = QAT_PORT_WEIGHT; port <= QAT_PORT_INPUT; port++)
			code_cases(&m, port, sizes[i][0], sizes[i][1], &schemes);
	product_cases(&m, 1, 5, 32);
	product_cases(&m, 6, 37, 96);
	product_cases(&m, 34, 17, 33);
	product_cases(&m, 2, 67, 1184);
	if (chosen(&m))
		long_product(&m);
	*all = m.number;
	return schemes;
}
