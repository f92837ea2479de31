/* pipeline_parts.c - the parts `data`, `schemes`, `sites` and `trackers`. */
#include <string.h>

#include "kinds.h"
#include "pipeline_internal.h"

/* What the parts `data` and `schemes` have in common. */
struct part {
	const char *what;		/* "a data set" */
	const char *key;		/* that names the plugin */
	uint32_t kind;
	const qat_option *other;
};

static const qat_option dataset_key[] = { { .name = "dataset" }, QAT_END };
static const qat_option quantizer_key[] = { { .name = "quantizer" }, QAT_END };
static const struct part data_part = { "a data set", "dataset", QAT_KIND_DATASET, dataset_key };
static const struct part scheme_part = {
	"a scheme", "quantizer", QAT_KIND_QUANTIZER, quantizer_key
};

static int read_item(qat_pipeline_item *item, const struct part *part, const qat_yaml_node *key,
		     const qat_yaml_node *node, const qat_option_env *env)
{
	qat_option_source source = { .map = node, .other = part->other };
	const qat_yaml_node *named;
	int rc = qat_pipeline_name(key, part->what);

	if (!rc && !strcmp(key->text, "none"))
		rc = qat_yaml_fail(key, QAT_EINVAL, "\"none\" means that there is none: choose "
				   "another name");
	if (!rc)
		rc = qat_yaml_expect(node, QAT_YAML_MAP);
	if (rc)
		return rc;
	named = qat_yaml_get(node, part->key);
	if (!named)
		return qat_yaml_fail(node, QAT_EINVAL, "lacks \"%s\", which says the plugin",
				     part->key);
	item->name = key->text;
	item->node = node;
	item->of = -1;
	return qat_instance_new(&item->plugin, part->kind, named, &source, env);
}

static int items_new(qat_pipeline_item **out, qat_pipeline *p, const qat_yaml_node *node)
{
	int rc = qat_yaml_expect(node, QAT_YAML_MAP);

	if (rc)
		return rc;
	*out = qat_arena_array(p->arena, (size_t)node->count + 1, sizeof **out);
	return *out ? QAT_OK : QAT_ENOMEM;
}

int qat_pipeline_read_data(qat_pipeline *p, const qat_yaml_node *node)
{
	qat_option_env env = { .arena = p->arena, .folder = p->folder };
	int rc = node ? items_new(&p->data, p, node) : QAT_OK;

	for (int64_t i = 0; !rc && node && i < node->count; i++) {
		rc = read_item(&p->data[i], &data_part, node->keys[i], node->items[i], &env);
		p->n_data = i + 1;
	}
	return rc;
}

/* --- schemes --- */

struct scheme_reader {
	qat_pipeline *p;
	qat_pipeline_item *item;
};

/* A scheme may name any other, whether it stands above or below. */
static int scheme_option(void *context, const qat_option *o, const qat_yaml_node *node)
{
	struct scheme_reader *r = context;
	int64_t of;

	if (o->type != QAT_OPT_SCHEME)
		return qat_yaml_fail(node, QAT_ENOTSUP, "a scheme cannot name this: \"%s\"",
				     o->name);
	of = qat_pipeline_scheme_index(r->p, qat_yaml_text(node));
	if (of < 0)
		return qat_pipeline_unknown(r->p, node, "scheme", qat_pipeline_scheme_name);
	if (r->item->of < 0)
		r->item->of = of;
	return QAT_OK;
}

static int check_circle(const qat_pipeline *p, int64_t i)
{
	int64_t at = i;

	for (int64_t n = 0; n <= p->n_schemes; n++) {
		at = p->schemes[at].of;
		if (at < 0)
			return QAT_OK;
		if (at == i)
			return qat_yaml_fail(p->schemes[i].node, QAT_EINVAL, "the scheme is made "
					     "of itself, through \"of\"");
	}
	return QAT_OK;
}

int qat_pipeline_read_schemes(qat_pipeline *p, const qat_yaml_node *node)
{
	struct scheme_reader reader = { .p = p };
	qat_option_env env = {
		.arena = p->arena, .folder = p->folder, .name = scheme_option, .context = &reader
	};
	int rc = node ? items_new(&p->schemes, p, node) : QAT_OK;

	if (rc || !node)
		return rc;
	for (int64_t i = 0; i < node->count; i++)
		p->schemes[i].name = node->keys[i]->text;
	p->n_schemes = node->count;
	for (int64_t i = 0; !rc && i < node->count; i++) {
		reader.item = &p->schemes[i];
		rc = read_item(reader.item, &scheme_part, node->keys[i], node->items[i], &env);
	}
	for (int64_t i = 0; !rc && i < p->n_schemes; i++)
		rc = check_circle(p, i);
	return rc;
}

/* --- sites --- */

struct rule {
	const char *match;
	const char *scheme[QAT_PORTS];
};

#define PORT(index_, name_, help_) \
	{ .name = name_, .help = help_, .type = QAT_OPT_STRING, \
	  .offset = offsetof(struct rule, scheme) + (index_) * sizeof(char *) }

const qat_option qat_pipeline_rule_options[] = {
	QAT_OPTION(struct rule, QAT_OPT_STRING, match, "the sites, as a pattern",
		   .flags = QAT_OPT_REQUIRED),
	PORT(QAT_PORT_WEIGHT, "weight", "scheme of the weight, or none"),
	PORT(QAT_PORT_INPUT, "input", "scheme of what comes in, or none"),
	PORT(QAT_PORT_KV, "kv", "scheme of attention's keys and values, or none"),
	QAT_END
};

/* The scheme that a rule names at a port. */
static int read_port(int64_t *out, qat_pipeline *p, const char *name, const qat_yaml_node *at)
{
	*out = QAT_SITE_UNSET;
	if (!name)
		return QAT_OK;
	*out = !strcmp(name, "none") ? QAT_SITE_FLOAT : qat_pipeline_scheme_index(p, name);
	if (*out != QAT_SITE_UNSET)
		return QAT_OK;
	return qat_pipeline_unknown(p, at, "scheme", qat_pipeline_scheme_name);
}

static int read_rule(qat_pipeline *p, qat_site_rule *rule, const qat_yaml_node *node)
{
	qat_option_env env = { .arena = p->arena, .folder = p->folder };
	qat_option_source source = { .map = node, .owner = "a rule of sites" };
	struct rule r = { .match = NULL };
	int said = 0, rc = qat_yaml_expect(node, QAT_YAML_MAP);

	if (!rc)
		rc = qat_option_fill(&r, qat_pipeline_rule_options, &source, &env);
	if (rc)
		return rc;
	rule->node = node;
	rule->match = qat_yaml_get(node, "match");
	rc = qat_pattern_new(&rule->pattern, r.match);
	if (rc)
		return qat_yaml_fail(rule->match, rc, "%s", qat_error());
	for (int i = 0; !rc && i < QAT_PORTS; i++) {
		said += r.scheme[i] != NULL;
		rc = read_port(&rule->scheme[i], p, r.scheme[i],
			       qat_yaml_get(node, qat_pipeline_rule_options[1 + i].name));
	}
	if (!rc && !said)
		rc = qat_yaml_fail(node, QAT_EINVAL, "the rule names no scheme: give weight, input "
				   "or kv, each a scheme or none");
	return rc;
}

static int read_set(qat_pipeline *p, qat_sites *set, const qat_yaml_node *key,
		    const qat_yaml_node *node)
{
	int rc = qat_pipeline_name(key, "a set of sites");

	if (!rc && !strcmp(key->text, "none"))
		rc = qat_yaml_fail(key, QAT_EINVAL, "\"none\" means that there is none: choose "
				   "another name");
	if (!rc)
		rc = qat_yaml_expect(node, QAT_YAML_SEQ);
	if (rc)
		return rc;
	set->name = key->text;
	set->node = node;
	set->rules = qat_arena_array(p->arena, (size_t)node->count + 1, sizeof *set->rules);
	if (!set->rules)
		return QAT_ENOMEM;
	for (int64_t i = 0; !rc && i < node->count; i++) {
		set->n_rules = i + 1;
		rc = read_rule(p, &set->rules[i], node->items[i]);
	}
	return rc;
}

int qat_pipeline_read_sites(qat_pipeline *p, const qat_yaml_node *node)
{
	int rc = node ? qat_yaml_expect(node, QAT_YAML_MAP) : QAT_OK;

	if (rc || !node)
		return rc;
	p->sites = qat_arena_array(p->arena, (size_t)node->count + 1, sizeof *p->sites);
	if (!p->sites)
		return QAT_ENOMEM;
	for (int64_t i = 0; !rc && i < node->count; i++) {
		p->n_sites = i + 1;
		rc = read_set(p, &p->sites[i], node->keys[i], node->items[i]);
	}
	return rc;
}

/* --- trackers --- */

static int read_tracker(qat_pipeline *p, const qat_yaml_node *node)
{
	qat_option_env env = { .arena = p->arena, .folder = p->folder };
	qat_instance *t = &p->trackers[p->n_trackers];
	int rc = qat_instance_read(t, QAT_KIND_TRACKER, node, &env);

	for (int64_t i = 0; !rc && i < p->n_trackers; i++) {
		if (!strcmp(p->trackers[i].interface->name, t->interface->name))
			rc = qat_yaml_fail(node, QAT_EINVAL, "tracker %s is there twice",
					   t->interface->name);
	}
	p->n_trackers += !rc;
	return rc;
}

int qat_pipeline_read_trackers(qat_pipeline *p, const qat_yaml_node *node)
{
	const int list = node && node->type == QAT_YAML_SEQ;
	const int64_t count = list ? node->count : node != NULL;
	int rc = QAT_OK;

	p->trackers = qat_arena_array(p->arena, (size_t)count + 1, sizeof *p->trackers);
	if (!p->trackers)
		return QAT_ENOMEM;
	for (int64_t i = 0; !rc && i < count; i++)
		rc = read_tracker(p, list ? node->items[i] : node);
	return rc;
}
