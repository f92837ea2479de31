/* tracker.h - the trackers of a run (<qatrun/tracker.h>), told what its records are told.
 *
 * Nothing here fails for a tracker's sake: the log says what went wrong, once each.
 */
#ifndef QAT_CORE_TRACKER_H
#define QAT_CORE_TRACKER_H

#include <jansson.h>

#include "output.h"
#include "pipeline.h"
#include "results.h"

typedef struct qat_trackers qat_trackers;

/* Opens those that the pipeline names; what they left under the output is removed, unless
 * the run is resumed. */
int qat_trackers_open(qat_trackers **out, const qat_pipeline *p, const qat_output *output,
		      int resumed);

/* Where --resume goes on: for each tracker that is open, what its folder has, on the disk
 * from here on. NULL: out of memory. */
json_t *qat_trackers_mark(qat_trackers *t);
/* Before they are opened: their folders become what they were at the mark. A tracker that
 * the mark does not know is left as it is. */
void qat_trackers_cut(const qat_pipeline *p, const char *output, const json_t *mark);

/* An event of `state` (NULL: as the event says). Without an optimizer step it is no point
 * of a curve and is not told. */
void qat_trackers_event(qat_trackers *t, const char *state, const qat_event_value *values,
			int64_t count);

/* Rows of results that have not been told, after a step of the pipeline. */
void qat_trackers_results(qat_trackers *t, const qat_results *r, int64_t step);

/* What results have now was told by the run that was interrupted. */
void qat_trackers_skip(qat_trackers *t, const qat_results *r);

/* Tells the tables and closes; NULL is safe for both. Leaves the last failure's message. */
void qat_trackers_close(qat_trackers *t, const qat_results *r);

#endif
