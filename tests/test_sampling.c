/* Which token comes next: against the definition, written out with sorting; what is refused.
 */
#include "plugin_host.h"

#include <math.h>

#include <qatrun/numerics.h>

#include "../plugins/tasks/sampling.c"

static const qat_interface *const none[] = { NULL };
QAT_PLUGIN("sampling", none);

enum { N = 50 };

static float logits[N];
static int32_t order[N];

static void setup(void)
{
	ck_assert_int_eq(qat_plugin_v1.init(&host_table), QAT_OK);
	for (int i = 0; i < N; i++) {
		uint32_t word[4];

		qat_philox(word, 7, (uint64_t)i, 0, 0);
		logits[i] = 8.0f * qat_uniform(word[0]) - 4.0f;
	}
	logits[17] = logits[3];			/* a tie */
}

/* Ids by falling logit, ties by rising id: the plain way. */
static void sorted(int32_t *ids)
{
	for (int i = 0; i < N; i++)
		ids[i] = i;
	for (int i = 1; i < N; i++)
		for (int k = i; k > 0 && logits[ids[k]] > logits[ids[k - 1]]; k--) {
			const int32_t t = ids[k];

			ids[k] = ids[k - 1];
			ids[k - 1] = t;
		}
}

/* Probability of each token. */
static void wanted(double *p, const qat_sampling *s)
{
	const int64_t k = s->top_k && s->top_k < N ? s->top_k : N;
	int32_t ids[N];
	double all = 0.0, sum = 0.0, kept = 0.0;

	sorted(ids);
	for (int i = 0; i < N; i++)
		p[i] = 0.0;
	for (int64_t i = 0; i < k; i++)
		all += exp(((double)logits[ids[i]] - (double)logits[ids[0]]) / s->temperature);
	for (int64_t i = 0; i < k; i++) {
		const double w = exp(((double)logits[ids[i]] - (double)logits[ids[0]]) /
				     s->temperature) / all;

		if (i && !(sum < s->top_p))
			break;
		sum += w;
		p[ids[i]] = w;
	}
	for (int i = 0; i < N; i++)
		kept += p[i];
	for (int i = 0; i < N; i++)
		p[i] /= kept;
}

static const qat_sampling cases[] = {
	{ 1.0, 0, 1.0 }, { 0.7, 0, 1.0 }, { 3.0, 0, 1.0 }, { 1.0, 5, 1.0 }, { 1.0, 1, 1.0 },
	{ 1.0, N, 1.0 }, { 1.0, 10 * N, 1.0 }, { 1.0, 0, 0.5 }, { 1.0, 0, 0.0 }, { 2.0, 20, 0.8 },
	{ 0.8, 40, 0.95 }, { 1.0, 0, 0.999999 }, { 1e-3, 0, 1.0 }, { 100.0, 7, 0.3 },
};

/* u at the middles of a fine grid hits every token as often as it is likely. */
START_TEST(shares)
{
	enum { GRID = 40000 };
	const qat_sampling *s = &cases[_i];
	int count[N] = { 0 };
	double p[N];

	wanted(p, s);
	for (int i = 0; i < GRID; i++) {
		int32_t id;

		ck_assert_int_eq(qat_sample(&id, s, logits, N, (i + 0.5) / GRID, order), QAT_OK);
		ck_assert(id >= 0 && id < N);
		count[id]++;
	}
	for (int i = 0; i < N; i++) {
		ck_assert_msg(fabs(count[i] - p[i] * GRID) <= 1.0, "token %d: %d of %d, not %g", i,
			      count[i], GRID, p[i] * GRID);
		ck_assert(p[i] > 0.0 || count[i] == 0);
	}
}
END_TEST

START_TEST(greedy)
{
	const qat_sampling s = { 0.0, 5, 0.5 };
	float two[N] = { 0.0f };
	int32_t id, ids[N];

	sorted(ids);
	ck_assert_int_eq(qat_sample(&id, &s, logits, N, 0.99, order), QAT_OK);
	ck_assert_int_eq(id, ids[0]);
	two[9] = two[30] = 1.0f;
	ck_assert_int_eq(qat_sample(&id, &s, two, N, 0.99, order), QAT_OK);
	ck_assert_int_eq(id, 9);
}
END_TEST

/* The ends of u: never a token of no chance. */
START_TEST(ends)
{
	const double last = 1.0 - 1.0 / (1 << 24);
	float far[N];
	int32_t id;

	for (int i = 0; i < N; i++)
		far[i] = i == 4 ? 0.0f : -1e30f;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		ck_assert_int_eq(qat_sample(&id, &cases[i], far, N, 0.0, order), QAT_OK);
		ck_assert_int_eq(id, 4);
		ck_assert_int_eq(qat_sample(&id, &cases[i], far, N, last, order), QAT_OK);
		ck_assert_int_eq(id, 4);
	}
}
END_TEST

/* Of equals at the edge of top-k those of lower ids stay. */
START_TEST(ties)
{
	const qat_sampling s = { 1.0, 3, 1.0 };
	float same[N] = { 0.0f };

	for (int i = 0; i < 3000; i++) {
		int32_t id;

		ck_assert_int_eq(qat_sample(&id, &s, same, N, i / 3000.0, order), QAT_OK);
		ck_assert_int_eq(id, i / 1000);
	}
}
END_TEST

START_TEST(refused)
{
	static const float bad[] = { NAN, INFINITY, -INFINITY };
	const float keep = logits[31];
	int32_t id;

	for (int i = 0; i < 3; i++)
		for (size_t k = 0; k < sizeof cases / sizeof *cases + 1; k++) {
			const qat_sampling zero = { 0.0, 0, 1.0 };

			logits[31] = bad[i];
			ck_assert_int_eq(qat_sample(&id, k ? &cases[k - 1] : &zero, logits, N, 0.5,
						    order), QAT_ENUMERIC);
			ck_says("token 31");
		}
	logits[31] = keep;
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sampling");
	TCase *t = tcase_create("sampling");

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_loop_test(t, shares, 0, (int)(sizeof cases / sizeof *cases));
	tcase_add_test(t, greedy);
	tcase_add_test(t, ends);
	tcase_add_test(t, ties);
	tcase_add_test(t, refused);
	suite_add_tcase(s, t);
	return host_run(s);
}
