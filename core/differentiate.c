/* differentiate.c - reverse-mode differentiation: walks the forward nodes backwards
 * and lets each op's rule append ordinary nodes.
 *
 * A value whose gradient is another's, bit for bit (a cast, a quantize that cannot
 * clip, a dequantize), stands for that other value here: contributions go straight to
 * where they belong, and no copy is made.
 */
#include "ir.h"

#include <stdlib.h>
#include <string.h>

#include <qatrun/numerics.h>

#include "error.h"

/* The value whose gradient v's is. */
static int64_t resolve(const qat_diff *d, int64_t v)
{
	for (;;) {
		const int64_t id = d->g->graph.values[v]->node;
		const qat_node *n = id == QAT_NONE ? NULL : d->g->graph.nodes[id];
		const int same = n && (n->op == QAT_OP_CAST || n->op == QAT_OP_DEQUANTIZE ||
			(n->op == QAT_OP_QUANTIZE && n->out[3] == QAT_NONE && v == n->out[0]));

		if (!same)
			return v;
		v = n->in[0];
	}
}

static const qat_value *value(const qat_diff *d, int64_t v)
{
	return d->g->graph.values[v];
}

/* Made of parameters alone: gradients are f32. */
static int of_params(const qat_diff *d, int64_t v)
{
	const int64_t id = value(d, v)->node;

	return value(d, v)->role == QAT_ROLE_PARAM ||
	       (id != QAT_NONE && d->g->graph.nodes[id]->phase == QAT_PHASE_PROLOGUE);
}

static int is_trained(const qat_value *v)
{
	return v->role == QAT_ROLE_PARAM && v->dtype == QAT_F32;
}

int64_t qat_diff_out(const qat_diff *d, const qat_node *n, int i)
{
	return n->out[i] == QAT_NONE ? QAT_NONE : d->gradient[resolve(d, n->out[i])];
}

int qat_diff_wants(const qat_diff *d, const qat_node *n, int i)
{
	return i < n->n_in && n->in[i] != QAT_NONE && d->pending[resolve(d, n->in[i])] > 0;
}

int64_t qat_diff_addend(const qat_diff *d, int64_t v)
{
	v = resolve(d, v);
	if (d->gradient[v] != QAT_NONE)
		return d->gradient[v];
	return d->accumulate ? d->buffer[v] : QAT_NONE;
}

uint32_t qat_diff_dtype(const qat_diff *d, int64_t v)
{
	v = resolve(d, v);
	if (of_params(d, v) || value(d, v)->residual || d->pending[v] > 1)
		return QAT_F32;
	return d->g->graph.precision;
}

int64_t qat_diff_alias(const qat_diff *d, int64_t v)
{
	return d->buffer[resolve(d, v)] + 1;
}

static int64_t add(qat_diff *d, int64_t v, int64_t a, int64_t b)
{
	const int64_t in[] = { a, b };
	const qat_ir_extra extra = { .dtype = qat_diff_dtype(d, v),
				     .alias = { qat_diff_alias(d, v) } };

	return qat_ir_node(d->g, QAT_OP_ADD, NULL, 2, in, NULL, &extra);
}

/* A parameter's only contribution that was not written to its buffer. */
static int64_t copy(qat_diff *d, int64_t v, int64_t from)
{
	const qat_attr attr = { .cast = { .dtype = QAT_F32 } };
	const qat_ir_extra extra = { .alias = { qat_diff_alias(d, v) } };

	return qat_ir_node(d->g, QAT_OP_CAST, &attr, 1, &from, NULL, &extra);
}

int qat_diff_put(qat_diff *d, int64_t v, int64_t contribution, int added)
{
	const int64_t before = qat_diff_addend(d, v);

	v = resolve(d, v);
	if (contribution < 0)
		return (int)contribution;
	if (!added && before != QAT_NONE)
		contribution = add(d, v, before, contribution);
	else if (d->buffer[v] != QAT_NONE && value(d, contribution)->alias != d->buffer[v])
		contribution = copy(d, v, contribution);
	if (contribution < 0)
		return (int)contribution;
	d->gradient[v] = contribution;
	d->pending[v]--;
	return QAT_OK;
}

/* ---- preparation ---- */

/* Inputs of an op that take no gradient although they may depend on parameters: scales,
 * zero points, masks and statistics. */
static int takes_gradient(const qat_node *n, int64_t i)
{
	switch (n->op) {
	case QAT_OP_QUANTIZE:
	case QAT_OP_DEQUANTIZE: return i == 0;
	case QAT_OP_QMATMUL:    return i == 0 || i == 3 || i == 6;
	default:                return 1;
	}
}

/* Which values depend on a trained parameter, by ways that gradients go. */
static void mark_needed(const qat_diff *d, uint8_t *needed)
{
	for (int64_t i = 0; i < d->n_forward; i++)
		needed[i] = (uint8_t)is_trained(value(d, i));
	for (int64_t i = 0; i < d->g->graph.n_nodes; i++) {
		const qat_node *n = d->g->graph.nodes[i];
		int any = 0;

		for (int64_t k = 0; k < n->n_in; k++)
			any |= n->in[k] != QAT_NONE && needed[n->in[k]] && takes_gradient(n, k);
		for (int64_t k = 0; k < n->n_out; k++)
			if (n->out[k] != QAT_NONE)
				needed[n->out[k]] = (uint8_t)any;
	}
}

static int passes_on(const qat_diff *d, const qat_node *n)
{
	return n->out[0] != QAT_NONE && resolve(d, n->out[0]) != n->out[0];
}

static void count_pending(qat_diff *d, const uint8_t *needed)
{
	for (int64_t i = 0; i < d->g->graph.n_nodes; i++) {
		const qat_node *n = d->g->graph.nodes[i];

		if (passes_on(d, n))
			continue;
		for (int64_t k = 0; k < n->n_in; k++)
			if (n->in[k] != QAT_NONE && needed[n->in[k]] && takes_gradient(n, k))
				d->pending[resolve(d, n->in[k])]++;
	}
}

static int64_t state_value(qat_ir *g, const qat_value *p, uint32_t dtype)
{
	qat_value v = *p;

	v.role = QAT_ROLE_STATE;
	v.dtype = dtype;
	v.node = QAT_NONE;
	v.alias = QAT_NONE;
	v.name = NULL;
	return qat_ir_value(g, &v);
}

static int make_buffers(qat_diff *d)
{
	for (int64_t i = 0; i < d->n_forward; i++) {
		if (!is_trained(value(d, i)) || !d->pending[i])
			continue;
		d->buffer[i] = state_value(d->g, value(d, i), QAT_F32);
		if (d->buffer[i] < 0)
			return (int)d->buffer[i];
	}
	return QAT_OK;
}

static int start(qat_diff *d, qat_ir *g, int accumulate)
{
	const size_t n = (size_t)g->graph.n_values;
	uint8_t *needed = calloc(n, 1);
	int rc = QAT_OK;

	*d = (qat_diff){ .g = g, .accumulate = accumulate, .n_forward = g->graph.n_values };
	d->gradient = malloc(n * sizeof *d->gradient);
	d->pending = calloc(n, sizeof *d->pending);
	d->buffer = malloc(n * sizeof *d->buffer);
	if (!needed || !d->gradient || !d->pending || !d->buffer) {
		rc = qat_fail(QAT_ENOMEM, "differentiate: out of memory");
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		d->gradient[i] = d->buffer[i] = QAT_NONE;
	mark_needed(d, needed);
	count_pending(d, needed);
	rc = make_buffers(d);
out:
	free(needed);
	return rc;
}

static int has_gradient(const qat_diff *d, const qat_node *n)
{
	for (int i = 0; i < n->n_out; i++)
		if (qat_diff_out(d, n, i) != QAT_NONE)
			return 1;
	return 0;
}

static int wants_any(const qat_diff *d, const qat_node *n)
{
	for (int i = 0; i < n->n_in; i++)
		if (qat_diff_wants(d, n, i))
			return 1;
	return 0;
}

static int walk(qat_diff *d, int64_t n_nodes)
{
	for (int64_t i = n_nodes - 1; i >= 0; i--) {
		const qat_node *n = d->g->graph.nodes[i];
		const int64_t before = d->g->graph.n_nodes;
		int rc;

		if (passes_on(d, n) || !has_gradient(d, n) || !wants_any(d, n))
			continue;
		if (!qat_op_info(n->op)->gradient)
			return qat_fail(QAT_ENOTSUP, "%s: %s has no gradient", n->name,
					qat_op_info(n->op)->name);
		rc = qat_op_info(n->op)->gradient(d, n);
		if (rc)
			return rc;
		for (int64_t k = before; k < d->g->graph.n_nodes; k++)
			if (d->g->graph.nodes[k]->site < 0)
				qat_ir_set_site(d->g, k, n->site);
	}
	return QAT_OK;
}

static int collect(const qat_diff *d, qat_trained **trained, int64_t *n_trained)
{
	int64_t n = 0;
	qat_trained *t;

	for (int64_t i = 0; i < d->n_forward; i++)
		n += d->buffer[i] != QAT_NONE && d->gradient[i] != QAT_NONE;
	t = calloc((size_t)(n ? n : 1), sizeof *t);
	if (!t)
		return qat_fail(QAT_ENOMEM, "differentiate: out of memory");
	*trained = t;
	*n_trained = n;
	for (int64_t i = 0; i < d->n_forward; i++)
		if (d->buffer[i] != QAT_NONE && d->gradient[i] != QAT_NONE)
			*t++ = (qat_trained){ .param = i, .gradient = d->gradient[i],
					      .square = QAT_NONE, .hyper = QAT_NONE };
	return QAT_OK;
}

int qat_ir_differentiate(qat_ir *g, const qat_loss *loss, int accumulate, qat_trained **trained,
			 int64_t *n_trained)
{
	const int64_t n_nodes = g->graph.n_nodes;
	qat_diff d;
	int64_t seed;
	int rc;

	seed = qat_ir_api.input(g, QAT_INPUT_LOSS_GRADIENT);
	if (seed < 0)
		return (int)seed;
	rc = start(&d, g, accumulate);
	if (!rc) {
		d.gradient[loss->nll] = seed;
		g->phase = QAT_PHASE_BACKWARD;
		rc = walk(&d, n_nodes);
		if (!rc)
			rc = g->error;
	}
	if (!rc)
		rc = collect(&d, trained, n_trained);
	g->phase = QAT_PHASE_FORWARD;
	free(d.gradient);
	free(d.pending);
	free(d.buffer);
	return rc;
}

/* ---- updates ---- */

static int check_state(const qat_instance *optimizer, const qat_tensor *t, int64_t i)
{
	int64_t bytes = qat_dtype_bytes(t->dtype);
	int fits = bytes > 0 && t->rank >= 0 && t->rank <= QAT_MAX_RANK;

	for (int64_t k = 0; fits && k < t->rank; k++)
		fits = t->shape[k] > 0 && !__builtin_mul_overflow(bytes, t->shape[k], &bytes);
	return fits ? QAT_OK : qat_fail(QAT_EINVAL, "optimizer %s: state %lld of %s has a type or "
					"shape that cannot be", optimizer->interface->name,
					(long long)i, t->name);
}

/* State i of a parameter. */
static int64_t new_state(qat_ir *g, const qat_instance *optimizer, int64_t param, int64_t i)
{
	const qat_optimizer *o = optimizer->vtable;
	qat_value v = *g->graph.values[param];
	qat_tensor t = { .size = sizeof t, .dtype = QAT_F32, .rank = v.rank, .name = v.name };
	int rc = QAT_OK;

	memcpy(t.shape, v.shape, sizeof t.shape);
	if (o->state)
		rc = o->state(optimizer->self, i, &t);
	if (!rc)
		rc = check_state(optimizer, &t, i);
	if (rc)
		return rc;
	v.rank = t.rank;
	memcpy(v.shape, t.shape, sizeof v.shape);
	return state_value(g, &v, t.dtype);
}

static int64_t hyper_input(qat_ir *g)
{
	qat_value v = { .dtype = QAT_F32, .role = QAT_ROLE_INPUT, .input = QAT_INPUT_HYPER,
			.rank = 1, .shape = { QAT_HYPER_COUNT }, .node = QAT_NONE,
			.alias = QAT_NONE, .name = "hyper" };

	return qat_ir_value(g, &v);
}

/* Where an update draws, it draws by the parameter's number. */
static void set_stream(qat_ir *g, int64_t first, int64_t number)
{
	for (int64_t i = first; i < g->graph.n_nodes; i++)
		if (g->nodes[i]->op == QAT_OP_ADAMW8)
			g->nodes[i]->attr.update.stream = number << 8 | QAT_RANDOM_MOMENT;
}

static int update_one(qat_ir *g, const qat_instance *optimizer, qat_trained *t, int64_t number,
		      const int64_t hyper[2])
{
	const qat_optimizer *o = optimizer->vtable;
	const int64_t first = g->graph.n_nodes;
	int rc;

	t->n_states = o->states(optimizer->self);
	if (t->n_states < 0 || t->n_states > 4)
		return qat_fail(QAT_EINVAL, "optimizer %s: wants %lld states",
				optimizer->interface->name, (long long)t->n_states);
	for (int64_t i = 0; i < t->n_states; i++) {
		t->states[i] = new_state(g, optimizer, t->param, i);
		if (t->states[i] < 0)
			return (int)t->states[i];
	}
	t->hyper = hyper[g->graph.values[t->param]->rank >= 2];
	rc = o->build(optimizer->self, g, t->param, t->gradient, t->states, t->hyper);
	set_stream(g, first, number);
	return rc;
}

int qat_ir_optimize(qat_ir *g, const qat_instance *optimizer, qat_trained *trained,
		    int64_t n_trained)
{
	int64_t hyper[2] = { QAT_NONE, QAT_NONE };	/* of vectors, of matrices */

	g->phase = QAT_PHASE_BACKWARD;
	for (int64_t i = 0; i < n_trained; i++) {
		trained[i].square = qat_ir_node(g, QAT_OP_SUM_SQUARES, NULL, 1,
						&trained[i].gradient, NULL, NULL);
		if (trained[i].square < 0)
			return (int)trained[i].square;
	}
	if (!optimizer)
		return QAT_OK;
	g->phase = QAT_PHASE_UPDATE;
	for (int i = 0; i < 2; i++)
		if ((hyper[i] = hyper_input(g)) < 0)
			return (int)hyper[i];
	for (int64_t i = 0; i < n_trained; i++) {
		int rc = update_one(g, optimizer, &trained[i], i, hyper);

		if (!rc)
			rc = g->error;
		if (rc)
			return rc;
	}
	return QAT_OK;
}
