/* bpe.c - byte-pair encoding as a Hugging Face tokenizer.json describes it; the ids are
 * those of the library `tokenizers`. The other bpe_*.c files do the work (see bpe.h).
 *
 * `truncation` and `padding` of the file are left alone, as its users do too: texts are cut
 * by who asks for ids. */
#include <stdlib.h>
#include <string.h>

#include <qatrun/json.h>

#include "bpe.h"

static void trie_free(qat_trie *trie)
{
	free(trie->edges.at);
	free(trie->ends.at);
}

static void bpe_close(void *self)
{
	qat_bpe *bpe = self;

	if (!bpe)
		return;
	for (size_t i = 0; i < bpe->added_count; i++)
		free(bpe->added[i].content.at);
	free(bpe->added);
	trie_free(&bpe->raw);
	trie_free(&bpe->normalized);
	qat_chain_free(&bpe->normalizers);
	qat_chain_free(&bpe->splits);
	qat_chain_free(&bpe->decoders);
	qat_regex_free(bpe->word);
	qat_vocab_free(&bpe->vocab);
	free(bpe->merges.at);
	free(bpe->joints.at);
	free(bpe->unk.at);
	free(bpe->name);
	free(bpe);
}

static int bpe_parse(qat_bpe *bpe, const char *json, int64_t length)
{
	json_error_t error;
	json_t *root;
	int rc;

	if (!json || length <= 0 || length > QAT_BPE_FILE_MAX)
		return qat_fail(QAT_EFORMAT, "%s: a tokenizer.json has 1 to %d bytes, not %lld",
				bpe->name, QAT_BPE_FILE_MAX, (long long)length);
	rc = qat_json_parse(&root, &error, json, length, JSON_ALLOW_NUL);
	if (rc == QAT_ENOMEM)
		return qat_fail(rc, "%s: out of memory", bpe->name);
	if (rc)
		return qat_fail(rc, "%s:%d:%d: %s", bpe->name, error.line, error.column,
				error.text);
	rc = qat_bpe_read(bpe, root);
	json_decref(root);
	return rc;
}

static int bpe_open(void **out, const char *json, int64_t length, const char *name)
{
	qat_bpe *bpe = calloc(1, sizeof *bpe);
	int rc;

	if (!bpe || !(bpe->name = strdup(name ? name : "tokenizer.json"))) {
		free(bpe);
		return qat_fail(QAT_ENOMEM, "%s: out of memory", name ? name : "tokenizer.json");
	}
	rc = bpe_parse(bpe, json, length);
	if (rc) {
		bpe_close(bpe);
		return rc;
	}
	*out = bpe;
	return QAT_OK;
}

static int64_t bpe_vocab_size(const void *self)
{
	return ((const qat_bpe *)self)->vocab.width;
}

/* ---- encode ---- */

static int start_split(qat_run *run, const char *text, size_t length, bool first)
{
	return qat_split(run, 0, text, length, first);
}

static int second_pass(qat_run *run, const char *text, size_t length, bool first)
{
	const qat_bpe *bpe = run->bpe;
	int rc = qat_normalize(run->normal, &text, &length, &bpe->normalizers, text, bpe->name);

	return rc ? rc : qat_added_split(run, &bpe->normalized, start_split, text, length, first);
}

static void run_free(qat_run *run)
{
	qat_match_close(&run->match);
	for (size_t i = 0; i < QAT_BPE_STAGES; i++)
		qat_text_free(&run->scratch[i]);
	qat_text_free(&run->normal[0]);
	qat_text_free(&run->normal[1]);
	free(run->ids.at);
	free(run->symbol);
	free(run->heap);
	free(run->piece);
	qat_text_free(&run->keys);
	free(run->values.at);
}

static int bpe_encode(const void *self, const char *text, int64_t length, qat_ids *out)
{
	const qat_bpe *bpe = self;
	qat_run run = { .bpe = bpe };
	qat_text repaired = { 0 };
	size_t n = (size_t)length;
	int rc;

	if (length < 0 || (length && !text))
		return qat_fail(QAT_EINVAL, "%s: no text has %lld bytes", bpe->name,
				(long long)length);
	rc = qat_match_open(&run.match, n);
	if (!rc && !qat_utf8_valid(text, n)) {
		rc = qat_utf8_repair(&repaired, text, n);
		text = repaired.at;
		n = repaired.length;
	}
	if (!rc)
		rc = qat_added_split(&run, &bpe->raw, second_pass, text, n, true);
	if (!rc) {
		*out = (qat_ids){ .at = run.ids.at, .count = (int64_t)run.ids.count };
		run.ids.at = NULL;
	}
	run_free(&run);
	qat_text_free(&repaired);
	return rc;
}

static int bpe_decode(const void *self, const int32_t *ids, int64_t count, char **out,
		      int64_t *length)
{
	const qat_bpe *bpe = self;
	qat_text text = { 0 };
	int rc;

	if (count < 0 || (count && !ids))
		return qat_fail(QAT_EINVAL, "%s: no text has %lld ids", bpe->name,
				(long long)count);
	rc = qat_decode(bpe, &text, ids, (size_t)count);
	if (rc) {
		qat_text_free(&text);
		return rc;
	}
	text.at[text.length] = '\0';
	*out = text.at;
	*length = (int64_t)text.length;
	return QAT_OK;
}

/* ---- special tokens ---- */

static int bpe_is_special(const void *self, int32_t id)
{
	const qat_token *token = qat_vocab_token(&((const qat_bpe *)self)->vocab, id);

	return token && token->special;
}

/* Where the file has no template: the names in use, the likeliest first. */
static const struct { int which; const char *name; } usual[] = {
	{ QAT_TOKEN_BOS, "<|begin_of_text|>" }, { QAT_TOKEN_BOS, "<bos>" },
	{ QAT_TOKEN_BOS, "<s>" }, { QAT_TOKEN_BOS, "<|endoftext|>" },
	{ QAT_TOKEN_EOS, "<|end_of_text|>" }, { QAT_TOKEN_EOS, "<eos>" },
	{ QAT_TOKEN_EOS, "</s>" }, { QAT_TOKEN_EOS, "<|endoftext|>" },
	{ QAT_TOKEN_PAD, "<pad>" }, { QAT_TOKEN_PAD, "<|pad|>" },
	{ QAT_TOKEN_PAD, "[PAD]" }, { QAT_TOKEN_PAD, "<|finetune_right_pad_id|>" },
};

static int32_t bpe_special(const void *self, int which)
{
	const qat_bpe *bpe = self;
	int32_t id;

	if (which == QAT_TOKEN_UNK)
		return bpe->unk_id;
	if (which == QAT_TOKEN_BOS && bpe->bos >= 0)
		return bpe->bos;
	if (which == QAT_TOKEN_EOS && bpe->eos >= 0)
		return bpe->eos;
	for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
		if (usual[i].which != which)
			continue;
		id = qat_vocab_id(&bpe->vocab, usual[i].name, strlen(usual[i].name));
		if (id >= 0 && bpe_is_special(bpe, id))
			return id;
	}
	return -1;
}

static const qat_tokenizer bpe_vtable = {
	.size = sizeof(qat_tokenizer),
	.open = bpe_open,
	.close = bpe_close,
	.vocab_size = bpe_vocab_size,
	.encode = bpe_encode,
	.decode = bpe_decode,
	.special = bpe_special,
	.release = free,
	.is_special = bpe_is_special,
};

static const qat_interface bpe_interface = {
	.size = sizeof(qat_interface),
	.kind = QAT_KIND_TOKENIZER,
	.name = "bpe",
	.summary = "byte-pair encoding from a tokenizer.json",
	.vtable = &bpe_vtable,
};

static const qat_interface *const bpe_all[] = { &bpe_interface };

QAT_PLUGIN("bpe", bpe_all);
