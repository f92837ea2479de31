/* tokenizer.h - what a tokenizer plugin offers: text to ids and back.
 *
 * The core picks the plugin by the `model.type` of a tokenizer.json, in lower case
 * ("BPE" -> tokenizer-bpe; a file without a type is "bpe"), or by the name that the
 * pipeline gives (`tokenizer: bytes`). A file format that carries its tokenizer in
 * another shape writes a tokenizer.json of it.
 *
 * Memory: what a plugin allocates, the plugin frees: `open` with `close`, the arrays
 * of `encode` and `decode` with `release`. Outputs are set on success only.
 * After `open` a tokenizer is constant: threads may share it.
 */
#ifndef QATRUN_TOKENIZER_H
#define QATRUN_TOKENIZER_H

#include <qatrun/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Ids of a text, each in [0, vocab_size). */
typedef struct qat_ids {
	int32_t *at;		/* NULL when count is 0 */
	int64_t count;
} qat_ids;

enum { QAT_MAX_TOKEN_ID = (1 << 24) - 1 };

/* Which of the special tokens. */
enum {
	QAT_TOKEN_BOS = 1,	/* begins a text */
	QAT_TOKEN_EOS = 2,	/* ends one */
	QAT_TOKEN_UNK = 3,	/* stands for what the vocabulary lacks */
	QAT_TOKEN_PAD = 4
};

typedef struct qat_tokenizer {
	uint32_t size;		/* sizeof(qat_tokenizer) */
	uint32_t reserved;

	/* Read a tokenizer from the `length` bytes at `json`, a tokenizer.json; they
	 * are borrowed for the call only. A tokenizer that needs no file takes NULL, 0.
	 * `name` stands in messages: a path. QAT_EFORMAT: not such a file;
	 * QAT_ENOTSUP: a part of it is of a type that we do not do (the message says which). */
	int (*open)(void **out, const char *json, int64_t length, const char *name);
	void (*close)(void *self);	/* NULL is safe */

	/* One past the largest id. The model's own width may be larger (padding rows),
	 * never smaller. */
	int64_t (*vocab_size)(const void *self);

	/* Ids of `length` bytes at `text`, in order. NUL is a character like any other.
	 * Ill-formed UTF-8 counts as U+FFFD, one for each maximal ill-formed part, as in
	 * Python's errors="replace"; a tokenizer of bytes takes it as it is. Tokens
	 * that the file adds ("<|endoftext|>") are recognised where they stand in the
	 * text. Nothing is added: who wants BOS puts `special` in front. */
	int (*encode)(const void *self, const char *text, int64_t length, qat_ids *out);

	/* The text of `count` ids: `length` bytes at `out`, and a NUL after them that
	 * does not count. Ids that name no token give nothing. Special tokens are
	 * written as they are: leave them out before, with `is_special`, where a
	 * reader should not see them. Ids inside a character give U+FFFD: decode the
	 * whole, not id by id. */
	int (*decode)(const void *self, const int32_t *ids, int64_t count, char **out,
		      int64_t *length);

	/* The id of a special token, QAT_TOKEN_*; -1 where the file names none. BOS and
	 * EOS are those of the file's template; without one, added tokens of the usual
	 * names. A model's configuration knows better, and goes first. */
	int32_t (*special)(const void *self, int which);

	/* What `encode` and `decode` allocated; NULL is safe. */
	void (*release)(void *memory);

	/* 1 when the file marks the token as special, else 0. */
	int (*is_special)(const void *self, int32_t id);
} qat_tokenizer;

#ifdef __cplusplus
}
#endif
#endif
