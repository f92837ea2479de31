/* qgemm.c - quantized products on integers, to the bit as the numeric contract 4 says. Per ISA.
 *
 *   y[m, n] = sum over groups j of fl(fl(sa sw) fl(I_j)),  I_j = sum (qa - za)(qw - zw)
 *
 * Packed weights: panels of LANES columns, [panel][k / STEP][LANES][STEP], k padded to
 * STEP in every group. Where the ISA multiplies bytes they are stored as integer + 128,
 * unsigned, for an instruction that takes unsigned x signed; else as 16-bit integers,
 * whose pairs are multiplied and added without saturation. Zero points that fit are
 * subtracted while packing, others corrected in the sums: modulo 2^32, which is exact
 * as long as the result is an int32.
 * Beside the codes: scale, 128 + zw, and the sum of (qw - zw), [panel][group][LANES].
 */
#include "kernels.h"
#include "simd.h"

#if defined __AMX_INT8__ || defined QAT_PLAIN_TILES
#include "tiles.h"
enum { ROWS = 32 };			/* of a block of tiles */
#else
enum { ROWS = 0 };
#endif

#if defined __AVX512VNNI__ || defined QAT_PLAIN_TILES
enum { STEP = 4, TILE = 6, BYTES = 1, OFFSET = 128 };
typedef int8_t xcode;
typedef uint8_t wcode;
#elif defined __AVX2__ || defined __SSE2__
enum { STEP = 2, TILE = 4, BYTES = 2, OFFSET = 0 };
typedef int16_t xcode;
typedef int16_t wcode;
#else
enum { STEP = 2, TILE = 4, BYTES = 2, OFFSET = 0 };
typedef int16_t xcode;
typedef int16_t wcode;
#endif

enum { COLS = 2 * LANES, TASK_ROWS = 16 * TILE, TASK_PANELS = 18, MOST = ROWS ? ROWS : TILE };

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

/* ---- integers of codes ---- */

/* The integer 2^shift * value of each code (numerics.h qat_code_integer), less `zero`. */
QAT_INLINE void integers(const qat_scheme *s, int16_t *restrict out, const uint8_t *restrict codes,
			 int64_t n, int32_t zero)
{
	const int32_t mbits = s->mbits, one = 1 << mbits, emask = (1 << s->ebits) - 1;

	if (s->grid == QAT_GRID_UNIFORM) {
		for (int64_t i = 0; i < n; i++)
			out[i] = (int16_t)((int8_t)codes[i] - zero);
		return;
	}
	for (int64_t i = 0; i < n; i++) {
		const int32_t e = codes[i] >> mbits & emask, m = codes[i] & (one - 1);
		const int32_t a = (m + (e ? one : 0)) << (e ? e - 1 : 0);

		out[i] = (int16_t)(codes[i] >> (s->ebits + mbits) & 1 ? -a : a);
	}
}

/* Index of the block of element (r, c) in a scheme's scales. */
static int64_t block_of(const qat_scheme *s, int64_t cols, int64_t r, int64_t c)
{
	const int64_t groups = s->block_cols ? cols / s->block_cols : 1;

	return (s->block_rows ? r / s->block_rows : 0) * groups +
	       (s->block_cols ? c / s->block_cols : 0);
}

static int32_t zero_of(const void *zero, int64_t block)
{
	return zero ? ((const int8_t *)zero)[block] : 0;
}

/* Both scales powers of two: the contract's I * 2^(ea + ew) is one rounding, which
 * fl(fl(sa sw) fl(I)) is too unless it leaves the range of normal numbers. */
static int both_pow2(const qat_qmm *p)
{
	return qat_scale_is_pow2(p->xs) && qat_scale_is_pow2(p->ws);
}

/* Extremes of the scales of blocks that are not all zero. */
typedef struct scale_range { float lo, hi; } scale_range;

static const scale_range no_range = { INFINITY, 0.0f };

static void range_add(scale_range *r, float lo, float hi)
{
	r->lo = lo < r->lo ? lo : r->lo;
	r->hi = hi > r->hi ? hi : r->hi;
}

/* A block of zeros adds nothing: any scale will do, and 1 cannot overflow. */
static float kept_scale(const qat_qmm *p, float scale, int shift, int all_zero, scale_range *range)
{
	scale *= qat_pow2(-shift);
	if (!both_pow2(p) || scale != scale)
		return scale;
	if (all_zero)
		return 1.0f;
	range_add(range, fabsf(scale), fabsf(scale));
	return scale;
}

/* ---- weights ---- */

static int64_t panel_bytes(const qat_qmm *p)
{
	return p->groups * p->group4 * LANES * BYTES;
}

/* Elements of a group on their way into a panel; k beyond the group is zero. */
enum { PIECE = 512 };

typedef struct packing {
	const qat_qmm *p;
	const uint8_t *codes;
	const float *scale;
	const void *zero;
	char *packed;
} packing;

/* Piece [k0, k0 + n) of column `lane` of a panel's group; returns the sum of integers.
 * STEP of them are 4 bytes whatever the ISA. */
QAT_INLINE int64_t pack_piece(wcode *panel, int lane, const qat_scheme *s, const uint8_t *codes,
			      int64_t k0, int64_t n, int32_t zero, int *any)
{
	char *out = (char *)panel + (k0 / STEP * LANES + lane) * 4;
	wcode bytes[PIECE + STEP];
	int16_t v[PIECE];
	int32_t sum = 0, seen = 0;

	integers(s, v, codes, n, zero);
	for (int64_t i = 0; i < n; i++) {
		sum += v[i];
		seen |= v[i];
		bytes[i] = (wcode)(v[i] + OFFSET);
	}
	for (int64_t i = n; i < round_up(n, STEP); i++)
		bytes[i] = (wcode)OFFSET;
	for (int64_t i = 0; i < n; i += STEP, out += LANES * 4)
		memcpy(out, bytes + i, 4);
	*any |= seen != 0;
	return sum;
}

static void pack_group(const packing *w, int64_t panel, int64_t g, int lane, scale_range *range)
{
	const qat_qmm *p = w->p;
	const int64_t n = panel * LANES + lane, at = (panel * p->groups + g) * LANES + lane;
	const int64_t block = block_of(p->ws, p->k, n, g * p->group);
	const int32_t zero = zero_of(w->zero, block), fold = p->w_zero ? 0 : zero;
	const uint8_t *codes = w->codes + n * p->k + g * p->group;
	wcode *out = (wcode *)(w->packed + 64 + panel * panel_bytes(p)) + g * p->group4 * LANES;
	int64_t sum = 0;
	int any = 0;

	if (p->group == 32)
		sum = pack_piece(out, lane, p->ws, codes, 0, 32, fold, &any);
	for (int64_t k = 0; p->group != 32 && k < p->group; k += PIECE)
		sum += pack_piece(out, lane, p->ws, codes + k, k, min64(PIECE, p->group - k), fold,
				  &any);
	((float *)(w->packed + p->off_scale))[at] =
		kept_scale(p, w->scale[block], p->w_shift, !any, range);
	if (p->w_zero)
		((int32_t *)(w->packed + p->off_zero))[at] = OFFSET + zero;
	if (p->x_zero)
		((int32_t *)(w->packed + p->off_sum))[at] =
			(int32_t)(sum - (p->w_zero ? zero : 0) * p->group);
}

static scale_range pack_panel(const packing *w, int64_t panel)
{
	const qat_qmm *p = w->p;
	scale_range range = no_range;

	memset(w->packed + 64 + panel * panel_bytes(p), OFFSET, (size_t)panel_bytes(p));
	for (int lane = 0; lane < LANES; lane++)
		for (int64_t g = 0; g < p->groups; g++) {
			const int64_t at = (panel * p->groups + g) * LANES + lane;

			if (panel * LANES + lane < p->n) {
				pack_group(w, panel, g, lane, &range);
				continue;
			}
			((float *)(w->packed + p->off_scale))[at] = 0.0f;
			if (p->w_zero)
				((int32_t *)(w->packed + p->off_zero))[at] = OFFSET;
			if (p->x_zero)
				((int32_t *)(w->packed + p->off_sum))[at] = 0;
		}
	return range;
}

static void pack(const qat_qmm *p, void *packed, const void *codes, const float *scale,
		 const void *zero)
{
	const packing w = { p, codes, scale, zero, packed };
	float lo = INFINITY, hi = 0.0f;
	scale_range range;

#pragma omp parallel for schedule(static) reduction(min: lo) reduction(max: hi)
	for (int64_t panel = 0; panel < div_up(p->n, COLS) * 2; panel++) {
		const scale_range r = pack_panel(&w, panel);

		lo = r.lo < lo ? r.lo : lo;
		hi = r.hi > hi ? r.hi : hi;
	}
	range = (scale_range){ lo, hi };
	memcpy(packed, &range, sizeof range);
}

#include "qgemm_along.h"

/* ---- the other side ---- */

/* x as the tiles want it: codes, and per row and group scale, sum of codes, zero point. */
typedef struct xside {
	const xcode *codes;
	int64_t ld;
	float *scale;
	int32_t *sum, *zero;
	xcode *own;
} xside;

static int64_t x_rows(const qat_qmm *p, int64_t m)
{
	return round_up(m * p->groups, 16);
}

static int64_t workspace(const qat_qmm *p, int64_t m)
{
	const int64_t codes = p->x_direct ? 0 : m * p->groups * p->group4 * BYTES;

	return round_up(codes, 64) + 4 * x_rows(p, m) * (p->x_zero ? 3 : 2) + 64;
}

static void place_x(xside *x, const qat_qmm *p, const qat_qmm_args *a)
{
	const int64_t per = x_rows(p, a->m);

	x->scale = a->workspace;
	x->sum = (int32_t *)(x->scale + per);
	x->zero = p->x_zero ? x->sum + per : NULL;
	x->own = p->x_direct ? NULL : (xcode *)(x->sum + per * (p->x_zero ? 2 : 1));
	x->codes = p->x_direct ? (const xcode *)a->x : x->own;
	x->ld = p->x_direct ? p->k : p->groups * p->group4;
}

/* Sum of n codes as they are, and whether one is not zero. */
QAT_INLINE int32_t sum_codes(const int8_t *restrict codes, int64_t n, int *any)
{
	int32_t sum = 0, seen = 0;

	for (int64_t i = 0; i < n; i++) {
		sum += codes[i];
		seen |= codes[i];
	}
	*any = seen != 0;
	return sum;
}

/* Codes of a group into x->own; returns their sum. */
static int32_t spread_group(const xside *x, const qat_qmm *p, const uint8_t *codes, int64_t r,
			    int64_t g, int32_t zero, int *any)
{
	xcode *out = x->own + r * x->ld + g * p->group4;
	int32_t sum = 0, seen = 0;

	for (int64_t k = 0; k < p->group; k += PIECE) {
		const int64_t n = min64(PIECE, p->group - k);
		int16_t v[PIECE];

		integers(p->xs, v, codes + k, n, zero);
		for (int64_t i = 0; i < n; i++) {
			out[k + i] = (xcode)v[i];
			sum += v[i];
			seen |= v[i];
		}
	}
	for (int64_t k = p->group; k < p->group4; k++)
		out[k] = 0;
	*any = seen != 0;
	return sum;
}

static void prepare_group(const xside *x, const qat_qmm *p, const qat_qmm_args *a, int64_t r,
			  int64_t g, scale_range *range)
{
	const int64_t at = r * p->groups + g, block = block_of(p->xs, p->k, r, g * p->group);
	const int32_t zero = zero_of(a->x_zero, block);
	const uint8_t *codes = (const uint8_t *)a->x + r * p->k + g * p->group;
	int any;

	if (p->x_direct && p->group == 32)
		x->sum[at] = sum_codes((const int8_t *)codes, 32, &any);
	else if (p->x_direct)
		x->sum[at] = sum_codes((const int8_t *)codes, p->group, &any);
	else
		x->sum[at] = spread_group(x, p, codes, r, g, p->x_zero ? 0 : zero, &any);
	x->scale[at] = kept_scale(p, a->x_scale[block], p->x_shift, !any, range);
	if (p->x_zero)
		x->zero[at] = zero;
}

static scale_range prepare(const xside *x, const qat_qmm *p, const qat_qmm_args *a)
{
	float lo = INFINITY, hi = 0.0f;

#pragma omp parallel for schedule(static) reduction(min: lo) reduction(max: hi)
	for (int64_t r = 0; r < a->m; r++) {
		scale_range range = no_range;

		for (int64_t g = 0; g < p->groups; g++)
			prepare_group(x, p, a, r, g, &range);
		lo = range.lo < lo ? range.lo : lo;
		hi = range.hi > hi ? range.hi : hi;
	}
	return (scale_range){ lo, hi };
}

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
		acc = (vu)vi_set((int32_t)(0u - (uint32_t)OFFSET * (uint32_t)t->x_sum[i][g]));
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

/* What the sums of a row begin with. */
static void begin_row(const qat_qmm_args *a, float *out, int64_t r, int64_t c, int64_t n)
{
	memset(out, 0, COLS * sizeof *out);
	if (a->addend && r < a->m)
		memcpy(out, a->addend + r * a->ldy + c, (size_t)n * sizeof *out);
}

static void one_tile(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t row,
		     int64_t panel)
{
	const int64_t c = panel * LANES, n = min64(COLS, p->n - c);
	const int plain = !p->w_zero && !p->x_zero;
	float out[TILE][COLS] __attribute__((aligned(64)));
	tile_at t;

	tile_place(&t, p, x, a->weight, a->m, row, panel, TILE);
	for (int64_t i = 0; a->adds && i < TILE; i++)
		begin_row(a, out[i], row + i, c, n);
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
	for (int64_t i = 0; i < min64(TILE, a->m - row); i++)
		finish_row(a, out[i], row + i, c, n);
}

#include "qgemm_wide.h"

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

static void run_pairs(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t row,
		      int64_t end, int64_t panel, int64_t last)
{
	for (; panel < last; panel += 2)
		for (int64_t r = row; r < end; r += TILE)
			one_tile(p, a, x, r, panel);
}

/* Rows [row, end) of panels [panel, last), an even number of them. */
static void run_task(const qat_qmm *p, const qat_qmm_args *a, const xside *x, int64_t row,
		     int64_t end, int64_t panel, int64_t last)
{
	const int64_t first = run_blocks(p, a, x, row, end, panel / 2, last / 2);
	int64_t stop = first, wide = panel;

	last = min64(last, div_up(p->n, LANES));	/* behind it they are but filling */
	run_wide(p, a, x, &stop, end, &wide, last);
	run_pairs(p, a, x, first, stop, wide, last);
	run_pairs(p, a, x, stop, end, panel, last);
}

static void run_tiles(const qat_qmm *p, const qat_qmm_args *a, const xside *x)
{
	const int64_t panels = div_up(p->n, COLS) * 2, down = div_up(a->m, TASK_ROWS);
	const int64_t across = div_up(panels, TASK_PANELS);

#pragma omp parallel for schedule(dynamic) collapse(2)
	for (int64_t ti = 0; ti < down; ti++)
		for (int64_t tj = 0; tj < across; tj++)
			run_task(p, a, x, ti * TASK_ROWS, min64(a->m, (ti + 1) * TASK_ROWS),
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
	.pack = pack, .workspace = workspace, .run = run, .pack_along = pack_along,
};
