#version 460
// cross_entropy_grad.comp - g (softmax - onehot), 0 where the label is not scored. Where MORE
// is 1 logits are in the workspace and their gradients take their place.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"

FLAT
READER(0, given, IN0)
layout(std430, binding = 14) buffer Work { float work[]; };
layout(std430, binding = 6) buffer Labels { int label[]; };	// these three bound again
layout(std430, binding = 7) buffer Lse { float lse[]; };
layout(std430, binding = 8) buffer Gradient { float g[]; };
WRITER(10, y, OUT0)
layout(push_constant) uniform Push { uint rows, v, first; } p;

void main()
{
	FLAT_LOOP(i, p.rows * p.v) {
		const uint r = p.first + i / p.v;
		const float l = MORE == 1u ? work[i] : given_at(i);
		const float hot = label[r] >= 0 && uint(label[r]) == i % p.v ? 1.0 : 0.0;
		const float d = label[r] < 0 ? 0.0 : g[r] * (f_exp(l - lse[r]) - hot);

		if (MORE == 1u)
			work[i] = d;
		else
			y_put(i, d);
	}
}
