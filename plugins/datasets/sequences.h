/* sequences.h - what data sets of files share: how a file is opened, and what is refused
 * before one is. */
#ifndef QAT_DATASETS_SEQUENCES_H
#define QAT_DATASETS_SEQUENCES_H

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <qatrun/dataset.h>

/* A plain file. Looked at before it is opened: opening a pipe would wait for its writer. */
static inline int sequences_file(FILE **out, const char *path, const char *set)
{
	struct stat st;

	if (!stat(path, &st) && !S_ISREG(st.st_mode))
		return qat_fail(QAT_EINVAL, "data %s: %s is not a plain file", set, path);
	*out = fopen(path, "rb");
	return *out ? QAT_OK : qat_fail(QAT_EIO, "data %s: %s: %s", set, path, strerror(errno));
}

static inline int sequences_check(int64_t add_bos, const qat_dataset_env *env)
{
	if (add_bos && env->bos < 0)
		return qat_fail(QAT_EINVAL, "data %s: add_bos: true, but the tokenizer has no BOS "
				"token", env->name);
	if (env->length < 1)
		return qat_fail(QAT_EINVAL, "data %s: length %lld: at least 1", env->name,
				(long long)env->length);
	return QAT_OK;
}

#endif
