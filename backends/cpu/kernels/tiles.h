/* tiles.h - tiles of 16 rows of 64 bytes, and what sums products in them. Per ISA.
 *
 *   tiles_open(depth)            shapes for products over `depth` bytes, a multiple of 4, <= 64
 *   tiles_close()
 *   tile_clear(t)                sums, t = 0..3: [16][16] int32
 *   tile_save(t, at, stride)
 *   tile_left(t, at, stride)     t = 4, 5: 16 rows of `depth` signed bytes
 *   tile_right(t, at)            t = 6, 7: depth / 4 rows of 16 columns of 4 unsigned bytes
 *   tile_dot(c, a, b)            c[i][j] += sum over depth of a[i][.] b[.][j]
 *
 * Where pairs of bf16 are multiplied, sums are f32, and tiles of all kinds loaded alike:
 *
 *   tiles_open_two(even, odd)    the depth of tiles 4 and 6, of 5 and 7
 *   tile_load(t, at, stride)
 *   tile_dot_pairs(c, a, b)
 *
 * AMX does it; with QAT_PLAIN_TILES plain C does what is for bytes, so that the loops around are
 * tested on machines that cannot even emulate it. The tiles' numbers are literals.
 */
#ifndef QAT_CPU_TILES_H
#define QAT_CPU_TILES_H

#include <stdint.h>
#include <string.h>

#include "simd.h"

#if defined QAT_PLAIN_TILES

static _Thread_local struct {
	int64_t depth;
	int32_t sums[4][16][16];
	int8_t left[2][16][64];
	uint8_t right[2][16][64];
} tiles;

static inline void tiles_open(int64_t depth)
{
	tiles.depth = depth;
}

static inline void tiles_close(void)
{
	tiles.depth = 0;
}

static inline void tile_clear(int t)
{
	memset(tiles.sums[t], 0, sizeof tiles.sums[t]);
}

static inline void tile_save(int t, int32_t *at, int64_t stride)
{
	for (int i = 0; i < 16; i++)
		memcpy((char *)at + i * stride, tiles.sums[t][i], 64);
}

static inline void tile_left(int t, const void *at, int64_t stride)
{
	for (int i = 0; i < 16; i++)
		memcpy(tiles.left[t - 4][i], (const char *)at + i * stride, (size_t)tiles.depth);
}

static inline void tile_right(int t, const void *at)
{
	memcpy(tiles.right[t - 6], at, (size_t)tiles.depth * 16);
}

static inline void tile_dot(int c, int a, int b)
{
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < 16; j++)
			for (int64_t k = 0; k < tiles.depth; k++)
				tiles.sums[c][i][j] += tiles.left[a - 4][i][k] *
						       tiles.right[b - 6][k / 4][j * 4 + k % 4];
}

#else

/* Tiles 4 and 6 for products over `even` bytes, 5 and 7 over `odd`. The compiler's own
 * intrinsic declares too small an operand, and loses stores to it. */
static inline void tiles_open_two(int64_t even, int64_t odd)
{
	struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } c;

	memset(&c, 0, sizeof c);
	c.palette = 1;
	for (int t = 0; t < 8; t++) {
		const int64_t depth = t % 2 ? odd : even;

		c.bytes[t] = (uint16_t)(t == 4 || t == 5 ? depth : 64);
		c.rows[t] = (uint8_t)(t >= 6 ? depth / 4 : 16);
	}
	__asm__ volatile("ldtilecfg %0" : : "m"(c));
}

static inline void tiles_open(int64_t depth)
{
	tiles_open_two(depth, depth);
}

static inline void tiles_close(void)
{
	_tile_release();
}

/* The compiler's own does not say that it reads memory. */
#define tile_load(t, at, stride) \
	__asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : \
			 : "r"(at), "r"((int64_t)(stride)) : "memory")

#define tile_clear(t) _tile_zero(t)
#define tile_save(t, at, stride) _tile_stored(t, at, stride)
#define tile_left(t, at, stride) tile_load(t, at, stride)
#define tile_right(t, at) tile_load(t, at, 64)
#define tile_dot(c, a, b) _tile_dpbsud(c, a, b)
#define tile_dot_pairs(c, a, b) _tile_dpbf16ps(c, a, b)

#endif
#endif
