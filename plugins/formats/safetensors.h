/* safetensors.h - a file of named tensors: u64 header length, JSON header, data.
 *   https://github.com/huggingface/safetensors */
#ifndef QAT_FORMAT_SAFETENSORS_H
#define QAT_FORMAT_SAFETENSORS_H

#include "files.h"

typedef struct qat_st_tensor {
	const char *name;		/* borrowed from the file */
	const char *type;		/* as the file says it: "BF16" */
	uint32_t dtype;			/* QAT_*, 0: a type that we have no use for */
	int64_t rank;			/* may exceed QAT_MAX_RANK: then no shape */
	int64_t shape[QAT_MAX_RANK];	/* 1 past the rank */
	int64_t begin, end;		/* in the data */
	const uint8_t *data;
} qat_st_tensor;

typedef struct qat_safetensors qat_safetensors;

/* Map and check: all that the file says about its tensors holds. */
int qat_st_open(qat_safetensors **out, const char *path);
void qat_st_close(qat_safetensors *file);

/* What was read may leave memory until it is read again. */
void qat_st_let_go(const qat_safetensors *file);

const char *qat_st_path(const qat_safetensors *file);
int64_t qat_st_count(const qat_safetensors *file);
const qat_st_tensor *qat_st_at(const qat_safetensors *file, int64_t index);
/* NULL when absent. */
const qat_st_tensor *qat_st_find(const qat_safetensors *file, const char *name);
/* A value of the file's metadata, NULL when absent. */
const char *qat_st_metadata(const qat_safetensors *file, const char *key);

/* 1 where data lies on a multiple of its element's size. */
int qat_st_aligned(const qat_st_tensor *t);
/* `count` elements from `first` on, as f32. QAT_ENOTSUP for a type that is no float. */
int qat_st_read(const qat_safetensors *file, const qat_st_tensor *t, float *out, int64_t first,
		int64_t count);
/* Columns [column, column + columns) of a matrix, each as a row of out. */
int qat_st_read_columns(const qat_safetensors *file, const qat_st_tensor *t, float *out,
			int64_t column, int64_t columns);

/* What to write. */
typedef struct qat_st_item {
	const char *name;		/* in the file */
	const qat_tensor *tensor;
	int transpose;			/* a matrix is written the other way round */
	const qat_checkpoint *from;	/* its content() gives what is not there, by */
	int64_t index;
} qat_st_item;

/* Write `path`, whole or not at all. metadata: pairs key, value, NULL at the end. Types
 * that Python's loaders do not all know (E8M0, E4M3) are stored as U8; the metadata then
 * has "dtype.<name>" with the type. */
int qat_st_write(const char *path, const qat_st_item *items, int64_t count,
		 const char *const *metadata);

#endif
