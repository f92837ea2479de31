/* plugin_list.c - --plugins and --help NAME. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fcntl.h>

#include "hint.h"
#include "option.h"
#include "plugin_internal.h"

enum { ROOM = 4096, SECONDS = 20 };

/* --- --plugins --- */

/* One line about a file, by the process that opens it: "+" or "-", then the text. */
static void probe(FILE *out, const char *path, uint32_t kind, const char *name)
{
	const struct qat_module *m;

	if (qat_module_open(&m, path)) {
		fprintf(out, "-%s", qat_error());
		return;
	}
	if (!qat_module_entry(m, kind, name)) {
		fprintf(out, "-%s: offers no %s named %s", path, qat_kind_name(kind), name);
		return;
	}
	fprintf(out, "+%s: ", path);
	for (int64_t i = 0; i < m->count; i++)
		fprintf(out, "%s%s %s", i ? ", " : "",
			qat_kind_name(m->entries[i].interface.kind), m->entries[i].interface.name);
	fprintf(out, " (%s %s, %s)", m->name, m->version, m->license);
}

/* What the child runs; a plugin that hangs or prints is no trouble to the parent. */
static void child(int fd, const char *path, uint32_t kind, const char *name)
{
	int null = open("/dev/null", O_RDWR);
	FILE *out = fdopen(fd, "w");

	if (!out)
		_exit(1);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
	}
	alarm(SECONDS);
	probe(out, path, kind, name);
	fclose(out);
	_exit(0);
}

static void read_all(char *text, size_t room, int fd)
{
	size_t used = 0;
	ssize_t n;

	while (used < room - 1 && (n = read(fd, text + used, room - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = 0;
	for (char *p = text; *p; p++) {
		if ((unsigned char)*p < ' ')
			*p = ' ';
	}
}

/* What a child's end says; nothing where it went well. */
static const char *ending(int status)
{
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		return "hangs when it is opened";
	if (WIFSIGNALED(status))
		return strsignal(WTERMSIG(status));
	return WEXITSTATUS(status) ? "ends the process that opens it" : NULL;
}

static void list_file(FILE *out, const char *path, uint32_t kind, const char *name)
{
	char text[ROOM];
	const char *end;
	int fd[2], status = 0;
	pid_t pid;

	fflush(NULL);
	if (pipe(fd))
		return;
	pid = fork();
	if (!pid) {
		close(fd[0]);
		child(fd[1], path, kind, name);
	}
	close(fd[1]);
	read_all(text, sizeof text, fd[0]);
	close(fd[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		fprintf(out, "unknown   %s: cannot start a process to try it\n", path);
	else if ((end = ending(status)) || !*text)
		fprintf(out, "refused   %s: the process that opened it did not come back: %s\n",
			path, end ? end : "no answer");
	else
		fprintf(out, "%s  %s\n", *text == '+' ? "accepted" : "refused ", text + 1);
}

static int list_entry(void *context, const char *folder, const char *file)
{
	FILE *out = context;
	char path[ROOM], name[65];
	uint32_t kind;

	snprintf(path, sizeof path, "%s/%s", folder, file);
	if (!qat_plugin_file(&kind, name, file))
		fprintf(out, "refused   %s: the name is not <kind>-<name>.so\n", path);
	else
		list_file(out, path, kind, name);
	return 0;
}

static int list_folder(void *context, const char *folder)
{
	if (access(folder, R_OK | X_OK))
		fprintf(context, "no folder %s\n", folder);
	return qat_plugin_files(folder, list_entry, context);
}

int qat_plugin_list(FILE *out)
{
	return qat_plugin_folders(list_folder, out);
}

/* --- --help NAME --- */

static int print_interface(FILE *out, const qat_interface *i)
{
	fprintf(out, "%s %s: %s\n", qat_kind_name(i->kind), i->name, i->summary ? i->summary : "");
	return qat_option_help(out, i->options);
}

struct names {
	char name[256][65];
	const char *at[256];
	int64_t count;
	const char *wanted;
	uint32_t kinds;		/* bits: there is a file of this kind and the wanted name */
};

static int note_file(void *context, const char *folder, const char *file)
{
	struct names *n = context;
	char name[65];
	uint32_t kind;

	(void)folder;
	if (!qat_plugin_file(&kind, name, file))
		return 0;
	if (!strcmp(name, n->wanted))
		n->kinds |= 1u << kind;
	if (n->count < 256) {
		memcpy(n->name[n->count], name, sizeof name);
		n->at[n->count] = n->name[n->count];
		n->count++;
	}
	return 0;
}

static int note_folder(void *context, const char *folder)
{
	return qat_plugin_files(folder, note_file, context);
}

int qat_plugin_help(FILE *out, const char *name)
{
	struct names n = { .wanted = name };
	const qat_interface *i;
	const void *vtable;
	const char *near;
	int rc = QAT_OK, shown = 0;

	qat_plugin_folders(note_folder, &n);
	for (uint32_t kind = 1; !rc && kind < QAT_KINDS; kind++) {
		if (!(n.kinds & 1u << kind))
			continue;
		rc = qat_plugin_find(&i, &vtable, kind, name);
		if (!rc && shown++)
			fputc('\n', out);
		if (!rc)
			rc = print_interface(out, i);
	}
	if (rc || shown)
		return rc;
	near = qat_hint_nearest(name, n.at, n.count);
	if (near)
		return qat_fail(QAT_ENOTFOUND, "no plugin is named \"%.64s\": did you mean \"%s\"?",
				name, near);
	return qat_fail(QAT_ENOTFOUND, "no plugin is named \"%.64s\": qat-run --plugins lists "
			"them", name);
}
