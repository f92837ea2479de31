/* state_read.c - what a state holds: parameters as floats or as codes, drawn, widened or decoded,
 * and the tensors of static ranges. */
#include "state.h"

#include <stdlib.h>
#include <string.h>

#include <qatrun/numerics.h>

#include "error.h"

/* ---- reading ---- */

/* Four normal numbers from one counter, by Box and Muller, in double. */
static void normals(float out[4], uint64_t seed, uint64_t element4, uint32_t param)
{
	uint32_t w[4];

	qat_philox(w, seed, element4, 0, param << 8 | QAT_RANDOM_INIT);
	for (int i = 0; i < 4; i += 2) {
		/* (0, 1]: the logarithm is finite */
		const double u = ((double)(w[i] >> 8) + 1.0) * 0x1p-24;
		const double a = 6.283185307179586 * ((double)(w[i + 1] >> 8) * 0x1p-24);
		const double r = sqrt(-2.0 * log(u));

		out[i] = (float)(r * cos(a));
		out[i + 1] = (float)(r * sin(a));
	}
}

static void random_values(const qat_state *s, const qat_param_state *p, float *out)
{
	const int64_t n = qat_param_elements(&p->info);
	const float deviation = (float)p->info.deviation;
	float four[4];

	for (int64_t i = 0; i < n; i++) {
		if (p->info.init != QAT_INIT_NORMAL) {
			out[i] = p->info.init == QAT_INIT_ONES ? 1.0f : 0.0f;
			continue;
		}
		if (i % 4 == 0)
			normals(four, s->seed, (uint64_t)(i / 4), (uint32_t)p->index);
		out[i] = deviation * four[i % 4];
	}
}

static void widen(float *out, const qat_tensor *t, int64_t n)
{
	const uint16_t *half = t->data;

	if (t->dtype == QAT_F32) {
		memcpy(out, t->data, (size_t)n * sizeof *out);
		return;
	}
	for (int64_t i = 0; i < n; i++) {
		uint16_t h;

		memcpy(&h, half + i, sizeof h);
		out[i] = t->dtype == QAT_BF16 ? qat_bf16_to_f32(h) : qat_f16_to_f32(h);
	}
}

int qat_state_codes(const qat_state *s, const qat_param_state *p, uint8_t *out)
{
	const int64_t rows = p->info.shape[0], cols = p->info.shape[1];
	const int64_t stride = qat_packed_row(p->codes->bits, cols);

	for (int64_t r = 0; r < rows; r++)
		qat_unpack_row(out + r * cols, (const uint8_t *)p->at.data + r * stride, p->codes,
			       cols);
	qat_state_let_go(s);
	return QAT_OK;
}

int qat_state_scale(const qat_state *s, const qat_param_state *p, float *out)
{
	const int64_t rows = p->info.shape[0];
	const int64_t blocks = qat_scheme_blocks(p->codes, rows, p->info.shape[1]);
	const int64_t seconds = qat_scheme_seconds(p->codes, rows);
	float *second = malloc((size_t)(seconds + 1) * sizeof *second);

	if (!second)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", p->info.name);
	qat_scales_load(out, p->scale.data, (uint32_t)p->codes->scale_format, blocks);
	qat_scales_load(second, p->second.data, QAT_F32, seconds);
	qat_scales_join(out, second, seconds, blocks);
	free(second);
	qat_state_let_go(s);
	return QAT_OK;
}

int qat_state_zero(const qat_state *s, const qat_param_state *p, void *out)
{
	(void)s;
	memcpy(out, p->zero.data, (size_t)p->zero.bytes);
	return QAT_OK;
}

static void decode_row(const qat_param_state *p, const uint8_t *codes, const float *scale,
		       int64_t r, float *out)
{
	const qat_scheme *c = p->codes;
	const int64_t cols = p->info.shape[1], width = c->block_cols ? c->block_cols : cols;
	const int64_t per_row = cols / width, block_row = c->block_rows ? r / c->block_rows : 0;

	for (int64_t k = 0; k < cols; k++) {
		const int64_t b = block_row * per_row + k / width;
		float zero = 0.0f;

		if (c->zero == QAT_ZERO_INT)
			zero = (float)((const int8_t *)p->zero.data)[b];
		else if (c->zero)
			memcpy(&zero, (const char *)p->zero.data + 4 * b, sizeof zero);
		out[k] = qat_decode(c, codes[k], scale[b], zero);
	}
}

static int decode(const qat_state *s, const qat_param_state *p, float *out)
{
	const int64_t rows = p->info.shape[0], cols = p->info.shape[1];
	const int64_t stride = qat_packed_row(p->codes->bits, cols);
	uint8_t *codes = malloc((size_t)cols);
	float *scale = malloc((size_t)qat_scheme_blocks(p->codes, rows, cols) * sizeof *scale);
	int rc;

	if (!codes || !scale) {
		free(codes);
		free(scale);
		return qat_fail(QAT_ENOMEM, "%s: out of memory", p->info.name);
	}
	rc = qat_state_scale(s, p, scale);
	for (int64_t r = 0; r < rows && !rc; r++) {
		qat_unpack_row(codes, (const uint8_t *)p->at.data + r * stride, p->codes, cols);
		decode_row(p, codes, scale, r, out + r * cols);
	}
	free(codes);
	free(scale);
	return rc;
}

int qat_state_read(const qat_state *s, const qat_param_state *p, float *out)
{
	int rc = QAT_OK;

	if (!s->path || !p->at.dtype)
		random_values(s, p, out);
	else if (p->codes)
		rc = decode(s, p, out);
	else if (p->at.data && (p->at.dtype == QAT_F32 || p->at.dtype == QAT_BF16 ||
				p->at.dtype == QAT_F16))
		widen(out, &p->at, qat_param_elements(&p->info));
	else
		rc = s->format->read(s->file, &p->info, out, 0,
				     p->info.rank == 2 ? p->info.shape[0] : 1);
	qat_state_let_go(s);
	return rc;
}

/* ---- static ranges ---- */

static int find_range(const qat_state *s, const char *name, qat_tensor *out)
{
	const qat_param p = { .size = sizeof p, .rank = 2, .name = name, .hub_name = name };

	out->size = sizeof *out;
	return s->path && s->docs[QAT_DOC_STATE].at && !s->format->find(s->file, &p, out) &&
	       out->data;
}

int qat_state_range(const qat_state *s, const char *name, int64_t bytes, const void **out)
{
	qat_tensor t = { .size = sizeof t };

	if (!find_range(s, name, &t))
		return qat_fail(QAT_ENOTFOUND, "%s is not in state %s: its scheme has a static range, "
				"which the calibrate task measures", name, s->name);
	if (t.bytes != bytes)
		return qat_fail(QAT_EFORMAT, "%s: %s has the wrong size", s->path, name);
	*out = t.data;
	return QAT_OK;
}

int qat_state_ranges(qat_tensor **out, int64_t *count, const qat_state *s, qat_arena *arena)
{
	static const char *const ports[QAT_PORTS] = { "weight", "input", "kv" };
	static const char *const parts[] = { "scale", "zero" };
	qat_tensor *t = qat_arena_array(arena, 2 * (size_t)s->n_placed + 1, sizeof *t);
	int64_t n = 0;

	if (!t)
		return QAT_ENOMEM;
	for (int64_t i = 0; i < 2 * s->n_placed; i++) {
		const qat_placed *p = &s->placed[i / 2];
		const char *name;

		if (p->set->schemes[0]->range == QAT_RANGE_DYNAMIC)
			continue;
		name = qat_arena_format(arena, "%s.%s.%s", p->site, ports[p->port], parts[i % 2]);
		if (!name)
			return QAT_ENOMEM;
		if (!find_range(s, name, &t[n]))
			continue;
		t[n++].name = name;
	}
	*out = t;
	*count = n;
	return QAT_OK;
}
