/* run.c - a pipeline from its first check to its last step. */
#include "run.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include <qatrun/task.h>

#include "error.h"
#include "ir.h"
#include "output.h"
#include "plugin.h"
#include "profile.h"
#include "progress.h"
#include "resume.h"
#include "session.h"
#include "step.h"
#include "trace.h"
#include "tracker.h"

/* ---- the plan ---- */

/* A state, and below it those that are made of it. */
static void print_state(const qat_pipeline *p, int64_t state, int depth)
{
	const qat_pipeline_state *s = &p->states[state];

	if (s->step < 0)
		printf("  %s\n", s->name);
	else
		printf("  %*s%s  (steps[%lld]: %s)\n", 2 * depth, "", s->name, (long long)s->step,
		       p->steps[s->step].task);
	for (int64_t i = state + 1; i < p->n_states; i++)
		if (p->states[i].parent == state)
			print_state(p, i, depth + 1);
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

static void print_plan(const qat_pipeline *p, const qat_context *c)
{
	printf("%s: %lld steps, into %s\n", p->name, (long long)p->n_steps, p->output);
	printf("device\n  %s: %s\n", p->device.backend.interface->name, c->device.caps.name);
	puts("states");
	for (int64_t i = 0; i < p->n_states; i++)
		if (p->states[i].parent < 0)
			print_state(p, i, 0);
	puts("steps");
	for (int64_t i = 0; i < p->n_steps; i++)
		print_step(p, i);
}

/* ---- checks: all that can be known before anything runs ---- */

static int check_data(qat_step *s, const qat_state *base)
{
	const qat_pipeline *p = s->context->p;

	for (int64_t i = 0; i < p->n_data; i++) {
		qat_data *d;
		int64_t length;
		int rc = qat_step_api.data_open(s, &d, p->data[i].name, "base");

		if (rc)
			return rc;
		length = qat_step_api.data_length(d);
		qat_step_api.data_close(d);
		if (base->info.context && length > base->info.context)
			return qat_yaml_fail(p->data[i].node, QAT_EINVAL, "length %lld is longer than "
					     "the model's context of %lld: use a smaller length",
					     (long long)length, (long long)base->info.context);
	}
	return QAT_OK;
}

/* Every scheme of a set at every site that it names. */
static int check_placement(qat_context *c, const qat_state *base, const char *sites)
{
	qat_arena *arena;
	qat_placement place;
	const qat_scheme_set *set;
	int rc = qat_arena_new(&arena);

	if (rc)
		return rc;
	rc = qat_placement_start(&place, c, base, sites, arena);
	if (!rc)
		qat_sites_warn(qat_pipeline_sites_find(c->p, sites), place.names, place.n_names);
	for (int64_t i = 0; i < place.n_names && !rc; i++) {
		char name[512];
		const qat_param_state *w;
		qat_site site = { .size = sizeof site, .name = place.names[i] };

		snprintf(name, sizeof name, "%s.weight", place.names[i]);
		w = qat_state_param(base, name);
		site.rows = w ? w->info.shape[0] : base->info.vocabulary;
		site.cols = w ? w->info.shape[1] : base->info.hidden;
		for (site.port = 0; site.port < QAT_PORTS && !rc; site.port++)
			if (w || site.port != QAT_PORT_WEIGHT ||
			    (base->info.tied && !strcmp(site.name, "lm_head")))
				rc = qat_placement_find(&place, &site, &set);
	}
	qat_arena_free(arena);
	return rc;
}

static int check_all(qat_step *s)
{
	const qat_pipeline *p = s->context->p;
	const qat_state *base;
	int rc = qat_context_state(s->context, &base, "base");

	if (!rc)
		rc = check_data(s, base);
	for (int64_t i = 0; i < p->n_sites && !rc; i++)
		rc = check_placement(s->context, base, p->sites[i].name);
	for (int64_t i = 0; i < p->n_steps && !rc; i++) {
		const qat_task *t = p->steps[i].plugin.vtable;

		s->index = i;
		s->plan = &p->steps[i];
		if (t->check)
			rc = t->check(s->plan->plugin.self, s);
		if (rc)
			rc = qat_yaml_fail(s->plan->node, rc, "%s", qat_error());
	}
	return rc;
}

/* ---- running ---- */

static void record_machine(qat_results *r, const qat_context *c)
{
	qat_row *m = qat_results_machine(r);
	struct utsname u;

	qat_row_text(m, "backend", c->device.name);
	qat_row_text(m, "device", c->device.caps.name);
	qat_row_text(m, "isa", c->device.caps.isa);
	qat_row_text(m, "kernels", c->device.caps.kernels);
	qat_row_int(m, "threads", c->device.caps.threads);
	if (!uname(&u))
		qat_row_text(m, "system", u.sysname), qat_row_text(m, "release", u.release);
}

static int run_step(qat_step *s, int64_t index, const qat_run_options *o)
{
	const qat_pipeline_step *plan = &s->context->p->steps[index];
	const qat_task *t = plan->plugin.vtable;
	int64_t peak;
	int rc;

	s->index = index;
	s->plan = plan;
	s->began = qat_now();
	s->timed_from = s->timed_seconds = s->last_event = s->seconds_before = 0.0;
	s->timed_tokens = s->tokens = s->predicted = s->peak_before = s->recompute = 0;
	rc = qat_resume_begin(s->resume, index);
	if (rc)
		return rc;
	qat_memory_peak_reset();
	s->row = qat_results_row(s->results, "steps");
	qat_row_text(s->row, "task", plan->task);
	qat_row_text(s->row, "as", plan->as >= 0 ? s->context->p->states[plan->as].name : NULL);
	qat_progress_begin(plan->task, o->quiet);
	qat_profile_step(s->context->device.profile, index, plan->task);
	rc = t->run(plan->plugin.self, s);
	qat_progress_end();
	peak = qat_memory_peak();
	qat_row_number(s->row, "seconds", qat_now() - s->began + s->seconds_before);
	qat_row_int(s->row, "tokens", s->tokens);
	qat_row_number(s->row, "tokens_per_second",
		       s->timed_seconds > 0.0 ? (double)s->timed_tokens / s->timed_seconds : NAN);
	qat_row_int(s->row, "peak_bytes", peak > s->peak_before ? peak : s->peak_before);
	qat_row_int(s->row, "predicted_peak_bytes", s->predicted);
	qat_row_int(s->row, "recompute", s->recompute);
	if (!rc)
		qat_trackers_results(s->trackers, s->results, index);
	if (!rc)
		rc = qat_resume_end(s->resume, index);
	if (!rc)
		rc = qat_results_write(s->results);
	qat_results_print(s->results, stdout, "evaluations");
	qat_results_print(s->results, stdout, "comparisons");
	qat_results_print_texts(s->results, stdout, "generations");
	fflush(stdout);
	return rc;
}

static int join(char **out, const char *folder, const char *name)
{
	return asprintf(out, "%s/%s", folder, name) < 0 ? qat_fail(QAT_ENOMEM, "out of memory")
							: QAT_OK;
}

static int open_records(qat_step *s)
{
	char *path = NULL;
	int rc = join(&path, s->output, "results.json");

	if (!rc)
		rc = qat_results_new(&s->results, path, s->context->p->name, s->context->p->seed);
	free(path);
	path = NULL;
	if (!rc)
		rc = join(&path, s->output, "events.jsonl");
	if (!rc)
		rc = qat_events_new(&s->events, path);
	free(path);
	path = NULL;
	if (!rc)
		rc = join(&path, s->output, "states");
	if (!rc && mkdir(path, 0777) && errno != EEXIST)
		rc = qat_fail(QAT_EIO, "%s: %s", path, strerror(errno));
	free(path);
	return rc;
}

static int run_steps(qat_step *s, const qat_run_options *o)
{
	int rc;

	record_machine(s->results, s->context);
	s->plan = NULL;
	rc = qat_step_record(s, "base");
	/* killed between the record of its last step and this */
	if (!rc && qat_resume_finished(s->resume))
		rc = qat_results_write(s->results);
	for (int64_t i = qat_resume_finished(s->resume); i < s->context->p->n_steps && !rc; i++) {
		rc = run_step(s, i, o);
		if (!rc && qat_stopped() && i + 1 < s->context->p->n_steps)
			rc = qat_fail(QAT_ESTOPPED, "interrupted after step %lld of %lld: --resume "
				      "goes on from there", (long long)i + 1, (long long)s->context->p->n_steps);
	}
	return rc;
}

/* What was measured and judged, also of a run that failed. */
static int report(const qat_step *s, int rc)
{
	const qat_device *d = &s->context->device;
	int written = d->profile && (!rc || rc == QAT_ESTOPPED)
		    ? qat_profile_write(d->profile, s->output) : QAT_OK;

	if (d->trace && !rc)
		qat_trace_print(d->trace);
	return rc ? rc : written;
}

/* results.json of a run that failed, whose message is worth more than one about that. */
static int write_results(qat_step *s, int rc)
{
	char why[QAT_MESSAGE_MAX];

	snprintf(why, sizeof why, "%s", qat_error());
	if (s->results && (qat_resume_at_home(s->resume) || qat_results_write(s->results)))
		return qat_fail(rc, "%s", why);
	return rc;
}

static int run_all(qat_step *s, const qat_run_options *o)
{
	const qat_pipeline *p = s->context->p;
	qat_output *output = NULL;
	int rc;

	rc = qat_output_open(&output, p->output, o->force ? QAT_OUTPUT_REPLACE
			     : o->resume ? QAT_OUTPUT_GO_ON : QAT_OUTPUT_NEW);
	if (!rc) {
		s->output = qat_output_path(output);
		rc = qat_resume_new(&s->resume, s, o->resume);
	}
	if (!rc)
		rc = qat_output_store(output, qat_yaml_root(p->doc));
	if (!rc)
		rc = open_records(s);
	if (!rc)
		rc = qat_resume_apply(s->resume);
	if (!rc)
		rc = qat_trackers_open(&s->trackers, p, output, qat_resume_found(s->resume));
	if (!rc)
		qat_trackers_skip(s->trackers, s->results);
	if (!rc) {
		*o->started = 1;
		qat_signals_catch();
		rc = run_steps(s, o);
	}
	if (rc && *o->started)
		rc = write_results(s, rc);
	if (s->results)
		rc = report(s, rc);
	qat_trackers_close(s->trackers, s->results);
	qat_resume_free(s->resume);
	qat_events_free(s->events);
	qat_results_free(s->results);
	qat_output_close(output);
	return rc;
}

/* The run's own pipeline.yaml says which commit was fetched, not a branch that moves on. */
static int pin_revision(qat_pipeline *p, const qat_context *c)
{
	qat_yaml_node *at = qat_yaml_get(qat_yaml_root(p->doc), "model");
	qat_yaml_node *revision;

	if (!c->base_revision)
		return QAT_OK;
	revision = qat_yaml_scalar_new(p->doc, "%s", c->base_revision);
	return revision ? qat_yaml_map_set(at, "revision", revision) : QAT_ENOMEM;
}

int qat_services_start(void)
{
	const int rc = qat_host_service_set("graph", &qat_ir_api);

	return rc ? rc : qat_host_service_set("session", &qat_step_api);
}

int qat_run(qat_pipeline *p, const qat_run_options *o)
{
	qat_step s = { .force = o->force, .resumed = o->resume };
	qat_context *c = NULL;
	int rc = qat_context_new(&c, p);

	if (!rc) {
		s.context = c;
		c->step = &s;
		c->quiet = o->quiet;
		rc = qat_context_watch(c, o->profile, o->trace);
	}
	if (!rc && p->model.hub && !o->check && !o->explain)
		rc = qat_output_check(p->output, o->force);
	if (!rc)
		rc = check_all(&s);
	if (!rc)
		rc = pin_revision(p, c);
	if (!rc && (o->check || o->explain))
		print_plan(p, c);
	if (!rc)
		rc = qat_predict(&s, o->explain ? QAT_PREDICT_KERNELS
				 : o->check ? QAT_PREDICT_MEMORY : QAT_PREDICT_SILENT);
	if (!rc && !o->check && !o->explain)
		rc = run_all(&s, o);
	qat_memo_free(s.memos);
	qat_context_free(c);
	return rc;
}
