/* graph.h - the graph as data: values, nodes, operations.
 *
 * A graph is static and SSA: for one (batch, length), every value is written by one
 * node, nothing is in place; aliasing is the planner's choice. Nodes are stored in an
 * order in which they can run. Backward nodes are ordinary nodes.
 * Matrices are row-major; an activation is [N, channels] with N = batch * length rows,
 * row b * length + t being token t of sequence b.
 */
#ifndef QATRUN_GRAPH_H
#define QATRUN_GRAPH_H

#include <qatrun/scheme.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { QAT_MAX_IN = 10, QAT_MAX_OUT = 4 };

/* Operations. Inputs and outputs in order; [?] optional (id QAT_NONE when absent).
 * N tokens, C channels, V vocabulary, K reduction, R x C any matrix, S x G the blocks
 * of a scheme (rows / block_rows x cols / block_cols). "edge" is the compute type, f32
 * or bf16. Sums are in f32 or better unless said otherwise.
 * An output may share memory with the addend c, or with p and the states of an update, of
 * the same node: kernels must bear that. The class of an op (EXACT, CLOSE) stands in
 * docs/architecture.md. */
enum {
	QAT_OP_NONE = 0,

	/* table [V, C], ids I32 [N] -> [N, C]. */
	QAT_OP_EMBEDDING = 1,
	/* ids [N], dy [N, C], c [V, C]? -> [V, C] f32, c added. Rows summed in order of n. */
	QAT_OP_EMBEDDING_GRAD = 2,
	/* a, b, c? -> y [M, N] = op(a) op(b) + c; attr.matmul says how a and b are stored.
	 * c is a bias [N] or an addend [M, N] f32. */
	QAT_OP_MATMUL = 3,
	/* xcodes [M, K], xscale, xzero?, wcodes [N, K], wscale, wzero?, bias [N]? -> [M, N].
	 * Numeric contract 4. Weight-only: xcodes is a float matrix and xscale is absent. */
	QAT_OP_QMATMUL = 4,
	/* x [R, C], scale [S, G]?, zero? -> codes [R, C] I8 or U8, scale [S, G] f32?,
	 * zero (I8, or F32 for a float zero)?, mask U8 [R, ceil(C / 8)]?.
	 * Given a scale, it is used and only codes (and mask) come out; where scales have two
	 * levels it is the second's, one for second_rows, and the others come out. Mask:
	 * bit c % 8 of byte c / 8 is 1 where the gradient passes. */
	QAT_OP_QUANTIZE = 5,
	/* codes, scale, zero? -> [R, C]. */
	QAT_OP_DEQUANTIZE = 6,
	/* g [R, C], mask -> g where the mask's bit is 1, else 0. */
	QAT_OP_MASK = 7,
	/* g, x, scale, zero? -> dscale [S, G]: learned ranges. */
	QAT_OP_SCALE_GRAD = 8,
	/* x [R, C], range [S * G, 2] f32, counts [S * G, QAT_COUNTS] F64? -> range, counts?
	 * (same memory): calibration. Min and max of all that was seen, or their moving
	 * average over calls, as the scheme measures; a NaN in x makes both NaN. Counts are
	 * numerics.h's histogram. Two-level scales: one range for second_rows. */
	QAT_OP_OBSERVE = 9,
	/* a [R, C], b [R, C] -> a + b. */
	QAT_OP_ADD = 10,
	/* a, b -> a * b. */
	QAT_OP_MUL = 11,
	/* x -> attr.scale.factor * x. */
	QAT_OP_SCALE = 12,
	/* x -> f(x), attr.act.kind. */
	QAT_OP_ACT = 13,
	/* x, dy -> dy * f'(x). */
	QAT_OP_ACT_GRAD = 14,
	/* gate, up -> f(gate) * up. */
	QAT_OP_GLU = 15,
	/* gate, up, dy -> dgate, dup. */
	QAT_OP_GLU_GRAD = 16,
	/* x [N, C], w [C], b [C]? -> y, mean [N] f32, rstd [N] f32. attr.norm. */
	QAT_OP_LAYER_NORM = 17,
	/* x, w, mean, rstd, dy, residual [N, C]? -> dx (+ residual), dw [C] f32, db [C] f32?. */
	QAT_OP_LAYER_NORM_GRAD = 18,
	/* x, w -> y, rstd [N] f32. */
	QAT_OP_RMS_NORM = 19,
	/* x, w, rstd, dy, residual [N, C]? -> dx (+ residual), dw [C] f32. */
	QAT_OP_RMS_NORM_GRAD = 20,
	/* x [N, H * d], cos [T, d / 2], sin [T, d / 2] (f32) -> [N, H * d]; row position + t
	 * of the tables for token t, position being that of the run (backend.h), 0 but in
	 * generation; pairs (i, i + d / 2). attr.rope.inverse turns the other way. */
	QAT_OP_ROPE = 21,
	/* q [N, H * d], k [N, Hkv * d], v [N, Hkv * d], segments I32 [N]?, bias?,
	 * keys [B * R, Hkv * d]?, values [B * R, Hkv * d]?
	 * -> out [N, H * d], lse [N, H] f32, keys'?, values'? (same memory). attr.attention.
	 * Segments and bias are reserved: absent in this version. Keys and values, both or
	 * neither, are a cache of R rows for each sequence: rows position.. of it become k
	 * and v, and token t, which is causal, sees the rows up to position + t. What lies
	 * behind is not read. Then out has the bits of the whole sequence's forward pass. */
	QAT_OP_ATTENTION = 22,
	/* q, k, v, out, lse, dout -> dq, dk, dv. */
	QAT_OP_ATTENTION_GRAD = 23,
	/* x [N, C], w [V, C], labels I32 [N] -> nll [N] f32, lse [N] f32, argmax [N] I32.
	 * Logits x w^T are never stored whole. Label -100: nll 0. */
	QAT_OP_LINEAR_CROSS_ENTROPY = 24,
	/* x, w, labels, lse, g [N] f32, c [V, C] f32? -> dx [N, C], dw [V, C] f32 (+ c).
	 * dlogits = g (softmax - onehot). */
	QAT_OP_LINEAR_CROSS_ENTROPY_GRAD = 25,
	/* logits [N, V], labels -> nll, lse, argmax. */
	QAT_OP_CROSS_ENTROPY = 26,
	/* logits, labels, lse, g -> dlogits [N, V]. */
	QAT_OP_CROSS_ENTROPY_GRAD = 27,
	/* reserved: logits, teacher logits, g ... */
	QAT_OP_KL_DIVERGENCE = 28,
	QAT_OP_KL_DIVERGENCE_GRAD = 29,
	/* x [R, C] -> attr.split.count outputs of [R, attr.split.width[i]]. */
	QAT_OP_SPLIT = 30,
	/* 2 to 4 inputs [R, Ci] -> [R, sum Ci]. */
	QAT_OP_CONCAT = 31,
	/* x -> x in another type, rne. */
	QAT_OP_CAST = 32,
	/* x [R, C], c [C]? -> [C] f32, sum over rows (+ c). */
	QAT_OP_REDUCE_ROWS = 33,
	/* x -> [1] F64, sum of squares, summed in double. */
	QAT_OP_SUM_SQUARES = 34,
	/* reserved */
	QAT_OP_DROPOUT = 35,
	/* p, g, m, v, hyper [8] f32 -> p', m', v' (same memory as p, m, v).
	 * hyper: lr, beta1, beta2, epsilon, weight decay, 1 - beta1^t, 1 - beta2^t, factor
	 * of g (clipping). g' = factor g; p -= lr wd p; m = b1 m + (1 - b1) g';
	 * v = b2 v + (1 - b2) g'^2; p -= lr (m / bc1) / (sqrt(v / bc2) + epsilon). */
	QAT_OP_ADAMW = 36,
	/* reserved */
	QAT_OP_ALL_REDUCE = 37,
	/* dy [N, M], codes, scale, c? -> what one side of a QMATMUL y [N, M] gets, the codes being
	 * the other side's, of schemes[0]. attr.qmatmul_grad.side, as QMATMUL's schemes are:
	 * 0, dx [N, K] of w's codes [M, K]; 1, dw [M, K] f32 of x's [N, K]. dy becomes codes of
	 * attr.qmatmul_grad.bits, rounded at random, and sums are integers (numerics.h
	 * qat_grad_scale, docs/architecture.md). Codes that qat_scheme_folds takes. */
	QAT_OP_QMATMUL_GRAD = 38,
	/* p, g, m codes I8, v codes U8 (of p's shape), units [blocks, 2] f32, hyper -> p', m', v',
	 * units' (same memory). ADAMW with moments in 8 bits: decoded, updated, and rounded at
	 * random. A block is QAT_MOMENT_BLOCK elements, the last may be shorter; its units are
	 * m's and v's (numerics.h qat_moment_unit). attr.update. */
	QAT_OP_ADAMW8 = 39,

	QAT_OP_COUNT = 40
};

enum { QAT_ACT_GELU_TANH = 1, QAT_ACT_GELU_ERF = 2, QAT_ACT_SILU = 3, QAT_ACT_RELU = 4 };

/* What an op needs beyond its inputs; the member is the op's. 16 words, zero where
 * unused. */
typedef union qat_attr {
	struct { int64_t trans_a;	/* a is stored [K, M], else [M, K] */
		 int64_t trans_b;	/* b is stored [N, K], else [K, N] */
	} matmul;
	struct { double factor; } scale;
	struct { int64_t port; } observe;	/* QAT_PORT_* */
	struct { int64_t rows; } embedding;	/* EMBEDDING_GRAD: V */
	struct { int64_t mask;		/* 1: the mask comes out too */
	} quantize;
	struct { int64_t kind; } act;			/* ACT, GLU and their gradients */
	struct { double epsilon;
		 int64_t plus_one;	/* weight is 1 + w */
	} norm;
	struct { int64_t head_dim, inverse; } rope;
	struct { int64_t heads, kv_heads, head_dim;
		 int64_t causal;	/* key position <= query position */
		 int64_t window;	/* > 0: and > query position - window */
		 double scale;		/* of q k^T */
	} attention;
	struct { int64_t count, width[4]; } split;
	struct { int64_t dtype; } cast;
	struct { int64_t purpose; } random;
	struct { int64_t side, bits;
		 int64_t stream;	/* last word of the counter: site << 8 | purpose */
	} qmatmul_grad;
	struct { int64_t stream;	/* the same, with the parameter's number: the core's */
	} update;
	int64_t word[16];
} qat_attr;

#define QAT_NONE (-1)

enum {
	QAT_ROLE_ACTIVATION = 0,
	QAT_ROLE_PARAM = 1,	/* of the store: weights, codes, scales */
	QAT_ROLE_CONST = 2,	/* `data` has its content */
	QAT_ROLE_INPUT = 3,	/* written before each run */
	QAT_ROLE_STATE = 4	/* kept between runs: gradients, moments, ranges */
};

/* Which input, for ROLE_INPUT. */
enum {
	QAT_INPUT_TOKENS = 1,		/* I32 [N] */
	QAT_INPUT_LABELS = 2,		/* I32 [N], -100: not scored */
	QAT_INPUT_LOSS_GRADIENT = 3,	/* f32 [N]: d(loss) / d(nll) */
	QAT_INPUT_HYPER = 4,		/* f32 [8]: see QAT_OP_ADAMW */
	QAT_INPUT_POSITIONS = 5		/* I32 [N]: of each token in its sequence; generation */
};

typedef struct qat_value {
	uint32_t size;			/* sizeof(qat_value) */
	uint32_t dtype;
	uint32_t role;			/* QAT_ROLE_* */
	uint32_t input;			/* QAT_INPUT_* */
	int64_t id;
	int64_t rank;
	int64_t shape[QAT_MAX_RANK];	/* 1 past the rank */
	int64_t node;			/* that writes it, QAT_NONE */
	int64_t alias;			/* value whose memory it must share, QAT_NONE */
	const char *name;		/* parameters: as in the store; else may be NULL */
	const void *data;		/* ROLE_CONST */
	int64_t residual;		/* 1: part of the residual stream, always f32 */
} qat_value;

/* When a node runs. */
enum {
	QAT_PHASE_PROLOGUE = 0,	/* once per optimizer step: depends on parameters alone */
	QAT_PHASE_FORWARD  = 1,
	QAT_PHASE_BACKWARD = 2,
	QAT_PHASE_UPDATE   = 3,
	QAT_PHASES = 4
};

typedef struct qat_node {
	uint32_t size;			/* sizeof(qat_node) */
	uint32_t op;			/* QAT_OP_* */
	uint32_t phase;
	int32_t site;			/* index of the site, for randomness; -1 */
	int64_t id;
	int64_t n_in, n_out;
	int64_t in[QAT_MAX_IN];		/* value ids */
	int64_t out[QAT_MAX_OUT];
	qat_attr attr;
	/* QUANTIZE, DEQUANTIZE, MASK, SCALE_GRAD, OBSERVE: schemes[0].
	 * QMATMUL: schemes[0] of x (NULL: float), schemes[1] of w. */
	const qat_scheme_set *schemes[2];
	const char *name;		/* "layers.3.mlp.down qmatmul", for messages */
} qat_node;

typedef struct qat_graph {
	uint32_t size;			/* sizeof(qat_graph) */
	uint32_t precision;		/* QAT_F32 or QAT_BF16: the edge type */
	int64_t batch, length;
	int64_t n_values, n_nodes;
	const qat_value *const *values;	/* values[id] */
	const qat_node *const *nodes;
} qat_graph;

static inline int64_t qat_value_elements(const qat_value *v)
{
	return v->shape[0] * v->shape[1] * v->shape[2] * v->shape[3];
}

static inline int64_t qat_value_bytes(const qat_value *v)
{
	return qat_value_elements(v) * qat_dtype_bytes(v->dtype);
}

/* ---- building: the host's service "graph", for models and optimizers ---- */

typedef struct qat_builder qat_builder;

/* Functions return a value id, or a negative QAT_E* with a message. A negative id given
 * as an input makes the function return it at once, so a model can be written straight
 * and check once at the end. QAT_NONE is QAT_EINVAL's number: an absent optional input
 * is therefore QAT_ABSENT, in calls to these functions only. */
#define QAT_ABSENT INT64_MAX

typedef struct qat_graph_api {
	uint32_t size, reserved;

	/* A parameter that the model declared (model.h), by name. */
	int64_t (*param)(qat_builder *b, const char *name);
	/* A constant; data is copied. */
	int64_t (*constant)(qat_builder *b, const char *name, uint32_t dtype, int64_t rank,
			    const int64_t *shape, const void *data);
	int64_t (*input)(qat_builder *b, uint32_t which);
	/* Append a node; shapes and types follow from the op. Returns its first output;
	 * all outputs are written to out (room for QAT_MAX_OUT) when not NULL.
	 * site: name for patterns and messages, NULL: none. attr NULL: zeros. */
	int64_t (*node)(qat_builder *b, uint32_t op, const qat_attr *attr, int64_t n_in,
			const int64_t *in, int64_t *out, const char *site);
	/* Mark a value as residual stream. Returns it. */
	int64_t (*residual)(qat_builder *b, int64_t value);
	int64_t (*batch)(const qat_builder *b);
	int64_t (*length)(const qat_builder *b);
	/* I32 [N]: the position of each token in its sequence. Learned positions are looked
	 * up by it; a constant of the model's own would be wrong in generation. */
	int64_t (*positions)(qat_builder *b);
	/* Positions that a sequence may reach, >= length: rows of tables for ROPE. */
	int64_t (*context)(const qat_builder *b);
} qat_graph_api;

#ifdef __cplusplus
}
#endif
#endif
