/* qgrad_wide.h - gradients as codes, BLOCK channels of four tokens at once: from the random words
 * to the codes all stays in registers. Part of qgrad.c.
 */
#if defined __AVX512BW__
#include "turn.h"

/* What BLOCK channels of the tokens of a chunk are multiplied with. A row or a channel whose
 * scale is NaN gets zeros: its bit of live_rows or live is 0. */
typedef struct wide_block {
	const qat_grad_args *a, *b;		/* of rows, of columns; NULL: not wanted */
	word_source source;
	int64_t sequence, first, tokens;	/* of the sequence; the chunk's */
	float inverse[BLOCK], turned_fold[BLOCK];	/* of tokens */
	float fold[BLOCK], r[BLOCK];		/* of channels */
	uint64_t live_rows, live;
} wide_block;

QAT_INLINE const qat_grad_args *either(const wide_block *w)
{
	return w->a ? w->a : w->b;
}

/* Channels from which on blocks are not whole: counters end before 2^32, and begin where words
 * of an element do. */
static int64_t wide_end(const qat_grad_args *a)
{
	if (a->channels % 4 || a->length > (INT64_C(1) << 34) / a->channels)
		return 0;
	return a->channels / BLOCK * BLOCK;
}

/* The chunk of a sequence that begins with token `first`; scales are not read. */
static void wide_open(wide_block *w, const qat_grad_args *a, const qat_grad_args *b,
		      int64_t sequence, int64_t first)
{
	const qat_grad_args *any = a ? a : b;

	w->a = a;
	w->b = b;
	w->sequence = sequence;
	w->first = first;
	w->tokens = min64(BLOCK, any->length - first);
	for (int64_t t = 0; b && t < w->tokens; t++)
		w->turned_fold[t] = fold_of(b, sequence * b->length + first + t);
}

static void wide_fold(wide_block *w, int64_t o)
{
	if (w->a && w->a->fold_rows == 1) {
		memcpy(w->fold, w->a->fold + o, sizeof w->fold);
		return;
	}
	for (int64_t i = 0; w->a && i < BLOCK; i++)
		w->fold[i] = fold_of(w->a, o + i);
}

/* 16 elements of dy from element `at` on. */
QAT_INLINE __m512 wide_load(const qat_grad_args *a, int64_t at, int f32)
{
	const uint16_t *h = (const uint16_t *)a->dy.data + at;
	__m512i x;

	if (f32)
		return _mm512_loadu_ps((const float *)a->dy.data + at);
	x = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)h));
	return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
}

/* A block's rows lie far apart: those of the next tokens, or of the next block. */
QAT_INLINE void wide_ahead(const wide_block *w, int64_t t, int64_t o, int f32)
{
	enum { AHEAD = 8 };
	const qat_grad_args *a = either(w);
	const int64_t ahead = t + AHEAD, over = ahead >= w->tokens;
	const int64_t row = w->sequence * a->length + w->first + (over ? ahead - w->tokens : ahead);
	const int64_t at = row * a->channels + o + (over ? BLOCK : 0);
	const char *p = (const char *)a->dy.data + at * (f32 ? 4 : 2);

	for (int i = 0; i < (f32 ? 4 : 2); i++)
		_mm_prefetch(p + i * 64, _MM_HINT_T0);
}

/* ---- magnitudes: unsigned, as an infinity times 0 is a NaN with a sign ---- */

QAT_INLINE __m512i wide_most(__m512i most, __m512 x)
{
	return _mm512_max_epu32(most, _mm512_castps_si512(x));
}

QAT_INLINE void wide_measure_as(const wide_block *w, int64_t o, __m512i *most, int32_t *top,
				int f32, int rows, int columns)
{
	const qat_grad_args *any = either(w);
	const __m512i none = _mm512_setzero_si512();
	const __m512i number = _mm512_set1_epi32(0x7fffffff);
	__m512i tops[4] = { none, none, none, none };
	__m512 fold[4];

	for (int j = 0; rows && j < 4; j++)
		fold[j] = _mm512_abs_ps(_mm512_loadu_ps(w->fold + 16 * j));
	for (int64_t t = 0; t < w->tokens; t++) {
		const int64_t at = (w->sequence * any->length + w->first + t) * any->channels + o;
		const __m512 g = _mm512_set1_ps(columns ? fabsf(w->turned_fold[t]) : 0.0f);
		__m512i m[4];

		wide_ahead(w, t, o, f32);
#pragma GCC unroll 4
		for (int j = 0; j < 4; j++) {
			const __m512 v = _mm512_abs_ps(wide_load(any, at + 16 * j, f32));

			m[j] = rows ? _mm512_castps_si512(_mm512_mul_ps(v, fold[j])) : none;
			if (columns)
				tops[j] = wide_most(tops[j], _mm512_mul_ps(v, g));
		}
		if (rows)
			most[t] = _mm512_max_epu32(_mm512_max_epu32(most[t], m[0]),
				_mm512_max_epu32(m[1], _mm512_max_epu32(m[2], m[3])));
	}
	for (int j = 0; columns && j < 4; j++)
		_mm512_storeu_si512(top + 16 * j, _mm512_and_si512(tops[j], number));
}

QAT_INLINE void wide_measure_block(const wide_block *w, int64_t o, __m512i *most, int32_t *top,
				   int f32)
{
	if (w->a && w->b)
		wide_measure_as(w, o, most, top, f32, 1, 1);
	else if (w->a)
		wide_measure_as(w, o, most, top, f32, 1, 0);
	else
		wide_measure_as(w, o, most, top, f32, 0, 1);
}

/* The largest magnitudes of a chunk's tokens and channels, as far as blocks are whole; returns
 * where they end. */
static int64_t wide_measure(const qat_grad_args *a, const qat_grad_args *b, int64_t sequence,
			    int64_t first, int32_t *most, int32_t *top)
{
	const int64_t end = wide_end(a ? a : b);
	__m512i mosts[BLOCK];
	wide_block w;

	wide_open(&w, a, b, sequence, first);
	memset(mosts, 0, sizeof mosts);
	for (int64_t o = 0; o < end; o += BLOCK) {
		wide_fold(&w, o);
		if (either(&w)->dy.dtype == QAT_F32)
			wide_measure_block(&w, o, mosts, top + o, 1);
		else
			wide_measure_block(&w, o, mosts, top + o, 0);
	}
	for (int64_t t = 0; t < w.tokens; t++)
		most[t] = (int32_t)_mm512_reduce_max_epu32(mosts[t]) & 0x7fffffff;
	return end;
}

/* ---- codes ---- */

/* floor(fl(fl(g r) + u)); u is exact in 24 bits, so that the sum is rounded once. */
QAT_INLINE __m512i wide_round(__m512 g, __m512 r, __m512 u)
{
	const __m512 unit = _mm512_set1_ps(5.9604644775390625e-8f);
	const __m512 sum = _mm512_fmadd_ps(u, unit, _mm512_mul_ps(g, r));

	return _mm512_cvt_roundps_epi32(sum, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

/* Four times 16 codes, packed in twos, to bytes; each 128 bits hold four of each. */
QAT_INLINE __m512i wide_bytes(__m512i first, __m512i last, int32_t qmax)
{
	const __m512i bytes = _mm512_packs_epi16(first, last);

	return _mm512_max_epi8(_mm512_min_epi8(bytes, _mm512_set1_epi8((char)qmax)),
			       _mm512_set1_epi8((char)-qmax));
}

/* Codes of a token's channels. */
QAT_INLINE void wide_store_row(const wide_block *w, int64_t t, int64_t o, const __m512i q[4])
{
	const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11,
						15);
	const int64_t row = w->sequence * w->a->length + w->first + t;
	const __mmask16 live = w->live_rows >> t & 1 ? 0xffff : 0;

	_mm512_storeu_si512(w->a->codes + row * w->a->channels + o,
		_mm512_maskz_permutexvar_epi32(live, order,
			wide_bytes(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]),
				   w->a->qmax)));
}

/* Codes of four tokens, one beside the other. */
QAT_INLINE __m512i wide_quad(__m512i first, __m512i last, int32_t qmax)
{
	const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6,
								   10, 14, 3, 7, 11, 15));

	return _mm512_shuffle_epi8(wide_bytes(first, last, qmax), order);
}

/* The codes of a token's channels; those of its columns into q. */
QAT_INLINE void wide_token(const wide_block *w, __m512i q[4], const __m512i word[4], int64_t t,
			   int64_t o, int f32, int rows, int columns)
{
	const qat_grad_args *any = either(w);
	const int64_t row = w->sequence * any->length + w->first + t;
	const __m512 inverse = _mm512_set1_ps(rows ? w->inverse[t] : 0.0f);
	const __m512 g = _mm512_set1_ps(columns ? w->turned_fold[t] : 0.0f);
	__m512i codes[4];

#pragma GCC unroll 4
	for (int j = 0; j < 4; j++) {
		const __m512 u = _mm512_cvtepi32_ps(_mm512_srli_epi32(word[j], 8));
		const __m512 v = wide_load(any, row * any->channels + o + 16 * j, f32);

		if (rows)
			codes[j] = wide_round(_mm512_mul_ps(v, _mm512_loadu_ps(w->fold + 16 * j)),
					      inverse, u);
		if (columns)
			q[j] = wide_round(_mm512_mul_ps(v, g), _mm512_loadu_ps(w->r + 16 * j), u);
	}
	if (rows)
		wide_store_row(w, t, o, codes);
}

/* Quads [BLOCK / 4] of BLOCK channels to their place in the columns' codes. */
QAT_INLINE void wide_store_columns(const wide_block *w, int64_t o, const __m512i quads[16][4])
{
	const int64_t ld = w->b->batch * w->b->length;
	int8_t *out = w->b->codes + o * ld + w->sequence * w->b->length + w->first;
	const __mmask64 tokens = ~UINT64_C(0) >> (BLOCK - w->tokens);

	for (int j = 0; j < 4; j++) {
		__m512i a[16];

#pragma GCC unroll 16
		for (int i = 0; i < 16; i++)
			a[i] = quads[i][j];
		transpose(a);
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++, out += ld) {
			const __mmask64 live = w->live >> (16 * j + i) & 1 ? ~UINT64_C(0) : 0;

			_mm512_mask_storeu_epi8(out, tokens, _mm512_maskz_mov_epi8(live, a[i]));
		}
	}
}

/* Two tokens; behind the last one, that again. */
QAT_INLINE void wide_pair(const wide_block *w, __m512i pair[4], int64_t t, int64_t o, int f32,
			  int rows, int columns)
{
	const int64_t one = min64(t, w->tokens - 1), two = min64(t + 1, w->tokens - 1);
	const int64_t channels = either(w)->channels;
	const uint32_t counter[2] = { (uint32_t)(((w->first + one) * channels + o) / 4),
				      (uint32_t)(((w->first + two) * channels + o) / 4) };
	__m512i word[8], q[2][4];

	wide_ahead(w, one, o, f32);
	wide_ahead(w, two, o, f32);
	twice_64_words(word, &w->source, counter);
	wide_token(w, q[0], word, one, o, f32, rows, columns);
	wide_token(w, q[1], word + 4, two, o, f32, rows, columns);
#pragma GCC unroll 4
	for (int j = 0; columns && j < 4; j++)
		pair[j] = _mm512_packs_epi32(q[0][j], q[1][j]);
}

QAT_INLINE void wide_block_as(const wide_block *w, int64_t o, int f32, int rows, int columns)
{
	__m512i quads[BLOCK / 4][4];

	for (int64_t t = 0; t < w->tokens; t += 4) {
		__m512i first[4], last[4];

		wide_pair(w, first, t, o, f32, rows, columns);
		wide_pair(w, last, t + 2, o, f32, rows, columns);
		for (int j = 0; columns && j < 4; j++)
			quads[t / 4][j] = wide_quad(first[j], last[j], w->b->qmax);
	}
	for (int64_t t = round_up(w->tokens, 4); columns && t < BLOCK; t += 4)
		memset(quads[t / 4], 0, sizeof *quads);
	if (columns)
		wide_store_columns(w, o, (const __m512i (*)[4])quads);
}

QAT_INLINE void wide_one(const wide_block *w, int64_t o, int f32)
{
	if (w->a && w->b)
		wide_block_as(w, o, f32, 1, 1);
	else if (w->a)
		wide_block_as(w, o, f32, 1, 0);
	else
		wide_block_as(w, o, f32, 0, 1);
}

static void wide_invert(wide_block *w)
{
	w->live_rows = 0;
	for (int64_t t = 0; w->a && t < w->tokens; t++) {
		const float scale = w->a->scale[w->sequence * w->a->length + w->first + t];

		w->inverse[t] = 1.0f / scale;
		w->live_rows |= (uint64_t)(scale == scale) << t;
	}
}

/* Codes of a chunk, as far as blocks are whole; returns where they end. */
static int64_t wide_codes(const qat_grad_args *a, const qat_grad_args *b, int64_t sequence,
			  int64_t first)
{
	const qat_grad_args *any = a ? a : b;
	const int64_t end = wide_end(any);
	wide_block w;
	int bad;

	wide_open(&w, a, b, sequence, first);
	wide_invert(&w);
	source_open(&w.source, any->seed, (uint32_t)(any->sequence + sequence), any->stream);
	for (int64_t o = 0; o < end; o += BLOCK) {
		wide_fold(&w, o);
		invert_channels(b, sequence, o, BLOCK, w.r, &bad);
		w.live = 0;
		for (int i = 0; b && i < BLOCK; i++)
			w.live |= (uint64_t)(w.r[i] != 0.0f) << i;
		if (any->dy.dtype == QAT_F32)
			wide_one(&w, o, 1);
		else
			wide_one(&w, o, 0);
	}
	return end;
}
#else
static int64_t wide_measure(const qat_grad_args *a, const qat_grad_args *b, int64_t sequence,
			    int64_t first, int32_t *most, int32_t *top)
{
	(void)a, (void)b, (void)sequence, (void)first, (void)most, (void)top;
	return 0;
}

static int64_t wide_codes(const qat_grad_args *a, const qat_grad_args *b, int64_t sequence,
			  int64_t first)
{
	(void)a, (void)b, (void)sequence, (void)first;
	return 0;
}
#endif
