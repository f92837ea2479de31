/* emulate_tiles.c - processors with AVX-512 run the kernels that were compiled for AMX: what
 * such a processor does not know of arrives here as SIGILL, is done in C, and is skipped.
 *
 * Part of tests alone. It takes the place of kernels/has_tiles.c, so that qat_kernels_find("amx")
 * finds those kernels; where the processor has tiles itself they are used. The text of each
 * instruction is Intel's (SDM, volume 2, "TDPBF16PS" and so on); what would be a fault there ends
 * the program with a message. start_row is 0 always, as nothing interrupts a load here.
 */
#include <immintrin.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define qat_has_tiles processor_has_tiles
#include "has_tiles.c"
#undef qat_has_tiles

enum { TILES = 8, ROWS = 16, ROW_BYTES = 64, WORDS = ROW_BYTES / 4 };

/* The memory operand of ldtilecfg. */
typedef struct config {
	uint8_t palette, start_row, reserved[14];
	uint16_t bytes[16];
	uint8_t rows[16];
} config;

typedef union tile {
	uint8_t byte[ROWS][ROW_BYTES];
	uint32_t word[ROWS][WORDS];
	int32_t sum[ROWS][WORDS];
	float real[ROWS][WORDS];
} tile;

static _Thread_local struct {
	config shape;			/* palette 0: not configured */
	tile tile[TILES];
} unit;

/* One instruction, taken apart. */
typedef struct decoded {
	int prefix, opcode;		/* PREFIX_*, the byte behind VEX */
	int reg, rm, vvvv;		/* tiles, or parts of an address */
	int memory;			/* 1: rm is memory, at `address` */
	uint64_t address, stride;	/* of row 0; between rows */
	int length;
} decoded;

enum { PREFIX_NONE, PREFIX_66, PREFIX_F3, PREFIX_F2 };

static void __attribute__((noreturn)) fault(const char *what)
{
	fprintf(stderr, "emulate_tiles: %s\n", what);
	abort();
}

static void must(int holds, const char *what)
{
	if (!holds)
		fault(what);
}

/* ---- registers ---- */

static uint64_t general(const ucontext_t *c, int number)
{
	static const int place[16] = {
		REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
		REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15
	};

	return (uint64_t)c->uc_mcontext.gregs[place[number]];
}

static int64_t displacement(const uint8_t *at, int bytes)
{
	int32_t wide = 0;

	if (bytes == 1)
		return (int8_t)*at;
	memcpy(&wide, at, (size_t)bytes);
	return wide;
}

/* ---- decoding: VEX.128.0F38.W0 with three bytes of prefix ---- */

/* The memory operand at `at`, which is its ModRM; returns its bytes. */
static int decode_memory(decoded *d, const ucontext_t *c, const uint8_t *at, int high_index,
			 int high_base)
{
	const int mode = at[0] >> 6, with_sib = (at[0] & 7) == 4;
	const int low = with_sib ? at[1] & 7 : at[0] & 7, none = low == 5 && mode == 0;
	const int index = (at[1] >> 3 & 7) | high_index, bytes = none || mode == 2 ? 4 : mode;
	const uint8_t *behind = at + 1 + with_sib;

	must(with_sib || !none, "an address relative to rip");
	d->address = (uint64_t)displacement(behind, bytes);
	if (!none)
		d->address += general(c, low | high_base);
	if (with_sib && index != 4)
		d->stride = general(c, index) << (at[1] >> 6);
	return 1 + with_sib + bytes;
}

/* 0: not one of ours. */
static int decode(decoded *d, const ucontext_t *c)
{
	const uint8_t *at = (const uint8_t *)(uintptr_t)c->uc_mcontext.gregs[REG_RIP];
	const uint8_t *modrm = at + 4;
	const int index = at[1] & 0x40 ? 0 : 8, base = at[1] & 0x20 ? 0 : 8;

	if (at[0] != 0xc4 || (at[1] & 0x1f) != 2 || (at[2] & 0x84))	/* map, W, L */
		return 0;
	*d = (decoded){ .prefix = at[2] & 3, .opcode = at[3], .vvvv = ~at[2] >> 3 & 15,
			.reg = modrm[0] >> 3 & 7, .rm = modrm[0] & 7,
			.memory = modrm[0] >> 6 != 3 };
	d->length = 4 + (d->memory ? decode_memory(d, c, modrm, index, base) : 1);
	return 1;
}

/* ---- shapes, and what goes to memory and comes from it ---- */

static void load_config(const config *from)
{
	static const config none;
	config c;

	memcpy(&c, from, sizeof c);
	must(c.palette <= 1, "ldtilecfg: palette");
	must(!memcmp(c.reserved, none.reserved, sizeof c.reserved), "ldtilecfg: reserved bytes");
	for (int t = 0; t < 16; t++) {
		must(!c.bytes[t] == !c.rows[t], "ldtilecfg: a tile without rows or columns");
		must(c.bytes[t] <= (t < TILES ? ROW_BYTES : 0), "ldtilecfg: columns");
		must(c.rows[t] <= (t < TILES ? ROWS : 0), "ldtilecfg: rows");
	}
	memset(&unit, 0, sizeof unit);
	if (c.palette)
		unit.shape = c;
}

static void in_use(int t)
{
	must(unit.shape.palette && unit.shape.rows[t], "a tile that is not configured");
}

static void load_tile(int t, uint64_t address, uint64_t stride)
{
	in_use(t);
	memset(&unit.tile[t], 0, sizeof unit.tile[t]);
	for (int r = 0; r < unit.shape.rows[t]; r++, address += stride)
		memcpy(unit.tile[t].byte[r], (const void *)(uintptr_t)address, unit.shape.bytes[t]);
}

static void store_tile(int t, uint64_t address, uint64_t stride)
{
	in_use(t);
	for (int r = 0; r < unit.shape.rows[t]; r++, address += stride)
		memcpy((void *)(uintptr_t)address, unit.tile[t].byte[r], unit.shape.bytes[t]);
}

/* ---- products ---- */

static float upper(uint32_t pair)
{
	const uint32_t bits = pair & 0xffff0000u;
	float x;

	memcpy(&x, &bits, sizeof x);
	return x;
}

/* Row r of y += that of a times b: the even and the odd elements of k each in a chain of
 * fused sums from 0, then one to the other, then both to y. */
static void __attribute__((noinline, target("fma")))
pairs_row(tile *y, const tile *a, const tile *b, int r, int depth, int cols)
{
	float even[WORDS] = { 0.0f }, odd[WORDS] = { 0.0f };

	for (int k = 0; k < depth; k++)
		for (int n = 0; n < cols; n++) {
			const uint32_t x = a->word[r][k], w = b->word[k][n];

			even[n] = __builtin_fmaf(upper(x << 16), upper(w << 16), even[n]);
			odd[n] = __builtin_fmaf(upper(x), upper(w), odd[n]);
		}
	for (int n = 0; n < cols; n++) {
		const float both = even[n] + odd[n];

		y->real[r][n] = y->real[r][n] + both;
	}
}

/* The product of four bytes, each side's signed or not. */
static int32_t bytes_sum(const uint8_t *x, const uint8_t *w, int x_signed, int w_signed)
{
	int32_t sum = 0;

	for (int i = 0; i < 4; i++)
		sum += (x_signed ? (int8_t)x[i] : x[i]) * (w_signed ? (int8_t)w[i] : w[i]);
	return sum;
}

static void bytes_row(tile *y, const tile *a, const tile *b, int r, int depth, int cols,
		      int x_signed, int w_signed)
{
	for (int k = 0; k < depth; k++)
		for (int n = 0; n < cols; n++)
			y->word[r][n] += (uint32_t)bytes_sum(&a->byte[r][4 * k], &b->byte[k][4 * n],
							     x_signed, w_signed);
}

static void dot(const decoded *d)
{
	enum { FLUSHED = 0x9fc0 };	/* subnormals are 0, as factor and as sum; no traps */
	const config *s = &unit.shape;
	const int y = d->reg, a = d->rm, b = d->vvvv, x_signed = d->prefix >= PREFIX_F3;
	const int w_signed = d->prefix == PREFIX_F2 || d->prefix == PREFIX_66;

	must(b < TILES && y != a && y != b && a != b, "a product of one tile twice");
	in_use(y);
	in_use(a);
	in_use(b);
	must(s->rows[y] == s->rows[a] && s->bytes[y] == s->bytes[b] &&
	     s->bytes[a] == s->rows[b] * 4 && s->bytes[y] % 4 == 0, "a product's shapes differ");
	_mm_setcsr(FLUSHED);		/* the caller's comes back with its other registers */
	for (int r = 0; r < s->rows[y]; r++)
		if (d->opcode == 0x5c)
			pairs_row(&unit.tile[y], &unit.tile[a], &unit.tile[b], r, s->rows[b],
				  s->bytes[y] / 4);
		else
			bytes_row(&unit.tile[y], &unit.tile[a], &unit.tile[b], r, s->rows[b],
				  s->bytes[y] / 4, x_signed, w_signed);
}

/* ---- instructions ---- */

/* ldtilecfg, tilerelease, tilezero */
static int do_config(const decoded *d)
{
	if (d->prefix == PREFIX_NONE && d->memory && d->reg == 0) {
		load_config((const config *)(uintptr_t)d->address);
	} else if (d->prefix == PREFIX_NONE && !d->memory && d->reg == 0 && d->rm == 0) {
		memset(&unit, 0, sizeof unit);
	} else if (d->prefix == PREFIX_F2 && !d->memory && d->rm == 0) {
		in_use(d->reg);
		memset(&unit.tile[d->reg], 0, sizeof unit.tile[d->reg]);
	} else {
		return 0;
	}
	return 1;
}

/* tileloadd, tileloaddt1, tilestored: they need a SIB byte */
static int do_memory(const decoded *d)
{
	if (!d->memory || d->rm != 4 || d->prefix == PREFIX_NONE)
		return 0;
	if (d->prefix == PREFIX_F3)
		store_tile(d->reg, d->address, d->stride);
	else
		load_tile(d->reg, d->address, d->stride);
	return 1;
}

static int perform(const decoded *d)
{
	switch (d->opcode) {
	case 0x49: return do_config(d);
	case 0x4b: return do_memory(d);
	case 0x5c:			/* tdpbf16ps */
	case 0x5e:			/* tdpbuud, tdpbusd, tdpbsud, tdpbssd */
		if (d->memory || (d->opcode == 0x5c && d->prefix != PREFIX_F3))
			return 0;
		dot(d);
		return 1;
	default:
		return 0;
	}
}

/* Also what follows at once, as most of the time is the signal's. */
static void on_illegal(int number, siginfo_t *info, void *context)
{
	ucontext_t *c = context;
	int done = 0;

	(void)number, (void)info;
	for (decoded d; decode(&d, c) && perform(&d); done++)
		c->uc_mcontext.gregs[REG_RIP] += d.length;
	if (!done)
		fault("an instruction that it does not know");
}

static int emulates(void)
{
	struct sigaction s;

	memset(&s, 0, sizeof s);
	s.sa_sigaction = on_illegal;
	s.sa_flags = SA_SIGINFO;
	return sigaction(SIGILL, &s, NULL) == 0;
}

/* In the place of has_tiles.c's. */
int qat_has_tiles(void);
int qat_has_tiles(void)
{
	return processor_has_tiles() || emulates();
}
