/* results_text.c - what models wrote, for people: each prompt, and below it what every state
 * made of it.
 */
#include <string.h>

#include "error.h"
#include "results_internal.h"

enum { WIDTH = 96, INDENT = 4 };

static const char *text_of(const json_t *row, const char *key)
{
	const char *text = json_string_value(json_object_get(row, key));

	return text ? text : "";
}

/* Columns of one character of UTF-8 at p, and its bytes. What a terminal would obey is
 * written as \xNN. */
static int character(FILE *out, const char *p, int *bytes)
{
	const unsigned char c = (unsigned char)*p, d = c ? (unsigned char)p[1] : 0;

	*bytes = 1;
	while (c >= 0xc0 && ((unsigned char)p[*bytes] & 0xc0) == 0x80)
		(*bytes)++;
	if ((c < 0x20 && c != '\t') || c == 0x7f || (c == 0xc2 && d < 0xa0))
		return fprintf(out, "\\x%02x", c == 0xc2 ? d : c);
	fwrite(p, 1, (size_t)*bytes, out);
	return 1;
}

/* Bytes up to the next space or line's end. */
static int word(const char *p)
{
	return (int)strcspn(p + (*p == ' '), " \n") + (*p == ' ');
}

static void line_begin(FILE *out, int indent, int *column)
{
	fprintf(out, "\n%*s", indent, "");
	*column = indent;
}

/* Lines of the text, indented and folded at spaces. */
static void print_text(FILE *out, const char *p, int indent, int column)
{
	while (*p) {
		const char *end;

		if (*p == '\n') {
			line_begin(out, indent, &column);
			p++;
			continue;
		}
		end = p + word(p);
		if (*p == ' ' && column > indent && column + (end - p) > WIDTH) {
			line_begin(out, indent, &column);
			p++;
		}
		while (p < end) {
			int bytes;

			column += character(out, p, &bytes);
			p += bytes;
		}
	}
	fputc('\n', out);
}

static void print_row(FILE *out, const json_t *row)
{
	const json_t *rate = json_object_get(row, "tokens_per_second");

	fprintf(out, "%s: %lld tokens, %s", text_of(row, "state"),
		(long long)json_integer_value(json_object_get(row, "tokens")),
		text_of(row, "finish_reason"));
	if (json_is_number(rate))
		fprintf(out, ", %.1f tokens/s", json_number_value(rate));
	fprintf(out, "\n%*s", INDENT, "");
	print_text(out, text_of(row, "text"), INDENT, INDENT);
}

int qat_results_print_texts(qat_results *r, FILE *out, const char *list)
{
	const json_t *rows = json_object_get(r->document, list);
	const size_t last = json_array_size(rows);
	const size_t first = (size_t)json_integer_value(json_object_get(r->printed, list));

	for (size_t i = first; i < last; i++) {
		const char *prompt = text_of(json_array_get(rows, i), "prompt");
		size_t k = first;

		while (strcmp(prompt, text_of(json_array_get(rows, k), "prompt")))
			k++;
		if (k < i)			/* printed with the first of its prompt */
			continue;
		fputs("> ", out);
		print_text(out, prompt, 2, 2);
		for (k = i; k < last; k++)
			if (!strcmp(prompt, text_of(json_array_get(rows, k), "prompt")))
				print_row(out, json_array_get(rows, k));
		fputc('\n', out);
	}
	if (!r->printed)
		r->printed = json_object();
	if (json_object_set_new(r->printed, list, json_integer((json_int_t)last)))
		r->failed = 1;
	return fflush(out) ? qat_fail(QAT_EIO, "cannot write to the output") : QAT_OK;
}
