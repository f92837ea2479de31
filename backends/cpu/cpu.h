/* cpu.h - backend cpu from inside: the device, and how a node becomes a step.
 *
 * Each op has a row in one table (ops.c): the types that its kernel takes, `prepare`, and
 * `run`. prepare fills a step from a node: pointers, shapes, plans. It is called twice:
 * when the node is claimed, without memory, for the size of the workspace; and when the
 * graph is compiled. run then finds all that it needs in the step.
 */
#ifndef QAT_CPU_H
#define QAT_CPU_H

#include <qatrun/backend.h>

#include "dense.h"

typedef struct qat_cpu_options {
	int64_t huge_pages;
} qat_cpu_options;

/* An opened device. */
typedef struct qat_cpu {
	const qat_kernels *kernels;
	qat_dense *dense;
	int32_t threads;
	int huge_pages;
} qat_cpu;

/* Kernels, as claims name them. A value that a claim of the second or third kind made
 * private is codes of a weight: plain and then packed, or packed alone. */
enum {
	QAT_CPU_SINGLE = 1,		/* one node */
	QAT_CPU_CODES_AND_PACKED = 2,	/* QUANTIZE that packs for its QMATMUL */
	QAT_CPU_PACKED_ALONE = 3,	/* the same, and who reads codes unpacks them */
	QAT_CPU_LINEAR_CE = 4,		/* LINEAR_CROSS_ENTROPY and its gradient */
	/* QMATMUL of codes that are frozen parameters, which are private: packed when the graph
	 * is compiled; the same behind the codes as they are; or loaded and packed for each run. */
	QAT_CPU_STORED = 5,
	QAT_CPU_STORED_PLAIN = 6,
	QAT_CPU_STREAMED = 7,
	QAT_CPU_NOTHING = 8,		/* CAST of a trained parameter: products round it themselves */
	QAT_CPU_GEMMS = 9,		/* DEQUANTIZE and the MATMULs that decode for it */
	QAT_CPU_GRADIENTS = 10,		/* both QMATMUL_GRADs of a product */
	QAT_CPU_ROWS_TO_CODES = 11	/* rows of floats and the QUANTIZE that alone reads them */
};

/* cpu.c: threads of this device, from here on. Workspaces depend on their number, and
 * another device, or another thread of the program, may have set another. */
void qat_cpu_use_threads(const qat_cpu *cpu);

/* ---- memory.c ---- */

int qat_cpu_alloc(void *device, qat_memory **out, int64_t bytes, uint32_t use);
int qat_cpu_import(void *device, qat_memory **out, const void *data, int64_t bytes);
void qat_cpu_free(void *device, qat_memory *m);
int qat_cpu_write(void *device, qat_memory *m, int64_t offset, const void *data, int64_t bytes);
int qat_cpu_read(void *device, void *data, qat_memory *m, int64_t offset, int64_t bytes);
void *qat_cpu_map(void *device, qat_memory *m);
/* Address of [offset, offset + bytes); NULL where m has no such bytes. */
void *qat_cpu_at(const qat_memory *m, int64_t offset, int64_t bytes);

/* ---- a node and its place ---- */

/* What prepare looks at. Memory is absent (NULL) while claims are made. */
typedef struct qat_cpu_site {
	const qat_cpu *cpu;
	const qat_graph *g;
	const qat_node *n;
	const qat_binding *bindings;	/* [values], or NULL */
	char *workspace;		/* NULL while claims are made */
	const uint8_t *keep;		/* [values]; of claims only */
	const uint8_t *layout;		/* [values]: kernel that made it private, else 0 */
	const qat_program *program;	/* NULL while claims are made */
	int stream;			/* while claims are made: what the core wants */
} qat_cpu_site;

enum { QAT_CPU_GEMMS_MAX = 4 };

/* Value of input or output i; NULL where absent. */
const qat_value *qat_cpu_in(const qat_cpu_site *c, int64_t i);
const qat_value *qat_cpu_out(const qat_cpu_site *c, int64_t i);
/* Their memory, NULL where absent. qat_cpu_src: of a cast that is nothing, the parameter. */
void *qat_cpu_in_data(const qat_cpu_site *c, int64_t i);
void *qat_cpu_out_data(const qat_cpu_site *c, int64_t i);
qat_src qat_cpu_src(const qat_cpu_site *c, int64_t i);
qat_dst qat_cpu_dst(const qat_cpu_site *c, int64_t i);

/* The next `bytes` of the step's workspace, aligned; counts them in *used. NULL while
 * claims are made. */
void *qat_cpu_work(const qat_cpu_site *c, int64_t *used, int64_t bytes);

/* ---- steps ---- */

typedef struct qat_cpu_flat {		/* element by element */
	qat_dst y[2];
	qat_src x[3];
	int64_t n, kind;
	float factor;
	double *sum;
} qat_cpu_flat;

typedef struct qat_cpu_update {
	float *p, *m, *v;
	const float *g, *hyper;
	int64_t n;
} qat_cpu_update;

typedef struct qat_cpu_quantize {
	qat_quantize_args a;
	qat_qmm plan;
	void *packed;			/* NULL: codes alone */
} qat_cpu_quantize;

enum { QAT_CPU_PACKED = 0, QAT_CPU_PACK_ALWAYS = 1, QAT_CPU_PACK_STREAM = 2 };

/* Codes, scale and zero of a product, in this order. */
enum { QAT_CPU_PARTS = 3 };

/* Codes that a step makes of packed ones before it begins. */
typedef struct qat_cpu_unpack {
	qat_qmm plan;
	const void *packed;		/* NULL: there is nothing to do */
	void *codes;			/* in the workspace */
} qat_cpu_unpack;

typedef struct qat_cpu_decode {
	qat_dequantize_args a;
	qat_cpu_unpack unpack;
} qat_cpu_decode;

typedef struct qat_cpu_gemms {
	qat_cpu_decode codes;		/* an operand of all */
	qat_gemm_args gemm[QAT_CPU_GEMMS_MAX];
	int64_t n;
} qat_cpu_gemms;

typedef struct qat_cpu_qmm {
	qat_qmm plan;
	qat_qmm_args a;
	int32_t pack;			/* QAT_CPU_PACKED ... */
	const void *part[QAT_CPU_PARTS];	/* to pack from, NULL where absent */
	void *room;			/* PACK_ALWAYS, PACK_STREAM: in the workspace */
	int64_t value[QAT_CPU_PARTS];	/* PACK_STREAM: loaded into part */
	const qat_program *program;
} qat_cpu_qmm;

typedef struct qat_cpu_gradient {
	qat_grad_args a;
	qat_scheme left;		/* of the plan */
	qat_qmm plan;
	qat_qmm_args product;
	const void *codes;		/* of the other side */
	qat_cpu_unpack unpack;
	void *packed;
	void *room;			/* side 1: for making the codes */
	int32_t side;
} qat_cpu_gradient;

typedef struct qat_cpu_gradients {
	qat_cpu_gradient rows, columns;
} qat_cpu_gradients;

typedef struct qat_cpu_mask {
	qat_dst y;
	qat_src g;
	const uint8_t *mask;
	int64_t rows, cols;
} qat_cpu_mask;

typedef struct qat_cpu_observe {
	const qat_scheme *scheme;
	int64_t rows, cols;
	qat_src x;
	const float *before;		/* [S * G, 2] */
	float *after;
	const double *counts_before;	/* [S * G, QAT_COUNTS] or NULL */
	double *counts;
} qat_cpu_observe;

typedef struct qat_cpu_convert {	/* a matrix that is copied */
	qat_dst y;
	qat_src x;
	int64_t n;
} qat_cpu_convert;

typedef struct qat_cpu_attention {
	qat_attention_args a;
	qat_cpu_convert append[2];	/* k and v to row 0 of a cache; y.data NULL: none */
} qat_cpu_attention;

typedef struct qat_cpu_rows {
	qat_dst y;
	qat_src x;
	const int32_t *ids;
	const float *addend, *cosine, *sine;
	int64_t n, channels, table, length, heads, head_dim;
	int32_t inverse;
	void *workspace;
} qat_cpu_rows;

typedef struct qat_cpu_loss {
	qat_dst d;
	const float *logits, *lse_in, *g;
	float *nll, *lse;
	int32_t *argmax;
	const int32_t *labels;
	int64_t n, vocabulary;
} qat_cpu_loss;

typedef struct qat_cpu_columns {	/* SPLIT, CONCAT */
	int64_t rows, count, whole;
	int64_t width[4];
	qat_dst y[4];
	qat_src x[4];
} qat_cpu_columns;

typedef struct qat_cpu_rows_to_codes qat_cpu_rows_to_codes;

/* Rows first.. of what the step makes, `count` of them, to y [count, to.cols]. */
typedef void qat_cpu_make_fn(const qat_cpu *cpu, const qat_cpu_rows_to_codes *s, float *y,
			     int64_t first, int64_t count);

struct qat_cpu_rows_to_codes {
	qat_cpu_make_fn *maker;
	union {
		qat_cpu_flat flat;
		qat_norm_args norm;
	} from;				/* all rows, y absent */
	qat_quantize_args to;		/* all rows, x absent */
	int64_t step;			/* rows at a time */
	float *room;			/* [threads, step, to.cols] */
};

typedef struct qat_cpu_step qat_cpu_step;

/* QAT_OK, or a negative error with a message. */
typedef int qat_cpu_run_fn(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt);

struct qat_cpu_step {
	qat_cpu_run_fn *run;
	int64_t node;			/* whom a value that is not finite is laid to */
	int64_t workspace;		/* bytes */
	union {
		qat_cpu_flat flat;
		qat_cpu_update update;
		qat_update8_args update8;
		qat_cpu_quantize quantize;
		qat_cpu_decode dequantize;
		qat_cpu_qmm qmm;
		qat_cpu_gradient gradient;
		qat_cpu_gradients gradients;
		qat_cpu_mask mask;
		qat_cpu_observe observe;
		qat_gemm_args gemm;
		qat_cpu_gemms gemms;
		qat_linear_ce_args linear_ce;
		qat_cpu_attention attention;
		qat_norm_args norm;
		qat_cpu_rows rows;
		qat_cpu_loss loss;
		qat_cpu_columns columns;
		qat_cpu_rows_to_codes rows_to_codes;
	} u;
};

typedef int qat_cpu_prepare_fn(const qat_cpu_site *c, qat_cpu_step *s);

/* One row of the table. Types, a letter for each input or output: op_types.h has them, and
 * '-' is an absent one. What comes past the letters must be absent. */
typedef struct qat_cpu_op {
	const char *in, *out;
	qat_cpu_prepare_fn *prepare;
	qat_cpu_run_fn *run;
	/* Further conditions; QAT_SUPPORT_*. NULL: none. */
	int (*check)(const qat_cpu_site *c, char *why, int64_t room);
} qat_cpu_op;

/* NULL for an op that has no kernel. */
const qat_cpu_op *qat_cpu_op_find(uint32_t op);

/* Packs the weight of a step that is STORED; done: [values], what was packed already. */
int qat_cpu_pack_stored(qat_cpu *cpu, const qat_cpu_site *c, qat_cpu_step *s, uint8_t *done);

/* step_dense.c */
extern const qat_cpu_op qat_cpu_matmul, qat_cpu_linear_ce, qat_cpu_linear_ce_grad;
extern const qat_cpu_op qat_cpu_attention_op, qat_cpu_attention_grad;
/* c->n: the DEQUANTIZE, nodes[1] .. its products. */
int qat_cpu_gemms_fuse(const qat_cpu_site *c, const qat_claim *claim, qat_cpu_step *s);
/* c->n: the forward node. */
int qat_cpu_linear_ce_fuse(const qat_cpu_site *c, const qat_node *gradient, qat_cpu_step *s);
/* step_quantized.c */
/* Input i of c->n, codes as they are: in their place, or where *u will put them. */
const void *qat_cpu_plain_codes(const qat_cpu_site *c, qat_cpu_step *s, int64_t i,
				qat_cpu_unpack *u);
void qat_cpu_unpack_codes(const qat_cpu *cpu, const qat_cpu_unpack *u);
void qat_cpu_fill_decode(const qat_cpu_site *c, qat_cpu_step *s, qat_cpu_decode *d);
extern const qat_cpu_op qat_cpu_quantize_op, qat_cpu_dequantize, qat_cpu_qmatmul;
extern const qat_cpu_op qat_cpu_mask_op, qat_cpu_observe_op;
/* step_rows_to_codes.c */
/* Whether n is one that can make its rows some at a time. */
int qat_cpu_makes_rows(const qat_node *n);
/* c->n: who makes the rows. */
int qat_cpu_rows_to_codes_fuse(const qat_cpu_site *c, const qat_node *quantize,
			       qat_cpu_step *s);
/* step_gradient.c */
extern const qat_cpu_op qat_cpu_qmatmul_grad;
/* c->n: one side's node. */
int qat_cpu_gradients_fuse(const qat_cpu_site *c, const qat_node *other, qat_cpu_step *s);
/* step_elementwise.c */
extern const qat_cpu_op qat_cpu_add, qat_cpu_mul, qat_cpu_scale, qat_cpu_act;
extern const qat_cpu_op qat_cpu_act_grad, qat_cpu_glu, qat_cpu_glu_grad, qat_cpu_cast;
extern const qat_cpu_op qat_cpu_sum_squares, qat_cpu_adamw, qat_cpu_adamw8;
/* step_rows.c */
extern const qat_cpu_op qat_cpu_layer_norm, qat_cpu_layer_norm_grad;
extern const qat_cpu_op qat_cpu_rms_norm, qat_cpu_rms_norm_grad, qat_cpu_rope;
extern const qat_cpu_op qat_cpu_embedding, qat_cpu_embedding_grad;
extern const qat_cpu_op qat_cpu_cross_entropy, qat_cpu_cross_entropy_grad;
extern const qat_cpu_op qat_cpu_split, qat_cpu_concat, qat_cpu_reduce_rows;

/* ---- claim.c ---- */

int qat_cpu_supports(void *device, const qat_graph *g, const qat_node *n, char *why,
		     int64_t room);
int qat_cpu_claim(void *device, const qat_graph *g, int64_t first, const uint8_t *keep,
		  const uint8_t *taken, qat_claim *out);
/* How node n, a QUANTIZE, keeps its codes: QAT_CPU_SINGLE, or a kernel with a private
 * value; then *plan is that of the product which reads it. */
uint32_t qat_cpu_codes_layout(const qat_cpu *cpu, const qat_graph *g, const qat_node *n,
			      const uint8_t *keep, qat_qmm *plan);

/* Which kernel c->n, a QMATMUL, is by how its weight is stored; SINGLE: as any other. */
uint32_t qat_cpu_stored_layout(const qat_cpu_site *c);

/* ---- claim_operands.c ---- */

int qat_cpu_swallows_cast(const qat_cpu *cpu, const qat_graph *g, const qat_node *n,
			  const uint8_t *keep);
/* 1: *out, which held n alone, is n and the products that read it. */
int qat_cpu_claim_decoded(const qat_cpu *cpu, const qat_graph *g, const qat_node *n,
			  const uint8_t *keep, const uint8_t *taken, qat_claim *out);

/* The node after n, if both make codes of one gradient and may run together; else NULL. */
const qat_node *qat_cpu_other_side(const qat_graph *g, const qat_node *n, const uint8_t *taken);

/* The QUANTIZE of the rows that n makes, if nobody else reads them and it takes them row by
 * row; else NULL. */
const qat_node *qat_cpu_codes_of_rows(const qat_cpu *cpu, const qat_graph *g, const qat_node *n,
				      const uint8_t *keep, const uint8_t *taken);

/* ---- exe.c ---- */

int qat_cpu_compile(void *device, const qat_program *p, void **exe);
int qat_cpu_run(void *device, void *exe, qat_runtime *rt);
int qat_cpu_run_range(void *device, void *exe, qat_runtime *rt, int64_t first, int64_t count);
int qat_cpu_run_one(void *device, void *exe, qat_runtime *rt, int64_t claim);
void qat_cpu_release(void *device, void *exe);
int qat_cpu_sync(void *device);

static inline int64_t qat_cpu_round64(int64_t bytes)
{
	return (bytes + 63) / 64 * 64;
}

#endif
