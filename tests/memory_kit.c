/* memory_kit.c - for test_memory.sh, no test itself:
 *
 *   memory_kit run FILE DATA COMMAND...   runs a command; FILE becomes the most bytes that it
 *                                         had in memory. DATA > 0: RLIMIT_DATA, in bytes
 *   memory_kit halve FROM TO              a safetensors file of F32 in BF16, cut off
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

static int die(const char *what)
{
	perror(what);
	return 2;
}

static int run(const char *file, const char *data, char **command)
{
	const rlim_t limit = (rlim_t)strtoull(data, NULL, 10);
	const pid_t pid = fork();
	struct rusage usage;
	int status;
	FILE *f;

	if (pid < 0)
		return die("fork");
	if (!pid) {
		if (limit && setrlimit(RLIMIT_DATA, &(struct rlimit){ limit, limit }))
			_exit(die("setrlimit"));
		execvp(command[0], command);
		_exit(die(command[0]));
	}
	if (wait4(pid, &status, 0, &usage) != pid)
		return die("wait4");
	f = fopen(file, "w");
	if (!f || fprintf(f, "%lld\n", (long long)usage.ru_maxrss * 1024) < 0 || fclose(f))
		return die(file);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The header with new types and offsets, padded to a multiple of 8 bytes. */
static char *half_header(const char *text, size_t n)
{
	json_t *root = json_loadb(text, n, 0, NULL), *t;
	const char *name;
	char *out;
	size_t length, padded;

	json_object_foreach(root, name, t) {
		json_t *at = json_object_get(t, "data_offsets");

		if (!at)
			continue;
		json_object_set_new(t, "dtype", json_string("BF16"));
		for (size_t i = 0; i < 2; i++)
			json_array_set_new(at, i, json_integer(
				json_integer_value(json_array_get(at, i)) / 2));
	}
	out = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	if (!out)
		return NULL;
	length = strlen(out);
	padded = (length + 7) / 8 * 8;
	out = realloc(out, padded + 1);
	if (out) {
		memset(out + length, ' ', padded - length);
		out[padded] = '\0';
	}
	return out;
}

static int copy_halves(FILE *to, FILE *from)
{
	static uint32_t words[1 << 14];
	static uint16_t halves[1 << 14];
	size_t n;

	while ((n = fread(words, 4, sizeof words / 4, from))) {
		for (size_t i = 0; i < n; i++)
			halves[i] = (uint16_t)(words[i] >> 16);
		if (fwrite(halves, 2, n, to) != n)
			return 1;
	}
	return ferror(from);
}

static int halve(const char *source, const char *target)
{
	FILE *from = fopen(source, "rb"), *to = fopen(target, "wb");
	char *text = NULL, *header = NULL;
	uint64_t n = 0;

	if (!from || !to || fread(&n, 8, 1, from) != 1 || n > 1 << 24)
		return die(source);
	text = malloc(n);
	if (!text || fread(text, n, 1, from) != 1 || !(header = half_header(text, n)))
		return die(source);
	n = strlen(header);
	if (fwrite(&n, 8, 1, to) != 1 || fwrite(header, n, 1, to) != 1 || copy_halves(to, from) ||
	    fclose(to))
		return die(target);
	fclose(from);
	free(text);
	free(header);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 4 && !strcmp(argv[1], "run"))
		return run(argv[2], argv[3], argv + 4);
	if (argc == 4 && !strcmp(argv[1], "halve"))
		return halve(argv[2], argv[3]);
	fprintf(stderr, "usage: memory_kit run FILE DATA COMMAND... | halve FROM TO\n");
	return 2;
}
