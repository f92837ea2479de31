/* gguf_kit.h - for tests of GGUF: files built byte by byte. */
#ifndef QAT_TEST_GGUF_KIT_H
#define QAT_TEST_GGUF_KIT_H

#include "format_kit.h"
#include "gguf.h"

/* Types of tensors, as files have them. */
enum { F32 = 0, F16 = 1, Q4_0 = 2, Q8_0 = 8 };

typedef struct {
	kit_bytes values, tensors, data;
	uint64_t n_values, n_tensors;
	uint32_t version, alignment;
} builder;

extern const qat_format *gguf;
extern builder *b;		/* the file in the making */

/* Before each test; build_begin() starts a file. */
void setup(void);
void build_begin(void);
void add_string(kit_bytes *to, const char *text);
void add_key(const char *key, uint32_t type);
void add_u32(const char *key, uint32_t value);
void add_float(const char *key, float value);
void add_bool(const char *key, int value);
void add_text(const char *key, const char *value);
void add_texts(const char *key, const char *const *texts);
void add_ints(const char *key, const int *ints, uint64_t n);
void data_pad(kit_bytes *to);
/* columns: innermost. rows 0: a vector. */
void add_tensor(const char *name, uint32_t type, uint64_t columns, uint64_t rows,
		const void *data, size_t bytes);
void add_counted(const char *name, uint64_t columns, uint64_t rows);
/* A file that says it is a small Llama. */
void llama_begin(void);
void build_put(const char *name);
int build_open(void **file);
void *build_opened(void);
qat_param param(const char *name, int64_t heads);

#endif
