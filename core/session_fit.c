/* session_fit.c - how a session keeps to memory_limit: what is computed again, let go or made
 * anew instead of staying in memory. Every bit stays as it was. */
#include "session_internal.h"

#include <stdlib.h>

#include "error.h"
#include "progress.h"

/* Code of libraries, and what they and the task allocate: measured 3 to 19 MB. */
#define LIBRARIES ((int64_t)16 << 20)

int64_t qat_plan_need(const qat_context *c, const qat_plan_size *size)
{
	return c->own + LIBRARIES + size->params + size->state + size->step + size->scratch +
	       size->mapped;
}

/* *over: bytes that the plan takes beyond memory_limit. */
static int plan_size(const qat_session *x, const int64_t *keep, int64_t n_keep,
		     qat_plan_size *size, int64_t *over)
{
	const qat_exec_spec spec = qat_session_exec_spec(x, keep, n_keep);
	const int rc = qat_exec_expect(size, &x->context->device, &spec, 0);

	*over = rc ? 0 : qat_plan_need(x->context, size) + x->context->beside -
			 x->context->p->device.memory_limit;
	return rc;
}

/* Recompute more of the forward pass until the plan is within memory_limit, if that can be. */
static int fit_training(qat_session *x, int64_t **keep, int64_t *n_keep)
{
	int rc = QAT_OK;

	while (!rc && x->level < QAT_RECOMPUTE_LEVELS) {
		qat_plan_size size;
		qat_ir *less;
		int64_t over;

		rc = plan_size(x, *keep, *n_keep, &size, &over);
		if (rc || over <= 0)
			break;
		rc = qat_ir_recompute(&less, x->ir, &x->loss, x->trained, x->n_trained,
				      x->level + 1);
		if (rc)
			break;
		x->level++;
		qat_ir_free(x->ir);
		x->ir = less;
		free(*keep);
		*keep = NULL;
		rc = qat_session_keep(x, keep, n_keep);
	}
	return rc;
}

/* What of the files may be in memory at once; at least what one kernel reads. */
static int64_t bound(const qat_plan_size *size, int64_t over)
{
	const int64_t left = over > 0 ? size->mapped - over : 0;

	return over > 0 && left < size->touched ? size->touched : left;
}

/* First pages of files leave memory earlier, then packed weights are made anew for each run. */
static int fit_frozen(qat_session *x, const int64_t *keep, int64_t n_keep)
{
	qat_plan_size size, less;
	int64_t over, still;
	int rc = plan_size(x, keep, n_keep, &size, &over);

	if (rc || over <= 0)
		return rc;
	x->mapped = bound(&size, over);
	rc = plan_size(x, keep, n_keep, &less, &still);
	if (rc || still <= 0)
		return rc;
	x->stream = 1;
	x->mapped = 0;
	rc = plan_size(x, keep, n_keep, &less, &still);
	x->stream = still < over;
	x->mapped = x->stream ? bound(&less, still) : bound(&size, over);
	return rc;
}

int qat_session_fit(qat_session *x, int64_t **keep, int64_t *n_keep)
{
	int rc = qat_session_keep(x, keep, n_keep);

	if (rc || !x->context->p->device.memory_limit)
		return rc;
	x->context->own = qat_memory_now();
	return x->spec.mode == QAT_SESSION_TRAIN ? fit_training(x, keep, n_keep)
						  : fit_frozen(x, *keep, *n_keep);
}

void qat_session_say_fit(const qat_session *x)
{
	static const char *const levels[] = { NULL, "all but products and attention",
					      "whole layers" };
	const double mib = (double)x->context->p->device.memory_limit / (1 << 20);

	if (x->level)
		qat_log(QAT_LOG_INFO, "memory_limit (%.0f MiB): the backward pass computes %s "
			"again", mib, levels[x->level]);
	if (x->stream)
		qat_log(QAT_LOG_INFO, "memory_limit (%.0f MiB): weights are packed anew in each "
			"run", mib);
}
