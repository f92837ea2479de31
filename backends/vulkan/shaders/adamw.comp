#version 460
// adamw.comp - one step of AdamW, each operation one rounding, as graph.h writes it.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"

FLAT
READER(0, p_in, IN0)
READER(1, g_in, IN1)
READER(2, m_in, IN2)
READER(3, v_in, IN3)
READER(4, hyper, IN4)
WRITER(10, p_out, OUT0)
WRITER(11, m_out, OUT1)
WRITER(12, v_out, OUT2)
layout(push_constant) uniform Push { uint n; } p;

void main()
{
	const float lr = hyper_at(0), b1 = hyper_at(1), b2 = hyper_at(2), epsilon = hyper_at(3);
	const float decay = f_mul(lr, hyper_at(4));
	const float c1 = f_sub(1.0, b1), c2 = f_sub(1.0, b2);

	FLAT_LOOP(i, p.n) {
		const float g = f_mul(hyper_at(7), g_in_at(i)), w = p_in_at(i);
		const float m = f_add(f_mul(b1, m_in_at(i)), f_mul(c1, g));
		const float v = f_add(f_mul(b2, v_in_at(i)), f_mul(c2, f_mul(g, g)));
		const float decayed = f_sub(w, f_mul(decay, w));
		const float below = f_add(f_sqrt(f_div(v, hyper_at(6))), epsilon);
		const float change = f_mul(lr, f_div(f_div(m, hyper_at(5)), below));

		m_out_put(i, m);
		v_out_put(i, v);
		p_out_put(i, f_sub(decayed, change));
	}
}
