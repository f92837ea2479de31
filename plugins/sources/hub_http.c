/* hub_http.c - requests, with libcurl: redirects, limits on time, and a token that no host
 * but the hub ever sees. */
#include "hub_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	REDIRECTS = 8, CONNECT_SECONDS = 10, SMALL_SECONDS = 120,
	SLOWEST = 1000,			/* bytes a second */
	PAGE_MAX = 1 << 20
};

int hub_http_new(hub_http **out, const hub_env *env, const hub_stop *stop)
{
	hub_http *h = calloc(1, sizeof *h);

	if (h && !curl_global_init(CURL_GLOBAL_DEFAULT)) {
		h->env = env;
		h->stop = *stop;
		h->multi = curl_multi_init();
		h->easy = curl_easy_init();
		if (h->multi && h->easy) {
			*out = h;
			return QAT_OK;
		}
	}
	hub_http_free(h);
	return qat_fail(QAT_ENOMEM, "libcurl does not start: out of memory?");
}

void hub_http_free(hub_http *h)
{
	if (!h)
		return;
	curl_easy_cleanup(h->easy);
	curl_multi_cleanup(h->multi);
	free(h);
}

char *hub_http_escape(hub_http *h, const char *text)
{
	char *escaped = curl_easy_escape(h->easy, text, 0);
	char *copy = escaped ? strdup(escaped) : NULL;

	curl_free(escaped);
	return copy;
}

static size_t on_body(char *at, size_t size, size_t n, void *context)
{
	hub_exchange *x = context;
	const size_t bytes = size * n;
	const long status = x->reply->status;

	if (status != 200 && status != 206)
		x->page += bytes;	/* an error's page, which nobody reads */
	else if (x->body)
		x->rc = x->body(x->context, x->reply, at, (int64_t)bytes);
	return x->rc || x->page > PAGE_MAX ? 0 : bytes;
}

/* ---- addresses ---- */

/* Scheme, host and port of an address: who is asked. 0: not one that may be. */
static int origin(char *out, size_t room, const char *url)
{
	static const CURLUPart parts[] = { CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT };
	char *text[3] = { NULL };
	CURLU *u = curl_url();
	int ok = u && !curl_url_set(u, CURLUPART_URL, url, 0), n = 0;

	for (int i = 0; i < 3 && ok; i++)
		ok = !curl_url_get(u, parts[i], &text[i], CURLU_DEFAULT_PORT);
	if (ok)
		n = snprintf(out, room, "%s://%s:%s", text[0], text[1], text[2]);
	ok = ok && n > 0 && (size_t)n < room &&
	     (!strcmp(text[0], "https") || !strcmp(text[0], "http"));
	for (int i = 0; i < 3; i++)
		curl_free(text[i]);
	curl_url_cleanup(u);
	return ok;
}

/* Where a redirect leads; malloc'd. Nothing but the web, and never from https to http. */
static int redirect(char **out, hub_http *h, const char *host)
{
	char to[300];
	char *url = NULL;

	curl_easy_getinfo(h->easy, CURLINFO_REDIRECT_URL, &url);
	if (!url)
		return qat_fail(QAT_EIO, "%s: redirects to nowhere", host);
	if (!origin(to, sizeof to, url))
		return qat_fail(QAT_EIO, "%s: redirects to what is no https or http address",
				host);
	if (!strncmp(host, "https:", 6) && strncmp(to, "https:", 6) != 0)
		return qat_fail(QAT_EIO, "%s: redirects to %s, which is not encrypted", host, to);
	return hub_text(out, "%s", url);
}

/* ---- one exchange ---- */

static struct curl_slist *make_headers(const hub_http *h, const char *host)
{
	struct curl_slist *list = curl_slist_append(NULL, "Accept-Encoding: identity"), *more;
	char hub[300], *line = NULL;

	if (!list || !h->env->token || !origin(hub, sizeof hub, h->env->endpoint) ||
	    strcmp(hub, host) != 0)
		return list;
	if (hub_text(&line, "Authorization: Bearer %s", h->env->token))
		return list;
	more = curl_slist_append(list, line);
	free(line);
	return more ? more : list;
}

static void set_options(hub_http *h, hub_exchange *x, const char *url, int64_t from, int small)
{
	CURL *e = h->easy;
	char range[32];

	curl_easy_reset(e);
	curl_easy_setopt(e, CURLOPT_URL, url);
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	curl_easy_setopt(e, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	if (h->env->trusted)
		curl_easy_setopt(e, CURLOPT_CAINFO, h->env->trusted);
	curl_easy_setopt(e, CURLOPT_USERAGENT, "qatrun/" QAT_PLUGIN_VERSION);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
	curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, (long)SLOWEST);
	curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, h->env->timeout);
	curl_easy_setopt(e, CURLOPT_TIMEOUT, small ? (long)SMALL_SECONDS : 0L);
	curl_easy_setopt(e, CURLOPT_NOBODY, x->body ? 0L : 1L);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, hub_reply_line);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, x);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, x);
	snprintf(range, sizeof range, "%lld-", (long long)from);
	curl_easy_setopt(e, CURLOPT_RANGE, from > 0 ? range : NULL);
}

/* Until it is done, or the user wants to stop. */
static int transfer(CURLcode *result, hub_http *h)
{
	int running = 1, left, rc = QAT_OK;
	const CURLMsg *m;

	*result = CURLE_FAILED_INIT;
	if (curl_multi_add_handle(h->multi, h->easy))
		return qat_fail(QAT_ENOMEM, "libcurl: out of memory");
	while (running && !rc) {
		if (curl_multi_perform(h->multi, &running) ||
		    (running && curl_multi_poll(h->multi, NULL, 0, HUB_POLL_MS, NULL)))
			rc = qat_fail(QAT_EIO, "libcurl: cannot go on");
		else
			rc = hub_stopped(&h->stop);
	}
	while ((m = curl_multi_info_read(h->multi, &left)))
		if (m->msg == CURLMSG_DONE)
			*result = m->data.result;
	curl_multi_remove_handle(h->multi, h->easy);
	return rc;
}

/* Trouble that may be over in a while. */
static int is_transient(CURLcode c)
{
	static const CURLcode list[] = {
		CURLE_OPERATION_TIMEDOUT, CURLE_PARTIAL_FILE, CURLE_RECV_ERROR, CURLE_SEND_ERROR,
		CURLE_GOT_NOTHING, CURLE_SSL_CONNECT_ERROR, CURLE_HTTP2, CURLE_HTTP2_STREAM
	};

	for (size_t i = 0; i < sizeof list / sizeof *list; i++)
		if (list[i] == c)
			return 1;
	return 0;
}

static int is_transient_status(long status)
{
	return status == 408 || status == 429 || status == 500 || (status >= 502 && status <= 504);
}

static int exchange_once(hub_http *h, hub_exchange *x, const char *url, const char *host,
			 int64_t from, int small)
{
	char why[CURL_ERROR_SIZE] = "";
	struct curl_slist *headers = make_headers(h, host);
	CURLcode result;
	int rc;

	*x->reply = (hub_reply){ .length = -1 };
	x->headers = x->page = 0;
	x->fixed_length = 0;
	set_options(h, x, url, from, small);
	curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(h->easy, CURLOPT_ERRORBUFFER, why);
	rc = transfer(&result, h);
	curl_easy_setopt(h->easy, CURLOPT_ERRORBUFFER, NULL);
	curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, NULL);
	curl_slist_free_all(headers);
	if (rc || x->rc)
		return rc ? rc : x->rc;
	x->reply->transient = result ? is_transient(result)
				     : is_transient_status(x->reply->status);
	if (!result || x->page > PAGE_MAX)
		return QAT_OK;
	if (result == CURLE_SSL_CACERT_BADFILE && h->env->trusted)
		return qat_fail(QAT_EINVAL, "%s: no certificates in %s, which %s names", host,
				h->env->trusted, h->env->trusted_by);
	return qat_fail(QAT_EIO, "%s: %s", host, *why ? why : curl_easy_strerror(result));
}

static int is_redirect(const hub_reply *r)
{
	return r->status == 301 || r->status == 302 || r->status == 303 || r->status == 307 ||
	       r->status == 308;
}

int hub_http_exchange(hub_reply *out, hub_http *h, const char *first, int64_t from,
		      hub_body *body, void *context, int small)
{
	hub_exchange x = { .reply = out, .body = body, .context = context };
	char host[300], commit[HUB_COMMIT + 1] = "", *url = NULL;
	int rc = hub_text(&url, "%s", first), hops = 0;

	while (!rc) {
		char *next = NULL;

		if (!origin(host, sizeof host, url))
			rc = qat_fail(QAT_EINVAL, "%.200s: no address", h->env->endpoint);
		if (!rc)
			rc = exchange_once(h, &x, url, host, from, small);
		if (*out->commit)
			memcpy(commit, out->commit, sizeof commit);
		memcpy(out->commit, commit, sizeof commit);
		if (rc || !is_redirect(out) || (!body && out->linked))
			break;
		rc = hops++ < REDIRECTS ? redirect(&next, h, host)
		   : qat_fail(QAT_EIO, "%s: more than %d redirects", host, REDIRECTS);
		free(url);
		url = next;
	}
	free(url);
	return rc;
}

int hub_http_ask(hub_reply *out, hub_http *h, const char *url, int64_t from, hub_body *body,
		 void *context)
{
	return hub_http_exchange(out, h, url, from, body, context, 0);
}
