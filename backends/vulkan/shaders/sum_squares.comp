#version 460
// sum_squares.comp - sums of squares in double. KIND 0: one for each group, into the
// workspace; KIND 1: one group adds those up.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

FLAT
READER(0, x, IN0)
layout(std430, binding = 10) buffer Out { uvec2 y[]; };
layout(std430, binding = 14) buffer Work { uvec2 part[]; };
layout(push_constant) uniform Push { uint n; } p;

shared double sums[FLAT_SIZE];

void main()
{
	const uint t = gl_LocalInvocationID.x;
	double sum = 0.0LF;

	if (KIND == 0u) {
		FLAT_LOOP(i, p.n) {
			const double v = double(x_at(i));

			sum += v * v;
		}
	} else {
		for (uint i = t; i < p.n; i += FLAT_SIZE)
			sum += packDouble2x32(part[i]);
	}
	sums[t] = sum;
	barrier();
	for (uint k = FLAT_SIZE / 2; k > 0; k /= 2) {
		if (t < k)
			sums[t] += sums[t + k];
		barrier();
	}
	if (t == 0u && KIND == 0u)
		part[gl_WorkGroupID.x] = unpackDouble2x32(sums[0]);
	else if (t == 0u)
		y[0] = unpackDouble2x32(sums[0]);
}
