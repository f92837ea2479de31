/* files.h - what the formats share below JSON: mapped files, whole texts, and writing
 * so that a name appears complete or not at all. */
#ifndef QAT_FORMAT_FILES_H
#define QAT_FORMAT_FILES_H

#include <jansson.h>
#include <qatrun/format.h>

/* A file in memory, read-only. */
typedef struct qat_map {
	const uint8_t *at;	/* NULL when the file is empty */
	int64_t length;
} qat_map;

int qat_map_open(qat_map *out, const char *path);
void qat_map_close(qat_map *map);
/* What was read leaves memory until it is read again. */
void qat_map_let_go(const qat_map *map);

/* A whole file with a NUL after it; `at` NULL when there is no such file. */
int qat_text_read(qat_text *out, const char *path);
void qat_text_free(qat_text *text);

/* Refuses what would take far more memory than the file. */
int qat_json_check(const char *text, int64_t length, const char *path);
/* Parse an object or array; the message has path, line and column. */
int qat_json_load(json_t **out, const char *text, int64_t length, const char *path);

/* "folder/name", to be freed; NULL with a message. */
char *qat_path_join(const char *folder, const char *name);
/* 1 when `folder`/`name` is a regular file. */
int qat_path_has(const char *folder, const char *name);
int qat_path_is_folder(const char *path);
/* 1 when it is a regular file that begins with these bytes, at most 16. */
int qat_path_begins(const char *path, const void *bytes, int count);
/* 1 for a name of one component that stays in its folder. */
int qat_name_is_plain(const char *name);

/* A file that gets its name when it is whole. Zero-fill before begin; end is safe at
 * any time and removes what was not committed. */
typedef struct qat_draft {
	char *path, *temp;
	int fd;			/* of a file; a folder has none */
	int is_open;
} qat_draft;

int qat_draft_begin(qat_draft *d, const char *path);
int qat_draft_write(qat_draft *d, const void *data, int64_t bytes);
int qat_draft_commit(qat_draft *d);	/* replaces what has the name */
void qat_draft_end(qat_draft *d);

/* The same for a folder of plain files, put into d->temp; an existing path is refused. */
int qat_folder_begin(qat_draft *d, const char *path);
int qat_folder_text(qat_draft *d, const char *name, qat_text text);	/* NULL: skipped */
int qat_folder_commit(qat_draft *d);
void qat_folder_end(qat_draft *d);

#endif
