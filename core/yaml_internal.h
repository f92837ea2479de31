/* yaml_internal.h - what the files of the document layer share. */
#ifndef QAT_YAML_INTERNAL_H
#define QAT_YAML_INTERNAL_H

#include "yaml_tree.h"

enum { QAT_YAML_ALIAS = 4 };	/* in the raw tree: text is the anchor, own.target the node */

struct qat_yaml_chunk;

struct qat_yaml {
	qat_yaml_node *root;
	const char *name;
	struct qat_yaml_chunk *chunks;
	int64_t nodes;		/* made in this pass */
	int64_t expanded;	/* bytes that variables made */
};

/* Zeroed memory of the document; NULL after a failure was left. */
void *qat_yaml_alloc(qat_yaml *doc, size_t size);
const char *qat_yaml_copy_text(qat_yaml *doc, const char *text, size_t length);

qat_yaml_node *qat_yaml_node_new(qat_yaml *doc, int type);

/* A node of the same type, place and text, without items. */
qat_yaml_node *qat_yaml_node_like(const qat_yaml_node *node);

/* Puts an item at the end; `key` is NULL in a list. */
int qat_yaml_put(qat_yaml_node *parent, qat_yaml_node *key, qat_yaml_node *item);

/* The index of a key, -1 where there is none. */
int64_t qat_yaml_find(const qat_yaml_node *map, const char *key);

/* One node more in this pass; fails at `node` past the cap. */
int qat_yaml_count(const qat_yaml_node *node);

/* True for a text that means null when it is not quoted. */
int qat_yaml_null_text(const char *text);

/* True for the key that merges: an unquoted `<<`. */
int qat_yaml_merge_key(const qat_yaml_node *key);

/* Whole number of bytes of text that are printable UTF-8, as many as `room` holds with
 * a NUL; the rest is shown as "..." and control characters as '?'. */
void qat_yaml_show(char *out, size_t room, const char *text);

/* Where a text stops being UTF-8 without control characters; NULL where it never does. */
const char *qat_yaml_bad_byte(const char *text, size_t length);
int qat_yaml_clean(const char *text);
int qat_yaml_utf8(const char *text);	/* control characters or not */

/* Builds the raw tree of a text. `lined` is 0 where places mean nothing (--set). */
int qat_yaml_events(qat_yaml_node **out, qat_yaml *doc, const char *text, size_t length,
		    const char *file, int lined);

int qat_yaml_set(qat_yaml *doc, const char *argument);
int qat_yaml_resolve(qat_yaml *doc);

#endif
