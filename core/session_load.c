/* session_load.c - what a training session keeps from step to step: named for checkpoints,
 * and read back from one. */
#include "session_internal.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"

/* ---- what lasts ---- */

static int add(qat_session *x, int64_t value, const char *name)
{
	if (!name)
		return QAT_ENOMEM;
	x->lasting[x->n_lasting++] = (qat_lasting){ .name = name, .value = value };
	return QAT_OK;
}

/* The value whose memory v is. */
static int64_t root_of(const qat_graph *g, int64_t v)
{
	while (g->values[v]->alias != QAT_NONE)
		v = g->values[v]->alias;
	return v;
}

/* Gradients do not last: an update has used them up. */
static int name_trained(qat_session *x, uint8_t *known)
{
	const qat_graph *g = &x->ir->graph;
	int rc = QAT_OK;

	for (int64_t i = 0; i < x->n_trained; i++) {
		const qat_trained *t = &x->trained[i];

		known[root_of(g, t->gradient)] = 1;
		for (int64_t k = 0; k < t->n_states && !rc; k++) {
			known[t->states[k]] = 1;
			rc = add(x, t->states[k], qat_arena_format(x->arena, "optimizer.%s.%lld",
				 g->values[t->param]->name, (long long)k));
		}
	}
	return rc;
}

static int name_others(qat_session *x, const uint8_t *known)
{
	const qat_graph *g = &x->ir->graph;
	int64_t n = 0;
	int rc = QAT_OK;

	for (int64_t v = 0; v < g->n_values && !rc; v++)
		if (g->values[v]->role == QAT_ROLE_STATE && g->values[v]->alias == QAT_NONE &&
		    !known[v] && qat_exec_binding(x->exec, v).memory)
			rc = add(x, v, qat_arena_format(x->arena, "session.%lld", (long long)n++));
	return rc;
}

int qat_session_lasting(qat_session *x, const qat_lasting **out, int64_t *count)
{
	const size_t n = (size_t)x->ir->graph.n_values;
	uint8_t *known;
	int rc = QAT_OK;

	if (!x->lasting) {
		known = calloc(n, 1);
		x->lasting = calloc(n, sizeof *x->lasting);
		if (!known || !x->lasting)
			rc = qat_fail(QAT_ENOMEM, "session: out of memory");
		if (!rc)
			rc = name_trained(x, known);
		if (!rc)
			rc = name_others(x, known);
		free(known);
	}
	*out = x->lasting;
	*count = x->n_lasting;
	return rc;
}

/* ---- reading back ---- */

int qat_session_hash_whole(uint64_t *hash, const qat_format *native, const char *folder)
{
	const char *name;
	void *file;
	int rc = native->open(&file, folder);

	if (rc)
		return rc;
	*hash = 0;
	for (int64_t i = 0; !rc && (name = native->tensor_name(file, i)); i++) {
		const qat_param p = { .size = sizeof p, .name = name, .hub_name = name };
		qat_tensor t = { .size = sizeof t };

		rc = native->find(file, &p, &t);
		if (!rc)
			*hash += qat_tensor_hash(&t);
	}
	native->close(file);
	return rc;
}

static int load_value(qat_session *x, void *file, int64_t value, const char *name,
		      const char *folder)
{
	const qat_value *v = x->ir->graph.values[value];
	const qat_param p = { .size = sizeof p, .name = name, .hub_name = name };
	qat_tensor t = { .size = sizeof t };
	int rc = x->context->native->find(file, &p, &t);

	if (!rc && (!t.data || t.dtype != v->dtype || t.bytes != qat_value_bytes(v)))
		rc = qat_fail(QAT_EFORMAT, "%s: %s is not what this step keeps", folder, name);
	if (rc == QAT_ENOTFOUND)
		rc = qat_fail(QAT_EFORMAT, "%s: %s is missing", folder, name);
	return rc ? rc : qat_exec_write(x->exec, value, t.data, t.bytes);
}

int qat_session_load_whole(qat_session *x, const char *folder)
{
	const qat_lasting *all;
	int64_t n;
	void *file;
	int rc = qat_session_lasting(x, &all, &n);

	if (!rc)
		rc = x->context->native->open(&file, folder);
	if (rc)
		return rc;
	for (int64_t i = 0; i < x->n_trained && !rc; i++)
		rc = load_value(x, file, x->trained[i].param,
				x->ir->graph.values[x->trained[i].param]->name, folder);
	for (int64_t i = 0; i < n && !rc; i++)
		rc = load_value(x, file, all[i].value, all[i].name, folder);
	x->context->native->close(file);
	x->prologue_done = 0;
	return rc;
}
