/* bpe_utf8.c - UTF-8, white space, and the byte-level alphabet. */
#include <string.h>
#include "bpe.h"

/* The well-formed sequences (Unicode 15, table 3-7): by the first byte, how many
 * follow, and the range of the second. */
static const struct { unsigned char from, to, more, low, high; } forms[] = {
	{ 0x00, 0x7f, 0, 0x00, 0x00 },
	{ 0xc2, 0xdf, 1, 0x80, 0xbf },
	{ 0xe0, 0xe0, 2, 0xa0, 0xbf },
	{ 0xe1, 0xec, 2, 0x80, 0xbf },
	{ 0xed, 0xed, 2, 0x80, 0x9f },
	{ 0xee, 0xef, 2, 0x80, 0xbf },
	{ 0xf0, 0xf0, 3, 0x90, 0xbf },
	{ 0xf1, 0xf3, 3, 0x80, 0xbf },
	{ 0xf4, 0xf4, 3, 0x80, 0x8f },
};

size_t qat_utf8_next(const char *at, size_t length, bool *valid)
{
	const unsigned char *b = (const unsigned char *)at;
	size_t i = 0, n;

	*valid = true;
	if (b[0] < 0x80)
		return 1;
	*valid = false;
	while (i < sizeof forms / sizeof *forms && (b[0] < forms[i].from || b[0] > forms[i].to))
		i++;
	if (i == sizeof forms / sizeof *forms)
		return 1;
	if (length < 2 || b[1] < forms[i].low || b[1] > forms[i].high)
		return 1;
	for (n = 2; n <= forms[i].more; n++)
		if (n >= length || (b[n] & 0xc0) != 0x80)
			return n;
	*valid = true;
	return n;
}

uint32_t qat_utf8_code(const char *at)
{
	const unsigned char *b = (const unsigned char *)at;

	if (b[0] < 0x80)
		return b[0];
	if (b[0] < 0xe0)
		return (b[0] & 0x1fu) << 6 | (b[1] & 0x3fu);
	if (b[0] < 0xf0)
		return (b[0] & 0xfu) << 12 | (b[1] & 0x3fu) << 6 | (b[2] & 0x3fu);
	return (b[0] & 7u) << 18 | (b[1] & 0x3fu) << 12 | (b[2] & 0x3fu) << 6 | (b[3] & 0x3fu);
}

bool qat_utf8_valid(const char *at, size_t length)
{
	bool valid = true;

	for (size_t i = 0; i < length && valid;)
		i += qat_utf8_next(at + i, length - i, &valid);
	return valid;
}

int qat_utf8_repair(qat_text *out, const char *at, size_t length)
{
	size_t from = 0, i = 0, n;
	bool valid;
	int rc;

	while (i < length) {
		n = qat_utf8_next(at + i, length - i, &valid);
		if (!valid) {
			rc = qat_text_append(out, at + from, i - from);
			if (!rc)
				rc = qat_text_append(out, "\xef\xbf\xbd", 3);
			if (rc)
				return rc;
			from = i + n;
		}
		i += n;
	}
	return qat_text_append(out, at + from, length - from);
}

/* Unicode White_Space. */
static bool is_space(uint32_t c)
{
	if (c < 0x80)
		return c == ' ' || (c >= 9 && c <= 13);
	return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
	       c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

size_t qat_utf8_spaces_after(const char *at, size_t length)
{
	size_t i = 0;
	bool valid;

	while (i < length && is_space(qat_utf8_code(at + i)))
		i += qat_utf8_next(at + i, length - i, &valid);
	return i;
}

size_t qat_utf8_spaces_before(const char *at, size_t length)
{
	size_t end = length, i;

	while (end) {
		for (i = end - 1; i && (at[i] & 0xc0) == 0x80;)
			i--;
		if (!is_space(qat_utf8_code(at + i)))
			break;
		end = i;
	}
	return length - end;
}

/* ---- byte-level alphabet: printable bytes stand for themselves, the other 68,
 * in order, are U+0100 and up ---- */

static bool is_printable(unsigned b)
{
	return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
}

static uint32_t byte_code(unsigned b)
{
	if (is_printable(b))
		return b;
	if (b <= 0x20)
		return 0x100 + b;
	return b == 0xad ? 0x143 : 0x121 + b - 0x7f;
}

int qat_bytes_map(qat_text *out, const char *at, size_t length)
{
	int rc = length > PTRDIFF_MAX / 4 ? qat_fail(QAT_ENOMEM, "tokenizer: text too long") :
					    qat_text_reserve(out, length * 2);
	char *to;

	if (rc)
		return rc;
	to = out->at + out->length;
	for (size_t i = 0; i < length; i++) {
		uint32_t c = byte_code((unsigned char)at[i]);

		if (c >= 0x80) {
			*to++ = (char)(0xc0 | c >> 6);
			c = 0x80 | (c & 0x3f);
		}
		*to++ = (char)c;
	}
	out->length = (size_t)(to - out->at);
	return QAT_OK;
}

bool qat_bytes_unmap(qat_text *out, const char *at, size_t length)
{
	size_t was = out->length;
	uint32_t c;

	for (size_t i = 0; i < length; i += c < 0x80 ? 1 : 2) {
		c = qat_utf8_code(at + i);
		if (c >= 0x100 && c <= 0x120)
			out->at[out->length++] = (char)(c - 0x100);
		else if (c >= 0x121 && c <= 0x142)
			out->at[out->length++] = (char)(c - 0x121 + 0x7f);
		else if (c == 0x143)
			out->at[out->length++] = (char)0xad;
		else if (c < 0x100 && is_printable(c))
			out->at[out->length++] = (char)c;
		else {
			out->length = was;
			return false;
		}
	}
	return true;
}
