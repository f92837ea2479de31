/* hf_save.c - a folder as transformers writes it: config.json, the tokenizer's files and
 * the tensors in one file, or in shards with an index. */
#include <stdlib.h>
#include <string.h>

#include <qatrun/json.h>

#include "hf.h"

enum { NAME_BYTES = 64 };

/* Tensors [first, end) of the checkpoint are one shard. */
typedef struct { int64_t first, end; } shard;

typedef struct {
	const qat_checkpoint *from;
	qat_st_item *items;		/* one for each tensor */
	shard *shards;
	int64_t n_shards, total;
	qat_draft folder;
} hf_draft;

const char *const qat_hf_docs[QAT_DOCS] = {
	[QAT_DOC_CONFIG] = "config.json",
	[QAT_DOC_TOKENIZER] = "tokenizer.json",
	[QAT_DOC_TOKENIZER_CONFIG] = "tokenizer_config.json",
	[QAT_DOC_GENERATION_CONFIG] = "generation_config.json",
};

static void items_name(hf_draft *d)
{
	for (int64_t i = 0; i < d->from->n_tensors; i++) {
		const qat_param *p = d->from->params ? d->from->params[i] : NULL;
		const qat_tensor *t = d->from->tensors[i];

		d->items[i] = (qat_st_item){
			.name = p && p->hub_name ? p->hub_name : t->name,
			.tensor = t,
			.from = d->from, .index = i,
			.transpose = p && (p->flags & QAT_PARAM_HUB_TRANSPOSED) && t->rank == 2,
		};
	}
}

/* In the given order; a tensor beyond the limit has a shard of its own. */
static int shards_plan(hf_draft *d, int64_t limit)
{
	int64_t filled = 0;

	for (int64_t i = 0; i < d->from->n_tensors; i++) {
		const int64_t bytes = d->from->tensors[i]->bytes;

		if (bytes < 0 || __builtin_add_overflow(d->total, bytes, &d->total))
			return qat_fail(QAT_EINVAL, "%s: more bytes than can be counted",
					d->folder.path);
		if (!d->n_shards || (filled && bytes > limit - filled)) {
			d->shards[d->n_shards++] = (shard){ .first = i };
			filled = 0;
		}
		filled += bytes;
		d->shards[d->n_shards - 1].end = i + 1;
	}
	if (!d->n_shards)
		d->n_shards = 1;		/* a model without tensors is a file as well */
	return QAT_OK;
}

static void shard_name(char *out, const hf_draft *d, int64_t index)
{
	if (d->n_shards == 1)
		snprintf(out, NAME_BYTES, "%s", HF_TENSORS);
	else
		snprintf(out, NAME_BYTES, "model-%05lld-of-%05lld.safetensors",
			 (long long)index + 1, (long long)d->n_shards);
}

static int shard_write(hf_draft *d, int64_t index)
{
	static const char *const metadata[] = { "format", "pt", NULL };
	const shard s = d->shards[index];
	char name[NAME_BYTES], *path;
	int rc;

	shard_name(name, d, index);
	path = qat_path_join(d->folder.temp, name);
	if (!path)
		return QAT_ENOMEM;
	rc = qat_st_write(path, d->items + s.first, s.end - s.first, metadata);
	free(path);
	return rc;
}

static json_t *index_json(const hf_draft *d)
{
	json_t *map = json_object(), *metadata = json_object(), *root = json_object();
	int bad = json_object_set_new(metadata, "total_size", json_integer(d->total));

	for (int64_t i = 0; i < d->n_shards; i++) {
		char name[NAME_BYTES];

		shard_name(name, d, i);
		for (int64_t t = d->shards[i].first; t < d->shards[i].end; t++)
			bad |= json_object_set_new(map, d->items[t].name, json_string(name));
	}
	bad |= json_object_set_new(root, "metadata", metadata);
	bad |= json_object_set_new(root, "weight_map", map);
	if (!bad)
		return root;
	json_decref(root);
	return NULL;
}

static int index_write(hf_draft *d)
{
	json_t *root = index_json(d);
	char *text = root ? qat_json_print(root, JSON_INDENT(2)) : NULL;
	int rc;

	if (text)
		rc = qat_folder_text(&d->folder, HF_INDEX,
				     (qat_text){ .at = text, .length = (int64_t)strlen(text) });
	else
		rc = qat_fail(QAT_ENOMEM, "%s: out of memory", d->folder.path);
	free(text);
	json_decref(root);
	return rc;
}

static int content_write(hf_draft *d, int64_t limit)
{
	int rc = shards_plan(d, limit);

	for (int i = 0; !rc && i < QAT_DOCS; i++)
		if (qat_hf_docs[i])
			rc = qat_folder_text(&d->folder, qat_hf_docs[i], d->from->docs[i]);
	for (int64_t i = 0; !rc && i < d->n_shards; i++)
		rc = shard_write(d, i);
	if (!rc && d->n_shards > 1)
		rc = index_write(d);
	return rc ? rc : qat_folder_commit(&d->folder);
}

int qat_hf_save(const char *path, const qat_checkpoint *c, int64_t limit)
{
	hf_draft d = { .from = c };
	const size_t n = (size_t)c->n_tensors + 1;
	int rc;

	if (!c->docs[QAT_DOC_CONFIG].at)
		return qat_fail(QAT_EINVAL, "%s: a model without config.json cannot be saved",
				path);
	d.items = calloc(n, sizeof *d.items);
	d.shards = calloc(n, sizeof *d.shards);
	if (d.items && d.shards) {
		items_name(&d);
		rc = qat_folder_begin(&d.folder, path);
	} else {
		rc = qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	}
	if (!rc)
		rc = content_write(&d, limit);
	qat_folder_end(&d.folder);
	free(d.shards);
	free(d.items);
	return rc;
}
