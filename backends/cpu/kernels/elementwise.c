/* elementwise.c - one element after the other, in chunks that stay in the first cache:
 * each is widened to f32, computed, and rounded to its type. Per ISA.
 */
#include "adamw.h"
#include "kernels.h"
#include "vmath.h"

enum { CHUNK = 1024, SUM_CHUNK = 16384, AHEAD = 1 };

/* Rows of a table of loops: out[i] = f(a[i], b[i], c[i]) for n elements, and on to the end of
 * a vector. */
typedef void loop2(float *restrict y, const float *restrict a, const float *restrict b, int64_t n);
typedef void loop3(float *restrict y, float *restrict z, const float *restrict a,
		   const float *restrict b, const float *restrict c, int64_t n);

/* Floats from element `at` of x and on to the end of a vector: in place, or in buf. */
static const float *whole_floats(float *buf, qat_src x, int64_t at, int64_t n)
{
	const int64_t each = x.dtype == QAT_F32 ? 4 : 2;

	ask_ahead((const char *)x.data + at * each, n * each, AHEAD * CHUNK * each);
	if (n % LANES == 0)
		return view_floats(buf, x.data, x.dtype, at, n);
	load_floats(buf, x.data, x.dtype, at, n);
	for (int64_t i = n; i < round_up(n, LANES); i++)
		buf[i] = 0.0f;
	return buf;
}

static void chunk2(qat_dst y, qat_src a, qat_src b, int64_t at, int64_t n, loop2 *f)
{
	float bufs[3][CHUNK] __attribute__((aligned(64)));
	const float *va = whole_floats(bufs[0], a, at, n);
	const float *vb = b.data ? whole_floats(bufs[1], b, at, n) : va;
	const int apart = y.data != a.data && y.data != b.data && n % LANES == 0;
	float *out = y.dtype == QAT_F32 && apart ? (float *)y.data + at : bufs[2];

	f(out, va, vb, n);
	if (out == bufs[2])
		store_floats(y.data, y.dtype, at, out, n);
}

static void run2(qat_dst y, qat_src a, qat_src b, int64_t n, loop2 *f)
{
	if (is_shared_out()) {
		for (int64_t at = 0; at < n; at += CHUNK)
			chunk2(y, a, b, at, min64(CHUNK, n - at), f);
		return;
	}
#pragma omp parallel for schedule(static)
	for (int64_t c = 0; c < div_up(n, CHUNK); c++)
		chunk2(y, a, b, c * CHUNK, min64(CHUNK, n - c * CHUNK), f);
}

static void add_loop(float *restrict y, const float *restrict a, const float *restrict b, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		y[i] = a[i] + b[i];
}

static void mul_loop(float *restrict y, const float *restrict a, const float *restrict b, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		y[i] = a[i] * b[i];
}

static void add(qat_dst y, qat_src a, qat_src b, int64_t n)
{
	run2(y, a, b, n, add_loop);
}

static void mul(qat_dst y, qat_src a, qat_src b, int64_t n)
{
	run2(y, a, b, n, mul_loop);
}

static void scale(qat_dst y, qat_src x, float factor, int64_t n)
{
#pragma omp parallel for schedule(static)
	for (int64_t c = 0; c < div_up(n, CHUNK); c++) {
		float in[CHUNK], out[CHUNK];
		const int64_t at = c * CHUNK, len = min64(CHUNK, n - at);
		const float *v = view_floats(in, x.data, x.dtype, at, len);

		for (int64_t i = 0; i < len; i++)
			out[i] = factor * v[i];
		store_floats(y.data, y.dtype, at, out, len);
	}
}

/* The four loops of an activation, from its function and its slope. */
#define ACTIVATION(f) \
	static void f##_loop(float *restrict y, const float *restrict x, \
			     const float *restrict unused, int64_t n) \
	{ \
		(void)unused; \
		for (int64_t i = 0; i < n; i += LANES) \
			vf_store(y + i, f(vf_load(x + i))); \
	} \
	static void f##_grad(float *restrict dx, const float *restrict x, \
			     const float *restrict dy, int64_t n) \
	{ \
		for (int64_t i = 0; i < n; i += LANES) \
			vf_store(dx + i, vf_load(dy + i) * f##_slope(vf_load(x + i))); \
	} \
	static void f##_glu(float *restrict y, const float *restrict gate, \
			    const float *restrict up, int64_t n) \
	{ \
		for (int64_t i = 0; i < n; i += LANES) \
			vf_store(y + i, f(vf_load(gate + i)) * vf_load(up + i)); \
	} \
	static void f##_glu_grad(float *restrict dgate, float *restrict dup, \
				 const float *restrict gate, const float *restrict up, \
				 const float *restrict dy, int64_t n) \
	{ \
		for (int64_t i = 0; i < n; i += LANES) { \
			const vf g = vf_load(gate + i), d = vf_load(dy + i); \
			vf_store(dup + i, d * f(g)); \
			vf_store(dgate + i, d * vf_load(up + i) * f##_slope(g)); \
		} \
	}

ACTIVATION(gelu_tanh)
ACTIVATION(gelu_erf)
ACTIVATION(silu)
ACTIVATION(relu)

#define LOOPS(f) { f##_loop, f##_grad, f##_glu, f##_glu_grad }

static const struct {
	loop2 *act, *grad, *glu;
	loop3 *glu_grad;
} loops[] = {
	[QAT_ACT_GELU_TANH] = LOOPS(gelu_tanh),
	[QAT_ACT_GELU_ERF] = LOOPS(gelu_erf),
	[QAT_ACT_SILU] = LOOPS(silu),
	[QAT_ACT_RELU] = LOOPS(relu),
};

static void act(qat_dst y, qat_src x, int64_t kind, int64_t n)
{
	run2(y, x, qat_src_of(NULL, 0), n, loops[kind].act);
}

static void act_grad(qat_dst dx, qat_src x, qat_src dy, int64_t kind, int64_t n)
{
	run2(dx, x, dy, n, loops[kind].grad);
}

static void glu(qat_dst y, qat_src gate, qat_src up, int64_t kind, int64_t n)
{
	run2(y, gate, up, n, loops[kind].glu);
}

static void glu_grad(qat_dst dgate, qat_dst dup, qat_src gate, qat_src up, qat_src dy,
		     int64_t kind, int64_t n)
{
	loop3 *f = loops[kind].glu_grad;

#pragma omp parallel for schedule(static)
	for (int64_t c = 0; c < div_up(n, CHUNK); c++) {
		float bufs[5][CHUNK] __attribute__((aligned(64)));
		const int64_t at = c * CHUNK, len = min64(CHUNK, n - at);

		f(bufs[0], bufs[1], whole_floats(bufs[2], gate, at, len),
		  whole_floats(bufs[3], up, at, len), whole_floats(bufs[4], dy, at, len), len);
		store_floats(dgate.data, dgate.dtype, at, bufs[0], len);
		store_floats(dup.data, dup.dtype, at, bufs[1], len);
	}
}

static void adamw_chunk(float *p, const float *g, float *m, float *v, const float *h, int64_t n)
{
	float last[4][LANES] = { { 0 } };
	const size_t rest = (size_t)(n % LANES) * 4;
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES)
		adamw_step(p + i, g + i, m + i, v + i, h);
	if (!rest)
		return;
	memcpy(last[0], p + i, rest);
	memcpy(last[1], g + i, rest);
	memcpy(last[2], m + i, rest);
	memcpy(last[3], v + i, rest);
	adamw_step(last[0], last[1], last[2], last[3], h);
	memcpy(p + i, last[0], rest);
	memcpy(m + i, last[2], rest);
	memcpy(v + i, last[3], rest);
}

static void adamw(float *p, const float *g, float *m, float *v, const float *hyper, int64_t n)
{
#pragma omp parallel for schedule(static)
	for (int64_t c = 0; c < div_up(n, CHUNK); c++) {
		const int64_t at = c * CHUNK;

		adamw_chunk(p + at, g + at, m + at, v + at, hyper, min64(CHUNK, n - at));
	}
}

static double squares(const float *x, int64_t n)
{
	double lane[8] = { 0 }, sum = 0.0;
	int64_t i = 0;

	for (; i + 8 <= n; i += 8)
		for (int j = 0; j < 8; j++)
			lane[j] += (double)x[i + j] * (double)x[i + j];
	for (int j = 0; i < n; i++, j++)
		lane[j] += (double)x[i] * (double)x[i];
	for (int j = 0; j < 8; j++)
		sum += lane[j];
	return sum;
}

/* A piece is a fixed number of chunks; there are never more than PIECES of them. */
static double sum_squares(qat_src x, int64_t n)
{
	enum { PIECES = 256 };
	const int64_t chunks = div_up(n, SUM_CHUNK), per = max64(div_up(chunks, PIECES), 1);
	double part[PIECES] = { 0 }, sum = 0.0;

#pragma omp parallel for schedule(static)
	for (int64_t piece = 0; piece < div_up(chunks, per); piece++) {
		const int64_t end = min64(n, (piece + 1) * per * SUM_CHUNK);
		double s = 0.0;

		for (int64_t at = piece * per * SUM_CHUNK; at < end; at += CHUNK) {
			const int64_t len = min64(CHUNK, end - at);
			float buf[CHUNK];

			s += squares(view_floats(buf, x.data, x.dtype, at, len), len);
		}
		part[piece] = s;
	}
	for (int i = 0; i < PIECES; i++)
		sum += part[i];
	return sum;
}

extern const qat_elementwise_kernels QAT_NAME(qat_elementwise);
const qat_elementwise_kernels QAT_NAME(qat_elementwise) = {
	.add = add, .mul = mul, .scale = scale, .act = act, .act_grad = act_grad,
	.glu = glu, .glu_grad = glu_grad, .adamw = adamw, .sum_squares = sum_squares,
};
