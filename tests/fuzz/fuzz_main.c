/* fuzz_main.c - a harness without a fuzzer: runs it on files, on the files of folders, and
 * on what becomes of each when it is cut off or some of its bits are flipped.
 *   fuzz_x [-mutate=N] [FILE|FOLDER...]       default: its corpus, N = 300
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { ROOM = 1 << 20 };

static int64_t mutations = 300, runs;

static uint64_t next(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

/* Exactly as large as the input, so that a sanitizer sees what reads past it. */
static void run(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	fuzz_assert(copy);
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	runs++;
}

static void mutate(const uint8_t *data, size_t size)
{
	uint64_t state = size;
	uint8_t *copy = malloc(size);

	fuzz_assert(copy);
	for (int64_t i = 0; i < mutations; i++) {
		const uint64_t flips = 1 + next(&state) % 8;
		size_t n = size;

		memcpy(copy, data, size);
		if (i % 2)
			n = (size_t)(next(&state) % size);
		for (uint64_t k = 0; i % 4 != 1 && k < flips; k++)
			copy[next(&state) % size] ^= (uint8_t)(1u << next(&state) % 8);
		run(copy, n);
	}
	free(copy);
}

static void run_file(const char *path)
{
	static uint8_t data[ROOM];
	FILE *f = fopen(path, "rb");
	size_t n;

	if (!f) {
		perror(path);
		exit(EXIT_FAILURE);
	}
	n = fread(data, 1, sizeof data, f);
	fclose(f);
	run(data, n);
	if (n)
		mutate(data, n);
}

static void run_folder(const char *path)
{
	struct dirent **files;
	const int n = scandir(path, &files, NULL, alphasort);

	for (int i = 0; i < n; i++) {
		char full[4096];

		snprintf(full, sizeof full, "%s/%s", path, files[i]->d_name);
		if (files[i]->d_name[0] != '.')
			run_file(full);
		free(files[i]);
	}
	if (n >= 0)
		free(files);
}

/* The harness's own, by its name: fuzz_x, perhaps with something in front. */
static void run_corpus(void)
{
	const char *source = getenv("top_srcdir");
	const char *name = strstr(program_invocation_short_name, "fuzz_");
	char path[4096];

	fuzz_assert(name);
	snprintf(path, sizeof path, "%s/tests/fuzz/corpus/%s", source ? source : "..", name + 5);
	run_folder(path);
}

int main(int argc, char **argv)
{
	int named = 0;

	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (!strncmp(argv[i], "-mutate=", 8))
			mutations = atoll(argv[i] + 8);
		else if (named++, !stat(argv[i], &st) && S_ISDIR(st.st_mode))
			run_folder(argv[i]);
		else
			run_file(argv[i]);
	}
	if (!named)
		run_corpus();
	printf("%lld runs\n", (long long)runs);
	return runs ? EXIT_SUCCESS : EXIT_FAILURE;
}
