/* session_internal.h - shared by the files of session.h. */
#ifndef QAT_SESSION_INTERNAL_H
#define QAT_SESSION_INTERNAL_H

#include "session.h"

struct qat_session {
	qat_context *context;
	qat_session_spec spec;
	const qat_state *state;
	qat_session *shared;		/* whose parameters these are, NULL: own */
	qat_arena *arena;
	qat_placement placement;
	qat_ir *model, *prepared, *ir;	/* each keeps what the next points at */
	qat_loss loss;
	qat_trained *trained;
	int64_t n_trained;
	qat_exec *exec;
	int64_t *selected;
	int prologue_done;
};

/* Value of the parameter of that name, if this session has it in memory; else QAT_NONE. */
int64_t qat_session_find(const qat_session *x, const char *name);

#endif
