/* resume.h - what lets a run that was stopped go on: the record of finished steps, and the
 * checkpoints of the step that runs.
 *
 *   finished.json                the finished steps, each with its identity (identity.h);
 *                                results.json as it was then; how long events.jsonl was
 *   checkpoints/<state>/<n>/     the state under training after optimizer step n, in the
 *                                native format with the optimizer's moments beside the
 *                                parameters; checkpoint.json: identity, times, checksum
 *   checkpoints/<state>/best.json   which of them had the lowest evaluation loss
 *
 * A step is finished when finished.json says so, a checkpoint is there when its folder has
 * its name: both come about by a rename, after all in them is on the disk. Whatever else a
 * killed process leaves is removed by the next.
 */
#ifndef QAT_RESUME_H
#define QAT_RESUME_H

#include "step.h"

typedef struct qat_resume qat_resume;

/* `going_on`: with what an earlier run left in s->output. A pipeline that would have made
 * something else is refused (QAT_EEXIST), and nothing changed. */
int qat_resume_new(qat_resume **out, qat_step *s, int going_on);
void qat_resume_free(qat_resume *r);

/* Steps that are finished, the first ones. */
int64_t qat_resume_finished(const qat_resume *r);

/* 1 if there is something to go on from. */
int qat_resume_found(const qat_resume *r);

/* Gives s->results, s->events and the folders of trackers what they had at the point that
 * the run goes on from, and removes what is half done. Before trackers are opened. */
int qat_resume_apply(qat_resume *r);

/* Before a step runs: finds the checkpoint that it goes on from. After it, when all was
 * told that there is to tell of it: records that it is finished, and drops its checkpoints
 * but the best. */
int qat_resume_begin(qat_resume *r, int64_t step);
int qat_resume_end(qat_resume *r, int64_t step);

/* Refuses where another folder has taken the output's place, which may be another run's. */
int qat_resume_at_home(const qat_resume *r);

/* As qat_session_api says of checkpoint and restore. */
int qat_resume_write(qat_session *x, const qat_point *p);
int qat_resume_read(qat_session *x, qat_point *out);

/* Removes drafts that a killed process left beside `path`: "<path>.tmp-...". */
int qat_resume_clear_drafts(const char *path);

#endif
