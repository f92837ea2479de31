/* has_tiles.c - whether the processor has tiles. Compiled once; a file of its own, as tests put an
 * emulator in its place. */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#include "kernels.h"

#if defined QAT_HAVE_ISA_AMX && defined __linux__
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The tiles' state is large: Linux gives it to a process that asks. */
int qat_has_tiles(void)
{
	enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
	unsigned a, b, c, d;

	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
		return 0;
	if (!(d >> 22 & 1u) || !(d >> 24 & 1u) || !(d >> 25 & 1u))	/* bf16, tile, int8 */
		return 0;
	return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#else
int qat_has_tiles(void)
{
	return 0;
}
#endif
