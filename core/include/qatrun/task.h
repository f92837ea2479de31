/* task.h - what a task offers, and the services that it works with.
 *
 * A step of a pipeline is a task plugin with its options. Tasks take states and may
 * make a new one; they never change a state. What they can do stands in
 * qat_session_api, the host's service "session".
 */
#ifndef QATRUN_TASK_H
#define QATRUN_TASK_H

#include <qatrun/plugin.h>
#include <qatrun/optimizer.h>

typedef struct qat_step qat_step;		/* the core's: one step of the pipeline */
typedef struct qat_data qat_data;		/* an opened data set */
typedef struct qat_session qat_session;		/* a model on a device, ready to run */
typedef struct qat_row qat_row;			/* one object in results.json */

enum {
	QAT_SESSION_EVALUATE  = 1,	/* forward only */
	QAT_SESSION_TRAIN     = 2,	/* forward, backward, update */
	QAT_SESSION_CALIBRATE = 3,	/* forward, with the ranges of inputs observed */
	QAT_SESSION_GENERATE  = 4	/* append() alone: keys and values stay between calls */
};

typedef struct qat_session_spec {
	uint32_t size;
	uint32_t mode;			/* QAT_SESSION_* */
	const char *state;		/* to start from */
	const char *sites;		/* NULL: the state's own; "none"; or a name */
	int64_t batch, length;
	int64_t accumulate;		/* TRAIN: micro-batches of an optimizer step, >= 1 */
	int64_t logits;			/* EVALUATE: 1 if logits() will be called */
	const qat_instance *optimizer;	/* TRAIN; NULL: gradients only, no updates */
	int64_t steps;			/* TRAIN: in all, for schemes that change over time */
	int64_t context;		/* GENERATE: tokens that a sequence may reach; length is
					 * how many of a prompt run at once */
	int64_t gradient_bits;		/* TRAIN: products of the backward pass take gradients as
					 * codes of this many bits where schemes allow; 0: floats */
} qat_session_spec;

typedef struct qat_task {
	uint32_t size, reserved;

	/* Before anything runs: what the option table cannot say. NULL: nothing. */
	int (*check)(const void *self, qat_step *step);
	int (*run)(const void *self, qat_step *step);

	/* The sessions that run will open, for --check (memory) and --explain: fill *out
	 * for index 0, 1, ...; QAT_ENOTFOUND past the last. NULL: none. */
	int (*session)(const void *self, qat_step *step, int64_t index, qat_session_spec *out);
} qat_task;

/* One (micro-)batch. N = batch * length. */
typedef struct qat_batch {
	uint32_t size, reserved;
	const int32_t *tokens, *labels;		/* [N]; label -100 is not scored */
	const float *loss_gradient;		/* [N], backward only: d(loss)/d(nll[n]) */
	int64_t sequence;			/* index in the run of the first sequence */
	int64_t step;				/* optimizer step, from 0 */
	float *nll;				/* [N] out, NULL: not wanted */
	int32_t *argmax;			/* [N] out, NULL: not wanted */
} qat_batch;

typedef struct qat_progress {
	uint32_t size, reserved;
	int64_t done, total;		/* units of work: batches, optimizer steps */
	int64_t tokens;			/* processed so far in this step */
	int64_t optimizer_step;		/* -1: none */
	double loss, lr;		/* NaN: none */
	const char *state;		/* that is worked on */
} qat_progress;

/* A checkpoint of a step that makes a state. */
typedef struct qat_point {
	uint32_t size, reserved;
	int64_t step;		/* optimizer steps done */
	int64_t keep;		/* how many stay, the newest ones; at least 1 */
	double loss;		/* of an evaluation after that step; NaN: there was none. That of
				 * the lowest stays beside the newest */
	double best;		/* restore: the lowest so far, infinity if there is none */
} qat_point;

typedef struct qat_session_api {
	uint32_t size, reserved;

	/* --- the step --- */
	const char *(*output)(const qat_step *s);	/* folder of the run, absolute */
	uint64_t (*seed)(const qat_step *s);
	uint32_t (*precision)(const qat_step *s);	/* QAT_F32 or QAT_BF16 */
	int (*stopped)(void);				/* 1 once a signal asked to stop */
	/* Show and record progress; cheap, may be called for every batch. */
	void (*progress)(qat_step *s, const qat_progress *p);
	/* For tokens_per_second: the time since the previous call is this many tokens';
	 * 0: nobody's. */
	void (*timed_tokens)(qat_step *s, int64_t tokens);

	/* --- data sets --- */
	/* Open `name` as the tokenizer of `state` encodes it. */
	int (*data_open)(qat_step *s, qat_data **out, const char *name, const char *state);
	void (*data_close)(qat_data *d);
	int64_t (*data_count)(const qat_data *d);	/* sequences */
	int64_t (*data_length)(const qat_data *d);	/* tokens of one */
	int (*data_get)(const qat_data *d, int64_t i, int32_t *tokens, int32_t *labels);

	/* --- sessions --- */
	int (*open)(qat_step *s, qat_session **out, const qat_session_spec *spec);
	void (*close)(qat_session *x);
	int64_t (*vocabulary)(const qat_session *x);
	int (*forward)(qat_session *x, const qat_batch *b);
	/* After forward, with spec.logits: [N, V] f32. */
	int (*logits)(qat_session *x, float *out);
	/* Forward and backward; gradients add up until update. */
	int (*backward)(qat_session *x, const qat_batch *b);
	/* L2 norm over all gradients. */
	int (*gradient_norm)(qat_session *x, double *out);
	/* Apply and clear the gradients. u->matrix is set by the core. */
	int (*update)(qat_session *x, const qat_update *u);
	/* Parameters of the session and the gradient of each, f32, by index. name NULL past
	 * the end. */
	const char *(*param_name)(const qat_session *x, int64_t index, int64_t *elements);
	int (*param_gradient)(qat_session *x, int64_t index, float *out);
	/* What this session's parameters are now becomes the state `as`. */
	int (*commit)(qat_session *x, const char *as, int64_t tokens_trained);
	/* A state under training, seen through its own parameters: an evaluation session
	 * that shares them. Close it before x. */
	int (*share)(qat_session *x, qat_session **out, const qat_session_spec *spec);

	/* --- states --- */
	/* Round to nearest at all weight sites of `sites`; makes the state `as`. */
	int (*quantize)(qat_step *s, const char *from, const char *sites, const char *as);
	/* Write a state to a new folder `path` under the output. format NULL: native. */
	int (*save)(qat_step *s, const char *state, const char *path, const char *format);
	int64_t (*state_bytes)(qat_step *s, const char *state);		/* as saved */

	/* --- results --- */
	/* A new object in a list of results.json ("evaluations", ...). The core keeps it. */
	qat_row *(*row)(qat_step *s, const char *list);
	void (*row_text)(qat_row *r, const char *key, const char *value);
	void (*row_int)(qat_row *r, const char *key, int64_t value);
	void (*row_number)(qat_row *r, const char *key, double value);	/* not finite: null */
	/* An event line in events.jsonl while the task runs. */
	void (*event)(qat_step *s, const char *kind, const char *const *keys,
		      const double *values, int64_t count);
	/* Bytes remembered for this run under a key, so that tasks need not compute twice;
	 * recall returns NULL when absent. */
	int (*remember)(qat_step *s, const char *key, const void *data, int64_t bytes);
	const void *(*recall)(qat_step *s, const char *key, int64_t *bytes);
	/* Write named tensors as one file under the output, in the native format. */
	int (*dump)(qat_step *s, const char *path, const qat_tensor *const *tensors,
		    int64_t count);
	/* Whether save and dump may write there: a relative path under the output that is
	 * none of the run's own records. For a task's check. */
	int (*path_check)(qat_step *s, const char *path);
	/* The same for save: also that the format can hold the state, and that nothing is
	 * there but what --force replaces. */
	int (*save_check)(qat_step *s, const char *state, const char *path, const char *format);

	/* --- generation: sessions of mode GENERATE --- */
	/* `count` more tokens of each sequence, [batch, count], and the logits after the
	 * last, [batch, V] f32; logits NULL: not wanted. They have the bits that a forward
	 * pass over the whole sequence gives, unless an input's dynamic range is that of all
	 * tokens together: then what runs at once matters. */
	int (*append)(qat_session *x, const int32_t *tokens, int64_t count, float *logits);
	/* New sequences begin. */
	int (*restart)(qat_session *x);

	/* --- text: as the run's tokenizer has it --- */
	/* Free both with text_free. Added tokens in the text are recognised. */
	int (*encode)(qat_step *s, int32_t **out, int64_t *count, const char *text,
		      int64_t bytes);
	/* UTF-8 whatever the ids are, U+FFFD for what is none and for NUL; a NUL ends it.
	 * special: 0 leaves out the tokens that the tokenizer marks as special. */
	int (*decode)(qat_step *s, char **out, int64_t *bytes, const int32_t *ids, int64_t count,
		      int special);
	void (*text_free)(void *memory);
	/* Ids of QAT_TOKEN_BOS or QAT_TOKEN_EOS, as the model's configuration says, else its
	 * tokenizer: at most `room` of them into out. Returns how many. */
	int64_t (*special_tokens)(qat_step *s, int which, int32_t *out, int64_t room);
	/* Tokens of the longest sequence of the model, 0: unlimited. Negative: an error. */
	int64_t (*context)(qat_step *s);

	/* --- checkpoints, between two optimizer steps of a training session --- */
	/* Write what x keeps: parameters, the optimizer's moments, how far results and events
	 * are. Whole or not at all. Where this step's checkpoint is there already, only loss
	 * is taken note of. */
	int (*checkpoint)(qat_session *x, const qat_point *p);
	/* After open: the newest checkpoint that this step should go on from, if the run was
	 * resumed, is read into x. out->step: optimizer steps that are done, 0 if there is
	 * none. What else a task keeps must follow from that number. */
	int (*restore)(qat_session *x, qat_point *out);
} qat_session_api;

#endif
