/* option_help.c - an option table as a page of help. */
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "option.h"
#include "plugin.h"

enum { COLUMNS = 3, WIDEST = 44 };

/* Name, type and default of an option; the help follows. */
struct line {
	char *text[COLUMNS];
	const char *help;
};

struct page {
	qat_arena *arena;
	struct line *lines;
	int64_t count, room;
	int width[COLUMNS];
};

static const char *const type_names[] = {
	[QAT_OPT_BOOL] = "true | false",
	[QAT_OPT_INT] = "integer",
	[QAT_OPT_FLOAT] = "number",
	[QAT_OPT_SIZE] = "size",
	[QAT_OPT_STRING] = "text",
	[QAT_OPT_PATH] = "path",
	[QAT_OPT_ENUM] = "",
	[QAT_OPT_INTS] = "list of integers",
	[QAT_OPT_FLOATS] = "list of numbers",
	[QAT_OPT_STRINGS] = "list of texts",
	[QAT_OPT_PATHS] = "list of paths",
	[QAT_OPT_TABLE] = "",
	[QAT_OPT_STATE] = "state",
	[QAT_OPT_STATES] = "list of states",
	[QAT_OPT_NEW_STATE] = "new state",
	[QAT_OPT_DATA] = "name in data",
	[QAT_OPT_SITES] = "name in sites",
	[QAT_OPT_SCHEME] = "name in schemes",
	[QAT_OPT_PLUGIN] = ""
};

/* A bound as the shortest text that a person would write. */
static void bound(char *out, size_t room, double x, uint32_t type)
{
	if (type == QAT_OPT_INT || type == QAT_OPT_INTS || type == QAT_OPT_SIZE)
		snprintf(out, room, "%.0f", x);
	else
		snprintf(out, room, "%g", x);
}

static const char *choices_text(struct page *p, const qat_option *o)
{
	const char *all = "";

	for (int64_t i = 0; all && o->choices[i]; i++)
		all = qat_arena_format(p->arena, "%s%s%s", all, i ? " | " : "", o->choices[i]);
	return all;
}

static const char *type_text(struct page *p, const qat_option *o)
{
	char low[40], high[40];

	if (o->type == QAT_OPT_ENUM)
		return choices_text(p, o);
	if (o->type == QAT_OPT_PLUGIN)
		return qat_kind_name((uint32_t)o->kind);
	if ((o->min == 0 && o->max == 0) || o->type == QAT_OPT_BOOL)
		return type_names[o->type];
	bound(low, sizeof low, o->min, o->type);
	bound(high, sizeof high, o->max, o->type);
	if (o->max >= 0x1p53)
		return qat_arena_format(p->arena, "%s, at least %s", type_names[o->type], low);
	return qat_arena_format(p->arena, "%s, %s to %s", type_names[o->type], low, high);
}

static const char *default_text(struct page *p, const qat_option *o)
{
	char number[40];

	if (o->flags & QAT_OPT_REQUIRED)
		return "required";
	switch (o->type) {
	case QAT_OPT_BOOL:
		return o->def != 0 ? "true" : "false";
	case QAT_OPT_ENUM:
		return o->choices[(int64_t)o->def];
	case QAT_OPT_INT:
	case QAT_OPT_SIZE:
	case QAT_OPT_FLOAT:
		bound(number, sizeof number, o->def, o->type);
		return qat_arena_text(p->arena, number);
	default:
		return o->text ? o->text : "-";
	}
}

static int add_line(struct page *p, const char *name, const char *type, const char *def,
		    const char *help)
{
	const char *text[COLUMNS] = { name, type, def };
	struct line *l;

	if (p->count == p->room) {
		int64_t room = p->room ? 2 * p->room : 16;
		struct line *more = qat_arena_array(p->arena, (size_t)room, sizeof *more);

		if (!more)
			return QAT_ENOMEM;
		if (p->count)
			memcpy(more, p->lines, (size_t)p->count * sizeof *more);
		p->lines = more;
		p->room = room;
	}
	l = &p->lines[p->count++];
	l->help = help;
	for (int c = 0; c < COLUMNS; c++) {
		int width;

		l->text[c] = (char *)qat_arena_text(p->arena, text[c]);
		if (!l->text[c])
			return QAT_ENOMEM;
		width = (int)strlen(l->text[c]);
		if (width > p->width[c])
			p->width[c] = width < WIDEST ? width : WIDEST;
	}
	return QAT_OK;
}

/* The lines of a table; `head` stands before the names: "" or "schedule.". */
static int add_table(struct page *p, const qat_option *table, const char *head)
{
	int rc = QAT_OK;

	for (const qat_option *o = table; !rc && o && o->name; o++) {
		const char *name = qat_arena_format(p->arena, "%s%s", head, o->name), *inner;

		if (!name)
			return QAT_ENOMEM;
		if (o->flags & QAT_OPT_HIDDEN)
			continue;
		if (o->type != QAT_OPT_TABLE) {
			rc = add_line(p, name, type_text(p, o), default_text(p, o), o->help);
			continue;
		}
		inner = qat_arena_format(p->arena, "%s.", name);
		rc = add_line(p, name, "map", o->flags & QAT_OPT_REQUIRED ? "required" : "-",
			      o->help);
		if (!rc)
			rc = inner ? add_table(p, o->table, inner) : QAT_ENOMEM;
	}
	return rc;
}

int qat_option_help(FILE *out, const qat_option *table)
{
	struct page p = { .count = 0 };
	int rc = qat_arena_new(&p.arena);

	if (rc)
		return rc;
	rc = add_table(&p, table, "");
	for (int64_t i = 0; !rc && i < p.count; i++) {
		const struct line *l = &p.lines[i];

		fprintf(out, "  %-*s  %-*s  %-*s  %s\n", p.width[0], l->text[0], p.width[1],
			l->text[1], p.width[2], l->text[2], l->help);
	}
	if (!rc && !p.count)
		fputs("  no options\n", out);
	qat_arena_free(p.arena);
	return rc;
}
