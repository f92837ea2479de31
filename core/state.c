/* state.c - opening states: a file is found to hold what its model declares. */
#include "state.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <qatrun/json.h>

#include "error.h"
#include "option.h"
#include "plugin.h"
#include "state_internal.h"

int64_t qat_param_elements(const qat_param *p)
{
	int64_t n = 1;

	for (int64_t i = 0; i < p->rank; i++)
		n *= p->shape[i];
	return n;
}

const qat_param_state *qat_state_param(const qat_state *s, const char *name)
{
	for (int64_t i = 0; i < s->n_params; i++)
		if (!strcmp(s->params[i].info.name, name))
			return &s->params[i];
	return NULL;
}

/* ---- parameters as the model declares them ---- */

static int grow_params(qat_state *s)
{
	const int64_t room = s->room_params ? 2 * s->room_params : 256;
	qat_param_state *p;

	if (s->n_params < s->room_params)
		return QAT_OK;
	p = realloc(s->params, (size_t)room * sizeof *p);
	if (!p)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", s->name);
	s->params = p;
	s->room_params = room;
	return QAT_OK;
}

static int check_param(const qat_state *s, const qat_param *p)
{
	int64_t n = 1;

	if (p->rank < 1 || p->rank > 2 || !p->name)
		return qat_fail(QAT_EINVAL, "model %s: parameter %s has rank %lld", s->family,
				p->name ? p->name : "(no name)", (long long)p->rank);
	for (int64_t i = 0; i < p->rank; i++)
		if (p->shape[i] <= 0 || __builtin_mul_overflow(n, p->shape[i], &n) ||
		    n > INT64_MAX / 16)
			return qat_fail(QAT_EINVAL, "model %s: parameter %s: impossible shape",
					s->family, p->name);
	return QAT_OK;
}

static int add_param(void *to, const qat_param *p)
{
	qat_state *s = to;
	qat_param_state *out;
	int rc = check_param(s, p);

	if (!rc)
		rc = grow_params(s);
	if (rc)
		return rc;
	out = &s->params[s->n_params];
	memset(out, 0, sizeof *out);
	out->info = *p;
	out->info.name = qat_arena_text(s->arena, p->name);
	out->info.hub_name = qat_arena_text(s->arena, p->hub_name);
	out->index = s->n_params++;
	return out->info.name ? QAT_OK : QAT_ENOMEM;
}

static int declare(qat_state *s)
{
	const qat_model *m = s->model.vtable;
	int rc;

	s->info.size = sizeof s->info;
	rc = m->check(s->model.self, &s->info);
	return rc ? rc : m->params(s->model.self, add_param, s);
}

/* ---- where they lie in the file ---- */

static int find_extra(const qat_state *s, const qat_param_state *p, const char *suffix,
		      int64_t elements, uint32_t dtype, qat_tensor *out)
{
	qat_param extra = { .size = sizeof extra, .rank = 1, .shape = { elements } };
	int rc;

	extra.name = qat_arena_format(s->arena, "%s.%s", p->info.name, suffix);
	extra.hub_name = extra.name;
	if (!extra.name)
		return QAT_ENOMEM;
	out->size = sizeof *out;
	rc = s->format->find(s->file, &extra, out);
	if (rc && rc != QAT_ENOTFOUND)
		return rc;
	if (rc || !out->data || out->dtype != dtype ||
	    out->bytes != elements * qat_dtype_bytes(dtype))
		return qat_fail(QAT_EFORMAT, "%s: %s is missing, or of the wrong type or size",
				s->path, extra.name);
	return QAT_OK;
}

static int check_blocks(const qat_state *s, const qat_param_state *p)
{
	const qat_scheme *c = p->codes;
	const int64_t rows = p->info.shape[0], cols = p->info.shape[1];

	if (p->info.rank != 2 || (c->block_rows && rows % c->block_rows) ||
	    (c->block_cols && cols % c->block_cols) || (c->second_rows && rows % c->second_rows))
		return qat_fail(QAT_EFORMAT, "%s: %s: its scheme's blocks do not divide it",
				s->path, p->info.name);
	return QAT_OK;
}

static int find_codes(const qat_state *s, qat_param_state *p)
{
	const qat_scheme *c = p->codes;
	int rc = check_blocks(s, p);
	const int64_t bytes = rc ? 0 : p->info.shape[0] * qat_packed_row(c->bits, p->info.shape[1]);
	const int64_t blocks = rc ? 0 : qat_scheme_blocks(c, p->info.shape[0], p->info.shape[1]);

	if (!rc)
		rc = find_extra(s, p, "codes", bytes, QAT_U8, &p->at);
	if (!rc)
		rc = find_extra(s, p, "scale", blocks, (uint32_t)c->scale_format, &p->scale);
	if (!rc && c->zero)
		rc = find_extra(s, p, "zero", blocks, qat_zero_dtype(c), &p->zero);
	if (!rc && qat_scheme_seconds(c, p->info.shape[0]))
		rc = find_extra(s, p, "scale2", qat_scheme_seconds(c, p->info.shape[0]), QAT_F32,
				&p->second);
	return rc;
}

static int shape_fits(const qat_param *p, const qat_tensor *t)
{
	if (p->rank != t->rank)
		return 0;
	for (int64_t i = 0; i < p->rank; i++)
		if (p->shape[i] != t->shape[i])
			return 0;
	return 1;
}

/* "[256, 32]"; of more dimensions than can be, the first. */
static const char *shape_text(char out[128], int64_t rank, const int64_t *shape)
{
	size_t n = 0;

	out[0] = '\0';
	for (int64_t i = 0; i < rank && i < QAT_MAX_RANK; i++)
		n += (size_t)snprintf(out + n, 128 - n, "%s%lld", i ? ", " : "[",
				      (long long)shape[i]);
	strcpy(out + n, rank ? "]" : "[]");
	return out;
}

static int wrong_shape(const qat_state *s, const qat_param_state *p)
{
	char has[128], asked[128];

	return qat_fail(QAT_EFORMAT, "%s: tensor %s is %s, but config.json asks for %s", s->path,
			p->info.hub_name, shape_text(has, p->at.rank, p->at.shape),
			shape_text(asked, p->info.rank, p->info.shape));
}

static int find_floats(const qat_state *s, qat_param_state *p)
{
	int rc;

	p->at.size = sizeof p->at;
	rc = s->format->find(s->file, &p->info, &p->at);
	if (rc == QAT_ENOTFOUND && (p->info.flags & QAT_PARAM_OPTIONAL)) {
		p->at.dtype = 0;
		return QAT_OK;
	}
	if (rc == QAT_ENOTFOUND)
		return qat_fail(QAT_EFORMAT, "%s: tensor %s (%s) is missing: config.json and the "
				"tensors do not belong together", s->path, p->info.hub_name,
				p->info.name);
	if (!rc && !shape_fits(&p->info, &p->at))
		return wrong_shape(s, p);
	return rc;
}

static int find_all(qat_state *s)
{
	for (int64_t i = 0; i < s->n_params; i++) {
		qat_param_state *p = &s->params[i];
		const int rc = p->codes ? find_codes(s, p) : find_floats(s, p);

		if (rc)
			return rc;
	}
	return QAT_OK;
}

/* ---- opening ---- */

static int try_format(void *context, const qat_interface *i, const void *vtable)
{
	qat_state *s = context;
	const qat_format *f = vtable;

	if (f->probe(s->path) <= 0)
		return 0;
	s->format = f;
	s->format_name = i->name;
	return 1;
}

static int read_config(qat_state *s, const char *family)
{
	const qat_option_env env = { .arena = s->arena, .folder = "/" };
	const qat_text *doc = &s->docs[QAT_DOC_CONFIG];
	json_error_t e = { .text = "there is none" };
	json_t *config = NULL;
	int rc = doc->at ? qat_json_parse(&config, &e, doc->at, doc->length, 0) : QAT_EFORMAT;

	if (rc)
		return qat_fail(rc, "%s: config.json: %s", s->path,
				rc == QAT_ENOMEM ? "out of memory" : e.text);
	if (!family)
		family = json_string_value(json_object_get(config, "model_type"));
	if (!family || !qat_plugin_name_valid(family)) {
		json_decref(config);
		return qat_fail(QAT_EFORMAT, "%s: config.json names no model_type", s->path);
	}
	rc = qat_instance_default(&s->model, QAT_KIND_MODEL, family, &env);
	if (!rc)
		rc = qat_option_fill_json(s->model.self, s->model.interface->options, config,
					  s->path, &env);
	s->family = qat_arena_text(s->arena, family);
	json_decref(config);
	return rc;
}

/* A scheme at a site that the model does not have would be lost without a word. */
static int check_sites(const qat_state *s)
{
	const char *const *names;
	int64_t n;
	int rc = qat_state_sites(&names, &n, s, s->arena);

	for (int64_t i = 0; i < s->n_placed && !rc; i++) {
		int64_t k = 0;

		while (k < n && strcmp(names[k], s->placed[i].site))
			k++;
		if (k == n)
			rc = qat_fail(QAT_EFORMAT, "%s: the state document has a scheme at %s, a site "
				      "that the model does not have", s->path, s->placed[i].site);
	}
	return rc;
}

static int attach_doc(qat_state *s, const qat_state_doc *d)
{
	s->placed = d->placed;
	s->n_placed = d->n_placed;
	s->tokens_trained = d->tokens_trained;
	s->precision = d->precision;
	s->tokenizer = d->tokenizer;
	if (check_sites(s))
		return QAT_EFORMAT;
	for (int64_t i = 0; i < d->n_coded; i++) {
		const qat_param_state *p = qat_state_param(s, d->coded[i]);

		if (!p)
			return qat_fail(QAT_EFORMAT, "%s: the state document names %s, which the "
					"model does not have", s->path, d->coded[i]);
		s->params[p->index].codes = d->coded_scheme[i];
	}
	return QAT_OK;
}

static int unknown(const char *path)
{
	struct stat st;

	if (!stat(path, &st) && S_ISDIR(st.st_mode))
		return qat_fail(QAT_EFORMAT, "%s: no format plugin knows this folder: a model's has "
				"config.json and its tensors", path);
	return qat_fail(QAT_EFORMAT, "%s: no format plugin knows this file", path);
}

static int open_file(qat_state *s)
{
	qat_state_doc doc = { 0 };
	int rc = qat_plugin_each(QAT_KIND_FORMAT, try_format, s);

	if (rc < 0)
		return rc;
	if (!s->format)
		return unknown(s->path);
	rc = s->format->open(&s->file, s->path);
	for (uint32_t i = 1; i < QAT_DOCS && !rc; i++) {
		rc = s->format->document(s->file, i, &s->docs[i]);
		/* A model is of use without its tokenizer: the pipeline may name another. */
		if (rc && i == QAT_DOC_TOKENIZER) {
			s->tokenizer_error = qat_arena_text(s->arena, qat_error());
			rc = QAT_OK;
		}
	}
	if (!rc && s->docs[QAT_DOC_STATE].at)
		rc = qat_state_doc_read(&doc, s->docs[QAT_DOC_STATE].at,
					s->docs[QAT_DOC_STATE].length, s->path, s->arena);
	if (!rc)
		rc = read_config(s, doc.family);
	if (!rc)
		rc = declare(s);
	if (!rc)
		rc = attach_doc(s, &doc);
	if (!rc)
		rc = find_all(s);
	return rc ? rc : qat_state_check_unused(s);
}

static int state_new(qat_state **out, const char *name)
{
	qat_state *s = calloc(1, sizeof *s);
	int rc = s ? qat_arena_new(&s->arena) : qat_fail(QAT_ENOMEM, "out of memory");

	if (rc) {
		free(s);
		return rc;
	}
	s->name = qat_arena_text(s->arena, name);
	*out = s;
	return QAT_OK;
}

int qat_state_open(qat_state **out, const char *name, const char *path)
{
	qat_state *s;
	int rc = state_new(&s, name);

	if (rc)
		return rc;
	s->path = qat_arena_text(s->arena, path);
	rc = open_file(s);
	if (rc)
		qat_state_free(s);
	else
		*out = s;
	return rc;
}

int qat_state_random(qat_state **out, const char *name, const qat_instance *family,
		     uint64_t seed)
{
	qat_state *s;
	int rc = state_new(&s, name);

	if (rc)
		return rc;
	s->seed = seed;
	s->model = *family;
	s->family = family->interface->name;
	rc = declare(s);
	if (!rc)
		rc = qat_config_text(s);
	if (rc)
		qat_state_free(s);
	else
		*out = s;
	return rc;
}

void qat_state_free(qat_state *s)
{
	if (!s)
		return;
	if (s->file)
		s->format->close(s->file);
	free(s->params);
	qat_arena_free(s->arena);
	free(s);
}

int qat_format_lends(const qat_format *f)
{
	return f->size >= sizeof *f;
}

void qat_state_let_go(const qat_state *s)
{
	if (s->file && s->format->size >= sizeof *s->format && s->format->let_go)
		s->format->let_go(s->file);
}

/* ---- sites ---- */

static int add_site(const char **names, int64_t *n, const char *name, size_t length,
		    qat_arena *arena)
{
	for (int64_t i = 0; i < *n; i++)
		if (strlen(names[i]) == length && !memcmp(names[i], name, length))
			return QAT_OK;
	names[*n] = qat_arena_format(arena, "%.*s", (int)length, name);
	return names[(*n)++] ? QAT_OK : QAT_ENOMEM;
}

/* Sites are where 2-D weights are: "<site>.weight"; lm_head is one also when tied, and
 * "layers.<n>.attn" stands for the keys and values of its attention. */
int qat_state_sites(const char *const **names, int64_t *count, const qat_state *s,
		    qat_arena *arena)
{
	const char **at = qat_arena_array(arena, 2 * (size_t)s->n_params + 2, sizeof *at);
	int64_t n = 0;
	int rc = at ? QAT_OK : QAT_ENOMEM;

	for (int64_t i = 0; i < s->n_params && !rc; i++) {
		const qat_param *p = &s->params[i].info;
		const char *dot = strrchr(p->name, '.'), *attn = strstr(p->name, ".attn.");

		if (p->rank != 2 || !dot || strcmp(dot, ".weight") || !strncmp(p->name, "positions.", 10))
			continue;
		if (attn)
			rc = add_site(at, &n, p->name, (size_t)(attn - p->name) + 5, arena);
		if (!rc)
			rc = add_site(at, &n, p->name, (size_t)(dot - p->name), arena);
	}
	if (!rc)
		rc = add_site(at, &n, "lm_head", 7, arena);
	*names = at;
	*count = n;
	return rc;
}
