/* yaml.c - from a file or a text to a document. The passes are in yaml_events.c,
 * yaml_set.c and yaml_resolve.c. */
#include "yaml_tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "yaml_internal.h"

/* The length of the UTF-8 character at `s`, 0 if it is none: overlong forms, surrogates
 * and what lies past U+10FFFF are none. */
static size_t character(const unsigned char *s, size_t left)
{
	static const struct { unsigned char first, last, low, high; size_t length; } forms[] = {
		{ 0x00, 0x7f, 0x00, 0x00, 1 }, { 0xc2, 0xdf, 0x80, 0xbf, 2 },
		{ 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 },
		{ 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

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

/* The control characters that YAML does not allow: C0 but tab and line ends, DEL, C1 but
 * the next-line character. */
static int is_control(const unsigned char *s)
{
	if (s[0] == 0xc2)
		return s[1] < 0xa0 && s[1] != 0x85;
	return (s[0] < 0x20 && !(s[0] && strchr("\t\n\r", s[0]))) || s[0] == 0x7f;
}

const char *qat_yaml_bad_byte(const char *text, size_t length)
{
	const unsigned char *s = (const unsigned char *)text, *end = s + length;
	size_t n;

	for (; s < end; s += n) {
		n = character(s, (size_t)(end - s));
		if (!n || is_control(s))
			return (const char *)s;
	}
	return NULL;
}

int qat_yaml_clean(const char *text)
{
	return !qat_yaml_bad_byte(text, strlen(text));
}

int qat_yaml_utf8(const char *text)
{
	const unsigned char *s = (const unsigned char *)text, *end = s + strlen(text);
	size_t n = 1;

	for (; n && s < end; s += n)
		n = character(s, (size_t)(end - s));
	return n > 0;
}

static int check_text(const char *text, size_t length, const char *name)
{
	const char *bad, *line = text;
	int row = 1, column = 1;

	if (length > QAT_YAML_FILE_MAX)
		return qat_fail(QAT_EINVAL, "%s: larger than %d bytes: no pipeline is that long",
				name, QAT_YAML_FILE_MAX);
	bad = qat_yaml_bad_byte(text, length);
	if (!bad)
		return QAT_OK;
	for (const char *p = text; p < bad; p++) {
		if (*p == '\n') {
			row++;
			line = p + 1;
		}
	}
	for (const char *p = line; p < bad; p++)
		column += ((unsigned char)*p & 0xc0) != 0x80;
	if ((unsigned char)*bad >= 0x80 && (unsigned char)*bad != 0xc2)
		return qat_fail(QAT_EINVAL, "%s:%d:%d: byte 0x%02x is not UTF-8: save the file as "
				"UTF-8", name, row, column, (unsigned char)*bad);
	return qat_fail(QAT_EINVAL, "%s:%d:%d: control character 0x%02x: YAML is text, take it out",
			name, row, column, (unsigned char)*bad);
}

static int fill(qat_yaml *doc, const char *text, size_t length, const char *const *sets,
		int64_t n_sets)
{
	int rc = check_text(text, length, doc->name);

	if (rc)
		return rc;
	if (length >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) {	/* a byte order mark */
		text += 3;
		length -= 3;
	}
	rc = qat_yaml_events(&doc->root, doc, text, length, doc->name, 1);
	for (int64_t i = 0; !rc && i < n_sets; i++)
		rc = qat_yaml_set(doc, sets[i]);
	return rc ? rc : qat_yaml_resolve(doc);
}

int qat_yaml_parse(qat_yaml **out, const char *text, int64_t length, const char *name,
		   const char *const *sets, int64_t n_sets)
{
	qat_yaml *doc;
	int rc = qat_yaml_new(&doc, name);

	if (rc)
		return rc;
	rc = fill(doc, text, (size_t)length, sets, n_sets);
	if (rc) {
		qat_yaml_free(doc);
		return rc;
	}
	*out = doc;
	return QAT_OK;
}

static int read_file(char **out, size_t *length, const char *path)
{
	size_t room = (size_t)QAT_YAML_FILE_MAX + 1;
	char *text = malloc(room);
	FILE *f = fopen(path, "rb");
	int rc = QAT_OK;

	if (!f) {
		rc = qat_fail(errno == ENOENT ? QAT_ENOTFOUND : QAT_EIO, "%s: cannot open: %s",
			      path, strerror(errno));
		goto out;
	}
	if (!text) {
		rc = qat_fail(QAT_ENOMEM, "%s: out of memory", path);
		goto out;
	}
	*length = fread(text, 1, room, f);	/* one more than allowed shows that it is */
	if (ferror(f)) {
		rc = qat_fail(QAT_EIO, "%s: cannot read: %s", path, strerror(errno));
		goto out;
	}
	*out = text;
	text = NULL;
out:
	if (f)
		fclose(f);
	free(text);
	return rc;
}

int qat_yaml_load(qat_yaml **out, const char *path, const char *const *sets, int64_t n_sets)
{
	char *text = NULL;
	size_t length = 0;
	int rc = read_file(&text, &length, path);

	if (!rc)
		rc = qat_yaml_parse(out, text, (int64_t)length, path, sets, n_sets);
	free(text);
	return rc;
}
