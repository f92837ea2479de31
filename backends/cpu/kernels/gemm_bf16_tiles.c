/* gemm_bf16_tiles.c - products of bf16 operands where the ISA has tiles; elsewhere the table is
 * gemm_bf16.c's. Per ISA.
 *
 * What is multiplied at once is a block: 32 rows and 32 columns of y in four tiles, over 32 of k.
 * For some depth of k and ACROSS columns of y the right operand is packed once for all
 * threads, then some rows of the left one, unless tiles may be loaded from where it is. A
 * task is DOWN rows and WIDE columns; it goes over k in chunks, for which the left rows of
 * a block stay in the first cache, and the right columns of a task and its sums in the second.
 * Every element is a chain over k, 32 by 32 from the first on, whatever stands beside it: sums
 * wait in memory as f32 and lose nothing there. Inside the 32 the instruction adds the even ones
 * and the odd ones, then both. What is subnormal counts as 0.
 */
#include "decode.h"

#if defined __AMX_BF16__
#include "tiles.h"

enum { MR = 32, NV = 2, DEEP = 32 };
#include "gemm_bf16.h"

enum { DOWN = 256, WIDE = 384 };	/* of a task */
enum { CHUNK = 384 };			/* pairs at a time */
enum { LINE = 64, TILE = 16, BLOCK = MR * NR };

/* ---- the left operand: its rows, in lines that lie in as many places of the caches ---- */

/* 16 columns of 32 rows of k, of which `have` exist, as as many rows. */
QAT_INLINE void turn_columns(char *out, int64_t row, const uint16_t *const x[DEEP], int64_t have)
{
	const __mmask16 part = (__mmask16)(0xffffu >> (TILE - have));
	__m512i v[TILE];

#pragma GCC unroll 16
	for (int p = 0; p < TILE; p++) {
		const __m256i low = _mm256_maskz_loadu_epi16(part, x[2 * p]);
		const __m256i high = _mm256_maskz_loadu_epi16(part, x[2 * p + 1]);

		v[p] = _mm512_or_si512(_mm512_cvtepu16_epi32(low),
				       _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
	}
	transpose(v);
	for (int64_t i = 0; i < have; i++)
		_mm512_store_si512(out + i * row, v[i]);
}

/* Rows of k p0 + p .. p0 + p + 31: a line of every row. */
static void turn_left(const product *w, const side *s, int64_t p)
{
	static const uint16_t zero[PIECE];
	const int64_t there = min64(DEEP, w->depth - p);
	uint16_t buf[DEEP][PIECE];
	const uint16_t *x[DEEP];

	for (int64_t i = 0; i < w->rows; i += PIECE) {
		const int64_t n = min64(PIECE, w->rows - i);

		for (int64_t k = 0; k < DEEP; k++)
			x[k] = k < there ? row_of(s, buf[k], w->p0 + p + k, w->i0 + i, n) : zero;
		for (int64_t j = 0; j < n; j += TILE) {
			turn_columns(w->a + (i + j) * w->row + p * 2, w->row, x,
				     min64(TILE, n - j));
			for (int k = 0; k < DEEP; k++)
				x[k] += TILE;
		}
	}
}

/* Part t: DEEP of k, or MR rows. Rows behind the last one of a block are whatever they were:
 * so are those of y, which nobody stores. */
static void pack_left(const product *w, int64_t t)
{
	const side s = left_side(w->g);

	if (w->g->trans_a) {
		turn_left(w, &s, t * DEEP);
		return;
	}
	for (int64_t r = t * MR; r < min64(w->rows, (t + 1) * MR); r++) {
		uint16_t *to = (uint16_t *)(void *)(w->a + r * w->row);

		row_to(&s, to, w->i0 + r, w->p0, w->depth);
		memset(to + w->depth, 0, (size_t)(w->pairs * 2 - w->depth) * 2);
	}
}

static int64_t left_parts(const product *w)
{
	if (w->direct)
		return 0;
	return div_up(w->g->trans_a ? w->depth : w->rows, MR);
}

/* ---- blocks ---- */

/* The four tiles of sums = from, or 0 where NULL. */
QAT_INLINE void block_begin(const float *from)
{
	if (from) {
		tile_load(0, from, NR * 4);
		tile_load(1, from + TILE, NR * 4);
		tile_load(2, from + TILE * NR, NR * 4);
		tile_load(3, from + TILE * NR + TILE, NR * 4);
	} else {
		tile_clear(0);
		tile_clear(1);
		tile_clear(2);
		tile_clear(3);
	}
}

QAT_INLINE void block_save(float *to)
{
	tile_save(0, to, NR * 4);
	tile_save(1, to + TILE, NR * 4);
	tile_save(2, to + TILE * NR, NR * 4);
	tile_save(3, to + TILE * NR + TILE, NR * 4);
}

/* Four loads for four products, which take longer. */
QAT_INLINE void block_sums(const char *a, int64_t row, const char *b, int64_t n)
{
	const char *below = a + TILE * row;

	for (int64_t k = 0; k < n; k++, a += LINE, below += LINE, b += TILE * NR * PAIR) {
		tile_load(4, a, row);
		tile_load(6, b, NR * PAIR);
		tile_load(5, below, row);
		tile_load(7, b + LINE, NR * PAIR);
		tile_dot_pairs(0, 4, 6);
		tile_dot_pairs(2, 5, 6);
		tile_dot_pairs(1, 4, 7);
		tile_dot_pairs(3, 5, 7);
	}
}

enum { TO_F32, TO_BF16, PAST_CACHES };

/* Rows of a block that has all columns, to their place in y. */
QAT_INLINE void finish_lines(const qat_gemm_args *g, const float *t, int64_t i, int64_t j,
			     int64_t rows, int to, int plain)
{
	for (int64_t r = i; r < i + rows; r++, t += NR) {
		const int64_t at = r * g->ldy + j;
		vf v[NV];

#pragma GCC unroll 2
		for (int k = 0; k < NV; k++) {
			v[k] = vf_load(t + k * LANES);
			if (!plain && g->bias)
				v[k] += vf_load(g->bias + j + k * LANES);
			if (!plain && g->addend)
				v[k] += vf_load(g->addend + r * g->ld_addend + j + k * LANES);
			if (to == PAST_CACHES)
				_mm512_stream_ps((float *)g->y.data + at + k * LANES, (__m512)v[k]);
			else if (to == TO_F32)
				vf_store((float *)g->y.data + at + k * LANES, v[k]);
		}
		if (to == TO_BF16)
			vf_store_bf16_line((uint16_t *)g->y.data + at, v[0], v[1]);
	}
}

static void finish_block(const product *w, float *t, int64_t i, int64_t j)
{
	const qat_gemm_args *g = w->g;
	const int64_t rows = min64(MR, g->m - i), cols = min64(NR, g->n - j);
	const int plain = !g->bias && !g->addend;

	if (cols < NR)
		for (int64_t r = 0; r < rows; r++, t += NR)
			finish_row(g, t, i + r, j, cols);
	else if (w->stream && plain)
		finish_lines(g, t, i, j, rows, PAST_CACHES, 1);
	else if (w->stream)
		finish_lines(g, t, i, j, rows, PAST_CACHES, 0);
	else if (g->y.dtype == QAT_F32)
		finish_lines(g, t, i, j, rows, TO_F32, 0);
	else if (plain)
		finish_lines(g, t, i, j, rows, TO_BF16, 1);
	else
		finish_lines(g, t, i, j, rows, TO_BF16, 0);
}

/* to [MR][NR] = sums scale, onto what is there or alone. */
static void add_scaled(float *to, const float *sums, const float *scale, int alone)
{
	vf s[NV];

#pragma GCC unroll 2
	for (int k = 0; k < NV; k++)
		s[k] = vf_load(scale + k * LANES);
	for (int r = 0; r < MR; r++, to += NR, sums += NR)
#pragma GCC unroll 2
		for (int k = 0; k < NV; k++) {
			const vf v = vf_load(sums + k * LANES);

			vf_store(to + k * LANES,
				 alone ? v * s[k] : vf_fma(v, s[k], vf_load(to + k * LANES)));
		}
}

/* Pairs [from, end) of a block in columns j and on, onto `kept`: sums of each group, whose
 * scales stand outside. */
static void block_groups(const product *w, float *kept, const char *a, const char *b, int64_t j,
			 int64_t from, int64_t end)
{
	const qat_gemm_args *g = w->g;
	const int64_t size = g->scale_group / 2, before = w->p0 / 2;
	int64_t group = (before + from) / size;
	float sums[BLOCK] __attribute__((aligned(LINE)));

	for (int64_t p = from, stop; p < end; p = stop, group++) {
		stop = min64(end, (group + 1) * size - before);
		block_begin(NULL);
		block_sums(a + p * PAIR, w->row, b + (p - from) * NR * PAIR, (stop - p) / TILE);
		block_save(sums);
		add_scaled(kept, sums, g->scale_b + group * g->ld_scale + j, before + p == 0);
	}
}

/* Pairs [from, end) of a block; it waits in `kept`, and goes to y when k is through. */
static void run_block(const product *w, float *kept, int64_t i, int64_t panel, int64_t from,
		      int64_t end)
{
	const qat_gemm_args *g = w->g;
	const int64_t j = w->j0 + panel * NR;
	const int first = w->p0 == 0 && !from, last = w->p0 + w->depth == g->k && end == w->pairs;
	const char *b = w->b + (panel * w->pairs + from) * NR * PAIR;
	const char *a = w->direct ? (const char *)g->a.data + w->p0 * 2 + i * w->row
				  : w->a + (i - w->i0) * w->row;
	float sums[BLOCK] __attribute__((aligned(LINE)));

	if (last && !w->stream)
		expect(g, i, j);
	if (g->scale_b) {
		block_groups(w, last && first ? sums : kept, a, b, j, from, end);
		if (last)
			finish_block(w, first ? sums : kept, i, j);
		return;
	}
	block_begin(first ? NULL : kept);
	block_sums(a + from * PAIR, w->row, b, (end - from) / TILE);
	if (!last) {
		block_save(kept);
		return;
	}
	block_save(sums);
	finish_block(w, sums, i, j);
}

/* `rows` rows of y from i0 on, panels [panel, stop). */
static void run_task(const product *w, int64_t i0, int64_t rows, int64_t panel, int64_t stop)
{
	const int64_t tiles = w->pairs / TILE, chunks = div_up(tiles, CHUNK / TILE);
	const int64_t chunk = div_up(tiles, chunks) * TILE, across = WIDE / NR;
	float *own = w->own + w->down * WIDE * omp_get_thread_num();

	for (int64_t p = 0; p < w->pairs; p += chunk)
		for (int64_t i = i0; i < i0 + rows; i += MR)
			for (int64_t j = panel; j < stop; j++) {
				float *kept = w->step < w->g->k
					    ? w->kept + (i / MR * w->panels + j) * BLOCK
					    : own + ((i - i0) / MR * across + j - panel) * BLOCK;

				run_block(w, kept, i, j, p, min64(w->pairs, p + chunk));
			}
	if (w->stream)
		_mm_sfence();
}

/* All rows of y that are packed, for the columns and the depth that are. */
static void run_tasks(const product *w)
{
	const int64_t down = div_up(w->rows, w->down), across = div_up(w->panels, WIDE / NR);

	tiles_open(LINE);
#pragma omp for schedule(dynamic)
	for (int64_t t = 0; t < down * across; t++) {
		const int64_t i = t % down * w->down, j = t / down * (WIDE / NR);

		run_task(w, w->i0 + i, min64(w->down, w->rows - i), j,
			 min64(w->panels, j + WIDE / NR));
	}
	tiles_close();
}

/* Each thread has a copy of w for itself. */
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
			run_tasks(&w);
		}
	}
}

/* ---- the whole ---- */

/* Tiles are loaded from whole lines, which do not push each other out of the first cache. */
static int reads_in_place(const qat_gemm_args *g)
{
	return !g->trans_a && !g->codes_a && g->a.dtype == QAT_BF16 && g->k % DEEP == 0 &&
	       g->m % MR == 0 && (uintptr_t)g->a.data % LINE == 0 && g->lda % DEEP == 0 &&
	       !in_the_way(g->lda, 2048);
}

/* Rows of a task: fewer where there would not be some for each thread. */
static int64_t rows_of_task(const qat_gemm_args *g, int64_t threads)
{
	const int64_t across = div_up(min64(g->n, ACROSS), WIDE);

	return min64(DOWN, max64(MR, round_up(div_up(g->m * across, 4 * threads), MR)));
}

/* Bytes between packed rows: an odd number of lines. */
static int64_t packed_row(int64_t pairs)
{
	return pairs * PAIR | LINE;
}

static int64_t place(product *w, const qat_gemm_args *g, char *base)
{
	const int64_t step = depth_of(g), panels = div_up(min64(g->n, ACROSS), NR);
	const int64_t threads = omp_get_max_threads(), m = round_up(g->m, MR);
	const int64_t b = panels * NR * step * 2, kept = step < g->k ? m * panels * NR * 4 : 0;
	int64_t own;

	*w = (product){ .g = g, .step = step, .direct = reads_in_place(g), .b = base,
			.stream = may_stream(g), .down = rows_of_task(g, threads) };
	own = step < g->k || step <= 2 * CHUNK ? 0 : threads * w->down * WIDE * 4;
	w->span = w->direct ? m : min64(m, round_up(max64(PACKED_MAX / (2 * step), DOWN), DOWN));
	w->own = (float *)(void *)(base + b);
	w->kept = (float *)(void *)(base + b + own);
	w->a = base + b + own + kept;
	return b + own + kept + (w->direct ? 0 : round_up(w->span, MR) * packed_row(step / 2));
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
			w.pairs = round_up(w.depth, DEEP) / 2;
			w.row = w.direct ? g->lda * 2 : packed_row(w.pairs);
			run_step(&w);
		}
	}
}

extern const qat_gemm_kernels QAT_NAME(qat_gemm_bf16);
const qat_gemm_kernels QAT_NAME(qat_gemm_bf16) = { .workspace = workspace, .run = run, .scales = DEEP };
#endif
