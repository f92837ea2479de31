/* exec_plan.c - how long every value is needed, and where it lies meanwhile. */
#include "exec_internal.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "plan.h"

int64_t qat_exec_root(const qat_exec *x, int64_t v)
{
	while (x->graph->values[v]->alias != QAT_NONE)
		v = x->graph->values[v]->alias;
	return v;
}

static void extend(qat_interval *life, int64_t at)
{
	if (at < life->first)
		life->first = at;
	if (at > life->last)
		life->last = at;
}

/* First and last slot that touch each value. */
static void lifetimes(const qat_exec *x, qat_interval *life)
{
	for (int64_t v = 0; v < x->graph->n_values; v++)
		life[v] = (qat_interval){ .bytes = x->bytes[v], .first = x->n_order, .last = -1 };
	for (int64_t i = 0; i < x->graph->n_nodes; i++) {
		const qat_node *n = x->graph->nodes[i];
		const int64_t at = x->position[i];

		for (int64_t k = 0; k < n->n_in + n->n_out; k++) {
			const int64_t v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];

			if (v != QAT_NONE)
				extend(&life[qat_exec_root(x, v)], at);
		}
	}
	for (int64_t v = 0; v < x->graph->n_values; v++)
		if (x->keep[v])
			life[qat_exec_root(x, v)].last = x->n_order;
}

/* Which values some node reads as they were before anything ran. A state that is none of
 * them, such as a gradient that nothing is added to, is made anew in every run, and its
 * memory is other values' until then. */
static void find_carried(const qat_exec *x, uint8_t *carried)
{
	memset(carried, 0, (size_t)x->graph->n_values);
	for (int64_t i = 0; i < x->graph->n_nodes; i++) {
		const qat_node *n = x->graph->nodes[i];

		for (int64_t k = 0; k < n->n_in; k++)
			if (n->in[k] != QAT_NONE)
				carried[n->in[k]] = 1;
	}
}

static int8_t slab_of(const qat_exec *x, int64_t v, const qat_interval *life, int carried)
{
	const qat_value *value = x->graph->values[v];

	if (value->alias != QAT_NONE || (life->last < 0 && !x->updated[v]) || !x->bytes[v])
		return -1;
	switch (value->role) {
	case QAT_ROLE_PARAM: return x->updated[v] ? SLAB_STATE : SLAB_PARAMS;
	case QAT_ROLE_CONST: return SLAB_PARAMS;
	case QAT_ROLE_INPUT: return SLAB_STATE;
	case QAT_ROLE_STATE:
		if (carried || life->last < 0)
			return SLAB_STATE;
	}
	if (x->order[life->first].phase == QAT_PHASE_PROLOGUE &&
	    (life->last >= x->n_order || x->order[life->last].phase != QAT_PHASE_PROLOGUE))
		return SLAB_STEP;
	return SLAB_SCRATCH;
}

/* ---- one lane ---- */

/* Whether the lane has memory of v without a slab: that of its owner, or imported. */
static int elsewhere(const qat_exec *x, const qat_lane *l, int64_t v, const qat_source *s)
{
	if (s->owner)
		return &x->lanes[x->home[v]] == l;
	return s->data && !x->updated[v] && !x->stored[v] && l->device->api->import;
}

/* Values of the three long-lived slabs follow each other. */
static void place_lasting(const qat_exec *x, qat_lane *l, int64_t v)
{
	const int64_t a = qat_exec_alignment(l);
	int64_t *end = &l->slab_bytes[x->slab[v]];

	l->offset[v] = *end;
	*end += (x->bytes[v] + a - 1) / a * a;
}

/* When the lane needs its memory of each scratch value: while its nodes use it, and from
 * one copy to the other. */
static void lane_lifetimes(const qat_exec *x, int32_t lane, const qat_interval *life,
			   qat_interval *here)
{
	for (int64_t v = 0; v < x->graph->n_values; v++) {
		here[v] = life[v];
		if (x->n_lanes > 1) {
			here[v].first = x->n_order;
			here[v].last = life[v].last == x->n_order && x->home[v] == lane
				     ? x->n_order : -1;
		}
	}
	for (int64_t i = 0; i < x->graph->n_nodes && x->n_lanes > 1; i++) {
		const qat_node *n = x->graph->nodes[i];

		for (int64_t k = 0; k < n->n_in + n->n_out && x->spots[i].lane == lane; k++) {
			const int64_t v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];

			if (v != QAT_NONE)
				extend(&here[qat_exec_root(x, v)], x->position[i]);
		}
	}
	for (int64_t i = 0; i < x->n_actions; i++)
		if (x->actions[i].value != QAT_NONE)
			extend(&here[x->actions[i].value], x->actions[i].at);
}

static int place_scratch(qat_exec *x, int32_t lane, const qat_interval *life)
{
	qat_lane *l = &x->lanes[lane];
	const int64_t room = x->graph->n_values + l->n_claims;
	qat_interval *items = malloc((size_t)(room + 1) * sizeof *items);
	qat_interval *here = malloc((size_t)(x->graph->n_values + 1) * sizeof *here);
	int64_t n = 0;
	int rc = items && here ? QAT_OK : qat_fail(QAT_ENOMEM, "plan: out of memory");

	if (rc)
		goto out;
	lane_lifetimes(x, lane, life, here);
	for (int64_t v = 0; v < x->graph->n_values; v++)
		if (x->slab[v] == SLAB_SCRATCH && l->own[v])
			items[n++] = here[v];
	for (int64_t i = 0; i < x->n_order; i++)
		if (x->order[i].lane == lane && l->claims[x->order[i].claim]->workspace)
			items[n++] = (qat_interval){
				.bytes = l->claims[x->order[i].claim]->workspace, .first = i,
				.last = i };
	rc = qat_plan(items, n, qat_exec_alignment(l), &l->slab_bytes[SLAB_SCRATCH]);
	n = 0;
	for (int64_t v = 0; v < x->graph->n_values; v++)
		if (x->slab[v] == SLAB_SCRATCH && l->own[v])
			l->offset[v] = items[n++].offset;
	for (int64_t i = 0; i < l->n_claims; i++)
		l->work_offset[i] = l->claims[i]->workspace ? items[n++].offset : -1;
out:
	free(items);
	free(here);
	return rc;
}

static int plan_lane(qat_exec *x, int32_t lane, const qat_source *sources,
		     const qat_interval *life)
{
	qat_lane *l = &x->lanes[lane];

	l->work_offset = malloc((size_t)(l->n_claims + 1) * sizeof *l->work_offset);
	if (!l->work_offset)
		return qat_fail(QAT_ENOMEM, "plan: out of memory");
	for (int64_t v = 0; v < x->graph->n_values; v++) {
		l->own[v] = x->slab[v] >= 0 && l->has[v] &&
			    !elsewhere(x, l, v, &sources[v]);
		if (l->own[v] && x->slab[v] != SLAB_SCRATCH)
			place_lasting(x, l, v);
	}
	return place_scratch(x, lane, life);
}

int qat_exec_plan(qat_exec *x, const qat_source *sources)
{
	const size_t n = (size_t)x->graph->n_values + 1;
	qat_interval *life = malloc(n * sizeof *life);
	uint8_t *carried = malloc(n);
	int rc = life && carried ? QAT_OK : qat_fail(QAT_ENOMEM, "plan: out of memory");

	if (rc)
		goto out;
	lifetimes(x, life);
	find_carried(x, carried);
	for (int64_t v = 0; v < x->graph->n_values; v++)
		x->slab[v] = slab_of(x, v, &life[v], carried[v]);
	rc = qat_exec_schedule(x, sources);
	for (int32_t i = 0; i < x->n_lanes && !rc; i++)
		rc = plan_lane(x, i, sources, life);
out:
	free(carried);
	free(life);
	return rc;
}
