/* step_data.c - data sets as tasks see them. Each is opened once in a run, with the
 * tokenizer and the vocabulary of its base, which all of its states share, and stays open:
 * closing does nothing. */
#include "step_internal.h"

#include <stdlib.h>
#include <string.h>

#include <qatrun/dataset.h>

#include "error.h"

struct qat_data {
	const qat_dataset *api;
	void *handle;
	int64_t length, count;
};

static int encode(void *context, const char *text, int64_t bytes, int32_t **ids, int64_t *count)
{
	const qat_context *c = context;
	qat_ids out = { 0 };
	const int rc = c->tokenizer->encode(c->tokenizer_handle, text, bytes, &out);

	*ids = out.at;
	*count = out.count;
	return rc;
}

static void release(void *context, int32_t *ids)
{
	((const qat_context *)context)->tokenizer->release(ids);
}

/* Data sets begin with "data <name>: ", which the place in the file says already. */
static const char *without_name(const char *message, const char *name)
{
	const size_t n = strlen(name);

	return !strncmp(message, "data ", 5) && !strncmp(message + 5, name, n) &&
	       !strncmp(message + 5 + n, ": ", 2) ? message + 7 + n : message;
}

static int open_set(qat_context *c, qat_data *d, const qat_pipeline_item *item,
		    qat_dataset_env *env)
{
	const qat_state *base;
	int rc = qat_context_state(c, &base, "base");

	if (!rc)
		rc = qat_context_tokenizer(c);
	if (rc == QAT_ENOTFOUND && !c->tokenizer) {
		rc = QAT_OK;		/* data of ids needs none */
	} else if (!rc) {
		env->encode = encode;
		env->release = release;
		env->bos = c->tokenizer->special(c->tokenizer_handle, QAT_TOKEN_BOS);
	}
	if (rc)
		return rc;
	d->api = item->plugin.vtable;
	env->vocabulary = base->info.vocabulary;
	env->length = d->length = d->api->length(item->plugin.self);
	env->limit = d->api->limit(item->plugin.self);
	rc = d->api->open(&d->handle, item->plugin.self, env);
	if (rc) {
		const char *why = env->encode ? NULL : base->tokenizer_error;

		return qat_yaml_fail(item->node, rc, "%s%s%s", without_name(qat_error(), item->name),
				     why ? ": " : "", why ? why : "");
	}
	d->count = d->api->count(d->handle);
	return QAT_OK;
}

int qat_step_data_open(qat_step *s, qat_data **out, const char *name, const char *state)
{
	qat_context *c = s->context;
	const int64_t i = qat_pipeline_data_index(c->p, name);
	qat_dataset_env env = { .size = sizeof env, .bos = -1, .context = c, .name = name };
	qat_data *d;
	int rc;

	(void)state;
	if (i < 0)
		return qat_fail(QAT_ENOTFOUND, "data %s: not defined", name);
	if (!c->data[i]) {
		d = calloc(1, sizeof *d);
		rc = d ? open_set(c, d, &c->p->data[i], &env)
		       : qat_fail(QAT_ENOMEM, "data %s: out of memory", name);
		if (rc) {
			free(d);
			return rc;
		}
		c->data[i] = d;
	}
	*out = c->data[i];
	return QAT_OK;
}

void qat_step_data_close(qat_data *d)
{
	(void)d;
}

void qat_data_free(qat_data *d)
{
	if (d)
		d->api->close(d->handle);
	free(d);
}

int64_t qat_step_data_count(const qat_data *d) { return d->count; }
int64_t qat_step_data_length(const qat_data *d) { return d->length; }

int qat_step_data_get(const qat_data *d, int64_t i, int32_t *tokens, int32_t *labels)
{
	if (i < 0 || i >= d->count)
		return qat_fail(QAT_EINVAL, "data: there is no sequence %lld", (long long)i);
	return d->api->get(d->handle, i, tokens, labels);
}
