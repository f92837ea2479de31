#version 460
// columns.comp - columns of one matrix into columns of another: split and concat.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

FLAT
READER(0, x, IN0)
WRITER(10, y, OUT0)
layout(push_constant) uniform Push { uint n, width, from_cols, from, to_cols, to; } p;

void main()
{
	FLAT_LOOP(i, p.n) {
		const uint row = i / p.width, col = i % p.width;

		y_put(row * p.to_cols + p.to + col, x_at(row * p.from_cols + p.from + col));
	}
}
