/* json.h - jansson's parser and printer where memory is short; for plugins with JSON.
 *
 * Where an allocation fails, jansson 2.14 says "invalid token", or drops a byte of a text
 * of more than 15 without a word, so that a key is another one; and it prints keys without
 * their last quote; and what follows a byte that was dropped may be an escape that is none, at
 * which it aborts or reads on past the text. Only the allocator knows better: once it has failed,
 * it goes on to fail, so that the text is not looked at again. It is the process's, so this is for
 * one thread at a time, as loading is.
 */
#ifndef QATRUN_JSON_H
#define QATRUN_JSON_H

#include <jansson.h>
#include <stdlib.h>

#include <qatrun/abi.h>

static int qat_json_short_;	/* an allocation has failed since it was cleared */

static inline void *qat_json_alloc_(size_t size)
{
	void *p = qat_json_short_ ? NULL : malloc(size);

	if (!p)
		qat_json_short_ = 1;
	return p;
}

/* What json_set_alloc_funcs takes, while it is ours. */
typedef struct qat_json_funcs_ {
	json_malloc_t get;
	json_free_t put;
} qat_json_funcs_;

static inline void qat_json_begin_(qat_json_funcs_ *f)
{
	json_get_alloc_funcs(&f->get, &f->put);
	json_set_alloc_funcs(qat_json_alloc_, f->put);
	qat_json_short_ = 0;
}

static inline void qat_json_end_(const qat_json_funcs_ *f)
{
	json_set_alloc_funcs(f->get, f->put);
}

/* From a text or, where that is NULL, from the file `path`. */
static inline int qat_json_read_(json_t **out, json_error_t *e, const char *text, size_t length,
				 const char *path, size_t flags)
{
	qat_json_funcs_ f;

	qat_json_begin_(&f);
	*out = text ? json_loadb(text, length, flags, e) : json_load_file(path, flags, e);
	qat_json_end_(&f);
	if (!qat_json_short_)
		return *out ? QAT_OK : QAT_EFORMAT;
	json_decref(*out);
	*out = NULL;
	return QAT_ENOMEM;
}

/* json_loadb(). QAT_EFORMAT: *e says where and what; QAT_ENOMEM: it says nothing of use.
 * No message is left: the caller knows what the text is. *out is NULL where it fails. */
static inline __attribute__((unused)) int
qat_json_parse(json_t **out, json_error_t *e, const char *text, int64_t length, size_t flags)
{
	return qat_json_read_(out, e, text ? text : "", text ? (size_t)length : 0, NULL, flags);
}

/* json_load_file(), the same way; a file that cannot be opened is QAT_EFORMAT. */
static inline __attribute__((unused)) int
qat_json_parse_file(json_t **out, json_error_t *e, const char *path, size_t flags)
{
	return qat_json_read_(out, e, NULL, 0, path, flags);
}

/* json_dumps(): for free(); NULL where memory ran out. */
static inline __attribute__((unused)) char *qat_json_print(const json_t *value, size_t flags)
{
	qat_json_funcs_ f;
	char *text;

	qat_json_begin_(&f);
	text = json_dumps(value, flags);
	qat_json_end_(&f);
	if (!qat_json_short_)
		return text;
	free(text);
	return NULL;
}

#endif
