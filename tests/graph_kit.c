/* graph_kit.c - see graph_kit.h. */
#include "graph_kit.h"

#include <dlfcn.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "error.h"

/* ---- plugins ---- */

static qat_arena *arena;		/* of options, for the life of the test */

/* Also called outside of tests, where libcheck's assertions do not work. */
static qat_option_env env(void)
{
	if (!arena && (qat_arena_new(&arena) || qat_host_service_set("graph", &qat_ir_api)))
		abort();
	return (qat_option_env){ .arena = arena, .folder = "/" };
}

qat_instance kit_instance(uint32_t kind, const char *name)
{
	const qat_option_env e = env();
	qat_instance i = { .interface = NULL };

	if (qat_instance_default(&i, kind, name, &e))
		i.interface = NULL;
	return i;
}

int kit_set(const qat_instance *i, const char *option, double value)
{
	const qat_option *o = i->interface->options;

	while (o && o->name && strcmp(o->name, option))
		o++;
	if (!o || !o->name)
		return 0;
	if (o->type == QAT_OPT_FLOAT)
		memcpy((char *)i->self + o->offset, &value, sizeof value);
	else
		memcpy((char *)i->self + o->offset, &(int64_t){ (int64_t)value },
		       sizeof(int64_t));
	return 1;
}

typedef struct names {
	const char **at;
	int count, room;
} names;

static int add_name(void *context, const qat_interface *i, const void *vtable)
{
	names *n = context;

	(void)vtable;
	if (n->count < n->room)
		n->at[n->count++] = i->name;
	return 0;
}

int kit_names(uint32_t kind, const char **out, int room)
{
	names n = { .at = out, .room = room };

	env();
	if (qat_plugin_each(kind, add_name, &n))
		abort();
	return n.count;
}

int kit_open(qat_device *out, const char *backend, int64_t threads)
{
	const qat_instance i = kit_instance(QAT_KIND_BACKEND, backend);

	return i.interface && qat_device_open(out, &i, 0, threads) == QAT_OK;
}

#ifdef __SANITIZE_ADDRESS__
/* What drivers and layers leak is known to the leak checker by their names (driver.supp),
 * which they have no more once they are unloaded. So those in software stay. */
__attribute__((constructor)) static void keep_drivers(void)
{
	dlopen("libvulkan_lvp.so", RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
	dlopen("libVkLayer_khronos_validation.so", RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
}

/* Once checked, the process is not checked again when it ends. */
void kit_leaks(void)
{
	__lsan_do_leak_check();
}
#else
void kit_leaks(void)
{
}
#endif

static int one_in(long most, int64_t number)
{
	const char *stride = getenv("TEST_STRIDE");
	const long asked = stride ? atol(stride) : 1, n = asked < most ? asked : most;

	return n < 2 || number % n == 0;
}

int kit_chosen(int64_t number)
{
	return one_in(LONG_MAX, number);
}

int kit_chosen_model(int64_t number)
{
	return one_in(7, number);
}

/* ---- numbers ---- */

static double uniform(uint64_t seed, int64_t i)
{
	uint32_t w[4];

	qat_philox(w, seed, (uint64_t)i, 0, 0);
	return ((double)w[0] + 0.5) / 4294967296.0;
}

/* About normal, of unit variance and within 3.5, by the sum of four: most of what a contract
 * takes would go into logarithms and cosines. */
static double normal(uint64_t seed, int64_t i)
{
	uint32_t w[4];

	qat_philox(w, seed, (uint64_t)i, 0, 0);
	return 1.7320508075688772 *
	       (((double)w[0] + w[1] + w[2] + w[3] + 2.0) / 4294967296.0 - 2.0);
}

static float edge(uint64_t seed, int64_t i)
{
	static const float edges[] = {
		0.0f, -0.0f, 0.5f, -0.5f, 1.5f, 2.5f, -3.5f, 0.25f, 0.75f, 1.25f, 1.75f, 5.0f,
		6.0f, 7.0f, -7.5f, 127.0f, -128.0f, 1e-45f, -1e-39f, 1.17549435e-38f, 1e-30f,
		7.9e-31f, 3e37f, -1e30f, 65504.0f, 448.0f, 0.1f, -1.0f, 1.0f, 2.0f, -4.0f, 1e-6f,
	};
	const int64_t count = sizeof edges / sizeof *edges;
	const int64_t block = i / 64 % 3;	/* some stretches without the extremes */
	const float v = edges[(int64_t)(uniform(seed, i) * (double)count)];

	if (block == 0 && (fabsf(v) > 1e5f || fabsf(v) < 1e-20f))
		return 0.0f;
	return block == 1 ? (float)normal(seed, i) : v;
}

static float number(int kind, uint64_t seed, int64_t i)
{
	if (kind == KIT_EDGES)
		return edge(seed, i);
	if (kind == KIT_TABLE)
		return (float)(2.0 * uniform(seed, i) - 1.0);
	if (kind == KIT_ONES)
		return (float)(1.0 + 0.2 * normal(seed, i));
	return (float)((kind == KIT_SMALL ? 0.1 : 1.0) * normal(seed, i));
}

void kit_numbers(float *out, int64_t n, int kind, uint64_t seed)
{
	for (int64_t i = 0; i < n; i++)
		out[i] = number(kind, seed, i);
}

void kit_ids(int32_t *out, int64_t n, int32_t lo, int32_t hi, uint64_t seed)
{
	for (int64_t i = 0; i < n; i++)
		out[i] = lo + (int32_t)(uniform(seed, i) * (hi - lo + 1));
}

/* ---- cases ---- */

void kit_new(kit *k, int64_t batch, int64_t length, uint32_t precision)
{
	env();
	*k = (kit){ .g = qat_ir_new(batch, length, precision) };
	ck_assert_ptr_nonnull(k->g);
}

void kit_free(kit *k)
{
	for (int64_t i = 0; i < k->room; i++)
		free(k->content[i]);
	free(k->content);
	qat_ir_free(k->g);
	memset(k, 0, sizeof *k);
}

static void *copy_of(const void *data, int64_t bytes)
{
	void *p = malloc((size_t)bytes + 1);

	ck_assert_ptr_nonnull(p);
	memcpy(p, data, (size_t)bytes);
	return p;
}

void kit_give(kit *k, int64_t value, const void *data)
{
	if (value >= k->room) {
		const int64_t room = value + 64;

		k->content = realloc(k->content, (size_t)room * sizeof *k->content);
		ck_assert_ptr_nonnull(k->content);
		memset(k->content + k->room, 0,
		       (size_t)(room - k->room) * sizeof *k->content);
		k->room = room;
	}
	free(k->content[value]);
	k->content[value] = copy_of(data, qat_value_bytes(k->g->values[value]));
}

int64_t kit_param(kit *k, uint32_t dtype, int64_t rows, int64_t cols, const void *data)
{
	const int64_t shape[] = { rows, cols };
	char name[32];
	int64_t v;

	snprintf(name, sizeof name, "p%lld", (long long)k->g->graph.n_values);
	v = qat_ir_param(k->g, name, dtype, cols ? 2 : 1, shape);
	ck_assert_int_ge(v, 0);
	kit_give(k, v, data);
	return v;
}

int64_t kit_random(kit *k, uint32_t dtype, int64_t rows, int64_t cols, int kind, uint64_t seed)
{
	const int64_t n = rows * (cols ? cols : 1);
	float *x = malloc((size_t)n * sizeof *x);
	int64_t v;

	ck_assert_ptr_nonnull(x);
	kit_numbers(x, n, kind, seed);
	for (int64_t i = 0; dtype == QAT_BF16 && i < n; i++)
		((uint16_t *)x)[i] = qat_f32_to_bf16(x[i]);
	v = kit_param(k, dtype, rows, cols, x);
	free(x);
	return v;
}

int64_t kit_node(kit *k, uint32_t op, const qat_attr *attr, int64_t n_in, const int64_t *in,
		 int64_t *out, const qat_ir_extra *extra)
{
	const int64_t v = qat_ir_node(k->g, op, attr, n_in, in, out, extra);

	ck_assert_msg(v >= 0, "%s: %s", qat_op_info(op)->name, qat_error());
	return v;
}

const qat_scheme_set *kit_scheme(kit *k, const qat_scheme *s)
{
	qat_scheme *copy = qat_arena_alloc(k->g->arena, sizeof *copy);
	const qat_scheme **at = qat_arena_alloc(k->g->arena, sizeof *at);
	qat_scheme_set *set = qat_arena_alloc(k->g->arena, sizeof *set);

	ck_assert(copy && at && set);
	*copy = *s;
	*at = copy;
	*set = (qat_scheme_set){ .size = sizeof *set, .selector = -1, .count = 1, .schemes = at };
	return set;
}

/* ---- models ---- */

enum { PARAMS_MAX = 64 };

typedef struct declared {
	qat_param at[PARAMS_MAX];
	char name[PARAMS_MAX][64];
	int count;
} declared;

static int declare(void *to, const qat_param *p)
{
	declared *d = to;

	ck_assert_int_lt(d->count, PARAMS_MAX);
	snprintf(d->name[d->count], sizeof *d->name, "%s", p->name);
	d->at[d->count] = *p;
	d->at[d->count].name = d->name[d->count];
	d->count++;
	return QAT_OK;
}

static const qat_param *find_declared(void *context, const char *name)
{
	const declared *d = context;

	for (int i = 0; i < d->count; i++)
		if (!strcmp(d->at[i].name, name))
			return &d->at[i];
	return NULL;
}

void kit_model(kit *k, qat_loss *loss, const qat_instance *model, int logits)
{
	const qat_model *m = model->vtable;
	qat_model_info info = { .size = sizeof info };
	qat_outputs out = { .size = sizeof out };
	declared d = { .count = 0 };

	ck_assert_msg(m->check(model->self, &info) == QAT_OK, "%s", qat_error());
	ck_assert_int_eq(m->params(model->self, declare, &d), QAT_OK);
	k->g->find_param = find_declared;
	k->g->context = &d;
	ck_assert_msg(m->build(model->self, k->g, &out) == QAT_OK, "%s", qat_error());
	ck_assert_msg(qat_ir_loss(k->g, loss, &out, logits) == QAT_OK, "%s", qat_error());
	k->g->context = NULL;
	k->g->find_param = NULL;
}

int kit_tiny(kit *k, qat_loss *loss, const char *model, int tied, int logits)
{
	static const struct { const char *option; double value; } settings[] = {
		{ "vocab_size", KIT_TINY_VOCABULARY }, { "hidden_size", 32 },
		{ "intermediate_size", 64 }, { "num_hidden_layers", 2 },
		{ "num_attention_heads", 4 }, { "num_key_value_heads", 2 },
		{ "max_position_embeddings", 64 }, { "n_embd", 32 }, { "n_layer", 2 },
		{ "n_head", 4 }, { "n_positions", 64 }
	};
	const qat_instance m = kit_instance(QAT_KIND_MODEL, model);

	if (!m.interface)
		return 0;
	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
		kit_set(&m, settings[i].option, settings[i].value);
	ck_assert(kit_set(&m, "tie_word_embeddings", tied));
	kit_model(k, loss, &m, logits);
	return 1;
}

void kit_passes(kit *k, qat_loss *loss, qat_scheme_lookup *lookup, void *context)
{
	qat_ir *prepared, *typed;

	ck_assert_msg(qat_ir_prepare(&prepared, k->g, loss, lookup, NULL, context, 1) == QAT_OK,
		      "%s", qat_error());
	ck_assert_msg(qat_ir_precision(&typed, prepared, loss) == QAT_OK, "%s", qat_error());
	qat_ir_free(prepared);
	qat_ir_free(k->g);
	k->g = typed;
}

/* By name, so that a parameter has the same content in every form of a graph. */
static uint64_t seed_of(const char *name, uint64_t seed)
{
	while (*name)
		seed = seed * 31 + (uint8_t)*name++;
	return seed;
}

void kit_params(kit *k, uint64_t seed)
{
	for (int64_t v = 0; v < k->g->graph.n_values; v++) {
		const qat_value *value = k->g->values[v];
		const int64_t n = qat_value_elements(value);
		float *x;

		if (value->role != QAT_ROLE_PARAM || value->dtype != QAT_F32 ||
		    (v < k->room && k->content[v]))
			continue;
		x = malloc((size_t)n * sizeof *x);
		ck_assert_ptr_nonnull(x);
		kit_numbers(x, n, strstr(value->name, "norm") ? KIT_ONES : KIT_NORMAL,
			    seed_of(value->name, seed));
		for (int64_t i = 0; i < n; i++)
			x[i] = strstr(value->name, ".scale") ? 0.02f
			     : strstr(value->name, "norm") ? x[i] : 0.3f * x[i];
		kit_give(k, v, x);
		free(x);
	}
}

/* ---- running ---- */

static int fill(void *context, const qat_value *v, void *to)
{
	const kit *k = context;

	if (v->id >= k->room || !k->content[v->id])
		return qat_fail(QAT_EINVAL, "%s has no content", v->name);
	memcpy(to, k->content[v->id], (size_t)qat_value_bytes(v));
	return QAT_OK;
}

static int find(void *context, const qat_value *v, qat_source *out)
{
	(void)context;
	(void)v;
	out->fill = fill;
	return QAT_OK;
}

/* Ids of the outputs that are kept; returns their count. */
static int64_t kept(const kit *k, int64_t *ids)
{
	int64_t n = 0;

	if (k->keep) {
		memcpy(ids, k->keep, (size_t)k->n_keep * sizeof *ids);
		return k->n_keep;
	}
	for (int64_t i = 0; i < k->g->graph.n_nodes; i++)
		for (int64_t j = 0; j < k->g->nodes[i]->n_out; j++)
			if (k->g->nodes[i]->out[j] != QAT_NONE)
				ids[n++] = k->g->nodes[i]->out[j];
	return n;
}

static int run_phases(kit_result *out, const kit *k, qat_exec *x, const qat_runtime *rt)
{
	int rc = QAT_OK;

	for (int64_t v = 0; v < k->g->graph.n_values && !rc; v++) {
		const qat_value *value = k->g->values[v];

		if ((value->role == QAT_ROLE_INPUT || value->role == QAT_ROLE_STATE) &&
		    v < k->room && k->content[v])
			rc = qat_exec_write(x, v, k->content[v], qat_value_bytes(value));
	}
	for (uint32_t phase = 0; phase < QAT_PHASES && !rc; phase++) {
		qat_runtime now = rt ? *rt : (qat_runtime){ .seed = 0 };

		rc = qat_exec_run(x, phase, &now);
		if (now.bad_node != QAT_NONE)
			out->bad_node = now.bad_node;
	}
	return rc;
}

static int read_back(kit_result *out, const kit *k, qat_exec *x, const int64_t *ids, int64_t n)
{
	int rc = QAT_OK;

	out->data = calloc((size_t)out->n_values + 1, sizeof *out->data);
	ck_assert_ptr_nonnull(out->data);
	for (int64_t i = 0; i < n && !rc; i++) {
		const int64_t bytes = qat_value_bytes(k->g->values[ids[i]]);

		out->data[ids[i]] = calloc(1, (size_t)bytes + 1);
		ck_assert_ptr_nonnull(out->data[ids[i]]);
		rc = qat_exec_read(x, ids[i], out->data[ids[i]], bytes);
	}
	return rc;
}

void kit_run(kit_result *out, const kit *k, qat_device *d, const qat_runtime *rt)
{
	const int64_t most = k->g->graph.n_values + 1;
	int64_t *ids = malloc((size_t)most * sizeof *ids), n;
	qat_exec *x = NULL;

	ck_assert_ptr_nonnull(ids);
	*out = (kit_result){ .n_values = k->g->graph.n_values, .bad_node = QAT_NONE };
	n = kept(k, ids);
	out->rc = qat_exec_new(&x, d, k->g, ids, n, find, (void *)k);
	if (!out->rc)
		out->rc = run_phases(out, k, x, rt);
	if (!out->rc || out->rc == QAT_ENUMERIC) {
		const int rc = read_back(out, k, x, ids, n);

		out->rc = out->rc ? out->rc : rc;
	}
	if (out->rc)
		snprintf(out->error, sizeof out->error, "%s", qat_error());
	qat_exec_free(x);
	free(ids);
}

void kit_result_free(kit_result *r)
{
	for (int64_t i = 0; r->data && i < r->n_values; i++)
		free(r->data[i]);
	free(r->data);
	r->data = NULL;
}

double kit_number(const qat_value *v, const void *data, int64_t i)
{
	switch (v->dtype) {
	case QAT_F32:  return ((const float *)data)[i];
	case QAT_BF16: return qat_bf16_to_f32(((const uint16_t *)data)[i]);
	case QAT_F16:  return qat_f16_to_f32(((const uint16_t *)data)[i]);
	case QAT_F64:  return ((const double *)data)[i];
	case QAT_I8:   return ((const int8_t *)data)[i];
	case QAT_U8:   return ((const uint8_t *)data)[i];
	default:       return ((const int32_t *)data)[i];
	}
}

int kit_same_outputs(const kit *k, const kit_result *a, const kit_result *b)
{
	const qat_node *n = k->g->nodes[0];

	for (int o = 0; o < n->n_out; o++) {
		const qat_value *v = k->g->values[n->out[o]];

		for (int64_t i = 0; i < qat_value_elements(v); i++) {
			const double x = kit_number(v, a->data[v->id], i);
			const double y = kit_number(v, b->data[v->id], i);

			if (!(x == y) && !(isnan(x) && isnan(y)))
				return 0;
		}
	}
	return 1;
}
