/* plugin.c - opening plugins, and finding them by kind and name. */
#include "plugin.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "hint.h"
#include "plugin_internal.h"

enum { PATH_ROOM = 4096, SERVICES_MAX = 16 };

static struct qat_module *modules;

static struct { const char *name; const void *table; } services[SERVICES_MAX];

static const void *service(const char *name)
{
	for (int i = 0; i < SERVICES_MAX && services[i].name; i++) {
		if (!strcmp(services[i].name, name))
			return services[i].table;
	}
	return NULL;
}

int qat_host_service_set(const char *name, const void *table)
{
	int i = 0;

	while (i < SERVICES_MAX && services[i].name && strcmp(services[i].name, name) != 0)
		i++;
	if (i == SERVICES_MAX)
		return qat_fail(QAT_ENOMEM, "service %s: no room for more than %d", name,
				SERVICES_MAX);
	services[i].name = name;
	services[i].table = table;
	return QAT_OK;
}

const qat_host qat_host_table = {
	.size = sizeof(qat_host),
	.abi_major = QAT_ABI_MAJOR,
	.abi_minor = QAT_ABI_MINOR,
	.fail = qat_vfail,
	.error = qat_error,
	.log = qat_vlog,
	.service = service
};

const struct qat_entry *qat_module_entry(const struct qat_module *m, uint32_t kind,
					 const char *name)
{
	const struct qat_entry *found = NULL;

	for (int64_t i = 0; i < m->count; i++) {
		const struct qat_entry *e = &m->entries[i];

		if (e->interface.kind != kind)
			continue;
		if (name && !strcmp(e->interface.name, name))
			return e;
		if (!name && found)
			return NULL;
		if (!name)
			found = e;
	}
	return found;
}

const char *qat_plugin_version(const qat_interface *i)
{
	for (const struct qat_module *m = modules; m; m = m->next)
		for (int64_t k = 0; k < m->count; k++)
			if (&m->entries[k].interface == i)
				return m->version;
	return NULL;
}

/* The symbol must be an object that holds a whole description: reading past it is not
 * safe. */
static int check_symbol(const void *symbol, const char *path)
{
	const ElfW(Sym) *s = NULL;
	Dl_info info;

	if (!dladdr1(symbol, &info, (void **)&s, RTLD_DL_SYMENT) || !s)
		return qat_fail(QAT_EABI, "%s: qat_plugin_v1 is not in its symbol table", path);
	if ((s->st_info & 0xf) != STT_OBJECT || s->st_size < sizeof(qat_plugin))
		return qat_fail(QAT_EABI, "%s: qat_plugin_v1 is not a plugin's description: "
				"%llu bytes, of %zu", path, (unsigned long long)s->st_size,
				sizeof(qat_plugin));
	return QAT_OK;
}

/* Whether it was the file's fault: dlopen leaves no errno, and says of a segment neither
 * that memory was short nor that its folder may hold no programs. */
static int not_opened(const char *path, const char *why)
{
	struct statvfs folder;

	if (!why)
		return qat_fail(QAT_EABI, "%s: cannot be opened", path);
	if (strstr(why, strerror(ENOMEM)) || strstr(why, "out of memory"))
		return qat_fail(QAT_ENOMEM, "%s: %s", path, why);
	if (strstr(why, "failed to map segment") && !statvfs(path, &folder))
		return folder.f_flag & ST_NOEXEC
			? qat_fail(QAT_EABI, "%s: %s: it lies where programs may not run (noexec)",
				   path, why)
			: qat_fail(QAT_ENOMEM, "%s: out of memory: %s", path, why);
	return qat_fail(QAT_EABI, "%s: %s", path, why);
}

static int load(struct qat_module *m, const char *path)
{
	const qat_plugin *p;
	void *handle;
	int rc = qat_elf_check(path);

	if (rc)
		return rc;
	handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return not_opened(path, dlerror());
	p = dlsym(handle, "qat_plugin_v1");
	if (!p)
		return qat_fail(QAT_EABI, "%s: no plugin: it does not export qat_plugin_v1", path);
	rc = check_symbol(p, path);
	if (!rc)
		rc = qat_module_describe(m, p, path);
	if (rc || !p->init)
		return rc;
	rc = p->init(&qat_host_table);
	return rc < 0 ? qat_fail(rc == QAT_ENOMEM ? rc : QAT_EABI, "%s: its init failed: %s", path,
				 qat_error())
		      : QAT_OK;
}

/* Keeps the outcome, so that no file is opened twice. */
static int remember(struct qat_module *m, int rc)
{
	if (rc) {
		m->refused = rc;
		snprintf(m->why, sizeof m->why, "%s", qat_error());
		m->count = 0;
	}
	m->next = modules;
	modules = m;
	return rc;
}

static int not_there(const char *path)
{
	const int error = errno;
	char target[512];
	const ssize_t n = error == ENOENT ? readlink(path, target, sizeof target - 1) : -1;

	if (n < 0)
		return qat_fail(error == ENOENT ? QAT_ENOTFOUND : QAT_EIO, "%s: %s", path,
				strerror(error));
	target[n] = '\0';
	return qat_fail(QAT_ENOTFOUND, "%s: a link to %s, which is not there: build or install "
			"that, or remove the link", path, target);
}

int qat_module_open(const struct qat_module **out, const char *path)
{
	struct qat_module *m;
	struct stat st;
	int rc;

	if (stat(path, &st))
		return not_there(path);
	for (m = modules; m; m = m->next) {
		if (m->device != st.st_dev || m->inode != st.st_ino)
			continue;
		if (m->refused)
			return qat_fail(m->refused, "%s", m->why);
		*out = m;
		return QAT_OK;
	}
	m = calloc(1, sizeof *m);
	if (!m)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	m->device = st.st_dev;
	m->inode = st.st_ino;
	rc = remember(m, load(m, path));
	if (!rc)
		*out = m;
	return rc;
}

int qat_plugin_folders(qat_folder_visit *visit, void *context)
{
	static int said;
	const char *path = secure_getenv("QATRUN_PLUGIN_PATH");
	char *copy = strdup(path ? path : ""), *rest = copy, *folder;
	int rc = 0;

	if (!copy)
		return qat_fail(QAT_ENOMEM, "out of memory");
	while (!rc && (folder = strsep(&rest, ":"))) {
		if (*folder == '/')
			rc = visit(context, folder);
		else if (*folder && !said)
			qat_log(QAT_LOG_WARN, "QATRUN_PLUGIN_PATH: %s: left out, as it is not "
				"absolute", folder);
	}
	said = 1;
	if (!rc)
		rc = visit(context, QAT_PLUGINDIR);
	free(copy);
	return rc;
}

int qat_plugin_file(uint32_t *kind, char *name, const char *file)
{
	size_t n = strlen(file), head;

	if (n < 4 || strcmp(file + n - 3, ".so") != 0)
		return 0;
	n -= 3;
	for (uint32_t k = 1; k < QAT_KINDS; k++) {
		head = strlen(qat_kind_name(k));
		if (n <= head + 1 || strncmp(file, qat_kind_name(k), head) != 0 ||
		    file[head] != '-' || n - head - 1 > 64)
			continue;
		memcpy(name, file + head + 1, n - head - 1);
		name[n - head - 1] = 0;
		*kind = k;
		return qat_plugin_name_valid(name);
	}
	return 0;
}

static int is_shared_object(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return n > 3 && d->d_name[0] != '.' && !strcmp(d->d_name + n - 3, ".so");
}

int qat_plugin_files(const char *folder, qat_file_visit *visit, void *context)
{
	struct dirent **files;
	int n = scandir(folder, &files, is_shared_object, alphasort), rc = 0;

	if (n < 0 && errno == ENOMEM)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", folder);
	if (n < 0)
		return 0;	/* not there: nothing to see */
	for (int i = 0; i < n; i++) {
		if (!rc)
			rc = visit(context, folder, files[i]->d_name);
		free(files[i]);
	}
	free(files);
	return rc;
}

/* --- by name --- */

struct search {
	uint32_t kind;
	const char *name;
	char path[PATH_ROOM];	/* out: the file */
	char looked[512];	/* out: folders, for the message */
	char names[64][65];	/* out: what there is instead */
	const char *name_list[64];
	int64_t count;
};

static int look(void *context, const char *folder)
{
	struct search *s = context;
	size_t used = strlen(s->looked);
	int n = snprintf(s->path, sizeof s->path, "%s/%s-%s.so", folder, qat_kind_name(s->kind),
			 s->name);

	snprintf(s->looked + used, sizeof s->looked - used, "%s%s", used ? ", " : "", folder);
	return n < PATH_ROOM && !faccessat(AT_FDCWD, s->path, F_OK, AT_SYMLINK_NOFOLLOW);
}

static int collect_file(void *context, const char *folder, const char *file)
{
	struct search *s = context;
	uint32_t kind;
	char name[65];

	(void)folder;
	if (s->count < 64 && qat_plugin_file(&kind, name, file) && kind == s->kind) {
		memcpy(s->names[s->count], name, sizeof name);
		s->name_list[s->count] = s->names[s->count];
		s->count++;
	}
	return 0;
}

static int collect(void *context, const char *folder)
{
	return qat_plugin_files(folder, collect_file, context);
}

static int not_found(struct search *s)
{
	const char *near, *kind = qat_kind_name(s->kind);

	qat_plugin_folders(collect, s);
	near = qat_hint_nearest(s->name, s->name_list, s->count);
	if (near)
		return qat_fail(QAT_ENOTFOUND, "unknown %s \"%s\": did you mean \"%s\"?", kind,
				s->name, near);
	return qat_fail(QAT_ENOTFOUND, "unknown %s \"%s\": there is no %s-%s.so in %s", kind,
			s->name, kind, s->name, s->looked);
}

static int find_in(const qat_interface **out, const void **vtable, uint32_t kind,
		   const char *name, const char *path)
{
	const struct qat_module *m;
	const struct qat_entry *e;
	int rc = qat_module_open(&m, path);

	if (rc)
		return rc;
	e = qat_module_entry(m, kind, name);
	if (!e)
		return qat_fail(QAT_EABI, "%s: does not offer a %s%s%s", path, qat_kind_name(kind),
				name ? " named " : ", or several", name ? name : "");
	*out = &e->interface;
	*vtable = e->vtable;
	return QAT_OK;
}

static int find_path(const qat_interface **out, const void **vtable, uint32_t kind,
		     const char *path)
{
	const struct qat_module *m;
	char name[65];
	uint32_t said;
	int rc = qat_module_open(&m, path);

	if (rc)
		return rc;
	if (qat_plugin_file(&said, name, strrchr(path, '/') + 1) && said == kind &&
	    qat_module_entry(m, kind, name))
		return find_in(out, vtable, kind, name, path);
	return find_in(out, vtable, kind, NULL, path);
}

int qat_plugin_find(const qat_interface **out, const void **vtable, uint32_t kind,
		    const char *name)
{
	struct search s = { .kind = kind, .name = name };
	int rc;

	if (!qat_kind_name(kind))
		return qat_fail(QAT_EINVAL, "%u is no kind of plugin", kind);
	if (*name == '/')
		return find_path(out, vtable, kind, name);
	if (!qat_plugin_name_valid(name))
		return qat_fail(QAT_EINVAL, "\"%.64s\" cannot be the name of a %s: names are made "
				"of a-z, 0-9, _ and -", name, qat_kind_name(kind));
	rc = qat_plugin_folders(look, &s);
	if (rc != 1)
		return rc < 0 ? rc : not_found(&s);
	return find_in(out, vtable, kind, name, s.path);
}

/* --- all of a kind --- */

struct tour {
	uint32_t kind;
	qat_plugin_visit *visit;
	void *context;
	const struct qat_module *seen[256];
	int64_t count;
};

static int visit_module(struct tour *t, const struct qat_module *m)
{
	int rc = 0;

	for (int64_t i = 0; i < t->count; i++) {
		if (t->seen[i] == m)
			return 0;
	}
	if (t->count < 256)
		t->seen[t->count++] = m;
	for (int64_t i = 0; i < m->count && !rc; i++) {
		if (m->entries[i].interface.kind == t->kind)
			rc = t->visit(t->context, &m->entries[i].interface,
				      m->entries[i].vtable);
	}
	return rc;
}

static int tour_file(void *context, const char *folder, const char *file)
{
	const struct qat_module *m;
	struct tour *t = context;
	char path[PATH_ROOM], name[65];
	uint32_t kind;
	int rc;

	if (!qat_plugin_file(&kind, name, file) || kind != t->kind)
		return 0;
	snprintf(path, sizeof path, "%s/%s", folder, file);
	rc = qat_module_open(&m, path);
	if (!rc)
		return visit_module(t, m);
	if (rc == QAT_ENOMEM)
		return rc;
	qat_log(QAT_LOG_WARN, "left out: %s", qat_error());
	return 0;
}

static int tour_folder(void *context, const char *folder)
{
	return qat_plugin_files(folder, tour_file, context);
}

int qat_plugin_each(uint32_t kind, qat_plugin_visit *visit, void *context)
{
	struct tour t = { .kind = kind, .visit = visit, .context = context };

	return qat_plugin_folders(tour_folder, &t);
}
