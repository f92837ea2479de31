/* range.h - the range that a calibration found. */
#ifndef QAT_RANGE_H
#define QAT_RANGE_H

#include <qatrun/numerics.h>

/* Statistics of the range that scheme s takes of what was seen: min and max, and where the
 * scheme leaves elements out the histogram of numerics.h, else NULL. 0 where there is no
 * finite range. */
int qat_range_stats(qat_block_stats *out, const qat_scheme *s, const float range[2],
		    const double *counts);

#endif
