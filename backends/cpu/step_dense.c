/* step_dense.c - dense products, the loss on top of one, attention. */
#include "cpu.h"

#include <stdio.h>

/* ---- matmul ---- */

static void fill_matmul(const qat_cpu_site *c, qat_gemm_args *gemm)
{
	const int ta = c->n->attr.matmul.trans_a != 0, tb = c->n->attr.matmul.trans_b != 0;
	const qat_value *a = qat_cpu_in(c, 0), *b = qat_cpu_in(c, 1), *add = qat_cpu_in(c, 2);
	const int64_t n = b->shape[!tb];

	*gemm = (qat_gemm_args){
		.m = a->shape[ta], .n = n, .k = a->shape[!ta],
		.a = qat_cpu_src(c, 0), .b = qat_cpu_src(c, 1),
		.lda = a->shape[1], .ldb = b->shape[1], .trans_a = ta, .trans_b = tb,
		.y = qat_cpu_dst(c, 0), .ldy = n, .ld_addend = n,
		.bf16 = a->dtype == QAT_BF16 && b->dtype == QAT_BF16,
	};
	if (add && add->rank == 1)
		gemm->bias = qat_cpu_in_data(c, 2);
	else
		gemm->addend = qat_cpu_in_data(c, 2);
}

static int prepare_matmul(const qat_cpu_site *c, qat_cpu_step *s)
{
	fill_matmul(c, &s->u.gemm);
	return QAT_OK;
}

static int run_matmul(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	(void)rt;
	return qat_dense_matmul(cpu->dense, &s->u.gemm);
}

static int run_gemms(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	int rc = QAT_OK;

	(void)rt;
	qat_cpu_unpack_codes(cpu, &s->u.gemms.codes.unpack);
	for (int64_t i = 0; i < s->u.gemms.n && !rc; i++)
		rc = qat_dense_matmul(cpu->dense, &s->u.gemms.gemm[i]);
	return rc;
}

int qat_cpu_gemms_fuse(const qat_cpu_site *c, const qat_claim *claim, qat_cpu_step *s)
{
	qat_cpu_gemms *f = &s->u.gemms;
	qat_cpu_site m = *c;

	qat_cpu_fill_decode(c, s, &f->codes);
	f->n = claim->n_nodes - 1;
	for (int64_t i = 0; i < f->n; i++) {
		m.n = c->g->nodes[claim->nodes[1 + i]];
		fill_matmul(&m, &f->gemm[i]);
		if (m.n->in[0] == c->n->out[0])
			f->gemm[i].codes_a = &f->codes.a;
		else
			f->gemm[i].codes_b = &f->codes.a;
	}
	s->run = run_gemms;
	return QAT_OK;
}

const qat_cpu_op qat_cpu_matmul = { "eef", "e", prepare_matmul, run_matmul, NULL };

/* ---- linear cross entropy ---- */

/* dlogits: the type of the gradient's operand, 0: forward only. */
static void fill_linear_ce(const qat_cpu_site *c, qat_cpu_step *s, uint32_t dlogits)
{
	const qat_value *x = qat_cpu_in(c, 0), *w = qat_cpu_in(c, 1);
	qat_linear_ce_args *a = &s->u.linear_ce;

	*a = (qat_linear_ce_args){
		.n = x->shape[0], .channels = x->shape[1], .vocabulary = w->shape[0],
		.x = qat_cpu_src(c, 0), .w = qat_cpu_src(c, 1), .labels = qat_cpu_in_data(c, 2),
		.dlogits = dlogits ? dlogits : QAT_F32,
		.bf16 = c->g->precision == QAT_BF16 && x->dtype == QAT_BF16 &&
			w->dtype == QAT_BF16,
	};
	a->workspace = qat_cpu_work(c, &s->workspace,
				    qat_linear_ce_workspace(c->cpu->dense, a->n, a->vocabulary,
							    dlogits));
}

static void fill_forward(const qat_cpu_site *c, qat_linear_ce_args *a)
{
	a->nll = qat_cpu_out_data(c, 0);
	a->lse = qat_cpu_out_data(c, 1);
	a->argmax = qat_cpu_out_data(c, 2);
}

/* c->n: the gradient. */
static void fill_gradient(const qat_cpu_site *c, qat_linear_ce_args *a)
{
	a->g = qat_cpu_in_data(c, 4);
	a->dw_addend = qat_cpu_in_data(c, 5);
	a->dx = qat_cpu_dst(c, 0);
	a->dw = qat_cpu_out_data(c, 1);
}

static int prepare_linear_ce(const qat_cpu_site *c, qat_cpu_step *s)
{
	fill_linear_ce(c, s, 0);
	fill_forward(c, &s->u.linear_ce);
	return QAT_OK;
}

static int prepare_linear_ce_grad(const qat_cpu_site *c, qat_cpu_step *s)
{
	fill_linear_ce(c, s, c->g->precision);
	s->u.linear_ce.lse = qat_cpu_in_data(c, 3);
	fill_gradient(c, &s->u.linear_ce);
	return QAT_OK;
}

static int run_linear_ce(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	(void)rt;
	return qat_linear_ce_forward(cpu->dense, &s->u.linear_ce);
}

static int run_linear_ce_grad(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	(void)rt;
	return qat_linear_ce_grad(cpu->dense, &s->u.linear_ce);
}

static int run_linear_ce_fused(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	(void)rt;
	return qat_linear_ce_fused(cpu->dense, &s->u.linear_ce);
}

int qat_cpu_linear_ce_fuse(const qat_cpu_site *c, const qat_node *gradient, qat_cpu_step *s)
{
	qat_cpu_site d = *c;

	d.n = gradient;
	fill_linear_ce(c, s, c->g->precision);
	fill_forward(c, &s->u.linear_ce);
	fill_gradient(&d, &s->u.linear_ce);
	s->run = run_linear_ce_fused;
	return QAT_OK;
}

const qat_cpu_op qat_cpu_linear_ce = { "eei", "ffi", prepare_linear_ce, run_linear_ce, NULL };
const qat_cpu_op qat_cpu_linear_ce_grad = { "eeifff", "ef", prepare_linear_ce_grad,
					    run_linear_ce_grad, NULL };

/* ---- attention ---- */

static void fill_heads(const qat_cpu_site *c, qat_attention_args *a)
{
	const qat_attr *t = &c->n->attr;

	*a = (qat_attention_args){
		.batch = c->g->batch, .length = c->g->length, .heads = t->attention.heads,
		.kv_heads = t->attention.kv_heads, .head_dim = t->attention.head_dim,
		.causal = t->attention.causal, .window = t->attention.window,
		.scale = t->attention.scale, .q = qat_cpu_src(c, 0), .k = qat_cpu_src(c, 1),
		.v = qat_cpu_src(c, 2),
	};
	a->ldq = a->ldo = qat_cpu_in(c, 0)->shape[1];
	a->ldk = qat_cpu_in(c, 1)->shape[1];
	a->ldv = qat_cpu_in(c, 2)->shape[1];
}

/* k and v are the cache's, into which the new ones go before. */
static void use_cache(const qat_cpu_site *c, qat_cpu_attention *t)
{
	const qat_value *keys = qat_cpu_in(c, 5);

	t->a.cache_rows = keys->shape[0] / c->g->batch;
	t->a.k = qat_cpu_src(c, 5);
	t->a.v = qat_cpu_src(c, 6);
	for (int i = 0; i < 2; i++)
		t->append[i] = (qat_cpu_convert){
			.y = qat_dst_of(qat_cpu_in_data(c, 5 + i), keys->dtype),
			.x = qat_cpu_src(c, 1 + i), .n = c->g->length * keys->shape[1],
		};
}

static int prepare_attention(const qat_cpu_site *c, qat_cpu_step *s)
{
	qat_attention_args *a = &s->u.attention.a;

	fill_heads(c, a);
	if (qat_cpu_in(c, 5))
		use_cache(c, &s->u.attention);
	a->out = qat_cpu_dst(c, 0);
	a->lse = qat_cpu_out_data(c, 1);
	a->workspace = qat_cpu_work(c, &s->workspace, c->cpu->kernels->attention->workspace(a));
	return QAT_OK;
}

static int prepare_attention_grad(const qat_cpu_site *c, qat_cpu_step *s)
{
	qat_attention_args *a = &s->u.attention.a;

	fill_heads(c, a);
	a->out = qat_dst_of(qat_cpu_in_data(c, 3), qat_cpu_in(c, 3)->dtype);
	a->lse = qat_cpu_in_data(c, 4);
	a->dout = qat_cpu_src(c, 5);
	a->dq = qat_cpu_dst(c, 0);
	a->dk = qat_cpu_dst(c, 1);
	a->dv = qat_cpu_dst(c, 2);
	a->workspace = qat_cpu_work(c, &s->workspace,
				    c->cpu->kernels->attention->grad_workspace(a));
	return QAT_OK;
}

/* Element i of a float array. */
static void *element(qat_dst y, int64_t i)
{
	return (char *)y.data + i * qat_dtype_bytes(y.dtype);
}

static int append(const qat_cpu *cpu, qat_cpu_attention *t, int64_t position)
{
	if (position < 0 || position > t->a.cache_rows - t->a.length)
		return qat_fail(QAT_EINVAL, "cpu: position %lld is outside of the cache",
				(long long)position);
	t->a.position = position;
	for (int i = 0; i < 2; i++)
		for (int64_t b = 0; b < t->a.batch; b++) {
			const qat_cpu_convert *w = &t->append[i];
			const int64_t wide = w->n / t->a.length;
			const qat_dst x = { (void *)(uintptr_t)w->x.data, w->x.dtype };
			const qat_dst y = { element(w->y, (b * t->a.cache_rows + position) * wide),
					    w->y.dtype };

			cpu->kernels->quantize->cast(y, qat_src_of(element(x, b * w->n), x.dtype),
						     w->n);
		}
	return QAT_OK;
}

static int run_attention(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	qat_cpu_attention *t = &s->u.attention;
	const int rc = t->a.cache_rows ? append(cpu, t, rt->position) : QAT_OK;

	if (rc)
		return rc;
	cpu->kernels->attention->run(&t->a);
	return QAT_OK;
}

static int run_attention_grad(qat_cpu *cpu, qat_cpu_step *s, qat_runtime *rt)
{
	(void)rt;
	cpu->kernels->attention->grad(&s->u.attention.a);
	return QAT_OK;
}

const qat_cpu_op qat_cpu_attention_op = { "eee--ee", "efee", prepare_attention, run_attention,
					  NULL };
const qat_cpu_op qat_cpu_attention_grad = { "eeeefe", "eee", prepare_attention_grad,
					    run_attention_grad, NULL };
