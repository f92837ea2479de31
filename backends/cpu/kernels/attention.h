/* attention.h - what both forms of attention share. Per ISA. */
#ifndef QAT_CPU_ATTENTION_H
#define QAT_CPU_ATTENTION_H

#include "kernels.h"
#include "simd.h"

/* Halves of a table, where all of q, k, v (and dout, dq, dk, dv) are bf16; NULL where the ISA
 * has no products of pairs. */
extern const qat_attention_kernels QAT_NAME(qat_attention_bf16);
extern const qat_attention_kernels QAT_NAME(qat_attention_bf16_grad);

/* Hands out a thread's workspace, in floats; with base NULL it only counts. */
static inline float *take(float *base, int64_t *used, int64_t n)
{
	float *p = base ? base + *used : NULL;

	*used += round_up(n, 16);
	return p;
}

#endif
