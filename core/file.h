/* file.h - whole files that others may have put there. */
#ifndef QAT_FILE_H
#define QAT_FILE_H

#include <stddef.h>
#include <stdint.h>

/* All bytes of a regular file of at most `limit`, with a NUL after them; the caller frees
 * them. A pipe or a device is refused, not waited for; QAT_ENOTFOUND where nothing is. */
int qat_file_read(char **out, size_t *length, const char *path, int64_t limit);

#endif
