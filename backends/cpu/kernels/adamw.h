/* adamw.h - the arithmetic of an AdamW step, wherever its moments are kept. */
#ifndef QAT_CPU_ADAMW_H
#define QAT_CPU_ADAMW_H

#include "simd.h"

/* LANES elements; every product rounded on its own: the same bits on all ISAs. */
QAT_INLINE void adamw_step(float *p, const float *g, float *m, float *v, const float *h)
{
	const vf b1 = vf_set(h[1]), b2 = vf_set(h[2]), gi = h[7] * vf_load(g), pi = vf_load(p);
	const vf mi = b1 * vf_load(m) + (1.0f - b1) * gi;
	const vf vi_ = b2 * vf_load(v) + (1.0f - b2) * (gi * gi);

	vf_store(m, mi);
	vf_store(v, vi_);
	vf_store(p, (pi - h[0] * h[4] * pi) -
		    h[0] * ((mi / h[5]) / (vf_sqrt(vi_ / h[6]) + h[3])));
}

#endif
