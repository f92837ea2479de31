/* fuzz_elf.c - a plugin's file before it is opened. */
#include "fuzz.h"

#include "plugin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	qat_elf_check(fuzz_file(data, size));
	return 0;
}
