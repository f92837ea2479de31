/* gemm_bf16.c - products of bf16 operands, summed in f32 two by two, where the ISA does that
 * in one instruction and has no tiles (gemm_bf16_tiles.c); without either the table is empty.
 * Per ISA.
 *
 * For some depth of k and ACROSS columns of y the right operand is packed once for all
 * threads, then some rows of the left one, unless its pairs are neighbours where it is;
 * blocks of rows of y are what a thread takes.
 * Every element is a chain over ascending pairs of k, whatever stands beside it.
 */
#include "decode.h"

#if defined __AVX512BF16__ && !defined __AMX_BF16__
enum { MR = 8, NV = 3, DEEP = 2 };
#include "gemm_bf16.h"

enum { DOWN = 128 };
enum { CHUNK = 384 };			/* pairs whose left panel stays in the first cache */

/* ---- the left operand: panels [k / 2][MR] of pairs, or its rows as they are ---- */

/* The pairs of 32 columns of four rows, two pairs of rows to each of four panels of MR. */
QAT_INLINE void weave(char *out, const uint16_t *const x[4], int64_t j, int64_t panel)
{
	static const uint16_t low[32] = {
		0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39,
		8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47,
	};
	const __m512i lo = _mm512_loadu_si512(low);
	const __m512i hi = _mm512_add_epi16(lo, _mm512_set1_epi16(16));
	__m512i v[4], p[2][2];

	for (int k = 0; k < 4; k++)
		v[k] = _mm512_loadu_si512(x[k] + j);
	for (int k = 0; k < 2; k++) {
		p[k][0] = _mm512_permutex2var_epi16(v[2 * k], lo, v[2 * k + 1]);
		p[k][1] = _mm512_permutex2var_epi16(v[2 * k], hi, v[2 * k + 1]);
	}
	for (int k = 0; k < 2; k++, out += 2 * panel) {
		_mm512_storeu_si512(out, _mm512_shuffle_i64x2(p[0][k], p[1][k], 0x44));
		_mm512_storeu_si512(out + panel, _mm512_shuffle_i64x2(p[0][k], p[1][k], 0xee));
	}
}

/* As spread_rows for panels of MR columns: rows r .. last. */
static void weave_rows(char *out, const side *s, int64_t r, int64_t last, int64_t c, int64_t n,
		       int64_t panel)
{
	const int64_t whole = (last - r + 1) % 4 ? 0 : n / 32 * 32;
	uint16_t buf[2 * PACK_PAIRS][PIECE];
	const uint16_t *x[2 * PACK_PAIRS];

	for (int64_t i = 0; i < whole; i += PIECE) {
		const int64_t len = min64(PIECE, whole - i);

		for (int64_t k = 0; k <= last - r; k++)
			x[k] = row_of(s, buf[k], r + k, c + i, len);
		for (int64_t j = 0; j < len; j += 32)
			for (int64_t k = 0; k <= last - r; k += 4)
				weave(out + (i + j) / MR * panel + k / 2 * MR * PAIR, x + k, j,
				      panel);
	}
	spread_rows(out + whole / MR * panel, s, r, last, (last - r) / 2 + 1, c + whole, n - whole, MR,
		    panel);
}

/* Part t: some pairs of all tiles, or MR rows of pairs. */
static void pack_left(const product *w, int64_t t)
{
	const qat_gemm_args *g = w->g;
	const side s = left_side(g);
	const int64_t first = t * PACK_PAIRS;

	if (g->trans_a) {
		weave_rows(w->a + first * MR * PAIR, &s, w->p0 + 2 * first,
			   w->p0 + min64(w->depth, 2 * (first + PACK_PAIRS)) - 1, w->i0, w->rows,
			   w->pairs * MR * PAIR);
		return;
	}
	for (int64_t r = t * MR; r < min64(w->rows, (t + 1) * MR); r++) {
		uint16_t *to = (uint16_t *)(void *)(w->a + r * w->row);

		row_to(&s, to, w->i0 + r, w->p0, w->depth);
		if (w->depth % 2)
			to[w->depth] = 0;
	}
}

static int64_t left_parts(const product *w)
{
	if (w->direct)
		return 0;
	return w->g->trans_a ? div_up(w->pairs, PACK_PAIRS) : div_up(w->rows, MR);
}

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

/* A tile at the edge of y. */
static void finish_part(const qat_gemm_args *g, vf acc[MR][NV], int64_t i0, int64_t j0)
{
	float tile[MR][NR] __attribute__((aligned(64)));

	memcpy(tile, acc, sizeof tile);
	for (int64_t i = 0; i < min64(MR, g->m - i0); i++)
		finish_row(g, tile[i], i0 + i, j0, min64(NR, g->n - j0));
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
	*row = w->row;
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

#pragma omp for schedule(static) nowait
		for (int64_t t = 0; t < right_parts(&w); t++)
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
			w.row = w.direct ? g->lda * 2 : w.pairs * PAIR;
			run_step(&w);
		}
	}
}

extern const qat_gemm_kernels QAT_NAME(qat_gemm_bf16);
const qat_gemm_kernels QAT_NAME(qat_gemm_bf16) = { workspace, run };
#elif !defined __AMX_BF16__
extern const qat_gemm_kernels QAT_NAME(qat_gemm_bf16);
const qat_gemm_kernels QAT_NAME(qat_gemm_bf16) = { NULL, NULL };
#endif
