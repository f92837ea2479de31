/* quantizer.h - what a quantizer plugin offers: schemes. */
#ifndef QATRUN_QUANTIZER_H
#define QATRUN_QUANTIZER_H

#include <qatrun/plugin.h>
#include <qatrun/scheme.h>

typedef struct qat_quantizer {
	uint32_t size;		/* sizeof(qat_quantizer) */
	uint32_t reserved;

	/* Fill scheme `index` (0: the first) for a site. QAT_EINVAL with a message where
	 * the options cannot serve the site (a group that does not divide its columns).
	 * out->size is set by the caller; the function sets all other fields. Pointers in
	 * *out stay valid as long as `self`. */
	int (*scheme)(const void *self, const qat_site *site, int64_t index, qat_scheme *out);

	/* How many schemes a site has; NULL: one. */
	int64_t (*count)(const void *self, const qat_site *site);

	/* Which of them is active in optimizer step `step` of `steps`; NULL: the first. */
	int64_t (*select)(const void *self, const qat_site *site, int64_t step, int64_t steps);
} qat_quantizer;

#endif
