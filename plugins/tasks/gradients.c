/* gradients.c - the gradient of the mean loss over a data set, of every parameter, as a
 * file of tensors under the parameters' names: how anyone holds our backward pass
 * against another program's.
 */
#include "task_kit.h"

#include <stdlib.h>

typedef struct gradients_options {
	const char *of, *sites, *data, *path;
	int64_t batch;
} gradients_options;

static const qat_option options[] = {
	QAT_OPTION(gradients_options, QAT_OPT_STATE, of, "state to differentiate at",
		   .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(gradients_options, QAT_OPT_SITES, sites, "schemes; default: the state's own",
		   .flags = 0),
	QAT_OPTION(gradients_options, QAT_OPT_DATA, data, "data set", .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(gradients_options, QAT_OPT_STRING, path, "file under the output",
		   .flags = QAT_OPT_REQUIRED),
	QAT_INT(gradients_options, batch, 4, 1, 65536, "sequences at once; must divide them"),
	QAT_END
};

typedef struct work {
	const gradients_options *o;
	qat_step *step;
	qat_data *data;
	qat_session *session;
	int64_t length, sequences, scored;
	int32_t *tokens, *labels;
	float *g;
} work;

static int load(work *w, int64_t first)
{
	for (int64_t i = 0; i < w->o->batch; i++) {
		const int rc = qat_api->data_get(w->data, first + i, w->tokens + i * w->length,
						 w->labels + i * w->length);

		if (rc)
			return rc;
	}
	return QAT_OK;
}

static int count_scored(work *w)
{
	for (int64_t i = 0; i < w->sequences; i += w->o->batch) {
		const int rc = load(w, i);

		if (rc)
			return rc;
		for (int64_t t = 0; t < w->o->batch * w->length; t++)
			w->scored += w->labels[t] >= 0;
	}
	return w->scored ? QAT_OK : qat_fail(QAT_EINVAL, "data %s: no label is scored",
					     w->o->data);
}

static int backward(work *w)
{
	const int64_t n = w->o->batch * w->length;

	for (int64_t i = 0; i < w->sequences; i += w->o->batch) {
		const qat_batch b = { .size = sizeof b, .tokens = w->tokens, .labels = w->labels,
				      .loss_gradient = w->g, .sequence = i };
		int rc = load(w, i);

		for (int64_t t = 0; t < n; t++)
			w->g[t] = w->labels[t] >= 0 ? (float)(1.0 / (double)w->scored) : 0.0f;
		if (!rc)
			rc = qat_api->backward(w->session, &b);
		if (rc)
			return rc;
	}
	return QAT_OK;
}

static int read_one(work *w, qat_tensor *t, int64_t i, const char *name, int64_t elements)
{
	*t = (qat_tensor){ .size = sizeof *t, .dtype = QAT_F32, .rank = 1,
			   .shape = { elements, 1, 1, 1 }, .name = name, .bytes = elements * 4 };
	t->data = malloc((size_t)t->bytes);
	return t->data ? qat_api->param_gradient(w->session, i, t->data)
		       : qat_fail(QAT_ENOMEM, "gradients: out of memory");
}

static int write(work *w)
{
	qat_tensor *tensors = NULL;
	const qat_tensor **at = NULL;
	int64_t count = 0, elements;
	const char *name;
	int rc = QAT_OK;

	while (qat_api->param_name(w->session, count, &elements))
		count++;
	tensors = calloc((size_t)count + 1, sizeof *tensors);
	at = calloc((size_t)count + 1, sizeof *at);
	if (!tensors || !at)
		rc = qat_fail(QAT_ENOMEM, "gradients: out of memory");
	for (int64_t i = 0; i < count && !rc; i++) {
		name = qat_api->param_name(w->session, i, &elements);
		rc = read_one(w, &tensors[i], i, name, elements);
		at[i] = &tensors[i];
	}
	if (!rc)
		rc = qat_api->dump(w->step, w->o->path, at, count);
	for (int64_t i = 0; tensors && i < count; i++)
		free(tensors[i].data);
	free(tensors);
	free(at);
	return rc;
}

static int start(work *w)
{
	qat_session_spec spec = { .size = sizeof spec, .mode = QAT_SESSION_TRAIN,
				  .state = w->o->of, .sites = w->o->sites, .batch = w->o->batch };
	size_t n;
	int rc = qat_api->data_open(w->step, &w->data, w->o->data, w->o->of);

	if (rc)
		return rc;
	w->length = spec.length = qat_api->data_length(w->data);
	w->sequences = qat_api->data_count(w->data);
	if (w->sequences % w->o->batch)
		return qat_fail(QAT_EINVAL, "batch %lld does not divide the %lld sequences of %s",
				(long long)w->o->batch, (long long)w->sequences, w->o->data);
	spec.accumulate = w->sequences / w->o->batch;
	n = (size_t)(w->o->batch * w->length);
	w->tokens = malloc(n * sizeof *w->tokens);
	w->labels = malloc(n * sizeof *w->labels);
	w->g = malloc(n * sizeof *w->g);
	if (!w->tokens || !w->labels || !w->g)
		return qat_fail(QAT_ENOMEM, "gradients: out of memory");
	return qat_api->open(w->step, &w->session, &spec);
}

static int run(const void *self, qat_step *s)
{
	work w = { .o = self, .step = s };
	int rc = start(&w);

	if (!rc)
		rc = count_scored(&w);
	if (!rc)
		rc = backward(&w);
	if (!rc)
		rc = write(&w);
	qat_api->close(w.session);
	qat_api->data_close(w.data);
	free(w.tokens);
	free(w.labels);
	free(w.g);
	return rc;
}

static int session(const void *self, qat_step *s, int64_t index, qat_session_spec *out)
{
	const gradients_options *o = self;
	int64_t count;

	if (index)
		return QAT_ENOTFOUND;
	out->mode = QAT_SESSION_TRAIN;
	out->state = o->of;
	out->sites = o->sites;
	out->batch = o->batch;
	return qat_data_size(s, o->data, o->of, &out->length, &count);
}

static int check(const void *self, qat_step *s)
{
	return qat_api->path_check(s, ((const gradients_options *)self)->path);
}

static const qat_task task = { .size = sizeof task, .check = check, .run = run,
			       .session = session };

static const qat_interface gradients = {
	.size = sizeof gradients, .kind = QAT_KIND_TASK, .name = "gradients",
	.summary = "gradient of the mean loss, of every parameter, to a file",
	.options = options, .options_size = sizeof(gradients_options), .vtable = &task,
};

static const qat_interface *const interfaces[] = { &gradients };
QAT_PLUGIN_INIT("gradients", interfaces, qat_task_init);
