/* bpe_store.c - growing text and lists, a hash map of numbers, the vocabulary. */
#include <stdlib.h>
#include <string.h>
#include "bpe.h"

int qat_array_grow(void *at, size_t *room, size_t count, size_t each)
{
	void **array = at;
	size_t more = *room ? *room * 2 : 64;
	void *grown;

	if (count < *room)
		return QAT_OK;
	if (more > PTRDIFF_MAX / each)
		return qat_fail(QAT_ENOMEM, "tokenizer: no memory for %zu elements", more);
	grown = realloc(*array, more * each);
	if (!grown)
		return qat_fail(QAT_ENOMEM, "tokenizer: no memory for %zu elements", more);
	*array = grown;
	*room = more;
	return QAT_OK;
}

int qat_text_reserve(qat_text *text, size_t more)
{
	size_t room = text->room ? text->room : 256;
	char *grown;

	if (more < text->room - text->length)
		return QAT_OK;
	if (more >= PTRDIFF_MAX / 2 - text->length)
		return qat_fail(QAT_ENOMEM, "tokenizer: no memory for %zu bytes more", more);
	while (room <= text->length + more)
		room *= 2;
	grown = realloc(text->at, room);
	if (!grown)
		return qat_fail(QAT_ENOMEM, "tokenizer: no memory for %zu bytes", room);
	text->at = grown;
	text->room = room;
	return QAT_OK;
}

int qat_text_append(qat_text *text, const char *from, size_t length)
{
	int rc = qat_text_reserve(text, length);

	if (rc)
		return rc;
	if (length)
		memcpy(text->at + text->length, from, length);
	text->length += length;
	return QAT_OK;
}

int qat_text_check(const qat_text *text, size_t from, const char *name)
{
	if (text->length / QAT_BPE_GROWTH <= from + 1024)
		return QAT_OK;
	return qat_fail(QAT_ENOTSUP, "%s: replacing makes %zu bytes of %zu; %d times is the limit",
			name, text->length, from, QAT_BPE_GROWTH);
}

void qat_text_free(qat_text *text)
{
	free(text->at);
	*text = (qat_text){ 0 };
}

int qat_list_append(qat_list *list, int32_t value)
{
	int rc = qat_array_grow(&list->at, &list->room, list->count, sizeof *list->at);

	if (!rc)
		list->at[list->count++] = value;
	return rc;
}

/* ---- map ---- */

#define EMPTY UINT64_MAX	/* no key: ids end at 2^24 */

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0x9e3779b97f4a7c15u;
	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9u;
	return x ^ x >> 32;
}

uint64_t qat_hash(const char *at, size_t length, const void *salt)
{
	uint64_t h = length ^ (uint64_t)(uintptr_t)salt, word;

	for (; length >= 8; at += 8, length -= 8) {
		memcpy(&word, at, 8);
		h = mix(h ^ word) + word;
	}
	word = 0;
	if (length)
		memcpy(&word, at, length);
	return mix(h ^ word);
}

/* The table's address, which differs from run to run, goes into the hash: a file cannot
 * be made so that all of its keys collide. Nothing depends on the order. */
static qat_slot *slot_of(qat_slot *at, size_t size, uint64_t key)
{
	size_t i = (size_t)mix(key ^ (uint64_t)(uintptr_t)at) & (size - 1);

	while (at[i].key != key && at[i].key != EMPTY)
		i = (i + 1) & (size - 1);
	return &at[i];
}

static int map_grow(qat_map *map)
{
	size_t size = map->size ? map->size * 2 : 64;
	qat_slot *at = size <= PTRDIFF_MAX / sizeof *at ? malloc(size * sizeof *at) : NULL;

	if (!at)
		return qat_fail(QAT_ENOMEM, "tokenizer: no memory for %zu entries", size);
	for (size_t i = 0; i < size; i++)
		at[i].key = EMPTY;
	for (size_t i = 0; i < map->size; i++)
		if (map->at[i].key != EMPTY)
			*slot_of(at, size, map->at[i].key) = map->at[i];
	free(map->at);
	map->at = at;
	map->size = size;
	return QAT_OK;
}

int qat_map_put(qat_map *map, uint64_t key, uint32_t rank, int32_t id)
{
	qat_slot *slot;
	int rc;

	if (map->count * 2 >= map->size) {
		rc = map_grow(map);
		if (rc)
			return rc;
	}
	slot = slot_of(map->at, map->size, key);
	if (slot->key == EMPTY)
		map->count++;
	*slot = (qat_slot){ .key = key, .rank = rank, .id = id };
	return QAT_OK;
}

const qat_slot *qat_map_find(const qat_map *map, uint64_t key)
{
	const qat_slot *slot;

	if (!map->size)
		return NULL;
	slot = slot_of(map->at, map->size, key);
	return slot->key == EMPTY ? NULL : slot;
}

/* ---- vocabulary ---- */

static uint32_t *name_slot(const qat_vocab *v, uint32_t *slot, size_t size, const char *text,
			   size_t length)
{
	size_t i = (size_t)qat_hash(text, length, slot) & (size - 1);

	for (; slot[i]; i = (i + 1) & (size - 1)) {
		const qat_token *t = &v->token[slot[i] - 1];

		if (t->length == length && !memcmp(v->strings.at + t->offset, text, length))
			break;
	}
	return &slot[i];
}

static int names_grow(qat_vocab *v)
{
	size_t size = v->size ? v->size * 2 : 1024;
	uint32_t *slot = calloc(size, sizeof *slot);

	if (!slot)
		return qat_fail(QAT_ENOMEM, "tokenizer: no memory for %zu tokens", size);
	for (size_t i = 0; i < v->count; i++)
		*name_slot(v, slot, size, v->strings.at + v->token[i].offset,
			   v->token[i].length) = (uint32_t)i + 1;
	free(v->slot);
	v->slot = slot;
	v->size = size;
	return QAT_OK;
}

int qat_vocab_add(qat_vocab *v, const char *text, size_t length, int32_t id)
{
	uint32_t *slot;
	int rc = QAT_OK;

	if (v->count * 2 >= v->size)
		rc = names_grow(v);
	if (!rc)
		rc = qat_array_grow(&v->token, &v->room, v->count, sizeof *v->token);
	if (rc)
		return rc;
	slot = name_slot(v, v->slot, v->size, text, length);
	if (*slot || qat_map_find(&v->by_id, (uint64_t)id))
		return QAT_EINVAL;
	rc = qat_text_append(&v->strings, text, length);
	if (!rc)
		rc = qat_map_put(&v->by_id, (uint64_t)id, (uint32_t)v->count, id);
	if (rc)
		return rc;
	v->token[v->count] = (qat_token){ .offset = v->strings.length - length,
					  .length = length, .id = id, .added = -1 };
	*slot = (uint32_t)++v->count;
	if (id >= v->width)
		v->width = (int64_t)id + 1;
	return QAT_OK;
}

static const qat_token *token_named(const qat_vocab *v, const char *text, size_t length)
{
	uint32_t index = v->size ? *name_slot(v, v->slot, v->size, text, length) : 0;

	return index ? &v->token[index - 1] : NULL;
}

int32_t qat_vocab_id(const qat_vocab *v, const char *text, size_t length)
{
	const qat_token *token = token_named(v, text, length);

	return token ? token->id : -1;
}

int32_t qat_vocab_model_id(const qat_vocab *v, const char *text, size_t length)
{
	const qat_token *token = token_named(v, text, length);

	return token && token->of_model ? token->id : -1;
}

qat_token *qat_vocab_token(const qat_vocab *v, int32_t id)
{
	const qat_slot *slot = id < 0 ? NULL : qat_map_find(&v->by_id, (uint64_t)id);

	return slot ? &v->token[slot->rank] : NULL;
}

void qat_vocab_free(qat_vocab *v)
{
	qat_text_free(&v->strings);
	free(v->token);
	free(v->slot);
	free(v->by_id.at);
}
