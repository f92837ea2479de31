/* ir.c - growing a graph: values, nodes, and the service that models build with. */
#include "ir.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"

static int grow(void **at, int64_t *room, int64_t need, size_t element)
{
	const int64_t more = *room ? *room * 2 : 64;
	void *p;

	if (need <= *room)
		return QAT_OK;
	p = realloc(*at, (size_t)more * element);
	if (!p)
		return qat_fail(QAT_ENOMEM, "graph: out of memory");
	*at = p;
	*room = more;
	return QAT_OK;
}

static void *arena_copy(qat_arena *a, const void *data, size_t bytes)
{
	void *p = qat_arena_alloc(a, bytes);

	if (p && bytes)
		memcpy(p, data, bytes);
	return p;
}

qat_ir *qat_ir_new(int64_t batch, int64_t length, uint32_t precision)
{
	qat_ir *g = calloc(1, sizeof *g);

	if (!g)
		return NULL;
	if (qat_arena_new(&g->arena)) {
		free(g);
		return NULL;
	}
	g->graph.size = sizeof g->graph;
	g->graph.batch = batch;
	g->graph.length = length;
	g->graph.precision = precision;
	g->phase = QAT_PHASE_FORWARD;
	for (size_t i = 0; i < sizeof g->inputs / sizeof *g->inputs; i++)
		g->inputs[i] = QAT_NONE;
	return g;
}

qat_ir *qat_ir_like(const qat_ir *g)
{
	qat_ir *n = qat_ir_new(g->graph.batch, g->graph.length, g->graph.precision);

	if (n) {
		n->find_param = g->find_param;
		n->context = g->context;
		n->cache = g->cache;
	}
	return n;
}

void qat_ir_free(qat_ir *g)
{
	if (!g)
		return;
	qat_arena_free(g->arena);
	free(g->values);
	free(g->nodes);
	free(g->sites);
	free(g);
}

static void refresh(qat_ir *g)
{
	g->graph.values = (const qat_value *const *)g->values;
	g->graph.nodes = (const qat_node *const *)g->nodes;
}

int64_t qat_ir_value(qat_ir *g, const qat_value *proto)
{
	qat_value *v;
	int rc = grow((void **)&g->values, &g->value_room, g->graph.n_values + 1,
		      sizeof *g->values);

	if (rc)
		return g->error = rc;
	v = arena_copy(g->arena, proto, sizeof *proto);
	if (!v)
		return g->error = qat_fail(QAT_ENOMEM, "graph: out of memory");
	v->size = sizeof *v;
	v->id = g->graph.n_values;
	v->name = qat_arena_text(g->arena, proto->name);
	for (int64_t i = v->rank; i < QAT_MAX_RANK; i++)
		v->shape[i] = 1;
	g->values[g->graph.n_values++] = v;
	refresh(g);
	return v->id;
}

int32_t qat_ir_site(qat_ir *g, const char *name)
{
	if (!name)
		return -1;
	for (int64_t i = 0; i < g->n_sites; i++)
		if (!strcmp(g->sites[i], name))
			return (int32_t)i;
	if (grow((void **)&g->sites, &g->site_room, g->n_sites + 1, sizeof *g->sites))
		return -1;
	g->sites[g->n_sites] = qat_arena_text(g->arena, name);
	return g->sites[g->n_sites] ? (int32_t)g->n_sites++ : -1;
}

static const char *node_name(qat_ir *g, const qat_node *n)
{
	const char *site = n->site >= 0 ? g->sites[n->site] : NULL;

	return site ? qat_arena_format(g->arena, "%s %s", site, qat_op_info(n->op)->name)
		    : qat_op_info(n->op)->name;
}

void qat_ir_set_site(qat_ir *g, int64_t node, int32_t site)
{
	g->nodes[node]->site = site;
	g->nodes[node]->name = node_name(g, g->nodes[node]);
}

static int check_inputs(const qat_ir *g, const qat_node *n)
{
	const qat_op *op = qat_op_info(n->op);

	if (!op->shape)
		return qat_fail(QAT_ENOTSUP, "graph: op %u is reserved", n->op);
	if (n->n_in < op->min_in || n->n_in > op->max_in)
		return qat_fail(QAT_EINVAL, "graph: %s takes %d to %d inputs, got %lld", n->name,
				op->min_in, op->max_in, (long long)n->n_in);
	for (int64_t i = 0; i < n->n_in; i++)
		if (n->in[i] >= g->graph.n_values ||
		    (n->in[i] < 0 && (n->in[i] != QAT_NONE || i < op->min_in)))
			return qat_fail(QAT_EINVAL, "graph: %s: input %lld does not exist", n->name,
					(long long)i);
	return QAT_OK;
}

static int add_outputs(qat_ir *g, qat_node *n, const qat_ir_extra *extra)
{
	qat_value out[QAT_MAX_OUT];
	int rc;

	memset(out, 0, sizeof out);
	for (int i = 0; i < QAT_MAX_OUT; i++) {
		out[i].node = n->id;
		out[i].alias = extra->alias[i] - 1;
		n->out[i] = QAT_NONE;
	}
	rc = qat_op_info(n->op)->shape(g, n, out);
	if (rc)
		return rc;
	if (extra->dtype)
		out[0].dtype = extra->dtype;
	for (int i = 0; i < QAT_MAX_OUT; i++) {
		if (!out[i].dtype)
			continue;
		n->out[i] = qat_ir_value(g, &out[i]);
		if (n->out[i] < 0)
			return (int)n->out[i];
		n->n_out = i + 1;
	}
	return QAT_OK;
}

int64_t qat_ir_node(qat_ir *g, uint32_t op, const qat_attr *attr, int64_t n_in,
		    const int64_t *in, int64_t *out, const qat_ir_extra *extra)
{
	static const qat_ir_extra none;
	qat_node *n = qat_arena_alloc(g->arena, sizeof *n);
	int rc = n ? grow((void **)&g->nodes, &g->node_room, g->graph.n_nodes + 1,
			  sizeof *g->nodes)
		   : qat_fail(QAT_ENOMEM, "graph: out of memory");

	extra = extra ? extra : &none;
	if (rc)
		return g->error = rc;
	if (n_in > QAT_MAX_IN)
		return g->error = qat_fail(QAT_EINVAL, "graph: too many inputs");
	*n = (qat_node){ .size = sizeof *n, .op = op, .phase = g->phase, .id = g->graph.n_nodes,
			 .n_in = n_in, .site = extra->site - 1,
			 .schemes = { extra->schemes[0], extra->schemes[1] } };
	if (attr)
		n->attr = *attr;
	for (int64_t i = 0; i < QAT_MAX_IN; i++)
		n->in[i] = i < n_in ? in[i] : QAT_NONE;
	n->name = node_name(g, n);
	rc = check_inputs(g, n);
	if (!rc)
		rc = add_outputs(g, n, extra);
	if (rc)
		return g->error = rc;
	g->nodes[g->graph.n_nodes++] = n;
	refresh(g);
	if (out)
		memcpy(out, n->out, sizeof n->out);
	return n->out[0];
}

int64_t qat_ir_param(qat_ir *g, const char *name, uint32_t dtype, int64_t rank,
		     const int64_t *shape)
{
	qat_value v = { .dtype = dtype, .role = QAT_ROLE_PARAM, .rank = rank, .node = QAT_NONE,
			.alias = QAT_NONE, .name = name };

	for (int64_t i = 0; i < g->graph.n_values; i++)
		if (g->values[i]->role == QAT_ROLE_PARAM && !strcmp(g->values[i]->name, name))
			return i;
	memcpy(v.shape, shape, (size_t)rank * sizeof *shape);
	return qat_ir_value(g, &v);
}

/* ---- the service ---- */

static int64_t api_param(qat_builder *b, const char *name)
{
	const qat_param *p;

	if (b->error)
		return b->error;
	p = b->find_param ? b->find_param(b->context, name) : NULL;
	if (!p)
		return b->error = qat_fail(QAT_EINVAL,
			"model: parameter %s is used but was not declared", name);
	return qat_ir_param(b, name, QAT_F32, p->rank, p->shape);
}

static int64_t api_constant(qat_builder *b, const char *name, uint32_t dtype, int64_t rank,
			    const int64_t *shape, const void *data)
{
	qat_value v = { .dtype = dtype, .role = QAT_ROLE_CONST, .rank = rank, .node = QAT_NONE,
			.alias = QAT_NONE, .name = name };
	int64_t bytes = qat_dtype_bytes(dtype);

	if (b->error)
		return b->error;
	if (rank < 0 || rank > QAT_MAX_RANK)
		return b->error = qat_fail(QAT_EINVAL, "model: constant %s: bad rank", name);
	for (int64_t i = 0; i < rank; i++) {
		v.shape[i] = shape[i];
		if (shape[i] <= 0 || __builtin_mul_overflow(bytes, shape[i], &bytes))
			return b->error = qat_fail(QAT_EINVAL, "model: constant %s: bad shape",
						   name);
	}
	v.data = arena_copy(b->arena, data, (size_t)bytes);
	if (!v.data)
		return b->error = qat_fail(QAT_ENOMEM, "graph: out of memory");
	return qat_ir_value(b, &v);
}

static int64_t api_input(qat_builder *b, uint32_t which)
{
	static const struct { uint32_t dtype; const char *name; } kinds[] = {
		[QAT_INPUT_TOKENS] = { QAT_I32, "tokens" },
		[QAT_INPUT_LABELS] = { QAT_I32, "labels" },
		[QAT_INPUT_LOSS_GRADIENT] = { QAT_F32, "loss gradient" },
		[QAT_INPUT_POSITIONS] = { QAT_I32, "positions" },
	};
	qat_value v = { .role = QAT_ROLE_INPUT, .input = which, .rank = 1, .node = QAT_NONE,
			.alias = QAT_NONE };

	if (b->error)
		return b->error;
	if (which >= sizeof kinds / sizeof *kinds || !kinds[which].dtype)
		return b->error = qat_fail(QAT_EINVAL, "graph: unknown input %u", which);
	if (b->inputs[which] == QAT_NONE) {
		v.dtype = kinds[which].dtype;
		v.name = kinds[which].name;
		v.shape[0] = b->graph.batch * b->graph.length;
		b->inputs[which] = qat_ir_value(b, &v);
	}
	return b->inputs[which];
}

/* The keys or values that an attention keeps between runs, named so that graphs of the
 * same model find each other's. */
static int64_t cache_of(qat_builder *b, int64_t k, const char *site, const char *what)
{
	qat_value v = { .dtype = b->graph.precision, .role = QAT_ROLE_STATE, .rank = 2,
			.node = QAT_NONE, .alias = QAT_NONE,
			.shape = { b->graph.batch * b->cache, b->values[k]->shape[1] } };

	v.name = site ? qat_arena_format(b->arena, "%s.%s", site, what)
		      : qat_arena_format(b->arena, "node %lld.%s", (long long)b->graph.n_nodes,
					 what);
	return v.name ? qat_ir_value(b, &v) : (b->error = qat_fail(QAT_ENOMEM,
								   "graph: out of memory"));
}

/* Inputs of an attention with those that a model leaves to us. */
static int64_t with_cache(qat_builder *b, int64_t *ids, const char *site)
{
	ids[3] = ids[4] = QAT_NONE;
	ids[5] = cache_of(b, ids[1], site, "keys");
	if (ids[5] >= 0)
		ids[6] = cache_of(b, ids[2], site, "values");
	return 7;
}

static int64_t api_node(qat_builder *b, uint32_t op, const qat_attr *attr, int64_t n_in,
			const int64_t *in, int64_t *out, const char *site)
{
	qat_ir_extra extra = { .site = qat_ir_site(b, site) + 1 };
	int64_t ids[QAT_MAX_IN];

	if (b->error)
		return b->error;
	for (int64_t i = 0; i < n_in && i < QAT_MAX_IN; i++) {
		if (in[i] < 0)
			return b->error = (int)in[i];
		ids[i] = in[i] == QAT_ABSENT ? QAT_NONE : in[i];
	}
	if (b->cache && op == QAT_OP_ATTENTION && n_in == 3 && in[1] < b->graph.n_values &&
	    in[2] < b->graph.n_values)
		n_in = with_cache(b, ids, site);
	if (b->error)
		return b->error;
	return qat_ir_node(b, op, attr, n_in, ids, out, &extra);
}

static int64_t api_residual(qat_builder *b, int64_t value)
{
	if (b->error)
		return b->error;
	if (value < 0 || value >= b->graph.n_values)
		return b->error = qat_fail(QAT_EINVAL, "graph: residual: no such value");
	b->values[value]->residual = 1;
	b->values[value]->dtype = QAT_F32;
	return value;
}

static int64_t api_batch(const qat_builder *b) { return b->graph.batch; }
static int64_t api_length(const qat_builder *b) { return b->graph.length; }

static int64_t api_context(const qat_builder *b)
{
	return b->cache ? b->cache : b->graph.length;
}

static int64_t api_positions(qat_builder *b)
{
	const int64_t n = b->graph.batch * b->graph.length;
	int32_t *at;
	int64_t id;

	if (b->cache || b->error)
		return api_input(b, QAT_INPUT_POSITIONS);
	at = n > 0 && n <= INT32_MAX ? malloc((size_t)n * sizeof *at) : NULL;
	if (!at)
		return b->error = qat_fail(QAT_ENOMEM, "graph: no memory for %lld positions",
					   (long long)n);
	for (int64_t i = 0; i < n; i++)
		at[i] = (int32_t)(i % b->graph.length);
	id = api_constant(b, "positions.ids", QAT_I32, 1, &n, at);
	free(at);
	return id;
}

const qat_graph_api qat_ir_api = {
	.size = sizeof(qat_graph_api),
	.param = api_param,
	.constant = api_constant,
	.input = api_input,
	.node = api_node,
	.residual = api_residual,
	.batch = api_batch,
	.length = api_length,
	.positions = api_positions,
	.context = api_context,
};

/* ---- rebuilding ---- */

int64_t qat_ir_copy_value(qat_ir *to, const qat_value *v)
{
	qat_value copy = *v;
	int64_t id;

	copy.node = QAT_NONE;
	if (v->role == QAT_ROLE_CONST) {
		copy.data = arena_copy(to->arena, v->data, (size_t)qat_value_bytes(v));
		if (!copy.data)
			return to->error = qat_fail(QAT_ENOMEM, "graph: out of memory");
	}
	id = qat_ir_value(to, &copy);
	if (id >= 0 && v->role == QAT_ROLE_INPUT)
		to->inputs[v->input] = id;
	return id;
}

int qat_ir_copy_node(qat_ir *to, const qat_ir *from, const qat_node *n, int64_t *map)
{
	qat_ir_extra extra = { .schemes = { n->schemes[0], n->schemes[1] } };
	int64_t in[QAT_MAX_IN], out[QAT_MAX_OUT], rc;

	for (int64_t i = 0; i < n->n_in; i++)
		in[i] = n->in[i] == QAT_NONE ? QAT_NONE : map[n->in[i]];
	extra.site = n->site >= 0 ? qat_ir_site(to, from->sites[n->site]) + 1 : 0;
	to->phase = n->phase;
	rc = qat_ir_node(to, n->op, &n->attr, n->n_in, in, out, &extra);
	if (rc < 0 && rc != QAT_NONE)
		return (int)rc;
	if (to->error)
		return to->error;
	for (int64_t i = 0; i < n->n_out; i++) {
		if (n->out[i] == QAT_NONE)
			continue;
		map[n->out[i]] = out[i];
		to->values[out[i]]->dtype = from->values[n->out[i]]->dtype;
		to->values[out[i]]->residual = from->values[n->out[i]]->residual;
	}
	return QAT_OK;
}
