/* gguf_file.c - the structure of a GGUF file, checked in one pass from front to back.
 * Nothing is copied but tensor names; metadata stays where it lies. */
#include <endian.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "gguf.h"

#define STRING_LIMIT (INT64_C(1) << 30)		/* the reference reader's, of arrays too */
#define KEY_SHOWN 100

enum { VALUE_LEAST = 8 + 1 + 4 + 1, TENSOR_LEAST = 8 + 4 + 4 + 8 };

/* Where reading is; never past the end. */
typedef struct {
	qat_gguf *file;
	int64_t at;
} cursor;

static const int8_t type_bytes[GGUF_TYPES] = {
	[GGUF_U8] = 1, [GGUF_I8] = 1, [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4,
	[GGUF_I32] = 4, [GGUF_FLOAT] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8,
	[GGUF_DOUBLE] = 8,
};

static uint32_t word32(const uint8_t *at)
{
	uint32_t u;

	memcpy(&u, at, sizeof u);
	return le32toh(u);
}

static uint64_t word64(const uint8_t *at)
{
	uint64_t u;

	memcpy(&u, at, sizeof u);
	return le64toh(u);
}

/* ---- a cursor's steps; what: for the message ---- */

static int take(const uint8_t **out, cursor *c, int64_t bytes, const char *what)
{
	if (bytes < 0 || bytes > c->file->map.length - c->at)
		return qat_fail(QAT_EFORMAT, "%s: cut off at byte %lld, inside %s", c->file->path,
				(long long)c->file->map.length, what);
	*out = c->file->map.at + c->at;
	c->at += bytes;
	return QAT_OK;
}

static int take_u32(uint32_t *out, cursor *c, const char *what)
{
	const uint8_t *at = NULL;
	const int rc = take(&at, c, 4, what);

	if (!rc)
		*out = word32(at);
	return rc;
}

/* A count or a length; QAT_EFORMAT above the limit. */
static int take_count(int64_t *out, cursor *c, int64_t limit, const char *what)
{
	const uint8_t *at = NULL;
	const int rc = take(&at, c, 8, what);
	uint64_t n;

	if (rc)
		return rc;
	n = word64(at);
	if (n > (uint64_t)limit)
		return qat_fail(QAT_EFORMAT, "%s: %s: %llu is more than %lld, which the file can "
				"hold", c->file->path, what, (unsigned long long)n,
				(long long)limit);
	*out = (int64_t)n;
	return QAT_OK;
}

static int take_string(qat_text *out, cursor *c, const char *what)
{
	const uint8_t *at = NULL;
	int64_t length = 0;
	int rc = take_count(&length, c, STRING_LIMIT, what);

	if (!rc)
		rc = take(&at, c, length, what);
	if (!rc)
		*out = (qat_text){ .at = (const char *)at, .length = length };
	return rc;
}

/* ---- metadata ---- */

static int array_read(qat_gguf_value *v, cursor *c, const char *key)
{
	const uint8_t *at = NULL;
	int rc = take_u32(&v->element, c, key);

	if (!rc)
		rc = take_count(&v->count, c, STRING_LIMIT, key);
	if (rc)
		return rc;
	v->at = c->file->map.at + c->at;
	if (v->element >= GGUF_TYPES || v->element == GGUF_ARRAY)
		return qat_fail(QAT_EFORMAT, "%s: %s: an array of type %u", c->file->path, key,
				(unsigned)v->element);
	if (v->element != GGUF_STRING)
		return take(&at, c, v->count * type_bytes[v->element], key);
	for (int64_t i = 0; !rc && i < v->count; i++) {
		qat_text skipped;

		rc = take_string(&skipped, c, key);
	}
	return rc;
}

/* How much of a key a message shows. */
static int shown(qat_text key)
{
	return key.length < KEY_SHOWN ? (int)key.length : KEY_SHOWN;
}

static int value_read(qat_gguf_value *v, cursor *c)
{
	char key[KEY_SHOWN + 1];
	qat_text text;
	int rc = take_string(&v->key, c, "the metadata");

	if (rc)
		return rc;
	if (!v->key.length)
		return qat_fail(QAT_EFORMAT, "%s: metadata with an empty key", c->file->path);
	snprintf(key, sizeof key, "%.*s", shown(v->key), v->key.at);
	rc = take_u32(&v->type, c, key);
	if (rc)
		return rc;
	v->at = c->file->map.at + c->at;
	if (v->type == GGUF_ARRAY) {
		rc = array_read(v, c, key);
	} else if (v->type == GGUF_STRING) {
		rc = take_string(&text, c, key);
		if (!rc) {
			v->at = (const uint8_t *)text.at;
			v->bytes = text.length;
		}
	} else if (v->type < GGUF_TYPES) {
		v->bytes = type_bytes[v->type];
		rc = take(&v->at, c, v->bytes, key);
	} else {
		rc = qat_fail(QAT_EFORMAT, "%s: %s: unknown type %u", c->file->path, key,
			      (unsigned)v->type);
	}
	return rc;
}

static int values_read(qat_gguf *g, cursor *c)
{
	int rc = QAT_OK;

	g->values = calloc((size_t)g->n_values + 1, sizeof *g->values);
	if (!g->values)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", g->path);
	for (int64_t i = 0; !rc && i < g->n_values; i++)
		rc = value_read(&g->values[i], c);
	if (rc)
		return rc;
	qsort(g->values, (size_t)g->n_values, sizeof *g->values, qat_gguf_key_order);
	for (int64_t i = 1; i < g->n_values; i++)
		if (!qat_gguf_key_order(&g->values[i - 1], &g->values[i]))
			return qat_fail(QAT_EFORMAT, "%s: metadata \"%.*s\" is there twice",
					g->path, shown(g->values[i].key), g->values[i].key.at);
	return QAT_OK;
}

static int alignment_read(qat_gguf *g)
{
	const qat_gguf_value *v = qat_gguf_find(g, NULL, "general.alignment");

	g->alignment = 32;
	if (!v)
		return QAT_OK;
	if (v->type != GGUF_U32)
		return qat_fail(QAT_EFORMAT, "%s: general.alignment is not a u32", g->path);
	g->alignment = word32(v->at);
	if (g->alignment < 1 || (g->alignment & (g->alignment - 1)))
		return qat_fail(QAT_EFORMAT, "%s: general.alignment is %lld, not a power of two",
				g->path, (long long)g->alignment);
	return QAT_OK;
}

/* ---- tensors ---- */

/* x rounded up to the alignment; -1 when out of range. */
static int64_t padded(const qat_gguf *g, int64_t x)
{
	int64_t sum;

	if (__builtin_add_overflow(x, g->alignment - 1, &sum))
		return -1;
	return sum & ~(g->alignment - 1);
}

static int bad_tensor(const qat_gguf *g, const qat_gguf_tensor *t, const char *why)
{
	return qat_fail(QAT_EFORMAT, "%s: tensor \"%s\": %s", g->path, t->name, why);
}

static int size_compute(const qat_gguf *g, qat_gguf_tensor *t)
{
	int64_t elements = 1;

	for (int64_t i = 0; i < GGUF_RANK; i++)
		if (t->dims[i] < 1 || __builtin_mul_overflow(elements, t->dims[i], &elements))
			return bad_tensor(g, t, "an impossible shape");
	if (t->dims[0] % t->type->elements)
		return qat_fail(QAT_EFORMAT, "%s: tensor \"%s\": rows of %lld elements are not "
				"whole blocks of %s", g->path, t->name, (long long)t->dims[0],
				t->type->name);
	if (__builtin_mul_overflow(elements / t->type->elements, t->type->bytes, &t->bytes))
		return bad_tensor(g, t, "an impossible shape");
	t->row_bytes = t->dims[0] / t->type->elements * t->type->bytes;
	return QAT_OK;
}

static int tensor_header(qat_gguf_tensor *t, int64_t *offset, cursor *c)
{
	qat_text name = { 0 };
	uint32_t rank = 0, type = 0;
	int rc = take_string(&name, c, "the list of tensors");

	if (rc)
		return rc;
	if (name.length >= GGUF_NAME || memchr(name.at, 0, (size_t)name.length))
		return qat_fail(QAT_EFORMAT, "%s: tensor \"%.60s...\": the name is no name of at "
				"most 63 bytes", c->file->path, name.length ? name.at : "");
	memcpy(t->name, name.at, (size_t)name.length);
	rc = take_u32(&rank, c, t->name);
	if (rc)
		return rc;
	if (rank > GGUF_RANK)
		return qat_fail(QAT_EFORMAT, "%s: tensor \"%s\" has %u dimensions, at most 4 are "
				"possible", c->file->path, t->name, (unsigned)rank);
	t->rank = rank;
	for (int64_t i = 0; i < GGUF_RANK; i++)
		t->dims[i] = 1;
	for (int64_t i = 0; !rc && i < t->rank; i++)
		rc = take_count(&t->dims[i], c, INT64_MAX, t->name);
	if (!rc)
		rc = take_u32(&type, c, t->name);
	if (!rc)
		rc = take_count(offset, c, INT64_MAX, t->name);
	if (rc)
		return rc;
	t->type = qat_gguf_type_find(type);
	if (!t->type)
		return qat_fail(QAT_ENOTSUP, "%s: tensor \"%s\" is of type %u, which is not known",
				c->file->path, t->name, (unsigned)type);
	return size_compute(c->file, t);
}

static int by_name(const void *a, const void *b)
{
	const qat_gguf_tensor *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

/* Offsets are kept in bytes until the list's end is known. */
static int tensors_list(qat_gguf *g, cursor *c, int64_t *offsets)
{
	int64_t at = 0;
	int rc = QAT_OK;

	for (int64_t i = 0; i < g->n_tensors; i++) {
		qat_gguf_tensor *t = &g->tensors[i];
		int64_t size;

		rc = tensor_header(t, &offsets[i], c);
		if (rc)
			return rc;
		if (offsets[i] != at)
			return qat_fail(QAT_EFORMAT, "%s: tensor \"%s\" lies at %lld, not at %lld "
					"where the one before it ends", g->path, t->name,
					(long long)offsets[i], (long long)at);
		size = padded(g, t->bytes);
		if (size < 0 || __builtin_add_overflow(at, size, &at))
			return bad_tensor(g, t, "an impossible shape");
		g->by_name[i] = t;
	}
	qsort(g->by_name, (size_t)g->n_tensors, sizeof *g->by_name, by_name);
	for (int64_t i = 1; i < g->n_tensors; i++)
		if (!strcmp(g->by_name[i - 1]->name, g->by_name[i]->name))
			return bad_tensor(g, g->by_name[i], "is there twice");
	return rc;
}

static int tensors_place(qat_gguf *g, int64_t start, const int64_t *offsets)
{
	const int64_t room = g->map.length - start;

	for (int64_t i = 0; i < g->n_tensors; i++) {
		qat_gguf_tensor *t = &g->tensors[i];

		if (start < 0 || room < 0 || offsets[i] > room || t->bytes > room - offsets[i])
			return qat_fail(QAT_EFORMAT, "%s: tensor \"%s\" does not lie in the file, "
					"which is cut off at byte %lld", g->path, t->name,
					(long long)g->map.length);
		t->data = g->map.at + start + offsets[i];
	}
	return QAT_OK;
}

static int tensors_read(qat_gguf *g, cursor *c)
{
	const size_t n = (size_t)g->n_tensors + 1;
	int64_t *offsets = calloc(n, sizeof *offsets);
	int rc;

	g->tensors = calloc(n, sizeof *g->tensors);
	g->by_name = calloc(n, sizeof *g->by_name);
	if (!offsets || !g->tensors || !g->by_name)
		rc = qat_fail(QAT_ENOMEM, "%s: out of memory", g->path);
	else
		rc = tensors_list(g, c, offsets);
	if (!rc)
		rc = tensors_place(g, padded(g, c->at), offsets);
	free(offsets);
	return rc;
}

/* ---- the file ---- */

static int header_read(qat_gguf *g, cursor *c)
{
	const uint8_t *magic = NULL;
	uint32_t version = 0;
	int rc = take(&magic, c, 4, "the header");

	if (rc)
		return rc;
	if (memcmp(magic, "GGUF", 4))
		return qat_fail(QAT_EFORMAT, "%s: does not begin with GGUF", g->path);
	rc = take_u32(&version, c, "the header");
	if (rc)
		return rc;
	if (version && !(version & 0xffffu))
		return qat_fail(QAT_ENOTSUP, "%s: a big-endian file", g->path);
	if (version != 2 && version != 3)
		return qat_fail(QAT_ENOTSUP, "%s: GGUF version %u; 2 and 3 are read", g->path,
				(unsigned)version);
	rc = take_count(&g->n_tensors, c, g->map.length / TENSOR_LEAST, "the count of tensors");
	if (!rc)
		rc = take_count(&g->n_values, c, g->map.length / VALUE_LEAST,
				"the count of metadata");
	return rc;
}

static int split_check(const qat_gguf *g)
{
	int64_t count = 1;
	const int found = qat_gguf_int(&count, g, NULL, "split.count");

	if (found < 0)
		return found;
	if (count > 1)
		return qat_fail(QAT_ENOTSUP, "%s: one of %lld parts of a model: merge them first "
				"(gguf-split --merge)", g->path, (long long)count);
	return QAT_OK;
}

int qat_gguf_open(qat_gguf **out, const char *path)
{
	qat_gguf *g = calloc(1, sizeof *g);
	cursor c = { .file = g };
	int rc;

	if (g)
		g->path = strdup(path);
	if (!g || !g->path) {
		rc = qat_fail(QAT_ENOMEM, "%s: out of memory", path);
		goto out;
	}
	rc = qat_map_open(&g->map, path);
	if (!rc)
		rc = header_read(g, &c);
	if (!rc)
		rc = values_read(g, &c);
	if (!rc)
		rc = alignment_read(g);
	if (!rc)
		rc = split_check(g);
	if (!rc)
		rc = qat_gguf_arch_find(g);
	if (!rc)
		rc = tensors_read(g, &c);
	if (rc)
		goto out;
	*out = g;
	g = NULL;
out:
	qat_gguf_close(g);
	return rc;
}

void qat_gguf_close(qat_gguf *g)
{
	if (!g)
		return;
	for (int i = 0; i < QAT_DOCS; i++)
		free(g->docs[i]);
	free(g->values);
	free(g->by_name);
	free(g->tensors);
	qat_map_close(&g->map);
	free(g->path);
	free(g);
}

const qat_gguf_tensor *qat_gguf_tensor_find(const qat_gguf *g, const char *name)
{
	qat_gguf_tensor key;
	const qat_gguf_tensor *at = &key, **hit;
	const size_t n = strlen(name);

	if (n >= GGUF_NAME)
		return NULL;
	memcpy(key.name, name, n + 1);
	hit = bsearch(&at, g->by_name, (size_t)g->n_tensors, sizeof *g->by_name, by_name);
	return hit ? *hit : NULL;
}

void qat_gguf_values(const qat_gguf_tensor *t, float *out, const uint8_t *from, int64_t count)
{
	for (int64_t i = 0; i < count; i += t->type->elements, from += t->type->bytes)
		t->type->values(out + i, from);
}
