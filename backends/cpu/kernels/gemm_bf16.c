/* gemm_bf16.c - products of bf16 operands, summed in f32 two by two, where the ISA does that
 * in one instruction and has no tiles; elsewhere the table is empty. Per ISA.
 *
 * For some depth of k and ACROSS columns of y the right operand is packed once for all
 * threads, then some rows of the left one, unless its pairs are neighbours where it is;
 * blocks of rows of y are what a thread takes.
 * Every element is a chain over ascending pairs of k, whatever stands beside it.
 */
#include "decode.h"

#if defined __AVX512BF16__ && !defined __AMX_BF16__
#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_max_threads(void) { return 1; }
static int omp_get_thread_num(void) { return 0; }
#endif

#include "gemm_bf16_pack.h"

/* ---- tiles ---- */

/* acc = from (zero where NULL) + the products of `pairs` pairs: pair p of row i is at
 * a + i * row + p * step. */
QAT_INLINE void tile_sums(vf acc[MR][NV], const float *from, const char *a, int64_t row,
			  int64_t step, const char *b, int64_t pairs)
{
#pragma GCC unroll 8
	for (int i = 0; i < MR; i++)
#pragma GCC unroll 3
		for (int j = 0; j < NV; j++)
			acc[i][j] = from ? vf_load(from + i * NR + j * LANES) : vf_set(0.0f);
	for (int64_t p = 0; p < pairs; p++, a += step, b += NR * PAIR) {
		__m512bh y[NV];

#pragma GCC unroll 3
		for (int j = 0; j < NV; j++)
			y[j] = (__m512bh)_mm512_loadu_si512(b + j * LANES * PAIR);
#pragma GCC unroll 8
		for (int i = 0; i < MR; i++) {
			int32_t pair;

			memcpy(&pair, a + i * row, PAIR);
#pragma GCC unroll 3
			for (int j = 0; j < NV; j++)
				acc[i][j] = _mm512_dpbf16_ps(acc[i][j],
						(__m512bh)_mm512_set1_epi32(pair), y[j]);
		}
	}
}

/* A whole tile to its place in y. */
QAT_INLINE void finish_whole(const qat_gemm_args *g, vf acc[MR][NV], int64_t i0, int64_t j0,
			     int stream)
{
#pragma GCC unroll 8
	for (int i = 0; i < MR; i++)
#pragma GCC unroll 3
		for (int k = 0; k < NV; k++) {
			const int64_t j = j0 + k * LANES, at = (i0 + i) * g->ldy + j;
			vf v = acc[i][k];

			if (g->bias)
				v += vf_load(g->bias + j);
			if (g->addend)
				v += vf_load(g->addend + (i0 + i) * g->ld_addend + j);
			if (stream)
				_mm512_stream_ps((float *)g->y.data + at, (__m512)v);
			else if (g->y.dtype == QAT_F32)
				vf_store((float *)g->y.data + at, v);
			else
				vf_store_bf16((uint16_t *)g->y.data + at, v);
		}
}

/* n elements of a finished row to y. */
static void finish_row(const qat_gemm_args *g, float *restrict t, int64_t i, int64_t j,
		       int64_t n)
{
	if (g->bias)
		for (int64_t k = 0; k < n; k++)
			t[k] += g->bias[j + k];
	if (g->addend) {
		const float *c = g->addend + i * g->ld_addend + j;

		for (int64_t k = 0; k < n; k++)
			t[k] += c[k];
	}
	store_floats(g->y.data, g->y.dtype, i * g->ldy + j, t, n);
}

/* A tile at the edge of y. */
static void finish_part(const qat_gemm_args *g, vf acc[MR][NV], int64_t i0, int64_t j0)
{
	float tile[MR][NR] __attribute__((aligned(64)));

	memcpy(tile, acc, sizeof tile);
	for (int64_t i = 0; i < min64(MR, g->m - i0); i++)
		finish_row(g, tile[i], i0 + i, j0, min64(NR, g->n - j0));
}

/* Asks for the memory that a tile goes to, long before it does. */
QAT_INLINE void expect(const qat_gemm_args *g, int64_t i, int64_t j)
{
	const int64_t bytes = qat_dtype_bytes(g->y.dtype);

	for (int64_t r = i; r < min64(i + MR, g->m); r++) {
		const char *y = (const char *)g->y.data + (r * g->ldy + j) * bytes;

		for (int64_t k = 0; k < NR * bytes; k += 64)
			__builtin_prefetch(y + k, 1);
		for (int64_t k = 0; g->addend && k < NR; k += 16)
			__builtin_prefetch(g->addend + r * g->ld_addend + j + k);
	}
}

/* Row i of y's left operand, from pair `from` on, and how far the next row is. Rows behind
 * the last one are copies of it, made in `edge`. */
static const char *left_of(const product *w, char *edge, int64_t i, int64_t from, int64_t end,
			   int64_t *row)
{
	const qat_gemm_args *g = w->g;
	const int64_t left = w->i0 + w->rows - i;
	const char *a;

	if (g->trans_a) {
		*row = PAIR;
		return w->a + ((i - w->i0) * w->pairs + from * MR) * PAIR;
	}
	*row = w->direct ? g->lda * 2 : w->pairs * PAIR;
	a = w->direct ? (const char *)g->a.data + w->p0 * 2 + i * *row : w->a + (i - w->i0) * *row;
	a += from * PAIR;
	if (left >= MR)
		return a;
	for (int64_t k = 0; k < MR; k++)
		memcpy(edge + k * CHUNK * PAIR, a + min64(k, left - 1) * *row,
		       (size_t)((end - from) * PAIR));
	*row = CHUNK * PAIR;
	return edge;
}

/* Pairs [from, end) of a tile; it waits in `kept`, and goes to y when k is through. */
static void run_tile(const product *w, float *kept, int64_t i, int64_t panel, int64_t from,
		     int64_t end)
{
	const qat_gemm_args *g = w->g;
	const int64_t j = w->j0 + panel * NR;
	const int first = w->p0 == 0 && !from, last = w->p0 + w->depth == g->k && end == w->pairs;
	const char *b = w->b + (panel * w->pairs + from) * NR * PAIR;
	char edge[MR * CHUNK * PAIR];
	int64_t row;
	const char *a = left_of(w, edge, i, from, end, &row);
	vf acc[MR][NV];

	if (last && !w->stream)
		expect(g, i, j);
	if (g->trans_a)
		tile_sums(acc, first ? NULL : kept, a, PAIR, MR * PAIR, b, end - from);
	else
		tile_sums(acc, first ? NULL : kept, a, row, PAIR, b, end - from);
	if (!last)
		memcpy(kept, acc, sizeof acc);
	else if (i + MR > g->m || j + NR > g->n)
		finish_part(g, acc, i, j);
	else if (w->stream)
		finish_whole(g, acc, i, j, 1);
	else
		finish_whole(g, acc, i, j, 0);
}

static void run_block(const product *w, int64_t i0, int64_t rows)
{
	const int64_t chunk = div_up(w->pairs, div_up(w->pairs, CHUNK));
	float *own = w->own + w->down * NR * omp_get_thread_num();

	for (int64_t panel = 0; panel < w->panels; panel++)
		for (int64_t p = 0; p < w->pairs; p += chunk)
			for (int64_t i = i0; i < i0 + rows; i += MR) {
				float *kept = w->step < w->g->k
					    ? w->kept + (i / MR * w->panels + panel) * MR * NR
					    : own + (i - i0) * NR;

				run_tile(w, kept, i, panel, p, min64(w->pairs, p + chunk));
			}
	if (w->stream)
		_mm_sfence();
}

/* All rows of y, for the columns and the depth that are packed. Each thread has a copy of
 * w for itself. */
static void run_step(const product *shared)
{
#pragma omp parallel
	{
		product w = *shared;
		const int64_t right = w.g->trans_b ? w.panels * NV : div_up(w.pairs, PACK_PAIRS);

#pragma omp for schedule(static) nowait
		for (int64_t t = 0; t < right; t++)
			pack_right(&w, t);
		for (w.i0 = 0; w.i0 < w.g->m; w.i0 += w.span) {
			w.rows = min64(w.span, w.g->m - w.i0);
#pragma omp for schedule(static)
			for (int64_t t = 0; t < left_parts(&w); t++)
				pack_left(&w, t);
#pragma omp for schedule(dynamic)
			for (int64_t i = 0; i < w.rows; i += w.down)
				run_block(&w, w.i0 + i, min64(w.down, w.rows - i));
		}
	}
}

/* ---- the whole ---- */

static int reads_in_place(const qat_gemm_args *g)
{
	return !g->trans_a && !g->codes_a && g->a.dtype == QAT_BF16 && g->k % 2 == 0 &&
	       !in_the_way(g->lda, 4096);
}

/* A large y that is not read here either need not come into the caches first. */
static int may_stream(const qat_gemm_args *g)
{
	return g->y.dtype == QAT_F32 && !g->addend && (uintptr_t)g->y.data % 64 == 0 &&
	       g->ldy % LANES == 0 && g->m * g->n >= STREAM_MIN;
}

/* k in even steps for which the right operand's columns are not too many bytes. */
static int64_t depth_of(const qat_gemm_args *g)
{
	const int64_t cols = round_up(min64(g->n, ACROSS), NR);
	const int64_t most = max64(DEPTH_MIN, PACKED_MAX / (2 * cols));

	return round_up(div_up(g->k, div_up(g->k, most)), 2);
}

static int64_t place(product *w, const qat_gemm_args *g, char *base)
{
	const int64_t step = depth_of(g), panels = div_up(min64(g->n, ACROSS), NR);
	const int64_t threads = omp_get_max_threads(), m = round_up(g->m, MR);
	const int64_t b = panels * NR * step * 2, own = threads * DOWN * NR * 4;
	const int64_t kept = step < g->k ? m * panels * NR * 4 : 0;

	*w = (product){ .g = g, .step = step, .direct = reads_in_place(g), .b = base,
			.stream = may_stream(g) };
	w->down = min64(DOWN, max64(2 * MR, round_up(div_up(g->m, 4 * threads), MR)));
	w->span = w->direct ? m : min64(m, round_up(max64(PACKED_MAX / (2 * step), DOWN), DOWN));
	w->own = (float *)(void *)(base + b);
	w->kept = (float *)(void *)(base + b + own);
	w->a = base + b + own + kept;
	return b + own + kept + (w->direct ? 0 : round_up(w->span * step * 2, 64));
}

static int64_t workspace(const qat_gemm_args *g)
{
	static char nothing[1];
	product w;

	return place(&w, g, nothing);
}

static void run(const qat_gemm_args *g, void *room)
{
	product w;

	place(&w, g, room);
	for (w.j0 = 0; w.j0 < g->n; w.j0 += ACROSS) {
		w.cols = min64(ACROSS, g->n - w.j0);
		w.panels = div_up(w.cols, NR);
		for (w.p0 = 0; w.p0 < g->k; w.p0 += w.step) {
			w.depth = min64(w.step, g->k - w.p0);
			w.pairs = div_up(w.depth, 2);
			run_step(&w);
		}
	}
}

extern const qat_gemm_kernels QAT_NAME(qat_gemm_bf16);
const qat_gemm_kernels QAT_NAME(qat_gemm_bf16) = { workspace, run };
#else
extern const qat_gemm_kernels QAT_NAME(qat_gemm_bf16);
const qat_gemm_kernels QAT_NAME(qat_gemm_bf16) = { NULL, NULL };
#endif
