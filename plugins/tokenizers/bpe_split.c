/* bpe_split.c - the pre-tokenizer: a chain of stages, each of which hands the pieces that
 * it makes straight to the next; behind the last stage is the merge engine. */
#include <string.h>
#include "bpe.h"

/* Pieces wait here until it is known that nothing joins them. */
typedef struct splitter {
	qat_run *run;
	size_t stage;
	const char *text;
	bool first;
	size_t start, end;	/* of the waiting piece */
	bool waiting, was_match;
} splitter;

static int flush(splitter *s)
{
	size_t start = s->start, length = s->end - s->start;

	if (!s->waiting || !length)
		return QAT_OK;
	return qat_split(s->run, s->stage + 1, s->text + start, length, s->first && !start);
}

static bool joins(const splitter *s, int behavior, bool is_match)
{
	if (!s->waiting)
		return false;
	switch (behavior) {
	case QAT_CONTIGUOUS:
		return is_match == s->was_match;
	case QAT_MERGED_PREVIOUS:
		return is_match && !s->was_match;
	case QAT_MERGED_NEXT:
		return !is_match && s->was_match;
	default:
		return false;
	}
}

/* Takes the stretches of a text in order, matches and what lies between them. */
static int stretch(splitter *s, const qat_part *part, size_t start, size_t end, bool is_match)
{
	int rc;

	is_match ^= part->invert;
	if (joins(s, part->behavior, is_match)) {
		s->end = end;
		s->was_match = is_match;
		return QAT_OK;
	}
	rc = flush(s);
	s->start = start;
	s->end = end;
	s->waiting = part->behavior != QAT_REMOVED || !is_match;
	s->was_match = is_match;
	return rc;
}

static int find(splitter *s, const qat_part *part, size_t length, size_t from, size_t *start,
		size_t *end)
{
	const char *found;

	if (part->kind == QAT_SPLIT_REGEX)
		return qat_regex_find(part->regex, &s->run->match, s->text, length, from, start,
				      end);
	found = memmem(s->text + from, length - from, part->pattern.at, part->pattern.length);
	if (!found)
		return 0;
	*start = (size_t)(found - s->text);
	*end = *start + part->pattern.length;
	return 1;
}

/* An empty match right behind another match does not count: the search goes on one
 * character further. */
static int split_matches(qat_run *run, size_t stage, const char *text, size_t length, bool first)
{
	const qat_part *part = &run->bpe->splits.part[stage];
	splitter s = { .run = run, .stage = stage, .text = text, .first = first };
	size_t from = 0, done = 0, start, end;
	bool matched = false, valid;
	int rc;

	while (from <= length && (rc = find(&s, part, length, from, &start, &end)) != 0) {
		if (rc < 0)
			return rc;
		if (start == end && matched && end == done) {
			from += from < length ?
					qat_utf8_next(text + from, length - from, &valid) : 1;
			continue;
		}
		rc = done < start ? stretch(&s, part, done, start, false) : QAT_OK;
		if (!rc)
			rc = stretch(&s, part, start, end, true);
		if (rc)
			return rc;
		from = done = end;
		matched = true;
	}
	rc = done < length ? stretch(&s, part, done, length, false) : QAT_OK;
	return rc ? rc : flush(&s);
}

static bool begins(const char *text, size_t length, const qat_string *with)
{
	return length >= with->length && !memcmp(text, with->at, with->length);
}

static int split_prefix(qat_run *run, size_t stage, const char *text, size_t length, bool first)
{
	const qat_part *part = &run->bpe->splits.part[stage];
	qat_text *to = &run->scratch[stage];
	int rc;

	if (begins(text, length, &part->content))
		return qat_split(run, stage + 1, text, length, first);
	to->length = 0;
	rc = qat_text_append(to, part->content.at, part->content.length);
	if (!rc)
		rc = qat_text_append(to, text, length);
	return rc ? rc : qat_split(run, stage + 1, to->at, to->length, first);
}

/* Spaces become the meta character, and one is put in front if there is none. */
static int split_meta(qat_run *run, size_t stage, const char *text, size_t length, bool first)
{
	const qat_part *part = &run->bpe->splits.part[stage];
	const qat_string *meta = &part->pattern;
	qat_text *to = &run->scratch[stage];
	bool prepend = part->prepend == QAT_PREPEND_ALWAYS ||
		       (part->prepend == QAT_PREPEND_FIRST && first);
	int rc = QAT_OK;

	to->length = 0;
	if (prepend && *text != ' ' && !begins(text, length, meta))
		rc = qat_text_append(to, meta->at, meta->length);
	for (size_t i = 0, n; i < length && !rc; i += n) {
		const char *space = memchr(text + i, ' ', length - i);

		n = space ? (size_t)(space - text) - i : length - i;
		rc = qat_text_append(to, text + i, n);
		if (!rc && space)
			rc = qat_text_append(to, meta->at, meta->length);
		n += space != NULL;
	}
	return rc ? rc : qat_split(run, stage + 1, to->at, to->length, first);
}

static int split_bytes(qat_run *run, size_t stage, const char *text, size_t length, bool first)
{
	qat_text *to = &run->scratch[stage];
	int rc;

	to->length = 0;
	rc = qat_bytes_map(to, text, length);
	return rc ? rc : qat_split(run, stage + 1, to->at, to->length, first);
}

int qat_split(qat_run *run, size_t stage, const char *text, size_t length, bool first)
{
	if (!length)
		return QAT_OK;
	if (stage == run->bpe->splits.count)
		return qat_merge_piece(run, text, length);
	switch (run->bpe->splits.part[stage].kind) {
	case QAT_SPLIT_PREFIX:
		return split_prefix(run, stage, text, length, first);
	case QAT_SPLIT_META:
		return split_meta(run, stage, text, length, first);
	case QAT_SPLIT_BYTES:
		return split_bytes(run, stage, text, length, first);
	default:
		return split_matches(run, stage, text, length, first);
	}
}
