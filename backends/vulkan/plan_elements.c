/* plan_elements.c - plans of ops that go element by element. */
#include "vulkan.h"

enum { FLAT = 256, PARTIAL_SUMS = 256 };

void qat_vk_plan_flat(vk_site *s)
{
	const int64_t n = qat_value_elements(qat_vk_in(s, 0));
	vk_dispatch *d = qat_vk_emit(s, SHADER_FLAT);

	if (!d)
		return;
	d->spec[SPEC_KIND] = s->n->op;
	d->push[0] = (uint32_t)n;
	if (s->n->op == QAT_OP_SCALE)
		d->push[1] = qat_vk_bits(s->n->attr.scale.factor);
	else if (s->n->op != QAT_OP_CAST)
		d->spec[SPEC_MORE] = (uint32_t)s->n->attr.act.kind;
	qat_vk_groups(d, n, FLAT);
}

void qat_vk_plan_adamw(vk_site *s)
{
	const int64_t n = qat_value_elements(qat_vk_in(s, 0));
	vk_dispatch *d = qat_vk_emit(s, SHADER_ADAMW);

	if (!d)
		return;
	d->push[0] = (uint32_t)n;
	qat_vk_groups(d, n, FLAT);
}

const char *qat_vk_refuse_double(const vk_device *d, const qat_graph *g, const qat_node *n)
{
	(void)g;
	(void)n;
	return d->float64 ? NULL : "the device has no doubles";
}

void qat_vk_plan_sum_squares(vk_site *s)
{
	const int64_t n = qat_value_elements(qat_vk_in(s, 0));
	const int64_t most = (n + FLAT - 1) / FLAT;
	const int64_t parts = most < PARTIAL_SUMS ? most : PARTIAL_SUMS;

	s->workspace = 8 * parts;
	for (uint32_t kind = 0; kind < 2; kind++) {
		vk_dispatch *d = qat_vk_emit(s, SHADER_SUM_SQUARES);

		if (!d)
			return;
		d->spec[SPEC_KIND] = kind;
		d->push[0] = (uint32_t)(kind ? parts : n);
		qat_vk_rows(d, kind ? 1 : parts);
	}
}
