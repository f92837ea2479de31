#version 460
// attention_dq.comp - dq = scale dS k with dS = P (dP - sum(dout out)), dP = dout v^T.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "reduce.glsl"
#include "attention.glsl"

ROWS
READER(0, q, IN0)
READER(1, k, IN1)
READER(2, v, IN2)
READER(3, y, IN3)
layout(std430, binding = 4) buffer Lse { float lse[]; };
READER(5, dy, IN5)
WRITER(10, dq, OUT0)

shared float query[HEAD_MOST], gradient[HEAD_MOST], weight[ROW_SIZE];

void head(uint row, uint h)
{
	const uint t = gl_LocalInvocationID.x, at = row % p.steps, base = row - at;
	const uint kv = h / (p.heads / p.kv_heads) * p.d, kv_cols = p.kv_heads * p.d;
	const uint from = p.window != 0u && at + 1u > p.window ? at + 1u - p.window : 0u;
	const uint to = p.causal != 0u ? at + 1u : p.steps;
	const uint start = (row * p.heads + h) * p.d;
	float through = 0.0, sum[LANES];

	for (uint i = t; i < p.d; i += ROW_SIZE) {
		query[i] = q_at(start + i);
		gradient[i] = dy_at(start + i);
		through += gradient[i] * y_at(start + i);
	}
	through = sum_all(through);
	for (uint i = 0u; i < LANES; i++)
		sum[i] = 0.0;
	for (uint first = from; first < to; first += ROW_SIZE) {
		const uint j = first + t, key = (base + j) * kv_cols + kv;
		float s = 0.0, dp = 0.0;

		for (uint i = 0u; j < to && i < p.d; i++) {
			s += query[i] * k_at(key + i);
			dp += gradient[i] * v_at(key + i);
		}
		barrier();
		weight[t] = j < to ? p.scale * f_exp(s * p.scale - lse[row * p.heads + h]) *
				     (dp - through) : 0.0;
		barrier();
		for (uint l = 0u; l < LANES && t + l * ROW_SIZE < p.d; l++)
			for (uint i = 0u; i < min(uint(ROW_SIZE), to - first); i++)
				sum[l] += weight[i] * k_at((base + first + i) * kv_cols + kv + t +
							   l * ROW_SIZE);
	}
	for (uint l = 0u; l < LANES && t + l * ROW_SIZE < p.d; l++)
		dq_put(start + t + l * ROW_SIZE, sum[l]);
}

void main()
{
	for (uint i = gl_WorkGroupID.x; i < p.rows * p.heads; i += gl_NumWorkGroups.x) {
		barrier();
		head(i / p.heads, i % p.heads);
	}
}
