// scheme.glsl - a scheme in push constants, and the arithmetic of numerics.h; after
// float.glsl. Codes are bytes: integers as two's complement, or bit patterns.

const uint UNIFORM = 1, FLOATING = 2, TABLE = 3;
const uint ABSMAX = 1, SIGNED = 2, MINMAX = 3, FLOAT_ZERO = 4, POW2_FLOOR = 5, POW2_CEIL = 6,
	   POW2_EVEN = 7, TWO_LEVEL = 8;
const uint E4M3 = 10;
const uint TINY = 0x0d800000u;		// 2^-100

layout(push_constant) uniform Push {
	uint rows, cols, block_rows, block_cols, groups, count;
	uint grid, ebits, mbits;
	int emax, qmin, qmax;
	float largest;
	uint scale_format, scale_rule, zero_kind;
	float divisor;
	uint given, node, second_rows, seconds, mask_cols, bits;
	uint moving, rank;
	float rate;
} p;
layout(std430, binding = 9) buffer Table { float table[]; };

uint block_of(uint row, uint col)
{
	return row / p.block_rows * p.groups + col / p.block_cols;
}

// Element i of block k, both in row-major order.
uint element_of(uint k, uint i)
{
	const uint row = k / p.groups * p.block_rows + i / p.block_cols;

	return row * p.cols + k % p.groups * p.block_cols + i % p.block_cols;
}

// Nearest magnitude of a float grid, not saturated. The scalings are by powers of two.
float grid_round(uint ebits, uint mbits, float a)
{
	const int emin = 2 - (1 << (int(ebits) - 1));
	const int e = max(int(magnitude(a) >> 23) - 127, emin);

	if (e > 127 || magnitude(a) == 0u)
		return a;
	return f_mul(roundEven(f_mul(a, f_pow2(int(mbits) - e))), f_pow2(e - int(mbits)));
}

uint grid_pattern(float a)
{
	const int bias = (1 << (int(p.ebits) - 1)) - 1, emin = 1 - bias;
	const int e = int(magnitude(a) >> 23) - 127;

	if (e < emin)
		return uint(f_mul(a, f_pow2(int(p.mbits) - emin)));
	return uint(e + bias) << p.mbits |
	       (magnitude(a) >> (23u - p.mbits) & ((1u << p.mbits) - 1u));
}

float grid_value(uint ebits, uint mbits, uint code)
{
	const int bias = (1 << (int(ebits) - 1)) - 1;
	const uint e = code >> mbits & ((1u << ebits) - 1u), m = code & ((1u << mbits) - 1u);
	const float a = e != 0u ? float((1u << mbits) + m) * f_pow2(int(e) - bias - int(mbits))
				: float(m) * f_pow2(1 - bias - int(mbits));

	return (code >> (ebits + mbits) & 1u) != 0u ? negated(a) : a;
}

float e4m3_round(float x)
{
	const float a = min(grid_round(4u, 3u, absolute(x)), 448.0);

	return is_nan(x) ? x : floatBitsToUint(x) >> 31 != 0u ? negated(a) : a;
}

float scale_stored(float scale)
{
	const uint u = floatBitsToUint(scale);

	if (p.scale_format == BF16)
		return uintBitsToFloat(to_bf16(u) << 16);
	if (p.scale_format == F16)
		return uintBitsToFloat(from_f16(to_f16(u)));
	return p.scale_format == E4M3 ? e4m3_round(scale) : scale;
}

float scale_checked(float s)
{
	return !is_finite(s) ? nan() : magnitude(s) == 0u ? 1.0 : s;
}

int round_int(float v)
{
	if (is_nan(v))
		return 0;
	return v >= 1e9 ? 1000000000 : v <= -1e9 ? -1000000000 : int(roundEven(v));
}

int scale_exponent(float amax)
{
	const uint u = floatBitsToUint(amax), m = u & 0x7fffffu;
	int e = int(u >> 23) - 127 - p.emax;

	if (u < 0x800000u)
		return -127;
	if (p.scale_rule == POW2_CEIL)
		e += int(m > (floatBitsToUint(p.largest) & 0x7fffffu));
	if (p.scale_rule == POW2_EVEN)
		e += int(m + (1u << (22u - p.mbits)) >= 0x800000u);
	return clamp(e, -127, 127);
}

float second_scale(float amax, bool bad)
{
	if (bad)
		return nan();
	return magnitude(amax) < TINY ? 1.0 : f_div(amax, f_mul(p.largest, 448.0));
}

// Scale as stored and zero point of a block, from what is known of its elements.
float block_scale(float amax, float extreme, float lo, float hi, bool bad, float second,
		  out float zero)
{
	const float span = float(p.qmax - p.qmin);
	float scale;

	zero = 0.0;
	if (bad)
		return nan();
	if (p.scale_rule >= POW2_FLOOR && p.scale_rule <= POW2_EVEN)
		return f_pow2(scale_exponent(amax));
	if (p.scale_rule == TWO_LEVEL) {
		const float b = f_div(f_div(amax, p.largest), second), least = 0.001953125;

		return f_mul(b < least ? least : e4m3_round(b), second);
	}
	if (p.scale_rule == FLOAT_ZERO) {
		const float width = f_sub(hi, lo);

		scale = scale_checked(scale_stored(f_div(width > 1e-6 ? width : 1e-6, span)));
		zero = f_add(lo, f_mul(float((p.qmax - p.qmin + 1) / 2), scale));
		return scale;
	}
	if (p.scale_rule == MINMAX) {
		const float low = min(lo, 0.0), high = max(hi, 0.0);

		zero = float(p.qmin);
		if (magnitude(amax) < TINY)
			return 1.0;
		scale = scale_stored(f_div(f_sub(high, low), span));
		if (magnitude(scale) == 0u || !is_finite(scale))
			return scale_checked(scale);
		zero = float(clamp(p.qmin - round_int(f_div(low, scale)), p.qmin, p.qmax));
		return scale;
	}
	if (magnitude(amax) < TINY)
		return 1.0;
	return scale_checked(scale_stored(f_div(p.scale_rule == SIGNED ? extreme : amax,
						p.divisor)));
}

// The nearest of the table, of two the one with the even code.
uint table_code(float y)
{
	uint best = 0u;
	float least = absolute(f_sub(table[0], y));

	for (uint i = 1u; i < 1u << p.bits; i++) {
		const float d = absolute(f_sub(table[i], y));

		if (d < least || (d == least && (i & 1u) == 0u)) {
			best = i;
			least = d;
		}
	}
	return best;
}

// Code of x; r is 1 / scale.
uint code_of(float x, float scale, float r, float zero, out bool inside)
{
	inside = true;
	if (is_nan(scale) || (is_nan(x) && p.grid != UNIFORM))
		return 0u;
	if (p.grid == UNIFORM) {
		const float mid = float((p.qmax - p.qmin + 1) / 2);
		const int q = p.zero_kind == 2u
			? p.qmin + round_int(f_div(f_sub(x, f_sub(zero, f_mul(mid, scale))), scale))
			: round_int(f_mul(x, r)) + int(zero);

		inside = q >= p.qmin && q <= p.qmax;
		return uint(clamp(q, p.qmin, p.qmax)) & 0xffu;
	}
	if (p.grid == TABLE)
		return table_code(f_mul(x, r));
	const float m = absolute(x);
	const float y = magnitude(x) < 0x800000u ? 0.0
		      : p.scale_rule == TWO_LEVEL ? f_div(m, scale) : f_mul(m, r);
	const float a = grid_round(p.ebits, p.mbits, y);

	inside = a <= p.largest;
	return floatBitsToUint(x) >> 31 << (p.ebits + p.mbits) |
	       grid_pattern(a > p.largest ? p.largest : a);
}

int signed_byte(uint b) { return int(b << 24) >> 24; }
