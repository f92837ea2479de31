/* session_save.c - what a session's parameters and observed ranges are now, as a state. */
#include "session_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/numerics.h>

#include "error.h"

/* Scale and zero point of each block of an observed range, as tensors to save. */
static int ranges_of(qat_session *x, const qat_node *n, qat_tensor *scale, qat_tensor *zero)
{
	const qat_scheme *s = n->schemes[0]->schemes[0];
	const qat_value *v = x->ir->graph.values[n->in[1]];
	const int64_t blocks = v->shape[0];
	float *range = malloc((size_t)qat_value_bytes(v));
	int rc = range && scale->data && zero->data ? QAT_OK
		: qat_fail(QAT_ENOMEM, "session: out of memory");

	if (!rc)
		rc = qat_exec_read(x->exec, n->in[1], range, qat_value_bytes(v));
	for (int64_t b = 0; b < blocks && !rc; b++) {
		const float lo = range[2 * b], hi = range[2 * b + 1];
		const float amax = -lo > hi ? -lo : hi;
		const qat_block_stats stats = { .amax = amax, .extreme = -lo > hi ? lo : hi,
						.lo = lo, .hi = hi,
						.bad = !(lo <= hi && isfinite(lo) && isfinite(hi)) };
		float z = 0.0f;

		if (stats.bad)
			rc = qat_fail(QAT_ENUMERIC, "%s: no finite range was seen", n->name);
		((float *)scale->data)[b] = s->scale_rule == QAT_SCALE_TWO_LEVEL
			? qat_second_scale(s, amax, 0) : qat_block_scale(s, &stats, &z);
		if (s->zero == QAT_ZERO_INT)
			((int8_t *)zero->data)[b] = (int8_t)z;
		else
			((float *)zero->data)[b] = z;
	}
	free(range);
	return rc;
}

static int add_range(qat_session *x, const qat_node *n, qat_tensor *t)
{
	const qat_scheme *s = n->schemes[0]->schemes[0];
	const int64_t blocks = x->ir->graph.values[n->in[1]]->shape[0];
	const char *const site = x->ir->sites[n->site];
	const char *const port = n->attr.observe.port == QAT_PORT_KV ? "kv" : "input";
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
	if (!s->zero) {		/* not saved: the next range takes its place */
		free(t[1].data);
		t[1].data = NULL;
	}
	return rc;
}

/* Each parameter as it is now, one after the other. */
static int gather(qat_session *x, qat_tensor *tensors, const qat_tensor **at)
{
	for (int64_t i = 0; i < x->state->n_params; i++) {
		const qat_param_state *p = &x->state->params[i];
		const int64_t v = qat_session_find(x, p->info.name);
		qat_tensor *t = &tensors[i];
		int rc = QAT_OK;

		*t = (qat_tensor){ .size = sizeof *t, .dtype = QAT_F32, .rank = p->info.rank,
				   .name = p->info.name,
				   .bytes = qat_param_elements(&p->info) * 4 };
		memcpy(t->shape, p->info.shape, sizeof t->shape);
		t->data = malloc((size_t)t->bytes);
		at[i] = t;
		if (!t->data)
			return qat_fail(QAT_ENOMEM, "%s: out of memory", p->info.name);
		if (v != QAT_NONE)
			rc = qat_exec_read(x->exec, v, t->data, t->bytes);
		else
			rc = qat_state_read(x->state, p, t->data);
		if (rc)
			return rc;
	}
	return QAT_OK;
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

/* Ranges just measured, or those that the state has; *n more tensors. */
static int add_ranges(qat_session *x, qat_tensor *tensors, const qat_tensor **at, size_t *n)
{
	qat_tensor *known;
	int64_t n_known = 0;
	int rc = QAT_OK;

	if (x->spec.mode != QAT_SESSION_CALIBRATE) {
		rc = qat_state_ranges(&known, &n_known, x->state, x->arena);
		for (int64_t i = 0; i < n_known && !rc; i++)
			at[(*n)++] = &known[i];
		return rc;
	}
	for (int64_t i = 0; i < x->ir->graph.n_nodes && !rc; i++) {
		const qat_node *node = x->ir->graph.nodes[i];

		if (node->op != QAT_OP_OBSERVE)
			continue;
		rc = add_range(x, node, &tensors[*n]);
		at[*n] = &tensors[*n];
		at[*n + 1] = &tensors[*n + 1];
		*n += node->schemes[0]->schemes[0]->zero ? 2 : 1;
	}
	return rc;
}

int qat_session_save(qat_session *x, const char *folder, int64_t tokens_trained)
{
	const size_t room = (size_t)(x->state->n_params + 2 * x->ir->graph.n_nodes) + 1;
	qat_tensor *tensors = calloc(room, sizeof *tensors);
	const qat_tensor **at = calloc(room, sizeof *at);
	qat_checkpoint c = { .size = sizeof c, .family = x->state->family, .tensors = at };
	size_t n = (size_t)x->state->n_params;
	char *doc = NULL;
	int rc = tensors && at ? gather(x, tensors, at)
			       : qat_fail(QAT_ENOMEM, "save: out of memory");

	if (!rc)
		rc = add_ranges(x, tensors, at, &n);
	memcpy(c.docs, x->state->docs, sizeof c.docs);
	if (!rc)
		rc = write_doc(x, &doc, &c.docs[QAT_DOC_TOKENIZER], tokens_trained);
	if (!rc) {
		c.n_tensors = (int64_t)n;
		c.docs[QAT_DOC_STATE] = (qat_text){ doc, (int64_t)strlen(doc) };
		rc = x->context->native->save(folder, &c);
	}
	for (size_t i = 0; tensors && i < room; i++)
		free(tensors[i].data);
	free(tensors);
	free(at);
	free(doc);
	return rc;
}
