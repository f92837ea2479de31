/* exec_mapped.c - parameters that kernels read where they lie in files.
 *
 * Pages of files are in memory as long as there is room, and can leave it at any time. Here they
 * are asked to, between two kernels, in two cases: what the prologue reads is not read again
 * until parameters change; and memory may be bounded.
 */
#include "exec_internal.h"

#include <stdlib.h>

#include "error.h"

/* What a prologue reads before pages are let go. */
#define PROLOGUE_BYTES ((int64_t)32 << 20)

static int is_mapped(const qat_exec *x, const qat_lane *l, int64_t v)
{
	const qat_source *s = &x->sources[v];

	if (x->graph->values[v]->role != QAT_ROLE_PARAM || !l->has[v] || l->own[v] ||
	    x->slab[v] < 0)
		return 0;
	return s->owner ? is_mapped(s->owner, &s->owner->lanes[s->owner->home[s->value]], s->value)
			: s->data != NULL;
}

/* Those of one claim that no claim of this phase read before; seen: [values], the phase + 1
 * in which a value was last read. */
static int64_t claim_touches(const qat_exec *x, const qat_lane *l, const qat_claim *c,
			     uint32_t phase, uint8_t *seen)
{
	int64_t bytes = 0;

	for (int64_t i = 0; i < c->n_nodes; i++) {
		const qat_node *n = x->graph->nodes[c->nodes[i]];

		for (int64_t k = 0; k < n->n_in; k++) {
			const int64_t v = n->in[k] == QAT_NONE ? QAT_NONE
							       : qat_exec_root(x, n->in[k]);

			if (v == QAT_NONE || seen[v] == phase + 1 || !is_mapped(x, l, v))
				continue;
			seen[v] = (uint8_t)(phase + 1);
			bytes += x->bytes[v];
		}
	}
	return bytes;
}

int qat_exec_touches(qat_exec *x)
{
	uint8_t *seen = calloc((size_t)x->graph->n_values + 1, 1);
	int rc = seen ? QAT_OK : qat_fail(QAT_ENOMEM, "plan: out of memory");

	for (int32_t i = 0; i < x->n_lanes && !rc; i++) {
		qat_lane *l = &x->lanes[i];

		l->touches = calloc((size_t)l->n_claims + 1, sizeof *l->touches);
		if (!l->touches)
			rc = qat_fail(QAT_ENOMEM, "plan: out of memory");
	}
	for (int64_t i = 0; i < x->n_order && !rc; i++) {
		qat_lane *l = &x->lanes[x->order[i].lane];

		l->touches[x->order[i].claim] = claim_touches(x, l, qat_exec_claim_at(x, i),
							      x->order[i].phase, seen);
	}
	free(seen);
	return rc;
}

/* Bytes that a phase may have read before pages are let go; 0: any. */
static int64_t bound_of(const qat_exec *x, uint32_t phase)
{
	const int64_t bound = x->spec.mapped;

	if (!x->spec.let_go)
		return 0;
	if (phase != QAT_PHASE_PROLOGUE)
		return bound;
	return bound && bound < PROLOGUE_BYTES ? bound : PROLOGUE_BYTES;
}

int64_t qat_exec_mapped(const qat_exec *x, int64_t *touched)
{
	int64_t sum[QAT_PHASES] = { 0 }, most[QAT_PHASES] = { 0 }, all = 0;

	*touched = 0;
	for (int64_t i = 0; i < x->n_order; i++) {
		const qat_slot *s = &x->order[i];
		const int64_t bytes = x->lanes[s->lane].touches[s->claim];

		sum[s->phase] += bytes;
		most[s->phase] = bytes > most[s->phase] ? bytes : most[s->phase];
	}
	for (uint32_t p = 0; p < QAT_PHASES; p++) {
		const int64_t bound = bound_of(x, p);
		int64_t in = !bound || sum[p] < bound ? sum[p] : bound;

		in = in > most[p] ? in : most[p];
		all = in > all ? in : all;
		*touched = most[p] > *touched ? most[p] : *touched;
	}
	return all;
}

/* ---- running ---- */

static int run_claims(const qat_lane *l, qat_runtime *rt, int64_t first, int64_t count)
{
	const qat_backend *api = l->device->api;
	int rc = QAT_OK;

	if (api->run_range)
		return api->run_range(l->device->handle, l->exe, rt, first, count);
	for (int64_t i = first; i < first + count && !rc && rt->bad_node == QAT_NONE; i++)
		rc = api->run_one(l->device->handle, l->exe, rt, i);
	return rc;
}

static int let_go(qat_exec *x, const qat_lane *l)
{
	const qat_backend *api = l->device->api;
	const int rc = api->sync ? api->sync(l->device->handle) : QAT_OK;

	if (!rc)
		x->spec.let_go(x->spec.context);
	x->read = 0;
	return rc;
}

/* How many claims from `first` on read no more than what is left of the bound; one at least. */
static int64_t stretch(const qat_exec *x, const qat_lane *l, int64_t first, int64_t count,
		       int64_t bound, int64_t *bytes)
{
	int64_t n = 0;

	*bytes = 0;
	while (n < count && (!n || x->read + *bytes + l->touches[first + n] <= bound))
		*bytes += l->touches[first + n++];
	return n;
}

int qat_exec_run_mapped(qat_exec *x, const qat_action *a, qat_runtime *rt)
{
	const qat_lane *l = &x->lanes[a->lane];
	const int64_t bound = bound_of(x, a->phase);
	int64_t done = 0, bytes;
	int rc = QAT_OK;

	if (!bound)
		return a->whole ? l->device->api->run(l->device->handle, l->exe, rt)
				: run_claims(l, rt, a->first, a->count);
	while (done < a->count && !rc && rt->bad_node == QAT_NONE) {
		const int64_t n = stretch(x, l, a->first + done, a->count - done, bound, &bytes);

		if (x->read && x->read + bytes > bound)
			rc = let_go(x, l);
		if (!rc)
			rc = run_claims(l, rt, a->first + done, n);
		x->read += bytes;
		done += n;
	}
	if (!rc && a->phase == QAT_PHASE_PROLOGUE && x->read)
		rc = let_go(x, l);
	return rc;
}
