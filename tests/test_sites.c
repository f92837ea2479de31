/* test_sites.c - patterns of sites, and which rule wins. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "sites.h"

static const struct { const char *pattern, *site; int match; } matches[] = {
	{ "layers.3", "layers.3.attn.q", 1 },
	{ "layers.3", "layers.3", 1 },
	{ "layers.3", "layers.30.attn.q", 0 },
	{ "layers.3.attn.q", "layers.3.attn", 0 },
	{ "*", "embed", 1 },
	{ "*", "layers.0.mlp.up", 1 },
	{ "layers.*.attn", "layers.12.attn.k", 1 },
	{ "layers.*.attn", "layers.12.mlp.up", 0 },
	{ "*.*.*.q", "layers.1.attn.q", 1 },
	{ "*.*", "embed", 0 },
	{ "layers.*.{attn,mlp}", "layers.0.mlp.down", 1 },
	{ "layers.*.{attn,mlp}", "layers.0.norm1", 0 },
	{ "{embed,lm_head}", "lm_head", 1 },
	{ "layers.{0,1}.{attn.{q,k},mlp}", "layers.1.attn.k", 1 },
	{ "layers.{0,1}.{attn.{q,k},mlp}", "layers.1.attn.v", 0 },
	{ "layers.{0,1}.{attn.{q,k},mlp}", "layers.0.mlp.up", 1 },
	{ "layers.{0,1}.{attn.{q,k},mlp}", "layers.2.mlp.up", 0 },
	{ "layers.{1,2}{3,4}.mlp", "layers.24.mlp.up", 1 },
	{ "{a}", "a", 1 },
};

START_TEST(match)
{
	qat_pattern *p = NULL;

	ck_assert_int_eq(qat_pattern_new(&p, matches[_i].pattern), QAT_OK);
	ck_assert_msg(qat_pattern_match(p, matches[_i].site) == matches[_i].match,
		      "%s against %s", matches[_i].pattern, matches[_i].site);
	qat_pattern_free(p);
}
END_TEST

static const struct { const char *pattern, *why; } refused[] = {
	{ "", "is empty" },
	{ "layers..q", "component is empty" },
	{ ".layers", "component is empty" },
	{ "layers.", "component is empty" },
	{ "layers.{,a}", "component is empty" },
	{ "layers.1*", "one whole component" },
	{ "layers.**", "one whole component" },
	{ "layers.{a", "not closed" },
	{ "layers.a}", "closes nothing" },
	{ "a,b", "between braces" },
	{ "a b", "made of letters" },
	{ "a[0]", "made of letters" },
	{ "{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}", "too many" },
};

START_TEST(refuse)
{
	qat_pattern *p = NULL;

	ck_assert_int_eq(qat_pattern_new(&p, refused[_i].pattern), QAT_EINVAL);
	ck_assert_ptr_null(p);
	ck_assert_msg(strstr(qat_error(), refused[_i].why) != NULL, "%s", qat_error());
}
END_TEST

static const char *const names[] = {
	"embed", "layers.0.attn.q", "layers.0.attn.k", "layers.0.mlp.up", "layers.1.attn.q",
	"layers.1.attn.k", "layers.1.mlp.up", "lm_head"
};

enum { SITES = sizeof names / sizeof *names };

/* Rules of a set, with their patterns as a YAML document. */
struct set {
	qat_yaml *doc;
	qat_site_rule rules[4];
	qat_sites sites;
};

static void set_new(struct set *s, const char *yaml)
{
	qat_yaml_node *root;

	memset(s, 0, sizeof *s);
	ck_assert_int_eq(qat_yaml_parse(&s->doc, yaml, (int64_t)strlen(yaml), "t.yaml", NULL, 0),
			 QAT_OK);
	root = qat_yaml_root(s->doc);
	s->sites = (qat_sites){ .name = "deploy", .rules = s->rules, .n_rules = root->count };
	for (int64_t i = 0; i < root->count; i++) {
		qat_site_rule *r = &s->rules[i];
		static const char *const ports[] = { "weight", "input", "kv" };

		r->node = root->items[i];
		r->match = qat_yaml_get(r->node, "match");
		ck_assert_int_eq(qat_pattern_new(&r->pattern, qat_yaml_text(r->match)), QAT_OK);
		for (int k = 0; k < QAT_PORTS; k++) {
			r->scheme[k] = QAT_SITE_UNSET;
			if (qat_yaml_get(r->node, ports[k]))
				ck_assert_int_eq(qat_yaml_int(&r->scheme[k],
					qat_yaml_get(r->node, ports[k]), -2, 9), QAT_OK);
		}
	}
}

static void set_free(struct set *s)
{
	for (int64_t i = 0; i < s->sites.n_rules; i++)
		qat_pattern_free(s->rules[i].pattern);
	qat_yaml_free(s->doc);
}

START_TEST(last_wins)
{
	qat_site_choice out[SITES];
	struct set s;

	set_new(&s, "- {match: layers.*, weight: 0, input: 1}\n"
		    "- {match: layers.*.attn.k, weight: 2}\n"
		    "- {match: layers.1.mlp, weight: -2}\n");
	ck_assert_int_eq(qat_sites_resolve(out, &s.sites, names, SITES), QAT_OK);
	ck_assert_int_eq(out[0].scheme[QAT_PORT_WEIGHT], -1);	/* embed: no rule */
	ck_assert_int_eq(out[0].rule[QAT_PORT_WEIGHT], -1);
	ck_assert_int_eq(out[1].scheme[QAT_PORT_WEIGHT], 0);
	ck_assert_int_eq(out[1].scheme[QAT_PORT_INPUT], 1);
	ck_assert_int_eq(out[1].scheme[QAT_PORT_KV], -1);
	ck_assert_int_eq(out[2].scheme[QAT_PORT_WEIGHT], 2);	/* the later rule ... */
	ck_assert_int_eq(out[2].rule[QAT_PORT_WEIGHT], 1);
	ck_assert_int_eq(out[2].scheme[QAT_PORT_INPUT], 1);	/* ... of this port alone */
	ck_assert_int_eq(out[6].scheme[QAT_PORT_WEIGHT], -1);	/* none: left in float */
	ck_assert_int_eq(out[6].rule[QAT_PORT_WEIGHT], 2);
	ck_assert_int_eq(out[6].scheme[QAT_PORT_INPUT], 1);
	set_free(&s);
}
END_TEST

static const struct { const char *yaml, *message; } nothing[] = {
	{ "- {match: embed, weight: 0}\n- {match: layers.*.atn, weight: 0}\n",
	  "t.yaml:2:11: [1].match: \"layers.*.atn\" of sites deploy matches nothing in the model: "
	  "did you mean \"attn\" instead of \"atn\"?" },
	{ "- {match: layer.0, weight: 0}\n",
	  "did you mean \"layers\" instead of \"layer\"?" },
	{ "- {match: layers.7.mlp, weight: 0}\n",
	  "in place of \"7\" there is 0, 1" },
	{ "- {match: layers.0.attn.q.weight, weight: 0}\n",
	  "nothing lies below \"q\"" },
	{ "- {match: 'embed.*', weight: 0}\n", "nothing lies below \"embed\"" },
};

START_TEST(matches_nothing)
{
	qat_site_choice out[SITES];
	struct set s;

	set_new(&s, nothing[_i].yaml);
	ck_assert_int_eq(qat_sites_resolve(out, &s.sites, names, SITES), QAT_EINVAL);
	ck_assert_msg(strstr(qat_error(), nothing[_i].message) != NULL, "%s", qat_error());
	set_free(&s);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sites");
	TCase *c = tcase_create("sites");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(c, match, 0, sizeof matches / sizeof *matches);
	tcase_add_loop_test(c, refuse, 0, sizeof refused / sizeof *refused);
	tcase_add_test(c, last_wins);
	tcase_add_loop_test(c, matches_nothing, 0, sizeof nothing / sizeof *nothing);
	suite_add_tcase(suite, c);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
