/* attention_ahead.h - memory that is asked for row by row, long before it is needed and between
 * the tiles: rows of a head lie too far from each other for the processor to see which come
 * next, and where many are asked for at once, what is needed now waits behind them. Per ISA.
 */
#ifndef QAT_CPU_ATTENTION_AHEAD_H
#define QAT_CPU_ATTENTION_AHEAD_H

#include "simd.h"

typedef struct ahead {
	struct { const char *at; int64_t step, bytes, rows; } part[8];
	int64_t first, n;		/* parts */
	int64_t left;			/* rows of all of them */
} ahead;

/* `count` rows of x, `width` elements each, from element `at` on. */
static void want(ahead *w, qat_src x, int64_t at, int64_t ld, int64_t width, int64_t count)
{
	const int64_t bytes = qat_dtype_bytes(x.dtype);

	if (count <= 0)
		return;
	w->part[w->n].at = (const char *)x.data + at * bytes;
	w->part[w->n].step = ld * bytes;
	w->part[w->n].bytes = width * bytes;
	w->part[w->n++].rows = count;
	w->left += count;
}

/* Asks for as much as leaves the same for each of n times, of which this is one. */
static void ask(ahead *w, int64_t n)
{
	const int64_t end = w->left - div_up(w->left, n);

	for (; w->left > end; w->left--) {
		const int64_t i = w->first;

		for (int64_t c = 0; c < w->part[i].bytes; c += 64)
			__builtin_prefetch(w->part[i].at + c, 0, 2);
		w->part[i].at += w->part[i].step;
		if (!--w->part[i].rows)
			w->first++;
	}
}

#endif
