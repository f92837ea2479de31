/* test_sealed.c - the checksum, documents that carry it, and what differs between two
 * identities. */
#include "kinds.h"	/* first: check.h has a macro `fail` */

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hash.h"
#include "identity.h"
#include "plugins/folder.h"
#include "sealed.h"

static void setup(void)
{
	snprintf(folder, sizeof folder, "%s/qatrun-test.XXXXXX",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(folder));
}

static uint64_t hash_in_parts(const uint8_t *at, int64_t n, int64_t part)
{
	qat_hash h;

	qat_hash_begin(&h);
	for (int64_t i = 0; i < n; i += part)
		qat_hash_add(&h, at + i, part < n - i ? part : n - i);
	return qat_hash_end(&h);
}

START_TEST(hash_parts)
{
	uint8_t bytes[200];

	for (int i = 0; i < 200; i++)
		bytes[i] = (uint8_t)(i * i);
	for (int64_t n = 0; n <= 200; n++)
		for (int64_t part = 1; part <= 70; part += 3)
			ck_assert_uint_eq(hash_in_parts(bytes, n, part),
					  hash_in_parts(bytes, n, 1000));
}
END_TEST

/* Each bit, and the length, matters. */
START_TEST(hash_bits)
{
	uint8_t bytes[100] = { 0 };
	const uint64_t zeros = hash_in_parts(bytes, 100, 100);

	for (int i = 0; i < 800; i++) {
		uint64_t one;
		int flipped;

		bytes[i / 8] ^= (uint8_t)(1 << i % 8);
		one = hash_in_parts(bytes, 100, 100);
		bytes[i / 8] = 0;
		flipped = __builtin_popcountll(one ^ zeros);
		ck_assert_msg(flipped >= 12 && flipped <= 52, "bit %d flips %d", i, flipped);
	}
	for (int64_t n = 0; n < 100; n++)
		ck_assert_uint_ne(hash_in_parts(bytes, n, 100), zeros);
}
END_TEST

/* What stands in files of today must be what is computed tomorrow. */
START_TEST(hash_known)
{
	ck_assert_uint_eq(qat_hash_text(""), UINT64_C(0xf843afddcbc820af));
	ck_assert_uint_eq(qat_hash_text("abc"), UINT64_C(0xbd5a1db78f3837f6));
	ck_assert_uint_eq(qat_hash_text("thirty-two bytes and then some more"),
			  UINT64_C(0x85f087c804e745f9));
}
END_TEST

START_TEST(sealed)
{
	json_t *object = json_pack("{s:i, s:f, s:[s]}", "b", 1, "a", 1.0 / 3, "list", "x");
	json_t *back = NULL;
	char *text;
	const size_t n = 4096;

	ck_assert_int_eq(qat_sealed_read(&back, test_path("none")), QAT_ENOTFOUND);
	ck_assert_int_eq(qat_sealed_write(test_path("doc"), object), QAT_OK);
	ck_assert_int_eq(qat_sealed_read(&back, test_path("doc")), QAT_OK);
	ck_assert(json_equal(object, back));
	json_decref(back);

	text = calloc(1, n);
	back = json_load_file(test_path("doc"), 0, NULL);
	snprintf(text, n, "%s", json_string_value(json_object_get(back, "checksum")));
	json_object_set_new(object, "checksum", json_string(text));
	json_object_set_new(object, "b", json_integer(2));
	json_decref(back);
	ck_assert_int_eq(json_dump_file(object, test_path("doc"), 0), 0);
	ck_assert_int_eq(qat_sealed_read(&back, test_path("doc")), QAT_EFORMAT);
	ck_assert_ptr_nonnull(strstr(qat_error(), "its checksum is not that of its content"));
	test_write("doc", "{\"b\": 1}");
	ck_assert_int_eq(qat_sealed_read(&back, test_path("doc")), QAT_EFORMAT);
	test_write("doc", "{\"b\": 1");
	ck_assert_int_eq(qat_sealed_read(&back, test_path("doc")), QAT_EFORMAT);
	test_write("doc", "");
	ck_assert_int_eq(qat_sealed_read(&back, test_path("doc")), QAT_EFORMAT);
	json_decref(object);
	free(text);
}
END_TEST

/* Neither waited for nor read for ever. */
START_TEST(sealed_odd_files)
{
	json_t *back = NULL;

	ck_assert_int_eq(mkfifo(test_path("pipe"), 0600), 0);
	ck_assert_int_eq(qat_sealed_read(&back, test_path("pipe")), QAT_EINVAL);
	ck_assert_ptr_nonnull(strstr(qat_error(), "/pipe: not a regular file"));
	ck_assert_int_eq(qat_sealed_read(&back, folder), QAT_EINVAL);
	ck_assert_int_eq(symlink("/dev/zero", test_path("zero")), 0);
	ck_assert_int_eq(qat_sealed_read(&back, test_path("zero")), QAT_EINVAL);
	ck_assert_int_eq(symlink("loop", test_path("loop")), 0);
	ck_assert_int_eq(qat_sealed_read(&back, test_path("loop")), QAT_EIO);
	test_write("large", "{");
	ck_assert_int_eq(truncate(test_path("large"), INT64_C(1) << 40), 0);
	ck_assert_int_eq(qat_sealed_read(&back, test_path("large")), QAT_EFORMAT);
	ck_assert_ptr_nonnull(strstr(qat_error(), "too many, at most"));
	ck_assert_ptr_null(back);
}
END_TEST

static void differ(const char *then, const char *now, const char *why)
{
	ck_assert_int_eq(qat_identity_same(then, now, "it", "mend it"), QAT_EEXIST);
	ck_assert_str_eq(qat_error(), why);
}

START_TEST(differences)
{
	static const char one[] = "a=1\nb.c=0.10000000000000001\nd=\"x\"\n";

	ck_assert_int_eq(qat_identity_same(one, one, "it", "mend it"), QAT_OK);
	ck_assert_int_eq(qat_identity_same(one, "d=\"x\"\na=1\nb.c=0.10000000000000001\n", "it",
					   "mend it"), QAT_OK);
	differ(one, "a=2\nb.c=0.10000000000000001\nd=\"x\"\n", "it: a was 1, is now 2: mend it");
	differ(one, "a=1\nb.c=0.25\nd=\"x\"\n", "it: b.c was 0.1, is now 0.25: mend it");
	differ(one, "a=1\nb.c=0.10000000000000001\n", "it: d was \"x\", is now not set: mend it");
	differ("a=1\n", "a=1\naa=1\n", "it: aa was not set, is now 1: mend it");
	differ("a=1\n", "a=11\n", "it: a was 1, is now 11: mend it");
	differ("a=\n", "a=1\n", "it: a was , is now 1: mend it");
	differ("", "a=1\n", "it: a was not set, is now 1: mend it");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sealed");
	TCase *t = tcase_create("sealed");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, test_folder_free);
	tcase_add_test(t, hash_parts);
	tcase_add_test(t, hash_bits);
	tcase_add_test(t, hash_known);
	tcase_add_test(t, sealed);
	tcase_add_test(t, sealed_odd_files);
	tcase_add_test(t, differences);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
