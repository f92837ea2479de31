/* random.h - Philox's words, as many at once as the ISA has lanes: four words of a counter for
 * four elements. A vector of 64-bit lanes has as many counters, the halves above being garbage
 * that its product does not see.
 */
#ifndef QAT_CPU_RANDOM_H
#define QAT_CPU_RANDOM_H

#include "simd.h"

#if defined __AVX512F__ || defined __AVX2__ || defined __SSE2__
#if defined __AVX512F__
typedef __m512i counters;
#define product(a, b) _mm512_mul_epu32(a, b)
#define lower(a, b) _mm512_unpacklo_epi64(a, b)
#define upper(a, b) _mm512_unpackhi_epi64(a, b)
#elif defined __AVX2__
typedef __m256i counters;
#define product(a, b) _mm256_mul_epu32(a, b)
#define lower(a, b) _mm256_unpacklo_epi64(a, b)
#define upper(a, b) _mm256_unpackhi_epi64(a, b)
#else
typedef __m128i counters;
#define product(a, b) _mm_mul_epu32(a, b)
#define lower(a, b) _mm_unpacklo_epi64(a, b)
#define upper(a, b) _mm_unpackhi_epi64(a, b)
#endif
typedef uint64_t vq __attribute__((vector_size(sizeof(counters))));

enum { Q = sizeof(vq) / 8, WORDS = 4 * Q };

/* The words of Q counters from `first` on. Lanes hold them in the order in which the
 * interleaving at the end puts them right. */
QAT_INLINE void some_words(uint32_t *out, uint64_t seed, uint64_t first, uint32_t sequence,
			   uint32_t stream)
{
	const vq zero = { 0 }, low = zero + 0xffffffffu;
	const vq m0 = zero + 0xD2511F53u, m1 = zero + 0xCD9E8D57u;
	vq place = { 0 };
	uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
	vq c0, c1, c2 = zero + sequence, c3 = zero + stream;
	counters half;

#pragma GCC unroll 8
	for (int i = 0; i < Q; i++)
		place[i] = (uint64_t)(i % 2 * (Q / 2) + i / 2);
	c0 = place + first;
	c1 = c0 >> 32;
#pragma GCC unroll 10
	for (int round = 0; round < 10; round++) {
		const vq a = (vq)product((counters)c0, (counters)m0);
		const vq b = (vq)product((counters)c2, (counters)m1);

		c0 = (b >> 32) ^ c1 ^ (zero + k0);
		c2 = (a >> 32) ^ c3 ^ (zero + k1);
		c1 = b;
		c3 = a;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	c0 = (c0 & low) | c1 << 32;
	c2 = (c2 & low) | c3 << 32;
	half = lower((counters)c0, (counters)c2);
	memcpy(out, &half, sizeof half);
	half = upper((counters)c0, (counters)c2);
	memcpy(out + WORDS / 2, &half, sizeof half);
}
#else
enum { Q = 1, WORDS = 4 };

QAT_INLINE void some_words(uint32_t *out, uint64_t seed, uint64_t first, uint32_t sequence,
			   uint32_t stream)
{
	qat_philox(out, seed, first, sequence, stream);
}
#endif

#endif
