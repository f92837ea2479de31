/* quantize.c - the generic quantize, to the bit as numerics.h says: which blocks there are, and
 * where their scales come from. Per ISA.
 *
 * A block is met in runs: at most PIECE elements of one row (quantize_run.h).
 */
#include <float.h>

#include "decode.h"
#include "quantize_run.h"

enum { PIECE = 1024, PARTS = 64, TOGETHER = 16, AHEAD = 4096 };

/* The blocks of a call, and where they are. */
typedef struct quant_call {
	const qat_quantize_args *a;
	const qat_scheme *s;
	int64_t block_rows, block_cols;
	int64_t groups;			/* blocks in a row of blocks */
	int plain;			/* has_plain_scales */
	float second;			/* scale of the second level, where there is one */
} quant_call;

/* ---- blocks ---- */

/* Scale and zero of a block from its statistics, or as given, and where they go. */
QAT_INLINE quant_block settle(const quant_call *q, int64_t index, const qat_block_stats *b)
{
	const qat_quantize_args *a = q->a;
	const int integer = q->s->zero == QAT_ZERO_INT, shifted = q->s->zero == QAT_ZERO_FLOAT;
	quant_block out = { .exact = 0 };

	if (a->given_scale && q->s->scale_rule != QAT_SCALE_TWO_LEVEL) {
		out.scale = a->given_scale[index];
		if (a->given_zero && integer)
			out.zero = ((const int8_t *)a->given_zero)[index];
		if (a->given_zero && shifted)
			out.zero = ((const float *)a->given_zero)[index];
		out.exact = b->bad;
		return out;
	}
	out.scale = qat_block_scale(q->s, b, &out.zero);
	a->scale[index] = out.scale;
	if (a->zero && integer)
		((int8_t *)a->zero)[index] = (int8_t)out.zero;
	if (a->zero && shifted)
		((float *)a->zero)[index] = out.zero;
	return out;
}

/* A run of at most PIECE elements. */
QAT_INLINE void code_run(const quant_call *q, const float *x, int64_t r, int64_t c, int64_t n,
			 const quant_block *b)
{
	const qat_quantize_args *a = q->a;
	uint8_t *codes = (uint8_t *)a->codes + r * a->cols + c;
	uint8_t inside[PIECE];

	if (!a->mask) {
		run_codes(q->s, codes, NULL, x, n, b);
		return;
	}
	run_codes(q->s, codes, inside, x, n, b);
	mask_bits(a->mask + r * div_up(a->cols, 8), inside, c, n);
}

static void row_stats(const quant_call *q, qat_block_stats *b, int64_t r, int64_t c)
{
	const qat_src x = q->a->x;
	float buf[PIECE];

	for (int64_t i = 0; i < q->block_cols; i += PIECE) {
		const int64_t n = min64(PIECE, q->block_cols - i);

		run_stats(q->s, b, view_floats(buf, x.data, x.dtype, r * q->a->cols + c + i, n), n);
	}
}

static void row_codes(const quant_call *q, int64_t r, int64_t c, const quant_block *b)
{
	const qat_src x = q->a->x;
	float buf[PIECE];

	for (int64_t i = 0; i < q->block_cols; i += PIECE) {
		const int64_t n = min64(PIECE, q->block_cols - i);

		code_run(q, view_floats(buf, x.data, x.dtype, r * q->a->cols + c + i, n), r, c + i,
			 n, b);
	}
}

/* What comes behind n elements that will be read twice, if they are few. */
QAT_INLINE void ask_behind(const quant_call *q, int64_t r, int64_t c, int64_t n)
{
	const qat_src x = q->a->x;
	const int64_t each = x.dtype == QAT_F32 ? 4 : 2, bytes = n * each;

	if (bytes <= 4 * AHEAD)
		ask_ahead((const char *)x.data + (r * q->a->cols + c) * each, bytes,
			  max64(bytes, AHEAD));
}

/* Whether scales are amax / divisor as it is: those of many blocks are one loop then. */
static int has_plain_scales(const quant_call *q)
{
	const qat_scheme *s = q->s;

	return s->scale_rule == QAT_SCALE_ABSMAX && s->scale_format == QAT_F32 &&
	       s->zero == QAT_ZERO_NONE && !q->a->given_scale;
}

/* qat_block_scale of some blocks that has_plain_scales. */
QAT_INLINE int plain_scales(const quant_call *q, quant_block *k, const float *x, int64_t index,
			    int64_t blocks, int64_t n)
{
	const float divisor = (float)q->s->divisor, tiny = 7.88860905e-31f;	/* 2^-100 */
	uint32_t top[TOGETHER], bad = 0;
	float scale[TOGETHER];

	for (int64_t i = 0; i < blocks; i++)
		top[i] = run_amax(x + i * n, n);
	for (int64_t i = 0; i < blocks; i++) {
		const float amax = qat_f32_from_bits(top[i]), s = amax / divisor;

		scale[i] = amax < tiny || s == 0.0f ? 1.0f : s <= FLT_MAX ? s : NAN;
		bad |= top[i] >= 0x7f800000u;
	}
	for (int64_t i = 0; i < blocks; i++)
		k[i] = (quant_block){ .scale = scale[i] };
	memcpy(q->a->scale + index, scale, (size_t)blocks * 4);
	return bad != 0;
}

/* Blocks [g, g + blocks) of a row, n elements each: read, measured and coded while they are
 * near. Scales divide, and several at a time do not wait for each other. */
QAT_INLINE int short_blocks(const quant_call *q, int64_t r, int64_t g, int64_t blocks, int64_t n)
{
	const int64_t c = g * n;
	const qat_src src = q->a->x;
	float buf[PIECE];
	const float *x = view_floats(buf, src.data, src.dtype, r * q->a->cols + c, blocks * n);
	quant_block k[TOGETHER];
	int bad = 0;

	ask_behind(q, r, c, blocks * n);
	if (q->plain)
		bad = plain_scales(q, k, x, r * q->groups + g, blocks, n);
	for (int64_t i = 0; !q->plain && i < blocks; i++) {
		qat_block_stats b;

		qat_stats_init(&b);
		b.second = q->second;
		run_stats(q->s, &b, x + i * n, n);
		k[i] = settle(q, r * q->groups + g + i, &b);
		bad |= b.bad;
	}
	for (int64_t i = 0; i < blocks; i++)
		code_run(q, x + i * n, r, c + i * n, n, k + i);
	return bad;
}

/* The same of any number of blocks. */
QAT_INLINE int short_row(const quant_call *q, int64_t r, int64_t n)
{
	int bad = 0;

	for (int64_t g = 0; g < q->groups; g += TOGETHER)
		bad |= short_blocks(q, r, g, min64(TOGETHER, q->groups - g), n);
	return bad;
}

static int long_block(const quant_call *q, int64_t r, int64_t g)
{
	qat_block_stats b;
	quant_block k;

	ask_behind(q, r, g * q->block_cols, q->block_cols);
	qat_stats_init(&b);
	b.second = q->second;
	row_stats(q, &b, r, g * q->block_cols);
	k = settle(q, r * q->groups + g, &b);
	row_codes(q, r, g * q->block_cols, &k);
	return b.bad;
}

static int quantize_row(const quant_call *q, int64_t r)
{
	int bad = 0;

	if (q->block_cols == 32)
		return short_row(q, r, 32);
	if (q->block_cols == 16)
		return short_row(q, r, 16);
	for (int64_t g = 0; g < q->groups; g++)
		bad |= q->block_cols <= PIECE ? short_blocks(q, r, g, 1, q->block_cols)
					      : long_block(q, r, g);
	return bad;
}

/* A block of many rows: statistics of PARTS parts, put together in their order. */
static int tall_block(const quant_call *q, int64_t s, int64_t g)
{
	const int64_t first = s * q->block_rows, per = div_up(q->block_rows, PARTS);
	const int64_t end = first + q->block_rows, c = g * q->block_cols;
	qat_block_stats part[PARTS];
	quant_block k;

#pragma omp parallel for schedule(static)
	for (int64_t p = 0; p < PARTS; p++) {
		qat_stats_init(part + p);
		for (int64_t r = first + p * per; r < min64(end, first + (p + 1) * per); r++)
			row_stats(q, part + p, r, c);
	}
	for (int p = 1; p < PARTS; p++)
		merge_stats(part, part + p);
	k = settle(q, s * q->groups + g, part);
#pragma omp parallel for schedule(static)
	for (int64_t r = first; r < end; r++)
		row_codes(q, r, c, &k);
	return part->bad;
}

/* ---- two levels of scales: that of a row, or of all of them ---- */

static uint32_t row_amax(const quant_call *q, int64_t r)
{
	const qat_quantize_args *a = q->a;
	uint32_t top = 0;
	float buf[PIECE];

	for (int64_t c = 0; c < a->cols; c += PIECE) {
		const int64_t n = min64(PIECE, a->cols - c);
		const float *x = view_floats(buf, a->x.data, a->x.dtype, r * a->cols + c, n);
		const uint32_t m = run_amax(x, n);

		top = m > top ? m : top;
	}
	return top;
}

static float second_of(const quant_call *q, uint32_t top)
{
	return qat_second_scale(q->s, qat_f32_from_bits(top), top >= 0x7f800000u);
}

static int quantize_own(const quant_call *q, int64_t r)
{
	quant_call own = *q;

	own.second = q->a->given_scale ? q->a->given_scale[r] : second_of(q, row_amax(q, r));
	return quantize_row(&own, r);
}

static int quantize_two(quant_call *q)
{
	const qat_quantize_args *a = q->a;
	const int rows = q->s->second_rows == 1;
	uint32_t top = 0;
	int bad = 0;

	if (!rows && !a->given_scale) {
#pragma omp parallel for schedule(static) reduction(max: top)
		for (int64_t r = 0; r < a->rows; r++) {
			const uint32_t m = row_amax(q, r);

			top = m > top ? m : top;
		}
	}
	if (!rows)
		q->second = a->given_scale ? *a->given_scale : second_of(q, top);
#pragma omp parallel for schedule(static) reduction(|: bad)
	for (int64_t r = 0; r < a->rows; r++)
		bad |= rows ? quantize_own(q, r) : quantize_row(q, r);
	return bad;
}

/* ---- ranges that leave elements out ---- */

/* Block k's elements one after the other, in its part of the room. */
static const float *gather(const quant_call *q, int64_t k)
{
	const qat_quantize_args *a = q->a;
	const int64_t n = q->block_cols, c = k % q->groups * n;
	float *at = a->room + k * q->block_rows * n;

	for (int64_t i = 0; i < q->block_rows; i++)
		load_floats(at + i * n, a->x.data, a->x.dtype,
			    (k / q->groups * q->block_rows + i) * a->cols + c, n);
	return at;
}

static int measured_block(const quant_call *q, int64_t k)
{
	const int64_t first = k / q->groups * q->block_rows, c = k % q->groups * q->block_cols;
	const float *x = gather(q, k);
	qat_block_stats b;
	quant_block block;

	qat_stats_init(&b);
	for (int64_t i = 0; i < q->block_rows * q->block_cols; i++)
		qat_stats_add(&b, x[i]);
	qat_stats_measure(q->s, &b, x, q->block_rows * q->block_cols);
	block = settle(q, k, &b);
	for (int64_t r = first; r < first + q->block_rows; r++)
		row_codes(q, r, c, &block);
	return b.bad;
}

/* Bytes of masks are shared by the blocks of a row: one thread does them. */
static int quantize_measured(const quant_call *q)
{
	int bad = 0;

#pragma omp parallel for schedule(static) reduction(|: bad)
	for (int64_t i = 0; i < q->a->rows / q->block_rows; i++)
		for (int64_t g = 0; g < q->groups; g++)
			bad |= measured_block(q, i * q->groups + g);
	return bad;
}

static int quantize_rows(const quant_call *q)
{
	int bad = 0;

	if (is_shared_out()) {
		for (int64_t r = 0; r < q->a->rows; r++)
			bad |= quantize_row(q, r);
		return bad;
	}
#pragma omp parallel for schedule(static) reduction(|: bad)
	for (int64_t r = 0; r < q->a->rows; r++)
		bad |= quantize_row(q, r);
	return bad;
}

static int quantize(const qat_quantize_args *a)
{
	const qat_scheme *s = a->scheme;
	quant_call q = { .a = a, .s = s, .second = 1.0f };
	int bad = 0;

	q.block_rows = s->block_rows ? s->block_rows : max64(a->rows, 1);
	q.block_cols = s->block_cols ? s->block_cols : max64(a->cols, 1);
	q.groups = a->cols / q.block_cols;
	q.plain = has_plain_scales(&q);
	if (a->mask)
		memset(a->mask, 0, (size_t)(a->rows * div_up(a->cols, 8)));
	if (qat_measures_blocks(s) && !a->given_scale)
		return quantize_measured(&q);
	if (s->scale_rule == QAT_SCALE_TWO_LEVEL)
		return quantize_two(&q);
	if (q.block_rows == 1)
		return quantize_rows(&q);
	for (int64_t i = 0; i < a->rows / q.block_rows; i++)
		for (int64_t g = 0; g < q.groups; g++)
			bad |= tall_block(&q, i, g);
	return bad;
}

/* ---- mask, cast ---- */

static void mask(qat_dst y, qat_src g, const uint8_t *bits, int64_t rows, int64_t cols)
{
#pragma omp parallel for schedule(static)
	for (int64_t r = 0; r < rows; r++) {
		const uint8_t *m = bits + r * div_up(cols, 8);

		for (int64_t c = 0; c < cols; c += PIECE) {
			const int64_t n = min64(PIECE, cols - c);
			float in[PIECE], out[PIECE];
			const float *x = view_floats(in, g.data, g.dtype, r * cols + c, n);

			for (int64_t i = 0; i < n; i++)
				out[i] = m[(c + i) >> 3] >> (i & 7) & 1 ? x[i] : 0.0f;
			store_floats(y.data, y.dtype, r * cols + c, out, n);
		}
	}
}

static void load_any(float *out, qat_src x, int64_t at, int64_t n)
{
	if (x.dtype != QAT_F16) {
		load_floats(out, x.data, x.dtype, at, n);
		return;
	}
	for (int64_t i = 0; i < n; i++)
		out[i] = qat_f16_to_f32(((const uint16_t *)x.data)[at + i]);
}

static void store_any(qat_dst y, const float *in, int64_t at, int64_t n)
{
	if (y.dtype != QAT_F16) {
		store_floats(y.data, y.dtype, at, in, n);
		return;
	}
	for (int64_t i = 0; i < n; i++)
		((uint16_t *)y.data)[at + i] = qat_f32_to_f16(in[i]);
}

static void cast(qat_dst y, qat_src x, int64_t n)
{
#pragma omp parallel for schedule(static)
	for (int64_t c = 0; c < div_up(n, PIECE); c++) {
		const int64_t at = c * PIECE, len = min64(PIECE, n - at);
		float buf[PIECE];

		load_any(buf, x, at, len);
		store_any(y, buf, at, len);
	}
}

extern const qat_quantize_kernels QAT_NAME(qat_quantize);
const qat_quantize_kernels QAT_NAME(qat_quantize) = {
	quantize, QAT_NAME(qat_dequantize), mask, cast
};
