/* fuzz_config.c - a config.json, read as each model family reads it: options, checks, the
 * parameters that follow, and the graph where it is small. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <qatrun/model.h>

#include "ir.h"
#include "option.h"

extern const qat_plugin plugin_llama, plugin_gpt2;

enum { LAYERS = 4, PARAMS = 64 };

typedef struct names {
	qat_param at[PARAMS];
	int64_t count;
	qat_arena *arena;
} names;

static int add(void *to, const qat_param *p)
{
	names *n = to;

	fuzz_assert(p->rank >= 1 && p->rank <= 2 && p->name && p->hub_name);
	for (int64_t i = 0; i < p->rank; i++)
		fuzz_assert(p->shape[i] > 0 && p->shape[i] < INT64_C(1) << 40);
	if (n->count == PARAMS)
		return QAT_ENOMEM;
	n->at[n->count] = *p;
	n->at[n->count].name = qat_arena_text(n->arena, p->name);
	n->count++;
	return QAT_OK;
}

static const qat_param *find(void *context, const char *name)
{
	const names *n = context;

	for (int64_t i = 0; i < n->count; i++)
		if (!strcmp(n->at[i].name, name))
			return &n->at[i];
	return NULL;
}

static void build(const qat_model *m, const void *self, names *n)
{
	qat_ir *g = qat_ir_new(1, 3, QAT_F32);
	qat_outputs out = { .size = sizeof out };

	fuzz_assert(g);
	g->find_param = find;
	g->context = n;
	if (!m->build(self, g, &out))
		fuzz_assert(!g->error && out.hidden >= 0 && out.head >= 0);
	qat_ir_free(g);
}

static void read_as(const qat_interface *i, const json_t *config)
{
	const qat_model *m = i->vtable;
	qat_model_info info = { .size = sizeof info };
	qat_option_env env = { .folder = "/" };
	qat_option_source none = { .owner = "config.json" };
	names n = { .count = 0 };
	void *self;

	fuzz_assert(!qat_arena_new(&env.arena));
	n.arena = env.arena;
	self = qat_arena_alloc(env.arena, i->options_size);
	fuzz_assert(self && !qat_option_fill(self, i->options, &none, &env));
	if (!qat_option_fill_json(self, i->options, config, "config.json", &env) &&
	    !m->check(self, &info)) {
		fuzz_assert(info.vocabulary > 0 && info.hidden > 0 && info.layers > 0);
		if (info.layers <= LAYERS && !m->params(self, add, &n) &&
		    info.hidden <= 1 << 16)
			build(m, self, &n);
	}
	qat_arena_free(env.arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const qat_interface *families[2];
	json_t *config = json_loadb((const char *)data, size, 0, NULL);

	if (!families[0]) {
		families[0] = fuzz_interface(&plugin_llama);
		families[1] = fuzz_interface(&plugin_gpt2);
	}
	for (int i = 0; i < 2 && config; i++)
		read_as(families[i], config);
	json_decref(config);
	return 0;
}
