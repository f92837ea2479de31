/* prepare.c - the loss, and quantize and qmatmul at the sites that have schemes.
 *
 *   matmul(x, w)  ->  qmatmul(quantize(x), quantize(w))       both ports
 *                     qmatmul(x, quantize(w))                 weight alone
 *                     matmul(dequantize(quantize(x)), w)      input alone
 * A parameter that is stored as codes enters as those codes; where its site has no
 * scheme any more, or another, it is decoded first. An input that several sites
 * quantize alike is quantized once.
 */
#include "ir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/numerics.h>

#include "error.h"
#include "state.h"

int qat_ir_loss(qat_ir *g, qat_loss *out, const qat_outputs *model, int logits)
{
	const int64_t labels = qat_ir_api.input(g, QAT_INPUT_LABELS);
	const int64_t in[] = { model->hidden, model->head, labels };
	const qat_attr attr = { .matmul = { .trans_b = 1 } };
	const qat_ir_extra extra = { .dtype = logits ? QAT_F32 : 0,
				     .site = qat_ir_site(g, "lm_head") + 1 };
	int64_t ids[QAT_MAX_OUT];

	if (g->error)
		return g->error;
	out->logits = QAT_NONE;
	if (logits) {
		const int64_t y = qat_ir_node(g, QAT_OP_MATMUL, &attr, 2, in, NULL, &extra);
		const int64_t pair[] = { y, labels };

		out->logits = y;
		if (y >= 0)
			qat_ir_node(g, QAT_OP_CROSS_ENTROPY, NULL, 2, pair, ids, &extra);
	} else {
		qat_ir_node(g, QAT_OP_LINEAR_CROSS_ENTROPY, NULL, 3, in, ids, &extra);
	}
	if (g->error)
		return g->error;
	out->nll = ids[0];
	out->lse = ids[1];
	out->argmax = ids[2];
	return QAT_OK;
}

int qat_ir_logits(qat_ir *g, qat_loss *out, const qat_outputs *model)
{
	const int64_t in[] = { model->hidden, model->head };
	const qat_attr attr = { .matmul = { .trans_b = 1 } };
	const qat_ir_extra extra = { .dtype = QAT_F32, .site = qat_ir_site(g, "lm_head") + 1 };

	*out = (qat_loss){ QAT_NONE, QAT_NONE, QAT_NONE, QAT_NONE };
	if (!g->error)
		out->logits = qat_ir_node(g, QAT_OP_MATMUL, &attr, 2, in, NULL, &extra);
	return g->error;
}

/* The codes of a value under a scheme set, made once. */
typedef struct quantized {
	int64_t value;			/* in the new graph, or the parameter's */
	const qat_scheme_set *set;
	int64_t out[QAT_MAX_OUT];	/* codes, scale, zero, mask */
} quantized;

typedef struct prepare {
	qat_ir *to;
	const qat_ir *from;
	int64_t *map;			/* old value -> new, QAT_NONE */
	quantized *made;
	int64_t n_made, room_made;
	qat_scheme_lookup *lookup;
	qat_stored_lookup *stored;
	void *context;
	int how;			/* QAT_PREPARE_* */
} prepare;

static const qat_value *old_value(const prepare *p, int64_t v)
{
	return p->from->graph.values[v];
}

static int remember(prepare *p, int64_t v, const qat_scheme_set *set, const int64_t *out)
{
	if (p->n_made == p->room_made) {
		const int64_t room = p->room_made ? 2 * p->room_made : 64;
		quantized *q = realloc(p->made, (size_t)room * sizeof *q);

		if (!q)
			return qat_fail(QAT_ENOMEM, "prepare: out of memory");
		p->made = q;
		p->room_made = room;
	}
	p->made[p->n_made] = (quantized){ .value = v, .set = set };
	memcpy(p->made[p->n_made++].out, out, sizeof p->made->out);
	return QAT_OK;
}

static int same_set(const qat_scheme_set *a, const qat_scheme_set *b)
{
	if (a == b)
		return 1;
	if (!a || !b || a->count != b->count || a->selector != b->selector)
		return 0;
	for (int64_t i = 0; i < a->count; i++)
		if (!qat_scheme_same(a->schemes[i], b->schemes[i]))
			return 0;
	return 1;
}

static const quantized *find_made(const prepare *p, int64_t v, const qat_scheme_set *set)
{
	for (int64_t i = p->n_made - 1; i >= 0; i--)
		if (p->made[i].value == v && same_set(p->made[i].set, set))
			return &p->made[i];
	return NULL;
}

/* How many ranges x has, down and across. */
static void ranges_of(int64_t out[2], const qat_scheme *s, const qat_value *x)
{
	const int64_t rows = qat_range_rows(s), cols = qat_range_cols(s);

	out[0] = rows ? x->shape[0] / rows : 1;
	out[1] = cols ? x->shape[1] / cols : 1;
}

static int is_static(const qat_scheme_set *set)
{
	return set->schemes[0]->range != QAT_RANGE_DYNAMIC;
}

static const char *const port_names[QAT_PORTS] = { "weight", "input", "kv" };

/* The parameters that hold a static range: in[1] and in[2] of a quantize. */
static int range_params(prepare *p, int64_t in[3], const qat_value *x,
			const qat_scheme_set *set, int32_t site, int which)
{
	const qat_scheme *s = set->schemes[0];
	int64_t blocks[2];
	char name[512];

	ranges_of(blocks, s, x);
	snprintf(name, sizeof name, "%s.%s.scale", p->to->sites[site], port_names[which]);
	in[1] = qat_ir_param(p->to, name, QAT_F32, 2, blocks);
	if (s->zero) {
		snprintf(name, sizeof name, "%s.%s.zero", p->to->sites[site], port_names[which]);
		in[2] = qat_ir_param(p->to, name, s->zero == QAT_ZERO_INT ? QAT_I8 : QAT_F32, 2,
				     blocks);
	}
	return p->to->error;
}

/* Watch a value that will be quantized with a static range; once per value. */
static int observe(prepare *p, int64_t v, const qat_scheme_set *set, int32_t site, int which)
{
	const qat_attr attr = { .observe = { .port = which } };
	const qat_value *x = p->to->graph.values[v];
	const qat_ir_extra extra = { .schemes = { set }, .site = site + 1 };
	qat_value range = { .dtype = QAT_F32, .role = QAT_ROLE_STATE, .rank = 2,
			    .shape = { 0, 2 }, .node = QAT_NONE, .alias = QAT_NONE };
	qat_value counts = range;
	int64_t in[3] = { v, QAT_NONE, QAT_NONE }, out[QAT_MAX_OUT], ranges[2];

	if (find_made(p, v, set))
		return QAT_OK;
	ranges_of(ranges, set->schemes[0], x);
	range.shape[0] = counts.shape[0] = ranges[0] * ranges[1];
	counts.dtype = QAT_F64;
	counts.shape[1] = QAT_COUNTS;
	in[1] = qat_ir_value(p->to, &range);
	if (qat_measures_part(set->schemes[0]))
		in[2] = qat_ir_value(p->to, &counts);
	if (p->to->error || qat_ir_node(p->to, QAT_OP_OBSERVE, &attr, 3, in, out, &extra) < 0)
		return p->to->error;
	return remember(p, v, set, out);
}

/* quantize(v): v in the new graph. */
static int quantize(prepare *p, int64_t out[QAT_MAX_OUT], int64_t v, const qat_scheme_set *set,
		    int32_t site, int which)
{
	const quantized *made = find_made(p, v, set);
	const qat_ir_extra extra = { .schemes = { set }, .site = site + 1 };
	int64_t in[3] = { v, QAT_NONE, QAT_NONE }, rc;
	qat_attr attr = { .quantize = { .mask = 0 } };

	if (made) {
		memcpy(out, made->out, sizeof made->out);
		return QAT_OK;
	}
	for (int64_t i = 0; i < set->count; i++)
		attr.quantize.mask |= p->how == QAT_PREPARE_TRAIN && qat_scheme_clips(set->schemes[i]);
	if (is_static(set) && range_params(p, in, p->to->graph.values[v], set, site, which))
		return p->to->error;
	rc = qat_ir_node(p->to, QAT_OP_QUANTIZE, &attr, 3, in, out, &extra);
	if (rc < 0)
		return (int)rc;
	if (is_static(set) && out[1] == QAT_NONE) {
		out[1] = in[1];
		out[2] = in[2];
	}
	return remember(p, v, set, out);
}

/* The values of a parameter that is stored as codes. */
static int stored_codes(prepare *p, int64_t out[QAT_MAX_OUT], const qat_value *param,
			const qat_scheme *s)
{
	const int64_t rows = s->block_rows ? s->block_rows : param->shape[0];
	const int64_t cols = s->block_cols ? s->block_cols : param->shape[1];
	const int64_t blocks[] = { param->shape[0] / rows, param->shape[1] / cols };
	char name[512];

	out[2] = out[3] = QAT_NONE;
	snprintf(name, sizeof name, "%s.codes", param->name);
	out[0] = qat_ir_param(p->to, name, s->grid == QAT_GRID_UNIFORM ? QAT_I8 : QAT_U8, 2,
			      param->shape);
	snprintf(name, sizeof name, "%s.scale", param->name);
	out[1] = qat_ir_param(p->to, name, QAT_F32, 2, blocks);
	snprintf(name, sizeof name, "%s.zero", param->name);
	if (s->zero)
		out[2] = qat_ir_param(p->to, name, s->zero == QAT_ZERO_INT ? QAT_I8 : QAT_F32, 2,
				      blocks);
	return p->to->error;
}

static const qat_scheme_set *single(prepare *p, const qat_scheme *s)
{
	qat_scheme_set *set = qat_arena_alloc(p->to->arena, sizeof *set);
	const qat_scheme **at = qat_arena_alloc(p->to->arena, sizeof *at);

	if (!set || !at)
		return NULL;
	*at = s;
	*set = (qat_scheme_set){ .size = sizeof *set, .selector = -1, .count = 1, .schemes = at };
	return set;
}

static int64_t dequantize(prepare *p, const int64_t q[QAT_MAX_OUT], const qat_scheme_set *set,
			  int32_t site, uint32_t dtype)
{
	const qat_ir_extra extra = { .schemes = { set }, .site = site + 1, .dtype = dtype };

	return qat_ir_node(p->to, QAT_OP_DEQUANTIZE, NULL, 3, q, NULL, &extra);
}

static int how_stored(prepare *p, const qat_value *v, qat_stored *out)
{
	*out = (qat_stored){ 0 };
	return v->role == QAT_ROLE_PARAM && p->stored ? p->stored(p->context, v->name, out)
						      : QAT_OK;
}

/* An old value as a float in the new graph. */
static int64_t as_float(prepare *p, int64_t v)
{
	qat_stored s;
	int64_t q[QAT_MAX_OUT];
	int rc;

	if (p->map[v] != QAT_NONE)
		return p->map[v];
	rc = how_stored(p, old_value(p, v), &s);
	if (rc)
		return rc;
	if (s.scheme) {
		const qat_scheme_set *set = single(p, s.scheme);

		rc = set ? stored_codes(p, q, old_value(p, v), s.scheme)
			 : qat_fail(QAT_ENOMEM, "prepare: out of memory");
		p->map[v] = rc ? rc : dequantize(p, q, set, -1, QAT_F32);
	} else {
		p->map[v] = qat_ir_copy_value(p->to, old_value(p, v));
		if (p->map[v] >= 0 && s.dtype)
			p->to->values[p->map[v]]->dtype = s.dtype;
	}
	return p->map[v];
}

/* An old value as codes under `set`. */
static int as_codes(prepare *p, int64_t out[QAT_MAX_OUT], int64_t v, const qat_scheme_set *set,
		    int32_t site, int which)
{
	qat_stored s;
	int rc = how_stored(p, old_value(p, v), &s);
	int64_t x;

	if (rc)
		return rc;
	if (s.scheme && set->count == 1 && qat_scheme_same(s.scheme, set->schemes[0]))
		return stored_codes(p, out, old_value(p, v), s.scheme);
	x = as_float(p, v);
	return x < 0 ? (int)x : quantize(p, out, x, set, site, which);
}

static int port(prepare *p, const qat_scheme_set **out, const qat_node *n, int which, int input)
{
	const qat_value *v = old_value(p, n->in[input]);
	const qat_site site = { .size = sizeof site, .port = which, .rows = v->shape[0],
				.cols = v->shape[1], .name = p->from->sites[n->site] };
	const int rc = p->lookup(p->context, &site, out);
	int64_t x;

	if (rc || !*out || p->how != QAT_PREPARE_CALIBRATE)
		return rc;
	x = is_static(*out) && which != QAT_PORT_WEIGHT ? as_float(p, n->in[input]) : QAT_NONE;
	if (x >= 0 && observe(p, x, *out, qat_ir_site(p->to, site.name), which))
		return p->to->error ? p->to->error : QAT_ENOMEM;
	*out = NULL;			/* ranges are those of the model in float */
	return QAT_OK;
}

/* x (old) through a fake quantize, as the new graph's replacement of it here. */
static int64_t fake_quantize(prepare *p, int64_t v, const qat_scheme_set *set, int32_t site,
			     int which, uint32_t dtype)
{
	int64_t q[QAT_MAX_OUT];
	const int rc = as_codes(p, q, v, set, site, which);

	return rc ? rc : dequantize(p, q, set, site, dtype);
}

static int64_t qmatmul(prepare *p, const qat_node *n, const qat_scheme_set *wset,
		       const qat_scheme_set *xset, int32_t site, uint32_t dtype)
{
	int64_t in[7] = { 0, QAT_NONE, QAT_NONE, 0, QAT_NONE, QAT_NONE, QAT_NONE };
	int64_t q[QAT_MAX_OUT];
	const qat_ir_extra extra = { .schemes = { xset, wset }, .site = site + 1,
				     .dtype = dtype };
	int rc;

	if (xset) {
		rc = as_codes(p, q, n->in[0], xset, site, QAT_PORT_INPUT);
		memcpy(in, q, 3 * sizeof *in);
	} else {
		in[0] = as_float(p, n->in[0]);
		rc = in[0] < 0 ? (int)in[0] : QAT_OK;
	}
	if (rc || (rc = as_codes(p, q, n->in[1], wset, site, QAT_PORT_WEIGHT)))
		return rc;
	memcpy(in + 3, q, 3 * sizeof *in);
	if (n->op == QAT_OP_MATMUL && n->n_in > 2 && n->in[2] != QAT_NONE)
		in[6] = as_float(p, n->in[2]);
	return qat_ir_node(p->to, QAT_OP_QMATMUL, NULL, 7, in, NULL, &extra);
}

/* Logits by qmatmul, then the loss of logits. */
static int quantized_head(prepare *p, const qat_node *n, int64_t logits)
{
	const int64_t in[] = { logits, as_float(p, n->in[2]) };
	const qat_ir_extra extra = { .site = qat_ir_site(p->to, "lm_head") + 1 };
	int64_t out[QAT_MAX_OUT];
	int64_t rc;

	if (logits < 0)
		return (int)logits;
	rc = qat_ir_node(p->to, QAT_OP_CROSS_ENTROPY, NULL, 2, in, out, &extra);
	for (int i = 0; i < 3 && rc >= 0; i++)
		p->map[n->out[i]] = out[i];
	return rc < 0 ? (int)rc : QAT_OK;
}

/* The generic way: inputs as floats, the node as it is. */
static int copy_node(prepare *p, const qat_node *n)
{
	for (int64_t i = 0; i < n->n_in; i++) {
		if (n->in[i] == QAT_NONE)
			continue;
		if (as_float(p, n->in[i]) < 0)
			return (int)p->map[n->in[i]];
	}
	return qat_ir_copy_node(p->to, p->from, n, p->map);
}

/* Replace inputs of n, for this node alone, by their fake-quantized forms. All are made
 * before the map changes: two of them may be the same value. */
static int copy_with(prepare *p, const qat_node *n, const int *which,
		     const qat_scheme_set *const *sets, int count, int port_of)
{
	int64_t fake[QAT_MAX_IN], keep[QAT_MAX_IN];
	int rc = QAT_OK;

	for (int k = 0; k < count && !rc; k++) {
		if (!sets[k])
			continue;
		fake[k] = fake_quantize(p, n->in[which[k]], sets[k],
					qat_ir_site(p->to, p->from->sites[n->site]), port_of,
					n->op == QAT_OP_EMBEDDING ? QAT_F32 : 0);
		rc = fake[k] < 0 ? (int)fake[k] : QAT_OK;
	}
	if (rc)
		return rc;
	for (int k = 0; k < count; k++) {
		keep[k] = p->map[n->in[which[k]]];
		if (sets[k])
			p->map[n->in[which[k]]] = fake[k];
	}
	rc = copy_node(p, n);
	for (int k = count - 1; k >= 0; k--)
		if (sets[k])
			p->map[n->in[which[k]]] = keep[k];
	return rc;
}

static int prepare_linear(prepare *p, const qat_node *n)
{
	const int head = n->op == QAT_OP_LINEAR_CROSS_ENTROPY;
	const int32_t site = qat_ir_site(p->to, p->from->sites[n->site]);
	const qat_scheme_set *wset = NULL, *xset = NULL;
	const uint32_t dtype = head || old_value(p, n->out[0])->dtype == QAT_F32 ? QAT_F32 : 0;
	int rc = port(p, &wset, n, QAT_PORT_WEIGHT, 1);
	int64_t y;

	if (!rc)
		rc = port(p, &xset, n, QAT_PORT_INPUT, 0);
	if (rc)
		return rc;
	if (!wset)
		return copy_with(p, n, (const int[]){ 0 },
				 (const qat_scheme_set *[]){ xset }, 1, QAT_PORT_INPUT);
	y = qmatmul(p, n, wset, xset, site, dtype);
	if (y < 0)
		return (int)y;
	if (head)
		return quantized_head(p, n, y);
	p->map[n->out[0]] = y;
	p->to->values[y]->residual = old_value(p, n->out[0])->residual;
	return QAT_OK;
}

static int prepare_embedding(prepare *p, const qat_node *n)
{
	const qat_scheme_set *set = NULL;
	const int rc = port(p, &set, n, QAT_PORT_WEIGHT, 0);

	return rc ? rc : copy_with(p, n, (const int[]){ 0 },
				   (const qat_scheme_set *[]){ set }, 1, QAT_PORT_WEIGHT);
}

static int prepare_attention(prepare *p, const qat_node *n)
{
	const qat_scheme_set *set = NULL;
	const int rc = port(p, &set, n, QAT_PORT_KV, 1);

	return rc ? rc : copy_with(p, n, (const int[]){ 1, 2 },
				   (const qat_scheme_set *[]){ set, set }, 2, QAT_PORT_KV);
}

static int is_linear(const qat_ir *g, const qat_node *n)
{
	return n->op == QAT_OP_LINEAR_CROSS_ENTROPY ||
	       (n->op == QAT_OP_MATMUL && n->attr.matmul.trans_b && !n->attr.matmul.trans_a &&
		g->graph.values[n->in[1]]->role == QAT_ROLE_PARAM);
}

static int prepare_node(prepare *p, const qat_node *n)
{
	if (n->site < 0 || !p->lookup)
		return copy_node(p, n);
	if (is_linear(p->from, n))
		return prepare_linear(p, n);
	if (n->op == QAT_OP_EMBEDDING)
		return prepare_embedding(p, n);
	if (n->op == QAT_OP_ATTENTION)
		return prepare_attention(p, n);
	return copy_node(p, n);
}

static void translate(int64_t *id, const int64_t *map)
{
	if (*id != QAT_NONE)
		*id = map[*id];
}

int qat_ir_prepare(qat_ir **out, const qat_ir *g, qat_loss *loss, qat_scheme_lookup *lookup,
		   qat_stored_lookup *stored, void *context, int how)
{
	prepare p = { .to = qat_ir_like(g), .from = g, .lookup = lookup, .stored = stored,
		      .context = context, .how = how };
	int rc = QAT_OK;

	p.map = malloc((size_t)g->graph.n_values * sizeof *p.map);
	if (!p.to || !p.map)
		rc = qat_fail(QAT_ENOMEM, "prepare: out of memory");
	for (int64_t i = 0; !rc && i < g->graph.n_values; i++)
		p.map[i] = QAT_NONE;
	for (int64_t i = 0; !rc && i < g->graph.n_nodes; i++)
		rc = prepare_node(&p, g->graph.nodes[i]);
	if (!rc) {
		translate(&loss->logits, p.map);
		translate(&loss->nll, p.map);
		translate(&loss->lse, p.map);
		translate(&loss->argmax, p.map);
		*out = p.to;
		p.to = NULL;
	}
	qat_ir_free(p.to);
	free(p.map);
	free(p.made);
	return rc;
}
