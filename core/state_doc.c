/* state_doc.c - the JSON document of a state: its schemes as plain data, so that a state
 * can be read without the quantizer that made it. */
#include "state.h"

#include <stdlib.h>
#include <string.h>

#include <qatrun/json.h>
#include <qatrun/numerics.h>

#include "error.h"
#include "scheme.h"

enum { N_FIELDS = QAT_SCHEME_FIELDS };

static const qat_scheme_field *const fields = qat_scheme_fields;

static const char *const ports[QAT_PORTS] = { "weight", "input", "kv" };

static json_t *scheme_to_json(const qat_scheme *s)
{
	json_t *o = json_pack("{s:s, s:I, s:I, s:f, s:f}", "quantizer", s->name ? s->name : "",
			      "block_rows", (json_int_t)s->block_rows,
			      "block_cols", (json_int_t)s->block_cols, "divisor", s->divisor,
			      "largest", (double)s->largest);
	int lost = !o;

	for (int i = 0; i < N_FIELDS; i++) {
		int32_t v;

		memcpy(&v, (const char *)s + fields[i].offset, sizeof v);
		lost |= json_object_set_new(o, fields[i].key, json_integer(v));
	}
	if (s->scale_rule == QAT_SCALE_TWO_LEVEL)
		lost |= json_object_set_new(o, "second_rows", json_integer(s->second_rows));
	if (s->measure) {
		lost |= json_object_set_new(o, "measure", json_integer(s->measure));
		lost |= json_object_set_new(o, "measure_value", json_real(s->measure_value));
	}
	if (s->grid == QAT_GRID_TABLE) {
		json_t *table = json_array();

		for (int i = 0; i < 1 << s->bits; i++)
			lost |= json_array_append_new(table, json_real((double)s->table[i]));
		lost |= json_object_set_new(o, "table", table);
	}
	if (!lost)
		return o;
	json_decref(o);
	return NULL;
}

/* Index of the scheme in the list, added if new; -1: out of memory. */
static int64_t scheme_index(json_t *list, const qat_scheme *s)
{
	json_t *o = scheme_to_json(s);

	for (size_t i = 0; i < json_array_size(list); i++)
		if (json_equal(json_array_get(list, i), o)) {
			json_decref(o);
			return (int64_t)i;
		}
	return json_array_append_new(list, o) ? -1 : (int64_t)json_array_size(list) - 1;
}

static json_t *set_to_json(json_t *schemes, const qat_scheme_set *set)
{
	json_t *a = json_array();
	int lost = !a;

	for (int64_t i = 0; i < set->count; i++) {
		const int64_t index = scheme_index(schemes, set->schemes[i]);

		lost |= index < 0 || json_array_append_new(a, json_integer(index));
	}
	if (!lost)
		return a;
	json_decref(a);
	return NULL;
}

/* Both return 1 where memory ran out: what is not whole must not be stored. */
static int sites_to_json(json_t *sites, json_t *schemes, const qat_state_doc *d)
{
	int lost = 0;

	for (int64_t i = 0; i < d->n_placed && !lost; i++) {
		json_t *site = json_object_get(sites, d->placed[i].site);

		if (!site) {
			site = json_object();
			lost = json_object_set_new(sites, d->placed[i].site, site) != 0;
		}
		lost = lost || json_object_set_new(site, ports[d->placed[i].port],
						   set_to_json(schemes, d->placed[i].set));
	}
	return lost;
}

static int params_to_json(json_t *params, json_t *schemes, const qat_state_doc *d)
{
	int lost = 0;

	for (int64_t i = 0; i < d->n_coded && !lost; i++) {
		const int64_t index = scheme_index(schemes, d->coded_scheme[i]);

		lost = index < 0 ||
		       json_object_set_new(params, d->coded[i], json_integer(index));
	}
	return lost;
}

int qat_state_doc_write(char **out, const qat_state_doc *d)
{
	json_t *schemes = json_array(), *sites = json_object(), *params = json_object();
	int lost = sites_to_json(sites, schemes, d) || params_to_json(params, schemes, d);
	json_t *root;

	root = json_pack("{s:i, s:i, s:s, s:s, s:I, s:o, s:o, s:o}", "qatrun", 1, "numerics",
			 QAT_NUMERICS, "family", d->family, "precision",
			 d->precision == QAT_BF16 ? "bf16" : "f32", "tokens_trained",
			 (json_int_t)d->tokens_trained, "schemes", schemes, "sites", sites,
			 "params", params);
	if (d->tokenizer)
		lost |= json_object_set_new(root, "tokenizer", json_string(d->tokenizer));
	if (d->parent)
		lost |= json_object_set_new(root, "parent", json_string(d->parent));
	*out = root && !lost ? qat_json_print(root, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : NULL;
	json_decref(root);
	return *out ? QAT_OK : qat_fail(QAT_ENOMEM, "state: out of memory");
}

/* ---- reading ---- */

typedef struct reader {
	const char *where;
	qat_arena *arena;
	qat_scheme *schemes;
	int64_t n_schemes;
} reader;

static int bad(const reader *r, const char *what)
{
	return qat_fail(QAT_EFORMAT, "%s: state document: %s", r->where, what);
}

static int read_table(const reader *r, qat_scheme *s, const json_t *o)
{
	const json_t *t = json_object_get(o, "table");
	float *table = qat_arena_array(r->arena, (size_t)1 << s->bits, sizeof *table);

	if (!table)
		return QAT_ENOMEM;
	if (json_array_size(t) != (size_t)1 << s->bits)
		return bad(r, "a table of values does not have 2^bits entries");
	for (size_t i = 0; i < json_array_size(t); i++)
		table[i] = (float)json_number_value(json_array_get(t, i));
	s->table = table;
	return QAT_OK;
}

static int check_scheme(const reader *r, const qat_scheme *s)
{
	char text[96];
	const char *why = qat_scheme_wrong(text, s);

	return why ? bad(r, why) : QAT_OK;
}

/* Absent where a range is all that was seen. */
static int read_measure(const reader *r, qat_scheme *s, const json_t *o)
{
	const json_t *which = json_object_get(o, "measure");
	const json_int_t n = json_integer_value(which);
	const double value = json_number_value(json_object_get(o, "measure_value"));

	if (!which)
		return QAT_OK;
	if (!json_is_integer(which) || n < QAT_MEASURE_MINMAX || n > QAT_MEASURE_EMA ||
	    !(value >= 0.0 && value <= 100.0))
		return bad(r, "what a scheme's range is measured by is unknown");
	s->measure = (int32_t)n;
	s->measure_value = value;
	return QAT_OK;
}

static int read_scheme(const reader *r, qat_scheme *s, const json_t *o)
{
	int rc;

	*s = (qat_scheme){ .size = sizeof *s, .numerics = QAT_NUMERICS };
	for (int i = 0; i < N_FIELDS; i++) {
		const json_t *v = json_object_get(o, fields[i].key);
		const json_int_t n = json_integer_value(v);
		const int32_t small = (int32_t)n;

		if (!json_is_integer(v) || n < fields[i].min || n > fields[i].max)
			return qat_fail(QAT_EFORMAT, "%s: state document: scheme key \"%s\" is "
					"missing or out of range", r->where, fields[i].key);
		memcpy((char *)s + fields[i].offset, &small, sizeof small);
	}
	if (!json_is_integer(json_object_get(o, "block_rows")) ||
	    !json_is_integer(json_object_get(o, "block_cols")))
		return bad(r, "a scheme's block_rows or block_cols is not an integer");
	s->block_rows = json_integer_value(json_object_get(o, "block_rows"));
	s->block_cols = json_integer_value(json_object_get(o, "block_cols"));
	if (s->scale_rule == QAT_SCALE_TWO_LEVEL &&
	    !json_is_integer(json_object_get(o, "second_rows")))
		return bad(r, "a scheme's second_rows is not an integer");
	s->second_rows = json_integer_value(json_object_get(o, "second_rows"));
	s->divisor = json_number_value(json_object_get(o, "divisor"));
	rc = read_measure(r, s, o);
	if (rc)
		return rc;
	s->largest = (float)json_number_value(json_object_get(o, "largest"));
	s->name = qat_arena_text(r->arena, json_string_value(json_object_get(o, "quantizer")));
	rc = s->grid == QAT_GRID_TABLE ? read_table(r, s, o) : QAT_OK;
	return rc ? rc : check_scheme(r, s);
}

static const qat_scheme *scheme_at(const reader *r, const json_t *index)
{
	const json_int_t i = json_is_integer(index) ? json_integer_value(index) : -1;

	return i >= 0 && i < r->n_schemes ? &r->schemes[i] : NULL;
}

static int read_set(const reader *r, qat_scheme_set **out, const json_t *list)
{
	const size_t n = json_array_size(list);
	qat_scheme_set *set = qat_arena_alloc(r->arena, sizeof *set);
	const qat_scheme **at = qat_arena_array(r->arena, n + 1, sizeof *at);

	if (!set || !at)
		return QAT_ENOMEM;
	for (size_t i = 0; i < n; i++)
		if (!(at[i] = scheme_at(r, json_array_get(list, i))))
			return bad(r, "a site names a scheme that is not there");
	if (!n)
		return bad(r, "a site has no scheme");
	*set = (qat_scheme_set){ .size = sizeof *set, .selector = -1, .count = (int64_t)n,
				 .schemes = at };
	*out = set;
	return QAT_OK;
}

static int read_sites(const reader *r, qat_state_doc *out, json_t *sites)
{
	const size_t room = json_object_size(sites) * QAT_PORTS;
	qat_placed *placed = qat_arena_array(r->arena, room + 1, sizeof *placed);
	const char *name;
	json_t *site;

	if (!placed)
		return QAT_ENOMEM;
	out->placed = placed;
	json_object_foreach(sites, name, site)
		for (int p = 0; p < QAT_PORTS; p++) {
			const json_t *list = json_object_get(site, ports[p]);
			qat_scheme_set *set = NULL;
			int rc = list ? read_set(r, &set, list) : QAT_OK;

			if (rc)
				return rc;
			if (list)
				placed[out->n_placed++] = (qat_placed){
					qat_arena_text(r->arena, name), p, set };
		}
	return QAT_OK;
}

static int read_params(const reader *r, qat_state_doc *out, json_t *params)
{
	const size_t n = json_object_size(params);
	const char **names = qat_arena_array(r->arena, n + 1, sizeof *names);
	const qat_scheme **schemes = qat_arena_array(r->arena, n + 1, sizeof *schemes);
	const char *name;
	json_t *index;

	if (!names || !schemes)
		return QAT_ENOMEM;
	out->coded = names;
	out->coded_scheme = schemes;
	json_object_foreach(params, name, index) {
		schemes[out->n_coded] = scheme_at(r, index);
		if (!schemes[out->n_coded])
			return bad(r, "a parameter names a scheme that is not there");
		names[out->n_coded++] = qat_arena_text(r->arena, name);
	}
	return QAT_OK;
}

static int read_root(reader *r, qat_state_doc *out, const json_t *root)
{
	const json_t *schemes = json_object_get(root, "schemes");
	const char *precision = json_string_value(json_object_get(root, "precision"));
	int rc = QAT_OK;

	const json_t *tokens = json_object_get(root, "tokens_trained");

	if (!json_is_object(root) || json_integer_value(json_object_get(root, "qatrun")) != 1)
		return bad(r, "not of a version that this program knows (1)");
	if (!json_is_array(schemes) || !json_is_object(json_object_get(root, "sites")) ||
	    !json_is_object(json_object_get(root, "params")))
		return bad(r, "schemes, sites or params is missing");
	if (!precision || (strcmp(precision, "bf16") && strcmp(precision, "f32")))
		return bad(r, "unknown precision");
	if (!json_is_integer(tokens) || json_integer_value(tokens) < 0)
		return bad(r, "tokens_trained is not a count");
	if (json_integer_value(json_object_get(root, "numerics")) != QAT_NUMERICS)
		return qat_fail(QAT_ENOTSUP, "%s: made under numeric contract %lld, this program "
				"knows %d", r->where, (long long)json_integer_value(
				json_object_get(root, "numerics")), QAT_NUMERICS);
	out->family = qat_arena_text(r->arena, json_string_value(json_object_get(root, "family")));
	out->parent = qat_arena_text(r->arena, json_string_value(json_object_get(root, "parent")));
	out->tokenizer = qat_arena_text(r->arena,
		json_string_value(json_object_get(root, "tokenizer")));
	out->precision = !strcmp(precision, "bf16") ? QAT_BF16 : QAT_F32;
	out->tokens_trained = json_integer_value(tokens);
	if (!out->family)
		return bad(r, "no model family");
	r->n_schemes = (int64_t)json_array_size(schemes);
	r->schemes = qat_arena_array(r->arena, (size_t)r->n_schemes + 1, sizeof *r->schemes);
	if (!r->schemes)
		return QAT_ENOMEM;
	for (int64_t i = 0; i < r->n_schemes && !rc; i++)
		rc = read_scheme(r, &r->schemes[i], json_array_get(schemes, (size_t)i));
	if (!rc)
		rc = read_sites(r, out, json_object_get(root, "sites"));
	return rc ? rc : read_params(r, out, json_object_get(root, "params"));
}

int qat_state_doc_read(qat_state_doc *out, const char *text, int64_t length, const char *where,
		       qat_arena *arena)
{
	reader r = { .where = where, .arena = arena };
	json_error_t e;
	json_t *root;
	int rc = qat_json_parse(&root, &e, text, length, JSON_REJECT_DUPLICATES);

	memset(out, 0, sizeof *out);
	if (rc == QAT_ENOMEM)
		return qat_fail(rc, "%s: state document: out of memory", where);
	if (rc)
		return qat_fail(rc, "%s: state document: line %d: %s", where, e.line, e.text);
	rc = read_root(&r, out, root);
	json_decref(root);
	return rc;
}
