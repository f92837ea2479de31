/* exe.c - a compiled graph: one step for every claim, run phase by phase. */
#include "cpu.h"

#include <stdlib.h>
#include <string.h>

typedef struct exe {
	qat_cpu *cpu;
	qat_cpu_step *steps;		/* [n_steps], as the claims */
	int64_t n_steps;
	int64_t first[QAT_PHASES + 1];	/* of each phase */
} exe;

/* ---- what the core gave ---- */

/* -1: it was swallowed. */
static int64_t stored_bytes(const qat_program *p, int64_t v, const uint8_t *layout)
{
	if (layout[v])
		for (int64_t i = 0; i < p->n_claims; i++)
			for (int64_t k = 0; k < p->claims[i]->n_private; k++)
				if (p->claims[i]->private_value[k] == v)
					return p->claims[i]->private_bytes[k]
					     ? p->claims[i]->private_bytes[k] : -1;
	return qat_value_bytes(p->graph->values[v]);
}

static int check_value(const qat_program *p, const qat_node *n, int64_t v, const uint8_t *layout)
{
	const qat_binding *b = &p->bindings[v];
	const int64_t bytes = stored_bytes(p, v, layout);

	if (bytes < 0 || qat_cpu_at(b->memory, b->offset, bytes))
		return QAT_OK;
	return qat_fail(QAT_EINVAL, "cpu: %s: value %lld has no memory, or too little", n->name,
			(long long)v);
}

static int check_node(const qat_program *p, const qat_node *n, const uint8_t *layout)
{
	int rc = QAT_OK;

	for (int64_t i = 0; i < n->n_in + n->n_out && !rc; i++) {
		const int64_t v = i < n->n_in ? n->in[i] : n->out[i - n->n_in];

		if (v != QAT_NONE)
			rc = check_value(p, n, v, layout);
	}
	return rc;
}

static int check_claim(const qat_program *p, const qat_claim *c, const qat_binding *workspace,
		       const uint8_t *layout)
{
	int rc = QAT_OK;

	for (int64_t i = 0; i < c->n_nodes && !rc; i++)
		rc = check_node(p, p->graph->nodes[c->nodes[i]], layout);
	if (!rc && c->workspace &&
	    !qat_cpu_at(workspace->memory, workspace->offset, c->workspace))
		rc = qat_fail(QAT_EINVAL, "cpu: %s: too small a workspace",
			      p->graph->nodes[c->at]->name);
	return rc;
}

/* ---- compile ---- */

static int run_nothing(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	(void)cpu, (void)s, (void)rt;
	return QAT_OK;
}

static int prepare(qat_cpu_site *c, const qat_claim *claim, qat_cpu_step *s)
{
	const qat_cpu_op *op = qat_cpu_op_find(c->n->op);

	s->run = op->run;
	switch (claim->kernel) {
	case QAT_CPU_NOTHING:
		s->run = run_nothing;
		return QAT_OK;
	case QAT_CPU_GEMMS:
		c->n = c->g->nodes[claim->nodes[0]];
		return qat_cpu_gemms_fuse(c, claim, s);
	case QAT_CPU_GRADIENTS:
		c->n = c->g->nodes[claim->nodes[0]];
		return qat_cpu_gradients_fuse(c, c->g->nodes[claim->nodes[1]], s);
	case QAT_CPU_ROWS_TO_CODES:
		return qat_cpu_rows_to_codes_fuse(c, c->g->nodes[claim->nodes[1]], s);
	case QAT_CPU_LINEAR_CE:
		return qat_cpu_linear_ce_fuse(c, c->g->nodes[claim->nodes[1]], s);
	default:
		return op->prepare(c, s);
	}
}

/* done: [values], parameters that were packed already. */
static int make_step(exe *x, const qat_program *p, int64_t i, const uint8_t *layout,
		     uint8_t *done)
{
	const qat_claim *claim = p->claims[i];
	const qat_binding *w = &p->workspaces[i];
	const qat_node *n = p->graph->nodes[claim->at];
	qat_cpu_site c = { .cpu = x->cpu, .g = p->graph, .n = n, .bindings = p->bindings,
			   .workspace = claim->workspace ? qat_cpu_at(w->memory, w->offset, 0)
							 : NULL,
			   .layout = layout, .program = p };
	qat_cpu_step *s = &x->steps[i];
	int rc = check_claim(p, claim, w, layout);

	if (rc)
		return rc;
	s->node = claim->at;
	rc = prepare(&c, claim, s);
	if (!rc && s->workspace > claim->workspace)
		rc = qat_fail(QAT_EABI, "cpu: %s: wants %lld bytes of workspace, claimed %lld",
			      n->name, (long long)s->workspace, (long long)claim->workspace);
	if (!rc && (claim->kernel == QAT_CPU_STORED || claim->kernel == QAT_CPU_STORED_PLAIN))
		rc = qat_cpu_pack_stored(x->cpu, &c, s, done);
	return rc;
}

/* The claims come in the order of phases. */
static void find_phases(exe *x, const qat_program *p)
{
	for (uint32_t phase = 0; phase <= QAT_PHASES; phase++) {
		int64_t i = 0;

		while (i < p->n_claims && p->graph->nodes[p->claims[i]->at]->phase < phase)
			i++;
		x->first[phase] = i;
	}
}

static void mark_layouts(uint8_t *layout, const qat_program *p)
{
	for (int64_t i = 0; i < p->n_claims; i++)
		for (int64_t k = 0; k < p->claims[i]->n_private; k++)
			layout[p->claims[i]->private_value[k]] = (uint8_t)p->claims[i]->kernel;
}

int qat_cpu_compile(void *device, const qat_program *p, void **out)
{
	uint8_t *layout = calloc((size_t)p->graph->n_values + 1, 1);
	uint8_t *done = calloc((size_t)p->graph->n_values + 1, 1);
	exe *x = calloc(1, sizeof *x);
	int rc = QAT_OK;

	qat_cpu_use_threads(device);
	if (x)
		x->steps = calloc((size_t)p->n_claims + 1, sizeof *x->steps);
	if (!layout || !done || !x || !x->steps) {
		rc = qat_fail(QAT_ENOMEM, "cpu: out of memory");
		goto out;
	}
	x->cpu = device;
	x->n_steps = p->n_claims;
	mark_layouts(layout, p);
	find_phases(x, p);
	for (int64_t i = 0; i < p->n_claims && !rc; i++)
		rc = make_step(x, p, i, layout, done);
	if (!rc) {
		*out = x;
		x = NULL;
	}
out:
	qat_cpu_release(device, x);
	free(layout);
	free(done);
	return rc;
}

void qat_cpu_release(void *device, void *compiled)
{
	exe *x = compiled;

	if (!x)
		return;
	(void)device;
	free(x->steps);
	free(x);
}

/* ---- run ---- */

int qat_cpu_run(void *device, void *compiled, qat_runtime *rt)
{
	exe *x = compiled;
	int rc = QAT_OK;

	if (rt->phase >= QAT_PHASES)
		return qat_fail(QAT_EINVAL, "cpu: no phase %u", rt->phase);
	qat_cpu_use_threads(device);
	for (int64_t i = x->first[rt->phase]; i < x->first[rt->phase + 1] && !rc; i++)
		rc = x->steps[i].run(device, &x->steps[i], rt);
	return rc;
}

int qat_cpu_run_range(void *device, void *compiled, qat_runtime *rt, int64_t first, int64_t count)
{
	exe *x = compiled;
	int rc = QAT_OK;

	if (first < 0 || count < 0 || count > x->n_steps - first)
		return qat_fail(QAT_EINVAL, "cpu: no %lld claims from %lld on", (long long)count,
				(long long)first);
	qat_cpu_use_threads(device);
	for (int64_t i = first; i < first + count && !rc; i++)
		rc = x->steps[i].run(device, &x->steps[i], rt);
	return rc;
}

int qat_cpu_run_one(void *device, void *compiled, qat_runtime *rt, int64_t claim)
{
	exe *x = compiled;

	if (claim < 0 || claim >= x->n_steps)
		return qat_fail(QAT_EINVAL, "cpu: no claim %lld", (long long)claim);
	qat_cpu_use_threads(device);
	return x->steps[claim].run(device, &x->steps[claim], rt);
}

/* Kernels are done when run returns. */
int qat_cpu_sync(void *device)
{
	(void)device;
	return QAT_OK;
}
