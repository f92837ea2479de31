/* evaluate.c - perplexity, token accuracy and speed of states on a data set, and dumps
 * of what the model said.
 *   loss = sum of nll / scored tokens,  perplexity = exp(loss)      (numeric contract 6)
 */
#include "task_kit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct dump_options {
	const char *path;
	qat_strings what;
} dump_options;

typedef struct evaluate_options {
	qat_strings of;
	const char *data;
	int64_t batch;
	dump_options dump;
} evaluate_options;

static const qat_option dump_table[] = {
	QAT_STRING(dump_options, path, NULL, "file under the output"),
	QAT_OPTION(dump_options, QAT_OPT_STRINGS, what, "any of tokens, logits, nll",
		   .text = "[tokens, nll]"),
	QAT_END
};

static const qat_option options[] = {
	QAT_OPTION(evaluate_options, QAT_OPT_STATES, of, "states to evaluate",
		   .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(evaluate_options, QAT_OPT_DATA, data, "data set",
		   .flags = QAT_OPT_REQUIRED),
	QAT_INT(evaluate_options, batch, 4, 1, 4096, "sequences at once"),
	QAT_OPTION(evaluate_options, QAT_OPT_TABLE, dump, "write what the model said",
		   .table = dump_table),
	QAT_END
};

static void report(qat_step *s, const evaluate_options *o, const char *state,
		   const qat_judgement *j)
{
	const double loss = j->nll / (double)j->tokens;
	qat_row *r = qat_api->row(s, "evaluations");

	qat_api->row_text(r, "state", state);
	qat_api->row_text(r, "data", o->data);
	qat_api->row_text(r, "width", NULL);
	qat_api->row_text(r, "precision", qat_api->precision(s) == QAT_BF16 ? "bf16" : "f32");
	qat_api->row_number(r, "loss", loss);
	qat_api->row_number(r, "perplexity", exp(loss));
	qat_api->row_int(r, "tokens", j->tokens);
	qat_api->row_number(r, "token_accuracy", (double)j->correct / (double)j->tokens);
	qat_api->row_number(r, "tokens_per_second",
			    j->seconds > 0.0 ? (double)j->timed_tokens / j->seconds : NAN);
}

/* ---- dumps ---- */

enum { DUMP_TOKENS, DUMP_LOGITS, DUMP_NLL, DUMPS };

static const struct { const char *name; uint32_t dtype; } kinds[DUMPS] = {
	[DUMP_TOKENS] = { "tokens", QAT_I32 },
	[DUMP_LOGITS] = { "logits", QAT_F32 },
	[DUMP_NLL] = { "nll", QAT_F32 },
};

static int kind_of(const char *name)
{
	for (int i = 0; i < DUMPS; i++)
		if (!strcmp(kinds[i].name, name))
			return i;
	return -1;
}

static int check(const void *self, qat_step *s)
{
	const evaluate_options *o = self;

	if (!o->of.count)
		return qat_fail(QAT_EINVAL, "`of` names no state");
	if (o->dump.path && o->of.count != 1)
		return qat_fail(QAT_EINVAL, "dump writes one state: `of` names %lld",
				(long long)o->of.count);
	for (int64_t i = 0; i < o->dump.what.count; i++)
		if (kind_of(o->dump.what.at[i]) < 0)
			return qat_fail(QAT_EINVAL, "dump.what: unknown \"%s\": tokens, logits or nll",
					o->dump.what.at[i]);
	if (o->dump.path && !o->dump.what.count)
		return qat_fail(QAT_EINVAL, "dump.what is empty: tokens, logits or nll");
	if (o->dump.path && qat_api->path_check(s, o->dump.path))
		return QAT_EINVAL;
	return qat_data_scored(s, o->data, o->of.at[0]);
}

/* Sizes of the arrays need the data set and the model. */
static int shapes(qat_step *s, const evaluate_options *o, int64_t *n, int64_t *length,
		  int64_t *vocabulary)
{
	qat_session_spec spec = { .size = sizeof spec, .mode = QAT_SESSION_EVALUATE,
				  .state = o->of.at[0], .batch = 1, .length = 1 };
	qat_session *x = NULL;
	int rc = qat_data_size(s, o->data, o->of.at[0], length, n);

	if (rc)
		return rc;
	rc = qat_api->open(s, &x, &spec);
	if (!rc)
		*vocabulary = qat_api->vocabulary(x);
	qat_api->close(x);
	return rc;
}

static int dump_tensor(qat_tensor *t, int kind, int64_t n, int64_t length, int64_t vocabulary)
{
	*t = (qat_tensor){ .size = sizeof *t, .dtype = kinds[kind].dtype, .rank = 2,
			   .shape = { n, length + (kind == DUMP_TOKENS), 1, 1 },
			   .name = kinds[kind].name };
	if (kind == DUMP_LOGITS) {
		t->rank = 3;
		t->shape[2] = vocabulary;
	}
	if (__builtin_mul_overflow(t->shape[0] * 4, t->shape[1], &t->bytes) ||
	    __builtin_mul_overflow(t->bytes, t->shape[2], &t->bytes))
		return qat_fail(QAT_EINVAL, "dump: %s is too large", t->name);
	t->data = malloc((size_t)t->bytes);
	return t->data ? QAT_OK : qat_fail(QAT_ENOMEM, "dump: no room for %lld bytes of %s: set a "
					   "smaller limit", (long long)t->bytes, t->name);
}

static int evaluate_and_dump(qat_step *s, const evaluate_options *o)
{
	qat_tensor tensors[DUMPS] = { 0 };
	const qat_tensor *at[DUMPS];
	qat_judge_dump dump = { 0 };
	qat_judgement j;
	int64_t n, length, vocabulary;
	int rc = shapes(s, o, &n, &length, &vocabulary);

	for (int64_t i = 0; i < o->dump.what.count && !rc; i++) {
		const int kind = kind_of(o->dump.what.at[i]);

		if (!tensors[kind].data)
			rc = dump_tensor(&tensors[kind], kind, n, length, vocabulary);
	}
	dump.tokens = tensors[DUMP_TOKENS].data;
	dump.logits = tensors[DUMP_LOGITS].data;
	dump.nll = tensors[DUMP_NLL].data;
	if (!rc)
		rc = qat_judge(s, &j, o->of.at[0], o->data, o->batch, NULL, &dump);
	if (!rc) {
		int64_t count = 0;

		report(s, o, o->of.at[0], &j);
		qat_judgement_free(&j);
		for (int i = 0; i < DUMPS; i++)
			if (tensors[i].data)
				at[count++] = &tensors[i];
		rc = qat_api->dump(s, o->dump.path, at, count);
	}
	for (int i = 0; i < DUMPS; i++)
		free(tensors[i].data);
	return rc;
}

static int run(const void *self, qat_step *s)
{
	const evaluate_options *o = self;

	if (o->dump.path)
		return evaluate_and_dump(s, o);
	for (int64_t i = 0; i < o->of.count; i++) {
		qat_judgement j;
		const int rc = qat_judge(s, &j, o->of.at[i], o->data, o->batch, NULL, NULL);

		if (rc)
			return rc;
		report(s, o, o->of.at[i], &j);
		qat_judgement_free(&j);
	}
	return QAT_OK;
}

static int session(const void *self, qat_step *s, int64_t index, qat_session_spec *out)
{
	const evaluate_options *o = self;

	if (index >= o->of.count)
		return QAT_ENOTFOUND;
	for (int64_t i = 0; o->dump.path && i < o->dump.what.count; i++)
		out->logits |= kind_of(o->dump.what.at[i]) == DUMP_LOGITS;
	return qat_judge_session(s, out, o->of.at[index], o->data, o->batch);
}

static const qat_task task = { .size = sizeof task, .check = check, .run = run,
			       .session = session };

static const qat_interface evaluate = {
	.size = sizeof evaluate, .kind = QAT_KIND_TASK, .name = "evaluate",
	.summary = "perplexity, token accuracy and speed of states",
	.options = options, .options_size = sizeof(evaluate_options), .vtable = &task,
};

static const qat_interface *const interfaces[] = { &evaluate };
QAT_PLUGIN_INIT("evaluate", interfaces, qat_task_init);
