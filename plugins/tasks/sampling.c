/* sampling.c - temperature, then top-k, then top-p, as in transformers:
 *   w_i = exp((l_i - max l) / temperature)
 *   top-k   the k largest; of equals, those of lower ids
 *   top-p   of these, in that order, the fewest whose sum is at least p of all of theirs
 *   token   the first at which the running sum exceeds u times the whole
 * Sums are in double, in order of ids where nothing is left out, else of size.
 */
#include "sampling.h"

#include <math.h>

typedef struct choice {
	const qat_sampling *s;
	const float *logits;
	int64_t n;
	float top;
} choice;

static int find_top(choice *c, int32_t *out)
{
	int64_t best = 0;

	for (int64_t i = 0; i < c->n; i++) {
		if (!isfinite(c->logits[i]))
			return qat_fail(QAT_ENUMERIC, "the logit of token %lld is not a finite "
					"number", (long long)i);
		if (c->logits[i] > c->logits[best])
			best = i;
	}
	c->top = c->logits[best];
	*out = (int32_t)best;
	return QAT_OK;
}

static double weight(const choice *c, int64_t i)
{
	return exp(((double)c->logits[i] - (double)c->top) / c->s->temperature);
}

/* ---- a heap with the likeliest on top ---- */

static int before(const choice *c, int32_t a, int32_t b)
{
	return c->logits[a] > c->logits[b] || (c->logits[a] == c->logits[b] && a < b);
}

static void sift(const choice *c, int32_t *heap, int64_t at, int64_t n)
{
	const int32_t moved = heap[at];

	for (int64_t child; (child = 2 * at + 1) < n; at = child) {
		if (child + 1 < n && before(c, heap[child + 1], heap[child]))
			child++;
		if (!before(c, heap[child], moved))
			break;
		heap[at] = heap[child];
	}
	heap[at] = moved;
}

/* The top of the heap goes behind it: order[n - 1], order[n - 2], ... are the likeliest. */
static int32_t pop(const choice *c, int32_t *heap, int64_t n)
{
	const int32_t top = heap[0];

	heap[0] = heap[n - 1];
	heap[n - 1] = top;
	sift(c, heap, 0, n - 1);
	return top;
}

/* ---- the choice ---- */

static double sum_of_all(const choice *c)
{
	double sum = 0.0;

	for (int64_t i = 0; i < c->n; i++)
		sum += weight(c, i);
	return sum;
}

/* Tokens that stay, behind the heap; *sum of their weights. */
static int64_t keep(const choice *c, int32_t *order, double *sum)
{
	const int64_t k = c->s->top_k && c->s->top_k < c->n ? c->s->top_k : c->n;
	double all = 0.0, kept = 0.0;
	int64_t popped = 0, stay = 0;

	for (int64_t i = 0; i < c->n; i++)
		order[i] = (int32_t)i;
	for (int64_t i = c->n / 2 - 1; i >= 0; i--)
		sift(c, order, i, c->n);
	if (k == c->n)
		all = sum_of_all(c);
	for (; k < c->n && popped < k; popped++)
		all += weight(c, pop(c, order, c->n - popped));
	while (stay < k && (!stay || kept < c->s->top_p * all)) {
		if (stay == popped)
			pop(c, order, c->n - popped++);
		kept += weight(c, order[c->n - 1 - stay++]);
	}
	*sum = kept;
	return stay;
}

int qat_sample(int32_t *out, const qat_sampling *s, const float *logits, int64_t n, double u,
	       int32_t *order)
{
	choice c = { .s = s, .logits = logits, .n = n };
	const int filtered = (s->top_k && s->top_k < n) || s->top_p < 1.0;
	int64_t stay = n;
	double sum, running = 0.0;
	const int rc = find_top(&c, out);

	if (rc || !(s->temperature > 0.0))
		return rc;
	if (filtered)
		stay = keep(&c, order, &sum);
	else
		sum = sum_of_all(&c);
	for (int64_t i = 0; i < stay; i++) {
		const int32_t id = filtered ? order[n - 1 - i] : (int32_t)i;

		running += weight(&c, id);
		if (weight(&c, id) > 0.0)
			*out = id;
		if (running > u * sum)
			break;
	}
	return QAT_OK;
}
