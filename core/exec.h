/* exec.h - a graph on a device: placed, claimed, planned, bound, compiled; then run. */
#ifndef QAT_EXEC_H
#define QAT_EXEC_H

#include <qatrun/backend.h>

#include "ir.h"

/* An opened device. */
typedef struct qat_device {
	const qat_backend *api;
	void *handle;
	qat_caps caps;
	const char *name;		/* of the backend */
	int64_t allocated, peak;	/* bytes that we asked for, now and at most */
	struct qat_device *fallback;	/* runs what this one cannot; NULL: nobody does */
	int strict;			/* 1: what this one cannot run is refused even so */
	qat_instance backend;		/* of a device that is opened when it is first needed */
	int64_t index, threads;
	struct qat_profile *profile;	/* takes the time of every kernel; NULL: nobody does */
	struct qat_trace *trace;	/* judges the first run of every phase; NULL: nobody */
} qat_device;

/* index and threads as the pipeline says; threads 0: the device's own choice. */
int qat_device_open(qat_device *out, const qat_instance *backend, int64_t index,
		    int64_t threads);
/* The same, put off until qat_device_ready, which does nothing from its second call on. */
void qat_device_later(qat_device *out, const qat_instance *backend, int64_t index,
		      int64_t threads);
int qat_device_ready(qat_device *d);
void qat_device_close(qat_device *d);

/* Where a parameter's content comes from: the first of the three that is there. */
typedef struct qat_source {
	const struct qat_exec *owner;	/* outlives the exec, and has it in memory as */
	int64_t value;			/* this value; if in another layout, as if it had not */
	const void *data;	/* host memory that outlives the exec, in the value's type */
	/* called with room for the whole value */
	int (*fill)(void *context, const qat_value *v, void *to);
} qat_source;
typedef int qat_find_source(void *context, const qat_value *v, qat_source *out);

typedef struct qat_exec qat_exec;

/* keep: values that are read from outside after a run. The graph must outlive it. */
int qat_exec_new(qat_exec **out, qat_device *d, const qat_ir *g, const int64_t *keep,
		 int64_t n_keep, qat_find_source *find, void *context);
void qat_exec_free(qat_exec *x);

/* The same with all that may be said. */
typedef struct qat_exec_spec {
	const qat_ir *g;
	const int64_t *keep;
	int64_t n_keep;
	qat_find_source *find;
	void *context;
	/* Where memory is short. stream: 1: parameters that kernels lay out in their own way
	 * take no memory, but are read anew in each run. mapped: bytes of files that kernels
	 * may have read before pages are let go; 0: any. */
	int stream;
	int64_t mapped;
	/* Pages of files that were read may leave memory; NULL: they stay. */
	void (*let_go)(void *context);
} qat_exec_spec;
int qat_exec_open(qat_exec **out, qat_device *d, const qat_exec_spec *spec);

/* Bytes of a plan without making it: what --check prints. */
typedef struct qat_plan_size {
	int64_t params, state, step, scratch;
	int64_t mapped;		/* of files, that are in memory meanwhile where there is room */
	int64_t touched;	/* the most of them that one kernel reads */
	int64_t level;		/* of recompute, 0: none */
	int64_t moved;		/* nodes that run on the fallback device */
	int64_t copied;		/* bytes between devices, all phases once */
	char what[400];		/* those nodes, and why */
} qat_plan_size;
void qat_exec_size(const qat_exec *x, qat_plan_size *out);
/* As qat_exec_new up to the plan: nothing is allocated on the device. `explain`: print
 * a line for each kind of kernel: where it runs, and why there. */
int qat_exec_predict(qat_plan_size *out, qat_device *d, const qat_ir *g, const int64_t *keep,
		     int64_t n_keep, int explain);
/* The same for qat_exec_open. find NULL: nothing is known of sources. */
int qat_exec_expect(qat_plan_size *out, qat_device *d, const qat_exec_spec *spec, int explain);

/* Run the claims of a phase. rt->size and rt->phase are set here. */
int qat_exec_run(qat_exec *x, uint32_t phase, qat_runtime *rt);
/* Run the phases up to `last` kernel by kernel and name the first place where a value is
 * not finite: a parameter, else a node. *out is borrowed; NULL if all is finite. */
int qat_exec_find_bad(qat_exec *x, uint32_t last, qat_runtime *rt, const char **out);
int qat_exec_write(qat_exec *x, int64_t value, const void *data, int64_t bytes);
int qat_exec_read(qat_exec *x, int64_t value, void *data, int64_t bytes);
int qat_exec_zero(qat_exec *x, int64_t value);
/* Where the host can read it until the next run; NULL where it cannot. */
void *qat_exec_host(const qat_exec *x, int64_t value);
/* On the device that has it up to date after every phase. */
qat_binding qat_exec_binding(const qat_exec *x, int64_t value);
const qat_ir *qat_exec_graph(const qat_exec *x);
/* The nodes that the fallback device runs, by kind, and why; "" if there are none. */
void qat_exec_moved(const qat_exec *x, char *out, size_t room);

#endif
