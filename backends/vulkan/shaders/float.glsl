// float.glsl - arithmetic in f32 that is correctly rounded on every device, subnormals
// included. Devices may flush subnormals and may be some ulp off in quotients and roots;
// sums and products of normal numbers they round correctly.

// value = m 2^e with m in [2^23, 2^24); of a finite number that is not 0.
void f_unpack(float x, out uint m, out int e)
{
	const uint u = magnitude(x);

	m = u & 0x7fffffu;
	e = int(u >> 23) - 150;
	if (u >> 23 == 0u) {
		const int shift = 23 - findMSB(m);

		m <<= shift;
		e = -149 - shift;
	} else {
		m |= 0x800000u;
	}
}

// m 2^e rounded half to even, m not 0; the lowest bit may stand for all that is below it
// where m >= 2^26.
float f_pack(uint sign, uint m, int e)
{
	const int up = 31 - findMSB(m);
	const int top = e + 31 - up;		// exponent of the value

	m <<= up;
	if (top > 127)
		return uintBitsToFloat(sign | INF_BITS);
	const int shift = 8 + (top < -126 ? -126 - top : 0);
	if (shift > 32)
		return uintBitsToFloat(sign);
	uint q = shift == 32 ? 0u : m >> shift;
	const uint rest = shift == 32 ? m : m << (32 - shift);

	if (rest > 0x80000000u || (rest == 0x80000000u && (q & 1u) == 1u))
		q++;
	if (top >= -126)
		q += uint(top + 126) << 23;
	return uintBitsToFloat(sign | min(q, INF_BITS));
}

float f_slow_mul(float a, float b)
{
	const uint ua = magnitude(a), ub = magnitude(b);
	const uint sign = (floatBitsToUint(a) ^ floatBitsToUint(b)) & 0x80000000u;
	uint ma, mb, high, low;
	int ea, eb;

	if (ua > INF_BITS || ub > INF_BITS)
		return nan();
	if (ua == INF_BITS || ub == INF_BITS)
		return ua == 0u || ub == 0u ? nan() : uintBitsToFloat(sign | INF_BITS);
	if (ua == 0u || ub == 0u)
		return uintBitsToFloat(sign);
	f_unpack(a, ma, ea);
	f_unpack(b, mb, eb);
	umulExtended(ma, mb, high, low);
	return f_pack(sign, high << 16 | low >> 16 | uint((low & 0xffffu) != 0u), ea + eb + 16);
}

float f_mul(float a, float b)
{
	const uint ea = magnitude(a) >> 23, eb = magnitude(b) >> 23;

	if (ea != 0u && eb != 0u && ea + eb > 130u && ea != 255u && eb != 255u) {
		precise float r = a * b;

		return r;
	}
	return f_slow_mul(a, b);
}

// x 2^64 of |x| < 2^-100, never subnormal.
float f_raise(float x)
{
	const uint u = floatBitsToUint(x), a = u & 0x7fffffffu;
	precise float r;

	if (a >= 0x800000u)
		return uintBitsToFloat(u + (64u << 23));
	r = float(a) * 2.5849394142282115e-26;	// 2^-85
	return uintBitsToFloat(floatBitsToUint(r) | (u & 0x80000000u));
}

float f_slow_add(float a, float b)
{
	precise float r = f_raise(a) + f_raise(b);
	const uint u = floatBitsToUint(r);
	precise float units;

	if ((u & 0x7fffffffu) >= 65u << 23)
		return uintBitsToFloat(u - (64u << 23));
	units = uintBitsToFloat(u & 0x7fffffffu) * 3.8685626227668134e+25;	// 2^85
	return uintBitsToFloat((u & 0x80000000u) | uint(units));
}

// Where one is 2^-101 or more, a subnormal other is less than half a unit.
float f_add(float a, float b)
{
	if (max(magnitude(a), magnitude(b)) < 26u << 23)
		return f_slow_add(a, b);
	precise float r = a + b;

	return r;
}

float f_sub(float a, float b) { return f_add(a, negated(b)); }

float f_div(float a, float b)
{
	const uint ua = magnitude(a), ub = magnitude(b);
	const uint sign = (floatBitsToUint(a) ^ floatBitsToUint(b)) & 0x80000000u;
	uint ma, mb;
	int ea, eb;

	if (ua > INF_BITS || ub > INF_BITS || (ua == INF_BITS && ub == INF_BITS) ||
	    (ua == 0u && ub == 0u))
		return nan();
	if (ua == INF_BITS || ub == 0u)
		return uintBitsToFloat(sign | INF_BITS);
	if (ub == INF_BITS || ua == 0u)
		return uintBitsToFloat(sign);
	f_unpack(a, ma, ea);
	f_unpack(b, mb, eb);
	if (ma < mb) {
		ma <<= 1;
		ea--;
	}
	uint q = 1u, rest = ma - mb;		// eight bits of the quotient at a time

	for (int i = 0; i < 3; i++) {
		const uint digit = (rest << 8) / mb;

		rest = (rest << 8) - digit * mb;
		q = q << 8 | digit;
	}
	return f_pack(sign, q << 2 | uint(rest != 0u), ea - eb - 26);
}

float f_sqrt(float x)
{
	const uint u = magnitude(x);
	uint m, root = 0u, rest = 0u;
	int e;

	if (u == 0u)
		return x;
	if (u > INF_BITS || floatBitsToUint(x) >> 31 == 1u)
		return nan();
	if (u == INF_BITS)
		return x;
	f_unpack(x, m, e);
	if ((e & 1) != 0) {
		m <<= 1;
		e--;
	}
	for (int i = 0; i < 27; i++) {		// m 2^28, two bits at a time
		const int at = 24 - 2 * i;
		const uint next = at >= 0 ? m >> at & 3u : 0u;
		const uint trial = root << 2 | 1u;

		rest = rest << 2 | next;
		root <<= 1;
		if (rest >= trial) {
			rest -= trial;
			root |= 1u;
		}
	}
	return f_pack(0u, root << 1 | uint(rest != 0u), (e - 28) / 2 - 1);
}

float f_pow2(int e)
{
	return e >= -126 ? uintBitsToFloat(uint(e + 127) << 23) : uintBitsToFloat(1u << (e + 149));
}

// e^x to about an ulp: x = n ln 2 + r, the series of e^r.
float f_exp(float x)
{
	if (is_nan(x))
		return x;
	if (x > 89.0)
		return uintBitsToFloat(INF_BITS);
	if (x < -104.0)
		return 0.0;
	precise float n = roundEven(x * 1.44269504);
	precise float r = x - n * 0.693359375 + n * 2.12194440e-4;
	precise float s = 1.0 / 5040.0;
	const int half_n = int(n) / 2;

	s = s * r + 1.0 / 720.0;
	s = s * r + 1.0 / 120.0;
	s = s * r + 1.0 / 24.0;
	s = s * r + 1.0 / 6.0;
	s = s * r + 0.5;
	s = s * r * r + r;
	precise float y = (1.0 + s) * f_pow2(half_n) * f_pow2(int(n) - half_n);

	return y;
}

// Of positive normal numbers: x = 2^e m, the series of 2 atanh((m - 1) / (m + 1)).
float f_log(float x)
{
	uint u = floatBitsToUint(x);
	int e = int(u >> 23) - 127;

	if (u >= INF_BITS)
		return x;
	u = (u & 0x7fffffu) | 0x3f800000u;
	if (u > 0x3fb504f3u) {
		u -= 0x800000u;
		e++;
	}
	const float m = uintBitsToFloat(u);
	precise float s = f_div(m - 1.0, m + 1.0), z = s * s;
	precise float y = 2.0 * s + 2.0 * s * z * (1.0 / 3.0 + z * (0.2 + z * (1.0 / 7.0 +
			  z * (1.0 / 9.0))));

	y = float(e) * 0.693359375 + (y - float(e) * 2.12194440e-4);
	return y;
}
