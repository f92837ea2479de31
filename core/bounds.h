/* bounds.h - the class of every op, and how far a result may be from the reference's: the
 * tests hold backends to it, and so does --trace.
 */
#ifndef QAT_BOUNDS_H
#define QAT_BOUNDS_H

#include <qatrun/graph.h>

typedef struct qat_judged_input {
	uint32_t dtype;			/* 0: absent */
	int64_t rows, cols;		/* cols 0: a vector */
} qat_judged_input;

/* One node, as the bounds need it. */
typedef struct qat_judged {
	uint32_t op;
	qat_attr attr;
	qat_judged_input in[QAT_MAX_IN];
	const qat_scheme *schemes[2];
	int64_t length;			/* of a sequence */
} qat_judged;

/* Its inputs and the reference's outputs as numbers; NULL: absent. */
typedef struct qat_numbers {
	const qat_judged *c;
	double *in[QAT_MAX_IN], *out[QAT_MAX_OUT];
	int64_t n_in[QAT_MAX_IN], n_out[QAT_MAX_OUT];
	uint32_t type_out[QAT_MAX_OUT];
	double top[QAT_MAX_IN];		/* largest magnitude of an input */
} qat_numbers;

/* 1 where the op gives the reference's bits. */
int qat_op_exact(uint32_t op, const qat_scheme *const schemes[2]);
/* Of a node with the first of each of its schemes. */
int qat_node_exact(const qat_node *n);

/* How far element i of output `which` may be from the reference. */
double qat_op_bound(const qat_numbers *x, int which, int64_t i);

/* Element i of memory of a type. */
double qat_number(uint32_t dtype, const void *data, int64_t i);
/* 1 if it has the same bits on both sides, or is NaN on both. */
int qat_number_same(uint32_t dtype, const void *a, const void *b, int64_t i);

#endif
