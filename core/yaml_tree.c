/* yaml_tree.c - nodes and their memory: making, finding, naming. */
#include "yaml_internal.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

enum { CHUNK = 16 << 10, SHOWN_MAX = 48, PATH_MAX_BYTES = 320 };

struct qat_yaml_chunk {
	struct qat_yaml_chunk *next;
	size_t used, size;
	max_align_t data[];
};

static struct qat_yaml_chunk *chunk_new(qat_yaml *doc, size_t size)
{
	struct qat_yaml_chunk *c = calloc(1, sizeof *c + size);

	if (!c) {
		qat_fail(QAT_ENOMEM, "%s: out of memory", doc->name ? doc->name : "yaml");
		return NULL;
	}
	c->size = size;
	c->next = doc->chunks;
	doc->chunks = c;
	return c;
}

void *qat_yaml_alloc(qat_yaml *doc, size_t size)
{
	struct qat_yaml_chunk *c = doc->chunks;
	void *p;

	size = (size + _Alignof(max_align_t) - 1) / _Alignof(max_align_t) * _Alignof(max_align_t);
	if (!c || c->size - c->used < size)
		c = chunk_new(doc, size > CHUNK ? size : CHUNK);
	if (!c)
		return NULL;
	p = (char *)c->data + c->used;
	c->used += size;
	return p;
}

const char *qat_yaml_copy_text(qat_yaml *doc, const char *text, size_t length)
{
	char *copy = qat_yaml_alloc(doc, length + 1);

	if (copy)
		memcpy(copy, text, length);
	return copy;
}

void qat_yaml_free(qat_yaml *doc)
{
	struct qat_yaml_chunk *next;

	if (!doc)
		return;
	for (struct qat_yaml_chunk *c = doc->chunks; c; c = next) {
		next = c->next;
		free(c);
	}
	free(doc);
}

qat_yaml_node *qat_yaml_root(const qat_yaml *doc)
{
	return doc->root;
}

qat_yaml_node *qat_yaml_node_new(qat_yaml *doc, int type)
{
	qat_yaml_node *node = qat_yaml_alloc(doc, sizeof *node);

	if (node) {
		node->type = type;
		node->doc = doc;
		node->file = doc->name;
	}
	return node;
}

qat_yaml_node *qat_yaml_node_like(const qat_yaml_node *node)
{
	qat_yaml_node *copy = qat_yaml_node_new(node->doc, node->type);

	if (copy) {
		copy->quoted = node->quoted;
		copy->line = node->line;
		copy->column = node->column;
		copy->file = node->file;
		copy->text = node->text;
		copy->own.target = node->own.target;
		copy->own.expanded = node->own.expanded;
	}
	return copy;
}

static int grow(qat_yaml_node *node)
{
	size_t old = (size_t)node->count, room = old ? 2 * old : 4;
	qat_yaml_node **items = qat_yaml_alloc(node->doc, 2 * room * sizeof *items);

	if (!items)
		return QAT_ENOMEM;
	if (old) {
		memcpy(items, node->items, old * sizeof *items);
		memcpy(items + room, node->keys, old * sizeof *items);
	}
	node->items = items;
	node->keys = items + room;
	node->own.room = (int64_t)room;
	return QAT_OK;
}

int qat_yaml_put(qat_yaml_node *parent, qat_yaml_node *key, qat_yaml_node *item)
{
	if (parent->count == parent->own.room && grow(parent))
		return QAT_ENOMEM;
	parent->items[parent->count] = item;
	parent->keys[parent->count] = key;
	parent->count++;
	item->parent = parent;
	if (key)
		key->parent = parent;
	return QAT_OK;
}

int64_t qat_yaml_find(const qat_yaml_node *map, const char *key)
{
	if (!map || map->type != QAT_YAML_MAP)
		return -1;
	for (int64_t i = 0; i < map->count; i++) {
		if (!strcmp(map->keys[i]->text, key))
			return i;
	}
	return -1;
}

int qat_yaml_count(const qat_yaml_node *node)
{
	if (++node->doc->nodes <= QAT_YAML_NODES_MAX)
		return QAT_OK;
	return qat_yaml_fail(node, QAT_EINVAL, "the document has more than %d values, with "
			     "its aliases and merges expanded: make it smaller",
			     QAT_YAML_NODES_MAX);
}

qat_yaml_node *qat_yaml_get(const qat_yaml_node *map, const char *key)
{
	int64_t i = qat_yaml_find(map, key);

	return i < 0 ? NULL : map->items[i];
}

qat_yaml_node *qat_yaml_at(const qat_yaml_node *node, int64_t index)
{
	return node && index >= 0 && index < node->count ? node->items[index] : NULL;
}

const char *qat_yaml_text(const qat_yaml_node *node)
{
	return node && node->type == QAT_YAML_SCALAR && node->text ? node->text : "";
}

const char *qat_yaml_type_name(const qat_yaml_node *node)
{
	static const char *const names[] = {
		[QAT_YAML_NULL] = "nothing", [QAT_YAML_SCALAR] = "a string",
		[QAT_YAML_SEQ] = "a list", [QAT_YAML_MAP] = "a map",
		[QAT_YAML_ALIAS] = "an alias",
	};

	return names[node->type];
}

int qat_yaml_null_text(const char *text)
{
	static const char *const nulls[] = { "", "~", "null", "Null", "NULL" };

	for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++) {
		if (!strcmp(text, nulls[i]))
			return 1;
	}
	return 0;
}

int qat_yaml_merge_key(const qat_yaml_node *key)
{
	return !key->quoted && !strcmp(key->text, "<<");
}

void qat_yaml_show(char *out, size_t room, const char *text)
{
	size_t n = strlen(text), keep = n < room ? n : room - 4;

	/* never half a character */
	while (keep < n && keep > 0 && ((unsigned char)text[keep] & 0xc0) == 0x80)
		keep--;
	for (size_t i = 0; i < keep; i++) {
		unsigned char c = (unsigned char)text[i];
		/* C1 controls are 0xc2 0x80 to 0xc2 0x9f */
		int c1 = c == 0xc2 && i + 1 < keep && (unsigned char)text[i + 1] < 0xa0;

		out[i] = c < 0x20 || c == 0x7f || c1 ? '?' : (char)c;
		if (c1)
			out[++i] = '?';
	}
	strcpy(out + keep, keep < n ? "..." : "");
}

const char *qat_yaml_shown(const qat_yaml_node *node)
{
	char *out = qat_yaml_alloc(node->doc, SHOWN_MAX);

	if (!out)
		return "";
	qat_yaml_show(out, SHOWN_MAX, qat_yaml_text(node));
	return out;
}

const char *qat_yaml_where(const qat_yaml_node *node)
{
	const char *file = node->file ? node->file : "";
	size_t size = strlen(file) + 32;
	char *out;

	if (!node->line)
		return file;
	out = qat_yaml_alloc(node->doc, size);
	if (!out)
		return file;
	snprintf(out, size, "%s:%d:%d", file, node->line, node->column);
	return out;
}

/* The node's place in its parent: ".key", "[2]". */
static void path_part(char *out, size_t room, const qat_yaml_node *node)
{
	const qat_yaml_node *p = node->parent;
	char key[SHOWN_MAX];

	out[0] = '\0';
	for (int64_t i = 0; i < p->count; i++) {
		if (p->items[i] != node && p->keys[i] != node)
			continue;
		if (p->type == QAT_YAML_SEQ) {
			snprintf(out, room, "[%lld]", (long long)i);
			return;
		}
		qat_yaml_show(key, sizeof key, p->keys[i]->text);
		snprintf(out, room, strpbrk(key, ".[]=\" ") ? ".\"%s\"" : ".%s", key);
		return;
	}
}

const char *qat_yaml_path(const qat_yaml_node *node)
{
	char *out = qat_yaml_alloc(node->doc, PATH_MAX_BYTES), part[SHOWN_MAX + 8];
	size_t at = PATH_MAX_BYTES - 1, n;

	if (!out)
		return "";
	for (; node->parent; node = node->parent) {
		path_part(part, sizeof part, node);
		n = strlen(part);
		if (n + 3 > at) {	/* deep: show the near end */
			memcpy(out + at - 3, "...", 3);
			return out + at - 3;
		}
		at -= n;
		memcpy(out + at, part, n);
	}
	return out + at + (out[at] == '.');
}

int qat_yaml_fail(const qat_yaml_node *node, int code, const char *fmt, ...)
{
	const char *where = qat_yaml_where(node), *path = qat_yaml_path(node);
	char text[QAT_MESSAGE_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return qat_fail(code, "%s: %s%s%s", where, path, *path ? ": " : "", text);
}

int qat_yaml_expect(const qat_yaml_node *node, int type)
{
	qat_yaml_node wanted = { .type = type };

	if (node->type == type)
		return QAT_OK;
	return qat_yaml_fail(node, QAT_EINVAL, "this is %s: it must be %s",
			     qat_yaml_type_name(node), qat_yaml_type_name(&wanted));
}
