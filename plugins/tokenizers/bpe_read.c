/* bpe_read.c - model, added_tokens and post_processor of a tokenizer.json. The file is a
 * stranger's: every type is checked, and ids end at 2^24, wherever they stand. */
#include <stdlib.h>
#include <string.h>
#include "bpe.h"

int qat_string_copy(qat_string *out, const char *at, size_t length)
{
	char *copy = malloc(length + 1);

	if (!copy)
		return qat_fail(QAT_ENOMEM, "tokenizer: no memory for %zu bytes", length);
	if (length)
		memcpy(copy, at, length);
	copy[length] = '\0';
	*out = (qat_string){ .at = copy, .length = length };
	return QAT_OK;
}

int qat_json_flag(bool *out, const json_t *object, const char *key, const char *name)
{
	const json_t *value = json_object_get(object, key);

	if (!value || json_is_null(value))
		return QAT_OK;
	if (!json_is_boolean(value))
		return qat_fail(QAT_EFORMAT, "%s: \"%s\" must be true or false", name, key);
	*out = json_is_true(value);
	return QAT_OK;
}

int qat_json_text(const json_t **out, const json_t *object, const char *key, const char *name)
{
	const json_t *value = json_object_get(object, key);

	if (!value || json_is_null(value))
		return QAT_OK;
	if (!json_is_string(value))
		return qat_fail(QAT_EFORMAT, "%s: \"%s\" must be a string", name, key);
	*out = value;
	return QAT_OK;
}

static int read_id(int32_t *out, const json_t *value, const char *name, const char *what)
{
	if (!json_is_integer(value) || json_integer_value(value) < 0 ||
	    json_integer_value(value) > QAT_MAX_TOKEN_ID)
		return qat_fail(QAT_EFORMAT, "%s: %s: an id must be a number from 0 to %d", name,
				what, QAT_MAX_TOKEN_ID);
	*out = (int32_t)json_integer_value(value);
	return QAT_OK;
}

/* ---- model ---- */

static int read_vocab(qat_bpe *bpe, const json_t *vocab)
{
	const char *text;
	json_t *value;
	int32_t id = 0;
	int rc = QAT_OK;

	if (!json_is_object(vocab))
		return qat_fail(QAT_EFORMAT, "%s: model.vocab must be an object {token: id}",
				bpe->name);
	json_object_foreach((json_t *)vocab, text, value) {
		rc = read_id(&id, value, bpe->name, "model.vocab");
		if (!rc)
			rc = qat_vocab_add(&bpe->vocab, text, strlen(text), id);
		if (rc == QAT_EINVAL)
			return qat_fail(QAT_EFORMAT, "%s: model.vocab: \"%.64s\" has the id %d of "
					"another token", bpe->name, text, (int)id);
		if (rc)
			break;
		qat_vocab_token(&bpe->vocab, id)->of_model = true;
	}
	return rc;
}

/* A merge as the file has it: "a b", or ["a", "b"]. */
static int read_pair(const char **left, size_t *left_length, const char **right,
		     size_t *right_length, const json_t *merge)
{
	const json_t *a = json_array_get(merge, 0), *b = json_array_get(merge, 1);
	const char *space;

	if (json_is_string(a) && json_is_string(b) && json_array_size(merge) == 2) {
		*left = json_string_value(a);
		*left_length = json_string_length(a);
		*right = json_string_value(b);
		*right_length = json_string_length(b);
		return QAT_OK;
	}
	if (!json_is_string(merge) || strlen(json_string_value(merge)) != json_string_length(merge))
		return QAT_EFORMAT;
	*left = json_string_value(merge);
	space = strchr(*left, ' ');
	if (!space || strchr(space + 1, ' '))
		return QAT_EFORMAT;
	*left_length = (size_t)(space - *left);
	*right = space + 1;
	*right_length = strlen(*right);
	return QAT_OK;
}

static int bad_merge(const qat_bpe *bpe, size_t i, const char *text, size_t length)
{
	return qat_fail(QAT_EFORMAT, "%s: model.merges[%zu]: \"%.*s\" is not in model.vocab",
			bpe->name, i, (int)(length < 200 ? length : 200), text);
}

/* Note which characters meet where the two parts meet (see qat_merge_piece). */
static int add_joint(qat_bpe *bpe, const char *left, size_t left_length, const char *right)
{
	const char *last = left + left_length - 1;

	while ((*last & 0xc0) == 0x80)
		last--;
	return qat_map_put(&bpe->joints, (uint64_t)qat_utf8_code(last) << 32 | qat_utf8_code(right),
			   0, 0);
}

static int read_merge(qat_bpe *bpe, qat_text *both, size_t i, uint32_t rank, const json_t *merge)
{
	const char *a, *b;
	size_t m, n;
	int32_t left, right, made;
	int rc;

	if (read_pair(&a, &m, &b, &n, merge))
		return qat_fail(QAT_EFORMAT, "%s: model.merges[%zu] must be \"a b\" or [\"a\", "
				"\"b\"]", bpe->name, i);
	left = qat_vocab_id(&bpe->vocab, a, m);
	right = qat_vocab_id(&bpe->vocab, b, n);
	if (left < 0)
		return bad_merge(bpe, i, a, m);
	if (right < 0)
		return bad_merge(bpe, i, b, n);
	both->length = 0;
	rc = qat_text_append(both, a, m);
	if (!rc)
		rc = qat_text_append(both, b, n);
	if (rc)
		return rc;
	made = qat_vocab_id(&bpe->vocab, both->at, both->length);
	if (made < 0)
		return bad_merge(bpe, i, both->at, both->length);
	rc = m && n ? add_joint(bpe, a, m, b) : QAT_OK;
	return rc ? rc : qat_map_put(&bpe->merges, (uint64_t)left << 32 | (uint32_t)right, rank,
				     made);
}

/* The rank of a merge is its place; a list of lines may begin with a line of comment. */
static int read_merges(qat_bpe *bpe, const json_t *merges)
{
	qat_text both = { 0 };
	uint32_t rank = 0;
	int rc = QAT_OK;

	if (!json_is_array(merges))
		return qat_fail(QAT_EFORMAT, "%s: model.merges must be a list", bpe->name);
	for (size_t i = 0; i < json_array_size(merges) && !rc; i++) {
		const json_t *merge = json_array_get(merges, i);

		if (json_is_string(merge) && !strncmp(json_string_value(merge), "#version", 8))
			continue;
		rc = read_merge(bpe, &both, i, rank++, merge);
	}
	qat_text_free(&both);
	return rc;
}

static int read_unk(qat_bpe *bpe, const json_t *model)
{
	const json_t *unk = NULL;
	int rc = qat_json_text(&unk, model, "unk_token", bpe->name);

	bpe->unk_id = -1;
	if (rc || !unk)
		return rc;
	bpe->unk_id = qat_vocab_id(&bpe->vocab, json_string_value(unk), json_string_length(unk));
	return qat_string_copy(&bpe->unk, json_string_value(unk), json_string_length(unk));
}

/* What we do not do must be absent, or empty. */
static int check_model(const qat_bpe *bpe, const json_t *model)
{
	static const char *const affixes[] = { "continuing_subword_prefix", "end_of_word_suffix" };
	const json_t *dropout = json_object_get(model, "dropout");
	const json_t *type = NULL, *affix;
	int rc = qat_json_text(&type, model, "type", bpe->name);

	if (rc)
		return rc;
	if (type && strcmp(json_string_value(type), "BPE"))
		return qat_fail(QAT_ENOTSUP, "%s: model: type %.64s is not supported", bpe->name,
				json_string_value(type));
	for (size_t i = 0; i < sizeof affixes / sizeof *affixes; i++) {
		affix = NULL;
		rc = qat_json_text(&affix, model, affixes[i], bpe->name);
		if (rc)
			return rc;
		if (affix && json_string_length(affix))
			return qat_fail(QAT_ENOTSUP, "%s: model.%s other than \"\" is not "
					"supported", bpe->name, affixes[i]);
	}
	if (dropout && !json_is_null(dropout) && !(json_number_value(dropout) == 0 &&
						   json_is_number(dropout)))
		return qat_fail(QAT_ENOTSUP, "%s: model.dropout other than 0 is not supported",
				bpe->name);
	return QAT_OK;
}

/* Ids of short characters, and of the tokens for bytes. */
static void index_chars(qat_bpe *bpe)
{
	for (uint32_t c = 0; c < 0x800; c++) {
		char two[2] = { (char)(0xc0 | c >> 6), (char)(0x80 | (c & 0x3f)) };
		char one = (char)c;

		bpe->chars[c] = c < 0x80 ? qat_vocab_id(&bpe->vocab, &one, 1) :
					   qat_vocab_id(&bpe->vocab, two, 2);
	}
	for (unsigned b = 0; b < 256; b++) {
		static const char digits[] = "0123456789ABCDEF";
		char token[6] = { '<', '0', 'x', digits[b >> 4], digits[b & 15], '>' };

		bpe->bytes[b] = qat_vocab_id(&bpe->vocab, token, sizeof token);
	}
}

static int read_model(qat_bpe *bpe, const json_t *model)
{
	const struct { const char *key; bool *to; } flags[] = {
		{ "fuse_unk", &bpe->fuse_unk },
		{ "byte_fallback", &bpe->byte_fallback },
		{ "ignore_merges", &bpe->ignore_merges },
	};
	int rc;

	if (!json_is_object(model))
		return qat_fail(QAT_EFORMAT, "%s: no \"model\" object: is this a tokenizer.json?",
				bpe->name);
	rc = check_model(bpe, model);
	for (size_t i = 0; i < sizeof flags / sizeof *flags && !rc; i++)
		rc = qat_json_flag(flags[i].to, model, flags[i].key, bpe->name);
	if (!rc)
		rc = read_vocab(bpe, json_object_get(model, "vocab"));
	if (!rc)
		rc = read_merges(bpe, json_object_get(model, "merges"));
	if (rc)
		return rc;
	index_chars(bpe);
	return read_unk(bpe, model);
}

/* ---- added tokens ---- */

/* The token's place in the vocabulary, new or old. */
static int place_added(qat_bpe *bpe, const json_t *content, int32_t id, size_t i)
{
	const char *text = json_string_value(content);
	int32_t known = qat_vocab_id(&bpe->vocab, text, json_string_length(content));
	int rc = QAT_OK;

	if (known >= 0 && known != id)
		return qat_fail(QAT_EFORMAT, "%s: added_tokens[%zu]: \"%.64s\" has the id %d here "
				"and %d in model.vocab", bpe->name, i, text, (int)id, (int)known);
	if (known < 0)
		rc = qat_vocab_add(&bpe->vocab, text, json_string_length(content), id);
	if (rc == QAT_EINVAL)
		return qat_fail(QAT_EFORMAT, "%s: added_tokens[%zu]: \"%.64s\" has the id %d of "
				"another token", bpe->name, i, text, (int)id);
	return rc;
}

static int read_added(qat_bpe *bpe, const json_t *entry, size_t i)
{
	const json_t *content = json_object_get(entry, "content");
	qat_added *added = &bpe->added[bpe->added_count];
	bool special = false;
	const struct { const char *key; bool *to; } flags[] = {
		{ "single_word", &added->single_word }, { "lstrip", &added->lstrip },
		{ "rstrip", &added->rstrip }, { "normalized", &added->normalized },
		{ "special", &special },
	};
	qat_token *token;
	int rc;

	*added = (qat_added){ .id = -1 };
	if (!json_is_string(content) || !json_string_length(content) ||
	    json_string_length(content) > QAT_BPE_ADDED_MAX)
		return qat_fail(QAT_EFORMAT, "%s: added_tokens[%zu].content must be a string of 1 "
				"to %d bytes", bpe->name, i, QAT_BPE_ADDED_MAX);
	rc = read_id(&added->id, json_object_get(entry, "id"), bpe->name, "added_tokens");
	for (size_t k = 0; k < sizeof flags / sizeof *flags && !rc; k++)
		rc = qat_json_flag(flags[k].to, entry, flags[k].key, bpe->name);
	if (!rc)
		rc = place_added(bpe, content, added->id, i);
	if (!rc)
		rc = qat_string_copy(&added->content, json_string_value(content),
				     json_string_length(content));
	if (rc)
		return rc;
	token = qat_vocab_token(&bpe->vocab, added->id);
	token->special = special;
	token->added = (int32_t)bpe->added_count++;
	return QAT_OK;
}

static int read_all_added(qat_bpe *bpe, const json_t *list)
{
	int rc = QAT_OK;

	if (!list || json_is_null(list))
		return QAT_OK;
	if (!json_is_array(list))
		return qat_fail(QAT_EFORMAT, "%s: \"added_tokens\" must be a list", bpe->name);
	for (size_t i = 0; i < json_array_size(list) && !rc; i++) {
		rc = qat_array_grow(&bpe->added, &bpe->added_room, bpe->added_count,
				    sizeof *bpe->added);
		if (!rc)
			rc = read_added(bpe, json_array_get(list, i), i);
	}
	return rc;
}

/* ---- post-processor: read for the special tokens that it would put around a text ---- */

static int template_id(int32_t *out, const qat_bpe *bpe, const json_t *processor,
		       const json_t *special)
{
	const char *id = json_string_value(json_object_get(special, "id"));
	const json_t *token = json_object_get(json_object_get(processor, "special_tokens"), id);

	if (!id || !token)
		return qat_fail(QAT_EFORMAT, "%s: post_processor: special token \"%.64s\" is not "
				"in special_tokens", bpe->name, id ? id : "?");
	return read_id(out, json_array_get(json_object_get(token, "ids"), 0), bpe->name,
		       "post_processor.special_tokens");
}

static int read_template(qat_bpe *bpe, const json_t *processor)
{
	const json_t *single = json_object_get(processor, "single");
	int32_t *to = &bpe->bos;
	int rc = QAT_OK;

	if (!json_is_array(single))
		return qat_fail(QAT_EFORMAT, "%s: post_processor: \"single\" must be a list",
				bpe->name);
	for (size_t i = 0; i < json_array_size(single) && !rc; i++) {
		const json_t *piece = json_array_get(single, i);
		const json_t *special = json_object_get(piece, "SpecialToken");

		if (json_object_get(piece, "Sequence"))
			to = &bpe->eos;
		else if (special && *to < 0)
			rc = template_id(to, bpe, processor, special);
		else if (!special)
			rc = qat_fail(QAT_EFORMAT, "%s: post_processor.single[%zu] is neither "
				      "SpecialToken nor Sequence", bpe->name, i);
	}
	return rc;
}

static int read_processor(qat_bpe *bpe, const json_t *processor, int depth)
{
	const char *type = json_string_value(json_object_get(processor, "type"));
	const json_t *list = json_object_get(processor, "processors");
	int rc = QAT_OK;

	if (!processor || json_is_null(processor) || (type && !strcmp(type, "ByteLevel")))
		return QAT_OK;
	if (type && !strcmp(type, "TemplateProcessing"))
		return read_template(bpe, processor);
	if (!type || strcmp(type, "Sequence") || !json_is_array(list) || depth > QAT_BPE_DEPTH)
		return qat_fail(QAT_ENOTSUP, "%s: post_processor: type %.64s is not supported%s",
				bpe->name, type ? type : "?",
				depth > QAT_BPE_DEPTH ? " so deep" : "");
	for (size_t i = 0; i < json_array_size(list) && !rc; i++)
		rc = read_processor(bpe, json_array_get(list, i), depth + 1);
	return rc;
}

int qat_bpe_read(qat_bpe *bpe, const json_t *root)
{
	const json_t *version = NULL;
	int rc = qat_json_text(&version, root, "version", bpe->name);

	if (!rc && version && strcmp(json_string_value(version), "1.0"))
		return qat_fail(QAT_ENOTSUP, "%s: version %.32s is not supported, only 1.0",
				bpe->name, json_string_value(version));
	bpe->bos = bpe->eos = -1;
	if (!rc)
		rc = read_model(bpe, json_object_get(root, "model"));
	if (!rc)
		rc = read_all_added(bpe, json_object_get(root, "added_tokens"));
	if (!rc)
		rc = read_processor(bpe, json_object_get(root, "post_processor"), 0);
	if (!rc)
		rc = qat_bpe_read_parts(bpe, root);
	return rc ? rc : qat_added_ready(bpe);
}
