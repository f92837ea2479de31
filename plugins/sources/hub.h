/* hub.h - what the files of source huggingface share.
 *   https://huggingface.co/docs/huggingface_hub/guides/manage-cache
 *   https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
 *
 * What a server says is hostile until it is checked: names and ETags before they become
 * parts of paths, lengths before they are trusted, contents before they get a name.
 */
#ifndef QAT_HUB_H
#define QAT_HUB_H

#include <qatrun/source.h>

enum { HUB_COMMIT = 40, HUB_ETAG_MAX = 64 };	/* letters */

/* ---- hub_env.c: names and surroundings ---- */

typedef struct hub_env {
	char *endpoint;			/* without a slash at the end */
	char *cache;			/* absolute */
	char *token;			/* NULL: none */
	int offline;
	long timeout;			/* seconds without an answer */
	char *trusted;			/* file of certificates in place of libcurl's; NULL: those */
	const char *trusted_by;		/* the variable that says so */
} hub_env;

int hub_env_read(hub_env *out);
void hub_env_free(hub_env *e);

/* malloc'd; QAT_ENOMEM with a message. */
int hub_text(char **out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A line of the log, QAT_LOG_*. */
void hub_log(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

int hub_name_valid(const char *name);		/* owner/name */
int hub_revision_valid(const char *revision);
int hub_file_valid(const char *name);		/* stays in its folder, can be printed */
int hub_commit_valid(const char *text);		/* 40 hexadecimal digits, in lower case */
int hub_etag_valid(const char *text);		/* the same, or 64 */
int hub_ends_with(const char *name, const char *end);

/* ---- hub_digest.c ---- */

/* What `etag` must be for these contents: 64 digits are their SHA-256, 40 the SHA-1 that git
 * gives them. Reads from the beginning; *same is 1 if it is that. */
typedef struct hub_stop {
	int (*stopped)(void *context);
	void *context;
} hub_stop;
int hub_digest_check(int *same, int fd, int64_t size, const char *etag, const hub_stop *stop);
int hub_stopped(const hub_stop *s);		/* QAT_ESTOPPED with a message, or QAT_OK */

/* ---- hub_http.c ---- */

typedef struct hub_http hub_http;

typedef struct hub_reply {
	long status;
	int transient;			/* trying again may help */
	double wait;			/* seconds, as the server wants; 0: it says nothing */
	int64_t length;			/* of the whole file, -1: unknown */
	int64_t from;			/* first byte of the body: not 0 for a part of the file */
	char commit[HUB_COMMIT + 1], etag[HUB_ETAG_MAX + 1];	/* "": none that is valid */
	char code[64];			/* the hub's own word for an error */
	int linked;			/* etag and length are those of what is redirected to */
} hub_reply;

/* Takes a piece of the body of an answer with status 200 or 206; a negative code, with a
 * message, ends the transfer. */
typedef int hub_body(void *context, const hub_reply *r, const void *data, int64_t bytes);

int hub_http_new(hub_http **out, const hub_env *env, const hub_stop *stop);
void hub_http_free(hub_http *h);

/* One request, redirects followed; `body` NULL: HEAD. `from`: the first byte that is wanted.
 * Whatever the server answered is QAT_OK; QAT_EIO is trouble on the way. */
int hub_http_ask(hub_reply *out, hub_http *h, const char *url, int64_t from, hub_body *body,
		 void *context);
/* The same with HEAD or into memory, tried again where that may help. *text is malloc'd. */
int hub_http_head(hub_reply *out, hub_http *h, const char *url);
int hub_http_get(char **text, int64_t *length, hub_reply *out, hub_http *h, const char *url);
/* Sleeps before attempt 1, 2, ... QAT_EIO past the last, without a message. */
int hub_http_pause(hub_http *h, int attempt, const hub_reply *r);

/* What stands in a name, for an URL. malloc'd; NULL: out of memory. */
char *hub_http_escape(hub_http *h, const char *text);

/* ---- one model ---- */

typedef struct hub_list {
	char **at;
	int64_t count, room;
} hub_list;

int hub_list_add(hub_list *l, const char *name);
int hub_list_has(const hub_list *l, const char *name);
void hub_list_free(hub_list *l);

typedef struct hub_repo {
	const qat_source_request *request;
	hub_env env;
	hub_stop stop;
	hub_http *http;			/* NULL: offline */
	const char *name, *revision;
	char commit[HUB_COMMIT + 1];
	char *folder;			/* of the repository in the cache */
	char *snapshot;			/* of the commit */
	hub_list files;			/* that it has, as the hub or the cache says */
	int64_t done, total;		/* bytes, for progress */
} hub_repo;

/* ---- hub_list.c ---- */

/* Commit and files, from the hub. */
int hub_list_ask(hub_repo *r);
/* The same from the cache; QAT_ENOTFOUND if nothing is there. */
int hub_list_cached(hub_repo *r);
/* An answer that is no success, as a message. `file` NULL: about the repository. */
int hub_refused(const hub_repo *r, const hub_reply *reply, const char *file);

/* ---- hub_choose.c: what a model needs ---- */

int hub_choose_documents(hub_list *out, const hub_repo *r);
/* Fetches the index of shards, where there is one, through `fetch`. */
int hub_choose_weights(hub_list *out, hub_repo *r, int (*fetch)(hub_repo *, const hub_list *));

/* ---- hub_cache.c ---- */

int hub_cache_folder(hub_repo *r);		/* r->folder */
int hub_cache_snapshot(hub_repo *r);		/* r->snapshot, of r->commit */
int hub_cache_commit(hub_repo *r);		/* r->commit, of refs/<revision> */
int hub_cache_remember(const hub_repo *r);	/* refs/<revision> */
int hub_cache_has(const hub_repo *r, const char *file);
/* "<folder>/blobs/<etag><end>". */
int hub_cache_blob(char **out, const hub_repo *r, const char *etag, const char *end);
int hub_cache_link(const hub_repo *r, const char *file, const char *etag);
int hub_cache_folders(const char *path);	/* makes those above a file */
/* *fd is the lock; closing it unlocks. */
int hub_cache_lock(int *fd, const hub_repo *r, const char *etag);

/* ---- hub_blob.c ---- */

/* Brings files into the snapshot that are not there yet. */
int hub_blob_fetch(hub_repo *r, const hub_list *files);

#endif
