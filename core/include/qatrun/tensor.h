/* tensor.h - element types and tensors in memory. */
#ifndef QATRUN_TENSOR_H
#define QATRUN_TENSOR_H

#include <qatrun/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { QAT_MAX_RANK = 4 };

enum {
	QAT_F32  = 1,
	QAT_BF16 = 2,
	QAT_F16  = 3,
	QAT_F64  = 4,
	QAT_I8   = 5,
	QAT_U8   = 6,
	QAT_I32  = 7,
	QAT_I64  = 8,
	QAT_E8M0 = 9,	/* one byte, 2^(byte - 127), 0xFF is NaN */
	QAT_E4M3 = 10	/* one byte, no infinity, 0x7F and 0xFF are NaN */
};

/* Bytes of one element, 0 for an unknown type. */
static inline int64_t qat_dtype_bytes(uint32_t dtype)
{
	static const int8_t bytes[] = { 0, 4, 2, 2, 8, 1, 1, 4, 8, 1, 1 };

	return dtype < sizeof bytes ? bytes[dtype] : 0;
}

/* A row-major tensor that somebody else owns. */
typedef struct qat_tensor {
	uint32_t size;			/* sizeof(qat_tensor) */
	uint32_t dtype;			/* QAT_F32 ... */
	int64_t rank;			/* 0..QAT_MAX_RANK */
	int64_t shape[QAT_MAX_RANK];	/* outermost first; 1 past the rank */
	const char *name;
	void *data;			/* NULL: not in memory as such */
	int64_t bytes;
} qat_tensor;

#ifdef __cplusplus
}
#endif
#endif
