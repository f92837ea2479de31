/* judge.c - evaluation as all tasks do it: sequences in order, batches of a fixed size,
 * sums in double over sequences in order, so that the batch does not matter. */
#include "task_kit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DEFAULT_BATCH = 4 };

QAT_HIDDEN const qat_session_api *qat_api;

int qat_task_init(void)
{
	qat_api = qat_host_->service ? qat_host_->service("session") : NULL;
	return qat_api ? QAT_OK : qat_fail(QAT_EABI, "this core has no sessions for tasks");
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void qat_judgement_free(qat_judgement *j)
{
	free(j->sequence_nll);
	free(j->sequence_tokens);
	j->sequence_nll = NULL;
	j->sequence_tokens = NULL;
}

typedef struct judge {
	qat_step *step;
	qat_data *data;
	qat_session *session;
	qat_session *training;	/* within a step that counts and times its own tokens, or NULL */
	const qat_judge_dump *dump;
	qat_judgement *out;
	const char *state;
	int64_t batch, length;
	int32_t *tokens, *labels, *argmax;
	float *nll;
} judge;

static int allocate(judge *j)
{
	const size_t n = (size_t)(j->batch * j->length), s = (size_t)j->out->sequences;

	j->tokens = malloc(n * sizeof *j->tokens);
	j->labels = malloc(n * sizeof *j->labels);
	j->argmax = malloc(n * sizeof *j->argmax);
	j->nll = malloc(n * sizeof *j->nll);
	j->out->sequence_nll = calloc(s, sizeof *j->out->sequence_nll);
	j->out->sequence_tokens = calloc(s, sizeof *j->out->sequence_tokens);
	if (!j->tokens || !j->labels || !j->argmax || !j->nll || !j->out->sequence_nll ||
	    !j->out->sequence_tokens)
		return qat_fail(QAT_ENOMEM, "evaluate: out of memory");
	return QAT_OK;
}

/* The last batch is filled up with its first sequence, unscored. */
static int load(const judge *j, int64_t first, int64_t count)
{
	for (int64_t i = 0; i < j->batch; i++) {
		int32_t *labels = j->labels + i * j->length;
		const int rc = qat_api->data_get(j->data, first + (i < count ? i : 0),
						 j->tokens + i * j->length, labels);

		if (rc)
			return rc;
		for (int64_t t = 0; i >= count && t < j->length; t++)
			labels[t] = -100;
	}
	return QAT_OK;
}

static void score_sequence(const judge *j, int64_t sequence, int64_t row)
{
	double nll = 0.0;
	int64_t tokens = 0;

	for (int64_t t = 0; t < j->length; t++) {
		const int64_t k = row * j->length + t;

		if (j->labels[k] < 0)
			continue;
		nll += (double)j->nll[k];
		tokens++;
		j->out->correct += j->argmax[k] == j->labels[k];
	}
	j->out->sequence_nll[sequence] = nll;
	j->out->sequence_tokens[sequence] = tokens;
	j->out->nll += nll;
	j->out->tokens += tokens;
}

static void dump_sequence(const judge *j, int64_t sequence, int64_t row)
{
	const int64_t length = j->length;
	const int32_t last = j->labels[(row + 1) * length - 1];

	if (j->dump->tokens) {
		int32_t *to = j->dump->tokens + sequence * (length + 1);

		memcpy(to, j->tokens + row * length, (size_t)length * sizeof *to);
		to[length] = last >= 0 ? last : 0;
	}
	if (j->dump->nll)
		memcpy(j->dump->nll + sequence * length, j->nll + row * length,
		       (size_t)length * sizeof(float));
}

static int dump_logits(const judge *j, int64_t first, int64_t count)
{
	const int64_t row = j->length * qat_api->vocabulary(j->session);
	float *all = malloc((size_t)(j->batch * row) * sizeof *all);
	int rc = all ? qat_api->logits(j->session, all)
		     : qat_fail(QAT_ENOMEM, "dump: out of memory");

	if (!rc)
		memcpy(j->dump->logits + first * row, all, (size_t)(count * row) * sizeof *all);
	free(all);
	return rc;
}

static int run_batch(judge *j, int64_t first, int64_t count)
{
	const qat_batch b = { .size = sizeof b, .tokens = j->tokens, .labels = j->labels,
			      .nll = j->nll, .argmax = j->argmax };
	const double from = now();
	int rc = load(j, first, count);

	if (!rc)
		rc = qat_api->forward(j->session, &b);
	if (rc)
		return rc;
	qat_api->timed_tokens(j->step, j->training ? 0 : j->batch * j->length);
	if (first) {
		j->out->seconds += now() - from;
		j->out->timed_tokens += j->batch * j->length;
	}
	for (int64_t i = 0; i < count; i++) {
		score_sequence(j, first + i, i);
		if (j->dump)
			dump_sequence(j, first + i, i);
	}
	return j->dump && j->dump->logits ? dump_logits(j, first, count) : QAT_OK;
}

static int check_finite(const judge *j)
{
	if (isfinite(j->out->nll))
		return QAT_OK;
	return qat_fail(QAT_ENUMERIC, "state %s: the loss is not a finite number", j->state);
}

static int run_all(judge *j)
{
	for (int64_t i = 0; i < j->out->sequences; i += j->batch) {
		const int64_t left = j->out->sequences - i;
		const int64_t count = left < j->batch ? left : j->batch;
		qat_progress p = { .size = sizeof p, .total = j->out->sequences,
				   .optimizer_step = -1, .lr = NAN, .state = j->state };
		int rc = run_batch(j, i, count);

		if (!rc)
			rc = check_finite(j);
		if (!rc && qat_api->stopped())
			rc = qat_fail(QAT_ESTOPPED, "interrupted while evaluating %s: --resume "
				     "begins this step again", j->state);
		if (rc)
			return rc;
		p.done = i + count;
		p.tokens = j->out->tokens;
		p.loss = j->out->tokens ? j->out->nll / (double)j->out->tokens : NAN;
		if (!j->training)
			qat_api->progress(j->step, &p);
	}
	return j->out->tokens ? QAT_OK : qat_fail(QAT_EINVAL, "no token of the data is scored");
}

static int open_session(judge *j)
{
	const qat_session_spec spec = {
		.size = sizeof spec, .mode = QAT_SESSION_EVALUATE, .state = j->state,
		.batch = j->batch, .length = j->length, .logits = j->dump && j->dump->logits,
	};

	return j->training ? qat_api->share(j->training, &j->session, &spec)
			   : qat_api->open(j->step, &j->session, &spec);
}

/* What is remembered: the struct, then the two arrays. */
static void remember(qat_step *s, const char *key, const qat_judgement *j)
{
	const size_t n = (size_t)j->sequences * sizeof(double);
	char *flat = malloc(sizeof *j + 2 * n);

	if (!flat)
		return;
	memcpy(flat, j, sizeof *j);
	memcpy(flat + sizeof *j, j->sequence_nll, n);
	memcpy(flat + sizeof *j + n, j->sequence_tokens, n);
	qat_api->remember(s, key, flat, (int64_t)(sizeof *j + 2 * n));
	free(flat);
}

static int recall(qat_step *s, const char *key, qat_judgement *out)
{
	int64_t bytes;
	const char *flat = qat_api->recall(s, key, &bytes);
	size_t n;

	if (!flat)
		return 0;
	memcpy(out, flat, sizeof *out);
	n = (size_t)out->sequences * sizeof(double);
	out->sequence_nll = malloc(n);
	out->sequence_tokens = malloc(n);
	if (!out->sequence_nll || !out->sequence_tokens) {
		qat_judgement_free(out);
		return 0;
	}
	memcpy(out->sequence_nll, flat + sizeof *out, n);
	memcpy(out->sequence_tokens, flat + sizeof *out + n, n);
	return 1;
}

int qat_data_size(qat_step *s, const char *data, const char *state, int64_t *length,
		  int64_t *count)
{
	qat_data *d;
	const int rc = qat_api->data_open(s, &d, data, state);

	if (rc)
		return rc;
	*length = qat_api->data_length(d);
	*count = qat_api->data_count(d);
	qat_api->data_close(d);
	return QAT_OK;
}

/* Ends at the first label that is scored, so it looks at all of a data set only where it
 * is of no use. */
static int find_scored(const qat_data *d, const char *name)
{
	const int64_t length = qat_api->data_length(d), count = qat_api->data_count(d);
	int32_t *tokens = malloc((size_t)length * 2 * sizeof *tokens);
	int rc = tokens ? QAT_OK : qat_fail(QAT_ENOMEM, "data %s: out of memory", name);
	int found = 0;

	for (int64_t i = 0; !rc && !found && i < count; i++) {
		rc = qat_api->data_get(d, i, tokens, tokens + length);
		for (int64_t t = 0; !rc && !found && t < length; t++)
			found = tokens[length + t] >= 0;
	}
	free(tokens);
	if (rc || found)
		return rc;
	return qat_fail(QAT_EINVAL, "data %s: no label in its %lld sequences is scored (all are "
			"-100, or sequences have one token): there is nothing to learn or to judge",
			name, (long long)count);
}

int qat_data_scored(qat_step *s, const char *data, const char *state)
{
	qat_data *d;
	int rc = qat_api->data_open(s, &d, data, state);

	if (rc)
		return rc;
	rc = find_scored(d, data);
	qat_api->data_close(d);
	return rc;
}

int qat_judge_session(qat_step *s, qat_session_spec *out, const char *state, const char *data,
		      int64_t batch)
{
	int64_t count;

	out->mode = QAT_SESSION_EVALUATE;
	out->state = state;
	out->batch = batch > 0 ? batch : DEFAULT_BATCH;
	return qat_data_size(s, data, state, &out->length, &count);
}

int qat_judge(qat_step *s, qat_judgement *out, const char *state, const char *data,
	      int64_t batch, qat_session *training, const qat_judge_dump *dump)
{
	judge j = { .step = s, .training = training, .out = out, .state = state, .dump = dump };
	char key[256];
	int rc;

	snprintf(key, sizeof key, "judge %s on %s", state, data);
	memset(out, 0, sizeof *out);
	if (!training && !dump && recall(s, key, out))
		return QAT_OK;
	rc = qat_api->data_open(s, &j.data, data, state);
	if (rc)
		return rc;
	j.length = qat_api->data_length(j.data);
	out->sequences = qat_api->data_count(j.data);
	j.batch = batch > 0 ? batch : DEFAULT_BATCH;
	if (j.batch > out->sequences)
		j.batch = out->sequences;
	rc = allocate(&j);
	if (!rc)
		rc = open_session(&j);
	if (!rc)
		rc = run_all(&j);
	if (!rc && !training && !dump)
		remember(s, key, out);
	qat_api->close(j.session);
	qat_api->data_close(j.data);
	free(j.tokens);
	free(j.labels);
	free(j.argmax);
	free(j.nll);
	if (rc)
		qat_judgement_free(out);
	return rc;
}
