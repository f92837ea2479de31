/* fuzz_gguf.c - a GGUF file: metadata, the documents that are made of it, tensors. */
#include "fuzz.h"

#include <stdlib.h>

#include <qatrun/format.h>

extern const qat_plugin qat_plugin_v1;

enum { VALUES = 1 << 12 };

static void use_param(const qat_format *f, void *file, qat_param p)
{
	qat_tensor t = { .size = sizeof t };
	float *out;

	p.size = sizeof p;
	if (f->find(file, &p, &t) || t.rank > 2)
		return;
	if (t.data)
		fuzz_touch(t.data, (size_t)t.bytes);
	if ((t.rank == 2 ? t.shape[1] : t.shape[0]) > VALUES)
		return;
	out = calloc(VALUES, sizeof *out);
	fuzz_assert(out);
	f->read(file, &p, out, t.rank == 2 ? t.shape[0] - 1 : 0, 1);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const qat_param params[] = {
		{ .name = "embed.weight", .rank = 2 },
		{ .name = "layers.0.attn.q.weight", .rank = 2, .heads = 2,
		  .flags = QAT_PARAM_ROPE_ROWS },
		{ .name = "layers.0.attn.k.bias", .rank = 1, .heads = 1,
		  .flags = QAT_PARAM_ROPE_ROWS },
		{ .name = "layers.0.mlp.up.weight", .rank = 2 },
		{ .name = "norm.weight", .rank = 1 },
		{ .name = "lm_head.weight", .rank = 2 },
	};
	static const qat_format *f;
	const char *path = fuzz_file(data, size);
	qat_text doc;
	void *file;

	if (!f)
		f = fuzz_interface(&qat_plugin_v1)->vtable;
	if (f->probe(path) <= 0 || f->open(&file, path))
		return 0;
	for (uint32_t i = 1; i < QAT_DOCS; i++)
		if (!f->document(file, i, &doc) && doc.at)
			fuzz_touch(doc.at, (size_t)doc.length);
	for (size_t i = 0; i < sizeof params / sizeof *params; i++)
		use_param(f, file, params[i]);
	for (int64_t i = 0; f->tensor_name(file, i); i++)
		;
	f->close(file);
	return 0;
}
