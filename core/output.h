/* output.h - the folder of a run: made, locked, emptied; and the wish to stop.
 *
 *   pipeline.yaml  results.json  events.jsonl  states/  finished.json  checkpoints/
 *   lock (while it runs)
 */
#ifndef QAT_OUTPUT_H
#define QAT_OUTPUT_H

#include "yaml_tree.h"

typedef struct qat_output qat_output;

/* What to do with a folder that is not empty. */
enum {
	QAT_OUTPUT_NEW = 0,	/* refuse it (QAT_EEXIST) */
	QAT_OUTPUT_REPLACE = 1,	/* remove what a run made, and nothing else */
	QAT_OUTPUT_GO_ON = 2	/* leave it as it is */
};

/* Makes the folder, with those above it, and locks it. One that is not empty must have
 * been made by a run: its pipeline.yaml says so. */
int qat_output_open(qat_output **out, const char *path, int how);

/* Unlocks. */
void qat_output_close(qat_output *o);

/* The same refusals, without making or changing anything. */
int qat_output_check(const char *path, int how);

/* Removes a file, a link itself, or a folder with all in it; what is not there is fine. */
int qat_path_remove(const char *path);

/* Removes a file, or a folder with all that is in it, of the output; it may be absent. */
int qat_output_remove(const qat_output *o, const char *name);

/* Absolute, with links resolved. */
const char *qat_output_path(const qat_output *o);

/* Writes pipeline.yaml: a line that says who made it, then the tree. */
int qat_output_store(const qat_output *o, const qat_yaml_node *root);

/* From here on SIGINT and SIGTERM ask to stop; the second SIGINT ends the process. */
void qat_signals_catch(void);

/* The signals do again what they did before qat_signals_catch; a wish that came meanwhile
 * stays. */
void qat_signals_restore(void);

/* 1 once a signal asked to stop. */
int qat_stopped(void);

#endif
