/* train.c - fine-tuning, with quantization in the loop where the sites have schemes.
 *
 * An optimizer step takes accumulate x batch sequences; the loss is the mean over all
 * labels in it, so accumulation changes nothing but memory. Sequences are shuffled anew
 * each epoch by the seed; the learning rate warms up linearly, then follows the schedule.
 */
#include "task_kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/numerics.h>

typedef struct schedule_options {
	int64_t name, warmup;
	double final;
} schedule_options;

typedef struct evaluate_options {
	const char *data;
	int64_t every, batch;
} evaluate_options;

typedef struct checkpoint_options {
	int64_t every, keep;
} checkpoint_options;

typedef struct train_options {
	const char *from, *sites, *as, *data;
	int64_t steps, batch, accumulate, gradient_bits;
	qat_instance *optimizer;
	schedule_options schedule;
	double clip;
	evaluate_options evaluate;
	checkpoint_options checkpoint;
} train_options;

enum { CONSTANT, LINEAR, COSINE };
static const char *const schedules[] = { "constant", "linear", "cosine", NULL };

static const qat_option schedule_table[] = {
	QAT_ENUM(schedule_options, name, COSINE, schedules, "how the learning rate falls"),
	QAT_INT(schedule_options, warmup, 0, 0, 1e9, "steps of linear warm-up"),
	QAT_FLOAT(schedule_options, final, 0.0, 0.0, 1.0, "learning rate at the end, over lr"),
	QAT_END
};

static const qat_option evaluate_table[] = {
	QAT_OPTION(evaluate_options, QAT_OPT_DATA, data, "data set", .flags = 0),
	QAT_INT(evaluate_options, every, 0, 0, 1e9, "optimizer steps between; 0: never"),
	QAT_INT(evaluate_options, batch, 4, 1, 4096, "sequences at once"),
	QAT_END
};

static const qat_option checkpoint_table[] = {
	QAT_INT(checkpoint_options, every, 0, 0, 1e9, "optimizer steps between; 0: only when "
		"the run is interrupted"),
	QAT_INT(checkpoint_options, keep, 2, 1, 1000, "how many stay, the newest; beside them that "
		"of the lowest evaluation loss"),
	QAT_END
};

static const qat_option options[] = {
	QAT_OPTION(train_options, QAT_OPT_STATE, from, "state to start from",
		   .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(train_options, QAT_OPT_SITES, sites, "schemes to train with; default: those "
		   "that the state has", .flags = 0),
	QAT_OPTION(train_options, QAT_OPT_NEW_STATE, as, "name of the result",
		   .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(train_options, QAT_OPT_DATA, data, "data set", .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(train_options, QAT_OPT_INT, steps, "optimizer steps", .min = 1, .max = 1e12,
		   .flags = QAT_OPT_REQUIRED),
	QAT_INT(train_options, batch, 4, 1, 65536, "sequences of a micro-batch"),
	QAT_INT(train_options, accumulate, 1, 1, 65536, "micro-batches of an optimizer step"),
	QAT_OPTION(train_options, QAT_OPT_PLUGIN, optimizer, "optimizer and its options",
		   .kind = QAT_KIND_OPTIMIZER, .text = "adamw"),
	QAT_OPTION(train_options, QAT_OPT_TABLE, schedule, "learning rate over time",
		   .table = schedule_table),
	QAT_INT(train_options, gradient_bits, 0, 0, 8, "bits of gradients in products of the "
		"backward pass, rounded at random; 0: floats"),
	QAT_FLOAT(train_options, clip, 1.0, 0.0, 1e9, "largest norm of the gradient; 0: no limit"),
	QAT_OPTION(train_options, QAT_OPT_TABLE, evaluate, "evaluation while training, to "
		   "events.jsonl", .table = evaluate_table),
	QAT_OPTION(train_options, QAT_OPT_TABLE, checkpoint, "what --resume goes on from",
		   .table = checkpoint_table, .flags = QAT_OPT_NEUTRAL),
	QAT_END
};

typedef struct run_state {
	const train_options *o;
	qat_step *step;
	qat_data *data;
	qat_session *session;
	int64_t length, sequences;
	int64_t *order;			/* of the epoch at hand */
	int64_t epoch;
	int32_t *tokens, *labels;	/* [accumulate, batch, length] */
	float *g, *nll;
	int64_t done;			/* optimizer steps */
	double loss, best;		/* evaluation after them, NaN: none; lowest so far */
	int64_t saved;			/* the last checkpoint, -1: none */
} run_state;

/* ---- data ---- */

/* Fisher and Yates, with one counter per position: the order of an epoch depends on the
 * seed and the epoch alone. */
static void shuffle(run_state *r, int64_t epoch)
{
	for (int64_t i = 0; i < r->sequences; i++)
		r->order[i] = i;
	for (int64_t i = r->sequences - 1; i > 0; i--) {
		uint32_t w[4];
		uint64_t wide;
		int64_t j, t;

		qat_philox(w, qat_api->seed(r->step), (uint64_t)i, (uint32_t)epoch,
			   QAT_RANDOM_SHUFFLE);
		wide = (uint64_t)w[0] << 32 | w[1];
		j = (int64_t)(wide % (uint64_t)(i + 1));
		t = r->order[i];
		r->order[i] = r->order[j];
		r->order[j] = t;
	}
	r->epoch = epoch;
}

/* Sequence n of the run. */
static int load_sequence(run_state *r, int64_t n, int64_t slot)
{
	const int64_t epoch = n / r->sequences;

	if (epoch != r->epoch)
		shuffle(r, epoch);
	return qat_api->data_get(r->data, r->order[n % r->sequences],
				 r->tokens + slot * r->length, r->labels + slot * r->length);
}

/* All sequences of an optimizer step; *scored: labels in it. */
static int load_step(run_state *r, int64_t step, int64_t *scored)
{
	const int64_t n = r->o->batch * r->o->accumulate;

	*scored = 0;
	for (int64_t i = 0; i < n; i++) {
		const int rc = load_sequence(r, step * n + i, i);

		if (rc)
			return rc;
	}
	for (int64_t i = 0; i < n * r->length; i++)
		*scored += r->labels[i] >= 0;
	return QAT_OK;
}

/* ---- one step ---- */

static double rate(const train_options *o, int64_t step)
{
	const qat_optimizer *opt = o->optimizer->vtable;
	const double lr = opt->lr(o->optimizer->self);
	const int64_t warm = o->schedule.warmup;
	double t, fall;

	if (step < warm)
		return lr * (double)(step + 1) / (double)warm;
	t = o->steps > warm ? (double)(step - warm) / (double)(o->steps - warm) : 0.0;
	fall = o->schedule.name == COSINE ? 0.5 * (1.0 + cos(3.14159265358979323846 * t))
	     : o->schedule.name == LINEAR ? 1.0 - t : 1.0;
	return lr * (o->schedule.final + (1.0 - o->schedule.final) * fall);
}

static int micro_batches(run_state *r, int64_t step, int64_t scored, double *loss)
{
	const int64_t n = r->o->batch * r->length;
	double sum = 0.0;

	for (int64_t k = 0; k < r->o->accumulate; k++) {
		const qat_batch b = {
			.size = sizeof b, .tokens = r->tokens + k * n, .labels = r->labels + k * n,
			.loss_gradient = r->g, .nll = r->nll, .step = step,
			.sequence = (step * r->o->accumulate + k) * r->o->batch,
		};
		int rc;

		for (int64_t i = 0; i < n; i++)
			r->g[i] = b.labels[i] >= 0 ? (float)(1.0 / (double)scored) : 0.0f;
		rc = qat_api->backward(r->session, &b);
		if (rc)
			return rc;
		for (int64_t i = 0; i < n; i++)
			sum += b.labels[i] >= 0 ? (double)r->nll[i] : 0.0;
	}
	*loss = sum / (double)scored;
	return QAT_OK;
}

static int update(run_state *r, int64_t step, double *norm)
{
	qat_update u = { .size = sizeof u, .step = step + 1, .lr = rate(r->o, step),
			 .clip = 1.0 };
	int rc = qat_api->gradient_norm(r->session, norm);

	if (rc)
		return rc;
	if (!isfinite(*norm))
		return qat_fail(QAT_ENUMERIC, "optimizer step %lld of state %s: the gradient is "
				"not finite: a lower learning rate may help", (long long)step + 1,
				r->o->as);
	if (r->o->clip > 0.0 && *norm > r->o->clip)
		u.clip = r->o->clip / *norm;
	return qat_api->update(r->session, &u);
}

static int64_t tokens(const run_state *r, int64_t steps)
{
	return steps * r->o->batch * r->o->accumulate * r->length;
}

static int evaluate(run_state *r)
{
	static const char *const keys[] = { "optimizer_step", "loss", "perplexity", "tokens" };
	const train_options *o = r->o;
	qat_judgement j;
	double values[4];
	int rc;

	r->loss = NAN;
	if (!o->evaluate.data || !o->evaluate.every || !r->done || r->done % o->evaluate.every)
		return QAT_OK;
	rc = qat_judge(r->step, &j, o->from, o->evaluate.data, o->evaluate.batch, r->session,
		       NULL);
	if (rc)
		return rc;
	values[0] = (double)r->done;
	values[1] = r->loss = j.nll / (double)j.tokens;
	values[2] = exp(values[1]);
	values[3] = (double)j.tokens;
	qat_api->event(r->step, "evaluation", keys, values, 4);
	qat_judgement_free(&j);
	return QAT_OK;
}

static int one_step(run_state *r, int64_t step)
{
	qat_progress p = { .size = sizeof p, .done = step + 1, .total = r->o->steps,
			   .optimizer_step = step + 1, .lr = rate(r->o, step),
			   .state = r->o->as };
	int64_t scored;
	double norm;
	int rc = load_step(r, step, &scored);

	if (!rc && !scored)
		rc = qat_fail(QAT_EINVAL, "step %lld: no label is scored", (long long)step);
	if (!rc)
		rc = micro_batches(r, step, scored, &p.loss);
	if (rc == QAT_ENUMERIC)
		rc = qat_fail(rc, "optimizer step %lld of state %s: %s: %s", (long long)step + 1,
			      r->o->as, qat_host_->error(), step
			      ? "a lower learning rate, a longer warm-up or a smaller clip may help"
			      : "nothing was updated yet, the state was like this");
	if (!rc)
		rc = update(r, step, &norm);
	if (rc)
		return rc;
	r->done = step + 1;
	r->loss = NAN;
	p.tokens = tokens(r, r->done);
	qat_api->timed_tokens(r->step, tokens(r, 1));
	qat_api->progress(r->step, &p);
	return QAT_OK;
}

/* ---- checkpoints ---- */

static int save_point(run_state *r)
{
	const qat_point p = { .size = sizeof p, .step = r->done, .keep = r->o->checkpoint.keep,
			      .loss = r->loss };
	const int rc = qat_api->checkpoint(r->session, &p);

	qat_api->timed_tokens(r->step, 0);
	if (!rc)
		r->saved = r->done;
	return rc;
}

/* After the last step the state itself is written, and needs no other copy unless it is
 * the best. */
static int save_if_due(run_state *r)
{
	const int64_t every = r->o->checkpoint.every;
	const int best = every && r->loss < r->best;

	if (best)
		r->best = r->loss;
	if (best || (every && r->done < r->o->steps && r->done % every == 0))
		return save_point(r);
	return QAT_OK;
}

/* Where the run that was interrupted had not come to evaluate, that is done first. */
static int go_on(run_state *r)
{
	qat_point p = { .size = sizeof p };
	int rc = qat_api->restore(r->session, &p);

	if (rc)
		return rc;
	r->done = p.step;
	r->loss = p.loss;
	r->best = p.best;
	r->saved = p.step > 0 ? p.step : -1;
	if (p.step && isnan(p.loss))
		rc = evaluate(r);
	return rc || !p.step ? rc : save_if_due(r);
}

static int interrupted(run_state *r)
{
	int rc = r->saved == r->done || !r->done ? QAT_OK : save_point(r);

	if (rc)
		return rc;
	return qat_fail(QAT_ESTOPPED, "interrupted after optimizer step %lld of %lld of state %s: "
			"--resume goes on from there", (long long)r->done, (long long)r->o->steps,
			r->o->as);
}

static int train_all(run_state *r)
{
	int rc = go_on(r);

	while (!rc && r->done < r->o->steps && !qat_api->stopped()) {
		rc = one_step(r, r->done);
		if (!rc)
			rc = evaluate(r);
		if (!rc)
			rc = save_if_due(r);
	}
	if (rc == QAT_ESTOPPED || (!rc && r->done < r->o->steps))
		rc = interrupted(r);
	return rc;
}

/* ---- the task ---- */

static int allocate(run_state *r)
{
	const size_t micro = (size_t)(r->o->batch * r->length);
	const size_t all = micro * (size_t)r->o->accumulate;

	r->order = malloc((size_t)r->sequences * sizeof *r->order);
	r->tokens = malloc(all * sizeof *r->tokens);
	r->labels = malloc(all * sizeof *r->labels);
	r->g = malloc(micro * sizeof *r->g);
	r->nll = malloc(micro * sizeof *r->nll);
	if (!r->order || !r->tokens || !r->labels || !r->g || !r->nll)
		return qat_fail(QAT_ENOMEM, "train: out of memory");
	return QAT_OK;
}

static int start(run_state *r)
{
	qat_session_spec spec = {
		.size = sizeof spec, .mode = QAT_SESSION_TRAIN, .state = r->o->from,
		.sites = r->o->sites, .batch = r->o->batch, .accumulate = r->o->accumulate,
		.optimizer = r->o->optimizer, .steps = r->o->steps,
		.gradient_bits = r->o->gradient_bits,
	};
	int rc = qat_api->data_open(r->step, &r->data, r->o->data, r->o->from);

	if (rc)
		return rc;
	r->length = spec.length = qat_api->data_length(r->data);
	r->sequences = qat_api->data_count(r->data);
	rc = allocate(r);
	if (rc)
		return rc;
	shuffle(r, 0);
	return qat_api->open(r->step, &r->session, &spec);
}

/* Numbers that the optimizer refuses at the first step, it refuses before. */
static int check(const void *self, qat_step *s)
{
	const train_options *o = self;
	const qat_optimizer *opt = o->optimizer->vtable;
	const qat_update first = { .size = sizeof first, .step = 1, .lr = rate(o, 0), .clip = 1.0 };
	float hyper[QAT_HYPER_COUNT];
	int64_t length, count;
	int rc;

	if (!o->evaluate.data != !o->evaluate.every)
		return qat_fail(QAT_EINVAL, "evaluate: say both data and every, or neither");
	if (o->gradient_bits == 1)
		return qat_fail(QAT_EINVAL, "gradient_bits: 1 leaves no number but 0: 2 to 8, or 0 "
				"for floats");
	rc = opt->hyper(o->optimizer->self, &first, hyper);
	if (!rc)
		rc = qat_data_size(s, o->data, o->from, &length, &count);
	if (!rc && o->batch > count)
		rc = qat_fail(QAT_EINVAL, "batch %lld, but data %s has %lld sequences: a smaller "
			      "batch, or more data", (long long)o->batch, o->data, (long long)count);
	if (!rc)
		rc = qat_data_scored(s, o->data, o->from);
	return rc || !o->evaluate.data ? rc : qat_data_scored(s, o->evaluate.data, o->from);
}

static int run(const void *self, qat_step *s)
{
	run_state r = { .o = self, .step = s };
	int rc = start(&r);

	if (!rc)
		rc = train_all(&r);
	if (!rc)
		rc = qat_api->commit(r.session, r.o->as, tokens(&r, r.done));
	qat_api->close(r.session);
	qat_api->data_close(r.data);
	free(r.order);
	free(r.tokens);
	free(r.labels);
	free(r.g);
	free(r.nll);
	return rc;
}

static int session(const void *self, qat_step *s, int64_t index, qat_session_spec *out)
{
	const train_options *o = self;
	int64_t count;

	out->sites = o->sites;
	if (index == 1 && o->evaluate.data && o->evaluate.every)
		return qat_judge_session(s, out, o->from, o->evaluate.data, o->evaluate.batch);
	if (index)
		return QAT_ENOTFOUND;
	out->mode = QAT_SESSION_TRAIN;
	out->state = o->from;
	out->batch = o->batch;
	out->accumulate = o->accumulate;
	out->optimizer = o->optimizer;
	out->gradient_bits = o->gradient_bits;
	return qat_data_size(s, o->data, o->from, &out->length, &count);
}

static const qat_task task = { .size = sizeof task, .check = check, .run = run,
			       .session = session };

static const qat_interface train = {
	.size = sizeof train, .kind = QAT_KIND_TASK, .name = "train",
	.summary = "fine-tuning, with quantization in the loop where sites have schemes",
	.options = options, .options_size = sizeof(train_options), .vtable = &task,
};

static const qat_interface *const interfaces[] = { &train };
QAT_PLUGIN_INIT("train", interfaces, qat_task_init);
