/* hash.h - a fast checksum: against accidents and mix-ups, not against malice.
 *
 * Four lanes of 64 bits take 32 bytes at a time; each byte changes about half of the result's
 * bits. The same bytes give the same hash however they are cut, on every machine. Hashes
 * are written to files: what is computed must never change.
 */
#ifndef QAT_HASH_H
#define QAT_HASH_H

#include <stdint.h>

typedef struct qat_hash {
	uint64_t lane[4];
	uint64_t bytes;
	uint8_t tail[32];	/* bytes % 32 of them */
} qat_hash;

void qat_hash_begin(qat_hash *h);
void qat_hash_add(qat_hash *h, const void *data, int64_t bytes);
uint64_t qat_hash_end(const qat_hash *h);

/* Of a text, without its NUL. */
uint64_t qat_hash_text(const char *text);

#endif
