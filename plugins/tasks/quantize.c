/* quantize.c - post-training quantization: weights at the sites become codes. */
#include "task_kit.h"

typedef struct quantize_options {
	const char *from, *sites, *as;
	int64_t method;
} quantize_options;

static const char *const methods[] = { "nearest", NULL };

static const qat_option options[] = {
	QAT_OPTION(quantize_options, QAT_OPT_STATE, from, "state to quantize",
		   .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(quantize_options, QAT_OPT_SITES, sites, "which sites, and how; default: those "
		   "that the state has", .flags = 0),
	QAT_OPTION(quantize_options, QAT_OPT_NEW_STATE, as, "name of the result",
		   .flags = QAT_OPT_REQUIRED),
	QAT_ENUM(quantize_options, method, 0, methods, "how codes are chosen"),
	QAT_END
};

static int run(const void *self, qat_step *s)
{
	const quantize_options *o = self;

	return qat_api->quantize(s, o->from, o->sites, o->as);
}

static const qat_task task = { .size = sizeof task, .run = run };

static const qat_interface quantize = {
	.size = sizeof quantize, .kind = QAT_KIND_TASK, .name = "quantize",
	.summary = "post-training quantization of a state",
	.options = options, .options_size = sizeof(quantize_options), .vtable = &task,
};

static const qat_interface *const interfaces[] = { &quantize };
QAT_PLUGIN_INIT("quantize", interfaces, qat_task_init);
