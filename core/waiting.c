/* waiting.c - how long threads that wait for each other spin before they sleep: waiting.h.
 *
 * OpenMP's own choice is milliseconds. That is best where each thread has a processor: to
 * sleep at once makes a training step a fifth slower. Where others run, too, the thread that
 * is waited for may not be running, and spinning keeps it from that: generation becomes
 * three times as slow. Which of the two it is, is what the kernel has to run at the start.
 */
#include "waiting.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "pipeline.h"

/* Something runs for a moment all the time; what runs in all of the samples, stays. */
enum { SAMPLES = 4, BETWEEN_NS = 2000000 };

/* Threads of others that can run now; 0 where it is not known. */
static long others_now(void)
{
	FILE *f = fopen("/proc/loadavg", "r");
	long running = 1;

	if (!f)
		return 0;
	if (fscanf(f, "%*s %*s %*s %ld/", &running) != 1)
		running = 1;
	fclose(f);
	return running - 1;		/* without this one */
}

static long others(void)
{
	const struct timespec pause = { .tv_nsec = BETWEEN_NS };
	long least = others_now();

	for (int i = 1; i < SAMPLES && least > 0; i++) {
		long now;

		nanosleep(&pause, NULL);
		now = others_now();
		if (now < least)
			least = now;
	}
	return least;
}

void qat_waiting_choose(void)
{
	if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY"))
		return;
	if (others() + qat_threads_default() > sysconf(_SC_NPROCESSORS_ONLN))
		setenv("GOMP_SPINCOUNT", "100", 0);
}
