/* qgemm.c - quantized products on integers, to the bit as the numeric contract 4 says. Per ISA.
 *
 *   y[m, n] = sum over groups j of fl(fl(sa sw) fl(I_j)),  I_j = sum (qa - za)(qw - zw)
 *
 * Tiles of TILE rows and two panels do any product; what is larger or special, and does the
 * most of the usual ones, stands in qgemm_wide.h, qgemm_groups.h and qgemm_blocks.h.
 */
#include "qgemm.h"

#if defined __AMX_INT8__ || defined QAT_PLAIN_TILES
#include "tiles.h"
enum { ROWS = 32 };			/* of a block of tiles */
#else
enum { ROWS = 0 };
#endif

enum { TASK_ROWS = 16 * TILE, TASK_PANELS = 18, MOST = ROWS ? ROWS : TILE };

typedef uint32_t vu __attribute__((vector_size(LANES * 4)));
typedef int32_t vi_any __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

QAT_INLINE vi vi_load(const void *p)
{
	return *(const vi_any *)p;
}

QAT_INLINE vi vi_set(int32_t x)
{
	return x - (vi){ 0 };
}

/* acc + the STEP products of each lane of w with the STEP codes at x. */
QAT_INLINE vi dot_step(vi acc, vi w, const xcode *x)
{
	int32_t word;

	memcpy(&word, x, 4);
#if defined QAT_PLAIN_TILES
	uint8_t bytes[4 * LANES];

	memcpy(bytes, &w, sizeof bytes);
	for (int i = 0; i < 4 * LANES; i++)
		acc[i / 4] += bytes[i] * (int8_t)(word >> i % 4 * 8);
	return acc;
#elif defined __AVX512VNNI__
	return (vi)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, _mm512_set1_epi32(word));
#elif defined __AVX2__
	return acc + (vi)_mm256_madd_epi16((__m256i)w, _mm256_set1_epi32(word));
#elif defined __SSE2__
	return acc + (vi)__builtin_ia32_pmaddwd128(
		(short __attribute__((vector_size(16))))w,
		(short __attribute__((vector_size(16))))vi_set(word));
#else
	int16_t pairs[2 * LANES];

	memcpy(pairs, &w, sizeof pairs);
	for (int i = 0; i < LANES; i++)
		acc[i] += pairs[2 * i] * x[0] + pairs[2 * i + 1] * x[1];
	return acc;
#endif
}

#include "qgemm_left.h"

/* ---- tiles ---- */

/* A tile of up to MOST rows and two panels: where its operands are. */
typedef struct tile_at {
	const xcode *x[MOST];
	const float *x_scale[MOST];
	const int32_t *x_sum[MOST], *x_zero[MOST];
	const char *w[2];
	const float *w_scale[2];
	const int32_t *w_zero[2], *w_sum[2];
} tile_at;

/* What the sum starts with, so that it ends as the sum of (qa - za)(qw - zw). */
QAT_INLINE vi start(const qat_qmm *p, const tile_at *t, int i, int j, int64_t g)
{
	vu acc = { 0 };

	if (p->w_zero)
		acc = -((vu)vi_load(t->w_zero[j] + g * LANES) * (uint32_t)t->x_sum[i][g]);
	else if (OFFSET)
		acc = (vu)vi_set(t->x_sum[i][g]);
	if (p->x_zero)
		acc -= (vu)vi_load(t->w_sum[j] + g * LANES) * (uint32_t)t->x_zero[i][g];
	return (vi)acc;
}

/* The sums of one group. */
QAT_INLINE void tile_group(vi acc[TILE][2], const tile_at *t, int64_t first, int64_t steps)
{
	const char *w0 = t->w[0] + first * LANES * BYTES, *w1 = t->w[1] + first * LANES * BYTES;

	for (int64_t s = 0; s < steps; s++) {
		const vi a = vi_load(w0 + s * LANES * 4), b = vi_load(w1 + s * LANES * 4);

#pragma GCC unroll 8
		for (int i = 0; i < TILE; i++) {
			const xcode *x = t->x[i] + first + s * STEP;

			acc[i][0] = dot_step(acc[i][0], a, x);
			acc[i][1] = dot_step(acc[i][1], b, x);
		}
	}
}

/* adds: out has what the sums begin with. */
QAT_INLINE void tile_run(float out[TILE][COLS], const qat_qmm *p, const tile_at *t, int64_t groups,
			 int64_t steps, int adds)
{
	vf sum[TILE][2];

#pragma GCC unroll 8
	for (int i = 0; i < TILE; i++)
#pragma GCC unroll 2
		for (int j = 0; j < 2; j++)
			sum[i][j] = adds ? vf_load(out[i] + j * LANES) : vf_set(0.0f);
	for (int64_t g = 0; g < groups; g++) {
		vi acc[TILE][2];

#pragma GCC unroll 8
		for (int i = 0; i < TILE; i++)
#pragma GCC unroll 2
			for (int j = 0; j < 2; j++)
				acc[i][j] = start(p, t, i, j, g);
		tile_group(acc, t, g * steps * STEP, steps);
#pragma GCC unroll 8
		for (int i = 0; i < TILE; i++)
#pragma GCC unroll 2
			for (int j = 0; j < 2; j++) {
				const vf s = vf_set(t->x_scale[i][g]) *
					     vf_load(t->w_scale[j] + g * LANES);
				const vf term = s * vf_from_int(acc[i][j]);

				sum[i][j] = groups == 1 && !adds ? term : sum[i][j] + term;
			}
	}
#pragma GCC unroll 8
	for (int i = 0; i < TILE; i++)
#pragma GCC unroll 2
		for (int j = 0; j < 2; j++)
			vf_store(out[i] + j * LANES, sum[i][j]);
}

static void tile_place(tile_at *t, const qat_qmm *p, const xside *x, const char *packed, int64_t m,
		       int64_t row, int64_t first, int rows)
{
	const int64_t end = div_up(p->n, COLS) * 2;

	for (int i = 0; i < rows; i++) {
		const int64_t r = min64(row + i, m - 1);

		t->x[i] = x->codes + r * x->ld;
		t->x_scale[i] = x->scale + r * p->groups;
		t->x_sum[i] = x->sum + r * p->groups;
		t->x_zero[i] = p->x_zero ? x->zero + r * p->groups : NULL;
	}
	for (int j = 0; j < 2; j++) {
		const int64_t panel = min64(first + j, end - 1), at = panel * p->groups * LANES;

		t->w[j] = packed + 64 + panel * panel_bytes(p);
		t->w_scale[j] = (const float *)(packed + p->off_scale) + at;
		t->w_zero[j] = (const int32_t *)(packed + p->off_zero) + at;
		t->w_sum[j] = (const int32_t *)(packed + p->off_sum) + at;
	}
}

/* One row of a finished tile to y. */
static void finish_row(const qat_qmm_args *a, float *out, int64_t r, int64_t c, int64_t n)
{
	for (int64_t j = 0; a->bias && j < n; j++)
		out[j] += a->bias[c + j];
	if (n == COLS)			/* a loop of known length is a few instructions */
		store_floats(a->y.data, a->y.dtype, r * a->ldy + c, out, COLS);
	else
		store_floats(a->y.data, a->y.dtype, r * a->ldy + c, out, n);
}

/* What the n sums of a row begin with; those behind them with 0. */
static void begin_row(const qat_qmm_args *a, float *out, int64_t r, int64_t c, int64_t n)
{
	memset(out, 0, COLS * sizeof *out);
	if (a->addend && n)
		memcpy(out, a->addend + r * a->ldy + c, (size_t)n * sizeof *out);
}

/* Rows from `row` on, at most TILE and none from `end` on: others may add to those. */
static void one_tile(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t row,
		     int64_t end, int64_t panel)
{
	const int64_t c = panel * LANES, n = min64(COLS, p->n - c);
	const int64_t rows = min64(TILE, end - row);
	const int plain = !p->w_zero && !p->x_zero;
	float out[TILE][COLS] __attribute__((aligned(64)));
	tile_at t;

	tile_place(&t, p, x, a->weight, a->m, row, panel, TILE);
	for (int64_t i = 0; a->adds && i < TILE; i++)
		begin_row(a, out[i], row + i, c, i < rows ? n : 0);
	if (a->adds && plain) {
		static const qat_qmm none;

		tile_run(out, &none, &t, p->groups, p->group4 / STEP, 1);
	} else if (a->adds) {
		tile_run(out, p, &t, p->groups, p->group4 / STEP, 1);
	} else if (plain && p->groups > 1 && p->group4 == 32) {
		static const qat_qmm none;

		tile_run(out, &none, &t, p->groups, 32 / STEP, 0);
	} else if (plain) {
		static const qat_qmm none;

		tile_run(out, &none, &t, p->groups, p->group4 / STEP, 0);
	} else {
		tile_run(out, p, &t, p->groups, p->group4 / STEP, 0);
	}
	for (int64_t i = 0; i < rows; i++)
		finish_row(a, out[i], row + i, c, n);
}

#include "qgemm_wide.h"
#include "qgemm_groups.h"
#include "qgemm_blocks.h"

static void run_pairs(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t row,
		      int64_t end, int64_t panel, int64_t last)
{
	for (; panel < last; panel += 2)
		for (int64_t r = row; r < end; r += TILE)
			one_tile(p, a, x, r, end, panel);
}

/* Rows [row, end) of panels [panel, last), an even number of them. */
static void run_task(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t row,
		     int64_t end, int64_t panel, int64_t last)
{
	const int64_t first = run_blocks(p, a, x, row, end, panel / 2, last / 2);
	int64_t stop = first, whole = panel;

	last = min64(last, div_up(p->n, LANES));	/* behind it they are but filling */
	if (fits_deep(p, a))
		run_deep(p, a, x, &stop, end, &whole, last);
	else if (fits_wide(p))
		run_wide(p, a, x, &stop, end, &whole, last);
	run_pairs(p, a, x, first, stop, whole, last);
	run_pairs(p, a, x, stop, end, panel, last);
}

/* Small enough that threads end together, and whole tiles of the kind that does them. Blocks of
 * tiles take a weight from afar faster than it comes: those of a task share it. */
static int64_t rows_of_task(const qat_qmm *p, const qat_qmm_args *a)
{
	const int64_t across = div_up(p->n, LANES * TASK_PANELS);

	if (ROWS)
		return div_up(a->m, 8 * ROWS) * across >= 16 ? 8 * ROWS : 3 * ROWS;
	if (fits_deep(p, a))
		return 8 * DEEP_ROWS;
	return fits_wide(p) ? 8 * WIDE_ROWS : TASK_ROWS;
}

static void run_tiles(const qat_qmm *p, const qat_qmm_args *a, const xside *x)
{
	const int64_t panels = div_up(p->n, COLS) * 2, rows = rows_of_task(p, a);
	const int64_t down = div_up(a->m, rows), across = div_up(panels, TASK_PANELS);

#pragma omp parallel for schedule(dynamic) collapse(2)
	for (int64_t ti = 0; ti < down; ti++)
		for (int64_t tj = 0; tj < across; tj++)
			run_task(p, a, x, ti * rows, min64(a->m, (ti + 1) * rows),
				 tj * TASK_PANELS, min64(panels, (tj + 1) * TASK_PANELS));
}

/* ---- one element after the other, sums in 64 bits ---- */

static int64_t plain_sum(const qat_qmm *p, const xside *x, const char *packed, int64_t r,
			 int64_t n, int64_t g)
{
	const int64_t panel = n / LANES, lane = n % LANES;
	const int64_t at = (panel * p->groups + g) * LANES + lane;
	const wcode *w = (const wcode *)(packed + 64 + panel * panel_bytes(p)) +
			 g * p->group4 * LANES;
	const int64_t zw = p->w_zero ? ((const int32_t *)(packed + p->off_zero))[at] : OFFSET;
	const int64_t za = p->x_zero ? x->zero[r * p->groups + g] : 0;
	const xcode *xc = x->codes + r * x->ld + g * p->group4;
	int64_t sum = 0;

	for (int64_t k = 0; k < p->group; k++)
		sum += (xc[k] - za) * (w[(k / STEP * LANES + lane) * STEP + k % STEP] - zw);
	return sum;
}

static float plain_term(const qat_qmm *p, int64_t sum, float sa, float sw)
{
	if (both_pow2(p))
		return (float)((double)sum * sa * sw);
	return sa * sw * (float)sum;
}

static float plain_element(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t r,
			   int64_t n)
{
	const char *packed = a->weight;
	const float *ws = (const float *)(packed + p->off_scale) +
			  n / LANES * p->groups * LANES + n % LANES;
	float y = a->adds && a->addend ? a->addend[r * a->ldy + n] : 0.0f;

	for (int64_t g = 0; g < p->groups; g++) {
		const float term = plain_term(p, plain_sum(p, x, packed, r, n, g),
					      x->scale[r * p->groups + g], ws[g * LANES]);

		y = p->groups == 1 && !a->adds ? term : y + term;
	}
	return y;
}

static void run_plain(const qat_qmm *p, const qat_qmm_args *a, const xside *x)
{
#pragma omp parallel for schedule(static)
	for (int64_t r = 0; r < a->m; r++)
		for (int64_t n = 0; n < p->n; n++) {
			float y = plain_element(p, a, x, r, n);

			finish_row(a, &y, r, n, 1);
		}
}

/* Whether fl(fl(sa sw) fl(I)) of powers of two might leave the normal numbers. */
static int extreme(const qat_qmm *p, scale_range x, const void *packed)
{
	scale_range w;

	memcpy(&w, packed, sizeof w);
	if (!both_pow2(p) || !(x.hi > 0.0f) || !(w.hi > 0.0f))
		return 0;
	return (double)x.lo * w.lo < 0x1p-126 || (double)x.hi * w.hi > 0x1p100;
}

static void run(const qat_qmm *p, const qat_qmm_args *a)
{
	scale_range range;
	xside x;

	if (a->m < 1)
		return;
	place_x(&x, p, a);
	range = prepare(&x, p, a);
	if (p->kind == QAT_QMM_INT64 || extreme(p, range, a->weight))
		run_plain(p, a, &x);
	else
		run_tiles(p, a, &x);
}

extern const qat_qmm_kernels QAT_NAME(qat_qmm);
const qat_qmm_kernels QAT_NAME(qat_qmm) = {
	.lanes = LANES, .step = STEP, .element = BYTES,
	.pack = QAT_NAME(qat_qgemm_pack), .workspace = workspace, .run = run,
	.pack_along = QAT_NAME(qat_qgemm_pack_along), .unpack = QAT_NAME(qat_qgemm_unpack),
};
