/* reference.c - backend reference: plain C that others are judged by. Clear, not fast:
 * one thread, one kernel a node, sums in double. The device, its memory, its programs.
 */
#include "../op_types.h"
#include "reference.h"

#include <stdio.h>
#include <string.h>

/* By op, QAT_OP_NONE to QAT_OP_COUNT - 1; a row without run: not here. */
static const ref_op ops[QAT_OP_COUNT] = {
	[QAT_OP_EMBEDDING] = { "ei", "e", ref_embedding },
	[QAT_OP_EMBEDDING_GRAD] = { "ief", "f", ref_embedding_grad },
	[QAT_OP_MATMUL] = { "eee", "e", ref_matmul },
	[QAT_OP_QMATMUL] = { "xfzqfze", "e", ref_qmatmul },
	[QAT_OP_QUANTIZE] = { "efz", "qfzu", ref_quantize },
	[QAT_OP_DEQUANTIZE] = { "qfz", "e", ref_dequantize },
	[QAT_OP_MASK] = { "eu", "e", ref_mask },
	[QAT_OP_OBSERVE] = { "efd", "fd", ref_observe },
	[QAT_OP_ADD] = { "ee", "e", ref_add },
	[QAT_OP_MUL] = { "ee", "e", ref_mul },
	[QAT_OP_SCALE] = { "e", "e", ref_scale },
	[QAT_OP_ACT] = { "e", "e", ref_act_run },
	[QAT_OP_ACT_GRAD] = { "ee", "e", ref_act_grad },
	[QAT_OP_GLU] = { "ee", "e", ref_glu },
	[QAT_OP_GLU_GRAD] = { "eee", "ee", ref_glu_grad },
	[QAT_OP_LAYER_NORM] = { "eee", "eff", ref_layer_norm },
	[QAT_OP_LAYER_NORM_GRAD] = { "eeffee", "eff", ref_layer_norm_grad },
	[QAT_OP_RMS_NORM] = { "ee", "ef", ref_rms_norm },
	[QAT_OP_RMS_NORM_GRAD] = { "eefee", "ef", ref_rms_norm_grad },
	[QAT_OP_ROPE] = { "eff", "e", ref_rope },
	[QAT_OP_ATTENTION] = { "eee--ee", "efee", ref_attention },
	[QAT_OP_ATTENTION_GRAD] = { "eeeefe", "eee", ref_attention_grad },
	[QAT_OP_LINEAR_CROSS_ENTROPY] = { "eei", "ffi", ref_linear_cross_entropy },
	[QAT_OP_LINEAR_CROSS_ENTROPY_GRAD] = { "eeifff", "ef", ref_linear_cross_entropy_grad },
	[QAT_OP_CROSS_ENTROPY] = { "ei", "ffi", ref_cross_entropy },
	[QAT_OP_CROSS_ENTROPY_GRAD] = { "eiff", "e", ref_cross_entropy_grad },
	[QAT_OP_SPLIT] = { "e", "eeee", ref_split },
	[QAT_OP_CONCAT] = { "eeee", "e", ref_concat },
	[QAT_OP_CAST] = { "h", "h", ref_cast },
	[QAT_OP_REDUCE_ROWS] = { "ef", "f", ref_reduce_rows },
	[QAT_OP_SUM_SQUARES] = { "e", "d", ref_sum_squares },
	[QAT_OP_ADAMW] = { "fffff", "fff", ref_adamw },
	[QAT_OP_QMATMUL_GRAD] = { "eqff", "e", ref_qmatmul_grad },
	[QAT_OP_ADAMW8] = { "ffquff", "fquf", ref_adamw8 },
};

/* ---- device ---- */

static int64_t count(void)
{
	return 1;
}

/* The device has no state of its own: any address will do. */
static int ref_open(void **device, const void *self, int64_t index, int64_t threads)
{
	static const char here;

	(void)self;
	(void)threads;
	if (index != 0)
		return qat_fail(QAT_ENOTFOUND, "reference: no device %lld: there is one, 0",
				(long long)index);
	*device = (void *)&here;
	return QAT_OK;
}

static void ref_close(void *device)
{
	(void)device;
}

static int ref_caps(void *device, qat_caps *out)
{
	qat_caps c = { .size = sizeof c, .threads = 1, .alignment = 64, .unified = 1,
		       .name = "plain C, 1 thread", .isa = "reference" };

	(void)device;
	if (out->size < sizeof c)
		c.size = out->size;
	memcpy(out, &c, c.size);
	return QAT_OK;
}

/* ---- memory ---- */

struct qat_memory {
	char *data;
	int64_t bytes;
	int imported;			/* 1: not ours, not to be written */
};

static int new_memory(qat_memory **out, int64_t bytes)
{
	qat_memory *m = calloc(1, sizeof *m);

	if (!m)
		return qat_fail(QAT_ENOMEM, "reference: out of memory");
	m->bytes = bytes;
	*out = m;
	return QAT_OK;
}

static int ref_alloc(void *device, qat_memory **out, int64_t bytes, uint32_t use)
{
	const size_t room = ((size_t)(bytes > 0 ? bytes : 1) + 63) / 64 * 64;
	qat_memory *m = NULL;
	const int rc = new_memory(&m, bytes);

	(void)device;
	(void)use;
	if (rc)
		return rc;
	m->data = aligned_alloc(64, room);
	if (!m->data) {
		free(m);
		return qat_fail(QAT_ENOMEM, "reference: no memory for %lld bytes",
				(long long)bytes);
	}
	memset(m->data, 0, room);
	*out = m;
	return QAT_OK;
}

static int ref_import(void *device, qat_memory **out, const void *data, int64_t bytes)
{
	const int rc = new_memory(out, bytes);

	(void)device;
	if (!rc) {
		(*out)->data = (char *)data;
		(*out)->imported = 1;
	}
	return rc;
}

static void ref_free(void *device, qat_memory *m)
{
	(void)device;
	if (m && !m->imported)
		free(m->data);
	free(m);
}

static int in_memory(const qat_memory *m, int64_t offset, int64_t bytes)
{
	if (offset < 0 || bytes < 0 || offset > m->bytes || bytes > m->bytes - offset)
		return qat_fail(QAT_EINVAL, "reference: %lld bytes at %lld are outside of %lld",
				(long long)bytes, (long long)offset, (long long)m->bytes);
	return QAT_OK;
}

static int ref_write(void *device, qat_memory *m, int64_t offset, const void *data, int64_t bytes)
{
	const int rc = in_memory(m, offset, bytes);

	(void)device;
	if (!rc && m->imported)
		return qat_fail(QAT_EINVAL, "reference: imported memory is not to be written");
	if (!rc)
		memcpy(m->data + offset, data, (size_t)bytes);
	return rc;
}

static int ref_read(void *device, void *data, qat_memory *m, int64_t offset, int64_t bytes)
{
	const int rc = in_memory(m, offset, bytes);

	(void)device;
	if (!rc)
		memcpy(data, m->data + offset, (size_t)bytes);
	return rc;
}

static void *ref_map(void *device, qat_memory *m)
{
	(void)device;
	return m->data;
}

/* ---- nodes ---- */

/* The first of n values that is not of its letter's type; -1 if all are. */
static int64_t misfit(const qat_graph *g, const char *letters, const int64_t *id, int64_t n)
{
	const int64_t known = (int64_t)strlen(letters);

	for (int64_t i = 0; i < n; i++)
		if (id[i] != QAT_NONE &&
		    (i >= known || !qat_type_fits(letters[i], g->values[id[i]]->dtype)))
			return i;
	return -1;
}

static int ref_supports(void *device, const qat_graph *g, const qat_node *n, char *why,
			int64_t room)
{
	const ref_op *op = n->op < QAT_OP_COUNT ? &ops[n->op] : &ops[QAT_OP_NONE];
	const char *refused;
	int64_t i;

	(void)device;
	if (!op->run) {
		snprintf(why, (size_t)room, "op %u is not in the reference", n->op);
		return QAT_SUPPORT_NO;
	}
	i = misfit(g, op->in, n->in, n->n_in);
	if (i >= 0) {
		snprintf(why, (size_t)room, "input %lld cannot be of type %u", (long long)i,
			 g->values[n->in[i]]->dtype);
		return QAT_SUPPORT_NO;
	}
	i = misfit(g, op->out, n->out, n->n_out);
	if (i >= 0) {
		snprintf(why, (size_t)room, "output %lld cannot be of type %u", (long long)i,
			 g->values[n->out[i]]->dtype);
		return QAT_SUPPORT_NO;
	}
	refused = ref_schemes_refused(g, n);
	if (refused) {
		snprintf(why, (size_t)room, "%s", refused);
		return QAT_SUPPORT_NO;
	}
	return QAT_SUPPORT_NATIVE;
}

static int ref_claim(void *device, const qat_graph *g, int64_t first, const uint8_t *keep,
		     const uint8_t *taken, qat_claim *out)
{
	(void)device;
	(void)g;
	(void)keep;
	(void)taken;
	*out = (qat_claim){ .size = sizeof *out, .n_nodes = 1, .nodes = { first }, .at = first };
	return QAT_OK;
}

/* ---- programs ---- */

typedef struct ref_exe {
	int64_t count;
	ref_call calls[];		/* one a claim */
} ref_exe;

static ref_view view_of(const qat_program *p, int64_t id)
{
	ref_view v = { .rows = 0 };
	const qat_value *value;

	if (id == QAT_NONE || !p->bindings[id].memory)
		return v;
	value = p->graph->values[id];
	v.data = p->bindings[id].memory->data + p->bindings[id].offset;
	v.dtype = value->dtype;
	v.rows = value->shape[0];
	v.n = qat_value_elements(value);
	v.cols = v.rows ? v.n / v.rows : 0;
	return v;
}

static int bind_node(ref_call *c, const qat_program *p, const qat_node *n)
{
	c->g = p->graph;
	c->n = n;
	for (int64_t i = 0; i < n->n_in; i++) {
		c->in[i] = view_of(p, n->in[i]);
		if (n->in[i] != QAT_NONE && !c->in[i].data)
			return qat_fail(QAT_EINVAL, "%s: input %lld is not in memory", n->name,
					(long long)i);
	}
	for (int64_t i = 0; i < n->n_out; i++)
		c->out[i] = view_of(p, n->out[i]);
	return QAT_OK;
}

static int ref_compile(void *device, const qat_program *p, void **out)
{
	ref_exe *x = calloc(1, sizeof *x + (size_t)p->n_claims * sizeof *x->calls);
	int rc = QAT_OK;

	(void)device;
	if (!x)
		return qat_fail(QAT_ENOMEM, "reference: out of memory");
	x->count = p->n_claims;
	for (int64_t i = 0; i < x->count && !rc; i++)
		rc = bind_node(&x->calls[i], p, p->graph->nodes[p->claims[i]->nodes[0]]);
	if (rc) {
		free(x);
		return rc;
	}
	*out = x;
	return QAT_OK;
}

static int ref_run_one(void *device, void *exe, qat_runtime *rt, int64_t claim)
{
	ref_exe *x = exe;

	(void)device;
	if (claim < 0 || claim >= x->count)
		return qat_fail(QAT_EINVAL, "reference: there is no claim %lld", (long long)claim);
	x->calls[claim].rt = rt;
	return ops[x->calls[claim].n->op].run(&x->calls[claim]);
}

static int ref_run_phase(void *device, void *exe, qat_runtime *rt)
{
	const ref_exe *x = exe;
	int rc = QAT_OK;

	for (int64_t i = 0; i < x->count && !rc; i++)
		if (x->calls[i].n->phase == rt->phase)
			rc = ref_run_one(device, exe, rt, i);
	return rc;
}

static void ref_release(void *device, void *exe)
{
	(void)device;
	free(exe);
}

static int ref_sync(void *device)
{
	(void)device;
	return QAT_OK;
}

static const qat_backend vtable = {
	.size = sizeof vtable, .count = count, .open = ref_open, .close = ref_close,
	.caps = ref_caps, .alloc = ref_alloc, .import = ref_import, .free = ref_free,
	.write = ref_write, .read = ref_read, .map = ref_map, .supports = ref_supports,
	.claim = ref_claim, .compile = ref_compile, .run = ref_run_phase,
	.run_one = ref_run_one, .release = ref_release, .sync = ref_sync,
};

static const qat_interface reference = {
	.size = sizeof reference, .kind = QAT_KIND_BACKEND, .name = "reference",
	.summary = "plain C, one thread, sums in double: slow, to judge others by",
	.vtable = &vtable, .flags = QAT_IS_REFERENCE,
};

static const qat_interface *const all[] = { &reference };
QAT_PLUGIN("reference", all);
