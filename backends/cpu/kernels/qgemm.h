/* qgemm.h - what the packing of weights and the products of codes share. Per ISA.
 *
 * Packed weights: panels of LANES columns, [panel][k / STEP][LANES][STEP], k padded to
 * STEP in every group. Where the ISA multiplies bytes they are stored as integer + 128,
 * unsigned, for an instruction that takes unsigned x signed; else as 16-bit integers,
 * whose pairs are multiplied and added without saturation. Zero points that fit are
 * subtracted while packing, others corrected in the sums: modulo 2^32, which is exact
 * as long as the result is an int32.
 * In front of the codes, in 64 bytes: the range of scales. Behind them: scale, 128 + zw, and
 * the sum of (qw - zw), [panel][group][LANES].
 */
#ifndef QAT_CPU_QGEMM_H
#define QAT_CPU_QGEMM_H

#include "kernels.h"
#include "simd.h"

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

enum { COLS = 2 * LANES };

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
static inline int64_t block_of(const qat_scheme *s, int64_t cols, int64_t r, int64_t c)
{
	const int64_t groups = s->block_cols ? cols / s->block_cols : 1;

	return (s->block_rows ? r / s->block_rows : 0) * groups +
	       (s->block_cols ? c / s->block_cols : 0);
}

static inline int32_t zero_of(const void *zero, int64_t block)
{
	return zero ? ((const int8_t *)zero)[block] : 0;
}

/* Both scales powers of two: the contract's I * 2^(ea + ew) is one rounding, which
 * fl(fl(sa sw) fl(I)) is too unless it leaves the range of normal numbers. */
static inline int both_pow2(const qat_qmm *p)
{
	return qat_scale_is_pow2(p->xs) && qat_scale_is_pow2(p->ws);
}

/* Extremes of the scales of blocks that are not all zero. */
typedef struct scale_range { float lo, hi; } scale_range;

static const scale_range no_range = { INFINITY, 0.0f };

static inline void range_add(scale_range *r, float lo, float hi)
{
	r->lo = lo < r->lo ? lo : r->lo;
	r->hi = hi > r->hi ? hi : r->hi;
}

/* A block of zeros adds nothing: any scale will do, and 1 cannot overflow. */
static inline float kept_scale(const qat_qmm *p, float scale, int shift, int all_zero,
			       scale_range *range)
{
	scale *= qat_pow2(-shift);
	if (!both_pow2(p) || scale != scale)
		return scale;
	if (all_zero)
		return 1.0f;
	range_add(range, fabsf(scale), fabsf(scale));
	return scale;
}

/* ---- packed weights ---- */

static inline int64_t panel_bytes(const qat_qmm *p)
{
	return p->groups * p->group4 * LANES * BYTES;
}

/* Elements of a group on their way into a panel; k beyond the group is zero. */
enum { PIECE = 512 };

void QAT_NAME(qat_qgemm_pack)(const qat_qmm *p, void *packed, const void *codes,
			      const float *scale, const void *zero);
void QAT_NAME(qat_qgemm_pack_along)(const qat_qmm *p, void *packed, const void *codes);
void QAT_NAME(qat_qgemm_unpack)(const qat_qmm *p, void *codes, const void *packed);

#endif
