/* session_run.c - the calls that tasks make on an open session: batches forward and backward,
 * updates, and what is read of them. */
#include "session_internal.h"

#include <math.h>

#include "error.h"

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
	/* Not x->state any more; the task says whose. */
	if (qat_session_is_training(x) || x->shared)
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
	if (!rc && qat_session_is_training(x))
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
	if (qat_session_is_training(x))
		return qat_fail(QAT_EINVAL, "session: opened for training: share it to evaluate");
	if (qat_session_is_generating(x))
		return qat_fail(QAT_EINVAL, "session: opened for generation: append to it");
	rc = forward(x, b, &rt);
	return rc ? rc : read_outputs(x, b);
}

int qat_session_backward(qat_session *x, const qat_batch *b)
{
	qat_runtime rt = runtime(x, b);
	int rc;

	if (!qat_session_is_training(x))
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

	if (!qat_session_is_training(x) || !x->spec.optimizer)
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
