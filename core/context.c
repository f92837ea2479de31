/* context.c - opening what a run needs, once, when it is first asked for. */
#include "context.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/json.h>
#include <qatrun/quantizer.h>

#include "error.h"
#include "fetch.h"
#include "file.h"
#include "option.h"
#include "plugin.h"
#include "profile.h"
#include "scheme.h"
#include "trace.h"

enum {
	TOKENIZER_MAX = 256 << 20,	/* bytes of a tokenizer.json */
	SCHEMES_MAX = 256		/* of a port of a site */
};

static int take_native(void *context, const qat_interface *i, const void *vtable)
{
	const qat_format **out = context;

	if (!(i->flags & QAT_IS_NATIVE))
		return 0;
	*out = vtable;
	return 1;
}

/* The default backend stands behind every other one. */
static int set_fallback(qat_context *c)
{
	const qat_pipeline_device *p = &c->p->device;
	const qat_interface *i;
	qat_option_env env = { .arena = c->arena, .folder = c->p->folder };
	qat_instance backend;
	int rc = qat_backend_flagged(&i, QAT_IS_DEFAULT);

	c->device.strict = p->fallback == QAT_FALLBACK_ERROR;
	if (rc || !i || i == p->backend.interface)
		return rc;
	rc = qat_instance_default(&backend, QAT_KIND_BACKEND, i->name, &env);
	if (rc)
		return rc;
	qat_device_later(&c->fallback, &backend, 0, p->threads);
	c->device.fallback = &c->fallback;
	return QAT_OK;
}

static int start_trace(qat_context *c)
{
	const qat_interface *i;
	qat_option_env env = { .arena = c->arena, .folder = c->p->folder };
	qat_instance backend;
	int rc = qat_backend_flagged(&i, QAT_IS_REFERENCE);

	if (rc)
		return rc;
	if (!i)
		return qat_fail(QAT_ENOTFOUND, "--trace: no backend is here to judge by");
	if (i == c->p->device.backend.interface)
		return qat_fail(QAT_EINVAL, "--trace: backend %s is the one that others are judged "
				"by", i->name);
	rc = qat_instance_default(&backend, QAT_KIND_BACKEND, i->name, &env);
	return rc ? rc : qat_trace_new(&c->device.trace, &backend);
}

int qat_context_watch(qat_context *c, int profile, int trace)
{
	if (profile)
		c->device.profile = qat_profile_new();
	if (profile && !c->device.profile)
		return QAT_ENOMEM;
	return trace ? start_trace(c) : QAT_OK;
}

int qat_context_new(qat_context **out, const qat_pipeline *p)
{
	qat_context *c = calloc(1, sizeof *c);
	int rc = c ? qat_arena_new(&c->arena) : qat_fail(QAT_ENOMEM, "out of memory");

	if (!rc) {
		c->p = p;
		c->states = qat_arena_array(c->arena, (size_t)p->n_states, sizeof(qat_state *));
		c->data = qat_arena_array(c->arena, (size_t)p->n_data + 1, sizeof *c->data);
		rc = c->states && c->data ? QAT_OK : QAT_ENOMEM;
	}
	if (!rc)
		rc = qat_plugin_each(QAT_KIND_FORMAT, take_native, &c->native);
	if (rc >= 0)
		rc = c->native && c->native->save ? QAT_OK : qat_fail(QAT_ENOTFOUND,
			"no format plugin stores states: is the installation complete?");
	if (!rc)
		rc = qat_device_open(&c->device, &p->device.backend, p->device.index,
				     p->device.threads);
	if (!rc)
		rc = set_fallback(c);
	if (rc)
		qat_context_free(c);
	else
		*out = c;
	return rc;
}

void qat_context_free(qat_context *c)
{
	if (!c)
		return;
	for (int64_t i = 0; c->states && i < c->p->n_states; i++)
		qat_state_free(c->states[i]);
	for (int64_t i = 0; c->data && i < c->p->n_data; i++)
		qat_data_free(c->data[i]);
	if (c->tokenizer)
		c->tokenizer->close(c->tokenizer_handle);
	free(c->tokenizer_json);
	qat_profile_free(c->device.profile);
	qat_trace_free(c->device.trace);
	qat_device_close(&c->device);
	qat_device_close(&c->fallback);
	qat_arena_free(c->arena);
	free(c);
}

const char *qat_context_folder(qat_context *c, const char *state)
{
	return qat_arena_format(c->arena, "%s/states/%s", c->p->output, state);
}

static int open_base(qat_context *c, qat_state **out)
{
	const qat_pipeline_model *m = &c->p->model;
	int rc = QAT_OK;

	c->base_path = m->path;
	if (!m->random && !m->path)
		rc = qat_fetch(&c->base_path, &c->base_revision, m, c->quiet, c->arena);
	if (!rc)
		rc = m->random ? qat_state_random(out, "base", &m->instance, (uint64_t)c->p->seed)
			       : qat_state_open(out, "base", c->base_path);
	return rc ? qat_yaml_fail(m->node, rc, "%s", qat_error()) : QAT_OK;
}

int qat_context_state(qat_context *c, const qat_state **out, const char *name)
{
	const int64_t i = qat_pipeline_state_index(c->p, name);
	const char *folder;
	int rc = QAT_OK;

	if (i < 0)
		return qat_fail(QAT_ENOTFOUND, "state %s: no step makes it", name);
	if (!c->states[i] && i == 0)
		rc = open_base(c, &c->states[0]);
	else if (!c->states[i]) {
		folder = qat_context_folder(c, name);
		rc = folder ? qat_state_open(&c->states[i], c->p->states[i].name, folder)
			    : QAT_ENOMEM;
	}
	*out = c->states[i];
	return rc;
}

/* ---- tokenizer ---- */

/* The plugin's name from model.type, in lower case; a file without one is "bpe". */
static int model_type(char name[65], const qat_text *doc, const char *where)
{
	json_error_t e;
	json_t *root;
	const int rc = qat_json_parse(&root, &e, doc->at, doc->length, 0);
	const char *type = json_string_value(json_object_get(json_object_get(root, "model"),
							     "type"));

	if (rc == QAT_ENOMEM)
		return qat_fail(rc, "%s: tokenizer.json: out of memory", where);
	if (rc)
		return qat_fail(rc, "%s: tokenizer.json:%d: %s", where, e.line, e.text);
	snprintf(name, 65, "%s", type ? type : "BPE");
	for (char *p = name; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	json_decref(root);
	return QAT_OK;
}

int qat_context_tokenizer(qat_context *c)
{
	const qat_pipeline_model *m = &c->p->model;
	const qat_interface *i;
	const void *vtable;
	const qat_state *base;
	const char *where;
	char name[65] = "";
	int rc;

	if (c->tokenizer)
		return QAT_OK;
	rc = qat_context_state(c, &base, "base");
	if (rc)
		return rc;
	where = m->tokenizer_file ? m->tokenizer_file : c->base_path;
	c->tokenizer_doc = base->docs[QAT_DOC_TOKENIZER];
	if (m->tokenizer_file) {
		size_t length = 0;

		rc = qat_file_read(&c->tokenizer_json, &length, m->tokenizer_file, TOKENIZER_MAX);
		c->tokenizer_doc = (qat_text){ .at = c->tokenizer_json, .length = (int64_t)length };
	}
	c->tokenizer_name = m->tokenizer ? m->tokenizer
			  : m->tokenizer_file || c->tokenizer_doc.at ? NULL : base->tokenizer;
	if (!rc && c->tokenizer_name) {
		snprintf(name, sizeof name, "%s", c->tokenizer_name);
		c->tokenizer_doc = (qat_text){ 0 };
	} else if (!rc && !c->tokenizer_doc.at) {
		rc = qat_yaml_fail(m->node, QAT_ENOTFOUND, "the model has no tokenizer: name one "
				   "with `tokenizer:` (bytes, or a tokenizer.json)%s%s",
				   base->tokenizer_error ? ": " : "",
				   base->tokenizer_error ? base->tokenizer_error : "");
	} else if (!rc) {
		rc = model_type(name, &c->tokenizer_doc, where);
	}
	if (!rc)
		rc = qat_plugin_find(&i, &vtable, QAT_KIND_TOKENIZER, name);
	if (!rc)
		rc = ((const qat_tokenizer *)vtable)->open(&c->tokenizer_handle,
			c->tokenizer_doc.at, c->tokenizer_doc.length, where);
	if (!rc)
		c->tokenizer = vtable;
	return rc;
}

void qat_context_tokenizer_of(qat_context *c, const qat_state *s, qat_text *doc,
			      const char **name)
{
	const int known = c->tokenizer != NULL;

	*doc = known ? c->tokenizer_doc : s->docs[QAT_DOC_TOKENIZER];
	*name = known ? c->tokenizer_name : s->tokenizer;
}

/* ---- placement ---- */

int qat_placement_start(qat_placement *out, qat_context *c, const qat_state *s,
			const char *sites, qat_arena *arena)
{
	const qat_sites *set = NULL;
	int rc;

	*out = (qat_placement){ .context = c, .state = s, .arena = arena, .sites = sites };
	if (!sites || !strcmp(sites, "none"))
		return QAT_OK;
	set = qat_pipeline_sites_find(c->p, sites);
	if (!set)
		return qat_fail(QAT_ENOTFOUND, "sites %s: not defined", sites);
	rc = qat_state_sites(&out->names, &out->n_names, s, arena);
	if (rc)
		return rc;
	out->choices = qat_arena_array(arena, (size_t)out->n_names + 1, sizeof *out->choices);
	return out->choices ? qat_sites_resolve(out->choices, set, out->names, out->n_names)
			    : QAT_ENOMEM;
}

static const qat_placed *among(const qat_placed *placed, int64_t n, const char *site, int port)
{
	for (int64_t i = 0; i < n; i++)
		if (placed[i].port == port && !strcmp(placed[i].site, site))
			return &placed[i];
	return NULL;
}

static int64_t choice(const qat_placement *p, const char *site, int port)
{
	for (int64_t i = 0; i < p->n_names; i++)
		if (!strcmp(p->names[i], site))
			return p->choices[i].scheme[port];
	return -1;
}

/* The other use of a tied parameter. */
static const char *tied_to(const qat_placement *p, const qat_site *site)
{
	if (!p->state->info.tied || site->port != QAT_PORT_WEIGHT)
		return NULL;
	return !strcmp(site->name, "lm_head") ? "embed"
	     : !strcmp(site->name, "embed") ? "lm_head" : NULL;
}

static int make_set(qat_placement *p, const qat_scheme_set **out, int64_t scheme,
		    const qat_site *site)
{
	const qat_pipeline_item *item = &p->context->p->schemes[scheme];
	const qat_quantizer *q = item->plugin.vtable;
	const int64_t n = q->count ? q->count(item->plugin.self, site) : 1;
	qat_scheme_set *set = qat_arena_alloc(p->arena, sizeof *set);
	const qat_scheme **at;

	if (n < 1 || n > SCHEMES_MAX)
		return qat_yaml_fail(item->node, QAT_EABI, "%s: quantizer %s has %lld schemes, of 1 "
				     "to %d", site->name, item->plugin.interface->name, (long long)n,
				     SCHEMES_MAX);
	at = qat_arena_array(p->arena, (size_t)n, sizeof *at);
	if (!set || !at)
		return QAT_ENOMEM;
	for (int64_t i = 0; i < n; i++) {
		qat_scheme *s = qat_arena_alloc(p->arena, sizeof *s);
		char text[96];
		const char *why;
		int rc;

		if (!s)
			return QAT_ENOMEM;
		s->size = sizeof *s;
		rc = q->scheme(item->plugin.self, site, i, s);
		if (rc)
			return qat_yaml_fail(item->node, rc, "%s", qat_error());
		why = qat_scheme_wrong(text, s);
		if (why)
			return qat_yaml_fail(item->node, QAT_EABI, "%s: quantizer %s: %s", site->name,
					     item->plugin.interface->name, why);
		s->name = item->plugin.interface->name;
		at[i] = s;
	}
	*set = (qat_scheme_set){ .size = sizeof *set, .selector = -1, .count = n, .schemes = at };
	*out = set;
	return QAT_OK;
}

static int remember(qat_placement *p, const char *site, int port, const qat_scheme_set *set)
{
	if (p->n_placed == p->room_placed) {
		const int64_t room = p->room_placed ? 2 * p->room_placed : 64;
		qat_placed *more = qat_arena_array(p->arena, (size_t)room, sizeof *more);

		if (!more)
			return QAT_ENOMEM;
		if (p->n_placed)
			memcpy(more, p->placed, (size_t)p->n_placed * sizeof *more);
		p->placed = more;
		p->room_placed = room;
	}
	p->placed[p->n_placed].site = qat_arena_text(p->arena, site);
	p->placed[p->n_placed].port = port;
	p->placed[p->n_placed].set = set;
	return p->placed[p->n_placed++].site ? QAT_OK : QAT_ENOMEM;
}

static int named(qat_placement *p, const qat_site *site, const qat_scheme_set **out)
{
	const char *other = tied_to(p, site);
	int64_t i = choice(p, site->name, site->port);
	const int64_t j = other ? choice(p, other, site->port) : -1;

	if (i >= 0 && j >= 0 && i != j)
		return qat_fail(QAT_EINVAL, "%s and %s are one tied parameter, but have different "
				"schemes: name only one of them", site->name, other);
	i = i >= 0 ? i : j;
	return i >= 0 ? make_set(p, out, i, site) : QAT_OK;
}

int qat_placement_find(void *placement, const qat_site *site, const qat_scheme_set **out)
{
	qat_placement *p = placement;
	const qat_placed *known = among(p->placed, p->n_placed, site->name, site->port);
	const char *other;
	int rc = QAT_OK;

	*out = NULL;
	if (known) {
		*out = known->set;
		return QAT_OK;
	}
	if (p->sites && !strcmp(p->sites, "none"))
		return QAT_OK;
	if (p->sites) {
		rc = named(p, site, out);
	} else {
		other = tied_to(p, site);
		known = among(p->state->placed, p->state->n_placed, site->name, site->port);
		if (!known && other)
			known = among(p->state->placed, p->state->n_placed, other, site->port);
		*out = known ? known->set : NULL;
	}
	return rc || !*out ? rc : remember(p, site->name, site->port, *out);
}

int qat_placement_weight(const qat_scheme **out, qat_placement *placement,
			 const qat_param_state *p)
{
	const char *dot = strrchr(p->info.name, '.');
	const qat_scheme_set *set = NULL;
	qat_site site = { .size = sizeof site, .port = QAT_PORT_WEIGHT };
	int rc;

	*out = NULL;
	if (p->info.rank != 2 || !dot || strcmp(dot, ".weight") ||
	    !strncmp(p->info.name, "positions.", 10))
		return QAT_OK;
	site.rows = p->info.shape[0];
	site.cols = p->info.shape[1];
	site.name = qat_arena_format(placement->arena, "%.*s", (int)(dot - p->info.name),
				     p->info.name);
	rc = site.name ? qat_placement_find(placement, &site, &set) : QAT_ENOMEM;
	if (!rc && set)
		*out = set->schemes[0];
	return rc;
}
