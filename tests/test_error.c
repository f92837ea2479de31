/* test_error.c - the message of a failure, and what the log shows. */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"

START_TEST(messages)
{
	char long_text[2000];

	memset(long_text, 'x', sizeof long_text - 1);
	long_text[sizeof long_text - 1] = '\0';
	ck_assert_int_eq(qat_fail(QAT_EIO, "%s", long_text), QAT_EIO);
	ck_assert_uint_eq(strlen(qat_error()), QAT_MESSAGE_MAX - 1);
	ck_assert_str_eq(qat_error() + QAT_MESSAGE_MAX - 5, "x...");
	qat_fail(QAT_EIO, "cause");
	qat_fail(QAT_EIO, "place: %s", qat_error());	/* the argument is the message itself */
	ck_assert_str_eq(qat_error(), "place: cause");
}
END_TEST

/* Half of a two-byte character is not left before the dots. */
START_TEST(cut_between_characters)
{
	char text[1200];

	for (size_t i = 0; i + 1 < sizeof text; i += 2)
		memcpy(text + i, "\xc3\xa9", 2);
	text[sizeof text - 2] = '\0';
	qat_fail(QAT_EIO, "x%s", text);
	ck_assert_str_eq(qat_error() + strlen(qat_error()) - 5, "\xc3\xa9...");
	qat_fail(QAT_EIO, "%s", text);
	ck_assert_str_eq(qat_error() + strlen(qat_error()) - 5, "\xc3\xa9...");
}
END_TEST

/* What a file has for a name is shown on a line of a terminal. */
START_TEST(no_control_characters)
{
	static const struct { const char *name, *shown; } table[] = {
		{ "a\nqat-run: b", "a?qat-run: b" }, { "\033[31m\t\r\177", "?[31m???" },
		{ "\xc3\xa9\xe2\x82\xac", "\xc3\xa9\xe2\x82\xac" }, { "\xc2\x9b" "1m", "??1m" },
		{ "\xc2\x85", "??" }, { "\xff\xc3x", "??x" }, { "\xe2\x82", "??" },
	};

	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		qat_fail(QAT_EIO, "%s", table[i].name);
		ck_assert_str_eq(qat_error(), table[i].shown);
	}
}
END_TEST

static void *other_thread(void *message)
{
	if (!*qat_error())
		qat_fail(QAT_EIO, "%s", (const char *)message);
	return NULL;
}

START_TEST(one_message_a_thread)
{
	pthread_t t;

	qat_fail(QAT_EIO, "mine");
	ck_assert_int_eq(pthread_create(&t, NULL, other_thread, "other"), 0);
	pthread_join(t, NULL);
	ck_assert_str_eq(qat_error(), "mine");
}
END_TEST

static void clear_line(void)
{
	fputs("<", stderr);
}

START_TEST(log_lines)
{
	FILE *f = tmpfile();
	char text[64] = "";
	int kept = dup(2);

	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(kept, 0);
	dup2(fileno(f), 2);
	qat_log(QAT_LOG_DEBUG, "not shown");
	qat_log(QAT_LOG_INFO, "step %d", 1);
	qat_log_hook(clear_line);
	qat_log(QAT_LOG_WARN, "two");
	qat_log(QAT_LOG_DEBUG, "not shown, nothing cleared");
	qat_log_hook(NULL);
	ck_assert_int_eq(qat_log_level(0), QAT_LOG_INFO);
	qat_log(QAT_LOG_WARN, "silent");
	qat_log_level(QAT_LOG_DEBUG);
	qat_log(QAT_LOG_DEBUG, "three");
	dup2(kept, 2);
	close(kept);
	rewind(f);
	text[fread(text, 1, sizeof text - 1, f)] = '\0';
	fclose(f);
	ck_assert_str_eq(text, "step 1\n<two\nthree\n");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("error");
	TCase *c = tcase_create("error");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_test(c, messages);
	tcase_add_test(c, cut_between_characters);
	tcase_add_test(c, no_control_characters);
	tcase_add_test(c, one_message_a_thread);
	tcase_add_test(c, log_lines);
	suite_add_tcase(suite, c);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
