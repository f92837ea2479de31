/* hub_retry.c - small answers, and asking again where that may help. */
#include "hub_http.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	ATTEMPTS = 5, TEXT_MAX = 16 << 20,
	WAIT_MAX = 60			/* seconds that a server may ask for */
};

int hub_http_pause(hub_http *h, int attempt, const hub_reply *r)
{
	double left = 0.25 * (double)(1 << attempt);
	int rc = QAT_OK;

	if (attempt >= ATTEMPTS || r->wait > WAIT_MAX)
		return QAT_EIO;
	if (left < r->wait)
		left = r->wait;
	for (; left > 0 && !rc; left -= 0.001 * HUB_POLL_MS) {
		nanosleep(&(struct timespec){ .tv_nsec = HUB_POLL_MS * 1000000L }, NULL);
		rc = hub_stopped(&h->stop);
	}
	return rc;
}

typedef struct text {
	char *at;
	int64_t length, room;
	const char *url;
} text;

/* Doubles, so that nothing is allocated that was not sent. */
static int add_text(void *context, const hub_reply *r, const void *data, int64_t bytes)
{
	text *t = context;

	(void)r;
	if (bytes > TEXT_MAX - t->length)
		return qat_fail(QAT_EFORMAT, "%.200s: an answer of more than %d MiB", t->url,
				TEXT_MAX >> 20);
	if (t->length + bytes >= t->room) {
		const int64_t room = 2 * (t->length + bytes) + 4096;
		char *more = realloc(t->at, (size_t)room);

		if (!more)
			return qat_fail(QAT_ENOMEM, "out of memory");
		t->at = more;
		t->room = room;
	}
	memcpy(t->at + t->length, data, (size_t)bytes);
	t->length += bytes;
	t->at[t->length] = '\0';
	return QAT_OK;
}

/* The last attempt's outcome; its message survives the pause, which has none of its own. */
static int patiently(hub_reply *out, hub_http *h, const char *url, text *t)
{
	int rc, pause = QAT_OK;

	for (int attempt = 1;; attempt++) {
		if (t)
			t->length = 0;
		rc = hub_http_exchange(out, h, url, 0, t ? add_text : NULL, t, 1);
		if (!out->transient || (rc && rc != QAT_EIO))
			return rc;
		pause = hub_http_pause(h, attempt, out);
		if (pause)
			return pause == QAT_EIO ? rc : pause;
	}
}

int hub_http_head(hub_reply *out, hub_http *h, const char *url)
{
	return patiently(out, h, url, NULL);
}

int hub_http_get(char **out, int64_t *length, hub_reply *reply, hub_http *h, const char *url)
{
	text t = { .url = url };
	int rc = patiently(reply, h, url, &t);

	if (rc) {
		free(t.at);
		return rc;
	}
	*out = t.at;
	*length = t.length;
	return QAT_OK;
}
