/* option.h - option tables: the one description of a plugin's YAML keys.
 *
 * The core parses YAML (and a model's config.json) into the plugin's struct by this
 * table, checks types and ranges, suggests the nearest name for an unknown key,
 * and prints the table as documentation. A plugin never sees YAML.
 */
#ifndef QATRUN_OPTION_H
#define QATRUN_OPTION_H

#include <qatrun/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Type of an option and of the field that receives it. */
enum {
	QAT_OPT_END    = 0,
	QAT_OPT_BOOL   = 1,	/* int64_t, 0 or 1 */
	QAT_OPT_INT    = 2,	/* int64_t in [min, max] */
	QAT_OPT_FLOAT  = 3,	/* double in [min, max]; NaN is refused */
	QAT_OPT_SIZE   = 4,	/* int64_t bytes; YAML may say 6GiB */
	QAT_OPT_STRING = 5,	/* const char *, NULL when absent */
	QAT_OPT_PATH   = 6,	/* const char *, made absolute from the YAML file's folder */
	QAT_OPT_ENUM   = 7,	/* int64_t, index into choices */
	QAT_OPT_INTS   = 8,	/* qat_ints */
	QAT_OPT_FLOATS = 9,	/* qat_floats */
	QAT_OPT_STRINGS = 10,	/* qat_strings; a single scalar is a list of one */
	QAT_OPT_PATHS  = 11,	/* qat_strings of absolute paths */
	QAT_OPT_TABLE  = 12,	/* a struct inside the struct, described by `table` */
	QAT_OPT_STATE  = 13,	/* const char *: a state that an earlier step made */
	QAT_OPT_STATES = 14,	/* qat_strings of them */
	QAT_OPT_NEW_STATE = 15,	/* const char *: the state that this step makes */
	QAT_OPT_DATA   = 16,	/* const char *: a name under `data:` */
	QAT_OPT_SITES  = 17,	/* const char *: a name under `sites:`, or "none" */
	QAT_OPT_SCHEME = 18,	/* const char *: a name under `schemes:` */
	QAT_OPT_PLUGIN = 19	/* qat_instance *: {name: x, ...} or just x; `kind` says which */
};

enum {
	QAT_OPT_REQUIRED = 1,
	QAT_OPT_HIDDEN   = 2,	/* accepted, not shown by --help */
	QAT_OPT_NEUTRAL  = 4,	/* changes no result: --resume does not ask whether it is as it
				 * was. Of a table: all of it */
	QAT_OPT_BY_ALIAS = 8	/* of a model: its files have it as the first alias says, and
				 * only where one of these options is not at its default */
};

typedef struct qat_ints    { const int64_t *at; int64_t count; } qat_ints;
typedef struct qat_floats  { const double *at; int64_t count; } qat_floats;
typedef struct qat_strings { const char *const *at; int64_t count; } qat_strings;

/* A plugin's interface with the options that a user gave it. */
typedef struct qat_instance {
	const qat_interface *interface;
	const void *vtable;	/* full size, zero-filled past the plugin's own */
	void *self;		/* interface->options_size bytes */
} qat_instance;

/* Frozen: new needs go into the reserved fields. */
typedef struct qat_option {
	const char *name;		/* YAML key */
	const char *help;		/* one line, with the unit */
	uint32_t type, flags;
	uint64_t offset;		/* of the field in the plugin's struct */
	double def, min, max;		/* numbers and enums; inclusive */
	const char *text;		/* default of a string, NULL: none; of a list,
					 * its YAML flow form: "[0.9, 0.999]" */
	const char *const *choices;	/* ENUM: names, NULL at the end */
	const struct qat_option *table;	/* TABLE */
	const char *alias;		/* other keys that mean the same, separated by '|';
					 * in a model's config a dotted path reaches into
					 * nested objects: "rope_scaling.type" */
	uint64_t kind;			/* PLUGIN: QAT_KIND_* */
	const void *reserved[3];
} qat_option;

#define QAT_OPTION_(t_, type_, field_, help_, ...) \
	{ .name = #field_, .help = help_, .type = type_, \
	  .offset = offsetof(t_, field_), __VA_ARGS__ }

#define QAT_BOOL(t, field, def_, help) \
	QAT_OPTION_(t, QAT_OPT_BOOL, field, help, .def = (def_), .max = 1)
#define QAT_INT(t, field, def_, min_, max_, help) \
	QAT_OPTION_(t, QAT_OPT_INT, field, help, .def = (double)(def_), .min = (double)(min_), .max = (double)(max_))
#define QAT_FLOAT(t, field, def_, min_, max_, help) \
	QAT_OPTION_(t, QAT_OPT_FLOAT, field, help, .def = (def_), .min = (min_), .max = (max_))
#define QAT_STRING(t, field, text_, help) \
	QAT_OPTION_(t, QAT_OPT_STRING, field, help, .text = (text_))
#define QAT_ENUM(t, field, def_, choices_, help) \
	QAT_OPTION_(t, QAT_OPT_ENUM, field, help, .def = (def_), .choices = (choices_))
/* any other type, with designated initialisers for the rest */
#define QAT_OPTION(t, type, field, help, ...) \
	QAT_OPTION_(t, type, field, help, __VA_ARGS__)
#define QAT_END { .name = NULL }

#ifdef __cplusplus
}
#endif
#endif
