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
	int expected;			/* QAT_EXPECT_*: what the state will be, once it is there */
	int level;			/* of recompute */
	int stream;			/* see qat_exec_spec */
	int64_t mapped;
	int prologue_done;
	struct qat_generation *generation;	/* mode GENERATE */
	qat_lasting *lasting;		/* made when first asked for */
	int64_t n_lasting;
};

static inline int qat_session_is_training(const qat_session *x)
{
	return x->spec.mode == QAT_SESSION_TRAIN;
}

static inline int qat_session_is_generating(const qat_session *x)
{
	return x->spec.mode == QAT_SESSION_GENERATE;
}

/* One graph of a session; qat_session_open and qat_session_predict make all. */
int qat_session_open_one(qat_session **out, qat_context *c, const qat_session_spec *spec,
			 qat_session *share);
int qat_session_predict_one(qat_plan_size *out, const char **range, qat_context *c,
			    const qat_session_spec *spec, int how);

/* session_graph.c: x->model to x->ir, of what the spec says. */
int qat_session_build(qat_session *x);
/* Whether the device can read it where it lies in the file. */
int qat_session_can_map(const qat_context *c, const qat_param_state *p);

/* The values that are read from outside after a run, malloc'ed. */
int qat_session_keep(const qat_session *x, int64_t **out, int64_t *count);
qat_exec_spec qat_session_exec_spec(const qat_session *x, const int64_t *keep, int64_t n_keep);

/* session_fit.c: change the graph, or how it runs, until the plan is within memory_limit, if
 * that can be; what still needs too much is refused by whoever runs the session. *keep is that
 * of the graph as it is then. */
int qat_session_fit(qat_session *x, int64_t **keep, int64_t *n_keep);
void qat_session_say_fit(const qat_session *x);

/* session_generate.c: the graphs of a session of mode GENERATE. */
int qat_generation_open(qat_session **out, qat_context *c, const qat_session_spec *spec,
			qat_session *share);
int qat_generation_predict(qat_plan_size *out, const char **range, qat_context *c,
			   const qat_session_spec *spec, int how);
void qat_generation_size(const qat_session *x, qat_plan_size *out);
void qat_generation_free(struct qat_generation *g);
/* What comes after the model's network: logits, or nothing where a prompt is read. */
int qat_generation_head(qat_session *x, const qat_outputs *out);

/* Value of the parameter or cache of that name, if this session has it in memory; else QAT_NONE. */
int64_t qat_session_find(const qat_session *x, const char *name);

#endif
