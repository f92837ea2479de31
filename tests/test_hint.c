/* test_hint.c - which name is near, and which is not. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "hint.h"

static const char *const names[] = {
	"group_size", "granularity", "range", "lr", "weight_decay", "accumulate", "w4", "clip",
	"temperature", "weight",
};

static const struct { const char *word, *near; } table[] = {
	{ "groupsize", "group_size" },		/* left out */
	{ "group-size", "group_size" },		/* folded */
	{ "Range", "range" },
	{ "rnage", "range" },			/* swapped */
	{ "w44", "w4" },			/* put in */
	{ "lt", "lr" },				/* replaced */
	{ "weight_deacy", "weight_decay" },
	{ "wieght", "weight" },
	{ "accum", "accumulate" },		/* the only one that starts so */
	{ "x", NULL },
	{ "", NULL },
	{ "rng", NULL },			/* two of five */
	{ "optimizer", NULL },
	{ "weigh", "weight" },			/* nearer than weight_decay */
	{ "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", NULL },
};

START_TEST(nearest)
{
	const char *near = qat_hint_nearest(table[_i].word, names, sizeof names / sizeof *names);

	if (table[_i].near)
		ck_assert_str_eq(near, table[_i].near);
	else
		ck_assert_ptr_null(near);
}
END_TEST

START_TEST(nothing_to_choose_from)
{
	ck_assert_ptr_null(qat_hint_nearest("range", NULL, 0));
}
END_TEST

START_TEST(first_of_equals)
{
	static const char *const two[] = { "cat", "car" };

	ck_assert_str_eq(qat_hint_nearest("cas", two, 2), "cat");
	ck_assert_str_eq(qat_hint_nearest("car", two, 2), "car");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("hint");
	TCase *c = tcase_create("hint");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_loop_test(c, nearest, 0, sizeof table / sizeof *table);
	tcase_add_test(c, nothing_to_choose_from);
	tcase_add_test(c, first_of_equals);
	suite_add_tcase(suite, c);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
