/* gguf_blocks.h - the element types of GGUF: sizes of their blocks, and values as f32. */
#ifndef QAT_FORMAT_GGUF_BLOCKS_H
#define QAT_FORMAT_GGUF_BLOCKS_H

#include <stdint.h>

enum { GGUF_F32 = 0, GGUF_F16 = 1, GGUF_BF16 = 30 };

typedef struct qat_gguf_type {
	const char *name;
	uint32_t id;
	int32_t elements, bytes;	/* of a block */
	/* The values of one block; NULL: listed only. */
	void (*values)(float *out, const uint8_t *block);
} qat_gguf_type;

/* NULL for an id that GGUF does not have. */
const qat_gguf_type *qat_gguf_type_find(uint32_t id);

#endif
