/* qgrad.c - gradients as codes, rounded up or down at random. Per ISA.
 *
 *   g = fl(dy fold),   scale = amax / qmax,   q = clamp(floor(fl(fl(g r) + u))),   r = fl(1 / scale)
 *
 * by token, or by channel and sequence; then codes come out turned, channel after channel.
 */
#include "kernels.h"
#include "random.h"

enum { PIECE = 512, BLOCK = 64 };	/* elements of a row; of either side of a square */

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

/* ---- by token ---- */

/* n <= PIECE elements of a row from channel o on, folded. */
QAT_INLINE void load_row(float *restrict x, const qat_grad_args *a, int64_t row, int64_t o,
			 int64_t n)
{
	load_floats(x, a->dy.data, a->dy.dtype, row * a->channels + o, n);
	if (a->fold_rows == 1) {
		const float *restrict f = a->fold + o;

		for (int64_t i = 0; i < n; i++)
			x[i] *= f[i];
	} else {
		for (int64_t i = 0; i < n; i++)
			x[i] *= fold_of(a, o + i);
	}
}

static void one_row(const qat_grad_args *a, int64_t row)
{
	const int64_t t = row % a->length, sequence = row / a->length;
	int8_t *q = a->codes + row * a->channels;
	uint32_t words[PIECE + 2 * WORDS];
	float x[PIECE], r;
	int32_t top = 0;

	for (int64_t o = 0; o < a->channels; o += PIECE) {
		const int64_t n = min64(PIECE, a->channels - o);

		load_row(x, a, row, o, n);
		for (int64_t i = 0; i < n; i++)
			top = magnitude(x[i]) > top ? magnitude(x[i]) : top;
	}
	a->scale[row] = scale_of(top, a->qmax);
	if (top >= 0x7f800000) {
		memset(q, 0, (size_t)a->channels);
		return;
	}
	r = 1.0f / a->scale[row];
	for (int64_t o = 0; o < a->channels; o += PIECE) {
		const int64_t n = min64(PIECE, a->channels - o);

		if (a->channels > PIECE)
			load_row(x, a, row, o, n);
		round_at_random(q + o, x, words_of(words, a, sequence, t * a->channels + o, n), &r,
				n, a->qmax, 1);
	}
}

static void rows(const qat_grad_args *a)
{
#pragma omp parallel for schedule(static)
	for (int64_t row = 0; row < a->batch * a->length; row++)
		one_row(a, row);
}

/* ---- by channel ---- */

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

/* n <= BLOCK elements of a row from channel o on, folded. */
QAT_INLINE void load_part(float *restrict x, const qat_grad_args *a, int64_t row, int64_t o,
			  int64_t n)
{
	const float f = fold_of(a, row);

	load_floats(x, a->dy.data, a->dy.dtype, row * a->channels + o, n);
	for (int64_t i = 0; i < n; i++)
		x[i] *= f;
}

/* Scales of BLOCK channels in a sequence, and their reciprocals. Of a channel that holds no
 * numbers r is 0, and *bad is set. */
static void find_scales(const qat_grad_args *a, int64_t sequence, int64_t o, int64_t n,
			float *restrict r, int *bad)
{
	int32_t top[BLOCK] = { 0 };
	float x[BLOCK];

	for (int64_t t = 0; t < a->length; t++) {
		load_part(x, a, sequence * a->length + t, o, n);
		for (int64_t i = 0; i < n; i++)
			top[i] = magnitude(x[i]) > top[i] ? magnitude(x[i]) : top[i];
	}
	*bad = 0;
	for (int64_t i = 0; i < n; i++) {
		const float scale = scale_of(top[i], a->qmax);

		a->scale[(o + i) * a->batch + sequence] = scale;
		r[i] = top[i] < 0x7f800000 ? 1.0f / scale : 0.0f;
		*bad |= top[i] >= 0x7f800000;
	}
}

static void one_block(const qat_grad_args *a, int64_t sequence, int64_t o)
{
	const int64_t n = min64(BLOCK, a->channels - o), ld = a->batch * a->length;
	int8_t q[BLOCK * BLOCK] = { 0 };
	uint32_t words[BLOCK + 2 * WORDS];
	float x[BLOCK], r[BLOCK];
	int bad;

	find_scales(a, sequence, o, n, r, &bad);
	for (int64_t t0 = 0; t0 < a->length; t0 += BLOCK) {
		const int64_t tokens = min64(BLOCK, a->length - t0);

		for (int64_t t = t0; t < t0 + tokens; t++) {
			const uint32_t *w = words_of(words, a, sequence, t * a->channels + o, n);

			load_part(x, a, sequence * a->length + t, o, n);
			for (int64_t i = 0; bad && i < n; i++)
				x[i] = r[i] == 0.0f ? 0.0f : x[i];
			round_at_random(q + (t - t0) * BLOCK, x, w, r, n, a->qmax, 0);
		}
		turn(a->codes + o * ld + sequence * a->length + t0, ld, q, tokens, n);
	}
}

static void columns(const qat_grad_args *a)
{
#pragma omp parallel for schedule(dynamic) collapse(2)
	for (int64_t sequence = 0; sequence < a->batch; sequence++)
		for (int64_t o = 0; o < a->channels; o += BLOCK)
			one_block(a, sequence, o);
}

/* ---- both at once ----
 * A gradient is read twice, and its random words are made once. Chunks of tokens of one
 * sequence; `room` holds the magnitudes of each chunk's channels. */

static int64_t chunks_of(const qat_grad_args *a)
{
	return div_up(a->length, BLOCK);
}

static int64_t both_workspace(const qat_grad_args *a)
{
	return 4 * a->batch * chunks_of(a) * a->channels;
}

/* n elements of dy, as rows and as columns have them. */
QAT_INLINE void load_both(float *restrict x, float *restrict y, const qat_grad_args *a,
			  const qat_grad_args *b, int64_t row, int64_t o, int64_t n)
{
	const float g = fold_of(b, row);
	float v[BLOCK];

	load_floats(v, a->dy.data, a->dy.dtype, row * a->channels + o, n);
	if (a->fold_rows == 1)
		for (int64_t i = 0; i < n; i++)
			x[i] = v[i] * a->fold[o + i];
	else
		for (int64_t i = 0; i < n; i++)
			x[i] = v[i] * fold_of(a, o + i);
	for (int64_t i = 0; i < n; i++)
		y[i] = v[i] * g;
}

/* The largest magnitudes of n channels of a row. */
QAT_INLINE int32_t measure_part(int32_t *restrict top, const qat_grad_args *a,
				const qat_grad_args *b, int64_t row, int64_t o, int64_t n)
{
	float x[BLOCK], y[BLOCK];
	int32_t most = 0;

	load_both(x, y, a, b, row, o, n);
	for (int64_t i = 0; i < n; i++) {
		most = magnitude(x[i]) > most ? magnitude(x[i]) : most;
		top[i] = magnitude(y[i]) > top[i] ? magnitude(y[i]) : top[i];
	}
	return most;
}

/* Scales of the rows of a chunk, and what its channels have at most. */
static void measure_chunk(const qat_grad_args *a, const qat_grad_args *b, int64_t chunk,
			  int32_t *tops)
{
	const int64_t per = chunks_of(a), first = chunk % per * BLOCK;
	const int64_t tokens = min64(BLOCK, a->length - first);
	const int64_t row = chunk / per * a->length + first, whole = a->channels / BLOCK * BLOCK;
	int32_t *top = tops + chunk * a->channels;

	memset(top, 0, (size_t)a->channels * 4);
	for (int64_t r = row; r < row + tokens; r++) {
		int32_t most = 0, part;

		for (int64_t o = 0; o < whole; o += BLOCK) {
			part = measure_part(top + o, a, b, r, o, BLOCK);
			most = part > most ? part : most;
		}
		part = measure_part(top + whole, a, b, r, whole, a->channels - whole);
		most = part > most ? part : most;
		a->scale[r] = scale_of(most, a->qmax);
	}
}

/* Scale of every channel of every sequence. */
static void settle_channels(const qat_grad_args *b, const int32_t *tops)
{
	const int64_t per = chunks_of(b);

	for (int64_t s = 0; s < b->batch; s++)
		for (int64_t o = 0; o < b->channels; o++) {
			const int32_t *top = tops + s * per * b->channels + o;
			int32_t most = 0;

			for (int64_t c = 0; c < per; c++)
				most = top[c * b->channels] > most ? top[c * b->channels] : most;
			b->scale[o * b->batch + s] = scale_of(most, b->qmax);
		}
}

/* What multiplies channels before they are rounded; 0 where the scale is none, and *bad. */
static void invert_channels(const qat_grad_args *b, int64_t sequence, int64_t o, int64_t n,
			    float *restrict r, int *bad)
{
	*bad = 0;
	for (int64_t i = 0; i < n; i++) {
		const float scale = b->scale[(o + i) * b->batch + sequence];

		r[i] = scale == scale ? 1.0f / scale : 0.0f;
		*bad |= scale != scale;
	}
}

/* n channels of a row: its codes, and those of the columns into q. */
QAT_INLINE void both_parts(const qat_grad_args *a, const qat_grad_args *b, int64_t row, int64_t o,
			   int64_t n, const float *restrict r, int bad, int8_t *q)
{
	const int64_t t = row % a->length;
	const float scale = a->scale[row], inverse = 1.0f / scale;
	int8_t *codes = a->codes + row * a->channels + o;
	uint32_t room[BLOCK + 2 * WORDS];
	const uint32_t *words = words_of(room, a, row / a->length, t * a->channels + o, n);
	float x[BLOCK], y[BLOCK];

	load_both(x, y, a, b, row, o, n);
	if (scale == scale)
		round_at_random(codes, x, words, &inverse, n, a->qmax, 1);
	else
		memset(codes, 0, (size_t)n);
	for (int64_t i = 0; bad && i < n; i++)
		y[i] = r[i] == 0.0f ? 0.0f : y[i];
	round_at_random(q, y, words, r, n, b->qmax, 0);
}

static void code_chunk(const qat_grad_args *a, const qat_grad_args *b, int64_t chunk)
{
	const int64_t per = chunks_of(a), first = chunk % per * BLOCK, ld = a->batch * a->length;
	const int64_t tokens = min64(BLOCK, a->length - first), sequence = chunk / per;
	const int64_t row = sequence * a->length + first;
	int8_t q[BLOCK * BLOCK] = { 0 };
	float r[BLOCK];
	int bad;

	for (int64_t o = 0; o < a->channels; o += BLOCK) {
		const int64_t n = min64(BLOCK, a->channels - o);

		invert_channels(b, sequence, o, n, r, &bad);
		for (int64_t t = 0; t < tokens; t++)
			if (n == BLOCK)
				both_parts(a, b, row + t, o, BLOCK, r, bad, q + t * BLOCK);
			else
				both_parts(a, b, row + t, o, n, r, bad, q + t * BLOCK);
		turn(b->codes + o * ld + row, ld, q, tokens, n);
	}
}

static void both(const qat_grad_args *rows_of, const qat_grad_args *columns_of, void *room)
{
	const int64_t chunks = rows_of->batch * chunks_of(rows_of);

#pragma omp parallel for schedule(static)
	for (int64_t c = 0; c < chunks; c++)
		measure_chunk(rows_of, columns_of, c, room);
	settle_channels(columns_of, room);
#pragma omp parallel for schedule(static)
	for (int64_t c = 0; c < chunks; c++)
		code_chunk(rows_of, columns_of, c);
}

extern const qat_grad_kernels QAT_NAME(qat_grad);
const qat_grad_kernels QAT_NAME(qat_grad) = { rows, columns, both_workspace, both };
