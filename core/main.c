/* main.c - qat-run: what the user types. */
#include "config.h"

#include <stdio.h>
#include <string.h>

static int usage(FILE *out)
{
	fputs("usage: qat-run [--help | --version]\n", out);
	return out == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--version"))
		return puts(PACKAGE_STRING) < 0;
	if (argc == 2 && !strcmp(argv[1], "--help"))
		return usage(stdout);
	return usage(stderr);
}
