/* front.h - a program that makes a pipeline of its command line and runs it.
 *
 * A front has a table of options and a function that writes the pipeline's text. All that
 * qat-run can do with a pipeline (--check, --set, --force ...) it can do as well, by the
 * same code; --print shows the text.
 */
#ifndef QAT_FRONT_H
#define QAT_FRONT_H

#include <stdint.h>
#include <stdio.h>

#include <qatrun/abi.h>

typedef struct qat_front_option {
	const char *name;	/* "group-size" */
	const char *value;	/* what --help calls its value: "N" */
	const char *fallback;	/* where it is not given; NULL: none */
	const char *help;	/* "\n" goes on in the next line */
	int required;
} qat_front_option;

/* What was given: values[i] is that of the option named names[i], in order. */
typedef struct qat_front_given {
	const struct qat_front *front;
	const char *word;		/* the one that is no option */
	const char *const *names, *const *values;
	int64_t count;
} qat_front_given;

typedef struct qat_front {
	const char *name;			/* of the program */
	const char *usage;			/* above the options in --help */
	const char *word;			/* what the word is: "model" */
	const qat_front_option *options;	/* name NULL at the end */
	/* Writes the pipeline. */
	int (*write)(FILE *out, const qat_front_given *given);
} qat_front;

#define QAT_EXPORTED __attribute__((visibility("default")))

/* All of the program: what main returns. */
QAT_EXPORTED int qat_front_main(const qat_front *front, int argc, char **argv);

/* For `write`. The value given last, else the fallback; NULL: none. */
QAT_EXPORTED const char *qat_front_value(const qat_front_given *g, const char *name);

/* The i-th value given; NULL past the last. */
QAT_EXPORTED const char *qat_front_values(const qat_front_given *g, const char *name,
					  int64_t i);

/* A text as a YAML scalar that is read as just that, in any place. */
QAT_EXPORTED int qat_front_text(FILE *out, const char *text);

/* A file or folder that is there, by its absolute path; any other text as it stands. */
QAT_EXPORTED int qat_front_path(FILE *out, const char *path);

/* Leaves the message that the program ends with, and returns `code`. */
QAT_EXPORTED int qat_front_fail(int code, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* --- for the command line --- */

/* The option of that name; NULL: unknown, or no front. */
const qat_front_option *qat_front_find(const qat_front *f, const char *name);

/* What a user must give is there; else says what lacks. */
int qat_front_check(const qat_front_given *g);

/* The usage, and the options as a table. */
int qat_front_help(const qat_front *f, FILE *out);

/* The pipeline's text, malloc'd. */
int qat_front_make(char **out, const qat_front_given *g);

/* The same with `sets` applied: as it was written where there are none. */
int qat_front_print(FILE *out, const char *text, const char *const *sets, int64_t n_sets);

/* What stands for the file in messages. */
#define QAT_FRONT_FILE "pipeline (--print shows it)"

#endif
