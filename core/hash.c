/* hash.c - multiply and rotate, in four lanes. */
#include "hash.h"

#include <endian.h>
#include <string.h>

#define P1 UINT64_C(0x9e3779b97f4a7c15)		/* odd, with bits well spread */
#define P2 UINT64_C(0xc2b2ae3d27d4eb4f)

static uint64_t rotate(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static uint64_t mix(uint64_t lane, uint64_t word)
{
	return rotate(lane + word * P2, 31) * P1;
}

static void stripe(qat_hash *h, const uint8_t *at)
{
	for (int i = 0; i < 4; i++) {
		uint64_t word;

		memcpy(&word, at + 8 * i, sizeof word);
		h->lane[i] = mix(h->lane[i], le64toh(word));
	}
}

void qat_hash_begin(qat_hash *h)
{
	*h = (qat_hash){ .lane = { P1, P2, P1 + P2, P1 ^ P2 } };
}

void qat_hash_add(qat_hash *h, const void *data, int64_t bytes)
{
	const uint8_t *at = data;
	const uint64_t held = h->bytes % 32;

	if (bytes <= 0)
		return;
	h->bytes += (uint64_t)bytes;
	if (held) {
		const uint64_t room = 32 - held;
		const uint64_t n = (uint64_t)bytes < room ? (uint64_t)bytes : room;

		memcpy(h->tail + held, at, n);
		if (n < room)
			return;
		stripe(h, h->tail);
		at += n;
		bytes -= (int64_t)n;
	}
	for (; bytes >= 32; at += 32, bytes -= 32)
		stripe(h, at);
	if (bytes > 0)
		memcpy(h->tail, at, (size_t)bytes);
}

uint64_t qat_hash_end(const qat_hash *h)
{
	uint64_t x = h->bytes;

	for (int i = 0; i < 4; i++)
		x = mix(x, h->lane[i]);
	for (uint64_t i = 0; i < h->bytes % 32; i++)
		x = mix(x, h->tail[i]);
	x = (x ^ x >> 29) * P2;
	return x ^ x >> 32;
}

uint64_t qat_hash_text(const char *text)
{
	qat_hash h;

	qat_hash_begin(&h);
	qat_hash_add(&h, text, (int64_t)strlen(text));
	return qat_hash_end(&h);
}
