#version 460
// rope.comp - pairs (i, i + d / 2) of every head turned by the tables' angles.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"

FLAT
READER(0, x, IN0)
READER(1, cosine, IN1)
READER(2, sine, IN2)
WRITER(10, y, OUT0)
layout(std430, binding = 15) buffer State { uint flag, position; };
layout(push_constant) uniform Push { uint pairs, cols, d, steps, inverse; } p;

void main()
{
	const uint h = p.d / 2;

	FLAT_LOOP(i, p.pairs) {
		const uint at = i / h * p.d + i % h, t = position + at / p.cols % p.steps;
		const uint angle = t * h + i % h;
		const float c = cosine_at(angle);
		const float s = p.inverse != 0u ? negated(sine_at(angle)) : sine_at(angle);
		const float a = x_at(at), b = x_at(at + h);

		y_put(at, f_sub(f_mul(a, c), f_mul(b, s)));
		y_put(at + h, f_add(f_mul(b, c), f_mul(a, s)));
	}
}
