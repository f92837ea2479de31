/* state_config.c - a config.json for a model that came from no file: its options. */
#include "state_internal.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <qatrun/option.h>

#include "error.h"

static json_t *floats(const qat_floats *f)
{
	json_t *a = json_array();

	for (int64_t i = 0; i < f->count; i++)
		json_array_append_new(a, json_real(f->at[i]));
	return a;
}

/* NULL for what is unset. */
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
		return *(const char *const *)at ? json_string(*(const char *const *)at) : NULL;
	case QAT_OPT_FLOATS:
		return ((const qat_floats *)at)->count ? floats(at) : NULL;
	default:
		return NULL;
	}
}

static void add_fields(json_t *to, const qat_option *table, const char *self)
{
	for (const qat_option *o = table; o && o->name; o++) {
		json_t *v;

		if (o->type == QAT_OPT_TABLE) {
			v = json_object();
			add_fields(v, o->table, self + o->offset);
		} else {
			v = field(o, self);
		}
		if (v)
			json_object_set_new(to, o->name, v);
	}
}

int qat_config_text(qat_state *s)
{
	json_t *root = json_object();
	char *text = NULL;
	qat_text *doc = &s->docs[QAT_DOC_CONFIG];

	if (root) {
		json_object_set_new(root, "model_type", json_string(s->family));
		add_fields(root, s->model.interface->options, s->model.self);
		text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
	}
	json_decref(root);
	if (!text)
		return qat_fail(QAT_ENOMEM, "config: out of memory");
	doc->at = qat_arena_text(s->arena, text);
	doc->length = (int64_t)strlen(text);
	free(text);
	return doc->at ? QAT_OK : QAT_ENOMEM;
}
