/* trace.h - the interpreter mode: every node of a session's first step runs on the reference
 * too, with the same inputs, and the first that differs is named.
 */
#ifndef QAT_TRACE_H
#define QAT_TRACE_H

#include "exec.h"

typedef struct qat_trace {
	qat_device oracle;		/* the backend that is flagged as the reference */
	int64_t same, close;		/* nodes: to the bit; within the bound of their class */
	int64_t inside;			/* that kernels keep to themselves */
	int64_t unknown;		/* that the reference does not have */
} qat_trace;

/* backend: of the reference. */
int qat_trace_new(qat_trace **out, const qat_instance *backend);
void qat_trace_free(qat_trace *t);

/* Runs a phase as qat_exec_run does; QAT_ENUMERIC at the first node that is too far off. */
int qat_trace_run(qat_exec *x, uint32_t phase, qat_runtime *rt);

/* Says how many nodes agreed. */
void qat_trace_print(const qat_trace *t);

#endif
