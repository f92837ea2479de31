/* fake_graph.h - a graph service that only writes down what a model asks for. It checks
 * what any builder would: ids that exist, parameters that the model declared.
 */
#ifndef QAT_TEST_FAKE_GRAPH_H
#define QAT_TEST_FAKE_GRAPH_H

#include "plugin_host.h"

#include <qatrun/graph.h>
#include <qatrun/model.h>

enum { FAKE_MAX = 512 };

typedef struct fake_node {
	uint32_t op;
	qat_attr attr;
	int64_t n_in, in[QAT_MAX_IN], out;
	char site[64];
} fake_node;

typedef struct fake_param {
	qat_param p;
	char name[64], hub[96];
	int used;
} fake_param;

static fake_node fake_nodes[FAKE_MAX];
static fake_param fake_params[FAKE_MAX];
static int fake_n_nodes, fake_n_params, fake_residuals;
static int64_t fake_values, fake_batch = 2, fake_length = 3;
static const char *fake_missing;		/* param() fails for this name */

/* Content of the constants, in order. */
static struct { char name[32]; uint32_t dtype; int64_t shape[2]; void *data; } fake_consts[4];
static int fake_n_consts;

static inline int fake_add(void *to, const qat_param *p)
{
	fake_param *f = &fake_params[fake_n_params++];

	(void)to;
	ck_assert_int_le(fake_n_params, FAKE_MAX);
	ck_assert_uint_eq(p->size, sizeof *p);
	f->p = *p;
	f->used = 0;
	snprintf(f->name, sizeof f->name, "%s", p->name);
	snprintf(f->hub, sizeof f->hub, "%s", p->hub_name);
	for (int i = 0; i + 1 < fake_n_params; i++)
		ck_assert_str_ne(f->name, fake_params[i].name);
	return QAT_OK;
}

static inline fake_param *fake_find(const char *name)
{
	for (int i = 0; i < fake_n_params; i++)
		if (!strcmp(fake_params[i].name, name))
			return &fake_params[i];
	ck_abort_msg("no parameter %s", name);
	return NULL;
}

static int64_t fake_param_value(qat_builder *b, const char *name)
{
	(void)b;
	if (fake_missing && !strcmp(name, fake_missing))
		return QAT_ENOTFOUND;
	fake_find(name)->used++;
	return fake_values++;
}

static int64_t fake_constant(qat_builder *b, const char *name, uint32_t dtype, int64_t rank,
			     const int64_t *shape, const void *data)
{
	size_t bytes = (size_t)qat_dtype_bytes(dtype);

	(void)b;
	for (int64_t i = 0; i < rank; i++)
		bytes *= (size_t)shape[i];
	ck_assert_int_lt(fake_n_consts, 4);
	snprintf(fake_consts[fake_n_consts].name, sizeof fake_consts[0].name, "%s", name);
	fake_consts[fake_n_consts].dtype = dtype;
	fake_consts[fake_n_consts].shape[0] = shape[0];
	fake_consts[fake_n_consts].shape[1] = rank > 1 ? shape[1] : 1;
	fake_consts[fake_n_consts].data = malloc(bytes);
	memcpy(fake_consts[fake_n_consts++].data, data, bytes);
	return fake_values++;
}

static int64_t fake_input(qat_builder *b, uint32_t which)
{
	(void)b;
	ck_assert_uint_eq(which, QAT_INPUT_TOKENS);
	return fake_values++;
}

static int64_t fake_node_new(qat_builder *b, uint32_t op, const qat_attr *attr, int64_t n_in,
			     const int64_t *in, int64_t *out, const char *site)
{
	const int64_t n_out = op == QAT_OP_SPLIT ? attr->split.count : 1;
	fake_node *n = &fake_nodes[fake_n_nodes];

	(void)b;
	ck_assert_int_lt(fake_n_nodes, FAKE_MAX);
	ck_assert_int_le(n_in, QAT_MAX_IN);
	for (int64_t i = 0; i < n_in; i++) {
		if (in[i] < 0)
			return in[i];
		ck_assert(in[i] < fake_values || in[i] == QAT_ABSENT);
	}
	memset(n, 0, sizeof *n);
	n->op = op;
	if (attr)
		n->attr = *attr;
	n->n_in = n_in;
	memcpy(n->in, in, (size_t)n_in * sizeof *in);
	n->out = fake_values;
	snprintf(n->site, sizeof n->site, "%s", site ? site : "");
	for (int64_t i = 0; i < n_out && out; i++)
		out[i] = fake_values + i;
	fake_values += n_out;
	return fake_nodes[fake_n_nodes++].out;
}

static int64_t fake_residual(qat_builder *b, int64_t value)
{
	(void)b;
	fake_residuals += value >= 0;
	return value;
}

static int64_t fake_get_batch(const qat_builder *b)
{
	(void)b;
	return fake_batch;
}

static int64_t fake_get_length(const qat_builder *b)
{
	(void)b;
	return fake_length;
}

static int64_t fake_positions(qat_builder *b)
{
	const int64_t n = fake_batch * fake_length;
	int32_t *at = calloc((size_t)n, sizeof *at);
	int64_t id;

	ck_assert_ptr_nonnull(at);
	for (int64_t i = 0; i < n; i++)
		at[i] = (int32_t)(i % fake_length);
	id = fake_constant(b, "positions.ids", QAT_I32, 1, &n, at);
	free(at);
	return id;
}

static const qat_graph_api fake_api = {
	.size = sizeof(qat_graph_api), .param = fake_param_value, .constant = fake_constant,
	.input = fake_input, .node = fake_node_new, .residual = fake_residual,
	.batch = fake_get_batch, .length = fake_get_length, .positions = fake_positions,
	.context = fake_get_length,
};

static inline void fake_clear(void)
{
	for (int i = 0; i < fake_n_consts; i++)
		free(fake_consts[i].data);
	fake_n_nodes = fake_n_params = fake_residuals = fake_n_consts = 0;
	fake_values = 0;
	fake_missing = NULL;
	host_graph = &fake_api;
}

/* The ops must be those of `want`, which 0 ends. */
static inline void fake_expect(const uint32_t *want)
{
	int n = 0;

	for (; want[n]; n++) {
		ck_assert_int_lt(n, fake_n_nodes);
		ck_assert_msg(fake_nodes[n].op == want[n], "node %d is op %u, not %u", n,
			      fake_nodes[n].op, want[n]);
	}
	ck_assert_int_eq(n, fake_n_nodes);
}

static inline const fake_node *fake_site(const char *site)
{
	for (int i = 0; i < fake_n_nodes; i++)
		if (!strcmp(fake_nodes[i].site, site))
			return &fake_nodes[i];
	ck_abort_msg("no node at %s", site);
	return NULL;
}

#endif
