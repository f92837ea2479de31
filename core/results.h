/* results.h - what a run says in numbers: results.json, events.jsonl, tables.
 *
 * results.json is one document in memory, written whole after each step:
 *   {"qatrun", "numerics", "name", "seed", "machine", "steps": [], "states": {},
 *    "evaluations": [], "comparisons": []}
 * Rows keep the order of their keys. Functions without a result remember a failure, and
 * qat_results_write says it.
 */
#ifndef QAT_RESULTS_H
#define QAT_RESULTS_H

#include <stdint.h>
#include <stdio.h>

typedef struct qat_row qat_row;		/* <qatrun/task.h> */
typedef struct qat_results qat_results;
typedef struct qat_events qat_events;

/* `path`: of results.json. */
int qat_results_new(qat_results **out, const char *path, const char *name, int64_t seed);
void qat_results_free(qat_results *r);

/* A new object at the end of a list ("steps", "evaluations", ..., or a new one); it lives
 * as long as r. NULL when memory is out, which the functions below bear. */
qat_row *qat_results_row(qat_results *r, const char *list);

/* The object of a state, made at the first call; and that of the machine. */
qat_row *qat_results_state(qat_results *r, const char *name);
qat_row *qat_results_machine(qat_results *r);

/* Put or replace a value; text that is not UTF-8 and numbers that are not finite are null. */
void qat_row_text(qat_row *row, const char *key, const char *value);
void qat_row_int(qat_row *row, const char *key, int64_t value);
void qat_row_number(qat_row *row, const char *key, double value);

/* Writes the document to a file beside its path, and renames that: whole or not at all. */
int qat_results_write(qat_results *r);

/* Prints the rows of a list that have not been printed as a table: names first, columns
 * aligned, numbers to the right. */
int qat_results_print(qat_results *r, FILE *out, const char *list);

/* All rows of a list as a table in Markdown; nothing where there are none. */
void qat_results_markdown(const qat_results *r, FILE *out, const char *list);

/* The same for rows of `prompt`, `state`, `text`: every prompt once, and below it what the
 * states wrote. */
int qat_results_print_texts(qat_results *r, FILE *out, const char *list);

/* --- events.jsonl --- */

/* Opens the file to append to it. */
int qat_events_new(qat_events **out, const char *path);
void qat_events_free(qat_events *e);

/* Puts what was added on the disk; *bytes is how much there is. */
int qat_events_mark(qat_events *e, int64_t *bytes);

/* Forgets what came after a mark. Where there is less than that, the log says so. */
int qat_events_cut(qat_events *e, int64_t bytes);

/* A value of an event: text, or a number where text is NULL. */
typedef struct qat_event_value {
	const char *key, *text;
	double number;
} qat_event_value;

/* Appends {"time": seconds since 1970, ...} as one line, and flushes it. Whole numbers are
 * written without a point. Lost where the disk is full: the log says so, once. */
void qat_events_add(qat_events *e, const qat_event_value *values, int64_t count);

/* Bytes to a file beside `path`, flushed to the disk, and then renamed to it. */
int qat_file_replace(const char *path, const void *data, int64_t bytes);

/* The names in the folder that `path` lies in, put on the disk. */
int qat_folder_sync(const char *path);

#endif
