/* sealed.c - JSON with its own checksum. */
#include "sealed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/json.h>

#include "error.h"
#include "file.h"
#include "hash.h"
#include "results.h"

#define KEY "checksum"

enum { SEALED_MAX = 64 << 20 };	/* bytes: results of all steps */

/* Over the compact text with sorted keys, so that layout does not matter. */
static int checksum(char out[17], const json_t *object, const char *path)
{
	char *text = qat_json_print(object, JSON_COMPACT | JSON_SORT_KEYS);

	if (!text)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	snprintf(out, 17, "%016llx", (unsigned long long)qat_hash_text(text));
	free(text);
	return QAT_OK;
}

int qat_sealed_write(const char *path, json_t *object)
{
	char sum[17], *text = NULL;
	int rc = checksum(sum, object, path);

	if (!rc && !json_object_set_new(object, KEY, json_string(sum)))
		text = qat_json_print(object, JSON_INDENT(1));
	json_object_del(object, KEY);
	if (!rc && !text)
		rc = qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	if (!rc)
		rc = qat_file_replace(path, text, (int64_t)strlen(text));
	free(text);
	return rc;
}

static int read_object(json_t **out, const char *path)
{
	json_error_t e;
	char *whole;
	size_t length;
	int rc = qat_file_read(&whole, &length, path, SEALED_MAX);

	if (rc)
		return rc;
	rc = qat_json_parse(out, &e, whole, (int64_t)length, JSON_REJECT_DUPLICATES);
	free(whole);
	return rc ? qat_fail(rc, "%s: %s", path, rc == QAT_ENOMEM ? "out of memory" : e.text)
		  : QAT_OK;
}

int qat_sealed_read(json_t **out, const char *path)
{
	char sum[17], said[17] = "";
	json_t *object;
	const char *text;
	int rc = read_object(&object, path);

	if (rc)
		return rc;
	text = json_string_value(json_object_get(object, KEY));
	if (text)
		snprintf(said, sizeof said, "%s", text);
	rc = text ? QAT_OK : qat_fail(QAT_EFORMAT, "%s: has no checksum", path);
	json_object_del(object, KEY);
	if (!rc)
		rc = checksum(sum, object, path);
	if (!rc && strcmp(sum, said))
		rc = qat_fail(QAT_EFORMAT, "%s: its checksum is not that of its content", path);
	if (rc)
		json_decref(object);
	else
		*out = object;
	return rc;
}
