#version 460
// flat.comp - element by element: KIND is the op, MORE the activation.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "act.glsl"

FLAT
READER(0, a, IN0)
READER(1, b, IN1)
READER(2, c, IN2)
WRITER(10, y, OUT0)
WRITER(11, z, OUT1)
layout(push_constant) uniform Push { uint n; float factor; } p;

const uint ADD = 10, MUL = 11, SCALE = 12, ACT = 13, ACT_GRAD = 14, GLU = 15, GLU_GRAD = 16,
	   CAST = 32;

void main()
{
	FLAT_LOOP(i, p.n) {
		const float x = a_at(i);

		if (KIND == ADD)
			y_put(i, f_add(x, b_at(i)));
		else if (KIND == MUL)
			y_put(i, f_mul(x, b_at(i)));
		else if (KIND == SCALE)
			y_put(i, f_mul(p.factor, x));
		else if (KIND == ACT)
			y_put(i, act(MORE, x));
		else if (KIND == ACT_GRAD)
			y_put(i, b_at(i) * act_slope(MORE, x));
		else if (KIND == GLU)
			y_put(i, b_at(i) * act(MORE, x));
		else if (KIND == CAST)
			y_put(i, x);
		else if (KIND == GLU_GRAD) {
			const float up = b_at(i), dy = c_at(i);

			if (OUT0 != 0u)
				y_put(i, dy * up * act_slope(MORE, x));
			if (OUT1 != 0u)
				z_put(i, dy * act(MORE, x));
		}
	}
}
