/* safetensors.c - reading: every claim of the header is checked against the others and
 * against the file's size before anybody follows it. */
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <qatrun/numerics.h>
#include "safetensors.h"

#define HEADER_LIMIT 100000000	/* the reference reader's */
#define SHOWN "%.200s"		/* a name from a file, in a message */

struct qat_safetensors {
	char *path;
	qat_map map;
	json_t *header;			/* owns all strings */
	const json_t *metadata;		/* an object, or NULL */
	int64_t count;
	qat_st_tensor *tensors;		/* in the order of their data */
	const qat_st_tensor **by_name;
};

typedef struct { const char *name; uint32_t dtype; int bits; } type_entry;

/* Every type that a file may hold; those without a dtype can only be listed. */
static const type_entry types[] = {
	{ "F32", QAT_F32, 32 }, { "BF16", QAT_BF16, 16 }, { "F16", QAT_F16, 16 },
	{ "F64", QAT_F64, 64 }, { "I8", QAT_I8, 8 }, { "U8", QAT_U8, 8 },
	{ "I32", QAT_I32, 32 }, { "I64", QAT_I64, 64 }, { "F8_E8M0", QAT_E8M0, 8 },
	{ "F8_E4M3", QAT_E4M3, 8 }, { "BOOL", 0, 8 }, { "F4", 0, 4 }, { "F6_E2M3", 0, 6 },
	{ "F6_E3M2", 0, 6 }, { "F8_E5M2", 0, 8 }, { "F8_E4M3FNUZ", 0, 8 },
	{ "F8_E5M2FNUZ", 0, 8 }, { "I16", 0, 16 }, { "U16", 0, 16 }, { "U32", 0, 32 },
	{ "C64", 0, 64 }, { "U64", 0, 64 },
};

static const type_entry *type_find(const char *name)
{
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (!strcmp(types[i].name, name))
			return &types[i];
	return NULL;
}

/* ---- header ---- */

static int bad_tensor(const qat_safetensors *f, const qat_st_tensor *t, const char *why)
{
	return qat_fail(QAT_EFORMAT, "%s: tensor \"" SHOWN "\": %s", f->path, t->name, why);
}

/* A count or an offset; -1 when it is no such thing. */
static int64_t natural(const json_t *value)
{
	return json_is_integer(value) && json_integer_value(value) >= 0
		? json_integer_value(value) : -1;
}

/* Elements of the shape, with the shape kept as far as we can. */
static int shape_read(const qat_safetensors *f, qat_st_tensor *t, const json_t *shape,
		      int64_t *elements)
{
	int64_t product = 1;

	if (!json_is_array(shape))
		return bad_tensor(f, t, "no shape");
	t->rank = (int64_t)json_array_size(shape);
	for (int64_t i = 0; i < QAT_MAX_RANK; i++)
		t->shape[i] = 1;
	for (int64_t i = 0; i < t->rank; i++) {
		const int64_t n = natural(json_array_get(shape, (size_t)i));

		if (n < 0)
			return bad_tensor(f, t, "a dimension is not a number of elements");
		if (__builtin_mul_overflow(product, n, &product))
			return bad_tensor(f, t, "the shape has more elements than can be counted");
		if (t->rank <= QAT_MAX_RANK)
			t->shape[i] = n;
	}
	*elements = product;
	return QAT_OK;
}

static int tensor_read(const qat_safetensors *f, qat_st_tensor *t, const json_t *entry)
{
	const char *type = json_string_value(json_object_get(entry, "dtype"));
	const json_t *offsets = json_object_get(entry, "data_offsets");
	const type_entry *known;
	int64_t elements = 0, bits;
	int rc;

	if (!json_is_object(entry))
		return bad_tensor(f, t, "not described by an object");
	if (!type)
		return bad_tensor(f, t, "no dtype");
	known = type_find(type);
	if (!known)
		return qat_fail(QAT_EFORMAT, "%s: tensor \"" SHOWN "\": unknown dtype \"%.40s\"",
				f->path, t->name, type);
	t->type = known->name;
	t->dtype = known->dtype;
	rc = shape_read(f, t, json_object_get(entry, "shape"), &elements);
	if (rc)
		return rc;
	if (!json_is_array(offsets) || json_array_size(offsets) != 2)
		return bad_tensor(f, t, "data_offsets are not two numbers");
	t->begin = natural(json_array_get(offsets, 0));
	t->end = natural(json_array_get(offsets, 1));
	if (t->begin < 0 || t->end < t->begin)
		return bad_tensor(f, t, "data_offsets are not in order");
	if (__builtin_mul_overflow(elements, known->bits, &bits))
		return bad_tensor(f, t, "the shape has more elements than can be counted");
	if (bits % 8)
		return bad_tensor(f, t, "ends inside a byte");
	if (t->end - t->begin != bits / 8)
		return qat_fail(QAT_EFORMAT, "%s: tensor \"" SHOWN "\": data_offsets span %lld "
				"bytes, its shape needs %lld", f->path, t->name,
				(long long)(t->end - t->begin), (long long)(bits / 8));
	return QAT_OK;
}

static int metadata_read(qat_safetensors *f, const json_t *metadata)
{
	const char *key;
	json_t *value;

	if (json_is_null(metadata))
		return QAT_OK;
	if (!json_is_object(metadata))
		return qat_fail(QAT_EFORMAT, "%s: __metadata__ is not an object", f->path);
	json_object_foreach((json_t *)(uintptr_t)metadata, key, value)
		if (!json_is_string(value))
			return qat_fail(QAT_EFORMAT, "%s: __metadata__: \"" SHOWN
					"\" is not a string", f->path, key);
	f->metadata = metadata;
	return QAT_OK;
}

static int tensors_read(qat_safetensors *f)
{
	const size_t n = json_object_size(f->header);
	const char *key;
	json_t *value;
	int rc = QAT_OK;

	f->tensors = calloc(n + 1, sizeof *f->tensors);
	f->by_name = calloc(n + 1, sizeof *f->by_name);
	if (!f->tensors || !f->by_name)
		return qat_fail(QAT_ENOMEM, "%s: out of memory for %zu tensors", f->path, n);
	json_object_foreach(f->header, key, value) {
		if (!strcmp(key, "__metadata__")) {
			rc = metadata_read(f, value);
		} else {
			qat_st_tensor *t = &f->tensors[f->count++];

			t->name = key;
			rc = tensor_read(f, t, value);
		}
		if (rc)
			return rc;
	}
	return QAT_OK;
}

static int by_offset(const void *a, const void *b)
{
	const qat_st_tensor *x = a, *y = b;

	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	if (x->end != y->end)
		return x->end < y->end ? -1 : 1;
	return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
	const qat_st_tensor *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

/* Tensors fill the data from its first byte to its last, each once. */
static int layout_check(qat_safetensors *f, int64_t start)
{
	const int64_t size = f->map.length - start;
	int64_t at = 0;

	qsort(f->tensors, (size_t)f->count, sizeof *f->tensors, by_offset);
	for (int64_t i = 0; i < f->count; i++) {
		qat_st_tensor *t = &f->tensors[i];

		if (t->begin != at)
			return bad_tensor(f, t, t->begin < at ? "overlaps the one before it"
							      : "a hole lies before it");
		if (t->end > size)
			return qat_fail(QAT_EFORMAT, "%s: tensor \"" SHOWN "\" ends at byte %lld "
					"of %lld: the file is cut off", f->path, t->name,
					(long long)t->end, (long long)size);
		at = t->end;
		t->data = f->map.at + start + t->begin;
		f->by_name[i] = t;
	}
	if (at != size)
		return qat_fail(QAT_EFORMAT, "%s: %lld bytes after the last tensor belong to none",
				f->path, (long long)(size - at));
	qsort(f->by_name, (size_t)f->count, sizeof *f->by_name, by_name);
	return QAT_OK;
}

static int header_read(qat_safetensors *f)
{
	uint64_t n;
	int rc;

	if (f->map.length < 8)
		return qat_fail(QAT_EFORMAT, "%s: %lld bytes are too short for a header", f->path,
				(long long)f->map.length);
	memcpy(&n, f->map.at, sizeof n);
	n = le64toh(n);
	if (n > HEADER_LIMIT)
		return qat_fail(QAT_EFORMAT, "%s: a header of %llu bytes: more than %d, or not "
				"such a file", f->path, (unsigned long long)n, HEADER_LIMIT);
	if ((int64_t)n > f->map.length - 8)
		return qat_fail(QAT_EFORMAT, "%s: the header has %llu bytes, the file %lld: it is "
				"cut off", f->path, (unsigned long long)n,
				(long long)f->map.length);
	rc = qat_json_load(&f->header, (const char *)f->map.at + 8, (int64_t)n, f->path);
	if (rc)
		return rc;
	if (!json_is_object(f->header))
		return qat_fail(QAT_EFORMAT, "%s: the header is not an object", f->path);
	rc = tensors_read(f);
	return rc ? rc : layout_check(f, 8 + (int64_t)n);
}

int qat_st_open(qat_safetensors **out, const char *path)
{
	qat_safetensors *f = calloc(1, sizeof *f);
	int rc;

	if (f)
		f->path = strdup(path);
	if (!f || !f->path) {
		rc = qat_fail(QAT_ENOMEM, "%s: out of memory", path);
		goto out;
	}
	rc = qat_map_open(&f->map, path);
	if (!rc)
		rc = header_read(f);
	if (rc)
		goto out;
	*out = f;
	f = NULL;
out:
	qat_st_close(f);
	return rc;
}

void qat_st_close(qat_safetensors *file)
{
	if (!file)
		return;
	json_decref(file->header);
	free(file->tensors);
	free(file->by_name);
	qat_map_close(&file->map);
	free(file->path);
	free(file);
}

/* ---- access ---- */

void qat_st_let_go(const qat_safetensors *file)
{
	qat_map_let_go(&file->map);
}

const char *qat_st_path(const qat_safetensors *file)
{
	return file->path;
}

int64_t qat_st_count(const qat_safetensors *file)
{
	return file->count;
}

const qat_st_tensor *qat_st_at(const qat_safetensors *file, int64_t index)
{
	return index >= 0 && index < file->count ? &file->tensors[index] : NULL;
}

const qat_st_tensor *qat_st_find(const qat_safetensors *file, const char *name)
{
	const qat_st_tensor key = { .name = name }, *at = &key;
	const qat_st_tensor **hit = bsearch(&at, file->by_name, (size_t)file->count,
					    sizeof *file->by_name, by_name);

	return hit ? *hit : NULL;
}

const char *qat_st_metadata(const qat_safetensors *file, const char *key)
{
	return json_string_value(json_object_get(file->metadata, key));
}

int qat_st_aligned(const qat_st_tensor *t)
{
	const int64_t bytes = qat_dtype_bytes(t->dtype);

	return bytes && (uintptr_t)t->data % (uintptr_t)bytes == 0;
}

/* ---- values ---- */

/* The data may lie on any byte, hence memcpy. */
static float from_f32(const uint8_t *at)
{
	uint32_t u;

	memcpy(&u, at, sizeof u);
	return qat_f32_from_bits(le32toh(u));
}

static uint16_t word(const uint8_t *at)
{
	return (uint16_t)(at[0] | at[1] << 8);
}

static float from_bf16(const uint8_t *at)
{
	return qat_bf16_to_f32(word(at));
}

static float from_f16(const uint8_t *at)
{
	return qat_f16_to_f32(word(at));
}

static float from_f64(const uint8_t *at)
{
	uint64_t u;
	double x;

	memcpy(&u, at, sizeof u);
	u = le64toh(u);
	memcpy(&x, &u, sizeof x);
	return (float)x;
}

typedef float (*convert)(const uint8_t *at);

/* NULL with a message. */
static convert convert_find(const qat_safetensors *file, const qat_st_tensor *t)
{
	static const convert by_dtype[] = {
		[QAT_F32] = from_f32, [QAT_BF16] = from_bf16, [QAT_F16] = from_f16,
		[QAT_F64] = from_f64,
	};

	if (t->dtype < sizeof by_dtype / sizeof *by_dtype && by_dtype[t->dtype])
		return by_dtype[t->dtype];
	qat_fail(QAT_ENOTSUP, "%s: tensor \"" SHOWN "\" is %s, not F32, BF16, F16 or F64",
		 file->path, t->name, t->type);
	return NULL;
}

static int64_t elements_of(const qat_st_tensor *t)
{
	return t->dtype ? (t->end - t->begin) / qat_dtype_bytes(t->dtype) : 0;
}

int qat_st_read(const qat_safetensors *file, const qat_st_tensor *t, float *out, int64_t first,
		int64_t count)
{
	const int64_t bytes = qat_dtype_bytes(t->dtype), n = elements_of(t);
	const convert from = convert_find(file, t);
	const uint8_t *at;

	if (!from)
		return QAT_ENOTSUP;
	if (first < 0 || count < 0 || first > n || count > n - first)
		return bad_tensor(file, t, "asked for more than it has");
	at = t->data + first * bytes;
	for (int64_t i = 0; i < count; i++, at += bytes)
		out[i] = from(at);
	return QAT_OK;
}

int qat_st_read_columns(const qat_safetensors *file, const qat_st_tensor *t, float *out,
			int64_t column, int64_t columns)
{
	const int64_t bytes = qat_dtype_bytes(t->dtype), rows = t->shape[0], width = t->shape[1];
	const convert from = convert_find(file, t);

	if (!from)
		return QAT_ENOTSUP;
	if (t->rank != 2)
		return bad_tensor(file, t, "is no matrix, so it cannot be transposed");
	if (column < 0 || columns < 0 || column > width || columns > width - column)
		return bad_tensor(file, t, "asked for more than it has");
	for (int64_t r = 0; r < rows; r++) {
		const uint8_t *at = t->data + (r * width + column) * bytes;

		for (int64_t c = 0; c < columns; c++, at += bytes)
			out[c * rows + r] = from(at);
	}
	return QAT_OK;
}
