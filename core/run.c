/* run.c - the plan of a pipeline. */
#include "run.h"

#include <stdio.h>

#include "error.h"

/* A state, and below it those that are made of it. */
static void print_state(const qat_pipeline *p, int64_t state, int depth)
{
	const qat_pipeline_state *s = &p->states[state];

	if (s->step < 0)
		printf("  %s\n", s->name);
	else
		printf("  %*s%s  (steps[%lld]: %s)\n", 2 * depth, "", s->name, (long long)s->step,
		       p->steps[s->step].task);
	for (int64_t i = state + 1; i < p->n_states; i++) {
		if (p->states[i].parent == state)
			print_state(p, i, depth + 1);
	}
}

static void print_step(const qat_pipeline *p, int64_t index)
{
	const qat_pipeline_step *s = &p->steps[index];

	printf("  %lld  %s", (long long)index, s->task);
	for (int64_t i = 0; i < s->n_reads; i++)
		printf("%s%s", i ? ", " : "  ", p->states[s->reads[i]].name);
	if (s->as >= 0)
		printf(" -> %s", p->states[s->as].name);
	putchar('\n');
}

static void print_plan(const qat_pipeline *p)
{
	printf("%s: %lld steps, into %s\n", p->name, (long long)p->n_steps, p->output);
	printf("device\n  %s, %lld threads\n", p->device.backend.interface->name,
	       (long long)p->device.threads);
	puts("states");
	for (int64_t i = 0; i < p->n_states; i++) {
		if (p->states[i].parent < 0)
			print_state(p, i, 0);
	}
	puts("steps");
	for (int64_t i = 0; i < p->n_steps; i++)
		print_step(p, i);
}

int qat_run(qat_pipeline *p, const qat_run_options *o)
{
	if (o->check || o->explain) {
		print_plan(p);
		return QAT_OK;
	}
	return qat_fail(QAT_ENOTSUP, "this build checks pipelines (--check) and does not run them");
}
