/* nvfp4.c - NVFP4: blocks of 16 E2M1 elements, an E4M3 scale each, times an f32 scale.
 *   S = amax' / (6 * 448),  b = E4M3(amax / 6 / S),  x^ = (b S) * E2M1(x / (b S))
 * amax' is that of the whole weight. Of an input it is that of each token, so that a row
 * does not depend on the others of its batch; or, with dynamic: false, one that a
 * calibrate step measured, which is how files of this scheme are made elsewhere.
 *
 * Gradient: straight through, for the reason that mxfp.c states; an element saturates
 * only where b is rounded down by much (b is subnormal), or under a calibrated range.
 */
#include "ranges.h"

enum { NVFP4_BLOCK = 16 };
enum { STE, STE_CLIPPED };

typedef struct nvfp4_options {
	int64_t dynamic, gradient;
	range_options ranges;
} nvfp4_options;

static const char *const gradients[] = { "ste", "ste_clipped", NULL };

static const qat_option options[] = {
	RANGE_OPTIONS(nvfp4_options),
	QAT_BOOL(nvfp4_options, dynamic, 1,
		 "an input's second scale is its token's; false: one from a calibrate step"),
	QAT_ENUM(nvfp4_options, gradient, STE, gradients,
		 "ste: passed on; ste_clipped: 0 where an element saturates"),
	QAT_END
};

static int nvfp4_scheme(const void *self, const qat_site *site, int64_t index, qat_scheme *out)
{
	const nvfp4_options *o = self;
	const int weight = site->port == QAT_PORT_WEIGHT;

	if (index)
		return qat_fail(QAT_EINVAL, "%s: nvfp4 has one scheme, not a number %lld",
				site->name, (long long)index);
	if (site->cols < 1 || site->cols % NVFP4_BLOCK)
		return qat_fail(QAT_EINVAL, "%s: nvfp4 needs columns in multiples of %d, not %lld: "
				"leave this site out or give it another scheme", site->name,
				NVFP4_BLOCK, (long long)site->cols);
	if (weight && !o->dynamic)
		return qat_fail(QAT_EINVAL, "%s, weight: dynamic: false is for inputs: a weight's "
				"range follows the weight", site->name);
	if (o->ranges.range == MSE)
		return qat_fail(QAT_EINVAL, "%s: range: mse: nvfp4 takes minmax, percentile or ema",
				site->name);
	if (range_check(&o->ranges, site, (int)o->dynamic, 0))
		return QAT_EINVAL;
	*out = (qat_scheme){
		.size = out->size,
		.numerics = QAT_NUMERICS,
		.grid = QAT_GRID_FLOAT,
		.bits = 4,
		.ebits = 2,
		.mbits = 1,
		.emax = 2,
		.largest = 6.0f,
		.block_rows = 1,
		.block_cols = NVFP4_BLOCK,
		.scale_format = QAT_E4M3,
		.scale_rule = QAT_SCALE_TWO_LEVEL,
		.range = o->dynamic ? QAT_RANGE_DYNAMIC : QAT_RANGE_STATIC,
		.zero = QAT_ZERO_NONE,
		.rounding = QAT_ROUND_NEAREST_EVEN,
		.gradient = o->gradient == STE ? QAT_GRAD_STE : QAT_GRAD_STE_CLIPPED,
		.name = "nvfp4",
		.second_rows = weight || !o->dynamic ? 0 : 1,
	};
	range_fill(&o->ranges, out);
	return QAT_OK;
}

static const qat_quantizer nvfp4_vtable = { .size = sizeof(qat_quantizer), .scheme = nvfp4_scheme };

static const qat_interface nvfp4_interface = {
	.size = sizeof(qat_interface), .kind = QAT_KIND_QUANTIZER, .name = "nvfp4",
	.summary = "4-bit floats E2M1, an E4M3 scale for 16 and an f32 scale for all",
	.options = options, .options_size = sizeof(nvfp4_options), .vtable = &nvfp4_vtable,
};

static const qat_interface *const all[] = { &nvfp4_interface };

QAT_PLUGIN("nvfp4", all);
