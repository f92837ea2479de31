/* net.h - a small graph on a backend, for tests: build with net_param and net_op, run with
 * net_open, net_run; read what was kept.
 *
 * Data given to a net is kept by reference.
 */
#ifndef QAT_TEST_NET_H
#define QAT_TEST_NET_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/numerics.h>

#include "error.h"
#include "exec.h"
#include "plugin.h"

#include <check.h>

enum { NET_VALUES = 128 };

typedef struct net {
	qat_ir *g;
	const void *data[NET_VALUES];	/* by value: of parameters, inputs and states */
	int64_t keep[NET_VALUES], n_keep;
	qat_device device;
	qat_exec *x;
} net;

#define ck_ok(call) ck_assert_msg((call) == QAT_OK, "%s", qat_error())

static inline void net_start(net *n, int64_t batch, int64_t length, uint32_t precision)
{
	memset(n, 0, sizeof *n);
	n->g = qat_ir_new(batch, length, precision);
	ck_assert_ptr_nonnull(n->g);
}

/* cols 0: a vector. */
static inline int64_t net_value(net *n, uint32_t role, uint32_t dtype, int64_t rows,
				int64_t cols, const void *data)
{
	char name[16];
	qat_value v = { .role = role, .dtype = dtype, .rank = cols ? 2 : 1,
			.shape = { rows, cols ? cols : 1 }, .node = QAT_NONE, .alias = QAT_NONE,
			.name = name };
	int64_t id;

	snprintf(name, sizeof name, "v%lld", (long long)n->g->graph.n_values);
	id = qat_ir_value(n->g, &v);
	ck_assert_int_ge(id, 0);
	ck_assert_int_lt(id, NET_VALUES);
	n->data[id] = data;
	return id;
}

static inline int64_t net_param(net *n, uint32_t dtype, int64_t rows, int64_t cols,
				const void *data)
{
	return net_value(n, QAT_ROLE_PARAM, dtype, rows, cols, data);
}

/* Appends a node in `phase`; returns output 0, all outputs in out (may be NULL). */
static inline int64_t net_op(net *n, uint32_t phase, uint32_t op, const qat_attr *attr,
			     int64_t n_in, const int64_t *in, int64_t *out,
			     const qat_ir_extra *extra)
{
	int64_t id;

	n->g->phase = phase;
	id = qat_ir_node(n->g, op, attr, n_in, in, out, extra);
	ck_assert_msg(id >= 0, "%s", qat_error());
	return id;
}

static inline int64_t net_keep(net *n, int64_t v)
{
	n->keep[n->n_keep++] = v;
	return v;
}

static inline int net_fill(void *context, const qat_value *v, void *to)
{
	const net *n = context;

	memcpy(to, n->data[v->id], (size_t)qat_value_bytes(v));
	return QAT_OK;
}

static inline int net_find(void *context, const qat_value *v, qat_source *out)
{
	(void)context;
	(void)v;
	out->fill = net_fill;
	return QAT_OK;
}

/* Writes inputs and states that have data. */
static inline void net_write(net *n)
{
	for (int64_t v = 0; v < n->g->graph.n_values; v++) {
		const qat_value *value = n->g->graph.values[v];

		if (n->data[v] && value->role != QAT_ROLE_PARAM &&
		    qat_exec_binding(n->x, v).memory)
			ck_ok(qat_exec_write(n->x, v, n->data[v], qat_value_bytes(value)));
	}
}

static inline qat_instance net_backend(const char *name)
{
	static int64_t options[64];	/* zeros: the test's backends have flags only */
	const void *vtable;
	qat_instance i = { .self = options };

	ck_ok(qat_plugin_find(&i.interface, &vtable, QAT_KIND_BACKEND, name));
	ck_assert_uint_le(i.interface->options_size, sizeof options);
	i.vtable = vtable;
	return i;
}

static inline void net_open(net *n, const char *backend, int64_t threads)
{
	const qat_instance i = net_backend(backend);

	ck_ok(qat_device_open(&n->device, &i, 0, threads));
	ck_ok(qat_exec_new(&n->x, &n->device, n->g, n->keep, n->n_keep, net_find, n));
	net_write(n);
}

static inline int net_run(net *n, uint32_t phase)
{
	qat_runtime rt = { .seed = 1 };

	return qat_exec_run(n->x, phase, &rt);
}

/* malloc'ed content of a kept value. */
static inline void *net_read(net *n, int64_t v)
{
	const int64_t bytes = qat_value_bytes(n->g->graph.values[v]);
	void *data = malloc((size_t)bytes);

	ck_assert_ptr_nonnull(data);
	ck_ok(qat_exec_read(n->x, v, data, bytes));
	return data;
}

static inline void net_close(net *n)
{
	qat_exec_free(n->x);
	n->x = NULL;
	qat_device_close(&n->device);
}

static inline void net_free(net *n)
{
	net_close(n);
	qat_ir_free(n->g);
}

/* All phases with 1 and then 2 threads, which must agree bit by bit; stays open. */
static inline void net_run_all(net *n, const char *backend)
{
	void *first[NET_VALUES] = { NULL };

	for (int threads = 1; threads <= 2; threads++) {
		net_open(n, backend, threads);
		for (uint32_t phase = 0; phase < QAT_PHASES; phase++)
			ck_ok(net_run(n, phase));
		for (int64_t i = 0; i < n->n_keep; i++) {
			void *data = net_read(n, n->keep[i]);
			const qat_value *v = n->g->graph.values[n->keep[i]];

			if (threads == 1) {
				first[i] = data;
				continue;
			}
			ck_assert_msg(!memcmp(data, first[i], (size_t)qat_value_bytes(v)),
				      "value %lld: other bits with 2 threads", (long long)v->id);
			free(data);
			free(first[i]);
		}
		if (threads == 1)
			net_close(n);
	}
}

#endif
