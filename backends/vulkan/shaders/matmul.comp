#version 460
// matmul.comp - y = op(a) op(b) + c, tiles of 32 x 32 by 64 threads, 4 x 4 each. Strides and
// offsets (in elements) say how operands are stored. Sums run along k for each element alone.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 8, local_size_y = 8) in;
READER(0, a, IN0)
READER(1, b, IN1)
READER(2, c, IN2)
WRITER(10, y, OUT0)
layout(push_constant) uniform Push {
	uint m, n, k, a_row, a_step, b_col, b_step, a_first, b_first, y_first;
	uint add;				// 1: c is a bias, 2: a matrix
} p;

const uint TILE = 32u, DEEP = 16u;
shared float as[DEEP * TILE], bs[DEEP * TILE];

void load(uint row, uint col, uint first)
{
	for (uint i = gl_LocalInvocationIndex; i < DEEP * TILE; i += 64u) {
		// neighbours in memory to neighbouring threads
		const uint ka = p.a_step == 1u ? i % DEEP : i / TILE;
		const uint ma = p.a_step == 1u ? i / DEEP : i % TILE;
		const uint kb = p.b_step == 1u ? i % DEEP : i / TILE;
		const uint nb = p.b_step == 1u ? i / DEEP : i % TILE;

		as[ka * TILE + ma] = row + ma < p.m && first + ka < p.k
			? a_at(p.a_first + (row + ma) * p.a_row + (first + ka) * p.a_step) : 0.0;
		bs[kb * TILE + nb] = col + nb < p.n && first + kb < p.k
			? b_at(p.b_first + (col + nb) * p.b_col + (first + kb) * p.b_step) : 0.0;
	}
}

void tile(uint row, uint col)
{
	const uint r = gl_LocalInvocationID.y * 4u, s = gl_LocalInvocationID.x * 4u;
	vec4 sum[4] = vec4[4](vec4(0.0), vec4(0.0), vec4(0.0), vec4(0.0));

	for (uint first = 0u; first < p.k; first += DEEP) {
		barrier();
		load(row, col, first);
		barrier();
		for (uint k = 0u; k < DEEP; k++) {
			const uint at = k * TILE;
			const vec4 v = vec4(bs[at + s], bs[at + s + 1u], bs[at + s + 2u],
					    bs[at + s + 3u]);

			for (uint i = 0u; i < 4u; i++)
				sum[i] += as[at + r + i] * v;
		}
	}
	for (uint i = 0u; i < 4u; i++)
		for (uint j = 0u; j < 4u; j++) {
			const uint m = row + r + i, n = col + s + j, at = m * p.n + n;

			if (m >= p.m || n >= p.n)
				continue;
			y_put(p.y_first + at, sum[i][j] + (p.add == 1u ? c_at(n)
				: p.add == 2u ? c_at(p.y_first + at) : 0.0));
		}
}

void main()
{
	for (uint row = gl_WorkGroupID.y * TILE; row < p.m; row += gl_NumWorkGroups.y * TILE)
		for (uint col = gl_WorkGroupID.x * TILE; col < p.n;
		     col += gl_NumWorkGroups.x * TILE)
			tile(row, col);
}
