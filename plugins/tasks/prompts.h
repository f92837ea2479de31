/* prompts.h - texts to go on from, as ids. */
#ifndef QAT_PROMPTS_H
#define QAT_PROMPTS_H

#include "task_kit.h"

typedef struct qat_prompt {
	const char *text;
	int32_t *ids;
	int64_t count;			/* at least 1 */
} qat_prompt;

typedef struct qat_prompts {
	qat_prompt *at;
	int64_t count, longest;		/* longest: tokens */
	char *lines;			/* the file, a NUL after each line */
} qat_prompts;

/* Those of the list, then the lines of the file that are not empty (NULL: none). At least
 * one, or QAT_EINVAL. */
QAT_HIDDEN int qat_prompts_load(qat_prompts *out, qat_step *s, const qat_strings *list,
				const char *file, int add_bos);
QAT_HIDDEN void qat_prompts_free(qat_prompts *p);

#endif
