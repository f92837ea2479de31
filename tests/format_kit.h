/* format_kit.h - what the tests of formats share: a host that keeps the message, a folder
 * of their own, and files made of bytes. The plugin is compiled into the test. */
#ifndef FORMAT_KIT_H
#define FORMAT_KIT_H

#include <qatrun/format.h>	/* before check.h, whose macro `fail` is a name in it */
#include <check.h>

extern const qat_plugin qat_plugin_v1;

/* The plugin's first interface, initialised. */
const qat_format *kit_format(void);
const char *kit_message(void);

/* A new folder for one test, removed with all in it by kit_end. */
void kit_begin(void);
void kit_end(void);
/* A path in it; four are valid at a time. */
const char *kit_path(const char *name);

void kit_put(const char *name, const void *bytes, size_t length);
void kit_put_text(const char *name, const char *text);
/* To be freed. */
char *kit_get(const char *name, size_t *length);
/* Names in the folder `name` ("" for the test's own). */
int kit_count(const char *name);

/* Bytes in the making. */
typedef struct kit_bytes {
	unsigned char at[1 << 16];
	size_t length;
} kit_bytes;

void kit_add(kit_bytes *b, const void *bytes, size_t length);
void kit_add_int(kit_bytes *b, uint64_t value, int bytes);	/* little-endian */
void kit_add_float(kit_bytes *b, float value);

/* "0a ff" to bytes; returns how many. */
size_t kit_hex(unsigned char *out, const char *hex);

/* A file of that header and `data` zero bytes. */
void kit_put_safetensors(const char *name, const char *header, size_t data);

/* 200 truncations and 200 files with a few flipped bits of what `name` holds: open and
 * use each with `use`, which must neither crash nor hang. */
void kit_mutate(const char *name, const char *open_path, const qat_format *format,
		void (*use)(const qat_format *format, void *file));

/* Ends with `rc` and a message that contains `part`. */
void kit_fails(int rc, int wanted, const char *part);

#endif
