/* double_ops.c - see double_ops.h. The formulas as in textbooks, one loop each. */
#include "double_ops.h"

#include <math.h>

static void *zeros(int64_t n)
{
	void *p = calloc((size_t)n + 1, sizeof(double));

	ck_assert_ptr_nonnull(p);
	return p;
}

void doubles_new(doubles *d, const qat_ir *g)
{
	const int64_t n = g->graph.n_values;

	*d = (doubles){ .g = g, .at = zeros(n), .decoded = zeros(n), .passes = zeros(n),
			.origin = zeros(n) };
	for (int64_t i = 0; i < n; i++)
		d->at[i] = zeros(qat_value_elements(g->values[i]));
}

void doubles_free(doubles *d)
{
	for (int64_t i = 0; i < d->g->graph.n_values; i++) {
		free(d->at[i]);
		free(d->decoded[i]);
		free(d->passes[i]);
		free(d->origin[i]);
	}
	free(d->at);
	free(d->decoded);
	free(d->passes);
	free(d->origin);
}

static int64_t block_of(const qat_scheme *s, const qat_value *v, int64_t i)
{
	const int64_t rows = s->block_rows ? s->block_rows : v->shape[0];
	const int64_t cols = s->block_cols ? s->block_cols : v->shape[1];

	return i / v->shape[1] / rows * (v->shape[1] / cols) + i % v->shape[1] / cols;
}

/* What the run's codes decode to, and where the gradient passes. */
static void hold(doubles *d, const qat_node *n, const kit *k, const kit_result *r)
{
	const qat_scheme *s = n->schemes[0]->schemes[0];
	const int64_t id = n->out[0], made = n->out[1];
	const int64_t given = made == QAT_NONE && n->n_in > 1 ? n->in[1] : QAT_NONE;
	const int64_t zero_id = given != QAT_NONE && n->n_in > 2 ? n->in[2] : n->out[2];
	const qat_value *v = d->g->values[id];
	const float *scale = given != QAT_NONE ? k->content[given] : r->data[n->out[1]];
	const void *zero = zero_id == QAT_NONE ? NULL
			 : given != QAT_NONE ? k->content[zero_id] : r->data[zero_id];
	const uint8_t *mask = n->out[3] == QAT_NONE ? NULL : r->data[n->out[3]];
	const int64_t bytes = (v->shape[1] + 7) / 8;

	d->decoded[id] = zeros(qat_value_elements(v));
	d->passes[id] = zeros(qat_value_elements(v));
	for (int64_t i = 0; i < qat_value_elements(v); i++) {
		const int64_t b = block_of(s, v, i), col = i % v->shape[1];
		const float z = zero ? (float)kit_number(d->g->values[zero_id], zero, b) : 0.0f;

		d->decoded[id][i] = qat_decode(s, ((const uint8_t *)r->data[id])[i], scale[b], z);
		d->passes[id][i] = mask ? mask[i / v->shape[1] * bytes + col / 8] >> col % 8 & 1
					: 1.0;
	}
}

void doubles_load(doubles *d, const kit *k, const kit_result *r)
{
	for (int64_t i = 0; i < d->g->graph.n_values; i++) {
		const qat_value *v = d->g->values[i];
		const void *data = v->role == QAT_ROLE_CONST ? v->data
				 : i < k->room ? k->content[i] : NULL;

		for (int64_t j = 0; data && j < qat_value_elements(v); j++)
			d->at[i][j] = kit_number(v, data, j);
	}
	for (int64_t i = 0; r && i < d->g->graph.n_nodes; i++)
		if (d->g->nodes[i]->op == QAT_OP_QUANTIZE)
			hold(d, d->g->nodes[i], k, r);
}

/* ---- a node at hand ---- */

typedef struct call {
	doubles *d;
	const qat_node *n;
	const double *x[QAT_MAX_IN];
	double *y[QAT_MAX_OUT];
	const qat_value *v[QAT_MAX_IN];	/* of the inputs */
	int64_t rows, cols;		/* of output 0 */
} call;

static double act(int64_t kind, double x)
{
	switch (kind) {
	case QAT_ACT_GELU_TANH:
		return x / 2 * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * pow(x, 3))));
	case QAT_ACT_GELU_ERF: return x / 2 * (1 + erf(x / sqrt(2)));
	case QAT_ACT_SILU:     return x / (1 + exp(-x));
	default:               return x > 0 ? x : 0;
	}
}

static void elementwise(const call *c)
{
	const qat_attr *a = &c->n->attr;
	const int two = c->x[1] && c->n->op != QAT_OP_DEQUANTIZE;

	for (int64_t i = 0; i < c->rows * c->cols; i++) {
		const double x = c->x[0][i], z = two ? c->x[1][i] : 0;

		switch (c->n->op) {
		case QAT_OP_ADD:   c->y[0][i] = x + z; break;
		case QAT_OP_MUL:   c->y[0][i] = x * z; break;
		case QAT_OP_SCALE: c->y[0][i] = x * a->scale.factor; break;
		case QAT_OP_ACT:   c->y[0][i] = act(a->act.kind, x); break;
		case QAT_OP_GLU:   c->y[0][i] = act(a->act.kind, x) * z; break;
		default:           c->y[0][i] = x; break;	/* CAST, DEQUANTIZE */
		}
	}
}

static void quantize(const call *c)
{
	const int64_t id = c->n->out[0], n = c->rows * c->cols;
	doubles *d = c->d;

	ck_assert_ptr_nonnull(d->decoded[id]);
	if (!d->origin[id]) {
		d->origin[id] = zeros(n);
		memcpy(d->origin[id], c->x[0], (size_t)n * sizeof(double));
	}
	for (int64_t i = 0; i < n; i++)
		c->y[0][i] = d->decoded[id][i] +
			     d->passes[id][i] * (c->x[0][i] - d->origin[id][i]);
}

static void embedding(const call *c)
{
	for (int64_t i = 0; i < c->rows * c->cols; i++)
		c->y[0][i] = c->x[0][(int64_t)c->x[1][i / c->cols] * c->cols + i % c->cols];
}

/* x w^T + c; also of decoded codes. */
static void product(const call *c)
{
	const int q = c->n->op == QAT_OP_QMATMUL, bias = q ? 6 : 2;
	const double *w = c->x[q ? 3 : 1], *add = c->x[bias];
	const int64_t k = c->v[0]->shape[1];

	for (int64_t i = 0; i < c->rows * c->cols; i++) {
		double sum = !add ? 0 : c->v[bias]->rank == 1 ? add[i % c->cols] : add[i];

		for (int64_t j = 0; j < k; j++)
			sum += c->x[0][i / c->cols * k + j] * w[i % c->cols * k + j];
		c->y[0][i] = sum;
	}
}

static void norm(const call *c)
{
	const int layer = c->n->op == QAT_OP_LAYER_NORM;

	for (int64_t r = 0; r < c->rows; r++) {
		const double *x = c->x[0] + r * c->cols;
		double mean = 0, var = 0;

		for (int64_t i = 0; layer && i < c->cols; i++)
			mean += x[i] / (double)c->cols;
		for (int64_t i = 0; i < c->cols; i++)
			var += pow(x[i] - mean, 2) / (double)c->cols;
		for (int64_t i = 0; i < c->cols; i++)
			c->y[0][r * c->cols + i] = (x[i] - mean) /
				sqrt(var + c->n->attr.norm.epsilon) *
				(c->x[1][i] + (c->n->attr.norm.plus_one ? 1 : 0)) +
				(c->x[2] ? c->x[2][i] : 0);
	}
}

static void rope(const call *c)
{
	const int64_t d = c->n->attr.rope.head_dim;

	for (int64_t i = 0; i < c->rows * c->cols; i++) {
		const int64_t at = i % d, pair = at % (d / 2);
		const int64_t t = i / c->cols % c->d->g->graph.length * (d / 2) + pair;
		const double sine = (c->n->attr.rope.inverse ? -1 : 1) * c->x[2][t];

		c->y[0][i] = at < d / 2 ? c->x[0][i] * c->x[1][t] - c->x[0][i + d / 2] * sine
					: c->x[0][i] * c->x[1][t] + c->x[0][i - d / 2] * sine;
	}
}

/* Output of head h for token r, into y [d]. */
static void attend(const call *c, int64_t r, int64_t h, double *y)
{
	const int64_t heads = c->n->attr.attention.heads, kv = c->n->attr.attention.kv_heads;
	const int64_t d = c->n->attr.attention.head_dim, window = c->n->attr.attention.window;
	const int64_t length = c->d->g->graph.length, first = r - r % length;
	double sum = 0;

	for (int64_t i = 0; i < d; i++)
		y[i] = 0;
	for (int64_t j = first; j < first + length; j++) {
		const double *k = c->x[1] + (j * kv + h * kv / heads) * d;
		const double *v = c->x[2] + (j * kv + h * kv / heads) * d;
		double s = 0;

		if ((c->n->attr.attention.causal && j > r) || (window > 0 && j <= r - window))
			continue;
		for (int64_t i = 0; i < d; i++)
			s += c->x[0][(r * heads + h) * d + i] * k[i];
		s = exp(s * c->n->attr.attention.scale);
		sum += s;
		for (int64_t i = 0; i < d; i++)
			y[i] += s * v[i];
	}
	for (int64_t i = 0; i < d; i++)
		y[i] /= sum;
}

static void attention(const call *c)
{
	const int64_t heads = c->n->attr.attention.heads, d = c->n->attr.attention.head_dim;

	for (int64_t i = 0; i < c->rows * heads; i++)
		attend(c, i / heads, i % heads, c->y[0] + i * d);
}

/* Logit v of row r: given, or of the head. */
static double logit(const call *c, int64_t r, int64_t v, int linear)
{
	const int64_t k = c->v[0]->shape[1];
	double sum = 0;

	if (!linear)
		return c->x[0][r * k + v];
	for (int64_t i = 0; i < k; i++)
		sum += c->x[0][r * k + i] * c->x[1][v * k + i];
	return sum;
}

static void loss(const call *c)
{
	const int linear = c->n->op == QAT_OP_LINEAR_CROSS_ENTROPY;
	const int64_t n = linear ? c->v[1]->shape[0] : c->v[0]->shape[1];

	for (int64_t r = 0; r < c->rows; r++) {
		const int64_t label = (int64_t)c->x[linear ? 2 : 1][r];
		double sum = 0;

		for (int64_t v = 0; v < n; v++)
			sum += exp(logit(c, r, v, linear));
		c->y[0][r] = label < 0 ? 0 : log(sum) - logit(c, r, label, linear);
	}
}

static void columns(const call *c)
{
	const int split = c->n->op == QAT_OP_SPLIT;
	const int64_t parts = split ? c->n->attr.split.count : c->n->n_in;
	const int64_t whole = split ? c->v[0]->shape[1] : c->cols;
	int64_t first = 0;

	for (int64_t p = 0; p < parts; p++) {
		const int64_t w = split ? c->n->attr.split.width[p] : c->v[p]->shape[1];

		for (int64_t i = 0; i < c->rows * w; i++) {
			const int64_t at = i / w * whole + first + i % w;

			if (split)
				c->y[p][i] = c->x[0][at];
			else
				c->y[0][at] = c->x[p][i];
		}
		first += w;
	}
}

static void run(const call *c)
{
	switch (c->n->op) {
	case QAT_OP_EMBEDDING: embedding(c); break;
	case QAT_OP_MATMUL:
	case QAT_OP_QMATMUL:   product(c); break;
	case QAT_OP_QUANTIZE:  quantize(c); break;
	case QAT_OP_LAYER_NORM:
	case QAT_OP_RMS_NORM:  norm(c); break;
	case QAT_OP_ROPE:      rope(c); break;
	case QAT_OP_ATTENTION: attention(c); break;
	case QAT_OP_LINEAR_CROSS_ENTROPY:
	case QAT_OP_CROSS_ENTROPY: loss(c); break;
	case QAT_OP_SPLIT:
	case QAT_OP_CONCAT:    columns(c); break;
	case QAT_OP_DEQUANTIZE:
	case QAT_OP_CAST:
	case QAT_OP_ADD:
	case QAT_OP_MUL:
	case QAT_OP_SCALE:
	case QAT_OP_ACT:
	case QAT_OP_GLU:       elementwise(c); break;
	default:               ck_abort_msg("%s has no double form", c->n->name);
	}
}

void doubles_run(doubles *d)
{
	for (int64_t i = 0; i < d->g->graph.n_nodes; i++) {
		const qat_node *n = d->g->nodes[i];
		call c = { .d = d, .n = n };

		if (n->phase > QAT_PHASE_FORWARD)
			continue;
		for (int64_t k = 0; k < n->n_in; k++) {
			c.x[k] = n->in[k] == QAT_NONE ? NULL : d->at[n->in[k]];
			c.v[k] = n->in[k] == QAT_NONE ? NULL : d->g->values[n->in[k]];
		}
		for (int64_t k = 0; k < n->n_out; k++)
			c.y[k] = n->out[k] == QAT_NONE ? NULL : d->at[n->out[k]];
		c.rows = d->g->values[n->out[0]]->shape[0];
		c.cols = d->g->values[n->out[0]]->shape[1];
		run(&c);
	}
}
