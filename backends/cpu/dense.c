/* dense.c - dense products: oneDNN where it is STABLE and the faster one, our own else.
 *
 * oneDNN's C API of 2.6 and of 3.x; the differences stand in one place below. A product
 * is prepared once per shape and kept.
 */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#include "dense.h"

#include <stdlib.h>
#include <string.h>

#include <qatrun/plugin.h>

#include "onednn.h"

struct qat_dense {
	const qat_kernels *kernels;
	int wide;			/* 1: AVX-512, where oneDNN is STABLE */
	int forced;			/* 1 + QAT_DENSE_*, 0: our choice */
	qat_onednn *onednn;		/* NULL: not there */
	void *scratch;
	int64_t scratch_bytes;
};

static int forced_choice(void)
{
	const char *name = getenv("QATRUN_CPU_DENSE");

	if (name && !strcmp(name, "own"))
		return 1 + QAT_DENSE_OWN;
	if (name && !strcmp(name, "onednn"))
		return 1 + QAT_DENSE_ONEDNN;
	return 0;
}

int qat_dense_new(qat_dense **out, const qat_kernels *kernels)
{
	qat_dense *d = calloc(1, sizeof *d);

	if (!d)
		return qat_fail(QAT_ENOMEM, "cpu: out of memory");
	d->kernels = kernels;
	d->wide = !strcmp(kernels->name, "avx512") || !strcmp(kernels->name, "amx");
	d->forced = forced_choice();
	if (qat_onednn_new(&d->onednn) != QAT_OK)
		d->onednn = NULL;
	*out = d;
	return QAT_OK;
}

void qat_dense_free(qat_dense *d)
{
	if (!d)
		return;
	qat_onednn_free(d->onednn);
	free(d->scratch);
	free(d);
}

const qat_kernels *qat_dense_kernels(const qat_dense *d)
{
	return d->kernels;
}

/* Where oneDNN serves: AVX-512 alone keeps its bits for any number of threads; it wants
 * operands of one type; small products are not worth its call. */
int qat_dense_choice(const qat_dense *d, const qat_gemm_args *g)
{
	/* Of the dimensions that are not tokens: how many rows a batch has must not change
	 * who computes a row. */
	const int64_t fixed = g->trans_a ? g->m * g->n : g->n * g->k;

	if (!d->onednn || g->a.dtype != g->b.dtype || g->k < 1 ||
	    (g->a.dtype == QAT_F32 && g->y.dtype != QAT_F32))
		return QAT_DENSE_OWN;
	if (d->forced)
		return d->forced - 1;
	return d->wide && fixed >= 1 << 14 ? QAT_DENSE_ONEDNN : QAT_DENSE_OWN;
}

static int scratch_grow(qat_dense *d, int64_t bytes)
{
	void *p;

	if (bytes <= d->scratch_bytes)
		return QAT_OK;
	p = aligned_alloc(64, ((size_t)bytes + 63) / 64 * 64);
	if (!p)
		return qat_fail(QAT_ENOMEM, "cpu: no memory for a product's workspace of %lld "
				"bytes", (long long)bytes);
	free(d->scratch);
	d->scratch = p;
	d->scratch_bytes = bytes;
	return QAT_OK;
}

int qat_dense_matmul(qat_dense *d, const qat_gemm_args *g)
{
	int rc;

	if (g->m < 1 || g->n < 1)
		return QAT_OK;
	if (qat_dense_choice(d, g) == QAT_DENSE_ONEDNN)
		return qat_onednn_matmul(d->onednn, g);
	rc = scratch_grow(d, d->kernels->gemm->workspace(g));
	if (rc)
		return rc;
	d->kernels->gemm->run(g, d->scratch);
	return QAT_OK;
}
