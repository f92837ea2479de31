/* identity.h - what decides the bits that a step makes, as text.
 *
 * Lines "key=value": program, numeric contract, seed, device, model, the step's options,
 * the schemes and sites that it names, the plugins with their versions, its data by
 * content, and the states that it takes by what made them. What changes no bit is left
 * out: threads, memory_limit, options flagged QAT_OPT_NEUTRAL, where files lie. Equal
 * texts, equal results.
 */
#ifndef QAT_IDENTITY_H
#define QAT_IDENTITY_H

#include "step.h"

typedef struct qat_identity qat_identity;

int qat_identity_new(qat_identity **out, qat_step *s);
void qat_identity_free(qat_identity *d);

/* Of a step; borrowed, made at the first call. */
int qat_identity_of(qat_identity *d, const char **out, int64_t step);

/* QAT_OK if two texts are equal; else QAT_EEXIST, naming the first key that differs:
 * "<what>: <key> was <then>, is now <now>: <way out>". */
int qat_identity_same(const char *then, const char *now, const char *what, const char *out);

#endif
