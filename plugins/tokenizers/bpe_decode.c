/* bpe_decode.c - ids to text: the tokens' strings go through the chain of decoders, each
 * of which makes a list of strings of a list of strings. */
#include <stdlib.h>
#include <string.h>
#include "bpe.h"

typedef struct strings {
	qat_text text;		/* all of them, one behind the other */
	size_t *end;
	size_t count, room;
} strings;

static int finish(strings *s)
{
	int rc = qat_array_grow(&s->end, &s->room, s->count, sizeof *s->end);

	if (!rc)
		s->end[s->count++] = s->text.length;
	return rc;
}

static int add(strings *s, const char *at, size_t length)
{
	int rc = qat_text_append(&s->text, at, length);

	return rc ? rc : finish(s);
}

static const char *string_at(const strings *s, size_t i, size_t *length)
{
	size_t start = i ? s->end[i - 1] : 0;

	*length = s->end[i] - start;
	return s->text.at + start;
}

static int decode_bytes(strings *out, const strings *in)
{
	qat_text raw = { 0 };
	int rc = qat_text_reserve(&raw, in->text.length);

	for (size_t i = 0, n; i < in->count && !rc; i++) {
		const char *at = string_at(in, i, &n);

		if (!qat_bytes_unmap(&raw, at, n))
			rc = qat_text_append(&raw, at, n);
	}
	if (!rc)
		rc = qat_utf8_repair(&out->text, raw.at, raw.length);
	qat_text_free(&raw);
	return rc ? rc : finish(out);
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte of "<0x41>", or -1. */
static int byte_of(const char *at, size_t length)
{
	if (length != 6 || memcmp(at, "<0x", 3) || at[5] != '>' || hex(at[3]) < 0 || hex(at[4]) < 0)
		return -1;
	return hex(at[3]) << 4 | hex(at[4]);
}

/* A run of byte tokens is text if it is UTF-8; otherwise each of them is U+FFFD. */
static int flush_bytes(strings *out, qat_text *raw)
{
	int rc = QAT_OK;

	if (!raw->length)
		return QAT_OK;
	if (qat_utf8_valid(raw->at, raw->length))
		rc = add(out, raw->at, raw->length);
	else
		for (size_t i = 0; i < raw->length && !rc; i++)
			rc = add(out, "\xef\xbf\xbd", 3);
	raw->length = 0;
	return rc;
}

static int decode_fallback(strings *out, const strings *in)
{
	qat_text raw = { 0 };
	int rc = QAT_OK;

	for (size_t i = 0, n; i < in->count && !rc; i++) {
		const char *at = string_at(in, i, &n);
		int byte = byte_of(at, n);

		if (byte >= 0) {
			rc = qat_text_append(&raw, &(char){ (char)byte }, 1);
			continue;
		}
		rc = flush_bytes(out, &raw);
		if (!rc)
			rc = add(out, at, n);
	}
	if (!rc)
		rc = flush_bytes(out, &raw);
	qat_text_free(&raw);
	return rc;
}

static int replace_one(strings *out, const char *at, size_t length, const qat_string *what,
		       const char *with, size_t with_length)
{
	int rc = QAT_OK;

	for (size_t i = 0, n; i < length && !rc; i += n) {
		const char *found = memmem(at + i, length - i, what->at, what->length);

		n = found ? (size_t)(found - at) - i : length - i;
		rc = qat_text_append(&out->text, at + i, n);
		if (!rc && found)
			rc = qat_text_append(&out->text, with, with_length);
		n += found ? what->length : 0;
	}
	return rc ? rc : finish(out);
}

static int decode_replace(strings *out, const strings *in, const qat_part *part)
{
	int rc = QAT_OK;

	for (size_t i = 0, n; i < in->count && !rc; i++) {
		const char *at = string_at(in, i, &n);

		rc = replace_one(out, at, n, &part->pattern, part->content.at,
				 part->content.length);
	}
	return rc;
}

/* The meta character is a space, or nothing in the first token, where encoding put it. */
static int decode_meta(strings *out, const strings *in, const qat_part *part)
{
	int rc = QAT_OK;

	for (size_t i = 0, n; i < in->count && !rc; i++) {
		const char *at = string_at(in, i, &n);

		rc = replace_one(out, at, n, &part->pattern, " ",
				 i || part->prepend == QAT_PREPEND_NEVER);
	}
	return rc;
}

static int decode_strip(strings *out, const strings *in, const qat_part *part)
{
	const qat_string *c = &part->pattern;
	int rc = QAT_OK;

	for (size_t i = 0, n; i < in->count && !rc; i++) {
		const char *at = string_at(in, i, &n);

		for (int64_t k = 0; k < part->start && n >= c->length; k++) {
			if (memcmp(at, c->at, c->length))
				break;
			at += c->length;
			n -= c->length;
		}
		for (int64_t k = 0; k < part->stop && n >= c->length; k++) {
			if (memcmp(at + n - c->length, c->at, c->length))
				break;
			n -= c->length;
		}
		rc = add(out, at, n);
	}
	return rc;
}

static int apply(strings *out, const strings *in, const qat_part *part)
{
	switch (part->kind) {
	case QAT_DECODE_BYTES:
		return decode_bytes(out, in);
	case QAT_DECODE_FALLBACK:
		return decode_fallback(out, in);
	case QAT_DECODE_REPLACE:
		return decode_replace(out, in, part);
	case QAT_DECODE_STRIP:
		return decode_strip(out, in, part);
	case QAT_DECODE_META:
		return decode_meta(out, in, part);
	default:
		return add(out, in->text.at, in->text.length);
	}
}

static void strings_free(strings *s)
{
	qat_text_free(&s->text);
	free(s->end);
	*s = (strings){ .count = 0 };
}

/* The tokens as the vocabulary has them, added ones as they are looked for: the decoders
 * undo what the normalizers did. A file without a decoder puts spaces between. */
static int read_tokens(strings *out, const qat_bpe *bpe, const int32_t *ids, size_t count)
{
	int rc = QAT_OK;

	for (size_t i = 0; i < count && !rc; i++) {
		const qat_token *token = qat_vocab_token(&bpe->vocab, ids[i]);

		if (!token)
			continue;
		if (!bpe->decoders.count && out->count)
			rc = qat_text_append(&out->text, " ", 1);
		if (!rc && token->added >= 0)
			rc = add(out, bpe->added[token->added].content.at,
				 bpe->added[token->added].content.length);
		else if (!rc)
			rc = add(out, bpe->vocab.strings.at + token->offset, token->length);
	}
	return rc;
}

int qat_decode(const qat_bpe *bpe, qat_text *out, const int32_t *ids, size_t count)
{
	strings now = { .count = 0 }, next = { .count = 0 };
	int rc = read_tokens(&now, bpe, ids, count);
	size_t from = now.text.length;

	for (size_t i = 0; i < bpe->decoders.count && !rc; i++) {
		rc = apply(&next, &now, &bpe->decoders.part[i]);
		if (!rc)
			rc = qat_text_check(&next.text, from, bpe->name);
		strings_free(&now);
		now = next;
		next = (strings){ .count = 0 };
	}
	if (!rc)
		rc = qat_text_append(out, now.text.at, now.text.length);
	strings_free(&now);
	return rc;
}
