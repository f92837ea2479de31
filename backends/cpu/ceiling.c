/* ceiling.c - what this machine does at most: products from registers, and copies of memory, the
 * best of some short runs, as neighbours of a virtual machine come and go.
 */
#include "dense.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PART = 1 << 20, PARTS = 64 };	/* bytes that are copied at a time, and how often */

static const double run_seconds = 0.03;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double run_once(const qat_ceiling *c)
{
	double rate = 0.0;

#pragma omp parallel reduction(+: rate)
	{
		double begin, end, done = 0.0;

		c->batch();
#pragma omp barrier
		begin = end = now();
		for (; end - begin < run_seconds; end = now())
			done += c->batch();
		rate += done / (end - begin);
	}
	return rate;
}

double qat_ceiling_rate(const qat_ceiling *c, int runs)
{
	double best = 0.0;

	for (int i = 0; i < runs && c->batch; i++) {
		const double rate = run_once(c);

		best = rate > best ? rate : best;
	}
	return best;
}

static double copy_once(char *to, const char *from)
{
	const double begin = now();

#pragma omp parallel for schedule(static)
	for (int i = 0; i < PARTS; i++)
		memcpy(to + (size_t)i * PART, from + (size_t)i * PART, PART);
	return 2.0 * PARTS * PART / (now() - begin);
}

double qat_ceiling_bytes(int runs)
{
	char *from = calloc(PARTS, PART), *to = calloc(PARTS, PART);
	double best = 0.0;

	if (from && to) {
		memset(from, 1, (size_t)PARTS * PART);
		copy_once(to, from);			/* gives it pages */
	}
	for (int i = 0; i < runs && from && to; i++) {
		const double rate = copy_once(to, from);

		best = rate > best ? rate : best;
	}
	free(from);
	free(to);
	return best;
}
