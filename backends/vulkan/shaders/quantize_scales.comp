#version 460
// quantize_scales.comp - scales of blocks, by all of their elements. A NaN under given scales
// raises the flag. A work group for each block, or where they are small (KIND 1) a thread.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "scheme.glsl"
#include "reduce.glsl"
#include "stats.glsl"
#include "scales.glsl"

ROWS

void small()
{
	for (uint k = gl_GlobalInvocationID.x; k < p.count; k += gl_NumWorkGroups.x * ROW_SIZE)
		put_scale(k, range_of(k, some(k, 0u, 1u)));
}

void main()
{
	if (KIND == 1u) {
		small();
		return;
	}
	for (uint k = gl_WorkGroupID.x; k < p.count; k += gl_NumWorkGroups.x) {
		const Range r = gather(k);

		if (gl_LocalInvocationID.x == 0u)
			put_scale(k, r);
	}
}
