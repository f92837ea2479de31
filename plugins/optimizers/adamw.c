/* adamw.c - Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101,
 * algorithm 2). The arithmetic is QAT_OP_ADAMW's; defaults are those of torch.optim.AdamW.
 * Weight decay goes to all parameters, as torch does with one group; `decay: matrices`
 * spares norms and biases. `moments: 8bit` keeps both moments as codes, a byte each
 * (numerics.h, docs/architecture.md).
 */
#include <math.h>

#include <qatrun/build.h>
#include <qatrun/numerics.h>
#include <qatrun/optimizer.h>

enum { DECAY_ALL, DECAY_MATRICES };
enum { MOMENTS_F32, MOMENTS_8BIT };

typedef struct adamw_options {
	double lr, eps, weight_decay;
	qat_floats betas;
	int64_t decay, moments;
} adamw_options;

static const char *const decays[] = { "all", "matrices", NULL };
static const char *const moments[] = { "f32", "8bit", NULL };

static const qat_option options[] = {
	QAT_FLOAT(adamw_options, lr, 1e-3, 0, 1e3, "learning rate; the schedule multiplies it"),
	QAT_OPTION(adamw_options, QAT_OPT_FLOATS, betas,
		   "decay of the first and second moment, each in [0, 1)",
		   .text = "[0.9, 0.999]", .min = 0, .max = 1),
	QAT_FLOAT(adamw_options, eps, 1e-8, 0, 1, "added to the root of the second moment"),
	QAT_FLOAT(adamw_options, weight_decay, 0.01, 0, 1e3,
		  "decoupled: p -= lr * weight_decay * p"),
	QAT_ENUM(adamw_options, decay, DECAY_ALL, decays,
		 "what decays; matrices: not norms and biases"),
	QAT_ENUM(adamw_options, moments, MOMENTS_F32, moments,
		 "how both moments are kept; 8bit: in a quarter of the memory, rounded at random"),
	QAT_END
};

static int check_betas(const qat_floats *betas)
{
	if (betas->count != 2)
		return qat_fail(QAT_EINVAL, "adamw: betas takes two numbers, as in [0.9, 0.999], "
				"not %lld", (long long)betas->count);
	for (int i = 0; i < 2; i++)
		if (!(betas->at[i] >= 0 && (float)betas->at[i] < 1.0f))
			return qat_fail(QAT_EINVAL, "adamw: betas[%d] is %g: it must be at least 0 "
					"and below 1", i, betas->at[i]);
	return QAT_OK;
}

static int64_t adamw_states(const void *self)
{
	const adamw_options *o = self;

	return o->moments == MOMENTS_8BIT ? 3 : 2;
}

/* In 8 bits: codes of m, codes of v, units of both. */
static int adamw_state(const void *self, int64_t i, qat_tensor *out)
{
	static const uint32_t codes[] = { QAT_I8, QAT_U8 };
	const adamw_options *o = self;
	int64_t n = 1;

	if (o->moments != MOMENTS_8BIT)
		return QAT_OK;
	if (i < 2) {
		out->dtype = codes[i];
		return QAT_OK;
	}
	for (int64_t k = 0; k < out->rank; k++)
		n *= out->shape[k];
	out->rank = 2;
	out->shape[0] = (n + QAT_MOMENT_BLOCK - 1) / QAT_MOMENT_BLOCK;
	out->shape[1] = 2;
	out->shape[2] = out->shape[3] = 1;
	return QAT_OK;
}

static int adamw_build(const void *self, qat_builder *b, int64_t p, int64_t g,
		       const int64_t *states, int64_t hyper)
{
	const adamw_options *o = self;
	const qat_graph_api *api = qat_host_->service("graph");
	const int64_t n = adamw_states(self);
	int64_t in[6] = { p, g }, id;

	if (!api)
		return qat_fail(QAT_EABI, "adamw: this core has no service \"graph\"");
	if (check_betas(&o->betas))
		return QAT_EINVAL;
	for (int64_t i = 0; i < n; i++)
		in[2 + i] = states[i];
	in[2 + n] = hyper;
	id = api->node(b, n == 3 ? QAT_OP_ADAMW8 : QAT_OP_ADAMW, NULL, 3 + n, in, NULL, NULL);
	return id < 0 ? (int)id : QAT_OK;
}

/* The bias corrections use the betas as the kernel has them, in fp32: with the double
 * 0.999, 1 - beta2 would be 4.7e-5 off from bc2 at the first step. */
static int adamw_hyper(const void *self, const qat_update *u, float out[QAT_HYPER_COUNT])
{
	const adamw_options *o = self;
	const int decays_here = o->decay == DECAY_ALL || u->matrix;
	float b1, b2;

	if (check_betas(&o->betas))
		return QAT_EINVAL;
	if (u->step < 1)
		return qat_fail(QAT_EINVAL, "adamw: optimizer step %lld: the first is 1",
				(long long)u->step);
	b1 = (float)o->betas.at[0];
	b2 = (float)o->betas.at[1];
	out[0] = (float)u->lr;
	out[1] = b1;
	out[2] = b2;
	out[3] = (float)o->eps;
	out[4] = decays_here ? (float)o->weight_decay : 0.0f;
	out[5] = (float)(1.0 - pow(b1, (double)u->step));
	out[6] = (float)(1.0 - pow(b2, (double)u->step));
	out[7] = (float)u->clip;
	return QAT_OK;
}

static double adamw_lr(const void *self)
{
	return ((const adamw_options *)self)->lr;
}

static const qat_optimizer adamw_vtable = {
	.size = sizeof(qat_optimizer),
	.states = adamw_states,
	.build = adamw_build,
	.hyper = adamw_hyper,
	.lr = adamw_lr,
	.state = adamw_state,
};

static const qat_interface adamw_interface = {
	.size = sizeof(qat_interface),
	.kind = QAT_KIND_OPTIMIZER,
	.name = "adamw",
	.summary = "Adam with decoupled weight decay",
	.options = options,
	.options_size = sizeof(adamw_options),
	.vtable = &adamw_vtable,
};

static const qat_interface *const all[] = { &adamw_interface };

QAT_PLUGIN("adamw", all);
