/* select.c - which instruction set this machine runs. Compiled once. */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

#if defined QAT_HAVE_ISA_AMX && defined __linux__
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

/* The tiles' state is large: Linux gives it to a process that asks. */
static int runs_amx(void)
{
#ifdef __linux__
	enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
	unsigned a, b, c, d;

	if (!runs_avx512() || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
		return 0;
	if (!(d >> 22 & 1u) || !(d >> 24 & 1u) || !(d >> 25 & 1u))	/* bf16, tile, int8 */
		return 0;
	return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
	return 0;
#endif
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
