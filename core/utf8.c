/* utf8.c - what is a character, and what a terminal may be shown. */
#include "utf8.h"

#include <string.h>

size_t qat_utf8_length(const char *text, size_t left)
{
	static const struct { unsigned char first, last, low, high; size_t length; } forms[] = {
		{ 0x00, 0x7f, 0x00, 0x00, 1 }, { 0xc2, 0xdf, 0x80, 0xbf, 2 },
		{ 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 },
		{ 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};
	const unsigned char *s = (const unsigned char *)text;

	for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
		size_t n = forms[f].length;

		if (*s < forms[f].first || *s > forms[f].last)
			continue;
		if (n > left || (n > 1 && (s[1] < forms[f].low || s[1] > forms[f].high)))
			return 0;
		for (size_t i = 2; i < n; i++) {
			if ((s[i] & 0xc0) != 0x80)
				return 0;
		}
		return n;
	}
	return 0;
}

int qat_utf8_control(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	if (s[0] == 0xc2)
		return s[1] < 0xa0 && s[1] != 0x85;
	return (s[0] < 0x20 && !(s[0] && strchr("\t\n\r", s[0]))) || s[0] == 0x7f;
}

void qat_utf8_plain(char *text)
{
	size_t left = strlen(text), n;

	for (; left; text += n, left -= n) {
		n = qat_utf8_length(text, left);
		if (n > 1 && !qat_utf8_control(text) && memcmp(text, "\xc2\x85", 2))
			continue;
		if (n != 1 || (unsigned char)*text < 0x20 || *text == 0x7f)
			memset(text, '?', n ? n : 1);
		n = n ? n : 1;
	}
}
