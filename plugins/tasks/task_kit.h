/* task_kit.h - what the task plugins share: the service, and judging a state. */
#ifndef QAT_TASK_KIT_H
#define QAT_TASK_KIT_H

#include <qatrun/task.h>

/* The host's service "session"; fails in a plugin's init if this core has none. */
extern QAT_HIDDEN const qat_session_api *qat_api;
QAT_HIDDEN int qat_task_init(void);

/* How a state does on a data set. */
typedef struct qat_judgement {
	double nll;		/* summed over scored tokens */
	int64_t tokens;		/* scored */
	int64_t correct;	/* argmax is the label */
	double seconds;		/* of the batches after the first */
	int64_t timed_tokens;	/* in them, scored or not */
	int64_t sequences;
	double *sequence_nll;	/* [sequences], free with qat_judgement_free */
	int64_t *sequence_tokens;
} qat_judgement;

/* Where logits and the like go while judging; any may be NULL. */
typedef struct qat_judge_dump {
	int32_t *tokens;	/* [n, length + 1] */
	float *logits;		/* [n, length, V] */
	float *nll;		/* [n, length] */
} qat_judge_dump;

/* Judge `state` on `data`. batch <= 0: a default. The session is opened here, or shared
 * with `training`. Remembered for the run where nothing is dumped and training is NULL. */
QAT_HIDDEN int qat_judge(qat_step *s, qat_judgement *out, const char *state, const char *data,
			 int64_t batch, qat_session *training, const qat_judge_dump *dump);
/* The session that qat_judge opens, for qat_task.session. */
QAT_HIDDEN int qat_judge_session(qat_step *s, qat_session_spec *out, const char *state,
				 const char *data, int64_t batch);
/* Length and count of a data set's sequences. */
QAT_HIDDEN int qat_data_size(qat_step *s, const char *data, const char *state, int64_t *length,
			     int64_t *count);
/* For a check: QAT_EINVAL where the data set has no label that is scored. */
QAT_HIDDEN int qat_data_scored(qat_step *s, const char *data, const char *state);
QAT_HIDDEN void qat_judgement_free(qat_judgement *j);

#endif
