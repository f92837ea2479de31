/* bpe_normalize.c - what is done to a text before it is split. */
#include <stdlib.h>
#include <string.h>
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#ifdef HAVE_UTF8PROC
#include <utf8proc.h>
#endif
#include "bpe.h"

/* All that NFC can change, or that can change before it, lies at U+0300 and above; the
 * bytes of UTF-8 that begin such characters are 0xcc and up. */
static bool is_nfc_already(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] >= 0xcc)
			return false;
	return true;
}

static int compose(qat_text *to, const char *text, size_t length, const char *name)
{
#ifdef HAVE_UTF8PROC
	utf8proc_uint8_t *out = NULL;
	utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length,
					  &out, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	int rc;

	if (n < 0)
		return qat_fail(QAT_ENOMEM, "%s: normalizer NFC: %s", name, utf8proc_errmsg(n));
	rc = qat_text_append(to, (const char *)out, (size_t)n);
	free(out);
	return rc;
#else
	(void)to;
	(void)text;
	(void)length;
	return qat_fail(QAT_ENOTSUP, "%s: normalizer NFC: the text has characters above U+02FF, "
			"and this build is without utf8proc; install libutf8proc-dev and build "
			"anew", name);
#endif
}

static int replace(qat_text *to, const qat_part *part, const char *text, size_t length)
{
	int rc = QAT_OK;

	for (size_t i = 0, n; i < length && !rc; i += n) {
		const char *found = memmem(text + i, length - i, part->pattern.at,
					   part->pattern.length);

		n = found ? (size_t)(found - text) - i : length - i;
		rc = qat_text_append(to, text + i, n);
		if (!rc && found)
			rc = qat_text_append(to, part->content.at, part->content.length);
		n += found ? part->pattern.length : 0;
	}
	return rc;
}

static int prepend(qat_text *to, const qat_part *part, const char *text, size_t length)
{
	int rc = length ? qat_text_append(to, part->content.at, part->content.length) : QAT_OK;

	return rc ? rc : qat_text_append(to, text, length);
}

static int apply(qat_text *to, const qat_part *part, const char *text, size_t length,
		 const char *name)
{
	switch (part->kind) {
	case QAT_NORM_NFC:
		return compose(to, text, length, name);
	case QAT_NORM_PREPEND:
		return prepend(to, part, text, length);
	default:
		return replace(to, part, text, length);
	}
}

/* On entry *length bytes at `text`; the result is there or in one of the two buffers. */
int qat_normalize(qat_text scratch[2], const char **out, size_t *length, const qat_chain *chain,
		  const char *text, const char *name)
{
	size_t from = *length;
	int rc = QAT_OK, turn = 0;

	for (size_t i = 0; i < chain->count && !rc; i++) {
		const qat_part *part = &chain->part[i];

		if (part->kind == QAT_NORM_NFC && is_nfc_already(text, *length))
			continue;
		scratch[turn].length = 0;
		rc = apply(&scratch[turn], part, text, *length, name);
		if (!rc)
			rc = qat_text_check(&scratch[turn], from, name);
		text = scratch[turn].at;
		*length = scratch[turn].length;
		turn ^= 1;
	}
	*out = text;
	return rc;
}
