#version 460
// attention_dkv.comp - dk = scale dS^T q and dv = P^T dout: a work group for one head of k
// and v at one position, a thread for each query position that is looked at.
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
WRITER(11, dk, OUT1)
WRITER(12, dv, OUT2)

shared float key[HEAD_MOST], value[HEAD_MOST], weight[ROW_SIZE], chance[ROW_SIZE];

// What query position i of head h has to do with position j: into weight and chance.
void weigh(uint base, uint i, uint j, uint h)
{
	const uint t = gl_LocalInvocationID.x, row = base + i, start = (row * p.heads + h) * p.d;
	float s = 0.0, dp = 0.0, through = 0.0;

	weight[t] = 0.0;
	chance[t] = 0.0;
	if (i >= p.steps || !sees(i, j))
		return;
	for (uint c = 0u; c < p.d; c++) {
		const float g = dy_at(start + c);

		s += q_at(start + c) * key[c];
		dp += g * value[c];
		through += g * y_at(start + c);
	}
	chance[t] = f_exp(s * p.scale - lse[row * p.heads + h]);
	weight[t] = p.scale * chance[t] * (dp - through);
}

void head(uint row, uint kv)
{
	const uint t = gl_LocalInvocationID.x, j = row % p.steps, base = row - j;
	const uint per = p.heads / p.kv_heads, at = (row * p.kv_heads + kv) * p.d;
	float sum_k[LANES], sum_v[LANES];

	for (uint i = t; i < p.d; i += ROW_SIZE) {
		key[i] = k_at(at + i);
		value[i] = v_at(at + i);
	}
	for (uint l = 0u; l < LANES; l++)
		sum_k[l] = sum_v[l] = 0.0;
	for (uint h = kv * per; h < (kv + 1u) * per; h++)
		for (uint first = p.causal != 0u ? j : 0u; first < p.steps; first += ROW_SIZE) {
			barrier();
			weigh(base, first + t, j, h);
			barrier();
			for (uint l = 0u; l < LANES && t + l * ROW_SIZE < p.d; l++)
				for (uint i = 0u; i < min(uint(ROW_SIZE), p.steps - first); i++) {
					const uint from = ((base + first + i) * p.heads + h) * p.d +
							  t + l * ROW_SIZE;

					sum_k[l] += weight[i] * q_at(from);
					sum_v[l] += chance[i] * dy_at(from);
				}
		}
	for (uint l = 0u; l < LANES && t + l * ROW_SIZE < p.d; l++) {
		if (OUT1 != 0u)
			dk_put(at + t + l * ROW_SIZE, sum_k[l]);
		if (OUT2 != 0u)
			dv_put(at + t + l * ROW_SIZE, sum_v[l]);
	}
}

void main()
{
	for (uint i = gl_WorkGroupID.x; i < p.rows * p.kv_heads; i += gl_NumWorkGroups.x) {
		barrier();
		head(i / p.kv_heads, i % p.kv_heads);
	}
}
