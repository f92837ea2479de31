/* test_datasets.c - text and jsonl: how sequences are cut, and what is refused. The
 * tokenizer here makes a token of a byte. */
#include "plugin_host.h"

#include <unistd.h>

/* Two plugins in one program: what they export gets names of their own. */
#define qat_plugin_v1 text_plugin
#define qat_plugin_init_ text_init
#define add_file text_add_file
#define check_env text_check_env
#define reserve text_reserve
#include "../plugins/datasets/text.c"
#undef qat_plugin_v1
#undef qat_plugin_init_
#undef add_file
#undef check_env
#undef reserve
#define qat_plugin_v1 jsonl_plugin
#define qat_plugin_init_ jsonl_init
#include "../plugins/datasets/jsonl.c"

static int live;		/* arrays of encode that were not released */

static int encode(void *context, const char *text, int64_t bytes, int32_t **ids, int64_t *count)
{
	(void)context;
	*ids = malloc((size_t)bytes * sizeof **ids + 1);
	for (int64_t i = 0; i < bytes; i++)
		(*ids)[i] = (unsigned char)text[i];
	*count = bytes;
	live++;
	return QAT_OK;
}

static void release(void *context, int32_t *ids)
{
	(void)context;
	free(ids);
	live--;
}

static qat_dataset_env env = {
	.size = sizeof env, .length = 4, .vocabulary = 256, .bos = 2, .encode = encode,
	.release = release, .name = "train",
};

static char folder[] = "/tmp/test_datasets.XXXXXX";
static char paths[2][64];
static const char *const files[2] = { paths[0], paths[1] };

static void write_file(int i, const char *text, size_t n)
{
	FILE *f = fopen(paths[i], "wb");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(text, 1, n, f), n);
	fclose(f);
}

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(folder));
	for (int i = 0; i < 2; i++)
		snprintf(paths[i], sizeof paths[i], "%s/file%d", folder, i);
	host_interface(&text_plugin, "text");
	host_interface(&jsonl_plugin, "jsonl");
}

static void teardown(void)
{
	unlink(paths[0]);
	unlink(paths[1]);
	rmdir(folder);
}

static void check_sequence(const qat_dataset *d, const void *set, int64_t i,
			   const int32_t *tokens, const int32_t *labels)
{
	int32_t t[5] = { 0, 0, 0, 0, 77 }, l[5] = { 0, 0, 0, 0, 77 };

	ck_assert_int_eq(d->get(set, i, t, l), QAT_OK);
	for (int k = 0; k < 4; k++) {
		ck_assert_int_eq(t[k], tokens[k]);
		ck_assert_int_eq(l[k], labels[k]);
	}
	ck_assert(t[4] == 77 && l[4] == 77);
}

/* ---- text ---- */

START_TEST(text_cut)
{
	const text_options o = { .files = { files, 2 }, .length = 4 };
	void *set;

	write_file(0, "abcde", 5);
	write_file(1, "fgh\0", 4);
	ck_assert_int_eq(text_vtable.open(&set, &o, &env), QAT_OK);
	ck_assert_int_eq(live, 0);
	ck_assert_int_eq(text_vtable.count(set), 2);	/* nine ids: the last one scores h */
	check_sequence(&text_vtable, set, 0, (int32_t[]){ 'a', 'b', 'c', 'd' },
		       (int32_t[]){ 'b', 'c', 'd', 'e' });
	check_sequence(&text_vtable, set, 1, (int32_t[]){ 'e', 'f', 'g', 'h' },
		       (int32_t[]){ 'f', 'g', 'h', 0 });
	ck_assert_int_eq(text_vtable.get(set, 2, NULL, NULL), QAT_EINVAL);
	ck_assert_int_eq(text_vtable.get(set, -1, NULL, NULL), QAT_EINVAL);
	text_vtable.close(set);
	text_vtable.close(NULL);
}
END_TEST

START_TEST(text_edges)
{
	text_options o = { .files = { files, 1 }, .length = 4, .limit = 1 };
	qat_dataset_env e = env;
	void *set = NULL;

	write_file(0, "abcd", 4);
	ck_assert_int_eq(text_vtable.open(&set, &o, &e), QAT_EINVAL);
	ck_says("4 tokens");
	ck_says("needs 5");
	ck_assert_ptr_null(set);
	o.add_bos = 1;
	ck_assert_int_eq(text_vtable.open(&set, &o, &e), QAT_OK);
	check_sequence(&text_vtable, set, 0, (int32_t[]){ 2, 'a', 'b', 'c' },
		       (int32_t[]){ 'a', 'b', 'c', 'd' });
	text_vtable.close(set);
	e.bos = -1;
	ck_assert_int_eq(text_vtable.open(&set, &o, &e), QAT_EINVAL);
	ck_says("BOS");
	o.add_bos = 0;
	write_file(0, "abcdefghijklm", 13);
	ck_assert_int_eq(text_vtable.open(&set, &o, &e), QAT_OK);
	ck_assert_int_eq(text_vtable.count(set), 3);
	text_vtable.close(set);
	e.limit = 2;
	ck_assert_int_eq(text_vtable.open(&set, &o, &e), QAT_OK);
	ck_assert_int_eq(text_vtable.count(set), 2);
	text_vtable.close(set);
	ck_assert_int_eq(text_vtable.length(&o), 4);
	ck_assert_int_eq(text_vtable.limit(&o), 1);
}
END_TEST

START_TEST(text_refused)
{
	const char *const gone[] = { "/nowhere/at.all" }, *const dir[] = { folder };
	text_options o = { .files = { files, 1 }, .length = 4 };
	qat_dataset_env e = env;
	void *set;

	write_file(0, "abcdefgh", 8);
	e.vocabulary = 'e';
	ck_assert_int_eq(text_vtable.open(&set, &o, &e), QAT_EINVAL);
	ck_says("token 101");
	ck_assert_int_eq(live, 0);
	e.encode = NULL;
	ck_assert_int_eq(text_vtable.open(&set, &o, &e), QAT_EINVAL);
	ck_says("tokenizer");
	o.files.at = gone;
	ck_assert_int_eq(text_vtable.open(&set, &o, &env), QAT_EIO);
	ck_says("/nowhere/at.all");
	o.files.at = dir;
	ck_assert_int_eq(text_vtable.open(&set, &o, &env), QAT_EINVAL);
	ck_says("plain file");
	write_file(0, "", 0);
	o.files.at = files;
	ck_assert_int_eq(text_vtable.open(&set, &o, &env), QAT_EINVAL);
	ck_says("0 tokens");
}
END_TEST

/* ---- jsonl ---- */

static const char lines[] =
	"{\"text\": \"abcdefg\", \"other\": [1]}\n"
	"\r\n"
	"{\"text\": \"ab\"}\r\n"
	"{\"input_ids\": [5, 6, 7, 8, 9, 300], \"labels\": [-100, -100, 17, 18, 19, 20]}\n"
	"{\"input_ids\": [5, 6, 7]}";

START_TEST(jsonl_cut)
{
	const jsonl_options o = { .files = { files, 1 }, .length = 4, .pad_token_id = 9 };
	qat_dataset_env e = env;
	void *set;

	write_file(0, lines, sizeof lines - 1);
	ck_assert_int_eq(jsonl_vtable.open(&set, &o, &env), QAT_OK);
	ck_assert_int_eq(live, 0);
	ck_assert_int_eq(jsonl_vtable.count(set), 4);
	check_sequence(&jsonl_vtable, set, 0, (int32_t[]){ 'a', 'b', 'c', 'd' },
		       (int32_t[]){ 'b', 'c', 'd', 'e' });
	check_sequence(&jsonl_vtable, set, 1, (int32_t[]){ 'a', 'b', 9, 9 },
		       (int32_t[]){ 'b', -100, -100, -100 });
	/* Labels stand for their own token, as in transformers: ours are one earlier. */
	check_sequence(&jsonl_vtable, set, 2, (int32_t[]){ 5, 6, 7, 8 },
		       (int32_t[]){ -100, 17, 18, 19 });
	check_sequence(&jsonl_vtable, set, 3, (int32_t[]){ 5, 6, 7, 9 },
		       (int32_t[]){ 6, 7, -100, -100 });
	ck_assert_int_eq(jsonl_vtable.get(set, 4, NULL, NULL), QAT_EINVAL);
	jsonl_vtable.close(set);
	jsonl_vtable.close(NULL);
	e.limit = 2;
	ck_assert_int_eq(jsonl_vtable.open(&set, &o, &e), QAT_OK);
	ck_assert_int_eq(jsonl_vtable.count(set), 2);
	jsonl_vtable.close(set);
}
END_TEST

START_TEST(jsonl_bos)
{
	const jsonl_options o = { .files = { files, 1 }, .length = 4, .add_bos = 1 };
	void *set;

	write_file(0, "{\"text\": \"abcdefg\"}\n", 20);
	ck_assert_int_eq(jsonl_vtable.open(&set, &o, &env), QAT_OK);
	check_sequence(&jsonl_vtable, set, 0, (int32_t[]){ 2, 'a', 'b', 'c' },
		       (int32_t[]){ 'a', 'b', 'c', 'd' });
	jsonl_vtable.close(set);
}
END_TEST

/* A line is read whole: what has no end must not take all memory. */
START_TEST(jsonl_long_line)
{
	jsonl_options o = { .files = { files, 1 }, .length = 4 };
	const size_t n = ((size_t)16 << 20) + 1;
	char *line = malloc(n);
	void *set;

	ck_assert_ptr_nonnull(line);
	memset(line, 'a', n);
	memcpy(line, "{\"text\": \"", 10);
	memcpy(line + n - 3, "\"}\n", 3);
	write_file(0, line, n);
	ck_assert_int_eq(jsonl_vtable.open(&set, &o, &env), QAT_EFORMAT);
	ck_says(":1: a line of more than 16 MiB");
	memcpy(line + n - 4, "\"}\n", 3);
	write_file(0, line, n - 1);
	ck_assert_int_eq(jsonl_vtable.open(&set, &o, &env), QAT_OK);
	jsonl_vtable.close(set);
	free(line);
}
END_TEST

START_TEST(jsonl_refused)
{
	static const struct { const char *text; int rc; const char *says; } t[] = {
		{ "{\"text\": \"ab\"}\n{\"text\": 3}\n", QAT_EFORMAT, ":2: text is not a string" },
		{ "\n\n{\"text\" \"ab\"}\n", QAT_EFORMAT, ":3: column" },
		{ "[1]\n", QAT_EFORMAT, ":1: a line must be one JSON object" },
		{ "{\"txt\": \"ab\"}\n", QAT_EFORMAT, ":1: an object needs text or input_ids" },
		{ "{\"input_ids\": [1, 2.5]}\n", QAT_EFORMAT, "input_ids[1] is not an integer" },
		{ "{\"input_ids\": 7}\n", QAT_EFORMAT, "not a list" },
		{ "{\"input_ids\": [1, 2], \"labels\": [1]}\n", QAT_EFORMAT, "1 labels for 2" },
		{ "{\"input_ids\": [1, 256]}\n", QAT_EINVAL, "token 256 is outside" },
		{ "{\"input_ids\": [1, -1]}\n", QAT_EINVAL, "token -1 is outside" },
		{ "{\"input_ids\": [1, 2], \"labels\": [1, -7]}\n", QAT_EINVAL, "label -7" },
		{ "{\"input_ids\": []}\n", QAT_EFORMAT, "without tokens" },
		{ "{\"text\": \"a\", \"text\": \"b\"}\n", QAT_EFORMAT, "duplicate" },
		{ "\n \n", QAT_EINVAL, "no sequence" },
	};
	jsonl_options o = { .files = { files, 1 }, .length = 4 };
	void *set = NULL;

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		write_file(0, t[i].text, strlen(t[i].text));
		host_message[0] = '\0';
		ck_assert_int_eq(jsonl_vtable.open(&set, &o, &env), t[i].rc);
		ck_says(t[i].says);
		ck_says("data train");
		ck_assert_ptr_null(set);
		ck_assert_int_eq(live, 0);
	}
	o.pad_token_id = 256;
	ck_assert_int_eq(jsonl_vtable.open(&set, &o, &env), QAT_EINVAL);
	ck_says("pad_token_id 256");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("datasets");
	TCase *t = tcase_create("datasets");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, text_cut);
	tcase_add_test(t, text_edges);
	tcase_add_test(t, text_refused);
	tcase_add_test(t, jsonl_cut);
	tcase_add_test(t, jsonl_bos);
	tcase_add_test(t, jsonl_refused);
	tcase_add_test(t, jsonl_long_line);
	suite_add_tcase(suite, t);
	return host_run(suite);
}
