/* calibrate.c - measure the ranges of inputs whose schemes are static, over a data set,
 * with the model in float.
 */
#include "task_kit.h"

#include <math.h>
#include <stdlib.h>

typedef struct calibrate_options {
	const char *from, *sites, *as, *data;
	int64_t batch, limit;
} calibrate_options;

static const qat_option options[] = {
	QAT_OPTION(calibrate_options, QAT_OPT_STATE, from, "state to calibrate",
		   .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(calibrate_options, QAT_OPT_SITES, sites, "schemes; default: the state's own",
		   .flags = 0),
	QAT_OPTION(calibrate_options, QAT_OPT_NEW_STATE, as, "name of the result",
		   .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(calibrate_options, QAT_OPT_DATA, data, "data set", .flags = QAT_OPT_REQUIRED),
	QAT_INT(calibrate_options, limit, 0, 0, 1e9, "first n sequences; 0: all"),
	QAT_INT(calibrate_options, batch, 4, 1, 4096, "sequences at once"),
	QAT_END
};

typedef struct work {
	const calibrate_options *o;
	qat_step *step;
	qat_data *data;
	qat_session *session;
	int64_t length, batch, sequences;
	int32_t *tokens, *labels;
} work;

/* The last batch is filled up with sequences that were seen: ranges do not change. */
static int run_batch(work *w, int64_t first)
{
	const qat_batch b = { .size = sizeof b, .tokens = w->tokens, .labels = w->labels,
			      .sequence = first };

	for (int64_t i = 0; i < w->batch; i++) {
		const int64_t at = first + i < w->sequences ? first + i : first;
		const int rc = qat_api->data_get(w->data, at, w->tokens + i * w->length,
						 w->labels + i * w->length);

		if (rc)
			return rc;
	}
	return qat_api->forward(w->session, &b);
}

static int run_all(work *w)
{
	for (int64_t i = 0; i < w->sequences; i += w->batch) {
		qat_progress p = { .size = sizeof p, .total = w->sequences, .optimizer_step = -1,
				   .loss = NAN, .lr = NAN, .state = w->o->as };
		int rc = run_batch(w, i);

		if (!rc && qat_api->stopped())
			rc = qat_fail(QAT_ESTOPPED, "interrupted while calibrating %s: --resume "
				     "begins this step again", w->o->as);
		if (rc)
			return rc;
		p.done = i + w->batch < w->sequences ? i + w->batch : w->sequences;
		p.tokens = p.done * w->length;
		qat_api->progress(w->step, &p);
	}
	return QAT_OK;
}

static int start(work *w)
{
	qat_session_spec spec = { .size = sizeof spec, .mode = QAT_SESSION_CALIBRATE,
				  .state = w->o->from, .sites = w->o->sites };
	size_t n;
	int rc = qat_api->data_open(w->step, &w->data, w->o->data, w->o->from);

	if (rc)
		return rc;
	w->length = spec.length = qat_api->data_length(w->data);
	w->sequences = qat_api->data_count(w->data);
	if (w->o->limit && w->o->limit < w->sequences)
		w->sequences = w->o->limit;
	w->batch = w->o->batch < w->sequences ? w->o->batch : w->sequences;
	spec.batch = w->batch;
	n = (size_t)(w->batch * w->length);
	w->tokens = malloc(n * sizeof *w->tokens);
	w->labels = malloc(n * sizeof *w->labels);
	if (!w->tokens || !w->labels)
		return qat_fail(QAT_ENOMEM, "calibrate: out of memory");
	return qat_api->open(w->step, &w->session, &spec);
}

static int run(const void *self, qat_step *s)
{
	work w = { .o = self, .step = s };
	int rc = start(&w);

	if (!rc)
		rc = run_all(&w);
	if (!rc)
		rc = qat_api->commit(w.session, w.o->as, 0);
	qat_api->close(w.session);
	qat_api->data_close(w.data);
	free(w.tokens);
	free(w.labels);
	return rc;
}

static int session(const void *self, qat_step *s, int64_t index, qat_session_spec *out)
{
	const calibrate_options *o = self;
	int64_t count;

	if (index)
		return QAT_ENOTFOUND;
	out->mode = QAT_SESSION_CALIBRATE;
	out->state = o->from;
	out->sites = o->sites;
	out->batch = o->batch;
	return qat_data_size(s, o->data, o->from, &out->length, &count);
}

static const qat_task task = { .size = sizeof task, .run = run, .session = session };

static const qat_interface calibrate = {
	.size = sizeof calibrate, .kind = QAT_KIND_TASK, .name = "calibrate",
	.summary = "measure the ranges that static schemes need",
	.options = options, .options_size = sizeof(calibrate_options), .vtable = &task,
};

static const qat_interface *const interfaces[] = { &calibrate };
QAT_PLUGIN_INIT("calibrate", interfaces, qat_task_init);
