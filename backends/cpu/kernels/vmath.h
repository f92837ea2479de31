/* vmath.h - exp, tanh and erf that the compiler can vectorize: no branches, no calls.
 * Polynomials are minimax fits of ours. Errors against double: exp 1.5 ulp, tanh 2.5,
 * erf 2.5 (one more without fused multiply-add). NaN gives NaN.
 */
#ifndef QAT_CPU_VMATH_H
#define QAT_CPU_VMATH_H

#include "simd.h"

/* e^x; 0 below -103.98, infinity above 88.73. */
QAT_INLINE float vexp(float x)
{
	const float lo = x > -110.0f ? x : -110.0f;	/* NaN too */
	const float c = lo > 89.0f ? 89.0f : lo;
	const float n = round_near(c * 1.44269504f);
	const float r = madd(n, 2.12194440e-4f, madd(n, -0.693359375f, c));
	/* 2^n in two factors, so that subnormal results come out right. */
	const int32_t e = (int32_t)n, e1 = e >> 1, e2 = e - e1;
	float p = 1.392692661e-3f;

	p = madd(p, r, 8.363773874e-3f);
	p = madd(p, r, 4.166655011e-2f);
	p = madd(p, r, 0.1666657338f);
	p = madd(p, r, 0.5f);
	p = madd(p * r, r, r) + 1.0f;
	p = p * qat_f32_from_bits((uint32_t)(e1 + 127) << 23) *
	    qat_f32_from_bits((uint32_t)(e2 + 127) << 23);
	return x != x ? x : p;
}

QAT_INLINE float vtanh(float x)
{
	const float a = fabsf(x), s = x * x;
	const float big = 1.0f - 2.0f / (vexp(2.0f * (a > 10.0f ? 10.0f : a)) + 1.0f);
	float p = -6.07516659e-3f;

	p = madd(p, s, 2.098229759e-2f);
	p = madd(p, s, -5.38477577e-2f);
	p = madd(p, s, 0.1333274891f);
	p = madd(p, s, -0.3333332874f);
	p = madd(p * s, x, x);
	return a < 0.625f ? p : x != x ? x : copysignf(big, x);
}

QAT_INLINE float verf(float x)
{
	const float a = fabsf(x), s = x * x, t = a > 4.0f ? 4.0f : a;
	float p = 8.349979427e-5f, q = -1.125925793e-6f;

	p = madd(p, s, -8.155232899e-4f);
	p = madd(p, s, 5.204048848e-3f);
	p = madd(p, s, -2.68615327e-2f);
	p = madd(p, s, 0.1128375185f);
	p = madd(p, s, -0.3761263835f);
	p = madd(p, s, 0.128379167096f);
	p = madd(p, x, x);
	q = madd(q, t, 3.580976375e-5f);		/* -log(erfc t) / t */
	q = madd(q, t, -5.093766461e-4f);
	q = madd(q, t, 4.346040059e-3f);
	q = madd(q, t, -2.523782129e-2f);
	q = madd(q, t, 0.107988042f);
	q = madd(q, t, 0.6340527935f);
	q = madd(q, t, 1.12893109f);
	q = 1.0f - vexp(-t * q);
	return a < 1.0f ? p : x != x ? x : copysignf(q, x);
}

QAT_INLINE float sigmoid(float x)
{
	return 1.0f / (1.0f + vexp(-x));
}

/* ---- activations and their derivatives ---- */

QAT_INLINE float gelu_tanh(float x)
{
	const float u = 0.797884561f * madd(0.044715f * x * x, x, x);	/* sqrt(2 / pi) */

	return 0.5f * x * (1.0f + vtanh(u));
}

QAT_INLINE float gelu_tanh_slope(float x)
{
	const float s = x * x, t = vtanh(0.797884561f * madd(0.044715f * s, x, x));
	const float du = 0.797884561f * madd(0.134145f, s, 1.0f);

	return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * du;
}

QAT_INLINE float gelu_erf(float x)
{
	return 0.5f * x * (1.0f + verf(x * 0.707106781f));
}

QAT_INLINE float gelu_erf_slope(float x)
{
	const float density = 0.398942280f * vexp(-0.5f * x * x);

	return madd(x, density, 0.5f * (1.0f + verf(x * 0.707106781f)));
}

QAT_INLINE float silu(float x)
{
	return x * sigmoid(x);
}

QAT_INLINE float silu_slope(float x)
{
	const float s = sigmoid(x);

	return s * (1.0f + x * (1.0f - s));
}

QAT_INLINE float relu(float x)
{
	return x < 0.0f ? 0.0f : x;
}

QAT_INLINE float relu_slope(float x)
{
	return x > 0.0f ? 1.0f : 0.0f;
}

#endif
