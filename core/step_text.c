/* step_text.c - text to ids and back, as tasks see it: by the run's tokenizer, which all of
 * its states share. What comes out is ours to free, and is UTF-8.
 */
#include "step_internal.h"

#include <stdlib.h>
#include <string.h>

#include <qatrun/json.h>

#include "error.h"

int qat_step_encode(qat_step *s, int32_t **out, int64_t *count, const char *text, int64_t bytes)
{
	qat_context *c = s->context;
	qat_ids ids = { 0 };
	int32_t *copy;
	int rc = qat_context_tokenizer(c);

	if (!rc)
		rc = c->tokenizer->encode(c->tokenizer_handle, text, bytes, &ids);
	if (rc)
		return rc;
	copy = malloc((size_t)ids.count * sizeof *copy + 1);
	if (copy && ids.count)
		memcpy(copy, ids.at, (size_t)ids.count * sizeof *copy);
	c->tokenizer->release(ids.at);
	if (!copy)
		return qat_fail(QAT_ENOMEM, "tokenizer: out of memory");
	*out = copy;
	*count = ids.count;
	return QAT_OK;
}

/* ---- decoding ---- */

/* Bytes of the well-formed character at p, at most n; 0 where there is none, and then
 * *skip is how many bytes belong to its ill-formed beginning. (Unicode 15, table 3-7.) */
static int64_t character(const unsigned char *p, int64_t n, int64_t *skip)
{
	static const struct { unsigned char from, to, low, high; int8_t more; } leads[] = {
		{ 0x00, 0x7f, 0, 0, 0 }, { 0xc2, 0xdf, 0x80, 0xbf, 1 },
		{ 0xe0, 0xe0, 0xa0, 0xbf, 2 }, { 0xe1, 0xec, 0x80, 0xbf, 2 },
		{ 0xed, 0xed, 0x80, 0x9f, 2 }, { 0xee, 0xef, 0x80, 0xbf, 2 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 3 }, { 0xf1, 0xf3, 0x80, 0xbf, 3 },
		{ 0xf4, 0xf4, 0x80, 0x8f, 3 },
	};

	*skip = 1;
	for (size_t i = 0; i < sizeof leads / sizeof *leads; i++) {
		if (p[0] < leads[i].from || p[0] > leads[i].to)
			continue;
		for (int64_t k = 1; k <= leads[i].more; k++) {
			const unsigned char low = k == 1 ? leads[i].low : 0x80;
			const unsigned char high = k == 1 ? leads[i].high : 0xbf;

			if (k >= n || p[k] < low || p[k] > high) {
				*skip = k;
				return 0;
			}
		}
		return leads[i].more + 1;
	}
	return 0;
}

/* A copy in which U+FFFD stands for each maximal part that is not UTF-8, and for NUL. */
static char *well_formed(const char *text, int64_t n, int64_t *out)
{
	char *copy = malloc(3 * (size_t)n + 1);
	int64_t used = 0;

	for (int64_t i = 0, skip; copy && i < n;) {
		const int64_t whole = character((const unsigned char *)text + i, n - i, &skip);
		const int64_t k = text[i] ? whole : 0;

		memcpy(copy + used, k ? text + i : "\xef\xbf\xbd", k ? (size_t)k : 3);
		used += k ? k : 3;
		i += k ? k : skip;
	}
	if (copy)
		copy[used] = '\0';
	*out = used;
	return copy;
}

static int64_t without_special(const qat_context *c, int32_t *out, const int32_t *ids,
			       int64_t count)
{
	int64_t n = 0;

	for (int64_t i = 0; i < count; i++)
		if (!c->tokenizer->is_special ||
		    !c->tokenizer->is_special(c->tokenizer_handle, ids[i]))
			out[n++] = ids[i];
	return n;
}

int qat_step_decode(qat_step *s, char **out, int64_t *bytes, const int32_t *ids, int64_t count,
		    int special)
{
	qat_context *c = s->context;
	int32_t *plain = malloc((size_t)count * sizeof *plain + 1);
	int64_t length = 0;
	char *text = NULL, *copy = NULL;
	int rc = qat_context_tokenizer(c);

	if (!rc && !plain)
		rc = qat_fail(QAT_ENOMEM, "tokenizer: out of memory");
	if (!rc && !special) {
		count = without_special(c, plain, ids, count);
		ids = plain;
	}
	if (!rc)
		rc = c->tokenizer->decode(c->tokenizer_handle, ids, count, &text, &length);
	if (!rc) {
		copy = well_formed(text, length, bytes);
		c->tokenizer->release(text);
		rc = copy ? QAT_OK : qat_fail(QAT_ENOMEM, "tokenizer: out of memory");
	}
	free(plain);
	if (!rc)
		*out = copy;
	return rc;
}

/* ---- what the model says ---- */

static int64_t add_id(const json_t *v, int32_t *out, int64_t n, int64_t room)
{
	const json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;

	if (id < 0 || id > QAT_MAX_TOKEN_ID || n >= room)
		return n;
	out[n] = (int32_t)id;
	return n + 1;
}

/* Of one document: a number or a list of them; none, where it is no JSON. */
static int64_t ids_of(const qat_text *doc, const char *key, int32_t *out, int64_t room)
{
	json_error_t e;
	json_t *root = NULL;
	const json_t *v;
	int64_t n;

	if (doc->at && qat_json_parse(&root, &e, doc->at, doc->length, 0) == QAT_ENOMEM)
		return qat_fail(QAT_ENOMEM, "%s of the model: out of memory", key);
	v = json_object_get(root, key);
	n = add_id(v, out, 0, room);
	for (size_t i = 0; i < json_array_size(v); i++)
		n = add_id(json_array_get(v, i), out, n, room);
	json_decref(root);
	return n;
}

int64_t qat_step_special_tokens(qat_step *s, int which, int32_t *out, int64_t room)
{
	static const int docs[] = { QAT_DOC_GENERATION_CONFIG, QAT_DOC_CONFIG };
	const char *key = which == QAT_TOKEN_BOS ? "bos_token_id" : "eos_token_id";
	qat_context *c = s->context;
	const qat_state *base;
	int64_t n = 0;
	int32_t id;

	if (qat_context_state(c, &base, "base"))
		return 0;
	for (int i = 0; i < 2 && !n; i++)
		n = ids_of(&base->docs[docs[i]], key, out, room);
	if (n || room < 1 || qat_context_tokenizer(c))
		return n;
	id = c->tokenizer->special(c->tokenizer_handle, which);
	if (id >= 0)
		out[n++] = id;
	return n;
}

int64_t qat_step_context(qat_step *s)
{
	const qat_state *base;
	const int rc = qat_context_state(s->context, &base, "base");

	return rc ? rc : base->info.context;
}
