#version 460
// observe.comp - least and largest of every range, on top of what was seen before. Of equal
// ones (zeros of two signs) the first stays, and a NaN stays for good.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "scheme.glsl"
#include "reduce.glsl"

ROWS
READER(0, x, IN0)
READER(1, range_in, IN1)
WRITER(10, range, OUT0)

shared float lows[ROW_SIZE], highs[ROW_SIZE];
shared uint low_at[ROW_SIZE], high_at[ROW_SIZE];

// Whether (a, i) takes the place of (b, k); order: -1 for the least, 1 for the largest.
bool wins(float a, uint i, float b, uint k, float order)
{
	if (is_nan(a) || is_nan(b))
		return is_nan(a) && (!is_nan(b) || i < k);
	return a * order > b * order || (a == b && i < k);
}

void gather(uint k)
{
	const uint t = gl_LocalInvocationID.x;
	float lo = range_in_at(2u * k), hi = range_in_at(2u * k + 1u);
	uint lo_at = 0u, hi_at = 0u;

	for (uint i = t; i < p.block_rows * p.block_cols; i += ROW_SIZE) {
		const float v = x_at(element_of(k, i));

		if (wins(v, i + 1u, lo, lo_at, -1.0)) {
			lo = v;
			lo_at = i + 1u;
		}
		if (wins(v, i + 1u, hi, hi_at, 1.0)) {
			hi = v;
			hi_at = i + 1u;
		}
	}
	lows[t] = lo;
	highs[t] = hi;
	low_at[t] = lo_at;
	high_at[t] = hi_at;
}

void main()
{
	for (uint k = gl_WorkGroupID.x; k < p.count; k += gl_NumWorkGroups.x) {
		const uint t = gl_LocalInvocationID.x;

		barrier();
		gather(k);
		barrier();
		for (uint n = ROW_SIZE / 2; n > 0; n /= 2) {
			if (t < n && wins(lows[t + n], low_at[t + n], lows[t], low_at[t], -1.0)) {
				lows[t] = lows[t + n];
				low_at[t] = low_at[t + n];
			}
			if (t < n &&
			    wins(highs[t + n], high_at[t + n], highs[t], high_at[t], 1.0)) {
				highs[t] = highs[t + n];
				high_at[t] = high_at[t + n];
			}
			barrier();
		}
		if (t == 0u) {
			range_put(2u * k, lows[0]);
			range_put(2u * k + 1u, highs[0]);
		}
	}
}
