/* arena.h - memory that is freed all at once. */
#ifndef QAT_ARENA_H
#define QAT_ARENA_H

#include <stddef.h>

typedef struct qat_arena qat_arena;

int qat_arena_new(qat_arena **out);
void qat_arena_free(qat_arena *a);

/* Zeroed, aligned for anything; NULL after a failure was left. */
void *qat_arena_alloc(qat_arena *a, size_t size);

/* The same of count * size bytes. */
void *qat_arena_array(qat_arena *a, size_t count, size_t size);

/* A copy; NULL stays NULL. */
const char *qat_arena_text(qat_arena *a, const char *text);
const char *qat_arena_format(qat_arena *a, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
