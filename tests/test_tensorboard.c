/* test_tensorboard.c - event files to the byte: checksums, records, events; and failures. */
#include "plugin_host.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "../plugins/trackers/tensorboard.c"

static char folder[] = "/tmp/test_tensorboardXXXXXX";

/* ---- the checksum ---- */

START_TEST(checksums)
{
	/* RFC 3720, B.4 */
	uint8_t data[32] = { 0 };

	ck_assert_uint_eq(crc32c((const uint8_t *)"123456789", 9), 0xe3069283u);
	ck_assert_uint_eq(crc32c(data, 0), 0);
	ck_assert_uint_eq(crc32c(data, 32), 0x8a9136aau);
	memset(data, 0xff, sizeof data);
	ck_assert_uint_eq(crc32c(data, 32), 0x62a8ab43u);
	for (int i = 0; i < 32; i++)
		data[i] = (uint8_t)i;
	ck_assert_uint_eq(crc32c(data, 32), 0x46dd794eu);
	for (int i = 0; i < 32; i++)
		data[i] = (uint8_t)(31 - i);
	ck_assert_uint_eq(crc32c(data, 32), 0x113fdb5cu);
	/* rotated by 15, plus a constant */
	ck_assert_uint_eq(masked(0), 0xa282ead8u);
	ck_assert_uint_eq(masked(0x8000), 0xa282ead9u);
	ck_assert_uint_eq(masked(1), 0xa284ead8u);
}
END_TEST

/* ---- messages ---- */

START_TEST(varints)
{
	static const struct { uint64_t value; const char *bytes; size_t n; } cases[] = {
		{ 0, "\0", 1 }, { 1, "\1", 1 }, { 127, "\x7f", 1 }, { 128, "\x80\1", 2 },
		{ 300, "\xac\2", 2 }, { 16384, "\x80\x80\1", 3 },
		{ UINT64_MAX, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\1", 10 },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		bytes b = { .at = NULL };

		put_varint(&b, cases[i].value);
		ck_assert_uint_eq(b.used, cases[i].n);
		ck_assert_mem_eq(b.at, cases[i].bytes, cases[i].n);
		free(b.at);
	}
}
END_TEST

/* An Event by hand: wall_time 1.5, step 300, Summary{Value{tag "a/b", simple_value 0.25}} */
START_TEST(scalar_event)
{
	static const uint8_t expected[] = {
		0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f,	/* 1: double 1.5 */
		0x10, 0xac, 0x02,			/* 2: 300 */
		0x2a, 12,				/* 5: Summary */
		0x0a, 10,				/* 1: Value */
		0x0a, 3, 'a', '/', 'b',			/* 1: tag */
		0x15, 0, 0, 0x80, 0x3e			/* 2: float 0.25 */
	};
	const qat_track p = { .size = sizeof p, .tag = "a/b", .step = 300, .time = 1.5,
			      .value = 0.25 };
	bytes e = { .at = NULL };

	event_scalar(&e, &p);
	ck_assert_int_eq(e.failed, 0);
	ck_assert_uint_eq(e.used, sizeof expected);
	ck_assert_mem_eq(e.at, expected, sizeof expected);
	free(e.at);
}
END_TEST

/* ---- files ---- */

/* The only file of a folder, read whole. */
static uint8_t *only_file(const char *in, size_t *size)
{
	char path[1200] = "";
	DIR *d = opendir(in);
	const struct dirent *e;
	uint8_t *data = malloc(1 << 16);
	FILE *f;

	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d))) {
		if (strncmp(e->d_name, "events.out.tfevents.", 20))
			continue;
		ck_assert_str_eq(path, "");
		snprintf(path, sizeof path, "%s/%s", in, e->d_name);
	}
	closedir(d);
	f = fopen(path, "rb");
	ck_assert_ptr_nonnull(f);
	*size = fread(data, 1, 1 << 16, f);
	fclose(f);
	return data;
}

static uint64_t little(const uint8_t *at, int n)
{
	uint64_t value = 0;

	for (int i = n; i-- > 0;)
		value = value << 8 | at[i];
	return value;
}

/* The record at *at: its length and both checksums hold; *at goes past it. */
static const uint8_t *record(const uint8_t *data, size_t size, size_t *at, size_t *length)
{
	const uint8_t *r = data + *at;

	ck_assert_uint_le(*at + 16, size);
	*length = (size_t)little(r, 8);
	ck_assert_uint_le(*at + 16 + *length, size);
	ck_assert_uint_eq(little(r + 8, 4), masked(crc32c(r, 8)));
	ck_assert_uint_eq(little(r + 12 + *length, 4), masked(crc32c(r + 12, *length)));
	*at += 16 + *length;
	return r + 12;
}

static int holds(const uint8_t *data, size_t size, const char *text)
{
	return memmem(data, size, text, strlen(text)) != NULL;
}

static void *opened(int64_t resumed)
{
	static tensorboard_options o = { .flush = 0 };
	const qat_tracker_env env = { .size = sizeof env, .run = "r", .folder = folder,
				      .resumed = resumed };
	void *t = NULL;

	host_interface(&qat_plugin_v1, "tensorboard");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(vtable.open(&t, &o, &env), QAT_OK);
	return t;
}

static void remove_all(void)
{
	char command[100];

	snprintf(command, sizeof command, "rm -rf %s", folder);
	ck_assert_int_eq(system(command), 0);
}

/* Each state has a file; what is of the run lies in the folder. A file begins with its
 * version; with flush 0 all is there before it is closed. */
START_TEST(records)
{
	void *t = opened(0);
	qat_track p = { .size = sizeof p, .state = "qat", .tag = "train/loss", .step = 1,
			.time = 5, .value = 2 };
	size_t size, at = 0, n;
	const uint8_t *r;
	char path[200];
	uint8_t *data;

	ck_assert_int_eq(vtable.scalar(t, &p), QAT_OK);
	p.step = 2;
	ck_assert_int_eq(vtable.scalar(t, &p), QAT_OK);
	p.state = NULL;
	p.tag = "table";
	p.text = "| a |\n| --- |\n";
	ck_assert_int_eq(vtable.text(t, &p), QAT_OK);

	snprintf(path, sizeof path, "%s/qat", folder);
	data = only_file(path, &size);
	r = record(data, size, &at, &n);
	ck_assert(holds(r, n, "brain.Event:2"));
	for (uint8_t step = 1; step <= 2; step++) {
		r = record(data, size, &at, &n);
		ck_assert(holds(r, n, "train/loss"));
		ck_assert_uint_eq(r[9], 0x10);
		ck_assert_uint_eq(r[10], step);
	}
	ck_assert_uint_eq(at, size);
	free(data);

	data = only_file(folder, &size);
	at = 0;
	record(data, size, &at, &n);
	r = record(data, size, &at, &n);
	ck_assert(holds(r, n, "| a |\n| --- |\n") && holds(r, n, "table") && holds(r, n, "text"));
	ck_assert_uint_eq(at, size);
	free(data);
	ck_assert_int_eq(vtable.close(t), QAT_OK);
	remove_all();
}
END_TEST

/* Readers are told where the run goes on. */
START_TEST(resumed)
{
	static const uint8_t start[] = { 0x10, 7, 0x3a, 2, 8, 1 };	/* step 7, START */
	void *t = opened(1);
	qat_track p = { .size = sizeof p, .state = "qat", .tag = "evaluation/loss", .step = 6,
			.time = 5, .value = 2 };
	size_t size, at = 0, n;
	const uint8_t *r;
	char path[200];
	uint8_t *data;

	/* of a step whose training was told before */
	ck_assert_int_eq(vtable.scalar(t, &p), QAT_OK);
	p.tag = "train/loss";
	p.step = 7;
	ck_assert_int_eq(vtable.scalar(t, &p), QAT_OK);
	ck_assert_int_eq(vtable.close(t), QAT_OK);
	snprintf(path, sizeof path, "%s/qat", folder);
	data = only_file(path, &size);
	record(data, size, &at, &n);
	r = record(data, size, &at, &n);
	ck_assert(holds(r, n, "evaluation/loss"));
	r = record(data, size, &at, &n);
	ck_assert_uint_eq(n, 9 + sizeof start);
	ck_assert_mem_eq(r + 9, start, sizeof start);
	r = record(data, size, &at, &n);
	ck_assert(holds(r, n, "train/loss"));
	ck_assert_uint_eq(at, size);
	free(data);
	remove_all();
}
END_TEST

/* Readers take files by name: a later one sorts last, whatever the clock says. */
START_TEST(later_sorts_last)
{
	const qat_track p = { .size = sizeof p, .state = "qat", .tag = "a", .step = 1 };
	char path[200], older[300];
	const struct dirent *e;
	int newer = 0;
	void *t;
	FILE *f;
	DIR *d;

	t = opened(0);
	snprintf(path, sizeof path, "%s/qat", folder);
	mkdir(folder, 0777);		/* may be there */
	ck_assert_int_eq(mkdir(path, 0777), 0);
	snprintf(older, sizeof older, "%s/events.out.tfevents.%010lld.zzz.9.0", path,
		 (long long)time(NULL) + 100);
	f = fopen(older, "w");
	ck_assert_ptr_nonnull(f);
	fclose(f);
	ck_assert_int_eq(vtable.scalar(t, &p), QAT_OK);
	ck_assert_int_eq(vtable.close(t), QAT_OK);
	d = opendir(path);
	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d)))
		newer += e->d_name[0] != '.' && strcmp(e->d_name, strrchr(older, '/') + 1) > 0;
	closedir(d);
	ck_assert_int_eq(newer, 1);
	remove_all();
}
END_TEST

/* ---- failures ---- */

START_TEST(full_disk)
{
	const struct rlimit limit = { 4096, 4096 };
	void *t = opened(0);
	qat_track p = { .size = sizeof p, .state = "qat", .tag = "train/loss", .value = 2 };
	int rc = QAT_OK;

	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	for (p.step = 1; !rc && p.step < 1000; p.step++)
		rc = vtable.scalar(t, &p);
	ck_assert_int_eq(rc, QAT_EIO);
	ck_assert_int_gt(p.step, 50);
	ck_says("/qat/events.out.tfevents.");
	ck_says("File too large");
	vtable.close(t);
	remove_all();
}
END_TEST

START_TEST(in_the_way)
{
	void *t = opened(0);
	const qat_track p = { .size = sizeof p, .state = "qat", .tag = "a", .step = 1 };
	char path[200];
	FILE *f;

	snprintf(path, sizeof path, "%s/qat", folder);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fclose(f);
	ck_assert_int_eq(vtable.scalar(t, &p), QAT_EIO);
	ck_says("/qat/events.out.tfevents.");
	ck_says("Not a directory");
	ck_assert_int_eq(vtable.close(t), QAT_OK);
	remove_all();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tensorboard");
	TCase *t = tcase_create("events");

	tcase_add_test(t, checksums);
	tcase_add_test(t, varints);
	tcase_add_test(t, scalar_event);
	tcase_add_test(t, records);
	tcase_add_test(t, resumed);
	tcase_add_test(t, later_sorts_last);
	tcase_add_test(t, full_disk);
	tcase_add_test(t, in_the_way);
	suite_add_tcase(suite, t);
	return host_run(suite);
}
