/* fp8.c - 8-bit floats E4M3 or E5M2 with one scale per tensor, row or token.
 *   s = amax / largest,  x^ = s * rne(x * (1/s)) on the grid of the element
 * E4M3 has no infinity and ends at 448, E5M2 ends at 57344; what lies beyond saturates.
 *
 * Where the range is the block's own, x * (1/s) stays within a relative 2^-8 of the
 * grid's end, which rounds to the end: nothing is clipped, and the clipped gradient is
 * the plain one.
 */
#include "sites.h"

enum { STE_CLIPPED, STE };

typedef struct fp8_options {
	int64_t element, granularity, scale_format, dynamic, gradient;
	range_options ranges;
} fp8_options;

static const struct element {
	int32_t ebits, mbits, emax;
	float largest;
} elements[] = { { 4, 3, 8, 448.0f }, { 5, 2, 15, 57344.0f } };

static const char *const element_names[] = { "e4m3", "e5m2", NULL };
static const char *const choices[] = { "auto", "tensor", "channel", "token", NULL };
static const char *const scale_formats[] = { "f32", "bf16", NULL };
static const char *const gradients[] = { "ste_clipped", "ste", NULL };

static const qat_option options[] = {
	QAT_ENUM(fp8_options, element, 0, element_names,
		 "exponent and mantissa bits of an element"),
	QAT_ENUM(fp8_options, granularity, AUTO, choices,
		 "what shares a scale; auto: channel for a weight, token for an input (tensor if "
		 "not dynamic)"),
	QAT_ENUM(fp8_options, scale_format, 0, scale_formats,
		 "how a scale is stored; it is rounded to that before it is used"),
	RANGE_OPTIONS(fp8_options),
	QAT_BOOL(fp8_options, dynamic, 1,
		 "an input's range is its own each time; false: from a calibrate step"),
	QAT_ENUM(fp8_options, gradient, STE_CLIPPED, gradients,
		 "ste_clipped: 0 where an element saturates; ste: passed on"),
	QAT_END
};

static int granularity_of(const fp8_options *o, const qat_site *site)
{
	if (o->granularity != AUTO)
		return (int)o->granularity;
	if (site->port == QAT_PORT_WEIGHT)
		return CHANNEL;
	return o->dynamic ? TOKEN : TENSOR;
}

static int fp8_scheme(const void *self, const qat_site *site, int64_t index, qat_scheme *out)
{
	const fp8_options *o = self;
	const struct element *e = &elements[o->element];
	const int granularity = granularity_of(o, site);
	int rc = check_port(site, granularity, (int)o->dynamic);

	if (!rc)
		rc = range_check(&o->ranges, site, (int)o->dynamic, 0);
	if (rc)
		return rc;
	if (index)
		return qat_fail(QAT_EINVAL, "%s: fp8 has one scheme, not a number %lld", site->name,
				(long long)index);
	*out = (qat_scheme){
		.size = out->size,
		.numerics = QAT_NUMERICS,
		.grid = QAT_GRID_FLOAT,
		.bits = 1 + e->ebits + e->mbits,
		.ebits = e->ebits,
		.mbits = e->mbits,
		.emax = e->emax,
		.largest = e->largest,
		.block_rows = granularity == TENSOR ? 0 : 1,
		.scale_format = o->scale_format ? QAT_BF16 : QAT_F32,
		.scale_rule = QAT_SCALE_ABSMAX,
		.range = o->dynamic ? QAT_RANGE_DYNAMIC : QAT_RANGE_STATIC,
		.zero = QAT_ZERO_NONE,
		.divisor = (double)e->largest,
		.rounding = QAT_ROUND_NEAREST_EVEN,
		.gradient = o->gradient == STE ? QAT_GRAD_STE : QAT_GRAD_STE_CLIPPED,
		.name = "fp8",
	};
	range_fill(&o->ranges, out);
	return QAT_OK;
}

static const qat_quantizer fp8_vtable = { .size = sizeof(qat_quantizer), .scheme = fp8_scheme };

static const qat_interface fp8_interface = {
	.size = sizeof(qat_interface), .kind = QAT_KIND_QUANTIZER, .name = "fp8",
	.summary = "8-bit floats E4M3 or E5M2, a scale per tensor, row or token",
	.options = options, .options_size = sizeof(fp8_options), .vtable = &fp8_vtable,
};

static const qat_interface *const all[] = { &fp8_interface };

QAT_PLUGIN("fp8", all);
