/* tokenize.c - the token ids of a data set, as a file: how anyone holds our tokenizers
 * against another program's. The model does not run.
 */
#include "task_kit.h"

#include <stdlib.h>

typedef struct tokenize_options {
	const char *of, *data, *path;
} tokenize_options;

static const qat_option options[] = {
	QAT_OPTION(tokenize_options, QAT_OPT_STATE, of, "state whose tokenizer encodes",
		   .text = "base"),
	QAT_OPTION(tokenize_options, QAT_OPT_DATA, data, "data set", .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(tokenize_options, QAT_OPT_STRING, path, "file under the output",
		   .flags = QAT_OPT_REQUIRED),
	QAT_END
};

/* Sequence i becomes row i: its tokens, then its last label, or 0 where that is not scored.
 * labels has room for one sequence. */
static int fill(int32_t *rows, int32_t *labels, const qat_data *d)
{
	const int64_t length = qat_api->data_length(d), n = qat_api->data_count(d);

	for (int64_t i = 0; i < n; i++) {
		int32_t *row = rows + i * (length + 1);
		const int rc = qat_api->data_get(d, i, row, labels);

		if (rc)
			return rc;
		row[length] = labels[length - 1] >= 0 ? labels[length - 1] : 0;
	}
	return QAT_OK;
}

static int write(const tokenize_options *o, qat_step *s, const qat_data *d)
{
	const int64_t length = qat_api->data_length(d), n = qat_api->data_count(d);
	qat_tensor t = { .size = sizeof t, .dtype = QAT_I32, .rank = 2, .name = "tokens",
			 .shape = { n, length + 1, 1, 1 } };
	const qat_tensor *at = &t;
	int32_t *labels = NULL;
	int rc;

	if (__builtin_mul_overflow(n * 4, length + 1, &t.bytes))
		return qat_fail(QAT_EINVAL, "data %s: too many tokens", o->data);
	t.data = malloc((size_t)t.bytes);
	labels = malloc((size_t)length * sizeof *labels);
	rc = t.data && labels ? fill(t.data, labels, d)
			      : qat_fail(QAT_ENOMEM, "tokenize: out of memory");
	if (!rc)
		rc = qat_api->dump(s, o->path, &at, 1);
	free(labels);
	free(t.data);
	return rc;
}

static int run(const void *self, qat_step *s)
{
	const tokenize_options *o = self;
	qat_data *d;
	int rc = qat_api->data_open(s, &d, o->data, o->of);

	if (rc)
		return rc;
	rc = write(o, s, d);
	qat_api->data_close(d);
	return rc;
}

static const qat_task task = { .size = sizeof task, .run = run };

static const qat_interface tokenize = {
	.size = sizeof tokenize, .kind = QAT_KIND_TASK, .name = "tokenize",
	.summary = "token ids of a data set, to a file",
	.options = options, .options_size = sizeof(tokenize_options), .vtable = &task,
};

static const qat_interface *const interfaces[] = { &tokenize };
QAT_PLUGIN_INIT("tokenize", interfaces, qat_task_init);
