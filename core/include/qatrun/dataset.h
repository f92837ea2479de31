/* dataset.h - what a data set offers: sequences of token ids with labels. */
#ifndef QATRUN_DATASET_H
#define QATRUN_DATASET_H

#include <qatrun/plugin.h>

/* What the core lends to a data set. */
typedef struct qat_dataset_env {
	uint32_t size, reserved;
	int64_t length;			/* tokens of a sequence */
	int64_t limit;			/* first n sequences; 0: all */
	int64_t vocabulary;		/* ids must be below it */
	int64_t bos;			/* id, -1: the tokenizer has none */
	/* Encode text; *ids is freed with release. NULL where the model has no tokenizer. */
	int (*encode)(void *context, const char *text, int64_t bytes, int32_t **ids,
		      int64_t *count);
	void (*release)(void *context, int32_t *ids);
	void *context;
	const char *name;		/* of the data set in the pipeline, for messages */
} qat_dataset_env;

typedef struct qat_dataset {
	uint32_t size, reserved;
	/* The `length` and `limit` that the options say (limit 0: all). */
	int64_t (*length)(const void *self);
	int64_t (*limit)(const void *self);
	int (*open)(void **out, const void *self, const qat_dataset_env *env);
	void (*close)(void *set);
	int64_t (*count)(const void *set);
	/* Sequence i: tokens[length] and labels[length]; labels[t] is the id that follows
	 * tokens[t], or -100. */
	int (*get)(const void *set, int64_t i, int32_t *tokens, int32_t *labels);
} qat_dataset;

#endif
