/* test_gradient_codes.c - products of codes, backwards, with gradients as codes: backend cpu
 * has the reference's bits with every instruction set and any number of threads; over many
 * seeds the mean is the product of floats; how a batch is split changes no bit; and a
 * model's graph has them where schemes allow.
 */
#include "graph_kit.h"

#include <math.h>
#include <stdio.h>

#include "error.h"
#include "op_cases.h"

static const char *const isas[] = { "baseline", "avx2", "avx512", "amx" };
enum { ISAS = sizeof isas / sizeof *isas };

static qat_device reference, cpu;

/* 0: that instruction set is not here. */
static int open_both(const char *isa, int64_t threads)
{
	setenv("QATRUN_CPU_ISA", isa, 1);
	if (!kit_open(&cpu, "cpu", threads))
		return 0;
	ck_assert(kit_open(&reference, "reference", 1));
	return 1;
}

static void close_both(void)
{
	qat_device_close(&cpu);
	qat_device_close(&reference);
}

static int64_t output(const kit *k)
{
	return k->g->nodes[0]->out[0];
}

/* ---- every case of the op ---- */

static int64_t seen;

static void compare(void *context, const op_case *c)
{
	const qat_runtime rt = { .size = sizeof rt, .seed = 0x123456789abcdefu, .sequence = 41,
				 .bad_node = QAT_NONE };
	kit_result want, got;
	kit k;

	(void)context;
	if (c->op != QAT_OP_QMATMUL_GRAD || !kit_chosen(seen++))
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
	if (!open_both(isas[_i / 2], 1 + _i % 2)) {
		fprintf(stderr, "%s: left out\n", isas[_i / 2]);
		return;
	}
	seen = 0;
	op_cases_each(compare, NULL);
	ck_assert_int_gt(seen, 0);
	close_both();
}
END_TEST

/* ---- one product ---- */

#define COMMON .size = sizeof(qat_scheme), .numerics = QAT_NUMERICS, .name = "test", .bits = 8, \
	.grid = QAT_GRID_UNIFORM, .qmin = -127, .qmax = 127, .divisor = 127, \
	.scale_format = QAT_F32, .block_rows = 1, .gradient = QAT_GRAD_STE
static const qat_scheme row_scheme = { COMMON, .scale_rule = QAT_SCALE_ABSMAX };
static const qat_scheme group_scheme = { COMMON, .scale_rule = QAT_SCALE_ABSMAX,
					 .block_cols = 16 };
static const qat_scheme zero_scheme = { COMMON, .scale_rule = QAT_SCALE_MINMAX,
					.zero = QAT_ZERO_INT };

enum { BATCH = 3, LENGTH = 20, N = BATCH * LENGTH, M = 70, K = 33 };

typedef struct numbers {
	float dy[N * M], scale[N > M ? N : M], addend[(N > M ? N : M) * K];
	int8_t codes[(N > M ? N : M) * K];
} numbers;

static void make_numbers(numbers *x)
{
	int32_t q[sizeof x->codes];

	kit_numbers(x->dy, N * M, KIT_NORMAL, 1);
	kit_numbers(x->scale, (int64_t)(sizeof x->scale / 4), KIT_ONES, 2);
	kit_numbers(x->addend, (int64_t)(sizeof x->addend / 4), KIT_NORMAL, 3);
	kit_ids(q, (int64_t)sizeof x->codes, -127, 127, 4);
	for (size_t i = 0; i < sizeof x->codes; i++)
		x->codes[i] = (int8_t)q[i];
}

/* Appends the product of `side` for sequences [from, to) of a batch, whose gradient is dy;
 * addend NULL: none. Returns its value. */
static int64_t add_side(kit *k, const numbers *x, int64_t dy, int side, int64_t from, int64_t to,
			const float *addend)
{
	const int64_t n = (to - from) * LENGTH, first = from * LENGTH;
	const qat_attr attr = { .qmatmul_grad = { .side = side, .bits = 8,
						  .stream = 5 << 8 | QAT_RANDOM_GRADIENT } };
	qat_ir_extra extra = { .dtype = QAT_F32 };
	int64_t in[4] = { dy, 0, 0, QAT_NONE };

	extra.schemes[0] = kit_scheme(k, &row_scheme);
	in[1] = kit_param(k, QAT_I8, side ? n : M, K, x->codes + (side ? first * K : 0));
	in[2] = kit_param(k, QAT_F32, side ? n : M, 1, x->scale + (side ? first : 0));
	if (addend)
		in[3] = kit_param(k, QAT_F32, side ? M : n, K, addend);
	return kit_node(k, QAT_OP_QMATMUL_GRAD, &attr, 4, in, NULL, &extra);
}

static int64_t new_case(kit *k, const numbers *x, int64_t from, int64_t to)
{
	kit_new(k, to - from, LENGTH, QAT_F32);
	return kit_param(k, QAT_F32, (to - from) * LENGTH, M, x->dy + from * LENGTH * M);
}

static void build(kit *k, const numbers *x, int side, int64_t from, int64_t to,
		  const float *addend)
{
	const int64_t dy = new_case(k, x, from, to);

	add_side(k, x, dy, side, from, to, addend);
}

static void run_one(kit_result *r, const kit *k, uint64_t seed, int64_t sequence)
{
	const qat_runtime rt = { .size = sizeof rt, .seed = seed, .sequence = sequence,
				 .bad_node = QAT_NONE };

	kit_run(r, k, &cpu, &rt);
	ck_assert_msg(!r->rc, "%s", r->error);
}

/* The product of floats, in double. */
static double exact_element(const numbers *x, int side, int64_t i)
{
	const int64_t row = i / K, col = i % K;
	double sum = 0;

	for (int64_t k = 0; k < (side ? N : M); k++)
		sum += (double)(side ? x->dy[k * M + row] : x->dy[row * M + k]) * x->scale[k] *
		       x->codes[k * K + col];
	return sum;
}

/* Bits depend on the place in the run, and a seed is another draw. The mean of all draws lies
 * within 5 standard errors of the product of floats, and of all elements together nearer:
 * squares of their distances, in standard errors, have the mean 1. */
START_TEST(unbiased)
{
	enum { SEEDS = 400 };
	static numbers x;
	static double sum[M * K + N * K], squares[M * K + N * K];
	const int side = _i;
	const int64_t count = (side ? M : N) * K;
	double all = 0;
	kit k;

	ck_assert(kit_open(&cpu, "cpu", 1));
	make_numbers(&x);
	build(&k, &x, side, 0, BATCH, NULL);
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		kit_result r;

		run_one(&r, &k, seed, 7);
		for (int64_t i = 0; i < count; i++) {
			const double y = ((const float *)r.data[output(&k)])[i];

			sum[i] += y;
			squares[i] += y * y;
		}
		kit_result_free(&r);
	}
	for (int64_t i = 0; i < count; i++) {
		const double mean = sum[i] / SEEDS, var = squares[i] / SEEDS - mean * mean;
		const double off = (mean - exact_element(&x, side, i)) / sqrt(var / (SEEDS - 1));

		ck_assert_msg(fabs(off) <= 5.0, "element %lld is %g standard errors off",
			      (long long)i, off);
		ck_assert_msg(var > 0, "element %lld never changes", (long long)i);
		all += off * off / (double)count;
	}
	/* elements of a row share their draws: far fewer than `count` are independent */
	ck_assert_msg(fabs(all - 1.0) <= 0.3, "mean square of distances: %g", all);
	kit_free(&k);
	qat_device_close(&cpu);
}
END_TEST

/* Sequences one by one, in order, as accumulation does, are the whole batch: to the bit. */
START_TEST(split)
{
	static numbers x;
	static float before[M * K];
	kit_result whole;
	kit k;

	ck_assert(kit_open(&cpu, "cpu", 2));
	make_numbers(&x);
	for (int side = 0; side < 2; side++) {
		build(&k, &x, side, 0, BATCH, side ? x.addend : NULL);
		run_one(&whole, &k, 99, 5);
		memcpy(before, x.addend, sizeof before);
		for (int64_t b = 0; b < BATCH; b++) {
			const float *want = whole.data[output(&k)];
			kit_result part;
			kit one;

			build(&one, &x, side, b, b + 1, side ? before : NULL);
			run_one(&part, &one, 99, 5 + b);
			if (side)
				memcpy(before, part.data[output(&one)], sizeof before);
			else
				ck_assert_mem_eq(part.data[output(&one)], want + b * LENGTH * K,
						 LENGTH * K * sizeof *want);
			kit_result_free(&part);
			kit_free(&one);
		}
		if (side)
			ck_assert_mem_eq(before, whole.data[output(&k)], sizeof before);
		kit_result_free(&whole);
		kit_free(&k);
	}
	qat_device_close(&cpu);
}
END_TEST

/* A gradient that is no number is none afterwards, and disturbs no other row. */
START_TEST(not_finite)
{
	static numbers x;
	kit_result good, bad;
	kit k;

	ck_assert(kit_open(&cpu, "cpu", 1));
	for (int side = 0; side < 2; side++) {
		const int64_t row = side ? 3 : LENGTH + 1;

		make_numbers(&x);
		build(&k, &x, side, 0, BATCH, NULL);
		run_one(&good, &k, 1, 0);
		kit_free(&k);
		x.dy[(LENGTH + 1) * M + 3] = NAN;
		build(&k, &x, side, 0, BATCH, NULL);
		run_one(&bad, &k, 1, 0);
		for (int64_t i = 0; i < (side ? M : N) * K; i++) {
			const float a = ((const float *)good.data[output(&k)])[i];
			const float b = ((const float *)bad.data[output(&k)])[i];

			ck_assert(i / K == row ? isnan(b) : a == b);
		}
		kit_result_free(&good);
		kit_result_free(&bad);
		kit_free(&k);
	}
	qat_device_close(&cpu);
}
END_TEST

/* Both sides of one gradient, which share its codes' random numbers and may be one kernel:
 * the bits of each alone, also where the gradient holds no numbers. */
START_TEST(pair)
{
	static numbers x;
	int64_t y[2], dy;
	kit_result both;
	kit k;

	if (!open_both(isas[_i / 2], 2))
		return;
	make_numbers(&x);
	if (_i % 2)
		x.dy[(LENGTH + 1) * M + 3] = NAN;
	dy = new_case(&k, &x, 0, BATCH);
	for (int side = 1; side >= 0; side--)
		y[side] = add_side(&k, &x, dy, side, 0, BATCH, x.addend);
	run_one(&both, &k, 77, 3);
	for (int side = 0; side < 2; side++) {
		const size_t bytes = (size_t)(side ? M : N) * K * sizeof(float);
		kit_result alone;
		kit one;

		build(&one, &x, side, 0, BATCH, x.addend);
		run_one(&alone, &one, 77, 3);
		ck_assert_mem_eq(both.data[y[side]], alone.data[output(&one)], bytes);
		kit_result_free(&alone);
		kit_free(&one);
	}
	kit_result_free(&both);
	kit_free(&k);
	close_both();
}
END_TEST

/* ---- where a graph has them ---- */

typedef struct setup {
	const char *name;
	const qat_scheme *weight, *input;
	int dx, dw;			/* of each product */
} setup;

static const setup setups[] = {
	{ "rows", &row_scheme, &row_scheme, 1, 1 },
	{ "groups of the weight", &group_scheme, &row_scheme, 0, 1 },
	{ "zero points of the input", &row_scheme, &zero_scheme, 1, 0 },
	{ "weight alone", &row_scheme, NULL, 1, 0 },
	{ "neither", &group_scheme, &zero_scheme, 0, 0 },
};

static int look_up(void *context, const qat_site *site, const qat_scheme_set **out)
{
	const qat_scheme_set *sets = context;

	*out = site->port != QAT_PORT_KV && sets[site->port].schemes[0] ? &sets[site->port] : NULL;
	return QAT_OK;
}

START_TEST(sides)
{
	const setup *s = &setups[_i];
	const qat_scheme *const schemes[] = { s->weight, s->input };
	const qat_scheme_set sets[] = { { sizeof *sets, -1, 1, &schemes[0] },
					{ sizeof *sets, -1, 1, &schemes[1] } };
	int64_t count[2] = { 0 }, products = 0, n_trained;
	qat_trained *trained;
	qat_loss loss;
	kit k;

	kit_new(&k, 2, 8, QAT_F32);
	ck_assert(kit_tiny(&k, &loss, "llama", 1, 0));
	kit_passes(&k, &loss, look_up, (void *)(uintptr_t)sets);
	k.g->gradient_bits = 8;
	ck_assert_msg(!qat_ir_differentiate(k.g, &loss, 0, &trained, &n_trained), "%s", qat_error());
	for (int64_t i = 0; i < k.g->graph.n_nodes; i++) {
		const qat_node *n = k.g->graph.nodes[i];

		products += n->op == QAT_OP_QMATMUL;
		if (n->op == QAT_OP_QMATMUL_GRAD)
			count[n->attr.qmatmul_grad.side]++;
	}
	ck_assert_int_gt(products, 0);
	ck_assert_msg(count[0] == s->dx * products && count[1] == s->dw * products,
		      "%s: %lld dx, %lld dw of %lld", s->name, (long long)count[0],
		      (long long)count[1], (long long)products);
	free(trained);
	kit_free(&k);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gradient_codes");
	TCase *c = tcase_create("gradient_codes");
	int failed;
	SRunner *r;

	setenv("OMP_WAIT_POLICY", "passive", 0);
	if (!kit_open(&cpu, "cpu", 1)) {
		fprintf(stderr, "skipped: no backend cpu in QATRUN_PLUGIN_PATH\n");
		return 77;
	}
	qat_device_close(&cpu);
	tcase_set_timeout(c, 600);
	tcase_add_loop_test(c, exact, 0, 2 * ISAS);
	tcase_add_loop_test(c, unbiased, 0, 2);
	tcase_add_test(c, split);
	tcase_add_test(c, not_finite);
	tcase_add_loop_test(c, pair, 0, 2 * ISAS);
	tcase_add_loop_test(c, sides, 0, (int)(sizeof setups / sizeof *setups));
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
