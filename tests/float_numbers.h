/* float_numbers.h - the numbers that tests/interop/floats.py gave to torch and torchao, and
 * FNV-1a of what comes out. */
#ifndef QAT_TEST_FLOAT_NUMBERS_H
#define QAT_TEST_FLOAT_NUMBERS_H

#include <math.h>
#include <stdlib.h>

#include <qatrun/numerics.h>

#include "float_hashes.h"

static inline uint64_t fnv(uint64_t h, const void *data, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const uint8_t *)data)[i]) * 1099511628211u;
	return h;
}

static const uint64_t fnv_start = 14695981039346656037u;

static inline uint32_t number_word(uint32_t i)
{
	return i * 2654435761u + 12345u;
}

/* Number i of a table in which `per` follow each other with one range. */
static inline float number_at(uint32_t i, uint32_t per)
{
	const uint32_t w = number_word(i);
	const int shift = (int)(i / per % 40) - 20 - (int)(w & 7);

	return ldexpf((float)((int32_t)(w >> 8) - (1 << 23)), shift - 23);
}

/* Of what every code of a float scheme stands for, but those that are no finite numbers
 * where torch has the type. */
static inline uint64_t values_hash(const qat_scheme *s)
{
	uint64_t h = fnv_start;

	for (int c = 0; c < 1 << s->bits; c++) {
		const float x = qat_float_value(s, (uint8_t)c);

		if (fabsf(x) <= s->largest)
			h = fnv(h, &x, sizeof x);
	}
	return h;
}

/* Of the codes of every finite bf16, and of finite words as f32, under scale 1. */
static inline uint64_t codes_hash(const qat_scheme *s)
{
	uint64_t h = fnv_start;

	for (uint32_t i = 0; i < 2 * 65536; i++) {
		const float x = qat_f32_from_bits(i < 65536 ? i << 16 : number_word(i - 65536));
		uint8_t code;
		int inside;

		if (!qat_is_finite(x))
			continue;
		code = qat_code(s, x, 1.0f, 0, &inside);
		h = fnv(h, &code, 1);
	}
	return h;
}

#endif
