#version 460
// embedding_grad.comp - KIND 0: the output starts as the addend, or 0. KIND 1: one group
// for a token; the first of each id adds up the rows of all that have it, in their order.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"

FLAT
layout(std430, binding = 0) buffer Ids { int id[]; };
READER(1, dy, IN1)
READER(2, c, IN2)
layout(std430, binding = 10) buffer Out { uint y[]; };
layout(push_constant) uniform Push { uint n, cols, rows; } p;

shared uint before;

void start()
{
	FLAT_LOOP(i, p.rows * p.cols)
		y[i] = IN2 == 0u ? 0u : c_bits(i);
}

void add_rows(uint first)
{
	const int row = id[first];

	if (row < 0 || uint(row) >= p.rows)
		return;
	for (uint col = gl_LocalInvocationID.x; col < p.cols; col += FLAT_SIZE) {
		float sum = uintBitsToFloat(y[uint(row) * p.cols + col]);

		for (uint k = first; k < p.n; k++)
			if (id[k] == row)
				sum = f_add(sum, dy_at(k * p.cols + col));
		y[uint(row) * p.cols + col] = floatBitsToUint(sum);
	}
}

void main()
{
	if (KIND == 0u) {
		start();
		return;
	}
	for (uint n = gl_WorkGroupID.x; n < p.n; n += gl_NumWorkGroups.x) {
		barrier();
		if (gl_LocalInvocationID.x == 0u)
			before = 0u;
		barrier();
		for (uint k = gl_LocalInvocationID.x; k < n; k += FLAT_SIZE)
			if (id[k] == id[n])
				atomicOr(before, 1u);
		barrier();
		if (before == 0u)
			add_rows(n);
	}
}
