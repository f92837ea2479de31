#version 460
// observe.comp - least and largest of every range, on top of what was seen before, or their
// moving average. Of equal ones (zeros of two signs) the first stays, and a NaN for good.
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
bool wins(float a, uint i, float b, uint k, int order)
{
	const int d = order * ordered(a), e = order * ordered(b);

	if (is_nan(a) || is_nan(b))
		return is_nan(a) && (!is_nan(b) || i < k);
	return d > e || (d == e && i < k);
}

// Of the block alone.
void gather(uint k)
{
	const uint t = gl_LocalInvocationID.x;
	float lo = uintBitsToFloat(INF_BITS), hi = negated(lo);
	uint lo_at = 0u, hi_at = 0u;

	for (uint i = t; i < p.block_rows * p.block_cols; i += ROW_SIZE) {
		const float v = x_at(element_of(k, i));

		if (wins(v, i + 1u, lo, lo_at, -1)) {
			lo = v;
			lo_at = i + 1u;
		}
		if (wins(v, i + 1u, hi, hi_at, 1)) {
			hi = v;
			hi_at = i + 1u;
		}
	}
	lows[t] = lo;
	highs[t] = hi;
	low_at[t] = lo_at;
	high_at[t] = hi_at;
}

void put_range(uint k, float lo, float hi)
{
	const float low = range_in_at(2u * k), high = range_in_at(2u * k + 1u);
	const float rest = f_sub(1.0, p.rate);

	if (p.moving != 0u && !is_nan(low) && !is_nan(high) && ordered(low) <= ordered(high)) {
		range_put(2u * k, f_add(f_mul(rest, low), f_mul(p.rate, lo)));
		range_put(2u * k + 1u, f_add(f_mul(rest, high), f_mul(p.rate, hi)));
	} else {
		range_put(2u * k, wins(lo, 1u, low, 0u, -1) ? lo : low);
		range_put(2u * k + 1u, wins(hi, 1u, high, 0u, 1) ? hi : high);
	}
}

void main()
{
	for (uint k = gl_WorkGroupID.x; k < p.count; k += gl_NumWorkGroups.x) {
		const uint t = gl_LocalInvocationID.x;

		barrier();
		gather(k);
		barrier();
		for (uint n = ROW_SIZE / 2; n > 0; n /= 2) {
			if (t < n && wins(lows[t + n], low_at[t + n], lows[t], low_at[t], -1)) {
				lows[t] = lows[t + n];
				low_at[t] = low_at[t + n];
			}
			if (t < n && wins(highs[t + n], high_at[t + n], highs[t], high_at[t], 1)) {
				highs[t] = highs[t + n];
				high_at[t] = high_at[t + n];
			}
			barrier();
		}
		if (t == 0u)
			put_range(k, lows[0], highs[0]);
	}
}
