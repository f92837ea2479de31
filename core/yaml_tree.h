/* yaml_tree.h - YAML documents: a tree that knows where each value stood.
 * (Not yaml.h, which is libyaml's.)
 *
 * Read in three passes: events to a raw tree; the --set arguments on the raw tree;
 * then aliases, merge keys and variables are resolved into the tree that callers see.
 * Every node belongs to its document and lives as long as it. One thread at a time.
 *
 * The language: YAML as libyaml reads it, one document, scalar keys, the core tags
 * only. A merge key `<<` takes a map or a list of maps; a map's own keys win, then the
 * earlier map. In values `${NAME}` and `${NAME:-default}` stand for environment variables
 * (the default also where the variable is empty), `$${` for a plain `${`.
 *
 * Failures leave "file:line:column: path: what is wrong: what would be right".
 */
#ifndef QAT_YAML_TREE_H
#define QAT_YAML_TREE_H

#include <stdio.h>

#include <qatrun/abi.h>
#include <qatrun/option.h>

/* What is refused beyond; a file that someone else wrote must not fill the memory. */
enum {
	QAT_YAML_FILE_MAX   = 4 << 20,	/* bytes of text */
	QAT_YAML_SCALAR_MAX = 64 << 10,	/* bytes of one string */
	QAT_YAML_VALUES_MAX = 16 << 20,	/* bytes of all strings that variables made */
	QAT_YAML_NODES_MAX  = 20000,	/* keys, values and lists, after expansion too */
	QAT_YAML_KEYS_MAX   = 1024,	/* in one map */
	QAT_YAML_DEPTH_MAX  = 64
};

enum {
	QAT_YAML_NULL   = 0,	/* nothing, `~` or `null`, not quoted */
	QAT_YAML_SCALAR = 1,
	QAT_YAML_SEQ    = 2,
	QAT_YAML_MAP    = 3
};

typedef struct qat_yaml qat_yaml;
typedef struct qat_yaml_node qat_yaml_node;

/* For reading; write through the functions below. */
struct qat_yaml_node {
	int type;			/* QAT_YAML_* */
	int quoted;
	int line, column;		/* from 1; 0: not from a file */
	const char *file;		/* as the user gave it, or "--set a.b=value" */
	const char *text;		/* SCALAR, UTF-8 without NUL; NULL: "" */
	int64_t count;			/* of items */
	qat_yaml_node **items;		/* SEQ, MAP */
	qat_yaml_node **keys;		/* MAP: scalars, one for each item */
	qat_yaml_node *parent;		/* NULL at the root */
	qat_yaml *doc;
	struct {			/* the document layer's own */
		qat_yaml_node *target;
		int64_t room;
		int busy, expanded;
	} own;
};

/* Reads a file; `sets` are the texts after --set, applied in order. `*out` is the
 * caller's. The root of an empty file is a NULL node.
 *
 * --set a.b[2]=value: what is missing on the way is made as a map; an index must be
 * there. A value that starts with [ { " or ' is YAML in flow style, any other is the
 * text itself, and none is null. A key with a dot in it is quoted: a."b.c"=1.
 * Setting a key inside what an alias or a merge brings changes it at that place only;
 * setting it where the anchor stands changes it everywhere. */
int qat_yaml_load(qat_yaml **out, const char *path, const char *const *sets, int64_t n_sets);

/* The same of a text; `name` stands for the file in messages. */
int qat_yaml_parse(qat_yaml **out, const char *text, int64_t length, const char *name,
		   const char *const *sets, int64_t n_sets);

/* An empty map to build on. */
int qat_yaml_new(qat_yaml **out, const char *name);
void qat_yaml_free(qat_yaml *doc);

qat_yaml_node *qat_yaml_root(const qat_yaml *doc);

/* The value of a key; NULL where there is none or `map` is no map or NULL. */
qat_yaml_node *qat_yaml_get(const qat_yaml_node *map, const char *key);

/* An item of a list or a map; NULL past the end. */
qat_yaml_node *qat_yaml_at(const qat_yaml_node *node, int64_t index);

/* The text of a scalar, "" of any other node. */
const char *qat_yaml_text(const qat_yaml_node *node);

/* "a map", "a list", "a string", "nothing". */
const char *qat_yaml_type_name(const qat_yaml_node *node);

/* "file:line:column" and "steps[2].schedule.warmup" ("" at the root; of a key, the
 * path of its value). Owned by the document. */
const char *qat_yaml_where(const qat_yaml_node *node);
const char *qat_yaml_path(const qat_yaml_node *node);

/* The text cut to a line that is safe to show on a terminal. Owned by the document. */
const char *qat_yaml_shown(const qat_yaml_node *node);

/* Leaves "where: path: message" and returns `code`. */
int qat_yaml_fail(const qat_yaml_node *node, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* QAT_OK if the node is of that type, else a failure that says so. */
int qat_yaml_expect(const qat_yaml_node *node, int type);

/* Readers. Quotes make no difference to them: "${THREADS:-2}" may give a number.
 * What they return lives as long as the document. Ranges are inclusive. */
int qat_yaml_bool(int64_t *out, const qat_yaml_node *node);	/* true, false */
int qat_yaml_int(int64_t *out, const qat_yaml_node *node, int64_t min, int64_t max);

/* `special`: also .inf, -.inf and .nan (NaN whatever the range). */
int qat_yaml_float(double *out, const qat_yaml_node *node, double min, double max, int special);

/* Bytes: K, M, G, T and KB ... are powers of 1000, KiB ... of 1024; 1.5GiB rounds down. */
int qat_yaml_size(int64_t *out, const qat_yaml_node *node);
int qat_yaml_string(const char **out, const qat_yaml_node *node);

/* The index of the text among `choices` (NULL at the end). */
int qat_yaml_choice(int64_t *out, const qat_yaml_node *node, const char *const *choices);

int qat_yaml_ints(qat_ints *out, const qat_yaml_node *node, int64_t min, int64_t max);
int qat_yaml_floats(qat_floats *out, const qat_yaml_node *node, double min, double max);
int qat_yaml_strings(qat_strings *out, const qat_yaml_node *node);	/* or one string */

/* Building. The `_new` functions return NULL when memory is out, and `_set` and
 * `_append` pass that on, so that calls nest. A value is put in one place only. */
qat_yaml_node *qat_yaml_map_new(qat_yaml *doc);
qat_yaml_node *qat_yaml_seq_new(qat_yaml *doc);
qat_yaml_node *qat_yaml_null_new(qat_yaml *doc);
qat_yaml_node *qat_yaml_scalar_new(qat_yaml *doc, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Puts or replaces the value of a key; the other keys keep their order. */
int qat_yaml_map_set(qat_yaml_node *map, const char *key, qat_yaml_node *value);
int qat_yaml_seq_append(qat_yaml_node *seq, qat_yaml_node *value);

/* Makes the node a scalar with this text. */
int qat_yaml_text_set(qat_yaml_node *node, const char *text);

/* Writes the tree in block style; read again it is equal, key by key. */
int qat_yaml_write(FILE *file, const qat_yaml_node *root);

#endif
