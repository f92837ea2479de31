/* onednn.c - see onednn.h. The C API of 2.6 and that of 3.x differ in how descriptors are
 * made; that is all between #if and #endif here.
 */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#include "onednn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/plugin.h>

#ifndef QAT_HAVE_DNNL

int qat_onednn_new(qat_onednn **out)
{
	*out = NULL;
	return QAT_ENOTSUP;
}

void qat_onednn_free(qat_onednn *o)
{
	(void)o;
}

void qat_onednn_describe(char *out, size_t room)
{
	if (room)
		*out = '\0';
}

int qat_onednn_matmul(qat_onednn *o, const qat_gemm_args *g)
{
	(void)o;
	(void)g;
	return QAT_ENOTSUP;
}

#else
#include <dnnl.h>
#include <dnnl_debug.h>
#ifdef _OPENMP
#include <omp.h>
#endif

enum { OPERANDS = 5, KEPT_MAX = 1024 };		/* a, b, y, bias, addend */

/* What tells one prepared product from another; compared as bytes. */
typedef struct matmul_key {
	int64_t m, n, k, lda, ldb, ldy, ld_addend;
	uint32_t dtype, dtype_y;
	int32_t trans_a, trans_b;
	int32_t bias, addend;		/* addend: 1 another matrix, 2 y itself */
} matmul_key;

typedef struct matmul_kept {
	matmul_key key;
	dnnl_primitive_t primitive;
	dnnl_memory_t memory[OPERANDS];
} matmul_kept;

struct qat_onednn {
	dnnl_engine_t engine;
	dnnl_stream_t stream;
	int64_t count, room;
	matmul_kept *kept;
};

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t matrix_desc;

static const_dnnl_memory_desc_t desc_of(const matrix_desc *d)
{
	return *d;
}

static int desc_init(matrix_desc *d, int64_t rows, int64_t cols, uint32_t dtype, int64_t down,
		     int64_t across)
{
	const dnnl_dims_t dims = { rows, cols }, strides = { down, across };

	return dnnl_memory_desc_create_with_strides(d, 2, dims,
		dtype == QAT_BF16 ? dnnl_bf16 : dnnl_f32, strides) != dnnl_success;
}

static void desc_done(matrix_desc *d)
{
	dnnl_memory_desc_destroy(*d);
	*d = NULL;
}

static dnnl_status_t post_sum(dnnl_post_ops_t ops)
{
	return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
}

static int primitive_desc(dnnl_primitive_desc_t *out, const matrix_desc *d, int bias,
			  const_dnnl_primitive_attr_t attr, dnnl_engine_t engine)
{
	return dnnl_matmul_primitive_desc_create(out, engine, d[0], d[1], bias ? d[3] : NULL, d[2],
						 attr);
}
#else
typedef dnnl_memory_desc_t matrix_desc;

static const dnnl_memory_desc_t *desc_of(const matrix_desc *d)
{
	return d;
}

static int desc_init(matrix_desc *d, int64_t rows, int64_t cols, uint32_t dtype, int64_t down,
		     int64_t across)
{
	const dnnl_dims_t dims = { rows, cols }, strides = { down, across };

	return dnnl_memory_desc_init_by_strides(d, 2, dims,
		dtype == QAT_BF16 ? dnnl_bf16 : dnnl_f32, strides) != dnnl_success;
}

static void desc_done(matrix_desc *d)
{
	(void)d;
}

static dnnl_status_t post_sum(dnnl_post_ops_t ops)
{
	return dnnl_post_ops_append_sum(ops, 1.0f);
}

static int primitive_desc(dnnl_primitive_desc_t *out, const matrix_desc *d, int bias,
			  const_dnnl_primitive_attr_t attr, dnnl_engine_t engine)
{
	dnnl_matmul_desc_t matmul;

	if (dnnl_matmul_desc_init(&matmul, &d[0], &d[1], bias ? &d[3] : NULL, &d[2]))
		return 1;
	return dnnl_primitive_desc_create(out, &matmul, attr, engine, NULL);
}
#endif

static matmul_key key_of(const qat_gemm_args *g)
{
	matmul_key k;

	memset(&k, 0, sizeof k);
	k.m = g->m;
	k.n = g->n;
	k.k = g->k;
	k.lda = g->lda;
	k.ldb = g->ldb;
	k.ldy = g->ldy;
	k.dtype = g->a.dtype;
	k.dtype_y = g->y.dtype;
	k.trans_a = g->trans_a != 0;
	k.trans_b = g->trans_b != 0;
	k.bias = g->bias != NULL;
	if (g->addend) {
		k.addend = (const void *)g->addend == g->y.data && g->ld_addend == g->ldy ? 2 : 1;
		k.ld_addend = g->ld_addend;
	}
	return k;
}

/* Descriptors of a, b, y, bias, addend; those that are absent stay untouched. */
static int describe(matrix_desc *d, const matmul_key *k)
{
	int bad = 0;

	bad |= desc_init(&d[0], k->m, k->k, k->dtype, k->trans_a ? 1 : k->lda,
			 k->trans_a ? k->lda : 1);
	bad |= desc_init(&d[1], k->k, k->n, k->dtype, k->trans_b ? 1 : k->ldb,
			 k->trans_b ? k->ldb : 1);
	bad |= desc_init(&d[2], k->m, k->n, k->dtype_y, k->ldy, 1);
	if (k->bias)
		bad |= desc_init(&d[3], 1, k->n, QAT_F32, k->n, 1);
	if (k->addend == 1)
		bad |= desc_init(&d[4], k->m, k->n, QAT_F32, k->ld_addend, 1);
	return bad;
}

static int attributes(dnnl_primitive_attr_t *attr, const matrix_desc *d, const matmul_key *k)
{
	dnnl_post_ops_t ops = NULL;
	dnnl_status_t bad;

	/* the pipeline says how precise, not the environment */
	if (dnnl_primitive_attr_create(attr) ||
	    dnnl_primitive_attr_set_fpmath_mode(*attr, dnnl_fpmath_mode_strict))
		return 1;
	if (!k->addend)
		return 0;
	bad = dnnl_post_ops_create(&ops);
	if (!bad)
		bad = k->addend == 2 ? post_sum(ops)
				     : dnnl_post_ops_append_binary(ops, dnnl_binary_add,
								   desc_of(&d[4]));
	if (!bad)
		bad = dnnl_primitive_attr_set_post_ops(*attr, ops);
	dnnl_post_ops_destroy(ops);
	return bad != dnnl_success;
}

static int has_operand(const matmul_key *k, int i)
{
	return i < 3 || (i == 3 && k->bias) || (i == 4 && k->addend == 1);
}

static void kept_free(matmul_kept *p)
{
	for (int i = 0; i < OPERANDS; i++)
		if (p->memory[i])
			dnnl_memory_destroy(p->memory[i]);
	if (p->primitive)
		dnnl_primitive_destroy(p->primitive);
	memset(p, 0, sizeof *p);
}

static int prepare(qat_onednn *o, matmul_kept *p, const matmul_key *k)
{
	matrix_desc d[OPERANDS];
	dnnl_primitive_attr_t attr = NULL;
	dnnl_primitive_desc_t pd = NULL;
	int bad;

	memset(d, 0, sizeof d);
	memset(p, 0, sizeof *p);
	p->key = *k;
	bad = describe(d, k) || attributes(&attr, d, k) ||
	      primitive_desc(&pd, d, k->bias, attr, o->engine) ||
	      dnnl_primitive_create(&p->primitive, pd);
	for (int i = 0; !bad && i < OPERANDS; i++)
		if (has_operand(k, i))
			bad = dnnl_memory_create(&p->memory[i], desc_of(&d[i]), o->engine,
						 DNNL_MEMORY_NONE);
	for (int i = 0; i < OPERANDS; i++)
		if (has_operand(k, i))
			desc_done(&d[i]);
	if (pd)
		dnnl_primitive_desc_destroy(pd);
	if (attr)
		dnnl_primitive_attr_destroy(attr);
	if (!bad)
		return QAT_OK;
	kept_free(p);
	return qat_fail(QAT_ENOTSUP, "cpu: oneDNN does not take a product of %lld x %lld x %lld; "
			"QATRUN_CPU_DENSE=own does without it", (long long)k->m, (long long)k->n,
			(long long)k->k);
}

/* On AMX, from 16 threads on, oneDNN parts sums of bf16 of more than 1,024 terms between some
 * of them: to keep the bits for any number of threads it is to know of 15. Our own products of
 * bf16 leave it these under QATRUN_CPU_DENSE=onednn alone. */
static int too_many_threads(const matmul_key *k)
{
#ifdef _OPENMP
	const int threads = omp_get_max_threads(), amx = dnnl_cpu_isa_avx512_core_amx;

	if (k->dtype == QAT_BF16 && k->k > 1024 && threads > 15 &&
	    ((int)dnnl_get_effective_cpu_isa() & amx) == amx)
		return threads;
#else
	(void)k;
#endif
	return 0;
}

static int prepare_few(qat_onednn *o, matmul_kept *p, const matmul_key *k)
{
	const int threads = too_many_threads(k);
	int rc;

#ifdef _OPENMP
	if (threads)
		omp_set_num_threads(15);
#endif
	rc = prepare(o, p, k);
#ifdef _OPENMP
	if (threads)
		omp_set_num_threads(threads);
#endif
	return rc;
}

static int find_kept(qat_onednn *o, matmul_kept **out, const matmul_key *k)
{
	for (int64_t i = 0; i < o->count; i++)
		if (!memcmp(&o->kept[i].key, k, sizeof *k)) {
			*out = o->kept + i;
			return QAT_OK;
		}
	if (o->count == KEPT_MAX)		/* shapes that never come back: start over */
		while (o->count)
			kept_free(o->kept + --o->count);
	if (o->count == o->room) {
		const int64_t room = o->room ? 2 * o->room : 32;
		matmul_kept *p = realloc(o->kept, (size_t)room * sizeof *p);

		if (!p)
			return qat_fail(QAT_ENOMEM, "cpu: out of memory");
		o->kept = p;
		o->room = room;
	}
	*out = o->kept + o->count;
	if (prepare_few(o, *out, k))
		return QAT_ENOTSUP;
	o->count++;
	return QAT_OK;
}

static int execute(qat_onednn *o, const matmul_kept *p, const qat_gemm_args *g)
{
	static const int slots[OPERANDS] = {
		DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS,
		DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1
	};
	/* oneDNN takes pointers without const and writes to y alone. */
	const union { const void *in; void *data; } data[OPERANDS] = {
		{ g->a.data }, { g->b.data }, { g->y.data }, { g->bias }, { g->addend }
	};
	dnnl_exec_arg_t args[OPERANDS];
	int n = 0, bad = 0;

	for (int i = 0; i < OPERANDS; i++)
		if (p->memory[i]) {
			bad |= dnnl_memory_set_data_handle(p->memory[i], data[i].data);
			args[n++] = (dnnl_exec_arg_t){ slots[i], p->memory[i] };
		}
	bad = bad || dnnl_primitive_execute(p->primitive, o->stream, n, args) ||
	      dnnl_stream_wait(o->stream);
	return bad ? qat_fail(QAT_ENOMEM, "cpu: oneDNN failed in a product") : QAT_OK;
}

int qat_onednn_matmul(qat_onednn *o, const qat_gemm_args *g)
{
	const matmul_key k = key_of(g);
	matmul_kept *p = NULL;
	int rc = find_kept(o, &p, &k);

	return rc ? rc : execute(o, p, g);
}

/* As it is loaded: another than that of the headers may be. */
void qat_onednn_describe(char *out, size_t room)
{
	static const char prefix[] = "cpu_isa_";
	const dnnl_version_t *v = dnnl_version();
	const char *isa = dnnl_cpu_isa2str(dnnl_get_effective_cpu_isa());
	const char *hash = v->hash && strcmp(v->hash, "N/A") ? v->hash : "";

	if (!strncmp(isa, prefix, sizeof prefix - 1))
		isa += sizeof prefix - 1;
	snprintf(out, room, "oneDNN %d.%d.%d%s%.8s on %s", v->major, v->minor, v->patch,
		 *hash ? "-" : "", hash, isa);
}

int qat_onednn_new(qat_onednn **out)
{
	qat_onednn *o = calloc(1, sizeof *o);

	*out = NULL;
	if (!o)
		return qat_fail(QAT_ENOMEM, "cpu: out of memory");
	if (dnnl_engine_create(&o->engine, dnnl_cpu, 0) ||
	    dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags)) {
		qat_onednn_free(o);
		return qat_fail(QAT_ENOTSUP, "cpu: oneDNN does not start");
	}
	*out = o;
	return QAT_OK;
}

void qat_onednn_free(qat_onednn *o)
{
	if (!o)
		return;
	while (o->count)
		kept_free(o->kept + --o->count);
	free(o->kept);
	if (o->stream)
		dnnl_stream_destroy(o->stream);
	if (o->engine)
		dnnl_engine_destroy(o->engine);
	free(o);
}
#endif
