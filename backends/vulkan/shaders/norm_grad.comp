#version 460
// norm_grad.comp - dx = rstd (w dy - [layer: mean(w dy)] - xhat mean(w dy xhat)) + residual,
// a work group for each row. KIND 1: layer norm, whose inputs have the mean before rstd.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "reduce.glsl"

ROWS
READER(0, x, IN0)
READER(1, w, IN1)
layout(std430, binding = 2) buffer Second { float second[]; };
layout(std430, binding = 3) buffer Rstd { float third[]; };
READER(6, dy, MORE)			// bound again, of type MORE
READER(5, residual, IN5)
WRITER(10, dx, OUT0)
layout(push_constant) uniform Push { uint rows, cols, plus_one; } p;

void main()
{
	const uint t = gl_LocalInvocationID.x;

	for (uint r = gl_WorkGroupID.x; r < p.rows; r += gl_NumWorkGroups.x) {
		const uint at = r * p.cols;
		const float mean = KIND == 1u ? second[r] : 0.0;
		const float rstd = KIND == 1u ? third[r] : second[r];
		float along = 0.0, flat_sum = 0.0;

		for (uint i = t; i < p.cols; i += ROW_SIZE) {
			const float weight = w_at(i) + (p.plus_one != 0u ? 1.0 : 0.0);
			const float g = dy_at(at + i) * weight;

			along += g * ((x_at(at + i) - mean) * rstd);
			flat_sum += g;
		}
		along = sum_all(along) / float(p.cols);
		flat_sum = KIND == 1u ? sum_all(flat_sum) / float(p.cols) : 0.0;
		for (uint i = t; i < p.cols; i += ROW_SIZE) {
			const float weight = w_at(i) + (p.plus_one != 0u ? 1.0 : 0.0);
			const float xhat = (x_at(at + i) - mean) * rstd;

			dx_put(at + i, rstd * (dy_at(at + i) * weight - flat_sum - xhat * along) +
				       (IN5 != 0u ? residual_at(at + i) : 0.0));
		}
	}
}
