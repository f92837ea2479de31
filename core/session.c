/* session.c - opening sessions, and what of a state their parameters are filled from. */
#include "session_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

/* ---- parameters ---- */

typedef int reader(const qat_state *s, const qat_param_state *p, void *to);

static int read_floats(const qat_state *s, const qat_param_state *p, void *to)
{
	return qat_state_read(s, p, to);
}

static int read_codes(const qat_state *s, const qat_param_state *p, void *to)
{
	return qat_state_codes(s, p, to);
}

static int read_scale(const qat_state *s, const qat_param_state *p, void *to)
{
	return qat_state_scale(s, p, to);
}

static int read_zero(const qat_state *s, const qat_param_state *p, void *to)
{
	return qat_state_zero(s, p, to);
}

/* "<param>", "<param>.codes", ".scale", ".zero": who it is of and how it is read. */
static const qat_param_state *split_name(const qat_state *s, const char *name, reader **read)
{
	static const struct { const char *suffix; reader *read; } parts[] = {
		{ ".codes", read_codes }, { ".scale", read_scale }, { ".zero", read_zero },
	};
	const char *dot = strrchr(name, '.');
	char param[512];

	for (size_t i = 0; dot && i < sizeof parts / sizeof *parts; i++) {
		if (strcmp(dot, parts[i].suffix) || (size_t)(dot - name) >= sizeof param)
			continue;
		memcpy(param, name, (size_t)(dot - name));
		param[dot - name] = '\0';
		*read = parts[i].read;
		return qat_state_param(s, param);
	}
	*read = read_floats;
	return qat_state_param(s, name);
}

static int fill(void *context, const qat_value *v, void *to)
{
	const qat_session *x = context;
	reader *read;
	const qat_param_state *p = split_name(x->state, v->name, &read);

	if (!p)
		return qat_fail(QAT_EINVAL, "%s: no such parameter", v->name);
	return read(x->state, p, to);
}

int64_t qat_session_find(const qat_session *x, const char *name)
{
	const qat_graph *g = &qat_exec_graph(x->exec)->graph;

	for (int64_t v = 0; v < g->n_values; v++)
		if ((g->values[v]->role == QAT_ROLE_PARAM ||
		     g->values[v]->role == QAT_ROLE_STATE) &&
		    g->values[v]->name && !strcmp(g->values[v]->name, name))
			return qat_exec_binding(x->exec, v).memory ? v : QAT_NONE;
	return QAT_NONE;
}

static int find_source(void *context, const qat_value *v, qat_source *out)
{
	const qat_session *x = context;
	reader *read;
	const qat_param_state *p;

	out->value = x->shared ? qat_session_find(x->shared, v->name) : QAT_NONE;
	if (out->value != QAT_NONE)
		out->owner = x->shared->exec;
	if (v->role == QAT_ROLE_STATE)		/* begins as zeros */
		return QAT_OK;
	out->fill = fill;
	p = split_name(x->state, v->name, &read);
	if (!p)		/* a static range */
		return out->owner || x->expected ? QAT_OK
		     : qat_state_range(x->state, v->name, qat_value_bytes(v), &out->data);
	/* What is frozen and lies in the file as the graph wants it is used where it lies, by
	 * devices that can. Of a state that is not there yet it is known that it will. */
	if (qat_session_is_training(x) || read != read_floats)
		return QAT_OK;
	if (x->expected)
		out->data = x->context->device.api->import ? x : NULL;
	else if (qat_session_can_map(x->context, p) && p->at.dtype == v->dtype)
		out->data = p->at.data;
	return QAT_OK;
}

/* ---- calibration ---- */

static int reset_ranges(qat_session *x)
{
	int rc = QAT_OK;

	for (int64_t i = 0; i < x->ir->graph.n_nodes && !rc; i++) {
		const qat_node *n = x->ir->graph.nodes[i];
		const int64_t v = n->in[1];
		float *range;

		if (n->op != QAT_OP_OBSERVE)
			continue;
		range = malloc((size_t)qat_value_bytes(x->ir->graph.values[v]));
		if (!range)
			return qat_fail(QAT_ENOMEM, "session: out of memory");
		for (int64_t k = 0; k < qat_value_elements(x->ir->graph.values[v]); k += 2) {
			range[k] = INFINITY;
			range[k + 1] = -INFINITY;
		}
		rc = qat_exec_write(x->exec, v, range,
				    qat_value_bytes(x->ir->graph.values[v]));
		free(range);
	}
	return rc;
}

/* ---- opening ---- */

int qat_session_keep(const qat_session *x, int64_t **out, int64_t *count)
{
	int64_t *keep = malloc((size_t)(8 + 2 * x->n_trained) * sizeof *keep);
	int64_t n = 0;

	if (!keep)
		return qat_fail(QAT_ENOMEM, "session: out of memory");
	keep[n++] = x->loss.nll;
	keep[n++] = x->loss.argmax;
	keep[n++] = x->loss.logits;
	for (int64_t i = 0; i < x->n_trained; i++) {
		keep[n++] = x->trained[i].gradient;
		keep[n++] = x->trained[i].square;
	}
	*out = keep;
	*count = n;
	return QAT_OK;
}

static int check_spec(const qat_session *x)
{
	const int64_t context = x->state->info.context;
	const int64_t length = qat_session_is_generating(x) ? x->spec.context : x->spec.length;
	int64_t n;

	if (x->spec.batch < 1 || x->spec.length < 1 || length < x->spec.length ||
	    __builtin_mul_overflow(x->spec.batch, length, &n) || n > INT32_MAX / 4)
		return qat_fail(QAT_EINVAL, "batch %lld x length %lld is out of reach",
				(long long)x->spec.batch, (long long)length);
	if (context && length > context)
		return qat_fail(QAT_EINVAL, "sequences of length %lld are longer than the model's "
				"context of %lld: set a smaller length", (long long)length,
				(long long)context);
	return QAT_OK;
}

static void let_go(void *context)
{
	qat_state_let_go(((const qat_session *)context)->state);
}

qat_exec_spec qat_session_exec_spec(const qat_session *x, const int64_t *keep, int64_t n_keep)
{
	return (qat_exec_spec){ .g = x->ir, .keep = keep, .n_keep = n_keep, .find = find_source,
				.context = (void *)(uintptr_t)x, .stream = x->stream,
				.mapped = x->mapped, .let_go = let_go };
}

/* All up to the device. */
static int describe(qat_session *x, int64_t **keep, int64_t *n_keep)
{
	int rc = qat_context_state(x->context, &x->state, x->spec.state);

	if (!rc)
		rc = check_spec(x);
	if (!rc)
		rc = qat_placement_start(&x->placement, x->context, x->state, x->spec.sites,
					 x->arena);
	if (!rc)
		rc = qat_session_build(x);
	return rc ? rc : qat_session_fit(x, keep, n_keep);
}

static int start(qat_session *x)
{
	int64_t *keep = NULL, n_keep = 0;
	int rc = describe(x, &keep, &n_keep);
	const qat_exec_spec spec = qat_session_exec_spec(x, keep, n_keep);

	if (!rc)
		qat_session_say_fit(x);
	if (!rc)
		rc = qat_exec_open(&x->exec, &x->context->device, &spec);
	if (!rc)
		rc = reset_ranges(x);
	if (!rc)
		let_go(x);
	free(keep);
	return rc;
}

static int session_new(qat_session **out, qat_context *c, const qat_session_spec *spec)
{
	qat_session *x = calloc(1, sizeof *x);
	int rc = x ? qat_arena_new(&x->arena) : qat_fail(QAT_ENOMEM, "session: out of memory");

	if (rc) {
		free(x);
		return rc;
	}
	x->context = c;
	x->spec = *spec;
	if (x->spec.accumulate < 1)
		x->spec.accumulate = 1;
	*out = x;
	return QAT_OK;
}

static const char *static_range(const qat_session *x)
{
	const qat_graph *g = &x->ir->graph;
	reader *read;

	for (int64_t v = 0; v < g->n_values; v++)
		if (g->values[v]->role == QAT_ROLE_PARAM &&
		    !split_name(x->state, g->values[v]->name, &read))
			return qat_arena_text(x->context->arena, g->values[v]->name);
	return NULL;
}

static int check_observed(const qat_session *x)
{
	const qat_graph *g = &x->ir->graph;

	if (x->spec.mode != QAT_SESSION_CALIBRATE)
		return QAT_OK;
	for (int64_t n = 0; n < g->n_nodes; n++)
		if (g->nodes[n]->op == QAT_OP_OBSERVE)
			return QAT_OK;
	return qat_fail(QAT_EINVAL, "nothing to measure: no scheme at these sites has a static "
			"range: leave the step out, or make an input's scheme static");
}

int qat_session_predict_one(qat_plan_size *out, const char **range, qat_context *c,
			    const qat_session_spec *spec, int how)
{
	int64_t *keep = NULL, n_keep = 0;
	qat_session *x;
	int rc = session_new(&x, c, spec);

	if (rc)
		return rc;
	x->expected = how & QAT_EXPECT_CODES ? QAT_EXPECT_CODES : how & QAT_EXPECT_FLOATS;
	rc = describe(x, &keep, &n_keep);
	if (!rc)
		rc = check_observed(x);
	if (!rc)
		*range = static_range(x);
	if (!rc) {
		const qat_exec_spec exec = qat_session_exec_spec(x, keep, n_keep);

		rc = qat_exec_expect(out, &c->device, &exec, how & QAT_EXPECT_EXPLAIN);
		out->level = x->level;
	}
	free(keep);
	qat_session_close(x);
	return rc;
}

int qat_session_predict(qat_plan_size *out, const char **range, qat_context *c,
			const qat_session_spec *spec, int how)
{
	return spec->mode == QAT_SESSION_GENERATE
	     ? qat_generation_predict(out, range, c, spec, how)
	     : qat_session_predict_one(out, range, c, spec, how);
}

int qat_session_open_one(qat_session **out, qat_context *c, const qat_session_spec *spec,
			 qat_session *share)
{
	qat_session *x;
	int rc = session_new(&x, c, spec);

	if (rc)
		return rc;
	x->shared = share;
	if (share && !x->spec.sites)
		x->spec.sites = share->spec.sites;
	rc = start(x);
	if (rc)
		qat_session_close(x);
	else
		*out = x;
	return rc;
}

int qat_session_open(qat_session **out, qat_context *c, const qat_session_spec *spec,
		     qat_session *share)
{
	return spec->mode == QAT_SESSION_GENERATE ? qat_generation_open(out, c, spec, share)
						  : qat_session_open_one(out, c, spec, share);
}

void qat_session_close(qat_session *x)
{
	if (!x)
		return;
	qat_generation_free(x->generation);
	qat_exec_free(x->exec);
	if (x->state)
		let_go(x);
	free(x->trained);
	free(x->lasting);
	qat_ir_free(x->ir);
	qat_ir_free(x->prepared);
	qat_ir_free(x->model);
	qat_arena_free(x->arena);
	free(x);
}

qat_context *qat_session_context(const qat_session *x)
{
	return x->context;
}

int64_t qat_session_vocabulary(const qat_session *x)
{
	return x->state->info.vocabulary;
}

void qat_session_size(const qat_session *x, qat_plan_size *out)
{
	qat_exec_size(x->exec, out);
	out->level = x->level;
	if (x->generation)
		qat_generation_size(x, out);
}
