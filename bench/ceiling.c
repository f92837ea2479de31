/* ceiling.c - what this processor multiplies at most, from registers: the figure that
 * products of matrices are measured against.
 *
 * Prints a line for each kind and number of threads: kind, threads, 1e9 operations a
 * second (a multiplication and an addition are two), instruction.
 */
#include <stdio.h>
#include <stdlib.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "dense.h"

enum { THREADS_MAX = 256, RUNS = 16 };

static const struct {
	const char *name;
	int kind;
} kinds[] = {
	{ "f32", QAT_CEILING_F32 }, { "bf16", QAT_CEILING_BF16 }, { "int8", QAT_CEILING_I8 },
};

static void measure(const qat_kernels *kernels, size_t i, int threads)
{
	const qat_ceiling *c = &kernels->ceiling->of[kinds[i].kind];

#ifdef _OPENMP
	omp_set_num_threads(threads);
#endif
	if (c->batch)
		printf("%s\t%d\t%.1f\t%s %s\n", kinds[i].name, threads,
		       1e-9 * qat_ceiling_rate(c, RUNS), kernels->name, c->instruction);
}

int main(int argc, char **argv)
{
	const int threads = argc > 1 ? atoi(argv[1]) : 2;
	const qat_kernels *kernels = qat_kernels_select();

	if (argc > 2 || threads < 1 || threads > THREADS_MAX || !kernels) {
		fprintf(stderr, "usage: ceiling [threads, 1 to %d]\n", THREADS_MAX);
		return 2;
	}
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		measure(kernels, i, 1);
		if (threads > 1)
			measure(kernels, i, threads);
	}
	return 0;
}
