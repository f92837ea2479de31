/* test_hf.c - Hugging Face folders: names, transposition, shards, saving, hostile files. */
#include <stdlib.h>
#include <string.h>
#include "format_kit.h"
#include "hf.h"

static const qat_format *hf;

static void setup(void)
{
	hf = kit_format();
	kit_begin();
}

#define T(name, dtype, shape, begin, end) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape \
	",\"data_offsets\":[" begin "," end "]}"

static qat_param param(const char *hub_name, uint32_t flags)
{
	return (qat_param){ .size = sizeof(qat_param), .flags = flags, .name = "store.name",
			    .hub_name = hub_name, .rank = 2 };
}

/* Tensors with the values 0, 1, 2 ... in every type. */
static void model_put(const char *name, const char *prefix)
{
	static const uint16_t bf16[6] = { 0, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0 };
	static const uint16_t f16[6] = { 0, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500 };
	static kit_bytes b;
	char header[1024];
	const int n = snprintf(header, sizeof header,
		"{" T("%sd", "F64", "[2,3]", "0", "48") "," T("%sf", "F32", "[2,3]", "48", "72") ","
		T("%sb", "BF16", "[2,3]", "72", "84") "," T("%sh", "F16", "[6]", "84", "96") ","
		T("%si", "I32", "[1]", "96", "100") "}", prefix, prefix, prefix, prefix, prefix);

	b.length = 0;
	while (header[0] && (strlen(header)) % 8)
		strcat(header, " ");
	ck_assert_int_gt(n, 0);
	kit_add_int(&b, strlen(header), 8);
	kit_add(&b, header, strlen(header));
	for (int i = 0; i < 6; i++) {
		const double x = i;

		kit_add(&b, &x, sizeof x);
	}
	for (int i = 0; i < 6; i++)
		kit_add_float(&b, (float)i);
	kit_add(&b, bf16, sizeof bf16);
	kit_add(&b, f16, sizeof f16);
	kit_add_int(&b, 7, 4);
	kit_put(name, b.at, b.length);
}

static void folder_put(const char *prefix)
{
	kit_put_text("m/config.json", "{\"model_type\":\"x\"}");
	kit_put_text("m/tokenizer.json", "{}");
	model_put("m/model.safetensors", prefix);
}

static void values_check(void *file, const char *hub_name, uint32_t flags, const float *wanted)
{
	const qat_param p = param(hub_name, flags);
	qat_tensor t;
	float x[6] = { -1, -1, -1, -1, -1, -1 };
	int64_t rows;

	ck_assert_int_eq(hf->find(file, &p, &t), QAT_OK);
	rows = t.rank < 2 ? 1 : t.shape[0];
	for (int64_t r = 0; r < rows; r++)
		ck_assert_int_eq(hf->read(file, &p, x + r * 6 / rows, r, 1), QAT_OK);
	ck_assert_mem_eq(x, wanted, sizeof x);
	ck_assert_int_eq(hf->read(file, &p, x, 0, rows), QAT_OK);
	ck_assert_mem_eq(x, wanted, sizeof x);
	ck_assert_int_lt(hf->read(file, &p, x, 0, rows + 1), 0);
	ck_assert_int_lt(hf->read(file, &p, x, rows + 1, 0), 0);
	ck_assert_int_lt(hf->read(file, &p, x, -1, 1), 0);
	ck_assert_int_lt(hf->read(file, &p, x, 0, -1), 0);
}

static const float counted[6] = { 0, 1, 2, 3, 4, 5 };
static const float turned[6] = { 0, 3, 1, 4, 2, 5 };

START_TEST(read_types)
{
	static const struct { const char *name; uint32_t dtype; int mapped; } all[] = {
		{ "d", QAT_F32, 0 }, { "f", QAT_F32, 1 }, { "b", QAT_BF16, 1 }, { "h", QAT_F16, 1 },
	};
	const qat_param i = param("i", 0), none = param("none", 0), h = param("h", 1);
	qat_tensor t;
	void *file;

	folder_put("");
	ck_assert_int_eq(hf->open(&file, kit_path("m")), QAT_OK);
	for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
		const qat_param p = param(all[k].name, 0);

		values_check(file, all[k].name, 0, counted);
		ck_assert_int_eq(hf->find(file, &p, &t), QAT_OK);
		ck_assert_uint_eq(t.dtype, all[k].dtype);
		ck_assert_int_eq(t.data != NULL, all[k].mapped);
		ck_assert_int_eq(t.bytes, 6 * qat_dtype_bytes(t.dtype));
		ck_assert_int_eq(t.shape[0] * t.shape[1], 6);
		ck_assert_str_eq(t.name, all[k].name);
	}
	kit_fails(hf->find(file, &i, &t), QAT_ENOTSUP, "\"i\" is I32");
	kit_fails(hf->find(file, &h, &t), QAT_EFORMAT, "\"h\" has rank 1");
	ck_assert_int_eq(hf->find(file, &none, &t), QAT_ENOTFOUND);
	kit_fails(hf->read(file, &none, NULL, 0, 1), QAT_ENOTFOUND, "\"none\"");
	for (int n = 0; n < 5; n++)
		ck_assert_ptr_nonnull(hf->tensor_name(file, n));
	ck_assert_ptr_null(hf->tensor_name(file, 5));
	ck_assert_ptr_null(hf->tensor_name(file, -1));
	hf->close(file);
	hf->close(NULL);
}
END_TEST

START_TEST(read_transposed)
{
	const qat_param p = param("b", QAT_PARAM_HUB_TRANSPOSED);
	qat_tensor t;
	void *file;

	folder_put("");
	ck_assert_int_eq(hf->open(&file, kit_path("m")), QAT_OK);
	values_check(file, "b", QAT_PARAM_HUB_TRANSPOSED, turned);
	values_check(file, "d", QAT_PARAM_HUB_TRANSPOSED, turned);
	ck_assert_int_eq(hf->find(file, &p, &t), QAT_OK);
	ck_assert_int_eq(t.shape[0], 3);
	ck_assert_int_eq(t.shape[1], 2);
	ck_assert_ptr_null(t.data);
	hf->close(file);
}
END_TEST

START_TEST(prefixes)
{
	static const struct { const char *prefix, *asked; int found; } all[] = {
		{ "", "f", 1 }, { "", "transformer.f", 1 }, { "", "model.f", 1 },
		{ "", "other.f", 0 }, { "transformer.", "f", 1 },
		{ "transformer.", "transformer.f", 1 },
		{ "model.", "f", 1 }, { "other.", "f", 0 }, { "transformer.", "model.f", 0 },
	};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		const qat_param p = param(all[i].asked, 0);
		qat_tensor t;
		void *file;

		folder_put(all[i].prefix);
		ck_assert_int_eq(hf->open(&file, kit_path("m")), QAT_OK);
		ck_assert_int_eq(hf->find(file, &p, &t), all[i].found ? QAT_OK : QAT_ENOTFOUND);
		hf->close(file);
	}
}
END_TEST

START_TEST(probe)
{
	qat_text text;
	void *file = NULL;

	folder_put("");
	ck_assert_int_eq(hf->probe(kit_path("m")), 1);
	ck_assert_int_eq(hf->probe(kit_path("m/model.safetensors")), 1);
	ck_assert_int_eq(hf->probe(kit_path("m/config.json")), 0);
	ck_assert_int_eq(hf->probe(kit_path("m/other.safetensors")), 0);
	ck_assert_int_eq(hf->probe(kit_path("")), 0);
	ck_assert_int_eq(hf->probe(kit_path("none")), 0);
	ck_assert_int_eq(hf->open(&file, kit_path("m/model.safetensors")), QAT_OK);
	ck_assert_int_eq(hf->document(file, QAT_DOC_CONFIG, &text), QAT_OK);
	ck_assert_str_eq(text.at, "{\"model_type\":\"x\"}");
	ck_assert_int_eq(text.length, 18);
	ck_assert_int_eq(hf->document(file, QAT_DOC_STATE, &text), QAT_OK);
	ck_assert_ptr_null(text.at);
	ck_assert_int_eq(hf->document(file, QAT_DOC_GENERATION_CONFIG, &text), QAT_OK);
	ck_assert_ptr_null(text.at);
	hf->close(file);
	kit_put_text("m/state.json", "{}");
	ck_assert_int_eq(hf->probe(kit_path("m")), 0);
	ck_assert_int_eq(hf->probe(kit_path("m/model.safetensors")), 0);
	model_put("bare/model.safetensors", "");
	ck_assert_int_eq(hf->probe(kit_path("bare")), 0);
	file = NULL;
	kit_fails(hf->open(&file, kit_path("bare")), QAT_ENOTFOUND, "config.json");
	kit_put_text("c/config.json", "{}");
	kit_fails(hf->open(&file, kit_path("c")), QAT_ENOTFOUND, "has neither");
	ck_assert_ptr_null(file);
}
END_TEST

static const struct { const char *index, *message; int code; } indexes[] = {
	{ "", "JSON", QAT_EFORMAT },
	{ "{}", "no weight_map", QAT_EFORMAT },
	{ "{\"weight_map\":[]}", "no weight_map", QAT_EFORMAT },
	{ "{\"weight_map\":{\"f\":1}}", "\"f\": no file name", QAT_EFORMAT },
	{ "{\"weight_map\":{\"f\":\"../m/a.safetensors\"}}", "is not the name", QAT_EFORMAT },
	{ "{\"weight_map\":{\"f\":\"/a.safetensors\"}}", "is not the name", QAT_EFORMAT },
	{ "{\"weight_map\":{\"f\":\"x/a.safetensors\"}}", "is not the name", QAT_EFORMAT },
	{ "{\"weight_map\":{\"f\":\"x\\\\a.safetensors\"}}", "is not the name", QAT_EFORMAT },
	{ "{\"weight_map\":{\"f\":\"..\"}}", "is not the name", QAT_EFORMAT },
	{ "{\"weight_map\":{\"f\":\"\"}}", "is not the name", QAT_EFORMAT },
	{ "{\"weight_map\":{\"f\":\"config.json\"}}", "is not the name", QAT_EFORMAT },
	{ "{\"weight_map\":{\"f\":\"b.safetensors\"}}", "b.safetensors", QAT_ENOTFOUND },
	{ "{\"weight_map\":{\"q\":\"a.safetensors\"}}", "\"q\" is not in", QAT_EFORMAT },
	{ "{\"weight_map\":{\"f\":\"a.safetensors\",\"f\":\"a.safetensors\"}}", "uplicate",
	  QAT_EFORMAT },
};

START_TEST(index_refused)
{
	void *file = NULL;

	kit_put_text("m/config.json", "{}");
	model_put("m/a.safetensors", "");
	kit_put_text("m/model.safetensors.index.json", indexes[_i].index);
	kit_fails(hf->open(&file, kit_path("m")), indexes[_i].code, indexes[_i].message);
	ck_assert_ptr_null(file);
}
END_TEST

/* ---- saving ---- */

static float matrix[6] = { 0, 1, 2, 3, 4, 5 };
static uint16_t vector[3] = { 0x3f80, 0x4000, 0x4040 };
static const qat_tensor tensors[] = {
	{ .size = sizeof(qat_tensor), .dtype = QAT_F32, .rank = 2, .shape = { 3, 2 },
	  .name = "layers.0.a.weight", .data = matrix, .bytes = sizeof matrix },
	{ .size = sizeof(qat_tensor), .dtype = QAT_BF16, .rank = 1, .shape = { 3 },
	  .name = "norm.weight", .data = vector, .bytes = sizeof vector },
	{ .size = sizeof(qat_tensor), .dtype = QAT_F32, .rank = 2, .shape = { 2, 3 },
	  .name = "plain", .data = matrix, .bytes = sizeof matrix },
};
static const qat_tensor *const tensor_list[] = { &tensors[0], &tensors[1], &tensors[2] };
static const qat_param params[] = {
	{ .size = sizeof(qat_param), .flags = QAT_PARAM_HUB_TRANSPOSED,
	  .hub_name = "h.0.a.weight" },
	{ .size = sizeof(qat_param), .hub_name = "ln_f.weight" },
};
static const qat_param *const param_list[] = { &params[0], &params[1], NULL };

static qat_checkpoint checkpoint(void)
{
	qat_checkpoint c = { .size = sizeof c, .family = "x", .n_tensors = 3,
			     .tensors = tensor_list, .params = param_list };

	c.docs[QAT_DOC_CONFIG] = (qat_text){ "{\"a\":1}", 7 };
	c.docs[QAT_DOC_TOKENIZER_CONFIG] = (qat_text){ "{}", 2 };
	c.docs[QAT_DOC_STATE] = (qat_text){ "{}", 2 };
	return c;
}

static void saved_check(const char *path)
{
	const qat_param a = param("h.0.a.weight", QAT_PARAM_HUB_TRANSPOSED);
	const qat_param raw = param("h.0.a.weight", 0), ln = param("ln_f.weight", 0);
	float x[6];
	qat_tensor t;
	void *file;

	ck_assert_int_eq(hf->probe(path), 1);
	ck_assert_int_eq(hf->open(&file, path), QAT_OK);
	ck_assert_int_eq(hf->read(file, &a, x, 0, 3), QAT_OK);
	ck_assert_mem_eq(x, matrix, sizeof x);
	ck_assert_int_eq(hf->find(file, &raw, &t), QAT_OK);
	ck_assert_int_eq(t.shape[0], 2);
	ck_assert_int_eq(hf->find(file, &ln, &t), QAT_OK);
	ck_assert_uint_eq(t.dtype, QAT_BF16);
	ck_assert_mem_eq(t.data, vector, sizeof vector);
	values_check(file, "plain", 0, counted);
	hf->close(file);
}

START_TEST(save_whole)
{
	qat_checkpoint c = checkpoint();
	size_t length;
	char *text;

	ck_assert_int_eq(hf->save(kit_path("out"), &c), QAT_OK);
	ck_assert_int_eq(kit_count("out"), 3);
	saved_check(kit_path("out"));
	text = kit_get("out/model.safetensors", &length);
	ck_assert_mem_eq(text + 8, "{\"__metadata__\":{\"format\":\"pt\"}", 31);
	free(text);
	text = kit_get("out/config.json", &length);
	ck_assert_str_eq(text, "{\"a\":1}");
	free(text);
	kit_fails(hf->save(kit_path("out"), &c), QAT_EEXIST, "exists already");
	c.docs[QAT_DOC_CONFIG].at = NULL;
	kit_fails(hf->save(kit_path("b"), &c), QAT_EINVAL, "config.json");
	ck_assert_int_eq(kit_count(""), 1);
}
END_TEST

/* 24, 6 and 24 bytes; the limit says which are together. */
START_TEST(save_sharded)
{
	static const struct { int64_t limit; int files; const char *last; } all[] = {
		{ 54, 1, NULL }, { 53, 2, "model-00002-of-00002.safetensors" },
		{ 30, 2, "model-00002-of-00002.safetensors" },
		{ 29, 3, "model-00003-of-00003.safetensors" },	/* 6 + 24 is too much */
		{ 1, 3, "model-00003-of-00003.safetensors" },
	};
	const qat_checkpoint c = checkpoint();

	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		char name[16], path[128];
		size_t length;
		char *text;

		snprintf(name, sizeof name, "out%d", (int)i);
		ck_assert_int_eq(qat_hf_save(kit_path(name), &c, all[i].limit), QAT_OK);
		saved_check(kit_path(name));
		ck_assert_int_eq(kit_count(name), 2 + all[i].files + (all[i].files > 1));
		if (!all[i].last)
			continue;
		snprintf(path, sizeof path, "%s/%s", name, all[i].last);
		free(kit_get(path, &length));
		snprintf(path, sizeof path, "%s/model.safetensors.index.json", name);
		text = kit_get(path, &length);
		ck_assert_ptr_nonnull(strstr(text, "{\n  \"metadata\": {\n    "
					     "\"total_size\": 54\n"));
		ck_assert_ptr_nonnull(strstr(text, "\"h.0.a.weight\": \"model-00001-of-0000"));
		free(text);
	}
}
END_TEST

static void use(const qat_format *format, void *file)
{
	const char *name;

	for (int64_t i = 0; (name = format->tensor_name(file, i)); i++) {
		const qat_param p = param(name, 0), q = param(name, QAT_PARAM_HUB_TRANSPOSED);
		float x[64];
		qat_tensor t;

		if (!format->find(file, &p, &t) && t.bytes < 64)
			format->read(file, &p, x, 0, 1);
		if (!format->find(file, &q, &t) && t.bytes < 64)
			format->read(file, &q, x, 0, 1);
	}
}

START_TEST(mutants)
{
	const qat_checkpoint c = checkpoint();

	folder_put("");
	kit_mutate("m/model.safetensors", "m", hf, use);
	ck_assert_int_eq(qat_hf_save(kit_path("out"), &c, 1), QAT_OK);
	kit_mutate("out/model.safetensors.index.json", "out", hf, use);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("hf");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(t, setup, kit_end);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, read_types);
	tcase_add_test(t, read_transposed);
	tcase_add_test(t, prefixes);
	tcase_add_test(t, probe);
	tcase_add_loop_test(t, index_refused, 0, sizeof indexes / sizeof *indexes);
	tcase_add_test(t, save_whole);
	tcase_add_test(t, save_sharded);
	tcase_add_test(t, mutants);
	suite_add_tcase(suite, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
