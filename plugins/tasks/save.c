/* save.c - write a state where the user wants it: codes and scales, as trained. */
#include "task_kit.h"

typedef struct save_options {
	const char *from, *path;
	qat_instance *format;
} save_options;

static const qat_option options[] = {
	QAT_OPTION(save_options, QAT_OPT_STATE, from, "state to save", .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(save_options, QAT_OPT_STRING, path, "new folder under the output",
		   .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(save_options, QAT_OPT_PLUGIN, format, "format plugin; default: our own",
		   .kind = QAT_KIND_FORMAT),
	QAT_END
};

static int check(const void *self, qat_step *s)
{
	const save_options *o = self;

	return qat_api->save_check(s, o->from, o->path,
				   o->format ? o->format->interface->name : NULL);
}

static int run(const void *self, qat_step *s)
{
	const save_options *o = self;

	return qat_api->save(s, o->from, o->path,
			     o->format ? o->format->interface->name : NULL);
}

static const qat_task task = { .size = sizeof task, .check = check, .run = run };

static const qat_interface save = {
	.size = sizeof save, .kind = QAT_KIND_TASK, .name = "save",
	.summary = "write a state to a folder",
	.options = options, .options_size = sizeof(save_options), .vtable = &task,
};

static const qat_interface *const interfaces[] = { &save };
QAT_PLUGIN_INIT("save", interfaces, qat_task_init);
