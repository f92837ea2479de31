/* hub_reply.c - the head of an answer: what of it is sound, the rest as if it were not there. */
#include "hub_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADERS_MAX = 256 << 10 };

/* -1: no number, or one that no file has. */
static int64_t number(const char *text)
{
	int64_t n = 0;

	if (!*text)
		return -1;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || n > INT64_C(1) << 56)
			return -1;
		n = 10 * n + (*text - '0');
	}
	return n;
}

/* W/"abc" and "abc" are abc. */
static void set_etag(hub_reply *r, char *text)
{
	size_t n;

	if (!strncmp(text, "W/", 2))
		text += 2;
	text += *text == '"';
	n = strlen(text);
	if (n && text[n - 1] == '"')
		text[n - 1] = '\0';
	snprintf(r->etag, sizeof r->etag, "%s", hub_etag_valid(text) ? text : "");
}

/* bytes FIRST-LAST/WHOLE */
static void set_range(hub_reply *r, const char *text)
{
	const char *slash = strchr(text, '/');
	long long first;

	r->from = sscanf(text, "bytes %lld-", &first) == 1 && first >= 0 ? first : -1;
	r->length = slash ? number(slash + 1) : -1;
}

static void take_header(hub_exchange *x, const char *name, char *value)
{
	hub_reply *r = x->reply;

	if (!strcasecmp(name, "x-repo-commit")) {
		snprintf(r->commit, sizeof r->commit, "%s", hub_commit_valid(value) ? value : "");
	} else if (!strcasecmp(name, "x-linked-etag")) {
		set_etag(r, value);
		r->linked = 1;
	} else if (!strcasecmp(name, "etag") && !r->linked) {
		set_etag(r, value);
	} else if (!strcasecmp(name, "x-linked-size")) {
		r->length = number(value);
		x->fixed_length = 1;
	} else if (!strcasecmp(name, "content-range")) {
		set_range(r, value);
		x->fixed_length = 1;
	} else if (!strcasecmp(name, "content-length") && !x->fixed_length) {
		r->length = number(value);
	} else if (!strcasecmp(name, "x-error-code")) {
		snprintf(r->code, sizeof r->code, "%s", value);
	} else if (!strcasecmp(name, "retry-after") && number(value) > 0) {
		r->wait = (double)number(value);
	}
}

size_t hub_reply_line(char *at, size_t size, size_t n, void *context)
{
	hub_exchange *x = context;
	const size_t bytes = size * n;
	char line[1024], *value, *end;

	x->headers += bytes;
	if (x->headers > HEADERS_MAX)
		return 0;
	if (bytes >= sizeof line)	/* none of ours is that long */
		return bytes;
	memcpy(line, at, bytes);
	line[bytes] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	if (!strncmp(line, "HTTP/", 5)) {	/* once more after a "100 Continue" */
		*x->reply = (hub_reply){ .length = -1 };
		x->fixed_length = 0;
		value = strchr(line, ' ');
		x->reply->status = value ? strtol(value, NULL, 10) : 0;
		return bytes;
	}
	value = strchr(line, ':');
	if (!value)
		return bytes;
	*value++ = '\0';
	value += strspn(value, " \t");
	for (end = value + strlen(value); end > value && strchr(" \t", end[-1]); end--)
		end[-1] = '\0';
	take_header(x, line, value);
	return bytes;
}
