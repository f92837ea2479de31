/* context.h - what a run holds while it runs: device, states, tokenizer. */
#ifndef QAT_CONTEXT_H
#define QAT_CONTEXT_H

#include <qatrun/tokenizer.h>

#include "exec.h"
#include "pipeline.h"
#include "state.h"

typedef struct qat_context {
	const qat_pipeline *p;
	qat_arena *arena;
	qat_device device;
	qat_device fallback;		/* opened when a node needs it; name NULL: none */
	const qat_format *native;	/* stores states */
	qat_state **states;		/* [p->n_states], NULL until opened */
	const qat_tokenizer *tokenizer;	/* NULL until asked for */
	void *tokenizer_handle;
	char *tokenizer_json;		/* from a file of its own */
	qat_text tokenizer_doc;
	const char *tokenizer_name;	/* named by the pipeline or the state; NULL */
	struct qat_data **data;		/* [p->n_data], NULL until opened */
	struct qat_step *step;		/* that runs */
	int64_t beside;			/* bytes that sessions will need which share the one that
					 * is planned */
	int64_t own;			/* bytes in memory as a session was fitted to the limit:
					 * what is fitted and what is judged go by one figure */
	int quiet;			/* no progress */
	const char *base_path;		/* of `base`, once it is open; NULL: random */
	const char *base_revision;	/* that was fetched; NULL: not fetched, or unknown */
} qat_context;

/* Closes a data set of step_data.c; NULL is safe. */
void qat_data_free(struct qat_data *d);

int qat_context_new(qat_context **out, const qat_pipeline *p);
void qat_context_free(qat_context *c);
/* From here on the device takes the time of every kernel, or judges every first step. */
int qat_context_watch(qat_context *c, int profile, int trace);

/* The state of that name, opened if need be; borrowed. */
int qat_context_state(qat_context *c, const qat_state **out, const char *name);
/* Folder of a state under the output, arena memory; NULL: out of memory. */
const char *qat_context_folder(qat_context *c, const char *state);
/* Opens the tokenizer: c->tokenizer. QAT_ENOTFOUND, with a message, if there is none. */
int qat_context_tokenizer(qat_context *c);

/* What a new state says of the tokenizer: the document and name of the run's. */
void qat_context_tokenizer_of(qat_context *c, const qat_state *s, qat_text *doc,
			      const char **name);

/* ---- which scheme sits where, for one session or conversion ---- */
typedef struct qat_placement {
	qat_context *context;
	const qat_state *state;
	qat_arena *arena;
	const char *sites;		/* NULL: the state's own; "none"; or a name */
	const char *const *names;	/* of sites */
	qat_site_choice *choices;	/* [n_names], with a named set */
	int64_t n_names;
	qat_placed *placed;		/* what lookups found, each once */
	int64_t n_placed, room_placed;
} qat_placement;

/* All memory is the arena's, which must outlive what is found. */
int qat_placement_start(qat_placement *out, qat_context *c, const qat_state *s,
			const char *sites, qat_arena *arena);
/* A qat_scheme_lookup. */
int qat_placement_find(void *placement, const qat_site *site, const qat_scheme_set **out);
/* The first scheme at a parameter's site; NULL: it stays floats. */
int qat_placement_weight(const qat_scheme **out, qat_placement *placement,
			 const qat_param_state *p);

#endif
