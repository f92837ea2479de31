// qmatmul.glsl - what products of codes share: inputs, sides and scales; after float.glsl.

READER(0, x, IN0)
READER(1, xscale, IN1)
READER(2, xzero, IN2)
VIEW(3, w)
READER(4, wscale, IN4)
READER(5, wzero, IN5)
READER(6, bias, IN6)
WRITER(10, y, OUT0)

const int INTEGER_ZERO = -1000;		// as mid: zero points are integers
struct Side { uint block_rows, block_cols, groups, grid, ebits, mbits; int mid, shift; };
layout(push_constant) uniform Push {
	uint m, n, k, group, pow2, has_bias;
	Side x, w;
} p;

int signed_byte(uint b) { return int(b << 24) >> 24; }

uint block_of(const Side s, uint row, uint col)
{
	return row / s.block_rows * s.groups + col / s.block_cols;
}

int x_zero(uint row, uint col)
{
	return IN2 == I8 ? signed_byte(uint(xzero_b[block_of(p.x, row, col)])) : 0;
}

int w_zero(uint row, uint col)
{
	return IN5 == I8 ? signed_byte(uint(wzero_b[block_of(p.w, row, col)])) : 0;
}

float scaled(float sx, float sw, int sum)
{
	uint mx, mw;
	int ex, ew;

	if (p.pow2 == 0u || is_nan(sx) || is_nan(sw))
		return f_mul(f_mul(sx, sw), float(sum));
	if (sum == 0)
		return 0.0;
	f_unpack(sx, mx, ex);
	f_unpack(sw, mw, ew);
	return f_pack(sum < 0 ? 0x80000000u : 0u, uint(abs(sum)), ex + ew + 46);
}

// Scales of integers in the group that begins at column `first`.
float x_scale(uint row, uint first)
{
	return f_mul(xscale_at(block_of(p.x, row, first)), f_pow2(-p.x.shift));
}

float w_scale(uint row, uint first)
{
	return f_mul(wscale_at(block_of(p.w, row, first)), f_pow2(-p.w.shift));
}
