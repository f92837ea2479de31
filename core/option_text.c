/* option_text.c - a filled struct as canonical text, to be compared and hashed. */
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "option.h"

struct text {
	qat_arena *arena;
	const char **lines;
	size_t count, room;
};

static int add(struct text *t, const char *key, const char *value)
{
	const char *line = key && value ? qat_arena_format(t->arena, "%s=%s\n", key, value) : NULL;

	if (!line)
		return QAT_ENOMEM;
	if (t->count == t->room) {
		size_t room = t->room ? 2 * t->room : 32;
		const char **more = qat_arena_array(t->arena, room, sizeof *more);

		if (!more)
			return QAT_ENOMEM;
		if (t->count)
			memcpy(more, t->lines, t->count * sizeof *more);
		t->lines = more;
		t->room = room;
	}
	t->lines[t->count++] = line;
	return QAT_OK;
}

/* In quotes, with those, backslashes and line ends escaped; NULL is ~. */
static const char *quoted(struct text *t, const char *s)
{
	char *out, *p;

	if (!s)
		return "~";
	out = p = qat_arena_array(t->arena, strlen(s) + 2, 2);
	if (!out)
		return NULL;
	*p++ = '"';
	for (; *s; s++) {
		if (*s == '"' || *s == '\\' || *s == '\n')
			*p++ = '\\';
		*p++ = *s == '\n' ? 'n' : *s;
	}
	*p = '"';
	return out;
}

static const char *list_text(struct text *t, const qat_option *o, const void *field)
{
	const qat_strings *strings = field;
	const qat_floats *floats = field;
	const qat_ints *ints = field;
	const char *all = "[", *item;

	for (int64_t i = 0; all && i < strings->count; i++) {
		if (o->type == QAT_OPT_INTS)
			item = qat_arena_format(t->arena, "%lld", (long long)ints->at[i]);
		else if (o->type == QAT_OPT_FLOATS)
			item = qat_arena_format(t->arena, "%.17g", floats->at[i]);
		else
			item = quoted(t, strings->at[i]);
		all = item ? qat_arena_format(t->arena, "%s%s%s", all, i ? ", " : "", item) : NULL;
	}
	return all ? qat_arena_format(t->arena, "%s]", all) : NULL;
}

static const char *value_text(struct text *t, const qat_option *o, const void *field)
{
	switch (o->type) {
	case QAT_OPT_BOOL:
	case QAT_OPT_INT:
	case QAT_OPT_SIZE:
		return qat_arena_format(t->arena, "%lld", (long long)*(const int64_t *)field);
	case QAT_OPT_FLOAT:
		return qat_arena_format(t->arena, "%.17g", *(const double *)field);
	case QAT_OPT_ENUM:
		return o->choices[*(const int64_t *)field];
	case QAT_OPT_INTS:
	case QAT_OPT_FLOATS:
	case QAT_OPT_STRINGS:
	case QAT_OPT_PATHS:
	case QAT_OPT_STATES:
		return list_text(t, o, field);
	default:
		return quoted(t, *(const char *const *)field);
	}
}

static int add_table(struct text *t, const qat_option *table, const void *filled,
		     const char *head);

static int add_plugin(struct text *t, const char *key, const qat_instance *i)
{
	const char *head = qat_arena_format(t->arena, "%s.", key);
	int rc = add(t, key, i ? i->interface->name : "~");

	if (rc || !i)
		return rc;
	return head ? add_table(t, i->interface->options, i->self, head) : QAT_ENOMEM;
}

static int add_table(struct text *t, const qat_option *table, const void *filled,
		     const char *head)
{
	int rc = QAT_OK;

	for (const qat_option *o = table; !rc && o && o->name; o++) {
		const void *field = (const char *)filled + o->offset;
		const char *key = qat_arena_format(t->arena, "%s%s", head, o->name);

		if (!key)
			return QAT_ENOMEM;
		if (o->flags & QAT_OPT_NEUTRAL)
			continue;
		if (o->type == QAT_OPT_PLUGIN) {
			rc = add_plugin(t, key, *(const qat_instance *const *)field);
		} else if (o->type == QAT_OPT_TABLE) {
			key = qat_arena_format(t->arena, "%s.", key);
			rc = key ? add_table(t, o->table, field, key) : QAT_ENOMEM;
		} else {
			rc = add(t, key, value_text(t, o, field));
		}
	}
	return rc;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int qat_option_text(char **out, const qat_option *table, const void *filled)
{
	struct text t = { .count = 0 };
	size_t bytes = 1;
	char *all = NULL, *p;
	int rc = qat_arena_new(&t.arena);

	if (rc)
		return rc;
	rc = add_table(&t, table, filled, "");
	if (rc)
		goto out;
	if (t.count)
		qsort(t.lines, t.count, sizeof *t.lines, by_text);
	for (size_t i = 0; i < t.count; i++)
		bytes += strlen(t.lines[i]);
	all = p = malloc(bytes);
	if (!all) {
		rc = qat_fail(QAT_ENOMEM, "out of memory");
		goto out;
	}
	*p = 0;
	for (size_t i = 0; i < t.count; i++)
		p = stpcpy(p, t.lines[i]);
	*out = all;
out:
	qat_arena_free(t.arena);
	return rc;
}
