/* optimizer.h - what an optimizer offers: update nodes and the numbers they take. */
#ifndef QATRUN_OPTIMIZER_H
#define QATRUN_OPTIMIZER_H

#include <qatrun/plugin.h>
#include <qatrun/graph.h>

enum { QAT_HYPER_COUNT = 8 };

/* One optimizer step, for hyper. */
typedef struct qat_update {
	uint32_t size, reserved;
	int64_t step;		/* 1 for the first */
	double lr;		/* after the schedule */
	double clip;		/* factor of the gradient, 1: none */
	int64_t matrix;		/* the parameter is 2-D (weight decay applies) */
} qat_update;

typedef struct qat_optimizer {
	uint32_t size, reserved;

	/* How many state tensors it keeps of a parameter, zero at first; at most 4. Of its shape
	 * and f32, unless `state` says else. */
	int64_t (*states)(const void *self);

	/* Append the update of one parameter. in: p, g, states...; out: p', states'... */
	int (*build)(const void *self, qat_builder *b, int64_t p, int64_t g,
		     const int64_t *states, int64_t hyper);

	/* The numbers of QAT_INPUT_HYPER for a step. */
	int (*hyper)(const void *self, const qat_update *u, float out[QAT_HYPER_COUNT]);

	/* Learning rate and whatever else a schedule may scale. */
	double (*lr)(const void *self);

	/* State i of a parameter. *out comes as that of the parameter, in f32; dtype, rank and
	 * shape may be changed. NULL: they are as they come. */
	int (*state)(const void *self, int64_t i, qat_tensor *out);
} qat_optimizer;

#endif
