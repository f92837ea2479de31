/* test_plugin.c - what the loader refuses before and after it opens a file, and what it
 * makes of an older or newer plugin. */
#include "kinds.h"	/* first: check.h has a macro `fail` */

#include <check.h>
#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <string.h>

#include "plugin.h"
#include "plugin_internal.h"
#include "plugins/folder.h"

/* --- descriptions, in memory --- */

static int scheme(const void *self, const qat_site *site, int64_t index, qat_scheme *out)
{
	(void)self;
	(void)site;
	(void)index;
	(void)out;
	return QAT_OK;
}

static int64_t count(const void *self, const qat_site *site)
{
	(void)self;
	(void)site;
	return 7;
}

static qat_quantizer vtable;
static qat_interface one, two;
static const qat_interface *list[2];
static qat_plugin plugin;
static struct qat_module module;

static void setup(void)
{
	vtable = (qat_quantizer){ .size = sizeof vtable, .scheme = scheme, .count = count };
	one = (qat_interface){
		.size = sizeof one, .kind = QAT_KIND_QUANTIZER, .name = "one", .vtable = &vtable
	};
	two = one;
	two.name = "two";
	list[0] = &one;
	list[1] = &two;
	plugin = (qat_plugin){
		.magic = QAT_MAGIC, .size = sizeof plugin, .abi_major = QAT_ABI_MAJOR, .count = 2,
		.name = "p", .version = "1", .license = "MIT", .interfaces = list
	};
	memset(&module, 0, sizeof module);
}

static void teardown(void)
{
	for (int64_t i = 0; module.entries && i < 2; i++)
		free(module.entries[i].vtable);
	free(module.entries);
}

static void refused(const char *why)
{
	ck_assert_int_eq(qat_module_describe(&module, &plugin, "p.so"), QAT_EABI);
	ck_assert_msg(strstr(qat_error(), why) != NULL, "%s", qat_error());
	ck_assert_msg(!strncmp(qat_error(), "p.so: ", 6), "%s", qat_error());
}

START_TEST(describe)
{
	const struct qat_entry *e;

	ck_assert_int_eq(qat_module_describe(&module, &plugin, "p.so"), QAT_OK);
	ck_assert_int_eq(module.count, 2);
	e = qat_module_entry(&module, QAT_KIND_QUANTIZER, "two");
	ck_assert_ptr_nonnull(e);
	ck_assert_str_eq(e->interface.name, "two");
	ck_assert_ptr_eq(e->interface.vtable, e->vtable);
	ck_assert_ptr_null(qat_module_entry(&module, QAT_KIND_QUANTIZER, "three"));
	ck_assert_ptr_null(qat_module_entry(&module, QAT_KIND_TASK, "two"));
	ck_assert_ptr_null(qat_module_entry(&module, QAT_KIND_QUANTIZER, NULL));	/* two */
}
END_TEST

START_TEST(wrong_magic) { plugin.magic++; refused("not a plugin's description"); } END_TEST
START_TEST(wrong_size) { plugin.size = 8; refused("has 8 bytes"); } END_TEST
START_TEST(wrong_major) { plugin.abi_major = 2; refused("plugin interface 2, this is 1"); } END_TEST
START_TEST(no_interfaces) { plugin.count = 0; refused("offers 0 interfaces"); } END_TEST
START_TEST(many_interfaces) { plugin.count = 1u << 31; refused("2147483648 interfaces"); } END_TEST
START_TEST(null_list) { plugin.interfaces = NULL; refused("list of interfaces is NULL"); } END_TEST
START_TEST(no_license) { plugin.license = NULL; refused("license"); } END_TEST
START_TEST(null_interface) { list[1] = NULL; refused("interface 1 is NULL"); } END_TEST
START_TEST(small_interface) { two.size = 8; refused("interface 1 says that it has 8"); } END_TEST
START_TEST(no_name) { two.name = NULL; refused("interface 1 has no name"); } END_TEST
START_TEST(bad_name) { two.name = "Two"; refused("interface 1 has no name"); } END_TEST
START_TEST(path_name) { two.name = "../two"; refused("interface 1 has no name"); } END_TEST
START_TEST(twice) { two.name = "one"; refused("offers quantizer one twice"); } END_TEST
START_TEST(no_vtable) { two.vtable = NULL; refused("quantizer two has no vtable"); } END_TEST
START_TEST(small_vtable) { vtable.size = 4; refused("quantizer one: its vtable"); } END_TEST
START_TEST(no_function) { vtable.scheme = NULL; refused("no function \"scheme\""); } END_TEST
START_TEST(much_memory) { two.options_size = 1ull << 40; refused("for its options"); } END_TEST

START_TEST(bad_options)
{
	static const qat_option table[] = {
		{ .name = "x", .help = "", .type = QAT_OPT_INT, .offset = 8 }, QAT_END
	};

	two.options = table;
	two.options_size = 8;
	refused("quantizer two: option \"x\" lies outside");
}
END_TEST

/* What a plugin lacks at the tail is NULL; what it has beyond us is not read. */
START_TEST(older)
{
	const qat_quantizer *q;

	vtable.size = offsetof(qat_quantizer, count);
	one.size = offsetof(qat_interface, flags);
	one.flags = 99;
	ck_assert_int_eq(qat_module_describe(&module, &plugin, "p.so"), QAT_OK);
	q = module.entries[0].vtable;
	ck_assert(q->scheme == scheme);
	ck_assert(q->count == NULL);
	ck_assert_int_eq(module.entries[0].interface.flags, 0);
}
END_TEST

START_TEST(newer)
{
	struct { qat_quantizer known; void *tail[8]; } more = { .known = vtable };

	more.known.size = sizeof more;
	one.vtable = &more;
	one.size = sizeof one;
	plugin.abi_minor = 9;
	ck_assert_int_eq(qat_module_describe(&module, &plugin, "p.so"), QAT_OK);
	ck_assert(((const qat_quantizer *)module.entries[0].vtable)->count == count);
}
END_TEST

/* A kind that came later is left out, the rest serves. */
START_TEST(unknown_kind)
{
	one.kind = 77;
	ck_assert_int_eq(qat_module_describe(&module, &plugin, "p.so"), QAT_OK);
	ck_assert_int_eq(module.count, 1);
	ck_assert_str_eq(module.entries[0].interface.name, "two");
}
END_TEST

START_TEST(only_unknown_kinds) { one.kind = 77; two.kind = 0; refused("has a use for"); } END_TEST

/* --- files --- */

/* Overwrites bytes of a copy of the good plugin. */
static const char *damaged(const char *name, long at, const void *bytes, size_t n)
{
	const char *path;
	FILE *f;

	test_plugin("every.so", name);
	path = test_path(name);
	f = fopen(path, "r+");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fseek(f, at, SEEK_SET), 0);
	ck_assert_int_eq(fwrite(bytes, n, 1, f), 1);
	ck_assert_int_eq(fclose(f), 0);
	return path;
}

static void elf_refused(const char *path, const char *why)
{
	ck_assert_int_lt(qat_elf_check(path), 0);
	ck_assert_msg(strstr(qat_error(), why) != NULL, "%s", qat_error());
	ck_assert_msg(strstr(qat_error(), path) == qat_error(), "%s", qat_error());
}

START_TEST(elf_good)
{
	ck_assert_msg(qat_elf_check(test_path("quantizer-grid.so")) == QAT_OK, "%s", qat_error());
}
END_TEST

START_TEST(elf_header)
{
	static const struct { long at; unsigned char byte; const char *why; } bytes[] = {
		{ 0, 'X', "not an ELF file" },
		{ EI_CLASS, 7, "-bit machines" },
		{ EI_DATA, 7, "byte order" },
		{ offsetof(ElfW(Ehdr), e_machine), 0, "another machine" },
		{ offsetof(ElfW(Ehdr), e_type), ET_REL, "not a shared object" },
		{ offsetof(ElfW(Ehdr), e_phentsize), 1, "program headers of 1 bytes" },
		{ offsetof(ElfW(Ehdr), e_phnum), 0, "0 program headers" },
		{ offsetof(ElfW(Ehdr), e_phoff) + sizeof(ElfW(Off)) - 1, 0x80, "past the end" },
	};

	elf_refused(damaged("task-x.so", bytes[_i].at, &bytes[_i].byte, 1), bytes[_i].why);
}
END_TEST

START_TEST(elf_cut_short)
{
	struct stat st;
	long cuts[] = { 0, 10, 63, 64, 100, 0, 0 };

	test_plugin("every.so", "task-x.so");
	ck_assert_int_eq(stat(test_path("task-x.so"), &st), 0);
	cuts[5] = 4096;
	cuts[6] = (long)st.st_size / 4;
	ck_assert_int_eq(truncate(test_path("task-x.so"), cuts[_i]), 0);
	elf_refused(test_path("task-x.so"), cuts[_i] < 64 ? "not an ELF file" : "cut short");
}
END_TEST

START_TEST(elf_others_may_write)
{
	test_plugin("every.so", "task-x.so");
	chmod(test_path("task-x.so"), 0775);
	elf_refused(test_path("task-x.so"), "others may write it (mode 775): chmod go-w");
	chmod(test_path("task-x.so"), 0757);
	elf_refused(test_path("task-x.so"), "others may write it");
}
END_TEST

/* Whoever may write the folder may swap the file; above it, a sticky bit will do. */
START_TEST(elf_folder)
{
	ck_assert_int_eq(mkdir(test_path("open"), 0755), 0);
	ck_assert_int_eq(mkdir(test_path("open/inner"), 0755), 0);
	test_plugin("every.so", "open/inner/task-x.so");
	ck_assert_int_eq(qat_elf_check(test_path("open/inner/task-x.so")), QAT_OK);
	chmod(test_path("open/inner"), 0757);
	elf_refused(test_path("open/inner/task-x.so"),
		    "anybody may write the folder");
	chmod(test_path("open/inner"), 01777);
	elf_refused(test_path("open/inner/task-x.so"), "chmod o-w");
	chmod(test_path("open/inner"), 0755);
	chmod(test_path("open"), 0777);
	elf_refused(test_path("open/inner/task-x.so"), "/open (mode 777)");
	chmod(test_path("open"), 01777);
	ck_assert_int_eq(qat_elf_check(test_path("open/inner/task-x.so")), QAT_OK);
	/* a link from a good folder does not help */
	chmod(test_path("open"), 0757);
	test_link("open/inner/task-x.so", "task-x.so");
	elf_refused(test_path("task-x.so"), "/open (mode 757)");
	chmod(test_path("open"), 0755);
	ck_assert_int_eq(qat_elf_check(test_path("task-x.so")), QAT_OK);
	if (geteuid() == 0) {
		ck_assert_int_eq(chown(test_path("open/inner"), 12345, (gid_t)-1), 0);
		elf_refused(test_path("task-x.so"), "its folder belongs to user 12345");
	}
}
END_TEST

START_TEST(elf_other_owner)
{
	test_plugin("every.so", "task-x.so");
	if (geteuid() != 0) {
		fputs("elf_other_owner: skipped: only root can give a file away\n", stderr);
		return;
	}
	ck_assert_int_eq(chown(test_path("task-x.so"), 12345, (gid_t)-1), 0);
	elf_refused(test_path("task-x.so"), "belongs to user 12345");
}
END_TEST

START_TEST(elf_no_file)
{
	ck_assert_int_eq(mkdir(test_path("task-folder.so"), 0755), 0);
	elf_refused(test_path("task-folder.so"), "not a regular file");
	ck_assert_int_eq(mkfifo(test_path("task-fifo.so"), 0600), 0);
	elf_refused(test_path("task-fifo.so"), "not a regular file");
	elf_refused(test_path("task-absent.so"), "No such file");
}
END_TEST

static void find_refused(int code, const char *name, const char *why)
{
	const qat_interface *i = NULL;
	const void *v = NULL;

	ck_assert_int_eq(qat_plugin_find(&i, &v, QAT_KIND_TASK, name), code);
	ck_assert_msg(strstr(qat_error(), why) != NULL, "%s", qat_error());
	ck_assert_ptr_null(i);
}

START_TEST(find)
{
	const qat_interface *i, *again;
	const void *v, *v_again;

	ck_assert_msg(!qat_plugin_find(&i, &v, QAT_KIND_QUANTIZER, "grid"), "%s", qat_error());
	ck_assert_str_eq(i->name, "grid");
	ck_assert(((const qat_quantizer *)v)->scheme != NULL);
	ck_assert_int_eq(qat_plugin_find(&again, &v_again, QAT_KIND_QUANTIZER, "grid"), QAT_OK);
	ck_assert_ptr_eq(i, again);
	ck_assert_ptr_eq(v, v_again);
	/* by path, and through a link to the same file */
	ck_assert_int_eq(qat_plugin_find(&again, &v_again, QAT_KIND_QUANTIZER,
					 test_path("quantizer-grid.so")), QAT_OK);
	ck_assert_ptr_eq(i, again);
	ck_assert_int_eq(qat_plugin_find(&again, &v_again, QAT_KIND_TASK, "look"), QAT_OK);
	ck_assert_str_eq(again->name, "look");
	/* the host's messages come through */
	ck_assert_int_eq(((const qat_quantizer *)v)->scheme(NULL, NULL, 0, NULL), QAT_ENOTSUP);
	ck_assert_str_eq(qat_error(), "grid is for tests");
}
END_TEST

START_TEST(find_nothing)
{
	find_refused(QAT_ENOTFOUND, "chang", "unknown task \"chang\": did you mean \"change\"?");
	find_refused(QAT_ENOTFOUND, "zzzzzz", "there is no task-zzzzzz.so in ");
	find_refused(QAT_EINVAL, "../task-look", "cannot be the name of a task");
	find_refused(QAT_EINVAL, "", "cannot be the name of a task");
	find_refused(QAT_ENOTFOUND, "/nowhere/task-x.so", "/nowhere/task-x.so: ");
	test_link("quantizer-grid.so", "task-grid.so");
	find_refused(QAT_EABI, "grid", "does not offer a task named grid");
	test_link("../gone/task-away.so", "task-away.so");
	find_refused(QAT_ENOTFOUND, "away",
		     "task-away.so: a link to ../gone/task-away.so, which is not there: build");
}
END_TEST

static const struct { const char *built, *name, *why; } bad[] = {
	{ "bad-init.so", "init", "its init failed: there is no such hardware" },
	{ "bad-symbol.so", "symbol", "qat_plugin_v1 is not a plugin's description: 8 bytes" },
	{ "bad-nothing.so", "nothing", "does not export qat_plugin_v1" },
};

START_TEST(find_bad)
{
	char name[64];

	snprintf(name, sizeof name, "task-%s.so", bad[_i].name);
	test_plugin(bad[_i].built, name);
	find_refused(QAT_EABI, bad[_i].name, bad[_i].why);
	find_refused(QAT_EABI, bad[_i].name, bad[_i].why);	/* remembered */
}
END_TEST

/* An earlier folder goes first; relative ones do not count. */
START_TEST(search_order)
{
	const qat_interface *i;
	const void *v;
	char path[600];

	ck_assert_int_eq(mkdir(test_path("first"), 0755), 0);
	test_plugin("bad-nothing.so", "first/task-look.so");
	snprintf(path, sizeof path, ".::%s:%s", test_path("first"), folder);
	setenv("QATRUN_PLUGIN_PATH", path, 1);
	ck_assert_int_eq(chdir(folder), 0);
	find_refused(QAT_EABI, "look", "first/task-look.so: no plugin");
	ck_assert_int_eq(qat_plugin_find(&i, &v, QAT_KIND_TASK, "change"), QAT_OK);
	setenv("QATRUN_PLUGIN_PATH", ".", 1);
	find_refused(QAT_ENOTFOUND, "change", "there is no task-change.so in ");
}
END_TEST

struct seen { int64_t n; char names[256]; int stop; };

static int see(void *context, const qat_interface *i, const void *v)
{
	struct seen *s = context;

	ck_assert_ptr_nonnull(v);
	s->n++;
	strcat(strcat(s->names, i->name), " ");
	return s->stop;
}

START_TEST(each)
{
	struct seen s = { 0 };

	test_plugin("bad-nothing.so", "task-nothing.so");
	qat_log_level(0);
	ck_assert_int_eq(qat_plugin_each(QAT_KIND_TASK, see, &s), 0);
	ck_assert_str_eq(s.names, "change look ");	/* once each */
	s = (struct seen){ .stop = 5 };
	ck_assert_int_eq(qat_plugin_each(QAT_KIND_TASK, see, &s), 5);
	ck_assert_int_eq(s.n, 1);
	s = (struct seen){ 0 };
	ck_assert_int_eq(qat_plugin_each(QAT_KIND_TRACKER, see, &s), 0);
	ck_assert_int_eq(s.n, 0);
}
END_TEST

static char *listing(void)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	ck_assert_int_eq(qat_plugin_list(f), QAT_OK);
	fclose(f);
	return text;
}

START_TEST(list_all)
{
	static const char *const lines[] = {
		"accepted  %s/quantizer-grid.so: quantizer grid, dataset lines",
		"accepted  %s/task-look.so: ",
		"refused   %s/task-crash.so: the process that opened it did not come back: Abort",
		"refused   %s/task-init.so: its init failed: there is no such hardware\n",
		"refused   %s/stray.so: the name is not <kind>-<name>.so\n",
		"refused   %s/task-other.so: offers no task named other\n",
		"refused   %s/task-dangling.so: a link to nowhere, which is not there: ",
	};
	char line[512], *text;

	test_plugin("bad-crash.so", "task-crash.so");
	test_plugin("bad-init.so", "task-init.so");
	test_link("task-init.so", "stray.so");
	test_link("quantizer-grid.so", "task-other.so");
	test_link("nowhere", "task-dangling.so");
	text = listing();
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		snprintf(line, sizeof line, lines[i], folder);
		ck_assert_msg(strstr(text, line) != NULL, "%s\nis not in\n%s", line, text);
	}
	free(text);
}
END_TEST

START_TEST(services)
{
	static const int graph = 1, session = 2;

	ck_assert_ptr_null(qat_host_table.service("graph"));
	ck_assert_int_eq(qat_host_service_set("graph", &graph), QAT_OK);
	ck_assert_int_eq(qat_host_service_set("session", &graph), QAT_OK);
	ck_assert_int_eq(qat_host_service_set("session", &session), QAT_OK);
	ck_assert_ptr_eq(qat_host_table.service("graph"), &graph);
	ck_assert_ptr_eq(qat_host_table.service("session"), &session);
	ck_assert_ptr_null(qat_host_table.service("other"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("plugin");
	TCase *c = tcase_create("describe"), *f = tcase_create("files");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, describe);
	tcase_add_test(c, wrong_magic);
	tcase_add_test(c, wrong_size);
	tcase_add_test(c, wrong_major);
	tcase_add_test(c, no_interfaces);
	tcase_add_test(c, many_interfaces);
	tcase_add_test(c, null_list);
	tcase_add_test(c, no_license);
	tcase_add_test(c, null_interface);
	tcase_add_test(c, small_interface);
	tcase_add_test(c, no_name);
	tcase_add_test(c, bad_name);
	tcase_add_test(c, path_name);
	tcase_add_test(c, twice);
	tcase_add_test(c, no_vtable);
	tcase_add_test(c, small_vtable);
	tcase_add_test(c, no_function);
	tcase_add_test(c, much_memory);
	tcase_add_test(c, bad_options);
	tcase_add_test(c, older);
	tcase_add_test(c, newer);
	tcase_add_test(c, unknown_kind);
	tcase_add_test(c, only_unknown_kinds);
	tcase_add_test(c, services);
	suite_add_tcase(suite, c);
	tcase_add_checked_fixture(f, test_folder_new, test_folder_free);
	tcase_set_timeout(f, 30);
	tcase_add_test(f, elf_good);
	tcase_add_loop_test(f, elf_header, 0, 8);
	tcase_add_loop_test(f, elf_cut_short, 0, 7);
	tcase_add_test(f, elf_others_may_write);
	tcase_add_test(f, elf_other_owner);
	tcase_add_test(f, elf_folder);
	tcase_add_test(f, elf_no_file);
	tcase_add_test(f, find);
	tcase_add_test(f, find_nothing);
	tcase_add_loop_test(f, find_bad, 0, sizeof bad / sizeof *bad);
	tcase_add_test(f, search_order);
	tcase_add_test(f, each);
	tcase_add_test(f, list_all);
	suite_add_tcase(suite, f);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
