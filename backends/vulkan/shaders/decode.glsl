// decode.glsl - what a code stands for: after scheme.glsl.

float decode(uint code, float scale, float zero)
{
	if (p.grid == FLOATING)
		return f_mul(scale, grid_value(p.ebits, p.mbits, code));
	if (p.grid == TABLE)
		return f_mul(scale, table[code]);
	if (p.zero_kind == 2u) {
		const int mid = (p.qmax - p.qmin + 1) / 2;

		return f_add(f_mul(float(signed_byte(code) - p.qmin - mid), scale), zero);
	}
	return f_mul(scale, float(signed_byte(code) - int(zero)));
}
