/* Attention and its gradient against plain formulas in double. */
#include "test_kernels.h"

/* Threads share heads of long sequences. */
enum { LONGEST = 537 };

typedef struct sizes {
	int64_t batch, length, heads, kv, d, causal, window, extra;
	uint32_t dtype, out;		/* out 0: as the others */
} sizes;

static const sizes cases[] = {
	{ 1, 1, 1, 1, 1, 1, 0, 0, QAT_F32, 0 },
	{ 2, 37, 2, 1, 8, 1, 0, 0, QAT_F32, 0 },
	{ 1, 100, 3, 3, 20, 1, 0, 5, QAT_F32, 0 },
	{ 1, 70, 4, 2, 64, 1, 9, 0, QAT_F32, 0 },
	{ 2, 33, 2, 2, 13, 0, 0, 3, QAT_F32, 0 },
	{ 1, 65, 2, 1, 32, 1, 0, 0, QAT_BF16, 0 },
	{ 1, 131, 1, 1, 17, 1, 40, 1, QAT_F32, 0 },
	{ 1, 1, 3, 1, 5, 1, 0, 0, QAT_BF16, 0 },
	{ 2, 47, 3, 1, 64, 1, 0, 0, QAT_BF16, 0 },
	{ 1, 131, 6, 2, 17, 1, 40, 3, QAT_BF16, 0 },
	{ 1, 100, 2, 2, 72, 1, 7, 1, QAT_BF16, 0 },
	{ 2, 40, 5, 1, 33, 0, 0, 0, QAT_BF16, 0 },
	{ 1, 53, 4, 2, 16, 0, 11, 5, QAT_BF16, 0 },
	{ 2, 47, 3, 1, 64, 1, 0, 0, QAT_BF16, QAT_F32 },
	{ 1, 131, 6, 2, 17, 1, 40, 3, QAT_BF16, QAT_F32 },
	{ 2, 40, 5, 1, 33, 0, 0, 0, QAT_BF16, QAT_F32 },
	{ 1, LONGEST, 3, 3, 8, 1, 0, 0, QAT_BF16, 0 },
	{ 1, 530, 6, 3, 7, 1, 300, 1, QAT_BF16, 0 },
	{ 3, 512, 2, 1, 5, 0, 0, 0, QAT_BF16, 0 },
};

/* One matrix as the kernel sees it, and its values. */
typedef struct matrix {
	float *value;
	void *typed;
	int64_t ld;
	uint32_t dtype;
} matrix;

typedef struct problem {
	const sizes *s;
	int64_t n;
	matrix q, k, v, out, dout, dq, dk, dv;
	float *lse;
} problem;

static matrix matrix_new(const problem *p, int64_t width, int random, uint32_t dtype)
{
	const int64_t ld = width + p->s->extra;
	matrix m = { random_floats(p->n * ld, random ? 1.0f : 0.0f), NULL, ld, dtype };

	m.typed = as_type(m.value, dtype, p->n * ld);
	return m;
}

static void matrix_free(matrix *m)
{
	free(m->value);
	free(m->typed);
}

static void problem_init(problem *p, const sizes *s)
{
	const int64_t wide = s->heads * s->d, narrow = s->kv * s->d;

	p->s = s;
	p->n = s->batch * s->length;
	p->q = matrix_new(p, wide, 1, s->dtype);
	p->k = matrix_new(p, narrow, 1, s->dtype);
	p->v = matrix_new(p, narrow, 1, s->dtype);
	p->out = matrix_new(p, wide, 0, s->out ? s->out : s->dtype);
	p->dout = matrix_new(p, wide, 1, s->dtype);
	p->dq = matrix_new(p, wide, 0, s->dtype);
	p->dk = matrix_new(p, narrow, 0, s->dtype);
	p->dv = matrix_new(p, narrow, 0, s->dtype);
	p->lse = guarded(p->n * s->heads * 4);
}

static void problem_free(problem *p)
{
	matrix *const all[] = { &p->q, &p->k, &p->v, &p->out, &p->dout, &p->dq, &p->dk, &p->dv };

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		matrix_free(all[i]);
	free(p->lse);
}

static qat_src source(const matrix *m)
{
	return qat_src_of(m->typed, m->dtype);
}

static qat_dst target(const matrix *m)
{
	return qat_dst_of(m->typed, m->dtype);
}

/* Row r and those behind it. */
static qat_src rows_of(const matrix *m, int64_t r)
{
	return qat_src_of((char *)m->typed + r * m->ld * qat_dtype_bytes(m->dtype), m->dtype);
}

/* Nothing is to be read that was not written. */
static void *workspace_new(int64_t bytes)
{
	void *p = guarded(bytes);

	memset(p, 0xff, (size_t)bytes);		/* NaN */
	return p;
}

static void run(const qat_kernels *kn, problem *p)
{
	const sizes *s = p->s;
	qat_attention_args a = {
		.batch = s->batch, .length = s->length, .heads = s->heads, .kv_heads = s->kv,
		.head_dim = s->d, .causal = s->causal, .window = s->window,
		.scale = 1.0 / sqrt((double)s->d), .q = source(&p->q), .k = source(&p->k),
		.v = source(&p->v), .ldq = p->q.ld, .ldk = p->k.ld, .ldv = p->v.ld,
		.out = target(&p->out), .ldo = p->out.ld, .lse = p->lse,
		.dout = source(&p->dout), .dq = target(&p->dq), .dk = target(&p->dk),
		.dv = target(&p->dv),
	};
	int64_t room = kn->attention->workspace(&a);

	a.workspace = workspace_new(room);
	kn->attention->run(&a);
	check_guard(a.workspace, (room + 63) / 64 * 64);
	free(a.workspace);
	room = kn->attention->grad_workspace(&a);
	a.workspace = workspace_new(room);
	kn->attention->grad(&a);
	check_guard(a.workspace, (room + 63) / 64 * 64);
	free(a.workspace);
}

static int seen(const sizes *s, int64_t q, int64_t k)
{
	return (!s->causal || k <= q) && (s->window <= 0 || k > q - s->window);
}

static double dot(const matrix *a, int64_t ra, int64_t ca, const matrix *b, int64_t rb, int64_t cb,
		  int64_t d)
{
	double sum = 0.0;

	for (int64_t i = 0; i < d; i++)
		sum += (double)a->value[ra * a->ld + ca + i] * b->value[rb * b->ld + cb + i];
	return sum;
}

/* Probabilities of a query over all keys of its sequence; returns log sum exp. */
static double probabilities(const problem *p, int64_t b, int64_t t, int64_t h, double *out)
{
	const sizes *s = p->s;
	const int64_t kv = h / (s->heads / s->kv);
	double sum = 0.0;

	for (int64_t k = 0; k < s->length; k++) {
		out[k] = seen(s, t, k) ? exp(dot(&p->q, b * s->length + t, h * s->d, &p->k,
						 b * s->length + k, kv * s->d, s->d) /
					     sqrt((double)s->d)) : 0.0;
		sum += out[k];
	}
	for (int64_t k = 0; k < s->length; k++)
		out[k] /= sum;
	return log(sum);
}

typedef struct wanted {
	double *out, *dq, *dk, *dv;
} wanted;

/* One query: its output, and what it adds to the gradients. */
static void add_query(const problem *p, wanted *w, int64_t b, int64_t t, int64_t h)
{
	const sizes *s = p->s;
	const int64_t kv = h / (s->heads / s->kv), row = b * s->length + t;
	double prob[LONGEST], total = 0.0, dp[LONGEST];

	CHECK_NEAR("lse", p->lse[row * s->heads + h], probabilities(p, b, t, h, prob), 1e-4);
	for (int64_t k = 0; k < s->length; k++) {
		dp[k] = dot(&p->dout, row, h * s->d, &p->v, b * s->length + k, kv * s->d, s->d);
		total += prob[k] * dp[k];
	}
	for (int64_t k = 0; k < s->length; k++) {
		const double ds = prob[k] * (dp[k] - total) / sqrt((double)s->d);
		const int64_t key = b * s->length + k;

		for (int64_t i = 0; i < s->d; i++) {
			const int64_t cq = h * s->d + i, ck = kv * s->d + i;

			w->out[row * p->q.ld + cq] += prob[k] * p->v.value[key * p->v.ld + ck];
			w->dq[row * p->q.ld + cq] += ds * p->k.value[key * p->k.ld + ck];
			w->dk[key * p->k.ld + ck] += ds * p->q.value[row * p->q.ld + cq];
			w->dv[key * p->v.ld + ck] += prob[k] * p->dout.value[row * p->q.ld + cq];
		}
	}
}

static void check_matrix(const char *what, const problem *p, const matrix *m, const double *want)
{
	const double rough = p->s->dtype == QAT_BF16 ? 0.05 : 2e-5;

	for (int64_t i = 0; i < p->n * m->ld; i++)
		CHECK_NEAR(what, element(m->typed, m->dtype, i), want[i],
			   rough * (0.2 + fabs(want[i])));
}

static void check_all(const problem *p)
{
	const sizes *s = p->s;
	const size_t wide = (size_t)(p->n * p->q.ld), narrow = (size_t)(p->n * p->k.ld);
	wanted w = { calloc(wide, 8), calloc(wide, 8), calloc(narrow, 8), calloc(narrow, 8) };

	for (int64_t i = 0; i < p->n * s->heads; i++)
		add_query(p, &w, i / s->heads / s->length, i / s->heads % s->length, i % s->heads);
	check_matrix("out", p, &p->out, w.out);
	check_matrix("dq", p, &p->dq, w.dq);
	check_matrix("dk", p, &p->dk, w.dk);
	check_matrix("dv", p, &p->dv, w.dv);
	free(w.out);
	free(w.dq);
	free(w.dk);
	free(w.dv);
}

static int same(const problem *p, const matrix *x, const matrix *y)
{
	return !memcmp(x->typed, y->typed,
		       (size_t)(p->n * x->ld * qat_dtype_bytes(x->dtype)));
}

static void attention(const qat_kernels *kn)
{
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		problem one, two;

		test_seed = i + 1;
		problem_init(&one, cases + i);
		test_seed = i + 1;
		problem_init(&two, cases + i);
		use_threads(1);
		run(kn, &one);
		use_threads(2);
		run(kn, &two);
		check_all(&one);
		ck_assert(same(&one, &one.out, &two.out));
		ck_assert(same(&one, &one.dq, &two.dq));
		ck_assert(same(&one, &one.dk, &two.dk));
		ck_assert(same(&one, &one.dv, &two.dv));
		problem_free(&one);
		problem_free(&two);
	}
}

/* `count` queries of sequence b from position `at` on, with k and v as a cache. */
static void run_cached(const qat_kernels *kn, const problem *p, int64_t b, int64_t at,
		       int64_t count, void *out, float *lse)
{
	const sizes *s = p->s;
	const int64_t row = b * s->length;
	qat_attention_args a = {
		.batch = 1, .length = count, .heads = s->heads, .kv_heads = s->kv,
		.head_dim = s->d, .causal = 1, .window = s->window,
		.scale = 1.0 / sqrt((double)s->d), .q = rows_of(&p->q, row + at),
		.k = rows_of(&p->k, row), .v = rows_of(&p->v, row),
		.ldq = p->q.ld, .ldk = p->k.ld, .ldv = p->v.ld,
		.out = qat_dst_of(out, p->out.dtype), .ldo = p->out.ld,
		.lse = lse, .cache_rows = s->length, .position = at,
	};
	const int64_t room = kn->attention->workspace(&a);

	a.workspace = workspace_new(room);
	kn->attention->run(&a);
	check_guard(a.workspace, (room + 63) / 64 * 64);
	free(a.workspace);
}

/* Queries one by one, and in pieces: the bits of all at once. */
static void cached(const qat_kernels *kn)
{
	static const int64_t pieces[] = { 1, 2, 7, 48 };

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const sizes *s = &cases[i];
		const int64_t bytes = qat_dtype_bytes(s->out ? s->out : s->dtype);
		problem p;

		if (!s->causal)
			continue;
		test_seed = i + 1;
		problem_init(&p, s);
		run(kn, &p);
		for (int64_t k = 0; k < s->batch * s->length * 4; k++) {
			const int64_t b = k / 4 / s->length, at = k / 4 % s->length;
			const int64_t left = s->length - at;
			const int64_t n = pieces[k % 4] < left ? pieces[k % 4] : left;
			const int64_t from = b * s->length + at, wide = s->heads * s->d * bytes;
			char *out = calloc((size_t)(n * p.out.ld), (size_t)bytes);
			float *lse = calloc((size_t)(n * s->heads), sizeof *lse);

			run_cached(kn, &p, b, at, n, out, lse);
			ck_assert_mem_eq(lse, p.lse + from * s->heads,
					 (size_t)(n * s->heads) * sizeof *lse);
			for (int64_t t = 0; t < n; t++)
				ck_assert_mem_eq(out + t * p.out.ld * bytes, (char *)p.out.typed +
						 (from + t) * p.out.ld * bytes, (size_t)wide);
			free(out);
			free(lse);
		}
		problem_free(&p);
	}
}

START_TEST(bits_with_a_cache)
{
	each_isa(cached);
}
END_TEST

START_TEST(attention_and_its_gradient)
{
	each_isa(attention);
}
END_TEST

RUN_TESTS("kernels_attention", attention_and_its_gradient, bits_with_a_cache)
