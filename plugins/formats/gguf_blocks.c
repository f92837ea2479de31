/* gguf_blocks.c - blocks of quantized values, bit for bit as gguf-py reads them.
 *
 * Blocks of 32 keep element j in the low and element j + 16 in the high half of byte j.
 * Blocks of 256 ("K") have 8 or 16 parts with integer scales under a common f16 scale.
 * Products are rounded to f32 one by one, in the order written here. */
#include <qatrun/numerics.h>
#include "gguf_blocks.h"

static uint16_t word(const uint8_t *at)
{
	return (uint16_t)(at[0] | at[1] << 8);
}

static uint32_t word32(const uint8_t *at)
{
	return (uint32_t)word(at) | (uint32_t)word(at + 2) << 16;
}

static float half(const uint8_t *at)
{
	return qat_f16_to_f32(word(at));
}

static void f32_values(float *out, const uint8_t *b)
{
	*out = qat_f32_from_bits(word32(b));
}

static void f16_values(float *out, const uint8_t *b)
{
	*out = half(b);
}

static void bf16_values(float *out, const uint8_t *b)
{
	*out = qat_bf16_to_f32(word(b));
}

/* Element i of 32 four-bit codes. */
static int code4(const uint8_t *codes, int i)
{
	return i < 16 ? codes[i] & 15 : codes[i - 16] >> 4;
}

/* f16 d, 16 bytes: d (q - 8). */
static void q4_0_values(float *out, const uint8_t *b)
{
	const float d = half(b);

	for (int i = 0; i < 32; i++)
		out[i] = d * (float)(code4(b + 2, i) - 8);
}

/* f16 d, f16 m, 16 bytes: d q + m. */
static void q4_1_values(float *out, const uint8_t *b)
{
	const float d = half(b), m = half(b + 2);

	for (int i = 0; i < 32; i++)
		out[i] = d * (float)code4(b + 4, i) + m;
}

/* f16 d, u32 fifth bits, 16 bytes: d (q - 16). */
static void q5_0_values(float *out, const uint8_t *b)
{
	const float d = half(b);
	const uint32_t high = word32(b + 2);

	for (int i = 0; i < 32; i++)
		out[i] = d * (float)((code4(b + 6, i) | (int)(high >> i & 1) << 4) - 16);
}

/* f16 d, f16 m, u32 fifth bits, 16 bytes: d q + m. */
static void q5_1_values(float *out, const uint8_t *b)
{
	const float d = half(b), m = half(b + 2);
	const uint32_t high = word32(b + 4);

	for (int i = 0; i < 32; i++)
		out[i] = d * (float)(code4(b + 8, i) | (int)(high >> i & 1) << 4) + m;
}

/* f16 d, 32 signed bytes: d q. */
static void q8_0_values(float *out, const uint8_t *b)
{
	const float d = half(b);

	for (int i = 0; i < 32; i++)
		out[i] = d * (float)(int8_t)b[2 + i];
}

/* Six-bit scale and minimum of part j, from the 12 bytes of Q4_K and Q5_K. */
static void part_scale(int *scale, int *min, const uint8_t *s, int j)
{
	if (j < 4) {
		*scale = s[j] & 63;
		*min = s[j + 4] & 63;
	} else {
		*scale = (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
		*min = s[j + 4] >> 4 | s[j] >> 6 << 4;
	}
}

/* f16 d, f16 dmin, 12 bytes of scales, and where high is not NULL 32 bytes of fifth
 * bits: (d sc_j) q - dmin m_j for the 32 elements of part j. */
static void k_values(float *out, const uint8_t *b, const uint8_t *high, const uint8_t *codes)
{
	const float d = half(b), dmin = half(b + 2);

	for (int j = 0; j < 8; j++) {
		const uint8_t *from = codes + 32 * (j / 2);
		int scale, min;
		float ds, dm;

		part_scale(&scale, &min, b + 4, j);
		ds = d * (float)scale;
		dm = dmin * (float)min;
		for (int i = 0; i < 32; i++) {
			int q = j & 1 ? from[i] >> 4 : from[i] & 15;

			if (high)
				q |= (high[i] >> j & 1) << 4;
			out[32 * j + i] = ds * (float)q - dm;
		}
	}
}

static void q4_k_values(float *out, const uint8_t *b)
{
	k_values(out, b, NULL, b + 16);
}

static void q5_k_values(float *out, const uint8_t *b)
{
	k_values(out, b, b + 16, b + 48);
}

/* 128 bytes of low halves, 64 of high quarters, 16 signed scales, f16 d. */
static void q6_k_values(float *out, const uint8_t *b)
{
	const uint8_t *low = b, *high = b + 128, *scale = b + 192;
	const float d = half(b + 208);

	for (int e = 0; e < 256; e++) {
		const int h = e / 128, k = e / 32 % 4, i = e % 32;
		const int l = low[64 * h + 32 * (k & 1) + i] >> 4 * (k >> 1) & 15;
		const int u = high[32 * h + i] >> 2 * k & 3;

		out[e] = d * (float)(int8_t)scale[e / 16] * (float)((l | u << 4) - 32);
	}
}

/* u8 exponent, 16 bytes of E2M1: twice the value times 2^(e - 128). */
static void mxfp4_values(float *out, const uint8_t *b)
{
	static const int8_t doubled[16] = {
		0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12,
	};
	const float d = qat_pow2(b[0] - 128);

	for (int i = 0; i < 32; i++)
		out[i] = d * (float)doubled[code4(b + 1, i)];
}

static const qat_gguf_type types[] = {
	{ "F32", GGUF_F32, 1, 4, f32_values },
	{ "F16", GGUF_F16, 1, 2, f16_values },
	{ "Q4_0", 2, 32, 18, q4_0_values },
	{ "Q4_1", 3, 32, 20, q4_1_values },
	{ "Q5_0", 6, 32, 22, q5_0_values },
	{ "Q5_1", 7, 32, 24, q5_1_values },
	{ "Q8_0", 8, 32, 34, q8_0_values },
	{ "Q2_K", 10, 256, 84, NULL },
	{ "Q3_K", 11, 256, 110, NULL },
	{ "Q4_K", 12, 256, 144, q4_k_values },
	{ "Q5_K", 13, 256, 176, q5_k_values },
	{ "Q6_K", 14, 256, 210, q6_k_values },
	{ "IQ2_XXS", 16, 256, 66, NULL },
	{ "IQ2_XS", 17, 256, 74, NULL },
	{ "IQ3_XXS", 18, 256, 98, NULL },
	{ "IQ1_S", 19, 256, 50, NULL },
	{ "IQ4_NL", 20, 32, 18, NULL },
	{ "IQ3_S", 21, 256, 110, NULL },
	{ "IQ2_S", 22, 256, 82, NULL },
	{ "IQ4_XS", 23, 256, 136, NULL },
	{ "I8", 24, 1, 1, NULL },
	{ "I16", 25, 1, 2, NULL },
	{ "I32", 26, 1, 4, NULL },
	{ "I64", 27, 1, 8, NULL },
	{ "F64", 28, 1, 8, NULL },
	{ "IQ1_M", 29, 256, 56, NULL },
	{ "BF16", GGUF_BF16, 1, 2, bf16_values },
	{ "TQ1_0", 34, 256, 54, NULL },
	{ "TQ2_0", 35, 256, 66, NULL },
	{ "MXFP4", 39, 32, 17, mxfp4_values },
	{ "NVFP4", 40, 64, 36, NULL },
};

const qat_gguf_type *qat_gguf_type_find(uint32_t id)
{
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (types[i].id == id)
			return &types[i];
	return NULL;
}
