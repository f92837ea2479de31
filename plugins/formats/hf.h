/* hf.h - writing a Hugging Face folder. */
#ifndef QAT_FORMAT_HF_H
#define QAT_FORMAT_HF_H

#include "safetensors.h"

/* Names in a folder that reading and writing share. */
#define HF_TENSORS "model.safetensors"
#define HF_INDEX "model.safetensors.index.json"

extern QAT_HIDDEN const char *const qat_hf_docs[QAT_DOCS];	/* NULL: not stored */

/* Write a new folder; tensors beyond `limit` bytes go to further shards. */
int qat_hf_save(const char *path, const qat_checkpoint *c, int64_t limit);

#endif
