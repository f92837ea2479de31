/* profile.c - see profile.h.
 *
 * A kernel's bytes are those of the values that it reads and writes, each once: what it
 * must move at least. Its operations are those of products, two for a multiplication and
 * its addition; all else has none. Rates and shares leave out the first run of a phase where
 * there are others: it touches memory for the first time.
 */
#include "profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "error.h"
#include "exec_internal.h"
#include "work.h"

enum { RUNS_TRACED = 2, EVENTS_MAX = 20000, STEPS_MAX = 1000, DEVICES_MAX = 8 };

typedef struct work {
	double seconds, bytes, operations;
	double of[QAT_CEILING_BYTES];	/* operations, by QAT_CEILING_* */
} work;

typedef struct kind {
	char ops[120], types[80];
	uint32_t phase;
	int64_t step;			/* of the pipeline */
	const char *device;
	int64_t calls;
	work all, later;		/* later: without the first run of a session's phase */
} kind;

/* What a device does at most in a second, 0 where not known. */
typedef struct ceilings {
	const char *device;
	double of[QAT_CEILINGS];
} ceilings;

typedef struct event {
	char name[80];
	int64_t kind;
	int32_t lane;
	double from, seconds;		/* since the first */
} event;

struct qat_profile {
	kind *kinds;
	int64_t n_kinds, room_kinds;
	event *events;
	int64_t n_events;
	int64_t step;
	const char *tasks[STEPS_MAX];	/* by step */
	ceilings ceilings[DEVICES_MAX];
	int n_ceilings;
	double origin;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

qat_profile *qat_profile_new(void)
{
	qat_profile *p = calloc(1, sizeof *p);

	if (p)
		p->events = malloc(EVENTS_MAX * sizeof *p->events);
	if (!p || !p->events) {
		qat_fail(QAT_ENOMEM, "profile: out of memory");
		qat_profile_free(p);
		return NULL;
	}
	p->origin = now();
	return p;
}

void qat_profile_free(qat_profile *p)
{
	if (!p)
		return;
	free(p->kinds);
	free(p->events);
	free(p);
}

void qat_profile_step(qat_profile *p, int64_t index, const char *task)
{
	if (!p || index < 0 || index >= STEPS_MAX)
		return;
	p->step = index;
	p->tasks[index] = task;
}

/* ---- what a kernel does ---- */

/* Bytes of a value as it lies in memory, once for the claim; of a table that is looked up,
 * the rows. */
static double value_bytes(const qat_exec *x, const qat_claim *c, int64_t node, int64_t k)
{
	const qat_node *n = x->graph->nodes[c->nodes[node]];
	const int64_t v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];

	if (v == QAT_NONE)
		return 0.0;
	for (int64_t i = 0; i < node; i++) {
		const qat_node *other = x->graph->nodes[c->nodes[i]];

		for (int64_t j = 0; j < other->n_in + other->n_out; j++)
			if (v == (j < other->n_in ? other->in[j] : other->out[j - other->n_in]))
				return 0.0;
	}
	if (n->op == QAT_OP_EMBEDDING && k == 0)
		return (double)qat_value_bytes(x->graph->values[n->out[0]]);
	if (n->op == QAT_OP_EMBEDDING_GRAD && k >= 2 && n->in[2] != QAT_NONE)
		return 4.0 * (double)qat_value_elements(x->graph->values[n->in[1]]);
	return (double)x->bytes[v];
}

static void describe(const qat_exec *x, int64_t slot, kind *k)
{
	const qat_claim *c = qat_exec_claim_at(x, slot);

	*k = (kind){ .phase = x->order[slot].phase, .step = x->device->profile->step,
		     .device = x->lanes[x->order[slot].lane].device->name };
	qat_exec_ops(x, c, k->ops, sizeof k->ops);
	qat_exec_types(x->graph, x->graph->nodes[c->at], k->types, sizeof k->types);
	for (int64_t i = 0; i < c->n_nodes; i++) {
		const qat_node *n = x->graph->nodes[c->nodes[i]];

		const double operations = qat_work_operations(x->graph, n) -
					  qat_work_shared(x->graph, c, i);

		k->all.of[qat_work_kind(x->graph, n)] += operations;
		k->all.operations += operations;
		for (int64_t v = 0; v < n->n_in + n->n_out; v++)
			k->all.bytes += value_bytes(x, c, i, v);
	}
}

static int same(const kind *a, const kind *b)
{
	return a->phase == b->phase && a->step == b->step && !strcmp(a->device, b->device) &&
	       !strcmp(a->ops, b->ops) && !strcmp(a->types, b->types);
}

/* ---- ceilings ---- */

static const ceilings *find_ceilings(const qat_profile *p, const char *device)
{
	for (int i = 0; i < p->n_ceilings; i++)
		if (!strcmp(p->ceilings[i].device, device))
			return &p->ceilings[i];
	return NULL;
}

/* Before a device's first kernel; a device that cannot say is one of which nothing is known. */
static void measure_ceilings(qat_profile *p, const qat_device *d)
{
	ceilings *c = &p->ceilings[p->n_ceilings];

	if (find_ceilings(p, d->name) || p->n_ceilings == DEVICES_MAX)
		return;
	*c = (ceilings){ .device = d->name };
	if (d->api->ceilings && d->api->ceilings(d->handle, c->of))
		memset(c->of, 0, sizeof c->of);
	p->n_ceilings++;
}

static const char *const ceiling_names[QAT_CEILINGS] = {
	[QAT_CEILING_F32] = "f32", [QAT_CEILING_BF16] = "bf16", [QAT_CEILING_I8] = "i8",
	[QAT_CEILING_BYTES] = "bytes",
};

static const work *steady(const kind *k)
{
	return k->later.seconds > 0.0 ? &k->later : &k->all;
}

/* Time at the ceilings over time taken: that of products, or that of memory, whichever is more;
 * *bound says which, NULL: nothing is known. What lies in caches may pass the ceiling of memory. */
static double share_of(const qat_profile *p, const kind *k, const char **bound)
{
	const ceilings *c = find_ceilings(p, k->device);
	const work *w = steady(k);
	double products = 0.0, bytes = 0.0;
	int most = 0;

	*bound = NULL;
	for (int i = 0; c && i < QAT_CEILING_BYTES; i++) {
		if (w->of[i] > 0.0 && c->of[i] <= 0.0)
			return 0.0;
		products += w->of[i] > 0.0 ? w->of[i] / c->of[i] : 0.0;
		most = w->of[i] > w->of[most] ? i : most;
	}
	if (!c || !(w->seconds > 0.0))
		return 0.0;
	if (c->of[QAT_CEILING_BYTES] > 0.0)
		bytes = w->bytes / c->of[QAT_CEILING_BYTES];
	if (products > 0.0 || bytes > 0.0)
		*bound = ceiling_names[products >= bytes ? most : QAT_CEILING_BYTES];
	return (products >= bytes ? products : bytes) / w->seconds;
}

/* ---- taking time ---- */

static void add(work *to, const work *w)
{
	to->seconds += w->seconds;
	to->bytes += w->bytes;
	to->operations += w->operations;
	for (int k = 0; k < QAT_CEILING_BYTES; k++)
		to->of[k] += w->of[k];
}

/* Adds a call to its kind; its index, or -1. */
static int64_t count(qat_profile *p, const kind *one)
{
	int64_t i = 0;

	while (i < p->n_kinds && !same(&p->kinds[i], one))
		i++;
	if (i == p->room_kinds) {
		const int64_t room = p->room_kinds ? 2 * p->room_kinds : 64;
		kind *more = realloc(p->kinds, (size_t)room * sizeof *more);

		if (!more)
			return qat_fail(QAT_ENOMEM, "profile: out of memory"), -1;
		p->kinds = more;
		p->room_kinds = room;
	}
	if (i == p->n_kinds) {
		p->kinds[p->n_kinds++] = *one;
	} else {
		add(&p->kinds[i].all, &one->all);
		add(&p->kinds[i].later, &one->later);
	}
	p->kinds[i].calls++;
	return i;
}

static int take(qat_exec *x, kind *one, const char *name, int32_t lane, double from)
{
	qat_profile *p = x->device->profile;
	int64_t at;

	one->all.seconds = now() - from;
	if (x->profiled[one->phase] > 1)
		one->later = one->all;
	at = count(p, one);
	if (at < 0)
		return QAT_ENOMEM;
	if (x->profiled[one->phase] <= RUNS_TRACED && p->n_events < EVENTS_MAX) {
		event *e = &p->events[p->n_events++];

		*e = (event){ .kind = at, .lane = lane, .from = from - p->origin,
			      .seconds = one->all.seconds };
		snprintf(e->name, sizeof e->name, "%s", name);
	}
	return QAT_OK;
}

static int wait_for(const qat_device *d)
{
	return d->api->sync ? d->api->sync(d->handle) : QAT_OK;
}

static int time_copy(qat_exec *x, const qat_action *a)
{
	const qat_value *v = x->graph->values[a->value];
	kind one = { .phase = a->phase, .step = x->device->profile->step,
		     .device = x->lanes[a->lane].device->name, .ops = "copy",
		     .all = { .bytes = (double)x->bytes[a->value] } };
	const double from = now();
	const int rc = qat_exec_copy(x, a);

	return rc ? rc : take(x, &one, v->name ? v->name : "copy", a->lane, from);
}

static int time_claims(qat_exec *x, const qat_action *a, qat_runtime *rt)
{
	const qat_lane *l = &x->lanes[a->lane];
	int rc = wait_for(l->device);

	measure_ceilings(x->device->profile, l->device);
	for (int64_t i = 0; i < a->count && !rc && rt->bad_node == QAT_NONE; i++) {
		const int64_t slot = x->position[l->claims[a->first + i]->at];
		double from;
		kind one;

		describe(x, slot, &one);
		from = now();
		rc = l->device->api->run_one(l->device->handle, l->exe, rt, a->first + i);
		if (!rc)
			rc = wait_for(l->device);
		if (!rc)
			rc = take(x, &one, x->graph->nodes[l->claims[a->first + i]->at]->name,
				  a->lane, from);
	}
	return rc;
}

int qat_profile_run(qat_exec *x, uint32_t phase, qat_runtime *rt)
{
	int rc = QAT_OK;

	x->profiled[phase] += x->profiled[phase] <= RUNS_TRACED;
	for (int64_t i = 0; i < x->n_actions && !rc && rt->bad_node == QAT_NONE; i++) {
		const qat_action *a = &x->actions[i];

		if (a->phase == phase)
			rc = a->value != QAT_NONE ? time_copy(x, a) : time_claims(x, a, rt);
	}
	return rc;
}

/* ---- the table ---- */

static int by_time(const void *a, const void *b)
{
	const kind *x = *(const kind *const *)a, *y = *(const kind *const *)b;

	if (x->step != y->step)
		return x->step < y->step ? -1 : 1;
	return x->all.seconds > y->all.seconds ? -1 : x->all.seconds < y->all.seconds;
}

/* Pointers to all kinds by step, the longest first; malloc'ed. */
static const kind **sorted(const qat_profile *p)
{
	const kind **order = malloc((size_t)(p->n_kinds + 1) * sizeof *order);

	for (int64_t i = 0; order && i < p->n_kinds; i++)
		order[i] = &p->kinds[i];
	if (order)
		qsort(order, (size_t)p->n_kinds, sizeof *order, by_time);
	return order;
}

static double rate(double amount, double seconds)
{
	return seconds > 0.0 ? 1e-9 * amount / seconds : 0.0;
}

static void print_row(const qat_profile *p, const kind *k, double all, int ops, int types)
{
	const char *bound;
	const double share = share_of(p, k, &bound);
	const work *w = steady(k);

	printf("  %5.1f %% %10.2f %10.2f %8lld  %-8s  %-*s  %-*s  %-9s %7.2f",
	       100.0 * k->all.seconds / all, 1e3 * k->all.seconds,
	       1e3 * (k->all.seconds - k->later.seconds), (long long)k->calls,
	       qat_phase_name(k->phase), ops, k->ops, types, k->types, k->device,
	       rate(w->bytes, w->seconds));
	if (w->operations > 0.0)
		printf(" %8.1f", rate(w->operations, w->seconds));
	else
		printf(" %8s", "");
	if (bound)
		printf("  %4.0f %% %s", 100.0 * share, bound);
	putchar('\n');
}

/* Kinds [0, n) are those of a step. */
static void print_step(const qat_profile *p, const kind *const *k, int64_t n)
{
	double all = 1e-12;
	int ops = 3, types = 5;

	for (int64_t i = 0; i < n; i++) {
		all += k[i]->all.seconds;
		ops = (int)strlen(k[i]->ops) > ops ? (int)strlen(k[i]->ops) : ops;
		types = (int)strlen(k[i]->types) > types ? (int)strlen(k[i]->types) : types;
	}
	printf("profile of steps[%lld] %s: %.3f s in kernels\n", (long long)k[0]->step,
	       p->tasks[k[0]->step] ? p->tasks[k[0]->step] : "", all);
	printf("  %7s %10s %10s %8s  %-8s  %-*s  %-*s  %-9s %7s %8s  %s\n", "time", "ms", "first ms",
	       "calls", "phase", ops, "ops", types, "types", "device", "GB/s", "Gop/s",
	       "of ceiling");
	for (int64_t i = 0; i < n; i++)
		print_row(p, k[i], all, ops, types);
}

static void print_ceilings(const ceilings *c)
{
	if (!c->of[QAT_CEILING_F32] && !c->of[QAT_CEILING_BYTES])
		return;
	printf("ceilings of %s: %.1f Gop/s f32, %.1f bf16, %.1f i8; %.1f GB/s\n", c->device,
	       1e-9 * c->of[QAT_CEILING_F32], 1e-9 * c->of[QAT_CEILING_BF16],
	       1e-9 * c->of[QAT_CEILING_I8], 1e-9 * c->of[QAT_CEILING_BYTES]);
}

static void print_all(const qat_profile *p, const kind *const *k)
{
	for (int64_t i = 0, n; i < p->n_kinds; i += n) {
		for (n = 1; i + n < p->n_kinds && k[i + n]->step == k[i]->step; n++)
			;
		print_step(p, k + i, n);
	}
	for (int i = 0; i < p->n_ceilings; i++)
		print_ceilings(&p->ceilings[i]);
	fflush(stdout);
}

/* ---- files ---- */

static int dump(json_t *root, const char *folder, const char *name)
{
	char *path = NULL;
	int rc = QAT_OK;

	if (!root || asprintf(&path, "%s/%s", folder, name) < 0)
		rc = qat_fail(QAT_ENOMEM, "%s: out of memory", name);
	else if (json_dump_file(root, path, JSON_COMPACT | JSON_REAL_PRECISION(9)))
		rc = qat_fail(QAT_EIO, "%s: cannot be written", path);
	free(path);
	json_decref(root);
	return rc;
}

static json_t *kind_json(const qat_profile *p, const kind *k)
{
	const char *bound;
	const double share = share_of(p, k, &bound);
	json_t *out = json_pack("{s:I, s:s?, s:s, s:s, s:s, s:s, s:I, s:f, s:f, s:f, s:f}", "step",
				(json_int_t)k->step, "task", p->tasks[k->step], "phase",
				qat_phase_name(k->phase), "ops", k->ops, "types", k->types,
				"device", k->device, "calls", (json_int_t)k->calls, "seconds",
				k->all.seconds, "first_seconds",
				k->all.seconds - k->later.seconds, "bytes", k->all.bytes,
				"operations", k->all.operations);

	if (out && bound) {
		json_object_set_new(out, "share", json_real(share));
		json_object_set_new(out, "bound", json_string(bound));
	}
	return out;
}

static json_t *ceilings_json(const qat_profile *p)
{
	json_t *list = json_array();

	for (int i = 0; i < p->n_ceilings; i++) {
		json_t *one = json_pack("{s:s}", "device", p->ceilings[i].device);

		for (int k = 0; one && k < QAT_CEILINGS; k++)
			if (p->ceilings[i].of[k] > 0.0)
				json_object_set_new(one, ceiling_names[k],
						    json_real(p->ceilings[i].of[k]));
		json_array_append_new(list, one);
	}
	return list;
}

static int write_kinds(const qat_profile *p, const kind *const *k, const char *folder)
{
	json_t *list = json_array();

	for (int64_t i = 0; i < p->n_kinds; i++)
		json_array_append_new(list, kind_json(p, k[i]));
	return dump(json_pack("{s:o, s:o}", "ceilings", ceilings_json(p), "kernels", list), folder,
		    "profile.json");
}

/* Times in microseconds; a row for each device. */
static int write_events(const qat_profile *p, const char *folder)
{
	json_t *list = json_array();

	for (int64_t i = 0; i < p->n_events; i++) {
		const event *e = &p->events[i];
		const kind *k = &p->kinds[e->kind];

		json_array_append_new(list, json_pack(
			"{s:s, s:s, s:s, s:f, s:f, s:i, s:i, s:{s:s, s:s, s:s, s:I}}", "name",
			e->name, "cat", k->ops, "ph", "X", "ts", 1e6 * e->from, "dur",
			1e6 * e->seconds, "pid", 1, "tid", (int)e->lane, "args", "device",
			k->device, "phase", qat_phase_name(k->phase), "types", k->types, "step",
			(json_int_t)k->step));
	}
	return dump(json_pack("{s:o, s:s}", "traceEvents", list, "displayTimeUnit", "ms"), folder,
		    "trace.json");
}

int qat_profile_write(const qat_profile *p, const char *folder)
{
	const kind **order = sorted(p);
	int rc = order ? QAT_OK : qat_fail(QAT_ENOMEM, "profile: out of memory");

	if (!rc)
		rc = write_kinds(p, order, folder);
	if (!rc)
		rc = write_events(p, folder);
	if (!rc)
		print_all(p, order);
	free(order);
	return rc;
}
