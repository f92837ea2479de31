/* pipeline.h - a pipeline file, read and checked as a whole before anything runs.
 *
 * All of it belongs to the pipeline. Every part keeps the node that it came from, so that
 * what is found out later can still be said at its place, with qat_yaml_fail.
 */
#ifndef QAT_PIPELINE_H
#define QAT_PIPELINE_H

#include <qatrun/option.h>

#include "arena.h"
#include "sites.h"
#include "yaml_tree.h"

enum { QAT_PIPELINE_VERSION = 1, QAT_NAME_MAX = 100 };

/* What a device cannot run goes to the default backend, or is refused. AUTO: as WARN while
 * a session copies at most QAT_FALLBACK_BYTES a step between devices, else as ERROR. */
enum {
	QAT_FALLBACK_ERROR = 0, QAT_FALLBACK_WARN = 1, QAT_FALLBACK_ALLOW = 2,
	QAT_FALLBACK_AUTO = 3
};
#define QAT_FALLBACK_BYTES ((int64_t)16 << 20)

/* Where the parameters come from: a path, a hub name, or a seed. */
typedef struct qat_pipeline_model {
	const qat_yaml_node *node;
	const char *path;		/* absolute: a file or folder that exists; else NULL */
	const char *hub;		/* "owner/name"; else NULL */
	const char *revision;		/* of the hub, NULL: its default */
	int64_t random;			/* 1: made from the seed */
	const char *family;		/* NULL: what the file says */
	qat_instance instance;		/* of the family: interface NULL where none is named,
					 * self (from `config`) NULL where not random */
	const qat_yaml_node *config;	/* NULL: none */
	const char *tokenizer;		/* plugin's name; NULL: none named */
	const char *tokenizer_file;	/* absolute; else NULL */
} qat_pipeline_model;

typedef struct qat_pipeline_device {
	const qat_yaml_node *node;	/* NULL: all defaults */
	qat_instance backend;
	int64_t index;
	int64_t threads;		/* >= 1 */
	int64_t precision;		/* QAT_F32 or QAT_BF16 */
	int64_t memory_limit;		/* bytes; 0: none */
	int64_t fallback;		/* QAT_FALLBACK_* */
} qat_pipeline_device;

/* An entry of `data` or `schemes`. */
typedef struct qat_pipeline_item {
	const char *name;
	const qat_yaml_node *node;
	qat_instance plugin;		/* data set or quantizer */
	int64_t of;			/* scheme: the first that its options name, -1: none */
} qat_pipeline_item;

/* States in the order in which they come to be; 0 is `base`. */
typedef struct qat_pipeline_state {
	const char *name;
	int64_t parent;			/* state, -1: none */
	int64_t step;			/* that makes it, -1: base */
} qat_pipeline_state;

typedef struct qat_pipeline_step {
	const qat_yaml_node *node;
	const char *task;
	qat_instance plugin;
	int64_t as;			/* state that it makes, -1: none */
	int64_t from;			/* state of its first QAT_OPT_STATE(S), -1: none */
	int64_t *reads;			/* all states that it takes, each once */
	int64_t n_reads;
} qat_pipeline_step;

typedef struct qat_pipeline {
	qat_arena *arena;
	qat_yaml *doc;
	const char *file;		/* as the user gave it */
	const char *folder;		/* of the file, absolute */

	const char *name;
	int64_t seed;
	const char *output;		/* absolute */
	qat_pipeline_model model;
	qat_pipeline_device device;
	qat_pipeline_item *data;
	int64_t n_data;
	qat_pipeline_item *schemes;
	int64_t n_schemes;
	qat_sites *sites;
	int64_t n_sites;
	qat_pipeline_step *steps;
	int64_t n_steps;
	qat_pipeline_state *states;
	int64_t n_states;
	qat_instance *trackers;
	int64_t n_trackers;
} qat_pipeline;

/* Reads and checks a file; `sets` are the texts after --set. Opens the plugins that it
 * names, and no data and no model. The paths in p->doc are absolute afterwards. */
int qat_pipeline_load(qat_pipeline **out, const char *path, const char *const *sets,
		      int64_t n_sets);

/* The same of a text; `name` stands for the file in messages, the working directory for
 * its folder. */
int qat_pipeline_parse(qat_pipeline **out, const char *text, const char *name,
		       const char *const *sets, int64_t n_sets);
void qat_pipeline_free(qat_pipeline *p);

/* Prints the keys of a pipeline file. */
int qat_pipeline_help(FILE *out);

/* Index by name, -1 where there is none. */
int64_t qat_pipeline_state_index(const qat_pipeline *p, const char *name);
int64_t qat_pipeline_data_index(const qat_pipeline *p, const char *name);
int64_t qat_pipeline_scheme_index(const qat_pipeline *p, const char *name);
const qat_sites *qat_pipeline_sites_find(const qat_pipeline *p, const char *name);

/* The first backend with that flag (QAT_IS_*) that has a device here; *out NULL: none. */
int qat_backend_flagged(const qat_interface **out, uint64_t flag);

/* Letters, digits, '.', '_' and '-', not '.' or '-' at first, at most QAT_NAME_MAX: safe
 * as the name of a file. */
int qat_name_valid(const char *name);

/* Processors that this process may use. */
int64_t qat_threads_default(void);

#endif
