/* qgemm_wide.h - tiles of eight rows and three panels, for products of bytes without zero
 * points that are left: twice as much in registers as a tile of qgemm.c, which does the edges.
 * Part of qgemm.c.
 */

#if defined __AVX512VNNI__ && !defined QAT_PLAIN_TILES
enum { WIDE_ROWS = 8, WIDE_PANELS = 3, WIDE_COLS = WIDE_PANELS * LANES };

typedef struct wide_tile {
	const xcode *x;			/* row 0; ld apart */
	int64_t ld;
	const float *x_scale;
	const int32_t *x_sum;		/* groups apart */
	const char *w;
	const float *w_scale;
	int64_t panel, groups;		/* bytes between panels; blocks in a row */
} wide_tile;

static wide_tile wide_place(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t row,
			    int64_t panel)
{
	const char *packed = a->weight;

	return (wide_tile){
		.x = x->codes + row * x->ld, .ld = x->ld,
		.x_scale = x->scale + row * p->groups, .x_sum = x->sum + row * p->groups,
		.w = packed + 64 + panel * panel_bytes(p),
		.w_scale = (const float *)(packed + p->off_scale) + panel * p->groups * LANES,
		.panel = panel_bytes(p), .groups = p->groups,
	};
}

/* Sums of group g, `steps` words of four bytes long. */
QAT_INLINE void wide_sums(vi acc[WIDE_ROWS][WIDE_PANELS], const wide_tile *t, int64_t g,
			  int64_t steps)
{
	const int64_t ld = t->ld, panel = t->panel;
	const xcode *x = t->x + g * steps * STEP;
	const char *w = t->w + g * steps * STEP * LANES;

#pragma GCC unroll 8
	for (int i = 0; i < WIDE_ROWS; i++)
#pragma GCC unroll 3
		for (int j = 0; j < WIDE_PANELS; j++)
			acc[i][j] = vi_set((int32_t)(0u - (uint32_t)OFFSET *
						     (uint32_t)t->x_sum[i * t->groups + g]));
	for (int64_t s = 0; s < steps; s++, x += STEP, w += STEP * LANES) {
		const vi b0 = vi_load(w), b1 = vi_load(w + panel), b2 = vi_load(w + 2 * panel);

#pragma GCC unroll 8
		for (int i = 0; i < WIDE_ROWS; i++) {
			acc[i][0] = dot_step(acc[i][0], b0, x + i * ld);
			acc[i][1] = dot_step(acc[i][1], b1, x + i * ld);
			acc[i][2] = dot_step(acc[i][2], b2, x + i * ld);
		}
	}
}

/* The terms of group g, onto what is there unless `assign`. */
QAT_INLINE void wide_terms(float *out, vi acc[WIDE_ROWS][WIDE_PANELS], const wide_tile *t,
			   int64_t g, int assign)
{
	vf scale[WIDE_PANELS];

#pragma GCC unroll 3
	for (int j = 0; j < WIDE_PANELS; j++)
		scale[j] = vf_load(t->w_scale + (j * t->groups + g) * LANES);
#pragma GCC unroll 8
	for (int i = 0; i < WIDE_ROWS; i++)
#pragma GCC unroll 3
		for (int j = 0; j < WIDE_PANELS; j++) {
			float *at = out + i * WIDE_COLS + j * LANES;
			const vf s = vf_set(t->x_scale[i * t->groups + g]) * scale[j];
			const vf term = s * vf_from_int(acc[i][j]);

			vf_store(at, assign ? term : vf_load(at) + term);
		}
}

/* What sums begin with. */
static void wide_begin(float *out, const qat_qmm_args *a, int64_t row, int64_t c, int64_t n)
{
	if (!a->adds || !a->addend) {
		memset(out, 0, WIDE_ROWS * WIDE_COLS * sizeof *out);
		return;
	}
	for (int64_t i = 0; i < WIDE_ROWS; i++, out += WIDE_COLS) {
		if (n < WIDE_COLS)
			memset(out, 0, WIDE_COLS * sizeof *out);
		memcpy(out, a->addend + (row + i) * a->ldy + c, (size_t)n * sizeof *out);
	}
}

static void wide_finish(const qat_qmm_args *a, float *out, int64_t row, int64_t c, int64_t n)
{
	for (int64_t i = 0; i < WIDE_ROWS; i++, out += WIDE_COLS) {
		for (int64_t j = 0; a->bias && j < n; j++)
			out[j] += a->bias[c + j];
		if (n == WIDE_COLS)
			store_floats(a->y.data, a->y.dtype, (row + i) * a->ldy + c, out, WIDE_COLS);
		else
			store_floats(a->y.data, a->y.dtype, (row + i) * a->ldy + c, out, n);
	}
}

static void one_wide(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t row,
		     int64_t panel)
{
	const wide_tile t = wide_place(p, a, x, row, panel);
	const int64_t c = panel * LANES, n = min64(WIDE_COLS, p->n - c);
	float out[WIDE_ROWS * WIDE_COLS] __attribute__((aligned(64)));
	const int assign = p->groups == 1 && !a->adds;
	vi acc[WIDE_ROWS][WIDE_PANELS];

	if (!assign)
		wide_begin(out, a, row, c, n);
	for (int64_t g = 0; g < p->groups; g++) {
		wide_sums(acc, &t, g, p->group4 / STEP);
		if (assign)
			wide_terms(out, acc, &t, g, 1);
		else
			wide_terms(out, acc, &t, g, 0);
	}
	wide_finish(a, out, row, c, n);
}

/* Whole tiles from row *row and panel *panel on; *row and *panel become where they end. */
static void run_wide(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t *row,
		     int64_t end, int64_t *panel, int64_t last)
{
	const int64_t stop = *row + (end - *row) / WIDE_ROWS * WIDE_ROWS;
	const int64_t wide = *panel + (last - *panel) / WIDE_PANELS * WIDE_PANELS;

	if (p->w_zero || p->x_zero || p->group4 < 64)
		return;
	for (int64_t r = *row; r < stop; r += WIDE_ROWS)
		for (int64_t j = *panel; j < wide; j += WIDE_PANELS)
			one_wide(p, a, x, r, j);
	*row = stop;
	*panel = wide;
}
#else
static void run_wide(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t *row,
		     int64_t end, int64_t *panel, int64_t last)
{
	(void)p, (void)a, (void)x, (void)row, (void)end, (void)panel, (void)last;
}
#endif
