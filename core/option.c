/* option.c - filling a plugin's struct from a YAML map. */
#include "option.h"

#include <math.h>
#include <string.h>

#include "hint.h"
#include "kinds.h"
#include "plugin.h"

/* A value at `node` for the field. */
typedef int reader(void *field, const qat_option *o, qat_yaml_node *node,
		   const qat_option_env *env);

static int has_range(const qat_option *o)
{
	return o->min != 0 || o->max != 0;
}

/* A bound of the table as int64_t: it may lie past what that holds. */
static int64_t whole(double bound)
{
	if (bound >= 0x1p63)
		return INT64_MAX;
	return bound <= -0x1p63 ? INT64_MIN : (int64_t)bound;
}

static int64_t least(const qat_option *o)
{
	return has_range(o) ? whole(o->min) : INT64_MIN;
}

static int64_t most(const qat_option *o)
{
	return has_range(o) ? whole(o->max) : INT64_MAX;
}

static double low(const qat_option *o)
{
	return has_range(o) ? o->min : -INFINITY;
}

static double high(const qat_option *o)
{
	return has_range(o) ? o->max : INFINITY;
}

static int read_bool(void *field, const qat_option *o, qat_yaml_node *node,
		     const qat_option_env *env)
{
	(void)o;
	(void)env;
	return qat_yaml_bool(field, node);
}

static int read_int(void *field, const qat_option *o, qat_yaml_node *node,
		    const qat_option_env *env)
{
	(void)env;
	return qat_yaml_int(field, node, least(o), most(o));
}

static int read_float(void *field, const qat_option *o, qat_yaml_node *node,
		      const qat_option_env *env)
{
	(void)env;
	return qat_yaml_float(field, node, low(o), high(o), 0);
}

static int read_size(void *field, const qat_option *o, qat_yaml_node *node,
		     const qat_option_env *env)
{
	int64_t bytes;
	int rc = qat_yaml_size(&bytes, node);

	(void)env;
	if (rc)
		return rc;
	if (bytes < least(o) || bytes > most(o))
		return qat_yaml_fail(node, QAT_EINVAL, "%s is out of range: %.0f to %.0f bytes",
				     qat_yaml_shown(node), o->min, o->max);
	memcpy(field, &bytes, sizeof bytes);
	return QAT_OK;
}

static int read_enum(void *field, const qat_option *o, qat_yaml_node *node,
		     const qat_option_env *env)
{
	(void)env;
	return qat_yaml_choice(field, node, o->choices);
}

static int put_text(void *field, const char *text, const qat_option_env *env)
{
	const char *copy = qat_arena_text(env->arena, text);

	if (!copy)
		return QAT_ENOMEM;
	memcpy(field, &copy, sizeof copy);
	return QAT_OK;
}

static int read_string(void *field, const qat_option *o, qat_yaml_node *node,
		       const qat_option_env *env)
{
	const char *text;
	int rc = qat_yaml_string(&text, node);

	(void)o;
	return rc ? rc : put_text(field, text, env);
}

static int read_path(void *field, const qat_option *o, qat_yaml_node *node,
		     const qat_option_env *env)
{
	const char *text;
	int rc = qat_yaml_string(&text, node);

	(void)o;
	if (rc)
		return rc;
	if (!*text)
		return qat_yaml_fail(node, QAT_EINVAL, "an empty path");
	if (*text != '/') {
		text = qat_arena_format(env->arena, "%s/%s", env->folder, text);
		if (!text)
			return QAT_ENOMEM;
		rc = qat_yaml_text_set(node, text);
	}
	return rc ? rc : put_text(field, text, env);
}

static int read_name(void *field, const qat_option *o, qat_yaml_node *node,
		     const qat_option_env *env)
{
	const char *text;
	int rc = qat_yaml_string(&text, node);

	if (!rc && env->name)
		rc = env->name(env->context, o, node);
	return rc ? rc : put_text(field, text, env);
}

/* Reads a list, or one value as a list of one, item by item. */
static int read_items(void *field, const qat_option *o, qat_yaml_node *node,
		      const qat_option_env *env, reader *item)
{
	int64_t count = node->type == QAT_YAML_SEQ ? node->count : 1;
	const char **at = qat_arena_array(env->arena, (size_t)count, sizeof *at);
	qat_strings list = { at, count };
	int rc = at ? QAT_OK : QAT_ENOMEM;

	for (int64_t i = 0; !rc && i < count; i++)
		rc = item(&at[i], o, node->type == QAT_YAML_SEQ ? node->items[i] : node, env);
	if (!rc)
		memcpy(field, &list, sizeof list);
	return rc;
}

static int read_strings(void *field, const qat_option *o, qat_yaml_node *node,
			const qat_option_env *env)
{
	return read_items(field, o, node, env, read_string);
}

static int read_paths(void *field, const qat_option *o, qat_yaml_node *node,
		      const qat_option_env *env)
{
	return read_items(field, o, node, env, read_path);
}

static int read_names(void *field, const qat_option *o, qat_yaml_node *node,
		      const qat_option_env *env)
{
	return read_items(field, o, node, env, read_name);
}

static int read_ints(void *field, const qat_option *o, qat_yaml_node *node,
		     const qat_option_env *env)
{
	qat_ints list;
	int64_t *copy;
	int rc = qat_yaml_ints(&list, node, least(o), most(o));

	if (rc)
		return rc;
	copy = qat_arena_array(env->arena, (size_t)list.count, sizeof *copy);
	if (!copy)
		return QAT_ENOMEM;
	if (list.count)
		memcpy(copy, list.at, (size_t)list.count * sizeof *copy);
	list.at = copy;
	memcpy(field, &list, sizeof list);
	return QAT_OK;
}

static int read_floats(void *field, const qat_option *o, qat_yaml_node *node,
		       const qat_option_env *env)
{
	qat_floats list;
	double *copy;
	int rc = qat_yaml_floats(&list, node, low(o), high(o));

	if (rc)
		return rc;
	copy = qat_arena_array(env->arena, (size_t)list.count, sizeof *copy);
	if (!copy)
		return QAT_ENOMEM;
	if (list.count)
		memcpy(copy, list.at, (size_t)list.count * sizeof *copy);
	list.at = copy;
	memcpy(field, &list, sizeof list);
	return QAT_OK;
}

static int read_table(void *field, const qat_option *o, qat_yaml_node *node,
		      const qat_option_env *env)
{
	qat_option_source source = { .map = node, .owner = o->name };
	int rc = qat_yaml_expect(node, QAT_YAML_MAP);

	return rc ? rc : qat_option_fill(field, o->table, &source, env);
}

int qat_instance_read(qat_instance *out, uint32_t kind, const qat_yaml_node *node,
		      const qat_option_env *env)
{
	static const qat_option other[] = { { .name = "name" }, QAT_END };
	qat_option_source source = { .map = node, .other = other };
	const qat_yaml_node *named = node;

	if (node->type == QAT_YAML_MAP) {
		named = qat_yaml_get(node, "name");
		if (!named)
			return qat_yaml_fail(node, QAT_EINVAL, "lacks \"name\", which says the %s",
					     qat_kind_name(kind));
	} else {
		source.map = NULL;
	}
	return qat_instance_new(out, kind, named, &source, env);
}

static int read_plugin(void *field, const qat_option *o, qat_yaml_node *node,
		       const qat_option_env *env)
{
	qat_instance *instance = qat_arena_alloc(env->arena, sizeof *instance);
	int rc;

	if (!instance)
		return QAT_ENOMEM;
	rc = qat_instance_read(instance, (uint32_t)o->kind, node, env);
	if (!rc)
		memcpy(field, &instance, sizeof instance);
	return rc;
}

static reader *const readers[] = {
	[QAT_OPT_BOOL] = read_bool,
	[QAT_OPT_INT] = read_int,
	[QAT_OPT_FLOAT] = read_float,
	[QAT_OPT_SIZE] = read_size,
	[QAT_OPT_STRING] = read_string,
	[QAT_OPT_PATH] = read_path,
	[QAT_OPT_ENUM] = read_enum,
	[QAT_OPT_INTS] = read_ints,
	[QAT_OPT_FLOATS] = read_floats,
	[QAT_OPT_STRINGS] = read_strings,
	[QAT_OPT_PATHS] = read_paths,
	[QAT_OPT_TABLE] = read_table,
	[QAT_OPT_STATE] = read_name,
	[QAT_OPT_STATES] = read_names,
	[QAT_OPT_NEW_STATE] = read_name,
	[QAT_OPT_DATA] = read_name,
	[QAT_OPT_SITES] = read_name,
	[QAT_OPT_SCHEME] = read_name,
	[QAT_OPT_PLUGIN] = read_plugin
};

/* --- defaults --- */

static int default_number(void *field, const qat_option *o)
{
	int64_t number = whole(o->def);

	if (o->type == QAT_OPT_FLOAT)
		memcpy(field, &o->def, sizeof o->def);
	else
		memcpy(field, &number, sizeof number);
	return QAT_OK;
}

static int default_plugin(void *field, const qat_option *o, const qat_option_env *env)
{
	qat_instance *instance = qat_arena_alloc(env->arena, sizeof *instance);
	int rc;

	if (!instance)
		return QAT_ENOMEM;
	rc = qat_instance_default(instance, (uint32_t)o->kind, o->text, env);
	if (!rc)
		memcpy(field, &instance, sizeof instance);
	return rc;
}

/* A default that the table gives as text is read like a user's. */
static int default_text(void *field, const qat_option *o, const qat_option_env *env)
{
	qat_option_env plain = { .arena = env->arena, .folder = env->folder };
	qat_yaml *doc;
	int rc;

	if (o->type != QAT_OPT_INTS && o->type != QAT_OPT_FLOATS && o->type != QAT_OPT_STRINGS &&
	    o->type != QAT_OPT_PATHS && o->type != QAT_OPT_STATES)
		return put_text(field, o->text, env);
	rc = qat_yaml_parse(&doc, o->text, (int64_t)strlen(o->text), "default", NULL, 0);
	if (rc)
		return rc;
	rc = readers[o->type](field, o, qat_yaml_root(doc), &plain);
	qat_yaml_free(doc);
	return rc;
}

static int set_default(void *field, const qat_option *o, const qat_option_env *env)
{
	qat_option_source none = { .owner = o->name };

	switch (o->type) {
	case QAT_OPT_BOOL:
	case QAT_OPT_INT:
	case QAT_OPT_FLOAT:
	case QAT_OPT_SIZE:
	case QAT_OPT_ENUM:
		return default_number(field, o);
	case QAT_OPT_TABLE:
		return qat_option_fill(field, o->table, &none, env);
	case QAT_OPT_PLUGIN:
		return o->text ? default_plugin(field, o, env) : QAT_OK;
	default:
		return o->text ? default_text(field, o, env) : QAT_OK;
	}
}

/* --- a map --- */

/* The names that a map may have: of the table, then of others. */
static const char *known_name(const void *context, int64_t i)
{
	const struct { const qat_option *table, *other; } *k = context;
	int64_t n = 0;

	for (const qat_option *o = k->table; o && o->name; o++) {
		if (!(o->flags & QAT_OPT_HIDDEN) && n++ == i)
			return o->name;
	}
	for (const qat_option *o = k->other; o && o->name; o++) {
		if (n++ == i)
			return o->name;
	}
	return NULL;
}

static const qat_option *option_of(const qat_option *table, const char *key)
{
	for (const qat_option *o = table; o && o->name; o++) {
		if (qat_option_is(o, key))
			return o;
	}
	return NULL;
}

static int unknown_key(const qat_yaml_node *key, const qat_option *table,
		       const qat_option_source *s)
{
	const struct { const qat_option *table, *other; } known = { table, s->other };
	const char *near = qat_hint_nearest_of(key->text, known_name, &known), *name;
	char list[512] = "";
	size_t used = 0;

	if (near)
		return qat_fail(QAT_EINVAL, "%s: unknown option \"%s\" of %s: did you mean \"%s\"?",
				qat_yaml_where(key), qat_yaml_shown(key), s->owner, near);
	for (int64_t i = 0; (name = known_name(&known, i)); i++) {
		int n = snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", name);

		if (n < 0 || (size_t)n >= sizeof list - used)
			break;
		used += (size_t)n;
	}
	return qat_fail(QAT_EINVAL, "%s: unknown option \"%s\" of %s: it has %s",
			qat_yaml_where(key), qat_yaml_shown(key), s->owner,
			*list ? list : "no options");
}

static int check_keys(const qat_option *table, const qat_option_source *s)
{
	const qat_yaml_node *map = s->map;

	for (int64_t i = 0; i < map->count; i++) {
		const char *key = map->keys[i]->text;
		const qat_option *o = option_of(table, key);

		if (!o && !option_of(s->other, key))
			return unknown_key(map->keys[i], table, s);
		for (int64_t k = 0; o && k < i; k++) {
			if (qat_option_is(o, map->keys[k]->text))
				return qat_fail(QAT_EINVAL, "%s: \"%s\" and \"%s\" of %s mean the "
						"same: keep one", qat_yaml_where(map->keys[i]),
						map->keys[k]->text, key, s->owner);
		}
	}
	return QAT_OK;
}

static qat_yaml_node *value_of(const qat_yaml_node *map, const qat_option *o)
{
	for (int64_t i = 0; map && i < map->count; i++) {
		if (qat_option_is(o, map->keys[i]->text))
			return map->items[i]->type == QAT_YAML_NULL ? NULL : map->items[i];
	}
	return NULL;
}

int qat_option_fill(void *out, const qat_option *table, const qat_option_source *source,
		    const qat_option_env *env)
{
	int rc = source->map && !source->checked ? check_keys(table, source) : QAT_OK;

	for (const qat_option *o = table; !rc && o && o->name; o++) {
		qat_yaml_node *node = value_of(source->map, o);
		void *field = (char *)out + o->offset;

		if (node)
			rc = readers[o->type](field, o, node, env);
		else if (source->map && (o->flags & QAT_OPT_REQUIRED))
			rc = qat_yaml_fail(source->map, QAT_EINVAL, "%s lacks \"%s\": %s",
					   source->owner, o->name, o->help);
		else
			rc = set_default(field, o, env);
	}
	return rc;
}

/* --- instances --- */

static int instance_fill(qat_instance *out, const qat_option_source *source,
			 const qat_option_env *env)
{
	const qat_interface *i = out->interface;
	qat_option_source own = *source;

	own.owner = qat_arena_format(env->arena, "%s %s", qat_kind_name(i->kind), i->name);
	out->self = qat_arena_alloc(env->arena, i->options_size + 1);
	if (!own.owner || !out->self)
		return QAT_ENOMEM;
	return qat_option_fill(out->self, i->options, &own, env);
}

int qat_instance_new(qat_instance *out, uint32_t kind, const qat_yaml_node *named,
		     const qat_option_source *source, const qat_option_env *env)
{
	const char *name;
	int rc = qat_yaml_string(&name, named);

	if (rc)
		return rc;
	rc = qat_plugin_find(&out->interface, &out->vtable, kind, name);
	if (rc)
		return qat_yaml_fail(named, rc, "%s", qat_error());
	return instance_fill(out, source, env);
}

int qat_instance_default(qat_instance *out, uint32_t kind, const char *name,
			 const qat_option_env *env)
{
	qat_option_source none = { .map = NULL };
	int rc = qat_plugin_find(&out->interface, &out->vtable, kind, name);

	return rc ? rc : instance_fill(out, &none, env);
}
