/* gguf.c - GGUF files as a format: parameters by the names of the store, rows as f32.
 *
 * For the architecture llama, writers reorder the rows of attn_q and attn_k so that
 * rotated pairs are neighbours: in a head of d rows, new row r is old row
 * (r % 2) d / 2 + r / 2. The store has the old order. */
#include <stdlib.h>
#include <string.h>
#include "gguf.h"

typedef struct { const char *ours, *theirs; } name_pair;

/* Between "layers.<n>." or nothing, and ".weight" or ".bias". */
static const name_pair layer_names[] = {
	{ "norm1", "attn_norm" }, { "norm2", "ffn_norm" }, { "attn.q", "attn_q" },
	{ "attn.k", "attn_k" }, { "attn.v", "attn_v" }, { "attn.o", "attn_output" },
	{ "attn.qkv", "attn_qkv" }, { "mlp.gate", "ffn_gate" }, { "mlp.up", "ffn_up" },
	{ "mlp.down", "ffn_down" }, { NULL, NULL },
};
static const name_pair model_names[] = {
	{ "embed", "token_embd" }, { "positions", "position_embd" }, { "norm", "output_norm" },
	{ "lm_head", "output" }, { NULL, NULL },
};

static int gguf_probe(const char *path)
{
	return qat_path_begins(path, "GGUF", 4);
}

static int gguf_open(void **file, const char *path)
{
	qat_gguf *g;
	const int rc = qat_gguf_open(&g, path);

	if (!rc)
		*file = g;
	return rc;
}

static void gguf_close(void *file)
{
	qat_gguf_close(file);
}

static int gguf_document(void *file, uint32_t which, qat_text *out)
{
	static int (*const make[QAT_DOCS])(char **text, const qat_gguf *from) = {
		[QAT_DOC_CONFIG] = qat_gguf_config,
		[QAT_DOC_TOKENIZER] = qat_gguf_tokenizer,
		[QAT_DOC_TOKENIZER_CONFIG] = qat_gguf_tokenizer_config,
	};
	qat_gguf *g = file;

	*out = (qat_text){ 0 };
	if (which >= QAT_DOCS || !make[which])
		return QAT_OK;
	if (!g->docs[which]) {
		const int rc = make[which](&g->docs[which], g);

		if (rc)
			return rc;
	}
	if (g->docs[which])
		*out = (qat_text){ .at = g->docs[which],
				   .length = (int64_t)strlen(g->docs[which]) };
	return QAT_OK;
}

/* ---- names ---- */

static const char *theirs(const name_pair *pairs, const char *name, size_t length)
{
	for (; pairs->ours; pairs++)
		if (strlen(pairs->ours) == length && !memcmp(pairs->ours, name, length))
			return pairs->theirs;
	return NULL;
}

/* "layers.3.attn.q.weight" -> "blk.3.attn_q.weight"; 0 for a name that has no place. */
static int name_translate(char *out, const char *name)
{
	const char *end = strrchr(name, '.'), *at = name, *found;
	int layer = -1, used = 0;
	int n;

	if (!end)
		return 0;
	if (sscanf(name, "layers.%9d.%n", &layer, &used) == 1 && used && layer >= 0)
		at += used;
	if (end < at)
		return 0;
	found = theirs(at > name ? layer_names : model_names, at, (size_t)(end - at));
	if (!found)
		return 0;
	if (at > name)
		n = snprintf(out, GGUF_NAME, "blk.%d.%s%s", layer, found, end);
	else
		n = snprintf(out, GGUF_NAME, "%s%s", found, end);
	return n > 0 && n < GGUF_NAME;
}

static const qat_gguf_tensor *param_tensor(const qat_gguf *g, const qat_param *p)
{
	char name[GGUF_NAME];

	return name_translate(name, p->name) ? qat_gguf_tensor_find(g, name) : NULL;
}

/* ---- tensors ---- */

static int is_reordered(const qat_gguf *g, const qat_param *p)
{
	return g->arch->interleaved && (p->flags & QAT_PARAM_ROPE_ROWS);
}

static int64_t rows_of(const qat_gguf_tensor *t)
{
	return t->rank < 2 ? t->dims[0] : t->dims[1] * t->dims[2] * t->dims[3];
}

/* That the tensor can be read as this parameter. */
static int tensor_check(const qat_gguf *g, const qat_gguf_tensor *t, const qat_param *p)
{
	if (!t->type->values)
		return qat_fail(QAT_ENOTSUP, "%s: tensor \"%s\" is of type %s, which is not read",
				g->path, t->name, t->type->name);
	if (is_reordered(g, p) && (t->rank > 2 || p->heads < 1 || rows_of(t) % p->heads
				   || rows_of(t) / p->heads % 2))
		return qat_fail(QAT_EFORMAT, "%s: tensor \"%s\": %lld rows are not %lld heads of "
				"rotated pairs", g->path, t->name, (long long)rows_of(t),
				(long long)p->heads);
	return QAT_OK;
}

/* The types that the store has too, where data is aligned to them. */
static uint32_t plain_dtype(const qat_gguf_tensor *t)
{
	const uint32_t dtype = t->type->id == GGUF_F32 ? QAT_F32
			     : t->type->id == GGUF_F16 ? QAT_F16
			     : t->type->id == GGUF_BF16 ? QAT_BF16 : 0;

	return dtype && (uintptr_t)t->data % (uintptr_t)qat_dtype_bytes(dtype) == 0 ? dtype : 0;
}

static int gguf_find(void *file, const qat_param *p, qat_tensor *out)
{
	const qat_gguf *g = file;
	const qat_gguf_tensor *t = param_tensor(g, p);
	uint32_t dtype;
	int64_t elements = 1;
	int rc;

	if (!t)
		return QAT_ENOTFOUND;
	rc = tensor_check(g, t, p);
	if (rc)
		return rc;
	dtype = plain_dtype(t);
	*out = (qat_tensor){ .size = sizeof *out, .dtype = dtype ? dtype : QAT_F32,
			     .rank = t->rank, .shape = { 1, 1, 1, 1 }, .name = t->name };
	for (int64_t i = 0; i < t->rank; i++) {
		out->shape[i] = t->dims[t->rank - 1 - i];
		elements *= out->shape[i];
	}
	if (__builtin_mul_overflow(elements, qat_dtype_bytes(out->dtype), &out->bytes))
		return qat_fail(QAT_EFORMAT, "%s: tensor \"%s\": an impossible shape", g->path,
				t->name);
	if (dtype && !is_reordered(g, p))
		out->data = (void *)(uintptr_t)t->data;
	return QAT_OK;
}

/* Where the file has row `row` of the store. */
static int64_t row_in_file(int64_t row, int64_t head_rows)
{
	const int64_t o = row % head_rows, half = head_rows / 2;

	return row - o + o % half * 2 + o / half;
}

static int rows_read(const qat_gguf *g, const qat_gguf_tensor *t, const qat_param *p, float *out,
		     int64_t row, int64_t rows)
{
	const int64_t head_rows = is_reordered(g, p) ? rows_of(t) / p->heads : 0;

	for (int64_t i = 0; i < rows; i++) {
		const int64_t from = head_rows ? row_in_file(row + i, head_rows) : row + i;

		qat_gguf_values(t, out + i * t->dims[0], t->data + from * t->row_bytes, t->dims[0]);
	}
	return QAT_OK;
}

/* A bias of reordered rows is reordered as well. */
static int vector_read(const qat_gguf *g, const qat_gguf_tensor *t, const qat_param *p, float *out)
{
	const int64_t n = t->dims[0];
	float *all;

	if (!is_reordered(g, p)) {
		qat_gguf_values(t, out, t->data, n);
		return QAT_OK;
	}
	all = malloc((size_t)n * sizeof *all);
	if (!all)
		return qat_fail(QAT_ENOMEM, "%s: out of memory for \"%s\"", g->path, t->name);
	qat_gguf_values(t, all, t->data, n);
	for (int64_t i = 0; i < n; i++)
		out[i] = all[row_in_file(i, n / p->heads)];
	free(all);
	return QAT_OK;
}

static int gguf_read(void *file, const qat_param *p, float *out, int64_t row, int64_t rows)
{
	const qat_gguf *g = file;
	const qat_gguf_tensor *t = param_tensor(g, p);
	int64_t have;
	int rc;

	if (!t)
		return qat_fail(QAT_ENOTFOUND, "%s: no tensor for \"%s\"", g->path, p->name);
	rc = tensor_check(g, t, p);
	if (rc)
		return rc;
	have = t->rank < 2 ? 1 : rows_of(t);
	if (row < 0 || rows < 0 || row > have || rows > have - row)
		return qat_fail(QAT_EINVAL, "%s: tensor \"%s\" has %lld rows, no %lld from %lld",
				g->path, t->name, (long long)have, (long long)rows,
				(long long)row);
	if (t->rank < 2)
		return rows ? vector_read(g, t, p, out) : QAT_OK;
	return rows_read(g, t, p, out, row, rows);
}

static const char *gguf_tensor_name(void *file, int64_t index)
{
	const qat_gguf *g = file;
	const char *name = index >= 0 && index < g->n_tensors ? g->tensors[index].name : NULL;

	return name && !strcmp(name, GGUF_ROPE_FREQS) ? "" : name;
}

static void gguf_let_go(void *file)
{
	qat_map_let_go(&((const qat_gguf *)file)->map);
}

static const qat_format gguf_vtable = {
	.size = sizeof(qat_format),
	.probe = gguf_probe,
	.open = gguf_open,
	.close = gguf_close,
	.document = gguf_document,
	.find = gguf_find,
	.read = gguf_read,
	.tensor_name = gguf_tensor_name,
	.let_go = gguf_let_go,
};

static const qat_interface gguf_interface = {
	.size = sizeof(qat_interface),
	.kind = QAT_KIND_FORMAT,
	.name = "gguf",
	.summary = "GGUF files of llama.cpp, read; quantized blocks become f32",
	.vtable = &gguf_vtable,
};

static const qat_interface *const gguf_all[] = { &gguf_interface };

QAT_PLUGIN("gguf", gguf_all);
