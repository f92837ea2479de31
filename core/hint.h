/* hint.h - "did you mean": the known name nearest to a word. */
#ifndef QAT_HINT_H
#define QAT_HINT_H

#include <stdint.h>

/* The i-th name, NULL past the last. */
typedef const char *qat_hint_name(const void *context, int64_t i);

/* The name that differs from `word` by the fewest edits (a letter put in, left out,
 * replaced, or two neighbours swapped; case, '-' and '_' count as equal), at most one
 * for every three letters; failing that, the only one that starts with `word`. NULL
 * where nothing is near. The first of equals; returned as given, not copied. */
const char *qat_hint_nearest(const char *word, const char *const *names, int64_t count);
const char *qat_hint_nearest_of(const char *word, qat_hint_name *name, const void *context);

#endif
