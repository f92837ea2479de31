/* fuzz_jsonl.c - a data set of JSON lines, with a tokenizer that takes bytes as ids. */
#include "fuzz.h"

#include <stdlib.h>

#include <qatrun/dataset.h>

#include "option.h"

extern const qat_plugin qat_plugin_v1;

enum { LENGTH = 4, VOCABULARY = 300 };

static int encode(void *context, const char *text, int64_t bytes, int32_t **ids, int64_t *count)
{
	int32_t *at = malloc((size_t)(bytes + 1) * sizeof *at);

	(void)context;
	fuzz_assert(at);
	for (int64_t i = 0; i < bytes; i++)
		at[i] = (unsigned char)text[i];
	*ids = at;
	*count = bytes;
	return QAT_OK;
}

static void release(void *context, int32_t *ids)
{
	(void)context;
	free(ids);
}

static void use(const qat_dataset *d, const void *set)
{
	const int64_t n = d->count(set);
	int32_t tokens[LENGTH], labels[LENGTH];

	fuzz_assert(n > 0);
	for (int64_t i = 0; i < n; i++) {
		fuzz_assert(!d->get(set, i, tokens, labels));
		for (int t = 0; t < LENGTH; t++)
			fuzz_assert(tokens[t] >= 0 && tokens[t] < VOCABULARY &&
				    labels[t] >= -100 && labels[t] < VOCABULARY);
	}
	fuzz_assert(d->get(set, n, tokens, labels));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const qat_interface *i;
	const qat_dataset_env env = { .size = sizeof env, .length = LENGTH, .bos = -1,
				      .vocabulary = VOCABULARY, .encode = encode,
				      .release = release, .name = "fuzz" };
	qat_option_env options = { .folder = "/" };
	qat_option_source none = { .owner = "fuzz" };
	const char *path = fuzz_file(data, size);
	const qat_dataset *d;
	void *self, *set;

	if (!i)
		i = fuzz_interface(&qat_plugin_v1);
	d = i->vtable;
	fuzz_assert(!qat_arena_new(&options.arena));
	self = qat_arena_alloc(options.arena, i->options_size);
	fuzz_assert(self && !qat_option_fill(self, i->options, &none, &options));
	*(qat_strings *)self = (qat_strings){ &path, 1 };	/* files: its first option */
	if (!d->open(&set, self, &env)) {
		use(d, set);
		d->close(set);
	}
	qat_arena_free(options.arena);
	return 0;
}
