/* identity.c - lines "key=value" of all that a step's result depends on. */
#include "identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "error.h"
#include "hash.h"
#include "option.h"
#include "plugin.h"

enum { BLOCK = 1 << 20, SHOWN = 120 };

struct qat_identity {
	qat_step *step;
	char **text;		/* [steps], NULL until made */
	uint64_t *data;		/* [data sets], 0 until made */
	uint64_t base;
};

/* One text while it is made. */
struct writer {
	qat_identity *d;
	FILE *file;
	int rc;
};

/* ---- content ---- */

static int hash_file(uint64_t *out, const char *path)
{
	char *block = malloc(BLOCK);
	FILE *f = fopen(path, "rbe");
	qat_hash h;
	size_t n;
	int rc = QAT_OK;

	qat_hash_begin(&h);
	while (f && block && (n = fread(block, 1, BLOCK, f)))
		qat_hash_add(&h, block, (int64_t)n);
	if (!block)
		rc = qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	else if (!f || ferror(f))
		rc = qat_fail(QAT_EIO, "%s: cannot be read", path);
	if (f)
		fclose(f);
	free(block);
	*out = qat_hash_end(&h);
	return rc;
}

static void add_tensor(qat_hash *h, const qat_tensor *t)
{
	if (!t->data)
		return;
	qat_hash_add(h, &t->dtype, sizeof t->dtype);
	qat_hash_add(h, t->data, t->bytes);
}

/* A parameter as it lies in the file, or as it is read where it does not. */
static int add_param(qat_hash *h, const qat_state *s, const qat_param_state *p)
{
	const int64_t n = qat_param_elements(&p->info) * 4;
	float *values;
	int rc;

	qat_hash_add(h, p->info.name, (int64_t)strlen(p->info.name) + 1);
	add_tensor(h, &p->at);
	add_tensor(h, &p->scale);
	add_tensor(h, &p->zero);
	add_tensor(h, &p->second);
	if (p->at.data || !p->at.dtype) {
		qat_state_let_go(s);
		return QAT_OK;
	}
	values = malloc((size_t)n);
	rc = values ? qat_state_read(s, p, values)
		    : qat_fail(QAT_ENOMEM, "%s: out of memory", p->info.name);
	if (!rc)
		qat_hash_add(h, values, n);
	free(values);
	return rc;
}

static int hash_folder(uint64_t *out, const qat_state *s)
{
	qat_hash h;
	int rc = QAT_OK;

	qat_hash_begin(&h);
	if (s->docs[QAT_DOC_STATE].at)
		qat_hash_add(&h, s->docs[QAT_DOC_STATE].at, s->docs[QAT_DOC_STATE].length);
	for (int64_t i = 0; i < s->n_params && !rc; i++)
		rc = add_param(&h, s, &s->params[i]);
	*out = qat_hash_end(&h);
	return rc;
}

/* A folder may hold more than the model: only what is read of it counts. */
static int hash_base(qat_identity *d, const qat_state *s)
{
	struct stat st;

	if (d->base || !s->path)
		return QAT_OK;
	return !stat(s->path, &st) && S_ISREG(st.st_mode) ? hash_file(&d->base, s->path)
							   : hash_folder(&d->base, s);
}

/* The sequences that it gives, which the tokenizer has its part in. */
static int hash_data(qat_identity *d, int64_t index, const char *name)
{
	qat_data *data;
	qat_hash h;
	int64_t length;
	int32_t *ids = NULL;
	int rc = d->data[index] ? QAT_OK : qat_step_api.data_open(d->step, &data, name, "base");

	if (rc || d->data[index])
		return rc;
	length = qat_step_api.data_length(data);
	ids = malloc((size_t)length * 2 * sizeof *ids);
	if (!ids)
		rc = qat_fail(QAT_ENOMEM, "data %s: out of memory", name);
	qat_hash_begin(&h);
	for (int64_t i = 0; i < qat_step_api.data_count(data) && !rc; i++) {
		rc = qat_step_api.data_get(data, i, ids, ids + length);
		qat_hash_add(&h, ids, length * 2 * (int64_t)sizeof *ids);
	}
	d->data[index] = qat_hash_end(&h);
	qat_step_api.data_close(data);
	free(ids);
	return rc;
}

/* ---- lines ---- */

static const char *version(const qat_interface *i)
{
	const char *v = qat_plugin_version(i);

	return v ? v : "?";
}

/* `paths`: 0 leaves out where files lie. */
static void put_options(struct writer *w, const char *head, const qat_option *table,
			const void *self, int paths)
{
	char *text, *line, *rest;

	if (w->rc)
		return;
	w->rc = qat_option_text(&text, table, self);
	if (w->rc)
		return;
	for (rest = text; (line = strsep(&rest, "\n")) && *line; ) {
		const qat_option *o = table;
		const size_t n = strcspn(line, ".=");

		while (o->name && (strlen(o->name) != n || strncmp(o->name, line, n)))
			o++;
		if (paths || (o->type != QAT_OPT_PATH && o->type != QAT_OPT_PATHS))
			fprintf(w->file, "%s%s\n", head, line);
	}
	free(text);
}

static void put_plugin(struct writer *w, const char *head, const qat_instance *i, int paths)
{
	char dotted[300];

	fprintf(w->file, "%s=%s\n%s: version of the plugin=%s\n", head, i->interface->name, head,
		version(i->interface));
	snprintf(dotted, sizeof dotted, "%s.", head);
	if (i->self)
		put_options(w, dotted, i->interface->options, i->self, paths);
}

static void put_scheme(struct writer *w, int64_t scheme)
{
	const qat_pipeline *p = w->d->step->context->p;

	for (int64_t i = scheme, n = 0; i >= 0 && n < p->n_schemes; i = p->schemes[i].of, n++) {
		char head[200];

		snprintf(head, sizeof head, "schemes.%s", p->schemes[i].name);
		put_plugin(w, head, &p->schemes[i].plugin, 1);
	}
}

static void put_sites(struct writer *w, const char *name)
{
	static const char *const ports[QAT_PORTS] = { "weight", "input", "kv" };
	const qat_pipeline *p = w->d->step->context->p;
	const qat_sites *set = name ? qat_pipeline_sites_find(p, name) : NULL;

	for (int64_t i = 0; set && i < set->n_rules; i++) {
		const qat_site_rule *r = &set->rules[i];

		fprintf(w->file, "sites.%s[%lld]=%s", name, (long long)i, qat_yaml_text(r->match));
		for (int k = 0; k < QAT_PORTS; k++)
			if (r->scheme[k] != QAT_SITE_UNSET)
				fprintf(w->file, " %s: %s", ports[k], r->scheme[k] < 0 ? "none"
					: p->schemes[r->scheme[k]].name);
		fputc('\n', w->file);
		for (int k = 0; k < QAT_PORTS; k++)
			put_scheme(w, r->scheme[k]);
	}
}

static void put_data(struct writer *w, const char *name)
{
	const qat_pipeline *p = w->d->step->context->p;
	const int64_t i = name ? qat_pipeline_data_index(p, name) : -1;
	char head[200];

	if (i < 0 || w->rc)
		return;
	snprintf(head, sizeof head, "data.%s", name);
	put_plugin(w, head, &p->data[i].plugin, 0);
	w->rc = hash_data(w->d, i, name);
	fprintf(w->file, "content of data.%s=%016llx\n", name, (unsigned long long)w->d->data[i]);
}

static void put_state(struct writer *w, const char *name)
{
	const qat_pipeline *p = w->d->step->context->p;
	const int64_t i = name ? qat_pipeline_state_index(p, name) : -1;
	const char *text;

	if (i < 1 || w->rc)
		return;
	w->rc = qat_identity_of(w->d, &text, p->states[i].step);
	if (!w->rc)
		fprintf(w->file, "making of state %s=%016llx\n", name,
			(unsigned long long)qat_hash_text(text));
}

static void put_states(struct writer *w, const qat_strings *names)
{
	for (int64_t i = 0; i < names->count; i++)
		put_state(w, names->at[i]);
}

/* The name and the options of a plugin are among those of the step. */
static void put_version(struct writer *w, const char *key, const qat_instance *i)
{
	if (i)
		fprintf(w->file, "%s: version of the plugin=%s\n", key, version(i->interface));
}

/* What the options of a step name. */
static void put_named(struct writer *w, const qat_option *table, const void *self)
{
	for (const qat_option *o = table; o && o->name; o++) {
		const void *field = (const char *)self + o->offset;
		const char *name = o->type == QAT_OPT_STATE || o->type == QAT_OPT_DATA ||
			o->type == QAT_OPT_SITES || o->type == QAT_OPT_SCHEME
			? *(const char *const *)field : NULL;

		if (o->type == QAT_OPT_TABLE)
			put_named(w, o->table, field);
		else if (o->type == QAT_OPT_PLUGIN)
			put_version(w, o->name, *(const qat_instance *const *)field);
		else if (o->type == QAT_OPT_STATES)
			put_states(w, field);
		else if (o->type == QAT_OPT_STATE)
			put_state(w, name);
		else if (o->type == QAT_OPT_DATA)
			put_data(w, name);
		else if (o->type == QAT_OPT_SITES)
			put_sites(w, name);
		else if (name)
			put_scheme(w, qat_pipeline_scheme_index(w->d->step->context->p, name));
	}
}

static void put_caps(struct writer *w, const char *of, const qat_caps *caps)
{
	fprintf(w->file, "instruction set%s=%s\nkernels%s=%s\n", of, caps->isa, of, caps->kernels);
}

/* Who runs what the device cannot. It counts also where it has nothing to run: which
 * steps need it would be known too late. */
static void put_fallback(struct writer *w)
{
	qat_device *d = &w->d->step->context->fallback;

	if (!d->name)
		return;
	put_plugin(w, "device.fallback to", &d->backend, 1);
	if (qat_device_ready(d))
		fputs("instruction set of the fallback=none: it cannot be opened\n", w->file);
	else
		put_caps(w, " of the fallback", &d->caps);
}

/* Of the C library are a few logarithms, powers and cosines. */
static void put_library(struct writer *w)
{
	char name[64] = "";

#ifdef _CS_GNU_LIBC_VERSION
	if (!confstr(_CS_GNU_LIBC_VERSION, name, sizeof name))
		name[0] = '\0';
#endif
	fprintf(w->file, "C library=%s\n", name);
}

static void put_machine(struct writer *w)
{
	const qat_context *c = w->d->step->context;

	fprintf(w->file, "qatrun=%s\nnumerics=%d\nseed=%lld\n", PACKAGE_VERSION, QAT_NUMERICS,
		(long long)c->p->seed);
	put_library(w);
	fprintf(w->file, "device.precision=%s\n",
		c->p->device.precision == QAT_BF16 ? "bf16" : "f32");
	put_plugin(w, "device.backend", &c->p->device.backend, 1);
	put_caps(w, "", &c->device.caps);
	put_fallback(w);
}

static void put_base(struct writer *w)
{
	const qat_state *s;
	const qat_interface *format;
	const void *vtable;

	if (!w->rc)
		w->rc = qat_context_state(w->d->step->context, &s, "base");
	if (!w->rc)
		put_plugin(w, "model", &s->model, 1);
	if (!w->rc && s->format_name &&
	    !qat_plugin_find(&format, &vtable, QAT_KIND_FORMAT, s->format_name))
		fprintf(w->file, "format of the model=%s\nformat of the model: version of the "
			"plugin=%s\n", format->name, version(format));
	if (!w->rc)
		w->rc = hash_base(w->d, s);
	if (!w->rc)
		fprintf(w->file, "content of the model=%016llx\n", (unsigned long long)w->d->base);
}

/* ---- the text ---- */

int qat_identity_of(qat_identity *d, const char **out, int64_t step)
{
	const qat_pipeline_step *s = &d->step->context->p->steps[step];
	struct writer w = { .d = d };
	char *text = NULL;
	size_t bytes;

	*out = d->text[step];
	if (*out)
		return QAT_OK;
	w.file = open_memstream(&text, &bytes);
	if (!w.file)
		return qat_fail(QAT_ENOMEM, "out of memory");
	fprintf(w.file, "task=%s\ntask: version of the plugin=%s\n", s->task,
		version(s->plugin.interface));
	put_options(&w, "", s->plugin.interface->options, s->plugin.self, 1);
	put_machine(&w);
	put_named(&w, s->plugin.interface->options, s->plugin.self);
	put_base(&w);
	if ((fclose(w.file) || !text) && !w.rc)
		w.rc = qat_fail(QAT_ENOMEM, "out of memory");
	if (w.rc)
		free(text);
	else
		*out = d->text[step] = text;
	return w.rc;
}

int qat_identity_new(qat_identity **out, qat_step *s)
{
	qat_identity *d = calloc(1, sizeof *d);

	if (d) {
		d->step = s;
		d->text = calloc((size_t)s->context->p->n_steps + 1, sizeof *d->text);
		d->data = calloc((size_t)s->context->p->n_data + 1, sizeof *d->data);
	}
	if (!d || !d->text || !d->data) {
		qat_identity_free(d);
		return qat_fail(QAT_ENOMEM, "out of memory");
	}
	*out = d;
	return QAT_OK;
}

void qat_identity_free(qat_identity *d)
{
	if (!d)
		return;
	for (int64_t i = 0; d->text && i < d->step->context->p->n_steps; i++)
		free(d->text[i]);
	free(d->text);
	free(d->data);
	free(d);
}

/* ---- comparing ---- */

/* The value of the key that `line` begins with, in `text`; its length in *n. */
static const char *find_value(const char *text, const char *line, size_t key, size_t *n)
{
	for (const char *at = text; *at; at += strcspn(at, "\n"), at += *at != 0) {
		if (strncmp(at, line, key + 1))
			continue;
		*n = strcspn(at + key + 1, "\n");
		return at + key + 1;
	}
	*n = 0;
	return NULL;
}

/* As a person would write it: a number without digits that add nothing. */
static void show(char out[SHOWN], const char *value, size_t n)
{
	char *end;
	double x;
	int number;

	snprintf(out, SHOWN, "%.*s", (int)(n < SHOWN ? n : SHOWN), value ? value : "not set");
	x = strtod(out, &end);
	number = *out && !*end;
	for (int digits = 6; number && digits <= 17; digits++) {
		snprintf(out, SHOWN, "%.*g", digits, x);
		if (strtod(out, NULL) == x)
			break;
	}
}

/* The first line of `a` that `b` has not. */
static const char *first_other(const char *a, const char *b)
{
	for (const char *at = a; *at; at += strcspn(at, "\n"), at += *at != 0) {
		const size_t key = strcspn(at, "="), value = strcspn(at, "\n") - key - 1;
		size_t n;
		const char *other = find_value(b, at, key, &n);

		if (!other || n != value || strncmp(other, at + key + 1, n))
			return at;
	}
	return NULL;
}

int qat_identity_same(const char *then, const char *now, const char *what, const char *out)
{
	const char *line = first_other(then, now), *value;
	char was[SHOWN], is[SHOWN];
	size_t key, n;

	if (!line)
		line = first_other(now, then);
	if (!line)
		return QAT_OK;
	key = strcspn(line, "=");
	value = find_value(then, line, key, &n);
	show(was, value, value ? n : 7);
	value = find_value(now, line, key, &n);
	show(is, value, value ? n : 7);
	return qat_fail(QAT_EEXIST, "%s: %.*s was %s, is now %s: %s", what, (int)key, line, was, is,
			out);
}
