/* pack.h - panels for gemm_tile: `width` rows (or columns) of a matrix side by side,
 * k outermost, padded with zeros.
 */
#ifndef QAT_CPU_PACK_H
#define QAT_CPU_PACK_H

#include "simd.h"

/* out [k][width]: element (p, i) is x[i * ld + p], for i < have. */
QAT_INLINE void pack_across(float *restrict out, int64_t width, const void *x, uint32_t dtype,
			    int64_t at, int64_t ld, int64_t have, int64_t k)
{
	float buf[256];

	if (have < width)
		memset(out, 0, (size_t)(k * width) * 4);
	for (int64_t p0 = 0; p0 < k; p0 += 256) {
		const int64_t n = min64(256, k - p0);

		for (int64_t i = 0; i < have; i++) {
			const float *v = view_floats(buf, x, dtype, at + i * ld + p0, n);
			float *o = out + p0 * width + i;

			for (int64_t p = 0; p < n; p++)
				o[p * width] = v[p];
		}
	}
}

/* out [k][width]: element (p, i) is x[p * ld + i], for i < have. */
QAT_INLINE void pack_along(float *restrict out, int64_t width, const void *x, uint32_t dtype,
			   int64_t at, int64_t ld, int64_t have, int64_t k)
{
	for (int64_t p = 0; p < k; p++, out += width) {
		load_floats(out, x, dtype, at + p * ld, have);
		for (int64_t i = have; i < width; i++)
			out[i] = 0.0f;
	}
}

#endif
