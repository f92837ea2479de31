/* predict.c - what every session of a pipeline will need, before anything runs. States that
 * do not exist yet are stood for by `base`: shapes and schemes are the same. */
#include "step.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "progress.h"
#include "session.h"

const char *qat_predict_sites(const qat_pipeline *p, int64_t state)
{
	while (state > 0) {
		const qat_pipeline_step *step = &p->steps[p->states[state].step];
		const qat_option *o = step->plugin.interface->options;

		for (; o && o->name; o++) {
			const char *const *at =
				(const char *const *)((const char *)step->plugin.self + o->offset);

			if (o->type == QAT_OPT_SITES && *at)
				return *at;
		}
		state = p->states[state].parent;
	}
	return NULL;
}

static int within_limit(const qat_context *c, const qat_plan_size *size)
{
	const int64_t need = qat_plan_need(c, size) + c->beside;
	const int64_t limit = c->p->device.memory_limit;

	if (!limit || need <= limit)
		return QAT_OK;
	return qat_fail(QAT_EINVAL, "needs about %.1f MiB%s, more than memory_limit allows "
			"(%.1f MiB): a smaller batch or length needs less",
			ceil(10.0 * (double)need / (1 << 20)) / 10,
			size->level ? ", though the backward pass computes much again" : "",
			(double)limit / (1 << 20));
}

/* How a state that does not exist yet will be stored: with codes, if the step that makes it
 * runs no model. */
static int expectation(const qat_pipeline *p, int64_t state)
{
	const qat_task *t;

	if (state <= 0)
		return 0;
	t = p->steps[p->states[state].step].plugin.vtable;
	return t->session ? QAT_EXPECT_FLOATS : QAT_EXPECT_CODES;
}

/* A state whose chain of steps has one that measured ranges, or a base that holds some. */
static int has_ranges(qat_step *s, int64_t state)
{
	const qat_pipeline *p = s->context->p;
	const qat_state *base = s->context->states[0];

	while (state > 0) {
		const qat_pipeline_step *step = &p->steps[p->states[state].step];
		const qat_task *t = step->plugin.vtable;
		qat_session_spec spec = { .size = sizeof spec };

		if (t->session && !t->session(step->plugin.self, s, 0, &spec) &&
		    spec.mode == QAT_SESSION_CALIBRATE)
			return 1;
		state = p->states[state].parent;
	}
	for (int64_t i = 0; i < base->n_placed; i++)
		if (base->placed[i].set->schemes[0]->range != QAT_RANGE_DYNAMIC)
			return 1;
	return 0;
}

static int check_ranges(qat_step *s, const char *state, const char *missing)
{
	if (!missing || has_ranges(s, qat_pipeline_state_index(s->context->p, state)))
		return QAT_OK;
	return qat_fail(QAT_EINVAL, "%s: the scheme there has a static range, which no step has "
			"measured for state %s: put a calibrate step before", missing, state);
}

/* ---- nodes that run elsewhere ---- */

enum { TOLD_MAX = 16 };

/* What was moved, each set of nodes once, with the session that copies most for it. */
typedef struct told {
	int count;
	qat_plan_size size[TOLD_MAX];
} told;

static const char *amount(char out[32], int64_t bytes)
{
	if (bytes < 1 << 20)
		snprintf(out, 32, "%.1f KiB", (double)bytes / 1024);
	else
		snprintf(out, 32, "%.1f MiB", (double)bytes / (1 << 20));
	return out;
}

static void remember(told *t, const qat_plan_size *size)
{
	int i = 0;

	while (i < t->count && strcmp(t->size[i].what, size->what))
		i++;
	if (i == TOLD_MAX)
		return;
	if (i == t->count || size->copied > t->size[i].copied)
		t->size[i] = *size;
	t->count += i == t->count;
}

static int check_fallback(told *t, const qat_context *c, const qat_plan_size *size)
{
	const int64_t policy = c->p->device.fallback;
	char bytes[32];

	if (!size->moved || policy == QAT_FALLBACK_ALLOW)
		return QAT_OK;
	if (policy == QAT_FALLBACK_AUTO && size->copied > QAT_FALLBACK_BYTES)
		return qat_fail(QAT_ENOTSUP, "device %s cannot run %s; %s would, with %s copied in "
				"each step: write device.fallback: warn or allow to have that",
				c->device.name, size->what, c->fallback.name,
				amount(bytes, size->copied));
	remember(t, size);
	return QAT_OK;
}

static void tell(const told *t, const qat_context *c)
{
	char bytes[32];

	for (int i = 0; i < t->count; i++)
		qat_log(QAT_LOG_WARN, "%s runs %lld node%s that %s cannot, with up to %s copied in "
			"each step: %s", c->fallback.name, (long long)t->size[i].moved,
			t->size[i].moved == 1 ? "" : "s",
			c->device.name, amount(bytes, t->size[i].copied), t->size[i].what);
}

/* ---- sessions ---- */

static void print_memory(const char *name, const qat_session_spec *spec,
			 const qat_plan_size *size, int show)
{
	const double mib = 1.0 / (1 << 20);

	if (show == QAT_PREDICT_KERNELS)
		printf("    memory: ");
	else
		printf("  %s, %lld x %lld: ", name, (long long)spec->batch,
		       (long long)spec->length);
	printf("%.0f MiB = %.0f parameters + %.0f state + %.0f step + %.0f scratch",
	       mib * (double)(size->params + size->state + size->step + size->scratch +
			      size->mapped),
	       mib * (double)size->params, mib * (double)size->state, mib * (double)size->step,
	       mib * (double)size->scratch);
	if (size->mapped)
		printf(" + %.0f mapped", mib * (double)size->mapped);
	puts(size->level ? ", with recompute" : "");
}

int qat_predict_beside(qat_step *s, const char *state)
{
	const qat_task *t = s->plan->plugin.vtable;
	qat_context *c = s->context;
	int64_t most = 0;
	int rc = QAT_OK;

	c->beside = 0;
	for (int64_t k = 1; t->session && !rc && c->p->device.memory_limit; k++) {
		qat_session_spec spec = { .size = sizeof spec };
		const char *missing;
		qat_plan_size size;

		rc = t->session(s->plan->plugin.self, s, k, &spec);
		if (rc == QAT_ENOTFOUND)
			break;
		if (!spec.sites)
			spec.sites = qat_predict_sites(c->p, s->plan->as);
		spec.state = state;
		if (!rc)
			rc = qat_session_predict(&size, &missing, c, &spec, 0);
		if (!rc && size.state + size.step + size.scratch > most)
			most = size.state + size.step + size.scratch;
	}
	c->beside = most;
	return rc == QAT_ENOTFOUND ? QAT_OK : rc;
}

static int predict_session(told *t, qat_step *s, qat_session_spec *spec, int show)
{
	qat_context *c = s->context;
	const char *name = spec->state;
	const char *missing = NULL;
	const int64_t state = qat_pipeline_state_index(c->p, name);
	const int how = expectation(c->p, state) |
			(show == QAT_PREDICT_KERNELS ? QAT_EXPECT_EXPLAIN : 0);
	qat_plan_size size;
	int rc;

	if (!spec->sites)
		spec->sites = qat_predict_sites(c->p, state);
	spec->state = "base";
	if (show == QAT_PREDICT_KERNELS)
		printf("  %s, %lld x %lld\n", name, (long long)spec->batch,
		       (long long)spec->length);
	rc = spec->mode == QAT_SESSION_TRAIN ? qat_predict_beside(s, "base") : QAT_OK;
	if (!rc)
		rc = qat_session_predict(&size, &missing, c, spec, how);
	if (!rc)
		rc = check_ranges(s, name, missing);
	if (!rc)
		rc = within_limit(c, &size);
	c->beside = 0;
	if (!rc)
		rc = check_fallback(t, c, &size);
	if (!rc && show)
		print_memory(name, spec, &size, show);
	return rc;
}

int qat_predict(qat_step *s, int show)
{
	const qat_pipeline *p = s->context->p;
	told moved = { .count = 0 };
	int rc = QAT_OK;

	if (show)
		puts(show == QAT_PREDICT_KERNELS ? "kernels" : "memory");
	for (int64_t i = 0; i < p->n_steps && !rc; i++) {
		const qat_task *t = p->steps[i].plugin.vtable;

		s->index = i;
		s->plan = &p->steps[i];
		for (int64_t k = 0; t->session && !rc; k++) {
			qat_session_spec spec = { .size = sizeof spec };

			rc = t->session(s->plan->plugin.self, s, k, &spec);
			if (rc == QAT_ENOTFOUND)
				break;
			if (!rc && k == 0 && show)
				printf("  steps[%lld] %s\n", (long long)i, s->plan->task);
			if (!rc)
				rc = predict_session(&moved, s, &spec, show);
			if (rc)
				rc = qat_yaml_fail(s->plan->node, rc, "%s", qat_error());
		}
		rc = rc == QAT_ENOTFOUND ? QAT_OK : rc;
	}
	if (!rc)
		tell(&moved, s->context);
	return rc;
}
