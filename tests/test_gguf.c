/* test_gguf.c - GGUF: blocks by eye, structure refused where it is wrong, and the rows of
 * rotated heads. */
#include "gguf_kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- blocks ---- */

static void block_values(float *out, uint32_t type, const char *hex)
{
	unsigned char block[256];
	const qat_gguf_type *t = qat_gguf_type_find(type);

	ck_assert_uint_eq(kit_hex(block, hex), (size_t)t->bytes);
	t->values(out, block);
}

/* x[i] = (i - 16) / 16 through the reference quantizers. */
START_TEST(blocks_of_a_ramp)
{
	static const float e2m1[16] = { 0, .5f, 1, 1.5f, 2, 3, 4, 6, 0, -.5f, -1, -1.5f, -2, -3,
					-4, -6 };
	unsigned char codes[16];
	float x[32];

	block_values(x, 8, "0820 81899199a1a9b1b9c0c8d0d8e0e8f0f8000810182028303840474f575f676f77");
	for (int i = 0; i < 32; i++)
		ck_assert_double_le(fabs(x[i] - (i - 16) / 16.0), 0.0079 / 2 + 1e-4);
	ck_assert(x[0] == -127 * 0.00787353515625f && x[16] == 0);

	block_values(x, 2, "0030 809191a2a2b3b3c4c4d5d5e6e6f7f7f8");
	for (int i = 0; i < 32; i++)
		ck_assert(x[i] == (i < 31 ? 0.125f * (float)((i + 1) / 2 - 8) : 0.875f));

	block_values(x, 39, "7d 0e0e1d1d2d2d3c3c4c4b4b5a5a595960");
	kit_hex(codes, "eeddddccbcab9a090011223344545565");
	for (int i = 0; i < 32; i++)
		ck_assert(x[i] == 0.25f * e2m1[codes[i / 2] >> 4 * (i % 2) & 15]);
}
END_TEST

/* Scale 2 (0x4000), minimum -1 (0xbc00), nibbles counting up in the low halves and down
 * in the high ones, fifth bits on odd elements. */
START_TEST(blocks_of_32)
{
	float x[32];

	block_values(x, 3, "0040 00bc f0e1d2c3b4a5968778695a4b3c2d1e0f");
	for (int i = 0; i < 32; i++)
		ck_assert(x[i] == 2.0f * (float)(i < 16 ? i : 31 - i) - 1);
	block_values(x, 6, "0040 aaaaaaaa f0e1d2c3b4a5968778695a4b3c2d1e0f");
	for (int i = 0; i < 32; i++)
		ck_assert(x[i] == 2.0f * (float)((i < 16 ? i : 31 - i) + i % 2 * 16 - 16));
	block_values(x, 7, "0040 00bc aaaaaaaa f0e1d2c3b4a5968778695a4b3c2d1e0f");
	for (int i = 0; i < 32; i++)
		ck_assert(x[i] == 2.0f * (float)((i < 16 ? i : 31 - i) + i % 2 * 16) - 1);
}
END_TEST

static const int scales[8] = { 1, 9, 17, 25, 33, 41, 49, 63 };
static const int mins[8] = { 60, 51, 42, 33, 24, 15, 6, 63 };

/* d 1, dmin 1, the scales above: six bits in twelve bytes. */
static void k_head(unsigned char *block)
{
	const unsigned char ones[4] = { 0x00, 0x3c, 0x00, 0x3c };

	memcpy(block, ones, 4);
	for (int j = 0; j < 4; j++) {
		block[4 + j] = (unsigned char)(scales[j] | (scales[j + 4] & 0x30) << 2);
		block[8 + j] = (unsigned char)(mins[j] | (mins[j + 4] & 0x30) << 2);
		block[12 + j] = (unsigned char)((scales[j + 4] & 15) | (mins[j + 4] & 15) << 4);
	}
}

START_TEST(blocks_of_256)
{
	unsigned char block[256] = { 0 };
	float x[256];

	k_head(block);
	for (int e = 0; e < 256; e++)		/* q = e % 13 */
		block[16 + e / 64 * 32 + e % 32] |= (unsigned char)(e % 13 << e / 32 % 2 * 4);
	qat_gguf_type_find(12)->values(x, block);
	for (int e = 0; e < 256; e++)
		ck_assert(x[e] == (float)(scales[e / 32] * (e % 13) - mins[e / 32]));

	memset(block, 0, sizeof block);
	k_head(block);
	for (int e = 0; e < 256; e++) {		/* q = e % 29 */
		block[48 + e / 64 * 32 + e % 32] |= (unsigned char)(e % 29 % 16 << e / 32 % 2 * 4);
		block[16 + e % 32] |= (unsigned char)(e % 29 / 16 << e / 32);
	}
	qat_gguf_type_find(13)->values(x, block);
	for (int e = 0; e < 256; e++)
		ck_assert(x[e] == (float)(scales[e / 32] * (e % 29) - mins[e / 32]));

	memset(block, 0, sizeof block);
	block[209] = 0x38;			/* d = 0.5 */
	for (int j = 0; j < 16; j++)
		block[192 + j] = (unsigned char)(j * 16 - 120);
	for (int e = 0; e < 256; e++) {		/* q = e % 61 */
		const int half = e / 128, k = e / 32 % 4, q = e % 61;

		block[64 * half + 32 * (k % 2) + e % 32] |= (unsigned char)(q % 16 << k / 2 * 4);
		block[128 + 32 * half + e % 32] |= (unsigned char)(q / 16 << 2 * k);
	}
	qat_gguf_type_find(14)->values(x, block);
	for (int e = 0; e < 256; e++)
		ck_assert(x[e] == 0.5f * (float)((e / 16 * 16 - 120) * (e % 61 - 32)));
}
END_TEST

/* ---- tensors ---- */

START_TEST(names)
{
	static const char *const pairs[][2] = {
		{ "embed.weight", "token_embd.weight" }, { "norm.weight", "output_norm.weight" },
		{ "norm.bias", "output_norm.bias" }, { "lm_head.weight", "output.weight" },
		{ "positions.weight", "position_embd.weight" },
		{ "layers.0.norm1.weight", "blk.0.attn_norm.weight" },
		{ "layers.7.norm2.bias", "blk.7.ffn_norm.bias" },
		{ "layers.12.attn.q.weight", "blk.12.attn_q.weight" },
		{ "layers.12.attn.k.bias", "blk.12.attn_k.bias" },
		{ "layers.1.attn.v.weight", "blk.1.attn_v.weight" },
		{ "layers.1.attn.o.weight", "blk.1.attn_output.weight" },
		{ "layers.1.attn.qkv.weight", "blk.1.attn_qkv.weight" },
		{ "layers.100.mlp.gate.weight", "blk.100.ffn_gate.weight" },
		{ "layers.1.mlp.up.weight", "blk.1.ffn_up.weight" },
		{ "layers.1.mlp.down.weight", "blk.1.ffn_down.weight" },
	};
	static const char *const none[] = {
		"", "weight", ".weight", "norm", "layers.0.weight", "layers..norm1.weight",
		"layers.-1.norm1.weight", "layers.0.norm.weight", "norm1.weight", "embed.bias",
		"layers.3.norm1.weight", "layers.0.attn.x.weight", "layers.0.", "layers.0",
	};
	const int n = sizeof pairs / sizeof *pairs;
	qat_tensor t;
	void *file;

	llama_begin();
	for (int i = 0; i < n; i++)
		add_counted(pairs[i][1], 2, 3);
	file = build_opened();
	for (int i = 0; i < n; i++) {
		const qat_param p = param(pairs[i][0], 0);

		ck_assert_int_eq(gguf->find(file, &p, &t), QAT_OK);
		ck_assert_str_eq(t.name, pairs[i][1]);
		ck_assert_str_eq(gguf->tensor_name(file, i), pairs[i][1]);
		ck_assert_int_eq(t.shape[0], 3);
		ck_assert_int_eq(t.shape[1], 2);
		ck_assert_int_eq(t.shape[2] * t.shape[3], 1);
	}
	ck_assert_ptr_null(gguf->tensor_name(file, n));
	ck_assert_ptr_null(gguf->tensor_name(file, -1));
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		const qat_param p = param(none[i], 0);

		ck_assert_int_eq(gguf->find(file, &p, &t), QAT_ENOTFOUND);
		ck_assert_int_lt(gguf->read(file, &p, NULL, 0, 1), 0);
	}
	gguf->close(file);
	gguf->close(NULL);
}
END_TEST

/* Two heads of 8 rows: the file has old rows 0,4,1,5,2,6,3,7 in this order. */
START_TEST(rotated_rows)
{
	static const int old[8] = { 0, 4, 1, 5, 2, 6, 3, 7 };
	const qat_param q = param("layers.0.attn.q.weight", 2);
	const qat_param v = param("layers.0.attn.v.weight", 0);
	const qat_param bias = param("layers.0.attn.q.bias", 2);
	const qat_param odd = param("layers.0.attn.q.weight", 16);
	const qat_param none = param("layers.0.attn.q.weight", 3);
	float data[16][3], x[48];
	qat_tensor t;
	void *file;

	for (int gpt2 = 0; gpt2 < 2; gpt2++) {
		build_begin();
		add_text("general.architecture", gpt2 ? "gpt2" : "llama");
		for (int r = 0; r < 16; r++)
			for (int c = 0; c < 3; c++)
				data[r][c] = (float)(10 * (gpt2 ? r : r / 8 * 8 + old[r % 8]) + c);
		add_tensor("blk.0.attn_q.weight", F32, 3, 16, data, sizeof data);
		add_tensor("blk.0.attn_v.weight", F32, 3, 16, data, sizeof data);
		for (int r = 0; r < 16; r++)
			x[r] = (float)(gpt2 ? r : r / 8 * 8 + old[r % 8]);
		add_tensor("blk.0.attn_q.bias", F32, 16, 0, x, 64);
		file = build_opened();
		ck_assert_int_eq(gguf->read(file, &q, x, 0, 5), QAT_OK);
		ck_assert_int_eq(gguf->read(file, &q, x + 15, 5, 11), QAT_OK);
		for (int i = 0; i < 48; i++)
			ck_assert(x[i] == (float)(10 * (i / 3) + i % 3));
		ck_assert_int_eq(gguf->read(file, &bias, x, 0, 1), QAT_OK);
		for (int i = 0; i < 16; i++)
			ck_assert(x[i] == (float)i);
		ck_assert_int_eq(gguf->read(file, &v, x, 0, 16), QAT_OK);
		ck_assert_mem_eq(x, data, sizeof data);
		ck_assert_int_eq(gguf->find(file, &q, &t), QAT_OK);
		ck_assert_int_eq(t.data != NULL, gpt2);
		ck_assert_int_eq(gguf->find(file, &v, &t), QAT_OK);
		ck_assert_mem_eq(t.data, data, sizeof data);
		if (!gpt2) {
			kit_fails(gguf->find(file, &odd, &t), QAT_EFORMAT, "16 heads of rotated");
			kit_fails(gguf->read(file, &none, x, 0, 1), QAT_EFORMAT, "3 heads of rot");
		}
		gguf->close(file);
	}
}
END_TEST

START_TEST(types_and_rows)
{
	const qat_param h = param("embed.weight", 0), q = param("layers.0.mlp.up.weight", 0);
	const qat_param i8 = param("layers.0.mlp.down.weight", 0), n = param("norm.weight", 0);
	unsigned char blocks[2 * 34] = { 0 };
	float x[64];
	qat_tensor t;
	void *file;

	llama_begin();
	add_tensor("token_embd.weight", F16, 2, 1, "\x00\x3c\x00\xc0", 4);
	blocks[1] = blocks[35] = 0x3c;
	blocks[2] = 5;
	blocks[36] = 0xff;
	add_tensor("blk.0.ffn_up.weight", Q8_0, 32, 2, blocks, sizeof blocks);
	add_tensor("blk.0.ffn_down.weight", 24, 3, 1, "abc", 3);
	add_counted("output_norm.weight", 4, 0);
	file = build_opened();
	ck_assert_int_eq(gguf->find(file, &h, &t), QAT_OK);
	ck_assert_uint_eq(t.dtype, QAT_F16);
	ck_assert_int_eq(t.bytes, 4);
	ck_assert_mem_eq(t.data, "\x00\x3c\x00\xc0", 4);
	ck_assert_int_eq(gguf->find(file, &q, &t), QAT_OK);
	ck_assert_uint_eq(t.dtype, QAT_F32);
	ck_assert_int_eq(t.bytes, 256);
	ck_assert_ptr_null(t.data);
	ck_assert_int_eq(gguf->read(file, &q, x, 1, 1), QAT_OK);
	ck_assert(x[0] == -1 && x[1] == 0);
	ck_assert_int_eq(gguf->read(file, &q, x, 0, 2), QAT_OK);
	ck_assert(x[0] == 5 && x[32] == -1);
	ck_assert_int_eq(gguf->read(file, &q, x, 2, 0), QAT_OK);
	kit_fails(gguf->read(file, &q, x, 1, 2), QAT_EINVAL, "has 2 rows, no 2 from 1");
	kit_fails(gguf->read(file, &q, x, -1, 1), QAT_EINVAL, "2 rows");
	kit_fails(gguf->read(file, &q, x, INT64_MAX, INT64_MAX), QAT_EINVAL, "2 rows");
	ck_assert_int_eq(gguf->find(file, &n, &t), QAT_OK);
	ck_assert_int_eq(t.rank, 1);
	ck_assert_int_eq(t.shape[0], 4);
	ck_assert_int_eq(gguf->read(file, &n, x, 0, 1), QAT_OK);
	ck_assert(x[3] == 3);
	ck_assert_int_lt(gguf->read(file, &n, x, 1, 1), 0);
	kit_fails(gguf->find(file, &i8, &t), QAT_ENOTSUP, "ffn_down.weight\" is of type I8");
	kit_fails(gguf->read(file, &i8, x, 0, 1), QAT_ENOTSUP, "I8");
	gguf->close(file);
}
END_TEST

/* ---- structure ---- */

static void no_file(void) { b->n_tensors = 1; }
static void version_1(void) { b->version = 1; }
static void version_4(void) { b->version = 4; }
static void version_swapped(void) { b->version = 0x03000000; }
static void many_tensors(void) { b->n_tensors = UINT64_MAX; }
static void many_values(void) { b->n_values = UINT64_C(1) << 40; }
static void empty_key(void) { add_u32("", 1); }
static void same_key(void) { add_u32("a", 1); add_u32("a", 1); }
static void odd_type(void) { add_key("a", 13); kit_add_int(&b->values, 0, 8); }

static void nested_array(void)
{
	add_key("a", GGUF_ARRAY);
	kit_add_int(&b->values, GGUF_ARRAY, 4);
	kit_add_int(&b->values, 0, 8);
}

static void long_array(void)
{
	add_key("a", GGUF_ARRAY);
	kit_add_int(&b->values, GGUF_U64, 4);
	kit_add_int(&b->values, UINT64_C(1) << 61, 8);
}

static void cut_array(void)
{
	add_key("a", GGUF_ARRAY);
	kit_add_int(&b->values, GGUF_U64, 4);
	kit_add_int(&b->values, 1 << 30, 8);
}

static void long_string(void)
{
	add_key("a", GGUF_STRING);
	kit_add_int(&b->values, UINT64_MAX - 7, 8);
}

static void cut_strings(void)
{
	add_key("a", GGUF_ARRAY);
	kit_add_int(&b->values, GGUF_STRING, 4);
	kit_add_int(&b->values, 3, 8);
	add_string(&b->values, "x");
	kit_add_int(&b->values, 1 << 20, 8);
}

static void alignment_48(void) { add_u32("general.alignment", 48); }
static void alignment_0(void) { add_u32("general.alignment", 0); }
static void alignment_text(void) { add_text("general.alignment", "32"); }
static void part_of_2(void) { add_u32("split.count", 2); }
static void same_tensor(void) { add_counted("a", 1, 1); add_counted("a", 1, 1); }
static void empty_tensor(void) { add_tensor("a", F32, 0, 1, "", 0); }
static void huge_tensor(void) { add_tensor("a", F32, UINT64_C(1) << 62, 4, "", 0); }
static void huge_bytes(void) { add_tensor("a", F32, UINT64_C(1) << 62, 0, "", 0); }
static void negative_tensor(void) { add_tensor("a", F32, UINT64_MAX, 1, "", 0); }
static void odd_row(void) { add_tensor("a", Q4_0, 33, 1, "", 0); }
static void odd_element(void) { add_tensor("a", 99, 1, 1, "", 0); }
static void cut_tensor(void) { add_tensor("a", F32, 8, 1, "abc", 3); }

static void with_hole(void)
{
	add_counted("a", 1, 1);
	kit_add(&b->data, "                                ", 32);
	add_counted("c", 1, 1);
}

static void long_name(void)
{
	add_counted("0123456789012345678901234567890123456789012345678901234567891234", 1, 1);
}

static void five_dimensions(void)
{
	b->n_tensors++;
	add_string(&b->tensors, "a");
	kit_add_int(&b->tensors, 5, 4);
	kit_add(&b->tensors, "01234567890123456789012345678901234567890123456789", 50);
}

static const struct { void (*make)(void); int code; const char *message; } bad[] = {
	{ no_file, QAT_EFORMAT, "cut off" },
	{ version_1, QAT_ENOTSUP, "version 1" },
	{ version_4, QAT_ENOTSUP, "version 4" },
	{ version_swapped, QAT_ENOTSUP, "big-endian" },
	{ many_tensors, QAT_EFORMAT, "count of tensors" },
	{ many_values, QAT_EFORMAT, "count of metadata" },
	{ empty_key, QAT_EFORMAT, "empty key" },
	{ same_key, QAT_EFORMAT, "\"a\" is there twice" },
	{ odd_type, QAT_EFORMAT, "a: unknown type 13" },
	{ nested_array, QAT_EFORMAT, "a: an array of type 9" },
	{ long_array, QAT_EFORMAT, "a: 2305843009213693952 is more" },
	{ cut_array, QAT_EFORMAT, "inside a" },
	{ long_string, QAT_EFORMAT, "a: 18446744073709551608 is more" },
	{ cut_strings, QAT_EFORMAT, "inside a" },
	{ alignment_48, QAT_EFORMAT, "is 48, not a power of two" },
	{ alignment_0, QAT_EFORMAT, "is 0, not a power of two" },
	{ alignment_text, QAT_EFORMAT, "not a u32" },
	{ part_of_2, QAT_ENOTSUP, "one of 2 parts" },
	{ same_tensor, QAT_EFORMAT, "\"a\": is there twice" },
	{ empty_tensor, QAT_EFORMAT, "\"a\": an impossible shape" },
	{ huge_tensor, QAT_EFORMAT, "\"a\": an impossible shape" },
	{ huge_bytes, QAT_EFORMAT, "\"a\": an impossible shape" },
	{ negative_tensor, QAT_EFORMAT, "a: 18446744073709551615 is more" },
	{ odd_row, QAT_EFORMAT, "\"a\": rows of 33 elements are not whole blocks of Q4_0" },
	{ odd_element, QAT_ENOTSUP, "\"a\" is of type 99" },
	{ cut_tensor, QAT_OK, "" },
	{ with_hole, QAT_EFORMAT, "\"c\" lies at 64, not at 32" },
	{ long_name, QAT_EFORMAT, "the name is no name" },
	{ five_dimensions, QAT_EFORMAT, "\"a\" has 5 dimensions" },
};

START_TEST(refused)
{
	void *file;
	int rc;

	llama_begin();
	bad[_i].make();
	rc = build_open(&file);
	kit_fails(rc, bad[_i].code, bad[_i].message);
	if (!rc) {		/* padding made it whole */
		gguf->close(file);
		return;
	}
	ck_assert_ptr_null(file);
	ck_assert_ptr_nonnull(strstr(kit_message(), "/f.gguf"));
}
END_TEST

START_TEST(refused_wholly)
{
	void *file = NULL;
	size_t length;
	char *text;

	build_begin();
	kit_fails(build_open(&file), QAT_EFORMAT, "general.architecture");
	build_begin();
	add_text("general.architecture", "mamba");
	kit_fails(build_open(&file), QAT_ENOTSUP, "\"mamba\" is not read; llama and gpt2");
	kit_put_text("f.gguf", "GGUX");
	ck_assert_int_eq(gguf->probe(kit_path("f.gguf")), 0);
	kit_fails(gguf->open(&file, kit_path("f.gguf")), QAT_EFORMAT, "does not begin");
	kit_put_text("f.gguf", "");
	ck_assert_int_eq(gguf->probe(kit_path("f.gguf")), 0);
	kit_fails(gguf->open(&file, kit_path("f.gguf")), QAT_EFORMAT, "cut off at byte 0");
	ck_assert_int_eq(gguf->probe(kit_path("")), 0);
	ck_assert_int_eq(gguf->probe(kit_path("none")), 0);
	kit_fails(gguf->open(&file, kit_path("none")), QAT_ENOTFOUND, "none");

	llama_begin();
	add_counted("a", 100, 2);
	build_put("f.gguf");
	ck_assert_int_eq(gguf->probe(kit_path("f.gguf")), 1);
	text = kit_get("f.gguf", &length);
	kit_put("f.gguf", text, length - 33);
	free(text);
	kit_fails(gguf->open(&file, kit_path("f.gguf")), QAT_EFORMAT, "\"a\" does not lie in");
	ck_assert_ptr_null(file);
}
END_TEST

START_TEST(alignments)
{
	const qat_param p = param("norm.weight", 0);
	float x[3];

	for (uint32_t a = 1; a <= 4096; a *= 8) {
		void *file;

		llama_begin();
		b->alignment = a;
		b->version = a > 1 ? 3 : 2;
		add_u32("general.alignment", a);
		add_tensor("x", 24, 3, 1, "abc", 3);
		add_counted("output_norm.weight", 3, 0);
		file = build_opened();
		ck_assert_int_eq(gguf->read(file, &p, x, 0, 1), QAT_OK);
		ck_assert(x[0] == 0 && x[1] == 1 && x[2] == 2);
		gguf->close(file);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gguf");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(t, setup, kit_end);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, blocks_of_a_ramp);
	tcase_add_test(t, blocks_of_32);
	tcase_add_test(t, blocks_of_256);
	tcase_add_test(t, names);
	tcase_add_test(t, rotated_rows);
	tcase_add_test(t, types_and_rows);
	tcase_add_loop_test(t, refused, 0, sizeof bad / sizeof *bad);
	tcase_add_test(t, refused_wholly);
	tcase_add_test(t, alignments);
	suite_add_tcase(suite, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
