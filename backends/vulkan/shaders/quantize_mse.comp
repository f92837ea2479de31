#version 460
// quantize_mse.comp - scales of blocks, by the one of 32 shrunk ranges that has the least squared
// error. Errors are sums in double in the contract's order: element i in sum i % 8. A thread
// has one such sum of four ranges.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "scheme.glsl"
#include "reduce.glsl"
#include "stats.glsl"
#include "scales.glsl"
#include "decode.glsl"

ROWS

const uint STEPS = 32u, SUMS = 8u;
shared double sums[STEPS * SUMS];

Range shrunk(Range r, uint step_)
{
	const float f = float(64u - step_) / 64.0;

	return Range(f_mul(r.amax, f), f_mul(r.extreme, f), f_mul(r.lo, f), f_mul(r.hi, f), false);
}

float nearest(float x, float scale, float r, float zero)
{
	if (p.grid == UNIFORM && p.zero_kind != 2u) {
		const float lo = float(p.qmin), hi = float(p.qmax);
		const float q = f_add(roundEven(f_mul(x, r)), zero), up = q > lo ? q : lo;

		return f_mul(scale, f_sub(up < hi ? up : hi, zero));
	}
	bool inside;

	return decode(code_of(x, scale, r, zero, inside), scale, zero);
}

double square_error(uint k, Range of, uint first)
{
	float zero;
	const float scale = block_scale(of.amax, of.extreme, of.lo, of.hi, false, 1.0, zero);
	const float r = f_div(1.0, scale);
	precise double sum = 0.0;

	for (uint i = first; i < p.block_rows * p.block_cols; i += SUMS) {
		const float x = element(k, i);
		precise double d = double(nearest(x, scale, r, zero)) - double(x);
		precise double square = d * d;

		sum = sum + square;
	}
	return sum;
}

Range measured(uint k, Range all)
{
	const uint t = gl_LocalInvocationID.x;
	Range best = all;
	double least = 0.0;
	bool found = false;

	barrier();
	for (uint i = t; i < STEPS * SUMS; i += ROW_SIZE)
		sums[i] = square_error(k, shrunk(all, i / SUMS), i % SUMS);
	barrier();
	for (uint step_ = 0u; step_ < STEPS; step_++) {
		precise double e = 0.0;

		for (uint i = 0u; i < SUMS; i++)
			e = e + sums[step_ * SUMS + i];
		if (!isnan(e) && !isinf(e) && (!found || e < least)) {
			least = e;
			best = shrunk(all, step_);
			found = true;
		}
	}
	return best;
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
