/* dense.c - dense products: oneDNN where it is STABLE and the faster one, our own else.
 *
 * What makes oneDNN STABLE stands here and in onednn.c, which knows its API.
 */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#include "dense.h"

#include <stdio.h>
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
	void *widened;			/* columns of a bf16 weight */
	int64_t widened_bytes;
};

#define WIDE_BYTES ((int64_t)4 << 20)

/* From 2,048 terms of a transposed a on, and 20,000 of another (3.x), oneDNN parts a sum
 * between threads that have little else to do: its bits are then those of that many
 * threads. So no call gets so many terms. */
enum { TERMS_DOWN = 1024, TERMS_ACROSS = 16384 };

/* Rows with gaps go to kernels of oneDNN's that part sums at any length. */
static int onednn_is_stable(const qat_gemm_args *g)
{
	if (g->lda != (g->trans_a ? g->m : g->k) || g->ldb != (g->trans_b ? g->k : g->n))
		return 0;
	if (!g->trans_a)
		return g->k <= TERMS_ACROSS;
	return g->k <= TERMS_DOWN || (!g->trans_b && g->y.dtype == QAT_F32);
}

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
	free(d->widened);
	free(d);
}

const qat_kernels *qat_dense_kernels(const qat_dense *d)
{
	return d->kernels;
}

int qat_dense_makes_bf16(const qat_dense *d)
{
	return d->kernels->gemm_bf16 && d->kernels->gemm_bf16->run &&
	       d->forced != 1 + QAT_DENSE_ONEDNN;
}

/* Where oneDNN serves: AVX-512 alone can keep its bits for any number of threads; it wants
 * operands of one type; small products are not worth its call. */
int qat_dense_choice(const qat_dense *d, const qat_gemm_args *g)
{
	/* Of the dimensions that are not tokens: how many rows a batch has must not change
	 * who computes a row. */
	const int64_t fixed = g->trans_a ? g->m * g->n : g->n * g->k;

	if (g->k > 0 && qat_dense_makes_bf16(d) &&
	    (g->bf16 || (g->a.dtype == QAT_BF16 && g->b.dtype == QAT_BF16)))
		return QAT_DENSE_BF16;
	if (!d->onednn || g->a.dtype != g->b.dtype || g->k < 1 ||
	    (g->a.dtype == QAT_F32 && g->y.dtype != QAT_F32) || !onednn_is_stable(g))
		return QAT_DENSE_OWN;
	if (d->forced)
		return d->forced - 1;
	return d->wide && fixed >= 1 << 14 ? QAT_DENSE_ONEDNN : QAT_DENSE_OWN;
}

void qat_dense_describe(const qat_dense *d, char *out, size_t room)
{
	const int all = d->forced == 1 + QAT_DENSE_ONEDNN;
	size_t n;

	if (!d->onednn || (!all && (d->forced || !d->wide))) {
		snprintf(out, room, "own float products");
		return;
	}
	n = (size_t)snprintf(out, room, "%s float products by ", all ? "all" : "large");
	qat_onednn_describe(out + n, room - n);
}

static int grow(void **room, int64_t *have, int64_t bytes)
{
	void *p;

	if (bytes <= *have)
		return QAT_OK;
	p = aligned_alloc(64, ((size_t)bytes + 63) / 64 * 64);
	if (!p)
		return qat_fail(QAT_ENOMEM, "cpu: no memory for a product's workspace of %lld "
				"bytes", (long long)bytes);
	free(*room);
	*room = p;
	*have = bytes;
	return QAT_OK;
}

/* A frozen weight in bf16 times floats. */
static int is_mixed(const qat_gemm_args *g)
{
	return g->a.dtype == QAT_F32 && g->b.dtype == QAT_BF16 && g->y.dtype == QAT_F32 &&
	       g->trans_b && !g->trans_a && g->ldb == g->k;
}

/* A transposed a in calls that add up in y: how a sum is made follows from its length. */
static int matmul_onednn(qat_dense *d, const qat_gemm_args *g)
{
	const int64_t size = qat_dtype_bytes(g->a.dtype);
	const int64_t most = g->trans_a && !g->trans_b ? TERMS_DOWN : g->k;
	qat_gemm_args part = *g;
	int rc = QAT_OK;

	for (int64_t p = 0; p < g->k && !rc; p += part.k) {
		part.k = g->k - p < most ? g->k - p : most;
		part.a.data = (const char *)g->a.data + p * g->lda * size;
		part.b.data = (const char *)g->b.data + p * g->ldb * size;
		rc = qat_onednn_matmul(d->onednn, &part);
		part.bias = NULL;
		part.addend = part.y.data;
		part.ld_addend = part.ldy;
	}
	return rc;
}

static qat_gemm_args columns(const qat_gemm_args *g, int64_t first, int64_t count,
			     const float *wide)
{
	qat_gemm_args part = *g;

	part.n = count;
	part.b = qat_src_of(wide, QAT_F32);
	part.y.data = (float *)g->y.data + first;
	part.bias = g->bias ? g->bias + first : NULL;
	part.addend = g->addend ? g->addend + first : NULL;
	return part;
}

/* Widened a few columns of y at a time, so that it is never there whole. Which columns does
 * not depend on how many rows there are. */
static int matmul_mixed(qat_dense *d, const qat_gemm_args *g)
{
	const int64_t fit = WIDE_BYTES / 4 / g->k / 64 * 64, most = fit ? fit : 64;
	int rc = grow(&d->widened, &d->widened_bytes, (most < g->n ? most : g->n) * g->k * 4);

	for (int64_t j = 0; j < g->n && !rc; j += most) {
		const int64_t n = g->n - j < most ? g->n - j : most;
		const qat_gemm_args part = columns(g, j, n, d->widened);
		const uint16_t *from = g->b.data;

		d->kernels->quantize->cast(qat_dst_of(d->widened, QAT_F32),
					   qat_src_of(from + j * g->k, QAT_BF16), n * g->k);
		rc = qat_onednn_matmul(d->onednn, &part);
	}
	return rc;
}

int qat_dense_matmul(qat_dense *d, const qat_gemm_args *g)
{
	const int choice = qat_dense_choice(d, g);
	const qat_gemm_kernels *kn = choice == QAT_DENSE_BF16 ? d->kernels->gemm_bf16
							      : d->kernels->gemm;
	int rc;

	if (g->m < 1 || g->n < 1)
		return QAT_OK;
	if (is_mixed(g)) {
		qat_gemm_args same = *g;

		same.b.dtype = QAT_F32;
		if (qat_dense_choice(d, &same) == QAT_DENSE_ONEDNN)
			return matmul_mixed(d, g);
	}
	if (choice == QAT_DENSE_ONEDNN)
		return matmul_onednn(d, g);
	rc = grow(&d->scratch, &d->scratch_bytes, kn->workspace(g));
	if (rc)
		return rc;
	kn->run(g, d->scratch);
	return QAT_OK;
}
