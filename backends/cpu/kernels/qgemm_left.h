/* qgemm_left.h - the left side of a product: codes, and what goes with a row and group.
 * Part of qgemm.c.
 */

/* x as the tiles want it: codes, and per row and group scale, sum of codes, zero point. */
typedef struct xside {
	const xcode *codes;
	int64_t ld;
	float *scale;
	int32_t *sum, *zero;
	xcode *own;
} xside;

static int64_t x_rows(const qat_qmm *p, int64_t m)
{
	return round_up(m * p->groups, 16);
}

static int64_t workspace(const qat_qmm *p, int64_t m)
{
	const int64_t codes = p->x_direct ? 0 : m * p->groups * p->group4 * BYTES;

	return round_up(codes, 64) + 4 * x_rows(p, m) * (p->x_zero ? 3 : 2) + 64;
}

static void place_x(xside *x, const qat_qmm *p, const qat_qmm_args *a)
{
	const int64_t per = x_rows(p, a->m);

	x->scale = a->workspace;
	x->sum = (int32_t *)(x->scale + per);
	x->zero = p->x_zero ? x->sum + per : NULL;
	x->own = p->x_direct ? NULL : (xcode *)(x->sum + per * (p->x_zero ? 2 : 1));
	x->codes = p->x_direct ? (const xcode *)a->x : x->own;
	x->ld = p->x_direct ? p->k : p->groups * p->group4;
}

/* Sum of n codes as they are, and whether one is not zero. */
QAT_INLINE int32_t sum_codes(const int8_t *restrict codes, int64_t n, int *any)
{
	int32_t sum = 0, seen = 0;
	int64_t i = 0;

#if defined __AVX512VNNI__ && !defined QAT_PLAIN_TILES
	__m512i lanes = _mm512_setzero_si512(), bits = lanes;

	for (; i + 64 <= n; i += 64) {
		const __m512i v = _mm512_loadu_si512(codes + i);

		lanes = _mm512_dpbusd_epi32(lanes, _mm512_set1_epi8(1), v);
		bits = _mm512_or_si512(bits, v);
	}
	sum = n < 64 ? 0 : _mm512_reduce_add_epi32(lanes);
	seen = _mm512_test_epi32_mask(bits, bits) != 0;
#endif
	for (; i < n; i++) {
		sum += codes[i];
		seen |= codes[i];
	}
	*any = seen != 0;
	return sum;
}

/* Codes of a group into x->own; returns their sum. */
static int32_t spread_group(const xside *x, const qat_qmm *p, const uint8_t *codes, int64_t r,
			    int64_t g, int32_t zero, int *any)
{
	xcode *out = x->own + r * x->ld + g * p->group4;
	int32_t sum = 0, seen = 0;

	for (int64_t k = 0; k < p->group; k += PIECE) {
		const int64_t n = min64(PIECE, p->group - k);
		int16_t v[PIECE];

		integers(p->xs, v, codes + k, n, zero);
		for (int64_t i = 0; i < n; i++) {
			out[k + i] = (xcode)v[i];
			sum += v[i];
			seen |= v[i];
		}
	}
	for (int64_t k = p->group; k < p->group4; k++)
		out[k] = 0;
	*any = seen != 0;
	return sum;
}

/* What the sums of a row and group begin with, once zero points of w are in the codes. */
static int32_t begin_of(const qat_qmm *p, int32_t sum)
{
	return p->w_zero ? sum : (int32_t)(0u - (uint32_t)OFFSET * (uint32_t)sum);
}

static void prepare_group(const xside *x, const qat_qmm *p, const qat_qmm_args *a, int64_t r,
			  int64_t g, scale_range *range)
{
	const int64_t at = r * p->groups + g, block = block_of(p->xs, p->k, r, g * p->group);
	const int32_t zero = zero_of(a->x_zero, block);
	const uint8_t *codes = (const uint8_t *)a->x + r * p->k + g * p->group;
	int32_t sum;
	int any;

	if (p->x_direct && p->group == 32)
		sum = sum_codes((const int8_t *)codes, 32, &any);
	else if (p->x_direct)
		sum = sum_codes((const int8_t *)codes, p->group, &any);
	else
		sum = spread_group(x, p, codes, r, g, p->x_zero ? 0 : zero, &any);
	x->sum[at] = begin_of(p, sum);
	x->scale[at] = kept_scale(p, a->x_scale[block], p->x_shift, !any, range);
	if (p->x_zero)
		x->zero[at] = zero;
}

#if defined __AVX512VNNI__ && !defined QAT_PLAIN_TILES
/* -128 times the sums of n <= 16 groups of 32 codes. */
static void sum_groups(int32_t *out, const int8_t *codes, int64_t n)
{
	const __m512i order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7,
						8, 12, 9, 13, 10, 14, 11, 15);
	__m512i v[8], a, b;

#pragma GCC unroll 8
	for (int i = 0; i < 8; i++) {
		const __mmask64 there = n > 2 * i + 1 ? ~0ull : n > 2 * i ? 0xffffffffull : 0;

		v[i] = _mm512_maskz_loadu_epi8(there, codes + 64 * i);
		v[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8((char)128), v[i]);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 8; i += 2)
		v[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(v[i], v[i + 1]),
					_mm512_unpackhi_epi32(v[i], v[i + 1]));
#pragma GCC unroll 2
	for (int i = 0; i < 8; i += 4)
		v[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(v[i], v[i + 2]),
					_mm512_unpackhi_epi64(v[i], v[i + 2]));
	a = _mm512_shuffle_i32x4(v[0], v[4], 0x88);
	b = _mm512_shuffle_i32x4(v[0], v[4], 0xdd);
	a = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_add_epi32(a, b));
	_mm512_mask_storeu_epi32(out, (__mmask16)((1u << n) - 1),
				 _mm512_permutexvar_epi32(order, a));
}

/* Rows [r, end) of codes that serve as they are, in groups of 32; 0: others. */
static int prepare_rows(const xside *x, const qat_qmm *p, const qat_qmm_args *a, int64_t r,
			int64_t end)
{
	const int64_t first = r * p->groups, n = end * p->groups - first;
	const int8_t *codes = (const int8_t *)a->x + r * p->k;
	const float unit = qat_pow2(-p->x_shift);

	if (!p->x_direct || p->group != 32 || p->w_zero || p->x_zero || both_pow2(p))
		return 0;
	for (int64_t i = 0; i < n; i += 16)
		sum_groups(x->sum + first + i, codes + 32 * i, min64(16, n - i));
	for (; r < end; r++)
		for (int64_t g = 0; g < p->groups; g++)
			x->scale[r * p->groups + g] =
				a->x_scale[block_of(p->xs, p->k, r, g * p->group)] * unit;
	return 1;
}
#else
static int prepare_rows(const xside *x, const qat_qmm *p, const qat_qmm_args *a, int64_t r,
			int64_t end)
{
	(void)x, (void)p, (void)a, (void)r, (void)end;
	return 0;
}
#endif

static scale_range prepare(const xside *x, const qat_qmm *p, const qat_qmm_args *a)
{
	enum { AT_ONCE = 16 };
	float lo = INFINITY, hi = 0.0f;

#pragma omp parallel for schedule(static) reduction(min: lo) reduction(max: hi)
	for (int64_t first = 0; first < a->m; first += AT_ONCE) {
		const int64_t end = min64(first + AT_ONCE, a->m);
		scale_range range = no_range;

		if (prepare_rows(x, p, a, first, end))
			continue;
		for (int64_t r = first; r < end; r++)
			for (int64_t g = 0; g < p->groups; g++)
				prepare_group(x, p, a, r, g, &range);
		lo = range.lo < lo ? range.lo : lo;
		hi = range.hi > hi ? range.hi : hi;
	}
	return (scale_range){ lo, hi };
}
