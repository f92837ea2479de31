/* yaml_build.c - documents made by programs. */
#include "yaml_internal.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

int qat_yaml_new(qat_yaml **out, const char *name)
{
	qat_yaml *doc = calloc(1, sizeof *doc);

	if (!doc)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", name);
	doc->name = qat_yaml_copy_text(doc, name, strlen(name));
	doc->root = doc->name ? qat_yaml_node_new(doc, QAT_YAML_MAP) : NULL;
	if (!doc->root) {
		qat_yaml_free(doc);
		return QAT_ENOMEM;
	}
	*out = doc;
	return QAT_OK;
}

qat_yaml_node *qat_yaml_map_new(qat_yaml *doc)
{
	return qat_yaml_node_new(doc, QAT_YAML_MAP);
}

qat_yaml_node *qat_yaml_seq_new(qat_yaml *doc)
{
	return qat_yaml_node_new(doc, QAT_YAML_SEQ);
}

qat_yaml_node *qat_yaml_null_new(qat_yaml *doc)
{
	return qat_yaml_node_new(doc, QAT_YAML_NULL);
}

qat_yaml_node *qat_yaml_scalar_new(qat_yaml *doc, const char *fmt, ...)
{
	qat_yaml_node *node = qat_yaml_node_new(doc, QAT_YAML_SCALAR);
	va_list ap;
	char *text;
	int n;

	if (!node)
		return NULL;
	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	text = n < 0 ? NULL : qat_yaml_alloc(doc, (size_t)n + 1);
	if (!text)
		return NULL;
	va_start(ap, fmt);
	vsnprintf(text, (size_t)n + 1, fmt, ap);
	va_end(ap);
	node->text = text;
	return node;
}

int qat_yaml_map_set(qat_yaml_node *map, const char *key, qat_yaml_node *value)
{
	int64_t i = map ? qat_yaml_find(map, key) : -1;
	qat_yaml_node *k;

	if (!map || !value)
		return QAT_ENOMEM;
	if (map->type != QAT_YAML_MAP)
		return qat_yaml_expect(map, QAT_YAML_MAP);
	if (i >= 0) {
		map->items[i] = value;
		value->parent = map;
		return QAT_OK;
	}
	k = qat_yaml_scalar_new(map->doc, "%s", key);
	return k ? qat_yaml_put(map, k, value) : QAT_ENOMEM;
}

int qat_yaml_seq_append(qat_yaml_node *seq, qat_yaml_node *value)
{
	if (!seq || !value)
		return QAT_ENOMEM;
	if (seq->type != QAT_YAML_SEQ)
		return qat_yaml_expect(seq, QAT_YAML_SEQ);
	return qat_yaml_put(seq, NULL, value);
}

int qat_yaml_text_set(qat_yaml_node *node, const char *text)
{
	const char *copy = qat_yaml_copy_text(node->doc, text, strlen(text));

	if (!copy)
		return QAT_ENOMEM;
	node->type = QAT_YAML_SCALAR;
	node->text = copy;
	node->count = 0;
	return QAT_OK;
}
