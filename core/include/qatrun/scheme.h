/* scheme.h - a quantization scheme as plain data: grid + block + scale + rounding +
 * gradient. A backend's four generic kernels read it and so run every scheme that
 * can be said this way. The arithmetic is the numeric contract, see numerics.h.
 */
#ifndef QATRUN_SCHEME_H
#define QATRUN_SCHEME_H

#include <qatrun/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
	QAT_GRID_UNIFORM = 1,	/* integers qmin..qmax; a code is the integer, as I8 */
	QAT_GRID_FLOAT   = 2,	/* sign, ebits, mbits, gradual underflow; a code is the
				 * bit pattern in the low bits of a byte, as U8 */
	QAT_GRID_TABLE   = 3	/* table[code], ascending; a code is an index, as U8 */
};

/* How the scale of a block follows from its elements. amax = max|x|. */
enum {
	QAT_SCALE_ABSMAX     = 1,	/* s = amax / divisor */
	QAT_SCALE_SIGNED     = 2,	/* s = (first element of largest magnitude) / divisor */
	QAT_SCALE_MINMAX     = 3,	/* s = (hi - lo) / (qmax - qmin), 0 inside; zero point */
	QAT_SCALE_FLOAT_ZERO = 4,	/* s = max(hi - lo, 1e-6) / (qmax - qmin), float zero */
	QAT_SCALE_POW2_FLOOR = 5,	/* s = 2^e, e = floor(log2 amax) - emax */
	QAT_SCALE_POW2_CEIL  = 6,	/* e = ceil(log2(amax / largest)) */
	QAT_SCALE_POW2_EVEN  = 7,	/* as floor, after amax rose by half a mantissa step */
	QAT_SCALE_TWO_LEVEL  = 8	/* s = fl(b S): b = amax / largest / S in scale_format,
				 * E4M3; S is the second level, f32: see second_rows */
};

enum {
	QAT_RANGE_DYNAMIC = 0,	/* from the block itself, each time */
	QAT_RANGE_STATIC  = 1,	/* a calibrated scale (and zero point), held in the state */
	QAT_RANGE_LEARNED = 2	/* the same, and trained */
};

/* Which part of what was seen is the range: of the block, or of all that a calibration
 * saw. EMA is for calibrations alone. */
enum {
	QAT_MEASURE_MINMAX     = 0,	/* all of it */
	QAT_MEASURE_PERCENTILE = 1,	/* measure_value percent of it, the nearest to 0 */
	QAT_MEASURE_MSE        = 2,	/* the shrunk range that has the least squared error */
	QAT_MEASURE_EMA        = 3	/* ends m = (1 - a) m + a batch, a = measure_value */
};

enum {
	QAT_ZERO_NONE  = 0,
	QAT_ZERO_INT   = 1,	/* I8 per block: x^ = s * (q - z) */
	QAT_ZERO_FLOAT = 2	/* F32 per block: x^ = (q - mid) * s + z */
};

enum { QAT_ROUND_NEAREST_EVEN = 0, QAT_ROUND_STOCHASTIC = 1 };

enum {
	QAT_GRAD_STE         = 0,	/* dx = g */
	QAT_GRAD_STE_CLIPPED = 1,	/* dx = g where x did not round past the grid's ends */
	QAT_GRAD_LSQ         = 2,
	QAT_GRAD_PACT        = 3,
	QAT_GRAD_HOST        = 4
};

/* Codes and scales of a matrix [rows, cols]. A block is block_rows x block_cols
 * elements that share a scale; 0 means all of that dimension:
 *   tensor {0, 0}   channel of a weight, token of an input {1, 0}   group {1, n}
 * Scales are [rows / block_rows, cols / block_cols]; a block size must divide. */
typedef struct qat_scheme {
	uint32_t size;		/* sizeof(qat_scheme) */
	uint32_t numerics;	/* QAT_NUMERICS */

	int32_t grid;		/* QAT_GRID_* */
	int32_t bits;		/* of a code as stored, 1..8 */
	int32_t ebits, mbits;	/* FLOAT: exponent and explicit mantissa bits */
	int32_t emax;		/* FLOAT: exponent of the largest binade */
	int32_t qmin, qmax;	/* UNIFORM: inclusive */
	float largest;		/* FLOAT: largest magnitude */
	const float *table;	/* TABLE: 2^bits values */

	int64_t block_rows, block_cols;

	int32_t scale_format;	/* QAT_F32, BF16, F16, E8M0 or E4M3: how a scale is stored;
				 * it is rounded to that before it is used */
	int32_t scale_rule;	/* QAT_SCALE_* */
	int32_t range;		/* QAT_RANGE_* */
	int32_t zero;		/* QAT_ZERO_* */
	double divisor;		/* ABSMAX, SIGNED */

	int32_t rounding;	/* QAT_ROUND_* */
	int32_t gradient;	/* QAT_GRAD_* */

	const char *name;	/* of the quantizer that made it, for messages */
	const void *reserved[4];

	/* TWO_LEVEL: rows that share a scale S of the second level, 0: all, which suits
	 * weights, 1: each its own, so that no row depends on others. With a static range
	 * it is S that is held in the state, and scales of blocks are made each time. */
	int64_t second_rows;
	int32_t measure;		/* QAT_MEASURE_* */
	int32_t reserved2;
	double measure_value;
} qat_scheme;

/* Rows and columns that share a range, where it is static: blocks, or the second level
 * of scales. 0: all of that dimension. */
static inline int64_t qat_range_rows(const qat_scheme *s)
{
	return s->scale_rule == QAT_SCALE_TWO_LEVEL ? s->second_rows : s->block_rows;
}

static inline int64_t qat_range_cols(const qat_scheme *s)
{
	return s->scale_rule == QAT_SCALE_TWO_LEVEL ? 0 : s->block_cols;
}

/* The schemes that may be active at one port of one site; which one is, is a number
 * set at run time. Most have one. */
typedef struct qat_scheme_set {
	uint32_t size;
	int32_t selector;			/* slot of the run-time number, -1: none */
	int64_t count;
	const qat_scheme *const *schemes;
} qat_scheme_set;

/* Where a scheme sits. */
enum { QAT_PORT_WEIGHT = 0, QAT_PORT_INPUT = 1, QAT_PORT_KV = 2, QAT_PORTS = 3 };

typedef struct qat_site {
	uint32_t size;
	int32_t port;		/* QAT_PORT_* */
	int64_t rows, cols;	/* of the matrix that gets quantized; rows of an input: tokens */
	const char *name;	/* "layers.3.mlp.down" */
} qat_site;

#ifdef __cplusplus
}
#endif
#endif
