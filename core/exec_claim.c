/* exec_claim.c - which kernel runs which nodes, asked of the backend before memory is
 * planned; an unsound answer is refused. */
#include "exec_internal.h"

#include <stdlib.h>
#include <string.h>

#include "bounds.h"
#include "error.h"

/* A private parameter is frozen, and all its readers see it in one layout. */
static int layout_is_sound(const qat_exec *x, int64_t v, int64_t bytes)
{
	if (x->graph->values[v]->role != QAT_ROLE_PARAM)
		return 1;
	return !x->updated[v] && (!x->stored[v] || x->bytes[v] == bytes);
}

static int claim_is_sound(const qat_exec *x, const qat_claim *c, int64_t first,
			  const uint8_t *keep)
{
	int has = 0, at = 0;

	if (c->n_nodes < 1 || c->n_nodes > (int64_t)(sizeof c->nodes / sizeof *c->nodes) ||
	    c->n_private < 0 || c->n_private > 4 || c->workspace < 0)
		return 0;
	for (int64_t i = 0; i < c->n_nodes; i++) {
		const int64_t n = c->nodes[i];

		if (n < 0 || n >= x->graph->n_nodes || x->taken[n])
			return 0;
		has |= n == first;
		at |= n == c->at;
	}
	for (int64_t i = 0; i < c->n_private; i++)
		if (c->private_value[i] < 0 || c->private_value[i] >= x->graph->n_values ||
		    c->private_bytes[i] < 0 || keep[c->private_value[i]] ||
		    !layout_is_sound(x, c->private_value[i], c->private_bytes[i]))
			return 0;
	return has && at;
}

static int add_claim(qat_exec *x, qat_lane *l, const qat_claim *c)
{
	qat_claim *copy = malloc(sizeof *copy);

	if (copy && l->n_claims == l->room_claims) {
		const int64_t room = l->room_claims ? 2 * l->room_claims : 256;
		qat_claim **p = realloc(l->claims, (size_t)room * sizeof *p);

		if (!p) {
			free(copy);
			copy = NULL;
		} else {
			l->claims = p;
			l->room_claims = room;
		}
	}
	if (!copy)
		return qat_fail(QAT_ENOMEM, "claim: out of memory");
	*copy = *c;
	l->claims[l->n_claims++] = copy;
	for (int64_t i = 0; i < c->n_nodes; i++)
		x->taken[c->nodes[i]] = 1;
	for (int64_t i = 0; i < c->n_private; i++) {
		const int64_t v = c->private_value[i];

		x->bytes[v] = c->private_bytes[i];
		x->stored[v] = x->graph->values[v]->role == QAT_ROLE_PARAM;
	}
	return QAT_OK;
}

/* ---- order ---- */

static uint32_t phase_of(const qat_exec *x, const qat_claim *c)
{
	return x->graph->nodes[c->at]->phase;
}

/* Stable by phase, then by the node at whose place the group runs. */
static int claim_before(const qat_exec *x, const qat_claim *a, const qat_claim *b)
{
	const uint32_t pa = phase_of(x, a), pb = phase_of(x, b);

	return pa != pb ? pa < pb : a->at < b->at;
}

static void merge_sort(const qat_exec *x, qat_claim **a, qat_claim **tmp, int64_t n)
{
	const int64_t h = n / 2;
	int64_t i = 0, j = h;

	if (n < 2)
		return;
	merge_sort(x, a, tmp, h);
	merge_sort(x, a + h, tmp, n - h);
	for (int64_t k = 0; k < n; k++)
		tmp[k] = j >= n || (i < h && !claim_before(x, a[j], a[i])) ? a[i++] : a[j++];
	memcpy(a, tmp, (size_t)n * sizeof *a);
}

static int sort_claims(const qat_exec *x, qat_lane *l)
{
	qat_claim **tmp = malloc((size_t)(l->n_claims + 1) * sizeof *tmp);

	if (!tmp)
		return qat_fail(QAT_ENOMEM, "claim: out of memory");
	merge_sort(x, l->claims, tmp, l->n_claims);
	free(tmp);
	return QAT_OK;
}

/* The lane whose next claim comes first. */
static int32_t next_lane(const qat_exec *x, const int64_t *next)
{
	int32_t best = -1;

	for (int32_t i = 0; i < x->n_lanes; i++) {
		const qat_lane *l = &x->lanes[i];

		if (next[i] < l->n_claims &&
		    (best < 0 || claim_before(x, l->claims[next[i]],
					      x->lanes[best].claims[next[best]])))
			best = i;
	}
	return best;
}

static int merge_lanes(qat_exec *x)
{
	int64_t next[LANES] = { 0 }, n = 0;

	for (int32_t i = 0; i < x->n_lanes; i++)
		n += x->lanes[i].n_claims;
	x->order = calloc((size_t)n + 1, sizeof *x->order);
	if (!x->order)
		return qat_fail(QAT_ENOMEM, "claim: out of memory");
	for (x->n_order = 0; x->n_order < n; x->n_order++) {
		const int32_t lane = next_lane(x, next);
		const qat_claim *c = x->lanes[lane].claims[next[lane]];

		x->order[x->n_order] = (qat_slot){ next[lane]++, lane, phase_of(x, c) };
		for (int64_t k = 0; k < c->n_nodes; k++)
			x->position[c->nodes[k]] = x->n_order;
	}
	return QAT_OK;
}

/* Nothing is read before it is written. */
static int check_order(const qat_exec *x)
{
	for (int64_t i = 0; i < x->graph->n_nodes; i++) {
		const qat_node *n = x->graph->nodes[i];

		for (int64_t k = 0; k < n->n_in; k++) {
			const int64_t from = n->in[k] == QAT_NONE ? QAT_NONE
					   : x->graph->values[n->in[k]]->node;

			if (from != QAT_NONE && x->position[from] > x->position[i])
				return qat_fail(QAT_EABI, "%s would run before %s, which it reads: "
						"unsound claim", n->name,
						x->graph->nodes[from]->name);
		}
	}
	return QAT_OK;
}

/* ---- claiming ---- */

static int claim_node(qat_exec *x, qat_lane *l, int64_t node, const uint8_t *keep)
{
	const qat_device *d = l->device;
	qat_claim c = { .size = sizeof c, .stream = x->spec.stream };
	int rc = d->api->claim(d->handle, x->graph, node, keep, x->taken, &c);

	if (!rc && !claim_is_sound(x, &c, node, keep))
		rc = qat_fail(QAT_EABI, "backend %s: unsound claim at %s", d->name,
			      x->graph->nodes[node]->name);
	return rc ? rc : add_claim(x, l, &c);
}

/* Nodes of other lanes are taken; values that they touch are needed outside. */
static int claim_lane(qat_exec *x, int32_t lane, uint8_t *keep)
{
	qat_lane *l = &x->lanes[lane];
	int rc = QAT_OK;

	for (int64_t i = 0; i < x->graph->n_nodes; i++)
		x->taken[i] = x->spots[i].lane != lane;
	for (int64_t i = 0; i < x->graph->n_nodes && !rc; i++)
		if (!x->taken[i])
			rc = claim_node(x, l, i, keep);
	return rc ? rc : sort_claims(x, l);
}

/* keep, and what two lanes touch. */
static uint8_t *shared_values(const qat_exec *x)
{
	const int64_t n = x->graph->n_values;
	uint8_t *lanes = calloc((size_t)n + 1, 1);

	if (!lanes)
		return NULL;
	for (int64_t i = 0; i < x->graph->n_nodes; i++) {
		const qat_node *node = x->graph->nodes[i];

		for (int64_t k = 0; k < node->n_in + node->n_out; k++) {
			const int64_t v = k < node->n_in ? node->in[k]
							 : node->out[k - node->n_in];

			if (v != QAT_NONE)
				lanes[qat_exec_root(x, v)] |= (uint8_t)(1 << x->spots[i].lane);
		}
	}
	for (int64_t v = n - 1; v >= 0; v--)
		lanes[v] = lanes[qat_exec_root(x, v)];
	for (int64_t v = 0; v < n; v++)
		lanes[v] = (lanes[v] & (lanes[v] - 1)) || x->keep[v];
	return lanes;
}

/* What a trace cannot know otherwise: an exact node is held to the bits that follow from what
 * it read, and only another exact node's output is known without being read. */
static void keep_for_trace(const qat_exec *x, uint8_t *keep)
{
	for (int64_t i = 0; i < x->graph->n_nodes; i++) {
		const qat_node *n = x->graph->nodes[i];

		for (int64_t k = 0; k < n->n_in && qat_node_exact(n); k++) {
			const int64_t v = n->in[k];
			const int64_t from = v == QAT_NONE ? QAT_NONE : x->graph->values[v]->node;

			if (from != QAT_NONE && !qat_node_exact(x->graph->nodes[from]))
				keep[v] = 1;
		}
	}
}

int qat_exec_claim(qat_exec *x)
{
	uint8_t *keep = shared_values(x);
	int rc = keep ? QAT_OK : qat_fail(QAT_ENOMEM, "claim: out of memory");

	if (!rc && x->device->trace)
		keep_for_trace(x, keep);
	for (int32_t i = 0; i < x->n_lanes && !rc; i++)
		rc = claim_lane(x, i, keep);
	free(keep);
	if (!rc)
		rc = merge_lanes(x);
	return rc ? rc : check_order(x);
}
