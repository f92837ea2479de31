/* hub_choose.c - which of its files a model needs. */
#include "hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qatrun/json.h>

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"

enum { SHARDS_MAX = 10000 };

/* state.json is a state of ours, which lies in the same kind of folder. */
static const char *const documents[] = {
	"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
	"special_tokens_map.json", "state.json"
};

static int64_t count_gguf(const hub_list *files, const char **first)
{
	int64_t n = 0;

	for (int64_t i = 0; i < files->count; i++)
		if (hub_ends_with(files->at[i], ".gguf") && !n++)
			*first = files->at[i];
	return n;
}

static int has_tensors(const hub_repo *r)
{
	return hub_list_has(&r->files, SINGLE) || hub_list_has(&r->files, INDEX);
}

int hub_choose_documents(hub_list *out, const hub_repo *r)
{
	int rc = QAT_OK;

	if (!has_tensors(r))
		return QAT_OK;
	if (!hub_list_has(&r->files, "config.json"))
		return qat_fail(QAT_ENOTFOUND, "%s: has no config.json, which says what the model "
				"is", r->name);
	for (size_t i = 0; i < sizeof documents / sizeof *documents && !rc; i++)
		if (hub_list_has(&r->files, documents[i]))
			rc = hub_list_add(out, documents[i]);
	return rc;
}

/* ---- shards ---- */

static int add_shard(hub_list *out, const hub_repo *r, const json_t *value)
{
	const char *name = json_string_value(value);

	if (!name || !hub_file_valid(name) || !hub_ends_with(name, ".safetensors"))
		return qat_fail(QAT_EFORMAT, "%s: " INDEX " names a shard that is no plain "
				".safetensors file", r->name);
	if (hub_list_has(out, name))
		return QAT_OK;
	if (!hub_list_has(&r->files, name))
		return qat_fail(QAT_ENOTFOUND, "%s: %s, a shard that " INDEX " names, is not %s",
				r->name, name, r->http ? "among its files" : "in the cache");
	if (out->count == SHARDS_MAX)
		return qat_fail(QAT_EFORMAT, "%s: " INDEX " names more than %d shards", r->name,
				SHARDS_MAX);
	return hub_list_add(out, name);
}

static int read_index(hub_list *out, const hub_repo *r)
{
	const char *key;
	char *path = NULL;
	json_error_t e;
	json_t *root = NULL, *map, *value;
	int rc = hub_text(&path, "%s/" INDEX, r->snapshot);

	if (!rc) {
		rc = qat_json_parse_file(&root, &e, path, 0);
		if (rc == QAT_ENOMEM)
			qat_fail(rc, "%s: out of memory", path);
		else if (rc)
			qat_fail(rc, "%s:%d: %s", path, e.line, e.text);
	}
	map = json_object_get(root, "weight_map");
	if (!rc && !json_object_size(map))
		rc = qat_fail(QAT_EFORMAT, "%s: no weight_map", path);
	if (!rc)
		json_object_foreach(map, key, value)
			if (!rc)
				rc = add_shard(out, r, value);
	json_decref(root);
	free(path);
	return rc;
}

static int choose_shards(hub_list *out, hub_repo *r,
			 int (*fetch)(hub_repo *, const hub_list *))
{
	hub_list index = { 0 }, shards = { 0 };
	int rc = hub_list_add(&index, INDEX);

	if (!rc)
		rc = fetch(r, &index);
	if (!rc)
		rc = read_index(&shards, r);
	for (int64_t i = 0; i < shards.count && !rc; i++)
		rc = hub_list_add(out, shards.at[i]);
	hub_list_free(&index);
	hub_list_free(&shards);
	return rc;
}

/* ---- weights ---- */

static int no_weights(const hub_repo *r)
{
	static const char *const others[] = {
		"pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5",
		"flax_model.msgpack"
	};

	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (hub_list_has(&r->files, others[i]))
			return qat_fail(QAT_ENOTSUP, "%s: its weights are in %s only, which is not "
					"read: another revision may have " SINGLE, r->name,
					others[i]);
	return qat_fail(QAT_ENOTFOUND, "%s: has neither " SINGLE " nor a .gguf file%s", r->name,
			r->http ? "" : " in the cache");
}

static int several(const hub_repo *r)
{
	char names[600];
	size_t used = 0;

	for (int64_t i = 0; i < r->files.count && used < sizeof names; i++)
		if (hub_ends_with(r->files.at[i], ".gguf"))
			used += (size_t)snprintf(names + used, sizeof names - used, "%s%s",
						 used ? ", " : "", r->files.at[i]);
	return qat_fail(QAT_ENOTSUP, "%s: which of its files is meant cannot be told: download one "
			"and give its path: %s%s", r->name, names,
			used < sizeof names ? "" : "...");
}

int hub_choose_weights(hub_list *out, hub_repo *r, int (*fetch)(hub_repo *, const hub_list *))
{
	const char *gguf = NULL;
	int64_t n;

	if (hub_list_has(&r->files, SINGLE))
		return hub_list_add(out, SINGLE);
	if (hub_list_has(&r->files, INDEX))
		return choose_shards(out, r, fetch);
	n = count_gguf(&r->files, &gguf);
	if (n > 1)
		return several(r);
	return n ? hub_list_add(out, gguf) : no_weights(r);
}
