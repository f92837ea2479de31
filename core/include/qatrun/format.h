/* format.h - what a file format offers: tensors and documents, read and written. */
#ifndef QATRUN_FORMAT_H
#define QATRUN_FORMAT_H

#include <qatrun/plugin.h>
#include <qatrun/model.h>
#include <qatrun/tensor.h>

/* Documents that a checkpoint may carry, all JSON text. */
enum {
	QAT_DOC_CONFIG = 1,	/* config.json, with model_type */
	QAT_DOC_TOKENIZER = 2,	/* tokenizer.json */
	QAT_DOC_STATE = 3,	/* the core's own: schemes, sites, contract, parent (native) */
	QAT_DOC_TOKENIZER_CONFIG = 4,
	QAT_DOC_GENERATION_CONFIG = 5,
	QAT_DOCS = 6
};

typedef struct qat_text { const char *at; int64_t length; } qat_text;	/* at NULL: none */

/* What save gets. */
typedef struct qat_checkpoint {
	uint32_t size, reserved;
	const char *family;
	qat_text docs[QAT_DOCS];		/* by QAT_DOC_* */
	int64_t n_tensors;
	const qat_tensor *const *tensors;	/* store names for a native format, else */
	const qat_param *const *params;		/* params[i] describes tensors[i], may be NULL */
	/* Content of a tensor that has bytes, but no data: it is there until the next call.
	 * Only for formats that have let_go's place in their table. */
	int (*content)(void *context, int64_t index, const void **data);
	void *context;
} qat_checkpoint;

typedef struct qat_format {
	uint32_t size, reserved;

	/* 1 if `path` (a file or a folder) looks like this format, by name and first bytes
	 * alone; 0 if not; negative only on an I/O error. */
	int (*probe)(const char *path);

	/* Open and check all of the structure, none of the values. Files are mapped. */
	int (*open)(void **file, const char *path);
	void (*close)(void *file);

	/* Borrowed text, valid until close; at NULL when the file has none. */
	int (*document)(void *file, uint32_t which, qat_text *out);

	/* Describe the tensor that holds a parameter. Where it lies in the file just as the
	 * store wants it (order and rows), out->data points at it; else data is NULL and
	 * read must be used; out->dtype is then QAT_F32 or what read will give back best.
	 * out->shape is in the store's order. QAT_ENOTFOUND (without a message) if absent. */
	int (*find)(void *file, const qat_param *p, qat_tensor *out);

	/* rows [row, row + rows) as f32; a vector is one row. */
	int (*read)(void *file, const qat_param *p, float *out, int64_t row, int64_t rows);

	/* Names of all tensors, as find gives them: NULL past the end, "" for one that is no
	 * parameter, as it is part of a document. */
	const char *(*tensor_name)(void *file, int64_t index);

	/* Write `path` (a new folder or file) so that it is either whole or absent.
	 * NULL: this format only reads. */
	int (*save)(const char *path, const qat_checkpoint *c);

	/* Write named tensors alone as one file, whole or absent. NULL: cannot. */
	int (*write)(const char *path, const qat_tensor *const *tensors, int64_t count);

	/* What was read of a mapped file may leave memory; it comes back when it is read again,
	 * at the same address. NULL: nothing is mapped. */
	void (*let_go)(void *file);
} qat_format;

#endif
