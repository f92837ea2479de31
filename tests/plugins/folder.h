/* folder.h - a temporary folder with the plugins of tests/plugins, for tests. */
#ifndef TEST_FOLDER_H
#define TEST_FOLDER_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[256];

static inline void __attribute__((unused)) test_command(const char *fmt, const char *a,
							const char *b)
{
	char command[4096];

	snprintf(command, sizeof command, fmt, a, b);
	if (system(command)) {
		fprintf(stderr, "cannot do: %s\n", command);
		exit(99);
	}
}

/* A path inside the folder; of the last four calls. */
static inline __attribute__((unused)) const char *test_path(const char *name)
{
	static char path[4][512];
	static unsigned which;

	which = (which + 1) % 4;
	snprintf(path[which], sizeof path[which], "%s/%s", folder, name);
	return path[which];
}

static inline void __attribute__((unused)) test_write(const char *name, const char *text)
{
	FILE *f = fopen(test_path(name), "w");

	if (!f || fputs(text, f) < 0 || fclose(f))
		exit(99);
}

/* A built plugin under another name, with a mode that the loader takes. */
static inline void __attribute__((unused)) test_plugin(const char *built, const char *as)
{
	char from[1024];
	const char *top = getenv("top_builddir");

	snprintf(from, sizeof from, "%s/tests/.libs/%s", top ? top : "..", built);
	test_command("cp -L '%s' '%s'", from, test_path(as));
	if (chmod(test_path(as), 0755))
		exit(99);
}

static inline void __attribute__((unused)) test_link(const char *to, const char *as)
{
	if (symlink(to, test_path(as)))
		exit(99);
}

/* Makes the folder, with all of every.c, and points QATRUN_PLUGIN_PATH there. */
static inline void __attribute__((unused)) test_folder_new(void)
{
	static const char *const names[] = {
		"dataset-lines.so", "optimizer-walk.so", "task-change.so", "task-look.so",
		"model-tiny.so", "backend-paper.so"
	};

	snprintf(folder, sizeof folder, "%s/qatrun-test.XXXXXX",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (!mkdtemp(folder))
		exit(99);
	test_plugin("every.so", "quantizer-grid.so");
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		test_link("quantizer-grid.so", names[i]);
	setenv("QATRUN_PLUGIN_PATH", folder, 1);
}

static inline void __attribute__((unused)) test_folder_free(void)
{
	test_command("rm -rf '%s'%s", folder, "");
}

#endif
