/* exec_claim.c - which kernel runs which nodes, asked of the backend before memory is
 * planned; an unsound answer is refused. */
#include "exec_internal.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"

static int check_support(qat_exec *x)
{
	for (int64_t i = 0; i < x->graph->n_nodes; i++) {
		const qat_node *n = x->graph->nodes[i];
		char why[256] = "";

		if (x->device->api->supports(x->device->handle, x->graph, n, why, sizeof why) ==
		    QAT_SUPPORT_NO)
			return qat_fail(QAT_ENOTSUP, "%s: device %s cannot run it: %s", n->name,
					x->device->name, why[0] ? why : "no reason given");
	}
	return QAT_OK;
}

static int claim_is_sound(const qat_exec *x, const qat_claim *c, int64_t first)
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
		    c->private_bytes[i] < 0 || x->keep[c->private_value[i]])
			return 0;
	return has && at;
}

static int add_claim(qat_exec *x, const qat_claim *c)
{
	qat_claim *copy = malloc(sizeof *copy);

	if (copy && x->n_claims == x->room_claims) {
		const int64_t room = x->room_claims ? 2 * x->room_claims : 256;
		qat_claim **p = realloc(x->claims, (size_t)room * sizeof *p);

		if (!p) {
			free(copy);
			copy = NULL;
		} else {
			x->claims = p;
			x->room_claims = room;
		}
	}
	if (!copy)
		return qat_fail(QAT_ENOMEM, "claim: out of memory");
	*copy = *c;
	x->claims[x->n_claims++] = copy;
	for (int64_t i = 0; i < c->n_nodes; i++)
		x->taken[c->nodes[i]] = 1;
	for (int64_t i = 0; i < c->n_private; i++)
		x->bytes[c->private_value[i]] = c->private_bytes[i];
	return QAT_OK;
}

uint32_t qat_exec_phase(const qat_exec *x, const qat_claim *c)
{
	return x->graph->nodes[c->at]->phase;
}

/* Stable by phase, then by the node at whose place the group runs. */
static int claim_before(const qat_exec *x, const qat_claim *a, const qat_claim *b)
{
	const uint32_t pa = qat_exec_phase(x, a), pb = qat_exec_phase(x, b);

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

int qat_exec_claim(qat_exec *x)
{
	int rc = check_support(x);
	qat_claim **tmp;

	if (rc)
		return rc;
	for (int64_t i = 0; i < x->graph->n_nodes; i++) {
		qat_claim c = { .size = sizeof c };

		if (x->taken[i])
			continue;
		rc = x->device->api->claim(x->device->handle, x->graph, i, x->keep, x->taken, &c);
		if (!rc && !claim_is_sound(x, &c, i))
			rc = qat_fail(QAT_EABI, "backend %s: unsound claim at %s", x->device->name,
				      x->graph->nodes[i]->name);
		if (!rc)
			rc = add_claim(x, &c);
		if (rc)
			return rc;
	}
	tmp = malloc((size_t)(x->n_claims + 1) * sizeof *tmp);
	if (!tmp)
		return qat_fail(QAT_ENOMEM, "claim: out of memory");
	merge_sort(x, x->claims, tmp, x->n_claims);
	free(tmp);
	for (int64_t i = 0; i < x->n_claims; i++)
		for (int64_t k = 0; k < x->claims[i]->n_nodes; k++)
			x->position[x->claims[i]->nodes[k]] = i;
	return QAT_OK;
}
