/* place.c - which device runs each node: the one that the pipeline names where it can, else
 * the fallback, if that one can and the pipeline lets it. Decided once, before step 0.
 */
#include "exec_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

enum { NAMED_MAX = 4 };			/* kinds of nodes that a refusal names */

/* A reason is kept once, however many nodes have it. */
static const char *intern(qat_exec *x, const char *why)
{
	for (int64_t i = 0; i < x->n_reasons; i++)
		if (!strcmp(x->reasons[i], why))
			return x->reasons[i];
	if (x->n_reasons == x->room_reasons) {
		const int64_t room = x->room_reasons ? 2 * x->room_reasons : 16;
		char **p = realloc(x->reasons, (size_t)room * sizeof *p);

		if (!p)
			return NULL;
		x->reasons = p;
		x->room_reasons = room;
	}
	x->reasons[x->n_reasons] = strdup(why);
	return x->reasons[x->n_reasons] ? x->reasons[x->n_reasons++] : NULL;
}

static int ask(const qat_exec *x, const qat_device *d, const qat_node *n, char why[256])
{
	const int level = d->api->supports(d->handle, x->graph, n, why, 256);

	if (level != QAT_SUPPORT_NATIVE && !why[0])
		snprintf(why, 256, "no reason given");
	return level;
}

/* The second lane, opened for the first node that needs it. */
static int open_fallback(qat_exec *x)
{
	int rc = QAT_OK;

	if (x->n_lanes == LANES)
		return QAT_OK;
	rc = qat_device_ready(x->device->fallback);
	if (rc)
		return rc;
	x->lanes[1].device = x->device->fallback;
	x->n_lanes = LANES;
	return QAT_OK;
}

static int place_elsewhere(qat_exec *x, const qat_node *n, const char *lacks)
{
	qat_device *d = x->device, *other = d->fallback;
	qat_spot *s = &x->spots[n->id];
	char why[256] = "";
	int rc;

	if (!other)
		return qat_fail(QAT_ENOTSUP, "%s: device %s cannot run it: %s", n->name, d->name,
				lacks);
	rc = open_fallback(x);
	if (rc)
		return qat_fail(rc, "%s: device %s cannot run it: %s; and %s, which might, cannot "
				"be opened: %s", n->name, d->name, lacks, other->name, qat_error());
	s->lane = 1;
	s->level = (int8_t)ask(x, other, n, why);
	if (s->level == QAT_SUPPORT_NO)
		return qat_fail(QAT_ENOTSUP, "%s: device %s cannot run it: %s; nor can %s: %s",
				n->name, d->name, lacks, other->name, why);
	s->why = intern(x, lacks);
	return s->why ? QAT_OK : qat_fail(QAT_ENOMEM, "place: out of memory");
}

static int place_node(qat_exec *x, const qat_node *n)
{
	qat_spot *s = &x->spots[n->id];
	char why[256] = "";

	s->level = (int8_t)ask(x, x->device, n, why);
	if (s->level == QAT_SUPPORT_NO)
		return place_elsewhere(x, n, why);
	if (s->level == QAT_SUPPORT_NATIVE)
		return QAT_OK;
	s->why = intern(x, why);
	return s->why ? QAT_OK : qat_fail(QAT_ENOMEM, "place: out of memory");
}

/* ---- what is not allowed ---- */

static int same_kind(const qat_exec *x, int64_t a, int64_t b)
{
	return x->graph->nodes[a]->op == x->graph->nodes[b]->op &&
	       x->spots[a].why == x->spots[b].why;
}

/* Whether i is the first node of its kind on the second lane; *count: how many there are. */
static int leads(const qat_exec *x, int64_t i, int64_t *count)
{
	*count = 0;
	if (x->spots[i].lane != 1)
		return 0;
	for (int64_t k = 0; k < x->graph->n_nodes; k++) {
		if (x->spots[k].lane != 1 || !same_kind(x, i, k))
			continue;
		if (k < i)
			return 0;
		++*count;
	}
	return 1;
}

void qat_exec_moved(const qat_exec *x, char *out, size_t room)
{
	size_t used = 0;
	int kinds = 0;

	out[0] = '\0';
	for (int64_t i = 0; i < x->graph->n_nodes && used < room; i++) {
		int64_t count;

		if (!leads(x, i, &count) || kinds++ >= NAMED_MAX)
			continue;
		used += (size_t)snprintf(out + used, room - used, "%s%s", kinds > 1 ? "; " : "",
					 x->graph->nodes[i]->name);
		if (count > 1 && used < room)
			used += (size_t)snprintf(out + used, room - used, " and %lld more",
						 (long long)count - 1);
		if (used < room)
			used += (size_t)snprintf(out + used, room - used, ": %s", x->spots[i].why);
	}
	if (kinds > NAMED_MAX && used < room)
		snprintf(out + used, room - used, "; and %d more kinds", kinds - NAMED_MAX);
}

static int refuse(const qat_exec *x)
{
	char what[700];

	qat_exec_moved(x, what, sizeof what);
	return qat_fail(QAT_ENOTSUP, "device %s cannot run %s; with device.fallback: warn or "
			"allow, %s runs it", x->device->name, what, x->device->fallback->name);
}

int qat_exec_place(qat_exec *x)
{
	int rc = QAT_OK;

	for (int64_t i = 0; i < x->graph->n_nodes && !rc; i++)
		rc = place_node(x, x->graph->nodes[i]);
	if (!rc && x->n_lanes > 1 && x->device->strict)
		rc = refuse(x);
	return rc;
}
