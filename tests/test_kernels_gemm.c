/* Dense products, our own and oneDNN's, and linear cross entropy, against sums in double. */
#include "test_kernels.h"

typedef struct shape {
	int64_t m, n, k;
	int trans_a, trans_b;
	uint32_t type, type_y;
	int bias, addend;		/* addend: 1 another matrix, 2 y itself */
} shape;

static const shape shapes[] = {
	{ 1, 1, 1, 0, 0, QAT_F32, QAT_F32, 0, 0 },
	{ 3, 5, 7, 0, 1, QAT_F32, QAT_F32, 1, 0 },
	{ 13, 33, 257, 0, 1, QAT_F32, QAT_F32, 1, 1 },
	{ 97, 65, 300, 0, 0, QAT_F32, QAT_F32, 0, 1 },
	{ 64, 31, 600, 1, 0, QAT_F32, QAT_F32, 0, 2 },
	{ 31, 129, 64, 1, 1, QAT_F32, QAT_BF16, 1, 0 },
	{ 130, 260, 100, 0, 1, QAT_BF16, QAT_BF16, 1, 0 },
	{ 40, 50, 513, 1, 0, QAT_BF16, QAT_F32, 0, 2 },
	{ 50, 40, 513, 0, 0, QAT_BF16, QAT_F32, 0, 1 },
	{ 110, 2100, 32, 0, 1, QAT_F32, QAT_F32, 0, 0 },
	{ 9, 1700, 515, 0, 1, QAT_BF16, QAT_F32, 1, 1 },
	{ 40, 97, 1601, 1, 0, QAT_BF16, QAT_BF16, 0, 0 },
	{ 2, 1600, 4100, 0, 0, QAT_BF16, QAT_F32, 0, 2 },
	{ 33, 50, 1024, 0, 1, QAT_BF16, QAT_F32, 0, 0 },
	{ 20, 50, 2048, 0, 0, QAT_BF16, QAT_F32, 0, 0 },
	{ 1068, 50, 70, 1, 0, QAT_BF16, QAT_F32, 0, 0 },
};

typedef struct operands {
	float *a, *b, *c, *bias;
	void *ta, *tb;
} operands;

static operands operands_new(const shape *s)
{
	operands o = { random_floats(s->m * s->k, 1.0f), random_floats(s->k * s->n, 1.0f),
		       random_floats(s->m * s->n, 1.0f), random_floats(s->n, 1.0f), NULL, NULL };

	o.ta = as_type(o.a, s->type, s->m * s->k);
	o.tb = as_type(o.b, s->type, s->k * s->n);
	return o;
}

static void operands_free(operands *o)
{
	free(o->a);
	free(o->b);
	free(o->c);
	free(o->bias);
	free(o->ta);
	free(o->tb);
}

static qat_gemm_args args_of(const shape *s, const operands *o, void *y)
{
	qat_gemm_args g = {
		.m = s->m, .n = s->n, .k = s->k, .a = qat_src_of(o->ta, s->type),
		.b = qat_src_of(o->tb, s->type), .lda = s->trans_a ? s->m : s->k,
		.ldb = s->trans_b ? s->k : s->n, .trans_a = s->trans_a, .trans_b = s->trans_b,
		.bias = s->bias ? o->bias : NULL, .ld_addend = s->n,
		.y = qat_dst_of(y, s->type_y), .ldy = s->n,
	};

	g.addend = s->addend == 2 ? y : s->addend ? o->c : NULL;
	if (s->addend == 2)
		memcpy(y, o->c, (size_t)(s->m * s->n) * 4);
	return g;
}

/* Of large products every 13th element. */
static void check_product(const shape *s, const operands *o, const void *y, const char *what)
{
	const int64_t next = s->m * s->n * s->k < 1 << 26 ? 1 : 13;

	for (int64_t e = 0; e < s->m * s->n; e += next) {
		const int64_t i = e / s->n, j = e % s->n;
		double sum = 0.0, size = 0.0;

		for (int64_t p = 0; p < s->k; p++) {
			const double v = (double)o->a[s->trans_a ? p * s->m + i : i * s->k + p] *
					 o->b[s->trans_b ? j * s->k + p : p * s->n + j];

			sum += v;
			size += fabs(v);
		}
		sum += (s->bias ? o->bias[j] : 0.0) + (s->addend ? o->c[e] : 0.0);
		CHECK_NEAR(what, element(y, s->type_y, e), sum,
			   (double)(s->k + 2) * 0x1p-24 * (size + 3.0) +
			   unit(s->type_y) * fabs(sum));
	}
}

static void own_products(const qat_kernels *kn)
{
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		const shape *s = shapes + i;
		const int64_t bytes = s->m * s->n * qat_dtype_bytes(s->type_y);
		operands o = operands_new(s);
		void *y[2] = { guarded(s->m * s->n * 4), guarded(s->m * s->n * 4) };

		for (int t = 0; t < 2; t++) {
			const qat_gemm_args g = args_of(s, &o, y[t]);
			const int64_t room = kn->gemm->workspace(&g);
			void *work = guarded(room);

			use_threads(t + 1);
			kn->gemm->run(&g, work);
			check_guard(work, (room + 63) / 64 * 64);
			free(work);
		}
		check_product(s, &o, y[0], kn->name);
		MUST(!memcmp(y[0], y[1], (size_t)bytes), "%s shape %zu: threads", kn->name, i);
		free(y[0]);
		free(y[1]);
		operands_free(&o);
	}
}

START_TEST(own_kernels)
{
	each_isa(own_products);
}
END_TEST

/* A row has the same bits whatever stands beside it. */
static void row_alone_of(const qat_kernels *kn, const qat_gemm_kernels *gemm, const shape *all)
{
	operands o = operands_new(all);
	float *y = random_floats(all->m * all->n, 1.0f), *one = random_floats(all->n, 1.0f);
	qat_gemm_args g = args_of(all, &o, y);
	void *work = guarded(gemm->workspace(&g));

	gemm->run(&g, work);
	g.m = 1;
	free(work);
	work = guarded(gemm->workspace(&g));
	for (int64_t i = 0; i < all->m; i++) {
		g.a.data = (const char *)o.ta + i * all->k * qat_dtype_bytes(all->type);
		g.y.data = one;
		gemm->run(&g, work);
		MUST(!memcmp(one, y + i * all->n, (size_t)all->n * 4), "%s: row %d", kn->name,
		     (int)i);
	}
	free(y);
	free(one);
	free(work);
	operands_free(&o);
}

static void row_alone(const qat_kernels *kn)
{
	static const shape any = { 37, 45, 300, 0, 1, QAT_F32, QAT_F32, 1, 0 };
	static const shape pairs[] = {
		{ 37, 45, 300, 0, 1, QAT_BF16, QAT_F32, 1, 0 },
		{ 64, 33, 928, 0, 0, QAT_BF16, QAT_F32, 0, 0 },
	};

	row_alone_of(kn, kn->gemm, &any);
	for (int i = 0; i < 2 && kn->gemm_bf16->run; i++)
		row_alone_of(kn, kn->gemm_bf16, &pairs[i]);
}

START_TEST(rows_do_not_see_each_other)
{
	each_isa(row_alone);
}
END_TEST

/* Operands that are rounded or decoded on the way: the bits of those made before. */
static void made_operands(const qat_kernels *kn)
{
	enum { M = 37, K = 160, N = 70 };
	static const qat_scheme scheme = { .size = sizeof scheme, .grid = QAT_GRID_UNIFORM, .bits = 8,
		.qmin = -127, .qmax = 127, .block_rows = 1, .block_cols = 32 };
	float *a = random_floats(M * K, 1.0f), *scale = random_floats(N * K / 32, 0.1f);
	int8_t codes[N * K];
	uint16_t b[N * K];
	qat_dequantize_args d = { .scheme = &scheme, .rows = N, .cols = K, .codes = codes,
				  .scale = scale, .y = qat_dst_of(b, QAT_BF16) };
	qat_gemm_args g = { .m = M, .n = N, .k = K, .a = qat_src_of(a, QAT_F32), .lda = K,
			    .b = qat_src_of(NULL, QAT_BF16), .ldb = K, .trans_b = 1, .bf16 = 1,
			    .codes_b = &d, .ldy = N };
	float y[2][M * K], *rounded = random_floats(M * K, 1.0f);
	void *work, *typed;

	memcpy(rounded, a, M * K * sizeof *a);
	typed = as_type(rounded, QAT_BF16, M * K);
	for (int i = 0; i < N * K; i++)
		codes[i] = (int8_t)(random_word() % 255 - 127);
	kn->quantize->dequantize(&d);
	for (int turned = 0; turned < 2 && kn->gemm_bf16->run; turned++) {
		/* turned: the rows of codes are those of k */
		g.trans_b = !turned;
		g.n = g.ldy = turned ? K : N;
		g.k = turned ? N : K;
		g.lda = g.k;
		g.a = qat_src_of(a, QAT_F32);
		g.b.data = NULL;
		g.codes_b = &d;
		g.m = 17;
		for (int i = 0; i < 2; i++) {
			g.y = qat_dst_of(y[i], QAT_F32);
			work = guarded(kn->gemm_bf16->workspace(&g));
			kn->gemm_bf16->run(&g, work);
			free(work);
			g.a = qat_src_of(typed, QAT_BF16);
			g.b.data = b;
			g.codes_b = NULL;
		}
		MUST(!memcmp(y[0], y[1], (size_t)(g.m * g.n) * 4), "%s: operands made", kn->name);
	}
	free(a);
	free(scale);
	free(rounded);
	free(typed);
}

START_TEST(operands_made_on_the_way)
{
	each_isa(made_operands);
}
END_TEST

/* ---- products of bf16: every kind of operand, in all ways of storing it ---- */

enum { PAIRS, FLOATS, CODES };		/* bf16; f32 that are rounded; codes that are decoded */

typedef struct operand {
	float *values, *scale;		/* as the product takes them */
	void *data;
	int8_t *codes;
	qat_dequantize_args decode;
} operand;

static const qat_scheme by_rows = { .size = sizeof by_rows, .grid = QAT_GRID_UNIFORM, .bits = 8,
	.qmin = -127, .qmax = 127, .block_rows = 1 };

static operand operand_new(const qat_kernels *kn, int kind, int64_t rows, int64_t cols)
{
	const int64_t n = rows * cols;
	operand o = { .values = random_floats(n, 1.0f), .scale = random_floats(rows, 0.02f),
		      .codes = guarded(n) };

	if (kind == CODES) {
		uint16_t *decoded = guarded(n * 2);

		for (int64_t i = 0; i < n; i++)
			o.codes[i] = (int8_t)(random_word() % 255 - 127);
		o.decode = (qat_dequantize_args){ .scheme = &by_rows, .rows = rows, .cols = cols,
			.codes = o.codes, .scale = o.scale, .y = qat_dst_of(decoded, QAT_BF16) };
		kn->quantize->dequantize(&o.decode);
		for (int64_t i = 0; i < n; i++)
			o.values[i] = qat_bf16_to_f32(decoded[i]);
		free(decoded);
		return o;
	}
	o.data = as_type(o.values, kind == PAIRS ? QAT_BF16 : QAT_F32, n);
	for (int64_t i = 0; i < n; i++)
		o.values[i] = qat_bf16_to_f32(qat_f32_to_bf16(o.values[i]));
	return o;
}

static void operand_free(operand *o)
{
	free(o->values);
	free(o->scale);
	free(o->data);
	free(o->codes);
}

static qat_src source(const operand *o, int kind)
{
	return qat_src_of(o->data, kind == FLOATS ? QAT_F32 : QAT_BF16);
}

/* The same bits with 1, 2 and 3 threads, and no byte behind y or the workspace. */
static void one_of_pairs(const qat_kernels *kn, const shape *s, int kind_a, int kind_b)
{
	operand a = operand_new(kn, kind_a, s->trans_a ? s->k : s->m, s->trans_a ? s->m : s->k);
	operand b = operand_new(kn, kind_b, s->trans_b ? s->n : s->k, s->trans_b ? s->k : s->n);
	operands o = { .a = a.values, .b = b.values, .ta = NULL, .tb = NULL,
		       .c = random_floats(s->m * s->n, 1.0f), .bias = random_floats(s->n, 1.0f) };
	const int64_t bytes = s->m * s->n * qat_dtype_bytes(s->type_y);
	void *y[3];

	for (int t = 0; t < 3; t++) {
		qat_gemm_args g = args_of(s, &o, y[t] = guarded(s->m * s->n * 4));
		int64_t room;
		void *work;

		g.bf16 = 1;
		g.a = source(&a, kind_a);
		g.b = source(&b, kind_b);
		g.codes_a = kind_a == CODES ? &a.decode : NULL;
		g.codes_b = kind_b == CODES ? &b.decode : NULL;
		use_threads(t + 1);
		room = kn->gemm_bf16->workspace(&g);
		work = guarded(room);
		memset(work, 0xff, (size_t)room);	/* NaN, as what it held before may be */
		kn->gemm_bf16->run(&g, work);
		check_guard(work, (room + 63) / 64 * 64);
		check_guard(y[t], (s->m * s->n * 4 + 63) / 64 * 64);
		MUST(!memcmp(y[0], y[t], (size_t)bytes), "%s: %d threads", kn->name, t + 1);
		free(work);
	}
	check_product(s, &o, y[0], kn->name);
	for (int t = 0; t < 3; t++)
		free(y[t]);
	free(o.c);
	free(o.bias);
	operand_free(&a);
	operand_free(&b);
}

/* Every kind in a small product with edges; then several tasks, chunks and steps of k. */
static void products_of_pairs(const qat_kernels *kn)
{
	static const shape large[] = {
		{ 288, 800, 96, 0, 1, 0, QAT_F32, 0, 0 },	/* past the caches */
		{ 288, 416, 800, 0, 0, 0, QAT_BF16, 1, 0 },
		{ 321, 397, 830, 1, 1, 0, QAT_F32, 1, 1 },
		{ 160, 1600, 900, 0, 1, 0, QAT_F32, 1, 0 },
		{ 64, 1600, 2900, 1, 0, 0, QAT_F32, 0, 2 },
		{ 530, 40, 1700, 1, 0, 0, QAT_BF16, 0, 1 },
		{ 64, 1600, 2912, 0, 0, 0, QAT_F32, 0, 1 },
		{ 64, 96, 2048, 0, 1, 0, QAT_F32, 0, 0 },	/* rows that are in the way */
	};
	shape s = { 45, 70, 93, 0, 0, 0, QAT_F32, 1, 0 };

	for (int way = 0; way < 36 && kn->gemm_bf16->run; way++) {
		s.trans_a = way & 1;
		s.trans_b = way >> 1 & 1;
		s.type_y = way % 5 ? QAT_F32 : QAT_BF16;
		s.addend = way % 3;
		if (s.type_y == QAT_BF16)
			s.addend = 0;
		one_of_pairs(kn, &s, way / 4 % 3, way / 12);
	}
	for (size_t i = 0; i < sizeof large / sizeof *large && kn->gemm_bf16->run; i++)
		one_of_pairs(kn, &large[i], i == 4 ? CODES : PAIRS, i % 2 ? FLOATS : PAIRS);
}

START_TEST(all_kinds_of_operands)
{
	each_isa(products_of_pairs);
}
END_TEST

static void dense_products(const qat_kernels *kn)
{
	qat_dense *d;

	ck_assert_int_eq(qat_dense_new(&d, kn), QAT_OK);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		const shape *s = shapes + i;
		const int64_t bytes = s->m * s->n * qat_dtype_bytes(s->type_y);
		operands o = operands_new(s);
		void *y[2] = { guarded(s->m * s->n * 4), guarded(s->m * s->n * 4) };

		for (int t = 0; t < 2; t++) {
			const qat_gemm_args g = args_of(s, &o, y[t]);

			use_threads(t + 1);
			ck_assert_int_eq(qat_dense_matmul(d, &g), QAT_OK);
		}
		check_product(s, &o, y[0], kn->name);
		MUST(!memcmp(y[0], y[1], (size_t)bytes), "%s shape %zu: threads", kn->name, i);
		free(y[0]);
		free(y[1]);
		operands_free(&o);
	}
	qat_dense_free(d);
}

START_TEST(whatever_serves)
{
	each_isa(dense_products);
}
END_TEST

/* Sums so long that a library may part them between threads that have nothing else to do. */
static void long_sums(const qat_kernels *kn)
{
	static const shape longest[] = {
		{ 128, 128, 4096, 1, 0, QAT_F32, QAT_F32, 1, 0 },
		{ 512, 64, 2300, 1, 0, QAT_F32, QAT_F32, 0, 2 },
		{ 192, 192, 3000, 1, 0, QAT_F32, QAT_F32, 0, 1 },
		{ 128, 128, 20100, 0, 1, QAT_F32, QAT_F32, 1, 1 },
		{ 128, 128, 4096, 1, 0, QAT_BF16, QAT_BF16, 0, 0 },
	};
	static const int threads[] = { 1, 2, 4, 16 };
	qat_dense *d;

	ck_assert_int_eq(qat_dense_new(&d, kn), QAT_OK);
	for (size_t i = 0; i < sizeof longest / sizeof *longest; i++) {
		const shape *s = longest + i;
		const int64_t bytes = s->m * s->n * qat_dtype_bytes(s->type_y);
		operands o = operands_new(s);
		void *want = guarded(s->m * s->n * 4), *y = guarded(s->m * s->n * 4);

		for (int t = 0; t < 4; t++) {
			const qat_gemm_args g = args_of(s, &o, t ? y : want);

			use_threads(threads[t]);
			ck_assert_int_eq(qat_dense_matmul(d, &g), QAT_OK);
			MUST(!t || !memcmp(want, y, (size_t)bytes), "%s long sum %zu: %d threads",
			     kn->name, i, threads[t]);
			/* another device: a product is prepared for its threads */
			qat_dense_free(d);
			ck_assert_int_eq(qat_dense_new(&d, kn), QAT_OK);
		}
		check_product(s, &o, want, kn->name);
		free(want);
		free(y);
		operands_free(&o);
	}
	qat_dense_free(d);
}

START_TEST(long_sums_of_any_number_of_threads)
{
	each_isa(long_sums);
}
END_TEST

/* ---- linear cross entropy ---- */

enum { N = 70, C = 24, V = 1100 };

typedef struct ce {
	float *x, *w, *g, *addend;
	int32_t labels[N];
	float nll[N], lse[N], *dx, *dw;
	int32_t argmax[N];
} ce;

static ce *ce_new(void)
{
	ce *c = malloc(sizeof *c);

	ck_assert_ptr_nonnull(c);
	c->x = random_floats(N * C, 1.0f);
	c->w = random_floats(V * C, 0.5f);
	c->g = random_floats(N, 1.0f);
	c->addend = random_floats(V * C, 1.0f);
	c->dx = guarded(N * C * 4);
	c->dw = guarded(V * C * 4);
	for (int i = 0; i < N; i++)
		c->labels[i] = i % 7 ? (int32_t)(random_word() % V) : -100;
	return c;
}

static void ce_free(ce *c)
{
	free(c->x);
	free(c->w);
	free(c->g);
	free(c->addend);
	free(c->dx);
	free(c->dw);
	free(c);
}

/* Probabilities of row r, in double; returns log sum exp. */
static double softmax(const ce *c, int r, double *p)
{
	double sum = 0.0;

	for (int v = 0; v < V; v++) {
		p[v] = 0.0;
		for (int i = 0; i < C; i++)
			p[v] += (double)c->x[r * C + i] * c->w[v * C + i];
		sum += exp(p[v]);
	}
	for (int v = 0; v < V; v++)
		p[v] = exp(p[v]) / sum;
	return log(sum);
}

static void check_ce(const ce *c, const char *what)
{
	static double dw[V * C];
	double p[V];

	for (int i = 0; i < V * C; i++)
		dw[i] = c->addend[i];
	for (int r = 0; r < N; r++) {
		const int32_t label = c->labels[r];
		const double lse = softmax(c, r, p);
		int best = 0;

		for (int v = 0; v < V; v++)
			best = p[v] > p[best] ? v : best;
		ck_assert_int_eq(c->argmax[r], best);
		CHECK_NEAR(what, c->lse[r], lse, 1e-5);
		CHECK_NEAR(what, c->nll[r], label < 0 ? 0.0 : -log(p[label]), 2e-5);
		for (int i = 0; i < C; i++) {
			double dx = 0.0;

			for (int v = 0; v < V && label >= 0; v++) {
				const double d = c->g[r] * (p[v] - (v == label));

				dx += d * c->w[v * C + i];
				dw[v * C + i] += d * c->x[r * C + i];
			}
			CHECK_NEAR(what, c->dx[r * C + i], dx, 1e-5);
		}
	}
	for (int i = 0; i < V * C; i++)
		CHECK_NEAR(what, c->dw[i], dw[i], 1e-5);
}

static void linear_ce(const qat_kernels *kn)
{
	ce *c = ce_new();
	void *work;
	qat_linear_ce_args a = {
		.n = N, .channels = C, .vocabulary = V, .x = qat_src_of(c->x, QAT_F32),
		.w = qat_src_of(c->w, QAT_F32), .labels = c->labels, .nll = c->nll, .lse = c->lse,
		.argmax = c->argmax, .g = c->g, .dx = qat_dst_of(c->dx, QAT_F32), .dw = c->dw,
		.dw_addend = c->addend, .dlogits = QAT_F32,
	};
	qat_dense *d;

	ck_assert_int_eq(qat_dense_new(&d, kn), QAT_OK);
	a.workspace = work = guarded(qat_linear_ce_workspace(d, N, V, QAT_F32));
	ck_assert_int_eq(qat_linear_ce_forward(d, &a), QAT_OK);
	ck_assert_int_eq(qat_linear_ce_grad(d, &a), QAT_OK);
	check_ce(c, kn->name);
	memset(c->dx, 0, N * C * 4);
	memcpy(c->dw, c->addend, V * C * 4);
	a.dw_addend = c->dw;
	ck_assert_int_eq(qat_linear_ce_fused(d, &a), QAT_OK);
	check_ce(c, kn->name);
	qat_dense_free(d);
	free(work);
	ce_free(c);
}

START_TEST(linear_cross_entropy)
{
	each_isa(linear_ce);
}
END_TEST

RUN_TESTS("kernels_gemm", own_kernels, rows_do_not_see_each_other, operands_made_on_the_way,
	  all_kinds_of_operands,
	  whatever_serves, long_sums_of_any_number_of_threads,
	  linear_cross_entropy)
