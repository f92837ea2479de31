/* huggingface.c - models of the Hugging Face hub, through the cache that its own programs use:
 * what they have fetched is used as it is, and what we fetch they can use.
 *
 * HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_TOKEN_PATH and HF_HUB_OFFLINE count as they
 * do there. Contents are checked against the hub's SHA-256 or git's SHA-1 before they get
 * their name.
 */
#include "hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int probe(const void *self, const char *name)
{
	(void)self;
	return hub_name_valid(name);
}

static void repo_free(hub_repo *r)
{
	hub_http_free(r->http);
	hub_list_free(&r->files);
	hub_env_free(&r->env);
	free(r->folder);
	free(r->snapshot);
}

static int repo_open(hub_repo *r, const qat_source_request *q)
{
	int rc;

	*r = (hub_repo){ .request = q, .name = q->name,
			 .revision = q->revision ? q->revision : "main",
			 .stop = { q->stopped, q->context } };
	if (!hub_name_valid(r->name))
		return qat_fail(QAT_EINVAL, "%.200s: no name of a model: write owner/name", q->name);
	if (!hub_revision_valid(r->revision))
		return qat_fail(QAT_EINVAL, "%s: \"%.200s\" cannot be a revision: give a branch, a "
				"tag or a commit", r->name, r->revision);
	rc = hub_env_read(&r->env);
	if (!rc)
		rc = hub_cache_folder(r);
	if (!rc && !r->env.offline)
		rc = hub_http_new(&r->http, &r->env, &r->stop);
	return rc;
}

/* From here on the cache is all there is. */
static void go_offline(hub_repo *r)
{
	hub_http_free(r->http);
	hub_list_free(&r->files);
	r->http = NULL;
}

/* What the model is made of: as the hub says, else as the cache knows it. A hub that says that
 * there is no such thing is believed; one that cannot be asked need not be. */
static int find(hub_repo *r)
{
	char *why;
	int rc;

	if (!r->http) {
		rc = hub_list_cached(r);
		return rc ? qat_fail(rc, "%s; HF_HUB_OFFLINE is set", qat_host_->error()) : QAT_OK;
	}
	rc = hub_list_ask(r);
	if (!rc)
		return hub_cache_snapshot(r);
	if (rc != QAT_EIO && rc != QAT_EFORMAT)
		return rc;
	why = strdup(qat_host_->error());
	go_offline(r);
	if (!why || hub_list_cached(r))
		rc = qat_fail(rc, "%s", why ? why : "out of memory");
	else
		rc = QAT_OK;
	if (!rc)
		hub_log(QAT_LOG_WARN, "%s: uses what is in the cache, commit %.12s, as the hub cannot "
			"be asked: %s", r->name, r->commit, why);
	free(why);
	return rc;
}

static int fetch_named(hub_repo *r, const qat_strings *files)
{
	hub_list list = { 0 };
	int rc = QAT_OK;

	for (int64_t i = 0; i < files->count && !rc; i++) {
		if (hub_list_has(&r->files, files->at[i]))
			rc = hub_list_add(&list, files->at[i]);
		else
			rc = qat_fail(QAT_ENOTFOUND, "%s: revision %s has no file %.200s", r->name,
				      r->revision, files->at[i]);
	}
	if (!rc)
		rc = hub_blob_fetch(r, &list);
	hub_list_free(&list);
	return rc;
}

/* Small files first, so that the core can refuse what it cannot run before the weights come.
 * *file is the one that is all of the model, or "". */
static int fetch_model(char **file, hub_repo *r)
{
	const qat_source_request *q = r->request;
	hub_list documents = { 0 }, weights = { 0 };
	int rc = hub_choose_documents(&documents, r);

	if (!rc)
		rc = hub_blob_fetch(r, &documents);
	if (!rc && q->look && documents.count)
		rc = q->look(q->context, r->snapshot);
	if (!rc)
		rc = hub_choose_weights(&weights, r, hub_blob_fetch);
	if (!rc)
		rc = hub_blob_fetch(r, &weights);
	if (!rc)
		rc = hub_text(file, "%s", documents.count ? "" : weights.at[0]);
	hub_list_free(&documents);
	hub_list_free(&weights);
	return rc;
}

static int fetch(const void *self, const qat_source_request *q, qat_source_result *out)
{
	hub_repo r;
	char *path = NULL, *revision = NULL, *file = NULL;
	int rc = repo_open(&r, q);

	(void)self;
	if (!rc)
		rc = find(&r);
	if (!rc && q->files.count)
		rc = fetch_named(&r, &q->files);
	else if (!rc)
		rc = fetch_model(&file, &r);
	if (!rc && r.http)
		hub_cache_remember(&r);		/* a cache that cannot be written may be full */
	if (!rc)
		rc = hub_text(&revision, "%s", r.commit);
	if (!rc)
		rc = hub_text(&path, "%s%s%s", r.snapshot, file && *file ? "/" : "",
			      file ? file : "");
	if (!rc) {
		out->path = path;
		out->revision = revision;
		path = revision = NULL;
	}
	free(path);
	free(revision);
	free(file);
	repo_free(&r);
	return rc;
}

static const qat_model_source vtable = {
	.size = sizeof vtable, .probe = probe, .fetch = fetch, .release = free
};

static const qat_interface huggingface = {
	.size = sizeof huggingface, .kind = QAT_KIND_SOURCE, .name = "huggingface",
	.summary = "models of the Hugging Face hub, as owner/name", .vtable = &vtable
};

static const qat_interface *const all[] = { &huggingface };

QAT_PLUGIN("huggingface", all);
