/* step_rows.c - ops that see a row at a time: norms, rotary positions, embeddings, the
 * loss of logits, columns, sums over rows. */
#include "cpu.h"

/* ---- norms ---- */

static void fill_norm(const qat_cpu_site *c, qat_norm_args *a, int centered)
{
	const qat_value *x = qat_cpu_in(c, 0);

	*a = (qat_norm_args){
		.rows = x->shape[0], .channels = x->shape[1],
		.epsilon = c->n->attr.norm.epsilon,
		.plus_one = c->n->attr.norm.plus_one != 0, .centered = centered,
		.x = qat_cpu_src(c, 0), .w = qat_cpu_src(c, 1),
	};
}

static int prepare_layer_norm(const qat_cpu_site *c, qat_cpu_step *s)
{
	qat_norm_args *a = &s->u.norm;

	fill_norm(c, a, 1);
	a->b = qat_cpu_src(c, 2);
	a->y = qat_cpu_dst(c, 0);
	a->mean = qat_cpu_out_data(c, 1);
	a->rstd = qat_cpu_out_data(c, 2);
	return QAT_OK;
}

static int prepare_rms_norm(const qat_cpu_site *c, qat_cpu_step *s)
{
	qat_norm_args *a = &s->u.norm;

	fill_norm(c, a, 0);
	a->y = qat_cpu_dst(c, 0);
	a->rstd = qat_cpu_out_data(c, 1);
	return QAT_OK;
}

/* `at`: the input that is rstd; dy and the residual come after it. */
static int prepare_norm_grad(const qat_cpu_site *c, qat_cpu_step *s, int at)
{
	qat_norm_args *a = &s->u.norm;

	fill_norm(c, a, at == 3);
	a->mean = at == 3 ? qat_cpu_in_data(c, 2) : NULL;
	a->rstd = qat_cpu_in_data(c, at);
	a->dy = qat_cpu_src(c, at + 1);
	a->residual = qat_cpu_src(c, at + 2);
	a->dx = qat_cpu_dst(c, 0);
	a->dw = qat_cpu_out_data(c, 1);
	a->db = qat_cpu_out_data(c, 2);
	a->workspace = qat_cpu_work(c, &s->workspace, c->cpu->kernels->norm->grad_workspace(
					    a->rows, a->channels));
	return QAT_OK;
}

static int prepare_layer_norm_grad(const qat_cpu_site *c, qat_cpu_step *s)
{
	return prepare_norm_grad(c, s, 3);
}

static int prepare_rms_norm_grad(const qat_cpu_site *c, qat_cpu_step *s)
{
	return prepare_norm_grad(c, s, 2);
}

static int run_norm(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	(void)rt;
	cpu->kernels->norm->run(&s->u.norm);
	return QAT_OK;
}

static int run_norm_grad(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	(void)rt;
	cpu->kernels->norm->grad(&s->u.norm);
	return QAT_OK;
}

const qat_cpu_op qat_cpu_layer_norm = { "eee", "eff", prepare_layer_norm, run_norm, NULL };
const qat_cpu_op qat_cpu_rms_norm = { "ee", "ef", prepare_rms_norm, run_norm, NULL };
const qat_cpu_op qat_cpu_layer_norm_grad = { "eeffee", "eff", prepare_layer_norm_grad,
					     run_norm_grad, NULL };
const qat_cpu_op qat_cpu_rms_norm_grad = { "eefee", "ef", prepare_rms_norm_grad, run_norm_grad,
					   NULL };

/* ---- rotary positions ---- */

static int prepare_rope(const qat_cpu_site *c, qat_cpu_step *s)
{
	const qat_value *x = qat_cpu_in(c, 0);
	const int64_t d = c->n->attr.rope.head_dim;

	s->u.rows = (qat_cpu_rows){
		.y = qat_cpu_dst(c, 0), .x = qat_cpu_src(c, 0), .cosine = qat_cpu_in_data(c, 1),
		.sine = qat_cpu_in_data(c, 2), .n = x->shape[0], .length = c->g->length,
		.table = qat_cpu_in(c, 1)->shape[0], .heads = x->shape[1] / d, .head_dim = d, .inverse = c->n->attr.rope.inverse != 0,
	};
	return QAT_OK;
}

static int run_rope(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_rows *r = &s->u.rows;
	const int64_t first = rt->position * (r->head_dim / 2);

	if (rt->position < 0 || rt->position > r->table - r->length)
		return qat_fail(QAT_EINVAL, "cpu: position %lld is outside of the rotary tables",
				(long long)rt->position);
	cpu->kernels->row->rope(r->y, r->x, r->cosine + first, r->sine + first, r->n, r->length,
				r->heads, r->head_dim, r->inverse);
	return QAT_OK;
}

const qat_cpu_op qat_cpu_rope = { "eff", "e", prepare_rope, run_rope, NULL };

/* ---- embeddings ---- */

static int prepare_embedding(const qat_cpu_site *c, qat_cpu_step *s)
{
	const qat_value *table = qat_cpu_in(c, 0);

	s->u.rows = (qat_cpu_rows){
		.y = qat_cpu_dst(c, 0), .x = qat_cpu_src(c, 0), .ids = qat_cpu_in_data(c, 1),
		.n = qat_value_elements(qat_cpu_in(c, 1)), .channels = table->shape[1],
		.table = table->shape[0],
	};
	return QAT_OK;
}

static int prepare_embedding_grad(const qat_cpu_site *c, qat_cpu_step *s)
{
	qat_cpu_rows *r = &s->u.rows;
	const qat_value *dy = qat_cpu_in(c, 1);

	*r = (qat_cpu_rows){
		.y = qat_cpu_dst(c, 0), .x = qat_cpu_src(c, 1), .ids = qat_cpu_in_data(c, 0),
		.addend = qat_cpu_in_data(c, 2), .n = dy->shape[0], .channels = dy->shape[1],
		.table = c->n->attr.embedding.rows,
	};
	r->workspace = qat_cpu_work(c, &s->workspace,
				    c->cpu->kernels->row->embedding_grad_workspace(r->n, r->table));
	return QAT_OK;
}

static int run_embedding(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_rows *r = &s->u.rows;

	(void)rt;
	cpu->kernels->row->embedding(r->y, r->x, r->ids, r->n, r->channels, r->table);
	return QAT_OK;
}

static int run_embedding_grad(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_rows *r = &s->u.rows;

	(void)rt;
	cpu->kernels->row->embedding_grad(r->y.data, r->ids, r->x, r->addend, r->n, r->channels,
					  r->table, r->workspace);
	return QAT_OK;
}

const qat_cpu_op qat_cpu_embedding = { "ei", "e", prepare_embedding, run_embedding, NULL };
const qat_cpu_op qat_cpu_embedding_grad = { "ief", "f", prepare_embedding_grad,
					    run_embedding_grad, NULL };

/* ---- the loss of logits ---- */

static int prepare_cross_entropy(const qat_cpu_site *c, qat_cpu_step *s)
{
	const qat_value *logits = qat_cpu_in(c, 0);

	s->u.loss = (qat_cpu_loss){
		.logits = qat_cpu_in_data(c, 0), .labels = qat_cpu_in_data(c, 1),
		.nll = qat_cpu_out_data(c, 0), .lse = qat_cpu_out_data(c, 1),
		.argmax = qat_cpu_out_data(c, 2), .n = logits->shape[0],
		.vocabulary = logits->shape[1],
	};
	return QAT_OK;
}

static int prepare_cross_entropy_grad(const qat_cpu_site *c, qat_cpu_step *s)
{
	const qat_value *logits = qat_cpu_in(c, 0);

	s->u.loss = (qat_cpu_loss){
		.logits = qat_cpu_in_data(c, 0), .labels = qat_cpu_in_data(c, 1),
		.lse_in = qat_cpu_in_data(c, 2), .g = qat_cpu_in_data(c, 3),
		.d = qat_cpu_dst(c, 0), .n = logits->shape[0], .vocabulary = logits->shape[1],
	};
	return QAT_OK;
}

static int run_cross_entropy(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_loss *l = &s->u.loss;

	(void)rt;
	cpu->kernels->row->cross_entropy(l->nll, l->lse, l->argmax, l->logits, l->vocabulary,
					 l->labels, l->n, l->vocabulary);
	return QAT_OK;
}

static int run_cross_entropy_grad(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_loss *l = &s->u.loss;

	(void)rt;
	cpu->kernels->row->cross_entropy_grad(l->d, l->vocabulary, l->logits, l->vocabulary, l->labels,
					      l->lse_in, l->g, l->n, l->vocabulary);
	return QAT_OK;
}

const qat_cpu_op qat_cpu_cross_entropy = { "fi", "ffi", prepare_cross_entropy,
					   run_cross_entropy, NULL };
const qat_cpu_op qat_cpu_cross_entropy_grad = { "fiff", "e", prepare_cross_entropy_grad,
						run_cross_entropy_grad, NULL };

/* ---- columns ---- */

static int prepare_split(const qat_cpu_site *c, qat_cpu_step *s)
{
	qat_cpu_columns *t = &s->u.columns;

	t->rows = qat_cpu_in(c, 0)->shape[0];
	t->whole = qat_cpu_in(c, 0)->shape[1];
	t->count = c->n->attr.split.count;
	t->x[0] = qat_cpu_src(c, 0);
	for (int64_t i = 0; i < t->count; i++) {
		t->width[i] = c->n->attr.split.width[i];
		t->y[i] = qat_cpu_dst(c, i);
	}
	return QAT_OK;
}

static int prepare_concat(const qat_cpu_site *c, qat_cpu_step *s)
{
	qat_cpu_columns *t = &s->u.columns;

	t->rows = qat_cpu_out(c, 0)->shape[0];
	t->whole = qat_cpu_out(c, 0)->shape[1];
	t->count = c->n->n_in;
	t->y[0] = qat_cpu_dst(c, 0);
	for (int64_t i = 0; i < t->count; i++) {
		t->width[i] = qat_cpu_in(c, i)->shape[1];
		t->x[i] = qat_cpu_src(c, i);
	}
	return QAT_OK;
}

static int run_split(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_columns *t = &s->u.columns;

	(void)rt;
	for (int64_t i = 0, first = 0; i < t->count; first += t->width[i++])
		cpu->kernels->row->copy_columns(t->y[i], t->width[i], 0, t->x[0], t->whole, first,
						t->rows, t->width[i]);
	return QAT_OK;
}

static int run_concat(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_columns *t = &s->u.columns;

	(void)rt;
	for (int64_t i = 0, at = 0; i < t->count; at += t->width[i++])
		cpu->kernels->row->copy_columns(t->y[0], t->whole, at, t->x[i], t->width[i], 0,
						t->rows, t->width[i]);
	return QAT_OK;
}

const qat_cpu_op qat_cpu_split = { "e", "eeee", prepare_split, run_split, NULL };
const qat_cpu_op qat_cpu_concat = { "eeee", "e", prepare_concat, run_concat, NULL };

/* ---- sums over rows ---- */

static int prepare_reduce_rows(const qat_cpu_site *c, qat_cpu_step *s)
{
	qat_cpu_rows *r = &s->u.rows;
	const qat_value *x = qat_cpu_in(c, 0);

	*r = (qat_cpu_rows){ .y = qat_cpu_dst(c, 0), .x = qat_cpu_src(c, 0),
			     .addend = qat_cpu_in_data(c, 1), .n = x->shape[0],
			     .channels = x->shape[1] };
	r->workspace = qat_cpu_work(c, &s->workspace,
				    c->cpu->kernels->row->reduce_rows_workspace(r->n,
										r->channels));
	return QAT_OK;
}

static int run_reduce_rows(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	const qat_cpu_rows *r = &s->u.rows;

	(void)rt;
	cpu->kernels->row->reduce_rows(r->y.data, r->x, r->addend, r->n, r->channels,
				       r->workspace);
	return QAT_OK;
}

const qat_cpu_op qat_cpu_reduce_rows = { "ef", "f", prepare_reduce_rows, run_reduce_rows, NULL };
