/* fuzz_sites.c - a pattern of site names, and after NULs the names that it is held to. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "sites.h"

static void use(const qat_pattern *p, const uint8_t *data, size_t size)
{
	static const char *const names[] = { "embed", "lm_head", "layers.0.attn.q",
					     "layers.11.mlp.down" };
	char *name;

	fuzz_assert(qat_pattern_at(p, 0));
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		qat_pattern_match(p, names[i]);
	while ((name = fuzz_text(&data, &size))) {
		qat_pattern_match(p, name);
		free(name);
	}
	/* an alternative is a pattern itself, and means less or the same */
	for (int64_t i = 0; i < 16 && qat_pattern_at(p, i); i++) {
		qat_pattern *one;

		fuzz_assert(!qat_pattern_new(&one, qat_pattern_at(p, i)));
		for (size_t k = 0; k < sizeof names / sizeof *names; k++)
			fuzz_assert(!qat_pattern_match(one, names[k]) ||
				    qat_pattern_match(p, names[k]));
		qat_pattern_free(one);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(&data, &size);
	qat_pattern *p;

	if (text && !qat_pattern_new(&p, text)) {
		use(p, data, size);
		qat_pattern_free(p);
	}
	free(text);
	return 0;
}
