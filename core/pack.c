/* pack.c - codes and scales as they are stored. */
#include "state.h"

#include <string.h>

#include <qatrun/numerics.h>

int64_t qat_packed_row(int32_t bits, int64_t cols)
{
	return (cols * bits + 7) / 8;
}

void qat_pack_row(uint8_t *out, const uint8_t *codes, int32_t bits, int64_t cols)
{
	const uint32_t mask = (1u << bits) - 1;
	uint32_t held = 0;
	int n = 0;

	for (int64_t i = 0; i < cols; i++) {
		held |= (codes[i] & mask) << n;
		for (n += bits; n >= 8; n -= 8) {
			*out++ = (uint8_t)held;
			held >>= 8;
		}
	}
	if (n)
		*out = (uint8_t)held;
}

void qat_unpack_row(uint8_t *out, const uint8_t *packed, const qat_scheme *s, int64_t cols)
{
	const uint32_t mask = (1u << s->bits) - 1, sign = 1u << (s->bits - 1);
	const int is_signed = s->grid == QAT_GRID_UNIFORM;
	uint32_t held = 0;
	int n = 0;

	for (int64_t i = 0; i < cols; i++) {
		uint32_t code;

		for (; n < s->bits; n += 8)
			held |= (uint32_t)*packed++ << n;
		code = held & mask;
		held >>= s->bits;
		n -= s->bits;
		out[i] = (uint8_t)(is_signed && (code & sign) ? code | ~mask : code);
	}
}

int64_t qat_scheme_blocks(const qat_scheme *s, int64_t rows, int64_t cols)
{
	return (s->block_rows ? rows / s->block_rows : 1) *
	       (s->block_cols ? cols / s->block_cols : 1);
}

uint32_t qat_code_dtype(const qat_scheme *s)
{
	return s->grid == QAT_GRID_UNIFORM ? QAT_I8 : QAT_U8;
}

uint32_t qat_zero_dtype(const qat_scheme *s)
{
	return s->zero == QAT_ZERO_INT ? QAT_I8 : QAT_F32;
}

int64_t qat_scheme_seconds(const qat_scheme *s, int64_t rows)
{
	if (s->scale_rule != QAT_SCALE_TWO_LEVEL)
		return 0;
	return s->second_rows ? rows / s->second_rows : 1;
}

void qat_scales_split(float *scale, const float *second, int64_t seconds, int64_t n)
{
	for (int64_t i = 0; seconds && i < n; i++)
		scale[i] /= second[i / (n / seconds)];
}

void qat_scales_join(float *scale, const float *second, int64_t seconds, int64_t n)
{
	for (int64_t i = 0; seconds && i < n; i++)
		scale[i] *= second[i / (n / seconds)];
}

/* E4M3 has no infinity: NaN is 0x7f. */
static uint8_t to_e4m3(float x)
{
	static const qat_scheme e4m3 = { .ebits = 4, .mbits = 3 };
	const float a = fabsf(qat_round_e4m3(x));
	const uint8_t sign = (uint8_t)(qat_f32_bits(x) >> 31 << 7);

	return x != x ? 0x7f : (uint8_t)(sign | qat_float_pattern(&e4m3, a));
}

static float from_e4m3(uint8_t b)
{
	static const qat_scheme e4m3 = { .ebits = 4, .mbits = 3 };

	return (b & 0x7f) == 0x7f ? qat_f32_from_bits(0x7fc00000u) : qat_float_value(&e4m3, b);
}

void qat_scales_store(void *out, const float *scale, uint32_t format, int64_t n)
{
	uint16_t *half = out;
	uint8_t *byte = out;

	for (int64_t i = 0; i < n; i++)
		switch (format) {
		case QAT_BF16: half[i] = qat_f32_to_bf16(scale[i]); break;
		case QAT_F16:  half[i] = qat_f32_to_f16(scale[i]); break;
		case QAT_E8M0: byte[i] = qat_f32_to_e8m0(scale[i]); break;
		case QAT_E4M3: byte[i] = to_e4m3(scale[i]); break;
		default:       memcpy((float *)out + i, &scale[i], sizeof *scale); break;
		}
}

void qat_scales_load(float *out, const void *stored, uint32_t format, int64_t n)
{
	const uint8_t *byte = stored;
	uint16_t half;

	for (int64_t i = 0; i < n; i++) {
		if (format == QAT_BF16 || format == QAT_F16) {
			memcpy(&half, byte + 2 * i, sizeof half);
			out[i] = format == QAT_BF16 ? qat_bf16_to_f32(half) : qat_f16_to_f32(half);
		} else if (format == QAT_E8M0) {
			out[i] = qat_e8m0_to_f32(byte[i]);
		} else if (format == QAT_E4M3) {
			out[i] = from_e4m3(byte[i]);
		} else {
			memcpy(&out[i], byte + 4 * i, sizeof *out);
		}
	}
}

int qat_scheme_same(const qat_scheme *a, const qat_scheme *b)
{
	return a->grid == b->grid && a->bits == b->bits && a->ebits == b->ebits &&
	       a->mbits == b->mbits && a->qmin == b->qmin && a->qmax == b->qmax &&
	       a->block_rows == b->block_rows && a->block_cols == b->block_cols &&
	       a->scale_format == b->scale_format && a->scale_rule == b->scale_rule &&
	       a->zero == b->zero && a->divisor == b->divisor && a->range == b->range &&
	       a->second_rows == b->second_rows && a->measure == b->measure &&
	       a->measure_value == b->measure_value;
}
