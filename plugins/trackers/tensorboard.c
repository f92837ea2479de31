/* tensorboard.c - event files as TensorBoard reads them.
 *
 * <folder>/<state>/events.out.tfevents.<seconds>.<host>.<pid>.<n>: each state is a "run" of
 * TensorBoard; what is of the whole run lies in the folder itself. A file is a list of
 *     u64 length, u32 masked crc of these 8 bytes, data, u32 masked crc of the data
 * in little-endian order (TensorFlow's record_writer.h), the crc being CRC-32C; data is an
 * Event in the wire format of protocol buffers (tensorflow/core/util/event.proto), of which
 * a dozen fields are enough.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <qatrun/tracker.h>

typedef struct tensorboard_options {
	double flush;
} tensorboard_options;

static const qat_option options[] = {
	QAT_FLOAT(tensorboard_options, flush, 1.0, 0.0, 1e6, "seconds that a value may wait to be "
		  "written"),
	QAT_END
};

/* The file of a state. */
typedef struct writer {
	struct writer *next;
	char *state;		/* "" of the run */
	char *path;
	FILE *file;
	double flushed;		/* seconds of the last flush */
	int restarts;		/* 1: readers are to be told that training goes on */
} writer;

typedef struct tracker {
	const tensorboard_options *o;
	char *folder;
	writer *writers;
	int resumed;
} tracker;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- messages ---- */

typedef struct bytes {
	uint8_t *at;
	size_t used, room;
	int failed;
} bytes;

enum { VARINT = 0, FIXED64 = 1, LENGTH = 2, FIXED32 = 5 };	/* wire types */

static void put(bytes *b, const void *data, size_t size)
{
	if (b->used + size > b->room && !b->failed) {
		const size_t room = 2 * (b->used + size) + 64;
		uint8_t *at = realloc(b->at, room);

		b->failed = !at;
		b->at = at ? at : b->at;
		b->room = at ? room : b->room;
	}
	if (b->failed || !size)
		return;
	memcpy(b->at + b->used, data, size);
	b->used += size;
}

static void put_varint(bytes *b, uint64_t value)
{
	uint8_t byte;

	for (; value > 127; value >>= 7) {
		byte = (uint8_t)(value | 128);
		put(b, &byte, 1);
	}
	byte = (uint8_t)value;
	put(b, &byte, 1);
}

static void put_little(bytes *b, uint64_t value, int size)
{
	for (int i = 0; i < size; i++) {
		const uint8_t byte = (uint8_t)(value >> 8 * i);

		put(b, &byte, 1);
	}
}

static void put_int(bytes *b, uint32_t field, uint64_t value)
{
	put_varint(b, field << 3 | VARINT);
	put_varint(b, value);
}

static void put_double(bytes *b, uint32_t field, double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof bits);
	put_varint(b, field << 3 | FIXED64);
	put_little(b, bits, 8);
}

static void put_float(bytes *b, uint32_t field, float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof bits);
	put_varint(b, field << 3 | FIXED32);
	put_little(b, bits, 4);
}

static void put_data(bytes *b, uint32_t field, const void *data, size_t size)
{
	put_varint(b, field << 3 | LENGTH);
	put_varint(b, size);
	put(b, data, size);
}

static void put_text(bytes *b, uint32_t field, const char *text)
{
	put_data(b, field, text, strlen(text));
}

/* A message inside a message; `inner` is used up. */
static void put_message(bytes *b, uint32_t field, bytes *inner)
{
	put_data(b, field, inner->at, inner->used);
	b->failed |= inner->failed;
	free(inner->at);
	*inner = (bytes){ .at = NULL };
}

/* ---- events: field numbers are those of event.proto, summary.proto, tensor.proto ---- */

static void event_begin(bytes *e, double time, int64_t step)
{
	put_double(e, 1, time);
	put_int(e, 2, (uint64_t)step);
}

/* Event.summary = Summary{value: [v]} */
static void event_value(bytes *e, bytes *v)
{
	bytes summary = { .at = NULL };

	put_message(&summary, 1, v);
	put_message(e, 5, &summary);
}

static void event_scalar(bytes *e, const qat_track *p)
{
	bytes value = { .at = NULL };

	event_begin(e, p->time, p->step);
	put_text(&value, 1, p->tag);
	put_float(&value, 2, (float)p->value);
	event_value(e, &value);
}

/* A tensor of one string, which the plugin "text" shows. */
static void event_text(bytes *e, const qat_track *p)
{
	enum { DT_STRING = 7, DATA_CLASS_TENSOR = 2 };
	bytes value = { .at = NULL }, tensor = value, scalar = value;
	bytes metadata = value, plugin = value;

	event_begin(e, p->time, p->step);
	put_int(&tensor, 1, DT_STRING);
	put_message(&tensor, 2, &scalar);	/* a shape without dimensions */
	put_text(&tensor, 8, p->text);
	put_text(&plugin, 1, "text");
	put_message(&metadata, 1, &plugin);
	put_int(&metadata, 4, DATA_CLASS_TENSOR);
	put_text(&value, 1, p->tag);
	put_message(&value, 8, &tensor);
	put_message(&value, 9, &metadata);
	event_value(e, &value);
}

/* Readers drop what they have of this step and beyond. It is in no file any more, but one
 * that looks on while the run is interrupted has read it. */
static void event_restart(bytes *e, double time, int64_t step)
{
	enum { START = 1 };
	bytes session = { .at = NULL };

	event_begin(e, time, step);
	put_int(&session, 1, START);
	put_message(e, 7, &session);
}

/* ---- records ---- */

/* CRC-32C, bit by bit: an event is a few dozen bytes. */
static uint32_t crc32c(const uint8_t *data, size_t size)
{
	uint32_t crc = 0xffffffffu;

	for (size_t i = 0; i < size; i++) {
		crc ^= data[i];
		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (0x82f63b78u & (0u - (crc & 1)));
	}
	return ~crc;
}

static uint32_t masked(uint32_t crc)
{
	return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* Appends an event, which is used up. */
static int write_event(writer *w, bytes *e)
{
	bytes head = { .at = NULL }, tail = head;
	int bad;

	put_little(&head, e->used, 8);
	put_little(&head, head.failed ? 0 : masked(crc32c(head.at, 8)), 4);
	put_little(&tail, masked(crc32c(e->at, e->used)), 4);
	if (head.failed || tail.failed || e->failed) {
		bad = qat_fail(QAT_ENOMEM, "%s: out of memory", w->path);
	} else {
		bad = fwrite(head.at, 1, head.used, w->file) != head.used ||
			fwrite(e->at, 1, e->used, w->file) != e->used ||
			fwrite(tail.at, 1, tail.used, w->file) != tail.used;
		if (bad)
			bad = qat_fail(QAT_EIO, "%s: %s", w->path, strerror(errno));
	}
	free(head.at);
	free(tail.at);
	free(e->at);
	*e = (bytes){ .at = NULL };
	return bad;
}

static int flush(writer *w, double wait)
{
	const double at = now();

	if (at >= w->flushed && at < w->flushed + wait)
		return QAT_OK;
	w->flushed = at;
	return fflush(w->file) ? qat_fail(QAT_EIO, "%s: %s", w->path, strerror(errno)) : QAT_OK;
}

/* ---- files ---- */

static int make_folder(const char *path)
{
	if (!mkdir(path, 0777) || errno == EEXIST)
		return QAT_OK;
	return qat_fail(QAT_EIO, "%s: %s", path, strerror(errno));
}

static int writer_free(writer *w)
{
	int rc = QAT_OK;

	if (w && w->file && fclose(w->file))
		rc = qat_fail(QAT_EIO, "%s: %s", w->path, strerror(errno));
	if (w) {
		free(w->state);
		free(w->path);
	}
	free(w);
	return rc;
}

/* More have other than ten digits, and are in no order with the rest. */
static const long long seconds_max = 9999999999;

/* The latest <seconds> of the event files in a folder, 0 where there are none. */
static long long last_seconds(const char *folder)
{
	static const char stem[] = "events.out.tfevents.";
	DIR *d = opendir(folder);
	const struct dirent *e;
	long long last = 0;

	while (d && (e = readdir(d))) {
		long long at;

		if (strncmp(e->d_name, stem, sizeof stem - 1))
			continue;
		at = strtoll(e->d_name + sizeof stem - 1, NULL, 10);
		if (at > last && at < seconds_max)
			last = at;
	}
	if (d)
		closedir(d);
	return last;
}

/* A new file, whatever is there: one more number where the name is taken. Readers go by names,
 * so it is later than all that are there, also in the same second, where numbers of processes
 * would decide. */
static int open_file(writer *w, const char *folder)
{
	const long long last = last_seconds(folder);
	long long seconds = (long long)time(NULL);
	char host[64] = "host";

	if (seconds <= last)
		seconds = last + 1;
	gethostname(host, sizeof host - 1);
	for (int i = 0; i < 1000; i++) {
		if (asprintf(&w->path, "%s/events.out.tfevents.%010lld.%s.%ld.%d", folder,
			     seconds, host, (long)getpid(), i) < 0) {
			w->path = NULL;
			return qat_fail(QAT_ENOMEM, "%s: out of memory", folder);
		}
		w->file = fopen(w->path, "wxe");
		if (w->file)
			return QAT_OK;
		if (errno != EEXIST)
			break;
		free(w->path);
		w->path = NULL;
	}
	return qat_fail(QAT_EIO, "%s: %s", w->path ? w->path : folder, strerror(errno));
}

static int write_version(writer *w)
{
	bytes e = { .at = NULL };

	put_double(&e, 1, now());
	put_text(&e, 3, "brain.Event:2");
	return write_event(w, &e);
}

static int writer_new(writer **out, const tracker *t, const char *state)
{
	writer *w = calloc(1, sizeof *w);
	char *folder = NULL;
	int rc;

	if (w)
		w->state = strdup(state);
	if (!w || !w->state ||
	    asprintf(&folder, "%s%s%s", t->folder, *state ? "/" : "", state) < 0) {
		writer_free(w);
		return qat_fail(QAT_ENOMEM, "%s: out of memory", t->folder);
	}
	rc = make_folder(folder);
	if (!rc)
		rc = open_file(w, folder);
	if (!rc)
		rc = write_version(w);
	free(folder);
	if (rc) {
		writer_free(w);
		return rc;
	}
	*out = w;
	return QAT_OK;
}

/* The writer of a state, made at its first point. */
static int writer_of(writer **out, tracker *t, const qat_track *p)
{
	const char *state = p->state ? p->state : "";
	int rc;

	for (writer *w = t->writers; w; w = w->next) {
		if (!strcmp(w->state, state)) {
			*out = w;
			return QAT_OK;
		}
	}
	rc = writer_new(out, t, state);
	if (rc)
		return rc;
	(*out)->next = t->writers;
	(*out)->restarts = t->resumed;
	t->writers = *out;
	return QAT_OK;
}

/* Only training says where: results have steps of another kind, and an evaluation that is
 * made up for is of a step whose training was told before. */
static int restart_if_due(writer *w, const qat_track *p)
{
	bytes e = { .at = NULL };

	if (!w->restarts || strncmp(p->tag, "train/", 6))
		return QAT_OK;
	w->restarts = 0;
	event_restart(&e, p->time, p->step);
	return write_event(w, &e);
}

/* ---- the tracker ---- */

static int close_all(void *handle)
{
	tracker *t = handle;
	int rc = QAT_OK;

	while (t->writers) {
		writer *w = t->writers;
		int bad;

		t->writers = w->next;
		bad = writer_free(w);
		rc = rc ? rc : bad;
	}
	free(t->folder);
	free(t);
	return rc;
}

static int open_all(void **out, const void *self, const qat_tracker_env *env)
{
	tracker *t = calloc(1, sizeof *t);
	int rc;

	if (t)
		t->folder = strdup(env->folder);
	if (!t || !t->folder) {
		free(t);
		return qat_fail(QAT_ENOMEM, "%s: out of memory", env->folder);
	}
	t->o = self;
	t->resumed = env->resumed != 0;
	rc = make_folder(t->folder);
	if (rc) {
		close_all(t);
		return rc;
	}
	*out = t;
	return QAT_OK;
}

static int track(void *handle, const qat_track *p, void (*event)(bytes *, const qat_track *))
{
	tracker *t = handle;
	bytes e = { .at = NULL };
	writer *w = NULL;
	int rc = writer_of(&w, t, p);

	if (!rc)
		rc = restart_if_due(w, p);
	if (rc)
		return rc;
	event(&e, p);
	rc = write_event(w, &e);
	return rc ? rc : flush(w, t->o->flush);
}

static int scalar(void *handle, const qat_track *p)
{
	return track(handle, p, event_scalar);
}

static int text(void *handle, const qat_track *p)
{
	return track(handle, p, event_text);
}

static int flush_all(void *handle)
{
	tracker *t = handle;
	int rc = QAT_OK;

	for (writer *w = t->writers; w && !rc; w = w->next)
		rc = flush(w, 0.0);
	return rc;
}

static const qat_tracker vtable = {
	.size = sizeof vtable, .open = open_all, .scalar = scalar, .text = text,
	.close = close_all, .flush = flush_all
};

static const qat_interface tensorboard = {
	.size = sizeof tensorboard, .kind = QAT_KIND_TRACKER, .name = "tensorboard",
	.summary = "event files for TensorBoard", .options = options,
	.options_size = sizeof(tensorboard_options), .vtable = &vtable,
};

static const qat_interface *const all[] = { &tensorboard };
QAT_PLUGIN("tensorboard", all);
