/* option_json.c - filling a plugin's struct from an object of JSON, such as a model's
 * configuration. Whoever wrote the file had more keys in mind than we read. */
#include <math.h>
#include <string.h>

#include "error.h"
#include "option.h"

/* What is being read, for messages. */
struct place {
	const char *owner;	/* "config.json" */
	const char *key;
	const qat_option_env *env;
};

typedef int reader(void *field, const qat_option *o, const json_t *value,
		   const struct place *at);

static int wrong(const struct place *at, const char *right)
{
	return qat_fail(QAT_EFORMAT, "%s: %s: not %s", at->owner, at->key, right);
}

static int read_bool(void *field, const qat_option *o, const json_t *value,
		     const struct place *at)
{
	int64_t flag = json_is_true(value);

	(void)o;
	if (!json_is_boolean(value))
		return wrong(at, "true or false");
	memcpy(field, &flag, sizeof flag);
	return QAT_OK;
}

static int in_range(const qat_option *o, double x)
{
	return (o->min == 0 && o->max == 0) || (x >= o->min && x <= o->max);
}

/* Integers, and reals that are whole: some writers put a point everywhere. */
static int read_int(void *field, const qat_option *o, const json_t *value,
		    const struct place *at)
{
	double x = json_number_value(value);
	int64_t whole;

	if (json_is_integer(value))
		whole = json_integer_value(value);
	else if (json_is_real(value) && x == floor(x) && fabs(x) < 0x1p53)
		whole = (int64_t)x;
	else
		return wrong(at, "an integer");
	if (!in_range(o, (double)whole))
		return qat_fail(QAT_EFORMAT, "%s: %s: %lld is out of range: %.0f to %.0f",
				at->owner, at->key, (long long)whole, o->min, o->max);
	memcpy(field, &whole, sizeof whole);
	return QAT_OK;
}

static int read_float(void *field, const qat_option *o, const json_t *value,
		      const struct place *at)
{
	double x = json_number_value(value);

	if (!json_is_number(value))
		return wrong(at, "a number");
	if (!in_range(o, x))
		return qat_fail(QAT_EFORMAT, "%s: %s: %g is out of range: %g to %g", at->owner,
				at->key, x, o->min, o->max);
	memcpy(field, &x, sizeof x);
	return QAT_OK;
}

static int read_string(void *field, const qat_option *o, const json_t *value,
		       const struct place *at)
{
	const char *text = json_string_value(value);

	(void)o;
	if (!text)
		return wrong(at, "a string");
	text = qat_arena_text(at->env->arena, text);
	if (!text)
		return QAT_ENOMEM;
	memcpy(field, &text, sizeof text);
	return QAT_OK;
}

static int read_enum(void *field, const qat_option *o, const json_t *value,
		     const struct place *at)
{
	const char *text = json_string_value(value);
	char all[256] = "";

	if (!text)
		return wrong(at, "a string");
	for (int64_t i = 0; o->choices[i]; i++) {
		size_t used = strlen(all);

		if (!strcmp(text, o->choices[i])) {
			memcpy(field, &i, sizeof i);
			return QAT_OK;
		}
		snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", o->choices[i]);
	}
	return qat_fail(QAT_ENOTSUP, "%s: %s: unknown value \"%.48s\": it is one of %s", at->owner,
			at->key, text, all);
}

/* A list, or one value as a list of one. */
static int read_list(void *field, const qat_option *o, const json_t *value,
		     const struct place *at, reader *item, size_t size)
{
	int64_t count = json_is_array(value) ? (int64_t)json_array_size(value) : 1;
	char *room = qat_arena_array(at->env->arena, (size_t)count + 1, size);
	qat_ints list = { (const int64_t *)(const void *)room, count };
	int rc = room ? QAT_OK : QAT_ENOMEM;

	for (int64_t i = 0; !rc && i < count; i++)
		rc = item(room + (size_t)i * size, o,
			  json_is_array(value) ? json_array_get(value, (size_t)i) : value, at);
	if (!rc)
		memcpy(field, &list, sizeof list);
	return rc;
}

static int read_ints(void *field, const qat_option *o, const json_t *value,
		     const struct place *at)
{
	return read_list(field, o, value, at, read_int, sizeof(int64_t));
}

static int read_floats(void *field, const qat_option *o, const json_t *value,
		       const struct place *at)
{
	return read_list(field, o, value, at, read_float, sizeof(double));
}

static int read_strings(void *field, const qat_option *o, const json_t *value,
			const struct place *at)
{
	return read_list(field, o, value, at, read_string, sizeof(char *));
}

static int read_table(void *field, const qat_option *o, const json_t *value,
		      const struct place *at)
{
	const char *owner;

	if (!json_is_object(value))
		return wrong(at, "an object");
	owner = qat_arena_format(at->env->arena, "%s: %s", at->owner, at->key);
	if (!owner)
		return QAT_ENOMEM;
	return qat_option_fill_json(field, o->table, value, owner, at->env);
}

/* Types that a file of JSON cannot give are NULL. */
static reader *const readers[QAT_OPT_PLUGIN + 1] = {
	[QAT_OPT_BOOL] = read_bool,
	[QAT_OPT_INT] = read_int,
	[QAT_OPT_FLOAT] = read_float,
	[QAT_OPT_SIZE] = read_int,
	[QAT_OPT_STRING] = read_string,
	[QAT_OPT_ENUM] = read_enum,
	[QAT_OPT_INTS] = read_ints,
	[QAT_OPT_FLOATS] = read_floats,
	[QAT_OPT_STRINGS] = read_strings,
	[QAT_OPT_TABLE] = read_table
};

/* The value at "a.b.c" of `length` bytes; NULL where there is none or it is null. */
static const json_t *reach(const json_t *object, const char *path, size_t length)
{
	char key[128];

	while (object) {
		size_t n = 0;

		while (n < length && path[n] != '.')
			n++;
		if (n >= sizeof key)
			return NULL;
		memcpy(key, path, n);
		key[n] = 0;
		object = json_object_get(object, key);
		if (n == length)
			break;
		path += n + 1;
		length -= n + 1;
	}
	return json_is_null(object) ? NULL : object;
}

/* By the name first, then by each alias. */
static const json_t *value_of(const json_t *object, const qat_option *o)
{
	const json_t *value = json_object_get(object, o->name);
	size_t n;

	if (value && !json_is_null(value))
		return value;
	for (const char *p = o->alias; p; p = p[n] ? p + n + 1 : NULL) {
		n = strcspn(p, "|");
		value = reach(object, p, n);
		if (value)
			return value;
	}
	return NULL;
}

int qat_option_fill_json(void *out, const qat_option *table, const json_t *object,
			 const char *owner, const qat_option_env *env)
{
	qat_option_source none = { .owner = owner };
	int rc = qat_option_fill(out, table, &none, env);	/* the defaults */

	for (const qat_option *o = table; !rc && o && o->name; o++) {
		const json_t *value = value_of(object, o);
		struct place at = { owner, o->name, env };

		if (value && readers[o->type])
			rc = readers[o->type]((char *)out + o->offset, o, value, &at);
		else if (value)
			rc = qat_fail(QAT_ENOTSUP, "%s: %s: a file cannot give this", owner,
				      o->name);
		else if (o->flags & QAT_OPT_REQUIRED)
			rc = qat_fail(QAT_EFORMAT, "%s: lacks \"%s\": %s", owner, o->name, o->help);
	}
	return rc;
}
