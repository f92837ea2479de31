/* bytes.c - a byte is a token: 256 ids, no file, no surprises. */
#include <stdlib.h>
#include <string.h>
#include <qatrun/plugin.h>
#include <qatrun/tokenizer.h>

static const char bytes_self;

static int bytes_open(void **out, const char *json, int64_t length, const char *name)
{
	if (json && length > 0)
		return qat_fail(QAT_EINVAL, "%s: the tokenizer `bytes` takes no file", name);
	*out = (void *)&bytes_self;
	return QAT_OK;
}

static void bytes_close(void *self)
{
	(void)self;
}

static int64_t bytes_vocab_size(const void *self)
{
	(void)self;
	return 256;
}

static int bytes_encode(const void *self, const char *text, int64_t length, qat_ids *out)
{
	int32_t *ids;

	(void)self;
	if (length < 0 || length > INT64_MAX / 8)
		return qat_fail(QAT_EINVAL, "bytes: no text has %lld bytes", (long long)length);
	ids = malloc((size_t)length * sizeof *ids + 1);
	if (!ids)
		return qat_fail(QAT_ENOMEM, "bytes: no memory for %lld ids", (long long)length);
	for (int64_t i = 0; i < length; i++)
		ids[i] = (unsigned char)text[i];
	if (!length) {
		free(ids);
		ids = NULL;
	}
	*out = (qat_ids){ .at = ids, .count = length };
	return QAT_OK;
}

static int bytes_decode(const void *self, const int32_t *ids, int64_t count, char **out,
			int64_t *length)
{
	char *text;
	int64_t n = 0;

	(void)self;
	if (count < 0 || count > INT64_MAX / 8)
		return qat_fail(QAT_EINVAL, "bytes: no text has %lld ids", (long long)count);
	text = malloc((size_t)count + 1);
	if (!text)
		return qat_fail(QAT_ENOMEM, "bytes: no memory for %lld bytes", (long long)count);
	for (int64_t i = 0; i < count; i++)
		if (ids[i] >= 0 && ids[i] < 256)
			text[n++] = (char)ids[i];
	text[n] = '\0';
	*out = text;
	*length = n;
	return QAT_OK;
}

static int32_t bytes_special(const void *self, int which)
{
	(void)self;
	(void)which;
	return -1;
}

static int bytes_is_special(const void *self, int32_t id)
{
	(void)self;
	(void)id;
	return 0;
}

static const qat_tokenizer bytes_vtable = {
	.size = sizeof(qat_tokenizer),
	.open = bytes_open,
	.close = bytes_close,
	.vocab_size = bytes_vocab_size,
	.encode = bytes_encode,
	.decode = bytes_decode,
	.special = bytes_special,
	.release = free,
	.is_special = bytes_is_special,
};

static const qat_interface bytes_interface = {
	.size = sizeof(qat_interface),
	.kind = QAT_KIND_TOKENIZER,
	.name = "bytes",
	.summary = "a byte is a token: 256 ids, no file",
	.vtable = &bytes_vtable,
};

static const qat_interface *const bytes_all[] = { &bytes_interface };

QAT_PLUGIN("bytes", bytes_all);
