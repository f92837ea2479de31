/* bad.c - plugins that must be refused, one for each macro. */
#include <qatrun/plugin.h>
#include <qatrun/task.h>

#include <stdlib.h>

static int run(const void *self, qat_step *step)
{
	(void)self;
	(void)step;
	return QAT_OK;
}

static const qat_task vtable = { .size = sizeof vtable, .run = run };
static const qat_interface bad = {
	.size = sizeof bad, .kind = QAT_KIND_TASK, .name = "bad", .vtable = &vtable
};
static const qat_interface *const all[] = { &bad };

#ifdef BAD_INIT
static int look_for_hardware(void)
{
	return qat_fail(QAT_ENOTSUP, "there is no such hardware");
}
QAT_PLUGIN_INIT("bad", all, look_for_hardware);
#endif

#ifdef BAD_CRASH
static void __attribute__((constructor)) crash(void)
{
	abort();
}
QAT_PLUGIN("bad", all);
#endif

#ifdef BAD_SYMBOL
/* a description of another length than it says */
extern __attribute__((visibility("default"))) const uint32_t qat_plugin_v1[2];
const uint32_t qat_plugin_v1[2] = { QAT_MAGIC, sizeof(qat_plugin) };
const qat_interface *const *bad_all(void);
const qat_interface *const *bad_all(void)
{
	return all;
}
#endif

#ifdef BAD_NOTHING
/* a shared object like any other */
const qat_interface *const *bad_all(void);
const qat_interface *const *bad_all(void)
{
	return all;
}
#endif
