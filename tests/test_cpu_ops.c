/* test_cpu_ops.c - each op of backend cpu once, against loops in double: whether every input
 * and output is bound to what its kernel takes it for. For every instruction set that runs
 * here, with 1 and 2 threads.
 */
#include "cpu_check.h"

/* ---- element by element ---- */

static double activate(double x, int64_t kind)
{
	switch (kind) {
	case QAT_ACT_GELU_TANH:
		return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
	case QAT_ACT_GELU_ERF: return 0.5 * x * (1 + erf(x * M_SQRT1_2));
	case QAT_ACT_SILU:     return x / (1 + exp(-x));
	default:               return x > 0 ? x : 0;
	}
}

static void f_act(double *y, double *const *x, const void *context)
{
	for (int i = 0; i < N * C; i++)
		y[i] = activate(x[0][i], *(const int64_t *)context);
}

static void f_glu(double *y, double *const *x, const void *context)
{
	for (int i = 0; i < N * C; i++)
		y[i] = activate(x[0][i], *(const int64_t *)context) * x[1][i];
}

START_TEST(activations)
{
	if (!use_isa(_i))
		return;
	for (int64_t kind = QAT_ACT_GELU_TANH; kind <= QAT_ACT_RELU; kind++) {
		float *a = floats(N * C), *b = floats(N * C), *dy = floats(N * C);
		const qat_attr attr = { .act = { .kind = kind } };
		function f = { .n = 1, .out = N * C, .f = f_act, .context = &kind };
		int64_t in[3], out[4], v[5];
		float *got[5];
		net n;

		net_start(&n, 1, N, QAT_F32);
		in[0] = net_param(&n, QAT_F32, N, C, a);
		v[0] = net_op(&n, 1, QAT_OP_ACT, &attr, 1, in, NULL, NULL);
		in[1] = net_param(&n, QAT_F32, N, C, dy);
		v[1] = net_op(&n, 2, QAT_OP_ACT_GRAD, &attr, 2, in, NULL, NULL);
		in[1] = net_param(&n, QAT_F32, N, C, b);
		v[2] = net_op(&n, 1, QAT_OP_GLU, &attr, 2, in, NULL, NULL);
		in[2] = net_param(&n, QAT_F32, N, C, dy);
		net_op(&n, 2, QAT_OP_GLU_GRAD, &attr, 3, in, out, NULL);
		v[3] = out[0];
		v[4] = out[1];
		for (int i = 0; i < 5; i++)
			net_keep(&n, v[i]);
		net_run_all(&n, "cpu");
		for (int i = 0; i < 5; i++)
			got[i] = net_read(&n, v[i]);
		take(&f, 0, a, N * C);
		take(&f, 1, b, N * C);
		check_value(&f, got[0], 1e-6, "act");
		f.f = f_glu;
		check_value(&f, got[2], 1e-6, "glu");
		for (int i = 0; i < N * C; i++) {	/* each output has its own inputs */
			const double h = 1e-5, x = a[i];
			const double d = (activate(x + h, kind) - activate(x - h, kind)) / (2 * h);
			const double want[] = { d * dy[i], d * b[i] * dy[i],
						activate(x, kind) * dy[i] };

			close_to(&got[1][i], &want[0], 1, 1e-5, "act_grad");
			close_to(&got[3][i], &want[1], 1, 1e-5, "glu_grad gate");
			close_to(&got[4][i], &want[2], 1, 1e-5, "glu_grad up");
		}
		for (int i = 0; i < 5; i++)
			free(got[i]);
		drop(&f);
		net_free(&n);
		free(a);
		free(b);
		free(dy);
	}
}
END_TEST

START_TEST(elements)
{
	const qat_attr factor = { .scale = { .factor = 0.3 } };
	const qat_attr to_bf16 = { .cast = { .dtype = QAT_BF16 } };
	float *a, *b, *got[3];
	uint16_t *half;
	double *squares, want = 0;
	int64_t in[2], v[5];
	net n;

	if (!use_isa(_i))
		return;
	a = floats(N * C);
	b = floats(N * C);
	net_start(&n, 1, N, QAT_F32);
	in[0] = net_param(&n, QAT_F32, N, C, a);
	in[1] = net_param(&n, QAT_F32, N, C, b);
	v[0] = net_op(&n, 1, QAT_OP_ADD, NULL, 2, in, NULL, NULL);
	v[1] = net_op(&n, 1, QAT_OP_MUL, NULL, 2, in, NULL, NULL);
	v[2] = net_op(&n, 1, QAT_OP_SCALE, &factor, 1, in, NULL, NULL);
	v[3] = net_op(&n, 1, QAT_OP_CAST, &to_bf16, 1, in, NULL, NULL);
	v[4] = net_op(&n, 1, QAT_OP_SUM_SQUARES, NULL, 1, in, NULL, NULL);
	for (int i = 0; i < 5; i++)
		net_keep(&n, v[i]);
	net_run_all(&n, "cpu");
	for (int i = 0; i < 3; i++)
		got[i] = net_read(&n, v[i]);
	half = net_read(&n, v[3]);
	squares = net_read(&n, v[4]);
	for (int i = 0; i < N * C; i++) {
		ck_assert(got[0][i] == a[i] + b[i]);
		ck_assert(got[1][i] == a[i] * b[i]);
		ck_assert(got[2][i] == 0.3f * a[i]);
		ck_assert_int_eq(half[i], qat_f32_to_bf16(a[i]));
		want += (double)a[i] * a[i];
	}
	ck_assert(fabs(*squares - want) <= 1e-12 * want);
	for (int i = 0; i < 3; i++)
		free(got[i]);
	free(half);
	free(squares);
	net_free(&n);
	free(a);
	free(b);
}
END_TEST

/* ---- dense products ---- */

START_TEST(products)
{
	/* y = op(a) op(b) + c, in all ways of storing a and b, with a bias, an addend, none */
	if (!use_isa(_i))
		return;
	for (int way = 0; way < 12; way++) {
		const int ta = way & 1, tb = way >> 1 & 1, add = way >> 2;
		const qat_attr attr = { .matmul = { .trans_a = ta, .trans_b = tb } };
		float *a = floats(N * C), *b = floats(C * V), *c = floats(N * V), *got;
		double *want = calloc(N * V, sizeof *want);
		int64_t in[3], y;
		net n;

		net_start(&n, 1, N, QAT_F32);
		in[0] = net_param(&n, QAT_F32, ta ? C : N, ta ? N : C, a);
		in[1] = net_param(&n, QAT_F32, tb ? V : C, tb ? C : V, b);
		in[2] = add == 0 ? QAT_NONE : net_param(&n, QAT_F32, add == 1 ? V : N,
							add == 1 ? 0 : V, c);
		y = net_keep(&n, net_op(&n, 1, QAT_OP_MATMUL, &attr, 3, in, NULL, NULL));
		net_run_all(&n, "cpu");
		got = net_read(&n, y);
		for (int i = 0; i < N * V; i++) {
			want[i] = add == 1 ? c[i % V] : add == 2 ? c[i] : 0;
			for (int k = 0; k < C; k++)
				want[i] += (double)a[ta ? k * N + i / V : i / V * C + k] *
					   b[tb ? i % V * C + k : k * V + i % V];
		}
		close_to(got, want, N * V, 1e-5, "matmul");
		net_free(&n);
		free(a);
		free(b);
		free(c);
		free(got);
		free(want);
	}
}
END_TEST

/* ---- norms ---- */

typedef struct norm_case { int centered, plus_one; double epsilon; } norm_case;

static void f_norm(double *y, double *const *x, const void *context)
{
	const norm_case *c = context;

	for (int r = 0; r < N; r++) {
		const double *v = x[0] + r * C;
		double mean = 0, square = 0;

		for (int i = 0; i < C && c->centered; i++)
			mean += v[i] / C;
		for (int i = 0; i < C; i++)
			square += (v[i] - mean) * (v[i] - mean) / C;
		for (int i = 0; i < C; i++)
			y[r * C + i] = (v[i] - mean) / sqrt(square + c->epsilon) *
				       (x[1][i] + c->plus_one) + (c->centered ? x[2][i] : 0);
	}
}

static void check_norm(norm_case c, int with_residual)
{
	const qat_attr attr = { .norm = { .epsilon = c.epsilon, .plus_one = c.plus_one } };
	float *x = floats(N * C), *w = floats(C), *b = floats(C), *dy = floats(N * C);
	float *residual = floats(N * C), *got[4] = { NULL };
	function f = { .n = 3, .out = N * C, .f = f_norm, .context = &c };
	int64_t in[6], out[4], grad[4];
	int at;
	net n;

	net_start(&n, 1, N, QAT_F32);
	in[0] = net_param(&n, QAT_F32, N, C, x);
	in[1] = net_param(&n, QAT_F32, C, 0, w);
	in[2] = net_param(&n, QAT_F32, C, 0, b);
	net_op(&n, 1, c.centered ? QAT_OP_LAYER_NORM : QAT_OP_RMS_NORM, &attr,
	       c.centered ? 3 : 2, in, out, NULL);
	in[2] = out[1];
	in[3] = out[2];
	at = c.centered ? 4 : 3;
	in[at] = net_param(&n, QAT_F32, N, C, dy);
	in[at + 1] = with_residual ? net_param(&n, QAT_F32, N, C, residual) : QAT_NONE;
	net_op(&n, 2, c.centered ? QAT_OP_LAYER_NORM_GRAD : QAT_OP_RMS_NORM_GRAD, &attr, at + 2,
	       in, grad, NULL);
	net_keep(&n, out[0]);
	for (int i = 0; i < (c.centered ? 3 : 2); i++)
		net_keep(&n, grad[i]);
	net_run_all(&n, "cpu");
	for (int i = 0; i < n.n_keep; i++)
		got[i] = net_read(&n, n.keep[i]);
	take(&f, 0, x, N * C);
	take(&f, 1, w, C);
	take(&f, 2, b, C);
	check_value(&f, got[0], 1e-5, "norm");
	check_gradient(&f, 0, dy, got[1], with_residual ? residual : NULL, 1e-4, "dx");
	check_gradient(&f, 1, dy, got[2], NULL, 1e-4, "dw");
	if (c.centered)
		check_gradient(&f, 2, dy, got[3], NULL, 1e-4, "db");
	drop(&f);
	net_free(&n);
	free(x);
	free(w);
	free(b);
	free(dy);
	free(residual);
	for (int i = 0; i < 4; i++)
		free(got[i]);
}

START_TEST(norms)
{
	if (!use_isa(_i))
		return;
	check_norm((norm_case){ 1, 0, 1e-5 }, 1);
	check_norm((norm_case){ 1, 0, 1e-2 }, 0);
	check_norm((norm_case){ 0, 0, 1e-6 }, 1);
	check_norm((norm_case){ 0, 1, 1e-6 }, 0);
}
END_TEST

/* ---- attention, rotary positions ---- */

typedef struct heads { int64_t batch, length, heads, kv, d, causal, window; } heads;

static int sees(const heads *c, int64_t query, int64_t key)
{
	return (!c->causal || key <= query) && (!c->window || key > query - c->window);
}

static void f_attention(double *y, double *const *x, const void *context)
{
	const heads *c = context;
	const int64_t hd = c->heads * c->d, kd = c->kv * c->d;

	for (int64_t r = 0; r < c->batch * c->length * c->heads; r++) {
		const int64_t row = r / c->heads, h = r % c->heads, t = row % c->length;
		const int64_t first = row - t, k0 = h / (c->heads / c->kv) * c->d;
		double p[16] = { 0 }, sum = 0, *out = y + row * hd + h * c->d;

		for (int64_t j = 0; j < c->length; j++) {
			for (int64_t i = 0; i < c->d && sees(c, t, j); i++)
				p[j] += 0.4 * x[0][row * hd + h * c->d + i] *
					x[1][(first + j) * kd + k0 + i];
			p[j] = sees(c, t, j) ? exp(p[j]) : 0;
			sum += p[j];
		}
		for (int64_t i = 0; i < c->d; i++) {
			out[i] = 0;
			for (int64_t j = 0; j < c->length; j++)
				out[i] += p[j] / sum * x[2][(first + j) * kd + k0 + i];
		}
	}
}

static uint16_t *halves(float *x, int64_t n)
{
	uint16_t *h = malloc((size_t)n * sizeof *h);

	for (int64_t i = 0; i < n; i++) {
		h[i] = qat_f32_to_bf16(x[i]);
		x[i] = qat_bf16_to_f32(h[i]);
	}
	return h;
}

static float *as_floats(void *data, uint32_t dtype, int64_t n)
{
	float *x = data;

	if (dtype == QAT_BF16) {
		x = malloc((size_t)n * sizeof *x);
		for (int64_t i = 0; i < n; i++)
			x[i] = qat_bf16_to_f32(((uint16_t *)data)[i]);
		free(data);
	}
	return x;
}

/* type: of q, k, v and of the gradients; out: of the result. */
static void check_attention(heads c, uint32_t type, uint32_t out_type)
{
	const qat_attr attr = { .attention = { .heads = c.heads, .kv_heads = c.kv,
			.head_dim = c.d, .causal = c.causal, .window = c.window, .scale = 0.4 } };
	const int64_t rows = c.batch * c.length, width[] = { c.heads * c.d, c.kv * c.d, c.kv * c.d };
	const qat_ir_extra extra = { .dtype = out_type };
	const double loose = type == QAT_BF16 ? 0.03 : 2e-4;
	function f = { .n = 3, .out = rows * width[0], .f = f_attention, .context = &c };
	float *x[3], *dy = floats(rows * width[0]), *got;
	uint16_t *h[3] = { NULL };
	int64_t in[6], out[4], grad[4];
	net n;

	net_start(&n, c.batch, c.length, type);
	for (int i = 0; i < 3; i++) {
		x[i] = floats(rows * width[i]);
		if (type == QAT_BF16)
			h[i] = halves(x[i], rows * width[i]);
		in[i] = net_param(&n, type, rows, width[i], h[i] ? (void *)h[i] : x[i]);
		take(&f, i, x[i], rows * width[i]);
	}
	net_op(&n, 1, QAT_OP_ATTENTION, &attr, 3, in, out, &extra);
	in[3] = out[0];
	in[4] = out[1];
	in[5] = net_param(&n, QAT_F32, rows, width[0], dy);
	net_op(&n, 2, QAT_OP_ATTENTION_GRAD, &attr, 6, in, grad, NULL);
	net_keep(&n, out[0]);
	for (int i = 0; i < 3; i++)
		net_keep(&n, grad[i]);
	net_run_all(&n, "cpu");
	got = as_floats(net_read(&n, out[0]), out_type, f.out);
	/* of bf16, probabilities may be rounded for their product: 2^-9 each, and their sum */
	check_value(&f, got, out_type == QAT_BF16 ? 0.01 : type == QAT_BF16 ? 0x1p-8 : 1e-5,
		    "attention");
	free(got);
	for (int i = 0; i < 3; i++) {
		got = as_floats(net_read(&n, grad[i]), type, rows * width[i]);
		check_gradient(&f, i, dy, got, NULL, loose, "attention gradient");
		free(got);
		free(x[i]);
		free(h[i]);
	}
	drop(&f);
	net_free(&n);
	free(dy);
}

START_TEST(attention)
{
	if (!use_isa(_i))
		return;
	check_attention((heads){ 2, 9, 4, 2, 8, 1, 0 }, QAT_F32, QAT_F32);
	check_attention((heads){ 1, 12, 2, 2, 16, 1, 4 }, QAT_F32, QAT_F32);
	check_attention((heads){ 2, 7, 3, 1, 8, 0, 0 }, QAT_BF16, QAT_BF16);
	check_attention((heads){ 2, 9, 4, 2, 8, 1, 0 }, QAT_BF16, QAT_F32);
}
END_TEST

START_TEST(rotary)
{
	enum { D = 16, HALF = D / 2, T = 6 };
	const qat_attr forth = { .rope = { .head_dim = D } };
	const qat_attr back = { .rope = { .head_dim = D, .inverse = 1 } };
	float *x, *cosine, *sine, *got, *again;
	int64_t in[3], y, z;
	net n;

	if (!use_isa(_i))
		return;
	x = floats(N * C);
	cosine = floats(T * HALF);
	sine = floats(T * HALF);
	for (int i = 0; i < T * HALF; i++) {
		cosine[i] = cosf((float)(i / HALF) * 0.3f * (float)(i % HALF + 1));
		sine[i] = sinf((float)(i / HALF) * 0.3f * (float)(i % HALF + 1));
	}
	net_start(&n, N / T, T, QAT_F32);
	in[0] = net_param(&n, QAT_F32, N, C, x);
	in[1] = net_param(&n, QAT_F32, T, HALF, cosine);
	in[2] = net_param(&n, QAT_F32, T, HALF, sine);
	y = in[0] = net_keep(&n, net_op(&n, 1, QAT_OP_ROPE, &forth, 3, in, NULL, NULL));
	z = net_keep(&n, net_op(&n, 1, QAT_OP_ROPE, &back, 3, in, NULL, NULL));
	net_run_all(&n, "cpu");
	got = net_read(&n, y);
	again = net_read(&n, z);
	for (int i = 0; i < N * C; i++) {
		const int d = i % D, other = d < HALF ? i + HALF : i - HALF;
		const int at = i / C % T * HALF + d % HALF;
		const double want = (double)x[i] * cosine[at] +
				    (d < HALF ? -1.0 : 1.0) * x[other] * sine[at];
		const double same = x[i];

		close_to(&got[i], &want, 1, 1e-6, "rope");
		close_to(&again[i], &same, 1, 1e-6, "rope and back");
	}
	net_free(&n);
	free(x);
	free(cosine);
	free(sine);
	free(got);
	free(again);
}
END_TEST

/* ---- embeddings, columns ---- */

START_TEST(embeddings)
{
	const qat_attr attr = { .embedding = { .rows = V } };
	float *table, *dy, *got, *gradient, *addend;
	double *want;
	int32_t *id;
	int64_t in[3], y, d;
	net n;

	if (!use_isa(_i))
		return;
	table = floats(V * C);
	dy = floats(N * C);
	addend = floats(V * C);
	id = ids(N, V);
	id[1] = id[0];
	want = calloc(V * C, sizeof *want);
	net_start(&n, 1, N, QAT_F32);
	in[0] = net_param(&n, QAT_F32, V, C, table);
	in[1] = net_value(&n, QAT_ROLE_INPUT, QAT_I32, N, 0, id);
	y = net_keep(&n, net_op(&n, 1, QAT_OP_EMBEDDING, NULL, 2, in, NULL, NULL));
	in[0] = in[1];
	in[1] = net_param(&n, QAT_F32, N, C, dy);
	in[2] = net_param(&n, QAT_F32, V, C, addend);
	d = net_keep(&n, net_op(&n, 2, QAT_OP_EMBEDDING_GRAD, &attr, 3, in, NULL, NULL));
	net_run_all(&n, "cpu");
	got = net_read(&n, y);
	gradient = net_read(&n, d);
	for (int i = 0; i < V * C; i++)
		want[i] = addend[i];
	for (int i = 0; i < N * C; i++) {
		ck_assert(got[i] == table[id[i / C] * C + i % C]);
		want[id[i / C] * C + i % C] += dy[i];
	}
	close_to(gradient, want, V * C, 1e-6, "embedding_grad");
	net_free(&n);
	free(table);
	free(dy);
	free(addend);
	free(id);
	free(got);
	free(gradient);
	free(want);
}
END_TEST

START_TEST(columns)
{
	const qat_attr attr = { .split = { .count = 3, .width = { 24, 33, 7 } } };
	float *x, *got, *part;
	int64_t in, out[4], y;
	net n;

	if (!use_isa(_i))
		return;
	x = floats(N * C);
	net_start(&n, 1, N, QAT_F32);
	in = net_param(&n, QAT_F32, N, C, x);
	net_op(&n, 1, QAT_OP_SPLIT, &attr, 1, &in, out, NULL);
	y = net_keep(&n, net_op(&n, 1, QAT_OP_CONCAT, NULL, 3, out, NULL, NULL));
	net_keep(&n, out[1]);
	net_run_all(&n, "cpu");
	got = net_read(&n, y);
	part = net_read(&n, out[1]);
	ck_assert_mem_eq(got, x, N * C * sizeof *x);
	for (int i = 0; i < N * 33; i++)
		ck_assert(part[i] == x[i / 33 * C + 24 + i % 33]);
	net_free(&n);
	free(x);
	free(got);
	free(part);
}
END_TEST

/* ---- the loss ---- */

START_TEST(loss_of_logits)
{
	float *logits, *g, *nll, *d;
	int32_t *label, *argmax;
	loss_case c = { .linear = 0 };
	function f = { .n = 1, .out = N, .f = f_loss, .context = &c };
	int64_t in[4], out[4], y;
	net n;

	if (!use_isa(_i))
		return;
	logits = floats(N * V);
	g = floats(N);
	c.labels = label = ids(N, V);
	label[3] = -100;
	net_start(&n, 1, N, QAT_F32);
	in[0] = net_param(&n, QAT_F32, N, V, logits);
	in[1] = net_value(&n, QAT_ROLE_INPUT, QAT_I32, N, 0, label);
	net_op(&n, 1, QAT_OP_CROSS_ENTROPY, NULL, 2, in, out, NULL);
	in[2] = out[1];
	in[3] = net_value(&n, QAT_ROLE_INPUT, QAT_F32, N, 0, g);
	y = net_keep(&n, net_op(&n, 2, QAT_OP_CROSS_ENTROPY_GRAD, NULL, 4, in, NULL, NULL));
	net_keep(&n, out[0]);
	net_keep(&n, out[2]);
	net_run_all(&n, "cpu");
	nll = net_read(&n, out[0]);
	argmax = net_read(&n, out[2]);
	d = net_read(&n, y);
	take(&f, 0, logits, N * V);
	check_value(&f, nll, 1e-5, "nll");
	check_gradient(&f, 0, g, d, NULL, 1e-5, "dlogits");
	for (int i = 0; i < N * V; i++)
		ck_assert(logits[i] <= logits[i / V * V + argmax[i / V]]);
	drop(&f);
	net_free(&n);
	free(logits);
	free(g);
	free(label);
	free(nll);
	free(argmax);
	free(d);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { activations, elements, products, norms, attention, rotary,
				       embeddings, columns, loss_of_logits };

	return cpu_run("cpu ops", NULL, tests, sizeof tests / sizeof *tests);
}
