/* ops.c - one row per op: its name, how its outputs look, how it is differentiated.
 * Shapes are checked here once, so that kernels need not. */
#include "ir.h"

#include <string.h>

#include <qatrun/numerics.h>

#include "error.h"

static const qat_value *in(const qat_ir *g, const qat_node *n, int64_t i)
{
	return i < n->n_in && n->in[i] != QAT_NONE ? g->graph.values[n->in[i]] : NULL;
}

static int wrong(const qat_node *n, const char *what)
{
	return qat_fail(QAT_EINVAL, "graph: %s: %s", n->name, what);
}

static void matrix(qat_value *v, uint32_t dtype, int64_t rows, int64_t cols)
{
	v->dtype = dtype;
	v->rank = 2;
	v->shape[0] = rows;
	v->shape[1] = cols;
}

static void vector(qat_value *v, uint32_t dtype, int64_t n)
{
	v->dtype = dtype;
	v->rank = 1;
	v->shape[0] = n;
}

static int same(const qat_value *a, const qat_value *b)
{
	return a->rank == b->rank && !memcmp(a->shape, b->shape, sizeof a->shape);
}

static void like(qat_value *v, const qat_value *x, uint32_t dtype)
{
	v->dtype = dtype;
	v->rank = x->rank;
	memcpy(v->shape, x->shape, sizeof v->shape);
}

/* Scales of input `scale` and zero points after them, if there, fit blocks of
 * block_rows x block_cols in input x. */
static int blocks_fit(const qat_ir *g, const qat_node *n, int64_t x, int64_t scale,
		      int64_t block_rows, int64_t block_cols)
{
	const qat_value *v = in(g, n, x), *a = in(g, n, scale), *z = in(g, n, scale + 1);
	const int64_t rows = block_rows ? block_rows : v->shape[0];
	const int64_t cols = block_cols ? block_cols : v->shape[1];

	if (v->rank != 2 || v->shape[0] % rows || v->shape[1] % cols)
		return 0;
	return a && a->rank == 2 && a->shape[0] == v->shape[0] / rows &&
	       a->shape[1] == v->shape[1] / cols && (!z || same(a, z));
}

/* The same for the blocks that the set's schemes have. */
static int scales_fit(const qat_ir *g, const qat_node *n, const qat_scheme_set *set, int64_t x,
		      int64_t scale)
{
	const qat_scheme *s = set->schemes[0];

	return blocks_fit(g, n, x, scale, s->block_rows, s->block_cols);
}

static int64_t tokens(const qat_ir *g)
{
	return g->graph.batch * g->graph.length;
}

static int shape_embedding(const qat_ir *g, const qat_node *n, qat_value *out)
{
	if (in(g, n, 0)->rank != 2 || in(g, n, 1)->dtype != QAT_I32 || in(g, n, 1)->rank != 1)
		return wrong(n, "needs a table and I32 ids");
	matrix(&out[0], g->graph.precision, in(g, n, 1)->shape[0], in(g, n, 0)->shape[1]);
	return QAT_OK;
}

static int shape_embedding_grad(const qat_ir *g, const qat_node *n, qat_value *out)
{
	if (n->attr.embedding.rows <= 0)
		return wrong(n, "needs the table's rows");
	if (in(g, n, 0)->dtype != QAT_I32 || in(g, n, 0)->shape[0] != in(g, n, 1)->shape[0])
		return wrong(n, "needs one I32 id a row");
	matrix(&out[0], QAT_F32, n->attr.embedding.rows, in(g, n, 1)->shape[1]);
	return QAT_OK;
}

static int shape_matmul(const qat_ir *g, const qat_node *n, qat_value *out)
{
	const qat_value *a = in(g, n, 0), *b = in(g, n, 1), *c = in(g, n, 2);
	const int ta = n->attr.matmul.trans_a != 0, tb = n->attr.matmul.trans_b != 0;
	const int64_t m = a->shape[ta], k = a->shape[!ta], cols = b->shape[!tb];

	if (a->rank != 2 || b->rank != 2 || b->shape[tb] != k)
		return qat_fail(QAT_EINVAL, "graph: %s: [%lld, %lld] does not multiply [%lld, %lld]",
				n->name, (long long)a->shape[0], (long long)a->shape[1],
				(long long)b->shape[0], (long long)b->shape[1]);
	matrix(&out[0], g->graph.precision, m, cols);
	if (c && !(c->rank == 1 && c->shape[0] == cols) && !same(c, &(qat_value){ .rank = 2,
			.shape = { m, cols, 1, 1 } }))
		return wrong(n, "bias or addend has the wrong shape");
	return QAT_OK;
}

static int shape_qmatmul(const qat_ir *g, const qat_node *n, qat_value *out)
{
	const qat_value *x = in(g, n, 0), *w = in(g, n, 3), *bias = in(g, n, 6);

	if (!n->schemes[1] || !w || x->rank != 2 || w->rank != 2 || x->shape[1] != w->shape[1])
		return wrong(n, "codes do not multiply");
	if (!scales_fit(g, n, n->schemes[1], 3, 4) ||
	    (n->schemes[0] && !scales_fit(g, n, n->schemes[0], 0, 1)))
		return wrong(n, "a scale does not fit its codes");
	if (bias && (bias->rank != 1 || bias->shape[0] != w->shape[0]))
		return wrong(n, "bias has the wrong shape");
	matrix(&out[0], g->graph.precision, x->shape[0], w->shape[0]);
	return QAT_OK;
}

static int shape_qmatmul_grad(const qat_ir *g, const qat_node *n, qat_value *out)
{
	const qat_value *dy = in(g, n, 0), *codes = in(g, n, 1), *scale = in(g, n, 2);
	const qat_value *c = in(g, n, 3);
	const int64_t side = n->attr.qmatmul_grad.side, bits = n->attr.qmatmul_grad.bits;
	int64_t rows;

	if (!n->schemes[0] || (side != 0 && side != 1) || bits < 2 || bits > 8)
		return wrong(n, "needs a scheme, a side and 2 to 8 bits");
	if (!qat_scheme_folds(n->schemes[0]->schemes[0]) || codes->dtype != QAT_I8)
		return wrong(n, "the codes have no scale for each row that goes to the gradient");
	rows = n->schemes[0]->schemes[0]->block_rows;
	rows = rows ? rows : codes->shape[0];
	if (dy->rank != 2 || codes->rank != 2 || scale->rank != 2 || dy->shape[0] != tokens(g) ||
	    codes->shape[0] != dy->shape[!side] || codes->shape[0] % rows ||
	    scale->shape[0] != codes->shape[0] / rows || scale->shape[1] != 1)
		return wrong(n, "codes do not fit the gradient");
	matrix(&out[0], side ? QAT_F32 : g->graph.precision, dy->shape[side], codes->shape[1]);
	if (c && (c->dtype != QAT_F32 || c->rank != 2 || c->shape[0] != out[0].shape[0] ||
		  c->shape[1] != out[0].shape[1]))
		return wrong(n, "addend does not fit");
	return QAT_OK;
}

static int shape_quantize(const qat_ir *g, const qat_node *n, qat_value *out)
{
	const qat_value *x = in(g, n, 0);
	const qat_scheme *s = n->schemes[0] ? n->schemes[0]->schemes[0] : NULL;
	int64_t rows, cols;

	if (!s || x->rank != 2)
		return wrong(n, "needs a scheme and a matrix");
	rows = s->block_rows ? s->block_rows : x->shape[0];
	cols = s->block_cols ? s->block_cols : x->shape[1];
	if (x->shape[0] % rows || x->shape[1] % cols)
		return qat_fail(QAT_EINVAL, "%s: blocks of %lld x %lld do not divide %lld x %lld",
				n->name, (long long)rows, (long long)cols, (long long)x->shape[0],
				(long long)x->shape[1]);
	if (s->scale_rule == QAT_SCALE_TWO_LEVEL && s->second_rows &&
	    (s->second_rows < 0 || x->shape[0] % s->second_rows))
		return wrong(n, "scales of the second level do not divide the rows");
	if (in(g, n, 1) && !blocks_fit(g, n, 0, 1, qat_range_rows(s), qat_range_cols(s)))
		return wrong(n, "the scale does not fit the blocks");
	matrix(&out[0], s->grid == QAT_GRID_UNIFORM ? QAT_I8 : QAT_U8, x->shape[0], x->shape[1]);
	if (!in(g, n, 1) || s->scale_rule == QAT_SCALE_TWO_LEVEL) {
		matrix(&out[1], QAT_F32, x->shape[0] / rows, x->shape[1] / cols);
		if (s->zero)
			matrix(&out[2], s->zero == QAT_ZERO_INT ? QAT_I8 : QAT_F32,
			       x->shape[0] / rows, x->shape[1] / cols);
	}
	if (n->attr.quantize.mask)
		matrix(&out[3], QAT_U8, x->shape[0], (x->shape[1] + 7) / 8);
	return QAT_OK;
}

static int shape_dequantize(const qat_ir *g, const qat_node *n, qat_value *out)
{
	if (!n->schemes[0])
		return wrong(n, "needs a scheme");
	if (!scales_fit(g, n, n->schemes[0], 0, 1))
		return wrong(n, "the scale does not fit the blocks");
	like(&out[0], in(g, n, 0), g->graph.precision);
	return QAT_OK;
}

/* y looks like input 0. */
static int shape_like(const qat_ir *g, const qat_node *n, qat_value *out)
{
	like(&out[0], in(g, n, 0), g->graph.precision);
	return QAT_OK;
}

static int shape_mask(const qat_ir *g, const qat_node *n, qat_value *out)
{
	const qat_value *x = in(g, n, 0), *m = in(g, n, 1);

	if (m->dtype != QAT_U8 || m->rank != 2 || m->shape[0] != x->shape[0] ||
	    m->shape[1] != (x->shape[1] + 7) / 8)
		return wrong(n, "mask does not fit the gradient");
	return shape_like(g, n, out);
}

static int known_act(const qat_node *n)
{
	return n->attr.act.kind >= QAT_ACT_GELU_TANH && n->attr.act.kind <= QAT_ACT_RELU;
}

static int shape_act(const qat_ir *g, const qat_node *n, qat_value *out)
{
	return known_act(n) ? shape_like(g, n, out) : wrong(n, "kind of activation is unknown");
}

static int shape_pair(const qat_ir *g, const qat_node *n, qat_value *out)
{
	if (!same(in(g, n, 0), in(g, n, 1)))
		return wrong(n, "inputs differ in shape");
	if ((n->op == QAT_OP_GLU || n->op == QAT_OP_ACT_GRAD) && !known_act(n))
		return wrong(n, "kind of activation is unknown");
	return shape_like(g, n, out);
}

static int shape_observe(const qat_ir *g, const qat_node *n, qat_value *out)
{
	like(&out[0], in(g, n, 1), QAT_F32);
	out[0].alias = n->in[1];
	if (in(g, n, 2)) {
		like(&out[1], in(g, n, 2), QAT_F64);
		out[1].alias = n->in[2];
	}
	return QAT_OK;
}

static int shape_glu_grad(const qat_ir *g, const qat_node *n, qat_value *out)
{
	if (!same(in(g, n, 0), in(g, n, 1)) || !same(in(g, n, 0), in(g, n, 2)))
		return wrong(n, "inputs differ in shape");
	like(&out[0], in(g, n, 0), g->graph.precision);
	like(&out[1], in(g, n, 0), g->graph.precision);
	return QAT_OK;
}

static int shape_norm(const qat_ir *g, const qat_node *n, qat_value *out)
{
	const qat_value *x = in(g, n, 0), *w = in(g, n, 1);
	const int layer = n->op == QAT_OP_LAYER_NORM;

	if (x->rank != 2 || w->rank != 1 || w->shape[0] != x->shape[1])
		return wrong(n, "weight does not fit the rows");
	if (in(g, n, 2) && !same(w, in(g, n, 2)))
		return wrong(n, "bias does not fit the rows");
	like(&out[0], x, g->graph.precision);
	vector(&out[1], QAT_F32, x->shape[0]);
	if (layer)
		vector(&out[2], QAT_F32, x->shape[0]);
	return QAT_OK;
}

static int shape_norm_grad(const qat_ir *g, const qat_node *n, qat_value *out)
{
	const qat_value *x = in(g, n, 0);

	like(&out[0], x, QAT_F32);
	vector(&out[1], QAT_F32, x->shape[1]);
	if (n->op == QAT_OP_LAYER_NORM_GRAD)
		vector(&out[2], QAT_F32, x->shape[1]);
	return QAT_OK;
}

static int shape_rope(const qat_ir *g, const qat_node *n, qat_value *out)
{
	const qat_value *x = in(g, n, 0), *cos = in(g, n, 1);
	const int64_t d = n->attr.rope.head_dim;

	if (d <= 0 || d % 2 || x->shape[1] % d || cos->shape[1] != d / 2 ||
	    cos->shape[0] < (g->cache ? g->cache : g->graph.length) || !same(cos, in(g, n, 2)))
		return wrong(n, "tables do not fit the heads");
	return shape_like(g, n, out);
}

/* The cache comes out in the memory in which it went in. */
static int shape_cache(const qat_ir *g, const qat_node *n, qat_value *out)
{
	const qat_value *keys = in(g, n, 5), *values = in(g, n, 6);

	if (!keys && !values)
		return QAT_OK;
	if (!keys || !values || !same(keys, values) || keys->dtype != values->dtype ||
	    keys->rank != 2 || keys->shape[1] != in(g, n, 1)->shape[1] ||
	    keys->shape[0] % g->graph.batch ||
	    keys->shape[0] / g->graph.batch < g->graph.length || !n->attr.attention.causal)
		return wrong(n, "the cache does not fit keys and values");
	for (int i = 0; i < 2; i++) {
		like(&out[2 + i], keys, keys->dtype);
		out[2 + i].alias = n->in[5 + i];
	}
	return QAT_OK;
}

static int shape_attention(const qat_ir *g, const qat_node *n, qat_value *out)
{
	const int64_t h = n->attr.attention.heads, kv = n->attr.attention.kv_heads;
	const int64_t d = n->attr.attention.head_dim;
	const qat_value *q = in(g, n, 0), *k = in(g, n, 1), *v = in(g, n, 2);

	if (h <= 0 || kv <= 0 || h % kv || q->shape[1] != h * d || k->shape[1] != kv * d ||
	    !same(k, v) || q->shape[0] != tokens(g) || k->shape[0] != tokens(g))
		return wrong(n, "heads do not fit q, k, v");
	if (in(g, n, 3) || in(g, n, 4))
		return wrong(n, "segments and bias are reserved");
	like(&out[0], q, g->graph.precision);
	matrix(&out[1], QAT_F32, q->shape[0], h);
	return shape_cache(g, n, out);
}

static int shape_attention_grad(const qat_ir *g, const qat_node *n, qat_value *out)
{
	for (int i = 0; i < 3; i++)
		like(&out[i], in(g, n, i), g->graph.precision);
	return QAT_OK;
}

static int shape_loss(const qat_ir *g, const qat_node *n, qat_value *out)
{
	const int64_t rows = in(g, n, 0)->shape[0];
	const int labels = n->op == QAT_OP_LINEAR_CROSS_ENTROPY ? 2 : 1;

	if (in(g, n, labels)->dtype != QAT_I32 || in(g, n, labels)->shape[0] != rows)
		return wrong(n, "needs one I32 label a row");
	if (labels == 2 && in(g, n, 0)->shape[1] != in(g, n, 1)->shape[1])
		return wrong(n, "head does not fit the rows");
	vector(&out[0], QAT_F32, rows);
	vector(&out[1], QAT_F32, rows);
	vector(&out[2], QAT_I32, rows);
	return QAT_OK;
}

static int shape_linear_loss_grad(const qat_ir *g, const qat_node *n, qat_value *out)
{
	like(&out[0], in(g, n, 0), g->graph.precision);
	like(&out[1], in(g, n, 1), QAT_F32);
	return QAT_OK;
}

static int shape_split(const qat_ir *g, const qat_node *n, qat_value *out)
{
	int64_t sum = 0;

	if (n->attr.split.count < 2 || n->attr.split.count > QAT_MAX_OUT)
		return wrong(n, "count out of range");
	for (int64_t i = 0; i < n->attr.split.count; i++) {
		if (n->attr.split.width[i] <= 0)
			return wrong(n, "widths must be above 0");
		sum += n->attr.split.width[i];
		matrix(&out[i], g->graph.precision, in(g, n, 0)->shape[0], n->attr.split.width[i]);
	}
	return sum == in(g, n, 0)->shape[1] ? QAT_OK : wrong(n, "widths do not add up");
}

static int shape_concat(const qat_ir *g, const qat_node *n, qat_value *out)
{
	int64_t sum = 0;

	for (int64_t i = 0; i < n->n_in; i++) {
		if (!in(g, n, i) || in(g, n, i)->rank != 2 ||
		    in(g, n, i)->shape[0] != in(g, n, 0)->shape[0])
			return wrong(n, "inputs differ in rows");
		sum += in(g, n, i)->shape[1];
	}
	matrix(&out[0], g->graph.precision, in(g, n, 0)->shape[0], sum);
	return QAT_OK;
}

static int shape_cast(const qat_ir *g, const qat_node *n, qat_value *out)
{
	if (n->attr.cast.dtype <= 0 || !qat_dtype_bytes((uint32_t)n->attr.cast.dtype))
		return wrong(n, "type is unknown");
	like(&out[0], in(g, n, 0), (uint32_t)n->attr.cast.dtype);
	return QAT_OK;
}

static int shape_reduce_rows(const qat_ir *g, const qat_node *n, qat_value *out)
{
	vector(&out[0], QAT_F32, in(g, n, 0)->shape[1]);
	return QAT_OK;
}

static int shape_sum_squares(const qat_ir *g, const qat_node *n, qat_value *out)
{
	(void)g;
	(void)n;
	vector(&out[0], QAT_F64, 1);
	return QAT_OK;
}

static int shape_adamw(const qat_ir *g, const qat_node *n, qat_value *out)
{
	static const int from[] = { 0, 2, 3 };

	for (int i = 0; i < 3; i++) {
		if (!same(in(g, n, 0), in(g, n, from[i])))
			return wrong(n, "states differ from the parameter in shape");
		like(&out[i], in(g, n, from[i]), QAT_F32);
		out[i].alias = n->in[from[i]];
	}
	return QAT_OK;
}

static int shape_adamw8(const qat_ir *g, const qat_node *n, qat_value *out)
{
	static const int from[] = { 0, 2, 3, 4 };
	static const uint32_t types[] = { QAT_F32, QAT_I8, QAT_U8, QAT_F32 };
	const qat_value *p = in(g, n, 0), *units = in(g, n, 4);
	const int64_t blocks = (qat_value_elements(p) + QAT_MOMENT_BLOCK - 1) / QAT_MOMENT_BLOCK;

	if (!same(p, in(g, n, 1)) || !same(p, in(g, n, 2)) || !same(p, in(g, n, 3)))
		return wrong(n, "states differ from the parameter in shape");
	if (units->rank != 2 || units->shape[0] != blocks || units->shape[1] != 2)
		return wrong(n, "units do not fit the parameter's blocks");
	for (int i = 0; i < 4; i++) {
		if (in(g, n, from[i])->dtype != types[i])
			return wrong(n, "a state is of another type");
		like(&out[i], in(g, n, from[i]), types[i]);
		out[i].alias = n->in[from[i]];
	}
	return QAT_OK;
}

/* CAST and DEQUANTIZE need no rule: their gradient is their input's, unchanged
 * (differentiate.c). */
static const qat_op ops[QAT_OP_COUNT] = {
	[QAT_OP_EMBEDDING] = { "embedding", 2, 2, shape_embedding, qat_gradient_embedding },
	[QAT_OP_EMBEDDING_GRAD] = { "embedding_grad", 2, 3, shape_embedding_grad, NULL },
	[QAT_OP_MATMUL] = { "matmul", 2, 3, shape_matmul, qat_gradient_matmul },
	[QAT_OP_QMATMUL] = { "qmatmul", 1, 7, shape_qmatmul, qat_gradient_qmatmul },
	[QAT_OP_QUANTIZE] = { "quantize", 1, 3, shape_quantize, qat_gradient_quantize },
	[QAT_OP_DEQUANTIZE] = { "dequantize", 2, 3, shape_dequantize, NULL },
	[QAT_OP_MASK] = { "mask", 2, 2, shape_mask, NULL },
	[QAT_OP_SCALE_GRAD] = { "scale_grad", 3, 4, NULL, NULL },
	[QAT_OP_OBSERVE] = { "observe", 2, 3, shape_observe, NULL },
	[QAT_OP_ADD] = { "add", 2, 2, shape_pair, qat_gradient_add },
	[QAT_OP_MUL] = { "mul", 2, 2, shape_pair, qat_gradient_mul },
	[QAT_OP_SCALE] = { "scale", 1, 1, shape_like, qat_gradient_scale },
	[QAT_OP_ACT] = { "act", 1, 1, shape_act, qat_gradient_act },
	[QAT_OP_ACT_GRAD] = { "act_grad", 2, 2, shape_pair, NULL },
	[QAT_OP_GLU] = { "glu", 2, 2, shape_pair, qat_gradient_glu },
	[QAT_OP_GLU_GRAD] = { "glu_grad", 3, 3, shape_glu_grad, NULL },
	[QAT_OP_LAYER_NORM] = { "layer_norm", 2, 3, shape_norm, qat_gradient_layer_norm },
	[QAT_OP_LAYER_NORM_GRAD] = { "layer_norm_grad", 5, 6, shape_norm_grad, NULL },
	[QAT_OP_RMS_NORM] = { "rms_norm", 2, 2, shape_norm, qat_gradient_rms_norm },
	[QAT_OP_RMS_NORM_GRAD] = { "rms_norm_grad", 4, 5, shape_norm_grad, NULL },
	[QAT_OP_ROPE] = { "rope", 3, 3, shape_rope, qat_gradient_rope },
	[QAT_OP_ATTENTION] = { "attention", 3, 7, shape_attention, qat_gradient_attention },
	[QAT_OP_ATTENTION_GRAD] = { "attention_grad", 6, 6, shape_attention_grad, NULL },
	[QAT_OP_LINEAR_CROSS_ENTROPY] = { "linear_cross_entropy", 3, 3, shape_loss,
					  qat_gradient_linear_cross_entropy },
	[QAT_OP_LINEAR_CROSS_ENTROPY_GRAD] = { "linear_cross_entropy_grad", 5, 6,
					       shape_linear_loss_grad, NULL },
	[QAT_OP_CROSS_ENTROPY] = { "cross_entropy", 2, 2, shape_loss,
				   qat_gradient_cross_entropy },
	[QAT_OP_CROSS_ENTROPY_GRAD] = { "cross_entropy_grad", 4, 4, shape_like, NULL },
	[QAT_OP_KL_DIVERGENCE] = { "kl_divergence", 0, 0, NULL, NULL },
	[QAT_OP_KL_DIVERGENCE_GRAD] = { "kl_divergence_grad", 0, 0, NULL, NULL },
	[QAT_OP_SPLIT] = { "split", 1, 1, shape_split, qat_gradient_split },
	[QAT_OP_CONCAT] = { "concat", 2, 4, shape_concat, qat_gradient_concat },
	[QAT_OP_CAST] = { "cast", 1, 1, shape_cast, NULL },
	[QAT_OP_REDUCE_ROWS] = { "reduce_rows", 1, 2, shape_reduce_rows, NULL },
	[QAT_OP_SUM_SQUARES] = { "sum_squares", 1, 1, shape_sum_squares, NULL },
	[QAT_OP_DROPOUT] = { "dropout", 0, 0, NULL, NULL },
	[QAT_OP_ADAMW] = { "adamw", 5, 5, shape_adamw, NULL },
	[QAT_OP_ALL_REDUCE] = { "all_reduce", 0, 0, NULL, NULL },
	[QAT_OP_QMATMUL_GRAD] = { "qmatmul_grad", 3, 4, shape_qmatmul_grad, NULL },
	[QAT_OP_ADAMW8] = { "adamw8", 6, 6, shape_adamw8, NULL },
};

const qat_op *qat_op_info(uint32_t op)
{
	static const qat_op unknown = { "unknown op", 0, 0, NULL, NULL };

	return op > 0 && op < QAT_OP_COUNT ? &ops[op] : &unknown;
}
