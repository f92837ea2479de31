/* test_place.c - graphs on two devices: backend partial of tests/plugins lacks some nodes,
 * the reference or backend cpu takes them.
 *
 * With the reference as the other device every node gives the same bits wherever it runs, so
 * that a whole run on the reference is the judge, to the bit: what differs is the core's.
 */
#include "graph_kit.h"
#include "graph_schemes.h"

#include <math.h>
#include <stdio.h>

#include "error.h"
#include "plugins/folder.h"

enum { BATCH = 2, LENGTH = 5, N = BATCH * LENGTH, KEEP = 400, STEPS = 2, MICRO = 2 };

static const char *const backends[] = { "partial", "partial-mapped" };

static int look_up(void *context, const qat_site *site, const qat_scheme_set **out)
{
	*out = !*(const int *)context || site->port == QAT_PORT_KV ? NULL
	     : site->port == QAT_PORT_WEIGHT ? &groups4_set : &rows8_set;
	return QAT_OK;
}

/* ---- a network under training ---- */

typedef struct net {
	kit k;
	qat_loss loss;
	qat_trained *trained;
	int64_t n_trained, keep[KEEP], n_keep;
} net;

static void keep(net *n, int64_t value)
{
	ck_assert_int_lt(n->n_keep, KEEP);
	n->keep[n->n_keep++] = value;
}

/* Bits: gpt2, bf16, tied, accumulate, float, recompute. */
enum { FORMS = 64 };

static void recompute(net *n)
{
	qat_ir *less;

	ck_assert_msg(!qat_ir_recompute(&less, n->k.g, &n->loss, n->trained, n->n_trained, 2), "%s",
		      qat_error());
	qat_ir_free(n->k.g);
	n->k.g = less;
}

static int net_new(net *n, int form, int training)
{
	const qat_instance adamw = kit_instance(QAT_KIND_OPTIMIZER, "adamw");
	int schemes = !(form & 16);

	memset(n, 0, sizeof *n);
	kit_new(&n->k, BATCH, LENGTH, form & 2 ? QAT_BF16 : QAT_F32);
	if (!adamw.interface ||
	    !kit_tiny(&n->k, &n->loss, form & 1 ? "gpt2" : "llama", form >> 2 & 1, 0))
		return 0;
	kit_passes(&n->k, &n->loss, look_up, &schemes);
	if (training) {
		ck_assert(!qat_ir_differentiate(n->k.g, &n->loss, form >> 3 & 1, &n->trained,
						&n->n_trained));
		ck_assert(!qat_ir_optimize(n->k.g, &adamw, n->trained, n->n_trained));
	}
	if (training && form & 32)
		recompute(n);
	keep(n, n->loss.nll);
	keep(n, n->loss.argmax);
	for (int64_t i = 0; i < n->n_trained; i++) {
		keep(n, n->trained[i].param);
		keep(n, n->trained[i].gradient);
		keep(n, n->trained[i].square);
	}
	kit_params(&n->k, 5);
	return 1;
}

static void net_free(net *n)
{
	free(n->trained);
	kit_free(&n->k);
}

static int fill(void *context, const qat_value *v, void *to)
{
	const kit *k = context;

	ck_assert(v->id < k->room && k->content[v->id]);
	memcpy(to, k->content[v->id], (size_t)qat_value_bytes(v));
	return QAT_OK;
}

static int find(void *context, const qat_value *v, qat_source *out)
{
	(void)context;
	(void)v;
	out->fill = fill;
	return QAT_OK;
}

/* ---- running ---- */

#define ok(call) ck_assert_msg(!(call), "%s", qat_error())

static void write_batch(qat_exec *x, const net *n, uint64_t seed)
{
	const qat_ir *g = n->k.g;
	int32_t ids[N];
	float weight[N];

	kit_ids(ids, N, 0, KIT_TINY_VOCABULARY - 1, seed);
	ok(qat_exec_write(x, g->inputs[QAT_INPUT_TOKENS], ids, sizeof ids));
	kit_ids(ids, N, 0, KIT_TINY_VOCABULARY - 1, seed + 100);
	ok(qat_exec_write(x, g->inputs[QAT_INPUT_LABELS], ids, sizeof ids));
	kit_numbers(weight, N, KIT_ONES, seed);
	if (g->inputs[QAT_INPUT_LOSS_GRADIENT] != QAT_NONE)
		ok(qat_exec_write(x, g->inputs[QAT_INPUT_LOSS_GRADIENT], weight, sizeof weight));
}

static void run(qat_exec *x, uint32_t phase)
{
	qat_runtime rt = { .seed = 1 };

	ok(qat_exec_run(x, phase, &rt));
}

/* Appends what the kept values hold now. */
static void record(qat_exec *x, const net *n, char **out, size_t *size)
{
	for (int64_t i = 0; i < n->n_keep; i++) {
		const size_t bytes = (size_t)qat_value_bytes(n->k.g->values[n->keep[i]]);

		*out = realloc(*out, *size + bytes);
		ck_assert_ptr_nonnull(*out);
		ok(qat_exec_read(x, n->keep[i], *out + *size, (int64_t)bytes));
		*size += bytes;
	}
}

static void update(qat_exec *x, const net *n, int accumulate)
{
	static const float hyper[8] = { 1e-3f, 0.9f, 0.999f, 1e-8f, 0.01f, 0.1f, 1e-3f, 1.0f };

	for (int64_t i = 0; i < n->n_trained; i++)
		ok(qat_exec_write(x, n->trained[i].hyper, hyper, sizeof hyper));
	run(x, QAT_PHASE_UPDATE);
	for (int64_t i = 0; accumulate && i < n->n_trained; i++)
		ok(qat_exec_zero(x, n->trained[i].gradient));
}

/* Some optimizer steps of several batches: all that was kept after each. malloc'ed. */
static char *train(qat_exec *x, const net *n, int accumulate, size_t *size)
{
	char *out = NULL;

	*size = 0;
	for (int step = 0; step < STEPS; step++) {
		run(x, QAT_PHASE_PROLOGUE);
		for (int i = 0; i < MICRO; i++) {
			write_batch(x, n, (uint64_t)(10 * step + i));
			run(x, QAT_PHASE_FORWARD);
			run(x, QAT_PHASE_BACKWARD);
			record(x, n, &out, size);
		}
		update(x, n, accumulate);
		record(x, n, &out, size);
	}
	return out;
}

static qat_exec *exec_on(const net *n, qat_device *d)
{
	qat_exec *x;

	ok(qat_exec_new(&x, d, n->k.g, n->keep, n->n_keep, find, (void *)&n->k));
	return x;
}

static char *train_on(const net *n, qat_device *d, int accumulate, size_t *size)
{
	qat_exec *x = exec_on(n, d);
	char *out = train(x, n, accumulate, size);

	qat_exec_free(x);
	return out;
}

/* ---- devices ---- */

typedef struct pair {
	qat_device first, second;
} pair;

static void pair_open(pair *p, const char *backend, const char *fallback, double lacks,
		      double seed, double percent)
{
	qat_instance i = kit_instance(QAT_KIND_BACKEND, backend);
	qat_instance other = kit_instance(QAT_KIND_BACKEND, fallback);

	ck_assert(i.interface && other.interface);
	ck_assert(kit_set(&i, "lacks", lacks) && kit_set(&i, "seed", seed) &&
		  kit_set(&i, "percent", percent));
	ok(qat_device_open(&p->first, &i, 0, 1));
	qat_device_later(&p->second, &other, 0, 1);
	p->first.fallback = &p->second;
}

static void pair_close(pair *p)
{
	qat_device_close(&p->first);
	qat_device_close(&p->second);
}

static int at_first(const char *a, const char *b, size_t n)
{
	size_t i = 0;

	while (i < n && a[i] == b[i])
		i++;
	return (int)i;
}

/* ---- tests ---- */

/* Nodes here or there at random: the bits of a run that is all on one device. */
START_TEST(random_splits)
{
	static const int percent[] = { 50, 10, 90, 50 };
	qat_device whole;
	size_t size, same;
	char *want;
	net n;

	if (!kit_chosen(_i))
		return;
	if (!net_new(&n, _i, 1)) {
		net_free(&n);
		return;
	}
	ck_assert(kit_open(&whole, "reference", 1));
	want = train_on(&n, &whole, _i >> 3 & 1, &size);
	for (int split = 0; split < 4; split++) {
		pair p;
		char *got;

		pair_open(&p, backends[split & 1], "reference", 0, 1 + 4 * _i + split,
			  percent[split]);
		got = train_on(&n, &p.first, _i >> 3 & 1, &same);
		ck_assert_uint_eq(size, same);
		ck_assert_msg(!memcmp(want, got, size), "form %d, split %d: byte %d of %zu", _i,
			      split, at_first(want, got, size), size);
		free(got);
		pair_close(&p);
	}
	free(want);
	qat_device_close(&whole);
	net_free(&n);
}
END_TEST

#define BIT(op) ((int64_t)1 << QAT_OP_##op)
static const int64_t exact_ops = BIT(QUANTIZE) | BIT(DEQUANTIZE) | BIT(MASK) | BIT(QMATMUL) |
	BIT(CAST) | BIT(EMBEDDING) | BIT(EMBEDDING_GRAD) | BIT(SPLIT) | BIT(CONCAT) | BIT(ADD) |
	BIT(MUL) | BIT(SCALE) | BIT(ROPE) | BIT(ADAMW);

/* Backend cpu runs what is EXACT, and then all else too, op by op. */
START_TEST(exact_on_cpu)
{
	qat_device whole;
	size_t size, same;
	char *want, *got;
	pair p;
	net n;

	if (!kit_chosen(_i) || !kit_instance(QAT_KIND_BACKEND, "cpu").interface ||
	    !net_new(&n, _i, 1))
		return;
	ck_assert(kit_open(&whole, "reference", 1));
	want = train_on(&n, &whole, _i >> 3 & 1, &size);
	pair_open(&p, backends[_i & 1], "cpu", (double)exact_ops, 0, 0);
	got = train_on(&n, &p.first, _i >> 3 & 1, &same);
	ck_assert_msg(!memcmp(want, got, size), "form %d: byte %d", _i, at_first(want, got, size));
	free(want);
	free(got);
	pair_close(&p);
	qat_device_close(&whole);
	net_free(&n);
}
END_TEST

static double mean_loss(const char *recorded)
{
	double sum = 0;
	float x[N];

	memcpy(x, recorded, sizeof x);
	for (int i = 0; i < N; i++)
		sum += (double)x[i] / N;
	return sum;
}

START_TEST(close_on_cpu)
{
	const int64_t lacks = (int64_t)1 << _i;
	const char *const fallback = "cpu";
	qat_device whole;
	size_t size, same;
	char *want, *got;
	pair p;
	net n;

	if (!kit_instance(QAT_KIND_BACKEND, fallback).interface || !net_new(&n, 16, 1))
		return;
	ck_assert(kit_open(&whole, "reference", 1));
	want = train_on(&n, &whole, 0, &size);
	pair_open(&p, "partial", fallback, (double)lacks, 0, 0);
	got = train_on(&n, &p.first, 0, &same);
	ck_assert_msg(fabs(mean_loss(want) - mean_loss(got)) <= 1e-5, "op %d: %g, not %g", _i,
		      mean_loss(got), mean_loss(want));
	free(want);
	free(got);
	pair_close(&p);
	qat_device_close(&whole);
	net_free(&n);
}
END_TEST

/* ---- parameters of another exec ---- */

typedef struct share {
	const net *n;
	qat_exec *owner;
	const qat_graph *of;
} share;

static int find_shared(void *context, const qat_value *v, qat_source *out)
{
	const share *s = context;

	for (int64_t i = 0; i < s->of->n_values; i++)
		if (s->of->values[i]->role == QAT_ROLE_PARAM &&
		    !strcmp(s->of->values[i]->name, v->name) &&
		    qat_exec_binding(s->owner, i).memory) {
			out->owner = s->owner;
			out->value = i;
		}
	out->fill = fill;
	return QAT_OK;
}

/* What an evaluation with the parameters of a training gives after each step. */
static void evaluate(const net *n, const net *of, qat_device *d, char **out, size_t *size)
{
	qat_exec *x = exec_on(of, d), *e;
	share s = { n, x, &of->k.g->graph };

	ok(qat_exec_new(&e, d, n->k.g, n->keep, n->n_keep, find_shared, &s));
	for (int step = 0; step < STEPS; step++) {
		free(train(x, of, 0, &(size_t){ 0 }));
		run(e, QAT_PHASE_PROLOGUE);
		for (int i = 0; i < 2; i++) {
			write_batch(e, n, (uint64_t)i);
			run(e, QAT_PHASE_FORWARD);
			record(e, n, out, size);
		}
	}
	qat_exec_free(e);
	qat_exec_free(x);
}

/* The owner's parameters live where its updates run, which is here or there. */
START_TEST(shared_parameters)
{
	static const int64_t lacks[] = { BIT(ADAMW), BIT(EMBEDDING), BIT(QUANTIZE) | BIT(ADAMW),
					 BIT(RMS_NORM), BIT(LINEAR_CROSS_ENTROPY) };
	char *want = NULL, *got = NULL;
	size_t size = 0, same = 0;
	qat_device whole;
	net n, of;

	if (!net_new(&of, 4, 1) || !net_new(&n, 4, 0))
		return;
	ck_assert(kit_open(&whole, "reference", 1));
	evaluate(&n, &of, &whole, &want, &size);
	for (int i = 0; i < 10; i++) {
		pair p;

		same = 0;
		pair_open(&p, backends[i & 1], "reference", (double)lacks[i / 2], 0, 0);
		evaluate(&n, &of, &p.first, &got, &same);
		ck_assert_uint_eq(size, same);
		ck_assert_msg(!memcmp(want, got, size), "case %d: byte %d", i,
			      at_first(want, got, size));
		pair_close(&p);
	}
	free(want);
	free(got);
	qat_device_close(&whole);
	net_free(&n);
	net_free(&of);
}
END_TEST

/* ---- what is counted, and what is refused ---- */

static int64_t count_op(const net *n, uint32_t op)
{
	int64_t count = 0;

	for (int64_t i = 0; i < n->k.g->graph.n_nodes; i++)
		count += n->k.g->nodes[i]->op == op;
	return count;
}

/* Two norms a layer and one at the end: x comes here, y and rstd go back. */
START_TEST(bytes_copied)
{
	const int64_t row = 32 * 4, rows = N;
	qat_plan_size size;
	pair p;
	net n;

	if (!net_new(&n, 16, 0))
		return;
	pair_open(&p, "partial", "reference", (double)BIT(RMS_NORM), 0, 0);
	ok(qat_exec_predict(&size, &p.first, n.k.g, n.keep, n.n_keep, 0));
	ck_assert_int_eq(size.moved, count_op(&n, QAT_OP_RMS_NORM));
	ck_assert_int_eq(size.moved, 5);
	ck_assert_int_eq(size.copied, 5 * 2 * rows * row);
	ck_assert_ptr_nonnull(strstr(size.what, "and 4 more: left out for a test"));
	pair_close(&p);
	net_free(&n);
}
END_TEST

/* A parameter that both devices read goes over once an optimizer step. */
START_TEST(parameters_once)
{
	const int64_t table = KIT_TINY_VOCABULARY * 32 * 4;
	qat_plan_size size;
	pair p;
	net n;

	if (!net_new(&n, 16 + 4, 1))
		return;
	pair_open(&p, "partial", "reference", (double)BIT(EMBEDDING), 0, 0);
	ok(qat_exec_predict(&size, &p.first, n.k.g, n.keep, n.n_keep, 0));
	ck_assert_int_eq(size.moved, 1);
	ck_assert_int_eq(size.copied, table + N * 32 * 4);
	pair_close(&p);
	net_free(&n);
}
END_TEST

static void refused(int64_t lacks, int strict, int with, const char *first, const char *second)
{
	qat_plan_size size;
	pair p;
	net n;

	if (!net_new(&n, 0, 1))
		return;
	pair_open(&p, "partial", "partial-mapped", (double)lacks, 0, 0);
	p.first.strict = strict;
	if (!with)
		p.first.fallback = NULL;
	else
		kit_set(&p.second.backend, "lacks", (double)BIT(ROPE));
	ck_assert_int_eq(qat_exec_predict(&size, &p.first, n.k.g, n.keep, n.n_keep, 0),
			 QAT_ENOTSUP);
	ck_assert_msg(strstr(qat_error(), first) && strstr(qat_error(), second), "%s", qat_error());
	pair_close(&p);
	net_free(&n);
}

START_TEST(refusals)
{
	refused(BIT(ROPE), 0, 0, "rope", "device partial cannot run it: left out for a test");
	refused(BIT(ROPE), 0, 1, "device partial cannot run it: left out for a test",
		"nor can partial-mapped: left out for a test");
	refused(BIT(RMS_NORM) | BIT(GLU), 1, 1, "rms_norm and 4 more: left out for a test; ",
		"glu and 1 more");
	refused(BIT(RMS_NORM) | BIT(GLU), 1, 1, "partial-mapped runs it", "device.fallback");
}
END_TEST

static void make_folder(void)
{
	const char *built = getenv("QATRUN_PLUGIN_PATH");
	char path[4096];

	snprintf(folder, sizeof folder, "%s/qatrun-test.XXXXXX",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (!mkdtemp(folder))
		exit(99);
	test_plugin("partial.so", "backend-partial.so");
	test_link("backend-partial.so", "backend-partial-mapped.so");
	snprintf(path, sizeof path, "%s:%s", folder, built ? built : "../plugins-built");
	setenv("QATRUN_PLUGIN_PATH", path, 1);
}

int main(void)
{
	Suite *s = suite_create("place");
	TCase *c = tcase_create("place");
	int failed;
	SRunner *r;

	setenv("OMP_WAIT_POLICY", "passive", 0);
	make_folder();
	tcase_set_timeout(c, 200);
	tcase_add_checked_fixture(c, NULL, kit_leaks);
	tcase_add_loop_test(c, random_splits, 0, FORMS);
	tcase_add_loop_test(c, exact_on_cpu, 0, FORMS);
	tcase_add_loop_test(c, close_on_cpu, 1, QAT_OP_COUNT);
	tcase_add_test(c, shared_parameters);
	tcase_add_test(c, bytes_copied);
	tcase_add_test(c, parameters_once);
	tcase_add_test(c, refusals);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	test_folder_free();
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
