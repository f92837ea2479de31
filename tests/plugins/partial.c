/* partial.c - for tests: the reference backend as a device that lacks some ops, so that
 * others take them. Under two names:
 *   partial         memory that no host address reaches: all goes through read and write
 *   partial-mapped  memory that is the host's, with import and map
 *
 * Kernels run late, when somebody waits for them, so that who forgets to wait is found out.
 * New memory is filled with NaN, and memory of others is refused.
 */
#include <stdlib.h>

#include <qatrun/backend.h>

/* All of the reference but its descriptor. */
#undef QAT_PLUGIN
#define QAT_PLUGIN(name_, interfaces_) \
	static const void *const reference_all __attribute__((unused)) = interfaces_
#include "../../backends/reference/reference.c"

enum { MEMORIES_MAX = 4096, QUEUE_MAX = 1 << 16 };

typedef struct partial_options {
	int64_t lacks;			/* bit by op */
	int64_t generic;
	int64_t wrong;
	int64_t seed, percent;
} partial_options;

static const qat_option options[] = {
	QAT_INT(partial_options, lacks, 0, 0, INT64_MAX, "ops that it does not have, bit by op"),
	QAT_INT(partial_options, generic, 0, 0, INT64_MAX, "ops that it calls generic"),
	QAT_INT(partial_options, wrong, 0, 0, INT64_MAX, "ops whose last number it gets wrong"),
	QAT_INT(partial_options, seed, 0, 0, INT64_MAX, "lacks nodes at random, if not 0"),
	QAT_INT(partial_options, percent, 50, 0, 100, "of the nodes"),
	QAT_END
};

typedef struct late {
	void *exe;
	qat_runtime rt;
	int64_t first, count;		/* count -1: the phase */
} late;

typedef struct partial {
	partial_options o;
	int mapped;
	qat_memory *memory[MEMORIES_MAX];
	int64_t n_memory, n_late;
	late queue[QUEUE_MAX];
} partial;

/* ---- device ---- */

static int open_as(void **device, const void *self, int mapped)
{
	partial *p = calloc(1, sizeof *p);

	if (!p)
		return qat_fail(QAT_ENOMEM, "partial: out of memory");
	p->o = *(const partial_options *)self;
	p->mapped = mapped;
	*device = p;
	return QAT_OK;
}

static int partial_open(void **device, const void *self, int64_t index, int64_t threads)
{
	(void)index;
	(void)threads;
	return open_as(device, self, 0);
}

static int mapped_open(void **device, const void *self, int64_t index, int64_t threads)
{
	(void)index;
	(void)threads;
	return open_as(device, self, 1);
}

static void partial_close(void *device)
{
	free(device);
}

static int partial_caps(void *device, qat_caps *out)
{
	const int rc = ref_caps(NULL, out);

	out->unified = ((const partial *)device)->mapped;
	snprintf(out->name, sizeof out->name, "the reference without some ops");
	return rc;
}

/* ---- running late ---- */

/* The last element of the first output, a bit off. */
static void spoil(ref_exe *x, int64_t claim, int64_t wrong)
{
	ref_view *out = &x->calls[claim].out[0];

	if (!(wrong >> x->calls[claim].n->op & 1))
		return;
	if (out->dtype == QAT_I8)
		((int8_t *)out->data)[out->n - 1] ^= 1;
	else
		ref_put(out, out->n - 1, ref_get(out, out->n - 1) * 1.01 + 1e-3);
}

static int run_late(partial *p, late *l)
{
	ref_exe *x = l->exe;
	int rc = QAT_OK;

	for (int64_t i = 0; i < x->count && !rc; i++) {
		if (l->count < 0 ? x->calls[i].n->phase != l->rt.phase
				 : i < l->first || i >= l->first + l->count)
			continue;
		rc = ref_run_one(NULL, x, &l->rt, i);
		if (!rc)
			spoil(x, i, p->o.wrong);
	}
	return rc;
}

static int partial_sync(void *device)
{
	partial *p = device;
	int rc = QAT_OK;

	for (int64_t i = 0; i < p->n_late && !rc; i++)
		rc = run_late(p, &p->queue[i]);
	p->n_late = 0;
	return rc;
}

static int put_off(void *device, void *exe, const qat_runtime *rt, int64_t first, int64_t count)
{
	partial *p = device;

	if (p->n_late == QUEUE_MAX)
		return qat_fail(QAT_ENOMEM, "partial: nobody waits");
	p->queue[p->n_late++] = (late){ exe, *rt, first, count };
	return QAT_OK;
}

static int partial_run(void *device, void *exe, qat_runtime *rt)
{
	return put_off(device, exe, rt, 0, -1);
}

static int partial_run_one(void *device, void *exe, qat_runtime *rt, int64_t claim)
{
	return put_off(device, exe, rt, claim, 1);
}

static int mapped_run_range(void *device, void *exe, qat_runtime *rt, int64_t first, int64_t count)
{
	return put_off(device, exe, rt, first, count);
}

static void partial_release(void *device, void *exe)
{
	partial_sync(device);
	ref_release(NULL, exe);
}

/* ---- memory ---- */

static int64_t known(const partial *p, const qat_memory *m)
{
	int64_t i = 0;

	while (i < p->n_memory && p->memory[i] != m)
		i++;
	return i < p->n_memory ? i : -1;
}

static int ours(const partial *p, const qat_memory *m)
{
	return known(p, m) >= 0 ? QAT_OK : qat_fail(QAT_EABI, "partial: memory of another");
}

static int partial_alloc(void *device, qat_memory **out, int64_t bytes, uint32_t use)
{
	partial *p = device;
	int rc = p->n_memory < MEMORIES_MAX ? ref_alloc(NULL, out, bytes, use)
		: qat_fail(QAT_ENOMEM, "partial: too many pieces of memory");

	if (rc)
		return rc;
	if (use != QAT_MEM_STATE)
		memset((*out)->data, 0xff, (size_t)bytes);
	p->memory[p->n_memory++] = *out;
	return QAT_OK;
}

static int mapped_import(void *device, qat_memory **out, const void *data, int64_t bytes)
{
	partial *p = device;
	int rc = p->n_memory < MEMORIES_MAX ? ref_import(NULL, out, data, bytes)
		: qat_fail(QAT_ENOMEM, "partial: too many pieces of memory");

	if (!rc)
		p->memory[p->n_memory++] = *out;
	return rc;
}

static void partial_free(void *device, qat_memory *m)
{
	partial *p = device;
	const int64_t i = known(p, m);

	if (i < 0)
		abort();
	partial_sync(p);
	p->memory[i] = p->memory[--p->n_memory];
	ref_free(NULL, m);
}

static int partial_write(void *device, qat_memory *m, int64_t offset, const void *data,
			 int64_t bytes)
{
	int rc = ours(device, m);

	if (!rc)
		rc = partial_sync(device);
	return rc ? rc : ref_write(NULL, m, offset, data, bytes);
}

static int partial_read(void *device, void *data, qat_memory *m, int64_t offset, int64_t bytes)
{
	int rc = ours(device, m);

	if (!rc)
		rc = partial_sync(device);
	return rc ? rc : ref_read(NULL, data, m, offset, bytes);
}

static void *mapped_map(void *device, qat_memory *m)
{
	return known(device, m) < 0 ? NULL : m->data;
}

/* ---- nodes ---- */

static int by_chance(const partial *p, const qat_node *n)
{
	uint32_t w[4];

	if (!p->o.seed)
		return 0;
	qat_philox(w, (uint64_t)p->o.seed, (uint64_t)n->id, 0, 0);
	return w[0] % 100 < (uint32_t)p->o.percent;
}

static int partial_supports(void *device, const qat_graph *g, const qat_node *n, char *why,
			    int64_t room)
{
	const partial *p = device;

	if (p->o.lacks >> n->op & 1 || by_chance(p, n)) {
		snprintf(why, (size_t)room, "left out for a test");
		return QAT_SUPPORT_NO;
	}
	if (p->o.generic >> n->op & 1) {
		snprintf(why, (size_t)room, "one thread");
		return QAT_SUPPORT_GENERIC;
	}
	return ref_supports(NULL, g, n, why, room);
}

static int partial_claim(void *device, const qat_graph *g, int64_t first, const uint8_t *keep,
			 const uint8_t *taken, qat_claim *out)
{
	if (taken[first] || partial_supports(device, g, g->nodes[first], (char[64]){ "" }, 64) ==
			    QAT_SUPPORT_NO)
		return qat_fail(QAT_EABI, "partial: asked to claim what is not ours");
	return ref_claim(NULL, g, first, keep, taken, out);
}

/* All memory that our nodes touch must be ours. */
static int partial_compile(void *device, const qat_program *p, void **out)
{
	for (int64_t i = 0; i < p->n_claims; i++) {
		const qat_node *n = p->graph->nodes[p->claims[i]->at];

		for (int64_t k = 0; k < n->n_in + n->n_out; k++) {
			const int64_t v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];

			if (v != QAT_NONE && p->bindings[v].memory &&
			    ours(device, p->bindings[v].memory))
				return QAT_EABI;
		}
	}
	return ref_compile(NULL, p, out);
}

#define SAME .size = sizeof(qat_backend), .count = count, .close = partial_close, \
	.caps = partial_caps, .alloc = partial_alloc, .free = partial_free, \
	.write = partial_write, .read = partial_read, .supports = partial_supports, \
	.claim = partial_claim, .compile = partial_compile, .run = partial_run, \
	.run_one = partial_run_one, .release = partial_release, .sync = partial_sync

static const qat_backend partial_vtable = { SAME, .open = partial_open };
static const qat_backend mapped_vtable = {
	SAME, .open = mapped_open, .import = mapped_import, .map = mapped_map,
	.run_range = mapped_run_range
};

#define BOTH .size = sizeof(qat_interface), .kind = QAT_KIND_BACKEND, .options = options, \
	.options_size = sizeof(partial_options)

static const qat_interface partial_interface = {
	BOTH, .name = "partial", .summary = "lacks ops; its memory is far away",
	.vtable = &partial_vtable
};
static const qat_interface mapped_interface = {
	BOTH, .name = "partial-mapped", .summary = "lacks ops", .vtable = &mapped_vtable
};

static const qat_interface *const both[] = { &partial_interface, &mapped_interface };
QAT_PLUGIN_INIT("partial", both, NULL);
