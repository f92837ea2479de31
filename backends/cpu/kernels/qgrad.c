/* qgrad.c - gradients as codes, rounded up or down at random. Per ISA.
 *
 *   g = fl(dy fold),   scale = amax / qmax,   q = clamp(floor(fl(fl(g r) + u))),   r = fl(1 / scale)
 *
 * by token, or by channel and sequence; then codes come out turned, channel after channel.
 * Both are made of chunks of tokens of one sequence: a gradient is read twice, for the scales
 * and for the codes, and its random words are made once.
 */
#include "kernels.h"
#include "random.h"

enum { BLOCK = 64 };			/* tokens of a chunk, channels at once */

/* ---- random words ---- */

/* Words of elements [at, at + n) of a sequence: where they begin in out, which has room for
 * n + 2 WORDS. */
QAT_INLINE const uint32_t *words_of(uint32_t *out, const qat_grad_args *a, int64_t sequence,
				    int64_t at, int64_t n)
{
	const int64_t skip = at % 4;

	for (int64_t i = 0; i < n + skip; i += WORDS)
		some_words(out + i, a->seed, (uint64_t)((at + i) / 4),
			   (uint32_t)(a->sequence + sequence), a->stream);
	return out + skip;
}

/* ---- elements ---- */

/* n codes of finite numbers. */
QAT_INLINE void round_at_random(int8_t *restrict q, const float *restrict x,
				const uint32_t *restrict word, const float *restrict r, int64_t n,
				int32_t qmax, int one)
{
	for (int64_t i = 0; i < n; i++) {
		const float u = (float)(int32_t)(word[i] >> 8) * 5.9604644775390625e-8f;
		const float v = x[i] * r[one ? 0 : i], sum = v + u;
		const int32_t cut = (int32_t)sum, down = cut - ((float)cut > sum);
		const int32_t top = down > qmax ? qmax : down;

		q[i] = (int8_t)(top < -qmax ? -qmax : top);
	}
}

/* The largest magnitude as bits: 0x7f800000 and up are no numbers. */
QAT_INLINE int32_t magnitude(float x)
{
	return (int32_t)(qat_f32_bits(x) & 0x7fffffffu);
}

static float scale_of(int32_t top, int32_t qmax)
{
	return qat_grad_scale(qat_f32_from_bits((uint32_t)top), top >= 0x7f800000, qmax);
}

static float fold_of(const qat_grad_args *a, int64_t i)
{
	return a->fold[a->fold_rows ? i / a->fold_rows : 0];
}

/* ---- squares of codes, turned ---- */

#if defined __SSE2__
/* 16 x 16 bytes, turned. */
static void turn_16(int8_t *out, int64_t ld, const int8_t *in)
{
	__m128i a[16], b[16];

	for (int i = 0; i < 16; i++)
		a[i] = _mm_loadu_si128((const __m128i *)(const void *)(in + i * BLOCK));
	for (int step = 0; step < 4; step++) {
#pragma GCC unroll 8
		for (int i = 0; i < 8; i++) {
			b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
			b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
		}
		memcpy(a, b, sizeof a);
	}
	for (int i = 0; i < 16; i++)
		_mm_storeu_si128((__m128i *)(void *)(out + i * ld), a[i]);
}
#else
static void turn_16(int8_t *out, int64_t ld, const int8_t *in)
{
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < 16; j++)
			out[i * ld + j] = in[j * BLOCK + i];
}
#endif

/* in [tokens][BLOCK] to out [channels][ld]. */
static void turn(int8_t *out, int64_t ld, const int8_t *in, int64_t tokens, int64_t channels)
{
	const int64_t whole_t = tokens / 16 * 16, whole_o = channels / 16 * 16;

	for (int64_t o = 0; o < whole_o; o += 16)
		for (int64_t t = 0; t < whole_t; t += 16)
			turn_16(out + o * ld + t, ld, in + t * BLOCK + o);
	for (int64_t o = 0; o < channels; o++)
		for (int64_t t = o < whole_o ? whole_t : 0; t < tokens; t++)
			out[o * ld + t] = in[t * BLOCK + o];
}

/* ---- elements of a row: a, its own codes; b, those of its channels; either may be NULL ---- */

/* n elements of dy, as rows and as columns have them. */
QAT_INLINE void load_both(float *restrict x, float *restrict y, const qat_grad_args *a,
			  const qat_grad_args *b, int64_t row, int64_t o, int64_t n)
{
	const qat_grad_args *any = a ? a : b;
	const float g = b ? fold_of(b, row) : 0.0f;
	float v[BLOCK];

	load_floats(v, any->dy.data, any->dy.dtype, row * any->channels + o, n);
	if (a && a->fold_rows == 1)
		for (int64_t i = 0; i < n; i++)
			x[i] = v[i] * a->fold[o + i];
	else
		for (int64_t i = 0; a && i < n; i++)
			x[i] = v[i] * fold_of(a, o + i);
	for (int64_t i = 0; b && i < n; i++)
		y[i] = v[i] * g;
}

/* The largest magnitudes of n channels of a row. */
QAT_INLINE int32_t measure_part(int32_t *restrict top, const qat_grad_args *a,
				const qat_grad_args *b, int64_t row, int64_t o, int64_t n)
{
	float x[BLOCK], y[BLOCK];
	int32_t most = 0;

	load_both(x, y, a, b, row, o, n);
	for (int64_t i = 0; a && i < n; i++)
		most = magnitude(x[i]) > most ? magnitude(x[i]) : most;
	for (int64_t i = 0; b && i < n; i++)
		top[i] = magnitude(y[i]) > top[i] ? magnitude(y[i]) : top[i];
	return most;
}

/* n channels of a row: its codes, and those of the columns into q. */
QAT_INLINE void code_part(const qat_grad_args *a, const qat_grad_args *b, int64_t row, int64_t o,
			  int64_t n, const float *restrict r, int bad, int8_t *q)
{
	const qat_grad_args *any = a ? a : b;
	const float scale = a ? a->scale[row] : 1.0f, inverse = 1.0f / scale;
	int8_t *codes = a ? a->codes + row * a->channels + o : NULL;
	uint32_t room[BLOCK + 2 * WORDS];
	const uint32_t *words = words_of(room, any, row / any->length,
					 row % any->length * any->channels + o, n);
	float x[BLOCK], y[BLOCK];

	load_both(x, y, a, b, row, o, n);
	if (a && scale == scale)
		round_at_random(codes, x, words, &inverse, n, a->qmax, 1);
	for (int64_t i = 0; a && scale != scale && i < n; i++)
		codes[i] = 0;
	for (int64_t i = 0; bad && i < n; i++)
		y[i] = r[i] == 0.0f ? 0.0f : y[i];
	if (b)
		round_at_random(q, y, words, r, n, b->qmax, 0);
}

/* ---- chunks ---- */

static int64_t chunks_of(const qat_grad_args *a)
{
	return div_up(a->length, BLOCK);
}

/* Of each chunk's channels the largest magnitudes. */
static int64_t workspace(const qat_grad_args *columns)
{
	return 4 * columns->batch * chunks_of(columns) * columns->channels;
}

/* What multiplies channels before they are rounded; 0 where the scale is none, and *bad. */
static void invert_channels(const qat_grad_args *b, int64_t sequence, int64_t o, int64_t n,
			    float *restrict r, int *bad)
{
	*bad = 0;
	for (int64_t i = 0; b && i < n; i++) {
		const float scale = b->scale[(o + i) * b->batch + sequence];

		r[i] = scale == scale ? 1.0f / scale : 0.0f;
		*bad |= scale != scale;
	}
}

#include "qgrad_wide.h"

/* Scales of the rows of a chunk, and what its channels have at most. */
static void measure_chunk(const qat_grad_args *a, const qat_grad_args *b, int64_t chunk,
			  int32_t *tops)
{
	const qat_grad_args *any = a ? a : b;
	const int64_t per = chunks_of(any), first = chunk % per * BLOCK, n = any->channels;
	const int64_t tokens = min64(BLOCK, any->length - first);
	const int64_t row = chunk / per * any->length + first;
	int32_t *top = b ? tops + chunk * n : NULL, most[BLOCK] = { 0 };
	const int64_t begin = wide_measure(a, b, chunk / per, first, most, top);

	if (b)
		memset(top + begin, 0, (size_t)(n - begin) * 4);
	for (int64_t t = 0; t < tokens; t++) {
		for (int64_t o = begin; o < n; o += BLOCK) {
			const int64_t wide = min64(BLOCK, n - o);
			const int32_t part = wide == BLOCK
				? measure_part(top + o, a, b, row + t, o, BLOCK)
				: measure_part(top + o, a, b, row + t, o, wide);

			most[t] = part > most[t] ? part : most[t];
		}
		if (a)
			a->scale[row + t] = scale_of(most[t], a->qmax);
	}
}

/* Scale of every channel of a sequence. */
static void settle_channels(const qat_grad_args *b, int64_t sequence, const int32_t *tops)
{
	const int64_t per = chunks_of(b);

	for (int64_t o = 0; o < b->channels; o++) {
		const int32_t *top = tops + sequence * per * b->channels + o;
		int32_t most = 0;

		for (int64_t c = 0; c < per; c++)
			most = top[c * b->channels] > most ? top[c * b->channels] : most;
		b->scale[o * b->batch + sequence] = scale_of(most, b->qmax);
	}
}

static void code_block(const qat_grad_args *a, const qat_grad_args *b, int64_t sequence,
		       int64_t first, int64_t o)
{
	const qat_grad_args *any = a ? a : b;
	const int64_t tokens = min64(BLOCK, any->length - first), ld = any->batch * any->length;
	const int64_t n = min64(BLOCK, any->channels - o), row = sequence * any->length + first;
	int8_t q[BLOCK * BLOCK] = { 0 };
	float r[BLOCK];
	int bad;

	invert_channels(b, sequence, o, n, r, &bad);
	for (int64_t t = 0; t < tokens; t++)
		if (n == BLOCK)
			code_part(a, b, row + t, o, BLOCK, r, bad, q + t * BLOCK);
		else
			code_part(a, b, row + t, o, n, r, bad, q + t * BLOCK);
	if (b)
		turn(b->codes + o * ld + row, ld, q, tokens, n);
}

static void code_chunk(const qat_grad_args *a, const qat_grad_args *b, int64_t chunk)
{
	const qat_grad_args *any = a ? a : b;
	const int64_t per = chunks_of(any), first = chunk % per * BLOCK;

	for (int64_t o = wide_codes(a, b, chunk / per, first); o < any->channels; o += BLOCK)
		code_block(a, b, chunk / per, first, o);
}

/* A sequence's scales need its elements alone: a thread that does it whole finds them in its
 * cache when it makes codes of them. */
static void sequence_codes(const qat_grad_args *rows, const qat_grad_args *columns,
			   int64_t sequence, void *room)
{
	const int64_t per = chunks_of(rows ? rows : columns), first = sequence * per;

	for (int64_t c = first; c < first + per; c++)
		measure_chunk(rows, columns, c, room);
	if (columns)
		settle_channels(columns, sequence, room);
	for (int64_t c = first; c < first + per; c++)
		code_chunk(rows, columns, c);
}

/* Where sequences do not share the threads evenly, chunks do. */
static void chunked_codes(const qat_grad_args *rows, const qat_grad_args *columns, void *room)
{
	const qat_grad_args *any = rows ? rows : columns;
	const int64_t chunks = any->batch * chunks_of(any);

#pragma omp parallel for schedule(static)
	for (int64_t c = 0; c < chunks; c++)
		measure_chunk(rows, columns, c, room);
	for (int64_t s = 0; columns && s < columns->batch; s++)
		settle_channels(columns, s, room);
#pragma omp parallel for schedule(static)
	for (int64_t c = 0; c < chunks; c++)
		code_chunk(rows, columns, c);
}

static void codes(const qat_grad_args *rows, const qat_grad_args *columns, void *room)
{
	const int64_t batch = rows ? rows->batch : columns->batch;

	if (batch % omp_get_max_threads() != 0) {
		chunked_codes(rows, columns, room);
		return;
	}
#pragma omp parallel for schedule(static)
	for (int64_t s = 0; s < batch; s++)
		sequence_codes(rows, columns, s, room);
}

extern const qat_grad_kernels QAT_NAME(qat_grad);
const qat_grad_kernels QAT_NAME(qat_grad) = { workspace, codes };
