/* yaml_resolve.c - the raw tree to the final one: aliases become copies, so that each
 * value has one path; merge keys bring in the keys that are missing; variables get
 * their values. What a hostile file can make of this is capped by qat_yaml_count. */
#include "yaml_internal.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"

struct text {
	char *at;
	size_t length, room;
};

static int text_add(struct text *t, const char *s, size_t n)
{
	char *grown;

	if (t->room - t->length <= n) {
		t->room = (t->length + n + 1) * 2;
		grown = realloc(t->at, t->room);
		if (!grown)
			return qat_fail(QAT_ENOMEM, "out of memory");
		t->at = grown;
	}
	memcpy(t->at + t->length, s, n);
	t->length += n;
	t->at[t->length] = '\0';
	return QAT_OK;
}

static size_t name_length(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");

	return *s >= '0' && *s <= '9' ? 0 : n;
}

static int unset(const qat_yaml_node *node, const char *name)
{
	return qat_yaml_fail(node, QAT_EINVAL, "the environment variable %s is not set: export "
			     "%s=..., or give a default with \"${%s:-...}\"", name, name, name);
}

static int bad_variable(const qat_yaml_node *node)
{
	return qat_yaml_fail(node, QAT_EINVAL, "\"%s\": a variable is written ${NAME} or "
			     "${NAME:-default}, a plain ${ is written $${", qat_yaml_shown(node));
}

/* Appends the value of the variable whose "${" stands at `s`; `*end` is past its "}". */
static int add_variable(struct text *t, const char **end, const qat_yaml_node *node,
			const char *s)
{
	const char *name = s + 2, *close = strchr(name, '}'), *fallback = NULL, *value;
	size_t n = name_length(name);
	char copy[128];

	if (!close || !n || n >= sizeof copy)
		return bad_variable(node);
	if (!strncmp(name + n, ":-", 2))
		fallback = name + n + 2;
	if (fallback ? strstr(fallback, "${") && strstr(fallback, "${") < close
		     : name + n != close)
		return bad_variable(node);
	memcpy(copy, name, n);
	copy[n] = '\0';
	*end = close + 1;
	value = getenv(copy);
	if (fallback && (!value || !*value))
		return text_add(t, fallback, (size_t)(close - fallback));
	if (!value)
		return unset(node, copy);
	if (!qat_yaml_clean(value))
		return qat_yaml_fail(node, QAT_EINVAL, "the environment variable %s is not "
				     "text: it holds control characters or is not UTF-8", copy);
	return text_add(t, value, strlen(value));
}

static int expand_text(struct text *t, const qat_yaml_node *node)
{
	const char *s = node->text, *next;
	int rc = text_add(t, "", 0);

	while (!rc && *s) {
		if (!strncmp(s, "$${", 3)) {
			rc = text_add(t, "${", 2);
			s += 3;
		} else if (!strncmp(s, "${", 2)) {
			rc = add_variable(t, &s, node, s);
		} else {
			next = strchr(s + 1, '$');
			next = next ? next : s + strlen(s);
			rc = text_add(t, s, (size_t)(next - s));
			s = next;
		}
		if (!rc && t->length > QAT_YAML_SCALAR_MAX)
			rc = qat_yaml_fail(node, QAT_EINVAL, "a string of more than %d bytes "
					   "once its variables are expanded", QAT_YAML_SCALAR_MAX);
	}
	return rc;
}

/* Expands the raw scalar once, however many aliases lead to it; `node` is its copy. */
static int expand(qat_yaml_node *node, qat_yaml_node *raw)
{
	struct text t = { 0 };
	int rc = QAT_OK;

	if (raw->own.expanded || !strstr(raw->text, "${"))
		return QAT_OK;
	rc = expand_text(&t, node);
	if (rc)
		goto out;
	node->doc->expanded += (int64_t)t.length;
	if (node->doc->expanded > QAT_YAML_VALUES_MAX) {
		rc = qat_yaml_fail(node, QAT_EINVAL, "more than %d bytes of text come from "
				   "variables", QAT_YAML_VALUES_MAX);
		goto out;
	}
	node->text = qat_yaml_copy_text(node->doc, t.at, t.length);
	if (!node->text) {
		rc = QAT_ENOMEM;
		goto out;
	}
	raw->text = node->text;
	raw->own.expanded = 1;
out:
	free(t.at);
	return rc;
}

static int fill(qat_yaml_node *node, qat_yaml_node *raw, int depth);

/* What an alias stands for; a node that is being filled would contain itself. */
static int follow(qat_yaml_node **raw, const qat_yaml_node *parent)
{
	const qat_yaml_node *alias = *raw;

	if (alias->type == QAT_YAML_ALIAS)
		*raw = alias->own.target;
	if (!(*raw)->own.busy)
		return QAT_OK;
	return qat_fail(QAT_EINVAL, "%s: %s%sthe alias *%.40s stands inside its own anchor: a value "
			"cannot contain itself", qat_yaml_where(alias), qat_yaml_path(parent),
			parent->parent ? ": " : "", alias->text);
}

static int add_child(qat_yaml_node *node, const qat_yaml_node *key, qat_yaml_node *raw, int depth)
{
	qat_yaml_node *k = NULL, *child;
	int rc = follow(&raw, node);

	if (rc)
		return rc;
	child = qat_yaml_node_like(raw);
	if (key)
		k = qat_yaml_node_like(key);
	if (!child || (key && !k) || qat_yaml_put(node, k, child))
		return QAT_ENOMEM;
	rc = qat_yaml_count(child);
	return rc ? rc : fill(child, raw, depth + 1);
}

static int take_map(qat_yaml_node *node, qat_yaml_node *raw, int depth);

/* The value of a `<<`: a map, or a list of maps of which the earlier win. */
static int merge(qat_yaml_node *node, qat_yaml_node *raw, int depth, int in_list)
{
	const qat_yaml_node *at = raw;
	int rc = follow(&raw, node);

	if (!rc && raw->type == QAT_YAML_MAP)
		return take_map(node, raw, depth);
	if (!rc && (raw->type != QAT_YAML_SEQ || in_list))
		return qat_fail(QAT_EINVAL, "%s: %s%s\"<<\" merges %s: it takes a map or a list of "
				"maps", qat_yaml_where(at), qat_yaml_path(node),
				node->parent ? ": " : "", qat_yaml_type_name(raw));
	for (int64_t i = 0; !rc && i < raw->count; i++)
		rc = merge(node, raw->items[i], depth, 1);
	return rc;
}

/* Adds the keys of `raw` that `node` has not, then those that `raw` merges. */
static int take_map(qat_yaml_node *node, qat_yaml_node *raw, int depth)
{
	int rc = QAT_OK;

	if (depth > QAT_YAML_DEPTH_MAX)
		return qat_yaml_fail(node, QAT_EINVAL, "nested more than %d deep",
				     QAT_YAML_DEPTH_MAX);
	raw->own.busy = 1;
	for (int64_t i = 0; !rc && i < raw->count; i++) {
		if (qat_yaml_merge_key(raw->keys[i]))
			continue;
		rc = qat_yaml_count(node);
		if (!rc && qat_yaml_find(node, raw->keys[i]->text) < 0)
			rc = add_child(node, raw->keys[i], raw->items[i], depth);
	}
	for (int64_t i = 0; !rc && i < raw->count; i++) {
		if (qat_yaml_merge_key(raw->keys[i]))
			rc = merge(node, raw->items[i], depth + 1, 0);
	}
	raw->own.busy = 0;
	return rc;
}

static int take_seq(qat_yaml_node *node, qat_yaml_node *raw, int depth)
{
	int rc = QAT_OK;

	raw->own.busy = 1;
	for (int64_t i = 0; !rc && i < raw->count; i++)
		rc = add_child(node, NULL, raw->items[i], depth);
	raw->own.busy = 0;
	return rc;
}

static int fill(qat_yaml_node *node, qat_yaml_node *raw, int depth)
{
	if (raw->type == QAT_YAML_SCALAR)
		return expand(node, raw);
	if (raw->type == QAT_YAML_NULL)
		return QAT_OK;
	if (depth > QAT_YAML_DEPTH_MAX)
		return qat_yaml_fail(node, QAT_EINVAL, "nested more than %d deep",
				     QAT_YAML_DEPTH_MAX);
	return raw->type == QAT_YAML_MAP ? take_map(node, raw, depth) : take_seq(node, raw, depth);
}

int qat_yaml_resolve(qat_yaml *doc)
{
	qat_yaml_node *raw = doc->root, *node = qat_yaml_node_like(raw);
	int rc;

	if (!node)
		return QAT_ENOMEM;
	doc->nodes = 0;
	rc = fill(node, raw, 1);
	if (!rc)
		doc->root = node;
	return rc;
}
