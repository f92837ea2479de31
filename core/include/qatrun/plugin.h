/* plugin.h - all that a plugin includes: the ABI, and the few lines that make a
 * shared object a plugin.
 *
 *     static const qat_interface answer = { ... };
 *     static const qat_interface *const all[] = { &answer };
 *     QAT_PLUGIN("answer", all);
 */
#ifndef QATRUN_PLUGIN_H
#define QATRUN_PLUGIN_H

#include <qatrun/abi.h>
#include <qatrun/option.h>

/* The one static that a plugin may keep. A plugin of several files defines it in
 * the one that says QAT_PLUGIN; it is hidden, so every plugin has its own. */
#define QAT_HIDDEN __attribute__((visibility("hidden")))
extern QAT_HIDDEN const qat_host *qat_host_;

#define QAT_PLUGIN(name_, interfaces_) QAT_PLUGIN_INIT(name_, interfaces_, NULL)

/* As QAT_PLUGIN, with a function int after(void) that runs once the host is known. */
#define QAT_PLUGIN_INIT(name_, interfaces_, after_) \
	QAT_HIDDEN const qat_host *qat_host_; \
	static int qat_plugin_init_(const qat_host *host) \
	{ \
		int (*qat_after_)(void) = after_; \
		qat_host_ = host; \
		return qat_after_ ? qat_after_() : QAT_OK; \
	} \
	extern __attribute__((visibility("default"))) const qat_plugin qat_plugin_v1; \
	const qat_plugin qat_plugin_v1 = { \
		.magic = QAT_MAGIC, .size = sizeof(qat_plugin), \
		.abi_major = QAT_ABI_MAJOR, .abi_minor = QAT_ABI_MINOR, \
		.count = sizeof(interfaces_) / sizeof(*(interfaces_)), \
		.name = name_, .version = QAT_PLUGIN_VERSION, .license = QAT_PLUGIN_LICENSE, \
		.interfaces = interfaces_, .init = qat_plugin_init_, \
	}

#ifndef QAT_PLUGIN_VERSION
#define QAT_PLUGIN_VERSION "1"
#endif
#ifndef QAT_PLUGIN_LICENSE
#define QAT_PLUGIN_LICENSE "Apache-2.0"
#endif

/* Leave a message and return `code`:
 *     return qat_fail(QAT_ENOMEM, "%s: out of memory", path); */
static inline int __attribute__((format(printf, 2, 3), unused))
qat_fail(int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	qat_host_->fail(code, fmt, ap);
	va_end(ap);
	return code;
}

#endif
