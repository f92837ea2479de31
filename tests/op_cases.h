/* op_cases.h - for tests: one node with its inputs, for every op, type, shape and
 * scheme. How far an output may be from the reference says bounds.h of the core.
 */
#ifndef QAT_OP_CASES_H
#define QAT_OP_CASES_H

#include "graph_kit.h"

typedef struct op_input {
	uint32_t dtype;			/* 0: absent */
	int64_t rows, cols;		/* cols 0: a vector */
	void *data;
	int per_row;			/* 1: its rows are tokens */
} op_input;

typedef struct op_case {
	char name[192];
	uint32_t op, precision;
	uint32_t dtype;			/* of output 0; 0: the op's rule */
	qat_attr attr;
	op_input in[QAT_MAX_IN];
	int n_in;
	const qat_scheme *schemes[2];
	int64_t batch, length;
	int by_rows;			/* 1: rows of the outputs are tokens, too */
	int bad;			/* 1: the node must be reported as not finite */
} op_case;

/* Calls visit for every case of every op, each time the same; a case is freed after it. */
typedef void op_visit(void *context, const op_case *c);
void op_cases_each(op_visit *visit, void *context);

/* Cases of schemes alone: all variants of all quantizers that are there. It calls visit for
 * those that kit_chosen wants, of *all. Returns how many schemes there were. */
int op_cases_schemes(op_visit *visit, void *context, int64_t *all);

/* A case's node in a graph, of rows [from, to) of what is per row, in batches of
 * c->length. */
void op_case_build(kit *k, const op_case *c, int64_t from, int64_t to);

#endif
