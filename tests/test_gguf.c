/* test_gguf.c - GGUF: blocks by eye, structure refused where it is wrong, the rows of
 * rotated heads, and the documents made from metadata. Files are built here, byte by byte. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "format_kit.h"
#include "gguf.h"

static const qat_format *gguf;

static void setup(void)
{
	gguf = kit_format();
	kit_begin();
}

/* ---- a file in the making ---- */

enum { F32 = 0, F16 = 1, Q4_0 = 2, Q8_0 = 8 };

typedef struct {
	kit_bytes values, tensors, data;
	uint64_t n_values, n_tensors;
	uint32_t version, alignment;
} builder;

static builder *b;

static void build_begin(void)
{
	static builder made;

	memset(&made, 0, sizeof made);
	made.version = 3;
	made.alignment = 32;
	b = &made;
}

static void add_string(kit_bytes *to, const char *text)
{
	kit_add_int(to, strlen(text), 8);
	kit_add(to, text, strlen(text));
}

static void add_key(const char *key, uint32_t type)
{
	b->n_values++;
	add_string(&b->values, key);
	kit_add_int(&b->values, type, 4);
}

static void add_u32(const char *key, uint32_t value)
{
	add_key(key, GGUF_U32);
	kit_add_int(&b->values, value, 4);
}

static void add_float(const char *key, float value)
{
	add_key(key, GGUF_FLOAT);
	kit_add_float(&b->values, value);
}

static void add_bool(const char *key, int value)
{
	add_key(key, GGUF_BOOL);
	kit_add_int(&b->values, (uint64_t)value, 1);
}

static void add_text(const char *key, const char *value)
{
	add_key(key, GGUF_STRING);
	add_string(&b->values, value);
}

static void add_texts(const char *key, const char *const *texts)
{
	uint64_t n = 0;

	while (texts[n])
		n++;
	add_key(key, GGUF_ARRAY);
	kit_add_int(&b->values, GGUF_STRING, 4);
	kit_add_int(&b->values, n, 8);
	for (uint64_t i = 0; i < n; i++)
		add_string(&b->values, texts[i]);
}

static void add_ints(const char *key, const int *ints, uint64_t n)
{
	add_key(key, GGUF_ARRAY);
	kit_add_int(&b->values, GGUF_I32, 4);
	kit_add_int(&b->values, n, 8);
	for (uint64_t i = 0; i < n; i++)
		kit_add_int(&b->values, (uint32_t)ints[i], 4);
}

static void data_pad(kit_bytes *to)
{
	while (to->length % b->alignment)
		kit_add(to, "", 1);
}

/* columns: innermost. rows 0: a vector. */
static void add_tensor(const char *name, uint32_t type, uint64_t columns, uint64_t rows,
		       const void *data, size_t bytes)
{
	b->n_tensors++;
	add_string(&b->tensors, name);
	kit_add_int(&b->tensors, rows ? 2 : 1, 4);
	kit_add_int(&b->tensors, columns, 8);
	if (rows)
		kit_add_int(&b->tensors, rows, 8);
	kit_add_int(&b->tensors, type, 4);
	kit_add_int(&b->tensors, b->data.length, 8);
	kit_add(&b->data, data, bytes);
	data_pad(&b->data);
}

static void add_counted(const char *name, uint64_t columns, uint64_t rows)
{
	float data[256];
	const size_t n = columns * (rows ? rows : 1);

	for (size_t i = 0; i < n; i++)
		data[i] = (float)i;
	add_tensor(name, F32, columns, rows, data, n * sizeof *data);
}

static void build_put(const char *name)
{
	static kit_bytes out;

	out.length = 0;
	kit_add(&out, "GGUF", 4);
	kit_add_int(&out, b->version, 4);
	kit_add_int(&out, b->n_tensors, 8);
	kit_add_int(&out, b->n_values, 8);
	kit_add(&out, b->values.at, b->values.length);
	kit_add(&out, b->tensors.at, b->tensors.length);
	data_pad(&out);
	kit_add(&out, b->data.at, b->data.length);
	kit_put(name, out.at, out.length);
}

static int build_open(void **file)
{
	*file = NULL;
	build_put("f.gguf");
	return gguf->open(file, kit_path("f.gguf"));
}

static void *build_opened(void)
{
	void *file;
	const int rc = build_open(&file);

	ck_assert_msg(rc == QAT_OK, "%s", kit_message());
	return file;
}

static qat_param param(const char *name, int64_t heads)
{
	return (qat_param){ .size = sizeof(qat_param), .name = name, .hub_name = "x",
			    .heads = heads, .flags = heads ? QAT_PARAM_ROPE_ROWS : 0 };
}

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

static void llama_begin(void)
{
	build_begin();
	add_text("general.architecture", "llama");
}

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

/* ---- documents ---- */

static json_t *document(void *file, uint32_t which)
{
	qat_text text, again;
	json_t *root;
	const int rc = gguf->document(file, which, &text);

	ck_assert_msg(rc == QAT_OK, "%s", kit_message());
	ck_assert_ptr_nonnull(text.at);
	ck_assert_int_eq(gguf->document(file, which, &again), QAT_OK);
	ck_assert_ptr_eq(text.at, again.at);
	root = json_loadb(text.at, (size_t)text.length, JSON_REJECT_DUPLICATES, NULL);
	ck_assert_ptr_nonnull(root);
	return root;
}

/* `wanted` as JSON is what `root` has under its keys, and nothing else. */
static void json_check(json_t *root, const char *wanted)
{
	json_t *other = json_loads(wanted, JSON_DECODE_ANY, NULL);
	char *text = json_dumps(root, JSON_ENCODE_ANY);

	ck_assert_ptr_nonnull(other);
	ck_assert_msg(json_equal(root, other), "%s\nis not\n%s", text, wanted);
	free(text);
	json_decref(other);
}

static void config_check(const char *wanted)
{
	void *file = build_opened();
	json_t *root = document(file, QAT_DOC_CONFIG);

	json_check(root, wanted);
	json_decref(root);
	gguf->close(file);
}

static void config_fails(int code, const char *message)
{
	void *file = build_opened();
	qat_text text;

	kit_fails(gguf->document(file, QAT_DOC_CONFIG, &text), code, message);
	gguf->close(file);
}

static void llama_small(void)
{
	llama_begin();
	add_u32("llama.embedding_length", 12);
	add_u32("llama.block_count", 2);
	add_u32("llama.attention.head_count", 3);
	add_u32("llama.context_length", 64);
	add_float("llama.attention.layer_norm_rms_epsilon", 1e-5f);
	add_counted("token_embd.weight", 12, 5);
}

#define LLAMA "\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\"," \
	"\"hidden_act\":\"silu\",\"hidden_size\":12,\"num_hidden_layers\":2," \
	"\"num_attention_heads\":3,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5," \
	"\"vocab_size\":5,\"mlp_bias\":false,"

START_TEST(config_llama)
{
	static const float divisors[2] = { 1, 32 };

	llama_small();
	add_u32("llama.feed_forward_length", 20);
	config_check("{" LLAMA "\"intermediate_size\":20,\"num_key_value_heads\":3,\"head_dim\":4,"
		     "\"rope_theta\":1e4,\"attention_bias\":false,\"tie_word_embeddings\":true}");

	llama_small();
	add_key("llama.feed_forward_length", GGUF_U64);
	kit_add_int(&b->values, 20, 8);
	add_u32("llama.attention.head_count_kv", 1);
	add_u32("llama.attention.key_length", 8);
	add_u32("llama.rope.dimension_count", 8);
	add_float("llama.rope.freq_base", 500000);
	add_u32("tokenizer.ggml.bos_token_id", 1);
	add_u32("tokenizer.ggml.eos_token_id", 2);
	add_tensor("rope_freqs.weight", F32, 2, 0, divisors, 8);
	add_counted("output.weight", 12, 4);
	add_counted("blk.0.attn_q.bias", 24, 0);
	config_check("{" LLAMA "\"intermediate_size\":20,\"num_key_value_heads\":1,\"head_dim\":8,"
		     "\"rope_theta\":500000.0,\"attention_bias\":true,\"rope_freqs\":[1.0,32.0],"
		     "\"bos_token_id\":1,\"eos_token_id\":2,\"tie_word_embeddings\":false}");

	llama_small();
	add_u32("llama.feed_forward_length", 20);
	add_text("llama.rope.scaling.type", "linear");
	add_float("llama.rope.scaling.factor", 2.5f);
	add_counted("output.weight", 12, 5);		/* a copy: tied */
	config_check("{" LLAMA "\"intermediate_size\":20,\"num_key_value_heads\":3,\"head_dim\":4,"
		     "\"rope_theta\":10000.0,\"attention_bias\":false,\"tie_word_embeddings\":true,"
		     "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":2.5}}");
}
END_TEST

START_TEST(config_gpt2)
{
	build_begin();
	add_text("general.architecture", "gpt2");
	add_u32("gpt2.embedding_length", 12);
	add_u32("gpt2.block_count", 2);
	add_u32("gpt2.attention.head_count", 3);
	add_u32("gpt2.context_length", 64);
	add_u32("gpt2.feed_forward_length", 48);
	add_float("gpt2.attention.layer_norm_epsilon", 1e-5f);
	add_counted("token_embd.weight", 12, 5);
	config_check("{\"architectures\":[\"GPT2LMHeadModel\"],\"model_type\":\"gpt2\","
		     "\"n_embd\":12,"
		     "\"n_layer\":2,\"n_head\":3,\"n_positions\":64,\"n_inner\":48,"
		     "\"layer_norm_epsilon\":1e-5,\"activation_function\":\"gelu_new\","
		     "\"vocab_size\":5,\"tie_word_embeddings\":true}");
}
END_TEST

START_TEST(config_refused)
{
	static const int per_layer[2] = { 1, 2 };
	static const float infinite[2] = { 1, INFINITY };

	llama_small();
	config_fails(QAT_EFORMAT, "has no llama.feed_forward_length");
	llama_small();
	add_ints("llama.feed_forward_length", per_layer, 2);
	config_fails(QAT_ENOTSUP, "llama.feed_forward_length is not an integer, but an array");
	llama_small();
	add_float("llama.feed_forward_length", 4);
	config_fails(QAT_ENOTSUP, "llama.feed_forward_length is not an integer");
	llama_small();
	add_key("llama.feed_forward_length", GGUF_U64);
	kit_add_int(&b->values, UINT64_MAX, 8);
	config_fails(QAT_ENOTSUP, "not in range");
	llama_small();
	add_u32("llama.feed_forward_length", 20);
	add_float("llama.rope.freq_base", NAN);
	config_fails(QAT_ENOTSUP, "llama.rope.freq_base is not a finite number");
	llama_small();
	add_u32("llama.expert_count", 8);
	config_fails(QAT_ENOTSUP, "8 experts");
	llama_small();
	add_u32("llama.feed_forward_length", 20);
	add_text("llama.rope.scaling.type", "yarn");
	config_fails(QAT_ENOTSUP, "\"yarn\" is not done");
	llama_small();
	add_u32("llama.feed_forward_length", 20);
	add_u32("llama.rope.dimension_count", 2);
	add_u32("llama.attention.key_length", 4);
	config_fails(QAT_ENOTSUP, "rotates 2 of the 4");
	llama_small();
	add_u32("llama.feed_forward_length", 20);
	add_tensor("rope_freqs.weight", F32, 2, 0, infinite, 8);
	config_fails(QAT_EFORMAT, "\"rope_freqs.weight\": element 1");
	llama_begin();
	add_u32("llama.attention.head_count", 0);
	add_u32("llama.embedding_length", 12);
	add_u32("llama.block_count", 2);
	add_u32("llama.context_length", 64);
	add_u32("llama.feed_forward_length", 20);
	add_float("llama.attention.layer_norm_rms_epsilon", 1e-5f);
	config_fails(QAT_EFORMAT, "0 heads");
}
END_TEST

/* ---- tokenizer ---- */

static const char *const tokens[] = { "<s>", "a", "b", "\xc4\xa0", "ab", "<u>", "\"\\", NULL };
static const int types[] = { 3, 1, 1, 1, 1, 4, 1 };
static const char *const merges[] = { "a b", NULL };

static void tokenizer_begin(const char *model, const char *pre)
{
	llama_begin();
	add_text("tokenizer.ggml.model", model);
	if (pre)
		add_text("tokenizer.ggml.pre", pre);
	add_texts("tokenizer.ggml.merges", merges);
}

static void tokenizer_put(const char *pre)
{
	tokenizer_begin("gpt2", pre);
	add_texts("tokenizer.ggml.tokens", tokens);
	add_ints("tokenizer.ggml.token_type", types, 7);
}

static void tokenizer_fails(int code, const char *message)
{
	void *file = build_opened();
	qat_text text;

	kit_fails(gguf->document(file, QAT_DOC_TOKENIZER, &text), code, message);
	gguf->close(file);
}

#define BYTES(regex) "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true," \
	"\"use_regex\":" regex "}"
#define SPLIT(number) "{\"type\":\"Sequence\"," \
	"\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{" \
	"\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" number \
	"| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}," \
	"\"behavior\":\"Isolated\",\"invert\":false}," BYTES("false") "]}"

static const struct {
	const char *pre, *pre_tokenizer, *normalizer;
	int ignore_merges, bos;
} pres[] = {
	{ NULL, BYTES("true"), "null", 0, 0 },
	{ "default", BYTES("true"), "null", 0, 0 },
	{ "gpt-2", BYTES("true"), "null", 0, 0 },
	{ "smollm", "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\","
	  "\"individual_digits\":true}," BYTES("true") "]}", "null", 0, 0 },
	{ "llama-bpe", SPLIT("\\\\p{N}{1,3}"), "null", 1, 1 },
	{ "qwen2", SPLIT("\\\\p{N}"), "{\"type\":\"NFC\"}", 0, 0 },
};

START_TEST(tokenizer)
{
	json_t *root, *model;
	void *file;

	tokenizer_put(pres[_i].pre);
	add_u32("tokenizer.ggml.bos_token_id", 0);
	file = build_opened();
	root = document(file, QAT_DOC_TOKENIZER);
	model = json_object_get(root, "model");
	json_check(json_object_get(root, "version"), "\"1.0\"");
	json_check(json_object_get(root, "pre_tokenizer"), pres[_i].pre_tokenizer);
	json_check(json_object_get(root, "normalizer"), pres[_i].normalizer);
	json_check(json_object_get(root, "decoder"), BYTES("true"));
	json_check(json_object_get(model, "type"), "\"BPE\"");
	json_check(json_object_get(model, "vocab"), "{\"<s>\":0,\"a\":1,\"b\":2,"
		   "\"\\u0120\":3,\"ab\":4,\"<u>\":5,\"\\\"\\\\\":6}");
	json_check(json_object_get(model, "merges"), "[\"a b\"]");
	ck_assert_int_eq(json_is_true(json_object_get(model, "ignore_merges")),
			 pres[_i].ignore_merges);
	json_check(json_object_get(root, "added_tokens"),
		   "[{\"id\":0,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,"
		   "\"rstrip\":false,\"normalized\":false,\"special\":true},"
		   "{\"id\":5,\"content\":\"<u>\",\"single_word\":false,\"lstrip\":false,"
		   "\"rstrip\":false,\"normalized\":false,\"special\":false}]");
	ck_assert_int_eq(json_is_null(json_object_get(root, "post_processor")), !pres[_i].bos);
	json_decref(root);
	gguf->close(file);
}
END_TEST

START_TEST(tokenizer_template)
{
	json_t *root;
	qat_text text;
	void *file;

	tokenizer_put("gpt-2");
	add_u32("tokenizer.ggml.bos_token_id", 0);
	add_u32("tokenizer.ggml.eos_token_id", 5);
	add_bool("tokenizer.ggml.add_bos_token", 1);
	add_text("tokenizer.chat_template", "{{ x }}\n");
	file = build_opened();
	root = document(file, QAT_DOC_TOKENIZER);
	json_check(json_object_get(root, "post_processor"),
		   "{\"type\":\"TemplateProcessing\","
		   "\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
		   "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],"
		   "\"pair\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
		   "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
		   "{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],"
		   "\"special_tokens\":{\"<s>\":"
		   "{\"id\":\"<s>\",\"ids\":[0],\"tokens\":[\"<s>\"]}}}");
	json_decref(root);
	root = document(file, QAT_DOC_TOKENIZER_CONFIG);
	json_check(root, "{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\"bos_token\":\"<s>\","
		   "\"eos_token\":\"<u>\",\"chat_template\":\"{{ x }}\\n\"}");
	json_decref(root);
	for (uint32_t which = 0; which < QAT_DOCS + 1; which++) {
		if (which == QAT_DOC_CONFIG || which == QAT_DOC_TOKENIZER
		    || which == QAT_DOC_TOKENIZER_CONFIG)
			continue;
		ck_assert_int_eq(gguf->document(file, which, &text), QAT_OK);
		ck_assert_ptr_null(text.at);
	}
	gguf->close(file);

	llama_begin();
	file = build_opened();
	ck_assert_int_eq(gguf->document(file, QAT_DOC_TOKENIZER, &text), QAT_OK);
	ck_assert_ptr_null(text.at);
	ck_assert_int_eq(gguf->document(file, QAT_DOC_TOKENIZER_CONFIG, &text), QAT_OK);
	ck_assert_ptr_null(text.at);
	gguf->close(file);
}
END_TEST

START_TEST(tokenizer_refused)
{
	static const char *const twice[] = { "a", "b", "a", NULL };
	static const char *const broken[] = { "a", "\xff", NULL };

	tokenizer_put("tekken");
	tokenizer_fails(QAT_ENOTSUP, "pre is \"tekken\", which is not known");
	tokenizer_begin("llama", NULL);
	tokenizer_fails(QAT_ENOTSUP, "\"llama\" (SentencePiece) is not read");
	tokenizer_begin("bert", NULL);
	tokenizer_fails(QAT_ENOTSUP, "\"bert\" is not read");
	tokenizer_begin("gpt2", NULL);
	tokenizer_fails(QAT_EFORMAT, "tokenizer.ggml.t");
	tokenizer_begin("gpt2", NULL);
	add_texts("tokenizer.ggml.tokens", tokens);
	add_ints("tokenizer.ggml.token_type", types, 6);
	tokenizer_fails(QAT_EFORMAT, "7 tokens have 6 types");
	tokenizer_begin("gpt2", NULL);
	add_texts("tokenizer.ggml.tokens", twice);
	add_ints("tokenizer.ggml.token_type", types, 3);
	tokenizer_fails(QAT_EFORMAT, "token 2, \"a\", is there twice");
	tokenizer_begin("gpt2", NULL);
	add_texts("tokenizer.ggml.tokens", broken);
	add_ints("tokenizer.ggml.token_type", types, 2);
	tokenizer_fails(QAT_EFORMAT, "token 1 is not UTF-8");
	tokenizer_put("gpt-2");
	add_bool("tokenizer.ggml.add_bos_token", 1);
	tokenizer_fails(QAT_EFORMAT, "add_bos_token without bos_token_id");
	tokenizer_put("gpt-2");
	add_bool("tokenizer.ggml.add_bos_token", 1);
	add_u32("tokenizer.ggml.bos_token_id", 7);
	tokenizer_fails(QAT_EFORMAT, "bos_token_id is 7, there are 7 tokens");
	tokenizer_put("gpt-2");
	add_u32("tokenizer.ggml.add_bos_token", 1);
	tokenizer_fails(QAT_ENOTSUP, "add_bos_token is not a bool");
}
END_TEST

/* ---- hostile files ---- */

static void use(const qat_format *format, void *file)
{
	static const char *const all[] = { "embed.weight", "layers.0.attn.q.weight",
					   "layers.0.mlp.up.weight", "norm.weight" };
	qat_text text;

	for (uint32_t i = 0; i < QAT_DOCS; i++)
		format->document(file, i, &text);
	for (int i = 0; i < 4; i++) {
		const qat_param p = param(all[i], i == 1 ? 2 : 0);
		qat_tensor t;
		float *x;

		if (format->find(file, &p, &t) || t.bytes > 1 << 16)
			continue;
		x = malloc((size_t)t.bytes + 4096);
		ck_assert_ptr_nonnull(x);
		format->read(file, &p, x, 0, t.rank < 2 ? 1 : t.shape[0]);
		free(x);
	}
}

START_TEST(mutants)
{
	unsigned char blocks[4 * 34] = { 0 };

	tokenizer_put("smollm");
	add_u32("llama.embedding_length", 12);
	add_u32("llama.block_count", 1);
	add_u32("llama.attention.head_count", 2);
	add_u32("llama.context_length", 64);
	add_u32("llama.feed_forward_length", 20);
	add_float("llama.attention.layer_norm_rms_epsilon", 1e-5f);
	add_u32("tokenizer.ggml.bos_token_id", 0);
	add_bool("tokenizer.ggml.add_bos_token", 1);
	add_counted("token_embd.weight", 12, 7);
	add_counted("blk.0.attn_q.weight", 12, 12);
	add_tensor("blk.0.ffn_up.weight", Q8_0, 64, 2, blocks, sizeof blocks);
	add_counted("output_norm.weight", 12, 0);
	build_put("f.gguf");
	kit_mutate("f.gguf", "f.gguf", gguf, use);
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
	tcase_add_test(t, config_llama);
	tcase_add_test(t, config_gpt2);
	tcase_add_test(t, config_refused);
	tcase_add_loop_test(t, tokenizer, 0, sizeof pres / sizeof *pres);
	tcase_add_test(t, tokenizer_template);
	tcase_add_test(t, tokenizer_refused);
	tcase_add_test(t, mutants);
	suite_add_tcase(suite, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
