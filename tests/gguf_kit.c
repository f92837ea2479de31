/* gguf_kit.c - see gguf_kit.h. */
#include "gguf_kit.h"

#include <string.h>

const qat_format *gguf;
builder *b;

void setup(void)
{
	gguf = kit_format();
	kit_begin();
}

void build_begin(void)
{
	static builder made;

	memset(&made, 0, sizeof made);
	made.version = 3;
	made.alignment = 32;
	b = &made;
}

void add_string(kit_bytes *to, const char *text)
{
	kit_add_int(to, strlen(text), 8);
	kit_add(to, text, strlen(text));
}

void add_key(const char *key, uint32_t type)
{
	b->n_values++;
	add_string(&b->values, key);
	kit_add_int(&b->values, type, 4);
}

void add_u32(const char *key, uint32_t value)
{
	add_key(key, GGUF_U32);
	kit_add_int(&b->values, value, 4);
}

void add_float(const char *key, float value)
{
	add_key(key, GGUF_FLOAT);
	kit_add_float(&b->values, value);
}

void add_bool(const char *key, int value)
{
	add_key(key, GGUF_BOOL);
	kit_add_int(&b->values, (uint64_t)value, 1);
}

void add_text(const char *key, const char *value)
{
	add_key(key, GGUF_STRING);
	add_string(&b->values, value);
}

void add_texts(const char *key, const char *const *texts)
{
	uint64_t n = 0;

	while (texts[n])
		n++;
	add_key(key, GGUF_ARRAY);
	kit_add_int(&b->values, GGUF_STRING, 4);
	kit_add_int(&b->values, n, 8);
	for (uint64_t i = 0; i < n; i++)
		add_string(&b->values, texts[i]);
}

void add_ints(const char *key, const int *ints, uint64_t n)
{
	add_key(key, GGUF_ARRAY);
	kit_add_int(&b->values, GGUF_I32, 4);
	kit_add_int(&b->values, n, 8);
	for (uint64_t i = 0; i < n; i++)
		kit_add_int(&b->values, (uint32_t)ints[i], 4);
}

void data_pad(kit_bytes *to)
{
	while (to->length % b->alignment)
		kit_add(to, "", 1);
}

void add_tensor(const char *name, uint32_t type, uint64_t columns, uint64_t rows,
		       const void *data, size_t bytes)
{
	b->n_tensors++;
	add_string(&b->tensors, name);
	kit_add_int(&b->tensors, rows ? 2 : 1, 4);
	kit_add_int(&b->tensors, columns, 8);
	if (rows)
		kit_add_int(&b->tensors, rows, 8);
	kit_add_int(&b->tensors, type, 4);
	kit_add_int(&b->tensors, b->data.length, 8);
	kit_add(&b->data, data, bytes);
	data_pad(&b->data);
}

void add_counted(const char *name, uint64_t columns, uint64_t rows)
{
	float data[256];
	const size_t n = columns * (rows ? rows : 1);

	for (size_t i = 0; i < n; i++)
		data[i] = (float)i;
	add_tensor(name, F32, columns, rows, data, n * sizeof *data);
}

void build_put(const char *name)
{
	static kit_bytes out;

	out.length = 0;
	kit_add(&out, "GGUF", 4);
	kit_add_int(&out, b->version, 4);
	kit_add_int(&out, b->n_tensors, 8);
	kit_add_int(&out, b->n_values, 8);
	kit_add(&out, b->values.at, b->values.length);
	kit_add(&out, b->tensors.at, b->tensors.length);
	data_pad(&out);
	kit_add(&out, b->data.at, b->data.length);
	kit_put(name, out.at, out.length);
}

int build_open(void **file)
{
	*file = NULL;
	build_put("f.gguf");
	return gguf->open(file, kit_path("f.gguf"));
}

void *build_opened(void)
{
	void *file;
	const int rc = build_open(&file);

	ck_assert_msg(rc == QAT_OK, "%s", kit_message());
	return file;
}

qat_param param(const char *name, int64_t heads)
{
	return (qat_param){ .size = sizeof(qat_param), .name = name, .hub_name = "x",
			    .heads = heads, .flags = heads ? QAT_PARAM_ROPE_ROWS : 0 };
}

void llama_begin(void)
{
	build_begin();
	add_text("general.architecture", "llama");
}
