/* qgemm_across.h - weights whose codes serve as they are: a panel's rows, 64 codes of each at
 * once, become its columns in registers. Part of qgemm_pack.c.
 */
#if defined __AVX512VNNI__ && defined __AVX512BW__ && !defined QAT_PLAIN_TILES
#include "turn.h"

/* n <= 64 codes of LANES rows. */
QAT_INLINE void turn_codes(char *out, const uint8_t *codes, int64_t ld, int64_t n)
{
	const __mmask64 have = ~UINT64_C(0) >> (64 - n);
	const __m512i flip = _mm512_set1_epi8((char)OFFSET);
	__m512i a[16];

#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		a[i] = _mm512_xor_si512(_mm512_maskz_loadu_epi8(have, codes + i * ld), flip);
	transpose(a);
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		if (i * STEP < n)
			_mm512_storeu_si512(out + i * 64, a[i]);
}

static void spread_scales(const packing *w, int64_t panel)
{
	const qat_qmm *p = w->p;
	float *out = (float *)(void *)(w->packed + p->off_scale) + panel * p->groups * LANES;
	const float *row[LANES];

	for (int i = 0; i < LANES; i++)
		row[i] = w->scale + block_of(p->ws, p->k, panel * LANES + i, 0);
	for (int64_t g = 0; g < p->groups; g++) {
		const int64_t at = p->ws->block_cols ? g * p->group / p->ws->block_cols : 0;

		for (int i = 0; i < LANES; i++)
			out[g * LANES + i] = row[i][at];
	}
}

/* 1: done; else the panel is not whole, or codes, scales or zero points are not used as they
 * are. */
static int pack_across(const packing *w, int64_t panel)
{
	const qat_qmm *p = w->p;
	const uint8_t *codes = w->codes + panel * LANES * p->k;
	char *out = w->packed + 64 + panel * panel_bytes(p);

	if (p->ws->grid != QAT_GRID_UNIFORM || w->zero || p->w_zero || p->x_zero ||
	    p->group4 != p->group || both_pow2(p) || (panel + 1) * LANES > p->n)
		return 0;
	for (int64_t k = 0; k < p->k; k += 64)
		if (p->k - k >= 64)
			turn_codes(out + k * LANES, codes + k, p->k, 64);
		else
			turn_codes(out + k * LANES, codes + k, p->k, p->k - k);
	spread_scales(w, panel);
	return 1;
}
#else
static int pack_across(const packing *w, int64_t panel)
{
	(void)w, (void)panel;
	return 0;
}
#endif
