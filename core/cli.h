/* cli.h - the command line of qat-run. */
#ifndef QAT_CLI_H
#define QAT_CLI_H

/* Exit codes. */
enum {
	QAT_EXIT_DONE = 0,
	QAT_EXIT_FAILED = 1,		/* while running */
	QAT_EXIT_REFUSED = 2,		/* before anything ran */
	QAT_EXIT_STOPPED = 130		/* by a signal, the state is saved */
};

/* All of qat-run: what main returns. */
__attribute__((visibility("default"))) int qat_main(int argc, char **argv);

/* Whether text on a stream may be coloured, as --color, NO_COLOR and TERM say. */
int qat_cli_color(int fd);

#endif
