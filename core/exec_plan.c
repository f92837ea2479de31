/* exec_plan.c - how long every value is needed, and where it lies meanwhile. */
#include "exec_internal.h"

#include <stdlib.h>

#include "error.h"
#include "plan.h"

int64_t qat_exec_root(const qat_exec *x, int64_t v)
{
	while (x->graph->values[v]->alias != QAT_NONE)
		v = x->graph->values[v]->alias;
	return v;
}

static uint32_t position_phase(const qat_exec *x, int64_t position)
{
	return qat_exec_phase(x, x->claims[position]);
}

/* First and last claim that touch each value. */
static int lifetimes(const qat_exec *x, qat_interval *life)
{
	for (int64_t v = 0; v < x->graph->n_values; v++)
		life[v] = (qat_interval){ .bytes = x->bytes[v], .first = x->n_claims, .last = -1 };
	for (int64_t i = 0; i < x->graph->n_nodes; i++) {
		const qat_node *n = x->graph->nodes[i];
		const int64_t at = x->position[i];

		for (int64_t k = 0; k < n->n_in + n->n_out; k++) {
			const int64_t v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];

			if (v == QAT_NONE)
				continue;
			if (at < life[v].first)
				life[v].first = at;
			if (at > life[v].last)
				life[v].last = at;
		}
	}
	for (int64_t v = 0; v < x->graph->n_values; v++)
		if (x->keep[v])
			life[v].last = x->n_claims;
	return QAT_OK;
}

static int8_t slab_of(const qat_exec *x, int64_t v, const qat_interval *life)
{
	const qat_value *value = x->graph->values[v];

	if (value->alias != QAT_NONE || (life->last < 0 && !x->updated[v]) || !x->bytes[v])
		return -1;
	switch (value->role) {
	case QAT_ROLE_PARAM: return x->updated[v] ? SLAB_STATE : SLAB_PARAMS;
	case QAT_ROLE_CONST: return SLAB_PARAMS;
	case QAT_ROLE_INPUT:
	case QAT_ROLE_STATE: return SLAB_STATE;
	}
	if (position_phase(x, life->first) == QAT_PHASE_PROLOGUE &&
	    (life->last >= x->n_claims || position_phase(x, life->last) != QAT_PHASE_PROLOGUE))
		return SLAB_STEP;
	return SLAB_SCRATCH;
}

/* Values of the three long-lived slabs follow each other. */
static void place_lasting(qat_exec *x, int64_t v)
{
	const int64_t a = x->device->caps.alignment > 0 ? x->device->caps.alignment : 64;
	int64_t *end = &x->slab_bytes[x->slab[v]];

	x->offset[v] = *end;
	*end += (x->bytes[v] + a - 1) / a * a;
}

static int place_scratch(qat_exec *x, const qat_interval *life)
{
	const int64_t a = x->device->caps.alignment > 0 ? x->device->caps.alignment : 64;
	const int64_t room = x->graph->n_values + x->n_claims;
	qat_interval *items = malloc((size_t)(room + 1) * sizeof *items);
	int64_t n = 0;
	int rc;

	if (!items)
		return qat_fail(QAT_ENOMEM, "plan: out of memory");
	for (int64_t v = 0; v < x->graph->n_values; v++)
		if (x->slab[v] == SLAB_SCRATCH)
			items[n++] = life[v];
	for (int64_t i = 0; i < x->n_claims; i++)
		if (x->claims[i]->workspace)
			items[n++] = (qat_interval){ .bytes = x->claims[i]->workspace, .first = i,
						     .last = i };
	rc = qat_plan(items, n, a, &x->slab_bytes[SLAB_SCRATCH]);
	n = 0;
	for (int64_t v = 0; v < x->graph->n_values; v++)
		if (x->slab[v] == SLAB_SCRATCH)
			x->offset[v] = items[n++].offset;
	for (int64_t i = 0; i < x->n_claims; i++)
		x->work_offset[i] = x->claims[i]->workspace ? items[n++].offset : -1;
	free(items);
	return rc;
}

int qat_exec_plan(qat_exec *x, const qat_source *sources)
{
	qat_interval *life = malloc((size_t)(x->graph->n_values + 1) * sizeof *life);
	int rc;

	x->work_offset = malloc((size_t)(x->n_claims + 1) * sizeof *x->work_offset);
	if (!life || !x->work_offset) {
		free(life);
		return qat_fail(QAT_ENOMEM, "plan: out of memory");
	}
	rc = lifetimes(x, life);
	for (int64_t v = 0; v < x->graph->n_values; v++) {
		x->slab[v] = slab_of(x, v, &life[v]);
		if (sources && (sources[v].binding.memory || sources[v].data))
			x->slab[v] = -1;
		if (x->slab[v] >= 0 && x->slab[v] != SLAB_SCRATCH)
			place_lasting(x, v);
	}
	if (!rc)
		rc = place_scratch(x, life);
	free(life);
	return rc;
}
