/* predict.c - what every session of a pipeline will need, before anything runs. States that
 * do not exist yet are stood for by `base`: shapes and schemes are the same. */
#include "step.h"

#include <stdio.h>

#include "error.h"
#include "progress.h"
#include "session.h"

/* The sites that a state will have: of the step that makes it, or what it inherits. */
static const char *sites_of(const qat_pipeline *p, int64_t state)
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
	const int64_t need = qat_plan_need(size);
	const int64_t limit = c->p->device.memory_limit;

	if (!limit || need <= limit)
		return QAT_OK;
	return qat_fail(QAT_EINVAL, "needs about %.1f MiB, more than memory_limit allows (%.1f MiB): "
			"a smaller batch or length needs less", (double)need / (1 << 20),
			(double)limit / (1 << 20));
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

static int predict_session(qat_step *s, qat_session_spec *spec, int show)
{
	qat_context *c = s->context;
	const double mib = 1.0 / (1 << 20);
	const char *name = spec->state;
	const char *missing = NULL;
	qat_plan_size size;
	int rc;

	if (!spec->sites)
		spec->sites = sites_of(c->p, qat_pipeline_state_index(c->p, name));
	spec->state = "base";
	rc = qat_session_predict(&size, &missing, c, spec, show == QAT_PREDICT_KERNELS);
	if (!rc)
		rc = check_ranges(s, name, missing);
	if (!rc)
		rc = within_limit(c, &size);
	if (!rc && show)
		printf("  %s, %lld x %lld: %.0f MiB = %.0f parameters + %.0f state + %.0f step + "
		       "%.0f scratch\n", name, (long long)spec->batch, (long long)spec->length,
		       mib * (double)(size.params + size.state + size.step + size.scratch),
		       mib * (double)size.params, mib * (double)size.state,
		       mib * (double)size.step, mib * (double)size.scratch);
	return rc;
}

int qat_predict(qat_step *s, int show)
{
	const qat_pipeline *p = s->context->p;
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
				rc = predict_session(s, &spec, show);
			if (rc)
				rc = qat_yaml_fail(s->plan->node, rc, "%s", qat_error());
		}
		rc = rc == QAT_ENOTFOUND ? QAT_OK : rc;
	}
	return rc;
}
