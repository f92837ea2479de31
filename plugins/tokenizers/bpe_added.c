/* bpe_added.c - added tokens: found in the text before anything else splits it.
 * Leftmost, then longest, by a trie for each of the two passes. */
#include <stdlib.h>
#include <string.h>
#include "bpe.h"

/* Of a word as Rust has it, whose \w is not quite that of the patterns in the file. */
static const char word_pattern[] =
	"[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}]";

/* ---- trie ---- */

static int trie_add(qat_trie *trie, const qat_added *added, int32_t index, const char *name)
{
	int32_t node = 0;
	int rc = QAT_OK;

	if (!trie->ends.count)
		rc = qat_list_append(&trie->ends, -1);
	trie->first[(unsigned char)added->content.at[0]] = true;
	for (size_t i = 0; i < added->content.length && !rc; i++) {
		uint64_t key = (uint64_t)node << 8 | (unsigned char)added->content.at[i];
		const qat_slot *slot = qat_map_find(&trie->edges, key);

		node = slot ? slot->id : (int32_t)trie->ends.count;
		if (slot)
			continue;
		rc = qat_list_append(&trie->ends, -1);
		if (!rc)
			rc = qat_map_put(&trie->edges, key, 0, node);
	}
	if (rc)
		return rc;
	if (trie->ends.at[node] >= 0)
		return qat_fail(QAT_EFORMAT, "%s: added_tokens[%d]: \"%s\" is there twice", name,
				(int)index, added->content.at);
	trie->ends.at[node] = index;
	return QAT_OK;
}

/* The longest token at `at`: its index, or -1. */
static int32_t trie_find(const qat_trie *trie, const char *at, size_t length, size_t *found)
{
	const qat_slot *slot;
	int32_t node = 0, index = -1;

	for (size_t i = 0; i < length; i++) {
		slot = qat_map_find(&trie->edges, (uint64_t)node << 8 | (unsigned char)at[i]);
		if (!slot)
			break;
		node = slot->id;
		if (trie->ends.at[node] >= 0) {
			index = trie->ends.at[node];
			*found = i + 1;
		}
	}
	return index;
}

static int normalize_content(const qat_bpe *bpe, qat_added *added)
{
	qat_text scratch[2] = { { 0 } };
	qat_string was = added->content;
	const char *text;
	size_t length = was.length;
	int rc = qat_normalize(scratch, &text, &length, &bpe->normalizers, was.at, bpe->name);

	if (!rc) {
		rc = qat_string_copy(&added->content, text, length);
		if (!rc)
			free(was.at);
	}
	qat_text_free(&scratch[0]);
	qat_text_free(&scratch[1]);
	return rc;
}

int qat_added_ready(qat_bpe *bpe)
{
	int rc = QAT_OK;

	for (size_t i = 0; i < bpe->added_count && !rc; i++) {
		qat_added *added = &bpe->added[i];

		if (added->normalized)
			rc = normalize_content(bpe, added);
		if (!rc && (!added->content.length || added->content.length > QAT_BPE_ADDED_MAX))
			rc = qat_fail(QAT_EFORMAT, "%s: added_tokens[%zu] has %zu bytes when "
				      "normalized, not 1 to %d", bpe->name, i,
				      added->content.length, QAT_BPE_ADDED_MAX);
		if (!rc)
			rc = trie_add(added->normalized ? &bpe->normalized : &bpe->raw, added,
				      (int32_t)i, bpe->name);
		if (!rc && added->single_word && !bpe->word)
			rc = qat_regex_new(&bpe->word, word_pattern, strlen(word_pattern),
					   bpe->name);
	}
	return rc;
}

/* ---- the text ---- */

/* 1 when the character that starts, or ends, at `at` is of a word. */
static int is_word(qat_run *run, const char *text, size_t length, size_t at, bool before)
{
	size_t from = at, start, end;
	bool valid;

	if (before)
		while (from && (text[--from] & 0xc0) == 0x80)
			;
	end = from + qat_utf8_next(text + from, length - from, &valid);
	return qat_regex_find(run->bpe->word, &run->match, text + from, end - from, 0, &start,
			      &end);
}

/* 1 when the token at start..end stands alone. */
static int stands_alone(qat_run *run, const char *text, size_t length, size_t start, size_t end)
{
	int rc = start ? is_word(run, text, length, start, true) : 0;

	if (!rc && end < length)
		rc = is_word(run, text, length, end, false);
	return rc < 0 ? rc : !rc;
}

/* One token at start..end: what lies before it goes on, then its id. `*done` is the end of
 * what has been dealt with. A token may have taken white space with which the next one
 * begins: that one counts all the same, unless with lstrip nothing is left of it; so it is
 * in `tokenizers`. */
static int take(qat_run *run, const qat_added *added, qat_sink *rest, const char *text,
		size_t length, bool first, size_t start, size_t end, size_t *done)
{
	size_t left;
	int rc = QAT_OK;

	if (added->single_word) {
		rc = stands_alone(run, text, length, start, end);
		if (rc != 1)
			return rc;
		rc = QAT_OK;
	}
	if (added->lstrip) {
		left = start - qat_utf8_spaces_before(text, start);
		start = left > *done ? left : *done;
	}
	if (added->rstrip)
		end += qat_utf8_spaces_after(text + end, length - end);
	if (*done < start)
		rc = rest(run, text + *done, start - *done, first && !*done);
	if (start >= end)
		return rc;
	*done = end;
	return rc ? rc : qat_list_append(&run->ids, added->id);
}

int qat_added_split(qat_run *run, const qat_trie *trie, qat_sink *rest, const char *text,
		    size_t length, bool first)
{
	size_t i = 0, done = 0, found = 0;
	int32_t index;
	int rc = QAT_OK;

	while (trie->ends.count && i < length && !rc) {
		if (!trie->first[(unsigned char)text[i]]) {
			i++;
			continue;
		}
		index = trie_find(trie, text + i, length - i, &found);
		if (index < 0) {
			i++;
			continue;
		}
		rc = take(run, &run->bpe->added[index], rest, text, length, first, i, i + found,
			  &done);
		i += found;
	}
	if (!rc && done < length)
		rc = rest(run, text + done, length - done, first && !done);
	return rc;
}
