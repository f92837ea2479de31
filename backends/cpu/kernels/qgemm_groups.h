/* qgemm_groups.h - tiles of six rows and two panels whose groups are 32 long: sums of codes and
 * of terms stay in registers, and a row of the tile is a line of bf16. Part of qgemm.c.
 */

enum { DEEP_ROWS = 6, DEEP_STEPS = 8 };

#if defined __AVX512VNNI__ && !defined QAT_PLAIN_TILES
static int fits_deep(const qat_qmm *p, const qat_qmm_args *a)
{
	return !p->w_zero && !p->x_zero && p->group4 == 32 && p->groups > 1 && !a->adds &&
	       a->y.dtype == QAT_BF16;
}

/* Sums of group g. */
QAT_INLINE void deep_sums(vi acc[DEEP_ROWS][2], const wide_tile *t, int64_t g)
{
	const int64_t ld = t->ld, groups = t->groups, panel = t->panel;
	const xcode *x[2] = { t->x + g * 32, t->x + g * 32 + 3 * ld };
	const int32_t *sum[2] = { t->x_sum + g, t->x_sum + g + 3 * groups };
	const char *w = t->w + g * 32 * LANES;

#pragma GCC unroll 6
	for (int i = 0; i < DEEP_ROWS; i++)
		acc[i][0] = acc[i][1] = vi_set(sum[i / 3][i % 3 * groups]);
#pragma GCC unroll 8
	for (int s = 0; s < DEEP_STEPS; s++) {
		const vi b0 = vi_load(w + s * STEP * LANES);
		const vi b1 = vi_load(w + panel + s * STEP * LANES);

#pragma GCC unroll 6
		for (int i = 0; i < DEEP_ROWS; i++) {
			acc[i][0] = dot_step(acc[i][0], b0, x[i / 3] + i % 3 * ld + s * STEP);
			acc[i][1] = dot_step(acc[i][1], b1, x[i / 3] + i % 3 * ld + s * STEP);
		}
	}
}

/* The terms of group g onto the sums. */
QAT_INLINE void deep_terms(vf sum[DEEP_ROWS][2], vi acc[DEEP_ROWS][2], const wide_tile *t,
			   int64_t g)
{
	const float *x[2] = { t->x_scale + g, t->x_scale + g + 3 * t->groups };
	const vf w[2] = { vf_load(t->w_scale + g * LANES),
			  vf_load(t->w_scale + (t->groups + g) * LANES) };

#pragma GCC unroll 6
	for (int i = 0; i < DEEP_ROWS; i++)
#pragma GCC unroll 2
		for (int j = 0; j < 2; j++) {
			const vf s = vf_set(x[i / 3][i % 3 * t->groups]) * w[j];

			sum[i][j] = sum[i][j] + s * vf_from_int(acc[i][j]);
		}
}

/* From the sums to y. */
QAT_INLINE void deep_finish(const qat_qmm_args *a, vf sum[DEEP_ROWS][2], int64_t row, int64_t c)
{
	uint16_t *y = (uint16_t *)a->y.data + row * a->ldy + c;

#pragma GCC unroll 6
	for (int i = 0; i < DEEP_ROWS; i++, y += a->ldy) {
		if (a->bias) {
			sum[i][0] += vf_load(a->bias + c);
			sum[i][1] += vf_load(a->bias + c + LANES);
		}
		vf_store_bf16_line(y, sum[i][0], sum[i][1]);
	}
}

static __attribute__((noinline)) void one_deep(const qat_qmm *p, const qat_qmm_args *a,
					       const xside *x, int64_t row, int64_t panel)
{
	const wide_tile t = wide_place(p, a, x, row, panel);
	const uint16_t *y = (const uint16_t *)a->y.data + row * a->ldy + panel * LANES;
	vf sum[DEEP_ROWS][2];
	vi acc[DEEP_ROWS][2];

#pragma GCC unroll 6
	for (int i = 0; i < DEEP_ROWS; i++) {
		__builtin_prefetch(y + i * a->ldy, 1);
		sum[i][0] = sum[i][1] = vf_set(0.0f);
	}
	for (int64_t g = 0; g < t.groups; g++) {
		deep_sums(acc, &t, g);
		deep_terms(sum, acc, &t, g);
	}
	deep_finish(a, sum, row, panel * LANES);
}

/* Whole tiles from row *row and panel *panel on; *row and *panel become where they end. */
static void run_deep(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t *row,
		     int64_t end, int64_t *panel, int64_t last)
{
	const int64_t stop = *row + (end - *row) / DEEP_ROWS * DEEP_ROWS;
	const int64_t whole = *panel + (min64(last, p->n / LANES) - *panel) / 2 * 2;

	for (int64_t j = *panel; j < whole; j += 2)
		for (int64_t r = *row; r < stop; r += DEEP_ROWS)
			one_deep(p, a, x, r, j);
	*row = stop;
	*panel = whole;
}
#else
static int fits_deep(const qat_qmm *p, const qat_qmm_args *a)
{
	(void)p, (void)a;
	return 0;
}

static void run_deep(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t *row,
		     int64_t end, int64_t *panel, int64_t last)
{
	(void)p, (void)a, (void)x, (void)row, (void)end, (void)panel, (void)last;
}
#endif
