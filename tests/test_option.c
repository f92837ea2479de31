/* test_option.c - a struct filled from YAML and from JSON, and its canonical text. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "option.h"

struct inner {
	int64_t warmup;
	const char *name;
};

struct all {
	int64_t flag, count, bytes, kind;
	double rate;
	const char *text, *path, *state;
	qat_ints ints;
	qat_floats floats;
	qat_strings strings, paths;
	struct inner schedule;
};

static const char *const kinds[] = { "minmax", "percentile", "ema", NULL };

static const qat_option inner_table[] = {
	QAT_INT(struct inner, warmup, 20, 0, 1000, "steps until the full rate"),
	QAT_OPTION(struct inner, QAT_OPT_STRING, name, "shape", .flags = QAT_OPT_REQUIRED),
	QAT_END
};

static const qat_option table[] = {
	QAT_BOOL(struct all, flag, 1, "a flag"),
	QAT_OPTION(struct all, QAT_OPT_INT, count, "columns", .def = 128, .min = 1, .max = 65536,
		   .alias = "group_size|rope.size"),
	QAT_OPTION(struct all, QAT_OPT_SIZE, bytes, "memory", .def = 4096),
	QAT_ENUM(struct all, kind, 1, kinds, "range"),
	QAT_FLOAT(struct all, rate, 2e-5, 0, 1, "learning rate"),
	QAT_STRING(struct all, text, "hello", "a text"),
	QAT_OPTION(struct all, QAT_OPT_PATH, path, "a file", .text = NULL),
	QAT_OPTION(struct all, QAT_OPT_STATE, state, "a state", .text = NULL),
	QAT_OPTION(struct all, QAT_OPT_INTS, ints, "widths", .text = "[2, 4, 8]", .min = 1,
		   .max = 8),
	QAT_OPTION(struct all, QAT_OPT_FLOATS, floats, "decays", .text = "[0.9, 0.999]", .min = 0,
		   .max = 1),
	QAT_OPTION(struct all, QAT_OPT_STRINGS, strings, "words", .text = "[a, b]"),
	QAT_OPTION(struct all, QAT_OPT_PATHS, paths, "files", .text = NULL),
	QAT_OPTION(struct all, QAT_OPT_TABLE, schedule, "of the rate", .table = inner_table),
	QAT_END
};

static qat_arena *arena;
static qat_yaml *doc;
static struct all got;

static void setup(void)
{
	ck_assert_int_eq(qat_arena_new(&arena), QAT_OK);
	doc = NULL;
	memset(&got, 0, sizeof got);
}

static void teardown(void)
{
	qat_yaml_free(doc);
	qat_arena_free(arena);
}

static int name_check(void *context, const qat_option *o, const qat_yaml_node *node)
{
	ck_assert_ptr_eq(context, &got);
	ck_assert_int_eq(o->type, QAT_OPT_STATE);
	if (!strcmp(qat_yaml_text(node), "base"))
		return QAT_OK;
	return qat_yaml_fail(node, QAT_EINVAL, "unknown state");
}

static int fill(const char *yaml)
{
	static const qat_option other[] = { { .name = "quantizer" }, QAT_END };
	qat_option_env env = {
		.arena = arena, .folder = "/data", .name = name_check, .context = &got
	};
	qat_option_source source = { .owner = "quantizer q", .other = other };

	ck_assert_int_eq(qat_yaml_parse(&doc, yaml, (int64_t)strlen(yaml), "t.yaml", NULL, 0),
			 QAT_OK);
	source.map = qat_yaml_root(doc);
	return qat_option_fill(&got, table, &source, &env);
}

START_TEST(defaults)
{
	ck_assert_int_eq(fill("{quantizer: q}"), QAT_OK);
	ck_assert_int_eq(got.flag, 1);
	ck_assert_int_eq(got.count, 128);
	ck_assert_int_eq(got.bytes, 4096);
	ck_assert_int_eq(got.kind, 1);
	ck_assert_double_eq(got.rate, 2e-5);
	ck_assert_str_eq(got.text, "hello");
	ck_assert_ptr_null(got.path);
	ck_assert_ptr_null(got.state);
	ck_assert_int_eq(got.ints.count, 3);
	ck_assert_int_eq(got.ints.at[2], 8);
	ck_assert_int_eq(got.floats.count, 2);
	ck_assert_double_eq(got.floats.at[1], 0.999);
	ck_assert_int_eq(got.strings.count, 2);
	ck_assert_str_eq(got.strings.at[1], "b");
	ck_assert_int_eq(got.paths.count, 0);
	ck_assert_int_eq(got.schedule.warmup, 20);	/* an absent table asks nothing */
	ck_assert_ptr_null(got.schedule.name);
}
END_TEST

START_TEST(every_type)
{
	ck_assert_int_eq(fill("flag: false\ncount: 1_000\nbytes: 6KiB\nkind: ema\nrate: 3e-1\n"
			      "text: 12\npath: a/b.txt\nstate: base\nints: [4]\nfloats: []\n"
			      "strings: one\npaths: [/abs, rel]\nschedule: {name: cosine}\n"),
			 QAT_OK);
	ck_assert_int_eq(got.flag, 0);
	ck_assert_int_eq(got.count, 1000);
	ck_assert_int_eq(got.bytes, 6144);
	ck_assert_int_eq(got.kind, 2);
	ck_assert_double_eq(got.rate, 0.3);
	ck_assert_str_eq(got.text, "12");
	ck_assert_str_eq(got.path, "/data/a/b.txt");
	ck_assert_str_eq(qat_yaml_text(qat_yaml_get(qat_yaml_root(doc), "path")), "/data/a/b.txt");
	ck_assert_str_eq(got.state, "base");
	ck_assert_int_eq(got.ints.count, 1);
	ck_assert_int_eq(got.floats.count, 0);
	ck_assert_int_eq(got.strings.count, 1);
	ck_assert_str_eq(got.strings.at[0], "one");
	ck_assert_str_eq(got.paths.at[0], "/abs");
	ck_assert_str_eq(got.paths.at[1], "/data/rel");
	ck_assert_str_eq(got.schedule.name, "cosine");
	ck_assert_int_eq(got.schedule.warmup, 20);
}
END_TEST

START_TEST(alias_and_null)
{
	ck_assert_int_eq(fill("{group_size: 32, rate: ~, ints: }"), QAT_OK);
	ck_assert_int_eq(got.count, 32);
	ck_assert_double_eq(got.rate, 2e-5);
	ck_assert_int_eq(got.ints.count, 3);
}
END_TEST

static const struct { const char *yaml, *message; } refused[] = {
	{ "{cuont: 3}",
	  "t.yaml:1:2: unknown option \"cuont\" of quantizer q: did you mean \"count\"?" },
	{ "{quantiser: 3}", "did you mean \"quantizer\"?" },
	{ "{zzz: 3}", "unknown option \"zzz\" of quantizer q: it has flag, count, bytes, kind" },
	{ "{schedule: {name: x, wramup: 1}}",
	  "t.yaml:1:22: unknown option \"wramup\" of schedule: did you mean \"warmup\"?" },
	{ "{schedule: {warmup: 1}}", "lacks \"name\"" },
	{ "{schedule: 3}", "t.yaml:1:12: schedule: " },
	{ "{count: 1, group_size: 2}", "mean the same" },
	{ "{count: 0}", "out of range" },
	{ "{count: 65537}", "out of range" },
	{ "{count: 1.5}", "not an integer" },
	{ "{count: [1]}", "not an integer" },
	{ "{rate: 1.5}", "out of range" },
	{ "{rate: .nan}", "not a finite number" },
	{ "{flag: yes}", "write true or false" },
	{ "{kind: percentil}", "did you mean \"percentile\"?" },
	{ "{kind: zzz}", "it is one of minmax, percentile, ema" },
	{ "{ints: [9]}", "t.yaml:1:9: ints[0]: 9 is out of range" },
	{ "{ints: 3}", "not a list" },
	{ "{floats: [0.5, x]}", "floats[1]: \"x\" is not a number" },
	{ "{strings: [[a]]}", "strings[0]" },
	{ "{path: ''}", "empty path" },
	{ "{state: bse}", "t.yaml:1:9: state: unknown state" },
	{ "{bytes: 3X}", "write it like 6GiB" },
};

START_TEST(refuse)
{
	ck_assert_int_eq(fill(refused[_i].yaml), QAT_EINVAL);
	ck_assert_msg(strstr(qat_error(), refused[_i].message) != NULL, "%s", qat_error());
}
END_TEST

/* --- JSON --- */

static int fill_json(const char *text)
{
	qat_option_env env = { .arena = arena, .folder = "/data" };
	json_t *object = json_loads(text, 0, NULL);
	int rc;

	ck_assert_ptr_nonnull(object);
	rc = qat_option_fill_json(&got, table, object, "config.json", &env);
	json_decref(object);
	return rc;
}

START_TEST(json)
{
	ck_assert_int_eq(fill_json("{\"unknown\": 1, \"rope\": {\"size\": 64}, \"rate\": 1,"
				   "\"flag\": false, \"kind\": \"ema\", \"text\": null,"
				   "\"ints\": 2, \"strings\": [\"x\"], \"floats\": [1, 0.5],"
				   "\"schedule\": {\"name\": \"cosine\"}}"), QAT_OK);
	ck_assert_int_eq(got.count, 64);
	ck_assert_double_eq(got.rate, 1);
	ck_assert_int_eq(got.flag, 0);
	ck_assert_int_eq(got.kind, 2);
	ck_assert_str_eq(got.text, "hello");
	ck_assert_int_eq(got.ints.count, 1);
	ck_assert_int_eq(got.ints.at[0], 2);
	ck_assert_str_eq(got.strings.at[0], "x");
	ck_assert_double_eq(got.floats.at[0], 1);
	ck_assert_str_eq(got.schedule.name, "cosine");
	ck_assert_int_eq(got.schedule.warmup, 20);
}
END_TEST

START_TEST(json_name_goes_first)
{
	ck_assert_int_eq(fill_json("{\"rope\": {\"size\": 64}, \"group_size\": 3, \"count\": 32}"),
			 QAT_OK);
	ck_assert_int_eq(got.count, 32);
	ck_assert_int_eq(fill_json("{\"rope\": {\"size\": 64}, \"count\": null}"), QAT_OK);
	ck_assert_int_eq(got.count, 64);
	ck_assert_int_eq(fill_json("{\"rope\": null, \"count\": 7.0}"), QAT_OK);
	ck_assert_int_eq(got.count, 7);
}
END_TEST

static const struct { const char *json, *message; } json_refused[] = {
	{ "{\"count\": 0}", "config.json: count: 0 is out of range: 1 to 65536" },
	{ "{\"count\": \"7\"}", "config.json: count: not an integer" },
	{ "{\"count\": 7.5}", "config.json: count: not an integer" },
	{ "{\"count\": 1e300}", "config.json: count: not an integer" },
	{ "{\"rate\": true}", "config.json: rate: not a number" },
	{ "{\"rate\": 2}", "config.json: rate: 2 is out of range" },
	{ "{\"flag\": 1}", "config.json: flag: not true or false" },
	{ "{\"kind\": \"gelu\"}", "config.json: kind: unknown value \"gelu\": it is one of" },
	{ "{\"ints\": [9]}", "config.json: ints: 9 is out of range" },
	{ "{\"schedule\": {}}", "config.json: schedule: lacks \"name\"" },
	{ "{\"schedule\": 3}", "config.json: schedule: not an object" },
};

START_TEST(json_refuse)
{
	ck_assert_int_lt(fill_json(json_refused[_i].json), 0);
	ck_assert_msg(strstr(qat_error(), json_refused[_i].message) != NULL, "%s", qat_error());
}
END_TEST

/* --- the reverse --- */

START_TEST(text)
{
	static const char expected[] =
		"bytes=4096\ncount=32\nflag=1\nfloats=[0.90000000000000002, 0.999]\n"
		"ints=[2, 4, 8]\nkind=percentile\npath=~\npaths=[]\n"
		"rate=2.0000000000000002e-05\nschedule.name=~\nschedule.warmup=20\nstate=~\n"
		"strings=[\"a\", \"b\"]\ntext=\"a\\\"b\\nc=d\"\n";
	char *out = NULL;

	ck_assert_int_eq(fill("{count: 32, text: \"a\\\"b\\nc=d\"}"), QAT_OK);
	ck_assert_int_eq(qat_option_text(&out, table, &got), QAT_OK);
	ck_assert_str_eq(out, expected);
	free(out);
	ck_assert_int_eq(qat_option_text(&out, NULL, NULL), QAT_OK);
	ck_assert_str_eq(out, "");
	free(out);
}
END_TEST

START_TEST(help)
{
	char *out = NULL;
	size_t bytes;
	FILE *f = open_memstream(&out, &bytes);

	ck_assert_int_eq(qat_option_help(f, table), QAT_OK);
	fclose(f);
	ck_assert_ptr_nonnull(strstr(out, "  count            integer, 1 to 65536"));
	ck_assert_ptr_nonnull(strstr(out, "minmax | percentile | ema"));
	ck_assert_ptr_nonnull(strstr(out, "  schedule.name    text "));
	ck_assert_ptr_nonnull(strstr(out, "required"));
	free(out);
}
END_TEST

/* --- tables that must not be used --- */

static const struct { qat_option option[3]; const char *message; } tables[] = {
	{ { { .name = "x", .help = "", .type = QAT_OPT_INT, .offset = 16 } },
	  "outside its struct" },
	{ { { .name = "x", .help = "", .type = QAT_OPT_INT, .offset = UINT64_MAX } },
	  "outside its struct" },
	{ { { .name = "x", .help = "", .type = QAT_OPT_STRINGS, .offset = 8 } },
	  "outside its struct" },
	{ { { .name = "x", .help = "", .type = QAT_OPT_INT, .offset = 4 } }, "outside its struct" },
	{ { { .name = "x", .help = "", .type = 99 } }, "type 99" },
	{ { { .name = "x", .type = QAT_OPT_INT } }, "no help" },
	{ { { .name = "x", .help = "", .type = QAT_OPT_ENUM } }, "no choice" },
	{ { { .name = "x", .help = "", .type = QAT_OPT_ENUM, .choices = kinds, .def = 3 } },
	  "no choice" },
	{ { { .name = "x", .help = "", .type = QAT_OPT_FLOAT, .min = 2, .max = 1 } }, "range" },
	{ { { .name = "x", .help = "", .type = QAT_OPT_FLOAT, .def = NAN } }, "range" },
	{ { { .name = "x", .help = "", .type = QAT_OPT_PLUGIN } }, "which kind" },
	{ { { .name = "x", .help = "", .type = QAT_OPT_INT, .flags = QAT_OPT_BY_ALIAS } },
	  "by its alias" },
	{ { { .name = "x", .help = "", .type = QAT_OPT_INTS, .flags = QAT_OPT_BY_ALIAS,
	      .alias = "a.b" } }, "by its alias" },
	{ { { .name = "x", .help = "", .type = QAT_OPT_TABLE } }, "outside its struct" },
	{ { { .name = "x", .help = "", .type = QAT_OPT_TABLE, .table = inner_table, .offset = 8 } },
	  "outside its struct" },
	{ { { .name = "x", .help = "", .type = QAT_OPT_INT },
	    { .name = "x", .help = "", .type = QAT_OPT_INT } }, "two options" },
};

START_TEST(bad_table)
{
	ck_assert_int_eq(qat_option_check(tables[_i].option, 16), QAT_EABI);
	ck_assert_msg(strstr(qat_error(), tables[_i].message) != NULL, "%s", qat_error());
}
END_TEST

START_TEST(good_table)
{
	ck_assert_int_eq(qat_option_check(table, sizeof(struct all)), QAT_OK);
	ck_assert_int_eq(qat_option_check(NULL, 0), QAT_OK);
	ck_assert_int_eq(qat_option_check(table, sizeof(struct all) - 8), QAT_EABI);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("option");
	TCase *c = tcase_create("option");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, defaults);
	tcase_add_test(c, every_type);
	tcase_add_test(c, alias_and_null);
	tcase_add_loop_test(c, refuse, 0, sizeof refused / sizeof *refused);
	tcase_add_test(c, json);
	tcase_add_test(c, json_name_goes_first);
	tcase_add_loop_test(c, json_refuse, 0, sizeof json_refused / sizeof *json_refused);
	tcase_add_test(c, text);
	tcase_add_test(c, help);
	tcase_add_loop_test(c, bad_table, 0, sizeof tables / sizeof *tables);
	tcase_add_test(c, good_table);
	suite_add_tcase(suite, c);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
