/* kernels.h - the loops of backend cpu, compiled once per instruction set.
 *
 * Each file here marked "per ISA" is compiled several times, with -DQAT_ISA=baseline,
 * avx2, avx512 or amx and the flags of that ISA, and exports one table of functions;
 * table.c gathers them into a qat_kernels, select.c picks one at run time.
 *
 * All functions split their work by shape, never by the number of threads, and combine
 * partial sums in a fixed order: the same bits for any number of threads (STABLE). Rows
 * do not see each other: a row's bits do not depend on how many rows there are.
 * Matrices are row-major. Pointers to f32 and bf16 need the alignment of their element
 * only; workspaces need 64 bytes.
 */
#ifndef QAT_CPU_KERNELS_H
#define QAT_CPU_KERNELS_H

#include <qatrun/backend.h>
#include <qatrun/graph.h>

/* A float array to read or write: F32 or BF16 (rne on the way out). */
typedef struct qat_src { const void *data; uint32_t dtype; } qat_src;
typedef struct qat_dst { void *data; uint32_t dtype; } qat_dst;

static inline qat_src qat_src_of(const void *data, uint32_t dtype)
{
	return (qat_src){ data, dtype };
}

static inline qat_dst qat_dst_of(void *data, uint32_t dtype)
{
	return (qat_dst){ data, dtype };
}

/* ---- dense product: y [m, n] = op(a) op(b) (+ bias [n]) (+ addend [m, n]) ----
 * Sums over k in f32. The own kernel adds in ascending k, bias or addend last. */
typedef struct qat_gemm_args {
	int64_t m, n, k;
	qat_src a, b;			/* a [m, k], trans_a: stored [k, m] */
	int64_t lda, ldb;		/* b [k, n], trans_b: stored [n, k]; elements per row */
	int32_t trans_a, trans_b;
	const float *bias;		/* [n] or NULL */
	const float *addend;		/* [m, n], rows of ld_addend, or NULL; may be y itself */
	int64_t ld_addend;
	qat_dst y;
	int64_t ldy;
	/* Of products of bf16 alone: operands that do not exist as such. Not NULL: codes, to
	 * be decoded; of type F32: to be rounded. */
	const struct qat_dequantize_args *codes_a, *codes_b;
	int32_t bf16;			/* 1: f32 operands are rounded; else f32 products */
	/* Of codes_b [n, k], turned, with scales of 1, where the kernels say so: what sums over
	 * scale_group of k are multiplied with, [k / scale_group][ld_scale],
	 * and 64 more that are not used. NULL: none. */
	const float *scale_b;
	int64_t scale_group, ld_scale;
} qat_gemm_args;

typedef struct qat_gemm_kernels {
	int64_t (*workspace)(const qat_gemm_args *g);
	void (*run)(const qat_gemm_args *g, void *workspace);
	int32_t scales;			/* what scale_group is a multiple of; 0: no scale_b */
} qat_gemm_kernels;

/* ---- quantize, dequantize: the four generic kernels read the scheme ---- */

typedef struct qat_quantize_args {
	const qat_scheme *scheme;
	int64_t rows, cols;
	qat_src x;			/* [rows, cols] */
	const float *given_scale;	/* [S, G]: static range; NULL: from x. Two levels: the
					 * second's, and scales of blocks are made */
	const void *given_zero;		/* I8 or F32 [S, G], or NULL for zero */
	void *codes;			/* [rows, cols], one byte each */
	float *scale;			/* [S, G]; not written where a scale is given */
	void *zero;			/* I8 or F32 [S, G], as scheme->zero says; else NULL */
	uint8_t *mask;			/* [rows, ceil(cols / 8)] or NULL */
	float *room;			/* [rows, cols], where the range of a block is not all
					 * of it (qat_measures_blocks) and no scale is given */
} qat_quantize_args;

typedef struct qat_dequantize_args {
	const qat_scheme *scheme;
	int64_t rows, cols;
	const void *codes;
	const float *scale;
	const void *zero;		/* NULL: 0 */
	qat_dst y;			/* [rows, cols] */
} qat_dequantize_args;

typedef struct qat_quantize_kernels {
	/* EXACT. 1 when x holds a NaN or an infinity (codes cannot carry it where the
	 * scale was given), else 0. */
	int (*quantize)(const qat_quantize_args *q);
	/* EXACT. */
	void (*dequantize)(const qat_dequantize_args *d);
	/* y = g where the mask's bit is 1, else 0. */
	void (*mask)(qat_dst y, qat_src g, const uint8_t *mask, int64_t rows, int64_t cols);
	/* F32, BF16 or F16 to any of them, n elements. */
	void (*cast)(qat_dst y, qat_src x, int64_t n);
} qat_quantize_kernels;

/* Whether the kernels can do the scheme: nearest rounding, block sizes that divide, two
 * levels of scales only over blocks of one row. Compiled once. */
int qat_quantize_supports(const qat_scheme *s, int64_t rows, int64_t cols);

/* ---- quantized product: y [m, n] = sum over k of X[m, k] * W[n, k] (+ bias [n]) ----
 * A plan depends on shapes and schemes alone; weights are packed once per version. */

enum {
	QAT_QMM_INT   = 1,	/* integer sums per group, EXACT */
	QAT_QMM_INT64 = 2,	/* the same where int32 could overflow, plain C, EXACT */
	QAT_QMM_FLOAT = 3,	/* weights dequantized, f32 product, CLOSE */
	QAT_QMM_BF16  = 4	/* x is bf16, codes of weights are, too; scales outside of the sums
				 * of bf16; CLOSE */
};

typedef struct qat_qmm {
	const qat_scheme *xs, *ws;	/* xs NULL: x is a float matrix */
	int64_t n, k;
	int64_t group, groups;		/* columns per integer sum; k / group */
	int64_t group4;			/* group rounded up to what the kernel reads at once */
	int32_t kind;			/* QAT_QMM_* */
	int32_t x_shift, w_shift;	/* integers are 2^shift * value */
	int32_t x_zero, w_zero;		/* 1: has a zero point that is not folded in packing */
	int32_t x_direct;		/* 1: codes of x serve as they are */
	int64_t weight_bytes;		/* of packed weights, a multiple of 64 */
	int64_t off_scale, off_zero, off_sum;	/* inside packed weights */
} qat_qmm;

typedef struct qat_qmm_args {
	int64_t m;
	const void *x;			/* codes [m, k]; float matrix where xs is NULL */
	uint32_t x_dtype;		/* of a float matrix */
	const float *x_scale;		/* [S, G] of xs */
	const void *x_zero;		/* I8 [S, G] or NULL */
	const void *weight;		/* packed */
	const float *bias;		/* [n] or NULL: one more rounded addition */
	qat_dst y;			/* [m, n] */
	int64_t ldy;
	void *workspace;
	int32_t adds;			/* 1: the sum over groups begins with the addend, or with +0 */
	const float *addend;		/* [m, n], rows of ldy, or NULL; may be y itself */
	int32_t stream;			/* 1: y is not read soon, and may go past the caches */
} qat_qmm_args;

typedef struct qat_qmm_kernels {
	int32_t lanes;			/* columns of a packed panel */
	int32_t step;			/* k that the kernel reads at once: 4, 2 */
	int32_t element;		/* bytes of a packed weight: 1, 2 */
	void (*pack)(const qat_qmm *p, void *packed, const void *codes, const float *scale,
		     const void *zero);
	int64_t (*workspace)(const qat_qmm *p, int64_t m);
	void (*run)(const qat_qmm *p, const qat_qmm_args *a);
	/* The same from codes I8 [k, n] without zero points; their scale is 1. */
	void (*pack_along)(const qat_qmm *p, void *packed, const void *codes);
	/* The codes [n, k] that pack was given, where qat_qmm_unpacks. */
	void (*unpack)(const qat_qmm *p, void *codes, const void *packed);
} qat_qmm_kernels;

/* ---- gradients as codes, rounded at random: docs/architecture.md ---- */
typedef struct qat_grad_args {
	int64_t batch, length, channels;
	qat_src dy;			/* [batch * length, channels] */
	const float *fold;		/* multiplies dy first: fold[i / fold_rows], i the channel of
					 * rows, the token of columns; fold_rows 0: fold[0] */
	int64_t fold_rows;
	int32_t qmax;
	uint32_t stream;		/* numerics.h qat_philox: key, and the counter's other words */
	uint64_t seed;
	int64_t sequence;
	int8_t *codes;
	float *scale;
} qat_grad_args;

typedef struct qat_grad_kernels {
	/* Bytes of room that codes of columns need. */
	int64_t (*workspace)(const qat_grad_args *columns);
	/* Of one dy with one stream; either may be NULL. Of rows: codes as dy, scale
	 * [batch * length]; of columns: codes [channels, batch * length], scale [channels,
	 * batch]. EXACT. */
	void (*codes)(const qat_grad_args *rows, const qat_grad_args *columns, void *room);
} qat_grad_kernels;

/* ---- attention ----
 * Row b * length + t of q, k, v is token t of sequence b; head h of a row is at
 * h * head_dim. Rows of any stride, so that q, k, v may be parts of one matrix. */
typedef struct qat_attention_args {
	int64_t batch, length, heads, kv_heads, head_dim;
	int64_t causal, window;		/* as attr.attention */
	double scale;
	qat_src q, k, v;
	int64_t ldq, ldk, ldv;		/* elements per row */
	qat_dst out;			/* forward: written; gradient: read */
	int64_t ldo;
	float *lse;			/* [N, heads]; forward: written; gradient: read */
	qat_src dout;			/* rows of ldo */
	qat_dst dq, dk, dv;		/* rows of ldq, ldk, ldv */
	void *workspace;
	/* Forward alone, k and v being a cache: query t stands at position + t and sees no
	 * key behind. */
	int64_t cache_rows;		/* of k and v for each sequence; 0: length, no cache */
	int64_t position;
} qat_attention_args;

typedef struct qat_attention_kernels {
	int64_t (*workspace)(const qat_attention_args *a);
	void (*run)(const qat_attention_args *a);
	int64_t (*grad_workspace)(const qat_attention_args *a);
	void (*grad)(const qat_attention_args *a);
} qat_attention_kernels;

/* ---- element by element; n elements ---- */
typedef struct qat_elementwise_kernels {
	void (*add)(qat_dst y, qat_src a, qat_src b, int64_t n);
	void (*mul)(qat_dst y, qat_src a, qat_src b, int64_t n);
	void (*scale)(qat_dst y, qat_src x, float factor, int64_t n);
	/* kind: QAT_ACT_*. exp, tanh, erf are our own, within 3 ulp. */
	void (*act)(qat_dst y, qat_src x, int64_t kind, int64_t n);
	void (*act_grad)(qat_dst dx, qat_src x, qat_src dy, int64_t kind, int64_t n);
	void (*glu)(qat_dst y, qat_src gate, qat_src up, int64_t kind, int64_t n);
	void (*glu_grad)(qat_dst dgate, qat_dst dup, qat_src gate, qat_src up, qat_src dy,
			 int64_t kind, int64_t n);
	/* hyper as QAT_OP_ADAMW; p, m, v are updated in place. */
	void (*adamw)(float *p, const float *g, float *m, float *v, const float *hyper,
		      int64_t n);
	/* Sum of squares in double, chunks of fixed size. */
	double (*sum_squares)(qat_src x, int64_t n);
} qat_elementwise_kernels;

/* ---- AdamW with moments in 8 bits: QAT_OP_ADAMW8; all but g and hyper change in place ---- */
typedef struct qat_update8_args {
	int64_t n;
	float *p;
	const float *g, *hyper;
	int8_t *first;
	uint8_t *second;
	float *unit;			/* [blocks, 2] */
	uint64_t seed;			/* numerics.h qat_philox: key, and the counter's other words */
	int64_t step;
	uint32_t stream;
} qat_update8_args;

typedef struct qat_moment_kernels {
	void (*adamw8)(const qat_update8_args *a);	/* EXACT */
} qat_moment_kernels;

/* ---- norms; rows of c channels ---- */
typedef struct qat_norm_args {
	int64_t rows, channels;
	double epsilon;
	int32_t plus_one;		/* weight is 1 + w */
	int32_t centered;		/* 1: layer norm, 0: rms norm */
	qat_src x, w, b;		/* b.data NULL: none */
	qat_dst y;
	float *mean, *rstd;		/* [rows]; mean unused for rms norm */
	/* gradient: mean and rstd are read */
	qat_src dy, residual;		/* residual.data NULL: none */
	qat_dst dx;			/* residual is added */
	float *dw, *db;			/* [channels], assigned; db NULL: none */
	void *workspace;
} qat_norm_args;

typedef struct qat_norm_kernels {
	void (*run)(const qat_norm_args *a);
	int64_t (*grad_workspace)(int64_t rows, int64_t channels);
	void (*grad)(const qat_norm_args *a);
} qat_norm_kernels;

/* ---- rows ---- */
typedef struct qat_row_kernels {
	/* y [rows, heads * head_dim]; tables [length, head_dim / 2]; row r is token
	 * r % length. */
	void (*rope)(qat_dst y, qat_src x, const float *cosine, const float *sine, int64_t rows,
		     int64_t length, int64_t heads, int64_t head_dim, int inverse);
	/* y [n, c] = table [v, c] by ids; an id outside 0..v-1 gives a row of NaN. */
	void (*embedding)(qat_dst y, qat_src table, const int32_t *ids, int64_t n, int64_t c,
			  int64_t v);
	/* dtable [v, c] = addend (NULL: 0) + rows of dy, in order of n. */
	int64_t (*embedding_grad_workspace)(int64_t n, int64_t v);
	void (*embedding_grad)(float *dtable, const int32_t *ids, qat_src dy, const float *addend,
			       int64_t n, int64_t c, int64_t v, void *workspace);
	/* Label -100 (any below 0): nll 0. */
	void (*cross_entropy)(float *nll, float *lse, int32_t *argmax, const float *logits,
			      int64_t ld, const int32_t *labels, int64_t n, int64_t v);
	/* d = g (softmax - onehot); a row of d may start where that of logits does. */
	void (*cross_entropy_grad)(qat_dst d, int64_t ldd, const float *logits, int64_t ld,
				   const int32_t *labels, const float *lse, const float *g,
				   int64_t n, int64_t v);
	/* Both of them at once. */
	void (*cross_entropy_fused)(float *nll, float *lse, int32_t *argmax, qat_dst d,
				    int64_t ldd, const float *logits, int64_t ld,
				    const int32_t *labels, const float *g, int64_t n, int64_t v);
	/* Columns first.. first + width - 1 of x [rows, ldx] to y [rows, ldy] at column at. */
	void (*copy_columns)(qat_dst y, int64_t ldy, int64_t at, qat_src x, int64_t ldx,
			     int64_t first, int64_t rows, int64_t width);
	/* y [c] = addend (NULL: 0) + sum over rows. */
	int64_t (*reduce_rows_workspace)(int64_t rows, int64_t c);
	void (*reduce_rows)(float *y, qat_src x, const float *addend, int64_t rows, int64_t c,
			    void *workspace);
} qat_row_kernels;

/* ---- what the processor does at most ---- */
typedef struct qat_ceiling {
	const char *instruction;	/* NULL: there is none for this kind */
	double (*batch)(void);		/* operations that were done, from registers; or NULL */
} qat_ceiling;

typedef struct qat_ceiling_kernels {
	qat_ceiling of[QAT_CEILING_BYTES];	/* by QAT_CEILING_* of products */
} qat_ceiling_kernels;

typedef struct qat_kernels {
	const char *name;		/* "baseline", "avx2", "avx512", "amx" */
	const qat_gemm_kernels *gemm;
	const qat_quantize_kernels *quantize;
	const qat_qmm_kernels *qmm;
	const qat_attention_kernels *attention;
	const qat_elementwise_kernels *elementwise;
	const qat_norm_kernels *norm;
	const qat_row_kernels *row;
	const qat_gemm_kernels *gemm_bf16;	/* of bf16 operands; run NULL: none */
	const qat_grad_kernels *grad;
	const qat_moment_kernels *moment;
	const qat_ceiling_kernels *ceiling;
} qat_kernels;

/* The best that this machine runs, or what QATRUN_CPU_ISA names if it runs here; NULL
 * where it names one that does not. */
const qat_kernels *qat_kernels_select(void);

/* By name; NULL where it is not built in or does not run on this machine. */
const qat_kernels *qat_kernels_find(const char *name);

/* Whether the processor has tiles (AMX), and the system lets this process use them. */
int qat_has_tiles(void);

/* Names of what is built in, best last; NULL ends. */
extern const char *const qat_kernels_names[];

#endif
