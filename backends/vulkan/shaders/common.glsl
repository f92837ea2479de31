// common.glsl - what every shader shares: the layout of vulkan.h, types, reading and
// writing values of any type. Values are read as words and taken apart by integer
// operations, so that no device changes a subnormal or a NaN on the way.

#extension GL_EXT_shader_8bit_storage : require
#extension GL_EXT_shader_16bit_storage : require

const uint F32 = 1, BF16 = 2, F16 = 3, I8 = 5, U8 = 6;

// Types of the node's values, 0 where absent; variants of the shader.
layout(constant_id = 0) const uint IN0 = 0;
layout(constant_id = 1) const uint IN1 = 0;
layout(constant_id = 2) const uint IN2 = 0;
layout(constant_id = 3) const uint IN3 = 0;
layout(constant_id = 4) const uint IN4 = 0;
layout(constant_id = 5) const uint IN5 = 0;
layout(constant_id = 6) const uint IN6 = 0;
layout(constant_id = 10) const uint OUT0 = 0;
layout(constant_id = 11) const uint OUT1 = 0;
layout(constant_id = 12) const uint OUT2 = 0;
layout(constant_id = 13) const uint OUT3 = 0;
layout(constant_id = 14) const uint KIND = 0;
layout(constant_id = 15) const uint MORE = 0;

const uint NAN_BITS = 0x7fc00000u, INF_BITS = 0x7f800000u;

uint magnitude(float x) { return floatBitsToUint(x) & 0x7fffffffu; }
bool is_nan(float x) { return magnitude(x) > INF_BITS; }
bool is_finite(float x) { return magnitude(x) < INF_BITS; }
float nan() { return uintBitsToFloat(NAN_BITS); }
float negated(float x) { return uintBitsToFloat(floatBitsToUint(x) ^ 0x80000000u); }
float absolute(float x) { return uintBitsToFloat(magnitude(x)); }

// Integers in the order of numbers, zeros of both signs alike, and back.
int ordered(float x)
{
	return floatBitsToUint(x) >> 31 != 0u ? -int(magnitude(x)) : int(magnitude(x));
}

float of_order(int i)
{
	return uintBitsToFloat(i < 0 ? uint(-i) | 0x80000000u : uint(i));
}

uint to_bf16(uint u)
{
	if ((u & 0x7fffffffu) > INF_BITS)
		return u >> 16 | 0x40u;
	return (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
}

// Gradual underflow by integers: units of 2^-24 are mantissas shifted, half to even.
uint to_f16(uint u)
{
	const uint sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;

	if (a > INF_BITS)
		return sign | 0x7e00u | (a >> 13 & 0x3ffu);
	if (a >= 0x477ff000u)
		return sign | 0x7c00u;
	if (a >= 0x38800000u)
		return sign | (a - 0x38000000u + 0xfffu + (a >> 13 & 1u)) >> 13;
	if (a < 0x33000000u)		// below 2^-25
		return sign;
	const uint shift = 126u - (a >> 23), m = (a & 0x7fffffu) | 0x800000u;
	const uint q = m >> shift, rest = m & ((1u << shift) - 1u), half_way = 1u << (shift - 1u);

	return sign | (q + uint(rest > half_way || (rest == half_way && (q & 1u) == 1u)));
}

uint from_f16(uint h)
{
	const uint sign = (h & 0x8000u) << 16, e = h >> 10 & 31u, m = h & 0x3ffu;

	if (e == 31u)
		return sign | INF_BITS | m << 13;
	if (e != 0u)
		return sign | (e + 112u) << 23 | m << 13;
	if (m == 0u)
		return sign;
	const uint top = uint(findMSB(m));

	return sign | (top + 103u) << 23 | (m << (23u - top) & 0x7fffffu);
}

#define VIEW(slot, name) \
	layout(std430, binding = slot) buffer name##_words { uint name##_w[]; }; \
	layout(std430, binding = slot) buffer name##_halves { uint16_t name##_h[]; }; \
	layout(std430, binding = slot) buffer name##_bytes { uint8_t name##_b[]; };

// Bits of the element as f32; f16 only where casts need it.
#define READER(slot, name, type) VIEW(slot, name) \
	uint name##_bits(uint i) \
	{ \
		if (type == F32) \
			return name##_w[i]; \
		if (type == BF16) \
			return uint(name##_h[i]) << 16; \
		if (type == F16) \
			return from_f16(uint(name##_h[i])); \
		return 0u; \
	} \
	float name##_at(uint i) { return uintBitsToFloat(name##_bits(i)); }

#define WRITER(slot, name, type) VIEW(slot, name) \
	void name##_put(uint i, float x) \
	{ \
		const uint u = floatBitsToUint(x); \
		if (type == F32) \
			name##_w[i] = u; \
		else if (type == BF16) \
			name##_h[i] = uint16_t(to_bf16(u)); \
		else if (type == F16) \
			name##_h[i] = uint16_t(to_f16(u)); \
	}

#define FLAT_SIZE 256
#define FLAT layout(local_size_x = FLAT_SIZE) in;
#define FLAT_LOOP(i, n) \
	for (uint i = gl_GlobalInvocationID.x; i < n; i += gl_NumWorkGroups.x * FLAT_SIZE)
