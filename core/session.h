/* session.h - a model on a device, ready to run; and what makes new states. */
#ifndef QAT_SESSION_H
#define QAT_SESSION_H

#include <qatrun/task.h>

#include "context.h"

/* As qat_session_api says. `share` not NULL: a training session whose parameters it
 * uses. */
int qat_session_open(qat_session **out, qat_context *c, const qat_session_spec *spec,
		     qat_session *share);
void qat_session_close(qat_session *x);
qat_context *qat_session_context(const qat_session *x);
int64_t qat_session_vocabulary(const qat_session *x);
int qat_session_forward(qat_session *x, const qat_batch *b);
int qat_session_append(qat_session *x, const int32_t *tokens, int64_t count, float *logits);
int qat_session_restart(qat_session *x);
int qat_session_logits(qat_session *x, float *out);
int qat_session_backward(qat_session *x, const qat_batch *b);
int qat_session_norm(qat_session *x, double *out);
int qat_session_update(qat_session *x, const qat_update *u);
const char *qat_session_param(const qat_session *x, int64_t index, int64_t *elements);
int qat_session_gradient(qat_session *x, int64_t index, float *out);
/* Writes the parameters as they are now to a new folder, as a state. */
int qat_session_save(qat_session *x, const char *folder, int64_t tokens_trained);

/* Checkpoints. A training session keeps, beside its parameters, the optimizer's moments
 * and whatever else lasts from one optimizer step to the next. */
typedef struct qat_lasting {
	const char *name;		/* of its tensor in a checkpoint */
	int64_t value;
} qat_lasting;
int qat_session_lasting(qat_session *x, const qat_lasting **out, int64_t *count);
/* As qat_session_save, with all that lasts. *hash: the sum of the tensors' hashes. */
int qat_session_save_whole(qat_session *x, const char *folder, int64_t tokens_trained,
			   uint64_t *hash);
/* The sum over a folder that was so written. */
int qat_session_hash_whole(uint64_t *hash, const qat_format *native, const char *folder);
/* All back into a session of the same step. */
int qat_session_load_whole(qat_session *x, const char *folder);
/* Of name, type, shape and content. */
uint64_t qat_tensor_hash(const qat_tensor *t);

/* What a session would need, without making it. `how`: print where each node runs; and the
 * state stands for one that is not there yet, which will be stored as floats, or with codes
 * where there are schemes.
 * *range: a parameter of a static range that it reads, arena memory; NULL if none. */
enum { QAT_EXPECT_EXPLAIN = 1, QAT_EXPECT_FLOATS = 2, QAT_EXPECT_CODES = 4 };
int qat_session_predict(qat_plan_size *out, const char **range, qat_context *c,
			const qat_session_spec *spec, int how);
/* Bytes that the process will have with a plan: its own, the slabs, and a margin. */
int64_t qat_plan_need(const qat_context *c, const qat_plan_size *size);
void qat_session_size(const qat_session *x, qat_plan_size *out);

/* Writes a state with all weights at sites held as codes. sites NULL: the state's own.
 * format NULL: native. *need: bytes that the process was to take at most. */
int qat_convert(qat_context *c, const qat_state *s, const char *sites, const char *path,
		const qat_format *format, int64_t *need);
/* Whether the format could hold that, before the state exists: `s` has its shapes. */
int qat_convert_check(qat_context *c, const qat_state *s, const char *sites, const char *path,
		      const qat_format *format);
/* Bytes of the tensors that qat_convert would write, and the bits per parameter of
 * those that are codes (NaN if none). */
int qat_converted_size(qat_context *c, const qat_state *s, int64_t *bytes,
		       double *effective_bits);

#endif
