/* fuzz_safetensors.c - a file of tensors: header, offsets, values. */
#include "fuzz.h"

#include <string.h>

#include "safetensors.h"

enum { VALUES = 64 };

static void use_tensor(const qat_safetensors *f, const qat_st_tensor *t)
{
	float out[VALUES];
	const int64_t bytes = t->end - t->begin;

	fuzz_assert(qat_st_find(f, t->name));
	fuzz_touch(t->data, (size_t)bytes);
	if (!qat_st_read(f, t, out, 0, bytes < VALUES ? bytes / 8 : VALUES / 8))
		fuzz_touch(out, sizeof *out * (size_t)(bytes < VALUES ? bytes / 8 : VALUES / 8));
	qat_st_read(f, t, out, INT64_MAX, 1);
	if (t->rank == 2 && t->shape[0] <= VALUES)
		qat_st_read_columns(f, t, out, t->shape[1] - 1, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	qat_safetensors *f;

	if (qat_st_open(&f, fuzz_file(data, size)))
		return 0;
	for (int64_t i = 0; i < qat_st_count(f); i++)
		use_tensor(f, qat_st_at(f, i));
	qat_st_metadata(f, "format");
	qat_st_close(f);
	return 0;
}
