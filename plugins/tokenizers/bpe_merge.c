/* bpe_merge.c - byte-pair encoding of one piece: characters to ids, then merges by
 * rank, the leftmost of equal rank first, out of a heap: O(n log n), as a piece may be a
 * whole book. Pieces come again and again: their ids are kept for the length of a call. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bpe.h"

enum {
	CACHE_PIECES = 1 << 18,
	CACHE_LENGTH = 128	/* bytes of a piece that is worth keeping */
};

/* ---- symbols ---- */

static int add_symbol(qat_run *run, int32_t id)
{
	size_t n = run->symbol_count;
	int rc;

	if (n >= INT32_MAX)
		return qat_fail(QAT_ENOTSUP, "%s: a piece of more than %d symbols: cut the text",
				run->bpe->name, INT32_MAX);
	rc = qat_array_grow(&run->symbol, &run->symbol_room, n, sizeof *run->symbol);
	if (rc)
		return rc;
	if (n)
		run->symbol[n - 1].next = (int32_t)n;
	run->symbol[n] = (qat_symbol){ .id = id, .prev = (int32_t)n - 1, .next = -1 };
	run->symbol_count++;
	return QAT_OK;
}

static int32_t char_id(const qat_bpe *bpe, const char *at, size_t length)
{
	return length <= 2 ? bpe->chars[qat_utf8_code(at)] :
			     qat_vocab_model_id(&bpe->vocab, at, length);
}

/* The bytes of a character as <0xNN> tokens, if all of them exist. */
static bool has_bytes(const qat_bpe *bpe, const char *at, size_t length)
{
	if (!bpe->byte_fallback)
		return false;
	for (size_t i = 0; i < length; i++)
		if (bpe->bytes[(unsigned char)at[i]] < 0)
			return false;
	return true;
}

/* A character that is not in the vocabulary. The unknown token waits in `*unk` for the next
 * known character, to be one with its neighbours if the file says so. Without an unknown
 * token the character is lost, as it is in `tokenizers`. */
static int add_unknown(qat_run *run, bool *unk, const char *at, size_t length)
{
	const qat_bpe *bpe = run->bpe;
	int rc = QAT_OK;

	if (has_bytes(bpe, at, length)) {
		for (size_t i = 0; i < length && !rc; i++)
			rc = add_symbol(run, bpe->bytes[(unsigned char)at[i]]);
		return rc;
	}
	if (!bpe->unk.at)
		return QAT_OK;
	if (bpe->unk_id < 0)
		return qat_fail(QAT_EFORMAT, "%s: model.unk_token \"%s\" is needed for `%.*s`, and "
				"is not in model.vocab", bpe->name, bpe->unk.at, (int)length, at);
	if (*unk && !bpe->fuse_unk)
		rc = add_symbol(run, bpe->unk_id);
	*unk = true;
	return rc;
}

static int read_symbols(qat_run *run, const char *text, size_t length)
{
	bool unk = false, valid;
	int32_t id;
	int rc = QAT_OK;

	run->symbol_count = 0;
	for (size_t i = 0, n; i < length && !rc; i += n) {
		n = qat_utf8_next(text + i, length - i, &valid);
		id = char_id(run->bpe, text + i, n);
		if (id < 0) {
			rc = add_unknown(run, &unk, text + i, n);
			continue;
		}
		if (unk)
			rc = add_symbol(run, run->bpe->unk_id);
		unk = false;
		if (!rc)
			rc = add_symbol(run, id);
	}
	return !rc && unk ? add_symbol(run, run->bpe->unk_id) : rc;
}

/* ---- heap of merges, the lowest order on top ---- */

static void sift_down(qat_merge *heap, size_t count, size_t i)
{
	qat_merge it = heap[i];
	size_t child;

	while ((child = 2 * i + 1) < count) {
		if (child + 1 < count && heap[child + 1].order < heap[child].order)
			child++;
		if (it.order <= heap[child].order)
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = it;
}

static qat_merge pop(qat_run *run)
{
	qat_merge top = run->heap[0];

	run->heap[0] = run->heap[--run->heap_count];
	if (run->heap_count)
		sift_down(run->heap, run->heap_count, 0);
	return top;
}

static const qat_slot *merge_of(const qat_run *run, int32_t left, int32_t right)
{
	return qat_map_find(&run->bpe->merges, (uint64_t)left << 32 | (uint32_t)right);
}

static int push(qat_run *run, int32_t left)
{
	int32_t right = left < 0 ? -1 : run->symbol[left].next;
	const qat_slot *slot;
	size_t i = run->heap_count;
	qat_merge it;
	int rc;

	if (right < 0)
		return QAT_OK;
	slot = merge_of(run, run->symbol[left].id, run->symbol[right].id);
	if (!slot)
		return QAT_OK;
	rc = qat_array_grow(&run->heap, &run->heap_room, i, sizeof *run->heap);
	if (rc)
		return rc;
	it = (qat_merge){ .order = (uint64_t)slot->rank << 32 | (uint32_t)left, .id = slot->id };
	for (; i && run->heap[(i - 1) / 2].order > it.order; i = (i - 1) / 2)
		run->heap[i] = run->heap[(i - 1) / 2];
	run->heap[i] = it;
	run->heap_count++;
	return QAT_OK;
}

/* An entry is stale when its left symbol is gone or the pair there is another by now. */
static bool is_stale(const qat_run *run, const qat_merge *top)
{
	const qat_symbol *left = &run->symbol[(uint32_t)top->order];
	const qat_slot *slot;

	if (left->gone || left->next < 0)
		return true;
	slot = merge_of(run, left->id, run->symbol[left->next].id);
	return !slot || slot->id != top->id;
}

static int merge_all(qat_run *run)
{
	int rc = QAT_OK;

	run->heap_count = 0;
	for (size_t i = 0; i + 1 < run->symbol_count && !rc; i++)
		rc = push(run, (int32_t)i);
	while (!rc && run->heap_count) {
		qat_merge top = pop(run);
		int32_t at = (int32_t)(uint32_t)top.order;
		qat_symbol *left = &run->symbol[at], *right;

		if (is_stale(run, &top))
			continue;
		right = &run->symbol[left->next];
		left->id = top.id;
		left->next = right->next;
		right->gone = true;
		if (left->next >= 0)
			run->symbol[left->next].prev = at;
		rc = push(run, left->prev);
		if (!rc)
			rc = push(run, at);
	}
	return rc;
}

/* ---- cache ---- */

static qat_piece *piece_slot(const qat_run *run, uint64_t hash, const char *text, size_t length)
{
	size_t mask = run->piece_size - 1, i = (size_t)hash & mask;

	for (; run->piece[i].length; i = (i + 1) & mask) {
		const qat_piece *p = &run->piece[i];

		if (p->hash == hash && p->length == length &&
		    !memcmp(run->keys.at + p->text, text, length))
			break;
	}
	return &run->piece[i];
}

static int cache_grow(qat_run *run)
{
	qat_piece *old = run->piece;
	size_t size = run->piece_size;
	qat_piece *at = calloc(size ? size * 2 : 256, sizeof *at);

	if (!at)
		return qat_fail(QAT_ENOMEM, "%s: no memory to encode", run->bpe->name);
	run->piece = at;
	run->piece_size = size ? size * 2 : 256;
	for (size_t i = 0; i < size; i++)
		if (old[i].length)
			*piece_slot(run, old[i].hash, run->keys.at + old[i].text,
				    old[i].length) = old[i];
	free(old);
	return QAT_OK;
}

/* Remember that the ids from `ids` to the end are those of the piece. */
static int cache_add(qat_run *run, uint64_t hash, const char *text, size_t length, size_t ids)
{
	qat_piece piece = { .hash = hash, .text = run->keys.length, .length = length,
			    .ids = run->values.count, .count = run->ids.count - ids };
	int rc = QAT_OK;

	if (run->piece_count >= CACHE_PIECES)
		return QAT_OK;
	if (run->piece_count * 2 >= run->piece_size)
		rc = cache_grow(run);
	if (!rc)
		rc = qat_text_append(&run->keys, text, length);
	for (size_t i = ids; i < run->ids.count && !rc; i++)
		rc = qat_list_append(&run->values, run->ids.at[i]);
	if (rc)
		return rc;
	*piece_slot(run, hash, text, length) = piece;
	run->piece_count++;
	return QAT_OK;
}

static int merge_anew(qat_run *run, const char *text, size_t length)
{
	int32_t id = -1;
	int rc;

	if (run->bpe->ignore_merges)
		id = qat_vocab_model_id(&run->bpe->vocab, text, length);
	if (id >= 0)
		return qat_list_append(&run->ids, id);
	rc = read_symbols(run, text, length);
	if (!rc)
		rc = merge_all(run);
	for (size_t i = 0; i < run->symbol_count && !rc; i++)
		if (!run->symbol[i].gone)
			rc = qat_list_append(&run->ids, run->symbol[i].id);
	return rc;
}

static int merge_part(qat_run *run, const char *text, size_t length)
{
	size_t ids = run->ids.count;
	const qat_piece *p;
	uint64_t hash;
	int rc = QAT_OK;

	if (length > CACHE_LENGTH)
		return merge_anew(run, text, length);
	hash = qat_hash(text, length, run);
	p = run->piece_size ? piece_slot(run, hash, text, length) : NULL;
	if (!p || !p->length) {
		rc = merge_anew(run, text, length);
		return rc ? rc : cache_add(run, hash, text, length, ids);
	}
	for (size_t i = 0; i < p->count && !rc; i++)
		rc = qat_list_append(&run->ids, run->values.at[p->ids + i]);
	return rc;
}

/* A merge across the place between two characters has a left part that ends with the one
 * and a right part that begins with the other. Where no merge in the file does, the two
 * sides do not know of each other: a book without a pre-tokenizer falls into words, which
 * the cache has. Only known characters count, which are symbols of their own. */
int qat_merge_piece(qat_run *run, const char *text, size_t length)
{
	const qat_bpe *bpe = run->bpe;
	uint64_t last = UINT32_MAX;	/* no character, or an unknown one */
	size_t from = 0;
	bool valid;
	int rc = QAT_OK;

	if (length <= CACHE_LENGTH || bpe->ignore_merges)
		return merge_part(run, text, length);
	for (size_t i = 0, n; i < length && !rc; i += n) {
		uint32_t code = qat_utf8_code(text + i);

		n = qat_utf8_next(text + i, length - i, &valid);
		if (char_id(bpe, text + i, n) < 0)
			code = UINT32_MAX;
		if (code != UINT32_MAX && last != UINT32_MAX &&
		    !qat_map_find(&bpe->joints, last << 32 | code)) {
			rc = merge_part(run, text + from, i - from);
			from = i;
		}
		last = code;
	}
	return rc ? rc : merge_part(run, text + from, length - from);
}
