/* fuzz_state.c - the document of a state: what is read can be written and read again. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "state.h"

static void again(const qat_state_doc *d, qat_arena *arena)
{
	qat_state_doc second;
	char *text = NULL;

	fuzz_assert(!qat_state_doc_write(&text, d));
	fuzz_assert(!qat_state_doc_read(&second, text, (int64_t)strlen(text), "again", arena));
	fuzz_assert(second.n_placed == d->n_placed && second.n_coded == d->n_coded);
	for (int64_t i = 0; i < d->n_coded; i++)
		fuzz_assert(qat_scheme_same(d->coded_scheme[i], second.coded_scheme[i]));
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	qat_state_doc d;
	qat_arena *arena;

	fuzz_assert(!qat_arena_new(&arena));
	if (!qat_state_doc_read(&d, (const char *)data, (int64_t)size, "fuzz", arena))
		again(&d, arena);
	qat_arena_free(arena);
	return 0;
}
