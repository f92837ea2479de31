/* tracker.c - events and results, told to trackers as points of curves. */
#include "tracker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kinds.h"
#include "results_internal.h"
#include "tracker_files.h"

enum { TAG_ROOM = 256 };

struct tracker {
	const qat_instance *plugin;
	void *handle;
	char *folder;
	int open;
};

struct qat_trackers {
	struct tracker *all;
	int64_t count, steps;
	size_t evaluations, comparisons;	/* rows that have been told */
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- all of them ---- */

static void close_one(struct tracker *k)
{
	const qat_tracker *api = k->plugin->vtable;
	const int open = k->open;

	k->open = 0;
	if (open && api->close(k->handle))
		qat_log(QAT_LOG_WARN, "tracker %s: %s", k->plugin->interface->name, qat_error());
}

/* It has said why. What close says after that would only repeat it. */
static void give_up(struct tracker *k)
{
	const qat_tracker *api = k->plugin->vtable;

	qat_log(QAT_LOG_WARN, "tracker %s: %s: it is told nothing more, the run goes on",
		k->plugin->interface->name, qat_error());
	k->open = 0;
	api->close(k->handle);
}

static void tell(qat_trackers *t, const qat_track *what)
{
	for (int64_t i = 0; i < t->count; i++) {
		const qat_tracker *api = t->all[i].plugin->vtable;
		int (*to)(void *, const qat_track *) = what->text ? api->text : api->scalar;

		if (t->all[i].open && to && to(t->all[i].handle, what))
			give_up(&t->all[i]);
	}
}

static char *folder_of(const char *output, const char *name)
{
	char *folder;

	if (asprintf(&folder, "%s/%s", output, name) >= 0)
		return folder;
	qat_fail(QAT_ENOMEM, "out of memory");
	return NULL;
}

static void open_one(struct tracker *k, const qat_pipeline *p, const qat_output *output,
		     int resumed)
{
	const char *name = k->plugin->interface->name;
	const qat_tracker *api = k->plugin->vtable;
	qat_tracker_env env = { .size = sizeof env, .run = p->name, .resumed = resumed };
	int rc = resumed ? QAT_OK : qat_output_remove(output, name);

	if (!rc) {
		env.folder = k->folder = folder_of(qat_output_path(output), name);
		rc = k->folder ? api->open(&k->handle, k->plugin->self, &env) : QAT_ENOMEM;
	}
	if (rc)
		qat_log(QAT_LOG_WARN, "tracker %s: %s: it is told nothing, the run goes on", name,
			qat_error());
	k->open = !rc;
}

int qat_trackers_open(qat_trackers **out, const qat_pipeline *p, const qat_output *output,
		      int resumed)
{
	qat_trackers *t;

	*out = NULL;
	if (!p->n_trackers)
		return QAT_OK;
	t = calloc(1, sizeof *t);
	if (t)
		t->all = calloc((size_t)p->n_trackers, sizeof *t->all);
	if (!t || !t->all) {
		free(t);
		return qat_fail(QAT_ENOMEM, "out of memory");
	}
	t->count = p->n_trackers;
	t->steps = p->n_steps;
	for (int64_t i = 0; i < t->count; i++) {
		t->all[i].plugin = &p->trackers[i];
		open_one(&t->all[i], p, output, resumed);
	}
	*out = t;
	return QAT_OK;
}

/* ---- marks ---- */

json_t *qat_trackers_mark(qat_trackers *t)
{
	json_t *all = json_object();

	for (int64_t i = 0; t && all && i < t->count; i++) {
		struct tracker *k = &t->all[i];
		const qat_tracker *api = k->plugin->vtable;
		json_t *files = NULL;

		if (!k->open)
			continue;
		if ((api->flush && api->flush(k->handle)) ||
		    qat_tracker_files_mark(&files, k->folder))
			give_up(k);
		else if (json_object_set_new(all, k->plugin->interface->name, files))
			return json_decref(all), NULL;
	}
	return all;
}

void qat_trackers_cut(const qat_pipeline *p, const char *output, const json_t *mark)
{
	for (int64_t i = 0; i < p->n_trackers; i++) {
		const char *name = p->trackers[i].interface->name;
		const json_t *files = json_object_get(mark, name);
		char *folder = files ? folder_of(output, name) : NULL;

		if (files && (!folder || qat_tracker_files_cut(folder, files)))
			qat_log(QAT_LOG_WARN, "tracker %s: %s: it may show some steps twice, or "
				"not at all", name, qat_error());
		free(folder);
	}
}

/* ---- events ---- */

static const qat_event_value *find(const qat_event_value *values, int64_t count,
				   const char *key)
{
	for (int64_t i = 0; i < count; i++)
		if (!strcmp(values[i].key, key))
			return &values[i];
	return NULL;
}

static const char *text_of(const qat_event_value *values, int64_t count, const char *key)
{
	const qat_event_value *v = find(values, count, key);

	return v ? v->text : NULL;
}

/* Numbers that say where a point is, or how many it is a mean of. */
static int is_place(const char *key)
{
	static const char *const places[] = {
		"step", "optimizer_step", "progress", "tokens", "width"
	};

	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		if (!strcmp(key, places[i]))
			return 1;
	return 0;
}

void qat_trackers_event(qat_trackers *t, const char *state, const qat_event_value *values,
			int64_t count)
{
	const qat_event_value *step = find(values, count, "optimizer_step");
	const char *kind = text_of(values, count, "kind"), *task = text_of(values, count, "task");
	const char *own = text_of(values, count, "state");
	qat_track point = { .size = sizeof point, .state = own ? own : state, .time = now() };
	char tag[TAG_ROOM];

	if (!t || !step || !(step->number >= 0) || !(step->number < 0x1p62))
		return;
	point.step = (int64_t)step->number;
	point.tag = tag;
	for (int64_t i = 0; i < count; i++) {
		if (values[i].text || !isfinite(values[i].number) || is_place(values[i].key))
			continue;
		snprintf(tag, sizeof tag, "%s/%s", kind ? kind : task ? task : "run",
			 values[i].key);
		point.value = values[i].number;
		tell(t, &point);
	}
}

/* ---- results ---- */

/* "evaluate/test/loss"; of a width, "evaluate/test@4/loss". */
static void make_tag(char tag[TAG_ROOM], const char *prefix, const json_t *row, const char *key)
{
	const char *data = json_string_value(json_object_get(row, "data"));
	const json_t *width = json_object_get(row, "width");
	char at[32] = "";

	if (json_is_integer(width))
		snprintf(at, sizeof at, "@%lld", (long long)json_integer_value(width));
	snprintf(tag, TAG_ROOM, "%s/%s%s/%s", prefix, data ? data : "-", at, key);
}

static void tell_rows(qat_trackers *t, size_t *told, const json_t *list, const char *prefix,
		      int64_t step)
{
	char tag[TAG_ROOM];
	qat_track point = { .size = sizeof point, .tag = tag, .step = step, .time = now() };

	for (; *told < json_array_size(list); ++*told) {
		json_t *row = json_array_get(list, *told), *value;
		const char *key;

		point.state = json_string_value(json_object_get(row, "state"));
		json_object_foreach(row, key, value) {
			if (!json_is_number(value) || is_place(key))
				continue;
			make_tag(tag, prefix, row, key);
			point.value = json_number_value(value);
			tell(t, &point);
		}
	}
}

void qat_trackers_results(qat_trackers *t, const qat_results *r, int64_t step)
{
	if (!t || !r)
		return;
	tell_rows(t, &t->evaluations, json_object_get(r->document, "evaluations"), "evaluate",
		  step);
	tell_rows(t, &t->comparisons, json_object_get(r->document, "comparisons"), "compare",
		  step);
}

void qat_trackers_skip(qat_trackers *t, const qat_results *r)
{
	if (!t)
		return;
	t->evaluations = json_array_size(json_object_get(r->document, "evaluations"));
	t->comparisons = json_array_size(json_object_get(r->document, "comparisons"));
}

static void tell_table(qat_trackers *t, const qat_results *r, const char *list)
{
	qat_track table = { .size = sizeof table, .tag = list, .step = t->steps, .time = now() };
	char *text = NULL;
	size_t bytes = 0;
	FILE *file = open_memstream(&text, &bytes);

	if (!file)
		return;
	qat_results_markdown(r, file, list);
	if (!fclose(file) && text && bytes) {
		table.text = text;
		tell(t, &table);
	}
	free(text);
}

void qat_trackers_close(qat_trackers *t, const qat_results *r)
{
	char message[QAT_MESSAGE_MAX];

	if (!t)
		return;
	snprintf(message, sizeof message, "%s", qat_error());
	if (r) {
		tell_table(t, r, "evaluations");
		tell_table(t, r, "comparisons");
	}
	for (int64_t i = 0; i < t->count; i++) {
		close_one(&t->all[i]);
		free(t->all[i].folder);
	}
	qat_fail(QAT_OK, "%s", message);
	free(t->all);
	free(t);
}
