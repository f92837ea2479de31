/* plugin_host.h - the smallest host, for tests that include a plugin's source: keeps the
 * last message, and fills options with their defaults.
 */
#ifndef QAT_TEST_PLUGIN_HOST_H
#define QAT_TEST_PLUGIN_HOST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/plugin.h>

#include <check.h>	/* after the plugin's header: it has a macro `fail` */

static char host_message[1024];
static const void *host_graph;		/* what the service "graph" gives */

static int host_fail(int code, const char *fmt, va_list ap)
{
	char text[sizeof host_message];

	vsnprintf(text, sizeof text, fmt, ap);
	memcpy(host_message, text, sizeof text);
	return code;
}

static const char *host_error(void)
{
	return host_message;
}

static void host_log(int level, const char *fmt, va_list ap)
{
	(void)level;
	(void)fmt;
	(void)ap;
}

static const void *host_service(const char *name)
{
	return strcmp(name, "graph") ? NULL : host_graph;
}

static const qat_host host_table = {
	.size = sizeof(qat_host), .abi_major = QAT_ABI_MAJOR, .abi_minor = QAT_ABI_MINOR,
	.fail = host_fail, .error = host_error, .log = host_log, .service = host_service,
};

/* The interface `name` of a plugin that was told its host; fails the test if absent. */
static inline const qat_interface *host_interface(const qat_plugin *p, const char *name)
{
	ck_assert_int_eq(p->magic, QAT_MAGIC);
	ck_assert_int_eq(p->init(&host_table), QAT_OK);
	for (uint32_t i = 0; i < p->count; i++)
		if (!strcmp(p->interfaces[i]->name, name))
			return p->interfaces[i];
	ck_abort_msg("no interface %s", name);
	return NULL;
}

/* A struct of defaults; numbers only: lists and strings stay empty. */
static inline void *host_defaults(const qat_interface *i)
{
	char *self = calloc(1, i->options_size ? i->options_size : 1);

	ck_assert_ptr_nonnull(self);
	for (const qat_option *o = i->options; o && o->name; o++) {
		const int64_t whole = (int64_t)o->def;

		ck_assert_uint_le(o->offset, i->options_size);
		if (o->type == QAT_OPT_FLOAT)
			memcpy(self + o->offset, &o->def, sizeof o->def);
		else if (o->type == QAT_OPT_BOOL || o->type == QAT_OPT_INT ||
			 o->type == QAT_OPT_ENUM)
			memcpy(self + o->offset, &whole, sizeof whole);
	}
	return self;
}

#define ck_says(part) \
	ck_assert_msg(strstr(host_message, part) != NULL, "\"%s\" is not in \"%s\"", part, \
		      host_message)

static inline int host_run(Suite *s)
{
	SRunner *r = srunner_create(s);
	int failed;

	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
