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

#if defined __AVX512BW__
/* ---- 64 words in registers ----
 * Of a sequence, for counters below 2^32: where the counter's other words are the same for
 * all, so are half of the first three rounds, and become part of their keys. */

typedef struct word_source { uint32_t key0[10], key1[10]; } word_source;

QAT_INLINE void source_open(word_source *s, uint64_t seed, uint32_t sequence, uint32_t stream)
{
	const uint64_t b = (uint64_t)0xCD9E8D57u * sequence;
	uint64_t a;

	for (uint32_t i = 0; i < 10; i++) {
		s->key0[i] = (uint32_t)seed + i * 0x9E3779B9u;
		s->key1[i] = (uint32_t)(seed >> 32) + i * 0xBB67AE85u;
	}
	a = (uint64_t)0xD2511F53u * ((uint32_t)(b >> 32) ^ s->key0[0]);
	s->key1[0] ^= stream;
	s->key0[1] ^= (uint32_t)b;
	s->key1[1] ^= (uint32_t)(a >> 32);
	s->key1[2] ^= (uint32_t)a;
}

QAT_INLINE __m512i high_word(__m512i x)
{
	return _mm512_srli_epi64(x, 32);
}

QAT_INLINE __m512i xor_3(__m512i a, __m512i b, __m512i c)
{
	return _mm512_ternarylogic_epi32(a, b, c, 0x96);
}

/* Eight counters each, two of them for 64 words; the rounds of two lots stand side by side, as
 * each waits for the one before. */
enum { CHAINS = 4 };

typedef struct chains { __m512i c0[CHAINS], c1[CHAINS], c2[CHAINS], c3[CHAINS]; } chains;

QAT_INLINE void first_rounds(chains *c, const word_source *s, const uint32_t counter[2])
{
	const __m512i m0 = _mm512_set1_epi64(0xD2511F53u), m1 = _mm512_set1_epi64(0xCD9E8D57u);
	const __m512i place = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);

#pragma GCC unroll 8
	for (int n = 0; n < CHAINS; n++) {
		const __m512i first = _mm512_set1_epi64(counter[n / 2] + 8 * (n % 2));

		c->c3[n] = _mm512_mul_epu32(_mm512_add_epi64(place, first), m0);
		c->c2[n] = _mm512_xor_si512(high_word(c->c3[n]),
					    _mm512_set1_epi32((int)s->key1[0]));
	}
#pragma GCC unroll 8
	for (int n = 0; n < CHAINS; n++) {
		c->c1[n] = _mm512_mul_epu32(c->c2[n], m1);
		c->c2[n] = _mm512_xor_si512(c->c3[n], _mm512_set1_epi32((int)s->key1[1]));
		c->c0[n] = _mm512_xor_si512(high_word(c->c1[n]),
					    _mm512_set1_epi32((int)s->key0[1]));
		c->c3[n] = _mm512_setzero_si512();
	}
}

QAT_INLINE void next_round(chains *c, uint32_t key0, uint32_t key1)
{
	const __m512i m0 = _mm512_set1_epi64(0xD2511F53u), m1 = _mm512_set1_epi64(0xCD9E8D57u);
	const __m512i k0 = _mm512_set1_epi32((int)key0), k1 = _mm512_set1_epi32((int)key1);
	__m512i a[CHAINS], b[CHAINS];

#pragma GCC unroll 8
	for (int n = 0; n < CHAINS; n++) {
		a[n] = _mm512_mul_epu32(c->c0[n], m0);
		b[n] = _mm512_mul_epu32(c->c2[n], m1);
	}
#pragma GCC unroll 8
	for (int n = 0; n < CHAINS; n++) {
		c->c0[n] = xor_3(high_word(b[n]), c->c1[n], k0);
		c->c2[n] = xor_3(high_word(a[n]), c->c3[n], k1);
		c->c1[n] = b[n];
		c->c3[n] = a[n];
	}
}

/* Words 4 counter .. 4 counter + 63 of two counters. */
QAT_INLINE void twice_64_words(__m512i word[2 * CHAINS], const word_source *s,
			       const uint32_t counter[2])
{
	chains c;

	first_rounds(&c, s, counter);
#pragma GCC unroll 8
	for (int i = 2; i < 10; i++)
		next_round(&c, s->key0[i], s->key1[i]);
#pragma GCC unroll 8
	for (int n = 0; n < CHAINS; n++) {
		const __m512i low = _mm512_mask_shuffle_epi32(c.c0[n], 0xaaaa, c.c1[n],
							      _MM_PERM_CCAA);
		const __m512i high = _mm512_mask_shuffle_epi32(c.c2[n], 0xaaaa, c.c3[n],
							       _MM_PERM_CCAA);

		word[2 * n] = _mm512_unpacklo_epi64(low, high);
		word[2 * n + 1] = _mm512_unpackhi_epi64(low, high);
	}
}
#endif

#endif
