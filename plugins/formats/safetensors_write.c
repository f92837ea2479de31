/* safetensors_write.c - writing: the header first, then the tensors as they lie in
 * memory, widest types first, so that every one is aligned by nature. */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/json.h>

#include "safetensors.h"

enum { BUFFER_BYTES = 1 << 20 };

/* name: in the file. order: of the reference writer, which sorts it downwards.
 * noted: the type is kept in the metadata, the file says U8. */
static const struct { const char *name; int order, noted; } types[] = {
	[QAT_F32] = { "F32", 17, 0 }, [QAT_BF16] = { "BF16", 14, 0 }, [QAT_F16] = { "F16", 13, 0 },
	[QAT_F64] = { "F64", 19, 0 }, [QAT_I8] = { "I8", 5, 0 }, [QAT_U8] = { "U8", 4, 0 },
	[QAT_I32] = { "I32", 15, 0 }, [QAT_I64] = { "I64", 20, 0 },
	[QAT_E8M0] = { "U8", 4, 1 }, [QAT_E4M3] = { "U8", 4, 1 },
};

/* As the reader's own table has them. */
static const char *noted_name(uint32_t dtype)
{
	return dtype == QAT_E8M0 ? "F8_E8M0" : "F8_E4M3";
}

static int by_type_then_name(const void *a, const void *b)
{
	const qat_st_item *const *x = a, *const *y = b;
	const int dx = types[(*x)->tensor->dtype].order, dy = types[(*y)->tensor->dtype].order;

	return dx != dy ? dy - dx : strcmp((*x)->name, (*y)->name);
}

static int has_content(const qat_st_item *item)
{
	return item->from && item->from->size >= sizeof *item->from && item->from->content;
}

/* The caller's tensor holds together. */
static int item_check(const char *path, const qat_st_item *item)
{
	const qat_tensor *t = item->tensor;
	int64_t bytes = qat_dtype_bytes(t->dtype);

	if (!bytes)
		return qat_fail(QAT_EINVAL, "%s: tensor \"%s\": unknown type %u", path, item->name,
				(unsigned)t->dtype);
	if (t->rank < 0 || t->rank > QAT_MAX_RANK)
		return qat_fail(QAT_EINVAL, "%s: tensor \"%s\": rank %lld", path, item->name,
				(long long)t->rank);
	for (int64_t i = 0; i < t->rank; i++)
		if (t->shape[i] < 0 || __builtin_mul_overflow(bytes, t->shape[i], &bytes))
			return qat_fail(QAT_EINVAL, "%s: tensor \"%s\": impossible shape", path,
					item->name);
	if (bytes != t->bytes || (bytes && !t->data && !has_content(item)))
		return qat_fail(QAT_EINVAL, "%s: tensor \"%s\": %lld bytes in memory, its shape "
				"needs %lld", path, item->name,
				(long long)(t->data ? t->bytes : 0), (long long)bytes);
	if (item->transpose && t->rank != 2)
		return qat_fail(QAT_EINVAL, "%s: tensor \"%s\": only a matrix can be transposed",
				path, item->name);
	return QAT_OK;
}

static json_t *item_json(const qat_st_item *item, int64_t begin)
{
	const qat_tensor *t = item->tensor;
	json_t *shape = json_array(), *offsets = json_array(), *entry = json_object();
	int bad = !shape || !offsets || !entry;

	for (int64_t i = 0; i < t->rank; i++) {
		const int64_t at = item->transpose ? t->rank - 1 - i : i;

		bad |= json_array_append_new(shape, json_integer(t->shape[at]));
	}
	bad |= json_array_append_new(offsets, json_integer(begin));
	bad |= json_array_append_new(offsets, json_integer(begin + t->bytes));
	bad |= json_object_set_new(entry, "dtype", json_string(types[t->dtype].name));
	bad |= json_object_set_new(entry, "shape", shape);
	bad |= json_object_set_new(entry, "data_offsets", offsets);
	if (bad) {
		json_decref(entry);
		return NULL;
	}
	return entry;
}

static json_t *metadata_json(const qat_st_item *const *items, int64_t count,
			     const char *const *metadata)
{
	json_t *object = json_object();
	int bad = !object;

	for (; metadata && metadata[0]; metadata += 2)
		bad |= json_object_set_new(object, metadata[0], json_string(metadata[1]));
	for (int64_t i = 0; i < count; i++) {
		char *key;

		if (!types[items[i]->tensor->dtype].noted)
			continue;
		if (asprintf(&key, "dtype.%s", items[i]->name) < 0) {
			bad = 1;
			break;
		}
		bad |= json_object_set_new(object, key,
					   json_string(noted_name(items[i]->tensor->dtype)));
		free(key);
	}
	if (bad) {
		json_decref(object);
		return NULL;
	}
	return object;
}

/* The header's text, in order of the data. */
static int header_text(char **out, const char *path, const qat_st_item *const *items,
		       int64_t count, const char *const *metadata)
{
	json_t *header = json_object(), *noted = metadata_json(items, count, metadata);
	int64_t at = 0;
	int rc = QAT_OK, bad = 0;

	if (noted && json_object_size(noted))
		bad = json_object_set(header, "__metadata__", noted);
	if (!header || !noted || bad)
		rc = qat_fail(QAT_ENOMEM, "%s: no memory for metadata, or not UTF-8", path);
	json_decref(noted);
	for (int64_t i = 0; !rc && i < count; i++) {
		const char *name = items[i]->name;

		if (json_object_get(header, name))
			rc = qat_fail(QAT_EINVAL, "%s: two tensors are named \"%s\"", path, name);
		else if (json_object_set_new(header, name, item_json(items[i], at)))
			rc = qat_fail(QAT_EINVAL, "%s: tensor \"%s\": no memory, or a name that "
				      "is not UTF-8", path, name);
		else if (__builtin_add_overflow(at, items[i]->tensor->bytes, &at))
			rc = qat_fail(QAT_EINVAL, "%s: more bytes than can be counted", path);
	}
	if (!rc) {
		*out = qat_json_print(header, JSON_COMPACT);
		if (!*out)
			rc = qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	}
	json_decref(header);
	return rc;
}

static int header_write(qat_draft *d, const char *text)
{
	static const char spaces[] = "        ";
	const int64_t length = (int64_t)strlen(text), pad = (8 - length % 8) % 8;
	const uint64_t n = htole64((uint64_t)(length + pad));
	int rc = qat_draft_write(d, &n, sizeof n);

	if (!rc)
		rc = qat_draft_write(d, text, length);
	return rc ? rc : qat_draft_write(d, spaces, pad);
}

/* As many columns at a time as the buffer holds, one at least. */
static int transposed_write(qat_draft *d, const qat_tensor *t)
{
	const int64_t size = qat_dtype_bytes(t->dtype), rows = t->shape[0], width = t->shape[1];
	const int64_t line = rows * size;
	const int64_t most = line && line < BUFFER_BYTES ? BUFFER_BYTES / line : 1;
	char *buffer = malloc((size_t)(most * line) + 1);
	int rc = QAT_OK;

	if (!buffer)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", d->path);
	for (int64_t c = 0; !rc && c < width; c += most) {
		const int64_t n = most < width - c ? most : width - c;

		for (int64_t r = 0; r < rows; r++)
			for (int64_t i = 0; i < n; i++)
				memcpy(buffer + (i * rows + r) * size,
				       (const char *)t->data + (r * width + c + i) * size,
				       (size_t)size);
		rc = qat_draft_write(d, buffer, n * line);
	}
	free(buffer);
	return rc;
}

static int item_write(qat_draft *d, const qat_st_item *item)
{
	const qat_checkpoint *from = item->from;
	qat_tensor t = *item->tensor;
	const void *data = t.data;
	int rc = QAT_OK;

	if (!data && t.bytes)
		rc = from->content(from->context, item->index, &data);
	t.data = (void *)(uintptr_t)data;
	if (!rc)
		rc = item->transpose ? transposed_write(d, &t) : qat_draft_write(d, data, t.bytes);
	return rc;
}

static int items_write(const char *path, const char *header, const qat_st_item *const *items,
		       int64_t count)
{
	qat_draft d = { 0 };
	int rc = qat_draft_begin(&d, path);

	if (!rc)
		rc = header_write(&d, header);
	for (int64_t i = 0; !rc && i < count; i++)
		rc = item_write(&d, items[i]);
	if (!rc)
		rc = qat_draft_commit(&d);
	qat_draft_end(&d);
	return rc;
}

int qat_st_write(const char *path, const qat_st_item *items, int64_t count,
		 const char *const *metadata)
{
	const qat_st_item **sorted = calloc((size_t)count + 1, sizeof *sorted);
	char *header = NULL;
	int rc = QAT_OK;

	if (!sorted)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	for (int64_t i = 0; !rc && i < count; i++) {
		sorted[i] = &items[i];
		rc = item_check(path, &items[i]);
	}
	if (!rc) {
		qsort(sorted, (size_t)count, sizeof *sorted, by_type_then_name);
		rc = header_text(&header, path, sorted, count, metadata);
	}
	if (!rc)
		rc = items_write(path, header, sorted, count);
	free(header);
	free(sorted);
	return rc;
}
