/* mxfp4.c - OCP MXFP4: blocks of 32 E2M1 elements that share a power-of-two scale.
 *   x^ = 2^e * rne(x * 2^-e) on the grid 0, 0.5, 1, 1.5, 2, 3, 4, 6 and its negatives
 * (OCP Microscaling Formats v1.0, 5.3 and 6.3).
 *
 * Gradient: under the floor rule the largest elements of a block saturate wherever
 * amax * 2^-e is in (7, 8); nowhere else. A clipped gradient would take it from those
 * elements alone, which set the scale, while their error stays below a quarter. So
 * the straight-through gradient is the default, as in torchao.
 */
#include <qatrun/quantizer.h>

enum { MXFP4_BLOCK = 32 };
enum { STE, STE_CLIPPED };

typedef struct mxfp4_options {
	int64_t scale_rule, gradient;
} mxfp4_options;

static const char *const scale_rules[] = { "floor", "ceil", "even", NULL };
static const char *const gradients[] = { "ste", "ste_clipped", NULL };

static const qat_option options[] = {
	QAT_ENUM(mxfp4_options, scale_rule, 0, scale_rules,
		 "exponent of the scale; floor: floor(log2 amax) - 2, as OCP has it; ceil: nothing "
		 "saturates; even: as floor, but up from a significand of 1.75"),
	QAT_ENUM(mxfp4_options, gradient, STE, gradients,
		 "ste: passed on; ste_clipped: 0 where an element saturates"),
	QAT_END
};

static int mxfp4_scheme(const void *self, const qat_site *site, int64_t index, qat_scheme *out)
{
	static const int32_t rules[] = {
		QAT_SCALE_POW2_FLOOR, QAT_SCALE_POW2_CEIL, QAT_SCALE_POW2_EVEN
	};
	const mxfp4_options *o = self;

	if (index)
		return qat_fail(QAT_EINVAL, "%s: mxfp4 has one scheme, not a number %lld",
				site->name, (long long)index);
	if (site->cols < 1 || site->cols % MXFP4_BLOCK)
		return qat_fail(QAT_EINVAL, "%s: mxfp4 needs columns in multiples of %d, not %lld: "
				"leave this site out or give it another scheme", site->name,
				MXFP4_BLOCK, (long long)site->cols);
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
		.block_cols = MXFP4_BLOCK,
		.scale_format = QAT_E8M0,
		.scale_rule = rules[o->scale_rule],
		.range = QAT_RANGE_DYNAMIC,
		.zero = QAT_ZERO_NONE,
		.rounding = QAT_ROUND_NEAREST_EVEN,
		.gradient = o->gradient == STE ? QAT_GRAD_STE : QAT_GRAD_STE_CLIPPED,
		.name = "mxfp4",
	};
	return QAT_OK;
}

static const qat_quantizer mxfp4_vtable = {
	.size = sizeof(qat_quantizer),
	.scheme = mxfp4_scheme,
};

static const qat_interface mxfp4_interface = {
	.size = sizeof(qat_interface),
	.kind = QAT_KIND_QUANTIZER,
	.name = "mxfp4",
	.summary = "4-bit floats E2M1, a power-of-two scale for 32 (OCP Microscaling)",
	.options = options,
	.options_size = sizeof(mxfp4_options),
	.vtable = &mxfp4_vtable,
};

static const qat_interface *const all[] = { &mxfp4_interface };

QAT_PLUGIN("mxfp4", all);
