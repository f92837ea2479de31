/* tracker_files.h - the files in a tracker's folder: how long they are at a checkpoint, and
 * made that long again.
 */
#ifndef QAT_TRACKER_FILES_H
#define QAT_TRACKER_FILES_H

#include <jansson.h>

/* Puts all that lies below the folder on the disk: {"path in it": bytes}. A folder that is
 * not there is empty. */
int qat_tracker_files_mark(json_t **out, const char *folder);

/* Files become what they were at the mark; those that it does not name are removed. */
int qat_tracker_files_cut(const char *folder, const json_t *mark);

#endif
