/* cli.c - the command line of qat-run, and what its fronts share of it. */
#include "cli.h"

#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "front.h"
#include "hint.h"
#include "plugin.h"
#include "run.h"
#include "waiting.h"

enum { RUN = 0, HELP, VERSION, PLUGINS };
enum { COLOR_AUTO = 0, COLOR_ALWAYS, COLOR_NEVER };

/* Options are given whole: a unique beginning would break scripts once one is added. */
static const struct option {
	const char *name;
	int value;		/* 1: takes one */
} options[] = {
	{ "check", 0 }, { "explain", 0 }, { "set", 1 }, { "resume", 0 }, { "force", 0 },
	{ "quiet", 0 }, { "profile", 0 }, { "trace", 0 }, { "color", 1 }, { "plugins", 0 },
	{ "help", 0 }, { "version", 0 }, { "print", 0 }, { NULL, 0 }
};

static const char usage[] =
	"usage: qat-run [options] pipeline.yaml\n"
	"       qat-run --plugins | --help [NAME] | --version\n"
	"\n";

/* What a front has as well. */
static const char usage_shared[] =
	"  --check             check the pipeline, print its states and plan, run nothing\n"
	"  --explain           print where each node runs and why, run nothing\n"
	"  --set KEY=VALUE     change a value of the pipeline, as in steps[0].steps=20;\n"
	"                      may be given several times\n"
	"  --resume            go on with what an earlier run of this pipeline left, finished\n"
	"                      or interrupted; the results are the same as without the stop\n"
	"  --force             replace what an earlier run left in the output folder\n"
	"  --profile           take the time of every kernel: a table at the end, and\n"
	"                      profile.json and trace.json under the output\n"
	"  --trace             judge each node of every first step by the reference backend;\n"
	"                      fail at the first that differs\n"
	"  --quiet             no progress, only warnings and errors\n"
	"  --color=WHEN        auto, always or never\n";

static const char usage_own[] =
	"  --plugins           list the plugins, accepted or refused, with the reason\n"
	"  --help [NAME]       this text, the options of the plugins of that name, or,\n"
	"                      as --help pipeline, the keys of a pipeline file\n"
	"  --version           print the version\n";

static const char usage_front[] =
	"  --print             print the pipeline that these options make, run nothing\n"
	"  --help, --version   this text, the version\n";

static const char usage_end[] =
	"\n"
	"Exit: 0 done, 1 failed while running, 2 refused before anything ran, 130 interrupted.\n"
	"QATRUN_PLUGIN_PATH: folders to search for plugins before the installed ones.\n";

struct cli {
	int action, color;
	const char *word;		/* the pipeline, or the name after --help */
	const char **sets;
	int64_t n_sets;
	qat_run_options run;
	const qat_front *front;		/* NULL: qat-run */
	const char **names, **values;	/* what was given of its options */
	int64_t n_values;
	int print;
};

static int color = COLOR_AUTO;
static const char *program = "qat-run";

int qat_cli_color(int fd)
{
	const char *term = getenv("TERM"), *no = getenv("NO_COLOR");

	if (color != COLOR_AUTO)
		return color == COLOR_ALWAYS;
	return isatty(fd) && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

/* What the user typed is wrong, or nothing ran: says so and gives the exit code. */
static int refuse(void)
{
	const char *red = qat_cli_color(STDERR_FILENO) ? "\033[31m" : "";
	const char *off = *red ? "\033[0m" : "";

	qat_log_hook(NULL);
	fprintf(stderr, "%s%s:%s %s\n", red, program, off, qat_error());
	return QAT_EXIT_REFUSED;
}

/* Whether an option of the table is one of this program. */
static int offered(const qat_front *f, const char *name)
{
	return f ? strcmp(name, "plugins") != 0 : strcmp(name, "print") != 0;
}

static const char *option_name(const void *front, int64_t i)
{
	for (const struct option *o = options; o->name; o++) {
		if (offered(front, o->name) && !i--)
			return o->name;
	}
	return front ? ((const qat_front *)front)->options[i].name : NULL;
}

static int set_color(struct cli *c, const char *when)
{
	static const char *const names[] = { "auto", "always", "never" };

	for (int i = 0; i < 3; i++) {
		if (!strcmp(when, names[i])) {
			c->color = i;
			return QAT_OK;
		}
	}
	return qat_fail(QAT_EINVAL, "--color=%.40s: write auto, always or never", when);
}

static int take(struct cli *c, const char *name, const char *value)
{
	const struct { const char *name; int *flag, to; } flags[] = {
		{ "print", &c->print, 1 },
		{ "check", &c->run.check, 1 },
		{ "explain", &c->run.explain, 1 },
		{ "resume", &c->run.resume, 1 },
		{ "force", &c->run.force, 1 },
		{ "quiet", &c->run.quiet, 1 },
		{ "profile", &c->run.profile, 1 },
		{ "trace", &c->run.trace, 1 },
		{ "plugins", &c->action, PLUGINS },
		{ "help", &c->action, HELP },
		{ "version", &c->action, VERSION }
	};

	const qat_front_option *own = qat_front_find(c->front, name);

	if (own) {
		c->names[c->n_values] = own->name;
		c->values[c->n_values++] = value;
		return QAT_OK;
	}
	if (!strcmp(name, "color"))
		return set_color(c, value);
	if (!strcmp(name, "set")) {
		c->sets[c->n_sets++] = value;
		return QAT_OK;
	}
	for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
		if (!strcmp(name, flags[i].name))
			*flags[i].flag = flags[i].to;
	}
	return QAT_OK;
}

static int unknown(const struct cli *c, const char *word, const char *name)
{
	const char *near = name ? qat_hint_nearest_of(name, option_name, c->front) : NULL;

	if (near)
		return qat_fail(QAT_EINVAL, "unknown option %.60s: did you mean --%s?", word, near);
	return qat_fail(QAT_EINVAL, "unknown option %.60s: %s --help lists them", word,
			program);
}

/* 1 if the option takes a value, 0 if not, -1 if there is none of that name. */
static int takes_value(const struct cli *c, const char *name)
{
	if (qat_front_find(c->front, name))
		return 1;
	for (const struct option *o = options; o->name; o++) {
		if (offered(c->front, o->name) && !strcmp(o->name, name))
			return o->value;
	}
	return -1;
}

/* Takes the option at argv[*i], and the word after it where that is its value. */
static int parse_option(struct cli *c, int *i, int argc, char **argv)
{
	const char *word = argv[*i], *value = strchr(word, '=');
	char name[32];
	int takes;

	if (word[1] != '-')
		return unknown(c, word, NULL);
	snprintf(name, sizeof name, "%.*s", (int)strcspn(word + 2, "="), word + 2);
	takes = takes_value(c, name);
	if (takes < 0)
		return unknown(c, word, name);
	if (!takes && value)
		return qat_fail(QAT_EINVAL, "--%s takes no value", name);
	if (takes && !value && *i + 1 == argc)
		return qat_fail(QAT_EINVAL, "--%s needs a value: %s --help", name, program);
	if (takes && !value)
		return take(c, name, argv[++*i]);
	return take(c, name, value ? value + 1 : NULL);
}

static int parse(struct cli *c, int argc, char **argv)
{
	const char *word = NULL;
	int only_words = 0, rc = QAT_OK;

	for (int i = 1; !rc && i < argc; i++) {
		if (!only_words && !strcmp(argv[i], "--"))
			only_words = 1;
		else if (!only_words && argv[i][0] == '-' && argv[i][1])
			rc = parse_option(c, &i, argc, argv);
		else if (!word)
			word = argv[i];
		else
			rc = qat_fail(QAT_EINVAL, "\"%.80s\" is one word too many: %s --help",
				      argv[i], program);
	}
	c->word = word;
	if (!rc && c->run.resume && c->run.force)
		return qat_fail(QAT_EINVAL, "--resume goes on with what is there, --force removes "
				"it: give one of them");
	if (rc || c->front)
		return rc;
	if (c->action == RUN && !word)
		return qat_fail(QAT_EINVAL, "which pipeline? qat-run --help tells how it is used");
	if ((c->action == VERSION || c->action == PLUGINS) && word)
		return qat_fail(QAT_EINVAL, "\"%.80s\" is one word too many: qat-run --help", word);
	return QAT_OK;
}

static int print_usage(const qat_front *f)
{
	if (f)
		qat_front_help(f, stdout);
	else
		fputs(usage, stdout);
	fputs(usage_shared, stdout);
	fputs(f ? usage_front : usage_own, stdout);
	return fputs(usage_end, stdout) < 0 ? QAT_EIO : QAT_OK;
}

static int print_help(const struct cli *c)
{
	const char *name = c->word;

	if (!name || c->front)
		return print_usage(c->front);
	if (!strcmp(name, "pipeline"))
		return qat_pipeline_help(stdout);
	return qat_plugin_help(stdout, name);
}

/* What came of a run, as an exit code. */
static int finish(int rc, int started)
{
	if (rc == QAT_OK)
		return QAT_EXIT_DONE;
	refuse();
	if (rc == QAT_ESTOPPED)
		return QAT_EXIT_STOPPED;
	return started ? QAT_EXIT_FAILED : QAT_EXIT_REFUSED;
}

static int run_file(struct cli *c)
{
	qat_pipeline *p = NULL;
	int started = 0, rc;

	c->run.started = &started;
	rc = qat_pipeline_load(&p, c->word, c->sets, c->n_sets);
	if (!rc)
		rc = qat_run(p, &c->run);
	rc = finish(rc, started);
	qat_pipeline_free(p);
	return rc;
}

/* The pipeline that the options of a front make, printed or run. */
static int run_front(struct cli *c)
{
	const qat_front_given given = {
		.front = c->front, .word = c->word, .names = c->names, .values = c->values,
		.count = c->n_values
	};
	qat_pipeline *p = NULL;
	char *text = NULL;
	int started = 0, rc = qat_front_check(&given);

	c->run.started = &started;
	if (!rc)
		rc = qat_front_make(&text, &given);
	if (!rc && c->print)
		rc = qat_front_print(stdout, text, c->sets, c->n_sets);
	else if (!rc)
		rc = qat_pipeline_parse(&p, text, QAT_FRONT_FILE, c->sets, c->n_sets);
	if (!rc && p)
		rc = qat_run(p, &c->run);
	rc = finish(rc, started);
	qat_pipeline_free(p);
	free(text);
	return rc;
}

static int act(struct cli *c)
{
	switch (c->action) {
	case HELP:
		return finish(print_help(c), 0);
	case VERSION:
		return puts(PACKAGE_STRING) < 0;
	case PLUGINS:
		return finish(qat_plugin_list(stdout), 0);
	default:
		qat_waiting_choose();
		return c->front ? run_front(c) : run_file(c);
	}
}

/* Room for each word to be the value of an option. */
static int start(struct cli *c, int argc)
{
	const size_t n = (size_t)argc + 1;

	c->sets = calloc(3 * n, sizeof *c->sets);
	if (!c->sets)
		return qat_fail(QAT_ENOMEM, "out of memory");
	c->names = c->sets + n;
	c->values = c->names + n;
	return qat_services_start();
}

int qat_main(int argc, char **argv)
{
	return qat_front_main(NULL, argc, argv);
}

int qat_front_main(const qat_front *front, int argc, char **argv)
{
	struct cli c = { .action = RUN, .front = front };
	int rc;

	program = front ? front->name : program;
	rc = start(&c, argc);
	if (!rc)
		rc = parse(&c, argc, argv);
	color = c.color;
	if (c.run.quiet)
		qat_log_level(QAT_LOG_WARN);
	rc = rc ? refuse() : act(&c);
	free(c.sets);
	if (fflush(stdout) || ferror(stdout)) {
		qat_fail(QAT_EIO, "standard output: %s", strerror(errno));
		refuse();
		return rc ? rc : QAT_EXIT_FAILED;
	}
	return rc;
}
