/* run.h - running a pipeline that has been read and checked. */
#ifndef QAT_RUN_H
#define QAT_RUN_H

#include "pipeline.h"

typedef struct qat_run_options {
	int check;	/* print states and plan, run nothing */
	int explain;	/* print where each node runs and why, run nothing */
	int force;	/* empty an output that is there */
	int resume;	/* go on with it */
	int quiet;	/* no progress */
	int profile;	/* take the time of every kernel */
	int trace;	/* judge the first step of every session by the reference */
	int *started;	/* set to 1 as soon as something has run: a failure from then on is not
			 * the pipeline's */
} qat_run_options;

/* Lends the services "graph" and "session" to plugins: before any is opened. */
int qat_services_start(void);

int qat_run(qat_pipeline *p, const qat_run_options *o);

#endif
