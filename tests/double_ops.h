/* double_ops.h - for tests: a graph's forward nodes in double, without any rounding, so
 * that differences of the loss can be taken.
 */
#ifndef QAT_DOUBLE_OPS_H
#define QAT_DOUBLE_OPS_H

#include "graph_kit.h"

/* Contents in double. Codes stand for what they decode to: held at what a run gave,
 * they follow their input straight through, x^ = decoded + passes (x - origin), where
 * origin is x of the first run here. */
typedef struct doubles {
	const qat_ir *g;
	double **at, **decoded, **passes, **origin;	/* [values] */
} doubles;

void doubles_new(doubles *d, const qat_ir *g);
void doubles_free(doubles *d);
/* Contents of parameters, inputs, constants; codes as the run made them. */
void doubles_load(doubles *d, const kit *k, const kit_result *r);
/* Run all forward nodes in order. */
void doubles_run(doubles *d);

#endif
