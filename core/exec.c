/* exec.c - claim, plan, bind, compile, run.
 *
 * Every value lives in one of four slabs, by how long it is needed:
 *   params   constants and what is filled from a checkpoint (or imported: no slab)
 *   state    inputs, gradients, moments, trained parameters
 *   step     what the prologue makes and later phases read
 *   scratch  everything else, placed by liveness, with each kernel's workspace
 */
#include "exec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "plan.h"

enum { SLAB_PARAMS, SLAB_STATE, SLAB_STEP, SLAB_SCRATCH, SLABS };

static const uint32_t slab_use[SLABS] = {
	QAT_MEM_PARAMS, QAT_MEM_STATE, QAT_MEM_STEP, QAT_MEM_SCRATCH
};

struct qat_exec {
	qat_device *device;
	const qat_ir *g;
	const qat_graph *graph;
	uint8_t *keep;			/* [values] */
	uint8_t *taken;			/* [nodes] */
	uint8_t *updated;		/* [values]: another value aliases it */
	qat_claim **claims;		/* in running order */
	int64_t n_claims, room_claims;
	int64_t *position;		/* [nodes]: index of the claim */
	int64_t *bytes;			/* [values]: stored size, 0: swallowed */
	int8_t *slab;			/* [values], -1: not in a slab */
	int64_t *offset;		/* [values] */
	int64_t *work_offset;		/* [claims], -1: none */
	int64_t slab_bytes[SLABS];
	qat_memory *slabs[SLABS];
	qat_memory **imports;
	int64_t n_imports, room_imports;
	qat_binding *bindings;		/* [values] */
	qat_binding *workspaces;	/* [claims] */
	qat_program program;
	void *exe;
};

/* ---- device ---- */

int qat_device_open(qat_device *out, const qat_instance *backend, int64_t index,
		    int64_t threads)
{
	qat_device d = { .api = backend->vtable, .name = backend->interface->name };
	int rc;

	if (d.api->count && d.api->count() <= index)
		return qat_fail(QAT_ENOTFOUND, "backend %s: no device %lld here (%lld found)",
				d.name, (long long)index, (long long)d.api->count());
	rc = d.api->open(&d.handle, backend->self, index, threads);
	if (rc)
		return rc;
	d.caps.size = sizeof d.caps;
	rc = d.api->caps(d.handle, &d.caps);
	if (rc) {
		d.api->close(d.handle);
		return rc;
	}
	*out = d;
	return QAT_OK;
}

void qat_device_close(qat_device *d)
{
	if (d->handle)
		d->api->close(d->handle);
	d->handle = NULL;
}

static int device_alloc(qat_device *d, qat_memory **out, int64_t bytes, uint32_t use)
{
	const int rc = d->api->alloc(d->handle, out, bytes, use);

	if (rc)
		return rc;
	d->allocated += bytes;
	if (d->allocated > d->peak)
		d->peak = d->allocated;
	return QAT_OK;
}

/* ---- claims ---- */

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
	int has = 0;

	if (c->n_nodes < 1 || c->n_nodes > (int64_t)(sizeof c->nodes / sizeof *c->nodes) ||
	    c->n_private < 0 || c->n_private > 4 || c->workspace < 0)
		return 0;
	for (int64_t i = 0; i < c->n_nodes; i++) {
		const int64_t n = c->nodes[i];

		if (n < 0 || n >= x->graph->n_nodes || x->taken[n])
			return 0;
		has |= n == first;
	}
	return has;
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

static uint32_t claim_phase(const qat_exec *x, const qat_claim *c)
{
	return x->graph->nodes[c->at]->phase;
}

/* Stable by phase, then by the node at whose place the group runs. */
static int claim_before(const qat_exec *x, const qat_claim *a, const qat_claim *b)
{
	const uint32_t pa = claim_phase(x, a), pb = claim_phase(x, b);

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

static int claim_all(qat_exec *x)
{
	qat_claim **tmp;

	for (int64_t i = 0; i < x->graph->n_nodes; i++) {
		qat_claim c = { .size = sizeof c };
		int rc;

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

/* ---- plan ---- */

static int64_t root(const qat_exec *x, int64_t v)
{
	while (x->graph->values[v]->alias != QAT_NONE)
		v = x->graph->values[v]->alias;
	return v;
}

static uint32_t position_phase(const qat_exec *x, int64_t position)
{
	return claim_phase(x, x->claims[position]);
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

/* sources[v].binding or data: the value needs no room of ours. */
static int plan(qat_exec *x, const qat_source *sources)
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

/* ---- binding ---- */

static int import_data(qat_exec *x, int64_t v, const void *data)
{
	qat_device *d = x->device;

	if (x->n_imports == x->room_imports) {
		const int64_t room = x->room_imports ? 2 * x->room_imports : 64;
		qat_memory **p = realloc(x->imports, (size_t)room * sizeof *p);

		if (!p)
			return qat_fail(QAT_ENOMEM, "bind: out of memory");
		x->imports = p;
		x->room_imports = room;
	}
	if (d->api->import(d->handle, &x->imports[x->n_imports], data, x->bytes[v]))
		return QAT_ENOMEM;
	x->bindings[v].memory = x->imports[x->n_imports++];
	return QAT_OK;
}

static int fill_value(qat_exec *x, int64_t v, const qat_source *s, void *context)
{
	qat_device *d = x->device;
	const qat_value *value = x->graph->values[v];
	qat_binding *b = &x->bindings[v];
	char *host = d->api->map ? d->api->map(d->handle, b->memory) : NULL;
	void *staging = NULL;
	int rc;

	if (host)
		return s->fill(context, value, host + b->offset);
	staging = malloc((size_t)x->bytes[v]);
	if (!staging)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", value->name);
	rc = s->fill(context, value, staging);
	if (!rc)
		rc = d->api->write(d->handle, b->memory, b->offset, staging, x->bytes[v]);
	free(staging);
	return rc;
}

static int bind_value(qat_exec *x, int64_t v, const qat_source *s, void *context)
{
	const qat_value *value = x->graph->values[v];
	qat_binding *b = &x->bindings[v];

	if (s->binding.memory) {
		*b = s->binding;
		return QAT_OK;
	}
	if (s->data)
		return import_data(x, v, s->data);
	if (x->slab[v] < 0)
		return QAT_OK;
	*b = (qat_binding){ x->slabs[x->slab[v]], x->offset[v] };
	if (value->role == QAT_ROLE_CONST)
		return x->device->api->write(x->device->handle, b->memory, b->offset, value->data,
					     x->bytes[v]);
	if (value->role == QAT_ROLE_PARAM)
		return fill_value(x, v, s, context);
	return QAT_OK;
}

static int bind_all(qat_exec *x, const qat_source *sources, void *context)
{
	int rc = QAT_OK;

	for (int i = 0; i < SLABS && !rc; i++)
		if (x->slab_bytes[i])
			rc = device_alloc(x->device, &x->slabs[i], x->slab_bytes[i], slab_use[i]);
	for (int64_t v = 0; v < x->graph->n_values && !rc; v++)
		if (x->graph->values[v]->alias == QAT_NONE)
			rc = bind_value(x, v, &sources[v], context);
	for (int64_t v = 0; v < x->graph->n_values && !rc; v++)
		x->bindings[v] = x->bindings[root(x, v)];
	x->workspaces = calloc((size_t)x->n_claims + 1, sizeof *x->workspaces);
	if (!rc && !x->workspaces)
		rc = qat_fail(QAT_ENOMEM, "bind: out of memory");
	for (int64_t i = 0; i < x->n_claims && !rc; i++)
		if (x->work_offset[i] >= 0)
			x->workspaces[i] = (qat_binding){ x->slabs[SLAB_SCRATCH],
							  x->work_offset[i] };
	return rc;
}

/* ---- making ---- */

static int prepare_exec(qat_exec **out, qat_device *d, const qat_ir *g, const int64_t *keep,
			int64_t n_keep)
{
	const size_t n = (size_t)g->graph.n_values + 1, nodes = (size_t)g->graph.n_nodes + 1;
	qat_exec *x = calloc(1, sizeof *x);
	int rc;

	if (!x)
		return qat_fail(QAT_ENOMEM, "exec: out of memory");
	*out = x;
	x->device = d;
	x->g = g;
	x->graph = &g->graph;
	x->keep = calloc(n, 1);
	x->updated = calloc(n, 1);
	x->taken = calloc(nodes, 1);
	x->position = calloc(nodes, sizeof *x->position);
	x->bytes = calloc(n, sizeof *x->bytes);
	x->slab = calloc(n, 1);
	x->offset = calloc(n, sizeof *x->offset);
	x->bindings = calloc(n, sizeof *x->bindings);
	if (!x->keep || !x->updated || !x->taken || !x->position || !x->bytes || !x->slab ||
	    !x->offset || !x->bindings)
		return qat_fail(QAT_ENOMEM, "exec: out of memory");
	for (int64_t i = 0; i < n_keep; i++)
		if (keep[i] != QAT_NONE)
			x->keep[keep[i]] = 1;
	for (int64_t v = 0; v < g->graph.n_values; v++) {
		x->bytes[v] = qat_value_bytes(g->graph.values[v]);
		if (g->graph.values[v]->alias != QAT_NONE)
			x->updated[root(x, v)] = 1;
	}
	rc = check_support(x);
	return rc ? rc : claim_all(x);
}

static int find_sources(qat_exec *x, qat_source *sources, qat_find_source *find, void *context)
{
	for (int64_t v = 0; v < x->graph->n_values; v++) {
		const qat_value *value = x->graph->values[v];
		int rc = value->role == QAT_ROLE_PARAM ? find(context, value, &sources[v]) : QAT_OK;

		if (rc)
			return rc;
		/* Memory that kernels write must be ours, and a device that cannot import
		 * takes a copy. */
		if (sources[v].data && (x->updated[v] || !x->device->api->import))
			return qat_fail(QAT_EINVAL, "%s: mapped but to be written", value->name);
	}
	return QAT_OK;
}

int qat_exec_new(qat_exec **out, qat_device *d, const qat_ir *g, const int64_t *keep,
		 int64_t n_keep, qat_find_source *find, void *context)
{
	qat_source *sources = calloc((size_t)g->graph.n_values + 1, sizeof *sources);
	qat_exec *x = NULL;
	int rc;

	if (!sources)
		return qat_fail(QAT_ENOMEM, "exec: out of memory");
	rc = prepare_exec(&x, d, g, keep, n_keep);
	if (!rc)
		rc = find_sources(x, sources, find, context);
	if (!rc)
		rc = plan(x, sources);
	if (!rc)
		rc = bind_all(x, sources, context);
	if (!rc) {
		x->program = (qat_program){
			.size = sizeof x->program, .graph = x->graph, .n_claims = x->n_claims,
			.claims = (const qat_claim *const *)x->claims, .bindings = x->bindings,
			.workspaces = x->workspaces,
		};
		rc = d->api->compile(d->handle, &x->program, &x->exe);
	}
	free(sources);
	if (rc) {
		qat_exec_free(x);
		return rc;
	}
	*out = x;
	return QAT_OK;
}

static void explain_claims(const qat_exec *x)
{
	for (int64_t i = 0; i < x->n_claims; i++) {
		const qat_claim *c = x->claims[i];
		static const char *const phases[] = { "prologue", "forward", "backward", "update" };

		printf("%-9s %-10s", phases[claim_phase(x, c) & 3], x->device->name);
		for (int64_t k = 0; k < c->n_nodes; k++)
			printf("%s%s", k ? " + " : " ", x->graph->nodes[c->nodes[k]]->name);
		printf("\n");
	}
}

int qat_exec_predict(qat_plan_size *out, qat_device *d, const qat_ir *g, const int64_t *keep,
		     int64_t n_keep, int explain)
{
	qat_exec *x = NULL;
	int rc = prepare_exec(&x, d, g, keep, n_keep);

	if (!rc)
		rc = plan(x, NULL);
	if (!rc)
		qat_exec_size(x, out);
	if (!rc && explain)
		explain_claims(x);
	qat_exec_free(x);
	return rc;
}

void qat_exec_free(qat_exec *x)
{
	if (!x)
		return;
	if (x->exe)
		x->device->api->release(x->device->handle, x->exe);
	for (int64_t i = 0; i < x->n_imports; i++)
		x->device->api->free(x->device->handle, x->imports[i]);
	for (int i = 0; i < SLABS; i++) {
		if (!x->slabs[i])
			continue;
		x->device->api->free(x->device->handle, x->slabs[i]);
		x->device->allocated -= x->slab_bytes[i];
	}
	for (int64_t i = 0; i < x->n_claims; i++)
		free(x->claims[i]);
	free(x->claims);
	free(x->imports);
	free(x->keep);
	free(x->updated);
	free(x->taken);
	free(x->position);
	free(x->bytes);
	free(x->slab);
	free(x->offset);
	free(x->bindings);
	free(x->work_offset);
	free(x->workspaces);
	free(x);
}

void qat_exec_size(const qat_exec *x, qat_plan_size *out)
{
	*out = (qat_plan_size){ .params = x->slab_bytes[SLAB_PARAMS],
				.state = x->slab_bytes[SLAB_STATE],
				.step = x->slab_bytes[SLAB_STEP],
				.scratch = x->slab_bytes[SLAB_SCRATCH] };
}

/* ---- running ---- */

int qat_exec_run(qat_exec *x, uint32_t phase, qat_runtime *rt)
{
	int rc;

	rt->size = sizeof *rt;
	rt->phase = phase;
	rt->bad_node = QAT_NONE;
	rc = x->device->api->run(x->device->handle, x->exe, rt);
	if (!rc && rt->bad_node != QAT_NONE)
		rc = qat_fail(QAT_ENUMERIC, "%s: met a value that is not finite",
			      x->graph->nodes[rt->bad_node]->name);
	return rc;
}

static int in_value(const qat_exec *x, int64_t v, int64_t bytes)
{
	if (v < 0 || v >= x->graph->n_values || !x->bindings[v].memory ||
	    bytes > qat_value_bytes(x->graph->values[v]))
		return qat_fail(QAT_EINVAL, "exec: value %lld is not in memory", (long long)v);
	return QAT_OK;
}

int qat_exec_write(qat_exec *x, int64_t v, const void *data, int64_t bytes)
{
	const int rc = in_value(x, v, bytes);

	return rc ? rc : x->device->api->write(x->device->handle, x->bindings[v].memory,
					       x->bindings[v].offset, data, bytes);
}

int qat_exec_read(qat_exec *x, int64_t v, void *data, int64_t bytes)
{
	const int rc = in_value(x, v, bytes);

	return rc ? rc : x->device->api->read(x->device->handle, data, x->bindings[v].memory,
					      x->bindings[v].offset, bytes);
}

int qat_exec_zero(qat_exec *x, int64_t v)
{
	const int64_t bytes = qat_value_bytes(x->graph->values[v]);
	char *host = in_value(x, v, bytes) || !x->device->api->map ? NULL
		: x->device->api->map(x->device->handle, x->bindings[v].memory);
	void *zeros;
	int rc;

	if (host) {
		memset(host + x->bindings[v].offset, 0, (size_t)bytes);
		return QAT_OK;
	}
	zeros = calloc(1, (size_t)bytes);
	rc = zeros ? qat_exec_write(x, v, zeros, bytes)
		   : qat_fail(QAT_ENOMEM, "exec: out of memory");
	free(zeros);
	return rc;
}

/* ---- looking for what is not finite ---- */

static int all_finite(const void *data, uint32_t dtype, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		const uint32_t bits = dtype == QAT_F32 ? ((const uint32_t *)data)[i]
				      : (uint32_t)((const uint16_t *)data)[i] << 16;

		if ((bits & 0x7f800000u) == 0x7f800000u)
			return 0;
	}
	return 1;
}

/* 1 finite or not a float in memory, 0 not finite, negative an error. */
static int value_is_finite(qat_exec *x, int64_t v)
{
	const qat_value *value = x->graph->values[v];
	const int64_t bytes = qat_value_bytes(value);
	void *copy;
	int rc;

	if ((value->dtype != QAT_F32 && value->dtype != QAT_BF16) || !x->bindings[v].memory ||
	    x->bytes[v] != bytes)
		return 1;
	copy = malloc((size_t)bytes);
	if (!copy)
		return qat_fail(QAT_ENOMEM, "exec: out of memory");
	rc = x->device->api->read(x->device->handle, copy, x->bindings[v].memory,
				  x->bindings[v].offset, bytes);
	if (!rc)
		rc = all_finite(copy, value->dtype, qat_value_elements(value));
	free(copy);
	return rc;
}

static int bad_param(qat_exec *x, const char **out)
{
	for (int64_t v = 0; v < x->graph->n_values; v++) {
		const int rc = x->graph->values[v]->role == QAT_ROLE_PARAM ? value_is_finite(x, v)
									   : 1;

		if (rc < 0)
			return rc;
		if (!rc) {
			*out = x->graph->values[v]->name;
			return QAT_OK;
		}
	}
	return QAT_OK;
}

static int bad_claim(qat_exec *x, const qat_claim *c, const char **out)
{
	for (int64_t i = 0; i < c->n_nodes; i++) {
		const qat_node *n = x->graph->nodes[c->nodes[i]];

		for (int64_t k = 0; k < n->n_out; k++) {
			const int rc = n->out[k] == QAT_NONE ? 1 : value_is_finite(x, n->out[k]);

			if (rc < 0)
				return rc;
			if (!rc)
				*out = n->name;
			if (!rc)
				return QAT_OK;
		}
	}
	return QAT_OK;
}

int qat_exec_find_bad(qat_exec *x, uint32_t last, qat_runtime *rt, const char **out)
{
	int rc;

	*out = NULL;
	rt->size = sizeof *rt;
	rt->bad_node = QAT_NONE;
	rc = bad_param(x, out);
	for (int64_t i = 0; i < x->n_claims && !rc && !*out; i++) {
		rt->phase = claim_phase(x, x->claims[i]);
		if (rt->phase > last)
			break;
		rc = x->device->api->run_one(x->device->handle, x->exe, rt, i);
		if (!rc)
			rc = bad_claim(x, x->claims[i], out);
	}
	return rc;
}

qat_binding qat_exec_binding(const qat_exec *x, int64_t v)
{
	return x->bindings[v];
}

const qat_ir *qat_exec_graph(const qat_exec *x)
{
	return x->g;
}
