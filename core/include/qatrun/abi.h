/* abi.h - how a plugin and the core meet: version, errors, interfaces, host.
 *
 * A plugin is one shared object that exports one constant, `qat_plugin_v1`, and
 * links nothing of ours: what it needs of the core comes through the host pointer
 * that `init` receives.
 *
 * How things grow without breaking: every struct that crosses the boundary starts
 * with its `size` in bytes; fields are only ever appended. A reader takes
 * min(its own size, the given size) bytes and treats the rest as zero, so that an
 * older plugin has NULL at the tail and a newer plugin's tail is ignored.
 * Arrays hold pointers, or elements frozen with reserved fields. Enumerations
 * carry explicit values, which are never reused. Sizes and counts are int64_t.
 */
#ifndef QATRUN_ABI_H
#define QATRUN_ABI_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { QAT_ABI_MAJOR = 1, QAT_ABI_MINOR = 0 };
#define QAT_MAGIC 0x6e757274u	/* "trun" in memory on a little-endian machine */
#define QAT_NUMERICS 1		/* version of the numeric contract */

/* Every function that can fail returns QAT_OK or one of these; the function that
 * first knows the cause has then left a message with qat_fail. */
enum {
	QAT_OK        = 0,
	QAT_EINVAL    = -1,	/* the caller's or the user's input is wrong */
	QAT_ENOMEM    = -2,
	QAT_EIO       = -3,	/* the operating system refused a read or write */
	QAT_ENOTFOUND = -4,
	QAT_EABI      = -5,	/* a plugin that does not fit */
	QAT_EFORMAT   = -6,	/* a file that is not what it says it is */
	QAT_ENOTSUP   = -7,	/* well-formed, but not something we do */
	QAT_ENUMERIC  = -8,	/* NaN or infinity where a number must be */
	QAT_ESTOPPED  = -9,	/* interrupted by a signal */
	QAT_EEXIST    = -10	/* the output is there already */
};

enum {
	QAT_KIND_QUANTIZER  = 1,
	QAT_KIND_BACKEND    = 2,
	QAT_KIND_MODEL      = 3,
	QAT_KIND_FORMAT     = 4,
	QAT_KIND_DATASET    = 5,
	QAT_KIND_TOKENIZER  = 6,
	QAT_KIND_OPTIMIZER  = 7,
	QAT_KIND_ADAPTER    = 8,
	QAT_KIND_TASK       = 9,
	QAT_KIND_TRACKER    = 10,
	QAT_KIND_COLLECTIVE = 11,
	QAT_KIND_SOURCE     = 12
};

struct qat_option;

/* One thing a plugin offers. `vtable` is the struct that the kind's header
 * declares (qat_quantizer, qat_backend ...). `options` describes a struct of
 * `options_size` bytes that the core allocates, fills from YAML and passes to the
 * vtable's functions as `self`. */
typedef struct qat_interface {
	uint32_t size;				/* sizeof(qat_interface) */
	uint32_t kind;				/* QAT_KIND_* */
	const char *name;			/* as YAML says it: [a-z0-9_-]+ */
	const char *summary;			/* one line for --help */
	const struct qat_option *options;	/* ends with QAT_END; NULL: none */
	uint64_t options_size;
	const void *vtable;
	uint64_t flags;				/* QAT_IS_* */
} qat_interface;

enum {
	QAT_IS_DEFAULT = 1,	/* backend: used where the pipeline names none */
	QAT_IS_NATIVE  = 2,	/* format: stores states, all schemes included */
	QAT_IS_REFERENCE = 4	/* backend: what the others are judged by */
};

/* What the core hands to a plugin; valid for the life of the process. */
typedef struct qat_host {
	uint32_t size;
	uint16_t abi_major, abi_minor;

	/* Leave a message for the user and return `code`. printf-like. The message
	 * names the thing, the place and the way out; the last call wins, so callers
	 * that only pass an error up do not call it. Thread-local. */
	int (*fail)(int code, const char *fmt, va_list ap);

	/* The message that fail left on this thread, "" when none. Borrowed. */
	const char *(*error)(void);

	/* One line to the user's log (standard error), `level` QAT_LOG_*. */
	void (*log)(int level, const char *fmt, va_list ap);

	/* A table of further functions, by name: "graph", "session", ...; NULL where
	 * this core has none. Each table is a struct that starts with its size. */
	const void *(*service)(const char *name);
} qat_host;

enum { QAT_LOG_WARN = 1, QAT_LOG_INFO = 2, QAT_LOG_DEBUG = 3 };

typedef struct qat_plugin {
	uint32_t magic;				/* QAT_MAGIC */
	uint32_t size;				/* sizeof(qat_plugin) */
	uint16_t abi_major, abi_minor;
	uint32_t count;				/* of interfaces */
	const char *name, *version, *license;	/* license: an SPDX identifier */
	const qat_interface *const *interfaces;
	int (*init)(const qat_host *host);	/* called once, after all checks */
} qat_plugin;

#ifdef __cplusplus
}
#endif
#endif
