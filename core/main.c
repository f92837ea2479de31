/* main.c - qat-run: the command line is the library's. */
#include <stdlib.h>

#include "cli.h"

int main(int argc, char **argv)
{
	/* Threads that wait for each other spin for long by default; on a machine that is
	 * shared, the one they wait for cannot run meanwhile. Read when a plugin brings the
	 * runtime in; what the user has set stays. */
	setenv("GOMP_SPINCOUNT", "100", 0);
	return qat_main(argc, argv);
}
