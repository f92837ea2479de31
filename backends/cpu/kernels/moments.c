/* moments.c - AdamW with moments in 8 bits. Per ISA.
 *
 * One pass over a block: its moments are decoded, updated together with p, and become codes
 * again, rounded at random (numerics.h, "moments in 8 bits": the same bits). What is not a
 * whole block is computed as one, behind zeros.
 */
#include "adamw.h"
#include "kernels.h"
#include "random.h"

enum { BLOCK = QAT_MOMENT_BLOCK };

typedef uint32_t vu __attribute__((vector_size(LANES * 4)));

typedef struct block {
	float m[BLOCK], v[BLOCK];
	uint32_t word[BLOCK];
	int32_t code[BLOCK];
} __attribute__((aligned(64))) block;

QAT_INLINE void decode(block *restrict b, const int8_t *restrict first,
		       const uint8_t *restrict second, const float unit[2])
{
	const float m1 = unit[0], v1 = unit[1];

	for (int i = 0; i < BLOCK; i++) {
		const int32_t c = first[i];

		b->m[i] = (float)(c * (c < 0 ? -c : c)) * m1;
	}
	for (int i = 0; i < BLOCK; i++) {
		const int32_t c = second[i];
		const float root = (float)(c * c) * v1;

		b->v[i] = root * root;
	}
}

/* The largest magnitude as bits: 0x7f800000 and up are no numbers. */
QAT_INLINE int32_t top_of(const float *restrict x)
{
	int32_t top = 0;

	for (int i = 0; i < BLOCK; i++) {
		const int32_t bits = (int32_t)(qat_f32_bits(x[i]) & 0x7fffffffu);

		top = bits > top ? bits : top;
	}
	return top;
}

QAT_INLINE vf draw(vu bits)
{
	return (vf_from_int((vi)bits) + 0.5f) * 1.52587890625e-5f;
}

QAT_INLINE vu load_words(const uint32_t *p)
{
	vu v;

	memcpy(&v, p, sizeof v);
	return v;
}

QAT_INLINE void store_codes(int32_t *p, vi c)
{
	memcpy(p, &c, sizeof c);
}

/* Below a number, as it is 0 or above. */
QAT_INLINE vf whole(vf x)
{
	return vf_from_int(__builtin_convertvector(x, vi));
}

QAT_INLINE vi at_most(vi c, int32_t top)
{
	const vi over = c > top;

	return (c & ~over) | (over & top);
}

QAT_INLINE void first_codes(block *b, float unit)
{
	const vf r = vf_set(1.0f / unit);

	for (int i = 0; i < BLOCK; i += LANES) {
		const vf m = vf_load(b->m + i), u = draw(load_words(b->word + i) & 0xffffu);
		const vi sign = (vi)m >> 31;
		const vf x = (vf)((vi)m & 0x7fffffff) * r, c = whole(vf_sqrt(x));
		const vi up = (vi)(x - c * c > u * (c + c + 1.0f));
		const vi code = at_most(__builtin_convertvector(c, vi) - up, QAT_FIRST_TOP);

		store_codes(b->code + i, (code ^ sign) - sign);
	}
}

QAT_INLINE void second_codes(block *b, float unit)
{
	const vf r = vf_set(1.0f / unit);

	for (int i = 0; i < BLOCK; i += LANES) {
		const vf v = vf_load(b->v + i), u = draw(load_words(b->word + i) >> 16);
		const vf y = vf_sqrt(v) * r, c = whole(vf_sqrt(y)), s = c * c, odd = c + c + 1.0f;
		const vi up = (vi)((y - s) * (y + s) > u * (odd * (s + s + odd)));
		const vi code = at_most(__builtin_convertvector(c, vi) - up, QAT_SECOND_TOP);

		store_codes(b->code + i, code - (vi)((code == 0) & (vi)(v > 0.0f)));
	}
}

static void encode_first(block *b, int8_t *restrict out, float *unit)
{
	const int32_t top = top_of(b->m);

	*unit = qat_moment_unit(qat_f32_from_bits((uint32_t)top), top >= 0x7f800000, QAT_FIRST_TOP);
	if (!(*unit > 0)) {
		memset(out, 0, BLOCK);
		return;
	}
	first_codes(b, *unit);
	for (int i = 0; i < BLOCK; i++)
		out[i] = (int8_t)b->code[i];
}

static void encode_second(block *b, uint8_t *restrict out, float *unit)
{
	const int32_t top = top_of(b->v);

	*unit = qat_moment_unit(sqrtf(qat_f32_from_bits((uint32_t)top)), top >= 0x7f800000,
				QAT_SECOND_TOP);
	if (!(*unit > 0)) {
		memset(out, 0, BLOCK);
		return;
	}
	second_codes(b, *unit);
	for (int i = 0; i < BLOCK; i++)
		out[i] = (uint8_t)b->code[i];
}

/* A whole block; `at` is where it begins in the parameter. */
static void one_block(const qat_update8_args *a, int64_t at, float *p, const float *g,
		      int8_t *first, uint8_t *second, float unit[2])
{
	block b;

	decode(&b, first, second, unit);
	for (int i = 0; i < BLOCK; i += LANES)
		adamw_step(p + i, g + i, b.m + i, b.v + i, a->hyper);
	for (int i = 0; i < BLOCK; i += WORDS)
		some_words(b.word + i, a->seed, (uint64_t)((at + i) / 4), (uint32_t)a->step,
			   a->stream);
	encode_first(&b, first, &unit[0]);
	encode_second(&b, second, &unit[1]);
}

static void last_block(const qat_update8_args *a, int64_t at, float unit[2])
{
	const size_t n = (size_t)(a->n - at);
	float p[BLOCK] = { 0 }, g[BLOCK] = { 0 };
	int8_t first[BLOCK] = { 0 };
	uint8_t second[BLOCK] = { 0 };

	memcpy(p, a->p + at, n * sizeof *p);
	memcpy(g, a->g + at, n * sizeof *g);
	memcpy(first, a->first + at, n);
	memcpy(second, a->second + at, n);
	one_block(a, at, p, g, first, second, unit);
	memcpy(a->p + at, p, n * sizeof *p);
	memcpy(a->first + at, first, n);
	memcpy(a->second + at, second, n);
}

static void adamw8(const qat_update8_args *a)
{
#pragma omp parallel for schedule(static)
	for (int64_t k = 0; k < div_up(a->n, BLOCK); k++) {
		const int64_t at = k * BLOCK;

		if (a->n - at < BLOCK)
			last_block(a, at, a->unit + 2 * k);
		else
			one_block(a, at, a->p + at, a->g + at, a->first + at, a->second + at,
				  a->unit + 2 * k);
	}
}

extern const qat_moment_kernels QAT_NAME(qat_moment);
const qat_moment_kernels QAT_NAME(qat_moment) = { adamw8 };
