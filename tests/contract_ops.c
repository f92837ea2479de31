/* contract_ops.c - what backend.h and the numeric contract promise, for every backend
 * found in QATRUN_PLUGIN_PATH, against backend reference on equal inputs:
 *   EXACT ops give its bits (any NaN is as good as another), CLOSE ops stay within
 *   qat_op_bound, and a NaN where the reference has none fails (bounds.c says which is which)
 *   STABLE: two threads give the bits of one, halves of a batch give the rows of the whole
 * A node that a backend says it cannot run is left out, and counted.
 */
#include "graph_kit.h"

#include <math.h>
#include <stdio.h>

#include "error.h"
#include "bounds.h"
#include "op_cases.h"

enum { BACKENDS_MAX = 16 };

static const char *backends[BACKENDS_MAX];
static int n_backends;

typedef struct tally {
	const char *backend;
	qat_device reference, device;
	int64_t seen, exact, refused, compared;
	uint64_t *hash;				/* of the results on one thread, in order */
	int64_t n_hash, room_hash, at;
	uint8_t said[QAT_OP_COUNT];		/* 1: why it was refused has been said */
} tally;

/* ---- comparing ---- */

static int is_float(uint32_t dtype)
{
	return dtype == QAT_F32 || dtype == QAT_BF16 || dtype == QAT_F16 || dtype == QAT_F64;
}

static int same_bits(const qat_value *v, const void *a, const void *b, int64_t i)
{
	const int64_t size = qat_dtype_bytes(v->dtype);

	if (!memcmp((const char *)a + i * size, (const char *)b + i * size, (size_t)size))
		return 1;
	return is_float(v->dtype) && isnan(kit_number(v, a, i)) && isnan(kit_number(v, b, i));
}

static double *doubles_of(const qat_value *v, const void *data, int64_t *n)
{
	double *p;

	*n = data ? qat_value_elements(v) : 0;
	p = calloc((size_t)*n + 1, sizeof *p);
	ck_assert_ptr_nonnull(p);
	for (int64_t i = 0; i < *n; i++)
		p[i] = kit_number(v, data, i);
	return p;
}

static void numbers_of(qat_numbers *x, qat_judged *judged, const op_case *c, const kit *k,
		       const kit_result *r)
{
	const qat_node *n = k->g->nodes[0];

	*x = (qat_numbers){ .c = judged };
	*judged = (qat_judged){ .op = c->op, .attr = c->attr, .length = c->length,
				.schemes = { c->schemes[0], c->schemes[1] } };
	for (int i = 0; i < c->n_in; i++)
		judged->in[i] = (qat_judged_input){ c->in[i].dtype, c->in[i].rows, c->in[i].cols };
	for (int64_t i = 0; i < n->n_in; i++) {
		if (n->in[i] == QAT_NONE)
			continue;
		x->in[i] = doubles_of(k->g->values[n->in[i]], k->content[n->in[i]], &x->n_in[i]);
		for (int64_t j = 0; j < x->n_in[i]; j++)
			x->top[i] = fmax(x->top[i], fabs(x->in[i][j]));
	}
	for (int64_t i = 0; i < n->n_out; i++) {
		if (n->out[i] == QAT_NONE)
			continue;
		x->type_out[i] = k->g->values[n->out[i]]->dtype;
		x->out[i] = doubles_of(k->g->values[n->out[i]], r->data[n->out[i]], &x->n_out[i]);
	}
}

static void numbers_free(qat_numbers *x)
{
	for (int i = 0; i < QAT_MAX_IN; i++)
		free(x->in[i]);
	for (int i = 0; i < QAT_MAX_OUT; i++)
		free(x->out[i]);
}

static void compare_close(const tally *t, const op_case *c, const kit *k, const kit_result *want,
			  const kit_result *got)
{
	const qat_node *n = k->g->nodes[0];
	qat_numbers x;
	qat_judged judged;

	numbers_of(&x, &judged, c, k, want);
	for (int o = 0; o < n->n_out; o++)
		for (int64_t i = 0; i < x.n_out[o]; i++) {
			const qat_value *v = k->g->values[n->out[o]];
			const double have = kit_number(v, got->data[v->id], i);
			const double bound = qat_op_bound(&x, o, i);

			ck_assert_msg(have == x.out[o][i] || fabs(have - x.out[o][i]) <= bound ||
				      (isnan(have) && isnan(x.out[o][i])),
				      "%s: %s: output %d[%lld] is %.9g, not %.9g +- %.3g",
				      t->backend, c->name, o, (long long)i, have, x.out[o][i],
				      bound);
		}
	numbers_free(&x);
}

static void compare_bits(const tally *t, const char *name, const kit *k, const kit_result *want,
			 const kit_result *got, const char *what)
{
	for (int64_t v = 0; v < k->g->graph.n_values; v++) {
		const qat_value *value = k->g->values[v];

		for (int64_t i = 0; want->data[v] && i < qat_value_elements(value); i++)
			ck_assert_msg(same_bits(value, want->data[v], got->data[v], i),
				      "%s: %s: %s: value %lld[%lld] is %.9g, not %.9g", t->backend,
				      name, what, (long long)v, (long long)i,
				      kit_number(value, got->data[v], i),
				      kit_number(value, want->data[v], i));
	}
}

/* Rows [from, to) of the whole batch against a run of these alone. */
static void compare_rows(tally *t, const op_case *c, const kit *whole, const kit_result *r,
			 int64_t from, int64_t to)
{
	const qat_node *n = whole->g->nodes[0];
	kit_result part;
	kit k;

	op_case_build(&k, c, from, to);
	kit_run(&part, &k, &t->device, NULL);
	ck_assert_msg(!part.rc, "%s: %s: a part of the batch: %s", t->backend, c->name, part.error);
	for (int o = 0; o < n->n_out; o++) {
		const qat_value *v = n->out[o] == QAT_NONE ? NULL : k.g->values[n->out[o]];
		const int64_t row = v ? qat_value_elements(v) / v->shape[0] : 0;
		const char *base = v ? r->data[v->id] : NULL;

		for (int64_t i = 0; v && i < qat_value_elements(v); i++)
			ck_assert_msg(same_bits(v, base + from * row * qat_dtype_bytes(v->dtype),
						part.data[v->id], i),
				      "%s: %s: output %d[%lld] of rows %lld.. differs alone",
				      t->backend, c->name, o, (long long)i, (long long)from);
	}
	kit_result_free(&part);
	kit_free(&k);
}

/* ---- one case ---- */

static void check_bad(const tally *t, const op_case *c, const kit_result *r)
{
	ck_assert_msg(r->rc == (c->bad ? QAT_ENUMERIC : QAT_OK) &&
		      r->bad_node == (c->bad ? 0 : QAT_NONE),
		      "%s: %s: code %d, bad node %lld: %s", t->backend, c->name, r->rc,
		      (long long)r->bad_node, r->error);
}

static void halves(tally *t, const op_case *c, const kit *k, const kit_result *got)
{
	const int64_t rows = c->batch * c->length;

	if (!c->by_rows || c->batch != 2 || c->bad)
		return;
	compare_rows(t, c, k, got, 0, rows / 2);
	compare_rows(t, c, k, got, rows / 2, rows);
}

/* FNV-1a of all results. */
static uint64_t hash_of(const kit *k, const kit_result *r)
{
	uint64_t h = 14695981039346656037u;

	for (int64_t v = 0; v < r->n_values; v++) {
		const int64_t bytes = r->data && r->data[v] ? qat_value_bytes(k->g->values[v]) : 0;

		for (int64_t i = 0; i < bytes; i++)
			h = (h ^ ((const uint8_t *)r->data[v])[i]) * 1099511628211u;
	}
	return h;
}

static void remember(tally *t, uint64_t hash)
{
	if (t->n_hash == t->room_hash) {
		t->room_hash = t->room_hash ? 2 * t->room_hash : 1024;
		t->hash = realloc(t->hash, (size_t)t->room_hash * sizeof *t->hash);
		ck_assert_ptr_nonnull(t->hash);
	}
	t->hash[t->n_hash++] = hash;
}

static void refuse(tally *t, const op_case *c, const kit_result *r)
{
	t->refused++;
	if (!t->said[c->op])
		fprintf(stderr, "%s: left out: %s: %s\n", t->backend, c->name, r->error);
	t->said[c->op] = 1;
}

static void visit(void *context, const op_case *c)
{
	tally *t = context;
	kit_result want, got;
	kit k;

	op_case_build(&k, c, 0, c->batch * c->length);
	kit_run(&want, &k, &t->reference, NULL);
	ck_assert_msg(want.rc == (c->bad ? QAT_ENUMERIC : QAT_OK), "reference: %s: %s", c->name,
		      want.error);
	kit_run(&got, &k, &t->device, NULL);
	remember(t, hash_of(&k, &got));
	if (got.rc == QAT_ENOTSUP) {
		refuse(t, c, &got);
		goto out;
	}
	check_bad(t, c, &got);
	if (!c->bad && qat_op_exact(c->op, c->schemes))
		compare_bits(t, c->name, &k, &want, &got, "exact");
	else if (!c->bad)
		compare_close(t, c, &k, &want, &got);
	halves(t, c, &k, &got);
	t->exact += qat_op_exact(c->op, c->schemes);
	t->compared++;
out:
	kit_result_free(&want);
	kit_result_free(&got);
	kit_free(&k);
}

/* The same on two threads. */
static void visit_again(void *context, const op_case *c)
{
	tally *t = context;
	kit_result got;
	kit k;

	op_case_build(&k, c, 0, c->batch * c->length);
	kit_run(&got, &k, &t->device, NULL);
	ck_assert_int_lt(t->at, t->n_hash);
	if (got.rc != QAT_ENOTSUP)
		check_bad(t, c, &got);
	ck_assert_msg(c->bad || hash_of(&k, &got) == t->hash[t->at],
		      "%s: %s: two threads give other bits than one", t->backend, c->name);
	t->at++;
	kit_result_free(&got);
	kit_free(&k);
}

/* Those of all ops, of which kit_chosen wants some. */
typedef struct chooser {
	op_visit *visit;
	tally *t;
} chooser;

static void choose(void *context, const op_case *c)
{
	const chooser *who = context;

	if (kit_chosen(who->t->seen++))
		who->visit(who->t, c);
}

static void begin(tally *t, const char *backend)
{
	*t = (tally){ .backend = backend };
	ck_assert(kit_open(&t->reference, "reference", 1));
	ck_assert_msg(kit_open(&t->device, backend, 1), "%s: %s", backend, qat_error());
}

/* How many threads there are may be the process's: one device at a time. */
static void begin_again(tally *t)
{
	qat_device_close(&t->device);
	ck_assert_msg(kit_open(&t->device, t->backend, 2), "%s: %s", t->backend, qat_error());
	t->seen = 0;
}

static void end(tally *t, const char *what)
{
	fprintf(stderr, "%s: %s: %lld cases of %lld, %lld of them exact, %lld left out\n",
		t->backend, what, (long long)t->compared, (long long)t->seen,
		(long long)t->exact, (long long)t->refused);
	ck_assert_int_gt(t->compared, 0);
	ck_assert_int_eq(t->at, t->n_hash);
	free(t->hash);
	qat_device_close(&t->device);
	qat_device_close(&t->reference);
}

START_TEST(ops)
{
	tally t;

	begin(&t, backends[_i]);
	op_cases_each(choose, &(chooser){ visit, &t });
	begin_again(&t);
	op_cases_each(choose, &(chooser){ visit_again, &t });
	end(&t, "ops");
}
END_TEST

START_TEST(codes)
{
	tally t;
	int schemes;

	begin(&t, backends[_i]);
	schemes = op_cases_schemes(visit, &t, &t.seen);
	ck_assert_int_gt(schemes, 0);
	begin_again(&t);
	op_cases_schemes(visit_again, &t, &t.seen);
	end(&t, "codes");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ops");
	TCase *c = tcase_create("ops"), *k = tcase_create("codes");
	const char *names[BACKENDS_MAX];
	int reference = 0, n, failed;
	SRunner *r;

	/* Two threads often share one processor here: spinning would be most of the time. */
	setenv("OMP_WAIT_POLICY", "passive", 0);
	n = kit_names(QAT_KIND_BACKEND, names, BACKENDS_MAX);
	for (int i = 0; i < n; i++) {
		qat_device d;

		if (!strcmp(names[i], "reference")) {
			reference = 1;
		} else if (kit_open(&d, names[i], 1)) {
			qat_device_close(&d);
			backends[n_backends++] = names[i];
		} else {
			fprintf(stderr, "%s: left out: %s\n", names[i], qat_error());
		}
	}
	fprintf(stderr, "%d backends to compare with reference\n", n_backends);
	if (!reference || !n_backends) {
		fprintf(stderr, "skipped: %s in QATRUN_PLUGIN_PATH\n", reference
			? "no backend but reference" : "no backend reference");
		return 77;
	}
	tcase_set_timeout(c, 1800);
	tcase_add_checked_fixture(c, NULL, kit_leaks);
	tcase_set_timeout(k, 1800);
	tcase_add_checked_fixture(k, NULL, kit_leaks);
	tcase_add_loop_test(c, ops, 0, n_backends);
	tcase_add_loop_test(k, codes, 0, n_backends);
	suite_add_tcase(s, c);
	suite_add_tcase(s, k);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
