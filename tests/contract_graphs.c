/* contract_graphs.c - whole small models through every backend found in
 * QATRUN_PLUGIN_PATH, a step of training each, against backend reference: here claims of
 * several nodes, private values, prologue and update come together. Single nodes are
 * contract_ops.c's.
 *
 * In f32 losses and gradients are near; with codes of inputs, noise in the last bits flips
 * a code now and then, so that bounds are wide. Updates: Adam's first is lr times the sign
 * of the gradient, which may be anything where it is almost 0.
 *
 * And node by node: the same step on backend cpu, each node of it once more on every other
 * backend with the inputs that the node had: EXACT ops to the bit, CLOSE ones in their bound.
 */
#include "graph_kit.h"
#include "graph_schemes.h"

#include <math.h>
#include <stdio.h>

#include "error.h"
#include "trace.h"

enum { BATCH = 2, LENGTH = 37, N = BATCH * LENGTH, BACKENDS_MAX = 16, KEEP = 256 };

static const char *backends[BACKENDS_MAX];
static int n_backends;

typedef struct setup {
	const char *name;
	const qat_scheme_set *port[QAT_PORTS];
	double loss, gradient;		/* bounds, relative; bf16: at least 0.03 and 0.1 */
} setup;

static const setup setups[] = {
	{ "float", { NULL, NULL, NULL }, 2e-5, 1e-3 },
	{ "8-bit rows", { &rows8_set, NULL, NULL }, 2e-5, 1e-3 },
	{ "4-bit groups", { &groups4_set, NULL, NULL }, 2e-5, 1e-3 },
	{ "8-bit both", { &rows8_set, &rows8_set, NULL }, 0.02, 0.1 },
	{ "groups x rows", { &groups4_set, &rows8_set, &rows8_set }, 0.02, 0.1 },
};
enum { SETUPS = sizeof setups / sizeof *setups };

static int look_up(void *context, const qat_site *site, const qat_scheme_set **out)
{
	*out = ((const setup *)context)->port[site->port];
	return QAT_OK;
}

/* ---- a step ---- */

typedef struct step {
	kit k;
	qat_loss loss;
	qat_trained *trained;
	int64_t n_trained, keep[KEEP];
} step;

static void keep(step *s, int64_t value)
{
	ck_assert_int_lt(s->k.n_keep, KEEP);
	s->keep[s->k.n_keep++] = value;
	s->k.keep = s->keep;
}

static void give_inputs(step *s)
{
	static const float hyper[8] = { 1e-3f, 0.9f, 0.999f, 1e-8f, 0.01f, 0.1f, 1e-3f, 1.0f };
	const qat_ir *g = s->k.g;
	int32_t ids[N];
	float seed[N];

	kit_ids(ids, N, 0, KIT_TINY_VOCABULARY - 1, 1);
	kit_give(&s->k, g->inputs[QAT_INPUT_TOKENS], ids);
	kit_ids(ids, N, 0, KIT_TINY_VOCABULARY - 1, 2);
	ids[5] = -100;
	kit_give(&s->k, g->inputs[QAT_INPUT_LABELS], ids);
	kit_numbers(seed, N, KIT_ONES, 3);
	kit_give(&s->k, g->inputs[QAT_INPUT_LOSS_GRADIENT], seed);
	for (int64_t i = 0; i < s->n_trained; i++)
		if (s->trained[i].hyper != QAT_NONE)
			kit_give(&s->k, s->trained[i].hyper, hyper);
}

/* 0 if the model is not there. */
static int step_new(step *s, const char *model, const setup *u, uint32_t precision, int tied,
		    int accumulate)
{
	const qat_instance adamw = kit_instance(QAT_KIND_OPTIMIZER, "adamw");

	memset(s, 0, sizeof *s);
	kit_new(&s->k, BATCH, LENGTH, precision);
	if (!kit_tiny(&s->k, &s->loss, model, tied, 0))
		return 0;
	kit_passes(&s->k, &s->loss, look_up, (void *)u);
	ck_assert_msg(!qat_ir_differentiate(s->k.g, &s->loss, accumulate, &s->trained,
					    &s->n_trained), "%s", qat_error());
	ck_assert_msg(!qat_ir_optimize(s->k.g, adamw.interface ? &adamw : NULL, s->trained,
				       s->n_trained), "%s", qat_error());
	keep(s, s->loss.nll);
	for (int64_t i = 0; i < s->n_trained; i++) {
		keep(s, s->trained[i].gradient);
		keep(s, s->trained[i].square);
		keep(s, s->trained[i].param);
	}
	kit_params(&s->k, 5);
	give_inputs(s);
	return 1;
}

static void step_free(step *s)
{
	free(s->trained);
	kit_free(&s->k);
}

/* ---- comparing ---- */

static double mean_of(const float *x)
{
	double sum = 0;

	for (int i = 0; i < N; i++)
		sum += x[i] / N;
	return sum;
}

/* Norm of the difference over norm of the first. */
static double distance(const float *a, const float *b, int64_t n)
{
	double d = 0, size = 0;

	for (int64_t i = 0; i < n; i++) {
		d += pow((double)a[i] - b[i], 2);
		size += pow(a[i], 2);
	}
	return sqrt(d / (size + 1e-30));
}

static void compare_param(const step *s, const qat_trained *t, const kit_result *want,
			  const kit_result *got, double bound, const char *name)
{
	const qat_value *v = s->k.g->values[t->param];
	const int64_t n = qat_value_elements(v);
	const double d = distance(want->data[t->gradient], got->data[t->gradient], n);
	const double a = *(const double *)want->data[t->square];
	const double b = *(const double *)got->data[t->square];
	const float *p = want->data[t->param], *q = got->data[t->param];

	ck_assert_msg(d <= bound, "%s: gradient of %s: %g off", name, v->name, d);
	ck_assert_msg(fabs(a - b) <= 3 * bound * a, "%s: squares of %s: %g, not %g", name, v->name,
		      b, a);
	for (int64_t i = 0; i < n; i++)
		ck_assert_msg(fabs((double)p[i] - q[i]) <= 2.1e-3, "%s: %s[%lld]: %g, not %g",
			      name, v->name, (long long)i, q[i], p[i]);
}

static void compare(const step *s, const kit_result *want, const kit_result *got,
		    const setup *u, int bf16, const char *name)
{
	const double a = mean_of(want->data[s->loss.nll]), b = mean_of(got->data[s->loss.nll]);
	const double loss = bf16 ? fmax(u->loss, 0.03) : u->loss;
	const double gradient = bf16 ? fmax(u->gradient, 0.1) : u->gradient;

	ck_assert_msg(fabs(a - b) <= loss * a, "%s: loss %.7g, not %.7g", name, b, a);
	for (int64_t i = 0; i < s->n_trained; i++)
		compare_param(s, &s->trained[i], want, got, gradient, name);
}

static void run_on(kit_result *out, const step *s, const char *backend, int threads,
		   const char *name)
{
	qat_device d;

	ck_assert_msg(kit_open(&d, backend, threads), "%s", qat_error());
	kit_run(out, &s->k, &d, NULL);
	qat_device_close(&d);
	ck_assert_msg(!out->rc, "%s: %s", name, out->error);
}

static void same(const step *s, const kit_result *a, const kit_result *b, const char *name)
{
	for (int64_t i = 0; i < s->k.n_keep; i++) {
		const int64_t v = s->keep[i];

		ck_assert_msg(!memcmp(a->data[v], b->data[v],
				      (size_t)qat_value_bytes(s->k.g->values[v])),
			      "%s: value %lld: two threads give other bits than one", name,
			      (long long)v);
	}
}

/* bits: model, tied, bf16, accumulate. */
static void one(const char *backend, const setup *u, int bits)
{
	const char *model = bits & 1 ? "gpt2" : "llama";
	const uint32_t precision = bits >> 2 & 1 ? QAT_BF16 : QAT_F32;
	kit_result want, got, two;
	char name[128];
	step s;

	snprintf(name, sizeof name, "%s: %s, %s, %d", backend, model, u->name, bits);
	if (!step_new(&s, model, u, precision, bits >> 1 & 1, bits >> 3)) {
		fprintf(stderr, "model %s is not built: left out\n", model);
		step_free(&s);
		return;
	}
	run_on(&want, &s, "reference", 1, name);
	run_on(&got, &s, backend, 1, name);
	run_on(&two, &s, backend, 2, name);
	compare(&s, &want, &got, u, bits >> 2 & 1, name);
	same(&s, &got, &two, name);
	kit_result_free(&want);
	kit_result_free(&got);
	kit_result_free(&two);
	step_free(&s);
}

START_TEST(models)
{
	for (int bits = 0; bits < 16; bits++)
		if (kit_chosen_model(_i * 16 + bits))
			one(backends[_i / SETUPS], &setups[_i % SETUPS], bits);
}
END_TEST

/* ---- node by node ---- */

/* All values are kept, so that no kernel has anything to itself. */
static void replay_one(const char *backend, const setup *u, int bits, qat_trace *sum)
{
	const qat_instance judge = kit_instance(QAT_KIND_BACKEND, backend);
	const char *model = bits & 1 ? "gpt2" : "llama";
	qat_device cpu;
	kit_result r;
	step s;

	if (!step_new(&s, model, u, bits >> 1 & 1 ? QAT_BF16 : QAT_F32, bits & 1, bits >> 2)) {
		step_free(&s);
		return;
	}
	s.k.keep = NULL;
	ck_assert_msg(kit_open(&cpu, "cpu", 1), "%s", qat_error());
	ck_assert_msg(!qat_trace_new(&cpu.trace, &judge), "%s", qat_error());
	kit_run(&r, &s.k, &cpu, NULL);
	ck_assert_msg(!r.rc, "%s on %s: %s, %d: %s", model, backend, u->name, bits, r.error);
	ck_assert_int_eq(cpu.trace->unknown, 0);
	sum->same += cpu.trace->same;
	sum->close += cpu.trace->close;
	qat_trace_free(cpu.trace);
	cpu.trace = NULL;
	qat_device_close(&cpu);
	kit_result_free(&r);
	step_free(&s);
}

/* bits: model, bf16, accumulate. */
START_TEST(replay)
{
	const char *backend = backends[_i / SETUPS];
	const setup *u = &setups[_i % SETUPS];
	qat_trace sum = { .same = 0 };

	if (!strcmp(backend, "cpu"))
		return;
	for (int bits = 0; bits < 8; bits++)
		if (kit_chosen_model(_i * 8 + bits))
			replay_one(backend, u, bits, &sum);
	fprintf(stderr, "%s: %s: of %lld nodes of cpu %lld agree to the bit\n", backend, u->name,
		(long long)(sum.same + sum.close), (long long)sum.same);
	ck_assert_int_gt(3 * sum.same, sum.same + sum.close);
}
END_TEST

static int is_there(const char *name)
{
	for (int i = 0; i < n_backends; i++)
		if (!strcmp(backends[i], name))
			return 1;
	return 0;
}

int main(void)
{
	Suite *s = suite_create("graphs");
	TCase *c = tcase_create("graphs"), *again = tcase_create("replay");
	const char *names[BACKENDS_MAX];
	int n, reference = 0, failed;
	SRunner *r;

	setenv("OMP_WAIT_POLICY", "passive", 0);
	n = kit_names(QAT_KIND_BACKEND, names, BACKENDS_MAX);
	for (int i = 0; i < n; i++) {
		qat_device d;

		if (!strcmp(names[i], "reference")) {
			reference = 1;
		} else if (kit_open(&d, names[i], 1)) {
			qat_device_close(&d);
			backends[n_backends++] = names[i];
		}
	}
	fprintf(stderr, "%d backends to compare with reference\n", n_backends);
	if (!reference || !n_backends) {
		fprintf(stderr, "skipped: %s in QATRUN_PLUGIN_PATH\n", reference
			? "no backend but reference" : "no backend reference");
		return 77;
	}
	tcase_set_timeout(c, 900);
	tcase_add_checked_fixture(c, NULL, kit_leaks);
	tcase_set_timeout(again, 900);
	tcase_add_checked_fixture(again, NULL, kit_leaks);
	tcase_add_loop_test(c, models, 0, n_backends * SETUPS);
	if (is_there("cpu"))
		tcase_add_loop_test(again, replay, 0, n_backends * SETUPS);
	suite_add_tcase(s, c);
	suite_add_tcase(s, again);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
