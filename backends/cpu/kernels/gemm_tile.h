/* gemm_tile.h - the register tile of f32 products, per ISA.
 *
 * a is packed [k][MR], b [k][NR]. Every element is the chain fma(a_k, b_k, ...) over
 * ascending k, so its bits do not depend on the tile that it falls in.
 */
#ifndef QAT_CPU_GEMM_TILE_H
#define QAT_CPU_GEMM_TILE_H

#include "simd.h"

#if defined __AVX512F__
enum { MR = 12, NV = 2 };
#else
enum { MR = 6, NV = 2 };
#endif
enum { NR = NV * LANES };

/* out [MR][NR] = from (zero where NULL) + a b, both tiles contiguous. */
QAT_INLINE void gemm_tile(float *out, const float *from, const float *restrict a,
			  const float *restrict b, int64_t k)
{
	vf acc[MR][NV];

#pragma GCC unroll 16
	for (int i = 0; i < MR; i++)
#pragma GCC unroll 2
		for (int j = 0; j < NV; j++)
			acc[i][j] = from ? vf_load(from + i * NR + j * LANES) : vf_set(0.0f);
	for (int64_t p = 0; p < k; p++, a += MR, b += NR) {
		const vf b0 = vf_load(b), b1 = vf_load(b + LANES);

#pragma GCC unroll 16
		for (int i = 0; i < MR; i++) {
			const vf ai = vf_set(a[i]);

			acc[i][0] = vf_fma(ai, b0, acc[i][0]);
			acc[i][1] = vf_fma(ai, b1, acc[i][1]);
		}
	}
#pragma GCC unroll 16
	for (int i = 0; i < MR; i++)
#pragma GCC unroll 2
		for (int j = 0; j < NV; j++)
			vf_store(out + i * NR + j * LANES, acc[i][j]);
}

#endif
