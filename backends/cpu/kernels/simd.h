/* simd.h - vectors of floats as wide as the ISA has them, and what every file that is
 * compiled per ISA shares. One source serves all: vector extensions of the compiler.
 */
#ifndef QAT_CPU_SIMD_H
#define QAT_CPU_SIMD_H

#include <qatrun/numerics.h>

#if defined __AVX512F__ || defined __AVX2__ || defined __SSE2__
#include <immintrin.h>
#endif

#ifdef _OPENMP
#include <omp.h>
#else
static inline int omp_get_max_threads(void) { return 1; }
static inline int omp_get_thread_num(void) { return 0; }
#endif

#define QAT_JOIN_(a, b) a##_##b
#define QAT_JOIN(a, b) QAT_JOIN_(a, b)
/* The name of an object that every ISA has of its own: QAT_NAME(qat_gemm). */
#define QAT_NAME(stem) QAT_JOIN(stem, QAT_ISA)

#define QAT_INLINE static inline __attribute__((always_inline))

#if defined QAT_PLAIN_TILES || defined __AVX512F__
enum { LANES = 16 };
#elif defined __AVX2__
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));
typedef float vf_any __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

typedef int32_t vi_any __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

QAT_INLINE vf vf_load(const float *p)
{
	return *(const vf_any *)p;
}

QAT_INLINE void vf_store(float *p, vf v)
{
	*(vf_any *)p = v;
}

#if defined QAT_PLAIN_TILES
QAT_INLINE vf vf_set(float x)
{
	return (vf){ x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x };
}
QAT_INLINE vf vf_from_int(vi a) { return __builtin_convertvector(a, vf); }
#elif defined __AVX512F__
QAT_INLINE vf vf_set(float x) { return _mm512_set1_ps(x); }
QAT_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
QAT_INLINE vf vf_from_int(vi a) { return _mm512_cvtepi32_ps((__m512i)a); }
QAT_INLINE vf vf_sqrt(vf a) { return _mm512_sqrt_ps(a); }
#elif defined __AVX2__ && defined __FMA__
QAT_INLINE vf vf_set(float x) { return _mm256_set1_ps(x); }
QAT_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
QAT_INLINE vf vf_from_int(vi a) { return _mm256_cvtepi32_ps((__m256i)a); }
QAT_INLINE vf vf_sqrt(vf a) { return _mm256_sqrt_ps(a); }
#else
QAT_INLINE vf vf_set(float x) { return (vf){ x, x, x, x }; }
QAT_INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
QAT_INLINE vf vf_from_int(vi a) { return __builtin_convertvector(a, vf); }
#ifdef __SSE2__
QAT_INLINE vf vf_sqrt(vf a) { return _mm_sqrt_ps(a); }
#else
QAT_INLINE vf vf_sqrt(vf a) { return (vf){ sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3]) }; }
#endif
#endif

/* Of two the smaller, the larger, and `yes` where a < b, else `no`. Where b is NaN: b, b, no. */
#if defined __AVX512F__ && !defined QAT_PLAIN_TILES
QAT_INLINE vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
QAT_INLINE vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
QAT_INLINE vf vf_less(vf a, vf b, vf yes, vf no)
{
	return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
#elif defined __AVX2__ && !defined QAT_PLAIN_TILES
QAT_INLINE vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
QAT_INLINE vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
QAT_INLINE vf vf_less(vf a, vf b, vf yes, vf no)
{
	return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
#else
QAT_INLINE vf vf_less(vf a, vf b, vf yes, vf no)
{
	const vi less = a < b;

	return (vf)((less & (vi)yes) | (~less & (vi)no));
}
QAT_INLINE vf vf_min(vf a, vf b) { return vf_less(a, b, a, b); }
QAT_INLINE vf vf_max(vf a, vf b) { return vf_less(b, a, a, b); }
#endif

/* Nearest integer of |x| < 2^22, half to even. */
QAT_INLINE vf vf_round_near(vf x)
{
#if defined __AVX512F__ && !defined QAT_PLAIN_TILES
	return _mm512_roundscale_ps(x, 0);
#else
	const float big = 12582912.0f;		/* 1.5 * 2^23 */

	return (x + big) - big;
#endif
}

/* a * b + c, fused where the ISA does that at no cost. */
QAT_INLINE float madd(float a, float b, float c)
{
#ifdef __FMA__
	return __builtin_fmaf(a, b, c);
#else
	return a * b + c;
#endif
}

/* Nearest integer of |x| < 2^22, half to even, by the addition's own rounding. */
QAT_INLINE float round_near(float x)
{
	const float big = 12582912.0f;		/* 1.5 * 2^23 */

	return (x + big) - big;
}

/* Whether threads share the work out already, be it only one. A loop in here then is a plain
 * one: even a parallel region of one thread takes microseconds to begin and to end. */
QAT_INLINE int is_shared_out(void)
{
#ifdef _OPENMP
	return omp_get_level() > 0;
#else
	return 1;
#endif
}

QAT_INLINE int64_t div_up(int64_t a, int64_t b)
{
	return (a + b - 1) / b;
}

QAT_INLINE int64_t round_up(int64_t a, int64_t b)
{
	return div_up(a, b) * b;
}

QAT_INLINE int64_t min64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

QAT_INLINE int64_t max64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* Asks for what lies `ahead` bytes behind each line of p's bytes. Where a kernel goes over a few
 * lines more than once, the processor does not see early enough which come next. Nothing is
 * read, so that these may be no memory at all. */
QAT_INLINE void ask_ahead(const void *p, int64_t bytes, int64_t ahead)
{
	for (int64_t i = 0; i < bytes; i += 64)
		__builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)(ahead + i)));
}

/* Bits of the bf16 nearest to x: qat_f32_to_bf16 without branches. */
QAT_INLINE uint16_t bf16_of(float x)
{
	const uint32_t u = qat_f32_bits(x);
	const uint32_t r = (u + 0x7fffu + (u >> 16 & 1u)) >> 16, nan = u >> 16 | 0x40u;

	return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? nan : r);
}

#if defined __AVX512BW__ && defined __AVX512VL__ && !defined QAT_PLAIN_TILES
/* bf16_of, LANES at once. */
QAT_INLINE void vf_store_bf16(uint16_t *y, vf v)
{
	const __m512i u = (__m512i)v, odd = _mm512_and_si512(_mm512_srli_epi32(u, 16),
							     _mm512_set1_epi32(1));
	const __m512i near = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
	const __mmask16 nan = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
	const __m512i r = _mm512_mask_or_epi32(near, nan, u, _mm512_set1_epi32(0x400000));

	_mm256_storeu_si256((__m256i *)(void *)y, _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
}
#endif

#if defined __AVX512BF16__ && !defined QAT_PLAIN_TILES
/* Where v is subnormal: what the instruction to bf16 takes for zero. */
QAT_INLINE unsigned vf_subnormal(vf v)
{
	return _mm512_fpclass_ps_mask((__m512)v, 0x20);
}

/* A line of bf16_of, which is that instruction for almost all numbers. */
QAT_INLINE void vf_store_bf16_line(uint16_t *y, vf a, vf b)
{
	if (__builtin_expect(vf_subnormal(a) | vf_subnormal(b), 0)) {
		vf_store_bf16(y, a);
		vf_store_bf16(y + LANES, b);
	} else {
		_mm512_storeu_si512(y, (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a));
	}
}
#endif

/* n floats from element `at` of x. */
QAT_INLINE void load_floats(float *restrict out, const void *x, uint32_t dtype, int64_t at,
			    int64_t n)
{
	if (dtype == QAT_F32) {
		memcpy(out, (const float *)x + at, (size_t)n * 4);
	} else {
		const uint16_t *restrict h = (const uint16_t *)x + at;

		for (int64_t i = 0; i < n; i++)
			out[i] = qat_f32_from_bits((uint32_t)h[i] << 16);
	}
}

QAT_INLINE void store_floats(void *y, uint32_t dtype, int64_t at, const float *restrict in,
			     int64_t n)
{
	if (dtype == QAT_F32) {
		memcpy((float *)y + at, in, (size_t)n * 4);
	} else {
		uint16_t *restrict h = (uint16_t *)y + at;

		for (int64_t i = 0; i < n; i++)
			h[i] = bf16_of(in[i]);
	}
}

/* Floats from element `at` of x: in place, or widened into buf. */
QAT_INLINE const float *view_floats(float *buf, const void *x, uint32_t dtype, int64_t at,
				    int64_t n)
{
	if (dtype == QAT_F32)
		return (const float *)x + at;
	load_floats(buf, x, dtype, at, n);
	return buf;
}

#endif
