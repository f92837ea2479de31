// scales.glsl - scale, 1 / scale and zero point of a block into the workspace and, where they
// are not given, into the outputs: after scheme.glsl, reduce.glsl and stats.glsl.

READER(0, x, IN0)
READER(1, scale_in, IN1)
READER(2, zero_in, IN2)
WRITER(11, scale_out, OUT1)
WRITER(12, zero_out, OUT2)
layout(std430, binding = 14) buffer Work { float work[]; };
layout(std430, binding = 15) buffer State { uint flag, position; };

// What of block k's elements makes its scale.
struct Range { float amax, extreme, lo, hi; bool bad; };

void put_scale(uint k, Range r)
{
	const bool two = p.scale_rule == TWO_LEVEL;
	const uint second = two ? k / p.groups * p.block_rows / p.second_rows : 0u;
	float scale, zero = 0.0;

	if (p.given != 0u && r.bad)
		atomicMin(flag, p.node);
	if (p.given != 0u && !two) {
		scale = scale_in_at(k);
		if (IN2 == I8)
			zero = float(signed_byte(uint(zero_in_b[k])));
		else if (IN2 == F32)
			zero = zero_in_at(k);
	} else {
		scale = block_scale(r.amax, r.extreme, r.lo, r.hi, r.bad,
				    two ? work[3u * p.count + second] : 1.0, zero);
		scale_out_put(k, scale);
		if (OUT2 == I8)
			zero_out_b[k] = uint8_t(uint(int(zero)) & 0xffu);
		else if (OUT2 == F32)
			zero_out_put(k, zero);
	}
	work[3u * k] = scale;
	work[3u * k + 1u] = f_div(1.0, scale);
	work[3u * k + 2u] = zero;
}

float element(uint k, uint i) { return x_at(element_of(k, i)); }

Stats some(uint k, uint first, uint step_)
{
	Stats s = stats_none();

	for (uint i = first; i < p.block_rows * p.block_cols; i += step_)
		stats_add(s, element(k, i), i);
	return s;
}

Range range_of(uint k, Stats s)
{
	return Range(uintBitsToFloat(s.amax), s.at == 0xffffffffu ? 0.0 : element(k, s.at),
		     of_order(s.lo), of_order(s.hi), s.bad != 0u);
}

// By all threads of a work group.
Range gather(uint k)
{
	return range_of(k, stats_all(some(k, gl_LocalInvocationID.x, ROW_SIZE)));
}
