/* error.h - the message of the last failure, and the log on standard error.
 *
 * The function that first knows the cause calls qat_fail; those that pass an error
 * up do not. The message is kept per thread until the next failure on that thread.
 */
#ifndef QAT_ERROR_H
#define QAT_ERROR_H

#include <stdarg.h>

#include <qatrun/abi.h>

enum { QAT_MESSAGE_MAX = 1024 };	/* bytes with the final NUL; longer ends in "..." */

/* Leaves the message and returns `code`. The arguments may point into the message
 * that is there, as in qat_fail(rc, "%s: %s", path, qat_error()). */
int qat_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int qat_vfail(int code, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

/* This thread's message, "" when none. Valid until the thread's next failure. */
const char *qat_error(void);

/* One line to standard error, if `level` (QAT_LOG_*) is not above the one that is
 * set. The final newline is ours. Lines of several threads do not mix. */
void qat_log(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void qat_vlog(int level, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

/* What is shown: 0 nothing, QAT_LOG_WARN, QAT_LOG_INFO (the default), QAT_LOG_DEBUG.
 * Returns what was set before. */
int qat_log_level(int level);

/* `before` runs, under the log's lock, ahead of every line that is shown: a progress
 * line clears itself there. It must not log. NULL takes it away. */
void qat_log_hook(void (*before)(void));

#endif
