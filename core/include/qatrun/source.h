/* source.h - what a source offers: models that lie elsewhere, brought to this machine.
 *
 * Asked only where `model.path` of a pipeline is no path that exists: the first source whose
 * probe takes the name is the one that fetches.
 */
#ifndef QATRUN_SOURCE_H
#define QATRUN_SOURCE_H

#include <qatrun/plugin.h>

/* What the core wants. Borrowed for the call. */
typedef struct qat_source_request {
	uint32_t size, reserved;
	const char *name;		/* as the pipeline says it: "owner/name" */
	const char *revision;		/* branch, tag or commit; NULL: the source's default */
	qat_strings files;		/* by name; count 0: what a model needs, as the source
					 * sees it */
	/* 1 once the user wants to stop: fetch ends with QAT_ESTOPPED within a second, and
	 * keeps what can be used the next time. */
	int (*stopped)(void *context);
	/* Bytes of all that is to be fetched, and the file that is under way. `total` may be
	 * 0 as long as it is not known. Cheap, may be called for every piece. */
	void (*progress)(void *context, const char *file, int64_t done, int64_t total);
	/* The small files lie in `folder`, the weights are not there yet: a negative code
	 * ends the fetch. Not called where there are no such files, or with `files`. */
	int (*look)(void *context, const char *folder);
	void *context;
} qat_source_request;

/* What fetch found. Texts are the source's, freed with release. */
typedef struct qat_source_result {
	uint32_t size, reserved;
	char *path;			/* absolute: a folder, or a file where that is all of
					 * the model */
	char *revision;			/* which always means the same files; NULL: unknown */
} qat_source_result;

typedef struct qat_model_source {
	uint32_t size, reserved;

	/* 1 if the name looks like one of this source's, by its letters alone. */
	int (*probe)(const void *self, const char *name);

	/* Bring the files here, or find them here; checked to be whole. `self` is NULL for a
	 * source without options. QAT_ENOTFOUND: there is no such model, revision or file;
	 * QAT_EIO: it cannot be had now. */
	int (*fetch)(const void *self, const qat_source_request *request, qat_source_result *out);

	/* What fetch allocated; NULL is safe. */
	void (*release)(void *text);
} qat_model_source;

#endif
