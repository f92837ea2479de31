/* qgemm_unpack.c - packed weights become codes again, for who reads them as they are. Per ISA. */
#include "qgemm.h"

#if defined __AVX512F__ && !defined QAT_PLAIN_TILES
#include "turn.h"
#endif

/* Where pieces of column n, of STEP codes each, begin; the next is LANES * 4 bytes on. */
static const char *column_of(const qat_qmm *p, const void *packed, int64_t n)
{
	return (const char *)packed + 64 + n / LANES * panel_bytes(p) + n % LANES * 4;
}

static void unpack_column(const qat_qmm *p, int8_t *codes, const void *packed, int64_t n)
{
	const char *group = column_of(p, packed, n);

	codes += n * p->k;
	for (int64_t g = 0; g < p->groups; g++, group += p->group4 * LANES * BYTES)
		for (int64_t k = 0; k < p->group; k++, codes++) {
			wcode w;

			memcpy(&w, group + k / STEP * LANES * 4 + k % STEP * BYTES, sizeof w);
			*codes = (int8_t)(w - OFFSET);
		}
}

#if defined __AVX512F__ && !defined QAT_PLAIN_TILES
/* A whole panel whose pieces have no gaps: a piece is an element of 4 bytes. */
static int unpack_wide(const qat_qmm *p, int8_t *codes, const void *packed, int64_t n)
{
	const __m512i flip = _mm512_set1_epi8((char)OFFSET);
	const char *at = column_of(p, packed, n);

	if (STEP != 4 || LANES != 16 || n + LANES > p->n || p->group4 != p->group)
		return 0;
	codes += n * p->k;
	for (int64_t k = 0; k < p->k; k += 64, at += 16 * 64) {
		const int64_t pieces = min64(64, p->k - k) / 4;
		const __mmask16 part = (__mmask16)(0xffffu >> (16 - pieces));
		__m512i v[16];

		for (int64_t i = 0; i < 16; i++)
			v[i] = i < pieces ? _mm512_loadu_si512(at + i * 64) : flip;
		transpose(v);
#pragma GCC unroll 16
		for (int64_t i = 0; i < 16; i++)
			_mm512_mask_storeu_epi32(codes + i * p->k + k, part,
						 _mm512_xor_si512(v[i], flip));
	}
	return 1;
}
#else
static int unpack_wide(const qat_qmm *p, int8_t *codes, const void *packed, int64_t n)
{
	(void)p, (void)codes, (void)packed, (void)n;
	return 0;
}
#endif

void QAT_NAME(qat_qgemm_unpack)(const qat_qmm *p, void *codes, const void *packed)
{
#pragma omp parallel for schedule(static)
	for (int64_t n = 0; n < p->n; n += LANES) {
		if (unpack_wide(p, codes, packed, n))
			continue;
		for (int64_t i = n; i < min64(n + LANES, p->n); i++)
			unpack_column(p, codes, packed, i);
	}
}
