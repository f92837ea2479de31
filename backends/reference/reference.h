/* reference.h - the reference backend from inside: a node with its memory, and the
 * functions that run one. No kernel keeps anything between calls.
 *
 * Numbers are loaded as double whatever their type, computed in double and rounded once
 * to f32, then once more to bf16 where the value is bf16. Where the numeric contract says
 * EXACT that is its result: a product, sum, quotient or root of two f32 numbers in double
 * rounds to f32 as the operation in f32 does. What takes several roundings is written
 * in float, with numerics.h.
 */
#ifndef QAT_REFERENCE_H
#define QAT_REFERENCE_H

#include <stdlib.h>

#include <qatrun/backend.h>
#include <qatrun/numerics.h>

/* A value in memory; data NULL: absent. A vector has one column. */
typedef struct ref_view {
	void *data;
	uint32_t dtype;
	int64_t rows, cols, n;		/* n = rows * cols */
} ref_view;

typedef struct ref_call {
	const qat_graph *g;
	const qat_node *n;
	qat_runtime *rt;
	ref_view in[QAT_MAX_IN], out[QAT_MAX_OUT];
} ref_call;

/* QAT_OK, or a negative error with a message. */
typedef int ref_run(ref_call *c);

/* One row of the table. Types, a letter for each input or output: op_types.h has them, and
 * '-' is an absent one. What comes past the letters must be absent. */
typedef struct ref_op {
	const char *in, *out;
	ref_run *run;
} ref_op;

static inline double ref_get(const ref_view *v, int64_t i)
{
	switch (v->dtype) {
	case QAT_F32:  return ((const float *)v->data)[i];
	case QAT_BF16: return qat_bf16_to_f32(((const uint16_t *)v->data)[i]);
	case QAT_F16:  return qat_f16_to_f32(((const uint16_t *)v->data)[i]);
	case QAT_F64:  return ((const double *)v->data)[i];
	case QAT_I8:   return ((const int8_t *)v->data)[i];
	case QAT_U8:   return ((const uint8_t *)v->data)[i];
	default:       return ((const int32_t *)v->data)[i];
	}
}

static inline void ref_put(const ref_view *v, int64_t i, double x)
{
	switch (v->dtype) {
	case QAT_F32:  ((float *)v->data)[i] = (float)x; break;
	case QAT_BF16: ((uint16_t *)v->data)[i] = qat_f32_to_bf16((float)x); break;
	case QAT_F16:  ((uint16_t *)v->data)[i] = qat_f32_to_f16((float)x); break;
	case QAT_F64:  ((double *)v->data)[i] = x; break;
	case QAT_I8:   ((int8_t *)v->data)[i] = (int8_t)x; break;
	case QAT_U8:   ((uint8_t *)v->data)[i] = (uint8_t)x; break;
	default:       ((int32_t *)v->data)[i] = (int32_t)x; break;
	}
}

static inline float ref_float(const ref_view *v, int64_t i)
{
	return (float)ref_get(v, i);
}

/* v[i], 0 where v is absent: addends, biases, zero points. */
static inline double ref_or_zero(const ref_view *v, int64_t i)
{
	return v->data ? ref_get(v, i) : 0.0;
}

static inline int32_t ref_id(const ref_view *v, int64_t i)
{
	return ((const int32_t *)v->data)[i];
}

/* Room for count doubles, 0 at first; NULL with a message. */
static inline double *ref_doubles(const ref_call *c, int64_t count)
{
	double *p = calloc((size_t)(count > 0 ? count : 1), sizeof *p);

	if (!p)
		qat_fail(QAT_ENOMEM, "%s: out of memory", c->n->name);
	return p;
}

/* f(x) and f'(x), f being QAT_ACT_*. */
double ref_act(int64_t kind, double x);
double ref_act_slope(int64_t kind, double x);

/* elementwise.c */
ref_run ref_add, ref_mul, ref_scale, ref_act_run, ref_act_grad, ref_glu, ref_glu_grad;
ref_run ref_cast, ref_sum_squares, ref_adamw, ref_adamw8;
/* quantized.c */
ref_run ref_quantize, ref_dequantize, ref_mask, ref_observe, ref_qmatmul;
/* Why the schemes of a node are beyond this backend, NULL if they are not. */
const char *ref_schemes_refused(const qat_graph *g, const qat_node *n);
/* gradient.c */
ref_run ref_qmatmul_grad;
/* rows.c */
ref_run ref_embedding, ref_embedding_grad, ref_rope, ref_split, ref_concat, ref_reduce_rows;
ref_run ref_layer_norm, ref_layer_norm_grad, ref_rms_norm, ref_rms_norm_grad;
/* products.c */
ref_run ref_matmul, ref_cross_entropy, ref_cross_entropy_grad;
ref_run ref_linear_cross_entropy, ref_linear_cross_entropy_grad;
/* attention.c */
ref_run ref_attention, ref_attention_grad;

#endif
