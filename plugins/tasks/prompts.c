/* prompts.c - prompts of a list and of a file, encoded. */
#include "prompts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/tokenizer.h>

enum { FILE_MAX = 16 << 20 };

void qat_prompts_free(qat_prompts *p)
{
	for (int64_t i = 0; i < p->count; i++)
		free(p->at[i].ids);
	free(p->at);
	free(p->lines);
	*p = (qat_prompts){ .at = NULL };
}

static int read_lines(qat_prompts *p, const char *path, size_t *bytes)
{
	FILE *f = fopen(path, "rb");
	int rc = QAT_OK;

	if (!f)
		return qat_fail(QAT_EIO, "%s: %s", path, strerror(errno));
	p->lines = malloc(FILE_MAX + 1);
	if (!p->lines)
		rc = qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	*bytes = rc ? 0 : fread(p->lines, 1, FILE_MAX + 1, f);
	if (!rc && ferror(f))
		rc = qat_fail(QAT_EIO, "%s: cannot be read", path);
	else if (!rc && *bytes > FILE_MAX)
		rc = qat_fail(QAT_EINVAL, "%s: more than %d MiB of prompts", path, FILE_MAX >> 20);
	else if (!rc && memchr(p->lines, '\0', *bytes))
		rc = qat_fail(QAT_EFORMAT, "%s: has a NUL: prompts are text", path);
	fclose(f);
	if (!rc)
		p->lines[*bytes] = '\0';
	return rc;
}

static int add(qat_prompts *p, const char *text)
{
	qat_prompt *more = realloc(p->at, (size_t)(p->count + 1) * sizeof *more);

	if (!more)
		return qat_fail(QAT_ENOMEM, "prompts: out of memory");
	p->at = more;
	p->at[p->count++] = (qat_prompt){ .text = text };
	return QAT_OK;
}

static int add_lines(qat_prompts *p, size_t bytes)
{
	int rc = QAT_OK;

	for (char *line = p->lines; !rc && line < p->lines + bytes;) {
		char *end = line + strcspn(line, "\n"), *next = end + (*end == '\n');

		if (end > line && end[-1] == '\r')
			end--;
		*end = '\0';
		if (*line)
			rc = add(p, line);
		line = next;
	}
	return rc;
}

static int begin_with(qat_prompt *p, int32_t id)
{
	int32_t *ids = malloc((size_t)(p->count + 1) * sizeof *ids);

	if (!ids)
		return qat_fail(QAT_ENOMEM, "prompts: out of memory");
	ids[0] = id;
	if (p->count)
		memcpy(ids + 1, p->ids, (size_t)p->count * sizeof *ids);
	free(p->ids);
	p->ids = ids;
	p->count++;
	return QAT_OK;
}

static int encode(qat_prompts *p, qat_step *s, int add_bos)
{
	int32_t bos = -1;
	int rc = QAT_OK;

	if (add_bos && qat_api->special_tokens(s, QAT_TOKEN_BOS, &bos, 1) < 1)
		return qat_fail(QAT_EINVAL, "add_bos: neither model nor tokenizer has a BOS token");
	for (int64_t i = 0; i < p->count && !rc; i++) {
		qat_prompt *at = &p->at[i];
		int32_t *ids = NULL;

		rc = qat_api->encode(s, &ids, &at->count, at->text, (int64_t)strlen(at->text));
		if (rc)
			break;
		at->ids = malloc((size_t)at->count * sizeof *ids + 1);
		if (!at->ids)
			rc = qat_fail(QAT_ENOMEM, "prompts: out of memory");
		else if (at->count)
			memcpy(at->ids, ids, (size_t)at->count * sizeof *ids);
		qat_api->text_free(ids);
		if (!rc && add_bos)
			rc = begin_with(at, bos);
		if (!rc && !at->count)
			rc = qat_fail(QAT_EINVAL, "prompt %lld is empty: write something, or set "
				      "add_bos: true", (long long)i + 1);
		p->longest = at->count > p->longest ? at->count : p->longest;
	}
	return rc;
}

int qat_prompts_load(qat_prompts *out, qat_step *s, const qat_strings *list, const char *file,
		     int add_bos)
{
	qat_prompts p = { .at = NULL };
	size_t bytes = 0;
	int rc = file ? read_lines(&p, file, &bytes) : QAT_OK;

	for (int64_t i = 0; i < list->count && !rc; i++)
		rc = add(&p, list->at[i]);
	if (!rc && file)
		rc = add_lines(&p, bytes);
	if (!rc && !p.count)
		rc = qat_fail(QAT_EINVAL, "nothing to go on from: give prompts, or a file of them");
	if (!rc)
		rc = encode(&p, s, add_bos);
	if (rc) {
		qat_prompts_free(&p);
		return rc;
	}
	*out = p;
	return QAT_OK;
}
