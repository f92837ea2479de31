/* hub_list.c - which commit a revision is, and which files it has: as the hub says, or as
 * the cache holds them. */
#include "hub.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/json.h>

/* ---- lists of names ---- */

int hub_list_add(hub_list *l, const char *name)
{
	if (l->count == l->room) {
		const int64_t room = 2 * l->room + 16;
		char **more = realloc(l->at, (size_t)room * sizeof *more);

		if (!more)
			return qat_fail(QAT_ENOMEM, "out of memory");
		l->at = more;
		l->room = room;
	}
	l->at[l->count] = strdup(name);
	if (!l->at[l->count])
		return qat_fail(QAT_ENOMEM, "out of memory");
	l->count++;
	return QAT_OK;
}

/* From the end: tensors of one shard mostly follow each other. */
int hub_list_has(const hub_list *l, const char *name)
{
	for (int64_t i = l->count - 1; i >= 0; i--)
		if (!strcmp(l->at[i], name))
			return 1;
	return 0;
}

void hub_list_free(hub_list *l)
{
	for (int64_t i = 0; i < l->count; i++)
		free(l->at[i]);
	free(l->at);
	*l = (hub_list){ 0 };
}

/* ---- what went wrong ---- */

static int refused_access(const hub_repo *r, const hub_reply *reply)
{
	const char *e = r->env.endpoint;

	if (reply->status == 403 || !strcmp(reply->code, "GatedRepo"))
		return qat_fail(QAT_EIO, "%s: access is refused (%ld): accept its licence at %s/%s "
				"and set HF_TOKEN to a token that may read it%s", r->name,
				reply->status, e, r->name, r->env.token ? "; the one that is set "
				"may not" : "");
	if (r->env.token)
		return qat_fail(QAT_EIO, "%s: %s does not accept the token (401): renew HF_TOKEN, or "
				"unset it for a public model", r->name, e);
	return qat_fail(QAT_EIO, "%s: %s has no such model that everybody may read (401): check "
			"the name, or set HF_TOKEN for a private one", r->name, e);
}

static int not_there(const hub_repo *r, const hub_reply *reply, const char *file)
{
	if (!strcmp(reply->code, "RevisionNotFound"))
		return qat_fail(QAT_ENOTFOUND, "%s: has no revision \"%s\"", r->name, r->revision);
	if (file)
		return qat_fail(QAT_ENOTFOUND, "%s: revision %s has no file %s", r->name,
				r->revision, file);
	if (!strcmp(reply->code, "RepoNotFound") || !strcmp(r->revision, "main"))
		return qat_fail(QAT_ENOTFOUND, "%s: no such model on %s, and no such path here",
				r->name, r->env.endpoint);
	return qat_fail(QAT_ENOTFOUND, "%s: no such model on %s, or it has no revision \"%s\"",
			r->name, r->env.endpoint, r->revision);
}

int hub_refused(const hub_repo *r, const hub_reply *reply, const char *file)
{
	const char *what = file ? file : "the list of files";

	if (reply->status == 401 || reply->status == 403)
		return refused_access(r, reply);
	if (reply->status == 404 || reply->status == 410)
		return not_there(r, reply, file);
	if (reply->status == 429)
		return qat_fail(QAT_EIO, "%s: %s has had too many requests (429): try again in "
				"%.0f seconds, or set HF_TOKEN", r->name, r->env.endpoint,
				reply->wait > 0 ? reply->wait : 60);
	if (reply->status >= 500)
		return qat_fail(QAT_EIO, "%s: %s is in trouble (%ld for %s): try again later",
				r->name, r->env.endpoint, reply->status, what);
	return qat_fail(QAT_EIO, "%s: %s answers %ld for %s", r->name, r->env.endpoint,
			reply->status, what);
}

/* ---- from the hub ---- */

static int not_a_hub(const hub_repo *r, const char *why)
{
	return qat_fail(QAT_EFORMAT, "%s: %s does not answer as a hub does (%s): is HF_ENDPOINT "
			"right, or does a proxy answer instead?", r->name, r->env.endpoint, why);
}

/* Names that are no name of ours are passed over: there are folders and all kinds of files. */
static int take_files(hub_repo *r, const json_t *siblings)
{
	for (size_t i = 0; i < json_array_size(siblings); i++) {
		const json_t *name = json_object_get(json_array_get(siblings, i), "rfilename");
		int rc = QAT_OK;

		if (json_is_string(name) && hub_file_valid(json_string_value(name)))
			rc = hub_list_add(&r->files, json_string_value(name));
		if (rc)
			return rc;
	}
	return QAT_OK;
}

static int take_info(hub_repo *r, const char *text, int64_t length)
{
	json_error_t e;
	json_t *root;
	int rc = qat_json_parse(&root, &e, text, length, 0);
	const char *sha = json_string_value(json_object_get(root, "sha"));
	const json_t *siblings = json_object_get(root, "siblings");

	if (rc == QAT_ENOMEM)
		return qat_fail(rc, "%s: out of memory", r->name);
	if (rc)
		return not_a_hub(r, "no JSON");
	if (!sha || !hub_commit_valid(sha) || !json_is_array(siblings)) {
		json_decref(root);
		return not_a_hub(r, "no commit, or no files");
	}
	memcpy(r->commit, sha, sizeof r->commit);
	rc = take_files(r, siblings);
	json_decref(root);
	return rc;
}

int hub_list_ask(hub_repo *r)
{
	char *revision = hub_http_escape(r->http, r->revision), *url = NULL, *text = NULL;
	int64_t length = 0;
	hub_reply reply;
	int rc = revision ? hub_text(&url, "%s/api/models/%s/revision/%s", r->env.endpoint,
				     r->name, revision)
			  : qat_fail(QAT_ENOMEM, "out of memory");

	if (!rc)
		rc = hub_http_get(&text, &length, &reply, r->http, url);
	if (rc == QAT_EIO)
		rc = qat_fail(rc, "%s: no such path here, and it cannot be downloaded: %s", r->name,
			      qat_host_->error());
	if (!rc)
		rc = reply.status == 200 ? take_info(r, text, length)
					 : hub_refused(r, &reply, NULL);
	if (!rc && hub_commit_valid(r->revision) && strcmp(r->revision, r->commit) != 0)
		rc = not_a_hub(r, "another commit than was asked for");
	free(text);
	free(url);
	free(revision);
	return rc;
}

/* ---- from the cache ---- */

int hub_list_cached(hub_repo *r)
{
	const struct dirent *e;
	DIR *d = NULL;
	int rc = hub_cache_commit(r);

	if (!rc)
		rc = hub_cache_snapshot(r);
	if (!rc)
		d = opendir(r->snapshot);
	if (!rc && !d)
		rc = qat_fail(QAT_ENOTFOUND, "%s: revision %s is not in the cache, %s", r->name,
			      r->revision, r->env.cache);
	while (!rc && (e = readdir(d)))
		if (hub_file_valid(e->d_name) && hub_cache_has(r, e->d_name))
			rc = hub_list_add(&r->files, e->d_name);
	if (d)
		closedir(d);
	return rc;
}
