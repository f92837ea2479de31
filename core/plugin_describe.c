/* plugin_describe.c - what a plugin says of itself: checked, and copied to full size. */
#include "plugin_internal.h"

#include <stdlib.h>
#include <string.h>

#include "option.h"

enum { INTERFACES_MAX = 256, OPTIONS_SIZE_MAX = 1 << 20, VTABLE_MIN = 8 };

static const char *const kind_names[QAT_KINDS] = {
	[QAT_KIND_QUANTIZER] = "quantizer",
	[QAT_KIND_BACKEND] = "backend",
	[QAT_KIND_MODEL] = "model",
	[QAT_KIND_FORMAT] = "format",
	[QAT_KIND_DATASET] = "dataset",
	[QAT_KIND_TOKENIZER] = "tokenizer",
	[QAT_KIND_OPTIMIZER] = "optimizer",
	[QAT_KIND_ADAPTER] = "adapter",
	[QAT_KIND_TASK] = "task",
	[QAT_KIND_TRACKER] = "tracker",
	[QAT_KIND_COLLECTIVE] = "collective",
	[QAT_KIND_SOURCE] = "source"
};

/* Bytes of the vtable; 0: this core has no use for the kind yet. */
static const size_t vtable_sizes[QAT_KINDS] = {
	[QAT_KIND_QUANTIZER] = sizeof(qat_quantizer),
	[QAT_KIND_BACKEND] = sizeof(qat_backend),
	[QAT_KIND_MODEL] = sizeof(qat_model),
	[QAT_KIND_FORMAT] = sizeof(qat_format),
	[QAT_KIND_DATASET] = sizeof(qat_dataset),
	[QAT_KIND_TOKENIZER] = sizeof(qat_tokenizer),
	[QAT_KIND_OPTIMIZER] = sizeof(qat_optimizer),
	[QAT_KIND_TASK] = sizeof(qat_task),
	[QAT_KIND_TRACKER] = sizeof(qat_tracker),
	[QAT_KIND_SOURCE] = sizeof(qat_model_source)
};

#define NEEDS(kind_, type_, member_) { kind_, offsetof(type_, member_), #member_ }

/* Functions that may not be NULL, so that callers need not ask. */
static const struct needed {
	uint32_t kind;
	size_t offset;
	const char *member;
} needed[] = {
	NEEDS(QAT_KIND_QUANTIZER, qat_quantizer, scheme),
	NEEDS(QAT_KIND_BACKEND, qat_backend, count),
	NEEDS(QAT_KIND_BACKEND, qat_backend, open),
	NEEDS(QAT_KIND_BACKEND, qat_backend, close),
	NEEDS(QAT_KIND_BACKEND, qat_backend, caps),
	NEEDS(QAT_KIND_BACKEND, qat_backend, alloc),
	NEEDS(QAT_KIND_BACKEND, qat_backend, free),
	NEEDS(QAT_KIND_BACKEND, qat_backend, write),
	NEEDS(QAT_KIND_BACKEND, qat_backend, read),
	NEEDS(QAT_KIND_BACKEND, qat_backend, supports),
	NEEDS(QAT_KIND_BACKEND, qat_backend, claim),
	NEEDS(QAT_KIND_BACKEND, qat_backend, compile),
	NEEDS(QAT_KIND_BACKEND, qat_backend, run),
	NEEDS(QAT_KIND_BACKEND, qat_backend, release),
	NEEDS(QAT_KIND_MODEL, qat_model, check),
	NEEDS(QAT_KIND_MODEL, qat_model, params),
	NEEDS(QAT_KIND_MODEL, qat_model, build),
	NEEDS(QAT_KIND_FORMAT, qat_format, probe),
	NEEDS(QAT_KIND_FORMAT, qat_format, open),
	NEEDS(QAT_KIND_FORMAT, qat_format, close),
	NEEDS(QAT_KIND_DATASET, qat_dataset, length),
	NEEDS(QAT_KIND_DATASET, qat_dataset, open),
	NEEDS(QAT_KIND_DATASET, qat_dataset, close),
	NEEDS(QAT_KIND_DATASET, qat_dataset, count),
	NEEDS(QAT_KIND_DATASET, qat_dataset, get),
	NEEDS(QAT_KIND_TOKENIZER, qat_tokenizer, open),
	NEEDS(QAT_KIND_TOKENIZER, qat_tokenizer, close),
	NEEDS(QAT_KIND_TOKENIZER, qat_tokenizer, vocab_size),
	NEEDS(QAT_KIND_TOKENIZER, qat_tokenizer, encode),
	NEEDS(QAT_KIND_TOKENIZER, qat_tokenizer, decode),
	NEEDS(QAT_KIND_TOKENIZER, qat_tokenizer, release),
	NEEDS(QAT_KIND_OPTIMIZER, qat_optimizer, states),
	NEEDS(QAT_KIND_OPTIMIZER, qat_optimizer, build),
	NEEDS(QAT_KIND_OPTIMIZER, qat_optimizer, hyper),
	NEEDS(QAT_KIND_TASK, qat_task, run),
	NEEDS(QAT_KIND_TRACKER, qat_tracker, open),
	NEEDS(QAT_KIND_TRACKER, qat_tracker, scalar),
	NEEDS(QAT_KIND_TRACKER, qat_tracker, close),
	NEEDS(QAT_KIND_SOURCE, qat_model_source, probe),
	NEEDS(QAT_KIND_SOURCE, qat_model_source, fetch),
	NEEDS(QAT_KIND_SOURCE, qat_model_source, release)
};

const char *qat_kind_name(uint32_t kind)
{
	return kind < QAT_KINDS ? kind_names[kind] : NULL;
}

int qat_plugin_name_valid(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");

	return n > 0 && n <= 64 && !name[n];
}

/* Copies min(theirs, ours) bytes; what they lack stays zero. */
static void widen(void *ours, size_t size, const void *theirs, size_t their_size)
{
	memset(ours, 0, size);
	memcpy(ours, theirs, their_size < size ? their_size : size);
}

static int check_needed(const qat_interface *i, const char *vtable, const char *path)
{
	for (size_t k = 0; k < sizeof needed / sizeof *needed; k++) {
		void (*function)(void);

		if (needed[k].kind != i->kind)
			continue;
		memcpy(&function, vtable + needed[k].offset, sizeof function);
		if (!function)
			return qat_fail(QAT_EABI, "%s: %s %s has no function \"%s\"", path,
					kind_names[i->kind], i->name, needed[k].member);
	}
	return QAT_OK;
}

static int check_interface(const qat_interface *i, const char *path, int64_t index)
{
	int rc;

	if (!i->name || !qat_plugin_name_valid(i->name))
		return qat_fail(QAT_EABI, "%s: interface %lld has no name of a-z, 0-9, _ and -",
				path, (long long)index);
	if (!i->vtable)
		return qat_fail(QAT_EABI, "%s: %s %s has no vtable", path, kind_names[i->kind],
				i->name);
	if (i->options_size > OPTIONS_SIZE_MAX)
		return qat_fail(QAT_EABI, "%s: %s %s wants %llu bytes for its options", path,
				kind_names[i->kind], i->name,
				(unsigned long long)i->options_size);
	rc = qat_option_check(i->options, i->options_size);
	if (rc)
		return qat_fail(rc, "%s: %s %s: %s", path, kind_names[i->kind], i->name,
				qat_error());
	return QAT_OK;
}

static int copy_vtable(struct qat_entry *e, const char *path)
{
	size_t size = vtable_sizes[e->interface.kind];
	uint32_t theirs;

	memcpy(&theirs, e->interface.vtable, sizeof theirs);
	if (theirs < VTABLE_MIN)
		return qat_fail(QAT_EABI, "%s: %s %s: its vtable says that it has %u bytes", path,
				kind_names[e->interface.kind], e->interface.name, theirs);
	e->vtable = malloc(size);
	if (!e->vtable)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	widen(e->vtable, size, e->interface.vtable, theirs);
	e->interface.vtable = e->vtable;
	return check_needed(&e->interface, e->vtable, path);
}

/* Adds an interface to m; one of a kind that we do not know is left out, as a newer
 * plugin may have it. */
static int add(struct qat_module *m, const qat_interface *theirs, const char *path,
	       int64_t index)
{
	struct qat_entry *e = &m->entries[m->count];
	int rc;

	if (!theirs)
		return qat_fail(QAT_EABI, "%s: interface %lld is NULL", path, (long long)index);
	if (theirs->size < offsetof(qat_interface, flags))
		return qat_fail(QAT_EABI, "%s: interface %lld says that it has %u bytes, of %zu",
				path, (long long)index, theirs->size, sizeof *theirs);
	if (!theirs->kind || theirs->kind >= QAT_KINDS || !vtable_sizes[theirs->kind])
		return QAT_OK;
	widen(&e->interface, sizeof e->interface, theirs, theirs->size);
	e->interface.size = sizeof e->interface;
	rc = check_interface(&e->interface, path, index);
	if (rc)
		return rc;
	if (qat_module_entry(m, e->interface.kind, e->interface.name))
		return qat_fail(QAT_EABI, "%s: offers %s %s twice", path,
				kind_names[e->interface.kind], e->interface.name);
	m->count++;
	return copy_vtable(e, path);
}

static int check_plugin(const qat_plugin *p, const char *path)
{
	if (p->magic != QAT_MAGIC)
		return qat_fail(QAT_EABI, "%s: qat_plugin_v1 is not a plugin's description",
				path);
	if (p->size < sizeof *p)
		return qat_fail(QAT_EABI, "%s: its description has %u bytes, of %zu", path,
				p->size, sizeof *p);
	if (p->abi_major != QAT_ABI_MAJOR)
		return qat_fail(QAT_EABI, "%s: built for plugin interface %u, this is %d", path,
				p->abi_major, QAT_ABI_MAJOR);
	if (!p->interfaces)
		return qat_fail(QAT_EABI, "%s: its list of interfaces is NULL", path);
	if (!p->count || p->count > INTERFACES_MAX)
		return qat_fail(QAT_EABI, "%s: offers %u interfaces, of 1 to %d", path, p->count,
				INTERFACES_MAX);
	if (!p->name || !p->version || !p->license)
		return qat_fail(QAT_EABI, "%s: does not say its name, version and license", path);
	return QAT_OK;
}

int qat_module_describe(struct qat_module *m, const qat_plugin *p, const char *path)
{
	int rc = check_plugin(p, path);

	if (rc)
		return rc;
	m->name = p->name;
	m->version = p->version;
	m->license = p->license;
	m->entries = calloc(p->count, sizeof *m->entries);
	if (!m->entries)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	for (uint32_t i = 0; i < p->count; i++) {
		rc = add(m, p->interfaces[i], path, i);
		if (rc)
			return rc;
	}
	if (!m->count)
		return qat_fail(QAT_EABI, "%s: offers nothing that this qatrun has a use for",
				path);
	return QAT_OK;
}
