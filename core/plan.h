/* plan.h - which buffer lies where: intervals of time to offsets in a slab. */
#ifndef QAT_PLAN_H
#define QAT_PLAN_H

#include <stdint.h>

typedef struct qat_interval {
	int64_t bytes;
	int64_t first, last;	/* inclusive, in units of running order */
	int64_t offset;		/* out */
} qat_interval;

/* Give every interval an offset, a multiple of `alignment`, so that no two that overlap
 * in time overlap in memory. *total: bytes of the slab. */
int qat_plan(qat_interval *items, int64_t count, int64_t alignment, int64_t *total);

#endif
