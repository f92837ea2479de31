/* session_generate.c - a session that takes tokens as they come.
 *
 * Two graphs of the same model share parameters and the caches of its attentions: one takes
 * a token of each sequence and gives logits, the other takes `length` tokens of a prompt and
 * gives nothing. A prompt is read in windows that end with its last token, so that no
 * window reaches past the context; what is read twice comes out the same, and what a
 * window longer than the prompt writes behind it is overwritten before anyone sees it.
 */
#include "session_internal.h"

#include <stdlib.h>

#include "error.h"

typedef struct qat_generation {
	qat_session *prompt;		/* NULL: token by token */
	int32_t *tokens;		/* [batch, context] */
	int32_t *window;		/* [batch, length]: what runs at once */
	int32_t *positions;		/* the same size */
	int64_t position;		/* tokens of each sequence in the caches */
} qat_generation;

int qat_generation_head(qat_session *x, const qat_outputs *out)
{
	x->loss = (qat_loss){ QAT_NONE, QAT_NONE, QAT_NONE, QAT_NONE };
	return x->spec.length > 1 ? QAT_OK : qat_ir_logits(x->model, &x->loss, out);
}

static qat_session_spec one_token(const qat_session_spec *spec)
{
	qat_session_spec s = *spec;

	s.length = 1;
	return s;
}

int qat_generation_open(qat_session **out, qat_context *c, const qat_session_spec *spec,
			qat_session *share)
{
	const qat_session_spec token = one_token(spec);
	const size_t batch = (size_t)spec->batch, window = batch * (size_t)spec->length;
	qat_generation *g = NULL;
	qat_session *x = NULL;
	int rc = qat_session_open_one(&x, c, &token, share);

	if (rc)
		return rc;
	g = x->generation = calloc(1, sizeof *g);
	if (g) {
		g->tokens = calloc(batch * (size_t)spec->context, sizeof *g->tokens);
		g->window = calloc(window, sizeof *g->window);
		g->positions = calloc(window, sizeof *g->positions);
	}
	if (!g || !g->tokens || !g->window || !g->positions)
		rc = qat_fail(QAT_ENOMEM, "session: out of memory");
	if (!rc && spec->length > 1)
		rc = qat_session_open_one(&g->prompt, c, spec, x);
	if (rc)
		qat_session_close(x);
	else
		*out = x;
	return rc;
}

void qat_generation_free(qat_generation *g)
{
	if (!g)
		return;
	qat_session_close(g->prompt);
	free(g->tokens);
	free(g->window);
	free(g->positions);
	free(g);
}

/* Parameters and caches are there once, and the rest follows each other in time. */
static void add_prompt(qat_plan_size *out, const qat_plan_size *prompt)
{
	out->step += prompt->step;
	out->scratch += prompt->scratch;
}

int qat_generation_predict(qat_plan_size *out, const char **range, qat_context *c,
			   const qat_session_spec *spec, int how)
{
	const qat_session_spec token = one_token(spec);
	qat_plan_size prompt;
	int rc = qat_session_predict_one(out, range, c, &token, how);

	if (rc || spec->length == 1)
		return rc;
	rc = qat_session_predict_one(&prompt, range, c, spec, how & ~QAT_EXPECT_EXPLAIN);
	if (!rc)
		add_prompt(out, &prompt);
	return rc;
}

void qat_generation_size(const qat_session *x, qat_plan_size *out)
{
	qat_plan_size prompt = { 0 };

	if (x->generation->prompt)
		qat_exec_size(x->generation->prompt->exec, &prompt);
	add_prompt(out, &prompt);
}

/* ---- running ---- */

/* Tokens [at, at + length) of each sequence; past `to` its last one stands in. */
static void load(qat_generation *g, const qat_session *x, int64_t at, int64_t to)
{
	const int64_t length = x->spec.length;

	for (int64_t i = 0; i < x->spec.batch * length; i++) {
		const int64_t t = at + i % length;

		g->window[i] = g->tokens[i / length * x->spec.context + (t < to ? t : to - 1)];
		g->positions[i] = (int32_t)t;
	}
}

static int run_window(qat_generation *g, qat_session *x, int64_t at, int64_t to)
{
	qat_runtime rt = { .seed = (uint64_t)x->context->p->seed, .position = at };
	const int64_t bytes = x->spec.batch * x->spec.length * (int64_t)sizeof(int32_t);
	const int64_t positions = x->ir->inputs[QAT_INPUT_POSITIONS];
	int rc;

	load(g, x, at, to);
	rc = qat_exec_write(x->exec, x->ir->inputs[QAT_INPUT_TOKENS], g->window, bytes);
	if (!rc && positions != QAT_NONE)
		rc = qat_exec_write(x->exec, positions, g->positions, bytes);
	if (!rc && !x->prologue_done)
		rc = qat_exec_run(x->exec, QAT_PHASE_PROLOGUE, &rt);
	if (rc)
		return rc;
	x->prologue_done = 1;
	return qat_exec_run(x->exec, QAT_PHASE_FORWARD, &rt);
}

/* Until `to` tokens are in the caches. */
static int advance(qat_session *x, int64_t to)
{
	qat_generation *g = x->generation;
	int rc = QAT_OK;

	while (!rc && g->position < to) {
		const int64_t left = to - g->position;
		qat_session *with = g->prompt && left > 1 ? g->prompt : x;
		const int64_t length = with->spec.length;
		const int64_t at = left >= length ? g->position : to > length ? to - length : 0;

		rc = run_window(g, with, at, to);
		if (!rc)
			g->position = at + length < to ? at + length : to;
	}
	return rc;
}

static int take_tokens(qat_session *x, const int32_t *tokens, int64_t count)
{
	qat_generation *g = x->generation;
	const int64_t context = x->spec.context, v = x->state->info.vocabulary;

	if (count < 1 || count > context - g->position)
		return qat_fail(QAT_EINVAL, "session: %lld tokens after %lld are more than the "
				"%lld that it was opened for", (long long)count,
				(long long)g->position, (long long)context);
	for (int64_t i = 0; i < x->spec.batch * count; i++) {
		if (tokens[i] < 0 || tokens[i] >= v)
			return qat_fail(QAT_EINVAL, "token %d is outside the model's vocabulary of "
					"%lld", tokens[i], (long long)v);
		g->tokens[i / count * context + g->position + i % count] = tokens[i];
	}
	return QAT_OK;
}

int qat_session_append(qat_session *x, const int32_t *tokens, int64_t count, float *logits)
{
	qat_generation *g = x->generation;
	int64_t to;
	int rc;

	if (!g)
		return qat_fail(QAT_EINVAL, "session: not opened for generation");
	rc = take_tokens(x, tokens, count);
	if (rc)
		return rc;
	to = g->position + count;
	rc = advance(x, logits ? to - 1 : to);		/* the last one gives logits */
	if (!rc && logits)
		rc = advance(x, to);
	return rc || !logits ? rc : qat_session_logits(x, logits);
}

int qat_session_restart(qat_session *x)
{
	if (!x->generation)
		return qat_fail(QAT_EINVAL, "session: not opened for generation");
	x->generation->position = 0;
	return QAT_OK;
}
