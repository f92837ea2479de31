/* fuzz_yaml.c - a pipeline's text, and after NULs the texts of --set. What is read is
 * written and read again, and is the same. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "yaml_tree.h"

enum { SETS = 4 };

static void compare(const qat_yaml_node *a, const qat_yaml_node *b)
{
	fuzz_assert(a->type == b->type && a->count == b->count);
	fuzz_assert(!strcmp(qat_yaml_text(a), qat_yaml_text(b)));
	for (int64_t i = 0; i < a->count; i++) {
		if (a->type == QAT_YAML_MAP)
			compare(a->keys[i], b->keys[i]);
		compare(a->items[i], b->items[i]);
	}
}

static void read_values(const qat_yaml_node *n)
{
	int64_t whole;
	double real;

	qat_yaml_where(n);
	qat_yaml_path(n);
	qat_yaml_shown(n);
	qat_yaml_bool(&whole, n);
	qat_yaml_int(&whole, n, INT64_MIN, INT64_MAX);
	qat_yaml_float(&real, n, -1e300, 1e300, 1);
	qat_yaml_size(&whole, n);
	for (int64_t i = 0; i < n->count && i < 8; i++)
		read_values(n->items[i]);
}

static void again(const qat_yaml *doc)
{
	qat_yaml *second = NULL;
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	fuzz_assert(f && !qat_yaml_write(f, qat_yaml_root(doc)) && !fclose(f));
	if (n <= QAT_YAML_FILE_MAX) {
		fuzz_assert(!qat_yaml_parse(&second, text, (int64_t)n, "again", NULL, 0));
		compare(qat_yaml_root(doc), qat_yaml_root(second));
	}
	qat_yaml_free(second);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *texts[SETS + 1] = { NULL };
	int64_t count = 0;
	qat_yaml *doc;

	while (count <= SETS && (texts[count] = fuzz_text(&data, &size)))
		count++;
	if (count && !qat_yaml_parse(&doc, texts[0], (int64_t)strlen(texts[0]), "fuzz",
				     (const char *const *)texts + 1, count - 1)) {
		read_values(qat_yaml_root(doc));
		again(doc);
		qat_yaml_free(doc);
	}
	for (int64_t i = 0; i < count; i++)
		free(texts[i]);
	return 0;
}
