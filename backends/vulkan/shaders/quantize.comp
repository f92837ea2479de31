#version 460
// quantize.comp - codes and masks by the scales in the workspace; a thread for eight columns.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "scheme.glsl"

FLAT
READER(0, x, IN0)
VIEW(10, codes)
VIEW(13, mask)
layout(std430, binding = 14) buffer Work { float work[]; };

void main()
{
	const uint eights = (p.cols + 7u) / 8u;

	FLAT_LOOP(i, p.rows * eights) {
		const uint row = i / eights, first = i % eights * 8u;
		uint bits = 0u;

		for (uint col = first; col < min(first + 8u, p.cols); col++) {
			const uint k = 3u * block_of(row, col), at = row * p.cols + col;
			bool inside;

			codes_b[at] = uint8_t(code_of(x_at(at), work[k], work[k + 1u],
						      work[k + 2u], inside));
			bits |= uint(inside) << (col - first);
		}
		if (OUT3 != 0u)
			mask_b[row * p.mask_cols + first / 8u] = uint8_t(bits);
	}
}
