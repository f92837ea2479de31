/* test_yaml_read.c - scalars and lists of a document as C values. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "yaml_tree.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static qat_yaml *parsed(const char *text)
{
	qat_yaml *doc = NULL;
	int rc = qat_yaml_parse(&doc, text, (int64_t)strlen(text), "p.yaml", NULL, 0);

	ck_assert_msg(rc == QAT_OK, "%s", qat_error());
	return doc;
}

enum { INT = 1, SIZE, BOOL };

/* A reader's number, or its message after "p.yaml:1:4: a: ". */
static const struct {
	const char *text;
	int reader;
	int64_t value;
	const char *message;
} whole[] = {
	{ "1_000", INT, 1000, NULL },
	{ "-1_0", INT, -10, NULL },
	{ "+7", INT, 7, NULL },
	{ "0", INT, 0, NULL },
	{ "\"12\"", INT, 12, NULL },
	{ "9223372036854775807", INT, INT64_MAX, NULL },
	{ "9223372036854775808", INT, 0,
	  "9223372036854775808 is out of range: it must be at least -1000" },
	{ "-1001", INT, 0, "-1001 is out of range: it must be at least -1000" },
	{ "010", INT, 0, "\"010\" is not an integer: write it like 200 or 1_000" },
	{ "1e3", INT, 0, "\"1e3\" is not an integer: write it like 200 or 1_000" },
	{ "_1", INT, 0, "\"_1\" is not an integer: write it like 200 or 1_000" },
	{ "1_", INT, 0, "\"1_\" is not an integer: write it like 200 or 1_000" },
	{ "1__0", INT, 0, "\"1__0\" is not an integer: write it like 200 or 1_000" },
	{ "0x10", INT, 0, "\"0x10\" is not an integer: write it like 200 or 1_000" },
	{ "''", INT, 0, "\"\" is not an integer: write it like 200 or 1_000" },
	{ "[1]", INT, 0, "a list is not an integer: write it like 200 or 1_000" },
	{ "~", INT, 0, "nothing is not an integer: write it like 200 or 1_000" },
	{ "4096", SIZE, 4096, NULL },
	{ "6GiB", SIZE, 6442450944, NULL },
	{ "1.5KiB", SIZE, 1536, NULL },
	{ "2K", SIZE, 2000, NULL },
	{ "500M", SIZE, 500000000, NULL },
	{ "1 GB", SIZE, 1000000000, NULL },
	{ "0.1KiB", SIZE, 102, NULL },		/* 102.4 */
	{ "8388606TiB", SIZE, 8388606 * (1LL << 40), NULL },
	{ "8388608TiB", SIZE, 0, "\"8388608TiB\" is not a size: it is too large" },
	{ "-1", SIZE, 0, "\"-1\" is not a size: write it like 6GiB, 500M or 4096" },
	{ "6gb", SIZE, 0, "\"6gb\" is not a size: write it like 6GiB, 500M or 4096" },
	{ "GiB", SIZE, 0, "\"GiB\" is not a size: write it like 6GiB, 500M or 4096" },
	{ "true", BOOL, 1, NULL },
	{ "false", BOOL, 0, NULL },
	{ "yes", BOOL, 0, "\"yes\" is not a boolean: write true or false" },
	{ "True", BOOL, 0, "\"True\" is not a boolean: write true or false" },
	{ "1", BOOL, 0, "\"1\" is not a boolean: write true or false" },
};

static void ck_message(int rc, const char *message)
{
	static const char place[] = "p.yaml:1:4: a: ";

	ck_assert_int_eq(rc, QAT_EINVAL);
	ck_assert_int_eq(strncmp(qat_error(), place, strlen(place)), 0);
	ck_assert_str_eq(qat_error() + strlen(place), message);
}

static qat_yaml *value_of_a(const qat_yaml_node **out, const char *text)
{
	char line[256];
	qat_yaml *doc;

	snprintf(line, sizeof line, "a: %s", text);
	doc = parsed(line);
	*out = qat_yaml_get(qat_yaml_root(doc), "a");
	return doc;
}

START_TEST(whole_numbers)
{
	const qat_yaml_node *a;
	qat_yaml *doc = value_of_a(&a, whole[_i].text);
	int64_t value = 77;
	int rc = whole[_i].reader == INT ? qat_yaml_int(&value, a, -1000, INT64_MAX) :
		whole[_i].reader == SIZE ? qat_yaml_size(&value, a) : qat_yaml_bool(&value, a);

	if (whole[_i].message) {
		ck_message(rc, whole[_i].message);
		ck_assert_int_eq(value, 77);
	} else {
		ck_assert_msg(rc == QAT_OK, "%s", qat_error());
		ck_assert_int_eq(value, whole[_i].value);
	}
	qat_yaml_free(doc);
}
END_TEST

static const struct { const char *text; int special; double value; const char *message; } real[] = {
	{ "2e-5", 0, 2e-5, NULL },
	{ "1_000.5", 0, 1000.5, NULL },
	{ "-3", 0, -3, NULL },
	{ ".5", 0, 0.5, NULL },
	{ "5.", 0, 5, NULL },
	{ "0.1", 0, 0.1, NULL },
	{ "1E+2", 0, 100, NULL },
	{ ".inf", 1, INFINITY, NULL },
	{ "-.inf", 1, 0, "-.inf is out of range: it must be at least -3" },
	{ "-3.5", 0, 0, "-3.5 is out of range: it must be at least -3" },
	{ ".inf", 0, 0, "\".inf\" is not a finite number: write one like 2e-5 or 1_000.5" },
	{ "nan", 0, 0, "\"nan\" is not a finite number: write one like 2e-5 or 1_000.5" },
	{ "1e999", 1, 0, "\"1e999\" is not a finite number: it is too large for a double" },
	{ "1,5", 0, 0, "\"1,5\" is not a number: write one like 2e-5 or 1_000.5" },
	{ "00.5", 0, 0, "\"00.5\" is not a number: write one like 2e-5 or 1_000.5" },
	{ "0x1p3", 0, 0, "\"0x1p3\" is not a number: write one like 2e-5 or 1_000.5" },
	{ ".", 0, 0, "\".\" is not a number: write one like 2e-5 or 1_000.5" },
	{ "1e", 0, 0, "\"1e\" is not a number: write one like 2e-5 or 1_000.5" },
	{ "{}", 0, 0, "a map is not a number: write one like 2e-5 or 1_000.5" },
	{ "1e5 x", 0, 0, "\"1e5 x\" is not a number: write one like 2e-5 or 1_000.5" },
};

START_TEST(real_numbers)
{
	const qat_yaml_node *a;
	qat_yaml *doc = value_of_a(&a, real[_i].text);
	double value = 77;
	int rc = qat_yaml_float(&value, a, -3, INFINITY, real[_i].special);

	if (real[_i].message) {
		ck_message(rc, real[_i].message);
		ck_assert(value == 77);
	} else {
		ck_assert_msg(rc == QAT_OK, "%s", qat_error());
		ck_assert(value == real[_i].value);
	}
	qat_yaml_free(doc);
}
END_TEST

START_TEST(not_a_number)
{
	const qat_yaml_node *a;
	qat_yaml *doc = value_of_a(&a, ".nan");
	double value = 0;

	ck_assert_int_eq(qat_yaml_float(&value, a, 0, 1, 1), QAT_OK);
	ck_assert(isnan(value));
	qat_yaml_free(doc);
}
END_TEST

START_TEST(lists)
{
	qat_yaml *doc = parsed("i: [2, 4]\nf: [0.9, 1]\ns: [x, '2']\none: y\nbad: [1, x]\nm: {}");
	const qat_yaml_node *root = qat_yaml_root(doc);
	qat_ints i;
	qat_floats f;
	qat_strings s;

	ck_assert_int_eq(qat_yaml_ints(&i, qat_yaml_get(root, "i"), 0, 9), QAT_OK);
	ck_assert(i.count == 2 && i.at[0] == 2 && i.at[1] == 4);
	ck_assert_int_eq(qat_yaml_floats(&f, qat_yaml_get(root, "f"), 0, 1), QAT_OK);
	ck_assert(f.count == 2 && f.at[0] == 0.9 && f.at[1] == 1);
	ck_assert_int_eq(qat_yaml_strings(&s, qat_yaml_get(root, "s")), QAT_OK);
	ck_assert(s.count == 2 && !strcmp(s.at[0], "x") && !strcmp(s.at[1], "2"));
	ck_assert_int_eq(qat_yaml_strings(&s, qat_yaml_get(root, "one")), QAT_OK);
	ck_assert(s.count == 1 && !strcmp(s.at[0], "y"));
	ck_assert_int_eq(qat_yaml_ints(&i, qat_yaml_get(root, "bad"), 0, 9), QAT_EINVAL);
	ck_assert_str_eq(qat_error(), "p.yaml:5:10: bad[1]: \"x\" is not an integer: write it "
			 "like 200 or 1_000");
	ck_assert_int_eq(qat_yaml_ints(&i, qat_yaml_get(root, "one"), 0, 9), QAT_EINVAL);
	ck_assert_str_eq(qat_error(), "p.yaml:4:6: one: \"y\" is not a list: write it like "
			 "[2, 4, 8]");
	ck_assert_int_eq(qat_yaml_strings(&s, qat_yaml_get(root, "m")), QAT_EINVAL);
	ck_assert_str_eq(qat_error(), "p.yaml:6:4: m: a map is not a list: write it like "
			 "[one, two]");
	ck_assert_int_eq(qat_yaml_ints(&i, qat_yaml_get(root, "i"), 4, 4), QAT_EINVAL);
	ck_assert_str_eq(qat_error(), "p.yaml:1:5: i[0]: 2 is out of range: it must be 4");
	ck_assert_int_eq(qat_yaml_floats(&f, qat_yaml_get(root, "f"), 0.5, 0.5), QAT_EINVAL);
	ck_assert_str_eq(qat_error(), "p.yaml:2:5: f[0]: 0.9 is out of range: it must be 0.5");
	qat_yaml_free(doc);
}
END_TEST

START_TEST(choices)
{
	static const char *const names[] = { "minmax", "percentile", "mse", NULL };
	const qat_yaml_node *a;
	qat_yaml *doc = value_of_a(&a, "mse");
	int64_t i = -1;

	ck_assert_int_eq(qat_yaml_choice(&i, a, names), QAT_OK);
	ck_assert_int_eq(i, 2);
	qat_yaml_free(doc);
	doc = value_of_a(&a, "min-max");
	ck_message(qat_yaml_choice(&i, a, names),
		   "unknown value \"min-max\": did you mean \"minmax\"?");
	qat_yaml_free(doc);
	doc = value_of_a(&a, "other");
	ck_message(qat_yaml_choice(&i, a, names),
		   "unknown value \"other\": it is one of minmax, percentile, mse");
	qat_yaml_free(doc);
}
END_TEST

/* What a terminal would act on is not shown. */
START_TEST(shown)
{
	const qat_yaml_node *a;
	qat_yaml *doc = value_of_a(&a, "\"\\e[31m\\x9b \xc3\xa9 and so on, until it is far too long a "
				   "line\"");

	ck_assert_str_eq(qat_yaml_shown(a), "?[31m?? \xc3\xa9 and so on, until it is far too lo...");
	qat_yaml_free(doc);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("yaml_read");
	TCase *c = tcase_create("yaml_read");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_loop_test(c, whole_numbers, 0, COUNT(whole));
	tcase_add_loop_test(c, real_numbers, 0, COUNT(real));
	tcase_add_test(c, not_a_number);
	tcase_add_test(c, lists);
	tcase_add_test(c, choices);
	tcase_add_test(c, shown);
	suite_add_tcase(suite, c);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
