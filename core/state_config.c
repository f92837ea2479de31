/* state_config.c - a config.json for a model that came from no file: its options. */
#include "state_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/json.h>
#include <qatrun/option.h>

#include "error.h"

static json_t *floats(const qat_floats *f)
{
	json_t *a = json_array();

	for (int64_t i = 0; i < f->count; i++)
		if (json_array_append_new(a, json_real(f->at[i]))) {
			json_decref(a);
			return NULL;
		}
	return a;
}

/* A number that is 0 unless it is given stands for one that follows from others; other
 * programs expect that one, or none. */
static int is_set(const qat_option *o, const char *self)
{
	const void *at = self + o->offset;

	switch (o->type) {
	case QAT_OPT_BOOL:
	case QAT_OPT_FLOAT:
	case QAT_OPT_ENUM:
		return 1;
	case QAT_OPT_INT:
	case QAT_OPT_SIZE:
		return o->def != 0 || *(const int64_t *)at != 0;
	case QAT_OPT_STRING:
		return *(const char *const *)at != NULL;
	default:
		return o->type == QAT_OPT_FLOATS && ((const qat_floats *)at)->count > 0;
	}
}

/* NULL: out of memory. */
static json_t *field(const qat_option *o, const char *self)
{
	const void *at = self + o->offset;

	switch (o->type) {
	case QAT_OPT_BOOL:
		return json_boolean(*(const int64_t *)at);
	case QAT_OPT_INT:
	case QAT_OPT_SIZE:
		return json_integer(*(const int64_t *)at);
	case QAT_OPT_FLOAT:
		return json_real(*(const double *)at);
	case QAT_OPT_ENUM:
		return json_string(o->choices[*(const int64_t *)at]);
	case QAT_OPT_STRING:
		return json_string(*(const char *const *)at);
	case QAT_OPT_FLOATS:
		return floats(at);
	default:
		return NULL;
	}
}

static int is_default(const qat_option *o, const char *self)
{
	const void *at = self + o->offset;

	return o->type == QAT_OPT_FLOAT ? *(const double *)at == o->def
					: (double)*(const int64_t *)at == o->def;
}

/* Whether the options that files have by their alias are there at all. */
static int aliases_set(const qat_option *table, const char *self)
{
	for (const qat_option *o = table; o && o->name; o++)
		if (o->flags & QAT_OPT_BY_ALIAS && !is_default(o, self))
			return 1;
	return 0;
}

/* As "inner.key" says, up to the first '|'. 1 where memory ran out. */
static int add_by_alias(json_t *to, const qat_option *o, const char *self)
{
	char path[128], *key = path;

	snprintf(path, sizeof path, "%.*s", (int)strcspn(o->alias, "|"), o->alias);
	if (strchr(path, '.')) {
		key = strchr(path, '.');
		*key++ = '\0';
		if (!json_object_get(to, path) && json_object_set_new(to, path, json_object()))
			return 1;
		to = json_object_get(to, path);
	}
	return json_object_set_new(to, key, field(o, self)) != 0;
}

/* 1 where memory ran out. */
static int add_fields(json_t *to, const qat_option *table, const char *self)
{
	const int by_alias = aliases_set(table, self);
	int lost = 0;

	for (const qat_option *o = table; o && o->name && !lost; o++) {
		if (o->flags & QAT_OPT_BY_ALIAS) {
			lost = by_alias && add_by_alias(to, o, self);
		} else if (o->type == QAT_OPT_TABLE) {
			json_t *v = json_object();

			lost = add_fields(v, o->table, self + o->offset);
			lost |= json_object_set_new(to, o->name, v);
		} else if (is_set(o, self)) {
			lost = json_object_set_new(to, o->name, field(o, self)) != 0;
		}
	}
	return lost;
}

int qat_config_text(qat_state *s)
{
	json_t *root = json_object();
	char *text = NULL;
	qat_text *doc = &s->docs[QAT_DOC_CONFIG];

	if (root && !json_object_set_new(root, "model_type", json_string(s->family)) &&
	    !add_fields(root, s->model.interface->options, s->model.self)) {
		text = qat_json_print(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
	}
	json_decref(root);
	if (!text)
		return qat_fail(QAT_ENOMEM, "config: out of memory");
	doc->at = qat_arena_text(s->arena, text);
	doc->length = (int64_t)strlen(text);
	free(text);
	return doc->at ? QAT_OK : QAT_ENOMEM;
}
