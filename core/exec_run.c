/* exec_run.c - running phases, reading and writing values, finding what is not finite. */
#include "exec_internal.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"

static int run_actions(qat_exec *x, uint32_t phase, qat_runtime *rt)
{
	int rc = QAT_OK;

	for (int64_t i = 0; i < x->n_actions && !rc && rt->bad_node == QAT_NONE; i++) {
		const qat_action *a = &x->actions[i];

		if (a->phase == phase)
			rc = a->value != QAT_NONE ? qat_exec_copy(x, a)
						  : qat_exec_run_mapped(x, a, rt);
	}
	return rc;
}

int qat_exec_run(qat_exec *x, uint32_t phase, qat_runtime *rt)
{
	int rc;

	rt->size = sizeof *rt;
	rt->phase = phase;
	rt->bad_node = QAT_NONE;
	if (x->device->trace && !x->traced[phase]) {
		x->traced[phase] = 1;
		rc = qat_trace_run(x, phase, rt);
	} else if (x->device->profile) {
		rc = qat_profile_run(x, phase, rt);
	} else {
		rc = run_actions(x, phase, rt);
	}
	if (!rc && rt->bad_node != QAT_NONE)
		rc = qat_fail(QAT_ENUMERIC, "%s: met a value that is not finite",
			      x->graph->nodes[rt->bad_node]->name);
	return rc;
}

static int in_value(const qat_exec *x, int64_t v, int64_t bytes)
{
	if (v < 0 || v >= x->graph->n_values || !qat_exec_binding(x, v).memory ||
	    bytes > qat_value_bytes(x->graph->values[v]))
		return qat_fail(QAT_EINVAL, "exec: value %lld is not in memory", (long long)v);
	return QAT_OK;
}

/* To all that have it. */
int qat_exec_write(qat_exec *x, int64_t v, const void *data, int64_t bytes)
{
	int rc = in_value(x, v, bytes);

	for (int32_t i = 0; i < x->n_lanes && !rc; i++) {
		const qat_device *d = x->lanes[i].device;
		const qat_binding *b = &x->lanes[i].bindings[v];

		if (b->memory)
			rc = d->api->write(d->handle, b->memory, b->offset, data, bytes);
	}
	return rc;
}

static int read_lane(const qat_lane *l, int64_t v, void *data, int64_t bytes)
{
	return l->device->api->read(l->device->handle, data, l->bindings[v].memory,
				    l->bindings[v].offset, bytes);
}

static const qat_lane *home_of(const qat_exec *x, int64_t v)
{
	return &x->lanes[x->home[qat_exec_root(x, v)]];
}

int qat_exec_read(qat_exec *x, int64_t v, void *data, int64_t bytes)
{
	const int rc = in_value(x, v, bytes);

	return rc ? rc : read_lane(home_of(x, v), v, data, bytes);
}

void *qat_exec_host(const qat_exec *x, int64_t v)
{
	const qat_lane *l = home_of(x, v);
	const qat_backend *api = l->device->api;
	const qat_binding *b = &l->bindings[v];
	char *host = api->map && b->memory ? api->map(l->device->handle, b->memory) : NULL;

	if (!host || (api->sync && api->sync(l->device->handle)))
		return NULL;
	return host + b->offset;
}

static int zero_lane(const qat_lane *l, int64_t v, int64_t bytes)
{
	const qat_backend *api = l->device->api;
	const qat_binding *b = &l->bindings[v];
	char *host = api->map ? api->map(l->device->handle, b->memory) : NULL;
	void *zeros;
	int rc;

	if (host) {
		rc = api->sync ? api->sync(l->device->handle) : QAT_OK;
		if (!rc)
			memset(host + b->offset, 0, (size_t)bytes);
		return rc;
	}
	zeros = calloc(1, (size_t)bytes);
	rc = zeros ? api->write(l->device->handle, b->memory, b->offset, zeros, bytes)
		   : qat_fail(QAT_ENOMEM, "exec: out of memory");
	free(zeros);
	return rc;
}

int qat_exec_zero(qat_exec *x, int64_t v)
{
	const int64_t bytes = qat_value_bytes(x->graph->values[v]);
	int rc = in_value(x, v, bytes);

	for (int32_t i = 0; i < x->n_lanes && !rc; i++)
		if (x->lanes[i].bindings[v].memory)
			rc = zero_lane(&x->lanes[i], v, bytes);
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
static int value_is_finite(const qat_exec *x, const qat_lane *l, int64_t v)
{
	const qat_value *value = x->graph->values[v];
	const int64_t bytes = qat_value_bytes(value);
	void *copy;
	int rc;

	if ((value->dtype != QAT_F32 && value->dtype != QAT_BF16) || !l->bindings[v].memory ||
	    x->bytes[v] != bytes)
		return 1;
	copy = malloc((size_t)bytes);
	if (!copy)
		return qat_fail(QAT_ENOMEM, "exec: out of memory");
	rc = read_lane(l, v, copy, bytes);
	if (!rc)
		rc = all_finite(copy, value->dtype, qat_value_elements(value));
	free(copy);
	return rc;
}

static int bad_param(qat_exec *x, const char **out)
{
	for (int64_t v = 0; v < x->graph->n_values; v++) {
		const int rc = x->graph->values[v]->role != QAT_ROLE_PARAM ? 1
			     : value_is_finite(x, home_of(x, v), v);

		if (rc < 0)
			return rc;
		if (!rc) {
			*out = x->graph->values[v]->name;
			return QAT_OK;
		}
	}
	return QAT_OK;
}

static int bad_claim(const qat_exec *x, const qat_lane *l, const qat_claim *c, const char **out)
{
	for (int64_t i = 0; i < c->n_nodes; i++) {
		const qat_node *n = x->graph->nodes[c->nodes[i]];

		for (int64_t k = 0; k < n->n_out; k++) {
			const int rc = n->out[k] == QAT_NONE ? 1 : value_is_finite(x, l, n->out[k]);

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

static int bad_action(qat_exec *x, const qat_action *a, qat_runtime *rt, const char **out)
{
	const qat_lane *l = &x->lanes[a->lane];
	int rc = a->value != QAT_NONE ? qat_exec_copy(x, a) : QAT_OK;

	for (int64_t i = a->first; i < a->first + a->count && !rc && !*out; i++) {
		rc = l->device->api->run_one(l->device->handle, l->exe, rt, i);
		if (!rc)
			rc = bad_claim(x, l, l->claims[i], out);
	}
	return rc;
}

int qat_exec_find_bad(qat_exec *x, uint32_t last, qat_runtime *rt, const char **out)
{
	int rc;

	*out = NULL;
	rt->size = sizeof *rt;
	rt->bad_node = QAT_NONE;
	rc = bad_param(x, out);
	for (int64_t i = 0; i < x->n_actions && !rc && !*out; i++) {
		rt->phase = x->actions[i].phase;
		if (rt->phase > last)
			break;
		rc = bad_action(x, &x->actions[i], rt, out);
	}
	return rc;
}

qat_binding qat_exec_binding(const qat_exec *x, int64_t v)
{
	return home_of(x, v)->bindings[v];
}

const qat_ir *qat_exec_graph(const qat_exec *x)
{
	return x->g;
}
