/* native.c - qatrun's own checkpoints: a folder with state.json, config.json, the
 * tokenizer's files and model.safetensors, whose tensors have the names and the types of
 * the store, codes and scales included. */
#include <stdlib.h>
#include <string.h>
#include "safetensors.h"

#define TENSORS "model.safetensors"

static const char *const doc_names[QAT_DOCS] = {
	[QAT_DOC_STATE] = "state.json",
	[QAT_DOC_CONFIG] = "config.json",
	[QAT_DOC_TOKENIZER] = "tokenizer.json",
	[QAT_DOC_TOKENIZER_CONFIG] = "tokenizer_config.json",
	[QAT_DOC_GENERATION_CONFIG] = "generation_config.json",
};

typedef struct {
	char *path;
	qat_safetensors *tensors;
	qat_text docs[QAT_DOCS];
} native;

static int native_probe(const char *path)
{
	return qat_path_has(path, doc_names[QAT_DOC_STATE]) && qat_path_has(path, TENSORS);
}

static void native_close(void *file)
{
	native *n = file;

	if (!n)
		return;
	for (int i = 0; i < QAT_DOCS; i++)
		qat_text_free(&n->docs[i]);
	qat_st_close(n->tensors);
	free(n->path);
	free(n);
}

static int docs_read(native *n)
{
	for (int i = 0; i < QAT_DOCS; i++) {
		char *path;
		int rc;

		if (!doc_names[i])
			continue;
		path = qat_path_join(n->path, doc_names[i]);
		rc = path ? qat_text_read(&n->docs[i], path) : QAT_ENOMEM;
		if (!rc && i != QAT_DOC_TOKENIZER)
			rc = qat_json_check(n->docs[i].at, n->docs[i].length, path);
		free(path);
		if (rc)
			return rc;
	}
	if (!n->docs[QAT_DOC_STATE].at)
		return qat_fail(QAT_ENOTFOUND, "%s: has no %s", n->path, doc_names[QAT_DOC_STATE]);
	return QAT_OK;
}

static int native_open(void **file, const char *path)
{
	native *n = calloc(1, sizeof *n);
	char *tensors = NULL;
	int rc;

	if (n)
		n->path = strdup(path);
	if (!n || !n->path) {
		rc = qat_fail(QAT_ENOMEM, "%s: out of memory", path);
		goto out;
	}
	rc = docs_read(n);
	if (rc)
		goto out;
	tensors = qat_path_join(path, TENSORS);
	rc = tensors ? qat_st_open(&n->tensors, tensors) : QAT_ENOMEM;
	if (rc)
		goto out;
	*file = n;
	n = NULL;
out:
	free(tensors);
	native_close(n);
	return rc;
}

static int native_document(void *file, uint32_t which, qat_text *out)
{
	const native *n = file;

	*out = which < QAT_DOCS ? n->docs[which] : (qat_text){ 0 };
	return QAT_OK;
}

/* The type that a U8 tensor stands for, by the metadata. */
static int noted_type(uint32_t *out, const native *n, const qat_st_tensor *t)
{
	const char *type = NULL, *path = qat_st_path(n->tensors);
	char *key;

	if (asprintf(&key, "dtype.%s", t->name) < 0)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	type = qat_st_metadata(n->tensors, key);
	free(key);
	*out = !type ? QAT_U8 : !strcmp(type, "F8_E8M0") ? QAT_E8M0
	     : !strcmp(type, "F8_E4M3") ? QAT_E4M3 : 0;
	if (!*out)
		return qat_fail(QAT_EFORMAT, "%s: tensor \"%.200s\": the metadata calls it \"%.40s\", "
				"not F8_E8M0 or F8_E4M3", path, t->name, type);
	return QAT_OK;
}

static int native_find(void *file, const qat_param *p, qat_tensor *out)
{
	const native *n = file;
	const qat_st_tensor *t = qat_st_find(n->tensors, p->name);
	const char *path = qat_st_path(n->tensors);
	uint32_t dtype;
	int rc;

	if (!t)
		return QAT_ENOTFOUND;
	if (!t->dtype || t->rank > QAT_MAX_RANK)
		return qat_fail(QAT_ENOTSUP, "%s: tensor \"%s\": %s of rank %lld is not stored by "
				"qatrun", path, t->name, t->type, (long long)t->rank);
	if (!qat_st_aligned(t))
		return qat_fail(QAT_EFORMAT, "%s: tensor \"%s\" is not aligned to its %s elements",
				path, t->name, t->type);
	dtype = t->dtype;
	rc = dtype == QAT_U8 ? noted_type(&dtype, n, t) : QAT_OK;
	if (rc)
		return rc;
	*out = (qat_tensor){ .size = sizeof *out, .dtype = dtype, .rank = t->rank,
			     .name = t->name, .data = (void *)(uintptr_t)t->data,
			     .bytes = t->end - t->begin };
	memcpy(out->shape, t->shape, sizeof out->shape);
	return QAT_OK;
}

/* A row is what one step of the first dimension spans; a vector is one row. */
static int native_read(void *file, const qat_param *p, float *out, int64_t row, int64_t rows)
{
	const native *n = file;
	const qat_st_tensor *t = qat_st_find(n->tensors, p->name);
	int64_t width;

	if (!t)
		return qat_fail(QAT_ENOTFOUND, "%s: no tensor \"%s\"", qat_st_path(n->tensors),
				p->name);
	if (t->rank < 2)
		width = t->shape[0];
	else
		width = t->shape[1] * t->shape[2] * t->shape[3];
	if (row < 0 || rows < 0 || row > INT64_MAX / 2 || rows > INT64_MAX / 2
	    || (width && row + rows > INT64_MAX / width))
		return qat_fail(QAT_EINVAL, "%s: tensor \"%s\": no such rows",
				qat_st_path(n->tensors), p->name);
	return qat_st_read(n->tensors, t, out, row * width, rows * width);
}

static const char *native_tensor_name(void *file, int64_t index)
{
	const native *n = file;
	const qat_st_tensor *t = qat_st_at(n->tensors, index);

	return t ? t->name : NULL;
}

/* from NULL: all tensors have their data. */
static int tensors_write(const char *path, const qat_tensor *const *tensors, int64_t count,
			 const qat_checkpoint *from)
{
	static const char *const metadata[] = { "format", "qatrun", NULL };
	qat_st_item *items = calloc((size_t)count + 1, sizeof *items);
	int rc;

	if (!items)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", path);
	for (int64_t i = 0; i < count; i++)
		items[i] = (qat_st_item){ .name = tensors[i]->name, .tensor = tensors[i],
					  .from = from, .index = i };
	rc = qat_st_write(path, items, count, metadata);
	free(items);
	return rc;
}

static int native_write(const char *path, const qat_tensor *const *tensors, int64_t count)
{
	return tensors_write(path, tensors, count, NULL);
}

static int native_save(const char *path, const qat_checkpoint *c)
{
	qat_draft folder = { 0 };
	char *tensors = NULL;
	int rc;

	if (!c->docs[QAT_DOC_STATE].at)
		return qat_fail(QAT_EINVAL, "%s: a state without %s cannot be saved", path,
				doc_names[QAT_DOC_STATE]);
	rc = qat_folder_begin(&folder, path);
	for (int i = 0; !rc && i < QAT_DOCS; i++)
		if (doc_names[i])
			rc = qat_folder_text(&folder, doc_names[i], c->docs[i]);
	if (rc)
		goto out;
	tensors = qat_path_join(folder.temp, TENSORS);
	rc = tensors ? tensors_write(tensors, c->tensors, c->n_tensors, c) : QAT_ENOMEM;
	if (!rc)
		rc = qat_folder_commit(&folder);
out:
	free(tensors);
	qat_folder_end(&folder);
	return rc;
}

static void native_let_go(void *file)
{
	qat_st_let_go(((const native *)file)->tensors);
}

static const qat_format native_vtable = {
	.size = sizeof(qat_format),
	.probe = native_probe,
	.open = native_open,
	.close = native_close,
	.document = native_document,
	.find = native_find,
	.read = native_read,
	.tensor_name = native_tensor_name,
	.save = native_save,
	.write = native_write,
	.let_go = native_let_go,
};

static const qat_interface native_interface = {
	.size = sizeof(qat_interface),
	.kind = QAT_KIND_FORMAT,
	.name = "native",
	.summary = "qatrun's own checkpoints: states with all their schemes",
	.vtable = &native_vtable,
	.flags = QAT_IS_NATIVE,
};

static const qat_interface *const native_all[] = { &native_interface };

QAT_PLUGIN("native", native_all);
