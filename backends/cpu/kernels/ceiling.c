/* ceiling.c - products from registers alone, for what a processor does at most: enough sums
 * that do not wait for each other, and nothing else. Per ISA.
 */
#include "kernels.h"
#include "simd.h"

enum { BATCH = 2000, SUMS = 12 };

/* The compiler must take x for another value each time. */
#if defined __AVX512F__
#define RENEW(x) __asm__ volatile("" : "+v"(x))
#elif defined __x86_64__
#define RENEW(x) __asm__ volatile("" : "+x"(x))
#else
#define RENEW(x) __asm__ volatile("" : "+m"(x))
#endif

/* SUMS times `sum` of type t for each of BATCH rounds; `each` operations a time. */
#define SUM_UP(t, sum, each) \
	t s[SUMS] = { { 0 } }; \
	for (int i = 0; i < BATCH; i++) \
		_Pragma("GCC unroll 12") \
		for (int k = 0; k < SUMS; k++) { \
			s[k] = sum; \
			RENEW(s[k]); \
		} \
	return (double)BATCH * SUMS * (each)

static double floats(void)
{
	const vf x = vf_set(0.5f);

	SUM_UP(vf, vf_fma(s[k], x, x), LANES * 2);
}

/* ---- pairs of bf16 ---- */

#if defined __AMX_BF16__ && !defined QAT_PLAIN_TILES
#include "tiles.h"
#define PAIRS "tdpbf16ps"

static void tiles_begin(void)
{
	static const uint8_t zeros[16 * 64];

	tiles_open(64);
	tile_clear(0);
	tile_clear(1);
	tile_clear(2);
	tile_clear(3);
	tile_load(4, zeros, 64);
	tile_load(5, zeros, 64);
	tile_load(6, zeros, 64);
	tile_load(7, zeros, 64);
}

#define TILES(dot, each) \
	tiles_begin(); \
	for (int i = 0; i < BATCH; i++) { \
		dot(0, 4, 6); \
		dot(1, 4, 7); \
		dot(2, 5, 6); \
		dot(3, 5, 7); \
	} \
	tiles_close(); \
	return (double)BATCH * 4 * 16 * 16 * (each)

static double pairs(void)
{
	TILES(tile_dot_pairs, 32 * 2);
}
#elif defined __AVX512BF16__
#define PAIRS "vdpbf16ps"

static double pairs(void)
{
	const __m512i bits = _mm512_set1_epi16(0x3c00);
	const __m512bh x = (__m512bh)bits;

	SUM_UP(__m512, _mm512_dpbf16_ps(s[k], x, x), LANES * 2 * 2);
}
#else
#define PAIRS NULL
#define pairs NULL
#endif

/* ---- bytes ---- */

#if defined __AMX_INT8__ && !defined QAT_PLAIN_TILES
#define BYTES "tdpbsud"

static double bytes(void)
{
	TILES(tile_dot, 64 * 2);
}
#elif defined __AVX512VNNI__
#define BYTES "vpdpbusd"

static double bytes(void)
{
	const __m512i x = _mm512_set1_epi8(3);

	SUM_UP(__m512i, _mm512_dpbusd_epi32(s[k], x, x), LANES * 4 * 2);
}
#elif defined __AVX2__
#define BYTES "vpmaddwd"

static double bytes(void)
{
	const __m256i x = _mm256_set1_epi16(3);

	SUM_UP(__m256i, _mm256_add_epi32(_mm256_madd_epi16(s[k], x), s[k]), LANES * 2 * 2);
}
#elif defined __SSE2__
#define BYTES "pmaddwd"

static double bytes(void)
{
	const __m128i x = _mm_set1_epi16(3);

	SUM_UP(__m128i, _mm_add_epi32(_mm_madd_epi16(s[k], x), s[k]), LANES * 2 * 2);
}
#else
#define BYTES NULL
#define bytes NULL
#endif

#if defined __AVX512F__ || defined __FMA__
#define FLOATS "fma"
#else
#define FLOATS "multiply, add"
#endif

extern const qat_ceiling_kernels QAT_NAME(qat_ceiling);
const qat_ceiling_kernels QAT_NAME(qat_ceiling) = { {
	[QAT_CEILING_F32] = { FLOATS, floats },
	[QAT_CEILING_BF16] = { PAIRS, pairs },
	[QAT_CEILING_I8] = { BYTES, bytes },
} };
