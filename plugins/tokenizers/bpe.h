/* bpe.h - inside of the BPE tokenizer: a tokenizer.json as its parts, in the order
 * in which a text meets them:
 *     added tokens -> normalizers -> added tokens again -> pre-tokenizer -> merges
 * and back through the decoders. Sequences are flattened when the file is read.
 */
#ifndef QATRUN_BPE_H
#define QATRUN_BPE_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <qatrun/plugin.h>
#include <qatrun/tokenizer.h>

enum {
	QAT_BPE_FILE_MAX = 256 << 20,	/* bytes of a tokenizer.json */
	QAT_BPE_STAGES = 32,		/* parts of a chain, sequences flattened */
	QAT_BPE_DEPTH = 8,		/* sequences inside sequences */
	QAT_BPE_ADDED_MAX = 256,	/* bytes of an added token: bounds the search */
	QAT_BPE_STRING_MAX = 256,	/* bytes that a part finds or writes */
	QAT_BPE_GROWTH = 64		/* times that a text may grow on its way */
};

/* ---- bpe_store.c: bytes, numbers, names ---- */

typedef struct qat_text {	/* zeros are an empty one */
	char *at;
	size_t length, room;
} qat_text;

int qat_text_reserve(qat_text *text, size_t more);	/* and one byte for a NUL */
int qat_text_append(qat_text *text, const char *from, size_t length);
void qat_text_free(qat_text *text);

typedef struct qat_list {
	int32_t *at;
	size_t count, room;
} qat_list;

int qat_list_append(qat_list *list, int32_t value);

/* QAT_ENOTSUP, with a message, when a text of `from` bytes has grown too long. */
int qat_text_check(const qat_text *text, size_t from, const char *name);

/* Grow an array for one more: `at` points to the pointer, `each` is an element's size. */
int qat_array_grow(void *at, size_t *room, size_t count, size_t each);

typedef struct qat_slot {
	uint64_t key;
	uint32_t rank;
	int32_t id;
} qat_slot;

typedef struct qat_map {	/* open addressing; zeros are an empty one */
	qat_slot *at;
	size_t count, size;
} qat_map;

int qat_map_put(qat_map *map, uint64_t key, uint32_t rank, int32_t id);
const qat_slot *qat_map_find(const qat_map *map, uint64_t key);
uint64_t qat_hash(const char *at, size_t length, const void *salt);

typedef struct qat_token {
	size_t offset, length;	/* of its text in qat_vocab.strings */
	int32_t id;
	int32_t added;		/* index into qat_bpe.added, or -1 */
	bool of_model;		/* not only an added token: merges know it */
	bool special;
} qat_token;

typedef struct qat_vocab {
	qat_text strings;
	qat_token *token;
	size_t count, room;
	uint32_t *slot;		/* index into token, plus 1; by the hash of the text */
	size_t size;
	qat_map by_id;		/* .rank: index into token */
	int64_t width;		/* one past the largest id */
} qat_vocab;

/* QAT_EINVAL without a message when the text or the id is taken. */
int qat_vocab_add(qat_vocab *vocab, const char *text, size_t length, int32_t id);
int32_t qat_vocab_id(const qat_vocab *vocab, const char *text, size_t length);	/* or -1 */
int32_t qat_vocab_model_id(const qat_vocab *vocab, const char *text, size_t length);
qat_token *qat_vocab_token(const qat_vocab *vocab, int32_t id);	/* or NULL */
void qat_vocab_free(qat_vocab *vocab);

/* ---- bpe_utf8.c ---- */

/* Bytes of the character at `at`, 1..4; when `*valid` is false, of the maximal
 * ill-formed part. length > 0. */
size_t qat_utf8_next(const char *at, size_t length, bool *valid);
uint32_t qat_utf8_code(const char *at);		/* of a well-formed character */
bool qat_utf8_valid(const char *at, size_t length);
int qat_utf8_repair(qat_text *out, const char *at, size_t length);	/* U+FFFD */
size_t qat_utf8_spaces_before(const char *at, size_t length);	/* white space at the end */
size_t qat_utf8_spaces_after(const char *at, size_t length);	/* white space at the start */

/* The alphabet of byte-level vocabularies: printable stand-ins for all 256 bytes. */
int qat_bytes_map(qat_text *out, const char *at, size_t length);
bool qat_bytes_unmap(qat_text *out, const char *at, size_t length);	/* room is there */

/* ---- bpe_regex.c ---- */

typedef struct qat_regex qat_regex;

/* What a match needs while it runs, and how long it may run: one for a call. */
typedef struct qat_match {
	pcre2_match_data *data;
	pcre2_match_context *context;
	pcre2_jit_stack *stack;
	double deadline, cpu_deadline;	/* seconds of the two clocks */
} qat_match;

int qat_regex_new(qat_regex **out, const char *pattern, size_t length, const char *name);
void qat_regex_free(qat_regex *regex);
int qat_match_open(qat_match *match, size_t length);
void qat_match_close(qat_match *match);

/* The first match at or after `from`: 1 and its ends, 0 for none, or an error. */
int qat_regex_find(const qat_regex *regex, qat_match *match, const char *text, size_t length,
		   size_t from, size_t *start, size_t *end);

/* ---- the parts of a file ---- */

typedef struct qat_string {
	char *at;
	size_t length;
} qat_string;

enum qat_part_kind {
	QAT_NORM_NFC, QAT_NORM_REPLACE, QAT_NORM_PREPEND,
	QAT_SPLIT_REGEX, QAT_SPLIT_STRING, QAT_SPLIT_PREFIX, QAT_SPLIT_META, QAT_SPLIT_BYTES,
	QAT_DECODE_BYTES, QAT_DECODE_FALLBACK, QAT_DECODE_FUSE, QAT_DECODE_REPLACE,
	QAT_DECODE_STRIP, QAT_DECODE_META
};

enum qat_behavior {
	QAT_REMOVED, QAT_ISOLATED, QAT_MERGED_PREVIOUS, QAT_MERGED_NEXT, QAT_CONTIGUOUS
};

enum qat_prepend { QAT_PREPEND_ALWAYS, QAT_PREPEND_FIRST, QAT_PREPEND_NEVER };

typedef struct qat_part {
	int kind;
	int behavior;		/* splits */
	bool invert;
	int prepend;		/* META */
	qat_regex *regex;
	qat_string pattern;	/* REPLACE and SPLIT_STRING: what to find; STRIP, META: it */
	qat_string content;	/* REPLACE, PREPEND, PREFIX: what to write */
	int64_t start, stop;	/* STRIP */
} qat_part;

typedef struct qat_chain {
	qat_part part[QAT_BPE_STAGES];
	size_t count;
} qat_chain;

typedef struct qat_added {
	qat_string content;	/* as the text must have it: normalized if it says so */
	int32_t id;
	bool single_word, lstrip, rstrip, normalized;
} qat_added;

typedef struct qat_trie {
	qat_map edges;		/* key: node * 256 + byte; .id: the next node */
	qat_list ends;		/* for each node the index of its added token, or -1 */
	bool first[256];	/* bytes with which a token begins */
} qat_trie;

typedef struct qat_bpe {
	char *name;
	qat_vocab vocab;
	qat_map merges;		/* key: left << 32 | right */
	qat_map joints;		/* characters that a merge joins: key last << 32 | first */
	int32_t chars[0x800];	/* ids of the characters of one and two bytes, or -1 */
	int32_t bytes[256];	/* ids of <0x00>..<0xFF>, or -1 */
	qat_string unk;		/* .at NULL: none */
	int32_t unk_id;		/* -1: not in the vocabulary */
	bool fuse_unk, byte_fallback, ignore_merges;
	qat_added *added;
	size_t added_count, added_room;
	qat_trie raw, normalized;	/* the two passes */
	qat_regex *word;	/* a word character; NULL unless a token is single_word */
	qat_chain normalizers, splits, decoders;
	int32_t bos, eos;	/* of the template; -1 */
} qat_bpe;

/* ---- bpe_read.c, bpe_parts.c: from JSON; all messages begin with the file's name ---- */

int qat_bpe_read(qat_bpe *bpe, const json_t *root);
int qat_bpe_read_parts(qat_bpe *bpe, const json_t *root);
void qat_chain_free(qat_chain *chain);
int qat_string_copy(qat_string *out, const char *at, size_t length);

/* A member of an object. Absent and null leave *out as it is. */
int qat_json_flag(bool *out, const json_t *object, const char *key, const char *name);
int qat_json_text(const json_t **out, const json_t *object, const char *key, const char *name);

/* ---- the work ---- */

typedef struct qat_symbol {
	int32_t id, prev, next;	/* -1: none */
	bool gone;
} qat_symbol;

typedef struct qat_merge {
	uint64_t order;		/* rank << 32 | position */
	int32_t id;
} qat_merge;

typedef struct qat_piece {	/* of the cache */
	uint64_t hash;
	size_t text, length;	/* in qat_run.keys */
	size_t ids, count;	/* in qat_run.values */
} qat_piece;

/* One call of encode. */
typedef struct qat_run {
	const qat_bpe *bpe;
	qat_match match;
	qat_text scratch[QAT_BPE_STAGES];	/* of the pre-tokenizer's stages */
	qat_text normal[2];
	qat_list ids;
	qat_symbol *symbol;
	size_t symbol_count, symbol_room;
	qat_merge *heap;
	size_t heap_count, heap_room;
	qat_piece *piece;
	size_t piece_count, piece_size;
	qat_text keys;
	qat_list values;
} qat_run;

/* Puts the ids of what it is given behind those of the run. `first`: the piece stands
 * at the very beginning of the text. */
typedef int qat_sink(qat_run *run, const char *text, size_t length, bool first);

int qat_normalize(qat_text scratch[2], const char **out, size_t *length, const qat_chain *chain,
		  const char *text, const char *name);
int qat_added_ready(qat_bpe *bpe);	/* once all tokens are known */
int qat_added_split(qat_run *run, const qat_trie *trie, qat_sink *rest, const char *text,
		    size_t length, bool first);
int qat_split(qat_run *run, size_t stage, const char *text, size_t length, bool first);
int qat_merge_piece(qat_run *run, const char *text, size_t length);
int qat_decode(const qat_bpe *bpe, qat_text *out, const int32_t *ids, size_t count);

#endif
