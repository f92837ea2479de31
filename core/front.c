/* front.c - a pipeline from the options of a command line. */
#include "front.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "yaml_tree.h"

enum { COLUMN = 22 };		/* where --help begins to explain */

const qat_front_option *qat_front_find(const qat_front *f, const char *name)
{
	for (const qat_front_option *o = f ? f->options : NULL; o && o->name; o++) {
		if (!strcmp(o->name, name))
			return o;
	}
	return NULL;
}

const char *qat_front_values(const qat_front_given *g, const char *name, int64_t i)
{
	for (int64_t k = 0; k < g->count; k++) {
		if (!strcmp(g->names[k], name) && !i--)
			return g->values[k];
	}
	return NULL;
}

const char *qat_front_value(const qat_front_given *g, const char *name)
{
	const qat_front_option *o = qat_front_find(g->front, name);

	for (int64_t k = g->count; k-- > 0;) {
		if (!strcmp(g->names[k], name))
			return g->values[k];
	}
	return o ? o->fallback : NULL;
}

int qat_front_fail(int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	qat_vfail(code, fmt, ap);
	va_end(ap);
	return code;
}

int qat_front_check(const qat_front_given *g)
{
	if (!g->word)
		return qat_fail(QAT_EINVAL, "which %s? %s --help tells how it is used",
				g->front->word, g->front->name);
	for (const qat_front_option *o = g->front->options; o->name; o++) {
		if (o->required && !qat_front_value(g, o->name))
			return qat_fail(QAT_EINVAL, "--%s %s is needed: %.*s", o->name, o->value,
					(int)strcspn(o->help, "\n"), o->help);
	}
	return QAT_OK;
}

/* --- help --- */

static void help_option(const qat_front_option *o, FILE *out)
{
	const char *line = o->help;
	int used = fprintf(out, "  --%s %s", o->name, o->value);

	if (used >= COLUMN)
		used = fprintf(out, "\n") - 1;
	for (; line; used = 0) {
		const int n = (int)strcspn(line, "\n");

		fprintf(out, "%*s%.*s", COLUMN - used, "", n, line);
		line = line[n] ? line + n + 1 : NULL;
		if (line)
			fputc('\n', out);
	}
	if (o->fallback)
		fprintf(out, " (%s)", o->fallback);
	fputc('\n', out);
}

int qat_front_help(const qat_front *f, FILE *out)
{
	fputs(f->usage, out);
	for (const qat_front_option *o = f->options; o->name; o++)
		help_option(o, out);
	return ferror(out) ? QAT_EIO : QAT_OK;
}

/* --- text --- */

static int plain(const char *s)
{
	static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"0123456789_./+-";
	static const char *const null[] = { "null", "Null", "NULL" };
	const char *word = s + (*s == '-');

	for (size_t i = 0; i < sizeof null / sizeof *null; i++) {
		if (!strcmp(s, null[i]))
			return 0;
	}
	return *word && *word != '-' && strcmp(s, "...") != 0 && !s[strspn(s, safe)];
}

int qat_front_text(FILE *out, const char *text)
{
	if (plain(text))
		return fputs(text, out) < 0 ? QAT_EIO : QAT_OK;
	fputc('"', out);
	for (const char *s = text; *s; s++) {
		if (s[0] == '$' && s[1] == '{')
			fputs("$$", out);	/* a plain "${" */
		else if (*s == '"' || *s == '\\')
			fprintf(out, "\\%c", *s);
		else if ((unsigned char)*s < ' ' || *s == 127)
			fprintf(out, "\\x%02x", (unsigned)*s);
		else
			fputc(*s, out);
	}
	return fputc('"', out) == EOF ? QAT_EIO : QAT_OK;
}

int qat_front_path(FILE *out, const char *path)
{
	char *here, *full;
	int rc;

	if (*path == '/' || access(path, F_OK))
		return qat_front_text(out, path);
	here = getcwd(NULL, 0);
	if (!here)
		return qat_fail(QAT_EIO, "the working directory: %s", strerror(errno));
	rc = asprintf(&full, "%s/%s", strcmp(here, "/") ? here : "", path);
	free(here);
	if (rc < 0)
		return qat_fail(QAT_ENOMEM, "out of memory");
	rc = qat_front_text(out, full);
	free(full);
	return rc;
}

int qat_front_make(char **out, const qat_front_given *g)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *file = open_memstream(&text, &bytes);
	int rc;

	if (!file)
		return qat_fail(QAT_ENOMEM, "out of memory");
	rc = g->front->write(file, g);
	if ((fclose(file) || !text) && !rc)
		rc = qat_fail(QAT_ENOMEM, "out of memory");
	if (rc) {
		free(text);
		return rc;
	}
	*out = text;
	return QAT_OK;
}

/* Bytes of the comments that a text begins with. */
static int comments(const char *text)
{
	const char *s = text;

	while (*s == '#')
		s += strcspn(s, "\n") + 1;
	return (int)(s - text);
}

int qat_front_print(FILE *out, const char *text, const char *const *sets, int64_t n_sets)
{
	qat_yaml *doc = NULL;
	int rc;

	if (!n_sets)
		return fputs(text, out) < 0 ? QAT_EIO : QAT_OK;
	rc = qat_yaml_parse(&doc, text, (int64_t)strlen(text), QAT_FRONT_FILE, sets, n_sets);
	if (!rc) {
		fprintf(out, "%.*s", comments(text), text);
		rc = qat_yaml_write(out, qat_yaml_root(doc));
	}
	qat_yaml_free(doc);
	return rc;
}
