#version 460
// dequantize.comp - what codes stand for.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "scheme.glsl"

FLAT
VIEW(0, codes)
READER(1, scale, IN1)
READER(2, zero, IN2)
WRITER(10, y, OUT0)

float decode(uint code, float s, uint k)
{
	if (p.grid == FLOATING)
		return f_mul(s, grid_value(p.ebits, p.mbits, code));
	if (p.grid == TABLE)
		return f_mul(s, table[code]);
	if (p.zero_kind == 2u) {
		const int mid = (p.qmax - p.qmin + 1) / 2;

		return f_add(f_mul(float(signed_byte(code) - p.qmin - mid), s),
			     IN2 == F32 ? zero_at(k) : 0.0);
	}
	return f_mul(s, float(signed_byte(code) -
			      (IN2 == I8 ? signed_byte(uint(zero_b[k])) : 0)));
}

void main()
{
	FLAT_LOOP(i, p.rows * p.cols) {
		const uint k = block_of(i / p.cols, i % p.cols);

		y_put(i, decode(uint(codes_b[i]), scale_at(k), k));
	}
}
