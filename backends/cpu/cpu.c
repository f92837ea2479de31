/* cpu.c - backend cpu: kernels for the instruction sets of this machine, in memory that
 * all share. The device, and what it says of itself.
 */
#include "cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined __x86_64__ || defined __i386__
#include <cpuid.h>
#endif

enum { MOST_THREADS = 1024 };

static const qat_option options[] = {
	QAT_OPTION(qat_cpu_options, QAT_OPT_BOOL, huge_pages,
		   "ask for huge pages where memory is large", .def = 1, .max = 1,
		   .flags = QAT_OPT_NEUTRAL),
	QAT_END
};

static int64_t count(void)
{
	return 1;
}

static int32_t default_threads(void)
{
#ifdef _OPENMP
	return omp_get_max_threads();
#else
	return 1;
#endif
}

void qat_cpu_use_threads(const qat_cpu *cpu)
{
#ifdef _OPENMP
	if (omp_get_max_threads() != cpu->threads)
		omp_set_num_threads(cpu->threads);
#else
	(void)cpu;
#endif
}

static int check_threads(int64_t threads)
{
	if (threads < 0 || threads > MOST_THREADS)
		return qat_fail(QAT_EINVAL, "cpu: %lld threads: 0 (the default) to %d are possible, "
				"and this machine has %ld processors", (long long)threads,
				MOST_THREADS, sysconf(_SC_NPROCESSORS_ONLN));
	return QAT_OK;
}

static int find_kernels(const qat_kernels **out)
{
	const char *wanted = getenv("QATRUN_CPU_ISA");
	char names[128] = "";

	*out = qat_kernels_select();
	if (*out)
		return QAT_OK;
	for (int i = 0; qat_kernels_names[i]; i++)
		if (qat_kernels_find(qat_kernels_names[i]))
			snprintf(names + strlen(names), sizeof names - strlen(names), " %s",
				 qat_kernels_names[i]);
	return qat_fail(QAT_ENOTSUP, "cpu: no kernels for QATRUN_CPU_ISA=%s: these run here:%s",
			wanted ? wanted : "", names);
}

static int cpu_open(void **device, const void *self, int64_t index, int64_t threads)
{
	const qat_cpu_options *o = self;
	int rc = check_threads(threads);
	qat_cpu *cpu;

	if (!rc && index != 0)
		rc = qat_fail(QAT_ENOTFOUND, "cpu: no device %lld: there is one, 0",
			      (long long)index);
	if (rc)
		return rc;
	cpu = calloc(1, sizeof *cpu);
	if (!cpu)
		return qat_fail(QAT_ENOMEM, "cpu: out of memory");
	cpu->huge_pages = !o || o->huge_pages;
	cpu->threads = threads ? (int32_t)threads : default_threads();
#ifndef _OPENMP
	cpu->threads = 1;
#endif
	rc = find_kernels(&cpu->kernels);
	if (!rc)
		rc = qat_dense_new(&cpu->dense, cpu->kernels);
	if (rc) {
		free(cpu);
		return rc;
	}
	*device = cpu;
	return QAT_OK;
}

static void cpu_close(void *device)
{
	qat_cpu *cpu = device;

	if (!cpu)
		return;
	qat_dense_free(cpu->dense);
	free(cpu);
}

/* What the processor calls itself, blanks squeezed. */
static void brand(char out[49])
{
	unsigned r[12] = { 0 };
	char text[49] = "";
	int n = 0;

#if defined __x86_64__ || defined __i386__
	if (__get_cpuid_max(0x80000000u, NULL) >= 0x80000004u)
		for (unsigned i = 0; i < 3; i++)
			__get_cpuid(0x80000002u + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2],
				    &r[4 * i + 3]);
#endif
	memcpy(text, r, sizeof r);
	for (const char *p = text; *p; p++)
		if (*p != ' ' || (n && out[n - 1] != ' '))
			out[n++] = *p;
	while (n && out[n - 1] == ' ')
		n--;
	out[n] = '\0';
	if (!n)
		strcpy(out, "processor");
}

/* The C library has logarithms and powers of its own for processors with FMA, which the
 * other kernels ask for anyway. */
static void describe_kernels(const qat_cpu *cpu, char *out, size_t room)
{
	size_t n;

	qat_dense_describe(cpu->dense, out, room);
	n = strlen(out);
#if defined __x86_64__ || defined __i386__
	if (!strcmp(cpu->kernels->name, "baseline") && __builtin_cpu_supports("fma"))
		snprintf(out + n, room - n, ", a C library with FMA");
#else
	(void)n;
#endif
}

static int cpu_caps(void *device, qat_caps *out)
{
	const qat_cpu *cpu = device;
	const char *isa = cpu->kernels->name;
	const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
	char model[49];
	qat_caps c = { .size = sizeof c, .threads = cpu->threads, .alignment = 64, .unified = 1 };

	brand(model);
	c.memory = pages > 0 && page > 0 ? (int64_t)pages * page : 0;
	c.bf16 = !strcmp(isa, "avx512") || !strcmp(isa, "amx");
	describe_kernels(cpu, c.kernels, sizeof c.kernels);
	snprintf(c.name, sizeof c.name, "%s, %d thread%s, %s", model, cpu->threads,
		 cpu->threads == 1 ? "" : "s", isa);
	snprintf(c.isa, sizeof c.isa, "%s", isa);
	if (out->size < sizeof c)
		c.size = out->size;
	memcpy(out, &c, c.size);
	return QAT_OK;
}

/* Where no instruction multiplies bf16, its products are those of f32. */
static int cpu_ceilings(void *device, double *out)
{
	enum { RUNS = 4 };
	const qat_cpu *cpu = device;

	qat_cpu_use_threads(cpu);
	for (int i = 0; i < QAT_CEILING_BYTES; i++)
		out[i] = qat_ceiling_rate(&cpu->kernels->ceiling->of[i], RUNS);
	if (!out[QAT_CEILING_BF16])
		out[QAT_CEILING_BF16] = out[QAT_CEILING_F32];
	out[QAT_CEILING_BYTES] = qat_ceiling_bytes(RUNS);
	return QAT_OK;
}

static const qat_backend vtable = {
	.size = sizeof vtable, .count = count, .open = cpu_open, .close = cpu_close,
	.caps = cpu_caps, .alloc = qat_cpu_alloc, .import = qat_cpu_import,
	.free = qat_cpu_free, .write = qat_cpu_write, .read = qat_cpu_read, .map = qat_cpu_map,
	.supports = qat_cpu_supports, .claim = qat_cpu_claim, .compile = qat_cpu_compile,
	.run = qat_cpu_run, .run_one = qat_cpu_run_one, .run_range = qat_cpu_run_range,
	.release = qat_cpu_release, .sync = qat_cpu_sync, .ceilings = cpu_ceilings,
};

static const qat_interface cpu = {
	.size = sizeof cpu, .kind = QAT_KIND_BACKEND, .name = "cpu",
	.summary = "processors: kernels for x86-64 up to AVX-512 and AMX, and plain C",
	.options = options, .options_size = sizeof(qat_cpu_options), .vtable = &vtable,
	.flags = QAT_IS_DEFAULT,
};

static const qat_interface *const all[] = { &cpu };
QAT_PLUGIN("cpu", all);
