/* fuzz_sealed.c - a document with its checksum, as a run leaves them for --resume: read as
 * it is; and what it says, sealed and read again, is the same. */
#include "fuzz.h"

#include <stdio.h>

#include <jansson.h>

#include "sealed.h"

static void again(json_t *object)
{
	json_t *back = NULL;
	char path[256];

	json_object_del(object, "checksum");
	snprintf(path, sizeof path, "%s/sealed", fuzz_folder());
	fuzz_assert(!qat_sealed_write(path, object));
	fuzz_assert(!qat_sealed_read(&back, path));
	fuzz_assert(json_equal(back, object));
	json_decref(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *object = NULL;

	if (!qat_sealed_read(&object, fuzz_file(data, size)))
		json_decref(object);
	object = json_loadb((const char *)data, size, 0, NULL);
	if (json_is_object(object))
		again(object);
	json_decref(object);
	return 0;
}
