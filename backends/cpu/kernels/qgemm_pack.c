/* qgemm_pack.c - weights of products of codes, as qgemm.h wants them. Per ISA. */
#include "qgemm.h"

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

#include "qgemm_across.h"

static scale_range pack_panel(const packing *w, int64_t panel)
{
	const qat_qmm *p = w->p;
	scale_range range = no_range;

	if (pack_across(w, panel))
		return range;
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

void QAT_NAME(qat_qgemm_pack)(const qat_qmm *p, void *packed, const void *codes,
			      const float *scale, const void *zero)
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

/* ---- codes whose rows are k: they are woven, STEP rows of a panel's columns at once ---- */

/* STEP rows of n <= LANES codes, NULL: zeros, side by side into a panel. */
QAT_INLINE void weave(wcode *restrict out, const int8_t *const row[STEP], int64_t n)
{
	int8_t v[STEP][LANES] = { { 0 } };

	for (int s = 0; s < STEP; s++)
		if (row[s])
			memcpy(v[s], row[s], (size_t)n);
#if defined __SSE2__
	if (STEP == 4 && LANES == 16) {
		const __m128i flip = _mm_set1_epi8((char)OFFSET);
		__m128i x[4], lo, hi;

		for (int s = 0; s < 4; s++)
			x[s] = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)v[s % STEP]),
					     flip);
		for (int half = 0; half < 2; half++) {
			__m128i *to = (__m128i *)(void *)out + 2 * half;

			lo = half ? _mm_unpackhi_epi8(x[0], x[1]) : _mm_unpacklo_epi8(x[0], x[1]);
			hi = half ? _mm_unpackhi_epi8(x[2], x[3]) : _mm_unpacklo_epi8(x[2], x[3]);
			_mm_storeu_si128(to, _mm_unpacklo_epi16(lo, hi));
			_mm_storeu_si128(to + 1, _mm_unpackhi_epi16(lo, hi));
		}
		return;
	}
#endif
	for (int i = 0; i < LANES; i++)
		for (int s = 0; s < STEP; s++)
			out[i * STEP + s] = (wcode)(v[s][i] + OFFSET);
}

enum { TOGETHER = 4 };			/* panels: a line of the cache, where rows are bytes */

/* STEP rows from k on of some panels. */
static void weave_panels(const qat_qmm *p, char *packed, const int8_t *codes, int64_t k,
			 int64_t panel, int64_t last)
{
	const int64_t g = k / p->group4, in = k % p->group4;

	for (int64_t j = panel; j < last; j++) {
		wcode *out = (wcode *)(packed + 64 + j * panel_bytes(p)) + k * LANES;
		const int64_t n = max64(0, min64(LANES, p->n - j * LANES));
		const int8_t *row[STEP];

		for (int s = 0; s < STEP; s++)
			row[s] = in + s < p->group && n
			       ? codes + (g * p->group + in + s) * p->n + j * LANES : NULL;
		if (n == LANES)
			weave(out, row, LANES);
		else
			weave(out, row, n);
	}
}

#if defined __AVX512BW__ && !defined QAT_PLAIN_TILES
/* Four rows of 64 codes into four panels that are `panel` bytes apart. */
QAT_INLINE void weave_wide(char *out, int64_t panel, const int8_t *codes, int64_t ld)
{
	const __m512i flip = _mm512_set1_epi8((char)OFFSET);
	__m512i x[4], t[4], u[4];

#pragma GCC unroll 4
	for (int s = 0; s < 4; s++)
		x[s] = _mm512_xor_si512(_mm512_loadu_si512(codes + s * ld), flip);
	t[0] = _mm512_unpacklo_epi8(x[0], x[1]);
	t[1] = _mm512_unpackhi_epi8(x[0], x[1]);
	t[2] = _mm512_unpacklo_epi8(x[2], x[3]);
	t[3] = _mm512_unpackhi_epi8(x[2], x[3]);
	x[0] = _mm512_unpacklo_epi16(t[0], t[2]);	/* columns 0..3 of each panel */
	x[1] = _mm512_unpackhi_epi16(t[0], t[2]);
	x[2] = _mm512_unpacklo_epi16(t[1], t[3]);
	x[3] = _mm512_unpackhi_epi16(t[1], t[3]);
	u[0] = _mm512_shuffle_i32x4(x[0], x[1], 0x44);	/* panels 0 and 1 */
	u[1] = _mm512_shuffle_i32x4(x[2], x[3], 0x44);
	u[2] = _mm512_shuffle_i32x4(x[0], x[1], 0xee);	/* panels 2 and 3 */
	u[3] = _mm512_shuffle_i32x4(x[2], x[3], 0xee);
	_mm512_storeu_si512(out, _mm512_shuffle_i32x4(u[0], u[1], 0x88));
	_mm512_storeu_si512(out + panel, _mm512_shuffle_i32x4(u[0], u[1], 0xdd));
	_mm512_storeu_si512(out + 2 * panel, _mm512_shuffle_i32x4(u[2], u[3], 0x88));
	_mm512_storeu_si512(out + 3 * panel, _mm512_shuffle_i32x4(u[2], u[3], 0xdd));
}

/* 1: done, as all rows and columns are there. Rows are too far apart for the processor to
 * see which comes next. */
static int pack_wide(const qat_qmm *p, char *packed, const int8_t *codes, int64_t panel,
		     int64_t last)
{
	enum { AHEAD = 32 };
	const int64_t bytes = panel_bytes(p), k_end = p->groups * p->group;
	char *out = packed + 64 + panel * bytes;

	if (STEP != 4 || last - panel != TOGETHER || last * LANES > p->n || p->group % 4)
		return 0;
	codes += panel * LANES;
	for (int64_t k = 0; k < k_end; k += 4, out += 4 * LANES) {
		for (int64_t s = k + AHEAD; s < min64(k + AHEAD + 4, k_end); s++)
			__builtin_prefetch(codes + s * p->n);
		weave_wide(out, bytes, codes + k * p->n, p->n);
	}
	return 1;
}
#else
static int pack_wide(const qat_qmm *p, char *packed, const int8_t *codes, int64_t panel,
		     int64_t last)
{
	(void)p, (void)packed, (void)codes, (void)panel, (void)last;
	return 0;
}
#endif

static void pack_panels(const qat_qmm *p, char *packed, const int8_t *codes, int64_t panel,
			int64_t last)
{
	if (pack_wide(p, packed, codes, panel, last))
		return;
	for (int64_t k = 0; k < p->groups * p->group4; k += STEP)
		weave_panels(p, packed, codes, k, panel, last);
}

void QAT_NAME(qat_qgemm_pack_along)(const qat_qmm *p, void *packed, const void *codes)
{
	const int64_t panels = div_up(p->n, COLS) * 2;
	float *scale = (float *)(void *)((char *)packed + p->off_scale);

	memcpy(packed, &no_range, sizeof no_range);
	for (int64_t i = 0; i < panels * p->groups * LANES; i++)
		scale[i] = 1.0f;
#pragma omp parallel for schedule(static)
	for (int64_t j = 0; j < panels; j += TOGETHER)
		pack_panels(p, packed, codes, j, min64(panels, j + TOGETHER));
}

