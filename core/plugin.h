/* plugin.h - plugins: where they lie, whether they fit, what they get of the core.
 *
 * A plugin is <kind>-<name>.so in a folder of QATRUN_PLUGIN_PATH (absolute folders,
 * separated by colons; ignored in a setuid program) or in the folder that was compiled
 * in. Nothing of it runs before the file has passed qat_elf_check, and its init before
 * the whole description has been checked. It stays open for good.
 * For the main thread alone.
 */
#ifndef QAT_CORE_PLUGIN_H
#define QAT_CORE_PLUGIN_H

#include <stdint.h>
#include <stdio.h>

#include <qatrun/abi.h>

enum { QAT_KINDS = QAT_KIND_SOURCE + 1 };

/* "quantizer"; NULL of a number that is no kind. */
const char *qat_kind_name(uint32_t kind);

/* Letters a-z, digits, '_' and '-', 1 to 64 of them. */
int qat_plugin_name_valid(const char *name);

/* The plugin of that kind and name; `name` may be the absolute path of a file, which is
 * then the interface that the file's name says, or its only one of the kind. `vtable`
 * has the size that the core knows, zeros past the plugin's own. Both live for good.
 * QAT_ENOTFOUND, with the nearest name; QAT_EABI: a file that does not fit. */
int qat_plugin_find(const qat_interface **out, const void **vtable, uint32_t kind,
		    const char *name);

/* What the plugin of an interface says of its version; NULL if it is no plugin's. */
const char *qat_plugin_version(const qat_interface *i);

/* Opens all plugins of a kind, once for each interface; those that do not fit are named
 * in the log and left out. Stops at the first visit that is not 0 and returns that. */
typedef int qat_plugin_visit(void *context, const qat_interface *i, const void *vtable);
int qat_plugin_each(uint32_t kind, qat_plugin_visit *visit, void *context);

/* Lends a table to plugins under a name that qat_host.service finds. The table and the
 * name are kept by reference. QAT_ENOMEM past 16 of them. */
int qat_host_service_set(const char *name, const void *table);

/* --plugins: a line for each file; each is opened in a process of its own. */
int qat_plugin_list(FILE *out);

/* --help NAME: all plugins with this name, of whatever kind, with their options. */
int qat_plugin_help(FILE *out, const char *name);

/* Whether a file is a whole shared object for this machine that nobody else may change. */
int qat_elf_check(const char *path);

#endif
