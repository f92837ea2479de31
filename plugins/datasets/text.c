/* text.c - plain text: each file is encoded whole, the ids of all files follow each
 * other. Sequence i is ids[i * L .. i * L + L]: L tokens, each scored by the next id;
 * the tail is dropped.
 */
#include <stdlib.h>

#include "sequences.h"

typedef struct text_options {
	qat_strings files;
	int64_t length, limit, add_bos;
} text_options;

static const qat_option text_table[] = {
	QAT_OPTION(text_options, QAT_OPT_PATHS, files, "text files, in order",
		   .flags = QAT_OPT_REQUIRED),
	QAT_OPTION(text_options, QAT_OPT_INT, length, "tokens of a sequence",
		   .flags = QAT_OPT_REQUIRED, .min = 1, .max = 1 << 24),
	QAT_INT(text_options, limit, 0, 0, INT64_C(1) << 53, "first n sequences; 0: all"),
	QAT_BOOL(text_options, add_bos, 0, "begin each file with the BOS token"),
	QAT_END
};

typedef struct text_set {
	int32_t *ids;
	int64_t n_ids, room;
	int64_t length, count;
} text_set;

/* All bytes of a regular file. */
static int read_whole(char **out, int64_t *bytes, const char *path, const char *set)
{
	FILE *f;
	struct stat st;
	char *text = NULL;
	int rc = sequences_file(&f, path, set);

	if (rc)
		return rc;
	if (fstat(fileno(f), &st)) {
		rc = qat_fail(QAT_EIO, "data %s: %s: %s", set, path, strerror(errno));
		goto out;
	}
	text = malloc((size_t)st.st_size + 1);
	if (!text) {
		rc = qat_fail(QAT_ENOMEM, "data %s: no memory for %s, %lld bytes", set, path,
			      (long long)st.st_size);
		goto out;
	}
	if (fread(text, 1, (size_t)st.st_size, f) != (size_t)st.st_size) {
		rc = qat_fail(QAT_EIO, "data %s: %s: could not read its %lld bytes", set, path,
			      (long long)st.st_size);
		goto out;
	}
	*out = text;
	*bytes = st.st_size;
	text = NULL;
out:
	free(text);
	fclose(f);
	return rc;
}

static int reserve(text_set *s, int64_t more, const char *name)
{
	int64_t room = s->n_ids + more;
	int32_t *ids;

	if (room <= s->room)
		return QAT_OK;
	if (room > INT64_MAX / 8)
		return qat_fail(QAT_EINVAL, "data %s: too many tokens", name);
	ids = realloc(s->ids, (size_t)room * sizeof *ids);
	if (!ids)
		return qat_fail(QAT_ENOMEM, "data %s: no memory for %lld tokens", name,
				(long long)room);
	s->ids = ids;
	s->room = room;
	return QAT_OK;
}

static int append(text_set *s, const int32_t *ids, int64_t n, const qat_dataset_env *env,
		  const char *path)
{
	int rc = reserve(s, n, env->name);

	if (rc)
		return rc;
	for (int64_t i = 0; i < n; i++) {
		if (ids[i] < 0 || ids[i] >= env->vocabulary)
			return qat_fail(QAT_EINVAL, "data %s: %s: token %d is outside the "
					"model's vocabulary of %lld: is this the model's "
					"tokenizer?", env->name, path, (int)ids[i],
					(long long)env->vocabulary);
		s->ids[s->n_ids++] = ids[i];
	}
	return QAT_OK;
}

static int add_file(text_set *s, const char *path, const text_options *o,
		    const qat_dataset_env *env)
{
	const int32_t bos = (int32_t)env->bos;
	char *text = NULL;
	int32_t *ids = NULL;
	int64_t bytes = 0, n = 0;
	int rc = read_whole(&text, &bytes, path, env->name);

	if (rc)
		return rc;
	rc = env->encode(env->context, text, bytes, &ids, &n);
	free(text);
	if (!rc && o->add_bos)
		rc = append(s, &bos, 1, env, path);
	if (!rc)
		rc = append(s, ids, n, env, path);
	if (ids)
		env->release(env->context, ids);
	return rc;
}

static int check_env(const text_options *o, const qat_dataset_env *env)
{
	if (!env->encode)
		return qat_fail(QAT_EINVAL, "data %s: text needs a tokenizer, and the model has "
				"none: say model: {tokenizer: ...}", env->name);
	return sequences_check(o->add_bos, env);
}

static void text_close(void *set)
{
	text_set *s = set;

	if (!s)
		return;
	free(s->ids);
	free(s);
}

static int text_open(void **out, const void *self, const qat_dataset_env *env)
{
	const text_options *o = self;
	text_set *s;
	int rc = check_env(o, env);

	if (rc)
		return rc;
	s = calloc(1, sizeof *s);
	if (!s)
		return qat_fail(QAT_ENOMEM, "data %s: no memory", env->name);
	for (int64_t i = 0; i < o->files.count && !rc; i++)
		rc = add_file(s, o->files.at[i], o, env);
	s->length = env->length;
	s->count = s->n_ids ? (s->n_ids - 1) / s->length : 0;
	if (!rc && !s->count)
		rc = qat_fail(QAT_EINVAL, "data %s: %lld tokens, but one sequence of length %lld "
			      "needs %lld: shorten the length or add text", env->name,
			      (long long)s->n_ids, (long long)s->length,
			      (long long)s->length + 1);
	if (rc) {
		text_close(s);
		return rc;
	}
	if (env->limit > 0 && env->limit < s->count)
		s->count = env->limit;
	*out = s;
	return QAT_OK;
}

static int64_t text_count(const void *set)
{
	return ((const text_set *)set)->count;
}

static int text_get(const void *set, int64_t i, int32_t *tokens, int32_t *labels)
{
	const text_set *s = set;
	const size_t bytes = (size_t)s->length * sizeof *tokens;

	if (!tokens || !labels || i < 0 || i >= s->count)
		return qat_fail(QAT_EINVAL, "text: sequence %lld of %lld", (long long)i,
				(long long)s->count);
	memcpy(tokens, s->ids + i * s->length, bytes);
	memcpy(labels, s->ids + i * s->length + 1, bytes);
	return QAT_OK;
}

static int64_t text_length(const void *self)
{
	return ((const text_options *)self)->length;
}

static int64_t text_limit(const void *self)
{
	return ((const text_options *)self)->limit;
}

static const qat_dataset text_vtable = {
	.size = sizeof(qat_dataset),
	.length = text_length,
	.limit = text_limit,
	.open = text_open,
	.close = text_close,
	.count = text_count,
	.get = text_get,
};

static const qat_interface text_interface = {
	.size = sizeof(qat_interface),
	.kind = QAT_KIND_DATASET,
	.name = "text",
	.summary = "plain text, encoded whole and cut into sequences",
	.options = text_table,
	.options_size = sizeof(text_options),
	.vtable = &text_vtable,
};

static const qat_interface *const text_all[] = { &text_interface };

QAT_PLUGIN("text", text_all);
