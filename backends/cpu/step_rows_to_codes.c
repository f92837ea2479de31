/* step_rows_to_codes.c - rows that are made only to become codes: some at a time, by the
 * kernels that would make and quantize all of them, so that they never leave the caches.
 */
#include "cpu.h"

#ifdef _OPENMP
#include <omp.h>
#endif

enum { FLOATS = 1 << 14 };		/* of the rows that a thread has at a time, about */

/* ---- who makes rows ---- */

static qat_src part_of(qat_src x, int64_t at)
{
	return qat_src_of((const char *)x.data + at * qat_dtype_bytes(x.dtype), x.dtype);
}

static void make_glu(const qat_cpu *cpu, const qat_cpu_rows_to_codes *f, float *y, int64_t first,
		     int64_t count)
{
	const qat_cpu_flat *m = &f->from.flat;
	const int64_t cols = f->to.cols, at = first * cols;

	cpu->kernels->elementwise->glu(qat_dst_of(y, QAT_F32), part_of(m->x[0], at),
				       part_of(m->x[1], at), m->kind, count * cols);
}

static void make_act(const qat_cpu *cpu, const qat_cpu_rows_to_codes *f, float *y, int64_t first,
		     int64_t count)
{
	const qat_cpu_flat *m = &f->from.flat;
	const int64_t cols = f->to.cols;

	cpu->kernels->elementwise->act(qat_dst_of(y, QAT_F32), part_of(m->x[0], first * cols),
				       m->kind, count * cols);
}

static void make_norm(const qat_cpu *cpu, const qat_cpu_rows_to_codes *f, float *y, int64_t first,
		      int64_t count)
{
	qat_norm_args a = f->from.norm;

	a.rows = count;
	a.x = part_of(a.x, first * a.channels);
	a.y = qat_dst_of(y, QAT_F32);
	a.mean = a.mean ? a.mean + first : NULL;
	a.rstd += first;
	cpu->kernels->norm->run(&a);
}

static const struct {
	uint32_t op;
	qat_cpu_make_fn *make;
} makers[] = {
	{ QAT_OP_GLU, make_glu },
	{ QAT_OP_ACT, make_act },
	{ QAT_OP_RMS_NORM, make_norm },
	{ QAT_OP_LAYER_NORM, make_norm },
};

static qat_cpu_make_fn *find_maker(uint32_t op)
{
	for (size_t i = 0; i < sizeof makers / sizeof *makers; i++)
		if (makers[i].op == op)
			return makers[i].make;
	return NULL;
}

int qat_cpu_makes_rows(const qat_node *n)
{
	return find_maker(n->op) != NULL;
}

/* ---- the step ---- */

static int thread(void)
{
#ifdef _OPENMP
	return omp_get_thread_num();
#else
	return 0;
#endif
}

static void run_part(const qat_cpu *cpu, const qat_cpu_rows_to_codes *f, int64_t first,
		     int64_t count)
{
	float *y = f->room + thread() * f->step * f->to.cols;
	const qat_scheme *scheme = f->to.scheme;
	const int64_t groups = scheme->block_cols ? f->to.cols / scheme->block_cols : 1;
	const int64_t zero_bytes = scheme->zero == QAT_ZERO_FLOAT ? 4 : 1;
	qat_quantize_args q = f->to;

	f->maker(cpu, f, y, first, count);
	q.rows = count;
	q.x = qat_src_of(y, QAT_F32);
	q.codes = (char *)q.codes + first * q.cols;
	q.scale += first * groups;
	q.zero = q.zero ? (char *)q.zero + first * groups * zero_bytes : NULL;
	q.mask = q.mask ? q.mask + first * ((q.cols + 7) / 8) : NULL;
	cpu->kernels->quantize->quantize(&q);
}

/* The kernels see that they are inside of a parallel region (simd.h is_shared_out). */
static int run(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_rows_to_codes *f = &s->u.rows_to_codes;
	const int64_t rows = f->to.rows;

	(void)rt;
#pragma omp parallel for schedule(static)
	for (int64_t first = 0; first < rows; first += f->step)
		run_part(cpu, f, first, rows - first < f->step ? rows - first : f->step);
	return QAT_OK;
}

static int64_t rows_at_a_time(const qat_cpu_rows_to_codes *f, int64_t threads)
{
	const int64_t fit = f->to.cols < FLOATS ? FLOATS / f->to.cols : 1;
	const int64_t share = (f->to.rows + threads - 1) / threads;

	return fit < share ? fit : share;
}

int qat_cpu_rows_to_codes_fuse(const qat_cpu_site *c, const qat_node *quantize, qat_cpu_step *s)
{
	qat_cpu_rows_to_codes *f = &s->u.rows_to_codes;
	qat_cpu_site to = *c;
	qat_cpu_step part = { .node = s->node };
	int rc = qat_cpu_op_find(c->n->op)->prepare(c, &part);

	to.n = quantize;
	f->maker = find_maker(c->n->op);
	if (f->maker == make_norm)
		f->from.norm = part.u.norm;
	else
		f->from.flat = part.u.flat;
	if (!rc)
		rc = qat_cpu_quantize_op.prepare(&to, &part);
	f->to = part.u.quantize.a;
	f->step = rows_at_a_time(f, c->cpu->threads);
	f->room = qat_cpu_work(c, &s->workspace,
			       c->cpu->threads * f->step * f->to.cols * (int64_t)sizeof *f->room);
	s->run = run;
	return rc;
}
