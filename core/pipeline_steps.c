/* pipeline_steps.c - the part `steps`: tasks in order, and the states between them. */
#include <string.h>

#include "kinds.h"
#include "pipeline_internal.h"

struct reader {
	qat_pipeline *p;
	qat_pipeline_step *step;
	const char *as;		/* the state that this step makes */
};

/* A state that is there before this step. */
static int take_state(struct reader *r, const qat_yaml_node *node)
{
	const char *name = qat_yaml_text(node);
	int64_t state = qat_pipeline_state_index(r->p, name);
	qat_pipeline_step *s = r->step;

	if (state < 0)
		return qat_pipeline_unknown(r->p, node, "state", qat_pipeline_state_name);
	if (s->from < 0)
		s->from = state;
	for (int64_t i = 0; i < s->n_reads; i++) {
		if (s->reads[i] == state)
			return QAT_OK;
	}
	s->reads[s->n_reads++] = state;
	return QAT_OK;
}

static int new_state(struct reader *r, const qat_yaml_node *node)
{
	const char *name = qat_yaml_text(node);
	int rc = qat_pipeline_name(node, "a state");
	int64_t i;

	if (rc)
		return rc;
	if (!strcmp(name, "none"))
		return qat_yaml_fail(node, QAT_EINVAL, "\"none\" means that there is none: choose "
				     "another name");
	i = qat_pipeline_state_index(r->p, name);
	if (!i)
		return qat_yaml_fail(node, QAT_EINVAL, "\"base\" is the model as it was loaded: "
				     "choose another name");
	if (i > 0)
		return qat_yaml_fail(node, QAT_EINVAL, "there is a state \"%s\" already, of "
				     "steps[%lld]: choose another name", name,
				     (long long)r->p->states[i].step);
	if (r->as)
		return qat_yaml_fail(node, QAT_ENOTSUP, "a step makes one state");
	r->as = name;
	return QAT_OK;
}

/* A name that an option of a step gives. */
static int step_option(void *context, const qat_option *o, const qat_yaml_node *node)
{
	struct reader *r = context;
	const char *name = qat_yaml_text(node);

	switch (o->type) {
	case QAT_OPT_STATE:
	case QAT_OPT_STATES:
		return take_state(r, node);
	case QAT_OPT_NEW_STATE:
		return new_state(r, node);
	case QAT_OPT_DATA:
		if (qat_pipeline_data_index(r->p, name) >= 0)
			return QAT_OK;
		return qat_pipeline_unknown(r->p, node, "data set", qat_pipeline_data_name);
	case QAT_OPT_SITES:
		if (!strcmp(name, "none") || qat_pipeline_sites_find(r->p, name))
			return QAT_OK;
		return qat_pipeline_unknown(r->p, node, "set of sites", qat_pipeline_sites_name);
	default:
		if (!strcmp(name, "none") || qat_pipeline_scheme_index(r->p, name) >= 0)
			return QAT_OK;
		return qat_pipeline_unknown(r->p, node, "scheme", qat_pipeline_scheme_name);
	}
}

static void add_state(qat_pipeline *p, const char *name, int64_t parent, int64_t step)
{
	p->states[p->n_states++] = (qat_pipeline_state){
		.name = name, .parent = parent, .step = step
	};
}

static int read_step(struct reader *r, const qat_yaml_node *node, const qat_option_env *env)
{
	static const qat_option other[] = { { .name = "task" }, QAT_END };
	qat_option_source source = { .map = node, .other = other };
	qat_pipeline_step *s = r->step;
	const qat_yaml_node *named;
	int rc = qat_yaml_expect(node, QAT_YAML_MAP);

	if (rc)
		return rc;
	named = qat_yaml_get(node, "task");
	if (!named)
		return qat_yaml_fail(node, QAT_EINVAL, "lacks \"task\", which says what to do");
	s->node = node;
	s->as = s->from = -1;
	s->reads = qat_arena_array(env->arena, (size_t)r->p->n_states, sizeof *s->reads);
	if (!s->reads)
		return QAT_ENOMEM;
	rc = qat_instance_new(&s->plugin, QAT_KIND_TASK, named, &source, env);
	if (rc)
		return rc;
	s->task = s->plugin.interface->name;
	if (r->as) {
		s->as = r->p->n_states;
		add_state(r->p, r->as, s->from, r->p->n_steps);
	}
	return QAT_OK;
}

int qat_pipeline_read_steps(qat_pipeline *p, const qat_yaml_node *node)
{
	struct reader r = { .p = p };
	qat_option_env env = {
		.arena = p->arena, .folder = p->folder, .name = step_option, .context = &r
	};
	int rc;

	if (!node)
		return qat_yaml_fail(qat_yaml_root(p->doc), QAT_EINVAL, "the pipeline lacks "
				     "\"steps\": write steps: [{task: ...}]");
	rc = qat_yaml_expect(node, QAT_YAML_SEQ);
	if (!rc && !node->count)
		rc = qat_yaml_fail(node, QAT_EINVAL, "there is no step: a run has at least one");
	if (rc)
		return rc;
	p->steps = qat_arena_array(p->arena, (size_t)node->count, sizeof *p->steps);
	p->states = qat_arena_array(p->arena, (size_t)node->count + 1, sizeof *p->states);
	if (!p->steps || !p->states)
		return QAT_ENOMEM;
	add_state(p, "base", -1, -1);
	for (int64_t i = 0; !rc && i < node->count; i++) {
		r.step = &p->steps[i];
		r.as = NULL;
		rc = read_step(&r, node->items[i], &env);
		p->n_steps = i + 1;
	}
	return rc;
}
