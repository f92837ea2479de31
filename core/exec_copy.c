/* exec_copy.c - the running order as actions: claims of one lane after the other, and copies
 * where a lane reads what another wrote.
 *
 * For each root a set of lanes is followed along the order: those whose memory is up to
 * date. A read on a lane outside the set copies first; a write makes its lane the only one.
 * Phases repeat in ways that are not known here, so what outlives a phase ends it up to date
 * at its home, and on every lane that begins some phase by reading it: parameters go to
 * the other device once per optimizer step, not once per batch. Inputs, initial contents and
 * what is written from outside go to all lanes.
 */
#include "exec_internal.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"

enum { STAGING = 4 << 20 };		/* bytes of a staged copy at once */

typedef struct schedule {
	qat_exec *x;
	const qat_source *sources;	/* may be NULL */
	uint8_t *fresh;			/* [values]: lanes that are up to date, a bit each */
	uint8_t *wants;			/* [values]: lanes that begin a phase by reading it */
	uint8_t *written;		/* [values]: in this phase */
} schedule;

static int64_t each(const qat_exec *x, const qat_node *n, int64_t k)
{
	const int64_t v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];

	return v == QAT_NONE ? QAT_NONE : qat_exec_root(x, v);
}

/* ---- homes ---- */

/* Where the last writer is, or else a reader. */
static void find_homes(qat_exec *x)
{
	memset(x->home, -1, (size_t)x->graph->n_values);
	for (int pass = 0; pass < 2; pass++)
		for (int64_t i = 0; i < x->graph->n_nodes; i++) {
			const qat_node *n = x->graph->nodes[i];

			for (int64_t k = 0; k < n->n_in + n->n_out; k++) {
				const int64_t v = each(x, n, k);

				if (v != QAT_NONE && (pass ? x->home[v] < 0 : k >= n->n_in))
					x->home[v] = x->spots[i].lane;
			}
		}
	for (int64_t v = 0; v < x->graph->n_values; v++)
		if (x->home[v] < 0)
			x->home[v] = 0;
}

/* What another exec owns is up to date where that one has its home; a lane that runs
 * nothing is there for the copy. */
static int home_of_owned(qat_exec *x, const qat_source *sources)
{
	for (int64_t v = 0; sources && v < x->graph->n_values; v++) {
		const qat_exec *o = sources[v].owner;
		qat_device *d = o ? o->lanes[o->home[qat_exec_root(o, sources[v].value)]].device
				  : NULL;

		if (!o)
			continue;
		if (d != x->device && d != x->device->fallback)
			return qat_fail(QAT_EINVAL, "%s: its owner has it on another device",
					x->graph->values[v]->name);
		x->home[v] = d != x->device;
		if (x->home[v] && x->n_lanes == 1) {
			x->lanes[1].device = d;
			x->n_lanes = LANES;
		}
	}
	return QAT_OK;
}

/* ---- which lanes want what ---- */

static int lasting(const qat_exec *x, int64_t v)
{
	return x->slab[v] >= 0 && x->slab[v] != SLAB_SCRATCH;
}

static void find_wants(schedule *s)
{
	const qat_exec *x = s->x;

	for (int64_t i = 0; i < x->n_order; i++) {
		const qat_claim *c = qat_exec_claim_at(x, i);

		if (i == 0 || x->order[i].phase != x->order[i - 1].phase)
			memset(s->written, 0, (size_t)x->graph->n_values);
		for (int64_t j = 0; j < c->n_nodes; j++) {
			const qat_node *n = x->graph->nodes[c->nodes[j]];

			for (int64_t k = 0; k < n->n_in + n->n_out; k++) {
				const int64_t v = each(x, n, k);

				if (v == QAT_NONE)
					continue;
				x->lanes[x->order[i].lane].has[v] = 1;
				if (k >= n->n_in)
					s->written[v] = 1;
				else if (!s->written[v])
					s->wants[v] |= (uint8_t)(1 << x->order[i].lane);
			}
		}
	}
}

/* ---- actions ---- */

static int add(qat_exec *x, const qat_action *a)
{
	if (x->n_actions == x->room_actions) {
		const int64_t room = x->room_actions ? 2 * x->room_actions : 64;
		qat_action *p = realloc(x->actions, (size_t)room * sizeof *p);

		if (!p)
			return qat_fail(QAT_ENOMEM, "schedule: out of memory");
		x->actions = p;
		x->room_actions = room;
	}
	x->actions[x->n_actions++] = *a;
	return QAT_OK;
}

/* v to a lane, before slot `at`. */
static int add_copy(schedule *s, int64_t v, int32_t lane, int64_t at, uint32_t phase)
{
	qat_exec *x = s->x;

	if ((s->fresh[v] >> lane & 1) || !s->fresh[v] || !x->bytes[v])
		return QAT_OK;
	s->fresh[v] |= (uint8_t)(1 << lane);
	x->lanes[0].has[v] = x->lanes[1].has[v] = 1;
	x->copied += x->bytes[v];
	return add(x, &(qat_action){ .lane = lane, .phase = phase, .value = v, .at = at });
}

/* The slot's claim, joined with the one before where nothing came between. */
static int add_claim(qat_exec *x, int64_t at)
{
	const qat_slot *slot = &x->order[at];
	qat_action *last = x->n_actions ? &x->actions[x->n_actions - 1] : NULL;

	if (last && last->value == QAT_NONE && last->lane == slot->lane &&
	    last->phase == slot->phase) {
		last->count++;
		return QAT_OK;
	}
	return add(x, &(qat_action){ .lane = slot->lane, .phase = slot->phase,
				     .first = slot->claim, .count = 1, .value = QAT_NONE,
				     .at = at });
}

static int visit(schedule *s, int64_t at)
{
	qat_exec *x = s->x;
	const qat_claim *c = qat_exec_claim_at(x, at);
	const int32_t lane = x->order[at].lane;
	int rc = QAT_OK;

	for (int64_t j = 0; j < c->n_nodes; j++) {
		const qat_node *n = x->graph->nodes[c->nodes[j]];

		for (int64_t k = 0; k < n->n_in + n->n_out && !rc; k++) {
			const int64_t v = each(x, n, k);

			if (v != QAT_NONE && k < n->n_in)
				rc = add_copy(s, v, lane, at, x->order[at].phase);
			else if (v != QAT_NONE)
				s->fresh[v] = (uint8_t)(1 << lane);
		}
	}
	return rc ? rc : add_claim(x, at);
}

static int end_phase(schedule *s, int64_t at, uint32_t phase)
{
	qat_exec *x = s->x;
	int rc = QAT_OK;

	for (int64_t v = 0; v < x->graph->n_values && !rc; v++) {
		if (!lasting(x, v))
			continue;
		rc = add_copy(s, v, x->home[v], at, phase);
		for (int32_t lane = 0; lane < x->n_lanes && !rc; lane++)
			if (s->wants[v] >> lane & 1)
				rc = add_copy(s, v, lane, at, phase);
	}
	return rc;
}

/* What is up to date before anything runs. */
static void begin(schedule *s)
{
	qat_exec *x = s->x;

	for (int64_t v = 0; v < x->graph->n_values; v++) {
		if (s->sources && s->sources[v].owner)
			s->fresh[v] = (uint8_t)(1 << x->home[v]);
		else if (lasting(x, v) && x->slab[v] != SLAB_STEP)
			s->fresh[v] = (1 << LANES) - 1;
		if (lasting(x, v))
			x->lanes[x->home[v]].has[v] = 1;
	}
}

/* What another exec owns and this one writes, others write too, between any two phases. */
static int changes_hands(const schedule *s, int64_t v)
{
	return s->sources && s->sources[v].owner && s->x->updated[v];
}

static void begin_phase(schedule *s)
{
	for (int64_t v = 0; v < s->x->graph->n_values; v++)
		if (changes_hands(s, v))
			s->fresh[v] = (uint8_t)(1 << s->x->home[v]);
}

static void mark_whole(qat_exec *x)
{
	for (int64_t i = 0; i < x->n_actions; i++) {
		qat_action *a = &x->actions[i];
		int64_t n = 0;

		for (int64_t k = 0; k < x->n_order && a->value == QAT_NONE; k++)
			n += x->order[k].lane == a->lane && x->order[k].phase == a->phase;
		a->whole = a->value == QAT_NONE && n == a->count;
	}
}

static int walk(schedule *s)
{
	qat_exec *x = s->x;
	int rc = QAT_OK;
	int64_t at = 0;

	for (uint32_t phase = 0; phase < QAT_PHASES && !rc; phase++) {
		begin_phase(s);
		while (at < x->n_order && x->order[at].phase == phase && !rc)
			rc = visit(s, at++);
		if (!rc && x->n_lanes > 1)
			rc = end_phase(s, at, phase);
	}
	mark_whole(x);
	return rc;
}

int qat_exec_schedule(qat_exec *x, const qat_source *sources)
{
	const size_t n = (size_t)x->graph->n_values + 1;
	schedule s = { .x = x, .sources = sources };
	int rc;

	s.fresh = calloc(n, 1);
	s.wants = calloc(n, 1);
	s.written = calloc(n, 1);
	rc = s.fresh && s.wants && s.written ? QAT_OK
		: qat_fail(QAT_ENOMEM, "schedule: out of memory");
	if (!rc) {
		find_homes(x);
		rc = home_of_owned(x, sources);
	}
	if (!rc) {
		find_wants(&s);
		begin(&s);
		rc = walk(&s);
	}
	free(s.fresh);
	free(s.wants);
	free(s.written);
	return rc;
}

/* ---- copying ---- */

static char *address(const qat_lane *l, const qat_binding *b)
{
	char *p = l->device->api->map ? l->device->api->map(l->device->handle, b->memory) : NULL;

	return p ? p + b->offset : NULL;
}

static int wait_for(const qat_device *d)
{
	return d->api->sync ? d->api->sync(d->handle) : QAT_OK;
}

static int copy_staged(qat_exec *x, const qat_action *a, const qat_lane *from,
		       const qat_lane *to)
{
	const qat_binding *f = &from->bindings[a->value], *t = &to->bindings[a->value];
	const int64_t bytes = x->bytes[a->value];
	int rc = QAT_OK;

	if (!x->staging)
		x->staging = malloc(STAGING);
	if (!x->staging)
		return qat_fail(QAT_ENOMEM, "copy between devices: out of memory");
	for (int64_t i = 0; i < bytes && !rc; i += STAGING) {
		const int64_t n = bytes - i < STAGING ? bytes - i : STAGING;

		rc = from->device->api->read(from->device->handle, x->staging, f->memory,
					     f->offset + i, n);
		if (!rc)
			rc = to->device->api->write(to->device->handle, t->memory, t->offset + i,
						    x->staging, n);
	}
	return rc;
}

int qat_exec_copy(qat_exec *x, const qat_action *a)
{
	const qat_lane *to = &x->lanes[a->lane], *from = &x->lanes[1 - a->lane];
	const qat_binding *f = &from->bindings[a->value], *t = &to->bindings[a->value];
	char *const source = address(from, f), *const target = address(to, t);
	int rc;

	if (target) {			/* kernels may still use what is there */
		rc = wait_for(to->device);
		return rc ? rc : from->device->api->read(from->device->handle, target, f->memory,
							 f->offset, x->bytes[a->value]);
	}
	if (source) {
		rc = wait_for(from->device);
		return rc ? rc : to->device->api->write(to->device->handle, t->memory, t->offset,
							source, x->bytes[a->value]);
	}
	return copy_staged(x, a, from, to);
}
