/* select.c - which instruction set this machine runs. Compiled once. */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

extern const qat_kernels qat_kernels_baseline;
#ifdef QAT_HAVE_ISA_AVX2
extern const qat_kernels qat_kernels_avx2;

static int runs_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

#ifdef QAT_HAVE_ISA_AVX512
extern const qat_kernels qat_kernels_avx512;

static int runs_avx512(void)
{
	return runs_avx2() && __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") &&
	       __builtin_cpu_supports("avx512bf16");
}
#endif

#ifdef QAT_HAVE_ISA_AMX
extern const qat_kernels qat_kernels_amx;

static int runs_amx(void)
{
	return runs_avx512() && qat_has_tiles();
}
#endif

static int runs_always(void)
{
	return 1;
}

static const struct {
	const qat_kernels *kernels;
	int (*runs)(void);
} isas[] = {
	{ &qat_kernels_baseline, runs_always },
#ifdef QAT_HAVE_ISA_AVX2
	{ &qat_kernels_avx2, runs_avx2 },
#endif
#ifdef QAT_HAVE_ISA_AVX512
	{ &qat_kernels_avx512, runs_avx512 },
#endif
#ifdef QAT_HAVE_ISA_AMX
	{ &qat_kernels_amx, runs_amx },
#endif
};

const char *const qat_kernels_names[] = {
	"baseline",
#ifdef QAT_HAVE_ISA_AVX2
	"avx2",
#endif
#ifdef QAT_HAVE_ISA_AVX512
	"avx512",
#endif
#ifdef QAT_HAVE_ISA_AMX
	"amx",
#endif
	NULL
};

const qat_kernels *qat_kernels_find(const char *name)
{
	for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
		if (!strcmp(isas[i].kernels->name, name))
			return isas[i].runs() ? isas[i].kernels : NULL;
	return NULL;
}

const qat_kernels *qat_kernels_select(void)
{
	const char *name = getenv("QATRUN_CPU_ISA");

	if (name && *name)
		return qat_kernels_find(name);
	for (size_t i = sizeof isas / sizeof *isas; i-- > 0;)
		if (isas[i].runs())
			return isas[i].kernels;
	return NULL;
}
