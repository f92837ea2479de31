/* test_adamw8.c - AdamW with moments in 8 bits: what codes stand for, and that drawing them
 * keeps the mean; backend cpu has the reference's bits with every instruction set and any
 * number of threads; what a NaN does; that it goes where f32 moments go; and what a model's
 * graph keeps of each parameter.
 */
#include "graph_kit.h"

#include <math.h>
#include <stdio.h>

#include "error.h"
#include "op_cases.h"

static const char *const isas[] = { "baseline", "avx2", "avx512", "amx" };
enum { ISAS = sizeof isas / sizeof *isas };

static qat_device reference, cpu;

/* ---- codes ---- */

/* The mean of what is drawn for x, over all 2^16 draws; *least, *most: what comes out. */
static double drawn(float x, float unit, int second, double *least, double *most)
{
	double sum = 0.0;

	*least = INFINITY;
	*most = -INFINITY;
	for (uint32_t bits = 0; bits < 65536; bits++) {
		/* the other half of the word must not matter */
		const uint32_t word = second ? bits << 16 | (bits * 7 & 0xffff)
					     : bits | bits * 13 << 16;
		const double y = second ? qat_second_moment(qat_second_code(x, unit, word), unit)
					: qat_first_moment(qat_first_code(x, unit, word), unit);

		sum += y;
		*least = fmin(*least, y);
		*most = fmax(*most, y);
	}
	return sum / 65536;
}

static int root_code(double x)
{
	return (int)floor(sqrt(x));
}

/* x of 0 .. 1 of the block's top: the codes below and above are the only ones, and the mean
 * is x to a few roundings and the width of a draw. */
static void check_mean(double part, float top, int second)
{
	const float x = (float)((second ? part * part : part) * (second ? (double)top * top : top));
	const float unit = qat_moment_unit(top, 0, second ? QAT_SECOND_TOP : QAT_FIRST_TOP);
	const int code = root_code(part * (second ? 65025 : 16129));
	const double slack = 1e-5 * (second ? fmax(x, qat_second_moment(1, unit)) : (double)x);
	double low, high, least, most;
	const double mean = drawn(x, unit, second, &least, &most);

	low = second ? qat_second_moment(code < 1 ? 1 : code, unit) : qat_first_moment(code, unit);
	high = second ? qat_second_moment(code + 1, unit) : qat_first_moment(code + 1, unit);
	ck_assert_msg(least >= low - slack && most <= high + slack, "%g of %g: %g .. %g, not %g .. %g",
		      (double)x, (double)top, least, most, low, high);
	if (second && code < 1)		/* rounded up: never 0 */
		ck_assert_double_gt(least, 0.0);
	else
		ck_assert_msg(fabs(mean - x) <= slack + (high - low) / 65536, "%g of %g: the mean is %g",
			      (double)x, (double)top, mean);
}

START_TEST(means)
{
	static const float tops[] = { 1e-25f, 3e-9f, 0.37f, 1.0f, 8e15f };

	for (int second = 0; second < 2; second++)
		for (size_t k = 0; k < sizeof tops / sizeof *tops; k++)
			for (int i = 0; i < 40; i++) {
				if (second && (tops[k] < 1e-15f))
					continue;	/* v would be below what f32 holds well */
				check_mean(pow(0.62, i) * 0.9931, tops[k], second);
			}
	/* what is a code already stays it, and the top is the top */
	for (int c = 0; c <= QAT_SECOND_TOP; c++) {
		double least, most;

		drawn(qat_second_moment(c, 0.25f), 0.25f, 1, &least, &most);
		ck_assert(least == most && least == qat_second_moment(c, 0.25f));
		if (c > QAT_FIRST_TOP)
			continue;
		drawn(qat_first_moment(-c, 0.25f), 0.25f, 0, &least, &most);
		ck_assert(least == most && least == qat_first_moment(-c, 0.25f));
	}
}
END_TEST

START_TEST(edges)
{
	const float bad = qat_moment_unit(1.0f, 1, QAT_FIRST_TOP);

	ck_assert(qat_moment_unit(0.0f, 0, QAT_FIRST_TOP) == 0.0f);
	ck_assert(qat_moment_unit(1e-31f, 0, QAT_SECOND_TOP) == 0.0f);
	ck_assert(isnan(bad));
	ck_assert(isnan(qat_first_moment(0, bad)) && isnan(qat_second_moment(0, bad)));
	ck_assert_int_eq(qat_first_code(1e-31f, 0.0f, 0), 0);
	ck_assert_int_eq(qat_second_code(1.0f, bad, 0), 0);
	for (uint32_t w = 0; w < 65536; w += 5) {
		const float top = 1.1754944e-30f * (float)(w + 1), most = 3.4e38f;

		ck_assert_int_eq(qat_first_code(-top, qat_moment_unit(top, 0, QAT_FIRST_TOP), w),
				 -QAT_FIRST_TOP);
		ck_assert_int_eq(qat_first_code(most, qat_moment_unit(most, 0, QAT_FIRST_TOP), w),
				 QAT_FIRST_TOP);
		/* two roots and a quotient are rounded: one code less, now and then */
		ck_assert_int_ge(qat_second_code(most, qat_moment_unit(sqrtf(most), 0,
								       QAT_SECOND_TOP), w << 16),
				 QAT_SECOND_TOP - (w > 65000));
	}
}
END_TEST

/* ---- every case of the op ---- */

static int64_t seen;

static void compare(void *context, const op_case *c)
{
	const qat_runtime rt = { .size = sizeof rt, .seed = 0x123456789abcdefu, .step = 41,
				 .bad_node = QAT_NONE };
	kit_result want, got;
	kit k;

	(void)context;
	if (c->op != QAT_OP_ADAMW8 || !kit_chosen(seen++))
		return;
	op_case_build(&k, c, 0, c->batch * c->length);
	kit_run(&want, &k, &reference, &rt);
	kit_run(&got, &k, &cpu, &rt);
	ck_assert_msg(!want.rc && !got.rc, "%s: %s, %s", c->name, want.error, got.error);
	ck_assert_msg(kit_same_outputs(&k, &want, &got), "%s: other bits", c->name);
	kit_result_free(&want);
	kit_result_free(&got);
	kit_free(&k);
}

START_TEST(exact)
{
	setenv("QATRUN_CPU_ISA", isas[_i / 2], 1);
	if (!kit_open(&cpu, "cpu", 1 + _i % 2)) {
		fprintf(stderr, "%s: left out\n", isas[_i / 2]);
		return;
	}
	ck_assert(kit_open(&reference, "reference", 1));
	seen = 0;
	op_cases_each(compare, NULL);
	ck_assert_int_gt(seen, 0);
	qat_device_close(&cpu);
	qat_device_close(&reference);
}
END_TEST

/* ---- one parameter, step after step ---- */

enum { N = 5 * QAT_MOMENT_BLOCK + 77, BLOCKS = 6 };

typedef struct run {
	float p[N], g[N], m[N], v[N], unit[2 * BLOCKS], hyper[8];
	int8_t first[N];
	uint8_t second[N];
} run;

static void fill_hyper(float h[8], double lr, int64_t step)
{
	const float values[8] = { (float)lr, 0.9f, 0.999f, 1e-8f, 0.0f,
				  (float)(1 - pow(0.9f, (double)step)),
				  (float)(1 - pow(0.999f, (double)step)), 1.0f };

	memcpy(h, values, sizeof values);
}

/* A step of x by x->g, with moments in f32 or in 8 bits. */
static void step_of(run *x, qat_device *d, int codes, uint64_t seed, int64_t step, int64_t stream)
{
	const qat_runtime rt = { .size = sizeof rt, .seed = seed, .step = step,
				 .bad_node = QAT_NONE };
	const qat_attr attr = { .update = { .stream = stream << 8 | QAT_RANDOM_MOMENT } };
	void *at[4] = { x->p, codes ? (void *)x->first : x->m, codes ? (void *)x->second : x->v,
			x->unit };
	int64_t in[6], n = 0;
	kit_result r;
	kit k;

	kit_new(&k, 1, 1, QAT_F32);
	in[n++] = kit_param(&k, QAT_F32, N, 0, x->p);
	in[n++] = kit_param(&k, QAT_F32, N, 0, x->g);
	in[n++] = kit_param(&k, codes ? QAT_I8 : QAT_F32, N, 0, at[1]);
	in[n++] = kit_param(&k, codes ? QAT_U8 : QAT_F32, N, 0, at[2]);
	if (codes)
		in[n++] = kit_param(&k, QAT_F32, BLOCKS, 2, x->unit);
	in[n++] = kit_param(&k, QAT_F32, 8, 0, x->hyper);
	kit_node(&k, codes ? QAT_OP_ADAMW8 : QAT_OP_ADAMW, &attr, n, in, NULL, NULL);
	kit_run(&r, &k, d, &rt);
	ck_assert_msg(!r.rc, "%s", r.error);
	for (int o = 0; o < k.g->nodes[0]->n_out; o++) {
		const int64_t v = k.g->nodes[0]->out[o];

		memcpy(at[o], r.data[v], (size_t)qat_value_bytes(k.g->values[v]));
	}
	kit_result_free(&r);
	kit_free(&k);
}

static run *run_new(void)
{
	run *x = calloc(1, sizeof *x);

	ck_assert_ptr_nonnull(x);
	kit_numbers(x->p, N, KIT_NORMAL, 1);
	kit_numbers(x->g, N, KIT_SMALL, 2);
	fill_hyper(x->hyper, 1e-2, 1);
	return x;
}

static void open_cpu(int64_t threads)
{
	unsetenv("QATRUN_CPU_ISA");
	ck_assert(kit_open(&cpu, "cpu", threads));
}

START_TEST(threads)
{
	run *want = run_new(), *other;

	open_cpu(1);
	for (int64_t s = 1; s < 4; s++)
		step_of(want, &cpu, 1, 7, s, 3);
	qat_device_close(&cpu);
	for (int64_t t = 2; t < 5; t++) {
		run *got = run_new();

		open_cpu(t);
		for (int64_t s = 1; s < 4; s++)
			step_of(got, &cpu, 1, 7, s, 3);
		ck_assert_msg(!memcmp(want, got, sizeof *got), "%lld threads: other bits",
			      (long long)t);
		qat_device_close(&cpu);
		free(got);
	}
	/* another seed, step or parameter draws others */
	open_cpu(1);
	for (int i = 0; i < 3; i++) {
		run *one = run_new();

		other = run_new();
		step_of(one, &cpu, 1, 7, 1, 3);
		step_of(other, &cpu, 1, i == 0 ? 8 : 7, i == 1 ? 2 : 1, i == 2 ? 4 : 3);
		ck_assert(!memcmp(one->p, other->p, sizeof one->p));
		ck_assert(!memcmp(one->unit, other->unit, sizeof one->unit));
		ck_assert(memcmp(one->first, other->first, sizeof one->first));
		ck_assert(memcmp(one->second, other->second, sizeof one->second));
		free(one);
		free(other);
	}
	qat_device_close(&cpu);
	free(want);
}
END_TEST

/* The first step's p is ADAMW's to the bit; a NaN is seen in p at once, and in all of its
 * block from the next step on; a block whose gradients are 0 has nothing to keep. */
START_TEST(single)
{
	const int bad = 2 * QAT_MOMENT_BLOCK + 5;
	run *a = run_new(), *b = run_new();

	open_cpu(1);
	step_of(a, &cpu, 0, 7, 1, 3);
	step_of(b, &cpu, 1, 7, 1, 3);
	ck_assert(!memcmp(a->p, b->p, sizeof a->p));
	free(b);
	b = run_new();
	memset(b->g, 0, QAT_MOMENT_BLOCK * sizeof *b->g);
	b->g[bad] = NAN;
	step_of(b, &cpu, 1, 7, 1, 3);
	for (int i = 0; i < N; i++) {
		ck_assert(isnan(b->p[i]) == (i == bad));
		if (i < QAT_MOMENT_BLOCK)
			ck_assert(b->first[i] == 0 && b->second[i] == 0);
	}
	ck_assert(b->unit[0] == 0 && b->unit[1] == 0 && b->unit[2] > 0 && b->unit[3] > 0);
	ck_assert(isnan(b->unit[4]) && isnan(b->unit[5]));
	b->g[bad] = 1;
	step_of(b, &cpu, 1, 7, 2, 3);
	for (int i = 0; i < N; i++)
		ck_assert(isnan(b->p[i]) == (i / QAT_MOMENT_BLOCK == 2));
	qat_device_close(&cpu);
	free(a);
	free(b);
}
END_TEST

/* How steep element i is: four powers of ten, side by side. */
static double slope(int i)
{
	return pow(10, i * 37 % N * 4.0 / N - 2);
}

static double distance(const run *x, double *loss)
{
	double sum = 0.0;

	*loss = 0.0;
	for (int i = 0; i < N; i++) {
		const double d = x->p[i] - 1.0;

		sum += fabs(d) / N;
		*loss += 0.5 * slope(i) * d * d / N;
	}
	return sum;
}

/* Noisy gradients of a quadratic; the same noise for both. */
static void descend(run *x, int codes, int64_t steps)
{
	float noise[N];

	for (int64_t s = 1; s <= steps; s++) {
		kit_numbers(noise, N, KIT_NORMAL, (uint64_t)(100 + s));
		for (int i = 0; i < N; i++)
			x->g[i] = (float)(slope(i) * (x->p[i] - 1.0 + 0.3 * noise[i]));
		fill_hyper(x->hyper, 0.03 * (1 - (double)s / (double)(steps + 1)), s);
		step_of(x, &cpu, codes, 11, s, 0);
	}
}

START_TEST(descent)
{
	run *a = run_new(), *b = run_new();
	double loss[3], away[3];

	open_cpu(2);
	away[2] = distance(a, &loss[2]);
	descend(a, 0, 300);
	descend(b, 1, 300);
	away[0] = distance(a, &loss[0]);
	away[1] = distance(b, &loss[1]);
	fprintf(stderr, "descent: distance %.4g, loss %.4g; f32 %.4g, %.4g; 8 bits %.4g, %.4g\n",
		away[2], loss[2], away[0], loss[0], away[1], loss[1]);
	ck_assert_double_lt(away[0], 0.1 * away[2]);
	ck_assert_double_lt(away[1], 1.25 * away[0]);
	ck_assert_double_lt(loss[1], 1.1 * loss[0]);
	qat_device_close(&cpu);
	free(a);
	free(b);
}
END_TEST

/* ---- what a graph keeps ---- */

static int graph_of(kit *k, const qat_instance *optimizer, qat_trained **trained, int64_t *n)
{
	qat_loss loss;
	int rc;

	kit_new(k, 1, 4, QAT_F32);
	ck_assert(kit_tiny(k, &loss, "llama", 1, 0));
	kit_passes(k, &loss, NULL, NULL);
	ck_assert_msg(!qat_ir_differentiate(k->g, &loss, 0, trained, n), "%s", qat_error());
	rc = qat_ir_optimize(k->g, optimizer, *trained, *n);
	return rc;
}

START_TEST(states)
{
	static const uint32_t types[] = { QAT_I8, QAT_U8, QAT_F32 };
	const qat_instance adamw = kit_instance(QAT_KIND_OPTIMIZER, "adamw");
	int64_t n, updates = 0;
	qat_trained *t;
	kit k;

	ck_assert(kit_set(&adamw, "moments", 1));
	ck_assert_msg(!graph_of(&k, &adamw, &t, &n), "%s", qat_error());
	for (int64_t i = 0; i < n; i++) {
		const qat_value *p = k.g->values[t[i].param];

		ck_assert_int_eq(t[i].n_states, 3);
		for (int s = 0; s < 3; s++) {
			const qat_value *v = k.g->values[t[i].states[s]];

			ck_assert_uint_eq(v->dtype, types[s]);
			ck_assert_uint_eq(v->role, QAT_ROLE_STATE);
			ck_assert_int_eq(qat_value_elements(v), s < 2 ? qat_value_elements(p) :
					 (qat_value_elements(p) + 255) / 256 * 2);
		}
	}
	for (int64_t i = 0; i < k.g->graph.n_nodes; i++)
		if (k.g->nodes[i]->op == QAT_OP_ADAMW8)
			ck_assert_int_eq(k.g->nodes[i]->attr.update.stream,
					 updates++ << 8 | QAT_RANDOM_MOMENT);
	ck_assert_int_eq(updates, n);
	free(t);
	kit_free(&k);
}
END_TEST

/* Optimizers of others: one that says nothing of its states, and some that say nonsense. */
static uint32_t odd_dtype;
static int64_t odd_rank, odd_extent;

static int64_t one_state(const void *self)
{
	(void)self;
	return 1;
}

static int odd_state(const void *self, int64_t i, qat_tensor *out)
{
	(void)self;
	ck_assert_int_eq(i, 0);
	ck_assert_uint_eq(out->dtype, QAT_F32);
	out->dtype = odd_dtype;
	out->rank = odd_rank;
	for (int64_t k = 0; k < QAT_MAX_RANK; k++)
		out->shape[k] = odd_extent;
	return QAT_OK;
}

static int no_update(const void *self, qat_builder *b, int64_t p, int64_t g, const int64_t *all,
		     int64_t hyper)
{
	(void)self;
	(void)b;
	(void)p;
	(void)g;
	(void)all;
	(void)hyper;
	return QAT_OK;
}

START_TEST(others)
{
	static const struct { uint32_t dtype; int64_t rank, extent; int fits; } odd[] = {
		{ QAT_I32, 1, 3, 1 }, { QAT_U8, 4, 7, 1 }, { QAT_F64, 0, 1, 1 },
		{ 0, 1, 3, 0 }, { 99, 1, 3, 0 }, { QAT_F32, 5, 1, 0 }, { QAT_F32, -1, 1, 0 },
		{ QAT_F32, 1, 0, 0 }, { QAT_F32, 2, -4, 0 }, { QAT_F32, 4, INT64_MAX / 2, 0 },
	};
	const qat_interface interface = { .size = sizeof interface, .name = "odd" };
	qat_optimizer vtable = { .size = sizeof vtable, .states = one_state, .build = no_update };
	const qat_instance optimizer = { .interface = &interface, .vtable = &vtable };
	qat_trained *t;
	int64_t n;
	kit k;

	ck_assert(!graph_of(&k, &optimizer, &t, &n));
	for (int64_t i = 0; i < n; i++) {
		const qat_value *p = k.g->values[t[i].param], *v = k.g->values[t[i].states[0]];

		ck_assert_uint_eq(v->dtype, QAT_F32);
		ck_assert(p->rank == v->rank && !memcmp(p->shape, v->shape, sizeof p->shape));
	}
	free(t);
	kit_free(&k);
	vtable.state = odd_state;
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
		int rc;

		odd_dtype = odd[i].dtype;
		odd_rank = odd[i].rank;
		odd_extent = odd[i].extent;
		rc = graph_of(&k, &optimizer, &t, &n);
		ck_assert_msg(rc == (odd[i].fits ? QAT_OK : QAT_EINVAL), "%zu: %d", i, rc);
		if (rc)
			ck_assert_ptr_nonnull(strstr(qat_error(), "optimizer odd: state 0 of "));
		free(t);
		kit_free(&k);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("adamw8");
	TCase *c = tcase_create("adamw8");
	int failed;
	SRunner *r;

	setenv("OMP_WAIT_POLICY", "passive", 0);
	if (!kit_open(&cpu, "cpu", 1)) {
		fprintf(stderr, "skipped: no backend cpu in QATRUN_PLUGIN_PATH\n");
		return 77;
	}
	qat_device_close(&cpu);
	tcase_set_timeout(c, 600);
	tcase_add_test(c, means);
	tcase_add_test(c, edges);
	tcase_add_loop_test(c, exact, 0, 2 * ISAS);
	tcase_add_test(c, threads);
	tcase_add_test(c, single);
	tcase_add_test(c, descent);
	tcase_add_test(c, states);
	tcase_add_test(c, others);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
