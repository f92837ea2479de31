/* exec_internal.h - shared by the files of exec.h.
 *
 * Every value lives in one of four slabs, by how long it is needed:
 *   params   constants and what is filled from a checkpoint (or imported: no slab)
 *   state    inputs, gradients, moments, trained parameters
 *   step     what the prologue makes and later phases read
 *   scratch  everything else, placed by liveness, with each kernel's workspace
 */
#ifndef QAT_EXEC_INTERNAL_H
#define QAT_EXEC_INTERNAL_H

#include "exec.h"

enum { SLAB_PARAMS, SLAB_STATE, SLAB_STEP, SLAB_SCRATCH, SLABS };

struct qat_exec {
	qat_device *device;
	const qat_ir *g;
	const qat_graph *graph;
	uint8_t *keep;			/* [values] */
	uint8_t *taken;			/* [nodes] */
	uint8_t *updated;		/* [values]: another value aliases it */
	qat_claim **claims;		/* in running order */
	int64_t n_claims, room_claims;
	int64_t *position;		/* [nodes]: index of the claim */
	int64_t *bytes;			/* [values]: stored size, 0: swallowed */
	int8_t *slab;			/* [values], -1: not in a slab */
	int64_t *offset;		/* [values] */
	int64_t *work_offset;		/* [claims], -1: none */
	int64_t slab_bytes[SLABS];
	qat_memory *slabs[SLABS];
	qat_memory **imports;
	int64_t n_imports, room_imports;
	qat_binding *bindings;		/* [values] */
	qat_binding *workspaces;	/* [claims] */
	qat_program program;
	void *exe;
};

/* exec_claim.c: groups of nodes as kernels, in running order. */
int qat_exec_claim(qat_exec *x);
uint32_t qat_exec_phase(const qat_exec *x, const qat_claim *c);

/* exec_plan.c: a slab and an offset for every value and workspace. sources (by value, or
 * NULL): what has memory elsewhere needs none. */
int qat_exec_plan(qat_exec *x, const qat_source *sources);
/* The value whose memory v shares, or v. */
int64_t qat_exec_root(const qat_exec *x, int64_t v);

#endif
