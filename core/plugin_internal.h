/* plugin_internal.h - what the files of the plugin loader share. */
#ifndef QAT_PLUGIN_INTERNAL_H
#define QAT_PLUGIN_INTERNAL_H

#include "kinds.h"
#include "plugin.h"

/* An interface as the core sees it: both structs of full size. */
struct qat_entry {
	qat_interface interface;	/* .vtable is `vtable` below */
	void *vtable;
};

/* One file that was opened, whether it fits or not. */
struct qat_module {
	struct qat_module *next;
	uint64_t device, inode;
	const char *name, *version, *license;
	int64_t count;
	struct qat_entry *entries;
	int refused;			/* QAT_OK or the code ... */
	char why[QAT_MESSAGE_MAX];	/* ... and message */
};

/* Opens a file, or finds it among those that are open. */
int qat_module_open(const struct qat_module **out, const char *path);

/* Copies and checks what a plugin says of itself; fills m. */
int qat_module_describe(struct qat_module *m, const qat_plugin *p, const char *path);

/* The entry of that kind and name, NULL where there is none; name NULL: the only one. */
const struct qat_entry *qat_module_entry(const struct qat_module *m, uint32_t kind,
					 const char *name);

/* Visits each folder of the search path in order; stops at the first that is not 0. */
typedef int qat_folder_visit(void *context, const char *folder);
int qat_plugin_folders(qat_folder_visit *visit, void *context);

/* Takes "<kind>-<name>.so" apart; name has room for 65 bytes. 0: the text is not that. */
int qat_plugin_file(uint32_t *kind, char *name, const char *file);

/* Visits each file *.so of a folder, sorted by name. */
typedef int qat_file_visit(void *context, const char *folder, const char *file);
int qat_plugin_files(const char *folder, qat_file_visit *visit, void *context);

extern const qat_host qat_host_table;

#endif
