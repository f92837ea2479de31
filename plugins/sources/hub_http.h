/* hub_http.h - what the files of requests share. */
#ifndef QAT_HUB_HTTP_H
#define QAT_HUB_HTTP_H

#include <curl/curl.h>

#include "hub.h"

enum { HUB_POLL_MS = 100 };

struct hub_http {
	const hub_env *env;
	hub_stop stop;
	CURLM *multi;
	CURL *easy;
};

/* One exchange, while it runs. */
typedef struct hub_exchange {
	hub_reply *reply;
	hub_body *body;			/* NULL: HEAD */
	void *context;
	int rc;				/* what body said */
	int fixed_length;		/* reply->length is no Content-Length */
	size_t headers, page;		/* bytes of headers, of an error's page */
} hub_exchange;

/* A line of an answer's head, as libcurl hands it over: `context` is the exchange. */
size_t hub_reply_line(char *at, size_t size, size_t n, void *context);

/* hub_http_ask; `small`: the whole must not take long. */
int hub_http_exchange(hub_reply *out, hub_http *h, const char *url, int64_t from, hub_body *body,
		      void *context, int small);

#endif
