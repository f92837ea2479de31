/* test_safetensors.c - reading and writing safetensors, and native, the folder around it. */
#include <endian.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "format_kit.h"
#include "safetensors.h"

static const qat_format *native;

static void setup(void)
{
	native = kit_format();
	kit_begin();
}

#define TENSOR(name_, dtype_, data_, rank_, ...) \
	{ .size = sizeof(qat_tensor), .dtype = dtype_, .rank = rank_, .shape = { __VA_ARGS__ }, \
	  .name = name_, .data = data_, .bytes = sizeof(data_) }

static qat_param param(const char *name)
{
	return (qat_param){ .size = sizeof(qat_param), .name = name };
}

START_TEST(vector)
{
	static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{"
		"\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}   ";
	static const char *const metadata[] = { "format", "pt", NULL };
	float data[2] = { 1, -2 };
	const qat_tensor t = TENSOR("a", QAT_F32, data, 1, 2);
	const qat_st_item item = { .name = "a", .tensor = &t };
	size_t length;
	char *file;

	ck_assert_int_eq(qat_st_write(kit_path("a"), &item, 1, metadata), QAT_OK);
	file = kit_get("a", &length);
	ck_assert_uint_eq(length, 104);
	ck_assert_mem_eq(file, "\x58\0\0\0\0\0\0\0", 8);
	ck_assert_mem_eq(file + 8, header, 88);
	ck_assert_mem_eq(file + 96, data, 8);
	free(file);

	ck_assert_int_eq(qat_st_write(kit_path("a"), NULL, 0, NULL), QAT_OK);
	file = kit_get("a", &length);
	ck_assert_uint_eq(length, 16);
	ck_assert_mem_eq(file, "\x08\0\0\0\0\0\0\0{}      ", 16);
	free(file);
	ck_assert_int_eq(kit_count(""), 1);
}
END_TEST

/* Wide types first, then by name; all data aligned. */
START_TEST(order)
{
	static const char *const wanted[] = { "z64", "b32", "c32", "i32", "h16", "s8", "a8", "e8" };
	unsigned char bytes[3] = { 1, 2, 3 };
	double d[1] = { 0.5 };
	float f[3] = { 1, 2, 3 };
	int32_t i32[1] = { 7 };
	uint16_t h[3] = { 0x3c00, 0x4000, 0xc000 };
	int8_t s[1] = { -1 };
	const qat_tensor all[] = {
		TENSOR("a8", QAT_U8, bytes, 1, 3), TENSOR("c32", QAT_F32, f, 2, 3, 1),
		TENSOR("h16", QAT_F16, h, 1, 3), TENSOR("z64", QAT_F64, d, 0, 1),
		TENSOR("b32", QAT_F32, f, 1, 3), TENSOR("s8", QAT_I8, s, 1, 1),
		TENSOR("i32", QAT_I32, i32, 1, 1), TENSOR("e8", QAT_E8M0, bytes, 1, 3),
	};
	const qat_tensor *list[8];
	qat_safetensors *file;

	for (int i = 0; i < 8; i++)
		list[i] = &all[i];
	ck_assert_int_eq(native->write(kit_path("o"), list, 8), QAT_OK);
	ck_assert_int_eq(qat_st_open(&file, kit_path("o")), QAT_OK);
	ck_assert_int_eq(qat_st_count(file), 8);
	for (int i = 0; i < 8; i++) {
		const qat_st_tensor *t = qat_st_at(file, i);

		ck_assert_str_eq(t->name, wanted[i]);
		ck_assert_int_eq(qat_st_aligned(t), 1);
		ck_assert_ptr_eq(qat_st_find(file, wanted[i]), t);
	}
	ck_assert_ptr_null(qat_st_at(file, 8));
	ck_assert_ptr_null(qat_st_at(file, -1));
	ck_assert_ptr_null(qat_st_find(file, "b"));
	ck_assert_str_eq(qat_st_metadata(file, "format"), "qatrun");
	ck_assert_str_eq(qat_st_metadata(file, "dtype.e8"), "F8_E8M0");
	ck_assert_str_eq(qat_st_find(file, "e8")->type, "U8");
	ck_assert_int_eq(qat_st_find(file, "z64")->rank, 0);
	qat_st_close(file);
}
END_TEST

#define T(name, dtype, shape, begin, end) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape \
	",\"data_offsets\":[" begin "," end "]}"

static const struct { const char *header; size_t data; const char *message; } bad[] = {
	{ "", 0, "JSON" },
	{ "{", 0, "JSON" },
	{ "[]", 0, "not an object" },
	{ "{\"a\":1}", 0, "\"a\": not described" },
	{ "{\"a\":{}}", 0, "\"a\": no dtype" },
	{ "{" T("a", "F31", "[1]", "0", "4") "}", 4, "\"a\": unknown dtype \"F31\"" },
	{ "{" T("a", "F32", "1", "0", "4") "}", 4, "\"a\": no shape" },
	{ "{" T("a", "F32", "[1.0]", "0", "4") "}", 4, "\"a\": a dimension" },
	{ "{" T("a", "F32", "[-1]", "0", "4") "}", 4, "\"a\": a dimension" },
	{ "{" T("a", "F32", "[1]", "-4", "0") "}", 4, "\"a\": data_offsets are not in order" },
	{ "{" T("a", "F32", "[1]", "4", "0") "}", 4, "\"a\": data_offsets are not in order" },
	{ "{" T("a", "F32", "[1]", "0", "8") "}", 8, "span 8 bytes, its shape needs 4" },
	{ "{" T("a", "F32", "[1]", "0", "18446744073709551616") "}", 8, "JSON" },
	{ "{" T("a", "F32", "[1]", "4", "8") "}", 8, "\"a\": a hole" },
	{ "{" T("a", "F32", "[2]", "0", "8") "," T("b", "F32", "[1]", "4", "8") "}", 8,
	  "\"b\": overlaps" },
	{ "{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "8", "12") "}", 12,
	  "\"b\": a hole" },
	{ "{" T("a", "F32", "[2]", "0", "8") "}", 7, "\"a\" ends at byte 8 of 7" },
	{ "{" T("a", "F32", "[2]", "0", "8") "}", 9, "1 bytes after" },
	{ "{" T("a", "F32", "[1]", "0", "4") "," T("a", "F32", "[1]", "4", "8") "}", 8,
	  "uplicate" },
	{ "{" T("a", "F4", "[3]", "0", "1") "}", 1, "\"a\": ends inside a byte" },
	{ "{" T("a", "F32", "[4611686018427387904,4]", "0", "0") "}", 0,
	  "\"a\": the shape has more" },
	{ "{" T("a", "F32", "[4611686018427387904]", "0", "0") "}", 0,
	  "\"a\": the shape has more" },
	{ "{" T("a", "F32", "[4611686018427387904,8,0]", "0", "0") "}", 0, "the shape has more" },
	{ "{\"__metadata__\":{\"a\":1}}", 0, "__metadata__: \"a\"" },
	{ "{\"__metadata__\":[]}", 0, "__metadata__ is not" },
	{ "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "uplicate" },
	{ "{\"\xff\":1}", 0, "JSON" },
};

START_TEST(refused)
{
	qat_safetensors *file = NULL;
	const int rc = (kit_put_safetensors("f", bad[_i].header, bad[_i].data),
			qat_st_open(&file, kit_path("f")));

	kit_fails(rc, QAT_EFORMAT, bad[_i].message);
	ck_assert_ptr_nonnull(strstr(kit_message(), "/f"));
	ck_assert_ptr_null(file);
}
END_TEST

START_TEST(refused_length)
{
	static const struct { const char *hex, *message; } files[] = {
		{ "", "0 bytes are too short" },
		{ "01000000000000", "7 bytes are too short" },
		{ "0300000000000000 7b7d", "the header has 3 bytes" },
		{ "01e1f50500000000 7b7d", "a header of 100000001 bytes" },
		{ "ffffffffffffffff 7b7d", "a header of 18446744073709551615 bytes" },
		{ "0000000000000000", "JSON" },
	};
	qat_safetensors *file = NULL;
	unsigned char bytes[16];

	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		kit_put("f", bytes, kit_hex(bytes, files[i].hex));
		kit_fails(qat_st_open(&file, kit_path("f")), QAT_EFORMAT, files[i].message);
	}
	kit_fails(qat_st_open(&file, kit_path("none")), QAT_ENOTFOUND, "none");
	kit_fails(qat_st_open(&file, kit_path("")), QAT_EINVAL, "not a regular file");
}
END_TEST

static void put_header(const char *header, size_t n)
{
	char *bytes = malloc(8 + n);
	const uint64_t length = htole64(n);

	ck_assert_ptr_nonnull(bytes);
	memcpy(bytes, &length, 8);
	memcpy(bytes + 8, header, n);
	kit_put("f", bytes, 8 + n);
	free(bytes);
}

/* Two bytes each in the file, a hundred each in memory. */
START_TEST(refused_values)
{
	enum { VALUES = 1 << 20 };
	static const char quoted[] = "{\"__metadata__\":{\"a\":\"";
	char *header = malloc(3 * VALUES + 64), *at = header;
	qat_safetensors *file = NULL;

	ck_assert_ptr_nonnull(header);
	at += sprintf(at, "{\"a\":[");
	for (int i = 0; i < VALUES; i++)
		at += sprintf(at, "[],");
	at += sprintf(at, "0]}");
	put_header(header, (size_t)(at - header));
	kit_fails(qat_st_open(&file, kit_path("f")), QAT_EFORMAT, "JSON of more than 1048576 values");
	/* what is quoted is no value */
	memset(header, ',', 3 * VALUES);
	memcpy(header, quoted, sizeof quoted - 1);
	strcpy(header + 3 * VALUES, "\\\"\"}}");
	put_header(header, strlen(header));
	ck_assert_int_eq(qat_st_open(&file, kit_path("f")), QAT_OK);
	qat_st_close(file);
	free(header);
}
END_TEST

START_TEST(allowed)
{
	qat_safetensors *file;
	const qat_st_tensor *t;
	float x;

	kit_put_safetensors("f", " {\"__metadata__\":null,\"s\":{\"dtype\":\"F32\",\"more\":[],"
			    "\"shape\":[],\"data_offsets\":[0,4]},"
			    T("empty", "F32", "[0,3]", "4", "4") ","
			    T("deep", "U16", "[1,1,1,1,2]", "4", "8") ","
			    T("f4", "F4", "[2]", "8", "9") "}\n ", 9);
	ck_assert_int_eq(qat_st_open(&file, kit_path("f")), QAT_OK);
	ck_assert_int_eq(qat_st_count(file), 4);
	ck_assert_int_eq(qat_st_find(file, "s")->rank, 0);
	t = qat_st_find(file, "deep");
	ck_assert_int_eq(t->rank, 5);
	ck_assert_int_eq(t->shape[0], 1);
	ck_assert_int_eq(qat_st_read(file, qat_st_find(file, "empty"), &x, 0, 0), QAT_OK);
	kit_fails(qat_st_read(file, t, &x, 0, 1), QAT_ENOTSUP, "\"deep\" is U16");
	kit_fails(qat_st_read(file, qat_st_find(file, "s"), &x, 0, 2), QAT_EFORMAT, "more than");
	qat_st_close(file);
}
END_TEST

/* More than one buffer wide, and rows longer than a buffer. */
START_TEST(transposed)
{
	static const struct { int64_t rows, columns; } shapes[] = {
		{ 3, 5 }, { 1000, 700 }, { 300000, 3 }, { 2, 0 },
	};

	for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
		const int64_t rows = shapes[k].rows, columns = shapes[k].columns;
		float *data = malloc((size_t)(rows * columns + 1) * sizeof *data);
		const qat_tensor t = { .size = sizeof t, .dtype = QAT_F32, .rank = 2,
				       .shape = { rows, columns }, .data = data,
				       .bytes = 4 * rows * columns };
		const qat_st_item item = { .name = "a", .tensor = &t, .transpose = 1 };
		qat_safetensors *file;
		const qat_st_tensor *got;

		ck_assert_ptr_nonnull(data);
		for (int64_t i = 0; i < rows * columns; i++)
			data[i] = (float)i;
		ck_assert_int_eq(qat_st_write(kit_path("t"), &item, 1, NULL), QAT_OK);
		ck_assert_int_eq(qat_st_open(&file, kit_path("t")), QAT_OK);
		got = qat_st_find(file, "a");
		ck_assert_int_eq(got->shape[0], columns);
		ck_assert_int_eq(got->shape[1], rows);
		for (int64_t c = 0; c < columns; c++)
			for (int64_t r = 0; r < rows; r += 97) {
				float x;

				memcpy(&x, got->data + 4 * (c * rows + r), 4);
				if (x != data[r * columns + c])
					ck_abort_msg("%lld, %lld", (long long)r, (long long)c);
			}
		qat_st_close(file);
		free(data);
	}
}
END_TEST

/* ---- native ---- */

static unsigned char codes[6] = { 0, 1, 2, 0x80, 0xfe, 0xff };
static uint16_t scales[2] = { 0x3f80, 0xc000 };
static float weights[6] = { 0, 1, 2, 3, 4, 5 };

static const qat_tensor w = TENSOR("w", QAT_F32, weights, 2, 3, 2);
static const qat_tensor s = TENSOR("s", QAT_BF16, scales, 1, 2);
static const qat_tensor c8 = TENSOR("c8", QAT_I8, codes, 2, 2, 3);
static const qat_tensor u8 = TENSOR("u8", QAT_U8, codes, 1, 6);
static const qat_tensor e8 = TENSOR("e8", QAT_E8M0, codes, 3, 1, 2, 3);
static const qat_tensor e4 = TENSOR("e4", QAT_E4M3, codes, 4, 1, 2, 3, 1);
static const qat_tensor *const state_tensors[] = { &w, &s, &c8, &u8, &e8, &e4 };

static qat_checkpoint state_checkpoint(void)
{
	qat_checkpoint c = { .size = sizeof c, .family = "x", .n_tensors = 6,
			     .tensors = state_tensors };

	c.docs[QAT_DOC_STATE] = (qat_text){ "{\"a\": \"\\u0000 \"}\n", 17 };
	c.docs[QAT_DOC_CONFIG] = (qat_text){ "{}", 2 };
	c.docs[QAT_DOC_TOKENIZER] = (qat_text){ "", 0 };
	return c;
}

START_TEST(state_round_trip)
{
	const qat_checkpoint c = state_checkpoint();
	qat_text text;
	void *file;

	ck_assert_int_eq(native->save(kit_path("state/"), &c), QAT_OK);
	ck_assert_int_eq(kit_count(""), 1);
	ck_assert_int_eq(kit_count("state"), 4);
	ck_assert_int_eq(native->probe(kit_path("state")), 1);
	ck_assert_int_eq(native->probe(kit_path("")), 0);
	ck_assert_int_eq(native->open(&file, kit_path("state")), QAT_OK);
	for (uint32_t i = 0; i < QAT_DOCS + 2; i++) {
		ck_assert_int_eq(native->document(file, i, &text), QAT_OK);
		ck_assert_int_eq(text.at != NULL, i < QAT_DOCS && c.docs[i].at != NULL);
		if (text.at) {
			ck_assert_int_eq(text.length, c.docs[i].length);
			ck_assert_mem_eq(text.at, c.docs[i].at, (size_t)text.length);
		}
	}
	for (int i = 0; i < 6; i++) {
		const qat_tensor *t = state_tensors[i];
		const qat_param p = param(t->name);
		qat_tensor got;

		ck_assert_int_eq(native->find(file, &p, &got), QAT_OK);
		ck_assert_uint_eq(got.dtype, t->dtype);
		ck_assert_int_eq(got.rank, t->rank);
		for (int k = 0; k < QAT_MAX_RANK; k++)
			ck_assert_int_eq(got.shape[k], k < t->rank ? t->shape[k] : 1);
		ck_assert_str_eq(got.name, t->name);
		ck_assert_int_eq(got.bytes, t->bytes);
		ck_assert_mem_eq(got.data, t->data, (size_t)t->bytes);
		ck_assert_ptr_nonnull(native->tensor_name(file, i));
	}
	ck_assert_ptr_null(native->tensor_name(file, 6));
	native->close(file);
}
END_TEST

START_TEST(state_read)
{
	const qat_checkpoint c = state_checkpoint();
	const qat_param pw = param("w"), ps = param("s"), pc = param("c8"), none = param("n");
	float x[6];
	qat_tensor t;
	void *file;

	ck_assert_int_eq(native->save(kit_path("state"), &c), QAT_OK);
	ck_assert_int_eq(native->open(&file, kit_path("state")), QAT_OK);
	ck_assert_int_eq(native->read(file, &pw, x, 1, 2), QAT_OK);
	ck_assert_mem_eq(x, weights + 2, 16);
	ck_assert_int_eq(native->read(file, &ps, x, 0, 1), QAT_OK);
	ck_assert(x[0] == 1 && x[1] == -2);
	ck_assert_int_eq(native->read(file, &pw, x, 3, 0), QAT_OK);
	ck_assert_int_lt(native->read(file, &pw, x, 2, 2), 0);
	ck_assert_int_lt(native->read(file, &pw, x, -1, 1), 0);
	ck_assert_int_lt(native->read(file, &pw, x, INT64_MAX, INT64_MAX), 0);
	ck_assert_int_lt(native->read(file, &ps, x, 1, 1), 0);
	kit_fails(native->read(file, &pc, x, 0, 1), QAT_ENOTSUP, "\"c8\" is I8");
	ck_assert_int_eq(native->find(file, &none, &t), QAT_ENOTFOUND);
	kit_fails(native->read(file, &none, x, 0, 1), QAT_ENOTFOUND, "\"n\"");
	native->close(file);
}
END_TEST

/* What fails leaves nothing behind, and what is there stays. */
START_TEST(save_refused)
{
	qat_checkpoint c = state_checkpoint();
	qat_tensor wrong = w;
	const qat_tensor *list[] = { &wrong, &w };

	ck_assert_int_eq(native->save(kit_path("state"), &c), QAT_OK);
	kit_fails(native->save(kit_path("state"), &c), QAT_EEXIST, "exists already");
	ck_assert_int_eq(kit_count("state"), 4);

	c.tensors = list;
	c.n_tensors = 2;
	kit_fails(native->save(kit_path("b"), &c), QAT_EINVAL, "two tensors are named \"w\"");
	wrong.bytes = 20;
	kit_fails(native->save(kit_path("b"), &c), QAT_EINVAL, "\"w\": 20 bytes in memory");
	wrong = (qat_tensor){ .size = sizeof wrong, .name = "w", .dtype = 77 };
	kit_fails(native->save(kit_path("b"), &c), QAT_EINVAL, "unknown type 77");
	wrong = w;
	wrong.name = "\xff";
	kit_fails(native->save(kit_path("b"), &c), QAT_EINVAL, "UTF-8");
	c.docs[QAT_DOC_STATE].at = NULL;
	kit_fails(native->save(kit_path("b"), &c), QAT_EINVAL, "state.json");
	kit_fails(native->save(kit_path("no/b"), &c), QAT_EINVAL, "state.json");
	c = state_checkpoint();
	kit_fails(native->save(kit_path("no/b"), &c), QAT_EIO, "no/b");
	ck_assert_int_eq(kit_count(""), 1);
}
END_TEST

START_TEST(write_replaces)
{
	const qat_tensor *one = &w, *other = &u8;
	qat_safetensors *file;

	ck_assert_int_eq(native->write(kit_path("d"), &one, 1), QAT_OK);
	ck_assert_int_eq(native->write(kit_path("d"), &other, 1), QAT_OK);
	ck_assert_int_eq(qat_st_open(&file, kit_path("d")), QAT_OK);
	ck_assert_int_eq(qat_st_count(file), 1);
	ck_assert_ptr_nonnull(qat_st_find(file, "u8"));
	qat_st_close(file);
	kit_fails(native->write(kit_path("no/d"), &one, 1), QAT_EIO, "no/d");
	ck_assert_int_eq(kit_count(""), 1);
}
END_TEST

START_TEST(find_refused)
{
	const qat_param m = param("m"), n = param("n"), u = param("u"), d = param("d");
	qat_tensor t;
	void *file = NULL;

	kit_put_text("n/state.json", "{}");
	kit_fails(native->open(&file, kit_path("n")), QAT_ENOTFOUND, "model.safetensors");
	kit_put_safetensors("n/model.safetensors", "{\"__metadata__\":{\"dtype.n\":\"F7\"},"
			    T("n", "U8", "[1]", "0", "1") "," T("m", "F32", "[1]", "1", "5") ","
			    T("u", "U16", "[1]", "5", "7") "," T("d", "U8", "[1,1,1,1,1]", "7", "8")
			    "}     ", 8);
	ck_assert_int_eq(native->open(&file, kit_path("n")), QAT_OK);
	kit_fails(native->find(file, &m, &t), QAT_EFORMAT, "\"m\" is not aligned");
	kit_fails(native->find(file, &n, &t), QAT_EFORMAT, "\"n\": the metadata calls it \"F7\"");
	kit_fails(native->find(file, &u, &t), QAT_ENOTSUP, "\"u\": U16");
	kit_fails(native->find(file, &d, &t), QAT_ENOTSUP, "rank 5");
	native->close(file);
	native->close(NULL);
}
END_TEST

static void use(const qat_format *format, void *file)
{
	const char *name;

	for (int64_t i = 0; (name = format->tensor_name(file, i)); i++) {
		const qat_param p = param(name);
		float x[64];
		qat_tensor t;

		if (format->find(file, &p, &t))
			continue;
		for (int64_t b = 0; b < t.bytes; b++)
			ck_assert_int_ge(((volatile unsigned char *)t.data)[b], 0);
		if (t.bytes < 64)
			format->read(file, &p, x, 0, 1);
	}
}

START_TEST(mutants)
{
	const qat_checkpoint c = state_checkpoint();

	ck_assert_int_eq(native->save(kit_path("state"), &c), QAT_OK);
	kit_mutate("state/model.safetensors", "state", native, use);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("safetensors");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(t, setup, kit_end);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, vector);
	tcase_add_test(t, order);
	tcase_add_loop_test(t, refused, 0, sizeof bad / sizeof *bad);
	tcase_add_test(t, refused_length);
	tcase_add_test(t, refused_values);
	tcase_add_test(t, allowed);
	tcase_add_test(t, transposed);
	tcase_add_test(t, state_round_trip);
	tcase_add_test(t, state_read);
	tcase_add_test(t, save_refused);
	tcase_add_test(t, write_replaces);
	tcase_add_test(t, find_refused);
	tcase_add_test(t, mutants);
	suite_add_tcase(suite, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
