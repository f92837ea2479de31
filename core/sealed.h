/* sealed.h - small JSON documents that say themselves whether they are whole: a key
 * "checksum" over all the others. For the core's own records of a run. */
#ifndef QAT_SEALED_H
#define QAT_SEALED_H

#include <jansson.h>

/* Writes the object, with its checksum, in place of `path`: whole or not at all. */
int qat_sealed_write(const char *path, json_t *object);

/* *out is the caller's, with the checksum gone. QAT_ENOTFOUND if there is no such file,
 * QAT_EFORMAT if it is not whole; both with a message. */
int qat_sealed_read(json_t **out, const char *path);

#endif
