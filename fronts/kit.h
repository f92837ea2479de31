/* kit.h - what the fronts share: options, and the parts of a pipeline that they mean. */
#ifndef QAT_FRONTS_KIT_H
#define QAT_FRONTS_KIT_H

#include "front.h"

/* How to train. */
#define FRONT_TRAINING \
	{ "steps", "N", "100", "optimizer steps", 0 }, \
	{ "batch", "N", "4", "sequences at once", 0 }, \
	{ "accumulate", "N", "1", "batches of an optimizer step", 0 }, \
	{ "lr", "X", "2e-5", "learning rate", 0 }, \
	{ "schedule", "NAME", "cosine", "how it falls: constant, linear, cosine", 0 }, \
	{ "warmup", "N", "0", "steps in which it rises", 0 }, \
	{ "weight-decay", "X", "0", "decay of the weights", 0 }, \
	{ "clip", "X", "1", "largest norm of the gradient, 0: no limit", 0 }

/* Data, device and the run. */
#define FRONT_RUN \
	{ "length", "N", "256", "tokens of a sequence", 0 }, \
	{ "limit", "N", NULL, "judge by the first N sequences; default: all", 0 }, \
	{ "dataset", "NAME", NULL, "plugin that reads the files; default: jsonl for files in\n" \
	  ".jsonl or .json, else text", 0 }, \
	{ "sites", "PATTERN", "layers.*.{attn,mlp}", "what is quantized", 0 }, \
	{ "precision", "NAME", "f32", "of what is computed in float: f32, bf16", 0 }, \
	{ "backend", "NAME", NULL, "device; default: the processor", 0 }, \
	{ "threads", "N", NULL, "default: one for each processor", 0 }, \
	{ "memory-limit", "SIZE", NULL, "memory that a step may take: 6GiB", 0 }, \
	{ "seed", "N", "1", "of all that is random", 0 }, \
	{ "name", "NAME", NULL, "of the run; default: of the model and the scheme", 0 }, \
	{ "tracker", "NAME", NULL, "told the numbers meanwhile: tensorboard; may be given\n" \
	  "several times", 0 }, \
	{ "output", "DIR", NULL, "what the run leaves; default: runs/NAME", 0 }

/* A scheme as the command line says it: NAME or NAME:GROUP. */
typedef struct front_scheme {
	char name[80];		/* of the quantizer */
	char group[24];		/* columns that share a scale, "" where not given */
	char label[112];	/* for names: "int4-32" */
} front_scheme;

/* Reads `length` bytes of a text as a scheme; `option` stands in messages. */
int front_scheme_read(front_scheme *out, const char *text, size_t length, const char *option);

/* 1: left in float, "none" or not given. */
int front_scheme_none(const front_scheme *s);

/* The option's scheme; none where it is not given. */
int front_scheme_of(front_scheme *out, const qat_front_given *g, const char *option);

/* Top, model, device. `what`: what the default name ends in. */
int front_write_head(FILE *out, const qat_front_given *g, const char *what);

/* "  NAME: {dataset: ..}" of the files of an option, with `limit` where `limited`. */
int front_write_data(FILE *out, const qat_front_given *g, const char *name,
		     const char *option, int limited);

/* "  NAME: {quantizer: ..}", nothing for none. */
int front_write_scheme(FILE *out, const char *name, const front_scheme *s);

/* "  NAME: [{match: ..}]" with these schemes, none where NULL. */
int front_write_sites(FILE *out, const qat_front_given *g, const char *name,
		      const char *weight, const char *input);

/* "data: train, steps: .." in two lines, the second indented by `indent`. */
int front_write_fit(FILE *out, const qat_front_given *g, int indent);

#endif
