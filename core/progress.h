/* progress.h - how far a step is: a line on a terminal, redrawn; elsewhere one every 30 s.
 *
 * There is one such line. Messages of the log go above it. From the main thread only;
 * other threads may log meanwhile.
 */
#ifndef QAT_PROGRESS_H
#define QAT_PROGRESS_H

#include <stdint.h>

struct qat_progress;		/* <qatrun/task.h> */

/* Begins a line: "train" and its state. `quiet`: nothing is shown, rates are still known. */
void qat_progress_begin(const char *what, int quiet);

/* Shows how far it is; draws ten times a second at most. */
void qat_progress_show(const struct qat_progress *p);

/* Shows bytes of a whole, and what is under way: for files, in place of show. */
void qat_progress_bytes(const char *what, int64_t done, int64_t total);

/* Clears the line. */
void qat_progress_end(void);

/* Tokens a second since the second call of show; 0 before. */
double qat_progress_rate(void);

/* Resident bytes of this process, now and at most since the last reset (where the system
 * can reset it, else in all); 0 where the system does not tell. */
int64_t qat_memory_now(void);
int64_t qat_memory_peak(void);
void qat_memory_peak_reset(void);

#endif
