/* fuzz_hf.c - a folder whose index lists tensors in shards: the index is the input. */
#include "fuzz.h"

#include <string.h>

#include <qatrun/format.h>

extern const qat_plugin qat_plugin_v1;

static void put_shard(const char *name, const char *header)
{
	unsigned char file[256] = { (unsigned char)strlen(header) };
	const size_t n = strlen(header);

	memcpy(file + 8, header, n);
	fuzz_put(name, file, 8 + n + 8);
}

static const qat_format *start(void)
{
	fuzz_put("config.json", "{}", 2);
	put_shard("a.safetensors",
		  "{\"model.embed_tokens.weight\":{\"dtype\":\"F32\",\"shape\":[1,2],"
		  "\"data_offsets\":[0,8]}}");
	put_shard("b.safetensors",
		  "{\"norm.weight\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,8]}}");
	return fuzz_interface(&qat_plugin_v1)->vtable;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const qat_format *f;
	const qat_param p = { .size = sizeof p, .name = "embed.weight", .rank = 2,
			      .hub_name = "model.embed_tokens.weight", .shape = { 1, 2 } };
	qat_tensor t = { .size = sizeof t };
	float out[2];
	void *file;

	if (!f)
		f = start();
	fuzz_put("model.safetensors.index.json", data, size);
	if (f->open(&file, fuzz_folder()))
		return 0;
	for (int64_t i = 0; f->tensor_name(file, i); i++)
		;
	if (!f->find(file, &p, &t))
		f->read(file, &p, out, 0, 1);
	f->close(file);
	return 0;
}
