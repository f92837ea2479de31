/* convert.c - a state with its weights as codes: what quantize makes and save stores.
 *
 * The codes come from the same quantize node on the same device as in training, so what
 * is stored is what was trained, to the bit.
 */
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/numerics.h>

#include "error.h"
#include "progress.h"

enum { PARTS = 4 };	/* tensors of a parameter: codes or floats, scale, zero, scale2 */

typedef struct convert {
	qat_context *context;
	const qat_state *state;
	qat_arena *arena;
	qat_placement placement;
	qat_tensor *tensors;
	const qat_tensor **at;
	const qat_param **infos;
	int64_t n_tensors, n_ranges;
	int64_t kept, most;		/* bytes while it runs: of all tensors, and of one more */
	int later;			/* floats are read when they are written */
	float *lent;			/* content() */
	const char **coded;
	const qat_scheme **coded_scheme;
	int64_t n_coded;
} convert;

/* ---- one weight through the device's quantize ---- */

typedef struct weight_job {
	const convert *c;
	const qat_param_state *p;
	qat_scheme_set set;
	const qat_scheme *scheme;
	int64_t out[QAT_MAX_OUT];
} weight_job;

static int fill(void *context, const qat_value *v, void *to)
{
	const weight_job *j = context;

	(void)v;
	return qat_state_read(j->c->state, j->p, to);
}

static int source(void *context, const qat_value *v, qat_source *out)
{
	(void)context;
	(void)v;
	out->fill = fill;
	return QAT_OK;
}

static int build_quantize(qat_ir *g, weight_job *j)
{
	const qat_ir_extra extra = { .schemes = { &j->set } };
	int64_t w;

	g->phase = QAT_PHASE_FORWARD;
	w = qat_ir_param(g, j->p->info.name, QAT_F32, 2, j->p->info.shape);
	if (w >= 0)
		qat_ir_node(g, QAT_OP_QUANTIZE, NULL, 1, &w, j->out, &extra);
	return g->error;
}

static int read_parts(qat_exec *x, const weight_job *j, uint8_t *codes, float *scale, void *zero)
{
	const int64_t rows = j->p->info.shape[0], cols = j->p->info.shape[1];
	const int64_t blocks = qat_scheme_blocks(j->scheme, rows, cols);
	int rc = qat_exec_read(x, j->out[0], codes, rows * cols);

	if (!rc)
		rc = qat_exec_read(x, j->out[1], scale, blocks * 4);
	if (!rc && zero)
		rc = qat_exec_read(x, j->out[2], zero,
				   blocks * qat_dtype_bytes(qat_zero_dtype(j->scheme)));
	return rc;
}

static int quantize_weight(weight_job *j, uint8_t *codes, float *scale, void *zero)
{
	qat_device *d = &((convert *)j->c)->context->device;
	qat_ir *g = qat_ir_new(1, 1, QAT_F32);
	qat_runtime rt = { .step = 0 };
	qat_exec *x = NULL;
	int rc = g ? build_quantize(g, j) : qat_fail(QAT_ENOMEM, "convert: out of memory");

	if (!rc)
		rc = qat_exec_new(&x, d, g, j->out, 3, source, j);
	if (!rc)
		rc = qat_exec_run(x, QAT_PHASE_FORWARD, &rt);
	if (!rc)
		rc = read_parts(x, j, codes, scale, zero);
	qat_exec_free(x);
	qat_ir_free(g);
	return rc;
}

/* ---- tensors ---- */

/* Those of a parameter in codes; NULL: its scheme has none. */
typedef struct coded_parts {
	qat_tensor *codes, *scale, *zero, *second;
} coded_parts;

static qat_tensor *add_tensor(convert *c, const qat_param *info, const char *suffix,
			      uint32_t dtype, int64_t rank, int64_t rows, int64_t cols)
{
	qat_tensor *t = &c->tensors[c->n_tensors];

	t->size = sizeof *t;
	t->dtype = dtype;
	t->rank = rank;
	t->shape[0] = rows;
	t->shape[1] = rank > 1 ? cols : 1;
	t->shape[2] = t->shape[3] = 1;
	t->bytes = rows * (rank > 1 ? cols : 1) * qat_dtype_bytes(dtype);
	t->name = suffix ? qat_arena_format(c->arena, "%s.%s", info->name, suffix) : info->name;
	c->infos[c->n_tensors] = suffix ? NULL : info;
	c->at[c->n_tensors++] = t;
	return t;
}

static int allocate(qat_tensor *t)
{
	t->data = malloc((size_t)(t->bytes ? t->bytes : 1));
	return t->data ? QAT_OK : qat_fail(QAT_ENOMEM, "%s: out of memory", t->name);
}

static int finite_scales(const qat_param_state *p, const float *scale, int64_t blocks)
{
	for (int64_t i = 0; i < blocks; i++)
		if (!isfinite(scale[i]))
			return qat_fail(QAT_ENUMERIC, "%s holds a value that is not finite: it "
					"cannot be quantized", p->info.name);
	return QAT_OK;
}

static int64_t bigger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int finite_values(const qat_param_state *p, const float *values)
{
	const int64_t n = qat_param_elements(&p->info);

	for (int64_t i = 0; i < n; i++)
		if (!isfinite(values[i]))
			return qat_fail(QAT_ENUMERIC, "%s holds %g at [%lld, %lld]: a state with "
					"values that are not finite is not stored", p->info.name,
					(double)values[i],
					(long long)(p->info.rank > 1 ? i / p->info.shape[1] : i),
					(long long)(p->info.rank > 1 ? i % p->info.shape[1] : 0));
	return QAT_OK;
}

/* Scales of the second level, which are made from the floats as quantize makes them; the
 * others are divided by them. */
static int split_scales(const convert *c, const qat_param_state *p, const qat_scheme *s,
			float *second, float *scale)
{
	const int64_t rows = p->info.shape[0], n = qat_param_elements(&p->info);
	const int64_t seconds = qat_scheme_seconds(s, rows), each = n / seconds;
	float *x = malloc((size_t)n * sizeof *x);
	int rc = x ? qat_state_read(c->state, p, x)
		   : qat_fail(QAT_ENOMEM, "convert: out of memory");

	for (int64_t k = 0; k < seconds && !rc; k++) {
		qat_block_stats b;

		qat_stats_init(&b);
		for (int64_t i = k * each; i < (k + 1) * each; i++)
			qat_stats_add(&b, x[i]);
		second[k] = qat_second_scale(s, b.amax, b.bad);
	}
	if (!rc)
		qat_scales_split(scale, second, seconds,
				 qat_scheme_blocks(s, rows, p->info.shape[1]));
	free(x);
	return rc;
}

static int allocate_parts(const coded_parts *to)
{
	int rc = allocate(to->codes);

	if (!rc)
		rc = allocate(to->scale);
	if (!rc && to->zero)
		rc = allocate(to->zero);
	return rc || !to->second ? rc : allocate(to->second);
}

static int fill_coded(convert *c, const qat_param_state *p, const qat_scheme *s,
		      const coded_parts *to)
{
	weight_job j = { .c = c, .p = p, .scheme = s,
			 .set = { sizeof(qat_scheme_set), -1, 1, &s } };
	const int64_t rows = p->info.shape[0], cols = p->info.shape[1];
	const int64_t blocks = qat_scheme_blocks(s, rows, cols);
	uint8_t *plain = malloc((size_t)(rows * cols));
	float *scales = malloc((size_t)blocks * sizeof *scales);
	int rc = plain && scales ? allocate_parts(to)
				 : qat_fail(QAT_ENOMEM, "convert: out of memory");

	if (!rc)
		rc = quantize_weight(&j, plain, scales, to->zero ? to->zero->data : NULL);
	if (!rc)
		rc = finite_scales(p, scales, blocks);
	if (!rc && to->second)
		rc = split_scales(c, p, s, to->second->data, scales);
	if (!rc) {
		for (int64_t r = 0; r < rows; r++)
			qat_pack_row((uint8_t *)to->codes->data + r * to->codes->shape[1],
				     plain + r * cols, s->bits, cols);
		qat_scales_store(to->scale->data, scales, (uint32_t)s->scale_format, blocks);
	}
	free(plain);
	free(scales);
	return rc;
}

static int stored_finite(const qat_state *s, const qat_param_state *p)
{
	const int64_t blocks = qat_scheme_blocks(p->codes, p->info.shape[0], p->info.shape[1]);
	float *scales = malloc((size_t)blocks * sizeof *scales);
	int rc = scales ? qat_state_scale(s, p, scales)
			: qat_fail(QAT_ENOMEM, "convert: out of memory");

	if (!rc)
		rc = finite_scales(p, scales, blocks);
	free(scales);
	return rc;
}

/* A parameter that is held under the very scheme already: its tensors as they are. */
static int copy_coded(const qat_state *s, const qat_param_state *p, const coded_parts *parts)
{
	const qat_tensor *from[PARTS] = { &p->at, &p->scale, &p->zero, &p->second };
	qat_tensor *to[PARTS] = { parts->codes, parts->scale, parts->zero, parts->second };

	for (int i = 0; i < PARTS; i++) {
		if (!to[i])
			continue;
		if (to[i]->bytes != from[i]->bytes || allocate(to[i]))
			return qat_fail(QAT_ENOMEM, "%s: cannot be copied", p->info.name);
		memcpy(to[i]->data, from[i]->data, (size_t)to[i]->bytes);
	}
	return stored_finite(s, p);
}

/* The weight in floats, its codes and scales on the device and beside it. */
static void count_coded(convert *c, const qat_param_state *p, const coded_parts *parts)
{
	const qat_tensor *const all[PARTS] = { parts->codes, parts->scale, parts->zero,
					       parts->second };
	const int64_t n = qat_param_elements(&p->info);
	const int64_t scales = parts->scale->shape[0] * parts->scale->shape[1];

	for (int i = 0; i < PARTS; i++)
		c->kept += all[i] ? all[i]->bytes : 0;
	c->most = bigger(c->most, 4 * n + 2 * (n + 8 * scales));
}

static int add_coded(convert *c, const qat_param_state *p, const qat_scheme *s, int values)
{
	const int64_t rows = p->info.shape[0], cols = p->info.shape[1];
	const int64_t sr = s->block_rows ? rows / s->block_rows : 1;
	const int64_t sc = s->block_cols ? cols / s->block_cols : 1;
	const int64_t seconds = qat_scheme_seconds(s, rows);
	coded_parts to = { NULL };

	to.codes = add_tensor(c, &p->info, "codes", QAT_U8, 2, rows, qat_packed_row(s->bits, cols));
	to.scale = add_tensor(c, &p->info, "scale", (uint32_t)s->scale_format, 2, sr, sc);
	if (s->zero)
		to.zero = add_tensor(c, &p->info, "zero", qat_zero_dtype(s), 2, sr, sc);
	if (seconds)
		to.second = add_tensor(c, &p->info, "scale2", QAT_F32, 2, seconds, 1);
	c->coded[c->n_coded] = p->info.name;
	c->coded_scheme[c->n_coded++] = s;
	count_coded(c, p, &to);
	if (!values)
		return QAT_OK;
	return p->codes && qat_scheme_same(p->codes, s) ? copy_coded(c->state, p, &to)
							: fill_coded(c, p, s, &to);
}

static int read_floats(const convert *c, const qat_param_state *p, float *to)
{
	const int rc = qat_state_read(c->state, p, to);

	return rc ? rc : finite_values(p, to);
}

static int add_floats(convert *c, const qat_param_state *p, int values)
{
	qat_tensor *t = add_tensor(c, &p->info, NULL, QAT_F32, p->info.rank, p->info.shape[0],
				   p->info.shape[1]);
	int rc;

	if (c->later)
		c->most = bigger(c->most, t->bytes);
	else
		c->kept += t->bytes;
	if (!values || c->later)
		return QAT_OK;
	rc = allocate(t);
	return rc ? rc : read_floats(c, p, t->data);
}

/* A qat_checkpoint's: floats that are not there. */
static int content(void *context, int64_t index, const void **data)
{
	convert *c = context;
	const qat_tensor *t = c->at[index];

	free(c->lent);
	*data = c->lent = malloc((size_t)t->bytes + 1);
	return c->lent ? read_floats(c, qat_state_param(c->state, t->name), c->lent)
		       : qat_fail(QAT_ENOMEM, "%s: out of memory", t->name);
}

static int add_all(convert *c, int values)
{
	for (int64_t i = 0; i < c->state->n_params; i++) {
		const qat_param_state *p = &c->state->params[i];
		const qat_scheme *s = NULL;
		int rc = qat_placement_weight(&s, &c->placement, p);

		if (!rc)
			rc = s ? add_coded(c, p, s, values) : add_floats(c, p, values);
		if (rc)
			return rc;
	}
	return QAT_OK;
}

static int start(convert *c, qat_context *context, const qat_state *s, const char *sites,
		 const qat_format *format)
{
	const size_t n = (size_t)s->n_params * PARTS + 1;
	int rc;

	*c = (convert){ .context = context, .state = s };
	c->later = qat_format_lends(format ? format : context->native);
	rc = qat_arena_new(&c->arena);
	if (rc)
		return rc;
	c->tensors = qat_arena_array(c->arena, n, sizeof *c->tensors);
	c->at = qat_arena_array(c->arena, n, sizeof *c->at);
	c->infos = qat_arena_array(c->arena, n, sizeof *c->infos);
	c->coded = qat_arena_array(c->arena, n, sizeof *c->coded);
	c->coded_scheme = qat_arena_array(c->arena, n, sizeof *c->coded_scheme);
	if (!c->tensors || !c->at || !c->infos || !c->coded || !c->coded_scheme)
		return QAT_ENOMEM;
	return qat_placement_start(&c->placement, context, s, sites, c->arena);
}

static void finish(convert *c)
{
	for (int64_t i = 0; i < c->n_tensors; i++)
		free(c->tensors[i].data);
	free(c->lent);
	qat_arena_free(c->arena);
}

/* Input and attention schemes go with the state; they are known by asking for all. */
static int place_inputs(convert *c)
{
	const char *const *names;
	int64_t n;
	int rc = qat_state_sites(&names, &n, c->state, c->arena);

	for (int64_t i = 0; i < n && !rc; i++) {
		const char *weight = qat_arena_format(c->arena, "%s.weight", names[i]);
		const qat_param_state *p = weight ? qat_state_param(c->state, weight) : NULL;
		const qat_scheme_set *set;
		qat_site site = { .size = sizeof site, .rows = 1, .name = names[i],
				  .cols = p ? p->info.shape[1] : c->state->info.hidden };

		for (site.port = QAT_PORT_INPUT; site.port < QAT_PORTS && !rc; site.port++)
			rc = qat_placement_find(&c->placement, &site, &set);
	}
	return rc;
}

/* Static ranges go with the state as they are. */
static int add_ranges(convert *c)
{
	qat_tensor *ranges;
	int64_t n = 0;
	const int rc = qat_state_ranges(&ranges, &n, c->state, c->arena);
	const qat_tensor **at = rc ? NULL : qat_arena_array(c->arena,
		(size_t)(c->n_tensors + n) + 1, sizeof *at);

	if (!at)
		return rc ? rc : QAT_ENOMEM;
	memcpy(at, c->at, (size_t)c->n_tensors * sizeof *at);
	for (int64_t i = 0; i < n; i++)
		at[c->n_tensors + i] = &ranges[i];
	c->at = at;
	c->n_ranges = n;
	return QAT_OK;
}

static int write_out(convert *c, const char *path, const qat_format *format)
{
	const qat_state *s = c->state;
	qat_state_doc d = {
		.family = s->family, .parent = s->parent ? s->parent : s->name,
		.precision = (uint32_t)c->context->p->device.precision,
		.tokens_trained = s->tokens_trained,
		.placed = c->placement.placed, .n_placed = c->placement.n_placed,
		.coded = c->coded, .coded_scheme = c->coded_scheme, .n_coded = c->n_coded,
	};
	qat_checkpoint out = { .size = sizeof out, .family = s->family,
			       .n_tensors = c->n_tensors + c->n_ranges, .tensors = c->at,
			       .params = c->n_ranges ? NULL : c->infos,
			       .content = c->later ? content : NULL, .context = c };
	char *doc = NULL;
	int rc;

	memcpy(out.docs, s->docs, sizeof out.docs);
	qat_context_tokenizer_of(c->context, s, &out.docs[QAT_DOC_TOKENIZER], &d.tokenizer);
	rc = qat_state_doc_write(&doc, &d);
	if (!rc) {
		out.docs[QAT_DOC_STATE] = (qat_text){ doc, (int64_t)strlen(doc) };
		rc = format->save(path, &out);
	}
	free(doc);
	return rc;
}

/* Only our own format has a place for schemes. */
static int check_format(const convert *c, const char *path, const qat_format *format)
{
	if (!format || format == c->context->native || !c->placement.n_placed)
		return QAT_OK;
	return qat_fail(QAT_ENOTSUP, "%s: this format does not hold schemes (codes, scales, ranges of "
			"inputs): leave `format` out to save in our own, or strip the sites",
			path);
}

int qat_convert_check(qat_context *context, const qat_state *s, const char *sites,
		      const char *path, const qat_format *format)
{
	convert c;
	int rc = start(&c, context, s, sites, format);

	if (!rc)
		rc = add_all(&c, 0);
	if (!rc)
		rc = place_inputs(&c);
	if (!rc)
		rc = check_format(&c, path, format);
	finish(&c);
	return rc;
}

int qat_convert(qat_context *context, const qat_state *s, const char *sites, const char *path,
		const qat_format *format, int64_t *need)
{
	const int64_t before = qat_memory_now();
	convert c;
	int rc = start(&c, context, s, sites, format);

	if (!rc)
		rc = add_all(&c, 1);
	if (!rc)
		rc = place_inputs(&c);
	if (!rc)
		rc = add_ranges(&c);
	if (!rc)
		rc = check_format(&c, path, format);
	if (!rc)
		rc = write_out(&c, path, format ? format : context->native);
	*need = before + c.kept + c.most;
	finish(&c);
	return rc;
}

int qat_converted_size(qat_context *context, const qat_state *s, int64_t *bytes,
		       double *effective_bits)
{
	int64_t coded_bytes = 0, coded_params = 0;
	convert c;
	int rc = start(&c, context, s, NULL, NULL);

	if (!rc)
		rc = add_all(&c, 0);
	*bytes = 0;
	for (int64_t i = 0; !rc && i < c.n_tensors; i++) {
		*bytes += c.tensors[i].bytes;
		if (!c.infos[i])
			coded_bytes += c.tensors[i].bytes;
	}
	for (int64_t i = 0; !rc && i < c.n_coded; i++)
		coded_params += qat_param_elements(&qat_state_param(s, c.coded[i])->info);
	*effective_bits = coded_params ? 8.0 * (double)coded_bytes / (double)coded_params : NAN;
	finish(&c);
	return rc;
}
