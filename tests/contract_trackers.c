/* contract_trackers.c - what tracker.h promises, for every tracker found in
 * QATRUN_PLUGIN_PATH, with its default options.
 */
#include "plugin_host.h"
#include "plugin_files.h"

#include <qatrun/tracker.h>

QAT_HIDDEN const qat_host *qat_host_;	/* plugin.h asks for one; a host has none itself */
static const qat_interface *trackers[PLUGINS_MAX];
static int n_trackers;
static char folder[] = "/tmp/contract_trackersXXXXXX";

/* ---- finding ---- */

static void find_in_plugin(const qat_plugin *p)
{
	if (p->init(&host_table)) {
		fprintf(stderr, "%s: %s\n", p->name, host_message);
		exit(EXIT_FAILURE);
	}
	for (uint32_t i = 0; i < p->count; i++) {
		if (p->interfaces[i]->kind == QAT_KIND_TRACKER && n_trackers < PLUGINS_MAX)
			trackers[n_trackers++] = p->interfaces[i];
	}
}

static void find(void)
{
	find_plugins("tracker-");
	for (int i = 0; i < n_plugins; i++)
		find_in_plugin(plugins[i]);
}

/* ---- the contract ---- */

static const qat_tracker *api_of(int i)
{
	static qat_tracker full;
	const qat_tracker *theirs = trackers[i]->vtable;

	full = (qat_tracker){ .size = 0 };
	memcpy(&full, theirs, theirs->size < sizeof full ? theirs->size : sizeof full);
	ck_assert_ptr_nonnull((void *)(intptr_t)full.open);
	ck_assert_ptr_nonnull((void *)(intptr_t)full.scalar);
	ck_assert_ptr_nonnull((void *)(intptr_t)full.close);
	return &full;
}

static int open_at(void **t, int i, const char *where, int64_t resumed)
{
	const qat_tracker_env env = { .size = sizeof env, .run = "run", .folder = where,
				      .resumed = resumed };
	static void *self;		/* lives as long as the tracker */

	free(self);
	self = host_defaults(trackers[i]);
	*t = NULL;
	return api_of(i)->open(t, self, &env);
}

static void remove_all(void)
{
	char command[100];

	snprintf(command, sizeof command, "rm -rf %s", folder);
	ck_assert_int_eq(system(command), 0);
}

/* Points of several states and of the run, texts, all in one order or another; then the
 * run goes on. */
START_TEST(told)
{
	static const char *const states[] = { "qat", NULL, "control-ptq_4.5", "qat" };
	static const double values[] = { 0, -1.5, 1e300, 5e-324, 1 };
	char where[100];

	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(where, sizeof where, "%s/own", folder);
	for (int64_t resumed = 0; resumed < 2; resumed++) {
		const qat_tracker *api = api_of(_i);
		void *t;

		ck_assert_int_eq(open_at(&t, _i, where, resumed), QAT_OK);
		for (int64_t k = 0; k < 40; k++) {
			const qat_track p = {
				.size = sizeof p, .state = states[k % 4], .step = k / 8,
				.tag = k % 3 ? "train/loss" : "evaluate/a.b-c@4/loss",
				.time = 1.7e9 + (double)k, .value = values[k % 5],
				.text = "| \xc3\xa4 |\n| --- |\n"
			};

			ck_assert_int_eq(api->scalar(t, &p), QAT_OK);
			if (api->text && k % 10 == 9)
				ck_assert_int_eq(api->text(t, &p), QAT_OK);
			if (api->flush && k % 15 == 14)
				ck_assert_int_eq(api->flush(t), QAT_OK);
		}
		ck_assert_int_eq(api->close(t), QAT_OK);
	}
	remove_all();
}
END_TEST

/* --resume cuts files to what they were at a flush, so they only grow, and by then have
 * what was told before. */
START_TEST(grows)
{
	static const char command[] = "cd %s && { test ! -d before || cd before && for file in "
		"$(find . -type f); do cmp -s -n $(wc -c <$file) $file ../own/$file || exit 1; "
		"done; }";
	char where[100], text[400];
	void *t;

	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(where, sizeof where, "%s/own", folder);
	ck_assert_int_eq(open_at(&t, _i, where, 0), QAT_OK);
	for (int64_t step = 1; step < 100; step++) {
		const qat_track p = { .size = sizeof p, .state = "qat", .step = step,
				      .tag = "train/loss", .time = 1.7e9, .value = 1 };

		ck_assert_int_eq(api_of(_i)->scalar(t, &p), QAT_OK);
		if (step != 50 || !api_of(_i)->flush)
			continue;
		ck_assert_int_eq(api_of(_i)->flush(t), QAT_OK);
		snprintf(text, sizeof text, "test ! -d %s || cp -r %s %s/before", where, where,
			 folder);
		ck_assert_int_eq(system(text), 0);
	}
	ck_assert_int_eq(api_of(_i)->close(t), QAT_OK);
	snprintf(text, sizeof text, command, folder);
	ck_assert_int_eq(system(text), 0);
	remove_all();
}
END_TEST

START_TEST(told_nothing)
{
	char where[100];
	void *t;

	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(where, sizeof where, "%s/own", folder);
	ck_assert_int_eq(open_at(&t, _i, where, 0), QAT_OK);
	ck_assert_int_eq(api_of(_i)->close(t), QAT_OK);
	remove_all();
}
END_TEST

/* Where its folder cannot be, a tracker that writes files says so, at the latest when it
 * is closed; it never crashes. */
START_TEST(no_folder)
{
	const qat_track p = { .size = sizeof p, .state = "qat", .tag = "a", .step = 1 };
	const qat_tracker *api = api_of(_i);
	void *t;
	int rc;

	host_message[0] = 0;
	rc = open_at(&t, _i, "/dev/null/own", 0);
	if (!rc) {
		rc = api->scalar(t, &p);
		rc = api->close(t) ? QAT_EIO : rc;
	}
	ck_assert(rc <= 0);
	if (rc)
		ck_says("/dev/null");
}
END_TEST

int main(void)
{
	Suite *suite;
	TCase *t;

	find();
	if (!n_trackers) {
		puts("no tracker-*.so in QATRUN_PLUGIN_PATH: nothing to test");
		return 77;
	}
	suite = suite_create("trackers");
	t = tcase_create("contract");
	tcase_add_loop_test(t, told, 0, n_trackers);
	tcase_add_loop_test(t, told_nothing, 0, n_trackers);
	tcase_add_loop_test(t, grows, 0, n_trackers);
	tcase_add_loop_test(t, no_folder, 0, n_trackers);
	suite_add_tcase(suite, t);
	return host_run(suite);
}
