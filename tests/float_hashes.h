/* Made by tests/interop/floats.py with torch and torchao; not edited by hand. */
enum { MX_BLOCKS = 256, TWO_ROWS = 16, TWO_COLS = 64 };

static const struct {
	const char *name;
	int ebits, mbits;
	uint64_t values, codes, mx[3];	/* mx: floor, ceil, even */
} float_hashes[] = {
	{ "E2M3", 2, 3, 0x7ffacb24ad8b0aa5u,
	  0xdc0717d561ea2debu,
	  { 0xa70366d421bab136u, 0xc67aa09383398c3cu, 0xc53e06bfbdb2c8f9u } },
	{ "E3M2", 3, 2, 0x25da13434201d785u,
	  0x86f6c4249fe1c273u,
	  { 0x4aead2a377fe3e5bu, 0xeec0e063c8baa0a8u, 0xb4d6fc0c06e65356u } },
	{ "E4M3", 4, 3, 0x9d09ddc37a47fa25u,
	  0x40352872110fdba0u,
	  { 0x801d9c583eeb1e0u, 0x7d6376ed46b53cf6u, 0x38c4f0a5a5b5b2d1u } },
	{ "E5M2", 5, 2, 0xf73c76b81c9d11c5u,
	  0x43761d96db8f89fau,
	  { 0x88e0ee39f1cfe853u, 0xcdbda5a19d854551u, 0x4f404ed0ec616a90u } },
};

static const uint64_t two_level_hash = 0x98f266445d98b9beu;	/* 37 scales differ */
