/* session_save.c - what a session's parameters and observed ranges are now, as a state. */
#include "session_internal.h"

#include <stdlib.h>
#include <string.h>

#include <qatrun/numerics.h>

#include "error.h"
#include "hash.h"
#include "range.h"

static void put_range(const qat_scheme *s, const qat_block_stats *b, int64_t k,
		      qat_tensor *scale, qat_tensor *zero)
{
	const int two = s->scale_rule == QAT_SCALE_TWO_LEVEL;
	float z = 0.0f;

	((float *)scale->data)[k] = two ? qat_second_scale(s, b->amax, 0)
					: qat_block_scale(s, b, &z);
	if (s->zero == QAT_ZERO_INT)
		((int8_t *)zero->data)[k] = (int8_t)z;
	else
		((float *)zero->data)[k] = z;
}

/* Scale and zero point of each block of an observed range, as tensors to save. */
static int ranges_of(qat_session *x, const qat_node *n, qat_tensor *scale, qat_tensor *zero)
{
	const int64_t blocks = x->ir->graph.values[n->in[1]]->shape[0];
	const int counted = n->n_in > 2 && n->in[2] != QAT_NONE;
	float *range = malloc((size_t)blocks * 2 * sizeof *range);
	double *counts = malloc((size_t)(counted ? blocks * QAT_COUNTS : 1) * sizeof *counts);
	int rc = range && counts && scale->data && zero->data ? QAT_OK
		: qat_fail(QAT_ENOMEM, "session: out of memory");

	if (!rc)
		rc = qat_exec_read(x->exec, n->in[1], range, blocks * 2 * (int64_t)sizeof *range);
	if (!rc && counted)
		rc = qat_exec_read(x->exec, n->in[2], counts,
				   blocks * QAT_COUNTS * (int64_t)sizeof *counts);
	for (int64_t k = 0; k < blocks && !rc; k++) {
		const qat_scheme *s = n->schemes[0]->schemes[0];
		qat_block_stats b;

		if (qat_range_stats(&b, s, range + 2 * k, counted ? counts + k * QAT_COUNTS : NULL))
			put_range(s, &b, k, scale, zero);
		else
			rc = qat_fail(QAT_ENUMERIC, "%s: no finite range was seen", n->name);
	}
	free(range);
	free(counts);
	return rc;
}

/* What goes into a file, while it is gathered. */
typedef struct parcel {
	qat_tensor *tensors;
	void **owned;			/* copies that tensors point at */
	const qat_tensor **at;
	size_t n;
	qat_session *session;
	void *lent;			/* content() */
} parcel;

static void parcel_free(parcel *p)
{
	for (size_t i = 0; p->owned && i < p->n; i++)
		free(p->owned[i]);
	free(p->tensors);
	free(p->owned);
	free(p->at);
	free(p->lent);
}

static int parcel_new(parcel *p, size_t room)
{
	*p = (parcel){ .tensors = calloc(room, sizeof *p->tensors),
		       .owned = calloc(room, sizeof *p->owned),
		       .at = calloc(room, sizeof *p->at) };
	return p->tensors && p->owned && p->at ? QAT_OK
		: qat_fail(QAT_ENOMEM, "save: out of memory");
}

static void put(parcel *p, const qat_tensor *t, void *owned)
{
	p->tensors[p->n] = *t;
	p->owned[p->n] = owned;
	p->at[p->n] = &p->tensors[p->n];
	p->n++;
}

static int add_range(qat_session *x, const qat_node *n, parcel *p)
{
	const qat_scheme *s = n->schemes[0]->schemes[0];
	const int64_t blocks = x->ir->graph.values[n->in[1]]->shape[0];
	const char *const site = x->ir->sites[n->site];
	const char *const port = n->attr.observe.port == QAT_PORT_KV ? "kv" : "input";
	qat_tensor t[2];
	int rc;

	for (int i = 0; i < 2; i++) {
		t[i] = (qat_tensor){ .size = sizeof *t, .dtype = i ? qat_zero_dtype(s) : QAT_F32,
				     .rank = 2, .shape = { blocks, 1, 1, 1 } };
		t[i].bytes = blocks * qat_dtype_bytes(t[i].dtype);
		t[i].data = calloc((size_t)blocks, sizeof(float));
		t[i].name = qat_arena_format(x->arena, "%s.%s.%s", site, port,
					     i ? "zero" : "scale");
	}
	rc = ranges_of(x, n, &t[0], &t[1]);
	put(p, &t[0], t[0].data);
	if (s->zero)
		put(p, &t[1], t[1].data);
	else
		free(t[1].data);
	return rc;
}

/* t->data becomes what lies there: the memory itself where the host can see it, else a
 * copy, which *copy owns. */
static int look_at(qat_session *x, qat_tensor *t, void **copy, int64_t value)
{
	t->data = qat_exec_host(x->exec, value);
	if (t->data)
		return QAT_OK;
	t->data = *copy = malloc((size_t)t->bytes);
	if (!t->data)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", t->name);
	return qat_exec_read(x->exec, value, t->data, t->bytes);
}

/* A parameter that is not in memory as such. */
static int read_param(const qat_session *x, const qat_tensor *t, void **copy)
{
	free(*copy);
	*copy = malloc((size_t)t->bytes);
	if (!*copy)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", t->name);
	return qat_state_read(x->state, qat_state_param(x->state, t->name), *copy);
}

/* A qat_checkpoint's. */
static int content(void *context, int64_t index, const void **data)
{
	parcel *p = context;
	const int rc = read_param(p->session, p->at[index], &p->lent);

	*data = p->lent;
	return rc;
}

/* Each parameter as it is now, one after the other. later: those that have to be read are
 * left to content(). */
static int gather(qat_session *x, parcel *to, int later)
{
	int rc = QAT_OK;

	for (int64_t i = 0; i < x->state->n_params && !rc; i++) {
		const qat_param_state *p = &x->state->params[i];
		const int64_t v = qat_session_find(x, p->info.name);
		qat_tensor t = { .size = sizeof t, .dtype = QAT_F32, .rank = p->info.rank,
				 .name = p->info.name,
				 .bytes = qat_param_elements(&p->info) * 4 };
		void *copy = NULL;

		memcpy(t.shape, p->info.shape, sizeof t.shape);
		if (v != QAT_NONE && x->ir->graph.values[v]->dtype == QAT_F32) {
			rc = look_at(x, &t, &copy, v);
		} else if (!later) {
			rc = read_param(x, &t, &copy);
			t.data = copy;
		}
		put(to, &t, copy);
	}
	return rc;
}

static int write_doc(const qat_session *x, char **doc, qat_text *tokenizer,
		     int64_t tokens_trained)
{
	qat_state_doc d = {
		.family = x->state->family, .parent = x->state->name,
		.precision = (uint32_t)x->context->p->device.precision,
		.tokens_trained = x->state->tokens_trained + tokens_trained,
		.placed = x->placement.placed, .n_placed = x->placement.n_placed,
	};

	qat_context_tokenizer_of(x->context, x->state, tokenizer, &d.tokenizer);
	return qat_state_doc_write(doc, &d);
}

/* Ranges just measured, or those that the state has. */
static int add_ranges(qat_session *x, parcel *p)
{
	qat_tensor *known;
	int64_t n_known = 0;
	int rc = QAT_OK;

	if (x->spec.mode != QAT_SESSION_CALIBRATE) {
		rc = qat_state_ranges(&known, &n_known, x->state, x->arena);
		for (int64_t i = 0; i < n_known && !rc; i++)
			put(p, &known[i], NULL);
		return rc;
	}
	for (int64_t i = 0; i < x->ir->graph.n_nodes && !rc; i++)
		if (x->ir->graph.nodes[i]->op == QAT_OP_OBSERVE)
			rc = add_range(x, x->ir->graph.nodes[i], p);
	return rc;
}

/* What a training session keeps beside the parameters. */
static int add_lasting(qat_session *x, parcel *p)
{
	const qat_lasting *all;
	int64_t n;
	int rc = qat_session_lasting(x, &all, &n);

	for (int64_t i = 0; i < n && !rc; i++) {
		const qat_value *v = x->ir->graph.values[all[i].value];
		qat_tensor t = { .size = sizeof t, .dtype = v->dtype, .rank = v->rank,
				 .name = all[i].name, .bytes = qat_value_bytes(v) };
		void *copy = NULL;

		memcpy(t.shape, v->shape, sizeof t.shape);
		rc = look_at(x, &t, &copy, all[i].value);
		put(p, &t, copy);
	}
	return rc;
}

uint64_t qat_tensor_hash(const qat_tensor *t)
{
	qat_hash h;

	qat_hash_begin(&h);
	qat_hash_add(&h, t->name, (int64_t)strlen(t->name) + 1);
	qat_hash_add(&h, &t->dtype, sizeof t->dtype);
	qat_hash_add(&h, t->shape, t->rank * (int64_t)sizeof *t->shape);
	qat_hash_add(&h, t->data, t->bytes);
	return qat_hash_end(&h);
}

/* hash NULL: a state; else a checkpoint, which is a state and more. */
static int save(qat_session *x, const char *folder, int64_t tokens_trained, uint64_t *hash)
{
	const qat_graph *g = &x->ir->graph;
	qat_checkpoint c = { .size = sizeof c, .family = x->state->family };
	char *doc = NULL;
	parcel p;
	const int later = !hash && qat_format_lends(x->context->native);
	int rc = parcel_new(&p, (size_t)(x->state->n_params + 2 * g->n_nodes + g->n_values) + 1);

	p.session = x;
	if (!rc)
		rc = gather(x, &p, later);
	if (!rc)
		rc = add_ranges(x, &p);
	if (!rc && hash)
		rc = add_lasting(x, &p);
	memcpy(c.docs, x->state->docs, sizeof c.docs);
	if (!rc)
		rc = write_doc(x, &doc, &c.docs[QAT_DOC_TOKENIZER], tokens_trained);
	if (!rc) {
		c.tensors = p.at;
		c.n_tensors = (int64_t)p.n;
		c.content = later ? content : NULL;
		c.context = &p;
		c.docs[QAT_DOC_STATE] = (qat_text){ doc, (int64_t)strlen(doc) };
		rc = x->context->native->save(folder, &c);
	}
	if (!rc && hash)	/* a sum, so that the order in the file does not matter */
		for (size_t i = 0; i < p.n; i++)
			*hash += qat_tensor_hash(p.at[i]);
	parcel_free(&p);
	free(doc);
	return rc;
}

int qat_session_save(qat_session *x, const char *folder, int64_t tokens_trained)
{
	return save(x, folder, tokens_trained, NULL);
}

int qat_session_save_whole(qat_session *x, const char *folder, int64_t tokens_trained,
			   uint64_t *hash)
{
	*hash = 0;
	return save(x, folder, tokens_trained, hash);
}
