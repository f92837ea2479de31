/* test_yaml.c - documents: what they read as, and what each refusal says. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "yaml_tree.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static qat_yaml *parsed(const char *text, const char *set)
{
	qat_yaml *doc = NULL;
	int rc = qat_yaml_parse(&doc, text, (int64_t)strlen(text), "p.yaml", &set, set ? 1 : 0);

	ck_assert_msg(rc == QAT_OK, "%s", qat_error());
	return doc;
}

static char *written(const qat_yaml_node *root)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	ck_assert_ptr_nonnull(f);
	ck_assert_msg(qat_yaml_write(f, root) == QAT_OK, "%s", qat_error());
	ck_assert_int_eq(fclose(f), 0);
	return text;
}

static void ck_written(const qat_yaml *doc, const char *expected)
{
	char *text = written(qat_yaml_root(doc));

	ck_assert_str_eq(text, expected);
	free(text);
}

/* What a text, with at most one setting, is once it is resolved. */
static const struct { const char *text, *set, *result; } documents[] = {
	{ "a: {b: [1, x], c: 'y'}", NULL, "a:\n  b:\n  - 1\n  - x\n  c: \"y\"\n" },
	{ "a:\nb: ~\nc: null\nd: 'null'\ne: ''", NULL,
	  "a: null\nb: null\nc: null\nd: \"null\"\ne: \"\"\n" },
	{ "a: &x {k: 1}\nb: *x\nc: [*x]", NULL,
	  "a:\n  k: 1\nb:\n  k: 1\nc:\n- k: 1\n" },
	/* the latest anchor of a name counts */
	{ "a: &x 1\nb: &x 2\nc: *x", NULL, "a: 1\nb: 2\nc: 2\n" },
	/* own keys win wherever the merge stands */
	{ "a: &x {k: 1, l: 2}\nb: {<<: *x, l: 3}\nc: {l: 4, <<: *x}", NULL,
	  "a:\n  k: 1\n  l: 2\nb:\n  l: 3\n  k: 1\nc:\n  l: 4\n  k: 1\n" },
	/* of a list the earlier map */
	{ "a: &x {k: 1}\nb: &y {k: 2, l: 2}\nc: {<<: [*x, *y]}", NULL,
	  "a:\n  k: 1\nb:\n  k: 2\n  l: 2\nc:\n  k: 1\n  l: 2\n" },
	/* merges in what is merged */
	{ "a: &x {k: 1, m: 1}\nb: &y {<<: *x, m: 2}\nc: {<<: *y, n: 3}", NULL,
	  "a:\n  k: 1\n  m: 1\nb:\n  m: 2\n  k: 1\nc:\n  n: 3\n  m: 2\n  k: 1\n" },
	{ "a: &l [{k: 1}, {l: 2}]\nb: {<<: *l}", NULL,
	  "a:\n- k: 1\n- l: 2\nb:\n  k: 1\n  l: 2\n" },
	{ "a: {'<<': 1}", NULL, "a:\n  \"<<\": 1\n" },
	{ "a: !!str null\nb: !!int 3\nc: !!map {}\nd: !!seq []", NULL,
	  "a: \"null\"\nb: 3\nc: {}\nd: []\n" },
	{ "\xef\xbb\xbf" "a: 1", NULL, "a: 1\n" },
	{ "a: \"\xc3\xa9\\n\\x01 \"", NULL, "a: \"\xc3\xa9\\n\\x01 \"\n" },
	/* variables: QAT_A is a1, QAT_EMPTY is empty, QAT_NONE is not set */
	{ "a: \"${QAT_A}/${QAT_A}\"", NULL, "a: \"a1/a1\"\n" },
	{ "a: ${QAT_A}", NULL, "a: a1\n" },
	{ "a: \"${QAT_NONE:-x y}-${QAT_EMPTY:-z}-${QAT_EMPTY}-${QAT_A:-w}\"", NULL,
	  "a: \"x y-z--a1\"\n" },
	{ "a: \"$QAT_A $ 5$ {x} $${QAT_A} $$${QAT_A}\"", NULL,
	  "a: \"$QAT_A $ 5$ {x} $${QAT_A} $$${QAT_A}\"\n" },
	{ "a: 1", "a=\"${QAT_A}\"", "a: \"a1\"\n" },
	{ "a: 1", "a=${QAT_A}/x", "a: a1/x\n" },
	{ "a: \"${QAT_BRACE}\"", NULL, "a: \"$${QAT_A}\"\n" },	/* values are not expanded */
	{ "a: \"${QAT_NONE}\"", "a=2", "a: 2\n" },
	/* settings */
	{ "a: {b: [1, 2]}", "a.b[1]=3", "a:\n  b:\n  - 1\n  - 3\n" },
	{ "a: 1", "b.c.d= x: y #z ", "a: 1\nb:\n  c:\n    d: \"x: y #z\"\n" },
	{ "a: 1", "a={b: [2, 'x']}", "a:\n  b:\n  - 2\n  - \"x\"\n" },
	{ "a: 1", "a=", "a: null\n" },
	{ "a: 1", "a=b=c", "a: \"b=c\"\n" },
	{ "", "a=1", "a: 1\n" },
	{ "a:", "a.b=1", "a:\n  b: 1\n" },
	{ "a: {b.c: 1}", "a.\"b.c\"=2", "a:\n  b.c: 2\n" },
	{ "a: [{k: 1}]", "a[0].k=2", "a:\n- k: 2\n" },
	/* where the anchor stands: everywhere; where it is used: there */
	{ "a: &x {k: {m: 1, n: 2}}\nb: {<<: *x}", "a.k.m=9",
	  "a:\n  k:\n    m: 9\n    n: 2\nb:\n  k:\n    m: 9\n    n: 2\n" },
	{ "a: &x {k: {m: 1, n: 2}}\nb: {<<: *x}", "b.k.m=9",
	  "a:\n  k:\n    m: 1\n    n: 2\nb:\n  k:\n    m: 9\n    n: 2\n" },
	{ "a: &x {k: {m: 1}}\nb: *x", "b.k.m=9",
	  "a:\n  k:\n    m: 1\nb:\n  k:\n    m: 9\n" },
};

START_TEST(document)
{
	qat_yaml *doc = parsed(documents[_i].text, documents[_i].set), *again;
	char *text = written(qat_yaml_root(doc));

	ck_assert_str_eq(text, documents[_i].result);
	again = parsed(text, NULL);	/* and it reads as what it was */
	ck_written(again, text);
	free(text);
	qat_yaml_free(again);
	qat_yaml_free(doc);
}
END_TEST

static const struct { const char *text, *set, *message; } refusals[] = {
	{ "a: {p: ${DATA}/x}", NULL,
	  "p.yaml:1:9: an unquoted ${DATA} ends at its brace in flow style: quote the value, as "
	  "in \"${DATA}\"" },
	{ "a: [\xc3\xa9/${D:-y}/z]", NULL,
	  "p.yaml:1:8: an unquoted ${D:-y} ends at its brace in flow style: quote the value, as "
	  "in \"${D:-y}\"" },
	{ "a:\n- {b: \"${QAT_NONE}/x\"}", NULL,
	  "p.yaml:2:7: a[0].b: the environment variable QAT_NONE is not set: export QAT_NONE=..., "
	  "or give a default with \"${QAT_NONE:-...}\"" },
	{ "a: \"${1X}\"", NULL,
	  "p.yaml:1:4: a: \"${1X}\": a variable is written ${NAME} or ${NAME:-default}, a plain ${ "
	  "is written $${" },
	{ "a: \"${X\"", NULL,
	  "p.yaml:1:4: a: \"${X\": a variable is written ${NAME} or ${NAME:-default}, a plain ${ "
	  "is written $${" },
	{ "a: \"${X:-${Y}}\"", NULL,
	  "p.yaml:1:4: a: \"${X:-${Y}}\": a variable is written ${NAME} or ${NAME:-default}, a "
	  "plain ${ is written $${" },
	{ "a: \"${QAT_BINARY}\"", NULL,
	  "p.yaml:1:4: a: the environment variable QAT_BINARY is not text: it holds control "
	  "characters or is not UTF-8" },
	{ "a: 1\nb: {c: 1,\n    c: 2}\n", NULL,
	  "p.yaml:3:5: b: the key \"c\" is there already, at p.yaml:2:5: keep one of the two" },
	{ "a: {<<: {b: 1}, <<: {c: 1}}", NULL,
	  "p.yaml:1:17: a: a second \"<<\": merge several maps with <<: [*one, *two]" },
	{ "a: &x {b: *x}", NULL,
	  "p.yaml:1:11: a: the alias *x stands inside its own anchor: a value cannot contain "
	  "itself" },
	{ "a: &x {b: {<<: *x}}", NULL,
	  "p.yaml:1:16: a.b: the alias *x stands inside its own anchor: a value cannot contain "
	  "itself" },
	{ "a: &x [1]\nb: {<<: *x}", NULL,
	  "p.yaml:1:8: b: \"<<\" merges a string: it takes a map or a list of maps" },
	{ "a: {<<: 3}", NULL,
	  "p.yaml:1:9: a: \"<<\" merges a string: it takes a map or a list of maps" },
	{ "a: *y", NULL,
	  "p.yaml:1:4: no anchor &y before this alias: put it on the value that is meant" },
	{ "y: &fit 1\na: *fti", NULL,
	  "p.yaml:2:4: no anchor &fti before this alias: did you mean *fit?" },
	{ "a: 1\n---\nb: 2", NULL,
	  "p.yaml:2:1: a second document begins here: one file holds one document" },
	{ "a: {? [x] : 1}", NULL, "p.yaml:1:7: a: a key is a list: keys must be strings" },
	{ "a: &x b\n*x : 1", NULL, "p.yaml:2:1: a key is an alias: keys must be strings" },
	{ "~: 1", NULL, "p.yaml:1:1: a key is nothing: keys must be strings" },
	{ "a: !foo 1", NULL, "p.yaml:1:4: the tag \"!foo\" means nothing here: leave it out" },
	{ "a: \"x\\0y\"", NULL, "p.yaml:1:4: a string with a NUL (\\0) in it: leave it out" },
	{ "b: 1\na: \xff", NULL, "p.yaml:2:4: byte 0xff is not UTF-8: save the file as UTF-8" },
	{ "a: \xc0\x80", NULL, "p.yaml:1:4: byte 0xc0 is not UTF-8: save the file as UTF-8" },
	{ "a: \xed\xa0\x80", NULL, "p.yaml:1:4: byte 0xed is not UTF-8: save the file as UTF-8" },
	{ "\xc3\xa9: \x1b", NULL,
	  "p.yaml:1:4: control character 0x1b: YAML is text, take it out" },
	{ "a:\n\t- b", NULL,
	  "p.yaml:2:1: not valid YAML: found character that cannot start any token while scanning "
	  "for the next token: indent with spaces, not tabs" },
	{ "a: [1, 2", NULL,
	  "p.yaml:2:1: not valid YAML: did not find expected ',' or ']' while parsing a flow "
	  "sequence: is a comma or a closing bracket missing?" },
	{ "a: @x", NULL,
	  "p.yaml:1:4: not valid YAML: found character that cannot start any token while scanning "
	  "for the next token: quote a value that begins with @, ` or %" },
	{ "a: [1,2]", "a[2]=1", "--set a[2]=1: the list a has 2 items: its last is [1]" },
	{ "a: []", "a[0]=1",
	  "--set a[0]=1: the list a is empty: set it as a whole, like a=[...]" },
	{ "a: [1]", "a.x=1", "--set a.x=1: a is a list: it has no key \"x\"" },
	{ "a: {b: 1}", "a.b.x=1", "--set a.b.x=1: a.b is a string: it has no key \"x\"" },
	{ "a: 1", "b[0]=1", "--set b[0]=1: b is nothing: it has no items" },
	{ "a: 1", "x", "--set x: not a setting: write it like steps[0].lr=2e-5" },
	{ "a: 1", "=x", "--set =x: not a setting: write it like steps[0].lr=2e-5" },
	{ "a: 1", "b..c=1", "--set b..c=1: not a setting: write it like steps[0].lr=2e-5" },
	{ "a: [1]", "a[-1]=1", "--set a[-1]=1: not a setting: write it like steps[0].lr=2e-5" },
	{ "a: 1", "b={x: ${Y}}",
	  "--set b={x: ${Y}}: an unquoted ${Y} ends at its brace in flow style: quote the value, "
	  "as in \"${Y}\"" },
	{ "a: 1", "a.b[0",
	  "--set a.b[0: a is a string: it has no key \"b\"" },
	{ "a: 1", "b=\"${QAT_NONE}\"",
	  "--set b=\"${QAT_NONE}\": b: the environment variable QAT_NONE is not set: export "
	  "QAT_NONE=..., or give a default with \"${QAT_NONE:-...}\"" },
};

static void ck_refused(const char *text, size_t length, const char *set, const char *message)
{
	qat_yaml *doc = NULL;

	ck_assert_int_eq(qat_yaml_parse(&doc, text, (int64_t)length, "p.yaml", &set, set ? 1 : 0),
			 QAT_EINVAL);
	ck_assert_ptr_null(doc);
	ck_assert_str_eq(qat_error(), message);
}

START_TEST(refusal)
{
	ck_refused(refusals[_i].text, strlen(refusals[_i].text), refusals[_i].set,
		   refusals[_i].message);
}
END_TEST

/* `n` times a text, between two others. */
static char *repeated(const char *before, const char *text, int n, const char *after)
{
	char *all = NULL;
	size_t size;
	FILE *f = open_memstream(&all, &size);

	fputs(before, f);
	while (n--)
		fputs(text, f);
	fputs(after, f);
	fclose(f);
	return all;
}

static const struct { const char *before, *text; int n; const char *after, *message; } floods[] = {
	{ "", "[", 5000, "", "p.yaml:1:65: [0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]"
	  "[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]"
	  "[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: nested more than 64 deep" },
	{ "a: ", "x", 70000, "",
	  "p.yaml:1:4: a string of 70000 bytes: at most 65536 are read" },
	{ "# ", "x", 5 << 20, "",
	  "p.yaml: larger than 4194304 bytes: no pipeline is that long" },
	{ "[", "1,", 40000, "]",
	  "p.yaml:1:40000: the document has more than 20000 values, with its aliases and merges "
	  "expanded: make it smaller" },
	{ "[", "&a 1,", 2000, "]", "p.yaml:1:5122: more than 1024 anchors" },
	{ "a: \"", "${QAT_LONG}", 2000, "\"",
	  "p.yaml:1:4: a: a string of more than 65536 bytes once its variables are expanded" },
};

START_TEST(flood)
{
	char *text = repeated(floods[_i].before, floods[_i].text, floods[_i].n, floods[_i].after);

	ck_refused(text, strlen(text), NULL, floods[_i].message);
	free(text);
}
END_TEST

START_TEST(too_many_keys)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	for (int i = 0; i < 5000; i++)
		fprintf(f, "k%d: 1\n", i);
	fclose(f);
	ck_refused(text, size, NULL, "p.yaml:1025:1: more than 1024 keys in one map");
	free(text);
}
END_TEST

/* Each line ten times the one before: by aliases, and by merges that add nothing. */
START_TEST(billion_laughs)
{
	static const char *const forms[] = {
		"a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n",
		"a%d: &a%d {<<: [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]}\n",
	};
	const char *set = _i == 2 ? "a29.x.y=1" : NULL;
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	qat_yaml *doc = NULL;

	fprintf(f, "a0: &a0 %s\n", _i ? "{k: 1}" : "[1]");
	for (int i = 1; i < 30; i++) {
		int b = i - 1;

		fprintf(f, forms[_i > 0], i, i, b, b, b, b, b, b, b, b, b, b);
	}
	fclose(f);
	ck_assert_int_eq(qat_yaml_parse(&doc, text, (int64_t)size, "p.yaml", &set, set ? 1 : 0),
			 QAT_EINVAL);
	ck_assert_ptr_nonnull(strstr(qat_error(), "more than 20000 values, with its aliases"));
	free(text);
}
END_TEST

START_TEST(nul_byte)
{
	ck_refused("a: b\0c", 6, NULL,
		   "p.yaml:1:5: control character 0x00: YAML is text, take it out");
}
END_TEST

/* Every prefix and every changed byte of a document ends well. */
START_TEST(mutations)
{
	static const char good[] = "a: &x {k: [1, \"${QAT_A}\"], l: 'm'}\nb: {<<: [*x], n: |\n  t\n}";
	char text[sizeof good];
	qat_yaml *doc;

	for (size_t n = 0; n < sizeof good - 1; n++) {
		for (int c = 0; c < 256; c++) {
			memcpy(text, good, sizeof good);
			text[n] = (char)c;
			doc = NULL;
			qat_yaml_parse(&doc, text, (int64_t)(c ? sizeof good - 1 : n), "p", NULL, 0);
			qat_yaml_free(doc);
		}
	}
}
END_TEST

START_TEST(places)
{
	qat_yaml *doc = parsed("a: &x {k: 1}\nsteps:\n- 1\n- b c: {warm.up: 2}\n- *x\n", "z=3");
	const qat_yaml_node *root = qat_yaml_root(doc), *steps = qat_yaml_get(root, "steps"), *n;

	ck_assert_int_eq(steps->count, 3);
	n = qat_yaml_get(qat_yaml_get(qat_yaml_at(steps, 1), "b c"), "warm.up");
	ck_assert_str_eq(qat_yaml_text(n), "2");
	ck_assert_str_eq(qat_yaml_where(n), "p.yaml:4:18");
	ck_assert_str_eq(qat_yaml_path(n), "steps[1].\"b c\".\"warm.up\"");
	n = qat_yaml_get(qat_yaml_at(steps, 2), "k");	/* stands at the anchor, is used here */
	ck_assert_str_eq(qat_yaml_where(n), "p.yaml:1:11");
	ck_assert_str_eq(qat_yaml_path(n), "steps[2].k");
	ck_assert_str_eq(qat_yaml_where(root->keys[1]), "p.yaml:2:1");
	ck_assert_str_eq(qat_yaml_path(root->keys[1]), "steps");
	ck_assert_str_eq(qat_yaml_where(qat_yaml_get(root, "z")), "--set z=3");
	ck_assert_str_eq(qat_yaml_path(root), "");
	ck_assert_ptr_null(qat_yaml_get(root, "k"));
	ck_assert_ptr_null(qat_yaml_at(steps, 3));
	ck_assert_ptr_null(qat_yaml_at(steps, -1));
	ck_assert_int_eq(qat_yaml_expect(steps, QAT_YAML_MAP), QAT_EINVAL);
	ck_assert_str_eq(qat_error(), "p.yaml:3:1: steps: this is a list: it must be a map");
	qat_yaml_free(doc);
}
END_TEST

START_TEST(building)
{
	qat_yaml *doc;
	qat_yaml_node *root, *list;

	ck_assert_int_eq(qat_yaml_new(&doc, "made"), QAT_OK);
	root = qat_yaml_root(doc);
	list = qat_yaml_seq_new(doc);
	ck_assert_int_eq(qat_yaml_map_set(root, "n", qat_yaml_scalar_new(doc, "%d", -5)), 0);
	ck_assert_int_eq(qat_yaml_map_set(root, "list", list), 0);
	ck_assert_int_eq(qat_yaml_seq_append(list, qat_yaml_scalar_new(doc, "a: b")), 0);
	ck_assert_int_eq(qat_yaml_seq_append(list, qat_yaml_null_new(doc)), 0);
	ck_assert_int_eq(qat_yaml_seq_append(list, qat_yaml_scalar_new(doc, "null")), 0);
	ck_assert_int_eq(qat_yaml_seq_append(list, qat_yaml_map_new(doc)), 0);
	ck_assert_int_eq(qat_yaml_map_set(root, "<<", qat_yaml_scalar_new(doc, "- -")), 0);
	ck_assert_int_eq(qat_yaml_map_set(root, "n", qat_yaml_scalar_new(doc, "x")), 0);
	ck_assert_int_eq(qat_yaml_text_set(list->items[0], "/data/${x}"), 0);
	ck_written(doc, "n: x\nlist:\n- \"/data/$${x}\"\n- null\n- \"null\"\n- {}\n"
		   "\"<<\": \"- -\"\n");
	ck_assert_int_eq(qat_yaml_fail(list->items[1], QAT_EINVAL, "x"), QAT_EINVAL);
	ck_assert_str_eq(qat_error(), "made: list[1]: x");
	ck_assert_int_eq(qat_yaml_seq_append(root, list), QAT_EINVAL);
	ck_assert_int_eq(qat_yaml_map_set(root, "k", NULL), QAT_ENOMEM);
	qat_yaml_free(doc);
	qat_yaml_free(NULL);
}
END_TEST

/* Texts that a careless writer would leave bare. */
START_TEST(hard_texts)
{
	static const char *const texts[] = {
		"", "~", "null", "- a", "-", "---", "...", "a: b", "a #b", "#", "[x", "{x", "*x",
		"&x", "!x", "|", ">", "@", "`", "'", "\"", "%", "?", "? x", ":", ",", " x", "x ",
		"a\nb", "\n", " \n x", "\t", "\\", "\xc2\x85", "\xe2\x80\xa8", "\xf0\x9f\x98\x80",
		"\x01", "\x7f", "${A}", "$${A}", "$", "<<", "=", "-1", "-x", "a-", "\r\n",
	};
	qat_yaml *doc, *again;
	char *text;

	ck_assert_int_eq(qat_yaml_new(&doc, "made"), QAT_OK);
	for (int i = 0; i < COUNT(texts); i++) {
		qat_yaml_node *value = qat_yaml_scalar_new(doc, "%s", texts[i]);

		ck_assert_int_eq(qat_yaml_map_set(qat_yaml_root(doc), "k", value), QAT_OK);
		text = written(qat_yaml_root(doc));
		again = parsed(text, NULL);
		value = qat_yaml_get(qat_yaml_root(again), "k");
		ck_assert_int_eq(value->type, QAT_YAML_SCALAR);
		ck_assert_str_eq(qat_yaml_text(value), texts[i]);
		qat_yaml_free(again);
		free(text);
	}
	ck_assert_int_eq(qat_yaml_text_set(qat_yaml_root(doc), "\xff"), QAT_OK);
	ck_assert_int_eq(qat_yaml_write(stdout, qat_yaml_root(doc)), QAT_EINVAL);
	qat_yaml_free(doc);
}
END_TEST

START_TEST(files)
{
	char path[] = "/tmp/qat-yaml-XXXXXX", message[128];
	const char *sets[] = { "a=2", "b=${QAT_A}" };
	int fd = mkstemp(path);
	FILE *f = fdopen(fd, "w");
	qat_yaml *doc = NULL;

	fputs("a: 1\n", f);
	fclose(f);
	ck_assert_int_eq(qat_yaml_load(&doc, path, sets, 2), QAT_OK);
	ck_written(doc, "a: 2\nb: a1\n");
	qat_yaml_free(doc);
	doc = NULL;
	remove(path);
	ck_assert_int_eq(qat_yaml_load(&doc, path, NULL, 0), QAT_ENOTFOUND);
	snprintf(message, sizeof message, "%s: cannot open: No such file or directory", path);
	ck_assert_str_eq(qat_error(), message);
	ck_assert_int_eq(qat_yaml_load(&doc, "/tmp", NULL, 0), QAT_EIO);
	ck_assert_str_eq(qat_error(), "/tmp: cannot read: Is a directory");
	ck_assert_ptr_null(doc);
}
END_TEST

START_TEST(full_disk)
{
	qat_yaml *doc = parsed("a: 1", NULL);
	FILE *f = fopen("/dev/full", "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(qat_yaml_write(f, qat_yaml_root(doc)), QAT_EIO);
	ck_assert_str_eq(qat_error(), "cannot write YAML: No space left on device");
	fclose(f);
	qat_yaml_free(doc);
}
END_TEST

static void set_variables(void)
{
	char text[512];

	memset(text, 'y', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	setenv("QAT_LONG", text, 1);
	setenv("QAT_A", "a1", 1);
	setenv("QAT_EMPTY", "", 1);
	setenv("QAT_BRACE", "${QAT_A}", 1);
	setenv("QAT_BINARY", "\xff", 1);
	unsetenv("QAT_NONE");
}

int main(void)
{
	const TTest *const single[] = {
		too_many_keys, nul_byte, mutations, places, building, hard_texts, files,
		full_disk,
	};
	Suite *suite = suite_create("yaml");
	TCase *c = tcase_create("yaml");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_unchecked_fixture(c, set_variables, NULL);
	tcase_set_timeout(c, 60);
	for (int i = 0; i < COUNT(single); i++)
		tcase_add_test(c, single[i]);
	tcase_add_loop_test(c, document, 0, COUNT(documents));
	tcase_add_loop_test(c, refusal, 0, COUNT(refusals));
	tcase_add_loop_test(c, flood, 0, COUNT(floods));
	tcase_add_loop_test(c, billion_laughs, 0, 3);
	suite_add_tcase(suite, c);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
