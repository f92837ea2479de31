/* linear_ce.c - cross entropy of logits x w^T that are never stored whole: a chunk of
 * rows at a time, chunks of a size that follows from the vocabulary. Compiled once.
 *
 *   dlogits = g (softmax - onehot),  dx = dlogits w,  dw = sum over chunks dlogits^T x
 */
#include "../dense.h"

/* Every chunk reads w once more; with a gradient twice more, and dw is read and written. */
enum { LOGITS_MAX = 1 << 25, LOGITS_MAX_GRADIENT = 1 << 26, ROWS_MIN = 16, ROWS_MAX = 1024 };

static int64_t chunk_rows(int64_t n, int64_t vocabulary, int gradient)
{
	const int64_t most = gradient ? LOGITS_MAX_GRADIENT : LOGITS_MAX;
	int64_t rows = most / (vocabulary > 0 ? vocabulary : 1) / ROWS_MIN * ROWS_MIN;
	int64_t chunks;

	rows = rows < ROWS_MIN ? ROWS_MIN : rows > ROWS_MAX ? ROWS_MAX : rows;
	if (rows >= n)
		return n;
	/* Even chunks: a small last one would read and write all of dw once more. */
	chunks = (n + rows - 1) / rows;
	return ((n + chunks - 1) / chunks + ROWS_MIN - 1) / ROWS_MIN * ROWS_MIN;
}

/* Our own products of bf16 read any rows, so their operand takes the place of the logits;
 * and rows that are no multiple of a power of two suit the caches better. */
static int in_place(const qat_dense *d, uint32_t dlogits)
{
	return dlogits == QAT_BF16 && qat_dense_makes_bf16(d);
}

static int64_t logits_row(const qat_dense *d, int64_t vocabulary, uint32_t dlogits)
{
	return in_place(d, dlogits) ? vocabulary + 16 : vocabulary;
}

static int64_t logits_bytes(int64_t rows, int64_t ld, int64_t each)
{
	return (rows * ld * each + 63) / 64 * 64;
}

int64_t qat_linear_ce_workspace(const qat_dense *d, int64_t n, int64_t vocabulary,
				uint32_t dlogits)
{
	const int64_t rows = chunk_rows(n, vocabulary, dlogits != 0);
	const int64_t bytes = logits_bytes(rows, logits_row(d, vocabulary, dlogits), 4);

	return dlogits == QAT_BF16 && !in_place(d, dlogits)
	       ? bytes + logits_bytes(rows, vocabulary, 2) : bytes;
}

/* A chunk of rows: what the passes share. */
typedef struct ce_chunk {
	qat_dense *d;
	const qat_linear_ce_args *a;
	int64_t first, rows;
	float *logits;
	qat_dst dlogits;
	int64_t ld, ldd;
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
		.y = qat_dst_of(c->logits, QAT_F32), .ldy = c->ld,
		.bf16 = a->bf16,
	};

	return qat_dense_matmul(c->d, &g);
}

static void measure(const ce_chunk *c)
{
	const qat_linear_ce_args *a = c->a;

	qat_dense_kernels(c->d)->row->cross_entropy(a->nll + c->first, a->lse + c->first,
		a->argmax ? a->argmax + c->first : NULL, c->logits, c->ld,
		a->labels + c->first, c->rows, a->vocabulary);
}

static int make_dx(const ce_chunk *c)
{
	const qat_linear_ce_args *a = c->a;
	const int64_t at = c->first * a->channels * qat_dtype_bytes(a->dx.dtype);
	const qat_gemm_args g = {
		.m = c->rows, .n = a->channels, .k = a->vocabulary,
		.a = qat_src_of(c->dlogits.data, c->dlogits.dtype), .lda = c->ldd,
		.b = a->w, .ldb = a->channels,
		.y = qat_dst_of((char *)a->dx.data + at, a->dx.dtype), .ldy = a->channels,
		.bf16 = a->bf16,
	};

	return qat_dense_matmul(c->d, &g);
}

static int make_dw(const ce_chunk *c)
{
	const qat_linear_ce_args *a = c->a;
	const qat_gemm_args g = {
		.m = a->vocabulary, .n = a->channels, .k = c->rows,
		.a = qat_src_of(c->dlogits.data, c->dlogits.dtype), .lda = c->ldd,
		.trans_a = 1,
		.b = rows_of(a->x, c->first, a->channels), .ldb = a->channels,
		.addend = c->first ? a->dw : a->dw_addend, .ld_addend = a->channels,
		.y = qat_dst_of(a->dw, QAT_F32), .ldy = a->channels,
		.bf16 = a->bf16,
	};

	return qat_dense_matmul(c->d, &g);
}

static void measure_slopes(const ce_chunk *c)
{
	const qat_linear_ce_args *a = c->a;

	qat_dense_kernels(c->d)->row->cross_entropy_grad(c->dlogits, c->ldd, c->logits,
		c->ld, a->labels + c->first, a->lse + c->first, a->g + c->first, c->rows,
		a->vocabulary);
}

static void measure_both(const ce_chunk *c)
{
	const qat_linear_ce_args *a = c->a;

	qat_dense_kernels(c->d)->row->cross_entropy_fused(a->nll + c->first, a->lse + c->first,
		a->argmax ? a->argmax + c->first : NULL, c->dlogits, c->ldd, c->logits,
		c->ld, a->labels + c->first, a->g + c->first, c->rows, a->vocabulary);
}

static int sweep(qat_dense *d, const qat_linear_ce_args *a,
		 void (*measured)(const ce_chunk *), int gradient)
{
	const int64_t rows = chunk_rows(a->n, a->vocabulary, gradient);
	ce_chunk c = { .d = d, .a = a, .logits = a->workspace };
	int rc = QAT_OK;

	c.ld = logits_row(d, a->vocabulary, a->dlogits);
	c.ldd = in_place(d, a->dlogits) ? 2 * c.ld : c.ld;
	c.dlogits = qat_dst_of(c.logits, a->dlogits);
	if (a->dlogits == QAT_BF16 && !in_place(d, a->dlogits))
		c.dlogits.data = (char *)a->workspace + logits_bytes(rows, c.ld, 4);
	for (c.first = 0; !rc && c.first < a->n; c.first += rows) {
		c.rows = a->n - c.first < rows ? a->n - c.first : rows;
		rc = make_logits(&c);
		if (!rc)
			measured(&c);
		if (!rc && gradient)
			rc = make_dx(&c);
		if (!rc && gradient)
			rc = make_dw(&c);
	}
	return rc;
}

int qat_linear_ce_forward(qat_dense *d, const qat_linear_ce_args *a)
{
	return sweep(d, a, measure, 0);
}

int qat_linear_ce_grad(qat_dense *d, const qat_linear_ce_args *a)
{
	return sweep(d, a, measure_slopes, 1);
}

int qat_linear_ce_fused(qat_dense *d, const qat_linear_ce_args *a)
{
	return sweep(d, a, measure_both, 1);
}
