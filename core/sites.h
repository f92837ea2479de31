/* sites.h - which scheme sits where: patterns of site names, and rules in order.
 *
 * A pattern is a prefix of whole components: "layers.3" is all of layer 3, and not of
 * layer 30. `*` stands for one component, braces for alternatives, which may nest and
 * may hold dots: "layers.{0,1}.{attn.{q,k},mlp}".
 */
#ifndef QAT_SITES_H
#define QAT_SITES_H

#include <stdint.h>

#include <qatrun/scheme.h>

#include "yaml_tree.h"

enum {
	QAT_SITE_UNSET = -1,	/* a rule says nothing of this port */
	QAT_SITE_FLOAT = -2	/* a rule says `none`: left in float */
};

typedef struct qat_pattern qat_pattern;

int qat_pattern_new(qat_pattern **out, const char *text);
void qat_pattern_free(qat_pattern *p);

/* 1 if the pattern matches the site. */
int qat_pattern_match(const qat_pattern *p, const char *site);

/* The alternatives without braces, in order; NULL past the end. */
const char *qat_pattern_at(const qat_pattern *p, int64_t index);

typedef struct qat_site_rule {
	const qat_yaml_node *node;	/* the rule */
	const qat_yaml_node *match;	/* its pattern, for messages */
	qat_pattern *pattern;
	int64_t scheme[QAT_PORTS];	/* index into the pipeline's schemes, or QAT_SITE_* */
} qat_site_rule;

/* A named set of sites. */
typedef struct qat_sites {
	const char *name;
	const qat_yaml_node *node;
	qat_site_rule *rules;
	int64_t n_rules;
} qat_sites;

/* What sits at a site. */
typedef struct qat_site_choice {
	int64_t scheme[QAT_PORTS];	/* -1: float */
	int64_t rule[QAT_PORTS];	/* that said so, -1: none */
} qat_site_choice;

/* out[i] is what sits at names[i]: for each port the last rule that matches wins. A rule
 * that matches no name fails at its place, with what there is instead. */
int qat_sites_resolve(qat_site_choice *out, const qat_sites *set, const char *const *names,
		      int64_t count);

/* Says in the log which alternatives of a rule match no name: a misspelt word in braces. */
void qat_sites_warn(const qat_sites *set, const char *const *names, int64_t count);

#endif
