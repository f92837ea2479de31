#version 460
// embedding.comp - rows of a table; an id outside of it gives NaN.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

FLAT
READER(0, table, IN0)
layout(std430, binding = 1) buffer Ids { int id[]; };
WRITER(10, y, OUT0)
layout(push_constant) uniform Push { uint n, cols, rows; } p;

void main()
{
	FLAT_LOOP(i, p.n) {
		const int row = id[i / p.cols];

		if (row < 0 || uint(row) >= p.rows)
			y_put(i, nan());
		else
			y_put(i, table_at(uint(row) * p.cols + i % p.cols));
	}
}
