/* sampling.h - which token comes next. */
#ifndef QAT_SAMPLING_H
#define QAT_SAMPLING_H

#include <qatrun/plugin.h>

typedef struct qat_sampling {
	double temperature;		/* 0: the likeliest, of equals the one of the lowest id */
	int64_t top_k;			/* only the k likeliest; 0: all */
	double top_p;			/* only the likeliest that together reach p */
} qat_sampling;

/* One of n tokens by their logits and u in [0, 1). order: room for n, not read with
 * temperature 0. Logits that are not finite: QAT_ENUMERIC. */
QAT_HIDDEN int qat_sample(int32_t *out, const qat_sampling *s, const float *logits, int64_t n,
			  double u, int32_t *order);

#endif
