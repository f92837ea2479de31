/* test_tokenizer.c - the tokenizers `bpe` and `bytes`. JSON is written with ' for ". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bpe.h"
#include <check.h>
#undef fail	/* check's name for an assertion, and ours for a member of qat_host */

#define qat_plugin_v1 bytes_plugin
#define qat_host_ bytes_host
#include "bytes.c"
#undef qat_plugin_v1
#undef qat_host_

extern const qat_plugin qat_plugin_v1;
static char message[1024];
static const qat_tokenizer *bpe;

static int fail(int code, const char *fmt, va_list ap)
{
	vsnprintf(message, sizeof message, fmt, ap);
	return code;
}

static const qat_host host = { .size = sizeof host, .abi_major = 1, .fail = fail };

static void setup(void)
{
	ck_assert_int_eq(qat_plugin_v1.init(&host), QAT_OK);
	ck_assert_int_eq(bytes_plugin.init(&host), QAT_OK);
	bpe = qat_plugin_v1.interfaces[0]->vtable;
	message[0] = '\0';
}

/* ' to " */
static char *quoted(const char *text)
{
	char *copy = strdup(text);

	for (char *c = copy; *c; c++)
		*c = *c == '\'' ? '"' : *c;
	return copy;
}

static int open_text(void **out, const char *text)
{
	char *json = quoted(text);
	int rc = bpe->open(out, json, (int64_t)strlen(json), "t.json");

	free(json);
	return rc;
}

static void *open_good(const char *text)
{
	void *self = NULL;

	ck_assert_msg(open_text(&self, text) == QAT_OK, "%s", message);
	return self;
}

/* "1 2 3" */
static void check_ids(const void *self, const char *text, int64_t length, const char *expected)
{
	char got[4096] = "";
	qat_ids ids;
	int n = 0;

	ck_assert_msg(bpe->encode(self, text, length, &ids) == QAT_OK, "%s", message);
	for (int64_t i = 0; i < ids.count && n < 4000; i++)
		n += sprintf(got + n, i ? " %d" : "%d", (int)ids.at[i]);
	bpe->release(ids.at);
	ck_assert_str_eq(got, expected);
}

static void check_text(const void *self, const int32_t *ids, int64_t count, const char *expected)
{
	char *text;
	int64_t length;

	ck_assert_int_eq(bpe->decode(self, ids, count, &text, &length), QAT_OK);
	ck_assert_str_eq(text, expected);
	ck_assert_int_eq(length, (int64_t)strlen(expected));
	bpe->release(text);
}

/* ---- pre-tokenizers: a vocabulary of the expected pieces, taken whole ---- */

#define LLAMA3 "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" \
	       " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define QWEN "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|" \
	     " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define BYTES "{'type':'ByteLevel','add_prefix_space':false,'use_regex':true}"
#define SMOL "{'type':'Sequence','pretokenizers':[{'type':'Digits','individual_digits':true}," \
	     BYTES "]}"
#define SPLIT(pattern, behavior, invert) "{'type':'Split','pattern':" pattern ",'behavior':'" \
	behavior "','invert':" invert "}"
#define DASH "{'String':'-'}"
#define META(more) "{'type':'Metaspace','replacement':'_'," more "}"
#define HELLO "Hello  world's 2024!\n\n x"
#define FOO "I'LL (foo)\t\tbar  \n  z "

static const struct { const char *regex, *json, *text, *pieces; } splits[] = {
	{ NULL, BYTES, HELLO, "Hello| | world|'s| 2024|!|\n\n| x" },
	{ LLAMA3, NULL, HELLO, "Hello| | world|'s| |202|4|!\n\n| x" },
	{ QWEN, NULL, HELLO, "Hello| | world|'s| |2|0|2|4|!\n\n| x" },
	{ NULL, SMOL, HELLO, "Hello| | world|'s| |2|0|2|4|!|\n\n| x" },
	{ NULL, BYTES, FOO, "I|'|LL| (|foo|)|\t|\t|bar|  \n | z| " },
	{ LLAMA3, NULL, FOO, "I|'LL| (|foo|)|\t|\tbar|  \n| | z| " },
	{ LLAMA3, NULL, "he'\u017f IT'S", "he|'\u017f| IT|'S" },
	{ NULL, BYTES, "x\u2167\u00b2\u0663 a", "x|\u2167\u00b2\u0663| a" },
	{ NULL, SMOL, "x\u2167\u00b2", "x|\u2167|\u00b2" },
	{ NULL, BYTES, "a\u00a0\u3000b", "a|\u00a0|\u3000|b" },
	{ "\\s", NULL, "a\u180eb\xc2\x85" "c", "a\u180eb|\xc2\x85|c" },
	{ "[\\S]", NULL, "\u180e \u180e", "\u180e| |\u180e" },
	{ "\\w+", NULL, "a_\u0301\u24e0\u00bd-b", "a_\u0301\u24e0\u00bd|-|b" },
	{ "x*", NULL, "axxb", "a|xx|b" },
	{ NULL, SPLIT(DASH, "Removed", "false"), "-a--b", "a|b" },
	{ NULL, SPLIT(DASH, "Isolated", "false"), "-a--b", "-|a|-|-|b" },
	{ NULL, SPLIT(DASH, "MergedWithPrevious", "false"), "-a--b", "-|a-|-|b" },
	{ NULL, SPLIT(DASH, "MergedWithNext", "false"), "-a--b", "-a|-|-b" },
	{ NULL, SPLIT(DASH, "Contiguous", "false"), "-a--b", "-|a|--|b" },
	{ NULL, SPLIT(DASH, "Removed", "true"), "-a--b", "-|-|-" },
	{ NULL, SPLIT(DASH, "MergedWithNext", "true"), "-a--b", "-|a-|-|b" },
	{ NULL, "{'type':'Digits','individual_digits':false}", "a12\u00b2b", "a|12\u00b2|b" },
	{ NULL, META("'prepend_scheme':'always'"), "a  b", "_a|_|_b" },
	{ NULL, META("'prepend_scheme':'always'"), " a", "_a" },
	{ NULL, META("'prepend_scheme':'never'"), "a b", "a|_b" },
	{ NULL, META("'prepend_scheme':'always','split':false"), "a b", "_a_b" },
	{ NULL, META("'add_prefix_space':false"), "a b", "a|_b" },
	{ NULL, "{'type':'ByteLevel','add_prefix_space':true,'use_regex':false}", "ab", " ab" },
	{ NULL, "null", "a b-", "a b-" },
};

static json_t *split_json(size_t row)
{
	char *json;
	json_t *made;

	if (splits[row].regex)
		return json_pack("{s:s,s:{s:s},s:s,s:b}", "type", "Split", "pattern", "Regex",
				 splits[row].regex, "behavior", "Isolated", "invert", 0);
	json = quoted(splits[row].json);
	made = json_loads(json, JSON_DECODE_ANY, NULL);
	free(json);
	ck_assert_ptr_nonnull(made);
	return made;
}

/* The vocabulary {piece: place}, and the ids to expect. */
static json_t *pieces_vocab(size_t row, char *expected)
{
	json_t *vocab = json_pack("{s:i}", "?", 0);
	bool mapped = splits[row].json && strstr(splits[row].json, "ByteLevel");
	char *copy = strdup(splits[row].pieces), *rest = copy, *piece;
	int n = 0;

	for (int id = 1; (piece = strsep(&rest, "|")) != NULL; id++) {
		qat_text text = { 0 };

		if (mapped)
			qat_bytes_map(&text, piece, strlen(piece));
		else
			qat_text_append(&text, piece, strlen(piece));
		text.at[text.length] = '\0';
		if (!json_object_get(vocab, text.at))
			json_object_set_new(vocab, text.at, json_integer(id));
		n += sprintf(expected + n, n ? " %d" : "%d",
			     (int)json_integer_value(json_object_get(vocab, text.at)));
		qat_text_free(&text);
	}
	free(copy);
	return vocab;
}

START_TEST(test_split)
{
	size_t row = (size_t)_i;
	char expected[256] = "", *json;
	json_t *root = json_pack("{s:o,s:{s:s,s:o,s:[],s:b,s:s}}", "pre_tokenizer", split_json(row),
				 "model", "type", "BPE", "vocab", pieces_vocab(row, expected),
				 "merges", "ignore_merges", 1, "unk_token", "?");
	void *self = NULL;

	json = json_dumps(root, 0);
	ck_assert_msg(bpe->open(&self, json, (int64_t)strlen(json), "t") == QAT_OK, "%s", message);
	check_ids(self, splits[row].text, (int64_t)strlen(splits[row].text), expected);
	bpe->close(self);
	json_decref(root);
	free(json);
}
END_TEST

/* ---- merges ---- */

#define MODEL(vocab, merges, more) \
	"'model':{'type':'BPE','vocab':{" vocab "},'merges':[" merges "]" more "}"
#define ABC "'a':0,'b':1,'c':2,'ab':3,'bc':4,'abc':5,'aa':6"

static const struct { const char *json, *text, *ids; } encodings[] = {
	/* rank decides, not length or place */
	{ "{" MODEL(ABC, "'b c','a b'", "") "}", "abc", "0 4" },
	{ "{" MODEL(ABC, "['a','b'],['b','c'],['ab','c']", "") "}", "abc", "5" },
	{ "{" MODEL(ABC, "'#version: 0.2','a b'", "") "}", "abab", "3 3" },
	/* equal rank: leftmost first */
	{ "{" MODEL(ABC, "'a a'", "") "}", "aaaaa", "6 6 0" },
	{ "{'model':{'vocab':{'a':7},'merges':[]}}", "aa", "7 7" },
	{ "{" MODEL(ABC, "", ",'ignore_merges':true") "}", "abc", "5" },
	{ "{" MODEL(ABC, "", ",'ignore_merges':false,'dropout':0.0") "}", "abc", "0 1 2" },
	/* unknown characters are lost, are tokens, are one token */
	{ "{" MODEL(ABC, "'a b'", "") "}", "a\u00e9b", "3" },
	{ "{" MODEL("'?':9," ABC, "'a b'", ",'unk_token':'?'") "}", "\u00e9\u65e5ab", "9 9 3" },
	{ "{" MODEL("'?':9," ABC, "", ",'unk_token':'?','fuse_unk':true") "}", "\u00e9\u65e5az",
	  "9 0 9" },
	{ "{" MODEL("'?':9,'<0xC3>':10,'<0xA9>':11,'a':0", "",
		    ",'unk_token':'?','byte_fallback':true") "}", "a\u00e9\u65e5", "0 10 11 9" },
	{ "{'normalizer':{'type':'Sequence','normalizers':[{'type':'Prepend','prepend':'c'},"
	  "{'type':'Replace','pattern':{'String':' '},'content':'b'}]}," MODEL(ABC, "", "") "}",
	  " a ", "2 1 0 1" },
	{ "{'normalizer':{'type':'Prepend','prepend':'c'}," MODEL(ABC, "", "") "}", "", "" },
	/* an added token is not a token of the model: z comes of Q, behind the raw pass */
	{ "{'added_tokens':[{'id':9,'content':'z'},{'id':10,'content':'\u65e5'}],'normalizer':{"
	  "'type':'Sequence','normalizers':[{'type':'Replace','pattern':{'String':'Q'},"
	  "'content':'z'},{'type':'Replace','pattern':{'String':'R'},'content':'\u65e5'}]}," MODEL(ABC, "",
	  ",'unk_token':'a','ignore_merges':true") "}", "zQ", "9 0" },
	{ "{'added_tokens':[{'id':10,'content':'\u65e5'}],'normalizer':{'type':'Replace','pattern':"
	  "{'String':'R'},'content':'\u65e5'}," MODEL(ABC, "", ",'unk_token':'a'") "}",
	  "\u65e5bR", "10 1 0" },
};

START_TEST(test_encode)
{
	void *self = open_good(encodings[_i].json);

	check_ids(self, encodings[_i].text, (int64_t)strlen(encodings[_i].text), encodings[_i].ids);
	bpe->close(self);
}
END_TEST

/* A piece longer than the cache takes, cut where nothing joins, and one that is not. */
START_TEST(test_long)
{
	void *self = open_good("{" MODEL("'a':0,'b':1,'_':2,'_a':3,'_ab':4,'ba':5",
					 "'_ a','_a b'", "") "}");
	char text[3001];
	qat_ids ids;

	for (int i = 0; i < 3000; i++)
		text[i] = "_ab"[i % 3];
	ck_assert_int_eq(bpe->encode(self, text, 3000, &ids), QAT_OK);
	ck_assert_int_eq(ids.count, 1000);
	for (int i = 0; i < 1000; i++)
		ck_assert_int_eq(ids.at[i], 4);
	bpe->release(ids.at);
	bpe->close(self);
	self = open_good("{" MODEL("'a':0,'aa':1,'aaaa':2", "'a a','aa aa'", "") "}");
	memset(text, 'a', 3000);
	ck_assert_int_eq(bpe->encode(self, text, 2999, &ids), QAT_OK);
	ck_assert_int_eq(ids.count, 749 + 2);
	ck_assert_int_eq(ids.at[748], 2);
	ck_assert_int_eq(ids.at[749], 1);
	ck_assert_int_eq(ids.at[750], 0);
	bpe->release(ids.at);
	bpe->close(self);
}
END_TEST

/* ---- added tokens ---- */

#define ADDED(id, content, more) "{'id':" id ",'content':'" content "'" more "}"

START_TEST(test_added)
{
	static const struct { const char *tokens, *text, *ids; } rows[] = {
		{ ADDED("50", "ab", "") "," ADDED("51", "abc", ""), "xabcab", "23 51 50" },
		{ ADDED("50", "ab", ",'single_word':true"), "ab cab ab_ ab",
		  "50 26 2 0 1 26 0 1 27 26 50" },
		{ ADDED("50", "!", ",'lstrip':true"), "a  ! b", "0 50 26 1" },
		{ ADDED("50", "!", ",'rstrip':true"), "a !\u3000 b", "0 26 50 1" },
		{ ADDED("50", "!", ",'lstrip':true,'rstrip':true"), " ! ! ", "50 50" },
		/* raw text first, whatever comes first in the list */
		{ ADDED("50", "xy", ",'normalized':true") "," ADDED("51", "yz", ""), "xyzxy",
		  "23 51 50" },
		/* normalized: Q is x by then, in the text and in the token */
		{ ADDED("50", "Qb", ",'normalized':true"), "xbQb", "50 50" },
		{ ADDED("50", "Qb", ""), "xbQb", "23 1 50" },
		{ ADDED("0", "a", ",'special':true"), "ab", "0 1" },
	};
	char json[2048], vocab[512] = "";

	for (int i = 0; i < 28; i++)
		sprintf(vocab + strlen(vocab), "%s'%c':%d", i ? "," : "",
			"abcdefghijklmnopqrstuvwxyz _"[i], i);
	snprintf(json, sizeof json, "{'added_tokens':[%s],'normalizer':{'type':'Replace','pattern':"
		 "{'String':'Q'},'content':'x'},'model':{'vocab':{%s},'merges':[]}}",
		 rows[_i].tokens, vocab);
	void *self = open_good(json);
	check_ids(self, rows[_i].text, (int64_t)strlen(rows[_i].text), rows[_i].ids);
	bpe->close(self);
}
END_TEST

START_TEST(test_special)
{
	void *self = open_good("{'added_tokens':[" ADDED("9", "</s>", ",'special':true") ","
			       ADDED("8", "<s>", "") ","
			       ADDED("20", "<pad>", ",'special':true") "]," MODEL(ABC, "", "") "}");

	ck_assert_int_eq(bpe->vocab_size(self), 21);
	ck_assert_int_eq(bpe->special(self, QAT_TOKEN_BOS), -1);	/* not marked special */
	ck_assert_int_eq(bpe->special(self, QAT_TOKEN_EOS), 9);
	ck_assert_int_eq(bpe->special(self, QAT_TOKEN_PAD), 20);
	ck_assert_int_eq(bpe->special(self, QAT_TOKEN_UNK), -1);
	ck_assert_int_eq(bpe->special(self, 77), -1);
	ck_assert_int_eq(bpe->is_special(self, 9), 1);
	ck_assert_int_eq(bpe->is_special(self, 8), 0);
	ck_assert_int_eq(bpe->is_special(self, -5), 0);
	bpe->close(self);
	self = open_good("{'post_processor':{'type':'Sequence','processors':[{'type':'ByteLevel'},"
			 "{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'B'}},"
			 "{'Sequence':{'id':'A'}},{'SpecialToken':{'id':'E'}}],'special_tokens':{"
			 "'B':{'id':'B','ids':[4],'tokens':['bc']},'E':{'ids':[3]}}}]},"
			 MODEL(ABC, "", ",'unk_token':'a'") "}");
	ck_assert_int_eq(bpe->special(self, QAT_TOKEN_BOS), 4);
	ck_assert_int_eq(bpe->special(self, QAT_TOKEN_EOS), 3);
	ck_assert_int_eq(bpe->special(self, QAT_TOKEN_UNK), 0);
	check_ids(self, "a", 1, "0");
	bpe->close(self);
}
END_TEST

/* ---- UTF-8, normalization ---- */

START_TEST(test_repair)
{
	static const struct { const char *text, *repaired; } rows[] = {
		{ "a\xff" "b", "a\ufffdb" },
		{ "\xe2\x82", "\ufffd" },			/* a truncated character is one */
		{ "\xe2\x28\xa1", "\ufffd(\ufffd" },
		{ "\xc0\xaf", "\ufffd\ufffd" },
		{ "\xed\xa0\x80", "\ufffd\ufffd\ufffd" },	/* a surrogate */
		{ "\xf0\x9f\x98" "a\xf4\x90\x80\x80", "\ufffda\ufffd\ufffd\ufffd\ufffd" },
		{ "\xf4\x8f\xbf\xbf\xe0\xa0\x80", "\xf4\x8f\xbf\xbf\xe0\xa0\x80" },
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		qat_text out = { 0 };

		ck_assert_int_eq(qat_utf8_repair(&out, rows[i].text, strlen(rows[i].text)), 0);
		ck_assert_int_eq((int)out.length, (int)strlen(rows[i].repaired));
		ck_assert_int_eq(memcmp(out.at, rows[i].repaired, out.length), 0);
		qat_text_free(&out);
	}
}
END_TEST

START_TEST(test_nul)
{
	void *self = open_good("{'pre_tokenizer':" BYTES "," MODEL("'\u0100':1,'a':2", "", "") "}");

	check_ids(self, "a\0a\0", 4, "2 1 2 1");
	check_ids(self, NULL, 0, "");
	bpe->close(self);
}
END_TEST

START_TEST(test_nfc)
{
	void *self = open_good("{'normalizer':{'type':'NFC'}," MODEL("'e':1,'\u00e9':2,'\u0301':3",
								     "", "") "}");
	qat_ids ids;

	check_ids(self, "e\u00e9", 3, "1 2");
#ifdef HAVE_UTF8PROC
	check_ids(self, "e\u0301e", 4, "2 1");
	(void)ids;
#else
	ck_assert_int_eq(bpe->encode(self, "e\u0301", 3, &ids), QAT_ENOTSUP);
	ck_assert_ptr_nonnull(strstr(message, "utf8proc"));
#endif
	bpe->close(self);
}
END_TEST

/* ---- decoders ---- */

#define FALLBACK "{'type':'ByteFallback'}"
#define UNMETA "{'type':'Replace','pattern':{'String':'_'},'content':' '}"

static const struct { const char *decoder; int32_t ids[6]; int64_t count; const char *text; }
decodings[] = {
	{ "{'type':'ByteLevel'}", { 2, 0, 1, 3 }, 4, " a\u00e9" },
	{ "{'type':'ByteLevel'}", { 0, 1, 0 }, 3, "a\ufffda" },
	{ "{'type':'ByteLevel'}", { 8, 0 }, 2, "\u65e5a" },	/* not of the alphabet: as it is */
	{ "{'type':'Sequence','decoders':[" UNMETA "," FALLBACK ",{'type':'Fuse'},"
	  "{'type':'Strip','content':' ','start':1,'stop':0}]}", { 4, 0, 4, 5, 6 }, 5,
	  "a \u00e9" },
	{ FALLBACK, { 5, 0, 6, 6 }, 4, "\ufffda\ufffd\ufffd" },
	{ "{'type':'Strip','content':'a','start':2,'stop':9}", { 7, 0 }, 2, "" },
	{ "{'type':'Metaspace','replacement':'_','prepend_scheme':'first'}", { 4, 0, 4 }, 3, "a " },
	{ "{'type':'Metaspace','replacement':'_','prepend_scheme':'never'}", { 4, 0, 4 }, 3,
	  " a " },
	{ "null", { 0, 4, 99, -1, 0 }, 5, "a _ a" },
	{ "{'type':'Fuse'}", { 0 }, 0, "" },
};

START_TEST(test_decode)
{
	char json[2048];
	void *self;

	snprintf(json, sizeof json, "{'decoder':%s," MODEL("'a':0,'\u00c3':1,'\u0120':2,"
		 "'\u00a9':3,'_':4,'<0xC3>':5,'<0xa9>':6,'aaa':7,'\u65e5':8", "", "") "}",
		 decodings[_i].decoder);
	self = open_good(json);
	check_text(self, decodings[_i].ids, decodings[_i].count, decodings[_i].text);
	bpe->close(self);
}
END_TEST

/* ---- what is refused ---- */

#define PRE(json) "{'pre_tokenizer':" json "," MODEL(ABC, "", "") "}"
#define RE(pattern) PRE(SPLIT("{'Regex':'" pattern "'}", "Isolated", "false"))

static const struct { const char *json; int code; const char *message; } refused[] = {
	{ "", QAT_EFORMAT, "bytes" },
	{ "{'model':", QAT_EFORMAT, "t.json:1:9" },
	{ "[]", QAT_EFORMAT, "model" },
	{ "{'version':'2.0'," MODEL(ABC, "", "") "}", QAT_ENOTSUP, "2.0" },
	{ "{'model':{'type':'Unigram'}}", QAT_ENOTSUP, "Unigram" },
	{ "{'model':{'vocab':[],'merges':[]}}", QAT_EFORMAT, "model.vocab" },
	{ "{" MODEL("'a':1.5", "", "") "}", QAT_EFORMAT, "16777215" },
	{ "{" MODEL("'a':-1", "", "") "}", QAT_EFORMAT, "16777215" },
	{ "{" MODEL("'a':16777216", "", "") "}", QAT_EFORMAT, "16777215" },
	{ "{" MODEL("'a':1,'b':1", "", "") "}", QAT_EFORMAT, "\"b\" has the id 1 of another" },
	{ "{'model':{'vocab':{}}}", QAT_EFORMAT, "model.merges" },
	{ "{" MODEL(ABC, "'a b','a z'", "") "}", QAT_EFORMAT, "merges[1]: \"z\"" },
	{ "{" MODEL(ABC, "'c c'", "") "}", QAT_EFORMAT, "merges[0]: \"cc\"" },
	{ "{" MODEL(ABC, "'a b c'", "") "}", QAT_EFORMAT, "merges[0]" },
	{ "{" MODEL(ABC, "['a']", "") "}", QAT_EFORMAT, "merges[0]" },
	{ "{" MODEL(ABC, "7", "") "}", QAT_EFORMAT, "merges[0]" },
	{ "{" MODEL(ABC, "", ",'dropout':0.1") "}", QAT_ENOTSUP, "dropout" },
	{ "{" MODEL(ABC, "", ",'end_of_word_suffix':'</w>'") "}", QAT_ENOTSUP, "end_of_word" },
	{ "{" MODEL(ABC, "", ",'fuse_unk':1") "}", QAT_EFORMAT, "fuse_unk" },
	{ "{'added_tokens':{}," MODEL(ABC, "", "") "}", QAT_EFORMAT, "added_tokens" },
	{ "{'added_tokens':[7]," MODEL(ABC, "", "") "}", QAT_EFORMAT, "added_tokens[0]" },
	{ "{'added_tokens':[" ADDED("9", "a", "") "]," MODEL(ABC, "", "") "}", QAT_EFORMAT,
	  "id 9 here and 0" },
	{ "{'added_tokens':[" ADDED("0", "x", "") "]," MODEL(ABC, "", "") "}", QAT_EFORMAT,
	  "another token" },
	{ "{'added_tokens':[" ADDED("9", "x", "") "," ADDED("9", "x", "") "]," MODEL(ABC, "", "")
	  "}", QAT_EFORMAT, "twice" },
	{ "{'normalizer':{'type':'Lowercase'}," MODEL(ABC, "", "") "}", QAT_ENOTSUP, "Lowercase" },
	{ "{'normalizer':{'type':'Replace','pattern':{'Regex':'a'},'content':''},"
	  MODEL(ABC, "", "") "}", QAT_ENOTSUP, "Regex" },
	{ "{'normalizer':{'type':'Replace','pattern':{'String':''},'content':''},"
	  MODEL(ABC, "", "") "}", QAT_EFORMAT, "empty pattern" },
	{ "{'decoder':{'type':'WordPiece'}," MODEL(ABC, "", "") "}", QAT_ENOTSUP, "WordPiece" },
	{ "{'post_processor':{'type':'BertProcessing'}," MODEL(ABC, "", "") "}", QAT_ENOTSUP,
	  "BertProcessing" },
	{ PRE("{'type':'Whitespace'}"), QAT_ENOTSUP, "Whitespace" },
	{ PRE("{'type':'Sequence','pretokenizers':[" BYTES "," BYTES "," BYTES "]}"), QAT_ENOTSUP,
	  "ByteLevel more than twice" },
	{ PRE("7"), QAT_EFORMAT, "pre_tokenizer" },
	{ PRE("{'type':'Sequence','pretokenizers':7}"), QAT_EFORMAT, "Sequence" },
	{ PRE(SPLIT(DASH, "Sideways", "false")), QAT_EFORMAT, "behavior" },
	{ PRE("{'type':'Metaspace','replacement':'ab'}"), QAT_EFORMAT, "one character" },
	{ RE("(a"), QAT_ENOTSUP, "parenthes" },
	{ RE("[a&&b]"), QAT_ENOTSUP, "&&" },
	{ RE("[a[b]]"), QAT_ENOTSUP, "class inside a class" },
	{ RE("\\\\h"), QAT_ENOTSUP, "byte 0" },
	{ RE("(a)\\\\1"), QAT_ENOTSUP, "byte 3" },
	{ RE("a{2}+"), QAT_ENOTSUP, "quantifier" },
	{ RE("(?m:a)"), QAT_ENOTSUP, "group" },
	{ RE("(*UTF)a"), QAT_ENOTSUP, "(*" },
	{ RE("\\\\pL"), QAT_ENOTSUP, "braces" },
	{ RE(""), QAT_EFORMAT, "pattern" },
};

START_TEST(test_refused)
{
	void *self = NULL;

	ck_assert_int_eq(open_text(&self, refused[_i].json), refused[_i].code);
	ck_assert_msg(strstr(message, refused[_i].message) != NULL, "%s", message);
	ck_assert_ptr_null(self);
}
END_TEST

START_TEST(test_late)
{
	void *self = open_good("{" MODEL("'a':0", "", ",'unk_token':'gone'") "}");
	qat_ids ids;

	check_ids(self, "a", 1, "0");
	ck_assert_int_eq(bpe->encode(self, "b", 1, &ids), QAT_EFORMAT);
	ck_assert_ptr_nonnull(strstr(message, "gone"));
	ck_assert_int_eq(bpe->encode(self, "b", -1, &ids), QAT_EINVAL);
	bpe->close(self);
	bpe->close(NULL);
}
END_TEST

/* Every stage makes the text a hundred times longer. */
START_TEST(test_growth)
{
	char part[256], json[4096], much[101];
	void *self;
	qat_ids ids;
	char *text;
	int64_t length;

	memset(much, 'a', 100);
	much[100] = '\0';
	snprintf(part, sizeof part, "{'type':'Replace','pattern':{'String':'a'},'content':'%s'}",
		 much);
	snprintf(json, sizeof json, "{'normalizer':{'type':'Sequence','normalizers':[%s,%s,%s]},"
		 "'decoder':{'type':'Sequence','decoders':[%s,%s,%s]}," MODEL(ABC, "", "") "}",
		 part, part, part, part, part, part);
	self = open_good(json);
	ck_assert_int_eq(bpe->encode(self, "a", 1, &ids), QAT_ENOTSUP);
	ck_assert_ptr_nonnull(strstr(message, "limit"));
	ck_assert_int_eq(bpe->decode(self, &(int32_t){ 0 }, 1, &text, &length), QAT_ENOTSUP);
	ck_assert_ptr_nonnull(strstr(message, "limit"));
	bpe->close(self);
}
END_TEST

/* Patterns that never end: an error, soon. */
START_TEST(test_hostile_regex)
{
	static const char *const rows[] = {
		RE("(?:a+)+$b"), RE("(?:a|aa)+b"), RE("(?:a?){40}a{40}b"), RE("(?:(?:a|b)*)*c"),
	};
	void *self = open_good(rows[_i]);
	char text[20000];
	qat_ids ids = { .at = NULL };
	int rc;

	memset(text, 'a', sizeof text);
	rc = bpe->encode(self, text, sizeof text, &ids);
	if (rc) {
		ck_assert_int_eq(rc, QAT_ENOTSUP);
		ck_assert_ptr_nonnull(strstr(message, "pattern `"));
	}
	bpe->release(ids.at);
	bpe->close(self);
}
END_TEST

/* A file cut short, and files with a byte changed: an error or a tokenizer, no crash. */
START_TEST(test_mutations)
{
	char *good = quoted("{'version':'1.0','added_tokens':[" ADDED("9", "<s>", ",'lstrip':true")
		"],'normalizer':{'type':'Prepend','prepend':'b'},'pre_tokenizer':" SMOL
		",'post_processor':null,'decoder':{'type':'Sequence','decoders':[" UNMETA ","
		FALLBACK "]}," MODEL(ABC, "'a b',['ab','c']", ",'unk_token':'a'") "}");
	size_t length = strlen(good);
	uint32_t random = 1;

	for (size_t i = 0; i < length + 3000; i++) {
		char *copy = strdup(good), *text;
		void *self = NULL;
		int64_t n = (int64_t)(i < length ? i : length), size;
		qat_ids ids;

		random = random * 1664525 + 1013904223;
		if (i >= length)
			copy[(random >> 8) % length] = "\"{}[]:,0a\\'-9\xff"[(random >> 24) % 15];
		if (bpe->open(&self, copy, n, "t") == QAT_OK &&
		    bpe->encode(self, "abc <s>1\xff", 9, &ids) == QAT_OK) {
			ck_assert_int_ge(i, length);
			ck_assert_int_eq(bpe->decode(self, ids.at, ids.count, &text, &size), 0);
			bpe->release(text);
			bpe->release(ids.at);
		}
		bpe->close(self);
		free(copy);
	}
	free(good);
}
END_TEST

START_TEST(test_bytes)
{
	const qat_tokenizer *t = bytes_plugin.interfaces[0]->vtable;
	void *self = NULL;
	qat_ids ids = { .at = NULL };
	char *text = NULL;
	int64_t length = 0;

	ck_assert_int_eq(t->open(&self, NULL, 0, "bytes"), QAT_OK);
	ck_assert_int_eq(t->vocab_size(self), 256);
	ck_assert_int_eq(t->encode(self, "a\0\xff", 3, &ids), QAT_OK);
	ck_assert_int_eq(ids.count, 3);
	ck_assert_int_eq(ids.at[0], 'a');
	ck_assert_int_eq(ids.at[1], 0);
	ck_assert_int_eq(ids.at[2], 255);
	ck_assert_int_eq(t->decode(self, ids.at, 3, &text, &length), QAT_OK);
	ck_assert_int_eq(length, 3);
	ck_assert_int_eq(memcmp(text, "a\0\xff", 4), 0);
	ck_assert_int_eq(t->special(self, QAT_TOKEN_BOS), -1);
	t->release(text);
	t->release(ids.at);
	t->close(self);
	ck_assert_int_eq(t->open(&self, "{}", 2, "x.json"), QAT_EINVAL);
}
END_TEST

#define ROWS(table) (int)(sizeof(table) / sizeof *(table))

int main(void)
{
	Suite *suite = suite_create("tokenizer");
	TCase *tests = tcase_create("tokenizer");
	SRunner *runner = srunner_create(suite);
	int failed;

	suite_add_tcase(suite, tests);
	tcase_add_checked_fixture(tests, setup, NULL);
	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, test_split, 0, ROWS(splits));
	tcase_add_loop_test(tests, test_encode, 0, ROWS(encodings));
	tcase_add_test(tests, test_long);
	tcase_add_loop_test(tests, test_added, 0, 9);
	tcase_add_test(tests, test_special);
	tcase_add_test(tests, test_repair);
	tcase_add_test(tests, test_nul);
	tcase_add_test(tests, test_nfc);
	tcase_add_loop_test(tests, test_decode, 0, ROWS(decodings));
	tcase_add_loop_test(tests, test_refused, 0, ROWS(refused));
	tcase_add_test(tests, test_late);
	tcase_add_test(tests, test_growth);
	tcase_add_loop_test(tests, test_hostile_regex, 0, 4);
	tcase_add_test(tests, test_mutations);
	tcase_add_test(tests, test_bytes);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
