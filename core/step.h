/* step.h - a step while it runs: what the service "session" works on. */
#ifndef QAT_STEP_H
#define QAT_STEP_H

#include <qatrun/task.h>

#include "context.h"
#include "results.h"
#include "tracker.h"

typedef struct qat_memo {
	struct qat_memo *next;
	char *key;
	void *data;
	int64_t bytes;
} qat_memo;

struct qat_step {
	qat_context *context;
	qat_results *results;
	qat_events *events;
	qat_trackers *trackers;		/* NULL: none */
	const char *output;		/* absolute */
	int force;			/* --force */
	int resumed;			/* --resume */
	struct qat_resume *resume;
	int64_t index;			/* in the pipeline */
	const qat_pipeline_step *plan;
	qat_row *row;			/* in "steps" */
	double began, seconds_before;	/* of the step: now, and before it was resumed */
	int64_t peak_before;		/* bytes */
	double last_event;		/* seconds */
	double timed_from, timed_seconds;
	int64_t timed_tokens, tokens;
	int64_t predicted;		/* bytes */
	int64_t recompute;		/* level */
	qat_memo *memos;		/* of the whole run */
};

/* The table behind host->service("session"). */
extern const qat_session_api qat_step_api;

/* Builds the graph of every session that the pipeline's steps will open, and refuses what
 * cannot be run on the device, needs more than memory_limit, or needs ranges that nobody
 * measured. Prints as `show` says. */
enum { QAT_PREDICT_SILENT, QAT_PREDICT_MEMORY, QAT_PREDICT_KERNELS };
int qat_predict(qat_step *s, int show);
/* Of a training session that s is about to open: context->beside becomes what evaluations
 * meanwhile will take. Nothing where there is no memory_limit. */
int qat_predict_beside(qat_step *s, const char *state);
/* The sites that a state will have: of the step that makes it, or what it inherits. NULL:
 * those of base. */
const char *qat_predict_sites(const qat_pipeline *p, int64_t state);

/* Seconds on a clock that only goes forward. */
double qat_now(void);
/* The step needs this many bytes at some time, all that the process has taken included. */
void qat_step_need(qat_step *s, int64_t bytes);
/* Records a state in results.json: parent, bytes, effective bits, tokens trained. */
int qat_step_record(qat_step *s, const char *state);
void qat_memo_free(qat_memo *m);

#endif
