#version 460
// norm.comp - y = w (x - mean) rstd + b, a work group for each row. KIND 1: layer norm.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "reduce.glsl"

ROWS
READER(0, x, IN0)
READER(1, w, IN1)
READER(2, b, IN2)
WRITER(10, y, OUT0)
layout(std430, binding = 11) buffer First { float first[]; };	// layer: mean, rms: rstd
layout(std430, binding = 12) buffer Second { float second[]; };
layout(push_constant) uniform Push { uint rows, cols, plus_one; float epsilon; } p;

void main()
{
	const uint t = gl_LocalInvocationID.x;

	for (uint r = gl_WorkGroupID.x; r < p.rows; r += gl_NumWorkGroups.x) {
		const uint at = r * p.cols;
		precise float sum = 0.0, mean = 0.0;

		for (uint i = t; KIND == 1u && i < p.cols; i += ROW_SIZE)
			sum = sum + x_at(at + i);
		if (KIND == 1u)
			mean = f_div(sum_all(sum), float(p.cols));
		sum = 0.0;
		for (uint i = t; i < p.cols; i += ROW_SIZE) {
			const float d = x_at(at + i) - mean;

			sum = sum + d * d;
		}
		const float rstd = f_div(1.0, f_sqrt(f_add(f_div(sum_all(sum), float(p.cols)),
							   p.epsilon)));

		for (uint i = t; i < p.cols; i += ROW_SIZE) {
			const float weight = w_at(i) + (p.plus_one != 0u ? 1.0 : 0.0);

			y_put(at + i, weight * (rstd * (x_at(at + i) - mean)) +
				      (KIND == 1u && IN2 != 0u ? b_at(i) : 0.0));
		}
		if (t == 0u && KIND == 1u && OUT1 != 0u)
			first[r] = mean;
		if (t == 0u && KIND == 1u && OUT2 != 0u)
			second[r] = rstd;
		if (t == 0u && KIND == 0u && OUT1 != 0u)
			first[r] = rstd;
	}
}
