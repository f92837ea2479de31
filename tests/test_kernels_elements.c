/* Element by element: activations, norms, rows, the optimizer, against double. */
#include "test_kernels.h"

static const uint32_t types[] = { QAT_F32, QAT_BF16 };

/* ---- activations ---- */

static double gelu_tanh(double x)
{
	return 0.5 * x * (1.0 + tanh(sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

static double gelu_erf(double x)
{
	return 0.5 * x * erfc(-x / sqrt(2.0));
}

static double silu(double x)
{
	return x / (1.0 + exp(-x));
}

static double relu(double x)
{
	return x > 0.0 ? x : 0.0;
}

static double (*const activation[])(double) = { NULL, gelu_tanh, gelu_erf, silu, relu };

static double slope(int kind, double x)
{
	const double h = 1e-5;

	if (kind == QAT_ACT_RELU)
		return x > 0.0;
	return (activation[kind](x + h) - activation[kind](x - h)) / (2.0 * h);
}

static void act_values(const qat_kernels *kn)
{
	enum { N = 40001 };
	float *x = guarded(N * 4), *y = guarded(N * 4);

	for (int i = 0; i < N; i++)
		x[i] = (float)(i - N / 2) * 0.001f;
	for (int kind = 1; kind <= 4; kind++) {
		kn->elementwise->act(qat_dst_of(y, QAT_F32), qat_src_of(x, QAT_F32), kind, N);
		for (int i = 0; i < N; i++) {
			const double want = activation[kind](x[i]);

			/* 1 + tanh cancels: an error of some ulp of 1, times x. */
			CHECK_NEAR(kn->name, y[i], want, 5e-7 * fabs(want) + 3e-7 * fabs(x[i]));
		}
		for (int i = 0; i < 4; i++)
			x[i] = (const float[]){ NAN, INFINITY, 200.0f, 0.0f }[i];
		kn->elementwise->act(qat_dst_of(y, QAT_F32), qat_src_of(x, QAT_F32), kind, 4);
		MUST(y[0] != y[0], "NaN is lost in activation %d", kind);
		MUST(y[1] == INFINITY && y[2] == 200.0f && y[3] == 0.0f, "ends of %d", kind);
		for (int i = 0; i < 4; i++)
			x[i] = (float)(i - N / 2) * 0.001f;
	}
	free(x);
	free(y);
}

static void act_gradients(const qat_kernels *kn)
{
	enum { N = 2051 };
	float *x = random_floats(N, 2.0f), *dy = random_floats(N, 1.0f), *up = random_floats(N, 1.0f);
	float *a = guarded(N * 4), *b = guarded(N * 4);
	const qat_src sx = qat_src_of(x, QAT_F32), sdy = qat_src_of(dy, QAT_F32);
	const qat_src sup = qat_src_of(up, QAT_F32);

	for (int kind = 1; kind <= 4; kind++) {
		kn->elementwise->act_grad(qat_dst_of(a, QAT_F32), sx, sdy, kind, N);
		for (int i = 0; i < N; i++)
			CHECK_NEAR("act_grad", a[i], dy[i] * slope(kind, x[i]), 2e-6 * (1 + fabsf(dy[i])));
		kn->elementwise->glu(qat_dst_of(a, QAT_F32), sx, sup, kind, N);
		for (int i = 0; i < N; i++)
			CHECK_NEAR("glu", a[i], activation[kind](x[i]) * up[i],
				   1e-6 * (1 + fabsf(x[i] * up[i])));
		kn->elementwise->glu_grad(qat_dst_of(a, QAT_F32), qat_dst_of(b, QAT_F32), sx, sup,
					  sdy, kind, N);
		for (int i = 0; i < N; i++) {
			CHECK_NEAR("dgate", a[i], (double)dy[i] * up[i] * slope(kind, x[i]),
				   2e-6 * (1 + fabsf(dy[i] * up[i])));
			CHECK_NEAR("dup", b[i], dy[i] * activation[kind](x[i]),
				   1e-6 * (1 + fabsf(dy[i] * x[i])));
		}
	}
	free(x);
	free(dy);
	free(up);
	free(a);
	free(b);
}

START_TEST(activations)
{
	each_isa(act_values);
	each_isa(act_gradients);
}
END_TEST

/* ---- sums and products, in all types ---- */

static void arithmetic(const qat_kernels *kn)
{
	enum { N = 3001 };

	for (int t = 0; t < 8; t++) {
		const uint32_t ta = types[t & 1], tb = types[t >> 1 & 1], ty = types[t >> 2];
		float *a = random_floats(N, 1.0f), *b = random_floats(N, 1.0f);
		void *xa = as_type(a, ta, N), *xb = as_type(b, tb, N), *y = guarded(N * 4);
		float want;

		for (int op = 0; op < 3; op++) {
			if (op == 0)
				kn->elementwise->add(qat_dst_of(y, ty), qat_src_of(xa, ta),
						     qat_src_of(xb, tb), N);
			else if (op == 1)
				kn->elementwise->mul(qat_dst_of(y, ty), qat_src_of(xa, ta),
						     qat_src_of(xb, tb), N);
			else
				kn->elementwise->scale(qat_dst_of(y, ty), qat_src_of(xa, ta), 0.3f, N);
			for (int i = 0; i < N; i++) {
				want = op == 0 ? a[i] + b[i] : op == 1 ? a[i] * b[i] : 0.3f * a[i];
				if (ty == QAT_BF16)
					want = qat_bf16_to_f32(qat_f32_to_bf16(want));
				MUST(element(y, ty, i) == want, "%s op %d", kn->name, op);
			}
		}
		free(a);
		free(b);
		free(xa);
		free(xb);
		free(y);
	}
}

START_TEST(sums_and_products)
{
	each_isa(arithmetic);
}
END_TEST

static void squares(const qat_kernels *kn)
{
	static const int64_t sizes[] = { 1, 7, 16384, 16385, 5000011 };

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		const int64_t n = sizes[i];
		float *x = guarded(n * 4);
		double want = 0.0, got[2];

		for (int64_t j = 0; j < n; j++) {
			x[j] = (float)(int32_t)random_word() * 0x1p-31f;
			want += (double)x[j] * x[j];
		}
		for (int t = 0; t < 2; t++) {
			use_threads(t + 1);
			got[t] = kn->elementwise->sum_squares(qat_src_of(x, QAT_F32), n);
		}
		CHECK_NEAR("sum_squares", got[0], want, 1e-12 * want);
		MUST(!memcmp(&got[0], &got[1], 8), "%s: threads", kn->name);
		free(x);
	}
}

START_TEST(sum_of_squares)
{
	each_isa(squares);
}
END_TEST

static void adamw(const qat_kernels *kn)
{
	enum { N = 1111 };
	static const float hyper[8] = { 1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.271f, 0.1426f, 0.5f };
	float *p = random_floats(N, 1.0f), *g = random_floats(N, 1.0f), *m = random_floats(N, 0.1f);
	float *v = guarded(N * 4), *p0 = guarded(N * 4), *m0 = guarded(N * 4), *v0 = guarded(N * 4);

	for (int i = 0; i < N; i++)
		v[i] = (float)random_word() * 0x1p-32f;
	memcpy(p0, p, N * 4);
	memcpy(m0, m, N * 4);
	memcpy(v0, v, N * 4);
	kn->elementwise->adamw(p, g, m, v, hyper, N);
	for (int i = 0; i < N; i++) {
		const double gi = 0.5 * g[i], mi = 0.9 * m0[i] + 0.1 * gi;
		const double vi = 0.95 * v0[i] + 0.05 * gi * gi;
		const double pi = p0[i] * (1.0 - 1e-4) - 1e-3 * (mi / 0.271) / (sqrt(vi / 0.1426) + 1e-8);

		CHECK_NEAR("m", m[i], mi, 1e-6);
		CHECK_NEAR("v", v[i], vi, 1e-6);
		CHECK_NEAR("p", p[i], pi, 1e-6 * (1.0 + fabs(pi)));
	}
	free(p);
	free(g);
	free(m);
	free(v);
	free(p0);
	free(m0);
	free(v0);
}

START_TEST(optimizer)
{
	each_isa(adamw);
}
END_TEST

/* ---- norms ---- */

typedef struct norm {
	int64_t rows, c;
	int centered, plus_one;
	uint32_t type;
	float *x, *w, *b, *dy, *res;
	void *tx, *tdy, *y, *dx;
	float *mean, *rstd, *dw, *db;
} norm;

static void norm_init(norm *t, int64_t rows, int64_t c)
{
	t->rows = rows;
	t->c = c;
	t->x = random_floats(rows * c, 2.0f);
	t->w = random_floats(c, 1.0f);
	t->b = random_floats(c, 1.0f);
	t->dy = random_floats(rows * c, 1.0f);
	t->res = random_floats(rows * c, 1.0f);
	t->tx = as_type(t->x, t->type, rows * c);
	t->tdy = as_type(t->dy, t->type, rows * c);
	t->y = guarded(rows * c * 4);
	t->dx = guarded(rows * c * 4);
	t->mean = guarded(rows * 4);
	t->rstd = guarded(rows * 4);
	t->dw = guarded(c * 4);
	t->db = guarded(c * 4);
}

static void norm_free(norm *t)
{
	void *const all[] = { t->x, t->w, t->b, t->dy, t->res, t->tx, t->tdy, t->y, t->dx, t->mean,
			      t->rstd, t->dw, t->db };

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
}

static void norm_run(const qat_kernels *kn, norm *t)
{
	qat_norm_args a = {
		.rows = t->rows, .channels = t->c, .epsilon = 1e-5, .plus_one = t->plus_one,
		.centered = t->centered, .x = qat_src_of(t->tx, t->type),
		.w = qat_src_of(t->w, QAT_F32), .y = qat_dst_of(t->y, t->type),
		.mean = t->centered ? t->mean : NULL, .rstd = t->rstd,
		.dy = qat_src_of(t->tdy, t->type), .residual = qat_src_of(t->res, QAT_F32),
		.dx = qat_dst_of(t->dx, QAT_F32), .dw = t->dw, .db = t->centered ? t->db : NULL,
	};

	if (t->centered)
		a.b = qat_src_of(t->b, QAT_F32);
	kn->norm->run(&a);
	a.workspace = guarded(kn->norm->grad_workspace(t->rows, t->c));
	kn->norm->grad(&a);
	free(a.workspace);
}

static void norm_check(const norm *t)
{
	const int64_t c = t->c;
	double *dw = calloc((size_t)c, 8), *db = calloc((size_t)c, 8);

	for (int64_t r = 0; r < t->rows; r++) {
		const float *x = t->x + r * c, *dy = t->dy + r * c;
		double mean = 0.0, var = 0.0, m1 = 0.0, m2 = 0.0, rstd;

		for (int64_t i = 0; t->centered && i < c; i++)
			mean += x[i] / (double)c;
		for (int64_t i = 0; i < c; i++)
			var += (x[i] - mean) * (x[i] - mean) / (double)c;
		rstd = 1.0 / sqrt(var + 1e-5);
		CHECK_NEAR("rstd", t->rstd[r], rstd, 1e-5 * rstd);
		for (int64_t i = 0; i < c; i++) {
			const double w = t->w[i] + t->plus_one, hat = (x[i] - mean) * rstd;
			const double y = hat * w + (t->centered ? t->b[i] : 0.0);

			CHECK_NEAR("norm", element(t->y, t->type, r * c + i), y,
				   (unit(t->type) + 2e-6) * (1.0 + fabs(y)));
			m1 += t->centered ? w * dy[i] / (double)c : 0.0;
			m2 += w * dy[i] * hat / (double)c;
			dw[i] += dy[i] * hat;
			db[i] += dy[i];
		}
		for (int64_t i = 0; i < c; i++) {
			const double w = t->w[i] + t->plus_one, hat = (x[i] - mean) * rstd;
			const double dx = rstd * (w * dy[i] - m1 - hat * m2) + t->res[r * c + i];

			CHECK_NEAR("dx", ((float *)t->dx)[r * c + i], dx, 1e-5 * (1.0 + fabs(dx) + rstd));
		}
	}
	for (int64_t i = 0; i < c; i++) {
		CHECK_NEAR("dw", t->dw[i], dw[i], 1e-4);
		if (t->centered)
			CHECK_NEAR("db", t->db[i], db[i], 1e-4);
	}
	free(dw);
	free(db);
}

static void norms(const qat_kernels *kn)
{
	static const int64_t sizes[][2] = { { 1, 1 }, { 3, 17 }, { 70, 96 }, { 5, 2500 } };

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		for (int kind = 0; kind < 8; kind++) {
			norm t = { .centered = kind & 1, .plus_one = kind >> 1 & 1,
				   .type = types[kind >> 2] };
			float *first = guarded(sizes[i][1] * 4);

			norm_init(&t, sizes[i][0], sizes[i][1]);
			use_threads(1);
			norm_run(kn, &t);
			memcpy(first, t.dw, (size_t)t.c * 4);
			use_threads(2);
			norm_run(kn, &t);
			MUST(!memcmp(first, t.dw, (size_t)t.c * 4), "%s: threads", kn->name);
			norm_check(&t);
			norm_free(&t);
			free(first);
		}
}

START_TEST(norms_and_their_gradients)
{
	each_isa(norms);
}
END_TEST

/* ---- rows ---- */

static void rope(const qat_kernels *kn)
{
	enum { T = 5, B = 2, H = 3, D = 10, N = T * B * H * D };
	float *x = random_floats(N, 1.0f), *y = guarded(N * 4), *z = guarded(N * 4);
	float cosine[T * D / 2], sine[T * D / 2];

	for (int i = 0; i < T * D / 2; i++) {
		cosine[i] = cosf((float)i);
		sine[i] = sinf((float)i);
	}
	kn->row->rope(qat_dst_of(y, QAT_F32), qat_src_of(x, QAT_F32), cosine, sine, T * B, T, H, D, 0);
	kn->row->rope(qat_dst_of(z, QAT_F32), qat_src_of(y, QAT_F32), cosine, sine, T * B, T, H, D, 1);
	for (int i = 0; i < N; i++) {
		const int t = i / (H * D) % T, p = i % D % (D / 2), low = i % D < D / 2;
		const double c = cosine[t * D / 2 + p], s = sine[t * D / 2 + p];
		const double want = low ? x[i] * c - x[i + D / 2] * s : x[i] * c + x[i - D / 2] * s;

		CHECK_NEAR("rope", y[i], want, 1e-6);
		CHECK_NEAR("rope and back", z[i], x[i], 1e-6);
	}
	free(x);
	free(y);
	free(z);
}

static void embeddings(const qat_kernels *kn)
{
	enum { V = 13, C = 1030, N = 40 };
	float *table = random_floats(V * C, 1.0f), *dy = random_floats(N * C, 1.0f);
	float *y = guarded(N * C * 4), *add = random_floats(V * C, 1.0f), *got = guarded(V * C * 4);
	void *work = guarded(kn->row->embedding_grad_workspace(N, V));
	int32_t ids[N];

	for (int i = 0; i < N; i++)
		ids[i] = (int32_t)(random_word() % V);
	kn->row->embedding(qat_dst_of(y, QAT_F32), qat_src_of(table, QAT_F32), ids, N, C, V);
	for (int i = 0; i < N * C; i++)
		MUST(y[i] == table[ids[i / C] * C + i % C], "embedding");
	kn->row->embedding_grad(got, ids, qat_src_of(dy, QAT_F32), add, N, C, V, work);
	for (int n = 0; n < N; n++)		/* in order of n, to the bit */
		for (int c = 0; c < C; c++)
			add[ids[n] * C + c] += dy[n * C + c];
	MUST(!memcmp(got, add, V * C * 4), "%s: embedding gradient", kn->name);
	ids[3] = V;
	kn->row->embedding(qat_dst_of(y, QAT_F32), qat_src_of(table, QAT_F32), ids, N, C, V);
	MUST(y[3 * C] != y[3 * C], "an id past the table is not NaN");
	free(table);
	free(dy);
	free(y);
	free(add);
	free(got);
	free(work);
}

static void cross_entropy(const qat_kernels *kn)
{
	enum { N = 6, V = 2077 };
	float *x = random_floats(N * V, 3.0f), *d = guarded(N * V * 4), g[N], nll[N], lse[N];
	const int32_t labels[N] = { 0, V - 1, -100, 1024, 1023, 17 };
	int32_t argmax[N];

	for (int r = 0; r < N; r++)
		g[r] = 0.5f + (float)r;
	kn->row->cross_entropy(nll, lse, argmax, x, V, labels, N, V);
	kn->row->cross_entropy_grad(qat_dst_of(d, QAT_F32), V, x, V, labels, lse, g, N, V);
	for (int r = 0; r < N; r++) {
		double sum = 0.0;
		int best = 0;

		for (int v = 0; v < V; v++) {
			sum += exp(x[r * V + v]);
			best = x[r * V + v] > x[r * V + best] ? v : best;
		}
		ck_assert_int_eq(argmax[r], best);
		CHECK_NEAR("lse", lse[r], log(sum), 1e-6 * log(sum));
		CHECK_NEAR("nll", nll[r], labels[r] < 0 ? 0.0 : log(sum) - x[r * V + labels[r]], 1e-5);
		for (int v = 0; v < V; v++)
			CHECK_NEAR("dlogits", d[r * V + v], labels[r] < 0 ? 0.0 :
				   g[r] * (exp(x[r * V + v]) / sum - (v == labels[r])), 2e-5);
	}
	kn->row->cross_entropy_grad(qat_dst_of(x, QAT_F32), V, x, V, labels, lse, g, N, V);
	MUST(!memcmp(x, d, N * V * 4), "%s: in place", kn->name);
	x[V + 5] = NAN;
	kn->row->cross_entropy(nll, lse, argmax, x, V, labels, N, V);
	MUST(nll[1] != nll[1], "NaN is lost");
	free(x);
	free(d);
}

static void columns_and_sums(const qat_kernels *kn)
{
	enum { R = 131, C = 75 };
	float *x = random_floats(R * C, 1.0f), *add = random_floats(C, 1.0f), *y = guarded(R * C * 4);
	float got[2][C];
	void *work = guarded(kn->row->reduce_rows_workspace(R, C));

	for (int part = 0; part < 3; part++)	/* split in three, and concatenate turned round */
		kn->row->copy_columns(qat_dst_of(y, QAT_F32), C, (2 - part) * 25, qat_src_of(x, QAT_F32),
				      C, part * 25, R, 25);
	for (int i = 0; i < R * C; i++)
		MUST(y[i / C * C + (2 - i % C / 25) * 25 + i % 25] == x[i], "columns");
	for (int t = 0; t < 2; t++) {
		use_threads(t + 1);
		kn->row->reduce_rows(got[t], qat_src_of(x, QAT_F32), add, R, C, work);
	}
	MUST(!memcmp(got[0], got[1], sizeof got[0]), "%s: threads", kn->name);
	for (int c = 0; c < C; c++) {
		double want = add[c];

		for (int r = 0; r < R; r++)
			want += x[r * C + c];
		CHECK_NEAR("reduce_rows", got[0][c], want, 1e-5 * (1.0 + fabs(want)));
	}
	free(x);
	free(add);
	free(y);
	free(work);
}

START_TEST(rows)
{
	each_isa(rope);
	each_isa(embeddings);
	each_isa(cross_entropy);
	each_isa(columns_and_sums);
}
END_TEST

RUN_TESTS("kernels_elements", activations, sums_and_products, sum_of_squares, optimizer,
	  norms_and_their_gradients, rows)
