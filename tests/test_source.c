/* test_source.c - source huggingface without a net: names, checksums, the environment, and
 * what a cache gives. */
#include "plugin_host.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../plugins/sources/huggingface.c"

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static char folder[] = "/tmp/test_source.XXXXXX";

static const char *at(const char *name)
{
	static char path[600];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static void put(const char *name, const char *text)
{
	FILE *f;

	ck_assert_int_eq(hub_cache_folders(at(name)), QAT_OK);
	f = fopen(at(name), "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

static void start(void)
{
	static const char *const unset[] = {
		"HF_ENDPOINT", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN",
		"HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "TRANSFORMERS_OFFLINE", "HF_HOME",
		"XDG_CACHE_HOME", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_HUB_DOWNLOAD_TIMEOUT"
	};

	for (size_t i = 0; i < sizeof unset / sizeof *unset; i++)
		unsetenv(unset[i]);
	setenv("HF_HUB_OFFLINE", "1", 1);
	setenv("HOME", folder, 1);
	host_interface(&qat_plugin_v1, "huggingface");
}

/* ---- names ---- */

START_TEST(names)
{
	static const char *const good[] = {
		"a/b", "HuggingFaceTB/SmolLM2-135M-Instruct", "_a/b_", "a.b/c.d_e-f", "0/1"
	};
	static const char *const bad[] = {
		"", "a", "/", "a/", "/b", "a/b/c", "../b", "a/..", "a/.b", "a/b.", "-a/b", "a/b-",
		"a--b/c", "a/b--c", "a..b/c", "a/b c", "a/b\n", "a/b.git", "a/\xc3\xa9", "a\\/b"
	};
	char longest[120];

	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		ck_assert_msg(probe(NULL, good[i]), "%s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_msg(!probe(NULL, bad[i]), "%s", bad[i]);
	memset(longest, 'a', sizeof longest);
	longest[1] = '/';
	longest[97] = '\0';
	ck_assert(!probe(NULL, longest));
	longest[96] = '\0';
	ck_assert(probe(NULL, longest));
}
END_TEST

START_TEST(revisions)
{
	static const char *const good[] = { "main", "v1.0", "refs/pr/1", COMMIT, "a-b_c+d" };
	static const char *const bad[] = {
		"", "-x", "/x", "x/", "a//b", "..", "a..b", "../x", "a/../b", ".x", "a/.x", "a b",
		"a\n", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "a@{1}", "\xc3\xa9"
	};

	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		ck_assert_msg(hub_revision_valid(good[i]), "%s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_msg(!hub_revision_valid(bad[i]), "%s", bad[i]);
}
END_TEST

START_TEST(files_and_tags)
{
	static const char *const bad[] = {
		"", ".", "..", ".x", "-x", "a/b", "/a", "a\\b", "a\nb", "a\x7f", "\xc3\xa9"
	};

	ck_assert(hub_file_valid("model-00001-of-00002.safetensors"));
	ck_assert(hub_file_valid("a b (1).gguf"));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_msg(!hub_file_valid(bad[i]), "%s", bad[i]);
	ck_assert(hub_commit_valid(COMMIT));
	ck_assert(!hub_commit_valid(COMMIT "8"));
	ck_assert(!hub_commit_valid("0123456789ABCDEF0123456789abcdef01234567"));
	ck_assert(hub_etag_valid(COMMIT));
	ck_assert(hub_etag_valid(COMMIT "89abcdef0123456789abcdef"));
	ck_assert(!hub_etag_valid("../" COMMIT));
	ck_assert(!hub_etag_valid(""));
}
END_TEST

/* ---- checksums ---- */

static int same(const char *text, int64_t size, const char *tag)
{
	static const hub_stop never;
	FILE *f = fopen(at("digest"), "w+");
	int is = -1;

	ck_assert_ptr_nonnull(f);
	for (int64_t i = 0; i < size; i += (int64_t)strlen(text))
		fputs(text, f);
	ck_assert_int_eq(fflush(f), 0);
	ck_assert_int_eq(hub_digest_check(&is, fileno(f), size, tag, &never), QAT_OK);
	fclose(f);
	return is;
}

/* The examples of FIPS 180, and git's names for a few contents. */
START_TEST(digests)
{
	static const struct { const char *text; int64_t size; const char *tag; } known[] = {
		{ "", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
		  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
		{ "a", 1000000,
		  "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0" },
		{ "", 0, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391" },
		{ "hello\n", 6, "ce013625030ba8dba906f756967f9e9ca394464a" },
	};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		ck_assert_msg(same(known[i].text, known[i].size, known[i].tag) == 1, "%zu", i);
	ck_assert_int_eq(same("abd", 3, known[1].tag), 0);
	ck_assert_int_eq(same("hello!", 6, known[5].tag), 0);
}
END_TEST

START_TEST(digest_shorter_than_said)
{
	static const hub_stop never;
	int is = -1, fd;

	put("digest", "abc");
	fd = open(at("digest"), O_RDWR);
	ck_assert_int_eq(hub_digest_check(&is, fd, 4, COMMIT, &never), QAT_EIO);
	ck_assert_int_eq(is, -1);
	ck_says("has become shorter");
	close(fd);
}
END_TEST

/* ---- environment ---- */

static hub_env env;

static void reads(void)
{
	hub_env_free(&env);
	ck_assert_msg(hub_env_read(&env) == QAT_OK, "%s", host_message);
}

static void cache_is(const char *under)
{
	reads();
	ck_assert_str_eq(env.cache, at(under));
}

START_TEST(environment)
{
	char here[600];

	reads();
	ck_assert_str_eq(env.endpoint, "https://huggingface.co");
	ck_assert_str_eq(env.cache, at(".cache/huggingface/hub"));
	ck_assert_ptr_null(env.token);
	ck_assert_int_eq(env.offline, 1);
	ck_assert_int_eq(env.timeout, 10);
	setenv("XDG_CACHE_HOME", at("xdg"), 1);
	cache_is("xdg/huggingface/hub");
	setenv("HF_HOME", "~/hf", 1);
	cache_is("hf/hub");
	setenv("HUGGINGFACE_HUB_CACHE", at("old"), 1);
	cache_is("old");
	setenv("HF_HUB_CACHE", at("new"), 1);
	cache_is("new");
	setenv("HF_HUB_CACHE", "x/y", 1);
	reads();
	ck_assert_ptr_nonnull(getcwd(here, sizeof here));
	ck_assert_int_eq(strncmp(env.cache, here, strlen(here)), 0);
	ck_assert_str_eq(env.cache + strlen(here), "/x/y");
	setenv("HF_ENDPOINT", "http://mirror:8080/hf//", 1);
	setenv("HF_HUB_OFFLINE", "0", 1);
	reads();
	ck_assert_str_eq(env.endpoint, "http://mirror:8080/hf");
	ck_assert_int_eq(env.offline, 0);
	setenv("TRANSFORMERS_OFFLINE", "True", 1);
	reads();
	ck_assert_int_eq(env.offline, 1);
	setenv("HF_ENDPOINT", "ftp://mirror", 1);
	hub_env_free(&env);
	ck_assert_int_eq(hub_env_read(&env), QAT_EINVAL);
	ck_says("begins with https:// or http://");
}
END_TEST

START_TEST(tokens)
{
	put(".cache/huggingface/token", "hf_file\n");
	reads();
	ck_assert_str_eq(env.token, "hf_file");
	setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "yes", 1);
	reads();
	ck_assert_ptr_null(env.token);
	unsetenv("HF_HUB_DISABLE_IMPLICIT_TOKEN");
	put("other", "\thf_other \r\n");
	setenv("HF_TOKEN_PATH", at("other"), 1);
	reads();
	ck_assert_str_eq(env.token, "hf_other");
	setenv("HF_TOKEN", "hf_own", 1);
	reads();
	ck_assert_str_eq(env.token, "hf_own");
	setenv("HF_TOKEN", "hf\r\nHost: evil", 1);
	hub_env_free(&env);
	ck_assert_int_eq(hub_env_read(&env), QAT_EINVAL);
	ck_says("no spaces");
	setenv("HF_TOKEN", "hf\x01", 1);
	hub_env_free(&env);
	ck_assert_int_eq(hub_env_read(&env), QAT_EINVAL);
	unlink(at(".cache/huggingface/token"));
}
END_TEST

/* ---- a cache ---- */

#define REPO ".cache/huggingface/hub/models--a--b/"
#define SNAPSHOT REPO "snapshots/" COMMIT "/"

static int shown;

static void progress(void *context, const char *file, int64_t done, int64_t total)
{
	(void)context;
	ck_assert_ptr_nonnull(file);
	ck_assert_int_le(done, total);
	shown++;
}

static int never(void *context)
{
	(void)context;
	return 0;
}

static int no(void *context, const char *config)
{
	(void)config;
	ck_assert_str_eq(context, "context");
	return qat_fail(QAT_ENOTSUP, "not this one");
}

static char context[] = "context";
static qat_source_request request = {
	.size = sizeof request, .name = "a/b", .stopped = never, .progress = progress,
	.context = context,
};

static int fetches(char *path, char *revision)
{
	qat_source_result r = { .size = sizeof r };
	const int rc = vtable.fetch(NULL, &request, &r);

	ck_assert_int_eq(rc == QAT_OK, r.path != NULL);
	snprintf(path, 600, "%s", r.path ? r.path : "");
	snprintf(revision, 64, "%s", r.revision ? r.revision : "");
	vtable.release(r.path);
	vtable.release(r.revision);
	return rc;
}

START_TEST(cache)
{
	static const char *const wanted[] = { "config.json", "x.bin" };
	char path[600], revision[64];

	ck_assert_int_eq(fetches(path, revision), QAT_ENOTFOUND);
	put(REPO "refs/main", COMMIT);
	put(SNAPSHOT "config.json", "{}");
	ck_assert_int_eq(fetches(path, revision), QAT_ENOTFOUND);
	ck_says("neither model.safetensors nor a .gguf file in the cache");
	put(SNAPSHOT "model.safetensors", "");
	ck_assert_msg(fetches(path, revision) == QAT_OK, "%s", host_message);
	ck_assert_uint_eq(strlen(path) + 1, strlen(at(SNAPSHOT)));
	ck_assert_int_eq(strncmp(path, at(SNAPSHOT), strlen(path)), 0);
	ck_assert_str_eq(revision, COMMIT);
	request.look = no;
	ck_assert_int_eq(fetches(path, revision), QAT_ENOTSUP);
	ck_says("not this one");
	request.files = (qat_strings){ wanted, 1 };
	ck_assert_int_eq(fetches(path, revision), QAT_OK);
	request.files.count = 2;
	ck_assert_int_eq(fetches(path, revision), QAT_ENOTFOUND);
	ck_says("has no file x.bin");
	request.files.count = 0;
	request.look = NULL;
	request.revision = "../../x";
	ck_assert_int_eq(fetches(path, revision), QAT_EINVAL);
	request.revision = COMMIT;
	ck_assert_int_eq(fetches(path, revision), QAT_OK);
	request.revision = NULL;
	put(REPO "refs/main", "../../../../../../etc");
	ck_assert_int_eq(fetches(path, revision), QAT_ENOTFOUND);
	ck_assert_int_eq(shown, 0);
}
END_TEST

/* A snapshot as huggingface_hub makes it: links into blobs; one that leads nowhere is not there. */
START_TEST(links)
{
	char path[600], revision[64];

	put(REPO "refs/main", COMMIT "\n");
	put(REPO "blobs/x", "GGUF");
	unlink(at(SNAPSHOT "model.safetensors"));
	ck_assert_int_eq(symlink("../../blobs/x", at(SNAPSHOT "m.gguf")), 0);
	ck_assert_int_eq(symlink("../../blobs/y", at(SNAPSHOT "model.safetensors")), 0);
	ck_assert_msg(fetches(path, revision) == QAT_OK, "%s", host_message);
	ck_assert_str_eq(path, at(SNAPSHOT "m.gguf"));
	put(SNAPSHOT "n.gguf", "GGUF");
	ck_assert_int_eq(fetches(path, revision), QAT_ENOTSUP);
	ck_says("give its path: ");
	ck_says("m.gguf");
	ck_says("n.gguf");
}
END_TEST

/* ---- indexes of shards ---- */

START_TEST(shards)
{
	static const struct { const char *index, *message; } bad[] = {
		{ "", "index.json:" },
		{ "[]", "no weight_map" },
		{ "{\"weight_map\": {}}", "no weight_map" },
		{ "{\"weight_map\": [\"a\"]}", "no weight_map" },
		{ "{\"weight_map\": {\"a\": 1}}", "no plain" },
		{ "{\"weight_map\": {\"a\": \"../a.safetensors\"}}", "no plain" },
		{ "{\"weight_map\": {\"a\": \"/a.safetensors\"}}", "no plain" },
		{ "{\"weight_map\": {\"a\": \"..\"}}", "no plain" },
		{ "{\"weight_map\": {\"a\": \"config.json\"}}", "no plain" },
		{ "{\"weight_map\": {\"a\": \"c.safetensors\"}}", "c.safetensors, a shard" },
	};
	char path[600], revision[64];

	unlink(at(SNAPSHOT "model.safetensors"));
	unlink(at(SNAPSHOT "m.gguf"));
	put(SNAPSHOT "a.safetensors", "");
	put(SNAPSHOT "b.safetensors", "");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		put(SNAPSHOT "model.safetensors.index.json", bad[i].index);
		ck_assert_msg(fetches(path, revision) != QAT_OK, "%s", bad[i].index);
		ck_says(bad[i].message);
	}
	put(SNAPSHOT "model.safetensors.index.json", "{\"weight_map\": {\"a\": \"a.safetensors\", "
	    "\"b\": \"b.safetensors\", \"c\": \"a.safetensors\"}}");
	ck_assert_msg(fetches(path, revision) == QAT_OK, "%s", host_message);
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		names, revisions, files_and_tags, digests, digest_shorter_than_said, environment,
		tokens, cache, links, shards
	};
	Suite *s = suite_create("source");
	TCase *c = tcase_create("huggingface");
	char command[100];
	int rc;

	if (!mkdtemp(folder))
		return 99;
	tcase_add_checked_fixture(c, start, NULL);
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		tcase_add_test(c, tests[i]);
	suite_add_tcase(s, c);
	rc = host_run(s);
	snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command) ? 99 : rc;
}
