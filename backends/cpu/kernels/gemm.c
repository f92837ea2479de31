/* gemm.c - f32 products; bf16 operands are widened while they are packed. Per ISA.
 *
 * Blocks of ROWS x COLS of y; for each, k in steps of DEPTH: both operands are packed,
 * then tiles of y run in parallel. Between steps a tile waits in the workspace.
 */
#include "gemm_tile.h"
#include "kernels.h"
#include "pack.h"

enum { ROWS = 80 * 12, COLS = 2048, DEPTH = 256, TASK_M = 96 / MR, TASK_N = 256 / NR };

typedef struct gemm_block {
	const qat_gemm_args *g;
	float *a, *b, *acc;		/* panels, panels, tiles */
	int64_t i0, rows, j0, cols;	/* of y */
	int64_t p0, depth;		/* of k */
	int64_t tiles_m, tiles_n;
} gemm_block;

static int64_t tiles_of(int64_t n, int64_t limit, int64_t tile)
{
	return div_up(min64(n, limit), tile);
}

static int64_t gemm_workspace(const qat_gemm_args *g)
{
	const int64_t m = tiles_of(g->m, ROWS, MR), n = tiles_of(g->n, COLS, NR);
	const int64_t depth = min64(g->k, DEPTH), tile = g->k > DEPTH ? MR * NR : 0;

	return 4 * (m * (MR * depth + 16) + n * (NR * depth + 16) + m * n * tile) + 256;
}

static void pack_a(const gemm_block *b, int64_t t)
{
	const qat_gemm_args *g = b->g;
	const int64_t i = b->i0 + t * MR, have = min64(MR, b->i0 + b->rows - i);
	float *out = b->a + t * MR * b->depth;

	if (g->trans_a)
		pack_along(out, MR, g->a.data, g->a.dtype, b->p0 * g->lda + i, g->lda, have,
			   b->depth);
	else
		pack_across(out, MR, g->a.data, g->a.dtype, i * g->lda + b->p0, g->lda, have,
			    b->depth);
}

static void pack_b(const gemm_block *b, int64_t t)
{
	const qat_gemm_args *g = b->g;
	const int64_t j = b->j0 + t * NR, have = min64(NR, b->j0 + b->cols - j);
	float *out = b->b + t * NR * b->depth;

	if (g->trans_b)
		pack_across(out, NR, g->b.data, g->b.dtype, j * g->ldb + b->p0, g->ldb, have,
			    b->depth);
	else
		pack_along(out, NR, g->b.data, g->b.dtype, b->p0 * g->ldb + j, g->ldb, have,
			   b->depth);
}

/* A finished tile to its place in y. */
static void finish(const qat_gemm_args *g, float *tile, int64_t i0, int64_t j0)
{
	const int64_t rows = min64(MR, g->m - i0), cols = min64(NR, g->n - j0);

	for (int64_t i = 0; i < rows; i++) {
		float *t = tile + i * NR;

		if (g->bias)
			for (int64_t j = 0; j < cols; j++)
				t[j] += g->bias[j0 + j];
		if (g->addend) {
			const float *c = g->addend + (i0 + i) * g->ld_addend + j0;

			for (int64_t j = 0; j < cols; j++)
				t[j] += c[j];
		}
		store_floats(g->y.data, g->y.dtype, (i0 + i) * g->ldy + j0, t, cols);
	}
}

static void run_tile(const gemm_block *b, int64_t it, int64_t jt)
{
	const int first = b->p0 == 0, last = b->p0 + b->depth == b->g->k;
	float tile[MR * NR] __attribute__((aligned(64)));
	float *kept = b->acc + (it * b->tiles_n + jt) * MR * NR;

	gemm_tile(last ? tile : kept, first ? NULL : kept, b->a + it * MR * b->depth,
		  b->b + jt * NR * b->depth, b->depth);
	if (last)
		finish(b->g, tile, b->i0 + it * MR, b->j0 + jt * NR);
}

static void run_task(const gemm_block *b, int64_t it0, int64_t jt0)
{
	const int64_t it1 = min64(it0 + TASK_M, b->tiles_m);
	const int64_t jt1 = min64(jt0 + TASK_N, b->tiles_n);

	for (int64_t jt = jt0; jt < jt1; jt++)
		for (int64_t it = it0; it < it1; it++)
			run_tile(b, it, jt);
}

static void run_depth(const gemm_block *b)
{
	const int64_t tasks_m = div_up(b->tiles_m, TASK_M), tasks_n = div_up(b->tiles_n, TASK_N);

#pragma omp parallel
	{
#pragma omp for schedule(static) nowait
		for (int64_t t = 0; t < b->tiles_m; t++)
			pack_a(b, t);
#pragma omp for schedule(static)
		for (int64_t t = 0; t < b->tiles_n; t++)
			pack_b(b, t);
#pragma omp for schedule(dynamic) collapse(2)
		for (int64_t j = 0; j < tasks_n; j++)
			for (int64_t i = 0; i < tasks_m; i++)
				run_task(b, i * TASK_M, j * TASK_N);
	}
}

static void run_block(gemm_block *b)
{
	const int64_t k = b->g->k;

	b->tiles_m = div_up(b->rows, MR);
	b->tiles_n = div_up(b->cols, NR);
	b->b = b->a + round_up(b->tiles_m * MR * min64(k, DEPTH), 16);
	b->acc = b->b + round_up(b->tiles_n * NR * min64(k, DEPTH), 16);
	for (b->p0 = 0; b->p0 == 0 || b->p0 < k; b->p0 += DEPTH) {
		b->depth = min64(DEPTH, k - b->p0);
		run_depth(b);
	}
}

static void gemm_run(const qat_gemm_args *g, void *workspace)
{
	gemm_block b = { .g = g, .a = workspace };

	for (b.j0 = 0; b.j0 < g->n; b.j0 += COLS)
		for (b.i0 = 0; b.i0 < g->m; b.i0 += ROWS) {
			b.cols = min64(COLS, g->n - b.j0);
			b.rows = min64(ROWS, g->m - b.i0);
			run_block(&b);
		}
}

extern const qat_gemm_kernels QAT_NAME(qat_gemm);
const qat_gemm_kernels QAT_NAME(qat_gemm) = { .workspace = gemm_workspace, .run = gemm_run };
