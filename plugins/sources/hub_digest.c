/* hub_digest.c - SHA-256 and SHA-1 (FIPS 180-4), and what they say of a file. */
#include "hub.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 64, PIECE = 1 << 20, WORDS = 8 };

typedef struct digest {
	uint32_t h[WORDS];
	uint64_t bytes;
	uint8_t tail[BLOCK];		/* bytes % BLOCK of them */
	void (*block)(uint32_t *h, const uint8_t *p);
	int words;			/* of the result */
} digest;

/* Fractional parts of the cube roots of the first 64 primes. */
static const uint32_t k256[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2
};

static uint32_t left(uint32_t x, int n)
{
	return x << n | x >> (32 - n);
}

static uint32_t right(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static uint32_t big_endian(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void block256(uint32_t *h, const uint8_t *p)
{
	uint32_t w[64], s[WORDS];

	for (int t = 0; t < 16; t++)
		w[t] = big_endian(p + 4 * t);
	for (int t = 16; t < 64; t++) {
		const uint32_t a = w[t - 15], b = w[t - 2];

		w[t] = w[t - 16] + w[t - 7] + (right(a, 7) ^ right(a, 18) ^ a >> 3) +
		       (right(b, 17) ^ right(b, 19) ^ b >> 10);
	}
	memcpy(s, h, sizeof s);
	for (int t = 0; t < 64; t++) {
		const uint32_t one = s[7] + (right(s[4], 6) ^ right(s[4], 11) ^ right(s[4], 25)) +
				     ((s[4] & s[5]) ^ (~s[4] & s[6])) + k256[t] + w[t];
		const uint32_t two = (right(s[0], 2) ^ right(s[0], 13) ^ right(s[0], 22)) +
				     ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

		for (int i = 7; i > 0; i--)
			s[i] = s[i - 1];
		s[4] += one;
		s[0] = one + two;
	}
	for (int i = 0; i < WORDS; i++)
		h[i] += s[i];
}

/* The function and constant of SHA-1 in round t / 20. */
static uint32_t mix1(int t, const uint32_t *s)
{
	const uint32_t b = s[1], c = s[2], d = s[3];

	if (t < 20)
		return ((b & c) ^ (~b & d)) + 0x5a827999;
	if (t < 40)
		return (b ^ c ^ d) + 0x6ed9eba1;
	if (t < 60)
		return ((b & c) ^ (b & d) ^ (c & d)) + 0x8f1bbcdc;
	return (b ^ c ^ d) + 0xca62c1d6;
}

static void block1(uint32_t *h, const uint8_t *p)
{
	uint32_t w[80], s[5];

	for (int t = 0; t < 16; t++)
		w[t] = big_endian(p + 4 * t);
	for (int t = 16; t < 80; t++)
		w[t] = left(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
	memcpy(s, h, sizeof s);
	for (int t = 0; t < 80; t++) {
		const uint32_t next = left(s[0], 5) + mix1(t, s) + s[4] + w[t];

		s[4] = s[3];
		s[3] = s[2];
		s[2] = left(s[1], 30);
		s[1] = s[0];
		s[0] = next;
	}
	for (int i = 0; i < 5; i++)
		h[i] += s[i];
}

static const digest sha256 = {
	.h = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c,
	       0x1f83d9ab, 0x5be0cd19 },
	.block = block256, .words = 8
};

static const digest sha1 = {
	.h = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0 },
	.block = block1, .words = 5
};

static void add(digest *d, const uint8_t *p, size_t n)
{
	size_t have = d->bytes % BLOCK;

	d->bytes += n;
	if (have) {
		const size_t take = n < BLOCK - have ? n : BLOCK - have;

		memcpy(d->tail + have, p, take);
		if (have + take < BLOCK)
			return;
		d->block(d->h, d->tail);
		p += take;
		n -= take;
	}
	for (; n >= BLOCK; p += BLOCK, n -= BLOCK)
		d->block(d->h, p);
	if (n)
		memcpy(d->tail, p, n);
}

static void finish(char *hex, digest *d)
{
	static const uint8_t pad[BLOCK] = { 0x80 };
	const uint64_t bits = d->bytes * 8;
	uint8_t length[8];

	for (int i = 0; i < 8; i++)
		length[i] = (uint8_t)(bits >> (56 - 8 * i));
	add(d, pad, 1 + (BLOCK + 55 - d->bytes % BLOCK) % BLOCK);
	add(d, length, sizeof length);
	for (int i = 0; i < d->words; i++)
		snprintf(hex + 8 * i, 9, "%08x", (unsigned)d->h[i]);
}

int hub_stopped(const hub_stop *s)
{
	if (!s->stopped || !s->stopped(s->context))
		return QAT_OK;
	return qat_fail(QAT_ESTOPPED, "interrupted: what was downloaded is kept, and the next run "
			"goes on from there");
}

static int add_file(digest *d, int fd, int64_t size, const hub_stop *stop)
{
	uint8_t *piece = malloc(PIECE);
	int64_t at = 0;
	int rc = piece ? QAT_OK : qat_fail(QAT_ENOMEM, "out of memory");

	while (!rc && at < size) {
		const ssize_t n = pread(fd, piece, PIECE, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			rc = qat_fail(QAT_EIO, "reading what was downloaded: %s",
				      n ? strerror(errno) : "the file has become shorter");
		if (rc)
			break;
		add(d, piece, (size_t)n);
		at += n;
		rc = hub_stopped(stop);
	}
	free(piece);
	return rc;
}

int hub_digest_check(int *same, int fd, int64_t size, const char *etag, const hub_stop *stop)
{
	const int is_git = strlen(etag) == HUB_COMMIT;
	digest d = is_git ? sha1 : sha256;
	char hex[HUB_ETAG_MAX + 1], head[32];
	int rc;

	if (is_git)	/* git counts a header in: its kind, its length, and a NUL */
		add(&d, (const uint8_t *)head, 1 + (size_t)snprintf(head, sizeof head, "blob %lld",
								    (long long)size));
	rc = add_file(&d, fd, size, stop);
	if (rc)
		return rc;
	finish(hex, &d);
	*same = !strcmp(hex, etag);
	return QAT_OK;
}
