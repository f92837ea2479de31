/* fuzz.h - what the harnesses share. Each defines LLVMFuzzerTestOneInput; libFuzzer calls
 * it (make fuzz), or fuzz_main.c does with the files of the corpus (make check). */
#ifndef QAT_TEST_FUZZ_H
#define QAT_TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include <qatrun/plugin.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A file in memory with these bytes; the path is good until the next call. */
const char *fuzz_file(const uint8_t *data, size_t size);
/* A folder of this process, removed when it ends; `name` in it gets these bytes. */
const char *fuzz_folder(void);
void fuzz_put(const char *name, const void *data, size_t size);

/* The plugin's first interface, once its init has run. */
const qat_interface *fuzz_interface(const qat_plugin *p);

/* The texts that lie between NULs in the data: *at moves on; NULL past the last. To be
 * freed. */
char *fuzz_text(const uint8_t **at, size_t *left);

/* Ends the process where a promise does not hold. */
#define fuzz_assert(what) \
	((what) ? (void)0 : fuzz_broken(#what, __FILE__, __LINE__))
void fuzz_broken(const char *what, const char *file, int line) __attribute__((noreturn));

/* Reads every byte, so that a sanitizer looks at each. */
void fuzz_touch(const void *data, size_t size);

#endif
