/* fuzz_tokenizer.c - a tokenizer.json, and after a NUL a text that it encodes and decodes. */
#include "fuzz.h"

#include <string.h>

#include <qatrun/tokenizer.h>

extern const qat_plugin qat_plugin_v1;

static void use(const qat_tokenizer *t, void *self, const char *text, size_t length)
{
	const int64_t vocabulary = t->vocab_size(self);
	qat_ids ids = { 0 };
	char *back = NULL;
	int64_t n = 0;

	for (int i = 0; i < 6; i++)
		fuzz_assert(t->special(self, i) < vocabulary);
	if (t->encode(self, text, (int64_t)length, &ids))
		return;
	for (int64_t i = 0; i < ids.count; i++)
		fuzz_assert(ids.at[i] >= 0 && ids.at[i] < vocabulary);
	if (!t->decode(self, ids.at, ids.count, &back, &n))
		fuzz_touch(back, (size_t)n + 1);
	t->release(back);
	t->release(ids.at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const qat_tokenizer *t;
	const uint8_t *end = size ? memchr(data, 0, size) : NULL;
	const size_t n = end ? (size_t)(end - data) : size;
	void *self;

	if (!t)
		t = fuzz_interface(&qat_plugin_v1)->vtable;
	if (t->open(&self, (const char *)data, (int64_t)n, "fuzz"))
		return 0;
	use(t, self, "Hello, world 12 \xff\xc3\xa9 <s>", 22);
	if (end)
		use(t, self, (const char *)end + 1, size - n - 1);
	t->close(self);
	return 0;
}
