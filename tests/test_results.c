/* test_results.c - results.json, tables, events.jsonl, and the folder they lie in. */
#include "kinds.h"	/* first: check.h has a macro `fail` */

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "output.h"
#include "plugins/folder.h"
#include "progress.h"
#include "results.h"

static void setup(void)
{
	snprintf(folder, sizeof folder, "%s/qatrun-test.XXXXXX",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(folder));
}

static qat_results *results_new(void)
{
	qat_results *r = NULL;

	ck_assert_int_eq(qat_results_new(&r, test_path("results.json"), "toy", 7), QAT_OK);
	return r;
}

START_TEST(document)
{
	static const char *const keys[] = {
		"qatrun", "numerics", "name", "seed", "machine", "steps", "states", "evaluations",
		"comparisons"
	};
	qat_results *r = results_new();
	json_t *root, *row, *value;
	const char *key;
	qat_row *e;
	int n = 0;

	e = qat_results_row(r, "evaluations");
	qat_row_text(e, "state", "base");
	qat_row_text(e, "broken", "\xff\xfe");
	qat_row_int(e, "tokens", 1LL << 53);
	qat_row_number(e, "loss", 1.0 / 3);
	qat_row_number(e, "nan", NAN);
	qat_row_number(e, "inf", INFINITY);
	qat_row_int(qat_results_state(r, "base"), "bytes", 12);
	qat_row_text(qat_results_state(r, "base"), "parent", NULL);
	ck_assert_int_eq(qat_results_write(r), QAT_OK);
	qat_results_free(r);

	root = json_load_file(test_path("results.json"), 0, NULL);
	ck_assert_ptr_nonnull(root);
	json_object_foreach(root, key, value)
		ck_assert_str_eq(key, keys[n++]);
	ck_assert_int_eq(n, 9);
	ck_assert_int_eq(json_integer_value(json_object_get(root, "seed")), 7);
	row = json_array_get(json_object_get(root, "evaluations"), 0);
	ck_assert_int_eq(json_integer_value(json_object_get(row, "tokens")), 1LL << 53);
	ck_assert_double_eq(json_real_value(json_object_get(row, "loss")), 1.0 / 3);
	ck_assert(json_is_null(json_object_get(row, "nan")));
	ck_assert(json_is_null(json_object_get(row, "inf")));
	ck_assert(json_is_null(json_object_get(row, "broken")));
	row = json_object_get(json_object_get(root, "states"), "base");
	ck_assert_int_eq(json_integer_value(json_object_get(row, "bytes")), 12);
	ck_assert(json_is_null(json_object_get(row, "parent")));
	json_decref(root);
}
END_TEST

/* A file that cannot be written leaves the old one. */
START_TEST(atomic)
{
	qat_results *r = results_new();

	test_write("results.json", "old");
	ck_assert_int_eq(mkdir(test_path("results.json.new"), 0755), 0);
	ck_assert_int_eq(qat_results_write(r), QAT_EIO);
	ck_assert_int_eq(access(test_path("results.json"), F_OK), 0);
	ck_assert_int_eq(rmdir(test_path("results.json.new")), 0);
	ck_assert_int_eq(qat_results_write(r), QAT_OK);
	ck_assert_int_ne(access(test_path("results.json.new"), F_OK), 0);
	qat_results_free(r);
}
END_TEST

static char *printed(qat_results *r)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	ck_assert_int_eq(qat_results_print(r, f, "evaluations"), QAT_OK);
	fclose(f);
	return text;
}

START_TEST(table)
{
	qat_results *r = results_new();
	qat_row *e = qat_results_row(r, "evaluations");
	char *text;

	qat_row_text(e, "state", "b\xc3\xa9ta");
	qat_row_number(e, "loss", 3.66131);
	qat_row_int(e, "tokens", 32768);
	e = qat_results_row(r, "evaluations");
	qat_row_text(e, "state", "control");
	qat_row_number(e, "loss", 1234.56);
	qat_row_number(e, "rate", 2e-5);
	text = printed(r);
	ck_assert_str_eq(text,
		"state      loss  tokens   rate\n"
		"b\xc3\xa9ta     3.6613   32768      -\n"
		"control  1234.6       -  2e-05\n");
	free(text);
	text = printed(r);	/* nothing is said twice */
	ck_assert_str_eq(text, "");
	free(text);
	e = qat_results_row(r, "evaluations");
	qat_row_text(e, "state", "x");
	text = printed(r);
	ck_assert_str_eq(text, "state\nx\n");
	free(text);
	qat_results_free(r);
}
END_TEST

START_TEST(events)
{
	const qat_event_value values[] = {
		{ "task", "train", 0 }, { "optimizer_step", NULL, 12 }, { "loss", NULL, 2.5 },
		{ "lr", NULL, NAN }
	};
	const char *path = test_path("events.jsonl");
	qat_events *e = NULL;
	char line[512];
	json_t *object;
	FILE *f;

	ck_assert_int_eq(qat_events_new(&e, path), QAT_OK);
	qat_events_add(e, values, 4);
	qat_events_add(e, values, 1);
	f = fopen(path, "r");			/* it is there before the file is closed */
	ck_assert_ptr_nonnull(fgets(line, sizeof line, f));
	object = json_loads(line, 0, NULL);
	ck_assert_ptr_nonnull(object);
	ck_assert(json_number_value(json_object_get(object, "time")) > 1.6e9);
	ck_assert_str_eq(json_string_value(json_object_get(object, "task")), "train");
	ck_assert(json_is_integer(json_object_get(object, "optimizer_step")));
	ck_assert_double_eq(json_real_value(json_object_get(object, "loss")), 2.5);
	ck_assert(json_is_null(json_object_get(object, "lr")));
	json_decref(object);
	ck_assert_ptr_nonnull(fgets(line, sizeof line, f));
	ck_assert_ptr_null(fgets(line, sizeof line, f));
	fclose(f);
	qat_events_free(e);
	ck_assert_int_eq(qat_events_new(&e, test_path("no/events.jsonl")), QAT_EIO);
	ck_assert_int_eq(mkfifo(test_path("pipe"), 0600), 0);
	ck_assert_int_eq(qat_events_new(&e, test_path("pipe")), QAT_EIO);
	ck_assert_ptr_nonnull(strstr(qat_error(), "a pipe that nobody reads"));
}
END_TEST

/* --- the folder --- */

static int there(const char *name)
{
	return !access(test_path(name), F_OK);
}

static void store(const qat_output *o)
{
	static const char yaml[] = "{name: toy, a: [1, two]}";
	qat_yaml *doc = NULL;

	ck_assert_int_eq(qat_yaml_parse(&doc, yaml, sizeof yaml - 1, "t", NULL, 0), QAT_OK);
	ck_assert_int_eq(qat_output_store(o, qat_yaml_root(doc)), QAT_OK);
	qat_yaml_free(doc);
}

/* What lies beside the lock when a run is killed at once is nothing. */
START_TEST(stillborn)
{
	qat_output *o = NULL;

	ck_assert_int_eq(mkdir(test_path("run"), 0755), 0);
	test_write("run/lock", "1\n");
	test_write("run/pipeline.yaml.new", "qat");
	ck_assert_int_eq(qat_output_open(&o, test_path("run"), QAT_OUTPUT_GO_ON), QAT_OK);
	qat_output_close(o);
	ck_assert_int_eq(qat_output_open(&o, test_path("run"), QAT_OUTPUT_NEW), QAT_OK);
	store(o);
	qat_output_close(o);
	ck_assert_int_eq(qat_output_open(&o, test_path("run"), QAT_OUTPUT_GO_ON), QAT_OK);
	qat_output_close(o);
	ck_assert(there("run/pipeline.yaml"));
}
END_TEST

static int lines(const char *name)
{
	FILE *f = fopen(test_path(name), "r");
	int n = 0;

	ck_assert_ptr_nonnull(f);
	for (int c; (c = getc(f)) != EOF;)
		n += c == '\n';
	fclose(f);
	return n;
}

START_TEST(events_cut)
{
	const qat_event_value v = { "n", NULL, 1 };
	qat_events *e = NULL;
	int64_t mark = 0, more = 0;
	struct stat st;

	ck_assert_int_eq(qat_events_new(&e, test_path("cut.jsonl")), QAT_OK);
	qat_events_add(e, &v, 1);
	ck_assert_int_eq(qat_events_mark(e, &mark), QAT_OK);
	ck_assert_int_gt(mark, 0);
	qat_events_add(e, &v, 1);
	ck_assert_int_eq(qat_events_mark(e, &more), QAT_OK);
	ck_assert_int_gt(more, mark);
	ck_assert_int_eq(qat_events_cut(e, mark), QAT_OK);
	qat_events_add(e, &v, 1);	/* at the new end */
	ck_assert_int_eq(qat_events_mark(e, &more), QAT_OK);	/* its time may be written shorter */
	ck_assert_int_gt(more, mark);
	ck_assert_int_eq(stat(test_path("cut.jsonl"), &st), 0);
	ck_assert_int_eq(st.st_size, more);
	ck_assert_int_eq(lines("cut.jsonl"), 2);
	qat_log_level(0);
	ck_assert_int_eq(qat_events_cut(e, more + 100), QAT_OK);
	qat_log_level(QAT_LOG_INFO);
	ck_assert_int_eq(stat(test_path("cut.jsonl"), &st), 0);
	ck_assert_int_eq(st.st_size, more);
	qat_events_free(e);
}
END_TEST

static void refused(const char *name, int force, const char *why)
{
	qat_output *o = NULL;

	ck_assert_int_eq(qat_output_open(&o, test_path(name), force), QAT_EEXIST);
	ck_assert_ptr_null(o);
	ck_assert_msg(strstr(qat_error(), why) != NULL, "%s", qat_error());
}

START_TEST(output)
{
	qat_output *o = NULL;

	ck_assert_int_eq(qat_output_check(test_path("runs/a/b"), 0), QAT_OK);
	ck_assert(!there("runs"));
	ck_assert_msg(!qat_output_open(&o, test_path("runs/a/b"), 0), "%s", qat_error());
	ck_assert_str_eq(qat_output_path(o), test_path("runs/a/b"));
	ck_assert(there("runs/a/b/lock"));
	store(o);
	qat_output_close(o);
	ck_assert(!there("runs/a/b/lock"));
	ck_assert(there("runs/a/b/pipeline.yaml"));
	ck_assert_int_eq(qat_output_check(test_path("runs/a/b"), 0), QAT_EEXIST);
	refused("runs/a/b", 0, "is not empty: --force");
	ck_assert_int_eq(qat_output_check(test_path("runs/a/b"), 1), QAT_OK);
}
END_TEST

/* --force removes what a run made, and nothing else. */
START_TEST(force)
{
	qat_output *o = NULL;

	ck_assert_int_eq(qat_output_open(&o, test_path("run"), 0), QAT_OK);
	store(o);
	qat_output_close(o);
	test_write("run/results.json", "{}");
	test_write("run/events.jsonl", "");
	test_write("run/mine.txt", "");
	test_write("precious", "");
	ck_assert_int_eq(mkdir(test_path("run/states"), 0755), 0);
	ck_assert_int_eq(mkdir(test_path("run/states/ptq"), 0755), 0);
	test_write("run/states/ptq/weights", "");
	ck_assert_int_eq(mkdir(test_path("elsewhere"), 0755), 0);
	test_write("elsewhere/file", "");
	test_link("../../elsewhere", "run/states/link");
	ck_assert_msg(!qat_output_open(&o, test_path("run"), 1), "%s", qat_error());
	qat_output_close(o);
	ck_assert(!there("run/results.json"));
	ck_assert(!there("run/events.jsonl"));
	ck_assert(!there("run/pipeline.yaml"));
	ck_assert(!there("run/states"));
	ck_assert(there("run/mine.txt"));
	ck_assert(there("elsewhere/file"));	/* links are removed, not followed */
}
END_TEST

START_TEST(force_spares_others)
{
	ck_assert_int_eq(mkdir(test_path("work"), 0755), 0);
	test_write("work/pipeline.yaml", "qatrun: 1\n");
	ck_assert_int_eq(mkdir(test_path("work/states"), 0755), 0);
	refused("work", 1, "no run made it");
	ck_assert(there("work/pipeline.yaml"));
	ck_assert(there("work/states"));
	ck_assert(!there("work/lock"));
	test_write("file", "");
	ck_assert_int_eq(qat_output_check(test_path("file"), 1), QAT_EEXIST);
}
END_TEST

START_TEST(locked)
{
	qat_output *o = NULL;
	int fd[2], status;
	char why[64];
	pid_t child;

	ck_assert_int_eq(pipe(fd), 0);
	child = fork();
	if (!child) {
		if (!qat_output_open(&o, test_path("run"), 0) && write(fd[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	ck_assert_int_eq(read(fd[0], why, 1), 1);
	snprintf(why, sizeof why, "is in use by process %ld", (long)child);
	refused("run", 0, why);
	refused("run", 1, why);
	ck_assert(there("run/lock"));
	kill(child, SIGKILL);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(!qat_output_open(&o, test_path("run"), 0), "%s", qat_error());
	qat_output_close(o);
}
END_TEST

START_TEST(stop)
{
	pid_t child;
	int status;

	child = fork();
	if (!child) {
		qat_signals_catch();
		if (qat_stopped())
			_exit(1);
		raise(SIGTERM);
		if (!qat_stopped())
			_exit(2);
		raise(SIGTERM);		/* asks again, no more */
		raise(SIGINT);
		_exit(3);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 130);
}
END_TEST

/* --- progress --- */

START_TEST(progress)
{
	qat_progress p = { .size = sizeof p, .total = 10, .loss = NAN, .lr = NAN };

	qat_progress_begin("train qat", 1);
	ck_assert_double_eq(qat_progress_rate(), 0);
	qat_progress_show(&p);
	ck_assert_double_eq(qat_progress_rate(), 0);
	usleep(20000);
	p.done = 5;
	p.tokens = 1000;
	p.loss = 1e300;
	qat_progress_show(&p);
	ck_assert_double_gt(qat_progress_rate(), 0);
	ck_assert_double_lt(qat_progress_rate(), 1000 / 0.02 + 1);
	qat_progress_end();
	ck_assert_int_gt(qat_memory_now(), 0);
	ck_assert_int_ge(qat_memory_peak(), qat_memory_now() / 2);
	qat_memory_peak_reset();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("results");
	TCase *c = tcase_create("results");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(c, setup, test_folder_free);
	tcase_add_test(c, document);
	tcase_add_test(c, atomic);
	tcase_add_test(c, table);
	tcase_add_test(c, events);
	tcase_add_test(c, stillborn);
	tcase_add_test(c, events_cut);
	tcase_add_test(c, output);
	tcase_add_test(c, force);
	tcase_add_test(c, force_spares_others);
	tcase_add_test(c, locked);
	tcase_add_test(c, stop);
	tcase_add_test(c, progress);
	suite_add_tcase(suite, c);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
