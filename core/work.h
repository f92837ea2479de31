/* work.h - what a node has to do at least, for profiles. */
#ifndef QAT_WORK_H
#define QAT_WORK_H

#include <qatrun/backend.h>

/* Operations of its products, a multiplication and an addition being two; 0 for all else. */
double qat_work_operations(const qat_graph *g, const qat_node *n);
/* Those of a claim's i-th node that another node of it does anyway: logits are made once. */
double qat_work_shared(const qat_graph *g, const qat_claim *c, int64_t i);
/* QAT_CEILING_*: what holds them back: the type of the operands. */
int qat_work_kind(const qat_graph *g, const qat_node *n);

#endif
