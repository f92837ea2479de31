/* gguf_tokenizer.c - a tokenizer.json from the metadata: byte-level BPE, whose parts
 * beside vocabulary and merges GGUF only names. */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/json.h>

#include "gguf.h"

enum { TOKEN_CONTROL = 3, TOKEN_USER = 4 };

#define BYTE_LEVEL(regex) "{\"type\":\"ByteLevel\",\"add_prefix_space\":false," \
	"\"trim_offsets\":true,\"use_regex\":" regex "}"
#define SEQUENCE(parts) "{\"type\":\"Sequence\",\"pretokenizers\":[" parts "]}"
#define SPLIT(digits) "{\"type\":\"Split\",\"pattern\":{\"Regex\":" \
	"\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" digits \
	"| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}," \
	"\"behavior\":\"Isolated\",\"invert\":false}"
#define LLAMA3 SEQUENCE(SPLIT("\\\\p{N}{1,3}") "," BYTE_LEVEL("false"))

/* What tokenizer.ggml.pre stands for, as JSON. */
typedef struct {
	const char *name, *normalizer, *pre_tokenizer;
	int ignore_merges, add_bos;		/* add_bos: where the file does not say */
} recipe;

static const recipe recipes[] = {
	{ "default", "null", BYTE_LEVEL("true"), 0, 0 },
	{ "gpt-2", "null", BYTE_LEVEL("true"), 0, 0 },
	{ "smollm", "null", SEQUENCE("{\"type\":\"Digits\",\"individual_digits\":true},"
				     BYTE_LEVEL("true")), 0, 0 },
	{ "llama-bpe", "null", LLAMA3, 1, 1 },
	{ "llama3", "null", LLAMA3, 1, 1 },
	{ "llama-v3", "null", LLAMA3, 1, 1 },
	{ "qwen2", "{\"type\":\"NFC\"}", SEQUENCE(SPLIT("\\\\p{N}") "," BYTE_LEVEL("false")),
	  0, 0 },
};

static const recipe *recipe_find(const qat_gguf *g)
{
	qat_text pre = { .at = "default", .length = 7 };

	if (qat_gguf_text(&pre, g, NULL, "tokenizer.ggml.pre") < 0)
		return NULL;
	for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++)
		if (qat_gguf_is(pre, recipes[i].name))
			return &recipes[i];
	qat_fail(QAT_ENOTSUP, "%s: tokenizer.ggml.pre is \"%.*s\", which is not known: give a "
		 "tokenizer.json", g->path, pre.length < 60 ? (int)pre.length : 60, pre.at);
	return NULL;
}

/* An array of the metadata; NULL with a message. */
static const qat_gguf_value *array_find(const qat_gguf *g, const char *key, uint32_t element)
{
	const qat_gguf_value *v = qat_gguf_find(g, NULL, key);

	if (v && v->type == GGUF_ARRAY && v->element == element)
		return v;
	qat_fail(QAT_EFORMAT, "%s: %s is %s", g->path, key,
		 v ? "not an array of the right type" : "missing");
	return NULL;
}

/* A string of the file; NULL with a message. NUL cannot be in a key of JSON. */
static json_t *string_json(const qat_gguf *g, qat_text text, const char *what, int64_t index)
{
	json_t *s = NULL;

	errno = 0;
	if (!memchr(text.at, 0, (size_t)text.length))
		s = json_stringn(text.at, (size_t)text.length);
	if (!s && errno == ENOMEM)
		qat_fail(QAT_ENOMEM, "%s: out of memory for its tokens", g->path);
	else if (!s)
		qat_fail(QAT_EFORMAT, "%s: %s %lld is not UTF-8 text", g->path, what,
			 (long long)index);
	return s;
}

static json_t *vocab_json(const qat_gguf *g, const qat_gguf_value *tokens)
{
	const uint8_t *at = tokens->at;
	json_t *vocab = json_object();

	for (int64_t i = 0; i < tokens->count; i++) {
		json_t *token = string_json(g, qat_gguf_string_next(&at), "token", i);
		const char *text = json_string_value(token);
		int bad = !token;

		if (!bad && json_object_get(vocab, text)) {
			qat_fail(QAT_EFORMAT, "%s: token %lld, \"%.60s\", is there twice", g->path,
				 (long long)i, text);
			bad = 1;
		}
		if (!bad && json_object_set_new(vocab, text, json_integer(i))) {
			qat_fail(QAT_ENOMEM, "%s: out of memory for its tokens", g->path);
			bad = 1;
		}
		json_decref(token);
		if (bad) {
			json_decref(vocab);
			return NULL;
		}
	}
	return vocab;
}

static json_t *merges_json(const qat_gguf *g, const qat_gguf_value *merges)
{
	const uint8_t *at = merges->at;
	json_t *list = json_array();

	for (int64_t i = 0; i < merges->count; i++) {
		json_t *merge = string_json(g, qat_gguf_string_next(&at), "merge", i);

		if (!merge || json_array_append_new(list, merge)) {
			if (merge)
				qat_fail(QAT_ENOMEM, "%s: out of memory for its merges", g->path);
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *added_json(const qat_gguf *g, const qat_gguf_value *tokens,
			  const qat_gguf_value *types)
{
	const uint8_t *at = tokens->at;
	json_t *list = json_array();

	for (int64_t i = 0; i < tokens->count; i++) {
		const qat_text text = qat_gguf_string_next(&at);
		json_t *token;
		uint32_t type;

		memcpy(&type, types->at + 4 * i, sizeof type);
		type = le32toh(type);
		if (type != TOKEN_CONTROL && type != TOKEN_USER)
			continue;
		token = json_pack("{s:I, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i,
				  "content", text.at, (size_t)text.length, "single_word", 0,
				  "lstrip", 0, "rstrip", 0, "normalized", 0,
				  "special", type == TOKEN_CONTROL);
		if (json_array_append_new(list, token)) {
			qat_fail(QAT_ENOMEM, "%s: out of memory for its tokens", g->path);
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* Text of the token that a key names; at NULL when there is none. */
static int special_find(qat_text *out, int64_t *id, const qat_gguf *g, const char *which)
{
	const qat_gguf_value *tokens = array_find(g, "tokenizer.ggml.tokens", GGUF_STRING);
	const uint8_t *at;
	char key[64];
	int found;

	*out = (qat_text){ 0 };
	if (!tokens)
		return QAT_EFORMAT;
	snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", which);
	found = qat_gguf_int(id, g, NULL, key);
	if (found <= 0)
		return found;
	if (*id < 0 || *id >= tokens->count)
		return qat_fail(QAT_EFORMAT, "%s: %s is %lld, there are %lld tokens", g->path, key,
				(long long)*id, (long long)tokens->count);
	at = tokens->at;
	for (int64_t i = 0; i <= *id; i++)
		*out = qat_gguf_string_next(&at);
	return QAT_OK;
}

/* Put a special token at the template's end, and into its table. */
static int template_add(json_t *single, json_t *specials, const qat_gguf *g, const char *which)
{
	qat_text text;
	int64_t id = 0;
	json_t *name;
	int rc = special_find(&text, &id, g, which), bad;

	if (rc)
		return rc;
	if (!text.at)
		return qat_fail(QAT_EFORMAT, "%s: tokenizer.ggml.add_%s_token without %s_token_id",
				g->path, which, which);
	name = string_json(g, text, "token", id);
	if (!name)
		return QAT_EFORMAT;
	bad = json_array_append_new(single, json_pack("{s:{s:O, s:i}}", "SpecialToken", "id", name,
						      "type_id", 0));
	bad |= json_object_set_new(specials, json_string_value(name),
				   json_pack("{s:O, s:[I], s:[O]}", "id", name, "ids",
					     (json_int_t)id, "tokens", name));
	json_decref(name);
	return bad ? qat_fail(QAT_ENOMEM, "%s: out of memory", g->path) : QAT_OK;
}

/* null, or the template that puts BOS before a text and EOS after it. */
static int template_json(json_t **out, const qat_gguf *g, int bos)
{
	json_t *single = json_array(), *pair = json_array(), *specials = json_object();
	int eos = 0;
	int rc = qat_gguf_bool(&bos, g, NULL, "tokenizer.ggml.add_bos_token");

	if (rc >= 0)
		rc = qat_gguf_bool(&eos, g, NULL, "tokenizer.ggml.add_eos_token");
	if (rc > 0)
		rc = QAT_OK;
	if (!rc && bos)
		rc = template_add(single, specials, g, "bos");
	if (!rc)
		rc = json_array_append_new(single, json_pack("{s:{s:s, s:i}}", "Sequence", "id",
							     "A", "type_id", 0));
	if (!rc && eos)
		rc = template_add(single, specials, g, "eos");
	if (!rc)
		rc = json_array_extend(pair, single);
	if (!rc)
		rc = json_array_append_new(pair, json_pack("{s:{s:s, s:i}}", "Sequence", "id",
							   "B", "type_id", 1));
	if (!rc) {
		*out = bos || eos ? json_pack("{s:s, s:O, s:O, s:O}", "type", "TemplateProcessing",
					      "single", single, "pair", pair, "special_tokens",
					      specials)
				  : json_null();
		rc = *out ? QAT_OK : -1;
	}
	if (rc == -1)
		rc = qat_fail(QAT_ENOMEM, "%s: out of memory", g->path);
	json_decref(single);
	json_decref(pair);
	json_decref(specials);
	return rc;
}

/* From the recipe's text. */
static json_t *part_json(const char *text)
{
	json_error_t e;
	json_t *part;

	qat_json_parse(&part, &e, text, (int64_t)strlen(text), JSON_DECODE_ANY);
	return part;
}

static int tokenizer_json(json_t **out, const qat_gguf *g, const recipe *r)
{
	const qat_gguf_value *tokens = array_find(g, "tokenizer.ggml.tokens", GGUF_STRING);
	const qat_gguf_value *merges = array_find(g, "tokenizer.ggml.merges", GGUF_STRING);
	const qat_gguf_value *types = array_find(g, "tokenizer.ggml.token_type", GGUF_I32);
	json_t *vocab, *list, *added, *template = NULL;
	int rc = QAT_EFORMAT;

	if (!tokens || !merges || !types)
		return QAT_EFORMAT;
	if (types->count != tokens->count)
		return qat_fail(QAT_EFORMAT, "%s: %lld tokens have %lld types", g->path,
				(long long)tokens->count, (long long)types->count);
	vocab = vocab_json(g, tokens);
	list = vocab ? merges_json(g, merges) : NULL;
	added = list ? added_json(g, tokens, types) : NULL;
	if (added)
		rc = template_json(&template, g, r->add_bos);
	if (!rc) {
		*out = json_pack("{s:s, s:n, s:n, s:O, s:o, s:o, s:O, s:o, s:{s:s, s:n, s:n, s:n, "
				 "s:n, s:b, s:b, s:b, s:O, s:O}}", "version", "1.0", "truncation",
				 "padding", "added_tokens", added, "normalizer",
				 part_json(r->normalizer), "pre_tokenizer",
				 part_json(r->pre_tokenizer), "post_processor", template, "decoder",
				 part_json(BYTE_LEVEL("true")), "model", "type", "BPE", "dropout",
				 "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
				 "fuse_unk", 0, "byte_fallback", 0, "ignore_merges",
				 r->ignore_merges, "vocab", vocab, "merges", list);
		if (!*out)
			rc = qat_fail(QAT_ENOMEM, "%s: out of memory", g->path);
	}
	json_decref(vocab);
	json_decref(list);
	json_decref(added);
	json_decref(template);
	return rc;
}

static int text_dump(char **out, const qat_gguf *g, json_t *root, size_t flags)
{
	*out = qat_json_print(root, flags);
	json_decref(root);
	return *out ? QAT_OK : qat_fail(QAT_ENOMEM, "%s: out of memory", g->path);
}

int qat_gguf_tokenizer(char **out, const qat_gguf *g)
{
	qat_text model = { 0 };
	const int found = qat_gguf_text(&model, g, NULL, "tokenizer.ggml.model");
	const recipe *r;
	json_t *root = NULL;
	int rc;

	*out = NULL;
	if (found <= 0)
		return found;
	if (!qat_gguf_is(model, "gpt2"))
		return qat_fail(QAT_ENOTSUP, "%s: a tokenizer of type \"%.*s\"%s is not read: give "
				"a tokenizer.json", g->path,
				model.length < 60 ? (int)model.length : 60, model.at,
				qat_gguf_is(model, "llama") ? " (SentencePiece)" : "");
	r = recipe_find(g);
	if (!r)
		return QAT_ENOTSUP;
	rc = tokenizer_json(&root, g, r);
	return rc ? rc : text_dump(out, g, root, JSON_COMPACT);
}

static int text_set(json_t *root, const qat_gguf *g, const char *name, qat_text text, int64_t id)
{
	json_t *value = string_json(g, text, name, id);

	if (!value)
		return QAT_EFORMAT;
	if (json_object_set_new(root, name, value))
		return qat_fail(QAT_ENOMEM, "%s: out of memory", g->path);
	return QAT_OK;
}

int qat_gguf_tokenizer_config(char **out, const qat_gguf *g)
{
	static const char *const which[] = { "bos", "eos", "unknown", "padding" };
	static const char *const names[] = { "bos_token", "eos_token", "unk_token", "pad_token" };
	json_t *root;
	qat_text text = { 0 };
	int64_t id = 0;
	int rc = QAT_OK;

	*out = NULL;
	if (!qat_gguf_find(g, NULL, "tokenizer.ggml.tokens"))
		return QAT_OK;
	root = json_pack("{s:s}", "tokenizer_class", "PreTrainedTokenizerFast");
	for (int i = 0; !rc && i < 4; i++) {
		rc = special_find(&text, &id, g, which[i]);
		if (!rc && text.at)
			rc = text_set(root, g, names[i], text, id);
	}
	text = (qat_text){ 0 };
	if (!rc && qat_gguf_text(&text, g, NULL, "tokenizer.chat_template") > 0)
		rc = text_set(root, g, "chat_template", text, 0);
	if (!rc)
		return text_dump(out, g, root, JSON_INDENT(2));
	json_decref(root);
	return rc;
}
