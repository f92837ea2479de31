/* save.c - write a state where the user wants it: codes and scales, as trained. */
#include "task_kit.h"

typedef struct save_options {
	const char *from, *path, *format;
} save_options;

static const qat_option options[] = {
	QAT_OPTION(save_options, QAT_OPT_STATE, from, "state to save", .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(save_options, QAT_OPT_STRING, path, "folder, under the output unless absolute",
		   .flags = QAT_OPT_REQUIRED),
	QAT_STRING(save_options, format, NULL, "format plugin; default: our own"),
	QAT_END
};

static int run(const void *self, qat_step *s)
{
	const save_options *o = self;

	return qat_api->save(s, o->from, o->path, o->format);
}

static const qat_task task = { .size = sizeof task, .run = run };

static const qat_interface save = {
	.size = sizeof save, .kind = QAT_KIND_TASK, .name = "save",
	.summary = "write a state to a folder",
	.options = options, .options_size = sizeof(save_options), .vtable = &task,
};

static const qat_interface *const interfaces[] = { &save };
QAT_PLUGIN_INIT("save", interfaces, qat_task_init);
