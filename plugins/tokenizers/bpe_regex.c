/* bpe_regex.c - the regular expressions of a tokenizer.json, run by PCRE2.
 *
 * They are written for Oniguruma in Ruby's syntax, with Unicode classes. What the two
 * engines read alike passes; \s and \w, which they do not, are spelled out; all else
 * (nested classes, \h, back references, (?m) ...) is refused, as a text that is split in
 * a slightly different way would be worse than none.
 *
 * A pattern is a stranger's program: matches have limits in steps, memory and time. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "bpe.h"

enum {
	PATTERN_MAX = 1 << 16,	/* bytes */
	WINDOW = 64,		/* bytes in which one call looks for a match */
	SECONDS = 10		/* for a text, and 2 more for each MB */
};

#define SPACE "\\t-\\r\\x{85}\\p{Z}"	/* White_Space; PCRE2's \s has U+180E too */
#define WORD "\\p{Alphabetic}\\p{M}\\p{N}\\p{Pc}"

struct qat_regex {
	pcre2_code *code;
	char *name;		/* the pattern, for messages */
};

/* ---- from one syntax to the other ---- */

typedef struct reader {
	const char *at;
	size_t length, i;
	bool in_class, class_start;
	qat_text out;
	const char *name;
} reader;

static int refuse(const reader *r, const char *what)
{
	return qat_fail(QAT_ENOTSUP, "%s: pattern `%.*s`: %s at byte %zu is not supported",
			r->name, (int)(r->length < 400 ? r->length : 400), r->at, what, r->i);
}

static int put(reader *r, const char *text)
{
	return qat_text_append(&r->out, text, strlen(text));
}

/* Escapes that do not mean the same, outside of a class and inside. NULL: refused. */
static const struct { char letter; const char *outside, *inside; } escapes[] = {
	{ 's', "[" SPACE "]", SPACE },
	{ 'S', "[^" SPACE "]", "\\S\\x{180e}" },
	{ 'w', "[" WORD "]", WORD },
	{ 'W', "[^" WORD "]", NULL },
};

/* \x{...}, \p{...}, \P{...}: as they are. Without braces they would differ. */
static int read_braces(reader *r)
{
	const char *at = r->at + r->i, *close = NULL;
	int rc;

	if (r->i + 2 < r->length && at[2] == '{')
		close = memchr(at, '}', r->length - r->i);
	if (!close)
		return refuse(r, "this escape without braces");
	rc = qat_text_append(&r->out, at, (size_t)(close - at) + 1);
	r->i += (size_t)(close - at) + 1;
	return rc;
}

static int read_escape(reader *r)
{
	char c;

	if (r->i + 1 >= r->length)
		return refuse(r, "a lone backslash");
	c = r->at[r->i + 1];
	for (size_t k = 0; k < sizeof escapes / sizeof *escapes; k++) {
		const char *text = r->in_class ? escapes[k].inside : escapes[k].outside;

		if (escapes[k].letter != c)
			continue;
		if (!text)
			return refuse(r, "this escape in a class");
		r->i += 2;
		return put(r, text);
	}
	if ((c >= '0' && c <= '9') || (unsigned char)c >= 0x80 ||
	    (((c | 32) >= 'a' && (c | 32) <= 'z') && !strchr("dDpPnrtfxAzZ", c)) ||
	    (r->in_class && strchr("AzZ", c)))
		return refuse(r, "this escape");
	if (c == 'x' || c == 'p' || c == 'P')
		return read_braces(r);
	r->i += 2;
	return qat_text_append(&r->out, r->at + r->i - 2, 2);
}

static int read_class(reader *r)
{
	char c = r->at[r->i];

	if (c == '[')
		return refuse(r, "a class inside a class");
	if (c == '&' && r->i + 1 < r->length && r->at[r->i + 1] == '&')
		return refuse(r, "&& in a class");
	if (c == ']' && r->class_start)
		return refuse(r, "] as the first of a class");
	r->in_class = c != ']';
	r->class_start = r->class_start && c == '^' && r->at[r->i - 1] == '[';
	r->i++;
	return qat_text_append(&r->out, &c, 1);
}

/* Groups that both engines read alike. */
static int check_group(const reader *r)
{
	static const char *const known[] = { "?:", "?=", "?!", "?<", "?>", "?i:", "?-i:" };
	const char *at = r->at + r->i + 1;
	size_t left = r->length - r->i - 1;

	if (left && *at == '*')
		return refuse(r, "(*");
	if (!left || *at != '?')
		return QAT_OK;
	for (size_t k = 0; k < sizeof known / sizeof *known; k++)
		if (left >= strlen(known[k]) && !memcmp(at, known[k], strlen(known[k])))
			return QAT_OK;
	return refuse(r, "this kind of group");
}

static int read_plain(reader *r)
{
	char c = r->at[r->i];
	char next = r->i + 1 < r->length ? r->at[r->i + 1] : '\0';
	int rc = QAT_OK;

	if (c == '(')
		rc = check_group(r);
	else if (c == '{' && next == ',')
		rc = refuse(r, "{,");
	else if (c == '}' && next && strchr("+*?", next))
		rc = refuse(r, "a quantifier after {}");
	if (rc)
		return rc;
	r->in_class = r->class_start = c == '[';
	r->i++;
	return qat_text_append(&r->out, &c, 1);
}

static int translate(reader *r)
{
	int rc = put(r, "");

	while (!rc && r->i < r->length) {
		if (r->at[r->i] == '\\') {
			rc = read_escape(r);
			r->class_start = false;
		} else if (r->in_class)
			rc = read_class(r);
		else
			rc = read_plain(r);
	}
	return rc;
}

static int compile(qat_regex *regex, const reader *r)
{
	const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C |
				 PCRE2_USE_OFFSET_LIMIT;
	PCRE2_SIZE place;
	PCRE2_UCHAR said[200];
	int code;

	regex->code = pcre2_compile((PCRE2_SPTR)r->out.at, r->out.length, options, &code, &place,
				    NULL);
	if (!regex->code) {
		pcre2_get_error_message(code, said, sizeof said);
		return qat_fail(QAT_ENOTSUP, "%s: pattern `%.400s`: %s", r->name, regex->name,
				(const char *)said);
	}
	pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE);	/* else it is interpreted */
	return QAT_OK;
}

int qat_regex_new(qat_regex **out, const char *pattern, size_t length, const char *name)
{
	reader r = { .at = pattern, .length = length, .name = name };
	qat_regex *regex;
	int rc;

	if (!length || length > PATTERN_MAX || !qat_utf8_valid(pattern, length) ||
	    memchr(pattern, '\0', length))
		return qat_fail(QAT_EFORMAT, "%s: a pattern has 1 to %d bytes of UTF-8 without NUL",
				name, PATTERN_MAX);
	regex = calloc(1, sizeof *regex);
	if (!regex || !(regex->name = strndup(pattern, length))) {
		free(regex);
		return qat_fail(QAT_ENOMEM, "%s: no memory for a pattern", name);
	}
	rc = translate(&r);
	if (!rc)
		rc = compile(regex, &r);
	qat_text_free(&r.out);
	if (rc) {
		qat_regex_free(regex);
		return rc;
	}
	*out = regex;
	return QAT_OK;
}

void qat_regex_free(qat_regex *regex)
{
	if (!regex)
		return;
	pcre2_code_free(regex->code);
	free(regex->name);
	free(regex);
}

/* ---- matching ---- */

static double now(clockid_t clock)
{
	struct timespec t = { 0 };

	clock_gettime(clock, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Both clocks must have run out: the first is cheap to ask, the second does not count the
 * time in which others had the processor. */
static bool is_late(const qat_match *match)
{
	return now(CLOCK_MONOTONIC_COARSE) > match->deadline &&
	       now(CLOCK_THREAD_CPUTIME_ID) > match->cpu_deadline;
}

int qat_match_open(qat_match *match, size_t length)
{
	double seconds = SECONDS + 2e-6 * (double)length;
	uint32_t steps = length < 500000000 ? 1000000 + 4 * (uint32_t)length : 2001000000;

	match->data = pcre2_match_data_create(1, NULL);
	match->context = pcre2_match_context_create(NULL);
	match->stack = pcre2_jit_stack_create(32 << 10, 8 << 20, NULL);
	if (!match->data || !match->context)
		return qat_fail(QAT_ENOMEM, "tokenizer: no memory for matching");
	pcre2_set_match_limit(match->context, steps);
	pcre2_set_heap_limit(match->context, 256 << 10);	/* KiB */
	if (match->stack)
		pcre2_jit_stack_assign(match->context, NULL, match->stack);
	match->deadline = now(CLOCK_MONOTONIC_COARSE) + seconds;
	match->cpu_deadline = now(CLOCK_THREAD_CPUTIME_ID) + seconds;
	return QAT_OK;
}

void qat_match_close(qat_match *match)
{
	pcre2_match_data_free(match->data);
	pcre2_match_context_free(match->context);
	pcre2_jit_stack_free(match->stack);
}

static int give_up(const qat_regex *regex, int code, size_t at)
{
	PCRE2_UCHAR said[200];

	pcre2_get_error_message(code, said, sizeof said);
	return qat_fail(QAT_ENOTSUP, "tokenizer: pattern `%.400s` fails at byte %zu of a text: %s",
			regex->name, at, (const char *)said);
}

/* A call looks no further than WINDOW bytes for the start of a match, so that the clock is
 * asked now and then. */
int qat_regex_find(const qat_regex *regex, qat_match *match, const char *text, size_t length,
		   size_t from, size_t *start, size_t *end)
{
	const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(match->data);
	size_t limit;
	int rc = PCRE2_ERROR_NOMATCH;

	while (from <= length) {
		limit = length - from > WINDOW ? from + WINDOW : length;
		while (limit < length && (text[limit] & 0xc0) == 0x80)
			limit++;
		pcre2_set_offset_limit(match->context, limit);
		rc = pcre2_match(regex->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK,
				 match->data, match->context);
		if (is_late(match))
			return qat_fail(QAT_ENOTSUP, "tokenizer: pattern `%.400s` takes too long; "
					"stopped at byte %zu of %zu", regex->name, from, length);
		if (rc != PCRE2_ERROR_NOMATCH || limit == length)
			break;
		from = limit;
	}
	if (rc == PCRE2_ERROR_NOMATCH)
		return 0;
	if (rc < 0)
		return give_up(regex, rc, from);
	if (ends[0] < from || ends[1] < ends[0] || ends[1] > length)
		return give_up(regex, PCRE2_ERROR_INTERNAL, from);
	*start = ends[0];
	*end = ends[1];
	return 1;
}
