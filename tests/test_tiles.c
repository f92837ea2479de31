/* test_tiles.c - what the tiles' instructions do, by numbers that can be checked by eye: the
 * processor's, or emulate_tiles.c's where it has none. Both are held to the same.
 */
#include "test_kernels.h"

#include <immintrin.h>

static float from[16][16], out[16][16];
static uint16_t left[16][32], right[16][16][2];		/* right[k / 2][column][k % 2] */
static uint8_t bytes_left[16][64], bytes_right[16][16][4];
static int32_t sums[16][16];

typedef struct config {
	uint8_t palette, start_row, reserved[14];
	uint16_t bytes[16];
	uint8_t rows[16];
} config;

/* Tiles 0: rows x cols sums, 1: rows x depth words, 2: depth x cols words. */
static void open_tiles(int rows, int cols, int depth)
{
	config c = { .palette = 1,
		     .bytes = { (uint16_t)(cols * 4), (uint16_t)(depth * 4), (uint16_t)(cols * 4) },
		     .rows = { (uint8_t)rows, (uint8_t)rows, (uint8_t)depth } };

	__asm__ volatile("ldtilecfg %0" : : "m"(c));
}

/* Not the compiler's intrinsics, which need its options for tiles. */
#define LOAD(tile, at, stride) \
	__asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(at), "r"((long)(stride)) \
			 : "memory")
#define STORE(tile, at, stride) \
	__asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"(at), "r"((long)(stride)) \
			 : "memory")
#define DOT(name) __asm__ volatile(name " %%tmm2, %%tmm1, %%tmm0" : : : "memory")

static void products(int rows, int cols, int depth)
{
	open_tiles(rows, cols, depth);
	LOAD(0, from, 64);
	LOAD(1, left, 64);
	LOAD(2, right, 64);
	DOT("tdpbf16ps");
	STORE(0, out, 64);
	__asm__ volatile("tilerelease");
}

static void clear_all(void)
{
	memset(from, 0, sizeof from);
	memset(left, 0, sizeof left);
	memset(right, 0, sizeof right);
	memset(out, 0, sizeof out);
}

static void set(int i, int k, int j, float a, float b)
{
	left[i][k] = qat_f32_to_bf16(a);
	right[k / 2][j][k % 2] = qat_f32_to_bf16(b);
}

/* Row 2, column 3 is theirs alone. */
START_TEST(a_product_is_where_its_row_and_column_meet)
{
	clear_all();
	from[2][3] = 100.0f;
	set(2, 5, 3, 2.0f, 3.0f);
	set(2, 30, 3, 0.5f, -8.0f);
	products(16, 16, 16);
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < 16; j++)
			ck_assert(out[i][j] == (i == 2 && j == 3 ? 102.0f : 0.0f));
}
END_TEST

/* Even and odd elements are summed apart, from 0, then together, then to what is there. */
START_TEST(sums_are_made_in_order)
{
	clear_all();
	from[0][0] = 1.0f;
	set(0, 0, 0, 1.0f, 0x1p-24f);		/* alone it would be lost at 1 + 2^-24 */
	set(0, 1, 0, 1.0f, 0x1p-24f);
	products(16, 16, 16);
	ck_assert(out[0][0] == 1.0f + 0x1p-23f);
	clear_all();
	set(0, 0, 0, 1.0f, 0x1p24f);
	set(0, 1, 0, 1.0f, 1.0f);		/* in the other chain: kept */
	set(0, 2, 0, 1.0f, -0x1p24f);
	products(16, 16, 16);
	ck_assert(out[0][0] == 1.0f);
	clear_all();
	set(0, 0, 0, 1.0f, 0x1p24f);
	set(0, 2, 0, 1.0f, 1.0f);		/* in the same chain: half to even, lost */
	set(0, 4, 0, 1.0f, -0x1p24f);
	products(16, 16, 16);
	ck_assert(out[0][0] == 0.0f);
}
END_TEST

START_TEST(what_is_subnormal_is_zero)
{
	clear_all();
	from[0][0] = 0x1p-130f;
	set(1, 0, 1, 0x1p-130f, 0x1p100f);	/* a factor */
	set(2, 0, 2, 0x1p-70f, 0x1p-70f);	/* a product */
	set(3, 0, 3, 0x1p-60f, 0x1p-66f);	/* the least that is normal */
	set(4, 0, 4, INFINITY, 1.0f);
	set(5, 0, 5, INFINITY, 0.0f);
	products(16, 16, 16);
	for (int i = 0; i < 3; i++)
		ck_assert(out[i][i] == 0.0f);
	ck_assert(out[3][3] == 0x1p-126f);
	ck_assert(isinf(out[4][4]));
	ck_assert(isnan(out[5][5]));
}
END_TEST

START_TEST(small_shapes_leave_the_rest_alone)
{
	clear_all();
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < 16; j++)
			out[i][j] = -1.0f;
	for (int k = 0; k < 32; k++)
		set(1, k, 2, 1.0f, 1.0f);
	products(3, 5, 4);
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < 16; j++) {
			const float want = i < 3 && j < 5 ? 0.0f : -1.0f;

			ck_assert(out[i][j] == (i == 1 && j == 2 ? 8.0f : want));
		}
}
END_TEST

#define BYTES(name) \
	do { \
		open_tiles(16, 16, 16); \
		__asm__ volatile("tilezero %%tmm0" : : : "memory"); \
		LOAD(1, bytes_left, 64); \
		LOAD(2, bytes_right, 64); \
		DOT(name); \
		DOT(name); \
		STORE(0, sums, 64); \
		__asm__ volatile("tilerelease"); \
	} while (0)

/* Twice 200 * 129, as bytes with and without a sign; at k = 6 of row 3, column 4. */
START_TEST(bytes_of_either_sign)
{
	bytes_left[3][6] = 200;
	bytes_right[1][4][2] = 129;
	BYTES("tdpbuud");
	ck_assert_int_eq(sums[3][4], 2 * 200 * 129);
	BYTES("tdpbusd");
	ck_assert_int_eq(sums[3][4], 2 * 200 * (129 - 256));
	BYTES("tdpbsud");
	ck_assert_int_eq(sums[3][4], 2 * (200 - 256) * 129);
	BYTES("tdpbssd");
	ck_assert_int_eq(sums[3][4], 2 * (200 - 256) * (129 - 256));
	ck_assert_int_eq(sums[4][3], 0);
}
END_TEST

static int runs_here(void)
{
	if (qat_kernels_find("amx"))
		return 1;
	fputs("needs a processor with AMX, or one with AVX-512, VNNI and BF16 to emulate it\n",
	      stderr);
	return 0;
}

int main(void)
{
	const TTest *const all[] = {
		a_product_is_where_its_row_and_column_meet, sums_are_made_in_order,
		what_is_subnormal_is_zero, small_shapes_leave_the_rest_alone, bytes_of_either_sign,
	};

	return runs_here() ? run_tests("tiles", all, (int)(sizeof all / sizeof *all)) : 77;
}
