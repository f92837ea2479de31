#version 460
// quantize_scales.comp - scale, 1 / scale and zero point of each block into the workspace
// and, where they are not given, into the outputs. A NaN under given scales raises the flag.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "scheme.glsl"
#include "reduce.glsl"
#include "stats.glsl"

ROWS
READER(0, x, IN0)
READER(1, scale_in, IN1)
READER(2, zero_in, IN2)
WRITER(11, scale_out, OUT1)
WRITER(12, zero_out, OUT2)
layout(std430, binding = 14) buffer Work { float work[]; };
layout(std430, binding = 15) buffer State { uint flag, position; };

void finish(uint k, Stats s)
{
	const bool two = p.scale_rule == TWO_LEVEL;
	const uint second = two ? k / p.groups * p.block_rows / p.second_rows : 0u;
	float scale, zero = 0.0;

	if (p.given != 0u && s.bad != 0u)
		atomicMin(flag, p.node);
	if (p.given != 0u && !two) {
		scale = scale_in_at(k);
		if (IN2 == I8)
			zero = float(signed_byte(uint(zero_in_b[k])));
		else if (IN2 == F32)
			zero = zero_in_at(k);
	} else {
		const float extreme = s.at == 0xffffffffu ? 0.0 : x_at(element_of(k, s.at));

		scale = block_scale(uintBitsToFloat(s.amax), extreme, s.lo, s.hi, s.bad != 0u,
				    two ? work[3u * p.count + second] : 1.0, zero);
		scale_out_put(k, scale);
		if (OUT2 == I8)
			zero_out_b[k] = uint8_t(uint(int(zero)) & 0xffu);
		else if (OUT2 == F32)
			zero_out_put(k, zero);
	}
	work[3u * k] = scale;
	work[3u * k + 1u] = f_div(1.0, scale);
	work[3u * k + 2u] = zero;
}

void main()
{
	for (uint k = gl_WorkGroupID.x; k < p.count; k += gl_NumWorkGroups.x) {
		Stats s = stats_none();

		for (uint i = gl_LocalInvocationID.x; i < p.block_rows * p.block_cols;
		     i += ROW_SIZE)
			stats_add(s, x_at(element_of(k, i)), i);
		s = stats_all(s);
		if (gl_LocalInvocationID.x == 0u)
			finish(k, s);
	}
}
