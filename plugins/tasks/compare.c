/* compare.c - the fair comparison: a state against the control that saw the same tokens
 * in full precision, and against that control quantized.
 *   recovered = (ptq - state) / (ptq - control), in loss
 */
#include "task_kit.h"

#include <math.h>

typedef struct compare_options {
	qat_strings of;
	const char *ptq, *control, *data;
	int64_t batch;
} compare_options;

static const qat_option options[] = {
	QAT_OPTION(compare_options, QAT_OPT_STATES, of, "states to compare",
		   .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(compare_options, QAT_OPT_STATE, ptq, "the control, quantized",
		   .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(compare_options, QAT_OPT_STATE, control, "trained in full precision",
		   .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(compare_options, QAT_OPT_DATA, data, "data set to judge by",
		   .flags = QAT_OPT_REQUIRED),
	QAT_INT(compare_options, batch, 4, 1, 4096, "sequences at once"),
	QAT_END
};

static double loss(const qat_judgement *j)
{
	return j->nll / (double)j->tokens;
}

/* Standard error of the difference of the mean losses, paired over sequences. */
static double paired_error(const qat_judgement *a, const qat_judgement *b)
{
	const int64_t n = a->sequences;
	double mean = 0.0, square = 0.0;

	for (int64_t i = 0; i < n; i++)
		mean += (a->sequence_nll[i] - b->sequence_nll[i]) / (double)n;
	for (int64_t i = 0; i < n; i++) {
		const double d = a->sequence_nll[i] - b->sequence_nll[i] - mean;

		square += d * d;
	}
	if (n < 2)
		return NAN;
	/* of the sum over sequences, then per token */
	return sqrt(square / (double)(n - 1) * (double)n) / (double)a->tokens;
}

static void report(qat_step *s, const compare_options *o, const char *state,
		   const qat_judgement *j, const qat_judgement *ptq, const qat_judgement *control)
{
	const double gap = loss(ptq) - loss(control);
	qat_row *r = qat_api->row(s, "comparisons");

	qat_api->row_text(r, "state", state);
	qat_api->row_number(r, "loss_delta", loss(j) - loss(control));
	qat_api->row_number(r, "loss_delta_stderr", paired_error(j, control));
	qat_api->row_number(r, "perplexity_ratio", exp(loss(j) - loss(control)));
	qat_api->row_number(r, "bytes_ratio", (double)qat_api->state_bytes(s, state) /
			    (double)qat_api->state_bytes(s, o->control));
	qat_api->row_number(r, "recovered", gap != 0.0 ? (loss(ptq) - loss(j)) / gap : NAN);
	qat_api->row_text(r, "ptq", o->ptq);
	qat_api->row_text(r, "control", o->control);
	qat_api->row_text(r, "data", o->data);
}

static int check(const void *self, qat_step *s)
{
	const compare_options *o = self;

	return qat_data_scored(s, o->data, o->control);
}

static int run(const void *self, qat_step *s)
{
	const compare_options *o = self;
	qat_judgement ptq = { 0 }, control = { 0 }, j;
	int rc = qat_judge(s, &control, o->control, o->data, o->batch, NULL, NULL);

	if (!rc)
		rc = qat_judge(s, &ptq, o->ptq, o->data, o->batch, NULL, NULL);
	for (int64_t i = 0; i < o->of.count && !rc; i++) {
		rc = qat_judge(s, &j, o->of.at[i], o->data, o->batch, NULL, NULL);
		if (!rc) {
			report(s, o, o->of.at[i], &j, &ptq, &control);
			qat_judgement_free(&j);
		}
	}
	qat_judgement_free(&ptq);
	qat_judgement_free(&control);
	return rc;
}

static int session(const void *self, qat_step *s, int64_t index, qat_session_spec *out)
{
	const compare_options *o = self;
	const char *const state = index == 0 ? o->control : index == 1 ? o->ptq
				: index - 2 < o->of.count ? o->of.at[index - 2] : NULL;

	return state ? qat_judge_session(s, out, state, o->data, o->batch) : QAT_ENOTFOUND;
}

static const qat_task task = { .size = sizeof task, .check = check, .run = run,
			       .session = session };

static const qat_interface compare = {
	.size = sizeof compare, .kind = QAT_KIND_TASK, .name = "compare",
	.summary = "states against a control and that control quantized",
	.options = options, .options_size = sizeof(compare_options), .vtable = &task,
};

static const qat_interface *const interfaces[] = { &compare };
QAT_PLUGIN_INIT("compare", interfaces, qat_task_init);
