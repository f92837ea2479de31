/* tracker.h - what a tracker offers: it is told a run's numbers while they come to be.
 *
 * A pipeline names trackers under `trackers:`. What goes to events.jsonl with an optimizer
 * step, and the rows of evaluations and comparisons, are told to each as points of curves;
 * the tables of results as texts, at the end. A run that is resumed tells nothing twice and
 * leaves nothing out. A tracker never stops a run: after its first failure the log says so,
 * it is closed, and the run goes on.
 * From the main thread only, while nothing else runs: be quick.
 */
#ifndef QATRUN_TRACKER_H
#define QATRUN_TRACKER_H

#include <qatrun/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qat_tracker_env {
	uint32_t size, reserved;
	const char *run;	/* name of the run */
	const char *folder;	/* absolute, <output>/<name of the tracker>: its own, to make
				 * where it writes files; what is there is of this run. Files
				 * there only grow: --resume cuts each to what it was at the
				 * last flush, and removes those that were made since */
	int64_t resumed;	/* 1: the run goes on after an interruption; what it told after
				 * that flush is told again */
} qat_tracker_env;

/* A point of the curve (state, tag), or a text. Borrowed for the call. */
typedef struct qat_track {
	uint32_t size, reserved;
	const char *state;	/* name of the state, safe as that of a file; NULL: the run */
	const char *tag;	/* words separated by '/': "train/loss", "evaluate/test/loss" */
	int64_t step;		/* optimizer step, from 1; of results, step of the pipeline */
	double time;		/* seconds since 1970 */
	double value;		/* scalar: finite */
	const char *text;	/* text: Markdown in UTF-8 */
} qat_track;

typedef struct qat_tracker {
	uint32_t size, reserved;

	/* Before the first step runs. `*out`, the tracker's handle, may stay NULL. */
	int (*open)(void **out, const void *self, const qat_tracker_env *env);
	int (*scalar)(void *handle, const qat_track *point);
	int (*text)(void *handle, const qat_track *text);	/* NULL: has no use for texts */

	/* Write what is held back; frees the handle, also when it fails. */
	int (*close)(void *handle);

	/* Write what is held back: the run can go on from here, and then tells what comes
	 * after this. The core puts the folder's files on the disk. NULL: nothing is. */
	int (*flush)(void *handle);
} qat_tracker;

#ifdef __cplusplus
}
#endif
#endif
