/* qgemm_wide.h - tiles of eight rows and three panels, for products of bytes without zero
 * points that are left: twice as much in registers as a tile of qgemm.c, which does the edges.
 * Part of qgemm.c.
 */

enum { WIDE_ROWS = 8, WIDE_PANELS = 3, WIDE_COLS = WIDE_PANELS * LANES };

#if defined __AVX512VNNI__ && !defined QAT_PLAIN_TILES
static int fits_wide(const qat_qmm *p)
{
	return !p->w_zero && !p->x_zero && p->group4 >= 64;
}

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
			acc[i][j] = vi_set(t->x_sum[i * t->groups + g]);
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

enum { WIDE_ASSIGN, WIDE_ZERO, WIDE_ADD };

/* The terms of group g: alone, onto +0, or onto `from`. stream: past the caches. */
QAT_INLINE void wide_terms(float *to, int64_t ld, const float *from, int64_t ld_from,
			   vi acc[WIDE_ROWS][WIDE_PANELS], const wide_tile *t, int64_t g, int kind,
			   int stream)
{
	vf scale[WIDE_PANELS];

#pragma GCC unroll 3
	for (int j = 0; j < WIDE_PANELS; j++)
		scale[j] = vf_load(t->w_scale + (j * t->groups + g) * LANES);
#pragma GCC unroll 8
	for (int i = 0; i < WIDE_ROWS; i++)
#pragma GCC unroll 3
		for (int j = 0; j < WIDE_PANELS; j++) {
			const vf s = vf_set(t->x_scale[i * t->groups + g]) * scale[j];
			vf v = s * vf_from_int(acc[i][j]);

			if (kind == WIDE_ZERO)
				v = vf_set(0.0f) + v;
			if (kind == WIDE_ADD)
				v = vf_load(from + i * ld_from + j * LANES) + v;
			if (stream)
				_mm512_stream_ps(to + i * ld + j * LANES, (__m512)v);
			else
				vf_store(to + i * ld + j * LANES, v);
		}
}

/* The whole of a row, finished but for the bias, to y. */
QAT_INLINE void wide_row(const qat_qmm_args *a, const float *out, int64_t r, int64_t c)
{
#pragma GCC unroll 3
	for (int j = 0; j < WIDE_PANELS; j++) {
		const int64_t at = c + j * LANES;
		vf v = vf_load(out + j * LANES);

		if (a->bias)
			v += vf_load(a->bias + at);
		if (a->y.dtype == QAT_F32)
			vf_store((float *)a->y.data + r * a->ldy + at, v);
		else
			vf_store_bf16((uint16_t *)a->y.data + r * a->ldy + at, v);
	}
}

static void wide_finish(const qat_qmm_args *a, float *out, int64_t row, int64_t c, int64_t n)
{
	for (int64_t i = 0; i < WIDE_ROWS; i++, out += WIDE_COLS)
		if (n == WIDE_COLS)
			wide_row(a, out, row + i, c);
		else
			finish_row(a, out, row + i, c, n);
}

/* Where the sums of a tile begin; NULL: nowhere. Too few columns are copied to out. */
static const float *wide_begin(const qat_qmm_args *a, float *out, int64_t *ld, int64_t row,
			       int64_t c, int64_t n)
{
	*ld = WIDE_COLS;
	if (!a->adds || !a->addend)
		return NULL;
	if (n == WIDE_COLS) {
		*ld = a->ldy;
		return a->addend + row * a->ldy + c;
	}
	memset(out, 0, WIDE_ROWS * WIDE_COLS * sizeof *out);
	for (int64_t i = 0; i < WIDE_ROWS; i++)
		memcpy(out + i * WIDE_COLS, a->addend + (row + i) * a->ldy + c,
		       (size_t)n * sizeof *out);
	return out;
}

QAT_INLINE void wide_store(uint16_t *y, const vf v[WIDE_PANELS])
{
	const unsigned slow = vf_subnormal(v[0]) | vf_subnormal(v[1]) | vf_subnormal(v[2]);

#pragma GCC unroll 3
	for (int j = 0; j < WIDE_PANELS; j++)
		if (__builtin_expect(slow, 0))
			vf_store_bf16(y + j * LANES, v[j]);
		else
			_mm256_storeu_si256((__m256i *)(void *)(y + j * LANES),
					    (__m256i)_mm512_cvtneps_pbh((__m512)v[j]));
}

/* A tile of bf16 whose sums are one group's. */
QAT_INLINE void wide_alone(const qat_qmm_args *a, vi acc[WIDE_ROWS][WIDE_PANELS],
			   const wide_tile *t, int64_t row, int64_t c, int biased)
{
	uint16_t *y = (uint16_t *)a->y.data + row * a->ldy + c;
	vf scale[WIDE_PANELS], bias[WIDE_PANELS], v[WIDE_PANELS];

#pragma GCC unroll 3
	for (int j = 0; j < WIDE_PANELS; j++) {
		scale[j] = vf_load(t->w_scale + j * LANES);
		if (biased)
			bias[j] = vf_load(a->bias + c + j * LANES);
	}
#pragma GCC unroll 8
	for (int i = 0; i < WIDE_ROWS; i++, y += a->ldy) {
#pragma GCC unroll 3
		for (int j = 0; j < WIDE_PANELS; j++) {
			v[j] = vf_set(t->x_scale[i]) * scale[j] * vf_from_int(acc[i][j]);
			if (biased)
				v[j] += bias[j];
		}
		wide_store(y, v);
	}
}

/* Not inlined, as below: the loops of wide_sums stay as they are written. y is asked for before
 * the sums, as it comes from far. */
static __attribute__((noinline)) void one_alone(const qat_qmm *p, const qat_qmm_args *a,
						const xside *x, int64_t row, int64_t panel)
{
	const wide_tile t = wide_place(p, a, x, row, panel);
	const uint16_t *y = (const uint16_t *)a->y.data + row * a->ldy + panel * LANES;
	vi acc[WIDE_ROWS][WIDE_PANELS];

	for (int i = 0; i < WIDE_ROWS; i++, y += a->ldy) {
		__builtin_prefetch(y, 1);
		__builtin_prefetch(y + WIDE_COLS - 1, 1);
	}
	wide_sums(acc, &t, 0, p->group4 / STEP);
	if (a->bias)
		wide_alone(a, acc, &t, row, panel * LANES, 1);
	else
		wide_alone(a, acc, &t, row, panel * LANES, 0);
}

static __attribute__((noinline)) void one_wide(const qat_qmm *p, const qat_qmm_args *a,
					       const xside *x, int64_t row, int64_t panel)
{
	const wide_tile t = wide_place(p, a, x, row, panel);
	const int64_t c = panel * LANES, n = min64(WIDE_COLS, p->n - c);
	const int direct = a->y.dtype == QAT_F32 && !a->bias && n == WIDE_COLS;
	float out[WIDE_ROWS * WIDE_COLS] __attribute__((aligned(64)));
	float *to = out, *y = direct ? (float *)a->y.data + row * a->ldy + c : NULL;
	int64_t ld_from, ld = WIDE_COLS;
	const float *from = wide_begin(a, out, &ld_from, row, c, n);
	const int stream = direct && a->stream && (uintptr_t)y % 64 == 0 && a->ldy % LANES == 0;
	vi acc[WIDE_ROWS][WIDE_PANELS];

	for (int64_t g = 0; g < p->groups; g++) {
		if (direct && g == p->groups - 1) {
			to = y;
			ld = a->ldy;
		}
		wide_sums(acc, &t, g, p->group4 / STEP);
		if (from && stream && to == y)
			wide_terms(to, ld, from, ld_from, acc, &t, g, WIDE_ADD, 1);
		else if (from)
			wide_terms(to, ld, from, ld_from, acc, &t, g, WIDE_ADD, 0);
		else if (p->groups == 1 && !a->adds)
			wide_terms(to, ld, NULL, 0, acc, &t, g, WIDE_ASSIGN, 0);
		else
			wide_terms(to, ld, NULL, 0, acc, &t, g, WIDE_ZERO, 0);
		from = out;
		ld_from = WIDE_COLS;
	}
	if (!direct)
		wide_finish(a, out, row, c, n);
}

/* Whole tiles from row *row and panel *panel on; *row and *panel become where they end. */
static void run_wide(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t *row,
		     int64_t end, int64_t *panel, int64_t last)
{
	const int64_t stop = *row + (end - *row) / WIDE_ROWS * WIDE_ROWS;
	const int64_t wide = *panel + (last - *panel) / WIDE_PANELS * WIDE_PANELS;
	const int alone = p->groups == 1 && !a->adds && a->y.dtype == QAT_BF16;

	for (int64_t j = *panel; j < wide; j += WIDE_PANELS)
		for (int64_t r = *row; r < stop; r += WIDE_ROWS)
			if (alone && (j + WIDE_PANELS) * LANES <= p->n)
				one_alone(p, a, x, r, j);
			else
				one_wide(p, a, x, r, j);
	if (a->stream)
		_mm_sfence();
	*row = stop;
	*panel = wide;
}
#else
static int fits_wide(const qat_qmm *p)
{
	(void)p;
	return 0;
}

static void run_wide(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t *row,
		     int64_t end, int64_t *panel, int64_t last)
{
	(void)p, (void)a, (void)x, (void)row, (void)end, (void)panel, (void)last;
}
#endif
