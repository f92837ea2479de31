/* main.c - qat-run: the command line is the library's. */
#include "cli.h"

int main(int argc, char **argv)
{
	return qat_main(argc, argv);
}
