/* profile.h - where time goes: every kernel alone, added up by kind; and the first runs
 * kernel by kernel, for a viewer of traces.
 */
#ifndef QAT_PROFILE_H
#define QAT_PROFILE_H

#include <stdint.h>

struct qat_exec;
struct qat_runtime;
typedef struct qat_profile qat_profile;

qat_profile *qat_profile_new(void);	/* NULL: out of memory */
void qat_profile_free(qat_profile *p);

/* What runs from now on belongs to this step of the pipeline; the names are kept. */
void qat_profile_step(qat_profile *p, int64_t index, const char *task);

/* Runs a phase as qat_exec_run does, one kernel after the other. */
int qat_profile_run(struct qat_exec *x, uint32_t phase, struct qat_runtime *rt);

/* Prints a table for each step, and writes profile.json and trace.json to the folder. */
int qat_profile_write(const qat_profile *p, const char *folder);

#endif
