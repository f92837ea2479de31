/* sites.c - patterns of site names: braces are expanded once, then matching is a walk. */
#include "sites.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "hint.h"

enum { PATTERN_MAX = 512, ALTERNATIVES_MAX = 4096 };

struct qat_pattern {
	char **at;		/* without braces */
	int64_t count, room;
};

void qat_pattern_free(qat_pattern *p)
{
	if (!p)
		return;
	for (int64_t i = 0; i < p->count; i++)
		free(p->at[i]);
	free(p->at);
	free(p);
}

const char *qat_pattern_at(const qat_pattern *p, int64_t index)
{
	return index >= 0 && index < p->count ? p->at[index] : NULL;
}

/* --- making --- */

static int bad(const char *text, const char *why)
{
	return qat_fail(QAT_EINVAL, "\"%s\" is no pattern of sites: %s", text, why);
}

/* What can be said of the text as a whole. */
static int check_text(const char *text)
{
	int depth = 0;

	if (!*text || strlen(text) > PATTERN_MAX)
		return bad(*text ? "..." : "", *text ? "it is too long" : "it is empty");
	for (const char *p = text; *p; p++) {
		depth += (*p == '{') - (*p == '}');
		if (depth < 0)
			return bad(text, "a } closes nothing");
		if (*p == ',' && !depth)
			return bad(text, "a comma belongs between braces");
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
			    "_-.*{,}", *p))
			return bad(text, "it is made of letters, digits, _ - . * and {,}");
	}
	return depth ? bad(text, "a { is not closed") : QAT_OK;
}

/* What must hold of an alternative: whole components, none empty. */
static int check_alternative(const char *plain, const char *text)
{
	size_t n;

	for (const char *p = plain; ; p += n + 1) {
		n = strcspn(p, ".");
		if (!n)
			return bad(text, "a component is empty");
		if (n > 1 && memchr(p, '*', n))
			return bad(text, "* stands for one whole component");
		if (!p[n])
			return QAT_OK;
	}
}

static int keep(qat_pattern *p, const char *plain, const char *text)
{
	int rc = check_alternative(plain, text);

	if (rc)
		return rc;
	if (p->count == ALTERNATIVES_MAX)
		return bad(text, "it has too many alternatives");
	if (p->count == p->room) {
		int64_t room = p->room ? 2 * p->room : 8;
		char **more = realloc(p->at, (size_t)room * sizeof *more);

		if (!more)
			return qat_fail(QAT_ENOMEM, "out of memory");
		p->at = more;
		p->room = room;
	}
	p->at[p->count] = strdup(plain);
	if (!p->at[p->count])
		return qat_fail(QAT_ENOMEM, "out of memory");
	p->count++;
	return QAT_OK;
}

/* The end of the alternative at p: its comma or closing brace. */
static const char *alternative_end(const char *p)
{
	int depth = 0;

	for (; depth || (*p != ',' && *p != '}'); p++)
		depth += (*p == '{') - (*p == '}');
	return p;
}

/* Puts each alternative of the first braces in place of them, and goes on. An expansion
 * is never longer than the text, as one alternative stands for the braces. */
static int expand(qat_pattern *p, const char *partly, const char *text)
{
	const char *open = strchr(partly, '{'), *from, *to, *close;
	char next[PATTERN_MAX + 1];
	int rc = QAT_OK;

	if (!open)
		return keep(p, partly, text);
	for (close = alternative_end(open + 1); *close != '}'; )
		close = alternative_end(close + 1);
	for (from = open + 1; !rc; from = to + 1) {
		to = alternative_end(from);
		snprintf(next, sizeof next, "%.*s%.*s%s", (int)(open - partly), partly,
			 (int)(to - from), from, close + 1);
		rc = expand(p, next, text);
		if (*to == '}')
			break;
	}
	return rc;
}

int qat_pattern_new(qat_pattern **out, const char *text)
{
	qat_pattern *p = NULL;
	int rc = check_text(text);

	if (rc)
		return rc;
	p = calloc(1, sizeof *p);
	if (!p)
		return qat_fail(QAT_ENOMEM, "out of memory");
	rc = expand(p, text, text);
	if (rc) {
		qat_pattern_free(p);
		return rc;
	}
	*out = p;
	return QAT_OK;
}

/* --- matching --- */

/* The rest of the site after the first component of both, NULL where they differ. */
static const char *step(const char *site, const char *pattern)
{
	size_t n = strcspn(site, "."), m = strcspn(pattern, ".");

	if (!n || !(*pattern == '*' || (n == m && !memcmp(site, pattern, n))))
		return NULL;
	return site + n + (site[n] == '.');
}

static int matches(const char *site, const char *pattern)
{
	while (*pattern) {
		site = step(site, pattern);
		if (!site)
			return 0;
		pattern += strcspn(pattern, ".");
		pattern += *pattern == '.';
	}
	return 1;
}

int qat_pattern_match(const qat_pattern *p, const char *site)
{
	for (int64_t i = 0; i < p->count; i++) {
		if (matches(site, p->at[i]))
			return 1;
	}
	return 0;
}

/* --- a rule that matches nothing --- */

enum { CHILDREN_MAX = 64, COMPONENT_MAX = 64 };

/* The components that follow those sites which match a pattern's beginning. */
struct children {
	char name[CHILDREN_MAX][COMPONENT_MAX];
	const char *at[CHILDREN_MAX];
	int64_t count;
};

static void add_child(struct children *c, const char *site)
{
	size_t n = strcspn(site, ".");

	if (!n || n >= COMPONENT_MAX || c->count == CHILDREN_MAX)
		return;
	for (int64_t i = 0; i < c->count; i++) {
		if (strlen(c->name[i]) == n && !memcmp(c->name[i], site, n))
			return;
	}
	memcpy(c->name[c->count], site, n);
	c->name[c->count][n] = 0;
	c->at[c->count] = c->name[c->count];
	c->count++;
}

/* Children of what the first `depth` components of the pattern match. */
static void collect(struct children *c, const char *pattern, int64_t depth,
		    const char *const *names, int64_t count)
{
	c->count = 0;
	for (int64_t i = 0; i < count; i++) {
		const char *site = names[i], *p = pattern;

		for (int64_t k = 0; k < depth && site; k++) {
			site = step(site, p);
			p += strcspn(p, ".");
			p += *p == '.';
		}
		if (site)
			add_child(c, site);
	}
}

static int has_child(const struct children *c, const char *name)
{
	for (int64_t i = 0; i < c->count; i++) {
		if (!strcmp(name, c->at[i]) || !strcmp(name, "*"))
			return 1;
	}
	return 0;
}

static int no_match(const qat_site_rule *r, const char *set, const char *const *names,
		    int64_t count)
{
	const char *pattern = qat_pattern_at(r->pattern, 0), *p = pattern, *near;
	struct children c, next;
	char word[PATTERN_MAX + 1], list[400] = "";
	int64_t depth = 0;

	collect(&c, pattern, 0, names, count);
	for (;;) {
		snprintf(word, sizeof word, "%.*s", (int)strcspn(p, "."), p);
		p += strlen(word);
		p += *p == '.';
		collect(&next, pattern, ++depth, names, count);
		if (!next.count || !*p)
			break;
		c = next;
	}
	if (!next.count && has_child(&c, word))
		return qat_yaml_fail(r->match, QAT_EINVAL, "\"%s\" of sites %s matches nothing in "
				     "the model: nothing lies below \"%s\"",
				     qat_yaml_shown(r->match), set, word);
	near = qat_hint_nearest(word, c.at, c.count);
	for (int64_t i = 0; i < c.count && i < 12; i++) {
		size_t used = strlen(list);

		snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", c.at[i]);
	}
	if (near)
		return qat_yaml_fail(r->match, QAT_EINVAL, "\"%s\" of sites %s matches nothing in "
				     "the model: did you mean \"%s\" instead of \"%s\"?",
				     qat_yaml_shown(r->match), set, near, word);
	return qat_yaml_fail(r->match, QAT_EINVAL, "\"%s\" of sites %s matches nothing in the "
			     "model: in place of \"%s\" there is %s", qat_yaml_shown(r->match), set,
			     word, *list ? list : "nothing");
}

int qat_sites_resolve(qat_site_choice *out, const qat_sites *set, const char *const *names,
		      int64_t count)
{
	static const qat_site_choice none = { { -1, -1, -1 }, { -1, -1, -1 } };

	for (int64_t i = 0; i < count; i++)
		out[i] = none;
	for (int64_t k = 0; k < set->n_rules; k++) {
		const qat_site_rule *r = &set->rules[k];
		int64_t hits = 0;

		for (int64_t i = 0; i < count; i++) {
			if (!qat_pattern_match(r->pattern, names[i]))
				continue;
			hits++;
			for (int port = 0; port < QAT_PORTS; port++) {
				if (r->scheme[port] == QAT_SITE_UNSET)
					continue;
				out[i].scheme[port] = r->scheme[port] == QAT_SITE_FLOAT ? -1 :
					r->scheme[port];
				out[i].rule[port] = k;
			}
		}
		if (!hits)
			return no_match(r, set->name, names, count);
	}
	return QAT_OK;
}

static int any_match(const char *alternative, const char *const *names, int64_t count)
{
	qat_pattern *p;
	int any = 0;

	if (qat_pattern_new(&p, alternative))
		return 1;
	for (int64_t i = 0; i < count && !any; i++)
		any = qat_pattern_match(p, names[i]);
	qat_pattern_free(p);
	return any;
}

void qat_sites_warn(const qat_sites *set, const char *const *names, int64_t count)
{
	for (int64_t k = 0; k < set->n_rules; k++) {
		const qat_site_rule *r = &set->rules[k];
		const char *one;

		for (int64_t i = 0; (one = qat_pattern_at(r->pattern, i)); i++)
			if (!any_match(one, names, count))
				qat_log(QAT_LOG_WARN, "%s: sites.%s: \"%s\" matches no site",
					qat_yaml_where(r->match), set->name, one);
	}
}
