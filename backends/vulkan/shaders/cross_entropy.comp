#version 460
// cross_entropy.comp - nll, lse and argmax of rows of logits, a work group for each. Logits
// in the first input, or where MORE is 1 in the workspace; rows [first, first + rows).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "reduce.glsl"

ROWS
READER(0, given, IN0)
layout(std430, binding = 14) buffer Work { float work[]; };
layout(std430, binding = 6) buffer Labels { int label[]; };	// bound again
layout(std430, binding = 10) buffer Nll { float nll[]; };
layout(std430, binding = 11) buffer Lse { float lse[]; };
layout(std430, binding = 12) buffer Argmax { int argmax[]; };
layout(push_constant) uniform Push { uint rows, v, first; } p;

shared uint best_at[ROW_SIZE];

float logit(uint r, uint i)
{
	return MORE == 1u ? work[r * p.v + i] : given_at(r * p.v + i);
}

void best(uint r)
{
	const uint t = gl_LocalInvocationID.x;
	uint at = 0u;

	for (uint i = t; i < p.v; i += ROW_SIZE)
		if (logit(r, i) > logit(r, at))
			at = i;
	best_at[t] = at;
	barrier();
	for (uint n = ROW_SIZE / 2; n > 0u; n /= 2u) {
		if (t < n) {
			const float a = logit(r, best_at[t]), b = logit(r, best_at[t + n]);

			if (b > a || (b == a && best_at[t + n] < best_at[t]))
				best_at[t] = best_at[t + n];
		}
		barrier();
	}
}

void main()
{
	const uint t = gl_LocalInvocationID.x;

	for (uint r = gl_WorkGroupID.x; r < p.rows; r += gl_NumWorkGroups.x) {
		precise float sum = 0.0;

		barrier();
		best(r);
		const uint top = best_at[0];

		for (uint i = t; i < p.v; i += ROW_SIZE)
			sum = sum + f_exp(logit(r, i) - logit(r, top));
		sum = sum_all(sum);
		if (t == 0u) {
			const float log_sum = logit(r, top) + f_log(sum);
			const int l = label[p.first + r];

			if (OUT0 != 0u)
				nll[p.first + r] = l < 0 ? 0.0 : uint(l) >= p.v ? nan()
						 : log_sum - logit(r, uint(l));
			if (OUT1 != 0u)
				lse[p.first + r] = log_sum;
			if (OUT2 != 0u)
				argmax[p.first + r] = int(top);
		}
	}
}
