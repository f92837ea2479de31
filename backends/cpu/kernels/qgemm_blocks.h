/* qgemm_blocks.h - blocks of 32 rows and two panels in tiles that sum bytes: tiles.h. Part of
 * qgemm.c.
 */

#if defined __AMX_INT8__ || defined QAT_PLAIN_TILES
/* Bytes that a product of tiles goes over: as many as fit and divide a group. */
static int64_t tile_depth(const qat_qmm *p)
{
	for (int64_t depth = 64; depth >= 16; depth -= 4)
		if (p->group4 % depth == 0)
			return depth;
	return 0;
}

/* The sums of one group, [ROWS][COLS], in two tiles by two. */
static void block_group(int32_t *sums, const tile_at *t, int64_t ld, int64_t first, int64_t n,
			int64_t depth)
{
	enum { STRIDE = COLS * 4 };

	tile_clear(0);
	tile_clear(1);
	tile_clear(2);
	tile_clear(3);
	for (int64_t k = first; k < first + n; k += depth) {
		tile_left(4, t->x[0] + k, ld);
		tile_right(6, t->w[0] + k * LANES);
		tile_dot(0, 4, 6);
		tile_right(7, t->w[1] + k * LANES);
		tile_dot(1, 4, 7);
		tile_left(5, t->x[16] + k, ld);
		tile_dot(2, 5, 6);
		tile_dot(3, 5, 7);
	}
	tile_save(0, sums, STRIDE);
	tile_save(1, sums + LANES, STRIDE);
	tile_save(2, sums + 16 * COLS, STRIDE);
	tile_save(3, sums + 16 * COLS + LANES, STRIDE);
}

/* One group's terms onto the sums of a block. */
QAT_INLINE void block_terms(float *out, const int32_t *sums, const qat_qmm *p, const tile_at *t,
			    int64_t g, int assign)
{
	for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 2
		for (int j = 0; j < 2; j++) {
			const int at = i * COLS + j * LANES;
			const vi sum = (vi)((vu)start(p, t, i, j, g) + (vu)vi_load(sums + at));
			const vf s = vf_set(t->x_scale[i][g]) * vf_load(t->w_scale[j] + g * LANES);
			const vf term = s * vf_from_int(sum);

			vf_store(out + at, assign ? term : vf_load(out + at) + term);
		}
}

static void one_block(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t row,
		      int64_t pair, int64_t depth)
{
	static const qat_qmm plain;
	const qat_qmm *zeros = p->w_zero || p->x_zero ? p : &plain;
	int32_t sums[ROWS * COLS] __attribute__((aligned(64)));
	float out[ROWS][COLS] __attribute__((aligned(64)));
	tile_at t;

	memset(out, 0, sizeof out);
	for (int i = 0; a->adds && i < ROWS; i++)
		begin_row(a, out[i], row + i, pair * COLS, min64(COLS, p->n - pair * COLS));
	tile_place(&t, p, x, a->weight, a->m, row, 2 * pair, ROWS);
	for (int64_t g = 0; g < p->groups; g++) {
		block_group(sums, &t, x->ld, g * p->group4, p->group4, depth);
		if (zeros == &plain)
			block_terms(out[0], sums, &plain, &t, g, p->groups == 1 && !a->adds);
		else
			block_terms(out[0], sums, p, &t, g, p->groups == 1 && !a->adds);
	}
	for (int i = 0; i < ROWS; i++)
		finish_row(a, out[i], row + i, pair * COLS, min64(COLS, p->n - pair * COLS));
}

/* Blocks of whole tiles in rows [row, end) of some pairs of panels; returns the first row
 * that is left. */
static int64_t run_blocks(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t row,
			  int64_t end, int64_t pair, int64_t last)
{
	const int64_t depth = tile_depth(p), stop = row + (end - row) / ROWS * ROWS;

	if (!depth || stop == row)
		return row;
	tiles_open(depth);
	for (; pair < last; pair++)
		for (int64_t r = row; r < stop; r += ROWS)
			one_block(p, a, x, r, pair, depth);
	tiles_close();
	return stop;
}
#else
static int64_t run_blocks(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t row,
			  int64_t end, int64_t pair, int64_t last)
{
	(void)p, (void)a, (void)x, (void)end, (void)pair, (void)last;
	return row;
}
#endif
