/* session_graph.c - from a model to the graph of a session: its network and loss, schemes at the
 * sites, types, and where it trains gradients and updates. */
#include "session_internal.h"

#include "error.h"

static const qat_param *find_param(void *context, const char *name)
{
	const qat_param_state *p = qat_state_param(context, name);

	return p ? &p->info : NULL;
}

int qat_session_can_map(const qat_context *c, const qat_param_state *p)
{
	const int64_t size = qat_dtype_bytes(p->at.dtype);

	return c->device.api->import && !p->codes && p->at.data &&
	       (p->at.dtype == QAT_F32 || p->at.dtype == QAT_BF16) &&
	       (uintptr_t)p->at.data % (uintptr_t)size == 0;
}

/* Asked of frozen parameters only: those under training are f32 masters. Matrices in bf16
 * are used as they are; vectors are small. */
static int stored(void *context, const char *name, qat_stored *out)
{
	const qat_session *x = context;
	const qat_param_state *p = qat_state_param(x->state, name);

	if (!p)
		return QAT_OK;
	if (x->expected == QAT_EXPECT_CODES)
		return qat_placement_weight(&out->scheme, (qat_placement *)&x->placement, p);
	if (x->expected)
		return QAT_OK;
	out->scheme = p->codes;
	if (qat_session_can_map(x->context, p) && p->at.dtype == QAT_BF16 && p->info.rank == 2)
		out->dtype = QAT_BF16;
	return QAT_OK;
}

static int find_scheme(void *context, const qat_site *site, const qat_scheme_set **out)
{
	return qat_placement_find(&((qat_session *)context)->placement, site, out);
}

/* Parameters are f32 that are trained, here or by whom they are shared with. */
static int has_masters(const qat_session *x)
{
	return qat_session_is_training(x) || (x->shared && has_masters(x->shared));
}

static int build_model(qat_session *x, qat_outputs *out)
{
	const qat_model *m = x->state->model.vtable;
	int rc;

	x->model = qat_ir_new(x->spec.batch, x->spec.length,
			      (uint32_t)x->context->p->device.precision);
	if (!x->model)
		return qat_fail(QAT_ENOMEM, "session: out of memory");
	x->model->find_param = find_param;
	x->model->context = (void *)x->state;
	x->model->cache = qat_session_is_generating(x) ? x->spec.context : 0;
	out->size = sizeof *out;
	rc = m->build(x->state->model.self, x->model, out);
	if (!rc)
		rc = x->model->error;
	if (rc)
		return rc;
	return qat_session_is_generating(x)
	     ? qat_generation_head(x, out)
	     : qat_ir_loss(x->model, &x->loss, out, x->spec.logits != 0);
}

static int prepare_how(const qat_session *x)
{
	return qat_session_is_training(x) ? QAT_PREPARE_TRAIN
	     : x->spec.mode == QAT_SESSION_CALIBRATE ? QAT_PREPARE_CALIBRATE : QAT_PREPARE_PLAIN;
}

/* Asked for, and to be had at one site at least. */
static int check_gradients(const qat_session *x)
{
	for (int64_t i = 0; i < x->ir->graph.n_nodes; i++)
		if (x->ir->graph.nodes[i]->op == QAT_OP_QMATMUL_GRAD)
			return QAT_OK;
	return qat_fail(QAT_EINVAL, "gradient_bits: no site has a weight with one scale for a row, "
			"or an input with one for a token, both sides being integers without zero "
			"points: leave it out, or choose such schemes");
}

static int differentiate(qat_session *x)
{
	int rc;

	x->ir->gradient_bits = x->spec.gradient_bits;
	rc = qat_ir_differentiate(x->ir, &x->loss, x->spec.accumulate > 1, &x->trained,
				  &x->n_trained);
	if (!rc && x->spec.gradient_bits)
		rc = check_gradients(x);
	return rc ? rc : qat_ir_optimize(x->ir, x->spec.optimizer, x->trained, x->n_trained);
}

int qat_session_build(qat_session *x)
{
	const int masters = has_masters(x);
	qat_outputs out = { 0 };
	int rc = build_model(x, &out);

	if (!rc)
		rc = qat_ir_prepare(&x->prepared, x->model, &x->loss, find_scheme,
				    masters ? NULL : stored, x, prepare_how(x));
	if (!rc)
		rc = qat_ir_precision(&x->ir, x->prepared, &x->loss);
	if (!rc && qat_session_is_training(x))
		rc = differentiate(x);
	return rc;
}
