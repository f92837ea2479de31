/* adamw.c - Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101,
 * algorithm 2). The arithmetic is QAT_OP_ADAMW's; defaults are those of torch.optim.AdamW.
 * Weight decay goes to all parameters, as torch does with one group; `decay: matrices`
 * spares norms and biases.
 */
#include <math.h>

#include <qatrun/build.h>
#include <qatrun/optimizer.h>

enum { DECAY_ALL, DECAY_MATRICES };

typedef struct adamw_options {
	double lr, eps, weight_decay;
	qat_floats betas;
	int64_t decay;
} adamw_options;

static const char *const decays[] = { "all", "matrices", NULL };

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
	(void)self;
	return 2;
}

static int adamw_build(const void *self, qat_builder *b, int64_t p, int64_t g,
		       const int64_t *states, int64_t hyper)
{
	const adamw_options *o = self;
	const qat_graph_api *api = qat_host_->service("graph");
	const int64_t in[] = { p, g, states[0], states[1], hyper };
	int64_t id;

	if (!api)
		return qat_fail(QAT_EABI, "adamw: this core has no service \"graph\"");
	if (check_betas(&o->betas))
		return QAT_EINVAL;
	id = api->node(b, QAT_OP_ADAMW, NULL, 5, in, NULL, NULL);
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
