/* rows.c - rotary positions, embedding, cross entropy, columns, sums over rows. Per ISA. */
#include "kernels.h"
#include "vmath.h"

enum { PIECE = 1024, ROW_CHUNK = 64, WIDE = 16 };

/* ---- rope ---- */

/* n pairs (a, b) turned by the angle of (cosine, sine). */
QAT_INLINE void turn(float *restrict ya, float *restrict yb, const float *restrict a,
		     const float *restrict b, const float *restrict cosine,
		     const float *restrict sine, float sign, int64_t n)
{
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		const vf s = sign * vf_load(sine + i), c = vf_load(cosine + i);
		const vf va = vf_load(a + i), vb = vf_load(b + i);

		vf_store(ya + i, va * c - vb * s);
		vf_store(yb + i, vb * c + va * s);
	}
	for (; i < n; i++) {
		const float s = sign * sine[i];

		ya[i] = a[i] * cosine[i] - b[i] * s;
		yb[i] = b[i] * cosine[i] + a[i] * s;
	}
}

/* Heads of one token, from element `at` on, that are at most PIECE elements. */
static void turn_heads(qat_dst y, qat_src x, int64_t at, int64_t heads, int64_t half,
		       const float *cosine, const float *sine, float sign)
{
	const int64_t n = 2 * heads * half;
	float in[PIECE], out[PIECE];
	const float *v = view_floats(in, x.data, x.dtype, at, n);

	for (int64_t p = 0; p < n; p += 2 * half)
		turn(out + p, out + p + half, v + p, v + p + half, cosine, sine, sign, half);
	store_floats(y.data, y.dtype, at, out, n);
}

/* A head of one token that is longer. */
static void turn_long(qat_dst y, qat_src x, int64_t at, int64_t half, const float *cosine,
		      const float *sine, float sign)
{
	for (int64_t i = 0; i < half; i += PIECE) {
		const int64_t n = min64(PIECE, half - i);
		float in[2][PIECE], out[2][PIECE];

		turn(out[0], out[1], view_floats(in[0], x.data, x.dtype, at + i, n),
		     view_floats(in[1], x.data, x.dtype, at + half + i, n), cosine + i, sine + i,
		     sign, n);
		store_floats(y.data, y.dtype, at + i, out[0], n);
		store_floats(y.data, y.dtype, at + half + i, out[1], n);
	}
}

static void rope(qat_dst y, qat_src x, const float *cosine, const float *sine, int64_t rows,
		 int64_t length, int64_t heads, int64_t head_dim, int inverse)
{
	const int64_t half = head_dim / 2, some = max64(PIECE / head_dim, 1);
	const float sign = inverse ? -1.0f : 1.0f;

#pragma omp parallel for schedule(static)
	for (int64_t r = 0; r < rows; r++)
		for (int64_t p = 0; p < heads; p += some) {
			const int64_t at = (r * heads + p) * head_dim, turned = r % length * half;

			if (head_dim > PIECE)
				turn_long(y, x, at, half, cosine + turned, sine + turned, sign);
			else
				turn_heads(y, x, at, min64(some, heads - p), half, cosine + turned,
					   sine + turned, sign);
		}
}

/* ---- embedding ---- */

static void embedding(qat_dst y, qat_src table, const int32_t *ids, int64_t n, int64_t c,
		      int64_t v)
{
#pragma omp parallel for schedule(static)
	for (int64_t r = 0; r < n; r++) {
		const int inside = ids[r] >= 0 && ids[r] < v;

		for (int64_t i = 0; i < c; i += PIECE) {
			const int64_t len = min64(PIECE, c - i);
			float buf[PIECE];

			if (inside)
				load_floats(buf, table.data, table.dtype, ids[r] * c + i, len);
			for (int64_t j = 0; !inside && j < len; j++)
				buf[j] = NAN;
			store_floats(y.data, y.dtype, r * c + i, buf, len);
		}
	}
}

static int64_t embedding_grad_workspace(int64_t n, int64_t v)
{
	return 4 * (n + v + 1);
}

/* List of the rows of each id, in order: first[id] .. first[id + 1] of rows. */
static void list_rows(int32_t *first, int32_t *rows, const int32_t *ids, int64_t n, int64_t v)
{
	memset(first, 0, (size_t)(v + 1) * 4);
	for (int64_t r = 0; r < n; r++)
		if (ids[r] >= 0 && ids[r] < v)
			first[ids[r]]++;
	for (int64_t id = 1; id <= v; id++)
		first[id] += first[id - 1];
	for (int64_t r = n; r-- > 0;)
		if (ids[r] >= 0 && ids[r] < v)
			rows[--first[ids[r]]] = (int32_t)r;
}

static void embedding_grad(float *dtable, const int32_t *ids, qat_src dy, const float *addend,
			   int64_t n, int64_t c, int64_t v, void *workspace)
{
	int32_t *first = workspace, *rows = first + v + 1;

	list_rows(first, rows, ids, n, v);
#pragma omp parallel for schedule(static)
	for (int64_t id = 0; id < v; id++) {
		float *out = dtable + id * c;

		if (!addend)
			memset(out, 0, (size_t)c * 4);
		else if (addend != dtable)
			memcpy(out, addend + id * c, (size_t)c * 4);
		for (int32_t k = first[id]; k < first[id + 1]; k++)
			for (int64_t i = 0; i < c; i += PIECE) {
				const int64_t len = min64(PIECE, c - i);
				float buf[PIECE];
				const float *d = view_floats(buf, dy.data, dy.dtype,
							     rows[k] * c + i, len);

				for (int64_t j = 0; j < len; j++)
					out[i + j] += d[j];
			}
	}
}

/* ---- cross entropy ---- */

/* Signed integers in the order of floats. */
QAT_INLINE int32_t ordered(float x)
{
	const int32_t v = (int32_t)qat_f32_bits(x);

	return v ^ (int32_t)((uint32_t)(v >> 31) & 0x7fffffffu);
}

/* Largest of x, and where it is first; NaN where there is one. */
static float largest(const float *restrict x, int64_t n, int32_t *at)
{
	int64_t piece = 0;
	float best = -INFINITY;
	uint32_t magnitude = 0;

	for (int64_t i0 = 0; i0 < n; i0 += PIECE) {
		const int64_t end = min64(n, i0 + PIECE);
		int32_t top = INT32_MIN;

#pragma omp simd reduction(max: top, magnitude)
		for (int64_t i = i0; i < end; i++) {
			const uint32_t u = qat_f32_bits(x[i]) & 0x7fffffffu;
			const int32_t v = ordered(x[i]);

			magnitude = u > magnitude ? u : magnitude;
			top = v > top ? v : top;
		}
		const uint32_t back = (uint32_t)top ^ ((uint32_t)(top >> 31) & 0x7fffffffu);

		if (qat_f32_from_bits(back) > best) {
			best = qat_f32_from_bits(back);
			piece = i0;
		}
	}
	while (piece + 1 < n && x[piece] != best)
		piece++;
	*at = magnitude > 0x7f800000u ? 0 : (int32_t)piece;
	return magnitude > 0x7f800000u ? NAN : best;
}

/* Sixteen partial sums, whatever the ISA. */
QAT_INLINE void add_exp(vf lane[WIDE / LANES], const float *x, float shift)
{
	for (int k = 0; k < WIDE / LANES; k++)
		lane[k] += vf_exp(vf_load(x + k * LANES) - shift);
}

static double sum_exp_piece(const float *x, float shift, int64_t n)
{
	vf lane[WIDE / LANES] = { { 0 } };
	float last[WIDE];
	double sum = 0.0;
	int64_t i = 0;

	for (; i + WIDE <= n; i += WIDE)
		add_exp(lane, x + i, shift);
	if (i < n) {
		for (int j = 0; j < WIDE; j++)
			last[j] = i + j < n ? x[i + j] : -INFINITY;
		add_exp(lane, last, shift);
	}
	for (int j = 0; j < WIDE; j++)
		sum += lane[j / LANES][j % LANES];
	return sum;
}

static double sum_exp(const float *x, float shift, int64_t n)
{
	double sum = 0.0;

	for (int64_t i = 0; i < n; i += PIECE)
		sum += sum_exp_piece(x + i, shift, min64(PIECE, n - i));
	return sum;
}

QAT_INLINE void loss_row(float *nll, float *lse, int32_t *argmax, const float *x, int32_t label,
			 int64_t v)
{
	int32_t best;
	const float top = largest(x, v, &best);

	*lse = top + (float)log(sum_exp(x, top, v));
	if (argmax)
		*argmax = best;
	*nll = label < 0 ? 0.0f : label >= v ? NAN : *lse - x[label];
}

/* out = g e^(x - shift). */
static void slopes(float *restrict out, const float *x, float shift, float g, int64_t n)
{
	float last[LANES] = { 0 };
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES)
		vf_store(out + i, g * vf_exp(vf_load(x + i) - shift));
	if (i == n)
		return;
	memcpy(last, x + i, (size_t)(n - i) * 4);
	vf_store(last, g * vf_exp(vf_load(last) - shift));
	memcpy(out + i, last, (size_t)(n - i) * 4);
}

/* d may start where x does: it is written behind what has been read. `ahead` bytes behind x is
 * the row that comes next. */
QAT_INLINE void slope_row(qat_dst d, int64_t at, const float *x, int32_t label, float shift,
			  float g, int64_t v, int64_t ahead)
{
	const float gr = label < 0 ? 0.0f : g;
	const float hit = label < 0 || label >= v ? 0.0f : gr * (vexp(x[label] - shift) - 1.0f);

	for (int64_t i = 0; i < v; i += PIECE) {
		const int64_t len = min64(PIECE, v - i), hot = label - i;
		float out[PIECE];

		ask_ahead(x + i, len * 4, ahead);
		slopes(out, x + i, shift, gr, len);
		if (label < 0)
			memset(out, 0, (size_t)len * 4);
		else if (hot >= 0 && hot < len)
			out[hot] = hit;
		store_floats(d.data, d.dtype, at + i, out, len);
	}
}

static void cross_entropy(float *nll, float *lse, int32_t *argmax, const float *logits,
			  int64_t ld, const int32_t *labels, int64_t n, int64_t v)
{
#pragma omp parallel for schedule(static)
	for (int64_t r = 0; r < n; r++)
		loss_row(nll + r, lse + r, argmax ? argmax + r : NULL, logits + r * ld, labels[r],
			 v);
}

static void cross_entropy_grad(qat_dst d, int64_t ldd, const float *logits, int64_t ld,
			       const int32_t *labels, const float *lse, const float *g, int64_t n,
			       int64_t v)
{
#pragma omp parallel for schedule(static)
	for (int64_t r = 0; r < n; r++)
		slope_row(d, r * ldd, logits + r * ld, labels[r], lse[r], g[r], v,
			  ld * 4);
}

/* Both, while a row is near. */
static void cross_entropy_fused(float *nll, float *lse, int32_t *argmax, qat_dst d, int64_t ldd,
				const float *logits, int64_t ld, const int32_t *labels,
				const float *g, int64_t n, int64_t v)
{
#pragma omp parallel for schedule(static)
	for (int64_t r = 0; r < n; r++) {
		const float *x = logits + r * ld;

		loss_row(nll + r, lse + r, argmax ? argmax + r : NULL, x, labels[r], v);
		slope_row(d, r * ldd, x, labels[r], lse[r], g[r], v,
			  ld * 4);
	}
}

/* ---- columns and rows ---- */

static void copy_columns(qat_dst y, int64_t ldy, int64_t at, qat_src x, int64_t ldx,
			 int64_t first, int64_t rows, int64_t width)
{
#pragma omp parallel for schedule(static)
	for (int64_t r = 0; r < rows; r++)
		for (int64_t i = 0; i < width; i += PIECE) {
			const int64_t len = min64(PIECE, width - i);
			float buf[PIECE];

			store_floats(y.data, y.dtype, r * ldy + at + i,
				     view_floats(buf, x.data, x.dtype, r * ldx + first + i, len),
				     len);
		}
}

static int64_t reduce_rows_workspace(int64_t rows, int64_t c)
{
	return 4 * div_up(rows, ROW_CHUNK) * c;
}

static void reduce_chunk(float *restrict sum, qat_src x, int64_t first, int64_t end, int64_t c)
{
	memset(sum, 0, (size_t)c * 4);
	for (int64_t r = first; r < end; r++)
		for (int64_t i = 0; i < c; i += PIECE) {
			const int64_t len = min64(PIECE, c - i);
			float buf[PIECE];
			const float *v = view_floats(buf, x.data, x.dtype, r * c + i, len);

			for (int64_t j = 0; j < len; j++)
				sum[i + j] += v[j];
		}
}

static void reduce_rows(float *y, qat_src x, const float *addend, int64_t rows, int64_t c,
			void *workspace)
{
	const int64_t chunks = div_up(rows, ROW_CHUNK);
	float *part = workspace;

#pragma omp parallel for schedule(static)
	for (int64_t k = 0; k < chunks; k++)
		reduce_chunk(part + k * c, x, k * ROW_CHUNK, min64(rows, (k + 1) * ROW_CHUNK), c);
#pragma omp parallel for schedule(static)
	for (int64_t i = 0; i < c; i++) {
		float sum = 0.0f;

		for (int64_t k = 0; k < chunks; k++)
			sum += part[k * c + i];
		y[i] = addend ? sum + addend[i] : sum;
	}
}

extern const qat_row_kernels QAT_NAME(qat_row);
const qat_row_kernels QAT_NAME(qat_row) = {
	.rope = rope,
	.embedding = embedding,
	.embedding_grad_workspace = embedding_grad_workspace,
	.embedding_grad = embedding_grad,
	.cross_entropy = cross_entropy,
	.cross_entropy_grad = cross_entropy_grad,
	.cross_entropy_fused = cross_entropy_fused,
	.copy_columns = copy_columns,
	.reduce_rows_workspace = reduce_rows_workspace,
	.reduce_rows = reduce_rows,
};
