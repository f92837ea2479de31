/* backend.h - what a device offers: memory, and kernels that run compiled nodes.
 *
 * Life of a graph on a device: for each node supports(); what it cannot run may go to
 * another device. Then claim() groups the nodes that stay into kernels, before memory is
 * planned; the core plans buffers by liveness and binds every remaining value to memory;
 * compile() once; run() per phase, many times.
 * Nothing here knows what training is.
 */
#ifndef QATRUN_BACKEND_H
#define QATRUN_BACKEND_H

#include <qatrun/plugin.h>
#include <qatrun/graph.h>

typedef struct qat_caps {
	uint32_t size;
	int32_t threads;		/* in use */
	int64_t memory;			/* bytes in all, 0: unknown */
	int64_t alignment;		/* of a value in memory, a power of two */
	int64_t unified;		/* 1: memory is host memory; map() works */
	int64_t bf16;			/* 1: has bf16 hardware */
	char name[96];			/* "AMD EPYC, 2 threads, avx512-vnni-bf16" */
	char isa[32];			/* instruction set or architecture: what bits depend on */
	char kernels[120];		/* what else they depend on, in words for the user: whose
					 * kernels, a library's version, a choice of the
					 * environment; "": nothing. --resume wants both the same */
} qat_caps;

enum { QAT_SUPPORT_NO = 0, QAT_SUPPORT_GENERIC = 1, QAT_SUPPORT_NATIVE = 2 };

/* What memory is for. */
enum {
	QAT_MEM_PARAMS = 1,	/* weights, codes, constants; may be imported (mapped) */
	QAT_MEM_STATE = 2,	/* gradients, moments, ranges: kept between runs, zeroed */
	QAT_MEM_STEP = 3,	/* what the prologue makes: kept for an optimizer step */
	QAT_MEM_SCRATCH = 4	/* activations and workspace of one run */
};

/* One kernel over a group of nodes. */
typedef struct qat_claim {
	uint32_t size;
	uint32_t kernel;		/* the backend's own number, given back to compile */
	int64_t n_nodes;
	int64_t nodes[12];		/* ids, in running order; the group runs at the place of
					 * `at`, one of them */
	int64_t at;
	int64_t workspace;		/* bytes of scratch while it runs */
	int64_t n_private;		/* outputs kept in a layout of the backend's own: they */
	int64_t private_value[4];	/* may then be read only by nodes of this backend */
	int64_t private_bytes[4];	/* 0: not stored at all (swallowed) */
	/* Frozen parameters (PARAM, or what is read of them) may be private as well, where all
	 * their readers are claims of one layout. Nobody fills them: compile takes their content
	 * by qat_program.load, and run does for those that are swallowed. */
	int64_t stream;			/* in: 1: memory is short, private parameters should be
					 * swallowed, and read anew in each run */
} qat_claim;

typedef struct qat_memory qat_memory;	/* the backend's */

/* Where a value lives. */
typedef struct qat_binding {
	qat_memory *memory;		/* NULL: swallowed or absent */
	int64_t offset;			/* bytes */
} qat_binding;

/* What compile gets; valid until release. */
typedef struct qat_program {
	uint32_t size, reserved;
	const qat_graph *graph;
	int64_t n_claims;
	const qat_claim *const *claims;	/* in running order, all phases, of this device */
	const qat_binding *bindings;	/* [graph->n_values]; of this device's nodes */
	const qat_binding *workspaces;	/* [n_claims] */
	/* The content of a private parameter, whole, in the type of its value. May be called
	 * until release. */
	int (*load)(void *context, int64_t value, void *to);
	void *context;
	const uint8_t *loaded;		/* [graph->n_values]: 1: a private parameter that another
					 * program of this device shares, and has filled */
} qat_program;

typedef struct qat_runtime {
	uint32_t size, phase;		/* QAT_PHASE_*: the claims of this phase run */
	uint64_t seed;
	int64_t sequence;		/* index in the run of the batch's first sequence */
	int64_t step;			/* optimizer step, from 0 */
	const int64_t *selected;	/* active scheme per selector */
	int64_t n_selected;
	int64_t bad_node;		/* out: node that met NaN in codes, QAT_NONE */
	int64_t position;		/* of each sequence's first token here: what ROPE and
					 * ATTENTION with a cache count from; else 0 */
} qat_runtime;

/* What a device does at most in a second: operations in products of operands of a type, two
 * for a multiplication and its addition; bytes of memory, read and written. */
enum {
	QAT_CEILING_F32 = 0,
	QAT_CEILING_BF16 = 1,
	QAT_CEILING_I8 = 2,
	QAT_CEILING_BYTES = 3,
	QAT_CEILINGS = 4
};

typedef struct qat_backend {
	uint32_t size, reserved;

	int64_t (*count)(void);				/* devices present */
	/* self: the options. The message of a failure says what is missing: a device of
	 * this index, a driver, a feature. */
	int (*open)(void **device, const void *self, int64_t index, int64_t threads);
	void (*close)(void *device);
	int (*caps)(void *device, qat_caps *out);

	int (*alloc)(void *device, qat_memory **out, int64_t bytes, uint32_t use);
	/* Use host memory that outlives it, read-only, without a copy; NULL where the
	 * device cannot. */
	int (*import)(void *device, qat_memory **out, const void *data, int64_t bytes);
	void (*free)(void *device, qat_memory *m);
	/* Both wait for what was run before, and are done when they return. */
	int (*write)(void *device, qat_memory *m, int64_t offset, const void *data, int64_t bytes);
	int (*read)(void *device, void *data, qat_memory *m, int64_t offset, int64_t bytes);
	/* Host address of the memory, NULL where there is none. Used after sync(). */
	void *(*map)(void *device, qat_memory *m);

	/* A pure function of op, types, shapes and the device's caps. why: a sentence,
	 * `room` bytes, for NO and GENERIC. */
	int (*supports)(void *device, const qat_graph *g, const qat_node *n, char *why,
			int64_t room);
	/* Propose the kernel for node `first`, the earliest that no claim has yet: at
	 * least that node. keep[value] is 1 where a value is needed outside, or by another
	 * device (never swallow or make private such a value). taken[node] is 1 where
	 * claimed, or another device's. */
	int (*claim)(void *device, const qat_graph *g, int64_t first, const uint8_t *keep,
		     const uint8_t *taken, qat_claim *out);
	int (*compile)(void *device, const qat_program *p, void **exe);
	/* The claims of rt->phase. */
	int (*run)(void *device, void *exe, qat_runtime *rt);
	/* Run one claim: the interpreter mode, and profiles. */
	int (*run_one)(void *device, void *exe, qat_runtime *rt, int64_t claim);
	void (*release)(void *device, void *exe);
	int (*sync)(void *device);

	/* Run `count` claims from `first` on, all of one phase: what is between two places
	 * where another device has its turn. NULL: run_one for each. */
	int (*run_range)(void *device, void *exe, qat_runtime *rt, int64_t first,
			 int64_t count);
	/* Measures out[QAT_CEILINGS], 0 where it is not known; for profiles, and may take some
	 * tenths of a second. NULL: nothing is known. */
	int (*ceilings)(void *device, double *out);
} qat_backend;

#endif
