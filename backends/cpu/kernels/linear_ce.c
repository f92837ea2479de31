/* linear_ce.c - cross entropy of logits x w^T that are never stored whole: a chunk of
 * rows at a time, chunks of a size that follows from the vocabulary. Compiled once.
 *
 *   dlogits = g (softmax - onehot),  dx = dlogits w,  dw = sum over chunks dlogits^T x
 */
#include "../dense.h"

enum { LOGITS_MAX = 1 << 24, ROWS_MIN = 16, ROWS_MAX = 1024 };

static int64_t chunk_rows(int64_t n, int64_t vocabulary)
{
	int64_t rows = LOGITS_MAX / (vocabulary > 0 ? vocabulary : 1) / ROWS_MIN * ROWS_MIN;
	int64_t chunks;

	rows = rows < ROWS_MIN ? ROWS_MIN : rows > ROWS_MAX ? ROWS_MAX : rows;
	if (rows >= n)
		return n;
	/* Even chunks: a small last one would read and write all of dw once more. */
	chunks = (n + rows - 1) / rows;
	return ((n + chunks - 1) / chunks + ROWS_MIN - 1) / ROWS_MIN * ROWS_MIN;
}

int64_t qat_linear_ce_workspace(int64_t n, int64_t vocabulary, uint32_t dlogits)
{
	const int64_t floats = (chunk_rows(n, vocabulary) * vocabulary + 15) / 16 * 16;

	return floats * 4 + (dlogits == QAT_BF16 ? (floats * 2 + 63) / 64 * 64 : 0);
}

/* A chunk of rows: what the passes share. */
typedef struct ce_chunk {
	qat_dense *d;
	const qat_linear_ce_args *a;
	int64_t first, rows;
	float *logits;
	qat_dst dlogits;
} ce_chunk;

static qat_src rows_of(qat_src x, int64_t first, int64_t width)
{
	return qat_src_of((const char *)x.data + first * width * qat_dtype_bytes(x.dtype), x.dtype);
}

static int make_logits(const ce_chunk *c)
{
	const qat_linear_ce_args *a = c->a;
	const qat_gemm_args g = {
		.m = c->rows, .n = a->vocabulary, .k = a->channels,
		.a = rows_of(a->x, c->first, a->channels), .lda = a->channels,
		.b = a->w, .ldb = a->channels, .trans_b = 1,
		.y = qat_dst_of(c->logits, QAT_F32), .ldy = a->vocabulary,
	};

	return qat_dense_matmul(c->d, &g);
}

static void measure(const ce_chunk *c)
{
	const qat_linear_ce_args *a = c->a;

	qat_dense_kernels(c->d)->row->cross_entropy(a->nll + c->first, a->lse + c->first,
		a->argmax ? a->argmax + c->first : NULL, c->logits, a->vocabulary,
		a->labels + c->first, c->rows, a->vocabulary);
}

static int make_dx(const ce_chunk *c)
{
	const qat_linear_ce_args *a = c->a;
	const int64_t at = c->first * a->channels * qat_dtype_bytes(a->dx.dtype);
	const qat_gemm_args g = {
		.m = c->rows, .n = a->channels, .k = a->vocabulary,
		.a = qat_src_of(c->dlogits.data, c->dlogits.dtype), .lda = a->vocabulary,
		.b = a->w, .ldb = a->channels,
		.y = qat_dst_of((char *)a->dx.data + at, a->dx.dtype), .ldy = a->channels,
	};

	return qat_dense_matmul(c->d, &g);
}

static int make_dw(const ce_chunk *c)
{
	const qat_linear_ce_args *a = c->a;
	const qat_gemm_args g = {
		.m = a->vocabulary, .n = a->channels, .k = c->rows,
		.a = qat_src_of(c->dlogits.data, c->dlogits.dtype), .lda = a->vocabulary,
		.trans_a = 1,
		.b = rows_of(a->x, c->first, a->channels), .ldb = a->channels,
		.addend = c->first ? a->dw : a->dw_addend, .ld_addend = a->channels,
		.y = qat_dst_of(a->dw, QAT_F32), .ldy = a->channels,
	};

	return qat_dense_matmul(c->d, &g);
}

static int make_gradients(const ce_chunk *c)
{
	const qat_linear_ce_args *a = c->a;
	int rc;

	qat_dense_kernels(c->d)->row->cross_entropy_grad(c->dlogits, c->logits, a->vocabulary,
		a->labels + c->first, a->lse + c->first, a->g + c->first, c->rows, a->vocabulary);
	rc = make_dx(c);
	return rc ? rc : make_dw(c);
}

static int sweep(qat_dense *d, const qat_linear_ce_args *a, int forward, int backward)
{
	const int64_t rows = chunk_rows(a->n, a->vocabulary);
	ce_chunk c = { .d = d, .a = a, .logits = a->workspace };
	int rc = QAT_OK;

	c.dlogits = a->dlogits == QAT_BF16
		? qat_dst_of(c.logits + (rows * a->vocabulary + 15) / 16 * 16, QAT_BF16)
		: qat_dst_of(c.logits, QAT_F32);
	for (c.first = 0; !rc && c.first < a->n; c.first += rows) {
		c.rows = a->n - c.first < rows ? a->n - c.first : rows;
		rc = make_logits(&c);
		if (!rc && forward)
			measure(&c);
		if (!rc && backward)
			rc = make_gradients(&c);
	}
	return rc;
}

int qat_linear_ce_forward(qat_dense *d, const qat_linear_ce_args *a)
{
	return sweep(d, a, 1, 0);
}

int qat_linear_ce_grad(qat_dense *d, const qat_linear_ce_args *a)
{
	return sweep(d, a, 0, 1);
}

int qat_linear_ce_fused(qat_dense *d, const qat_linear_ce_args *a)
{
	return sweep(d, a, 1, 1);
}
