/* fetch.h - a model that is no path here, by the source plugin that knows its name. */
#ifndef QAT_FETCH_H
#define QAT_FETCH_H

#include "arena.h"
#include "pipeline.h"

/* *path and *revision (NULL: unknown) are arena memory. Signals only ask to stop meanwhile:
 * QAT_ESTOPPED. `quiet`: no progress. */
int qat_fetch(const char **path, const char **revision, const qat_pipeline_model *m, int quiet,
	      qat_arena *arena);

#endif
