/* Gradients as codes against numerics.h, element by element, bit by bit. */
#include "test_kernels.h"

typedef struct shape { int64_t batch, length, channels; } shape;

/* Whole blocks and what is left of them, of tokens and of channels. */
static const shape shapes[] = {
	{ 1, 1, 1 }, { 2, 7, 3 }, { 1, 64, 64 }, { 2, 65, 128 }, { 3, 62, 68 }, { 1, 131, 200 },
	{ 2, 70, 127 }, { 1, 3, 192 }, { 4, 16, 66 }
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef struct codes { int8_t *q; float *scale; int64_t n, scales; } codes;

static codes codes_new(int64_t n, int64_t scales)
{
	return (codes){ guarded(n), guarded(scales * 4), n, scales };
}

static void codes_free(codes *c)
{
	check_guard(c->q, c->n);
	check_guard(c->scale, c->scales * 4);
	free(c->q);
	free(c->scale);
}

static float fold(const qat_grad_args *a, int64_t i)
{
	return a->fold[a->fold_rows ? i / a->fold_rows : 0];
}

/* Scale of n numbers that are `step` apart. */
static float scale_of(const float *g, int64_t n, int64_t step, int qmax)
{
	float amax = 0.0f;
	int bad = 0;

	for (int64_t i = 0; i < n; i++) {
		amax = fabsf(g[i * step]) > amax ? fabsf(g[i * step]) : amax;
		bad |= !qat_is_finite(g[i * step]);
	}
	return qat_grad_scale(amax, bad, qmax);
}

static int code(const qat_grad_args *a, float g, float scale, int64_t token, int64_t o)
{
	const int64_t t = token % a->length, at = t * a->channels + o;
	uint32_t word[4];

	qat_philox(word, a->seed, (uint64_t)at / 4, (uint32_t)(a->sequence + token / a->length),
		   a->stream);
	return qat_grad_code(g, scale, word[at % 4], a->qmax);
}

static void check_rows(const qat_kernels *kn, const qat_grad_args *a, const float *dy)
{
	float *g = guarded(a->channels * 4);

	for (int64_t t = 0; t < a->batch * a->length; t++) {
		float scale;

		for (int64_t o = 0; o < a->channels; o++)
			g[o] = dy[t * a->channels + o] * fold(a, o);
		scale = scale_of(g, a->channels, 1, a->qmax);
		MUST(!memcmp(&scale, a->scale + t, 4), "%s: scale of token %lld: %a, not %a",
		     kn->name, (long long)t, (double)a->scale[t], (double)scale);
		for (int64_t o = 0; o < a->channels; o++)
			MUST(a->codes[t * a->channels + o] == code(a, g[o], scale, t, o),
			     "%s: row code of token %lld, channel %lld of %lld", kn->name,
			     (long long)t, (long long)o, (long long)a->channels);
	}
	free(g);
}

static void check_columns(const qat_kernels *kn, const qat_grad_args *a, const float *dy)
{
	const int64_t tokens = a->batch * a->length;
	float *g = guarded(tokens * 4);

	for (int64_t o = 0; o < a->channels; o++) {
		for (int64_t t = 0; t < tokens; t++)
			g[t] = dy[t * a->channels + o] * fold(a, t);
		for (int64_t t = 0; t < tokens; t++) {
			const int64_t s = t / a->length;
			const float scale = scale_of(g + s * a->length, a->length, 1, a->qmax);
			const float got = a->scale[o * a->batch + s];

			MUST(!memcmp(&scale, &got, 4), "%s: scale of channel %lld: %a, not %a",
			     kn->name, (long long)o, (double)got, (double)scale);
			MUST(a->codes[o * tokens + t] == code(a, g[t], scale, t, o),
			     "%s: column code of token %lld, channel %lld of %lld", kn->name,
			     (long long)t, (long long)o, (long long)a->channels);
		}
	}
	free(g);
}

/* dy of one shape; kind 1: with tokens and channels of zeros, numbers that are none, products
 * that overflow. */
static float *gradient(const shape *s, int kind)
{
	const int64_t n = s->batch * s->length * s->channels;
	float *dy = random_floats(n, 1e-3f);

	for (int64_t i = 0; kind && i < n; i++) {
		const int64_t o = i % s->channels, t = i / s->channels;

		if (o == 5 || t == 4)
			dy[i] = 0.0f;
		if (o == 17 && t == 2)
			dy[i] = -INFINITY;
		if (o == 66 && t == s->length - 1)
			dy[i] = NAN;
		if (o == 33 && t % 3 == 1)
			dy[i] = 3e38f;
	}
	return dy;
}

/* sides: 1 rows, 2 columns, 3 both. */
static void one(const qat_kernels *kn, const shape *s, int kind, uint32_t dtype, int sides)
{
	static const int64_t fold_rows[] = { 1, 0, 3 };
	const int64_t tokens = s->batch * s->length, n = tokens * s->channels;
	float *dy = gradient(s, kind), *f = random_floats(tokens + s->channels, 10.0f);
	void *typed = as_type(dy, dtype, n), *room;
	codes r = codes_new(n, tokens), c = codes_new(n, s->channels * s->batch);
	qat_grad_args rows = {
		.batch = s->batch, .length = s->length, .channels = s->channels,
		.dy = qat_src_of(typed, dtype), .fold = f, .fold_rows = fold_rows[kind],
		.qmax = kind == 2 ? 7 : 127, .stream = 0x70007u + (uint32_t)kind,
		.seed = UINT64_C(0x9E3779B97F4A7C15), .sequence = 11, .codes = r.q,
		.scale = r.scale,
	}, columns = rows;

	f[0] = 0.0f;
	columns.codes = c.q;
	columns.scale = c.scale;
	columns.fold = f + s->channels;
	columns.fold_rows = fold_rows[(kind + 1) % 3];
	room = guarded(kn->grad->workspace(&columns));
	kn->grad->codes(sides & 1 ? &rows : NULL, sides & 2 ? &columns : NULL, room);
	if (sides & 1)
		check_rows(kn, &rows, dy);
	if (sides & 2)
		check_columns(kn, &columns, dy);
	check_guard(room, kn->grad->workspace(&columns));
	codes_free(&r);
	codes_free(&c);
	free(dy);
	free(f);
	free(typed);
	free(room);
}

static void all(const qat_kernels *kn)
{
	static const uint32_t types[] = { QAT_F32, QAT_BF16 };

	for (int i = 0; i < SHAPES; i++)
		for (int kind = 0; kind < 3; kind++)
			for (int k = 0; k < 6; k++) {
				use_threads(1 + k % 2);
				one(kn, shapes + i, kind, types[k & 1], 1 + k / 2);
			}
}

START_TEST(codes_are_the_definitions)
{
	each_isa(all);
}
END_TEST

RUN_TESTS("kernels_gradient", codes_are_the_definitions)
