/* yaml_set.c - one --set a.b[2]=value on the raw tree. Where the way leads through an
 * alias or to a key that a merge brings, that value is copied first, so that the
 * change stays at the place that was named. */
#include "yaml_internal.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"

enum { SHOWN = 72, KEY_MAX = 256 };

struct setting {
	qat_yaml *doc;
	const char *file;	/* "--set a.b=value", for messages */
	const char *at;		/* what is left of the path */
	char key[KEY_MAX];	/* "" where the step is an index */
	int64_t index;
	char done[2 * KEY_MAX];	/* the path so far, for messages */
};

static int bad_path(const struct setting *s)
{
	return qat_fail(QAT_EINVAL, "%s: not a setting: write it like steps[0].lr=2e-5", s->file);
}

static int read_index(struct setting *s)
{
	const char *p = s->at + 1;
	int64_t n = 0;

	for (; *p >= '0' && *p <= '9' && n < QAT_YAML_NODES_MAX; p++)
		n = n * 10 + (*p - '0');
	if (p == s->at + 1 || *p != ']')
		return bad_path(s);
	s->key[0] = '\0';
	s->index = n;
	s->at = p + 1;
	return QAT_OK;
}

static int read_key(struct setting *s, int first)
{
	const char *p = s->at, *end;

	if (!first && *p++ != '.')
		return bad_path(s);
	if (*p == '"') {
		p++;
		end = strchr(p, '"');
	} else {
		end = p + strcspn(p, ".[]=\"");
	}
	if (!end || end == p || end - p >= KEY_MAX)
		return bad_path(s);
	memcpy(s->key, p, (size_t)(end - p));
	s->key[end - p] = '\0';
	s->at = end + (*end == '"');
	return QAT_OK;
}

/* Reads one step of the path: a key or an index. */
static int read_step(struct setting *s, int first)
{
	return *s->at == '[' ? read_index(s) : read_key(s, first);
}

static qat_yaml_node *copy(const qat_yaml_node *raw)
{
	qat_yaml_node *node = qat_yaml_node_like(raw), *key, *item;

	if (!node || qat_yaml_count(node))
		return NULL;
	for (int64_t i = 0; i < raw->count; i++) {
		key = raw->keys[i] ? qat_yaml_node_like(raw->keys[i]) : NULL;
		item = copy(raw->items[i]);
		if (!item || (raw->keys[i] && !key) || qat_yaml_put(node, key, item))
			return NULL;
	}
	return node;
}

static const qat_yaml_node *followed(const qat_yaml_node *raw)
{
	return raw->type == QAT_YAML_ALIAS ? raw->own.target : raw;
}

/* The value that merges bring for `key`. Malformed and cyclic merges are reported when
 * they are resolved; here `*budget` only ends the search. */
static const qat_yaml_node *merged(const qat_yaml_node *map, const char *key, int depth,
				   int *budget)
{
	const qat_yaml_node *from, *found = NULL, *list;
	int64_t i = qat_yaml_find(map, key);

	if (i >= 0 && depth)
		return map->items[i];
	i = qat_yaml_find(map, "<<");
	if (i < 0 || !qat_yaml_merge_key(map->keys[i]) || depth > QAT_YAML_DEPTH_MAX)
		return NULL;
	list = followed(map->items[i]);
	if (list->type == QAT_YAML_MAP)
		return --*budget < 0 ? NULL : merged(list, key, depth + 1, budget);
	for (i = 0; !found && i < list->count && --*budget > 0; i++) {
		from = followed(list->items[i]);
		found = merged(from, key, depth + 1, budget);
	}
	return found;
}

/* The place of a key in a map, made where it is missing. */
static int step_key(qat_yaml_node ***slot, struct setting *s, qat_yaml_node *map)
{
	int64_t i = qat_yaml_find(map, s->key);
	int budget = QAT_YAML_NODES_MAX;
	const qat_yaml_node *from;
	qat_yaml_node *key, *item;

	if (i < 0) {
		from = merged(map, s->key, 0, &budget);
		key = qat_yaml_scalar_new(s->doc, "%s", s->key);
		item = from ? copy(followed(from)) : qat_yaml_node_new(s->doc, QAT_YAML_NULL);
		if (!key || !item)
			return QAT_ENOMEM;
		key->file = s->file;
		key->quoted = 1;	/* never a merge */
		if (!from)
			item->file = s->file;
		if (qat_yaml_put(map, key, item))
			return QAT_ENOMEM;
		i = map->count - 1;
	}
	*slot = &map->items[i];
	return QAT_OK;
}

static int step_index(qat_yaml_node ***slot, const struct setting *s, qat_yaml_node *list)
{
	if (s->index < list->count) {
		*slot = &list->items[s->index];
		return QAT_OK;
	}
	if (!list->count)
		return qat_fail(QAT_EINVAL, "%s: the list %s is empty: set it as a whole, like "
				"%s=[...]", s->file, s->done, s->done);
	return qat_fail(QAT_EINVAL, "%s: the list %s has %lld items: its last is [%lld]", s->file,
			s->done, (long long)list->count, (long long)list->count - 1);
}

/* From the node in `*slot` to the place of the step that was read. */
static int step(qat_yaml_node ***slot, struct setting *s)
{
	qat_yaml_node *node = **slot, *parent = node->parent;
	const char *name = s->done[0] ? s->done : "the document";

	if (node->type == QAT_YAML_ALIAS || (node->type == QAT_YAML_NULL && s->key[0])) {
		node = node->type == QAT_YAML_ALIAS ? copy(node->own.target) :
			qat_yaml_node_new(s->doc, QAT_YAML_MAP);
		if (!node)
			return QAT_ENOMEM;
		if (!node->line)
			node->file = s->file;
		node->parent = parent;
		**slot = node;
	}
	if (s->key[0] && node->type == QAT_YAML_MAP)
		return step_key(slot, s, node);
	if (!s->key[0] && node->type == QAT_YAML_SEQ)
		return step_index(slot, s, node);
	return qat_fail(QAT_EINVAL, "%s: %s is %s: it has no %s%s%s", s->file, name,
			qat_yaml_type_name(node), s->key[0] ? "key \"" : "items",
			s->key, s->key[0] ? "\"" : "");
}

/* Adds the step to the path for messages; a long one loses its end. */
static void note(struct setting *s)
{
	size_t n = strlen(s->done);
	char *at = s->done + n;

	if (!s->key[0])
		snprintf(at, sizeof s->done - n, "[%lld]", (long long)s->index);
	else
		snprintf(at, sizeof s->done - n, "%s%s", n ? "." : "", s->key);
}

static int read_value(qat_yaml_node **out, const struct setting *s, const char *value)
{
	size_t n;
	qat_yaml_node *node;

	value += strspn(value, " \t");
	n = strlen(value);
	while (n && (value[n - 1] == ' ' || value[n - 1] == '\t'))
		n--;
	if (n && strchr("[{\"'", *value))
		return qat_yaml_events(out, s->doc, value, n, s->file, 0);
	node = qat_yaml_node_new(s->doc, QAT_YAML_SCALAR);
	if (!node)
		return QAT_ENOMEM;
	node->file = s->file;
	node->text = qat_yaml_copy_text(s->doc, value, n);
	if (!node->text)
		return QAT_ENOMEM;
	if (qat_yaml_null_text(node->text))
		node->type = QAT_YAML_NULL;
	*out = node;
	return QAT_OK;
}

int qat_yaml_set(qat_yaml *doc, const char *argument)
{
	struct setting s = { .doc = doc, .at = argument };
	qat_yaml_node **slot = &doc->root, *value;
	char shown[SHOWN], file[SHOWN + 8];
	int rc, steps = 0;

	qat_yaml_show(shown, sizeof shown, argument);
	snprintf(file, sizeof file, "--set %s", shown);
	s.file = qat_yaml_copy_text(doc, file, strlen(file));
	if (!s.file)
		return QAT_ENOMEM;
	if (strlen(argument) > QAT_YAML_SCALAR_MAX || !qat_yaml_clean(argument))
		return qat_fail(QAT_EINVAL, "%s: not text: it is too long, holds control "
				"characters or is not UTF-8", s.file);
	do {
		rc = read_step(&s, !steps);
		if (!rc)
			rc = step(&slot, &s);
		if (rc)
			return rc;
		note(&s);
		if (++steps == QAT_YAML_DEPTH_MAX)
			return qat_fail(QAT_EINVAL, "%s: more than %d steps", s.file, steps);
	} while (*s.at != '=');
	rc = read_value(&value, &s, s.at + 1);
	if (rc)
		return rc;
	value->parent = (*slot)->parent;
	*slot = value;
	return QAT_OK;
}
