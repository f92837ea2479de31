#version 460
// qmatmul.comp - products of codes, a thread for each output. KIND 0: as integers, one
// sum a group (numeric contract 4, EXACT); KIND 1: decoded, summed in f32.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "qmatmul.glsl"

FLAT
layout(std430, binding = 8) buffer XTable { float xtable[]; };
layout(std430, binding = 9) buffer WTable { float wtable[]; };

int float_integer(const Side s, uint code)
{
	const uint e = code >> s.mbits & ((1u << s.ebits) - 1u), m = code & ((1u << s.mbits) - 1u);
	const int a = e != 0u ? int((1u << s.mbits) + m) << (e - 1u) : int(m);

	return (code >> (s.ebits + s.mbits) & 1u) != 0u ? -a : a;
}

int x_integer(uint row, uint col)
{
	const uint code = uint(x_b[row * p.k + col]);

	if (p.x.grid == 2u)
		return float_integer(p.x, code);
	return signed_byte(code) - x_zero(row, col);
}

int w_integer(uint row, uint col)
{
	const uint code = uint(w_b[row * p.k + col]);

	if (p.w.grid == 2u)
		return float_integer(p.w, code);
	return signed_byte(code) - w_zero(row, col);
}

float term(uint row, uint col, uint first)
{
	int sum = 0;

	for (uint k = first; k < first + p.group; k++)
		sum += x_integer(row, k) * w_integer(col, k);
	return scaled(x_scale(row, first), w_scale(col, first), sum);
}

float integers(uint row, uint col)
{
	float y = p.group == p.k ? term(row, col, 0u) : 0.0;

	for (uint first = 0u; p.group < p.k && first < p.k; first += p.group)
		y = f_add(y, term(row, col, first));
	return p.has_bias != 0u ? f_add(y, bias_at(col)) : y;
}

float decoded(const Side s, uint code, float scale, float zero)
{
	if (s.grid == 2u) {
		const int bias = (1 << (int(s.ebits) - 1)) - 1;
		const uint e = code >> s.mbits & ((1u << s.ebits) - 1u);
		const uint m = code & ((1u << s.mbits) - 1u);
		const float a = f_mul(scale, e != 0u
			? float((1u << s.mbits) + m) * f_pow2(int(e) - bias - int(s.mbits))
			: float(m) * f_pow2(1 - bias - int(s.mbits)));

		return (code >> (s.ebits + s.mbits) & 1u) != 0u ? negated(a) : a;
	}
	return s.mid != INTEGER_ZERO ? float(signed_byte(code) - s.mid) * scale + zero
				     : (float(signed_byte(code)) - zero) * scale;
}

float floats(uint row, uint col)
{
	precise float sum = 0.0;

	for (uint k = 0u; k < p.k; k++) {
		float a, zero = 0.0;
		uint b = block_of(p.w, col, k);

		if (IN5 == I8)
			zero = float(signed_byte(uint(wzero_b[b])));
		else if (IN5 == F32)
			zero = wzero_at(b);
		const uint code = uint(w_b[col * p.k + k]);
		const float v = p.w.grid == 3u ? f_mul(wscale_at(b), wtable[code])
			      : decoded(p.w, code, wscale_at(b), zero);

		if (IN0 == F32 || IN0 == BF16) {
			a = x_at(row * p.k + k);
		} else {
			b = block_of(p.x, row, k);
			zero = 0.0;
			if (IN2 == I8)
				zero = float(signed_byte(uint(xzero_b[b])));
			else if (IN2 == F32)
				zero = xzero_at(b);
			const uint xcode = uint(x_b[row * p.k + k]);

			a = p.x.grid == 3u ? f_mul(xscale_at(b), xtable[xcode])
			  : decoded(p.x, xcode, xscale_at(b), zero);
		}
		sum = sum + a * v;
	}
	return p.has_bias != 0u ? sum + bias_at(col) : sum;
}

void main()
{
	FLAT_LOOP(i, p.m * p.n)
		y_put(i, KIND == 0u ? integers(i / p.n, i % p.n) : floats(i / p.n, i % p.n));
}
