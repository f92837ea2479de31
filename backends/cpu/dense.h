/* dense.h - products of the CPU that are served by oneDNN or by our own kernels, each
 * shape by what is best and STABLE there; and what is built on them.
 *
 * A qat_dense belongs to one thread at a time; its functions use all OpenMP threads.
 */
#ifndef QAT_CPU_DENSE_H
#define QAT_CPU_DENSE_H

#include "kernels/kernels.h"

typedef struct qat_dense qat_dense;

int qat_dense_new(qat_dense **out, const qat_kernels *kernels);
void qat_dense_free(qat_dense *d);
const qat_kernels *qat_dense_kernels(const qat_dense *d);

enum { QAT_DENSE_OWN = 0, QAT_DENSE_ONEDNN = 1, QAT_DENSE_BF16 = 2 };

/* Which one serves this product. QATRUN_CPU_DENSE=own or onednn overrides. */
int qat_dense_choice(const qat_dense *d, const qat_gemm_args *g);

/* Who serves float products here, and what version of it: words for the user. */
void qat_dense_describe(const qat_dense *d, char *out, size_t room);

/* Whether products may have operands that are rounded or decoded on the way
 * (qat_gemm_args.bf16). */
int qat_dense_makes_bf16(const qat_dense *d);

/* y = op(a) op(b) + bias + addend, see qat_gemm_args. Memory that it needs stays with d. */
int qat_dense_matmul(qat_dense *d, const qat_gemm_args *g);

/* ---- ceiling.c: what the machine does at most, with all OpenMP threads ---- */

/* Operations a second, the best of `runs` short runs; 0 where there is no instruction. */
double qat_ceiling_rate(const qat_ceiling *c, int runs);
/* Bytes read and written a second by copies that no cache holds; 0: out of memory. */
double qat_ceiling_bytes(int runs);

/* ---- quantized product ---- */

/* QAT_ENOTSUP where no way exists (group sizes that do not nest), with a message. The
 * schemes must outlive the plan. x NULL: floats, of type x_dtype. */
int qat_qmm_plan(const qat_dense *d, qat_qmm *out, int64_t n, int64_t k, const qat_scheme *x,
		 uint32_t x_dtype, const qat_scheme *w);
/* packed: out->weight_bytes, aligned to 64; codes [n, k], scale and zero as the scheme. */
void qat_qmm_pack(const qat_dense *d, const qat_qmm *p, void *packed, const void *codes,
		  const float *scale, const void *zero);
/* Codes I8 [k, n] whose scale is 1. */
void qat_qmm_pack_along(const qat_dense *d, const qat_qmm *p, void *packed, const void *codes);
/* Whether codes may lie at the beginning of what they are packed into. */
int qat_qmm_packs_in_place(const qat_qmm *p);
/* Whether what was packed says what the codes were: not if they were decoded, or if their
 * zero points were subtracted. */
int qat_qmm_unpacks(const qat_qmm *p);
void qat_qmm_unpack(const qat_dense *d, const qat_qmm *p, void *codes, const void *packed);
int64_t qat_qmm_workspace(const qat_dense *d, const qat_qmm *p, int64_t m);
int qat_qmm_run(qat_dense *d, const qat_qmm *p, const qat_qmm_args *a);

/* ---- linear cross entropy: logits x w^T, a chunk of rows at a time ---- */

typedef struct qat_linear_ce_args {
	int64_t n, channels, vocabulary;
	qat_src x, w;			/* [n, channels], [vocabulary, channels] */
	const int32_t *labels;		/* [n], below 0: not scored */
	float *nll, *lse;		/* [n]; the gradient reads lse */
	int32_t *argmax;		/* [n]; forward only, may be NULL */
	const float *g;			/* [n] */
	qat_dst dx;			/* [n, channels] */
	float *dw;			/* [vocabulary, channels] */
	const float *dw_addend;		/* NULL: 0; may be dw itself */
	uint32_t dlogits;		/* type of the operand of the gradient's products */
	int32_t bf16;			/* 1: x and w are taken as such, see qat_gemm_args */
	void *workspace;
} qat_linear_ce_args;

/* dlogits: of the gradient, 0 where there is none. */
int64_t qat_linear_ce_workspace(const qat_dense *d, int64_t n, int64_t vocabulary,
				uint32_t dlogits);
int qat_linear_ce_forward(qat_dense *d, const qat_linear_ce_args *a);
int qat_linear_ce_grad(qat_dense *d, const qat_linear_ce_args *a);
/* Both in one sweep, for a g that is known beforehand: the logits are computed once. */
int qat_linear_ce_fused(qat_dense *d, const qat_linear_ce_args *a);

#endif
