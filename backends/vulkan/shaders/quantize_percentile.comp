#version 460
// quantize_percentile.comp - scales of blocks, by the elements of rank p.rank among magnitudes
// and from both ends, found by bisection of the bits.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "scheme.glsl"
#include "reduce.glsl"
#include "stats.glsl"
#include "scales.glsl"

ROWS

shared uvec3 below_part[ROW_SIZE];

// Numbers in the order of their bits, -0 before 0.
int bits_order(float x)
{
	return floatBitsToUint(x) >> 31 != 0u ? -int(magnitude(x)) - 1 : int(magnitude(x));
}

float of_bits_order(int i)
{
	return uintBitsToFloat(i < 0 ? uint(-(i + 1)) | 0x80000000u : uint(i));
}

// How many elements of block k are at most limit: from the lower end, from the upper, by
// magnitude.
uvec3 below(uint k, ivec3 limit)
{
	const uint t = gl_LocalInvocationID.x;
	uvec3 n = uvec3(0u);

	for (uint i = t; i < p.block_rows * p.block_cols; i += ROW_SIZE) {
		const float v = element(k, i);
		const int at = bits_order(v);

		n += uvec3(at <= limit.x, at <= limit.y, int(magnitude(v)) <= limit.z);
	}
	barrier();
	below_part[t] = n;
	barrier();
	for (uint half_ = ROW_SIZE / 2; half_ > 0; half_ /= 2) {
		if (t < half_)
			below_part[t] += below_part[t + half_];
		barrier();
	}
	return below_part[0];
}

// Without overflow: ends are within +-0x7f800001.
int middle(int lo, int hi) { return (lo >> 1) + (hi >> 1) + (lo & hi & 1); }

Range measured(uint k, Range r)
{
	const uint n = p.block_rows * p.block_cols;
	const uvec3 rank = uvec3(n + 1u - p.rank, p.rank, p.rank);
	const int least = -int(INF_BITS) - 1;
	ivec3 lo = ivec3(least, least, 0), hi = ivec3(int(INF_BITS));

	while (lo != hi) {
		const ivec3 mid = ivec3(middle(lo.x, hi.x), middle(lo.y, hi.y),
					middle(lo.z, hi.z));
		const uvec3 count = below(k, mid);

		for (int c = 0; c < 3; c++) {
			if (lo[c] < hi[c] && count[c] >= rank[c])
				hi[c] = mid[c];
			else if (lo[c] < hi[c])
				lo[c] = mid[c] + 1;
		}
	}
	r.lo = of_bits_order(lo.x);
	r.hi = of_bits_order(lo.y);
	r.amax = of_bits_order(lo.z);
	r.extreme = floatBitsToUint(r.extreme) >> 31 != 0u ? negated(r.amax) : r.amax;
	return r;
}

void main()
{
	for (uint k = gl_WorkGroupID.x; k < p.count; k += gl_NumWorkGroups.x) {
		Range r = gather(k);

		if (!r.bad)
			r = measured(k, r);
		if (gl_LocalInvocationID.x == 0u)
			put_scale(k, r);
	}
}
