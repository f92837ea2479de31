/* option_check.c - whether a table can be trusted with a struct's memory. */
#include <math.h>
#include <string.h>

#include "error.h"
#include "option.h"
#include "plugin.h"

enum { OPTIONS_MAX = 512, TABLES_MAX = 4 };

size_t qat_option_field(uint32_t type)
{
	static const uint8_t bytes[] = {
		[QAT_OPT_BOOL] = 8, [QAT_OPT_INT] = 8, [QAT_OPT_FLOAT] = 8, [QAT_OPT_SIZE] = 8,
		[QAT_OPT_STRING] = sizeof(char *), [QAT_OPT_PATH] = sizeof(char *),
		[QAT_OPT_ENUM] = 8,
		[QAT_OPT_INTS] = sizeof(qat_ints), [QAT_OPT_FLOATS] = sizeof(qat_floats),
		[QAT_OPT_STRINGS] = sizeof(qat_strings), [QAT_OPT_PATHS] = sizeof(qat_strings),
		[QAT_OPT_STATE] = sizeof(char *), [QAT_OPT_STATES] = sizeof(qat_strings),
		[QAT_OPT_NEW_STATE] = sizeof(char *), [QAT_OPT_DATA] = sizeof(char *),
		[QAT_OPT_SITES] = sizeof(char *), [QAT_OPT_SCHEME] = sizeof(char *),
		[QAT_OPT_PLUGIN] = sizeof(qat_instance *)
	};

	return type < sizeof bytes ? bytes[type] : 0;
}

int qat_option_is(const qat_option *o, const char *key)
{
	size_t n = strlen(key), length;

	if (!strcmp(o->name, key))
		return 1;
	for (const char *p = o->alias; p; p = p[length] ? p + length + 1 : NULL) {
		length = strcspn(p, "|");
		if (length == n && !strncmp(p, key, n))
			return 1;
	}
	return 0;
}

/* What QAT_OPT_BY_ALIAS asks of an option. */
static int has_alias(const qat_option *o)
{
	return o->alias && *o->alias && (o->type == QAT_OPT_BOOL || o->type == QAT_OPT_INT ||
		o->type == QAT_OPT_SIZE || o->type == QAT_OPT_FLOAT || o->type == QAT_OPT_ENUM);
}

static int check_default(const qat_option *o)
{
	int64_t choices = 0;

	if (isnan(o->def) || isnan(o->min) || isnan(o->max) || o->min > o->max)
		return qat_fail(QAT_EABI, "option \"%s\" has a range without numbers", o->name);
	if (o->type == QAT_OPT_BOOL && o->def != 0 && o->def != 1)
		return qat_fail(QAT_EABI, "option \"%s\" is neither true nor false", o->name);
	if (o->type != QAT_OPT_ENUM)
		return QAT_OK;
	while (o->choices && o->choices[choices])
		choices++;
	if (!choices || !(o->def >= 0 && o->def < (double)choices))
		return qat_fail(QAT_EABI, "option \"%s\" has no choice %g", o->name, o->def);
	return QAT_OK;
}

static int check_table(const qat_option *table, uint64_t size, int depth);

static int check_option(const qat_option *o, uint64_t size, int depth)
{
	size_t bytes = qat_option_field(o->type);

	if (!o->help)
		return qat_fail(QAT_EABI, "option \"%s\" has no help", o->name);
	if (o->type == QAT_OPT_TABLE) {
		if (!o->table || o->offset > size || o->offset % 8)
			return qat_fail(QAT_EABI, "option \"%s\" lies outside its struct", o->name);
		return check_table(o->table, size - o->offset, depth + 1);
	}
	if (!bytes)
		return qat_fail(QAT_EABI, "option \"%s\" has type %u, which this qatrun does not "
				"know", o->name, o->type);
	if (o->offset > size || bytes > size - o->offset || o->offset % sizeof(void *))
		return qat_fail(QAT_EABI, "option \"%s\" lies outside its struct", o->name);
	if (o->flags & QAT_OPT_BY_ALIAS && !has_alias(o))
		return qat_fail(QAT_EABI, "option \"%s\" is by its alias, and is no number or "
				"has none", o->name);
	if (o->type == QAT_OPT_PLUGIN && !(o->kind < QAT_KINDS && qat_kind_name((uint32_t)o->kind)))
		return qat_fail(QAT_EABI, "option \"%s\" does not say which kind of plugin",
				o->name);
	return check_default(o);
}

static int check_table(const qat_option *table, uint64_t size, int depth)
{
	int rc = QAT_OK;

	if (depth > TABLES_MAX)
		return qat_fail(QAT_EABI, "its options nest more than %d deep", TABLES_MAX);
	for (int64_t i = 0; !rc && table[i].name; i++) {
		if (i == OPTIONS_MAX)
			return qat_fail(QAT_EABI, "its options do not end with QAT_END");
		for (int64_t k = 0; k < i; k++) {
			if (!strcmp(table[k].name, table[i].name))
				return qat_fail(QAT_EABI, "has two options \"%s\"", table[i].name);
		}
		rc = check_option(&table[i], size, depth);
	}
	return rc;
}

int qat_option_check(const qat_option *table, uint64_t size)
{
	return table ? check_table(table, size, 0) : QAT_OK;
}
