/* yaml_read.c - scalars and lists as C values. What YAML's versions read differently
 * (yes, 010, 1:30) is refused rather than guessed. */
#include "yaml_internal.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "hint.h"

enum { NUMBER_MAX = 64 };

/* "abc" or, for what is no scalar, "a list". */
static const char *given(const qat_yaml_node *node)
{
	size_t size = NUMBER_MAX;
	char *out;

	if (node->type != QAT_YAML_SCALAR)
		return qat_yaml_type_name(node);
	out = qat_yaml_alloc(node->doc, size);
	if (!out)
		return "";
	snprintf(out, size, "\"%s\"", qat_yaml_shown(node));
	return out;
}

static int wrong(const qat_yaml_node *node, const char *what, const char *right)
{
	return qat_yaml_fail(node, QAT_EINVAL, "%s is not %s: %s", given(node), what, right);
}

int qat_yaml_bool(int64_t *out, const qat_yaml_node *node)
{
	const char *text = qat_yaml_text(node);

	if (!strcmp(text, "true"))
		*out = 1;
	else if (!strcmp(text, "false"))
		*out = 0;
	else
		return wrong(node, "a boolean", "write true or false");
	return QAT_OK;
}

/* Copies digits to `*out`, dropping each '_' between two of them; the number copied. */
static size_t digits(char **out, const char **s, char *end)
{
	const char *p = *s;
	size_t n = 0;

	while (*out < end) {
		if (*p == '_' && n && p[1] >= '0' && p[1] <= '9')
			p++;
		if (*p < '0' || *p > '9')
			break;
		*(*out)++ = *p++;
		n++;
	}
	*s = p;
	return n;
}

/* Copies a number without its underscores; 0 if the text is none. `whole`: no point or
 * exponent. A zero before another digit is refused: YAML 1.1 reads it as octal. */
static int plain_number(char *out, const char *s, int whole)
{
	char *p = out, *end = out + NUMBER_MAX - 4;
	size_t n, fraction = 0;

	if (*s == '+' || *s == '-')
		*p++ = *s++;
	if (s[0] == '0' && (s[1] == '_' || (s[1] >= '0' && s[1] <= '9')))
		return 0;
	n = digits(&p, &s, end);
	if (!whole && *s == '.') {
		*p++ = *s++;
		fraction = digits(&p, &s, end);
	}
	if (n + fraction == 0)
		return 0;
	if (!whole && (*s == 'e' || *s == 'E')) {
		*p++ = *s++;
		if (*s == '+' || *s == '-')
			*p++ = *s++;
		if (!digits(&p, &s, end))
			return 0;
	}
	*p = '\0';
	return !*s;
}

int qat_yaml_int(int64_t *out, const qat_yaml_node *node, int64_t min, int64_t max)
{
	char number[NUMBER_MAX];
	long long value;

	if (!plain_number(number, qat_yaml_text(node), 1))
		return wrong(node, "an integer", "write it like 200 or 1_000");
	errno = 0;
	value = strtoll(number, NULL, 10);
	if (errno || value < min || value > max) {
		if (max == INT64_MAX)
			return qat_yaml_fail(node, QAT_EINVAL, "%s is out of range: it must be at "
					     "least %lld", qat_yaml_shown(node), (long long)min);
		if (min == max)
			return qat_yaml_fail(node, QAT_EINVAL, "%s is out of range: it must be "
					     "%lld", qat_yaml_shown(node), (long long)min);
		return qat_yaml_fail(node, QAT_EINVAL, "%s is out of range: it must be from %lld "
				     "to %lld", qat_yaml_shown(node), (long long)min,
				     (long long)max);
	}
	*out = value;
	return QAT_OK;
}

/* Infinity and NaN by their YAML names; 0 for any other text. */
static int special_number(double *out, const char *text)
{
	static const struct { const char *name; double value; } table[] = {
		{ ".inf", INFINITY }, { "+.inf", INFINITY }, { "-.inf", -INFINITY },
		{ ".nan", NAN }, { "inf", INFINITY }, { "-inf", -INFINITY }, { "nan", NAN },
		{ ".Inf", INFINITY }, { "-.Inf", -INFINITY }, { ".NaN", NAN },
	};

	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		if (!strcmp(text, table[i].name)) {
			*out = table[i].value;
			return 1;
		}
	}
	return 0;
}

/* strtod as the C locale has it: a program may run under one with a decimal comma. */
static int to_double(double *out, const char *number)
{
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);

	if (!c)
		return qat_fail(QAT_ENOMEM, "out of memory");
	*out = strtod_l(number, NULL, c);
	freelocale(c);
	return QAT_OK;
}

int qat_yaml_float(double *out, const qat_yaml_node *node, double min, double max, int special)
{
	char number[NUMBER_MAX];
	const char *text = qat_yaml_text(node);
	double value = 0;

	if (special_number(&value, text)) {
		if (!special)
			return wrong(node, "a finite number", "write one like 2e-5 or 1_000.5");
	} else if (!plain_number(number, text, 0)) {
		return wrong(node, "a number", "write one like 2e-5 or 1_000.5");
	} else if (to_double(&value, number)) {
		return QAT_ENOMEM;
	} else if (isinf(value)) {
		return wrong(node, "a finite number", "it is too large for a double");
	}
	if (!(value >= min && value <= max) && !isnan(value)) {
		if (isinf(max))
			return qat_yaml_fail(node, QAT_EINVAL, "%s is out of range: it must be at "
					     "least %g", qat_yaml_shown(node), min);
		if (min == max)
			return qat_yaml_fail(node, QAT_EINVAL, "%s is out of range: it must be %g",
					     qat_yaml_shown(node), min);
		return qat_yaml_fail(node, QAT_EINVAL, "%s is out of range: it must be from %g "
				     "to %g", qat_yaml_shown(node), min, max);
	}
	*out = value;
	return QAT_OK;
}

/* Bytes in one of the unit; 0 if it is none. */
static int64_t unit_bytes(const char *unit)
{
	static const struct { const char *name; int64_t bytes; } table[] = {
		{ "", 1 }, { "B", 1 },
		{ "k", 1000 }, { "K", 1000 }, { "kB", 1000 }, { "KB", 1000 },
		{ "M", 1000000 }, { "MB", 1000000 },
		{ "G", 1000000000 }, { "GB", 1000000000 },
		{ "T", 1000000000000 }, { "TB", 1000000000000 },
		{ "KiB", 1LL << 10 }, { "MiB", 1LL << 20 },
		{ "GiB", 1LL << 30 }, { "TiB", 1LL << 40 },
	};

	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		if (!strcmp(unit, table[i].name))
			return table[i].bytes;
	}
	return 0;
}

/* "1_024.5 GiB" as 1024, 500000 (millionths) and the unit; 0 if it is no such thing. */
static int split_size(int64_t *whole, int64_t *millionths, int64_t *unit, const char *s)
{
	char number[NUMBER_MAX], *p = number, *end = number + 18;
	int leading_zero = s[0] == '0' && s[1] >= '0' && s[1] <= '9';

	if (leading_zero || !digits(&p, &s, end))
		return 0;
	*p = '\0';
	*whole = strtoll(number, NULL, 10);
	*millionths = 0;
	if (*s == '.') {
		p = number;
		s++;
		if (!digits(&p, &s, number + 6))
			return 0;
		while (p < number + 6)
			*p++ = '0';
		*p = '\0';
		*millionths = strtoll(number, NULL, 10);
	}
	s += *s == ' ';
	*unit = unit_bytes(s);
	return *unit > 0;
}

int qat_yaml_size(int64_t *out, const qat_yaml_node *node)
{
	int64_t whole, millionths, unit;

	if (!split_size(&whole, &millionths, &unit, qat_yaml_text(node)))
		return wrong(node, "a size", "write it like 6GiB, 500M or 4096");
	if (whole > INT64_MAX / unit - 1)
		return wrong(node, "a size", "it is too large");
	*out = whole * unit + millionths * unit / 1000000;	/* 2^20 * 2^40 fits */
	return QAT_OK;
}

int qat_yaml_string(const char **out, const qat_yaml_node *node)
{
	if (node->type != QAT_YAML_SCALAR)
		return wrong(node, "a string", "write one value");
	*out = node->text;
	return QAT_OK;
}

int qat_yaml_choice(int64_t *out, const qat_yaml_node *node, const char *const *choices)
{
	const char *text = qat_yaml_text(node), *near;
	char all[256] = "";
	int64_t n = 0;

	for (; choices[n]; n++) {
		if (node->type == QAT_YAML_SCALAR && !strcmp(text, choices[n])) {
			*out = n;
			return QAT_OK;
		}
	}
	near = qat_hint_nearest(text, choices, n);
	if (near)
		return qat_yaml_fail(node, QAT_EINVAL, "unknown value %s: did you mean \"%s\"?",
				     given(node), near);
	for (int64_t i = 0; i < n; i++) {
		size_t used = strlen(all);

		snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", choices[i]);
	}
	return qat_yaml_fail(node, QAT_EINVAL, "unknown value %s: it is one of %s", given(node),
			     all);
}

/* Room for the items of a list of `size` bytes each. */
static int list_room(void **out, const qat_yaml_node *node, size_t size, const char *right)
{
	if (node->type != QAT_YAML_SEQ)
		return wrong(node, "a list", right);
	*out = qat_yaml_alloc(node->doc, (size_t)node->count * size + 1);
	return *out ? QAT_OK : QAT_ENOMEM;
}

int qat_yaml_ints(qat_ints *out, const qat_yaml_node *node, int64_t min, int64_t max)
{
	void *room = NULL;
	int rc = list_room(&room, node, sizeof(int64_t), "write it like [2, 4, 8]");
	int64_t *at = room;

	for (int64_t i = 0; !rc && i < node->count; i++)
		rc = qat_yaml_int(at + i, node->items[i], min, max);
	if (!rc)
		*out = (qat_ints){ at, node->count };
	return rc;
}

int qat_yaml_floats(qat_floats *out, const qat_yaml_node *node, double min, double max)
{
	void *room = NULL;
	int rc = list_room(&room, node, sizeof(double), "write it like [0.9, 0.999]");
	double *at = room;

	for (int64_t i = 0; !rc && i < node->count; i++)
		rc = qat_yaml_float(at + i, node->items[i], min, max, 0);
	if (!rc)
		*out = (qat_floats){ at, node->count };
	return rc;
}

int qat_yaml_strings(qat_strings *out, const qat_yaml_node *node)
{
	int single = node->type == QAT_YAML_SCALAR;
	int64_t n = single ? 1 : node->count;
	const char **at;
	int rc = QAT_OK;

	if (!single && node->type != QAT_YAML_SEQ)
		return wrong(node, "a list", "write it like [one, two]");
	at = qat_yaml_alloc(node->doc, (size_t)n * sizeof *at + 1);
	if (!at)
		return QAT_ENOMEM;
	for (int64_t i = 0; !rc && i < n; i++)
		rc = qat_yaml_string(at + i, single ? node : node->items[i]);
	if (!rc)
		*out = (qat_strings){ at, n };
	return rc;
}
