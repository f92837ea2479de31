/* decode.h - codes as floats: all of them, or rows of bf16 for products that decode while they
 * pack. Per ISA. */
#ifndef QAT_CPU_DECODE_H
#define QAT_CPU_DECODE_H

#include "kernels.h"
#include "simd.h"

/* As qat_quantize_kernels says. */
void QAT_NAME(qat_dequantize)(const qat_dequantize_args *d);

/* n elements of row r from column c on: the bits of dequantize. */
void QAT_NAME(qat_decode_bf16)(const qat_dequantize_args *d, uint16_t *out, int64_t r, int64_t c,
			       int64_t n);

#endif
