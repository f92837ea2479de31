/* session.c - from a state to a running graph, and the calls that tasks make on it. */
#include "session_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

/* ---- building the graph ---- */

static const qat_param *find_param(void *context, const char *name)
{
	const qat_param_state *p = qat_state_param(context, name);

	return p ? &p->info : NULL;
}

/* Whether the device can read it where it lies in the file. */
static int is_mappable(const qat_context *c, const qat_param_state *p)
{
	const int64_t size = qat_dtype_bytes(p->at.dtype);

	return c->device.api->import && !p->codes && p->at.data &&
	       (p->at.dtype == QAT_F32 || p->at.dtype == QAT_BF16) &&
	       (uintptr_t)p->at.data % (uintptr_t)size == 0;
}

/* Asked of frozen parameters only: those under training are f32 masters. Matrices in bf16
 * are used as they are; vectors are small. */
static int stored(void *context, const char *name, qat_stored *out)
{
	const qat_session *x = context;
	const qat_param_state *p = qat_state_param(x->state, name);

	if (!p)
		return QAT_OK;
	if (x->expected == QAT_EXPECT_CODES)
		return qat_placement_weight(&out->scheme, (qat_placement *)&x->placement, p);
	if (x->expected)
		return QAT_OK;
	out->scheme = p->codes;
	if (is_mappable(x->context, p) && p->at.dtype == QAT_BF16 && p->info.rank == 2)
		out->dtype = QAT_BF16;
	return QAT_OK;
}

static int find_scheme(void *context, const qat_site *site, const qat_scheme_set **out)
{
	return qat_placement_find(&((qat_session *)context)->placement, site, out);
}

static int is_training(const qat_session *x)
{
	return x->spec.mode == QAT_SESSION_TRAIN;
}

static int is_generating(const qat_session *x)
{
	return x->spec.mode == QAT_SESSION_GENERATE;
}

/* Parameters are f32 that are trained, here or by whom they are shared with. */
static int has_masters(const qat_session *x)
{
	return is_training(x) || (x->shared && has_masters(x->shared));
}

static int build_model(qat_session *x, qat_outputs *out)
{
	const qat_model *m = x->state->model.vtable;
	int rc;

	x->model = qat_ir_new(x->spec.batch, x->spec.length,
			      (uint32_t)x->context->p->device.precision);
	if (!x->model)
		return qat_fail(QAT_ENOMEM, "session: out of memory");
	x->model->find_param = find_param;
	x->model->context = (void *)x->state;
	x->model->cache = is_generating(x) ? x->spec.context : 0;
	out->size = sizeof *out;
	rc = m->build(x->state->model.self, x->model, out);
	if (!rc)
		rc = x->model->error;
	if (rc)
		return rc;
	return is_generating(x) ? qat_generation_head(x, out)
				: qat_ir_loss(x->model, &x->loss, out, x->spec.logits != 0);
}

static int prepare_how(const qat_session *x)
{
	return is_training(x) ? QAT_PREPARE_TRAIN
	     : x->spec.mode == QAT_SESSION_CALIBRATE ? QAT_PREPARE_CALIBRATE : QAT_PREPARE_PLAIN;
}

/* Asked for, and to be had at one site at least. */
static int check_gradients(const qat_session *x)
{
	for (int64_t i = 0; i < x->ir->graph.n_nodes; i++)
		if (x->ir->graph.nodes[i]->op == QAT_OP_QMATMUL_GRAD)
			return QAT_OK;
	return qat_fail(QAT_EINVAL, "gradient_bits: no site has a weight with one scale for a row, "
			"or an input with one for a token, both sides being integers without zero "
			"points: leave it out, or choose such schemes");
}

static int differentiate(qat_session *x)
{
	int rc;

	x->ir->gradient_bits = x->spec.gradient_bits;
	rc = qat_ir_differentiate(x->ir, &x->loss, x->spec.accumulate > 1, &x->trained,
				  &x->n_trained);
	if (!rc && x->spec.gradient_bits)
		rc = check_gradients(x);
	return rc ? rc : qat_ir_optimize(x->ir, x->spec.optimizer, x->trained, x->n_trained);
}

static int build_graph(qat_session *x)
{
	const int masters = has_masters(x);
	qat_outputs out = { 0 };
	int rc = build_model(x, &out);

	if (!rc)
		rc = qat_ir_prepare(&x->prepared, x->model, &x->loss, find_scheme,
				    masters ? NULL : stored, x, prepare_how(x));
	if (!rc)
		rc = qat_ir_precision(&x->ir, x->prepared, &x->loss);
	if (!rc && is_training(x))
		rc = differentiate(x);
	return rc;
}

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
	if (is_training(x) || read != read_floats)
		return QAT_OK;
	if (x->expected)
		out->data = x->context->device.api->import ? x : NULL;
	else if (is_mappable(x->context, p) && p->at.dtype == v->dtype)
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
	const int64_t length = is_generating(x) ? x->spec.context : x->spec.length;
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
		rc = build_graph(x);
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

/* ---- running ---- */

static int write_input(qat_session *x, uint32_t which, const void *data)
{
	const int64_t v = x->ir->inputs[which];

	if (v == QAT_NONE)
		return QAT_OK;
	if (!data)
		return qat_fail(QAT_EINVAL, "session: an input is missing");
	return qat_exec_write(x->exec, v, data, qat_value_bytes(x->ir->graph.values[v]));
}

static int check_tokens(const qat_session *x, const qat_batch *b)
{
	const int64_t n = x->spec.batch * x->spec.length, v = x->state->info.vocabulary;

	for (int64_t i = 0; i < n; i++)
		if (b->tokens[i] < 0 || b->tokens[i] >= v || b->labels[i] >= v ||
		    (b->labels[i] < 0 && b->labels[i] != -100))
			return qat_fail(QAT_EINVAL, "token %d or label %d is outside the model's "
					"vocabulary of %lld", b->tokens[i], b->labels[i],
					(long long)v);
	return QAT_OK;
}

static qat_runtime runtime(const qat_session *x, const qat_batch *b)
{
	return (qat_runtime){ .seed = (uint64_t)x->context->p->seed, .sequence = b->sequence,
			      .step = b->step };
}

/* A loss or gradient is not finite: say where that began. `what`: "the loss". */
static int explain_bad(qat_session *x, const qat_batch *b, uint32_t last, const char *what)
{
	qat_runtime rt = runtime(x, b);
	const char *where;
	const int rc = qat_exec_find_bad(x->exec, last, &rt, &where);

	if (rc)
		return rc;
	if (!where)
		where = "the loss itself";
	if (is_training(x) || x->shared)	/* not x->state any more; the task says whose */
		return qat_fail(QAT_ENUMERIC, "%s is not a finite number: it begins at %s", what,
				where);
	return qat_fail(QAT_ENUMERIC, "%s of state %s is not a finite number: it begins at %s",
			what, x->state->name, where);
}

static int finite_loss(qat_session *x, const qat_batch *b)
{
	for (int64_t i = 0; b->nll && i < x->spec.batch * x->spec.length; i++)
		if (b->labels[i] >= 0 && !isfinite(b->nll[i]))
			return explain_bad(x, b, QAT_PHASE_FORWARD, "the loss");
	return QAT_OK;
}

static int finite_gradient(qat_session *x, const qat_batch *b)
{
	double norm;
	const int rc = qat_session_norm(x, &norm);

	if (rc || isfinite(norm))
		return rc;
	return explain_bad(x, b, QAT_PHASE_BACKWARD, "the gradient");
}

static int read_outputs(qat_session *x, const qat_batch *b)
{
	const int64_t n = x->spec.batch * x->spec.length;
	int rc = QAT_OK;

	if (b->nll)
		rc = qat_exec_read(x->exec, x->loss.nll, b->nll, n * 4);
	if (!rc && b->argmax)
		rc = qat_exec_read(x->exec, x->loss.argmax, b->argmax, n * 4);
	return rc ? rc : finite_loss(x, b);
}

/* Prologue if parameters changed, then forward. */
static int forward(qat_session *x, const qat_batch *b, qat_runtime *rt)
{
	int rc = check_tokens(x, b);

	if (!rc)
		rc = write_input(x, QAT_INPUT_TOKENS, b->tokens);
	if (!rc)
		rc = write_input(x, QAT_INPUT_LABELS, b->labels);
	if (!rc && is_training(x))
		rc = write_input(x, QAT_INPUT_LOSS_GRADIENT, b->loss_gradient);
	if (!rc && !x->prologue_done)
		rc = qat_exec_run(x->exec, QAT_PHASE_PROLOGUE, rt);
	if (rc)
		return rc;
	x->prologue_done = 1;
	return qat_exec_run(x->exec, QAT_PHASE_FORWARD, rt);
}

int qat_session_forward(qat_session *x, const qat_batch *b)
{
	qat_runtime rt = runtime(x, b);
	int rc;

	/* There a backend may compute gradients of the loss along with it. */
	if (is_training(x))
		return qat_fail(QAT_EINVAL, "session: opened for training: share it to evaluate");
	if (is_generating(x))
		return qat_fail(QAT_EINVAL, "session: opened for generation: append to it");
	rc = forward(x, b, &rt);
	return rc ? rc : read_outputs(x, b);
}

int qat_session_backward(qat_session *x, const qat_batch *b)
{
	qat_runtime rt = runtime(x, b);
	int rc;

	if (!is_training(x))
		return qat_fail(QAT_EINVAL, "session: not opened for training");
	rc = forward(x, b, &rt);
	if (!rc)
		rc = qat_exec_run(x->exec, QAT_PHASE_BACKWARD, &rt);
	if (!rc)
		rc = read_outputs(x, b);
	return rc ? rc : finite_gradient(x, b);
}

int qat_session_logits(qat_session *x, float *out)
{
	if (x->loss.logits == QAT_NONE)
		return qat_fail(QAT_EINVAL, "session: opened without logits");
	return qat_exec_read(x->exec, x->loss.logits, out,
			     qat_value_bytes(x->ir->graph.values[x->loss.logits]));
}

int qat_session_norm(qat_session *x, double *out)
{
	double sum = 0.0;

	for (int64_t i = 0; i < x->n_trained; i++) {
		double square;
		const int rc = qat_exec_read(x->exec, x->trained[i].square, &square, sizeof square);

		if (rc)
			return rc;
		sum += square;
	}
	*out = __builtin_sqrt(sum);
	return QAT_OK;
}

static int write_hyper(qat_session *x, const qat_update *u)
{
	const qat_optimizer *o = x->spec.optimizer->vtable;
	const qat_graph *g = &x->ir->graph;

	for (int64_t i = 0; i < x->n_trained; i++) {
		const qat_trained *t = &x->trained[i];
		qat_update one = *u;
		float hyper[QAT_HYPER_COUNT];
		int rc;

		one.matrix = g->values[t->param]->rank >= 2;
		rc = o->hyper(x->spec.optimizer->self, &one, hyper);
		if (!rc)
			rc = qat_exec_write(x->exec, t->hyper, hyper, sizeof hyper);
		if (rc)
			return rc;
	}
	return QAT_OK;
}

int qat_session_update(qat_session *x, const qat_update *u)
{
	qat_runtime rt = { .seed = (uint64_t)x->context->p->seed, .step = u->step };
	int rc;

	if (!is_training(x) || !x->spec.optimizer)
		return qat_fail(QAT_EINVAL, "session: opened without an optimizer");
	rc = write_hyper(x, u);
	if (!rc)
		rc = qat_exec_run(x->exec, QAT_PHASE_UPDATE, &rt);
	if (!rc && x->spec.accumulate > 1)
		for (int64_t i = 0; i < x->n_trained && !rc; i++)
			rc = qat_exec_zero(x->exec, x->trained[i].gradient);
	x->prologue_done = 0;
	return rc;
}

const char *qat_session_param(const qat_session *x, int64_t index, int64_t *elements)
{
	const qat_value *v;

	if (index < 0 || index >= x->n_trained)
		return NULL;
	v = x->ir->graph.values[x->trained[index].param];
	*elements = qat_value_elements(v);
	return v->name;
}

int qat_session_gradient(qat_session *x, int64_t index, float *out)
{
	const int64_t v = x->trained[index].gradient;

	return qat_exec_read(x->exec, v, out, qat_value_bytes(x->ir->graph.values[v]));
}
