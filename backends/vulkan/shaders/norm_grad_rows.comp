#version 460
// norm_grad_rows.comp - dw = sum of dy xhat and db = sum of dy over rows, a thread for each
// column. Inputs as in norm_grad.comp.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

FLAT
READER(0, x, IN0)
layout(std430, binding = 2) buffer Second { float second[]; };
layout(std430, binding = 3) buffer Rstd { float third[]; };
READER(6, dy, MORE)
WRITER(11, dw, OUT1)
WRITER(12, db, OUT2)
layout(push_constant) uniform Push { uint rows, cols; } p;

void main()
{
	FLAT_LOOP(i, p.cols) {
		precise float w = 0.0, b = 0.0;

		for (uint r = 0u; r < p.rows; r++) {
			const float mean = KIND == 1u ? second[r] : 0.0;
			const float rstd = KIND == 1u ? third[r] : second[r];
			const float g = dy_at(r * p.cols + i);

			w = w + g * ((x_at(r * p.cols + i) - mean) * rstd);
			b = b + g;
		}
		if (OUT1 != 0u)
			dw_put(i, w);
		if (OUT2 != 0u)
			db_put(i, b);
	}
}
