/* exec_internal.h - shared by the files of exec.h.
 *
 * Every value lives in one of four slabs, by how long it is needed:
 *   params   constants and what is filled from a checkpoint (or imported: no slab)
 *   state    inputs, gradients, moments, trained parameters
 *   step     what the prologue makes and later phases read
 *   scratch  everything else, placed by liveness, with each kernel's workspace
 *
 * A lane is one device with the nodes that were placed there. A value that two lanes touch
 * has memory on both; exec_copy.c says when one is brought up to date from the other. What
 * is said of a value is said of its root, the value whose memory it shares.
 */
#ifndef QAT_EXEC_INTERNAL_H
#define QAT_EXEC_INTERNAL_H

#include "exec.h"
#include "profile.h"
#include "trace.h"

enum { SLAB_PARAMS, SLAB_STATE, SLAB_STEP, SLAB_SCRATCH, SLABS };
enum { LANES = 2 };		/* the device, and the one that takes what it lacks */

typedef struct qat_lane {
	qat_device *device;
	qat_claim **claims;		/* in running order */
	int64_t n_claims, room_claims;
	uint8_t *has;			/* [values]: roots that need memory here */
	uint8_t *own;			/* [values]: in a slab of ours */
	int64_t *offset;		/* [values] */
	int64_t *work_offset;		/* [claims], -1: none */
	int64_t slab_bytes[SLABS];
	qat_memory *slabs[SLABS];
	qat_memory **imports;
	int64_t n_imports, room_imports;
	qat_binding *bindings;		/* [values] */
	qat_binding *workspaces;	/* [claims] */
	int64_t *touches;		/* [claims]: bytes of files, first read in this phase */
	qat_program program;
	void *exe;
} qat_lane;

/* A claim in the running order of all lanes. */
typedef struct qat_slot {
	int64_t claim;			/* of the lane */
	int32_t lane;
	uint32_t phase;
} qat_slot;

/* What a phase does, one after the other: claims of a lane, or a copy between lanes. */
typedef struct qat_action {
	int32_t lane;			/* that runs, or that a copy goes to */
	int32_t whole;			/* 1: all claims of the lane in this phase */
	uint32_t phase, reserved;
	int64_t first, count;		/* claims of the lane */
	int64_t value;			/* that is copied, from the other lane; QAT_NONE */
	int64_t at;			/* copies: slot before which it happens */
} qat_action;

/* Where a node was placed. */
typedef struct qat_spot {
	int8_t lane;
	int8_t level;			/* QAT_SUPPORT_* of the lane */
	int16_t reserved[3];
	const char *why;		/* not native, or not on the first lane; of `reasons` */
} qat_spot;

struct qat_exec {
	qat_device *device;
	const qat_ir *g;
	const qat_graph *graph;
	qat_lane lanes[LANES];
	int32_t n_lanes;
	qat_spot *spots;		/* [nodes] */
	char **reasons;			/* each once */
	int64_t n_reasons, room_reasons;
	uint8_t *keep;			/* [values] */
	uint8_t *taken;			/* [nodes] */
	uint8_t *updated;		/* [values]: another value aliases it */
	uint8_t *stored;		/* [values]: a parameter in a layout of kernels */
	uint8_t *loaded;		/* [values]: such a one that its owner has filled */
	qat_exec_spec spec;
	qat_source *sources;		/* [values] */
	int64_t read;			/* bytes of files, since pages were let go */
	qat_slot *order;
	int64_t n_order;
	int64_t *position;		/* [nodes]: slot of the claim */
	int64_t *bytes;			/* [values]: stored size, 0: swallowed */
	int8_t *slab;			/* [values], -1: needs none */
	int8_t *home;			/* [values]: lane that is valid after a phase */
	qat_action *actions;
	int64_t n_actions, room_actions;
	int64_t copied;			/* bytes, all phases once */
	void *staging;			/* for copies between devices that share no memory */

	int32_t profiled[QAT_PHASES];	/* runs so far, up to those that are recorded */
	int32_t traced[QAT_PHASES];	/* 1: this phase was judged */
	uint8_t *inside;		/* [values]: in a layout that only kernels know; NULL */
	void **stand_ins;		/* [values]: what the reference has for them */
};

/* place.c: a lane for every node. */
int qat_exec_place(qat_exec *x);

/* exec_claim.c: groups of nodes as kernels, in running order. */
int qat_exec_claim(qat_exec *x);

/* exec.c: the content of a private parameter, as qat_program.load. */
int qat_exec_load(void *exec, int64_t value, void *to);

/* exec_mapped.c: what kernels read where it lies in files. Known once there is a plan. */
int qat_exec_touches(qat_exec *x);
/* What stays in memory of it; *touched: the most that one kernel reads. */
int64_t qat_exec_mapped(const qat_exec *x, int64_t *touched);
/* Runs the claims of an action, and lets pages go between them as the spec says. */
int qat_exec_run_mapped(qat_exec *x, const qat_action *a, qat_runtime *rt);

/* exec_copy.c: the actions of all phases. sources (by value, or NULL) as for plan. */
int qat_exec_schedule(qat_exec *x, const qat_source *sources);
int qat_exec_copy(qat_exec *x, const qat_action *a);

/* exec_plan.c: a slab and an offset for every value and workspace. sources (by value, or
 * NULL): what has memory elsewhere needs none. Schedules once slabs are known. */
int qat_exec_plan(qat_exec *x, const qat_source *sources);
/* The value whose memory v shares, or v. */
int64_t qat_exec_root(const qat_exec *x, int64_t v);
static inline int64_t qat_exec_alignment(const qat_lane *l)
{
	return l->device->caps.alignment > 0 ? l->device->caps.alignment : 64;
}

/* The claim of a slot. */
static inline const qat_claim *qat_exec_claim_at(const qat_exec *x, int64_t slot)
{
	return x->lanes[x->order[slot].lane].claims[x->order[slot].claim];
}

/* exec_explain.c: one line for each kind of kernel. */
void qat_exec_explain(const qat_exec *x);
/* "quantize + qmatmul": the ops of a claim; "i8,f32 -> bf16 [a x b]", a and b
 * being schemes: the types of a node. */
void qat_exec_ops(const qat_exec *x, const qat_claim *c, char *out, size_t room);
void qat_exec_types(const qat_graph *g, const qat_node *n, char *out, size_t room);
const char *qat_phase_name(uint32_t phase);

#endif
