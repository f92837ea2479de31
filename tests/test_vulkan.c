/* test_vulkan.c - memory of backend vulkan, shared and staged; what it refuses, and why.
 * All under the validation layer where that is installed. What ops compute is held by
 * contract_ops.c and contract_graphs.c.
 */
#include "graph_kit.h"

#include <stdio.h>

#include "error.h"

#define MIB ((int64_t)1 << 20)

static qat_device device;
static const qat_backend *api;

static int open_device(int staging, int validate)
{
	const qat_instance i = kit_instance(QAT_KIND_BACKEND, "vulkan");

	if (!i.interface)
		return qat_fail(QAT_ENOTFOUND, "backend vulkan is not in QATRUN_PLUGIN_PATH");
	kit_set(&i, "staging", staging);
	kit_set(&i, "validate", validate);
	return qat_device_open(&device, &i, 0, 0);
}

/* Under validation if that is there. Loop tests run shared, then staged. */
static void start(int staging)
{
	const int rc = open_device(staging, 1);

	if (rc)
		ck_assert_msg(open_device(staging, 0) == QAT_OK, "%s", qat_error());
	api = device.api;
}

static qat_memory *room(int64_t bytes, uint32_t use)
{
	qat_memory *m = NULL;

	ck_assert_msg(api->alloc(device.handle, &m, bytes, use) == QAT_OK, "%s", qat_error());
	return m;
}

static uint8_t *pattern(int64_t n, int seed)
{
	uint8_t *p = malloc((size_t)n + 1);

	ck_assert_ptr_nonnull(p);
	for (int64_t i = 0; i < n; i++)
		p[i] = (uint8_t)((i * 31 + i / 251 + seed) & 0xff);
	return p;
}

static void put(qat_memory *m, int64_t offset, const void *data, int64_t bytes)
{
	ck_assert_msg(api->write(device.handle, m, offset, data, bytes) == QAT_OK, "%s",
		      qat_error());
}

static void expect(qat_memory *m, int64_t offset, const void *data, int64_t bytes, const char *what)
{
	void *got = malloc((size_t)bytes + 1);

	ck_assert_ptr_nonnull(got);
	ck_assert_msg(api->read(device.handle, got, m, offset, bytes) == QAT_OK, "%s", qat_error());
	ck_assert_msg(!memcmp(got, data, (size_t)bytes), "%s", what);
	free(got);
}

/* Pieces of one block and blocks of their own do not touch each other. */
START_TEST(pieces)
{
	static const int64_t sizes[] = { 0, 1, 100, 4096, 4 * MIB + 3, 17 * MIB, 63 };
	enum { N = sizeof sizes / sizeof *sizes };
	qat_memory *m[N];
	uint8_t *data[N];

	start(_i);
	for (int i = 0; i < N; i++) {
		m[i] = room(sizes[i], QAT_MEM_PARAMS);
		data[i] = pattern(sizes[i], i);
		put(m[i], 0, data[i], sizes[i]);
	}
	api->free(device.handle, m[2]);		/* a gap that the next one takes */
	m[2] = room(sizes[2], QAT_MEM_SCRATCH);
	put(m[2], 0, data[2], sizes[2]);
	put(m[3], 1001, data[0], 0);
	put(m[3], 1001, data[4], 7);
	memcpy(data[3] + 1001, data[4], 7);
	for (int i = 0; i < N; i++) {
		expect(m[i], 0, data[i], sizes[i], "a piece differs");
		ck_assert_int_eq(api->map(device.handle, m[i]) != NULL, device.caps.unified);
	}
	expect(m[4], 4 * MIB - 5, data[4] + 4 * MIB - 5, 8, "across a staged part");
	for (int i = 0; i < N; i++) {
		api->free(device.handle, m[i]);
		free(data[i]);
	}
	api->free(device.handle, NULL);
	ck_assert_msg(api->sync(device.handle) == QAT_OK, "%s", qat_error());
	qat_device_close(&device);
}
END_TEST

/* Memory that was used before is zero again where it is to hold state. */
START_TEST(state_is_zero)
{
	static const uint8_t zeros[5000];
	uint8_t *ones = pattern(5000, 1);
	qat_memory *m;

	start(_i);
	m = room(5000, QAT_MEM_SCRATCH);
	put(m, 0, ones, 5000);
	api->free(device.handle, m);
	m = room(5000, QAT_MEM_STATE);
	expect(m, 0, zeros, 5000, "state is not zero");
	api->free(device.handle, m);
	free(ones);
	qat_device_close(&device);
}
END_TEST

START_TEST(refusals)
{
	uint8_t byte = 0;
	qat_memory *m;

	start(_i);
	m = room(64, QAT_MEM_PARAMS);
	ck_assert_int_eq(api->write(device.handle, m, 1 << 20, &byte, 1), QAT_EINVAL);
	ck_assert_int_eq(api->read(device.handle, &byte, m, -1, 1), QAT_EINVAL);
	ck_assert_int_eq(api->write(device.handle, m, 0, &byte, INT64_MAX), QAT_EINVAL);
	api->free(device.handle, m);
	ck_assert_int_eq(api->alloc(device.handle, &m, (int64_t)1 << 50, QAT_MEM_PARAMS),
			 QAT_ENOMEM);
	ck_assert_msg(strstr(qat_error(), "MiB are needed"), "%s", qat_error());
	ck_assert_int_eq(api->alloc(device.handle, &m, -1, QAT_MEM_PARAMS), QAT_EINVAL);
	qat_device_close(&device);
}
END_TEST

/* What has no kernel is refused with its reason, not run wrong. */
START_TEST(heads)
{
	const int64_t d = 257;
	qat_attr attr = { .attention = { .heads = 1, .kv_heads = 1, .head_dim = d, .scale = 1 } };
	char why[256] = "";
	int64_t in[3];
	kit k;

	start(0);
	kit_new(&k, 1, 2, QAT_F32);
	for (int i = 0; i < 3; i++)
		in[i] = kit_random(&k, QAT_F32, 2, d, KIT_NORMAL, (uint64_t)i);
	kit_node(&k, QAT_OP_ATTENTION, &attr, 3, in, NULL, NULL);
	ck_assert_int_eq(api->supports(device.handle, &k.g->graph, k.g->nodes[0], why, 256),
			 QAT_SUPPORT_NO);
	ck_assert_str_eq(why, "heads of more than 256 channels");
	kit_free(&k);
	qat_device_close(&device);
}
END_TEST

int main(void)
{
	static const char soft[] = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json";
	Suite *s = suite_create("vulkan");
	TCase *c = tcase_create("vulkan");
	FILE *f = fopen(soft, "r");
	SRunner *r;
	int failed;

	if (f) {			/* all drivers take long to be asked */
		setenv("VK_ICD_FILENAMES", soft, 0);
		fclose(f);
	}
	if (open_device(0, 0)) {
		fprintf(stderr, "skipped: %s\n", qat_error());
		return 77;
	}
	qat_device_close(&device);
	tcase_set_timeout(c, 300);
	tcase_add_checked_fixture(c, NULL, kit_leaks);
	tcase_add_loop_test(c, pieces, 0, 2);
	tcase_add_loop_test(c, state_is_zero, 0, 2);
	tcase_add_loop_test(c, refusals, 0, 2);
	tcase_add_test(c, heads);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
