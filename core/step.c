/* step.c - the services that tasks work with. */
#include "step.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "error.h"
#include "output.h"
#include "plugin.h"
#include "progress.h"
#include "resume.h"
#include "session.h"
#include "step_internal.h"

double qat_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the step ---- */

static const char *step_output(const qat_step *s) { return s->output; }
static uint64_t step_seed(const qat_step *s) { return (uint64_t)s->context->p->seed; }

static uint32_t step_precision(const qat_step *s)
{
	return (uint32_t)s->context->p->device.precision;
}

static void step_progress(qat_step *s, const qat_progress *p)
{
	const double now = qat_now();
	const qat_event_value values[] = {
		{ "step", NULL, (double)s->index }, { "task", s->plan->task, 0 },
		{ "state", p->state, 0 },
		{ "progress", NULL, p->total ? (double)p->done / (double)p->total : NAN },
		{ "optimizer_step", NULL, p->optimizer_step >= 0 ? (double)p->optimizer_step : NAN },
		{ "loss", NULL, p->loss }, { "lr", NULL, p->lr },
		{ "tokens_per_second", NULL, qat_progress_rate() },
		{ "memory", NULL, (double)qat_memory_now() },
	};

	s->tokens = p->tokens;
	qat_progress_show(p);
	/* An optimizer step is always told; batches of an evaluation once a second. */
	if (p->optimizer_step < 0 && p->done < p->total && now - s->last_event < 1.0)
		return;
	s->last_event = now;
	qat_events_add(s->events, values, sizeof values / sizeof *values);
	qat_trackers_event(s->trackers, NULL, values, sizeof values / sizeof *values);
}

/* The first interval warms up and does not count; nor does one of no tokens. */
static void step_timed(qat_step *s, int64_t tokens)
{
	const double now = qat_now();

	if (s->timed_from > 0.0 && tokens > 0) {
		s->timed_seconds += now - s->timed_from;
		s->timed_tokens += tokens;
	}
	s->timed_from = now;
}

/* ---- sessions ---- */

void qat_step_need(qat_step *s, int64_t bytes)
{
	if (bytes > s->predicted)
		s->predicted = bytes;
}

static int open_session(qat_step *s, qat_session **out, const qat_session_spec *spec,
			qat_session *share)
{
	const int64_t before = qat_memory_now();
	qat_plan_size size;
	int rc = spec->mode == QAT_SESSION_TRAIN ? qat_predict_beside(s, spec->state) : QAT_OK;

	if (!rc)
		rc = qat_session_open(out, s->context, spec, share);
	s->context->beside = 0;
	if (rc)
		return rc;
	qat_session_size(*out, &size);
	qat_step_need(s, before + size.params + size.state + size.step + size.scratch +
		      size.mapped);
	if (size.level > s->recompute)
		s->recompute = size.level;
	return QAT_OK;
}

static int session_open(qat_step *s, qat_session **out, const qat_session_spec *spec)
{
	return open_session(s, out, spec, NULL);
}

static int session_share(qat_session *x, qat_session **out, const qat_session_spec *spec)
{
	return open_session(qat_session_context(x)->step, out, spec, x);
}

int qat_step_record(qat_step *s, const char *state)
{
	const qat_state *of;
	qat_row *row;
	int64_t bytes;
	double bits;
	int rc = qat_context_state(s->context, &of, state);

	if (!rc)
		rc = qat_converted_size(s->context, of, &bytes, &bits);
	if (rc)
		return rc;
	row = qat_results_state(s->results, state);
	qat_row_text(row, "parent", s->plan && s->plan->from >= 0
		? s->context->p->states[s->plan->from].name : NULL);
	qat_row_int(row, "bytes", bytes);
	qat_row_number(row, "effective_bits", bits);
	qat_row_int(row, "tokens_trained", of->tokens_trained);
	return QAT_OK;
}

static int session_commit(qat_session *x, const char *as, int64_t tokens_trained)
{
	qat_context *c = qat_session_context(x);
	const char *folder = qat_context_folder(c, as);
	int rc = folder ? qat_session_save(x, folder, tokens_trained) : QAT_ENOMEM;

	return rc ? rc : qat_step_record(c->step, as);
}

/* ---- states ---- */

static int state_quantize(qat_step *s, const char *from, const char *sites, const char *as)
{
	const char *folder = qat_context_folder(s->context, as);
	const qat_state *of;
	int64_t need = 0;
	int rc = folder ? qat_context_state(s->context, &of, from) : QAT_ENOMEM;

	if (!rc)
		rc = qat_convert(s->context, of, sites, folder, NULL, &need);
	qat_step_need(s, need);
	return rc ? rc : qat_step_record(s, as);
}

static int64_t state_bytes(qat_step *s, const char *state)
{
	const qat_state *of;
	int64_t bytes;
	double bits;

	if (qat_context_state(s->context, &of, state) ||
	    qat_converted_size(s->context, of, &bytes, &bits))
		return -1;
	return bytes;
}

/* ---- results ---- */

static qat_row *step_row(qat_step *s, const char *list)
{
	return qat_results_row(s->results, list);
}

static void step_event(qat_step *s, const char *kind, const char *const *keys,
		       const double *values, int64_t count)
{
	qat_event_value v[16] = { { "step", NULL, (double)s->index }, { "task", s->plan->task, 0 },
				  { "kind", kind, 0 } };
	int64_t n = 3;

	for (int64_t i = 0; i < count && n < 16; i++)
		v[n++] = (qat_event_value){ keys[i], NULL, values[i] };
	qat_events_add(s->events, v, n);
	qat_trackers_event(s->trackers, s->plan->as < 0 ? NULL
			   : s->context->p->states[s->plan->as].name, v, n);
}

static int step_remember(qat_step *s, const char *key, const void *data, int64_t bytes)
{
	qat_memo *m = calloc(1, sizeof *m);

	if (m) {
		m->key = strdup(key);
		m->data = malloc((size_t)bytes + 1);
		m->bytes = bytes;
	}
	if (!m || !m->key || !m->data) {
		qat_memo_free(m);
		return qat_fail(QAT_ENOMEM, "out of memory");
	}
	memcpy(m->data, data, (size_t)bytes);
	m->next = s->memos;
	s->memos = m;
	return QAT_OK;
}

static const void *step_recall(qat_step *s, const char *key, int64_t *bytes)
{
	for (const qat_memo *m = s->memos; m; m = m->next)
		if (!strcmp(m->key, key)) {
			*bytes = m->bytes;
			return m->data;
		}
	return NULL;
}

void qat_memo_free(qat_memo *m)
{
	while (m) {
		qat_memo *next = m->next;

		free(m->key);
		free(m->data);
		free(m);
		m = next;
	}
}

const qat_session_api qat_step_api = {
	.size = sizeof(qat_session_api),
	.output = step_output, .seed = step_seed, .precision = step_precision,
	.stopped = qat_stopped, .progress = step_progress, .timed_tokens = step_timed,
	.data_open = qat_step_data_open, .data_close = qat_step_data_close,
	.data_count = qat_step_data_count, .data_length = qat_step_data_length,
	.data_get = qat_step_data_get,
	.open = session_open, .close = qat_session_close,
	.vocabulary = qat_session_vocabulary, .forward = qat_session_forward,
	.logits = qat_session_logits, .backward = qat_session_backward,
	.gradient_norm = qat_session_norm, .update = qat_session_update,
	.param_name = qat_session_param, .param_gradient = qat_session_gradient,
	.commit = session_commit, .share = session_share,
	.quantize = state_quantize, .save = qat_step_save, .state_bytes = state_bytes,
	.row = step_row, .row_text = qat_row_text, .row_int = qat_row_int,
	.row_number = qat_row_number, .event = step_event,
	.remember = step_remember, .recall = step_recall, .dump = qat_step_dump,
	.path_check = qat_step_path_check, .save_check = qat_step_save_check,
	.append = qat_session_append, .restart = qat_session_restart,
	.encode = qat_step_encode, .decode = qat_step_decode, .text_free = free,
	.special_tokens = qat_step_special_tokens, .context = qat_step_context,
	.checkpoint = qat_resume_write, .restore = qat_resume_read,
};
