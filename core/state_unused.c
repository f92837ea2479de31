/* state_unused.c - tensors of a file that no parameter reads. A config with fewer layers than
 * the file, or without its biases, would make another model of it without a word. */
#include "state_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

enum { SHOWN = 3 };

typedef struct used {
	const char **names;
	int64_t count;
} used;

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void use(used *u, const qat_tensor *t)
{
	if (t->name)
		u->names[u->count++] = t->name;
}

/* A tied head may be stored all the same; the embedding stands for it. */
static void use_head(used *u, const qat_state *s)
{
	const qat_param head = { .size = sizeof head, .rank = 2, .name = "lm_head.weight",
				 .hub_name = "lm_head.weight" };
	qat_tensor t = { .size = sizeof t };

	if (s->info.tied && !s->format->find(s->file, &head, &t))
		use(u, &t);
}

static int collect(used *u, const qat_state *s)
{
	qat_tensor *ranges;
	int64_t n;
	const int rc = qat_state_ranges(&ranges, &n, s, s->arena);

	if (rc)
		return rc;
	u->names = calloc((size_t)(4 * s->n_params + n) + 2, sizeof *u->names);
	if (!u->names)
		return qat_fail(QAT_ENOMEM, "%s: out of memory", s->path);
	for (int64_t i = 0; i < s->n_params; i++) {
		const qat_param_state *p = &s->params[i];

		use(u, &p->at);
		if (!p->codes)
			continue;
		use(u, &p->scale);
		use(u, &p->zero);
		use(u, &p->second);
	}
	for (int64_t i = 0; i < n; i++)
		use(u, &ranges[i]);
	use_head(u, s);
	qsort(u->names, (size_t)u->count, sizeof *u->names, by_name);
	return QAT_OK;
}

static int is_used(const used *u, const qat_state *s, const char *name)
{
	const qat_model *m = s->model.vtable;

	/* a checkpoint is a state with more in it */
	if (s->docs[QAT_DOC_STATE].at &&
	    (!strncmp(name, "optimizer.", 10) || !strncmp(name, "session.", 8)))
		return 1;
	return !*name || bsearch(&name, u->names, (size_t)u->count, sizeof name, by_name) ||
	       (m->spare && m->spare(s->model.self, name));
}

static int refuse(const qat_state *s, const char *const *shown, int64_t count)
{
	char list[512] = "";
	size_t n = 0;

	for (int64_t i = 0; i < count && i < SHOWN; i++) {
		snprintf(list + n, sizeof list - n, "%s%.120s", i ? ", " : "", shown[i]);
		n = strlen(list);
	}
	return qat_fail(QAT_EFORMAT, "%s: %lld tensors that the model does not have, %s%s: "
			"config.json and the tensors do not belong together", s->path,
			(long long)count, list, count > SHOWN ? " and so on" : "");
}

int qat_state_check_unused(const qat_state *s)
{
	const char *shown[SHOWN] = { NULL }, *name;
	int64_t count = 0;
	used u = { .count = 0 };
	int rc = s->format->tensor_name ? collect(&u, s) : QAT_OK;

	for (int64_t i = 0; !rc && u.names && (name = s->format->tensor_name(s->file, i)); i++) {
		if (is_used(&u, s, name))
			continue;
		if (count < SHOWN)
			shown[count] = name;
		count++;
	}
	free(u.names);
	return rc || !count ? rc : refuse(s, shown, count);
}
