#version 460
// reduce_rows.comp - sums over rows, a thread for each column.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

FLAT
READER(0, x, IN0)
READER(1, c, IN1)
WRITER(10, y, OUT0)
layout(push_constant) uniform Push { uint rows, cols; } p;

void main()
{
	FLAT_LOOP(i, p.cols) {
		precise float sum = 0.0;

		for (uint r = 0; r < p.rows; r++)
			sum = sum + x_at(r * p.cols + i);
		if (IN1 != 0u)
			sum = sum + c_at(i);
		y_put(i, sum);
	}
}
