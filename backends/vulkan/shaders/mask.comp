#version 460
// mask.comp - the gradient where its bit is 1.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

FLAT
READER(0, g, IN0)
VIEW(1, mask)
WRITER(10, y, OUT0)
layout(push_constant) uniform Push { uint n, cols, mask_cols; } p;

void main()
{
	FLAT_LOOP(i, p.n) {
		const uint row = i / p.cols, col = i % p.cols;
		const uint byte = uint(mask_b[row * p.mask_cols + col / 8u]);

		y_put(i, (byte >> (col % 8u) & 1u) != 0u ? g_at(i) : 0.0);
	}
}
