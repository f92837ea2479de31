/* quantize_wide.h - 16 elements at once, where the compiler's own loops branch by masks. Part of
 * quantize_run.h.
 */
#if defined __AVX512BW__
enum { WIDE = 16 };

QAT_INLINE __mmask16 wide_mask(int64_t n)
{
	return n < WIDE ? (__mmask16)((1u << n) - 1) : (__mmask16)0xffff;
}

/* run_amax. */
QAT_INLINE uint32_t wide_amax(const float *x, int64_t n)
{
	const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
	__m512i top[2] = { _mm512_setzero_si512(), _mm512_setzero_si512() };

	for (int64_t i = 0; i < n; i += 2 * WIDE)
#pragma GCC unroll 2
		for (int j = 0; j < 2; j++) {
			const int64_t at = i + j * WIDE, have = max64(n - at, 0);
			const __m512i u = _mm512_maskz_loadu_epi32(wide_mask(have), x + at);

			top[j] = _mm512_max_epu32(top[j], _mm512_and_si512(u, magnitude));
		}
	return _mm512_reduce_max_epu32(_mm512_max_epu32(top[0], top[1]));
}

/* uniform_codes; the conversion rounds as round_near does. */
QAT_INLINE void wide_uniform(const qat_scheme *s, int8_t *codes, const float *x, int64_t n,
			     float scale, float zero)
{
	const __m512 r = _mm512_set1_ps(1.0f / scale);
	const __m512 far = _mm512_set1_ps(1e6f), near = _mm512_set1_ps(-1e6f);
	const __m512i z = _mm512_set1_epi32((int32_t)zero);
	const __m512i lo = _mm512_set1_epi32(s->qmin), hi = _mm512_set1_epi32(s->qmax);

	for (int64_t i = 0; i < n; i += WIDE) {
		const __mmask16 have = wide_mask(n - i);
		const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(have, x + i), r);
		const __m512 w = _mm512_min_ps(_mm512_max_ps(v, near), far);
		const __m512i q = _mm512_add_epi32(_mm512_cvtps_epi32(w), z);

		_mm512_mask_cvtepi32_storeu_epi8(codes + i, have,
						 _mm512_min_epi32(_mm512_max_epi32(q, lo), hi));
	}
}
#endif
