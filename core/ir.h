/* ir.h - the graph while it grows, and the passes over it.
 *
 *   model -> prepare -> precision -> differentiate -> optimize   (each appends or
 *   rebuilds; see the function's comment), then claim, plan, compile (exec.h).
 */
#ifndef QAT_IR_H
#define QAT_IR_H

#include <qatrun/graph.h>
#include <qatrun/model.h>
#include <qatrun/optimizer.h>

#include "arena.h"

/* A graph under construction; `graph` is the view that others read. */
struct qat_builder {
	qat_graph graph;
	qat_arena *arena;
	qat_value **values;		/* graph.values, writable */
	qat_node **nodes;
	int64_t value_room, node_room;
	const char **sites;		/* names, by node->site */
	int64_t n_sites, site_room;
	int64_t inputs[8];		/* value of QAT_INPUT_*, QAT_NONE until asked for */
	int64_t cache;			/* rows that attention keeps of each sequence; 0: none */
	int64_t gradient_bits;		/* of gradients in products of codes; 0: floats */
	uint32_t phase;			/* given to new nodes */
	const qat_param *(*find_param)(void *context, const char *name);
	void *context;
	int error;			/* the first, if a function failed */
};
typedef struct qat_builder qat_ir;

/* A new graph; batch and length > 0. NULL: out of memory. */
qat_ir *qat_ir_new(int64_t batch, int64_t length, uint32_t precision);
void qat_ir_free(qat_ir *g);
/* An empty graph of the same batch, length, precision, parameters. */
qat_ir *qat_ir_like(const qat_ir *g);

/* The host's service "graph". */
extern const qat_graph_api qat_ir_api;

/* A new value without a node. Returns its id or a negative error. */
int64_t qat_ir_value(qat_ir *g, const qat_value *proto);
/* Parameter values that are not declared by the model: codes, scales. */
int64_t qat_ir_param(qat_ir *g, const char *name, uint32_t dtype, int64_t rank,
		     const int64_t *shape);

/* What a new node may be told beyond the public api; zero means: by the op's rule. */
typedef struct qat_ir_extra {
	const qat_scheme_set *schemes[2];
	uint32_t dtype;			/* of output 0 */
	int32_t site;			/* index + 1 */
	int64_t alias[QAT_MAX_OUT];	/* value + 1 whose memory output i takes */
} qat_ir_extra;

/* As the api's node; absent inputs are QAT_NONE here. out gets all output ids
 * (QAT_NONE where absent). Returns out[0] or a negative error. */
int64_t qat_ir_node(qat_ir *g, uint32_t op, const qat_attr *attr, int64_t n_in,
		    const int64_t *in, int64_t *out, const qat_ir_extra *extra);
/* Index of a site's name, added if new; -1 for NULL or when out of memory. */
int32_t qat_ir_site(qat_ir *g, const char *name);
/* Give a node a site, and its name with it. */
void qat_ir_set_site(qat_ir *g, int64_t node, int32_t site);
/* Copy value `id` or node `n` of another graph; map[] translates value ids and learns. */
int qat_ir_copy_node(qat_ir *to, const qat_ir *from, const qat_node *n, int64_t *map);
int64_t qat_ir_copy_value(qat_ir *to, const qat_value *v);

/* One row per op. */
typedef struct qat_diff qat_diff;
typedef struct qat_op {
	const char *name;
	int8_t min_in, max_in;
	/* Check inputs; fill dtype, rank, shape of each output (dtype 0: absent). */
	int (*shape)(const qat_ir *g, const qat_node *n, qat_value *out);
	/* Append nodes that give the inputs' gradients; NULL: none exists. */
	int (*gradient)(qat_diff *d, const qat_node *n);
} qat_op;
const qat_op *qat_op_info(uint32_t op);		/* never NULL */

/* Gradient rules, gradient.c. */
int qat_gradient_embedding(qat_diff *d, const qat_node *n);
int qat_gradient_matmul(qat_diff *d, const qat_node *n);
int qat_gradient_qmatmul(qat_diff *d, const qat_node *n);
int qat_gradient_quantize(qat_diff *d, const qat_node *n);
int qat_gradient_add(qat_diff *d, const qat_node *n);
int qat_gradient_mul(qat_diff *d, const qat_node *n);
int qat_gradient_scale(qat_diff *d, const qat_node *n);
int qat_gradient_act(qat_diff *d, const qat_node *n);
int qat_gradient_glu(qat_diff *d, const qat_node *n);
int qat_gradient_layer_norm(qat_diff *d, const qat_node *n);
int qat_gradient_rms_norm(qat_diff *d, const qat_node *n);
int qat_gradient_rope(qat_diff *d, const qat_node *n);
int qat_gradient_attention(qat_diff *d, const qat_node *n);
int qat_gradient_linear_cross_entropy(qat_diff *d, const qat_node *n);
int qat_gradient_cross_entropy(qat_diff *d, const qat_node *n);
int qat_gradient_split(qat_diff *d, const qat_node *n);
int qat_gradient_concat(qat_diff *d, const qat_node *n);

/* ---- passes ---- */

/* Append the loss to a model: LINEAR_CROSS_ENTROPY, or with `logits` a MATMUL whose
 * result stays and CROSS_ENTROPY. */
typedef struct qat_loss {
	int64_t logits, nll, lse, argmax;	/* value ids; logits QAT_NONE */
} qat_loss;
int qat_ir_loss(qat_ir *g, qat_loss *out, const qat_outputs *model, int logits);
/* Append the logits alone; out's other values are QAT_NONE. */
int qat_ir_logits(qat_ir *g, qat_loss *out, const qat_outputs *model);

/* What prepare asks about a site's port; *out NULL: stays in float. */
typedef int qat_scheme_lookup(void *context, const qat_site *site, const qat_scheme_set **out);

/* How a parameter is stored: set codes/scale/zero value names for one that is held as
 * codes under a scheme, else leave *scheme NULL. */
typedef struct qat_stored {
	const qat_scheme *scheme;
	uint32_t dtype;			/* of floats that are used as they are stored; 0: F32 */
} qat_stored;
typedef int qat_stored_lookup(void *context, const char *param, qat_stored *out);

enum {
	QAT_PREPARE_PLAIN = 0,
	QAT_PREPARE_TRAIN = 1,		/* masks where schemes clip */
	QAT_PREPARE_CALIBRATE = 2	/* inputs with static ranges are observed, not quantized */
};

/* Rebuild with quantize, qmatmul at the sites that have schemes. Values that change
 * id: loss is translated. A static range is the parameter "<site>.<port>.scale" (and
 * ".zero"), observed in a state value of the OBSERVE node. */
int qat_ir_prepare(qat_ir **out, const qat_ir *g, qat_loss *loss, qat_scheme_lookup *lookup,
		   qat_stored_lookup *stored, void *context, int how);

/* Set the type of every edge and insert the casts that it asks for (numerics.md 7);
 * mark what depends on parameters alone as prologue. Rebuilds. */
int qat_ir_precision(qat_ir **out, const qat_ir *g, qat_loss *loss);

/* A parameter's gradient after differentiate. */
typedef struct qat_trained {
	int64_t param, gradient;	/* value ids; the gradient is ROLE_STATE */
	int64_t square;			/* its SUM_SQUARES, after qat_ir_optimize */
	int64_t states[4], n_states;
	int64_t hyper;
} qat_trained;

/* Append the backward pass of d(sum(loss_gradient * nll)). Every f32 PARAM gets a
 * gradient; with `accumulate` it adds to what is there. */
int qat_ir_differentiate(qat_ir *g, const qat_loss *loss, int accumulate, qat_trained **trained,
			 int64_t *n_trained);

/* Append the gradient's squares and, with an optimizer, the update of each parameter. */
int qat_ir_optimize(qat_ir *g, const qat_instance *optimizer, qat_trained *trained,
		    int64_t n_trained);

enum { QAT_RECOMPUTE_LEVELS = 2 };

/* Rebuild so that less of the forward pass is kept for the backward pass; see
 * recompute.c for the levels. loss and trained are translated. */
int qat_ir_recompute(qat_ir **out, const qat_ir *g, qat_loss *loss, qat_trained *trained,
		     int64_t n_trained, int level);

/* ---- for gradient rules ---- */
struct qat_diff {
	qat_ir *g;
	int64_t *gradient;	/* by forward value: accumulated so far, QAT_NONE */
	int64_t *pending;	/* contributions still to come */
	int64_t n_forward;	/* values that existed before */
	int accumulate;
	int64_t *buffer;	/* ROLE_STATE gradient of a parameter value, QAT_NONE */
};
/* Gradient of output i of n, QAT_NONE if nothing flowed there. */
int64_t qat_diff_out(const qat_diff *d, const qat_node *n, int i);
/* Whether input i of n is wanted. */
int qat_diff_wants(const qat_diff *d, const qat_node *n, int i);
/* What is there already to be added to (an f32 value of the shape), or QAT_NONE. */
int64_t qat_diff_addend(const qat_diff *d, int64_t value);
/* Node that computes a contribution to `value`'s gradient as output `which`; if
 * `added`, its addend has been taken in. */
int qat_diff_put(qat_diff *d, int64_t value, int64_t contribution, int added);
/* Type that the contribution to `value` that comes now should have, and the buffer
 * (value + 1) that it must be written to, 0 if any. */
uint32_t qat_diff_dtype(const qat_diff *d, int64_t value);
int64_t qat_diff_alias(const qat_diff *d, int64_t value);

#endif
