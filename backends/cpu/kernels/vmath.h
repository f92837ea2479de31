/* vmath.h - exp, tanh and erf of vectors; activations and their slopes. Polynomials are
 * minimax fits of ours. Errors against double: exp 1.5 ulp, tanh 2.5, erf 2.5 (one more
 * without fused multiply-add). NaN gives NaN.
 */
#ifndef QAT_CPU_VMATH_H
#define QAT_CPU_VMATH_H

#include "simd.h"

/* p 2^n, n whole, -160 .. 160. */
QAT_INLINE vf vf_times_pow2(vf p, vf n)
{
#if defined __AVX512F__
	return _mm512_scalef_ps(p, n);
#else
	/* In two factors, so that subnormal results come out right. */
	const vi e = __builtin_convertvector(n, vi), e1 = e >> 1, e2 = e - e1;

	return p * (vf)((e1 + 127) << 23) * (vf)((e2 + 127) << 23);
#endif
}

/* e^x; 0 below -103.98, infinity above 88.73. */
QAT_INLINE vf vf_exp(vf x)
{
	const vf c = vf_min(vf_set(89.0f), vf_max(vf_set(-110.0f), x));
	const vf n = vf_round_near(c * 1.44269504f);
	const vf r = vf_fma(n, vf_set(2.12194440e-4f), vf_fma(n, vf_set(-0.693359375f), c));
	vf p = vf_set(1.392692661e-3f);

	p = vf_fma(p, r, vf_set(8.363773874e-3f));
	p = vf_fma(p, r, vf_set(4.166655011e-2f));
	p = vf_fma(p, r, vf_set(0.1666657338f));
	p = vf_fma(p, r, vf_set(0.5f));
	return vf_times_pow2(vf_fma(p * r, r, r) + 1.0f, n);
}

/* The same bits of one, for loops that the compiler vectorizes. */
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

QAT_INLINE vf vf_abs(vf x)
{
	return (vf)((vi)x & 0x7fffffff);
}

/* |x| has the sign of y. */
QAT_INLINE vf vf_signed(vf x, vf y)
{
	return (vf)(((vi)x & 0x7fffffff) | ((vi)y & ~0x7fffffff));
}

QAT_INLINE vf vf_tanh(vf x)
{
	const vf a = vf_abs(x), s = x * x;
	const vf big = 1.0f - 2.0f / (vf_exp(2.0f * vf_min(vf_set(10.0f), a)) + 1.0f);
	vf p = vf_set(-6.07516659e-3f);

	p = vf_fma(p, s, vf_set(2.098229759e-2f));
	p = vf_fma(p, s, vf_set(-5.38477577e-2f));
	p = vf_fma(p, s, vf_set(0.1333274891f));
	p = vf_fma(p, s, vf_set(-0.3333332874f));
	p = vf_fma(p * s, x, x);
	return vf_less(a, vf_set(0.625f), p, vf_signed(big, x));
}

QAT_INLINE vf vf_erf(vf x)
{
	const vf a = vf_abs(x), s = x * x, t = vf_min(vf_set(4.0f), a);
	vf p = vf_set(8.349979427e-5f), q = vf_set(-1.125925793e-6f);

	p = vf_fma(p, s, vf_set(-8.155232899e-4f));
	p = vf_fma(p, s, vf_set(5.204048848e-3f));
	p = vf_fma(p, s, vf_set(-2.68615327e-2f));
	p = vf_fma(p, s, vf_set(0.1128375185f));
	p = vf_fma(p, s, vf_set(-0.3761263835f));
	p = vf_fma(p, s, vf_set(0.128379167096f));
	p = vf_fma(p, x, x);
	q = vf_fma(q, t, vf_set(3.580976375e-5f));		/* -log(erfc t) / t */
	q = vf_fma(q, t, vf_set(-5.093766461e-4f));
	q = vf_fma(q, t, vf_set(4.346040059e-3f));
	q = vf_fma(q, t, vf_set(-2.523782129e-2f));
	q = vf_fma(q, t, vf_set(0.107988042f));
	q = vf_fma(q, t, vf_set(0.6340527935f));
	q = vf_fma(q, t, vf_set(1.12893109f));
	q = 1.0f - vf_exp(-t * q);
	return vf_less(a, vf_set(1.0f), p, vf_signed(q, x));
}

QAT_INLINE vf sigmoid(vf x)
{
	return 1.0f / (1.0f + vf_exp(-x));
}

/* ---- activations and their derivatives ---- */

QAT_INLINE vf gelu_tanh(vf x)
{
	const vf u = 0.797884561f * vf_fma(0.044715f * x * x, x, x);	/* sqrt(2 / pi) */

	return 0.5f * x * (1.0f + vf_tanh(u));
}

QAT_INLINE vf gelu_tanh_slope(vf x)
{
	const vf s = x * x, t = vf_tanh(0.797884561f * vf_fma(0.044715f * s, x, x));
	const vf du = 0.797884561f * vf_fma(vf_set(0.134145f), s, vf_set(1.0f));

	return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * du;
}

QAT_INLINE vf gelu_erf(vf x)
{
	return 0.5f * x * (1.0f + vf_erf(x * 0.707106781f));
}

QAT_INLINE vf gelu_erf_slope(vf x)
{
	const vf density = 0.398942280f * vf_exp(-0.5f * x * x);

	return vf_fma(x, density, 0.5f * (1.0f + vf_erf(x * 0.707106781f)));
}

QAT_INLINE vf silu(vf x)
{
	return x * sigmoid(x);
}

QAT_INLINE vf silu_slope(vf x)
{
	const vf s = sigmoid(x);

	return s * (1.0f + x * (1.0f - s));
}

QAT_INLINE vf relu(vf x)
{
	return vf_less(x, vf_set(0.0f), vf_set(0.0f), x);
}

QAT_INLINE vf relu_slope(vf x)
{
	return vf_less(vf_set(0.0f), x, vf_set(1.0f), vf_set(0.0f));
}

#endif
