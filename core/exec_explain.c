/* exec_explain.c - which kernels run where, and why there: one line for each kind, a kind
 * being the phase, the ops, their types and schemes, the device and its reason.
 */
#include "exec_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

typedef struct kind {
	char ops[120], types[80];
	uint32_t phase;
	int32_t lane;
	int level;
	const char *why;
	int64_t kernels;
} kind;

static const char *type_name(uint32_t dtype)
{
	static const char *const names[] = {
		"none", "f32", "bf16", "f16", "f64", "i8", "u8", "i32", "i64", "e8m0", "e4m3"
	};

	return dtype < sizeof names / sizeof *names ? names[dtype] : "?";
}

static void add_text(char *to, size_t room, const char *separator, const char *text)
{
	const size_t n = strlen(to);

	snprintf(to + n, room - n, "%s%s", n ? separator : "", text);
}

/* Types of values, each once: "i8,f32". */
static void add_types(char *to, size_t room, const qat_graph *g, const int64_t *id, int64_t n)
{
	uint32_t seen = 0;
	char list[60] = "";

	for (int64_t i = 0; i < n; i++) {
		const uint32_t t = id[i] == QAT_NONE ? 0 : g->values[id[i]]->dtype;

		if (t && !(seen >> t & 1))
			add_text(list, sizeof list, ",", type_name(t));
		seen |= t ? 1u << t : 0;
	}
	add_text(to, room, " -> ", list);
}

void qat_exec_types(const qat_graph *g, const qat_node *n, char *out, size_t room)
{
	char schemes[48] = "";

	out[0] = '\0';
	add_types(out, room, g, n->in, n->n_in);
	add_types(out, room, g, n->out, n->n_out);
	for (int i = 0; i < 2; i++)
		if (n->schemes[i])
			add_text(schemes, sizeof schemes, " x ", n->schemes[i]->schemes[0]->name);
	if (schemes[0]) {
		add_text(out, room, " ", "[");
		strncat(out, schemes, room - strlen(out) - 1);
		strncat(out, "]", room - strlen(out) - 1);
	}
}

void qat_exec_ops(const qat_exec *x, const qat_claim *c, char *out, size_t room)
{
	out[0] = '\0';
	for (int64_t i = 0; i < c->n_nodes; i++)
		add_text(out, room, " + ", qat_op_info(x->graph->nodes[c->nodes[i]]->op)->name);
}

/* The node of a kernel that says most of where it was put. */
static const qat_spot *least(const qat_exec *x, const qat_claim *c)
{
	const qat_spot *worst = &x->spots[c->nodes[0]];

	for (int64_t i = 1; i < c->n_nodes; i++)
		if (x->spots[c->nodes[i]].level < worst->level)
			worst = &x->spots[c->nodes[i]];
	return worst;
}

static void describe(const qat_exec *x, int64_t slot, kind *k)
{
	const qat_claim *c = qat_exec_claim_at(x, slot);
	const qat_spot *spot = least(x, c);

	*k = (kind){ .phase = x->order[slot].phase, .lane = x->order[slot].lane,
		     .level = spot->level, .why = spot->why, .kernels = 1 };
	qat_exec_ops(x, c, k->ops, sizeof k->ops);
	qat_exec_types(x->graph, x->graph->nodes[c->at], k->types, sizeof k->types);
}

static int same(const kind *a, const kind *b)
{
	return a->phase == b->phase && a->lane == b->lane && a->level == b->level &&
	       a->why == b->why && !strcmp(a->ops, b->ops) && !strcmp(a->types, b->types);
}

static int64_t gather(const qat_exec *x, kind *kinds)
{
	int64_t n = 0;

	for (int64_t i = 0; i < x->n_order; i++) {
		int64_t at = 0;

		describe(x, i, &kinds[n]);
		while (at < n && !same(&kinds[at], &kinds[n]))
			at++;
		if (at < n)
			kinds[at].kernels++;
		else
			n++;
	}
	return n;
}

static void print(const qat_exec *x, const kind *k, int ops, int types)
{
	printf("    %-8s %7lld  %-*s  %-*s  %s %s", qat_phase_name(k->phase), (long long)k->kernels,
	       ops, k->ops, types, k->types, x->lanes[k->lane].device->name,
	       k->level == QAT_SUPPORT_NATIVE ? "native" : "generic");
	if (k->why && k->lane)
		printf(": %s: %s", x->lanes[0].device->name, k->why);
	else if (k->why)
		printf(": %s", k->why);
	putchar('\n');
}

static int widest(int most, const char *text)
{
	const int n = (int)strlen(text);

	return n > most ? n : most;
}

void qat_exec_explain(const qat_exec *x)
{
	kind *kinds = malloc((size_t)(x->n_order + 1) * sizeof *kinds);
	int ops = 3, types = 5;
	int64_t n;

	if (!kinds)
		return;
	n = gather(x, kinds);
	for (int64_t i = 0; i < n; i++) {
		ops = widest(ops, kinds[i].ops);
		types = widest(types, kinds[i].types);
	}
	printf("    %-8s %7s  %-*s  %-*s  device\n", "phase", "kernels", ops, "ops", types,
	       "types");
	for (int64_t i = 0; i < n; i++)
		print(x, &kinds[i], ops, types);
	if (x->n_lanes > 1)
		printf("    copied between %s and %s: %.1f KiB a step\n", x->lanes[0].device->name,
		       x->lanes[1].device->name, (double)x->copied / 1024);
	free(kinds);
}

const char *qat_phase_name(uint32_t phase)
{
	static const char *const names[] = { "prologue", "forward", "backward", "update" };

	return phase < QAT_PHASES ? names[phase] : "?";
}
