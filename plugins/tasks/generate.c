/* generate.c - what states make of prompts, so that a person can read the one beside the
 * other. Prompts run one after the other: a token's logits need all before it, kept as keys
 * and values in a session of mode GENERATE.
 */
#include "task_kit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <qatrun/numerics.h>
#include <qatrun/tokenizer.h>

#include "prompts.h"
#include "sampling.h"

enum { ENDS = 16 };

typedef struct generate_dump {
	const char *path;
} generate_dump;

typedef struct generate_options {
	qat_strings of, prompts, stop;
	const char *file;
	int64_t max_new_tokens, top_k, seed, add_bos, ignore_eos, chunk;
	double temperature, top_p;
	generate_dump dump;
} generate_options;

static const qat_option dump_options[] = {
	QAT_STRING(generate_dump, path, NULL, "file under the output"),
	QAT_END
};

static const qat_option options[] = {
	QAT_OPTION(generate_options, QAT_OPT_STATES, of, "states", .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(generate_options, QAT_OPT_STRINGS, prompts, "texts to go on from",
		   .text = NULL),
	QAT_OPTION(generate_options, QAT_OPT_PATH, file, "text file with a prompt a line",
		   .text = NULL),
	QAT_INT(generate_options, max_new_tokens, 64, 1, 1 << 24, "most tokens of a continuation"),
	QAT_FLOAT(generate_options, temperature, 0, 0, 1e3, "0: always the likeliest token"),
	QAT_INT(generate_options, top_k, 0, 0, 1 << 24, "only the k likeliest tokens; 0: all"),
	QAT_FLOAT(generate_options, top_p, 1, 0, 1,
		  "only the likeliest tokens that together have this probability"),
	QAT_INT(generate_options, seed, -1, -1, INT32_MAX, "of the choice; -1: the run's"),
	QAT_OPTION(generate_options, QAT_OPT_STRINGS, stop, "texts that end a continuation",
		   .text = NULL),
	QAT_BOOL(generate_options, add_bos, 0, "begin each prompt with the BOS token"),
	QAT_BOOL(generate_options, ignore_eos, 0, "go on after the EOS token"),
	QAT_INT(generate_options, chunk, 64, 1, 65536, "tokens of a prompt that run at once"),
	QAT_OPTION(generate_options, QAT_OPT_TABLE, dump, "writes the token ids",
		   .table = dump_options),
	QAT_END
};

/* ---- before anything runs ---- */

static int load(const generate_options *o, qat_step *s, qat_prompts *out)
{
	return qat_prompts_load(out, s, &o->prompts, o->file, (int)o->add_bos);
}

static int check_lengths(const generate_options *o, qat_step *s, const qat_prompts *p)
{
	const int64_t context = qat_api->context(s);

	if (context < 0)
		return (int)context;
	for (int64_t i = 0; context && i < p->count; i++)
		if (p->at[i].count > context - o->max_new_tokens)
			return qat_fail(QAT_EINVAL, "prompt %lld has %lld tokens: with "
					"max_new_tokens %lld that is more than the model's context "
					"of %lld: shorten one of them", (long long)i + 1,
					(long long)p->at[i].count, (long long)o->max_new_tokens,
					(long long)context);
	return QAT_OK;
}

static int check(const void *self, qat_step *s)
{
	const generate_options *o = self;
	qat_prompts p;
	int rc;

	if (!o->of.count)
		return qat_fail(QAT_EINVAL, "`of` names no state");
	for (int64_t i = 0; i < o->stop.count; i++)
		if (!o->stop.at[i][0])
			return qat_fail(QAT_EINVAL, "stop: an empty text ends everything: leave it "
					"out");
	rc = load(o, s, &p);
	if (rc)
		return rc;
	rc = check_lengths(o, s, &p);
	qat_prompts_free(&p);
	if (!rc && o->dump.path)
		rc = qat_api->path_check(s, o->dump.path);
	return rc;
}

static qat_session_spec session_of(const generate_options *o, const qat_prompts *p,
				   const char *state)
{
	/* The last token of a prompt is not read with the others: it gives logits. */
	const int64_t read = p->longest > 2 ? p->longest - 1 : 1;

	return (qat_session_spec){
		.size = sizeof(qat_session_spec), .mode = QAT_SESSION_GENERATE, .state = state,
		.batch = 1, .length = o->chunk < read ? o->chunk : read,
		.context = p->longest + o->max_new_tokens,
	};
}

static int session(const void *self, qat_step *s, int64_t index, qat_session_spec *out)
{
	const generate_options *o = self;
	qat_prompts p;
	int rc;

	if (index >= o->of.count)
		return QAT_ENOTFOUND;
	rc = load(o, s, &p);
	if (rc)
		return rc;
	*out = session_of(o, &p, o->of.at[index]);
	qat_prompts_free(&p);
	return QAT_OK;
}

/* ---- one continuation ---- */

typedef struct generation {
	const generate_options *o;
	qat_step *step;
	qat_session *session;
	const char *state;
	const qat_prompt *prompt;
	int64_t index;			/* of the prompt */
	uint64_t seed;
	int32_t ends[ENDS];
	int64_t n_ends;
	float *logits;
	int32_t *order;
	int64_t vocabulary;
	int32_t *ids;			/* prompt and continuation */
	int64_t made;			/* tokens of the continuation */
	char *text;			/* of the continuation */
	const char *finish;
	double seconds;			/* from the first token to the last */
	int64_t done, total, tokens;	/* of the whole step */
} generation;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int is_end(const generation *g, int32_t id)
{
	for (int64_t i = 0; i < g->n_ends && !g->o->ignore_eos; i++)
		if (g->ends[i] == id)
			return 1;
	return 0;
}

/* Uniform by prompt and place alone, so that states meet the same chances. */
static double chance(const generation *g)
{
	uint32_t word[4];

	qat_philox(word, g->seed, (uint64_t)g->made / 4, (uint32_t)g->index, QAT_RANDOM_SAMPLE);
	return (double)qat_uniform(word[g->made % 4]);
}

static int choose(generation *g, int32_t *out)
{
	const qat_sampling s = { g->o->temperature, g->o->top_k, g->o->top_p };
	const int rc = qat_sample(out, &s, g->logits, g->vocabulary, chance(g), g->order);

	return rc ? qat_fail(rc, "state %s, prompt %lld, token %lld: %s", g->state,
			     (long long)g->index + 1, (long long)g->made + 1,
			     qat_host_->error())
		  : QAT_OK;
}

/* Text that the continuation adds to that of the prompt: a tokenizer may write the first
 * token of a text differently. */
static int decode(generation *g, int64_t count)
{
	const int64_t prompt = g->prompt->count;
	char *all = NULL, *head = NULL;
	int64_t bytes, head_bytes;
	int rc = qat_api->decode(g->step, &all, &bytes, g->ids, prompt + count, 0);

	if (!rc)
		rc = qat_api->decode(g->step, &head, &head_bytes, g->ids, prompt, 0);
	qat_api->text_free(g->text);
	g->text = NULL;
	if (!rc && head_bytes <= bytes && !memcmp(all, head, (size_t)head_bytes)) {
		memmove(all, all + head_bytes, (size_t)(bytes - head_bytes) + 1);
		g->text = all;
		all = NULL;
	} else if (!rc) {
		rc = qat_api->decode(g->step, &g->text, &bytes, g->ids + prompt, count, 0);
	}
	qat_api->text_free(all);
	qat_api->text_free(head);
	return rc;
}

/* 1 where a text of `stop` has come; what comes before the first stays. */
static int stops(generation *g)
{
	char *first = NULL;

	for (int64_t i = 0; i < g->o->stop.count; i++) {
		char *at = strstr(g->text, g->o->stop.at[i]);

		if (at && (!first || at < first))
			first = at;
	}
	if (first)
		*first = '\0';
	return first != NULL;
}

/* A character whose bytes were not all made is left out. */
static void drop_cut(char *text)
{
	const size_t n = strlen(text);

	if (n >= 3 && !strcmp(text + n - 3, "\xef\xbf\xbd"))
		text[n - 3] = '\0';
}

static void show(generation *g)
{
	const qat_progress p = { .size = sizeof p, .done = g->done + g->made, .total = g->total,
				 .tokens = g->tokens, .optimizer_step = -1, .loss = NAN,
				 .lr = NAN, .state = g->state };

	qat_api->progress(g->step, &p);
}

/* The next token is chosen and, unless all is done, given to the model. g->finish is set
 * once it is. */
static int next(generation *g)
{
	int32_t *id = &g->ids[g->prompt->count + g->made];
	int rc = choose(g, id);

	if (rc)
		return rc;
	g->made++;
	g->tokens++;
	show(g);
	if (is_end(g, *id)) {
		g->finish = "eos";
		return decode(g, g->made - 1);
	}
	if (g->o->stop.count && (rc = decode(g, g->made)))
		return rc;
	if (g->o->stop.count && stops(g))
		g->finish = "stop";
	else if (g->made == g->o->max_new_tokens)
		g->finish = "length";
	return g->finish ? QAT_OK : qat_api->append(g->session, id, 1, g->logits);
}

static int continuation(generation *g)
{
	double from;
	int rc = qat_api->restart(g->session);

	memcpy(g->ids, g->prompt->ids, (size_t)g->prompt->count * sizeof *g->ids);
	g->made = 0;
	g->finish = NULL;
	qat_api->text_free(g->text);
	g->text = NULL;
	if (!rc)
		rc = qat_api->append(g->session, g->ids, g->prompt->count, g->logits);
	from = now();
	qat_api->timed_tokens(g->step, 0);
	while (!rc && !g->finish) {
		rc = next(g);
		if (!rc && qat_api->stopped())
			rc = qat_fail(QAT_ESTOPPED, "interrupted while generating from %s: --resume "
				     "begins this step again", g->state);
	}
	g->seconds = now() - from;
	qat_api->timed_tokens(g->step, g->made - 1);
	if (!rc && !strcmp(g->finish, "length")) {
		rc = decode(g, g->made);
		if (!rc)
			drop_cut(g->text);
	}
	return rc;
}

/* ---- all of them ---- */

static void report(const generation *g)
{
	qat_row *row = qat_api->row(g->step, "generations");

	qat_api->row_text(row, "prompt", g->prompt->text);
	qat_api->row_text(row, "state", g->state);
	qat_api->row_text(row, "text", g->text);
	qat_api->row_int(row, "prompt_tokens", g->prompt->count);
	qat_api->row_int(row, "tokens", g->made);
	qat_api->row_number(row, "tokens_per_second",
			    g->made > 1 ? (double)(g->made - 1) / g->seconds : NAN);
	qat_api->row_text(row, "finish_reason", g->finish);
}

static int allocate(generation *g, const qat_prompts *p)
{
	g->vocabulary = qat_api->vocabulary(g->session);
	g->logits = malloc((size_t)g->vocabulary * sizeof *g->logits);
	g->order = malloc((size_t)g->vocabulary * sizeof *g->order);
	g->ids = malloc((size_t)(p->longest + g->o->max_new_tokens) * sizeof *g->ids);
	return g->logits && g->order && g->ids ? QAT_OK
					       : qat_fail(QAT_ENOMEM, "generate: out of memory");
}

/* One tensor, "<state>.<prompt from 0>": ids of prompt and continuation. */
static int record(const generation *g, qat_tensor *t)
{
	const int64_t n = g->prompt->count + g->made;
	char name[300];

	snprintf(name, sizeof name, "%s.%lld", g->state, (long long)g->index);
	*t = (qat_tensor){ .size = sizeof *t, .dtype = QAT_I32, .rank = 1,
			   .shape = { n, 1, 1, 1 }, .bytes = n * 4, .name = strdup(name) };
	t->data = malloc((size_t)t->bytes);
	if (!t->data || !t->name)
		return qat_fail(QAT_ENOMEM, "generate: out of memory");
	memcpy(t->data, g->ids, (size_t)t->bytes);
	return QAT_OK;
}

/* tensors: one a prompt, or NULL. */
static int run_state(generation *g, const qat_prompts *p, qat_tensor *tensors)
{
	const qat_session_spec spec = session_of(g->o, p, g->state);
	int rc = qat_api->open(g->step, &g->session, &spec);

	if (!rc)
		rc = allocate(g, p);
	for (int64_t i = 0; i < p->count && !rc; i++) {
		g->prompt = &p->at[i];
		g->index = i;
		rc = continuation(g);
		if (rc)
			break;
		report(g);
		g->done += g->o->max_new_tokens;
		if (tensors)
			rc = record(g, &tensors[i]);
	}
	qat_api->close(g->session);
	g->session = NULL;
	qat_api->text_free(g->text);
	free(g->logits);
	free(g->order);
	free(g->ids);
	g->text = NULL;
	g->logits = NULL;
	g->order = NULL;
	g->ids = NULL;
	return rc;
}

static int write(generation *g, const qat_tensor *tensors, int64_t count)
{
	const qat_tensor **at = malloc((size_t)count * sizeof *at);
	int rc = at ? QAT_OK : qat_fail(QAT_ENOMEM, "generate: out of memory");

	for (int64_t i = 0; i < count && !rc; i++)
		at[i] = &tensors[i];
	if (!rc)
		rc = qat_api->dump(g->step, g->o->dump.path, at, count);
	free(at);
	return rc;
}

static int run_all(generation *g, const qat_prompts *p)
{
	const int64_t count = g->o->of.count * p->count;
	qat_tensor *tensors = g->o->dump.path ? calloc((size_t)count, sizeof *tensors) : NULL;
	int rc = g->o->dump.path && !tensors ? qat_fail(QAT_ENOMEM, "generate: out of memory")
					     : QAT_OK;

	for (int64_t i = 0; i < g->o->of.count && !rc; i++) {
		g->state = g->o->of.at[i];
		rc = run_state(g, p, tensors ? tensors + i * p->count : NULL);
	}
	if (!rc && tensors)
		rc = write(g, tensors, count);
	for (int64_t i = 0; tensors && i < count; i++) {
		free(tensors[i].data);
		free((void *)(uintptr_t)tensors[i].name);
	}
	free(tensors);
	return rc;
}

static int run(const void *self, qat_step *s)
{
	const generate_options *o = self;
	generation g = { .o = o, .step = s };
	qat_prompts p;
	int rc = load(o, s, &p);

	if (rc)
		return rc;
	g.seed = o->seed >= 0 ? (uint64_t)o->seed : qat_api->seed(s);
	g.n_ends = qat_api->special_tokens(s, QAT_TOKEN_EOS, g.ends, ENDS);
	g.total = o->of.count * p.count * o->max_new_tokens;
	rc = run_all(&g, &p);
	qat_prompts_free(&p);
	return rc;
}

static const qat_task task = { .size = sizeof task, .check = check, .run = run,
			       .session = session };

static const qat_interface generate = {
	.size = sizeof generate, .kind = QAT_KIND_TASK, .name = "generate",
	.summary = "continuations of prompts, of states beside each other",
	.options = options, .options_size = sizeof(generate_options), .vtable = &task,
};

static const qat_interface *const interfaces[] = { &generate };
QAT_PLUGIN_INIT("generate", interfaces, qat_task_init);
