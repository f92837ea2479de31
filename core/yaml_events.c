/* yaml_events.c - libyaml's events to the raw tree, in which aliases point to their
 * nodes and merge keys are keys. libyaml finds the syntax; what it lets pass and we
 * do not (duplicate keys, tags, second documents, sizes) is refused here. */
#include "yaml_internal.h"

#include <string.h>
#include <yaml.h>

#include "error.h"
#include "hint.h"

enum { ANCHORS_MAX = 1024 };

struct builder {
	qat_yaml *doc;
	yaml_parser_t parser;
	const char *text, *file;
	size_t length;
	int lined, documents;
	qat_yaml_node *root;
	qat_yaml_node *open[QAT_YAML_DEPTH_MAX];	/* lists and maps not yet ended */
	qat_yaml_node *key[QAT_YAML_DEPTH_MAX];		/* a map's key that waits for its value */
	int depth;
	const char *anchors[ANCHORS_MAX];
	qat_yaml_node *anchored[ANCHORS_MAX];
	int n_anchors;
};

static const char *place(const struct builder *b, yaml_mark_t mark)
{
	qat_yaml_node at = { .file = b->file, .doc = b->doc };

	if (b->lined) {
		at.line = (int)mark.line + 1;
		at.column = (int)mark.column + 1;
	}
	return qat_yaml_where(&at);
}

static int node_at(qat_yaml_node **out, struct builder *b, int type, const yaml_event_t *e)
{
	qat_yaml_node *node = qat_yaml_node_new(b->doc, type);

	if (!node)
		return QAT_ENOMEM;
	node->file = b->file;
	if (b->lined) {
		node->line = (int)e->start_mark.line + 1;
		node->column = (int)e->start_mark.column + 1;
	}
	*out = node;
	return qat_yaml_count(node);
}

/* `key` becomes the key that the next node is the value of. */
static int take_key(struct builder *b, qat_yaml_node *map, qat_yaml_node *key)
{
	int64_t i;

	key->parent = map;
	if (key->type != QAT_YAML_SCALAR)
		return qat_yaml_fail(key, QAT_EINVAL, "a key is %s: keys must be strings",
				     qat_yaml_type_name(key));
	if (map->count >= QAT_YAML_KEYS_MAX)
		return qat_yaml_fail(key, QAT_EINVAL, "more than %d keys in one map",
				     QAT_YAML_KEYS_MAX);
	i = qat_yaml_find(map, key->text);
	if (i >= 0 && qat_yaml_merge_key(key))
		return qat_yaml_fail(key, QAT_EINVAL, "a second \"<<\": merge several maps with "
				     "<<: [*one, *two]");
	if (i >= 0)
		return qat_yaml_fail(key, QAT_EINVAL, "the key \"%s\" is there already, at %s: "
				     "keep one of the two", qat_yaml_shown(key),
				     qat_yaml_where(map->keys[i]));
	b->key[b->depth - 1] = key;
	return QAT_OK;
}

/* Puts a new node where the text has it. */
static int take_node(struct builder *b, qat_yaml_node *node)
{
	qat_yaml_node *top, *key;

	if (!b->depth) {
		b->root = node;
		return QAT_OK;
	}
	top = b->open[b->depth - 1];
	key = b->key[b->depth - 1];
	if (top->type == QAT_YAML_MAP && !key)
		return take_key(b, top, node);
	b->key[b->depth - 1] = NULL;
	return qat_yaml_put(top, key, node);
}

static int take_anchor(struct builder *b, const qat_yaml_node *at, const yaml_char_t *name,
		       qat_yaml_node *node)
{
	const char *copy;

	if (!name)
		return QAT_OK;
	if (b->n_anchors == ANCHORS_MAX)
		return qat_yaml_fail(at, QAT_EINVAL, "more than %d anchors", ANCHORS_MAX);
	copy = qat_yaml_copy_text(b->doc, (const char *)name, strlen((const char *)name));
	if (!copy)
		return QAT_ENOMEM;
	b->anchors[b->n_anchors] = copy;
	b->anchored[b->n_anchors++] = node;
	return QAT_OK;
}

/* The core tags say what the value is anyway; `*text` is set where one says string. */
static int check_tag(int *text, const qat_yaml_node *at, const yaml_char_t *given)
{
	static const char *const core[] = {
		YAML_NULL_TAG, YAML_BOOL_TAG, YAML_STR_TAG, YAML_INT_TAG, YAML_FLOAT_TAG,
		YAML_SEQ_TAG, YAML_MAP_TAG,
	};
	const char *tag = (const char *)given;
	char shown[64];

	if (!tag)
		return QAT_OK;
	for (size_t i = 0; i < sizeof core / sizeof *core; i++) {
		if (strcmp(tag, core[i]))
			continue;
		*text = !strcmp(tag, YAML_STR_TAG);
		return QAT_OK;
	}
	qat_yaml_show(shown, sizeof shown, tag);
	return qat_yaml_fail(at, QAT_EINVAL, "the tag \"%s\" means nothing here: leave it out",
			     shown);
}

static int on_scalar(struct builder *b, const yaml_event_t *e)
{
	const char *value = (const char *)e->data.scalar.value;
	size_t length = e->data.scalar.length;
	qat_yaml_node *node;
	int rc = node_at(&node, b, QAT_YAML_SCALAR, e);

	if (rc)
		return rc;
	node->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
	rc = check_tag(&node->quoted, node, e->data.scalar.tag);
	if (rc)
		return rc;
	if (memchr(value, 0, length))
		return qat_yaml_fail(node, QAT_EINVAL, "a string with a NUL (\\0) in it: leave "
				     "it out");
	if (length > QAT_YAML_SCALAR_MAX)
		return qat_yaml_fail(node, QAT_EINVAL, "a string of %zu bytes: at most %d are "
				     "read", length, QAT_YAML_SCALAR_MAX);
	if (!node->quoted && qat_yaml_null_text(value))
		node->type = QAT_YAML_NULL;
	node->text = qat_yaml_copy_text(b->doc, value, length);
	if (!node->text)
		return QAT_ENOMEM;
	rc = take_anchor(b, node, e->data.scalar.anchor, node);
	return rc ? rc : take_node(b, node);
}

static int on_alias(struct builder *b, const yaml_event_t *e)
{
	const char *name = (const char *)e->data.alias.anchor, *near;
	qat_yaml_node *node;
	int rc = node_at(&node, b, QAT_YAML_ALIAS, e);

	if (rc)
		return rc;
	node->text = qat_yaml_copy_text(b->doc, name, strlen(name));
	if (!node->text)
		return QAT_ENOMEM;
	for (int i = b->n_anchors - 1; i >= 0 && !node->own.target; i--) {
		if (!strcmp(b->anchors[i], name))
			node->own.target = b->anchored[i];
	}
	if (node->own.target)
		return take_node(b, node);
	near = qat_hint_nearest(name, b->anchors, b->n_anchors);
	if (near)
		return qat_yaml_fail(node, QAT_EINVAL, "no anchor &%.40s before this alias: did "
				     "you mean *%.40s?", name, near);
	return qat_yaml_fail(node, QAT_EINVAL, "no anchor &%.40s before this alias: put it on the "
			     "value that is meant", name);
}

static int open_node(struct builder *b, int type, const yaml_event_t *e,
		     const yaml_char_t *anchor, const yaml_char_t *tag)
{
	qat_yaml_node *node;
	int ignored, rc = node_at(&node, b, type, e);

	if (!rc)
		rc = check_tag(&ignored, node, tag);
	if (!rc)
		rc = take_anchor(b, node, anchor, node);
	if (!rc)
		rc = take_node(b, node);
	if (rc)
		return rc;
	if (b->depth == QAT_YAML_DEPTH_MAX)
		return qat_yaml_fail(node, QAT_EINVAL, "nested more than %d deep",
				     QAT_YAML_DEPTH_MAX);
	b->key[b->depth] = NULL;
	b->open[b->depth++] = node;
	return QAT_OK;
}

static int on_seq(struct builder *b, const yaml_event_t *e)
{
	return open_node(b, QAT_YAML_SEQ, e, e->data.sequence_start.anchor,
			 e->data.sequence_start.tag);
}

static int on_map(struct builder *b, const yaml_event_t *e)
{
	return open_node(b, QAT_YAML_MAP, e, e->data.mapping_start.anchor,
			 e->data.mapping_start.tag);
}

static int on_end(struct builder *b, const yaml_event_t *e)
{
	(void)e;
	b->depth--;
	return QAT_OK;
}

static int on_document(struct builder *b, const yaml_event_t *e)
{
	if (b->documents++)
		return qat_fail(QAT_EINVAL, "%s: a second document begins here: one file holds "
				"one document", place(b, e->start_mark));
	return QAT_OK;
}

/* Where libyaml stopped; marks count characters. */
static const char *text_at(const struct builder *b, size_t index)
{
	const char *p = b->text, *end = b->text + b->length;

	for (; p < end && index; index--) {
		do
			p++;
		while (p < end && ((unsigned char)*p & 0xc0) == 0x80);
	}
	return p;
}

static const char *advice(const char *problem, int at)
{
	static const struct { const char *start, *advice; } table[] = {
		{ "mapping values are not",
		  ": is something indented wrongly, or does a value with \": \" need quotes?" },
		{ "could not find expected ':'", ": a key is followed by a colon and a space" },
		{ "found unexpected end of stream", ": a quote is not closed" },
		{ "did not find expected <document start>", ": is something indented wrongly?" },
		{ "did not find expected key", ": is something indented wrongly?" },
		{ "did not find expected '-'", ": is something indented wrongly?" },
		{ "did not find expected ','", ": is a comma or a closing bracket missing?" },
		{ "did not find expected alpha", ": quote a value that begins with & or *" },
	};

	if (at == '\t' && !strncmp(problem, "found character", 15))
		return ": indent with spaces, not tabs";
	if (at && strchr("@`%", at) && !strncmp(problem, "found character", 15))
		return ": quote a value that begins with @, ` or %";
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		if (!strncmp(problem, table[i].start, strlen(table[i].start)))
			return table[i].advice;
	}
	return "";
}

/* Says why libyaml stopped. An unquoted ${NAME} in flow style reads as the string `$`
 * and a map, which no message of a YAML parser explains. */
static int syntax_error(const struct builder *b)
{
	const yaml_parser_t *p = &b->parser;
	const char *at = text_at(b, p->problem_mark.index), *end = b->text + b->length;
	const char *problem = p->problem ? p->problem : "it cannot be read", *close, *where;

	if (p->error == YAML_MEMORY_ERROR)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", b->file);
	where = place(b, p->problem_mark);
	if (at > b->text && at < end && at[-1] == '$' && *at == '{') {
		close = memchr(at, '}', (size_t)(end - at));
		int n = close && close - at < 60 ? (int)(close - at) + 2 : 2;

		return qat_fail(QAT_EINVAL, "%s: an unquoted %.*s ends at its brace in flow style: "
				"quote the value, as in \"%.*s\"", where, n, at - 1,
				n, at - 1);
	}
	return qat_fail(QAT_EINVAL, "%s: not valid YAML: %s%s%s%s", where, problem,
			p->context ? " " : "", p->context ? p->context : "",
			advice(problem, at < end ? *at : 0));
}

static int run(struct builder *b)
{
	static int (*const on[])(struct builder *, const yaml_event_t *) = {
		[YAML_DOCUMENT_START_EVENT] = on_document,
		[YAML_ALIAS_EVENT] = on_alias,
		[YAML_SCALAR_EVENT] = on_scalar,
		[YAML_SEQUENCE_START_EVENT] = on_seq,
		[YAML_SEQUENCE_END_EVENT] = on_end,
		[YAML_MAPPING_START_EVENT] = on_map,
		[YAML_MAPPING_END_EVENT] = on_end,
	};
	yaml_event_t e;
	int rc = QAT_OK, done = 0;

	while (!rc && !done) {
		if (!yaml_parser_parse(&b->parser, &e))
			return syntax_error(b);
		done = e.type == YAML_STREAM_END_EVENT;
		if ((size_t)e.type < sizeof on / sizeof *on && on[e.type])
			rc = on[e.type](b, &e);
		yaml_event_delete(&e);
	}
	return rc;
}

int qat_yaml_events(qat_yaml_node **out, qat_yaml *doc, const char *text, size_t length,
		    const char *file, int lined)
{
	struct builder *b = qat_yaml_alloc(doc, sizeof *b);
	int rc;

	if (!b)
		return QAT_ENOMEM;
	b->doc = doc;
	b->text = text;
	b->length = length;
	b->file = file;
	b->lined = lined;
	if (!yaml_parser_initialize(&b->parser))
		return qat_fail(QAT_ENOMEM, "%s: out of memory", file);
	yaml_parser_set_encoding(&b->parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&b->parser, (const unsigned char *)text, length);
	rc = run(b);
	yaml_parser_delete(&b->parser);
	if (rc)
		return rc;
	if (!b->root) {
		b->root = qat_yaml_node_new(doc, QAT_YAML_NULL);
		if (!b->root)
			return QAT_ENOMEM;
		b->root->file = file;
		b->root->line = b->root->column = lined;
	}
	*out = b->root;
	return QAT_OK;
}
