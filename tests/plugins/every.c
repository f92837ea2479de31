/* every.c - a plugin for tests of the core: one interface of each kind, none of which
 * computes anything. Its names are those of the links that the tests make. */
#include <stdlib.h>

#include <qatrun/backend.h>
#include <qatrun/dataset.h>
#include <qatrun/model.h>
#include <qatrun/optimizer.h>
#include <qatrun/plugin.h>
#include <qatrun/quantizer.h>
#include <qatrun/task.h>
#include <qatrun/tracker.h>

/* --- quantizer --- */

typedef struct { int64_t bits, group_size, range; const char *of; } grid_options;

static const char *const ranges[] = { "minmax", "percentile", "ema", NULL };

static const qat_option grid_table[] = {
	QAT_INT(grid_options, bits, 4, 2, 8, "width of a code"),
	QAT_INT(grid_options, group_size, 128, 1, 65536, "columns that share a scale"),
	QAT_ENUM(grid_options, range, 0, ranges, "how the range is found"),
	QAT_OPTION(grid_options, QAT_OPT_SCHEME, of, "scheme inside this one", .text = NULL),
	QAT_END
};

static int grid_scheme(const void *self, const qat_site *site, int64_t index, qat_scheme *out)
{
	(void)self;
	(void)site;
	(void)index;
	(void)out;
	return qat_fail(QAT_ENOTSUP, "grid is for tests");
}

static const qat_quantizer grid_vtable = { .size = sizeof grid_vtable, .scheme = grid_scheme };
static const qat_interface grid = {
	.size = sizeof grid, .kind = QAT_KIND_QUANTIZER, .name = "grid", .summary = "a grid",
	.options = grid_table, .options_size = sizeof(grid_options), .vtable = &grid_vtable
};

/* --- data set --- */

typedef struct { qat_strings files; int64_t length, limit; } lines_options;

static const qat_option lines_table[] = {
	QAT_OPTION(lines_options, QAT_OPT_PATHS, files, "text files", .flags = QAT_OPT_REQUIRED),
	QAT_INT(lines_options, length, 256, 1, 1 << 20, "tokens of a sequence"),
	QAT_INT(lines_options, limit, 0, 0, 1 << 30, "first sequences, 0: all"),
	QAT_END
};

static int64_t lines_length(const void *self)
{
	return ((const lines_options *)self)->length;
}

static int lines_open(void **out, const void *self, const qat_dataset_env *env)
{
	(void)out;
	(void)self;
	return qat_fail(QAT_ENOTSUP, "%s: lines is for tests", env->name);
}

static void lines_close(void *set)
{
	(void)set;
}

static int64_t lines_count(const void *set)
{
	(void)set;
	return 0;
}

static int lines_get(const void *set, int64_t i, int32_t *tokens, int32_t *labels)
{
	(void)set;
	(void)i;
	(void)tokens;
	(void)labels;
	return QAT_ENOTSUP;
}

static const qat_dataset lines_vtable = {
	.size = sizeof lines_vtable, .length = lines_length, .open = lines_open,
	.close = lines_close, .count = lines_count, .get = lines_get
};
static const qat_interface lines = {
	.size = sizeof lines, .kind = QAT_KIND_DATASET, .name = "lines", .summary = "lines of text",
	.options = lines_table, .options_size = sizeof(lines_options), .vtable = &lines_vtable
};

/* --- optimizer --- */

typedef struct { double lr; qat_floats betas; } walk_options;

static const qat_option walk_table[] = {
	QAT_FLOAT(walk_options, lr, 1e-4, 0, 10, "learning rate"),
	QAT_OPTION(walk_options, QAT_OPT_FLOATS, betas, "decays", .text = "[0.9, 0.999]",
		   .min = 0, .max = 1),
	QAT_END
};

static int64_t walk_states(const void *self)
{
	(void)self;
	return 0;
}

static int walk_build(const void *self, qat_builder *b, int64_t p, int64_t g,
		      const int64_t *states, int64_t hyper)
{
	(void)self;
	(void)b;
	(void)p;
	(void)g;
	(void)states;
	(void)hyper;
	return QAT_ENOTSUP;
}

static int walk_hyper(const void *self, const qat_update *u, float out[QAT_HYPER_COUNT])
{
	(void)self;
	(void)u;
	(void)out;
	return QAT_OK;
}

static double walk_lr(const void *self)
{
	return ((const walk_options *)self)->lr;
}

static const qat_optimizer walk_vtable = {
	.size = sizeof walk_vtable, .states = walk_states, .build = walk_build,
	.hyper = walk_hyper, .lr = walk_lr
};
static const qat_interface walk = {
	.size = sizeof walk, .kind = QAT_KIND_OPTIMIZER, .name = "walk", .summary = "steps",
	.options = walk_table, .options_size = sizeof(walk_options), .vtable = &walk_vtable
};

/* --- tasks --- */

typedef struct {
	const char *from, *sites, *data, *as, *teacher;
	int64_t steps;
	struct { int64_t every, keep; } checkpoint;
	const qat_instance *optimizer;
} change_options;

static const qat_option checkpoint_table[] = {
	{ .name = "every", .help = "steps between two", .type = QAT_OPT_INT, .offset = 0,
	  .max = 1 << 30, .flags = QAT_OPT_REQUIRED },
	{ .name = "keep", .help = "how many", .type = QAT_OPT_INT, .offset = 8, .def = 2,
	  .min = 1, .max = 100 },
	QAT_END
};

static const qat_option change_table[] = {
	/* as comes first, to show that order in a table does not matter */
	QAT_OPTION(change_options, QAT_OPT_NEW_STATE, as, "the state that this makes",
		   .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(change_options, QAT_OPT_STATE, from, "the state to start from",
		   .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(change_options, QAT_OPT_STATE, teacher, "a state to learn from", .text = NULL),
	QAT_OPTION(change_options, QAT_OPT_SITES, sites, "where schemes sit", .text = NULL),
	QAT_OPTION(change_options, QAT_OPT_DATA, data, "what to learn", .text = NULL),
	QAT_INT(change_options, steps, 10, 1, 1000000, "optimizer steps"),
	QAT_OPTION(change_options, QAT_OPT_TABLE, checkpoint, "when to save",
		   .table = checkpoint_table),
	QAT_OPTION(change_options, QAT_OPT_PLUGIN, optimizer, "rule of the update",
		   .kind = QAT_KIND_OPTIMIZER, .text = "walk"),
	QAT_END
};

static int task_run(const void *self, qat_step *step)
{
	(void)self;
	(void)step;
	return qat_fail(QAT_ENOTSUP, "the task is for tests");
}

static const qat_task task_vtable = { .size = sizeof task_vtable, .run = task_run };
static const qat_interface change = {
	.size = sizeof change, .kind = QAT_KIND_TASK, .name = "change", .summary = "makes a state",
	.options = change_table, .options_size = sizeof(change_options), .vtable = &task_vtable
};

typedef struct { qat_strings of; const char *data; } look_options;

static const qat_option look_table[] = {
	QAT_OPTION(look_options, QAT_OPT_STATES, of, "states", .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(look_options, QAT_OPT_DATA, data, "data set", .flags = QAT_OPT_REQUIRED),
	QAT_END
};

static const qat_interface look = {
	.size = sizeof look, .kind = QAT_KIND_TASK, .name = "look", .summary = "looks at states",
	.options = look_table, .options_size = sizeof(look_options), .vtable = &task_vtable
};

/* --- model --- */

typedef struct { int64_t hidden_size, layers; } tiny_options;

static const qat_option tiny_table[] = {
	QAT_OPTION(tiny_options, QAT_OPT_INT, hidden_size, "channels", .min = 1, .max = 65536,
		   .flags = QAT_OPT_REQUIRED, .alias = "n_embd"),
	QAT_INT(tiny_options, layers, 1, 1, 1024, "layers"),
	QAT_END
};

static int tiny_check(const void *self, qat_model_info *out)
{
	(void)self;
	(void)out;
	return QAT_OK;
}

static int tiny_params(const void *self, int (*add)(void *to, const qat_param *p), void *to)
{
	(void)self;
	(void)add;
	(void)to;
	return QAT_OK;
}

static int tiny_build(const void *self, qat_builder *b, qat_outputs *out)
{
	(void)self;
	(void)b;
	(void)out;
	return QAT_ENOTSUP;
}

static const qat_model tiny_vtable = {
	.size = sizeof tiny_vtable, .check = tiny_check, .params = tiny_params, .build = tiny_build
};
static const qat_interface tiny = {
	.size = sizeof tiny, .kind = QAT_KIND_MODEL, .name = "tiny", .summary = "a model",
	.options = tiny_table, .options_size = sizeof(tiny_options), .vtable = &tiny_vtable
};

/* --- backend --- */

typedef struct { int64_t pool; } paper_options;

static const qat_option paper_table[] = {
	QAT_OPTION(paper_options, QAT_OPT_SIZE, pool, "bytes to begin with", .def = 4096),
	QAT_END
};

static int64_t paper_count(void)
{
	return 1;
}

static int paper_open(void **device, const void *self, int64_t index, int64_t threads)
{
	(void)device;
	(void)self;
	(void)index;
	(void)threads;
	return qat_fail(QAT_ENOTSUP, "paper is for tests");
}

static void paper_close(void *device)
{
	(void)device;
}

static int paper_caps(void *device, qat_caps *out)
{
	(void)device;
	(void)out;
	return QAT_ENOTSUP;
}

static int paper_alloc(void *device, qat_memory **out, int64_t bytes, uint32_t use)
{
	(void)device;
	(void)out;
	(void)bytes;
	(void)use;
	return QAT_ENOTSUP;
}

static void paper_free(void *device, qat_memory *m)
{
	(void)device;
	(void)m;
}

static int paper_write(void *device, qat_memory *m, int64_t offset, const void *data,
		       int64_t bytes)
{
	(void)device;
	(void)m;
	(void)offset;
	(void)data;
	(void)bytes;
	return QAT_ENOTSUP;
}

static int paper_read(void *device, void *data, qat_memory *m, int64_t offset, int64_t bytes)
{
	(void)device;
	(void)m;
	(void)offset;
	(void)data;
	(void)bytes;
	return QAT_ENOTSUP;
}

static int paper_supports(void *device, const qat_graph *g, const qat_node *n, char *why,
			  int64_t room)
{
	(void)device;
	(void)g;
	(void)n;
	(void)why;
	(void)room;
	return QAT_SUPPORT_NO;
}

static int paper_claim(void *device, const qat_graph *g, int64_t first, const uint8_t *keep,
		       const uint8_t *taken, qat_claim *out)
{
	(void)device;
	(void)g;
	(void)first;
	(void)keep;
	(void)taken;
	(void)out;
	return QAT_ENOTSUP;
}

static int paper_compile(void *device, const qat_program *p, void **exe)
{
	(void)device;
	(void)p;
	(void)exe;
	return QAT_ENOTSUP;
}

static int paper_run(void *device, void *exe, qat_runtime *rt)
{
	(void)device;
	(void)exe;
	(void)rt;
	return QAT_ENOTSUP;
}

static void paper_release(void *device, void *exe)
{
	(void)device;
	(void)exe;
}

static const qat_backend paper_vtable = {
	.size = sizeof paper_vtable, .count = paper_count, .open = paper_open,
	.close = paper_close, .caps = paper_caps, .alloc = paper_alloc, .free = paper_free,
	.write = paper_write, .read = paper_read, .supports = paper_supports,
	.claim = paper_claim, .compile = paper_compile, .run = paper_run,
	.release = paper_release
};
static const qat_interface paper = {
	.size = sizeof paper, .kind = QAT_KIND_BACKEND, .name = "paper", .summary = "runs nothing",
	.options = paper_table, .options_size = sizeof(paper_options), .vtable = &paper_vtable,
	.flags = QAT_IS_DEFAULT
};

/* --- tracker --- */

typedef struct { int64_t calls; } flaky_options;

static const qat_option flaky_table[] = {
	QAT_INT(flaky_options, calls, 0, -1, 1000, "points until it fails; -1: it does not open"),
	QAT_END
};

static int flaky_open(void **out, const void *self, const qat_tracker_env *env)
{
	const flaky_options *o = self;
	int64_t *left;

	if (o->calls < 0)
		return qat_fail(QAT_EIO, "%s: flaky does not open", env->folder);
	left = malloc(sizeof *left);
	if (!left)
		return qat_fail(QAT_ENOMEM, "out of memory");
	*left = o->calls;
	*out = left;
	return QAT_OK;
}

static int flaky_scalar(void *handle, const qat_track *point)
{
	int64_t *left = handle;

	if (!(*left)--)
		return qat_fail(QAT_EIO, "no more of %s", point->tag);
	return QAT_OK;
}

static int flaky_close(void *handle)
{
	free(handle);
	return qat_fail(QAT_EIO, "flaky cannot close");
}

static const qat_tracker flaky_vtable = {
	.size = sizeof flaky_vtable, .open = flaky_open, .scalar = flaky_scalar,
	.close = flaky_close
};
static const qat_interface flaky = {
	.size = sizeof flaky, .kind = QAT_KIND_TRACKER, .name = "flaky", .summary = "fails",
	.options = flaky_table, .options_size = sizeof(flaky_options), .vtable = &flaky_vtable
};

static const qat_interface *const all[] = {
	&grid, &lines, &walk, &change, &look, &tiny, &paper, &flaky
};
QAT_PLUGIN("every", all);
