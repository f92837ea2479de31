/* bpe_parts.c - normalizer, pre_tokenizer and decoder of a tokenizer.json: each a part, or
 * a sequence of parts, by its type. What is not in the tables is refused by name. */
#include <stdlib.h>
#include <string.h>
#include "bpe.h"

static const char gpt2_pattern[] =
	"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
static const char meta_default[] = "\xe2\x96\x81";	/* U+2581 */

typedef struct context {
	const char *name, *section;
	qat_chain *chain;
	int depth;
} context;

typedef struct row {
	const char *type;
	int (*read)(context *c, const json_t *part);
	const char *list;	/* of a Sequence: the key of its parts */
} row;

static int complain(const context *c, const json_t *part, const char *what)
{
	const char *type = json_string_value(json_object_get(part, "type"));

	return qat_fail(QAT_EFORMAT, "%s: %s: %s %s", c->name, c->section, type ? type : "?", what);
}

static int unsupported(const context *c, const json_t *part, const char *what)
{
	complain(c, part, what);
	return QAT_ENOTSUP;
}

/* NULL: the chain is full. */
static qat_part *add_part(context *c, int kind)
{
	qat_part *out;

	if (c->chain->count == QAT_BPE_STAGES) {
		qat_fail(QAT_ENOTSUP, "%s: %s: more than %d parts", c->name, c->section,
			 QAT_BPE_STAGES);
		return NULL;
	}
	out = &c->chain->part[c->chain->count++];
	*out = (qat_part){ .kind = kind };
	return out;
}

static int add_simple(context *c, int kind)
{
	return add_part(c, kind) ? QAT_OK : QAT_ENOTSUP;
}

/* A string that must be there. */
static int copy_text(qat_string *out, const context *c, const json_t *part, const char *key)
{
	const json_t *text = json_object_get(part, key);

	if (!json_is_string(text))
		return qat_fail(QAT_EFORMAT, "%s: %s: \"%s\" must be a string", c->name, c->section,
				key);
	if (json_string_length(text) > QAT_BPE_STRING_MAX)
		return qat_fail(QAT_ENOTSUP, "%s: %s: \"%s\" of more than %d bytes", c->name,
				c->section, key, QAT_BPE_STRING_MAX);
	return qat_string_copy(out, json_string_value(text), json_string_length(text));
}

/* ... of exactly one character. */
static int copy_char(qat_string *out, const context *c, const json_t *part, const char *key)
{
	bool valid;
	int rc = copy_text(out, c, part, key);

	if (!rc && (!out->length || qat_utf8_next(out->at, out->length, &valid) != out->length))
		rc = qat_fail(QAT_EFORMAT, "%s: %s: \"%s\" must be one character", c->name,
			      c->section, key);
	return rc;
}

/* {"String": ...} or {"Regex": ...}; `regex` NULL: only the former. */
static int read_pattern(qat_string *string, qat_regex **regex, const context *c,
			const json_t *part)
{
	const json_t *pattern = json_object_get(part, "pattern");
	const json_t *text = json_object_get(pattern, "Regex");
	int rc;

	if (text) {
		if (!regex)
			return unsupported(c, part, "with a Regex is not supported, only String");
		if (!json_is_string(text))
			return complain(c, part, "has a Regex that is no string");
		return qat_regex_new(regex, json_string_value(text), json_string_length(text),
				     c->name);
	}
	if (!json_is_object(pattern))
		return complain(c, part, "has no pattern: {\"String\": ...}");
	rc = copy_text(string, c, pattern, "String");
	if (!rc && !string->length)
		rc = complain(c, part, "has an empty pattern");
	return rc;
}

/* ---- normalizers ---- */

static int read_nfc(context *c, const json_t *part)
{
	(void)part;
	return add_simple(c, QAT_NORM_NFC);
}

static int read_replacing(context *c, const json_t *part, int kind)
{
	qat_part *out = add_part(c, kind);
	int rc = out ? read_pattern(&out->pattern, NULL, c, part) : QAT_ENOTSUP;

	return rc ? rc : copy_text(&out->content, c, part, "content");
}

static int read_replace(context *c, const json_t *part)
{
	return read_replacing(c, part, QAT_NORM_REPLACE);
}

static int read_prepend(context *c, const json_t *part)
{
	qat_part *out = add_part(c, QAT_NORM_PREPEND);

	return out ? copy_text(&out->content, c, part, "prepend") : QAT_ENOTSUP;
}

/* ---- pre-tokenizers ---- */

static int add_regex(context *c, const char *pattern)
{
	qat_part *out = add_part(c, QAT_SPLIT_REGEX);

	if (!out)
		return QAT_ENOTSUP;
	out->behavior = QAT_ISOLATED;
	return qat_regex_new(&out->regex, pattern, strlen(pattern), c->name);
}

static int read_byte_level(context *c, const json_t *part)
{
	bool prefix = true, regex = true;
	size_t before = 0;
	qat_part *out;
	int rc = qat_json_flag(&prefix, part, "add_prefix_space", c->name);

	/* each doubles the text; one is usual */
	for (size_t i = 0; i < c->chain->count; i++)
		before += c->chain->part[i].kind == QAT_SPLIT_BYTES;
	if (before >= 2)
		return unsupported(c, part, "more than twice is not supported");

	if (!rc)
		rc = qat_json_flag(&regex, part, "use_regex", c->name);
	if (!rc && prefix) {
		out = add_part(c, QAT_SPLIT_PREFIX);
		rc = out ? qat_string_copy(&out->content, " ", 1) : QAT_ENOTSUP;
	}
	if (!rc && regex)
		rc = add_regex(c, gpt2_pattern);
	return rc ? rc : add_simple(c, QAT_SPLIT_BYTES);
}

static int read_split(context *c, const json_t *part)
{
	static const char *const names[] = {
		[QAT_REMOVED] = "Removed", [QAT_ISOLATED] = "Isolated",
		[QAT_MERGED_PREVIOUS] = "MergedWithPrevious",
		[QAT_MERGED_NEXT] = "MergedWithNext", [QAT_CONTIGUOUS] = "Contiguous",
	};
	const char *behavior = json_string_value(json_object_get(part, "behavior"));
	int known = sizeof names / sizeof *names;
	qat_part *out = add_part(c, QAT_SPLIT_STRING);
	int rc = out ? QAT_OK : QAT_ENOTSUP;

	if (out)
		rc = qat_json_flag(&out->invert, part, "invert", c->name);
	if (!rc)
		rc = read_pattern(&out->pattern, &out->regex, c, part);
	if (rc)
		return rc;
	if (out->regex)
		out->kind = QAT_SPLIT_REGEX;
	for (int i = 0; i < known; i++) {
		out->behavior = i;
		if (behavior && !strcmp(behavior, names[i]))
			return QAT_OK;
	}
	return complain(c, part, "has no known behavior");
}

static int read_digits(context *c, const json_t *part)
{
	bool individual = false;
	int rc = qat_json_flag(&individual, part, "individual_digits", c->name);

	return rc ? rc : add_regex(c, individual ? "\\p{N}" : "\\p{N}+");
}

/* The character, and whether encoding puts one in front: pre-tokenizer and decoder alike. */
static int read_meta(const context *c, const json_t *part, qat_part *out)
{
	static const char *const names[] = {
		[QAT_PREPEND_ALWAYS] = "always", [QAT_PREPEND_FIRST] = "first",
		[QAT_PREPEND_NEVER] = "never",
	};
	const json_t *scheme = json_object_get(part, "prepend_scheme");
	bool prefix = true;
	int known = sizeof names / sizeof *names, i = QAT_PREPEND_ALWAYS;
	int rc = json_object_get(part, "replacement") ?
			 copy_char(&out->pattern, c, part, "replacement") :
			 qat_string_copy(&out->pattern, meta_default, 3);

	if (!rc)
		rc = qat_json_flag(&prefix, part, "add_prefix_space", c->name);
	if (rc)
		return rc;
	if (scheme)
		for (i = 0; i < known; i++)
			if (json_is_string(scheme) && !strcmp(json_string_value(scheme), names[i]))
				break;
	if (i == known)
		return complain(c, part, "has no known prepend_scheme");
	if (!prefix && scheme && i != QAT_PREPEND_NEVER)
		return complain(c, part, "has add_prefix_space and prepend_scheme that differ");
	out->prepend = prefix ? i : QAT_PREPEND_NEVER;
	return QAT_OK;
}

static int read_metaspace(context *c, const json_t *part)
{
	bool split = true;
	qat_part *meta = add_part(c, QAT_SPLIT_META), *out;
	int rc = meta ? read_meta(c, part, meta) : QAT_ENOTSUP;

	if (!rc)
		rc = qat_json_flag(&split, part, "split", c->name);
	if (rc || !split)
		return rc;
	out = add_part(c, QAT_SPLIT_STRING);
	if (!out)
		return QAT_ENOTSUP;
	out->behavior = QAT_MERGED_NEXT;
	return qat_string_copy(&out->pattern, meta->pattern.at, meta->pattern.length);
}

/* ---- decoders ---- */

static int read_decode_bytes(context *c, const json_t *part)
{
	(void)part;
	return add_simple(c, QAT_DECODE_BYTES);
}

static int read_decode_fallback(context *c, const json_t *part)
{
	(void)part;
	return add_simple(c, QAT_DECODE_FALLBACK);
}

static int read_decode_fuse(context *c, const json_t *part)
{
	(void)part;
	return add_simple(c, QAT_DECODE_FUSE);
}

static int read_decode_replace(context *c, const json_t *part)
{
	return read_replacing(c, part, QAT_DECODE_REPLACE);
}

static int read_decode_meta(context *c, const json_t *part)
{
	qat_part *out = add_part(c, QAT_DECODE_META);

	return out ? read_meta(c, part, out) : QAT_ENOTSUP;
}

static int read_decode_strip(context *c, const json_t *part)
{
	const json_t *start = json_object_get(part, "start"), *stop = json_object_get(part, "stop");
	qat_part *out = add_part(c, QAT_DECODE_STRIP);
	int rc = out ? copy_char(&out->pattern, c, part, "content") : QAT_ENOTSUP;

	if (rc)
		return rc;
	if (!json_is_integer(start) || !json_is_integer(stop) || json_integer_value(start) < 0 ||
	    json_integer_value(stop) < 0)
		return complain(c, part, "needs start and stop, numbers of characters");
	out->start = json_integer_value(start);
	out->stop = json_integer_value(stop);
	return QAT_OK;
}

/* ---- tables ---- */

static const row normalizers[] = {
	{ "NFC", read_nfc, NULL },
	{ "Replace", read_replace, NULL },
	{ "Prepend", read_prepend, NULL },
	{ "Sequence", NULL, "normalizers" },
	{ NULL, NULL, NULL }
};

static const row splits[] = {
	{ "ByteLevel", read_byte_level, NULL },
	{ "Split", read_split, NULL },
	{ "Digits", read_digits, NULL },
	{ "Metaspace", read_metaspace, NULL },
	{ "Sequence", NULL, "pretokenizers" },
	{ NULL, NULL, NULL }
};

static const row decoders[] = {
	{ "ByteLevel", read_decode_bytes, NULL },
	{ "ByteFallback", read_decode_fallback, NULL },
	{ "Fuse", read_decode_fuse, NULL },
	{ "Replace", read_decode_replace, NULL },
	{ "Strip", read_decode_strip, NULL },
	{ "Metaspace", read_decode_meta, NULL },
	{ "Sequence", NULL, "decoders" },
	{ NULL, NULL, NULL }
};

static int read_part(context *c, const row *rows, const json_t *part);

static int read_sequence(context *c, const row *rows, const json_t *list)
{
	int rc = QAT_OK;

	if (!json_is_array(list))
		return qat_fail(QAT_EFORMAT, "%s: %s: a Sequence needs a list", c->name,
				c->section);
	if (++c->depth > QAT_BPE_DEPTH)
		return qat_fail(QAT_ENOTSUP, "%s: %s: more than %d Sequences inside each other",
				c->name, c->section, QAT_BPE_DEPTH);
	for (size_t i = 0; i < json_array_size(list) && !rc; i++)
		rc = read_part(c, rows, json_array_get(list, i));
	c->depth--;
	return rc;
}

static int read_part(context *c, const row *rows, const json_t *part)
{
	const char *type = json_string_value(json_object_get(part, "type"));
	const row *r = rows;

	if (!type)
		return qat_fail(QAT_EFORMAT, "%s: %s: no \"type\"", c->name, c->section);
	while (r->type && strcmp(r->type, type))
		r++;
	if (!r->type)
		return qat_fail(QAT_ENOTSUP, "%s: %s: type %.64s is not supported", c->name,
				c->section, type);
	if (r->read)
		return r->read(c, part);
	return read_sequence(c, rows, json_object_get(part, r->list));
}

int qat_bpe_read_parts(qat_bpe *bpe, const json_t *root)
{
	const struct { const char *key; const row *rows; qat_chain *chain; } all[] = {
		{ "normalizer", normalizers, &bpe->normalizers },
		{ "pre_tokenizer", splits, &bpe->splits },
		{ "decoder", decoders, &bpe->decoders },
	};
	int rc = QAT_OK;

	for (size_t i = 0; i < sizeof all / sizeof *all && !rc; i++) {
		context c = { .name = bpe->name, .section = all[i].key, .chain = all[i].chain };
		const json_t *part = json_object_get(root, all[i].key);

		if (!part || json_is_null(part))
			continue;
		rc = read_part(&c, all[i].rows, part);
		if (!rc && all[i].rows == decoders && !c.chain->count)
			rc = add_simple(&c, QAT_DECODE_FUSE);	/* not as no decoder at all */
	}
	return rc;
}

void qat_chain_free(qat_chain *chain)
{
	for (size_t i = 0; i < chain->count; i++) {
		qat_regex_free(chain->part[i].regex);
		free(chain->part[i].pattern.at);
		free(chain->part[i].content.at);
	}
}
