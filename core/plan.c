/* plan.c - greedy by size: the largest first, each at the lowest offset that is free
 * during its life. Within a few percent of the bound on transformer graphs, where the
 * large buffers are few. */
#include "plan.h"

#include <stdlib.h>

#include <qatrun/abi.h>

#include "error.h"

static int by_size(const void *a, const void *b)
{
	const qat_interval *x = *(qat_interval *const *)a, *y = *(qat_interval *const *)b;

	if (x->bytes != y->bytes)
		return x->bytes < y->bytes ? 1 : -1;
	if (x->first != y->first)
		return x->first < y->first ? -1 : 1;
	return x < y ? -1 : x > y;
}

/* Lowest offset at which `item` fits among `placed` (sorted by offset). */
static int64_t lowest(const qat_interval *item, qat_interval *const *placed, int64_t n)
{
	int64_t at = 0;

	for (int64_t i = 0; i < n; i++) {
		const qat_interval *p = placed[i];

		if (p->last < item->first || item->last < p->first)
			continue;
		if (p->offset - at >= item->bytes)
			return at;
		if (p->offset + p->bytes > at)
			at = p->offset + p->bytes;
	}
	return at;
}

static void insert(qat_interval **placed, int64_t n, qat_interval *item)
{
	while (n > 0 && placed[n - 1]->offset > item->offset) {
		placed[n] = placed[n - 1];
		n--;
	}
	placed[n] = item;
}

int qat_plan(qat_interval *items, int64_t count, int64_t alignment, int64_t *total)
{
	qat_interval **order = malloc((size_t)(count + 1) * sizeof *order);
	qat_interval **placed = malloc((size_t)(count + 1) * sizeof *placed);
	int rc = QAT_OK;

	*total = 0;
	if (!order || !placed) {
		rc = qat_fail(QAT_ENOMEM, "plan: out of memory");
		goto out;
	}
	for (int64_t i = 0; i < count; i++) {
		items[i].bytes = (items[i].bytes + alignment - 1) / alignment * alignment;
		order[i] = &items[i];
	}
	qsort(order, (size_t)count, sizeof *order, by_size);
	for (int64_t i = 0; i < count; i++) {
		order[i]->offset = lowest(order[i], placed, i);
		insert(placed, i, order[i]);
		if (order[i]->offset + order[i]->bytes > *total)
			*total = order[i]->offset + order[i]->bytes;
	}
out:
	free(order);
	free(placed);
	return rc;
}
