/* test_generate.c - keys and values kept between tokens change no bit: logits of a token are
 * those of a forward pass over the whole sequence, however it was cut, for every family,
 * precision and way to hold weights.
 */
#include "kinds.h"	/* first: check.h has a macro `fail` */

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "plugins/folder.h"
#include "run.h"
#include "session.h"

enum { LENGTH = 41, BATCH = 2, VOCABULARY = 256 };

#define ck_ok(call) ck_assert_msg((call) == QAT_OK, "%s", qat_error())

static const char *const models[] = {
	"{family: llama, init: random, tokenizer: bytes, config: {vocab_size: 256, "
	"hidden_size: 128, intermediate_size: 160, num_hidden_layers: 1, num_attention_heads: 4, "
	"num_key_value_heads: 2, max_position_embeddings: 41, initializer_range: 0.2}}",
	"{family: gpt2, init: random, tokenizer: bytes, config: {vocab_size: 256, n_embd: 128, "
	"n_layer: 1, n_head: 4, n_positions: 41, initializer_range: 0.2}}",
};

/* `weights` are codes of a stored state; the others are made in the graph. */
static const struct { const char *state, *sites; } kinds[] = {
	{ "base", "none" }, { "base", "both" }, { "base", "alone" }, { "base", "kept" },
	{ "codes", NULL },
};

static qat_pipeline *p;
static qat_context *c;
static int32_t tokens[BATCH * LENGTH];

static void setup(void)
{
	snprintf(folder, sizeof folder, "%s/qatrun-test.XXXXXX",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	for (int i = 0; i < BATCH * LENGTH; i++)
		tokens[i] = (i * 37 + i / 5 * 11) % VOCABULARY;
}

static void teardown(void)
{
	qat_context_free(c);
	qat_pipeline_free(p);
	c = NULL;
	p = NULL;
	test_folder_free();
}

static void start(const char *model, const char *backend, const char *precision, int threads)
{
	char text[4096], path[700];

	snprintf(text, sizeof text, "qatrun: 1\nname: g\nseed: 3\noutput: %s/out\nmodel: %s\n"
		 "device: {backend: %s, precision: %s, threads: %d}\n"
		 "schemes:\n"
		 "  w4: {quantizer: int4, group_size: 32}\n"
		 "  a8: {quantizer: int8, granularity: token}\n"
		 "sites:\n"
		 "  both: [{match: \"layers.*.{attn,mlp}\", weight: w4, input: a8}]\n"
		 "  alone: [{match: \"layers.*.{attn,mlp}\", weight: w4}, "
		 "{match: lm_head, weight: w4, input: a8}]\n"
		 "  kept: [{match: \"layers.*.attn\", kv: a8}]\n"
		 "steps: [{task: quantize, from: base, sites: both, as: codes}]\n",
		 folder, model, backend, precision, threads);
	test_write("p.yaml", text);
	ck_ok(qat_pipeline_load(&p, test_path("p.yaml"), NULL, 0));
	ck_ok(qat_context_new(&c, p));
	snprintf(path, sizeof path, "%s/out", folder);
	mkdir(path, 0777);
	snprintf(path, sizeof path, "%s/out/states", folder);
	mkdir(path, 0777);
}

static void make_codes(void)
{
	const qat_state *base;
	int64_t need;

	ck_ok(qat_context_state(c, &base, "base"));
	ck_ok(qat_convert(c, base, "both", qat_context_folder(c, "codes"), NULL, &need));
}

/* [BATCH, LENGTH, VOCABULARY] of one forward pass. */
static float *whole(const qat_session_spec *of)
{
	static const int32_t none[BATCH * LENGTH];
	qat_session_spec spec = *of;
	const qat_batch b = { .size = sizeof b, .tokens = tokens, .labels = none };
	float *out = malloc(sizeof *out * BATCH * LENGTH * VOCABULARY);
	qat_session *x;

	spec.mode = QAT_SESSION_EVALUATE;
	spec.length = LENGTH;
	spec.logits = 1;
	ck_assert_ptr_nonnull(out);
	ck_ok(qat_session_open(&x, c, &spec, NULL));
	ck_ok(qat_session_forward(x, &b));
	ck_ok(qat_session_logits(x, out));
	qat_session_close(x);
	return out;
}

/* Tokens [from, to) of each sequence. */
static void append(qat_session *x, int from, int to, float *logits)
{
	int32_t some[BATCH * LENGTH];

	for (int b = 0; b < BATCH; b++)
		memcpy(some + b * (to - from), tokens + b * LENGTH + from,
		       sizeof *some * (size_t)(to - from));
	ck_ok(qat_session_append(x, some, to - from, logits));
}

static void expect(const float *logits, const float *want, int t, const char *what)
{
	for (int b = 0; b < BATCH; b++)
		for (int i = 0; i < VOCABULARY; i++) {
			const float x = logits[b * VOCABULARY + i];
			const float y = want[(b * LENGTH + t) * VOCABULARY + i];

			ck_assert_msg(!memcmp(&x, &y, sizeof x),
				      "%s: token %d, sequence %d: logit %d is %.9g, not %.9g", what,
				      t, b, i, (double)x, (double)y);
		}
}

/* A prompt of `prompt` tokens, read `chunk` at once, the rest one by one. */
static void check_cut(const qat_session_spec *of, const float *want, int prompt, int chunk,
		      const char *what)
{
	static float logits[BATCH * VOCABULARY];
	qat_session_spec spec = *of;
	qat_session *x;

	spec.mode = QAT_SESSION_GENERATE;
	spec.length = chunk;
	spec.context = LENGTH;
	ck_ok(qat_session_open(&x, c, &spec, NULL));
	append(x, 0, prompt, logits);
	expect(logits, want, prompt - 1, what);
	for (int t = prompt; t < LENGTH; t++) {
		append(x, t, t + 1, logits);
		expect(logits, want, t, what);
	}
	ck_assert_int_eq(qat_session_append(x, tokens, 1, logits), QAT_EINVAL);
	ck_ok(qat_session_restart(x));
	append(x, 0, 3, NULL);			/* pieces without logits */
	append(x, 3, LENGTH - 1, NULL);
	append(x, LENGTH - 1, LENGTH, logits);
	expect(logits, want, LENGTH - 1, what);
	qat_session_close(x);
}

static void check_kinds(const char *model, const char *backend, const char *precision,
			int threads, size_t first)
{
	start(model, backend, precision, threads);
	make_codes();
	for (size_t i = first; i < sizeof kinds / sizeof *kinds; i++) {
		const qat_session_spec spec = { .size = sizeof spec, .state = kinds[i].state,
						.sites = kinds[i].sites, .batch = BATCH };
		float *want = whole(&spec);
		char what[64];

		snprintf(what, sizeof what, "%s %s, %s", backend, precision,
			 kinds[i].sites ? kinds[i].sites : "stored codes");
		if (i == 0) {
			check_cut(&spec, want, 1, 1, what);
			check_cut(&spec, want, 5, 16, what);	/* shorter than a chunk */
		}
		check_cut(&spec, want, 38, 16, what);		/* two chunks and a piece */
		free(want);
	}
}

START_TEST(bits_on_cpu)
{
	check_kinds(models[_i / 2], "cpu", _i % 2 ? "bf16" : "f32", 1, 0);
}
END_TEST

START_TEST(bits_on_cpu_with_threads)
{
	check_kinds(models[0], "cpu", "bf16", 3, 4);
}
END_TEST

START_TEST(bits_on_reference)
{
	check_kinds(models[_i], "reference", _i ? "bf16" : "f32", 1, 3);
}
END_TEST

/* 0: vulkan is not built, or has no device here. */
static int vulkan_is_there(void)
{
	static const char text[] =
		"qatrun: 1\nname: q\noutput: out\nmodel: {family: gpt2, init: random, tokenizer: "
		"bytes, config: {n_embd: 32, n_layer: 1, n_head: 1, vocab_size: 256}}\n"
		"device: {backend: vulkan}\nsteps: [{task: save, from: base, path: p}]\n";
	qat_pipeline *q = NULL;
	qat_context *d = NULL;
	int found;

	test_write("q.yaml", text);
	found = !qat_pipeline_load(&q, test_path("q.yaml"), NULL, 0) && !qat_context_new(&d, q);
	qat_context_free(d);
	qat_pipeline_free(q);
	return found;
}

START_TEST(bits_on_vulkan)
{
	if (vulkan_is_there())
		check_kinds(models[_i], "vulkan", _i ? "bf16" : "f32", 1, 3 * (size_t)_i);
	else
		fprintf(stderr, "vulkan: left out: %s\n", qat_error());
}
END_TEST

/* What a session refuses. */
START_TEST(refused)
{
	qat_session_spec spec = { .size = sizeof spec, .mode = QAT_SESSION_GENERATE,
				  .state = "base", .batch = 1, .length = 4,
				  .context = LENGTH + 1 };
	const int32_t bad = VOCABULARY;
	const qat_batch b = { .size = sizeof b, .tokens = tokens, .labels = tokens };
	qat_session *x;

	start(models[0], "cpu", "f32", 1);
	ck_assert_int_eq(qat_session_open(&x, c, &spec, NULL), QAT_EINVAL);
	ck_assert_ptr_nonnull(strstr(qat_error(), "context of 41"));
	spec.context = 3;			/* less than a chunk */
	ck_assert_int_eq(qat_session_open(&x, c, &spec, NULL), QAT_EINVAL);
	spec.context = LENGTH;
	ck_ok(qat_session_open(&x, c, &spec, NULL));
	ck_assert_int_eq(qat_session_append(x, &bad, 1, NULL), QAT_EINVAL);
	ck_assert_ptr_nonnull(strstr(qat_error(), "vocabulary of 256"));
	ck_assert_int_eq(qat_session_append(x, tokens, 0, NULL), QAT_EINVAL);
	ck_assert_int_eq(qat_session_append(x, tokens, LENGTH + 1, NULL), QAT_EINVAL);
	ck_assert_int_eq(qat_session_forward(x, &b), QAT_EINVAL);
	qat_session_close(x);
	spec.mode = QAT_SESSION_EVALUATE;
	ck_ok(qat_session_open(&x, c, &spec, NULL));
	ck_assert_int_eq(qat_session_append(x, tokens, 1, NULL), QAT_EINVAL);
	qat_session_close(x);
}
END_TEST

/* A plan made without memory says what the session takes. */
START_TEST(predicted)
{
	const qat_session_spec spec = { .size = sizeof spec, .mode = QAT_SESSION_GENERATE,
					.state = "base", .batch = 1, .length = 16,
					.context = LENGTH };
	const char *range = NULL;
	qat_plan_size before, after;
	qat_session *x;

	start(models[1], "cpu", "bf16", 1);
	ck_ok(qat_session_predict(&before, &range, c, &spec, 0));
	ck_ok(qat_session_open(&x, c, &spec, NULL));
	qat_session_size(x, &after);
	ck_assert_int_eq(before.state, after.state);
	ck_assert_int_eq(before.step, after.step);
	ck_assert_int_eq(before.scratch, after.scratch);
	ck_assert_int_ge(before.state, 2 * LENGTH * 128 * 2);	/* keys and values */
	qat_session_close(x);
}
END_TEST

/* Asked by the leak checker, which crashes on OpenMP's threads; leaks are valgrind's
 * to find. */
int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void)
{
	return 1;
}

int main(void)
{
	static const char soft[] = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json";
	Suite *s = suite_create("generate");
	TCase *t = tcase_create("generate");
	SRunner *r = srunner_create(s);
	int n;

	if (qat_services_start())
		return EXIT_FAILURE;
	if (access(soft, R_OK) == 0)		/* all drivers take long to be asked */
		setenv("VK_ICD_FILENAMES", soft, 0);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, bits_on_cpu, 0, 4);
	tcase_add_test(t, bits_on_cpu_with_threads);
	tcase_add_loop_test(t, bits_on_reference, 0, 2);
	tcase_add_loop_test(t, bits_on_vulkan, 0, 2);
	tcase_add_test(t, refused);
	tcase_add_test(t, predicted);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	n = srunner_ntests_failed(r);
	srunner_free(r);
	return n ? EXIT_FAILURE : EXIT_SUCCESS;
}
