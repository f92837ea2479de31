/* format_kit.c - see format_kit.h. */
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "format_kit.h"

static char message[8192];
static char folder[64];

static int keep(int code, const char *fmt, va_list ap)
{
	vsnprintf(message, sizeof message, fmt, ap);
	return code;
}

static const char *last(void)
{
	return message;
}

static const qat_host host = {
	.size = sizeof(qat_host), .abi_major = QAT_ABI_MAJOR, .abi_minor = QAT_ABI_MINOR,
	.fail = keep, .error = last,
};

const qat_format *kit_format(void)
{
	ck_assert_int_eq(qat_plugin_v1.init(&host), QAT_OK);
	return qat_plugin_v1.interfaces[0]->vtable;
}

const char *kit_message(void)
{
	return message;
}

void kit_begin(void)
{
	const char *base = getenv("TMPDIR");

	*message = '\0';
	snprintf(folder, sizeof folder, "%.40s/format-XXXXXX", base ? base : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(folder));
}

static int drop(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

void kit_end(void)
{
	nftw(folder, drop, 16, FTW_DEPTH | FTW_PHYS);
}

const char *kit_path(const char *name)
{
	static char paths[4][512];
	static int turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof paths[0], "%s%s%s", folder, *name ? "/" : "", name);
	return path;
}

void kit_put(const char *name, const void *bytes, size_t length)
{
	FILE *f;
	char *slash;
	char path[512];

	snprintf(path, sizeof path, "%s", kit_path(name));
	for (slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(path, 0777);
		*slash = '/';
	}
	f = fopen(path, "wb");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(bytes, 1, length, f), length);
	ck_assert_int_eq(fclose(f), 0);
}

void kit_put_text(const char *name, const char *text)
{
	kit_put(name, text, strlen(text));
}

char *kit_get(const char *name, size_t *length)
{
	FILE *f = fopen(kit_path(name), "rb");
	struct stat st;
	char *text;

	ck_assert_msg(f != NULL, "%s is missing", name);
	ck_assert_int_eq(fstat(fileno(f), &st), 0);
	text = malloc((size_t)st.st_size + 1);
	ck_assert_ptr_nonnull(text);
	*length = fread(text, 1, (size_t)st.st_size, f);
	text[*length] = '\0';
	fclose(f);
	return text;
}

int kit_count(const char *name)
{
	DIR *dir = opendir(kit_path(name));
	const struct dirent *entry;
	int n = 0;

	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir)))
		n += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	closedir(dir);
	return n;
}

void kit_add(kit_bytes *b, const void *bytes, size_t length)
{
	ck_assert_uint_le(length, sizeof b->at - b->length);
	memcpy(b->at + b->length, bytes, length);
	b->length += length;
}

void kit_add_int(kit_bytes *b, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++) {
		const unsigned char byte = (unsigned char)(value >> 8 * i);

		kit_add(b, &byte, 1);
	}
}

void kit_add_float(kit_bytes *b, float value)
{
	uint32_t u;

	memcpy(&u, &value, sizeof u);
	kit_add_int(b, u, 4);
}

size_t kit_hex(unsigned char *out, const char *hex)
{
	size_t n = 0;

	for (; *hex; hex++) {
		unsigned value;

		if (*hex == ' ')
			continue;
		ck_assert_int_eq(sscanf(hex, "%2x", &value), 1);
		out[n++] = (unsigned char)value;
		hex++;
	}
	return n;
}

void kit_put_safetensors(const char *name, const char *header, size_t data)
{
	static kit_bytes b;
	static const char zeros[4096];

	b.length = 0;
	kit_add_int(&b, strlen(header), 8);
	kit_add(&b, header, strlen(header));
	kit_add(&b, zeros, data);
	kit_put(name, b.at, b.length);
}

static uint32_t random_next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static void mutant_use(const char *open_path, const qat_format *format,
		       void (*use)(const qat_format *, void *))
{
	void *file = NULL;
	int rc;

	*message = '\0';
	rc = format->open(&file, kit_path(open_path));
	if (rc) {
		ck_assert_int_lt(rc, 0);
		ck_assert_msg(*message, "refused without a message");
		ck_assert_ptr_null(file);
		return;
	}
	use(format, file);
	format->close(file);
}

void kit_mutate(const char *name, const char *open_path, const qat_format *format,
		void (*use)(const qat_format *format, void *file))
{
	size_t length;
	char *whole = kit_get(name, &length);
	uint32_t state = 20240229;

	for (int i = 0; i < 200; i++) {
		kit_put(name, whole, random_next(&state) % length);
		mutant_use(open_path, format, use);
	}
	for (int i = 0; i < 200; i++) {
		char *copy = malloc(length);
		const uint32_t flips = 1 + random_next(&state) % 4;

		ck_assert_ptr_nonnull(copy);
		memcpy(copy, whole, length);
		for (uint32_t k = 0; k < flips; k++) {
			const uint32_t bit = random_next(&state) % (uint32_t)(8 * length);

			copy[bit / 8] = (char)(copy[bit / 8] ^ 1 << bit % 8);
		}
		kit_put(name, copy, length);
		free(copy);
		mutant_use(open_path, format, use);
	}
	kit_put(name, whole, length);
	free(whole);
}

void kit_fails(int rc, int wanted, const char *part)
{
	ck_assert_msg(rc == wanted, "code %d, not %d: %s", rc, wanted, message);
	ck_assert_msg(strstr(message, part) != NULL, "\"%s\" lacks \"%s\"", message, part);
}
