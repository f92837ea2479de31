/* option.h - option tables at work: filling a plugin's struct from YAML or from JSON,
 * printing a table as help, and writing a filled struct as text.
 *
 * What is filled belongs to the arena; nothing of it points into the YAML document.
 */
#ifndef QAT_CORE_OPTION_H
#define QAT_CORE_OPTION_H

#include <stdio.h>

#include <jansson.h>
#include <qatrun/option.h>

#include "arena.h"
#include "yaml_tree.h"

/* What values are resolved against. */
typedef struct qat_option_env {
	qat_arena *arena;
	const char *folder;	/* absolute; paths are relative to it */
	/* Checks the name at `node` of an option of type QAT_OPT_STATE (STATES: each),
	 * NEW_STATE, DATA, SITES or SCHEME, and fails there. NULL: any name will do. */
	int (*name)(void *context, const qat_option *o, const qat_yaml_node *node);
	void *context;
} qat_option_env;

/* Where the options come from. */
typedef struct qat_option_source {
	const qat_yaml_node *map;	/* NULL: all defaults, nothing is required */
	const char *owner;		/* "quantizer x", for messages */
	const qat_option *other;	/* keys that the map has for others; NULL: none */
	int checked;			/* 1: unknown keys have been looked for */
} qat_option_source;

/* Fills the struct at `out`, zeroed before, by its table. An unknown key, a wrong type, a
 * number out of range, a missing required option: fails at its place. A null value is as
 * if the key were not there. The value of a path is made absolute in the document too. */
int qat_option_fill(void *out, const qat_option *table, const qat_option_source *source,
		    const qat_option_env *env);

/* The same from an object of JSON: keys that the table does not have are ignored, and an
 * alias with dots reaches into nested objects. `owner` stands in messages: a file. */
int qat_option_fill_json(void *out, const qat_option *table, const json_t *object,
			 const char *owner, const qat_option_env *env);

/* Finds the plugin that `named` names and fills its options from `source->map`, which may
 * be NULL; source->owner is made here. Failures say where. */
int qat_instance_new(qat_instance *out, uint32_t kind, const qat_yaml_node *named,
		     const qat_option_source *source, const qat_option_env *env);

/* The same of a value that is the plugin's name, or {name: .., its options}. */
int qat_instance_read(qat_instance *out, uint32_t kind, const qat_yaml_node *node,
		      const qat_option_env *env);

/* The same by name alone, with all defaults. */
int qat_instance_default(qat_instance *out, uint32_t kind, const char *name,
			 const qat_option_env *env);

/* Whether a table fits a struct of `size` bytes: names, types, fields, defaults, ranges.
 * NULL is a table without options. */
int qat_option_check(const qat_option *table, uint64_t size);

/* Bytes of the field of a type; 0 of TABLE and of unknown types. */
size_t qat_option_field(uint32_t type);

/* 1 if `key` is the option's name or one of its aliases. */
int qat_option_is(const qat_option *o, const char *key);

/* Prints name, type with range, default and help, one option a line, aligned. */
int qat_option_help(FILE *out, const qat_option *table);

/* The canonical text of a filled struct: "key=value\n", sorted by key, keys of tables and
 * plugins with dots, numbers to the last bit. malloc'd. Options that change no result are
 * left out. Equal texts, equal results. */
int qat_option_text(char **out, const qat_option *table, const void *filled);

#endif
