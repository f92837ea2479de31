/* plugin_files.h - for tests of all plugins of a kind: opens their files as a host does. */
#ifndef QAT_TEST_PLUGIN_FILES_H
#define QAT_TEST_PLUGIN_FILES_H

#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/plugin.h>

enum { PLUGINS_MAX = 64 };

static const qat_plugin *plugins[PLUGINS_MAX];
static int n_plugins;

static void find_file(const char *path)
{
	void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const qat_plugin *p = so ? dlsym(so, "qat_plugin_v1") : NULL;

	if (!p) {
		fprintf(stderr, "%s\n", dlerror());
		exit(EXIT_FAILURE);
	}
	for (int i = 0; i < n_plugins; i++)
		if (plugins[i] == p)	/* this file is a link to it */
			return;
	if (n_plugins < PLUGINS_MAX)
		plugins[n_plugins++] = p;
}

static void find_in(const char *prefix, const char *folder, int length)
{
	const size_t first = strlen(prefix);
	char path[1024];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof path, "%.*s", length, folder);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		const size_t n = strlen(e->d_name);

		if (n <= first + 3 || strncmp(e->d_name, prefix, first) ||
		    strcmp(e->d_name + n - 3, ".so"))
			continue;
		snprintf(path, sizeof path, "%.*s/%s", length, folder, e->d_name);
		find_file(path);
	}
	if (d)
		closedir(d);
}

/* The plugins of QATRUN_PLUGIN_PATH whose file has that prefix: "quantizer-". */
static void find_plugins(const char *prefix)
{
	const char *at = getenv("QATRUN_PLUGIN_PATH");

	while (at && *at) {
		const size_t n = strcspn(at, ":");

		find_in(prefix, at, (int)n);
		at += n + (at[n] == ':');
	}
}

#endif
