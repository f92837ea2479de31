/* results_print.c - rows of results as a table for people. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "results_internal.h"

enum { COLUMNS_MAX = 24, CELL = 64 };

struct table {
	const json_t *list;
	size_t first, last;		/* rows */
	const char *key[COLUMNS_MAX];
	int width[COLUMNS_MAX], number[COLUMNS_MAX];
	int count;
};

/* Five digits that count; whole numbers as they are. */
static void cell_text(char *out, const json_t *v)
{
	double x = json_number_value(v), size = fabs(x);

	if (json_is_string(v))
		snprintf(out, CELL, "%s", json_string_value(v));
	else if (json_is_integer(v))
		snprintf(out, CELL, "%lld", (long long)json_integer_value(v));
	else if (!json_is_real(v))
		snprintf(out, CELL, "-");
	else if (size >= 1e7 || (size > 0 && size < 1e-3))
		snprintf(out, CELL, "%.4g", x);
	else
		snprintf(out, CELL, "%.*f", size >= 1000 ? 1 : size >= 100 ? 2 : 4, x);
}

/* Columns that a reader takes for characters, not bytes. */
static int columns_of(const char *text)
{
	int n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static int column(struct table *t, const char *key)
{
	for (int i = 0; i < t->count; i++) {
		if (!strcmp(t->key[i], key))
			return i;
	}
	if (t->count == COLUMNS_MAX)
		return -1;
	t->key[t->count] = key;
	t->width[t->count] = columns_of(key);
	return t->count++;
}

static void measure(struct table *t)
{
	char text[CELL];

	for (size_t i = t->first; i < t->last; i++) {
		json_t *row = json_array_get(t->list, i), *value;
		const char *key;

		json_object_foreach(row, key, value) {
			int c = json_is_object(value) || json_is_array(value) ? -1 : column(t, key);

			if (c < 0)
				continue;
			cell_text(text, value);
			if (columns_of(text) > t->width[c])
				t->width[c] = columns_of(text);
			t->number[c] |= json_is_number(value);
		}
	}
}

static void print_cell(FILE *out, const struct table *t, int c, const char *text)
{
	int pad = t->width[c] - columns_of(text), last = c == t->count - 1;

	if (t->number[c])
		fprintf(out, "%*s%s", pad, "", text);
	else
		fprintf(out, "%s%*s", text, last ? 0 : pad, "");
	fputs(last ? "\n" : "  ", out);
}

static void print(FILE *out, const struct table *t)
{
	char text[CELL];

	for (int c = 0; c < t->count; c++)
		print_cell(out, t, c, t->key[c]);
	for (size_t i = t->first; i < t->last; i++) {
		for (int c = 0; c < t->count; c++) {
			cell_text(text, json_object_get(json_array_get(t->list, i), t->key[c]));
			print_cell(out, t, c, text);
		}
	}
}

int qat_results_print(qat_results *r, FILE *out, const char *list)
{
	struct table t = { .list = json_object_get(r->document, list) };

	t.last = json_array_size(t.list);
	t.first = (size_t)json_integer_value(json_object_get(r->printed, list));
	if (t.first >= t.last)
		return QAT_OK;
	measure(&t);
	if (t.count)
		print(out, &t);
	if (!r->printed)
		r->printed = json_object();
	if (json_object_set_new(r->printed, list, json_integer((json_int_t)t.last)))
		r->failed = 1;
	if (fflush(out))
		return qat_fail(QAT_EIO, "cannot write a table");
	return QAT_OK;
}

void qat_results_markdown(const qat_results *r, FILE *out, const char *list)
{
	struct table t = { .list = json_object_get(r->document, list) };
	char text[CELL];

	t.last = json_array_size(t.list);
	measure(&t);
	for (int c = 0; c < t.count; c++)
		fprintf(out, "%s%s |%s", c ? "" : "| ", t.key[c], c < t.count - 1 ? " " : "\n");
	for (int c = 0; c < t.count; c++)
		fprintf(out, "%s%s|%s", c ? "" : "| ", t.number[c] ? "--: " : "--- ",
			c < t.count - 1 ? " " : "\n");
	for (size_t i = 0; t.count && i < t.last; i++) {
		for (int c = 0; c < t.count; c++) {
			cell_text(text, json_object_get(json_array_get(t.list, i), t.key[c]));
			fprintf(out, "%s%s |%s", c ? "" : "| ", text,
				c < t.count - 1 ? " " : "\n");
		}
	}
}
