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

void qat_device_later(qat_device *out, const qat_instance *backend, int64_t index,
		      int64_t threads)
{
	*out = (qat_device){ .name = backend->interface->name, .backend = *backend,
			     .index = index, .threads = threads };
}

static int open_device(qat_device *d)
{
	int rc;

	d->api = d->backend.vtable;
	rc = d->api->open(&d->handle, d->backend.self, d->index, d->threads);
	if (rc)
		return rc;
	d->caps.size = sizeof d->caps;
	rc = d->api->caps(d->handle, &d->caps);
	if (rc)
		qat_device_close(d);
	return rc;
}

int qat_device_ready(qat_device *d)
{
	return d->handle ? QAT_OK : open_device(d);
}

int qat_device_open(qat_device *out, const qat_instance *backend, int64_t index,
		    int64_t threads)
{
	qat_device d;
	int rc;

	qat_device_later(&d, backend, index, threads);
	rc = open_device(&d);
	if (!rc)
		*out = d;
	return rc;
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

static int import_data(qat_exec *x, qat_lane *l, int64_t v, const void *data)
{
	qat_device *d = l->device;

	if (l->n_imports == l->room_imports) {
		const int64_t room = l->room_imports ? 2 * l->room_imports : 64;
		qat_memory **p = realloc(l->imports, (size_t)room * sizeof *p);

		if (!p)
			return qat_fail(QAT_ENOMEM, "bind: out of memory");
		l->imports = p;
		l->room_imports = room;
	}
	if (d->api->import(d->handle, &l->imports[l->n_imports], data, x->bytes[v]))
		return QAT_ENOMEM;
	l->bindings[v].memory = l->imports[l->n_imports++];
	return QAT_OK;
}

static int fill_value(qat_exec *x, qat_lane *l, int64_t v, const qat_source *s, void *context)
{
	qat_device *d = l->device;
	const qat_value *value = x->graph->values[v];
	qat_binding *b = &l->bindings[v];
	char *host = d->api->map ? d->api->map(d->handle, b->memory) : NULL;
	void *staging = NULL;
	int rc;

	if (s->data)
		return d->api->write(d->handle, b->memory, b->offset, s->data, x->bytes[v]);
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

static int bind_value(qat_exec *x, qat_lane *l, int64_t v, const qat_source *s, void *context)
{
	const qat_value *value = x->graph->values[v];
	qat_binding *b = &l->bindings[v];

	if (!l->own[v] && s->owner) {
		*b = qat_exec_binding(s->owner, s->value);
		x->loaded[v] = x->stored[v];
		return QAT_OK;
	}
	if (!l->own[v])
		return s->data ? import_data(x, l, v, s->data) : QAT_OK;
	*b = (qat_binding){ l->slabs[x->slab[v]], l->offset[v] };
	if (value->role == QAT_ROLE_CONST)
		return l->device->api->write(l->device->handle, b->memory, b->offset, value->data,
					     x->bytes[v]);
	if (value->role == QAT_ROLE_PARAM && !s->owner && !x->stored[v])
		return fill_value(x, l, v, s, context);
	return QAT_OK;
}

static int bind_workspaces(qat_lane *l)
{
	l->workspaces = calloc((size_t)l->n_claims + 1, sizeof *l->workspaces);
	if (!l->workspaces)
		return qat_fail(QAT_ENOMEM, "bind: out of memory");
	for (int64_t i = 0; i < l->n_claims; i++)
		if (l->work_offset[i] >= 0)
			l->workspaces[i] = (qat_binding){ l->slabs[SLAB_SCRATCH],
							  l->work_offset[i] };
	return QAT_OK;
}

static int bind_lane(qat_exec *x, qat_lane *l)
{
	int rc = QAT_OK;

	for (int i = 0; i < SLABS && !rc; i++)
		if (l->slab_bytes[i])
			rc = device_alloc(l->device, &l->slabs[i], l->slab_bytes[i], slab_use[i]);
	for (int64_t v = 0; v < x->graph->n_values && !rc; v++)
		if (l->has[v])
			rc = bind_value(x, l, v, &x->sources[v], x->spec.context);
	for (int64_t v = 0; v < x->graph->n_values && !rc; v++)
		l->bindings[v] = l->bindings[qat_exec_root(x, v)];
	return rc ? rc : bind_workspaces(l);
}

/* ---- making ---- */

static int new_lane(qat_lane *l, size_t n)
{
	l->has = calloc(n, 1);
	l->own = calloc(n, 1);
	l->offset = calloc(n, sizeof *l->offset);
	l->bindings = calloc(n, sizeof *l->bindings);
	return l->has && l->own && l->offset && l->bindings ? QAT_OK : QAT_ENOMEM;
}

static int new_arrays(qat_exec *x)
{
	const size_t n = (size_t)x->graph->n_values + 1, nodes = (size_t)x->graph->n_nodes + 1;
	int rc = QAT_OK;

	x->keep = calloc(n, 1);
	x->updated = calloc(n, 1);
	x->stored = calloc(n, 1);
	x->loaded = calloc(n, 1);
	x->sources = calloc(n, sizeof *x->sources);
	x->taken = calloc(nodes, 1);
	x->spots = calloc(nodes, sizeof *x->spots);
	x->position = calloc(nodes, sizeof *x->position);
	x->bytes = calloc(n, sizeof *x->bytes);
	x->slab = calloc(n, 1);
	x->home = calloc(n, 1);
	for (int i = 0; i < LANES && !rc; i++)
		rc = new_lane(&x->lanes[i], n);
	if (rc || !x->keep || !x->updated || !x->stored || !x->loaded || !x->sources || !x->taken ||
	    !x->spots || !x->position || !x->bytes || !x->slab || !x->home)
		return qat_fail(QAT_ENOMEM, "exec: out of memory");
	return QAT_OK;
}

static int prepare_exec(qat_exec **out, qat_device *d, const qat_exec_spec *spec)
{
	const qat_ir *g = spec->g;
	qat_exec *x = calloc(1, sizeof *x);
	int rc;

	if (!x)
		return qat_fail(QAT_ENOMEM, "exec: out of memory");
	*out = x;
	x->device = x->lanes[0].device = d;
	x->n_lanes = 1;
	x->spec = *spec;
	x->g = g;
	x->graph = &g->graph;
	rc = new_arrays(x);
	if (rc)
		return rc;
	for (int64_t i = 0; i < spec->n_keep; i++)
		if (spec->keep[i] != QAT_NONE)
			x->keep[spec->keep[i]] = 1;
	for (int64_t v = 0; v < g->graph.n_values; v++) {
		x->bytes[v] = qat_value_bytes(g->graph.values[v]);
		if (g->graph.values[v]->alias != QAT_NONE)
			x->updated[qat_exec_root(x, v)] = 1;
	}
	rc = qat_exec_place(x);
	return rc ? rc : qat_exec_claim(x);
}

/* An owner that has it in another layout is no help. */
static void check_layout(const qat_exec *x, int64_t v, qat_source *s)
{
	if (s->owner && (s->owner->bytes[s->value] != x->bytes[v] ||
			 s->owner->stored[s->value] != x->stored[v]))
		s->owner = NULL;
}

static int find_sources(qat_exec *x)
{
	for (int64_t v = 0; x->spec.find && v < x->graph->n_values; v++) {
		const qat_value *value = x->graph->values[v];
		qat_source *s = &x->sources[v];
		/* A state that has a name may be another graph's too. */
		const int named = value->role == QAT_ROLE_PARAM ||
				  (value->role == QAT_ROLE_STATE && value->name);
		const int rc = named ? x->spec.find(x->spec.context, value, s) : QAT_OK;

		if (rc)
			return rc;
		check_layout(x, v, s);
		if (s->owner && x->updated[v] && value->role != QAT_ROLE_STATE)
			return qat_fail(QAT_EINVAL, "%s: another's, but to be written",
					value->name);
	}
	return QAT_OK;
}

int qat_exec_load(void *exec, int64_t v, void *to)
{
	const qat_exec *x = exec;
	const qat_source *s;

	if (v < 0 || v >= x->graph->n_values || !x->stored[v])
		return qat_fail(QAT_EABI, "backend %s: value %lld is not a private "
				"parameter", x->device->name, (long long)v);
	s = &x->sources[v];
	if (!s->data)
		return s->fill(x->spec.context, x->graph->values[v], to);
	memcpy(to, s->data, (size_t)qat_value_bytes(x->graph->values[v]));
	return QAT_OK;
}

static int compile_lane(qat_exec *x, qat_lane *l)
{
	l->program = (qat_program){
		.size = sizeof l->program, .graph = x->graph, .n_claims = l->n_claims,
		.claims = (const qat_claim *const *)l->claims, .bindings = l->bindings,
		.workspaces = l->workspaces, .load = qat_exec_load, .context = x, .loaded = x->loaded,
	};
	return l->n_claims ? l->device->api->compile(l->device->handle, &l->program, &l->exe)
			   : QAT_OK;
}

/* All up to the plan. */
static int plan_exec(qat_exec **out, qat_device *d, const qat_exec_spec *spec)
{
	int rc = prepare_exec(out, d, spec);

	if (!rc)
		rc = find_sources(*out);
	if (!rc)
		rc = qat_exec_plan(*out, (*out)->sources);
	return rc ? rc : qat_exec_touches(*out);
}

int qat_exec_open(qat_exec **out, qat_device *d, const qat_exec_spec *spec)
{
	qat_exec *x = NULL;
	int rc = plan_exec(&x, d, spec);

	for (int32_t i = 0; !rc && i < x->n_lanes; i++) {
		rc = bind_lane(x, &x->lanes[i]);
		if (!rc)
			rc = compile_lane(x, &x->lanes[i]);
	}
	if (rc) {
		qat_exec_free(x);
		return rc;
	}
	*out = x;
	return QAT_OK;
}

int qat_exec_expect(qat_plan_size *out, qat_device *d, const qat_exec_spec *spec, int explain)
{
	qat_exec *x = NULL;
	int rc = plan_exec(&x, d, spec);

	if (!rc)
		qat_exec_size(x, out);
	if (!rc && explain)
		qat_exec_explain(x);
	qat_exec_free(x);
	return rc;
}

int qat_exec_new(qat_exec **out, qat_device *d, const qat_ir *g, const int64_t *keep,
		 int64_t n_keep, qat_find_source *find, void *context)
{
	const qat_exec_spec spec = { .g = g, .keep = keep, .n_keep = n_keep, .find = find,
				     .context = context };

	return qat_exec_open(out, d, &spec);
}

int qat_exec_predict(qat_plan_size *out, qat_device *d, const qat_ir *g, const int64_t *keep,
		     int64_t n_keep, int explain)
{
	const qat_exec_spec spec = { .g = g, .keep = keep, .n_keep = n_keep };

	return qat_exec_expect(out, d, &spec, explain);
}

static void free_lane(qat_lane *l)
{
	if (l->exe)
		l->device->api->release(l->device->handle, l->exe);
	for (int64_t i = 0; i < l->n_imports; i++)
		l->device->api->free(l->device->handle, l->imports[i]);
	for (int i = 0; i < SLABS; i++) {
		if (!l->slabs[i])
			continue;
		l->device->api->free(l->device->handle, l->slabs[i]);
		l->device->allocated -= l->slab_bytes[i];
	}
	for (int64_t i = 0; i < l->n_claims; i++)
		free(l->claims[i]);
	free(l->claims);
	free(l->imports);
	free(l->has);
	free(l->own);
	free(l->offset);
	free(l->work_offset);
	free(l->bindings);
	free(l->workspaces);
	free(l->touches);
}

void qat_exec_free(qat_exec *x)
{
	if (!x)
		return;
	for (int i = 0; i < LANES; i++)
		free_lane(&x->lanes[i]);
	for (int64_t i = 0; i < x->n_reasons; i++)
		free(x->reasons[i]);
	free(x->reasons);
	for (int64_t v = 0; x->stand_ins && v < x->graph->n_values; v++)
		free(x->stand_ins[v]);
	free(x->stand_ins);
	free(x->inside);
	free(x->spots);
	free(x->keep);
	free(x->updated);
	free(x->stored);
	free(x->loaded);
	free(x->sources);
	free(x->taken);
	free(x->order);
	free(x->position);
	free(x->bytes);
	free(x->slab);
	free(x->home);
	free(x->actions);
	free(x->staging);
	free(x);
}

void qat_exec_size(const qat_exec *x, qat_plan_size *out)
{
	*out = (qat_plan_size){ .copied = x->copied };
	for (int i = 0; i < LANES; i++) {
		const int64_t *b = x->lanes[i].slab_bytes;

		out->params += b[SLAB_PARAMS];
		out->state += b[SLAB_STATE];
		out->step += b[SLAB_STEP];
		out->scratch += b[SLAB_SCRATCH];
	}
	out->mapped = qat_exec_mapped(x, &out->touched);
	for (int64_t i = 0; i < x->graph->n_nodes; i++)
		out->moved += x->spots[i].lane != 0;
	qat_exec_moved(x, out->what, sizeof out->what);
}
