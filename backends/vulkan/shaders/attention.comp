#version 460
// attention.comp - softmax(scale q k^T) v and its lse, by running maxima. KIND 1: k and v are
// a cache, and the first query stands at the run's position.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "reduce.glsl"
#include "attention.glsl"

ROWS
READER(0, q, IN0)
READER(1, k, IN1)
READER(2, v, IN2)
WRITER(10, y, OUT0)
layout(std430, binding = 11) buffer Lse { float lse[]; };
layout(std430, binding = 15) buffer State { uint flag, position; };

shared float query[HEAD_MOST], weight[ROW_SIZE];

void head(uint row, uint h)
{
	const uint t = gl_LocalInvocationID.x, base = row / p.steps * p.keys;
	const uint at = row % p.steps + (KIND == 1u ? position : 0u);
	const uint kv = h / (p.heads / p.kv_heads) * p.d, kv_cols = p.kv_heads * p.d;
	const uint from = p.window != 0u && at + 1u > p.window ? at + 1u - p.window : 0u;
	const uint to = p.causal != 0u ? at + 1u : p.steps;
	float top = -3.0e38, total = 0.0, sum[LANES];

	for (uint i = t; i < p.d; i += ROW_SIZE)
		query[i] = q_at((row * p.heads + h) * p.d + i);
	for (uint i = 0u; i < LANES; i++)
		sum[i] = 0.0;
	for (uint first = from; first < to; first += ROW_SIZE) {
		const uint j = first + t;
		const uint count = min(uint(ROW_SIZE), to - first);
		float s = 0.0;

		barrier();
		for (uint i = 0u; j < to && i < p.d; i++)
			s += query[i] * k_at((base + j) * kv_cols + kv + i);
		s *= p.scale;
		const float best = max(top, max_all(j < to ? s : -3.0e38));
		const float fade = f_exp(top - best), w = j < to ? f_exp(s - best) : 0.0;

		weight[t] = w;
		total = total * fade + sum_all(w);
		for (uint l = 0u; l < LANES && t + l * ROW_SIZE < p.d; l++) {
			const uint col = kv + t + l * ROW_SIZE;
			float part = 0.0;

			for (uint i = 0u; i < count; i++)
				part += weight[i] * v_at((base + first + i) * kv_cols + col);
			sum[l] = sum[l] * fade + part;
		}
		top = best;
	}
	for (uint l = 0u; l < LANES && t + l * ROW_SIZE < p.d; l++)
		y_put((row * p.heads + h) * p.d + t + l * ROW_SIZE, sum[l] / total);
	if (t == 0u && OUT1 != 0u)
		lse[row * p.heads + h] = top + f_log(total);
}

void main()
{
	for (uint i = gl_WorkGroupID.x; i < p.rows * p.heads; i += gl_NumWorkGroups.x) {
		barrier();
		head(i / p.heads, i % p.heads);
	}
}
