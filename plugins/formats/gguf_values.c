/* gguf_values.c - metadata by key, with its type checked. */
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include "gguf.h"

int qat_gguf_key_order(const void *a, const void *b)
{
	const qat_gguf_value *x = a, *y = b;
	const int64_t n = x->key.length < y->key.length ? x->key.length : y->key.length;
	const int order = memcmp(x->key.at, y->key.at, (size_t)n);

	return order ? order : (x->key.length > y->key.length) - (x->key.length < y->key.length);
}

const qat_gguf_value *qat_gguf_find(const qat_gguf *g, const char *prefix, const char *key)
{
	char full[256];
	const int n = snprintf(full, sizeof full, "%s%s%s", prefix ? prefix : "",
			       prefix ? "." : "", key);
	const qat_gguf_value wanted = { .key = { .at = full, .length = n } };

	if (n < 0 || n >= (int)sizeof full)
		return NULL;
	return bsearch(&wanted, g->values, (size_t)g->n_values, sizeof *g->values,
		       qat_gguf_key_order);
}

static int wrong_type(const qat_gguf *g, const qat_gguf_value *v, const char *wanted)
{
	const char *is = v->type == GGUF_ARRAY ? ", but an array" : "";

	return qat_fail(QAT_ENOTSUP, "%s: %.*s is not %s%s", g->path, (int)v->key.length, v->key.at,
			wanted, is);
}

/* Little-endian, `bytes` of them, extended by the sign where there is one. */
static uint64_t number(const qat_gguf_value *v)
{
	const int is_signed = v->type == GGUF_I8 || v->type == GGUF_I16 || v->type == GGUF_I32;
	uint64_t u = 0;

	for (int64_t i = v->bytes - 1; i >= 0; i--)
		u = u << 8 | v->at[i];
	if (is_signed && v->at[v->bytes - 1] & 0x80)
		u |= UINT64_MAX << 8 * v->bytes;
	return u;
}

static int is_integer(uint32_t type)
{
	return type <= GGUF_I32 || type == GGUF_U64 || type == GGUF_I64;
}

int qat_gguf_int(int64_t *out, const qat_gguf *g, const char *prefix, const char *key)
{
	const qat_gguf_value *v = qat_gguf_find(g, prefix, key);

	if (!v)
		return 0;
	if (!is_integer(v->type))
		return wrong_type(g, v, "an integer");
	if (v->type == GGUF_U64 && number(v) > INT64_MAX)
		return wrong_type(g, v, "in range");
	*out = (int64_t)number(v);
	return 1;
}

/* An f32 gives the shortest decimal that stands for it: 1e-05, not 9.99999974e-06. */
static double shortest(float x)
{
	char text[40];

	for (int digits = 6; digits < 9; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, (double)x);
		if (strtof(text, NULL) == x)
			return strtod(text, NULL);
	}
	snprintf(text, sizeof text, "%.9g", (double)x);
	return strtod(text, NULL);
}

int qat_gguf_float(double *out, const qat_gguf *g, const char *prefix, const char *key)
{
	const qat_gguf_value *v = qat_gguf_find(g, prefix, key);
	uint64_t bits;
	uint32_t bits32;
	float x;

	if (!v)
		return 0;
	if (v->type != GGUF_FLOAT && v->type != GGUF_DOUBLE)
		return wrong_type(g, v, "a float");
	bits = number(v);
	bits32 = (uint32_t)bits;
	if (v->type == GGUF_DOUBLE) {
		memcpy(out, &bits, sizeof *out);
	} else {
		memcpy(&x, &bits32, sizeof x);
		*out = shortest(x);
	}
	if (!(*out - *out == 0))
		return wrong_type(g, v, "a finite number");
	return 1;
}

int qat_gguf_bool(int *out, const qat_gguf *g, const char *prefix, const char *key)
{
	const qat_gguf_value *v = qat_gguf_find(g, prefix, key);

	if (!v)
		return 0;
	if (v->type != GGUF_BOOL)
		return wrong_type(g, v, "a bool");
	*out = v->at[0] != 0;
	return 1;
}

int qat_gguf_text(qat_text *out, const qat_gguf *g, const char *prefix, const char *key)
{
	const qat_gguf_value *v = qat_gguf_find(g, prefix, key);

	if (!v)
		return 0;
	if (v->type != GGUF_STRING)
		return wrong_type(g, v, "a string");
	*out = (qat_text){ .at = (const char *)v->at, .length = v->bytes };
	return 1;
}

int qat_gguf_is(qat_text text, const char *what)
{
	return text.length == (int64_t)strlen(what) && !memcmp(text.at, what, (size_t)text.length);
}

qat_text qat_gguf_string_next(const uint8_t **at)
{
	uint64_t length;
	qat_text text;

	memcpy(&length, *at, sizeof length);
	length = le64toh(length);
	text = (qat_text){ .at = (const char *)*at + 8, .length = (int64_t)length };
	*at += 8 + length;
	return text;
}
