/* test_pipeline.c - a pipeline file: what comes of a good one, and each way to be wrong. */
#include "kinds.h"	/* first: check.h has a macro `fail` */

#include <check.h>
#include <string.h>

#include "pipeline.h"
#include "plugins/folder.h"

static const char good[] =
	"qatrun: 1\n"
	"name: toy\n"
	"seed: 7\n"
	"x-mine: &lr 2e-5\n"
	"model: {family: tiny, init: random, config: {n_embd: 128}}\n"
	"device: {threads: 2, precision: bf16, memory_limit: 6GiB, fallback: warn, pool: 1KiB}\n"
	"data:\n"
	"  train: {dataset: lines, files: [a.txt, /b.txt], length: 32}\n"
	"schemes:\n"
	"  a8: {quantizer: grid, of: w4}\n"
	"  w4: {quantizer: grid, group_size: 32}\n"
	"sites:\n"
	"  deploy:\n"
	"    - {match: \"layers.*.{attn,mlp}\", weight: w4, input: a8}\n"
	"    - {match: lm_head, weight: none}\n"
	"settings: &fit {data: train, steps: 200, optimizer: {name: walk, lr: *lr}}\n"
	"steps:\n"
	"  - {task: change, from: base, sites: deploy, as: ptq}\n"
	"  - {task: change, from: base, as: control, <<: *fit}\n"
	"  - {task: change, from: control, sites: none, as: control-ptq, teacher: ptq}\n"
	"  - {task: look, of: [base, control, base], data: train}\n";

static qat_pipeline *p;

static void setup(void)
{
	test_folder_new();
	test_write("p.yaml", good);
	p = NULL;
}

static void teardown(void)
{
	qat_pipeline_free(p);
	test_folder_free();
}

static int load(const char *set)
{
	return qat_pipeline_load(&p, test_path("p.yaml"), &set, set != NULL);
}

START_TEST(everything)
{
	char path[600];

	ck_assert_msg(load(NULL) == QAT_OK, "%s", qat_error());
	ck_assert_str_eq(p->name, "toy");
	ck_assert_int_eq(p->seed, 7);
	ck_assert_str_eq(p->folder, folder);

	ck_assert_int_eq(p->model.random, 1);
	ck_assert_str_eq(p->model.family, "tiny");
	ck_assert_int_eq(*(int64_t *)p->model.instance.self, 128);	/* by its alias */
	ck_assert_ptr_null(p->model.path);

	ck_assert_str_eq(p->device.backend.interface->name, "paper");	/* the default */
	ck_assert_int_eq(*(int64_t *)p->device.backend.self, 1024);
	ck_assert_int_eq(p->device.threads, 2);
	ck_assert_int_eq(p->device.precision, QAT_BF16);
	ck_assert_int_eq(p->device.memory_limit, (int64_t)6 << 30);
	ck_assert_int_eq(p->device.fallback, QAT_FALLBACK_WARN);

	ck_assert_int_eq(p->n_data, 1);
	ck_assert_int_eq(qat_pipeline_data_index(p, "train"), 0);
	snprintf(path, sizeof path, "%s/a.txt", folder);
	ck_assert_str_eq(((qat_strings *)p->data[0].plugin.self)->at[0], path);
	ck_assert_str_eq(((qat_strings *)p->data[0].plugin.self)->at[1], "/b.txt");

	ck_assert_int_eq(p->n_schemes, 2);
	ck_assert_int_eq(p->schemes[0].of, 1);
	ck_assert_int_eq(p->schemes[1].of, -1);
}
END_TEST

START_TEST(sites)
{
	const qat_sites *s;

	ck_assert_msg(load(NULL) == QAT_OK, "%s", qat_error());
	s = qat_pipeline_sites_find(p, "deploy");
	ck_assert_ptr_nonnull(s);
	ck_assert_int_eq(s->n_rules, 2);
	ck_assert_int_eq(s->rules[0].scheme[QAT_PORT_WEIGHT], 1);
	ck_assert_int_eq(s->rules[0].scheme[QAT_PORT_INPUT], 0);
	ck_assert_int_eq(s->rules[0].scheme[QAT_PORT_KV], QAT_SITE_UNSET);
	ck_assert_int_eq(s->rules[1].scheme[QAT_PORT_WEIGHT], QAT_SITE_FLOAT);
	ck_assert_int_eq(qat_pattern_match(s->rules[0].pattern, "layers.3.mlp.up"), 1);
	ck_assert_ptr_null(qat_pipeline_sites_find(p, "none"));
}
END_TEST

START_TEST(states)
{
	static const struct { const char *name; int64_t parent, step; } expected[] = {
		{ "base", -1, -1 }, { "ptq", 0, 0 }, { "control", 0, 1 }, { "control-ptq", 2, 2 }
	};

	ck_assert_msg(load(NULL) == QAT_OK, "%s", qat_error());
	ck_assert_int_eq(p->n_states, 4);
	for (int64_t i = 0; i < 4; i++) {
		ck_assert_str_eq(p->states[i].name, expected[i].name);
		ck_assert_int_eq(p->states[i].parent, expected[i].parent);
		ck_assert_int_eq(p->states[i].step, expected[i].step);
	}
	ck_assert_int_eq(p->n_steps, 4);
	ck_assert_str_eq(p->steps[1].task, "change");
	ck_assert_int_eq(p->steps[2].as, 3);
	ck_assert_int_eq(p->steps[2].from, 2);		/* not the teacher */
	ck_assert_int_eq(p->steps[2].n_reads, 2);
	ck_assert_int_eq(p->steps[3].as, -1);
	ck_assert_int_eq(p->steps[3].n_reads, 2);	/* base counts once */
}
END_TEST

START_TEST(output)
{
	char path[4096], here[2048];

	ck_assert_ptr_nonnull(getcwd(here, sizeof here));
	ck_assert_int_eq(load(NULL), QAT_OK);
	snprintf(path, sizeof path, "%s/runs/toy", here);
	ck_assert_str_eq(p->output, path);
	qat_pipeline_free(p);
	p = NULL;
	ck_assert_int_eq(load("output=there"), QAT_OK);
	snprintf(path, sizeof path, "%s/there", here);
	ck_assert_str_eq(p->output, path);
	qat_pipeline_free(p);
	p = NULL;
	ck_assert_int_eq(load("output=/abs/here"), QAT_OK);
	ck_assert_str_eq(p->output, "/abs/here");
}
END_TEST

/* The document, written, makes the same pipeline from any other folder. */
START_TEST(run_again)
{
	qat_pipeline *again = NULL;
	char first[2][600];
	FILE *f;

	ck_assert_int_eq(load("name=other"), QAT_OK);
	ck_assert_int_eq(mkdir(test_path("sub"), 0755), 0);
	f = fopen(test_path("sub/pipeline.yaml"), "w");
	ck_assert_int_eq(qat_yaml_write(f, qat_yaml_root(p->doc)), QAT_OK);
	fclose(f);
	ck_assert_msg(!qat_pipeline_load(&again, test_path("sub/pipeline.yaml"), NULL, 0), "%s",
		      qat_error());
	ck_assert_str_eq(again->name, "other");
	ck_assert_str_eq(again->output, p->output);
	for (int i = 0; i < 2; i++)
		snprintf(first[i], sizeof first[i], "%s",
			 ((qat_strings *)(i ? p : again)->data[0].plugin.self)->at[0]);
	ck_assert_str_eq(first[0], first[1]);
	ck_assert_int_eq(again->n_states, p->n_states);
	qat_pipeline_free(again);
}
END_TEST

START_TEST(model_paths)
{
	char path[600];

	test_write("p.yaml", "qatrun: 1\nname: m\nmodel: {path: some.bin, revision: main}\n"
		   "steps: [{task: change, from: base, as: x}]\n");
	test_write("some.bin", "");
	ck_assert_msg(load(NULL) == QAT_OK, "%s", qat_error());
	snprintf(path, sizeof path, "%s/some.bin", folder);
	ck_assert_str_eq(p->model.path, path);
	ck_assert_ptr_null(p->model.hub);
	ck_assert_ptr_null(p->model.instance.interface);
	ck_assert_int_ge(p->device.threads, 1);
	ck_assert_int_eq(p->device.precision, QAT_F32);
	qat_pipeline_free(p);
	p = NULL;
	ck_assert_int_eq(load("model.path=owner/some-name"), QAT_OK);
	ck_assert_str_eq(p->model.hub, "owner/some-name");
	ck_assert_ptr_null(p->model.path);
	ck_assert_str_eq(p->model.revision, "main");
	qat_pipeline_free(p);
	p = NULL;
	/* an existing path wins over the hub */
	ck_assert_int_eq(mkdir(test_path("owner"), 0755), 0);
	test_write("owner/some-name", "");
	ck_assert_int_eq(load("model.path=owner/some-name"), QAT_OK);
	ck_assert_ptr_null(p->model.hub);
	ck_assert_ptr_nonnull(p->model.path);
}
END_TEST

static const struct { const char *set, *message; } refused[] = {
	{ "qatrun=2", "version 2: this qatrun reads version 1" },
	{ "qatrun=one", "not an integer" },
	{ "name=", "lacks \"name\"" },
	{ "name=../x", "cannot name a run" },
	{ "name=.hidden", "cannot name a run" },
	{ "name=a/b", "cannot name a run" },
	{ "seed=-1", "seed: -1 is out of range" },
	{ "naem=x", "unknown option \"naem\" of the pipeline: did you mean \"name\"?" },
	{ "step=x", "did you mean \"steps\"?" },
	{ "output=''", "an empty path" },
	{ "model=", "lacks \"model\"" },
	{ "model=x", "model: " },
	{ "model.famly=x", "unknown option \"famly\" of model: did you mean \"family\"?" },
	{ "model.family=tine", "unknown model \"tine\": did you mean \"tiny\"?" },
	{ "model.family=", "needs \"family\"" },
	{ "model.init=load", "lacks \"path\"" },
	{ "model.path=x", "leave out one of the two" },
	{ "model={path: nowhere.bin}", "nowhere.bin does not exist: give a file" },
	{ "model={path: a/b/c}", "a/b/c does not exist" },
	{ "model={path: ../no-such}", "../no-such does not exist" },
	{ "model={path: a/b, config: {}}", "goes with init: random" },
	{ "model.config.hiden_size=1",
	  "unknown option \"hiden_size\" of model tiny: did you mean" },
	{ "model.config.n_embd=0", "out of range" },
	{ "model.tokenizer=nope", "unknown tokenizer \"nope\"" },
	{ "model.tokenizer=./nope.json", "nope.json cannot be read" },
	{ "device.backend=papr", "unknown backend \"papr\": did you mean \"paper\"?" },
	{ "device.thread=2",
	  "unknown option \"thread\" of backend paper: did you mean \"threads\"?" },
	{ "device.poool=2", "did you mean \"pool\"?" },
	{ "device.threads=-1", "out of range" },
	{ "device.precision=fp32",
	  "device.precision: unknown value \"fp32\": did you mean \"f32\"?" },
	{ "device.precision=int", "it is one of f32, bf16" },
	{ "device=3", "device: " },
	{ "data.train.dataset=line", "did you mean \"lines\"?" },
	{ "data.train.dataset=", "data.train.dataset: " },
	{ "data.train={files: [a]}", "lacks \"dataset\"" },
	{ "data.train.lenth=3",
	  "unknown option \"lenth\" of dataset lines: did you mean \"length\"?" },
	{ "data.train.files=", "dataset lines lacks \"files\": text files" },
	{ "data.a/b={dataset: lines, files: x}", "data.a/b: " },
	{ "schemes.w4.groupsize=3",
	  "unknown option \"groupsize\" of quantizer grid: did you mean \"group_size\"?" },
	{ "schemes.a8.of=w5", "schemes.a8.of: unknown scheme \"w5\": did you mean" },
	{ "schemes.w4.of=a8", "made of itself" },
	{ "schemes.w4.of=w4", "made of itself" },
	{ "schemes.none={quantizer: grid}", "\"none\" means that there is none" },
	{ "schemes.w4.range=ema2", "did you mean \"ema\"?" },
	{ "sites.deploy[0].weight=w44",
	  "sites.deploy[0].weight: unknown scheme \"w44\": did you mean \"w4\"?" },
	{ "sites.deploy[0].wieght=w4",
	  "unknown option \"wieght\" of a rule of sites: did you mean \"weight\"?" },
	{ "sites.deploy[0].match=a..b", "sites.deploy[0].match: \"a..b\" is no pattern of sites" },
	{ "sites.deploy[0].match=", "lacks \"match\"" },
	{ "sites.deploy[1].weight=", "names no scheme" },
	{ "sites.deploy=x", "sites.deploy: " },
	{ "sites.none=[]", "\"none\" means" },
	{ "steps=", "lacks \"steps\"" },
	{ "steps=[]", "there is no step" },
	{ "steps=[{from: base}]", "lacks \"task\"" },
	{ "steps[0].task=chang", "unknown task \"chang\": did you mean \"change\"?" },
	{ "steps[0].form=base", "unknown option \"form\" of task change: did you mean \"from\"?" },
	{ "steps[0].from=control", "steps[0].from: unknown state \"control\": there is base" },
	{ "steps[0].from=", "task change lacks \"from\"" },
	{ "steps[0].from=ptq", "unknown state \"ptq\"" },
	{ "steps[0].as=", "task change lacks \"as\"" },
	{ "steps[1].as=ptq", "there is a state \"ptq\" already, of steps[0]" },
	{ "steps[1].as=base", "\"base\" is the model as it was loaded" },
	{ "steps[1].as=none", "\"none\" means" },
	{ "steps[1].as=a/b", "cannot name a state" },
	{ "steps[1].data=trian", "unknown data set \"trian\": did you mean \"train\"?" },
	{ "steps[0].sites=deplo", "unknown set of sites \"deplo\": did you mean \"deploy\"?" },
	{ "steps[1].optimizer.name=wolk", "unknown optimizer \"wolk\": did you mean \"walk\"?" },
	{ "steps[1].optimizer.ls=1",
	  "unknown option \"ls\" of optimizer walk: did you mean \"lr\"?" },
	{ "steps[1].optimizer={lr: 1}", "lacks \"name\", which says the optimizer" },
	{ "steps[1].checkpoint={keep: 3}", "lacks \"every\"" },
	{ "steps[3].of[1]=contrl",
	  "steps[3].of[1]: unknown state \"contrl\": did you mean \"control\"?" },
	{ "steps[3]=look", "steps[3]: " },
};

START_TEST(refuse)
{
	ck_assert_int_lt(load(refused[_i].set), 0);
	ck_assert_ptr_null(p);
	ck_assert_msg(strstr(qat_error(), refused[_i].message) != NULL, "%s: %s", refused[_i].set,
		      qat_error());
}
END_TEST

/* The place is that of the key or value. */
START_TEST(place)
{
	char expected[600];

	test_write("p.yaml", "qatrun: 1\nname: m\nmodel: {path: a/b}\nschemes:\n"
		   "  w4: {quantizer: grid, groupsize: 32}\nsteps: []\n");
	ck_assert_int_eq(load(NULL), QAT_EINVAL);
	snprintf(expected, sizeof expected, "%s:5:25: unknown option \"groupsize\" of quantizer "
		 "grid: did you mean \"group_size\"?", test_path("p.yaml"));
	ck_assert_str_eq(qat_error(), expected);
	test_write("p.yaml", "name: m\n");
	ck_assert_int_eq(load(NULL), QAT_EINVAL);
	ck_assert_ptr_nonnull(strstr(qat_error(), "not a pipeline file"));
	test_write("p.yaml", "- a\n");
	ck_assert_int_eq(load(NULL), QAT_EINVAL);
	test_write("p.yaml", "");
	ck_assert_int_eq(load(NULL), QAT_EINVAL);
	ck_assert_int_lt(qat_pipeline_load(&p, test_path("absent.yaml"), NULL, 0), 0);
	ck_assert_ptr_nonnull(strstr(qat_error(), "absent.yaml"));
}
END_TEST

START_TEST(no_default_backend)
{
	ck_assert_int_eq(unlink(test_path("backend-paper.so")), 0);
	ck_assert_int_eq(load(NULL), QAT_ENOTFOUND);
	ck_assert_ptr_nonnull(strstr(qat_error(), "no backend is here to be the default"));
}
END_TEST

START_TEST(valid_names)
{
	ck_assert_int_eq(qat_name_valid("control-ptq"), 1);
	ck_assert_int_eq(qat_name_valid("a.b_C9"), 1);
	ck_assert_int_eq(qat_name_valid(""), 0);
	ck_assert_int_eq(qat_name_valid("."), 0);
	ck_assert_int_eq(qat_name_valid(".."), 0);
	ck_assert_int_eq(qat_name_valid("-x"), 0);
	ck_assert_int_eq(qat_name_valid("a b"), 0);
	ck_assert_int_eq(qat_name_valid("a@2"), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pipeline");
	TCase *c = tcase_create("pipeline");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 30);
	tcase_add_test(c, everything);
	tcase_add_test(c, sites);
	tcase_add_test(c, states);
	tcase_add_test(c, output);
	tcase_add_test(c, run_again);
	tcase_add_test(c, model_paths);
	tcase_add_loop_test(c, refuse, 0, sizeof refused / sizeof *refused);
	tcase_add_test(c, place);
	tcase_add_test(c, no_default_backend);
	tcase_add_test(c, valid_names);
	suite_add_tcase(suite, c);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
