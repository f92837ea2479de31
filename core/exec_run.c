/* exec_run.c - running phases, reading and writing values, finding what is not finite. */
#include "exec_internal.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"

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
		rt->phase = qat_exec_phase(x, x->claims[i]);
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
