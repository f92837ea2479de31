#version 460
// dequantize.comp - what codes stand for.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "scheme.glsl"
#include "decode.glsl"

FLAT
VIEW(0, codes)
READER(1, scale, IN1)
READER(2, zero, IN2)
WRITER(10, y, OUT0)

void main()
{
	FLAT_LOOP(i, p.rows * p.cols) {
		const uint k = block_of(i / p.cols, i % p.cols);
		const float z = IN2 == I8 ? float(signed_byte(uint(zero_b[k])))
			      : IN2 == F32 ? zero_at(k) : 0.0;

		y_put(i, decode(uint(codes_b[i]), scale_at(k), z));
	}
}
