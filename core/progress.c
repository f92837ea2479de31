/* progress.c - the line that says how far a step is. */
#include "progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "kinds.h"

enum { LINE = 256, LINE_SECONDS = 30 };

static struct {
	char what[64], state[64];	/* task; the state that it works on */
	int quiet, terminal;
	_Atomic int drawn;		/* the line is on the terminal */
	int64_t calls;
	double began, shown;		/* seconds; of the first call, of the last line */
	int64_t done, tokens;		/* at the first call */
	double rate;
} line;

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Runs under the log's lock, ahead of a message. */
static void clear(void)
{
	if (line.drawn)
		fputs("\r\033[K", stderr);
	line.drawn = 0;
}

void qat_progress_begin(const char *what, int quiet)
{
	memset(&line, 0, sizeof line);
	snprintf(line.what, sizeof line.what, "%s", what);
	line.quiet = quiet;
	line.terminal = isatty(STDERR_FILENO);
	line.shown = seconds();
	if (!quiet)
		qat_log_hook(clear);
}

void qat_progress_end(void)
{
	qat_log_hook(NULL);
	clear();
	fflush(stderr);
}

double qat_progress_rate(void)
{
	return line.rate;
}

static int left_text(char *out, size_t room, double left)
{
	long s = (long)left;

	if (!(left >= 0 && left < 1e7))
		return 0;
	if (s < 3600)
		return snprintf(out, room, ", %ld:%02ld left", s / 60, s % 60);
	return snprintf(out, room, ", %ld:%02ld:%02ld left", s / 3600, s / 60 % 60, s % 60);
}

static void compose(char *out, size_t room, const qat_progress *p, double elapsed)
{
	double part = (double)(p->done - line.done), bytes = (double)qat_memory_now();
	double left = part > 0 ? elapsed / part * (double)(p->total - p->done) : -1;
	int n = snprintf(out, room, "%s%s%s  %lld/%lld", line.what, *line.state ? " " : "",
			 line.state, (long long)p->done, (long long)p->total);

	if (isfinite(p->loss))
		n += snprintf(out + n, room - (size_t)n, fabs(p->loss) < 1e4 ? ", loss %.4f" :
			      ", loss %.4g", p->loss);
	if (line.rate > 0)
		n += snprintf(out + n, room - (size_t)n, ", %.0f tokens/s", line.rate);
	n += left_text(out + n, room - (size_t)n, left);
	if (bytes > 0)		/* 0: there is no /proc to ask */
		snprintf(out + n, room - (size_t)n, bytes < 0x1p30 ? ", %.0f MiB" : ", %.2f GiB",
			 bytes / (bytes < 0x1p30 ? 0x1p20 : 0x1p30));
}

/* The terminal's width: a longer line would wrap, and could not be redrawn. */
static int width(void)
{
	struct winsize w;

	return !ioctl(STDERR_FILENO, TIOCGWINSZ, &w) && w.ws_col > 1 ? w.ws_col - 1 : 79;
}

/* Seconds since the first call. */
static double advance(double now, int64_t done, int64_t tokens)
{
	if (!line.calls++) {
		line.began = now;
		line.done = done;
		line.tokens = tokens;
	}
	return now - line.began;
}

/* Whether a line is due; counts it as shown. */
static int due(double now)
{
	if (line.quiet || now - line.shown < (line.terminal ? 0.1 : LINE_SECONDS))
		return 0;
	line.shown = now;
	return 1;
}

static void draw(const char *text)
{
	if (!line.terminal) {
		qat_log(QAT_LOG_INFO, "%s", text);
		return;
	}
	fprintf(stderr, "\r\033[K%.*s", width(), text);
	fflush(stderr);
	line.drawn = 1;
}

/* A task that works on one state after the other counts each from 0: so does the clock. */
static void follow(const char *state)
{
	if (!state || !strncmp(line.state, state, sizeof line.state - 1))
		return;
	snprintf(line.state, sizeof line.state, "%s", state);
	line.calls = 0;
	line.rate = 0;
}

void qat_progress_show(const struct qat_progress *p)
{
	const double now = seconds();
	char text[LINE];
	double elapsed;

	follow(p->state);
	elapsed = advance(now, p->done, p->tokens);
	if (elapsed > 0 && p->tokens > line.tokens)
		line.rate = (double)(p->tokens - line.tokens) / elapsed;
	if (!due(now))
		return;
	compose(text, sizeof text, p, elapsed);
	draw(text);
}

void qat_progress_bytes(const char *what, int64_t done, int64_t total)
{
	const double now = seconds(), elapsed = advance(now, done, 0), mib = 1.0 / (1 << 20);
	const double rate = elapsed > 0 ? (double)(done - line.done) / elapsed : 0;
	char text[LINE];
	int n;

	if (!due(now))
		return;
	n = snprintf(text, sizeof text, "%s %.100s  %.1f", line.what, what, mib * (double)done);
	if (total > 0)
		n += snprintf(text + n, sizeof text - (size_t)n, "/%.1f", mib * (double)total);
	n += snprintf(text + n, sizeof text - (size_t)n, " MiB, %.1f MiB/s", mib * rate);
	if (total > 0 && rate > 0)
		left_text(text + n, sizeof text - (size_t)n, (double)(total - done) / rate);
	draw(text);
}

/* --- memory --- */

/* A value of /proc/self/status, in bytes. */
static int64_t status(const char *key)
{
	FILE *f = fopen("/proc/self/status", "re");
	size_t n = strlen(key);
	long long kib = 0;
	char text[256];

	while (f && fgets(text, sizeof text, f)) {
		if (!strncmp(text, key, n) && sscanf(text + n, "%lld", &kib) == 1)
			break;
	}
	if (f)
		fclose(f);
	return (int64_t)kib * 1024;
}

int64_t qat_memory_now(void)
{
	return status("VmRSS:");
}

int64_t qat_memory_peak(void)
{
	return status("VmHWM:");
}

void qat_memory_peak_reset(void)
{
	FILE *f = fopen("/proc/self/clear_refs", "we");

	if (!f)
		return;
	fputs("5", f);		/* proc(5): the peak becomes what is resident now */
	fclose(f);
}
