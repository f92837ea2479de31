/* gguf.h - a GGUF file: key-value metadata, and tensors in blocks.
 *   https://github.com/ggml-org/ggml/blob/master/docs/gguf.md */
#ifndef QAT_FORMAT_GGUF_H
#define QAT_FORMAT_GGUF_H

#include "files.h"
#include "gguf_blocks.h"

/* Types of metadata. */
enum {
	GGUF_U8 = 0, GGUF_I8 = 1, GGUF_U16 = 2, GGUF_I16 = 3, GGUF_U32 = 4, GGUF_I32 = 5,
	GGUF_FLOAT = 6, GGUF_BOOL = 7, GGUF_STRING = 8, GGUF_ARRAY = 9, GGUF_U64 = 10,
	GGUF_I64 = 11, GGUF_DOUBLE = 12, GGUF_TYPES = 13
};

/* One entry of the metadata; everything points into the file. */
typedef struct qat_gguf_value {
	qat_text key;
	uint32_t type;
	uint32_t element;	/* ARRAY: type of the elements */
	int64_t count;		/* ARRAY: of elements */
	const uint8_t *at;	/* number, text of a string, or first element */
	int64_t bytes;
} qat_gguf_value;

enum { GGUF_RANK = 4, GGUF_NAME = 64 };

#define GGUF_ROPE_FREQS "rope_freqs.weight"	/* becomes a key of config.json */

typedef struct qat_gguf_tensor {
	char name[GGUF_NAME];
	const qat_gguf_type *type;
	int64_t rank;
	int64_t dims[GGUF_RANK];	/* innermost first; 1 past the rank */
	const uint8_t *data;
	int64_t bytes, row_bytes;
} qat_gguf_tensor;

typedef struct qat_gguf {
	char *path;
	qat_map map;
	int64_t n_values, n_tensors, alignment;
	qat_gguf_value *values;			/* by key */
	qat_gguf_tensor *tensors;		/* in the order of the file */
	const qat_gguf_tensor **by_name;
	const struct qat_gguf_arch *arch;
	char *docs[QAT_DOCS];			/* made when first asked for */
} qat_gguf;

int qat_gguf_open(qat_gguf **out, const char *path);
void qat_gguf_close(qat_gguf *g);

/* Of two qat_gguf_value, for qsort. */
int qat_gguf_key_order(const void *a, const void *b);

/* NULL when absent. */
const qat_gguf_tensor *qat_gguf_tensor_find(const qat_gguf *g, const char *name);
/* `count` elements from a row's first one on; count divides into whole blocks. */
void qat_gguf_values(const qat_gguf_tensor *t, float *out, const uint8_t *from, int64_t count);

/* Metadata. Return 1 when found, 0 when absent, negative when of another type. The key
 * is "prefix.key", or key alone when prefix is NULL. */
const qat_gguf_value *qat_gguf_find(const qat_gguf *g, const char *prefix, const char *key);
int qat_gguf_int(int64_t *out, const qat_gguf *g, const char *prefix, const char *key);
int qat_gguf_float(double *out, const qat_gguf *g, const char *prefix, const char *key);
int qat_gguf_bool(int *out, const qat_gguf *g, const char *prefix, const char *key);
int qat_gguf_text(qat_text *out, const qat_gguf *g, const char *prefix, const char *key);
/* 1 when the text is just this. */
int qat_gguf_is(qat_text text, const char *what);

/* Strings of an array in turn: *at starts as value->at. */
qat_text qat_gguf_string_next(const uint8_t **at);

/* An architecture that we read. */
typedef struct qat_gguf_arch {
	const char *name;
	int interleaved;	/* rotated pairs are neighbours, not halves apart */
	int (*config)(json_t *config, const qat_gguf *g);	/* adds its keys */
} qat_gguf_arch;

/* Sets g->arch. */
int qat_gguf_arch_find(qat_gguf *g);

/* Texts to be freed; *out NULL where the file has nothing to tell. */
int qat_gguf_config(char **out, const qat_gguf *g);
int qat_gguf_tokenizer(char **out, const qat_gguf *g);
int qat_gguf_tokenizer_config(char **out, const qat_gguf *g);

#endif
