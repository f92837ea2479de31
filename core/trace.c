/* trace.c - see trace.h.
 *
 * Kernels run as they always do, claim by claim. What a kernel keeps to itself (values that
 * it swallowed, or lays out in its own way) cannot be read: there the reference's own result
 * stands in, as the input of the nodes that follow.
 */
#include "trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bounds.h"
#include "error.h"
#include "exec_internal.h"

enum { HELD_MAX = 12 * (QAT_MAX_IN + QAT_MAX_OUT) };

/* What nodes of one claim read, as it was when they read it. */
typedef struct held {
	int64_t value[HELD_MAX];
	void *data[HELD_MAX];
	int count;
} held;

int qat_trace_new(qat_trace **out, const qat_instance *backend)
{
	qat_trace *t = calloc(1, sizeof *t);
	int rc = t ? qat_device_open(&t->oracle, backend, 0, 1)
		   : qat_fail(QAT_ENOMEM, "trace: out of memory");

	if (rc)
		free(t);
	else
		*out = t;
	return rc;
}

void qat_trace_free(qat_trace *t)
{
	if (!t)
		return;
	qat_device_close(&t->oracle);
	free(t);
}

void qat_trace_print(const qat_trace *t)
{
	printf("trace: %lld nodes agree with %s: %lld to the bit, %lld within the bounds of their "
	       "class", (long long)(t->same + t->close), t->oracle.name, (long long)t->same,
	       (long long)t->close);
	if (t->inside)
		printf("; %lld are inside of kernels", (long long)t->inside);
	if (t->unknown)
		printf("; %s cannot judge %lld", t->oracle.name, (long long)t->unknown);
	putchar('\n');
	fflush(stdout);
}

/* ---- what can be read ---- */

static int mark_private(qat_exec *x)
{
	const size_t n = (size_t)x->graph->n_values + 1;

	if (x->inside)
		return QAT_OK;
	x->inside = calloc(n, 1);
	x->stand_ins = calloc(n, sizeof *x->stand_ins);
	if (!x->inside || !x->stand_ins)
		return qat_fail(QAT_ENOMEM, "trace: out of memory");
	for (int64_t i = 0; i < x->n_order; i++) {
		const qat_claim *c = qat_exec_claim_at(x, i);

		for (int64_t k = 0; k < c->n_private; k++)
			x->inside[c->private_value[k]] = 1;
	}
	return QAT_OK;
}

static int readable(const qat_exec *x, const qat_lane *l, int64_t v)
{
	return !x->inside[v] && l->bindings[v].memory &&
	       x->bytes[v] == qat_value_bytes(x->graph->values[v]);
}

static int read_value(void **out, const qat_exec *x, const qat_lane *l, int64_t v)
{
	const int64_t bytes = qat_value_bytes(x->graph->values[v]);
	const qat_device *d = l->device;
	int rc;

	*out = malloc((size_t)bytes + 1);
	if (!*out)
		return qat_fail(QAT_ENOMEM, "trace: out of memory");
	rc = x->stored[v] ? qat_exec_load((void *)(uintptr_t)x, v, *out)
			  : d->api->read(d->handle, *out, l->bindings[v].memory,
					 l->bindings[v].offset, bytes);
	if (rc) {
		free(*out);
		*out = NULL;
	}
	return rc;
}

static int made_inside(const qat_exec *x, const qat_claim *c, int64_t v)
{
	for (int64_t i = 0; i < c->n_nodes; i++)
		if (x->graph->values[v]->node == c->nodes[i])
			return 1;
	return 0;
}

static void *look_up(const qat_exec *x, const held *h, int64_t v)
{
	for (int i = 0; i < h->count; i++)
		if (h->value[i] == v)
			return h->data[i];
	return x->stand_ins[v];
}

/* Inputs of the claim's nodes that it does not make (before it runs), or that it makes. */
static int hold(const qat_exec *x, const qat_lane *l, const qat_claim *c, int made, held *h)
{
	int rc = QAT_OK;

	for (int64_t i = 0; i < c->n_nodes; i++) {
		const qat_node *n = x->graph->nodes[c->nodes[i]];

		for (int64_t k = 0; k < n->n_in && !rc; k++) {
			const int64_t v = n->in[k];

			if (v == QAT_NONE || made_inside(x, c, v) != made || look_up(x, h, v) ||
			    (!x->stored[v] && !readable(x, l, v)))
				continue;
			rc = read_value(&h->data[h->count], x, l, v);
			h->value[h->count] = v;
			h->count += !rc;
		}
	}
	return rc;
}

static void let_go(held *h)
{
	for (int i = 0; i < h->count; i++)
		free(h->data[i]);
	h->count = 0;
}

/* ---- one node on the reference ---- */

typedef struct alone {
	qat_ir *g;
	void *data[QAT_MAX_IN];		/* by new value: inputs come first */
	int64_t out[QAT_MAX_OUT];
} alone;

static int find(void *context, const qat_value *v, qat_source *out)
{
	out->data = ((const alone *)context)->data[v->id];
	return QAT_OK;
}

/* A graph of that node: inputs are parameters that hold what it read. QAT_ENOTFOUND if
 * that is not known. */
static int build_alone(alone *a, const qat_exec *x, const qat_node *n, const held *h)
{
	int64_t *map = malloc((size_t)(x->graph->n_values + 1) * sizeof *map);
	int rc = QAT_OK;

	a->g = qat_ir_new(x->graph->batch, x->graph->length, x->graph->precision);
	if (!map || !a->g)
		rc = qat_fail(QAT_ENOMEM, "trace: out of memory");
	for (int64_t i = 0; i < n->n_in && !rc; i++)
		if (n->in[i] != QAT_NONE)
			map[n->in[i]] = QAT_NONE;
	for (int64_t i = 0; i < n->n_in && !rc; i++) {
		const int64_t v = n->in[i];
		qat_value copy;

		if (v == QAT_NONE || map[v] != QAT_NONE)
			continue;
		copy = *x->graph->values[v];
		copy.role = QAT_ROLE_PARAM;
		copy.node = copy.alias = QAT_NONE;
		copy.name = "input";
		map[v] = qat_ir_value(a->g, &copy);
		if (map[v] < 0) {
			rc = (int)map[v];
			break;
		}
		a->data[map[v]] = look_up(x, h, v);
		rc = a->data[map[v]] ? QAT_OK : QAT_ENOTFOUND;
	}
	if (!rc)
		rc = qat_ir_copy_node(a->g, x->g, n, map);
	if (!rc)
		a->g->nodes[0]->site = n->site;		/* randomness goes by it */
	for (int64_t i = 0; i < n->n_out && !rc; i++)
		a->out[i] = n->out[i] == QAT_NONE ? QAT_NONE : map[n->out[i]];
	free(map);
	return rc;
}

static int read_outputs(qat_exec *o, const alone *a, const qat_node *n, void **out)
{
	int rc = QAT_OK;

	for (int64_t i = 0; i < n->n_out && !rc; i++) {
		int64_t bytes;

		if (a->out[i] == QAT_NONE)
			continue;
		bytes = qat_value_bytes(a->g->values[a->out[i]]);
		out[i] = malloc((size_t)bytes + 1);
		rc = out[i] ? qat_exec_read(o, a->out[i], out[i], bytes)
			    : qat_fail(QAT_ENOMEM, "trace: out of memory");
	}
	return rc;
}

/* The node's outputs, malloc'ed; QAT_ENOTFOUND or QAT_ENOTSUP: not to be known. */
static int run_alone(qat_trace *t, const qat_exec *x, const qat_node *n, const held *h,
		     const qat_runtime *rt, void **out)
{
	alone a = { .g = NULL };
	qat_runtime now = *rt;
	qat_exec *o = NULL;
	int rc = build_alone(&a, x, n, h);

	if (!rc)
		rc = qat_exec_new(&o, &t->oracle, a.g, a.out, n->n_out, find, &a);
	if (!rc)
		rc = qat_exec_run(o, n->phase, &now);
	if (!rc)
		rc = read_outputs(o, &a, n, out);
	qat_exec_free(o);
	qat_ir_free(a.g);
	return rc;
}

/* ---- judging ---- */

static double *doubles(const qat_value *v, const void *data, double *top)
{
	const int64_t n = qat_value_elements(v);
	double *out = malloc((size_t)(n + 1) * sizeof *out);

	for (int64_t i = 0; out && i < n; i++) {
		out[i] = qat_number(v->dtype, data, i);
		*top = fmax(*top, fabs(out[i]));
	}
	return out;
}

static void numbers_free(qat_numbers *x)
{
	for (int i = 0; i < QAT_MAX_IN; i++)
		free(x->in[i]);
	for (int i = 0; i < QAT_MAX_OUT; i++)
		free(x->out[i]);
}

static int numbers_of(qat_numbers *to, qat_judged *j, const qat_exec *x, const qat_node *n,
		      const held *h, void *const *want)
{
	double top = 0.0;

	*j = (qat_judged){ .op = n->op, .attr = n->attr, .length = x->graph->length };
	*to = (qat_numbers){ .c = j };
	for (int i = 0; i < 2; i++)
		j->schemes[i] = n->schemes[i] ? n->schemes[i]->schemes[0] : NULL;
	for (int64_t i = 0; i < n->n_in; i++) {
		const qat_value *v = n->in[i] == QAT_NONE ? NULL : x->graph->values[n->in[i]];

		if (!v)
			continue;
		j->in[i] = (qat_judged_input){ v->dtype, v->shape[0],
			v->rank < 2 ? 0 : qat_value_elements(v) / v->shape[0] };
		to->n_in[i] = qat_value_elements(v);
		to->in[i] = doubles(v, look_up(x, h, v->id), &to->top[i]);
		if (!to->in[i])
			return qat_fail(QAT_ENOMEM, "trace: out of memory");
	}
	for (int64_t i = 0; i < n->n_out; i++) {
		const qat_value *v = n->out[i] == QAT_NONE ? NULL : x->graph->values[n->out[i]];

		if (!v)
			continue;
		to->type_out[i] = v->dtype;
		to->n_out[i] = qat_value_elements(v);
		to->out[i] = doubles(v, want[i] ? want[i] : x->stand_ins[v->id], &top);
		if (!to->out[i])
			return qat_fail(QAT_ENOMEM, "trace: out of memory");
	}
	return QAT_OK;
}

typedef struct verdict {
	int exact, differs;		/* differs: not the same bits */
	int64_t at;			/* first element that is too far off, QAT_NONE */
	double bound;
} verdict;

/* Compares output `which`; numbers are made for the first that differs of a CLOSE op. */
static int judge(verdict *d, qat_numbers *numbers, qat_judged *j, const qat_exec *x,
		 const qat_node *n, const held *h, void *const *want, int64_t which,
		 const void *have)
{
	const qat_value *v = x->graph->values[n->out[which]];

	d->at = QAT_NONE;
	for (int64_t i = 0; i < qat_value_elements(v); i++) {
		int rc = QAT_OK;

		if (qat_number_same(v->dtype, want[which], have, i))
			continue;
		d->differs = 1;
		d->at = i;
		d->bound = 0.0;
		if (d->exact)
			return QAT_OK;
		if (!numbers->c)
			rc = numbers_of(numbers, j, x, n, h, want);
		if (rc)
			return rc;
		d->bound = qat_op_bound(numbers, (int)which, i);
		if (!(fabs(qat_number(v->dtype, have, i) - numbers->out[which][i]) <= d->bound))
			return QAT_OK;
		d->at = QAT_NONE;
	}
	return QAT_OK;
}

static int differs(const qat_trace *t, const qat_exec *x, const qat_lane *l, const qat_node *n,
		   int64_t which, const verdict *d, const void *want, const void *have)
{
	const qat_value *v = x->graph->values[n->out[which]];
	char types[80];

	qat_exec_types(x->graph, n, types, sizeof types);
	return qat_fail(QAT_ENUMERIC, "trace: %s (%s, %s, %s) on %s differs from %s: output "
			"%lld[%lld] is %.9g, not %.9g, and may be %.3g off; %lld nodes before it "
			"agree",
			n->name, qat_op_info(n->op)->name, types, qat_phase_name(n->phase),
			l->device->name, t->oracle.name, (long long)which, (long long)d->at,
			qat_number(v->dtype, have, d->at), qat_number(v->dtype, want, d->at),
			d->bound, (long long)(t->same + t->close));
}

/* All outputs of a node; those that cannot be read are kept as stand-ins. An index that
 * goes with near numbers may be another: argmax. */
static int judge_node(qat_trace *t, qat_exec *x, const qat_lane *l, const qat_node *n,
		      const held *h, void **want)
{
	verdict d = { .exact = qat_node_exact(n) };
	qat_numbers numbers = { .c = NULL };
	qat_judged judged;
	int seen = 0, rc = QAT_OK;

	for (int64_t i = 0; i < n->n_out && !rc; i++) {
		const int64_t v = n->out[i];
		void *have = NULL;

		if (v == QAT_NONE || (!d.exact && x->graph->values[v]->dtype == QAT_I32))
			continue;
		if (!readable(x, l, v)) {
			free(x->stand_ins[v]);
			x->stand_ins[v] = want[i];
			want[i] = NULL;
			continue;
		}
		rc = read_value(&have, x, l, v);
		if (!rc)
			rc = judge(&d, &numbers, &judged, x, n, h, want, i, have);
		if (!rc && d.at != QAT_NONE)
			rc = differs(t, x, l, n, i, &d, want[i], have);
		free(have);
		seen = 1;
	}
	numbers_free(&numbers);
	t->inside += !seen;
	t->same += !rc && seen && !d.differs;
	t->close += !rc && seen && d.differs;
	return rc;
}

static int trace_node(qat_trace *t, qat_exec *x, const qat_lane *l, const qat_node *n,
		      const held *h, const qat_runtime *rt)
{
	void *want[QAT_MAX_OUT] = { NULL };
	int rc = run_alone(t, x, n, h, rt, want);

	if (rc == QAT_ENOTFOUND || rc == QAT_ENOTSUP) {
		t->unknown++;
		rc = QAT_OK;
	} else if (!rc) {
		rc = judge_node(t, x, l, n, h, want);
	}
	for (int i = 0; i < QAT_MAX_OUT; i++)
		free(want[i]);
	return rc;
}

static int trace_claim(qat_trace *t, qat_exec *x, const qat_lane *l, int64_t claim,
		       qat_runtime *rt)
{
	const qat_claim *c = l->claims[claim];
	held h = { .count = 0 };
	int rc = hold(x, l, c, 0, &h);

	if (!rc)
		rc = l->device->api->run_one(l->device->handle, l->exe, rt, claim);
	for (int64_t i = 0; i < c->n_nodes && !rc && rt->bad_node == QAT_NONE; i++) {
		rc = hold(x, l, c, 1, &h);
		if (!rc)
			rc = trace_node(t, x, l, x->graph->nodes[c->nodes[i]], &h, rt);
	}
	let_go(&h);
	return rc;
}

int qat_trace_run(qat_exec *x, uint32_t phase, qat_runtime *rt)
{
	int rc = mark_private(x);

	for (int64_t i = 0; i < x->n_actions && !rc && rt->bad_node == QAT_NONE; i++) {
		const qat_action *a = &x->actions[i];

		if (a->phase != phase)
			continue;
		if (a->value != QAT_NONE)
			rc = qat_exec_copy(x, a);
		for (int64_t k = 0; k < a->count && !rc && rt->bad_node == QAT_NONE; k++)
			rc = trace_claim(x->device->trace, x, &x->lanes[a->lane], a->first + k, rt);
	}
	return rc;
}
