/* exec.c - a graph on a device is made: claimed, planned, bound, compiled. */
#include "exec_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

static const uint32_t slab_use[SLABS] = {
	QAT_MEM_PARAMS, QAT_MEM_STATE, QAT_MEM_STEP, QAT_MEM_SCRATCH
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
		x->bindings[v] = x->bindings[qat_exec_root(x, v)];
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
			x->updated[qat_exec_root(x, v)] = 1;
	}
	return qat_exec_claim(x);
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
		rc = qat_exec_plan(x, sources);
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

		printf("%-9s %-10s", phases[qat_exec_phase(x, c) & 3], x->device->name);
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
		rc = qat_exec_plan(x, NULL);
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
