/* yaml.c - from a file or a text to a document. The passes are in yaml_events.c,
 * yaml_set.c and yaml_resolve.c. */
#include "yaml_tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "utf8.h"
#include "yaml_internal.h"

const char *qat_yaml_bad_byte(const char *text, size_t length)
{
	const char *end = text + length;
	size_t n;

	for (; text < end; text += n) {
		n = qat_utf8_length(text, (size_t)(end - text));
		if (!n || qat_utf8_control(text))
			return text;
	}
	return NULL;
}

int qat_yaml_clean(const char *text)
{
	return !qat_yaml_bad_byte(text, strlen(text));
}

int qat_yaml_utf8(const char *text)
{
	const char *end = text + strlen(text);
	size_t n = 1;

	for (; n && text < end; text += n)
		n = qat_utf8_length(text, (size_t)(end - text));
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
