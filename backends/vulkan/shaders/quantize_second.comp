#version 460
// quantize_second.comp - scales of the second level, into the workspace behind the blocks':
// given, or from all elements under them.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "scheme.glsl"
#include "reduce.glsl"
#include "stats.glsl"

ROWS
READER(0, x, IN0)
READER(1, scale_in, IN1)
layout(std430, binding = 14) buffer Work { float work[]; };

void main()
{
	for (uint k = gl_WorkGroupID.x; k < p.seconds; k += gl_NumWorkGroups.x) {
		const uint n = p.second_rows * p.cols;
		Stats s = stats_none();

		for (uint i = gl_LocalInvocationID.x; i < n && p.given == 0u; i += ROW_SIZE)
			stats_add(s, x_at(k * n + i), i);
		s = stats_all(s);
		if (gl_LocalInvocationID.x == 0u)
			work[3u * p.count + k] = p.given != 0u ? scale_in_at(k)
				: second_scale(uintBitsToFloat(s.amax), s.bad != 0u);
	}
}
