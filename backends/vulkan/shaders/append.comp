#version 460
// append.comp - new keys or values into their cache: token t of a sequence becomes row
// position + t of its part.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

FLAT
READER(0, x, IN0)
WRITER(10, cache, OUT0)
layout(std430, binding = 15) buffer State { uint flag, position; };
layout(push_constant) uniform Push { uint n, cols, steps, keys; } p;

void main()
{
	FLAT_LOOP(i, p.n) {
		const uint row = i / p.cols;
		const uint to = row / p.steps * p.keys + position + row % p.steps;

		cache_put(to * p.cols + i % p.cols, x_at(i));
	}
}
