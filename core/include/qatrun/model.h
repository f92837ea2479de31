/* model.h - what a model family offers: its parameters and its network, described once.
 *
 * The interface's name is the family as config.json's model_type has it; its option
 * table lists the keys of config.json that it reads (unknown keys in a file are
 * ignored, in YAML's `config:` they are errors).
 */
#ifndef QATRUN_MODEL_H
#define QATRUN_MODEL_H

#include <qatrun/plugin.h>
#include <qatrun/graph.h>

enum { QAT_INIT_NORMAL = 0, QAT_INIT_ZEROS = 1, QAT_INIT_ONES = 2 };

enum {
	QAT_PARAM_HUB_TRANSPOSED = 1,	/* the hub's file holds [in, out] */
	QAT_PARAM_OPTIONAL = 2,		/* may be missing in a file: then zeros or ones */
	QAT_PARAM_ROPE_ROWS = 4		/* rows are rotated pairs of `heads` heads: formats that
					 * store pairs interleaved permute them */
};

typedef struct qat_param {
	uint32_t size;			/* sizeof(qat_param) */
	uint32_t flags;
	const char *name;		/* "layers.0.attn.q.weight": <site>.weight, <site>.bias */
	const char *hub_name;		/* "model.layers.0.self_attn.q_proj.weight" */
	int64_t rank;			/* 1 or 2; a linear weight is [out, in] */
	int64_t shape[QAT_MAX_RANK];
	int64_t init;			/* QAT_INIT_* */
	double deviation;		/* NORMAL */
	int64_t heads;			/* ROPE_ROWS */
} qat_param;

/* A linear layer that patterns can name. */
typedef struct qat_model_info {
	uint32_t size, reserved;
	int64_t vocabulary, hidden, layers;
	int64_t context;		/* longest sequence, 0: unlimited */
	int64_t tied;			/* lm_head uses embed's weight */
} qat_model_info;

typedef struct qat_outputs {
	uint32_t size, reserved;
	int64_t hidden;			/* [N, C], what lm_head multiplies */
	int64_t head;			/* [V, C], lm_head's weight (embed's when tied) */
} qat_outputs;

typedef struct qat_model {
	uint32_t size, reserved;

	/* Numbers that contradict each other or are out of reach: QAT_EINVAL. Fills *out. */
	int (*check)(const void *self, qat_model_info *out);

	/* Call add once per parameter, in a fixed order; stop at its first error and
	 * return it. Strings need live only during the call. */
	int (*params)(const void *self, int (*add)(void *to, const qat_param *p), void *to);

	/* Describe the network up to lm_head's input; the core appends the loss. */
	int (*build)(const void *self, qat_builder *b, qat_outputs *out);

	/* 1 if a file may have the tensor `hub_name` although no parameter reads it: a
	 * buffer that old writers stored. All others make the file be refused. NULL: none. */
	int (*spare)(const void *self, const char *hub_name);
} qat_model;

#endif
