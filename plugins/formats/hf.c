/* hf.c - Hugging Face folders: config.json, the tokenizer's files, and the tensors in
 * model.safetensors or in shards that model.safetensors.index.json lists. */
#include <stdlib.h>
#include <string.h>
#include "hf.h"

#define SHARD_LIMIT INT64_C(5000000000)		/* transformers' 5GB */
#define SUFFIX ".safetensors"

/* A tensor and the shard that has it. */
typedef struct {
	const char *name;
	const qat_safetensors *file;
	const qat_st_tensor *tensor;
} hf_entry;

typedef struct {
	char *folder;
	qat_text docs[QAT_DOCS];
	int64_t n_shards;
	char **shard_names;
	qat_safetensors **shards;
	int64_t count;
	hf_entry *entries;		/* by name */
} hf;

/* ---- paths ---- */

static int is_tensor_file(const char *path)
{
	const size_t n = strlen(path), m = sizeof SUFFIX - 1;

	return n > m && !strcmp(path + n - m, SUFFIX);
}

/* The folder of a file, the file's name behind it; NULL with a message. */
static char *folder_of(const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	char *folder;

	if (!slash)
		folder = strdup(".");
	else
		folder = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	*name = slash ? slash + 1 : path;
	if (!folder)
		qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	return folder;
}

/* A folder with state.json is a native checkpoint, which looks the same otherwise. */
static int folder_fits(const char *folder)
{
	return qat_path_has(folder, qat_hf_docs[QAT_DOC_CONFIG])
		&& !qat_path_has(folder, "state.json");
}

static int hf_probe(const char *path)
{
	const char *name;
	char *folder;
	int fits;

	if (qat_path_is_folder(path))
		return folder_fits(path)
			&& (qat_path_has(path, HF_TENSORS) || qat_path_has(path, HF_INDEX));
	if (!is_tensor_file(path))
		return 0;
	folder = folder_of(path, &name);
	if (!folder)
		return QAT_ENOMEM;
	fits = folder_fits(folder) && qat_path_has(folder, name);
	free(folder);
	return fits;
}

/* ---- opening ---- */

static void hf_close(void *file)
{
	hf *h = file;

	if (!h)
		return;
	for (int i = 0; i < QAT_DOCS; i++)
		qat_text_free(&h->docs[i]);
	for (int64_t i = 0; i < h->n_shards; i++) {
		qat_st_close(h->shards[i]);
		free(h->shard_names[i]);
	}
	free(h->shards);
	free(h->shard_names);
	free(h->entries);
	free(h->folder);
	free(h);
}

static int docs_read(hf *h)
{
	for (int i = 0; i < QAT_DOCS; i++) {
		char *path;
		int rc;

		if (!qat_hf_docs[i])
			continue;
		path = qat_path_join(h->folder, qat_hf_docs[i]);
		rc = path ? qat_text_read(&h->docs[i], path) : QAT_ENOMEM;
		if (!rc && i != QAT_DOC_TOKENIZER)
			rc = qat_json_check(h->docs[i].at, h->docs[i].length, path);
		free(path);
		if (rc)
			return rc;
	}
	if (!h->docs[QAT_DOC_CONFIG].at)
		return qat_fail(QAT_ENOTFOUND, "%s: has no %s, which says what the model is",
				h->folder, qat_hf_docs[QAT_DOC_CONFIG]);
	return QAT_OK;
}

static int by_name(const void *a, const void *b)
{
	const hf_entry *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int shard_open(hf *h, const char *name)
{
	char *path = qat_path_join(h->folder, name);
	int rc = path ? QAT_OK : QAT_ENOMEM;

	if (!rc && !(h->shard_names[h->n_shards] = strdup(name)))
		rc = qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	if (!rc)
		rc = qat_st_open(&h->shards[h->n_shards], path);
	if (!rc)
		h->n_shards++;
	else if (path)
		free(h->shard_names[h->n_shards]);
	free(path);
	return rc;
}

static int tables_allocate(hf *h, size_t shards, size_t entries)
{
	h->shards = calloc(shards + 1, sizeof *h->shards);
	h->shard_names = calloc(shards + 1, sizeof *h->shard_names);
	h->entries = calloc(entries + 1, sizeof *h->entries);
	if (h->shards && h->shard_names && h->entries)
		return QAT_OK;
	return qat_fail(QAT_ENOMEM, "%s: out of memory for %zu tensors", h->folder, entries);
}

static int single_open(hf *h, const char *name)
{
	qat_safetensors *file;
	int rc;

	h->shards = calloc(1, sizeof *h->shards);
	h->shard_names = calloc(1, sizeof *h->shard_names);
	if (!h->shards || !h->shard_names)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", h->folder);
	rc = shard_open(h, name);
	if (rc)
		return rc;
	file = h->shards[0];
	h->entries = calloc((size_t)qat_st_count(file) + 1, sizeof *h->entries);
	if (!h->entries)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", h->folder);
	for (int64_t i = 0; i < qat_st_count(file); i++) {
		const qat_st_tensor *t = qat_st_at(file, i);

		h->entries[h->count++] = (hf_entry){ .name = t->name, .file = file, .tensor = t };
	}
	return QAT_OK;
}

/* Names come from the file, so they must not lead out of the folder. Tensors of one
 * shard mostly follow each other, hence the search from the end. */
static int shard_find(const qat_safetensors **out, hf *h, const char *path, const char *name)
{
	int rc;

	for (int64_t i = h->n_shards - 1; i >= 0; i--)
		if (!strcmp(h->shard_names[i], name)) {
			*out = h->shards[i];
			return QAT_OK;
		}
	if (!qat_name_is_plain(name) || !is_tensor_file(name))
		return qat_fail(QAT_EFORMAT, "%s: \"%.200s\" is not the name of a " SUFFIX
				" file in this folder", path, name);
	rc = shard_open(h, name);
	if (!rc)
		*out = h->shards[h->n_shards - 1];
	return rc;
}

static int map_read(hf *h, const json_t *map, const char *path)
{
	const char *name;
	json_t *value;
	int rc;

	if (!json_is_object(map))
		return qat_fail(QAT_EFORMAT, "%s: no weight_map", path);
	rc = tables_allocate(h, json_object_size(map), json_object_size(map));
	if (rc)
		return rc;
	json_object_foreach((json_t *)(uintptr_t)map, name, value) {
		hf_entry *e = &h->entries[h->count];

		if (!json_is_string(value))
			return qat_fail(QAT_EFORMAT, "%s: \"%.200s\": no file name", path, name);
		rc = shard_find(&e->file, h, path, json_string_value(value));
		if (rc)
			return rc;
		e->tensor = qat_st_find(e->file, name);
		if (!e->tensor)
			return qat_fail(QAT_EFORMAT, "%s: tensor \"%.200s\" is not in %s", path,
					name, qat_st_path(e->file));
		e->name = e->tensor->name;
		h->count++;
	}
	return QAT_OK;
}

static int index_open(hf *h)
{
	char *path = qat_path_join(h->folder, HF_INDEX);
	qat_text text = { 0 };
	json_t *root = NULL;
	int rc = path ? qat_text_read(&text, path) : QAT_ENOMEM;

	if (!rc && !text.at)
		rc = qat_fail(QAT_ENOTFOUND, "%s: has neither %s nor %s", h->folder, HF_TENSORS,
			      HF_INDEX);
	if (!rc)
		rc = qat_json_load(&root, text.at, text.length, path);
	if (!rc)
		rc = map_read(h, json_object_get(root, "weight_map"), path);
	json_decref(root);
	qat_text_free(&text);
	free(path);
	return rc;
}

static int hf_open(void **file, const char *path)
{
	hf *h = calloc(1, sizeof *h);
	const char *name = NULL;
	int rc;

	if (!h)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	if (is_tensor_file(path) && !qat_path_is_folder(path))
		h->folder = folder_of(path, &name);
	else
		h->folder = strdup(path);
	rc = h->folder ? docs_read(h) : qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	if (rc)
		goto out;
	if (!name && qat_path_has(h->folder, HF_TENSORS))
		name = HF_TENSORS;
	rc = name ? single_open(h, name) : index_open(h);
	if (rc)
		goto out;
	qsort(h->entries, (size_t)h->count, sizeof *h->entries, by_name);
	*file = h;
	h = NULL;
out:
	hf_close(h);
	return rc;
}

/* ---- reading ---- */

static int hf_document(void *file, uint32_t which, qat_text *out)
{
	const hf *h = file;

	*out = which < QAT_DOCS ? h->docs[which] : (qat_text){ 0 };
	return QAT_OK;
}

static const hf_entry *entry_named(const hf *h, const char *prefix, const char *name)
{
	char full[512];
	const hf_entry key = { .name = full };
	const int n = snprintf(full, sizeof full, "%s%s", prefix, name);

	if (n < 0 || n >= (int)sizeof full)
		return NULL;
	return bsearch(&key, h->entries, (size_t)h->count, sizeof *h->entries, by_name);
}

/* Files of the bare network lack the prefix that files of the language model have. */
static const hf_entry *entry_find(const hf *h, const qat_param *p)
{
	static const char *const prefixes[] = { "transformer.", "model." };
	const char *name = p->hub_name ? p->hub_name : p->name;
	const hf_entry *e = entry_named(h, "", name);

	for (size_t i = 0; !e && i < sizeof prefixes / sizeof *prefixes; i++) {
		const size_t n = strlen(prefixes[i]);

		e = strncmp(name, prefixes[i], n) ? entry_named(h, prefixes[i], name)
						  : entry_named(h, "", name + n);
	}
	return e;
}

static int is_transposed(const qat_param *p)
{
	return (p->flags & QAT_PARAM_HUB_TRANSPOSED) != 0;
}

static int hf_find(void *file, const qat_param *p, qat_tensor *out)
{
	const hf_entry *e = entry_find(file, p);
	const qat_st_tensor *t;
	const char *path;

	if (!e)
		return QAT_ENOTFOUND;
	t = e->tensor;
	path = qat_st_path(e->file);
	if (t->dtype < QAT_F32 || t->dtype > QAT_F64)
		return qat_fail(QAT_ENOTSUP, "%s: tensor \"%s\" is %s; weights are read from F32, "
				"BF16, F16 and F64", path, t->name, t->type);
	if (t->rank > QAT_MAX_RANK || (is_transposed(p) && t->rank != 2))
		return qat_fail(QAT_EFORMAT, "%s: tensor \"%s\" has rank %lld, not %lld", path,
				t->name, (long long)t->rank, (long long)p->rank);
	*out = (qat_tensor){ .size = sizeof *out, .dtype = t->dtype, .rank = t->rank,
			     .name = t->name, .bytes = t->end - t->begin };
	memcpy(out->shape, t->shape, sizeof out->shape);
	if (is_transposed(p)) {
		out->shape[0] = t->shape[1];
		out->shape[1] = t->shape[0];
	} else if (t->dtype != QAT_F64 && qat_st_aligned(t)) {
		out->data = (void *)(uintptr_t)t->data;
	}
	if (t->dtype == QAT_F64) {
		out->dtype = QAT_F32;
		out->bytes /= 2;
	}
	return QAT_OK;
}

static int hf_read(void *file, const qat_param *p, float *out, int64_t row, int64_t rows)
{
	const hf_entry *e = entry_find(file, p);
	const qat_st_tensor *t;
	int64_t width, have;

	if (!e)
		return qat_fail(QAT_ENOTFOUND, "%s: no tensor \"%s\"", ((hf *)file)->folder,
				p->hub_name ? p->hub_name : p->name);
	t = e->tensor;
	if (is_transposed(p))
		return qat_st_read_columns(e->file, t, out, row, rows);
	have = t->rank < 2 ? 1 : t->shape[0];
	width = t->rank < 2 ? t->shape[0] : t->shape[1] * t->shape[2] * t->shape[3];
	if (row < 0 || rows < 0 || row > have || rows > have - row)
		return qat_fail(QAT_EINVAL, "%s: tensor \"%s\" has %lld rows, no %lld from %lld",
				qat_st_path(e->file), t->name, (long long)have, (long long)rows,
				(long long)row);
	return qat_st_read(e->file, t, out, row * width, rows * width);
}

static const char *hf_tensor_name(void *file, int64_t index)
{
	const hf *h = file;

	return index >= 0 && index < h->count ? h->entries[index].name : NULL;
}

static int hf_save(const char *path, const qat_checkpoint *c)
{
	return qat_hf_save(path, c, SHARD_LIMIT);
}

static void hf_let_go(void *file)
{
	const hf *h = file;

	for (int64_t i = 0; i < h->n_shards; i++)
		qat_st_let_go(h->shards[i]);
}

static const qat_format hf_vtable = {
	.size = sizeof(qat_format),
	.probe = hf_probe,
	.open = hf_open,
	.close = hf_close,
	.document = hf_document,
	.find = hf_find,
	.read = hf_read,
	.tensor_name = hf_tensor_name,
	.save = hf_save,
	.let_go = hf_let_go,
};

static const qat_interface hf_interface = {
	.size = sizeof(qat_interface),
	.kind = QAT_KIND_FORMAT,
	.name = "hf",
	.summary = "Hugging Face folders: config.json, safetensors, tokenizer.json",
	.vtable = &hf_vtable,
};

static const qat_interface *const hf_all[] = { &hf_interface };

QAT_PLUGIN("hf", hf_all);
