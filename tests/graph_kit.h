/* graph_kit.h - for tests: small graphs on devices. A case is a graph whose parameters
 * have contents; it is run on a device and outputs are read back.
 * Functions stop the test where something fails that the test is not about.
 */
#ifndef QAT_GRAPH_KIT_H
#define QAT_GRAPH_KIT_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/numerics.h>

#include "exec.h"
#include "ir.h"
#include "option.h"
#include "plugin.h"

/* ---- plugins ---- */

/* Instance of a plugin with its default options; not there: interface is NULL. */
qat_instance kit_instance(uint32_t kind, const char *name);
/* Set one option, of a number or an enumeration (by index); 0 where there is none. */
int kit_set(const qat_instance *i, const char *option, double value);

/* Names of the plugins of a kind that are in the path; at most `room`. */
int kit_names(uint32_t kind, const char **out, int room);

/* A device of a backend; 0 if the backend is not there or has no device here. */
int kit_open(qat_device *out, const char *backend, int64_t threads);

/* Whether a case is run, by its number: with TEST_STRIDE=n in the environment, for builds
 * in which all cases take too long, only one in n is. */
int kit_chosen(int64_t number);
/* The same for whole models, of which there are fewer: one in 7 at least. */
int kit_chosen_model(int64_t number);

/* Looks for leaks in builds that can, as the last thing a test case does (a checked fixture's
 * teardown; its devices are closed). Not left to the end of the process: a driver's threads
 * end there, and the leak checker now and then dies of a thread that does. */
void kit_leaks(void);

/* ---- numbers ---- */

enum {
	KIT_NORMAL = 0,		/* Gaussian, deviation 1 */
	KIT_SMALL = 1,		/* the same, 0.1 */
	KIT_EDGES = 2,		/* zeros, -0, subnormals, ties, powers of two, huge among them */
	KIT_ONES = 3,		/* around 1 */
	KIT_TABLE = 4		/* uniform in [-1, 1] */
};

void kit_numbers(float *out, int64_t n, int kind, uint64_t seed);
/* Integers in [lo, hi]. */
void kit_ids(int32_t *out, int64_t n, int32_t lo, int32_t hi, uint64_t seed);

/* ---- cases ---- */

typedef struct kit {
	qat_ir *g;
	void **content;		/* [values]: what a PARAM or INPUT holds, in its type */
	int64_t room;
	const int64_t *keep;	/* values that are kept; NULL: all outputs */
	int64_t n_keep;
} kit;

void kit_new(kit *k, int64_t batch, int64_t length, uint32_t precision);
void kit_free(kit *k);

/* A parameter value; cols 0: a vector. data is copied. */
int64_t kit_param(kit *k, uint32_t dtype, int64_t rows, int64_t cols, const void *data);
/* The same of random f32 numbers, as f32 or rounded to bf16. */
int64_t kit_random(kit *k, uint32_t dtype, int64_t rows, int64_t cols, int kind, uint64_t seed);
/* Content for a value that is there; data is copied. */
void kit_give(kit *k, int64_t value, const void *data);
/* Append a node that must fit. Returns its first output; out may be NULL. */
int64_t kit_node(kit *k, uint32_t op, const qat_attr *attr, int64_t n_in, const int64_t *in,
		 int64_t *out, const qat_ir_extra *extra);
/* A set of one scheme that lives as long as the case. */
const qat_scheme_set *kit_scheme(kit *k, const qat_scheme *s);

/* ---- models ---- */

/* Network and loss of a model with the options that it has; the case is new. */
void kit_model(kit *k, qat_loss *loss, const qat_instance *model, int logits);
/* The same of "llama" or "gpt2" with two layers of 32 channels; 0 if it is not there. */
enum { KIT_TINY_VOCABULARY = 23 };
int kit_tiny(kit *k, qat_loss *loss, const char *model, int tied, int logits);
/* Prepare for training and precision; the graph is another after it. lookup NULL: none. */
void kit_passes(kit *k, qat_loss *loss, qat_scheme_lookup *lookup, void *context);
/* Random content for parameters that have none; norms are around 1, scales 0.02. */
void kit_params(kit *k, uint64_t seed);

/* What values held after a run; NULL where they were not kept. */
typedef struct kit_result {
	int rc;			/* of the run; support missing: QAT_ENOTSUP */
	int64_t n_values, bad_node;
	void **data;		/* [values] */
	char error[1024];
} kit_result;

/* Run all phases once. rt NULL: zeros. */
void kit_run(kit_result *out, const kit *k, qat_device *d, const qat_runtime *rt);
void kit_result_free(kit_result *r);

/* Element i of a value's memory as a number. */
double kit_number(const qat_value *v, const void *data, int64_t i);
/* Whether a graph's first node has the same numbers in both results; NaN is NaN. */
int kit_same_outputs(const kit *k, const kit_result *a, const kit_result *b);

#endif
