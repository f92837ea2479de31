/* quantize_wide.h - 16 elements at once, where the compiler's own loops branch by masks. Part of
 * quantize_run.h.
 */
#if defined __AVX512BW__
enum { WIDE = 16, TURNS = 4 };

QAT_INLINE __mmask16 wide_mask(int64_t n)
{
	return n < WIDE ? (__mmask16)((1u << n) - 1) : (__mmask16)0xffff;
}

/* run_amax. */
QAT_INLINE uint32_t wide_amax(const float *x, int64_t n)
{
	const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
	__m512i top[TURNS] = { _mm512_setzero_si512(), _mm512_setzero_si512(),
			       _mm512_setzero_si512(), _mm512_setzero_si512() };
	int64_t i = 0;

	for (; i + TURNS * WIDE <= n; i += TURNS * WIDE)
#pragma GCC unroll 4
		for (int j = 0; j < TURNS; j++) {
			const __m512i u = _mm512_loadu_si512(x + i + j * WIDE);

			top[j] = _mm512_max_epu32(top[j], _mm512_and_si512(u, magnitude));
		}
	for (int j = 0; i < n; i += WIDE, j++) {
		const __m512i u = _mm512_maskz_loadu_epi32(wide_mask(n - i), x + i);

		top[j] = _mm512_max_epu32(top[j], _mm512_and_si512(u, magnitude));
	}
	top[0] = _mm512_max_epu32(top[0], top[1]);
	top[2] = _mm512_max_epu32(top[2], top[3]);
	return _mm512_reduce_max_epu32(_mm512_max_epu32(top[0], top[2]));
}

/* What uniform_codes needs of a block, in every lane. */
typedef struct wide_block {
	__m512 r, near, far;
	__m512i zero, lo, hi;
} wide_block;

/* 16 codes as integers; the conversion rounds as round_near does. */
QAT_INLINE __m512i wide_codes(const wide_block *b, __m512 x)
{
	const __m512 v = _mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(x, b->r), b->near), b->far);
	const __m512i q = _mm512_add_epi32(_mm512_cvtps_epi32(v), b->zero);

	return _mm512_min_epi32(_mm512_max_epi32(q, b->lo), b->hi);
}

/* uniform_codes. Bytes go through a register: a masked store that narrows takes some processors
 * dozens of cycles. */
QAT_INLINE void wide_uniform(const qat_scheme *s, int8_t *codes, const float *x, int64_t n,
			     float scale, float zero)
{
	const wide_block b = {
		_mm512_set1_ps(1.0f / scale), _mm512_set1_ps(-1e6f), _mm512_set1_ps(1e6f),
		_mm512_set1_epi32((int32_t)zero), _mm512_set1_epi32(s->qmin),
		_mm512_set1_epi32(s->qmax),
	};
	int64_t i = 0;

	for (; i + WIDE <= n; i += WIDE)
		_mm_storeu_si128((__m128i *)(void *)(codes + i),
				 _mm512_cvtepi32_epi8(wide_codes(&b, _mm512_loadu_ps(x + i))));
	if (i < n) {
		const __mmask16 have = wide_mask(n - i);
		const __m512 last = _mm512_maskz_loadu_ps(have, x + i);

		_mm_mask_storeu_epi8(codes + i, have, _mm512_cvtepi32_epi8(wide_codes(&b, last)));
	}
}
#endif
