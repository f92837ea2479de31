/* elementwise.c - one element after the other. An output may share memory with an input
 * of the same index: each is read before it is written.
 */
#include "reference.h"

int ref_add(ref_call *c)
{
	for (int64_t i = 0; i < c->out[0].n; i++)
		ref_put(&c->out[0], i, ref_get(&c->in[0], i) + ref_get(&c->in[1], i));
	return QAT_OK;
}

int ref_mul(ref_call *c)
{
	for (int64_t i = 0; i < c->out[0].n; i++)
		ref_put(&c->out[0], i, ref_get(&c->in[0], i) * ref_get(&c->in[1], i));
	return QAT_OK;
}

/* The factor is rounded to f32 first. */
int ref_scale(ref_call *c)
{
	const double factor = (float)c->n->attr.scale.factor;

	for (int64_t i = 0; i < c->out[0].n; i++)
		ref_put(&c->out[0], i, factor * ref_get(&c->in[0], i));
	return QAT_OK;
}

/* From f16 to bf16 by f32, which holds both. */
int ref_cast(ref_call *c)
{
	for (int64_t i = 0; i < c->out[0].n; i++)
		ref_put(&c->out[0], i, ref_get(&c->in[0], i));
	return QAT_OK;
}

/* ---- activations ---- */

static const double root_2_pi = 0.79788456080286535588;	/* sqrt(2 / pi) */
static const double root_half = 0.70710678118654752440;
static const double cubic = 0.044715;

static double sigmoid(double x)
{
	return 1.0 / (1.0 + exp(-x));
}

double ref_act(int64_t kind, double x)
{
	switch (kind) {
	case QAT_ACT_GELU_TANH:
		return 0.5 * x * (1.0 + tanh(root_2_pi * (x + cubic * x * x * x)));
	case QAT_ACT_GELU_ERF:
		return 0.5 * x * erfc(-x * root_half);
	case QAT_ACT_SILU:
		return x * sigmoid(x);
	default:
		return x <= 0.0 ? 0.0 : x;
	}
}

double ref_act_slope(int64_t kind, double x)
{
	double t;

	switch (kind) {
	case QAT_ACT_GELU_TANH:
		t = tanh(root_2_pi * (x + cubic * x * x * x));
		return 0.5 * (1.0 + t) +
		       0.5 * x * (1.0 - t * t) * root_2_pi * (1.0 + 3.0 * cubic * x * x);
	case QAT_ACT_GELU_ERF:
		return 0.5 * erfc(-x * root_half) + x * 0.5 * root_2_pi * exp(-0.5 * x * x);
	case QAT_ACT_SILU:
		t = sigmoid(x);
		return t * (1.0 + x * (1.0 - t));
	default:
		return x <= 0.0 ? 0.0 : x == x ? 1.0 : x;
	}
}

int ref_act_run(ref_call *c)
{
	for (int64_t i = 0; i < c->out[0].n; i++)
		ref_put(&c->out[0], i, ref_act(c->n->attr.act.kind, ref_get(&c->in[0], i)));
	return QAT_OK;
}

int ref_act_grad(ref_call *c)
{
	for (int64_t i = 0; i < c->out[0].n; i++)
		ref_put(&c->out[0], i, ref_get(&c->in[1], i) *
			ref_act_slope(c->n->attr.act.kind, ref_get(&c->in[0], i)));
	return QAT_OK;
}

int ref_glu(ref_call *c)
{
	for (int64_t i = 0; i < c->out[0].n; i++)
		ref_put(&c->out[0], i, ref_get(&c->in[1], i) *
			ref_act(c->n->attr.act.kind, ref_get(&c->in[0], i)));
	return QAT_OK;
}

int ref_glu_grad(ref_call *c)
{
	const int64_t kind = c->n->attr.act.kind;

	for (int64_t i = 0; i < c->out[0].n; i++) {
		const double gate = ref_get(&c->in[0], i), up = ref_get(&c->in[1], i);
		const double dy = ref_get(&c->in[2], i);

		ref_put(&c->out[0], i, dy * up * ref_act_slope(kind, gate));
		ref_put(&c->out[1], i, dy * ref_act(kind, gate));
	}
	return QAT_OK;
}

/* ---- training ---- */

int ref_sum_squares(ref_call *c)
{
	double sum = 0.0;

	for (int64_t i = 0; i < c->in[0].n; i++)
		sum += ref_get(&c->in[0], i) * ref_get(&c->in[0], i);
	ref_put(&c->out[0], 0, sum);
	return QAT_OK;
}

/* In float, each operation one rounding, in the order in which graph.h writes them:
 * 1 - b1 and lr wd are rounded too. */
int ref_adamw(ref_call *c)
{
	const float *h = c->in[4].data, *g = c->in[1].data;
	const float lr = h[0], b1 = h[1], b2 = h[2], epsilon = h[3], decay = h[0] * h[4];
	const float c1 = 1.0f - b1, c2 = 1.0f - b2;

	for (int64_t i = 0; i < c->out[0].n; i++) {
		const float gi = h[7] * g[i], p = ref_float(&c->in[0], i);
		const float m = b1 * ref_float(&c->in[2], i) + c1 * gi;
		const float v = b2 * ref_float(&c->in[3], i) + c2 * (gi * gi);
		const float decayed = p - decay * p;
		const float change = lr * ((m / h[5]) / (sqrtf(v / h[6]) + epsilon));

		((float *)c->out[1].data)[i] = m;
		((float *)c->out[2].data)[i] = v;
		((float *)c->out[0].data)[i] = decayed - change;
	}
	return QAT_OK;
}

/* p of one element; *m and *v become what they are after the step, in float. */
static float step8(float p, float g, float *m, float *v, const float *h)
{
	const float gi = h[7] * g, decay = h[0] * h[4], c1 = 1.0f - h[1], c2 = 1.0f - h[2];

	*m = h[1] * *m + c1 * gi;
	*v = h[2] * *v + c2 * (gi * gi);
	return (p - decay * p) - h[0] * ((*m / h[5]) / (sqrtf(*v / h[6]) + h[3]));
}

static void encode8(ref_call *c, int64_t at, int64_t n, const float *m, const float *v)
{
	float *unit = (float *)c->out[3].data + at / QAT_MOMENT_BLOCK * 2, top[2] = { 0, 0 };
	int bad[2] = { 0, 0 };

	for (int64_t i = 0; i < n; i++) {
		top[0] = fmaxf(top[0], fabsf(m[i]));
		top[1] = fmaxf(top[1], sqrtf(v[i]));
		bad[0] |= !qat_is_finite(m[i]);
		bad[1] |= !qat_is_finite(v[i]);
	}
	unit[0] = qat_moment_unit(top[0], bad[0], QAT_FIRST_TOP);
	unit[1] = qat_moment_unit(top[1], bad[1], QAT_SECOND_TOP);
	for (int64_t i = at; i < at + n; i++) {
		uint32_t word[4];

		qat_philox(word, c->rt->seed, (uint64_t)(i / 4), (uint32_t)c->rt->step,
			   (uint32_t)c->n->attr.update.stream);
		((int8_t *)c->out[1].data)[i] =
			(int8_t)qat_first_code(m[i - at], unit[0], word[i % 4]);
		((uint8_t *)c->out[2].data)[i] =
			(uint8_t)qat_second_code(v[i - at], unit[1], word[i % 4]);
	}
}

/* Block after block: all of one is decoded before any of it is rounded. */
int ref_adamw8(ref_call *c)
{
	const float *g = c->in[1].data, *hyper = c->in[5].data;
	const int8_t *first = c->in[2].data;
	const uint8_t *second = c->in[3].data;

	for (int64_t at = 0; at < c->in[0].n; at += QAT_MOMENT_BLOCK) {
		const int64_t left = c->in[0].n - at;
		const int64_t n = left < QAT_MOMENT_BLOCK ? left : QAT_MOMENT_BLOCK;
		const float *unit = (const float *)c->in[4].data + at / QAT_MOMENT_BLOCK * 2;
		float m[QAT_MOMENT_BLOCK], v[QAT_MOMENT_BLOCK];

		for (int64_t i = 0; i < n; i++) {
			m[i] = qat_first_moment(first[at + i], unit[0]);
			v[i] = qat_second_moment(second[at + i], unit[1]);
			((float *)c->out[0].data)[at + i] = step8(ref_float(&c->in[0], at + i),
								  g[at + i], &m[i], &v[i], hyper);
		}
		encode8(c, at, n, m, v);
	}
	return QAT_OK;
}
