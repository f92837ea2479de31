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

/* The sums of n of k, [ROWS][COLS], in two tiles by two: of rows from x on, ld apart, and of two
 * panels, `panel` bytes apart. */
static void block_sums(int32_t *sums, const xcode *x, int64_t ld, const char *w, int64_t panel,
		       int64_t n, int64_t depth)
{
	enum { STRIDE = COLS * 4 };
	const xcode *below = x + 16 * ld;

	tile_clear(0);
	tile_clear(1);
	tile_clear(2);
	tile_clear(3);
	for (int64_t k = 0; k < n; k += depth, w += depth * LANES) {
		tile_left(4, x + k, ld);
		tile_right(6, w);
		tile_left(5, below + k, ld);
		tile_right(7, w + panel);
		tile_dot(0, 4, 6);
		tile_dot(2, 5, 6);
		tile_dot(1, 4, 7);
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
		block_sums(sums, t.x[0] + g * p->group4, x->ld, t.w[0] + g * p->group4 * LANES,
			   panel_bytes(p), p->group4, depth);
		if (zeros == &plain)
			block_terms(out[0], sums, &plain, &t, g, p->groups == 1 && !a->adds);
		else
			block_terms(out[0], sums, p, &t, g, p->groups == 1 && !a->adds);
	}
	for (int i = 0; i < ROWS; i++)
		finish_row(a, out[i], row + i, pair * COLS, min64(COLS, p->n - pair * COLS));
}

/* A row of a block to y. */
QAT_INLINE void block_row(const qat_qmm_args *a, const vf v[2], int64_t r, int64_t c)
{
	const int64_t at = r * a->ldy + c;

	if (a->y.dtype == QAT_F32) {
		vf_store((float *)a->y.data + at, v[0]);
		vf_store((float *)a->y.data + at + LANES, v[1]);
		return;
	}
#if defined QAT_PLAIN_TILES
	store_floats(a->y.data, a->y.dtype, at, (const float *)v, COLS);
#else
	vf_store_bf16_line((uint16_t *)a->y.data + at, v[0], v[1]);
#endif
}

/* A block whose sums are one group's, without zero points, and nothing is added to: what is to be
 * done for each of them is then as little as can be, as the sums themselves take no time. */
static void one_block_alone(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t row,
			    int64_t pair, int64_t depth)
{
	const char *packed = a->weight;
	const float *scale = (const float *)(packed + p->off_scale) + pair * COLS;
	const vf w[2] = { vf_load(scale), vf_load(scale + LANES) };
	const int64_t c = pair * COLS;
	int32_t sums[ROWS * COLS] __attribute__((aligned(64)));

	block_sums(sums, x->codes + row * x->ld, x->ld, packed + 64 + 2 * pair * panel_bytes(p),
		   panel_bytes(p), p->group4, depth);
	for (int64_t i = 0; i < ROWS; i++) {
		const vf s = vf_set(x->scale[row + i]);
		const vi begin = vi_set(x->sum[row + i]);
		vf v[2];

#pragma GCC unroll 2
		for (int j = 0; j < 2; j++) {
			const vi sum = vi_load(sums + i * COLS + j * LANES);

			v[j] = s * w[j] * vf_from_int((vi)((vu)begin + (vu)sum));
			if (a->bias)
				v[j] += vf_load(a->bias + c + j * LANES);
		}
		block_row(a, v, row + i, c);
	}
}

/* Blocks of whole tiles in rows [row, end) of some pairs of panels; returns the first row
 * that is left. */
static int64_t run_blocks(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t row,
			  int64_t end, int64_t pair, int64_t last)
{
	const int64_t depth = tile_depth(p), stop = row + (end - row) / ROWS * ROWS;
	const int alone = p->groups == 1 && !p->w_zero && !p->x_zero && !a->adds;

	if (!depth || stop == row)
		return row;
	tiles_open(depth);
	for (; pair < last; pair++)
		for (int64_t r = row; r < stop; r += ROWS)
			if (alone && (pair + 1) * COLS <= p->n)
				one_block_alone(p, a, x, r, pair, depth);
			else
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
