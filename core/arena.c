/* arena.c - memory that is freed all at once. */
#include "arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

enum { BLOCK = 8 << 10 };

struct block {
	struct block *next;
	size_t used, size;
	max_align_t data[];
};

struct qat_arena {
	struct block *blocks;	/* the first is the one that is filled */
};

int qat_arena_new(qat_arena **out)
{
	qat_arena *a = calloc(1, sizeof *a);

	if (!a)
		return qat_fail(QAT_ENOMEM, "out of memory");
	*out = a;
	return QAT_OK;
}

void qat_arena_free(qat_arena *a)
{
	struct block *next;

	if (!a)
		return;
	for (struct block *b = a->blocks; b; b = next) {
		next = b->next;
		free(b);
	}
	free(a);
}

void *qat_arena_alloc(qat_arena *a, size_t size)
{
	const size_t unit = _Alignof(max_align_t);
	struct block *b = a->blocks;
	void *p;

	size = size <= SIZE_MAX / 2 ? (size + unit - 1) / unit * unit : SIZE_MAX / 2;
	if (!b || b->size - b->used < size) {
		size_t room = size > BLOCK ? size : BLOCK;

		b = calloc(1, sizeof *b + room);
		if (!b) {
			qat_fail(QAT_ENOMEM, "out of memory");
			return NULL;
		}
		b->size = room;
		b->next = a->blocks;
		a->blocks = b;
	}
	p = (char *)b->data + b->used;
	b->used += size;
	return p;
}

void *qat_arena_array(qat_arena *a, size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		bytes = SIZE_MAX;
	return qat_arena_alloc(a, bytes);
}

const char *qat_arena_text(qat_arena *a, const char *text)
{
	size_t size = text ? strlen(text) + 1 : 0;
	char *copy = text ? qat_arena_alloc(a, size) : NULL;

	if (copy)
		memcpy(copy, text, size);
	return copy;
}

const char *qat_arena_format(qat_arena *a, const char *fmt, ...)
{
	va_list ap, again;
	char *text = NULL;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	if (n >= 0)
		text = qat_arena_alloc(a, (size_t)n + 1);
	if (text)
		vsnprintf(text, (size_t)n + 1, fmt, again);
	va_end(again);
	va_end(ap);
	return text;
}
