/* int.c - integer quantization, 2 to 8 bits: one scale per tensor, row or group.
 *   symmetric   s = amax / d,  q = clamp(rne(x * (1/s)), qmin, qmax),  x^ = s * q
 *   asymmetric  s = (hi - lo) / (qmax - qmin), integer zero point,  x^ = s * (q - z)
 *   float zero  as asymmetric, with a float in place of z:  x^ = (q - 2^(b-1)) * s + zf
 * Codes are signed in all three: qmin is -2^(b-1), or -qmax where the range is narrow.
 *
 * With divisor narrow (d = qmax) no element can round past the ends, so the clipped
 * straight-through gradient is the plain one and costs no mask.
 */
#include "sites.h"

enum { NARROW, FULL, SIGNED };
enum { STE_CLIPPED, STE };

typedef struct int_options {
	int64_t bits, group_size, granularity;
	int64_t symmetric, float_zero, divisor;
	int64_t scale_format, dynamic, gradient;
	range_options ranges;
} int_options;

static const char *const divisors[] = { "narrow", "full", "signed", NULL };
static const char *const scale_formats[] = { "f32", "bf16", "f16", NULL };
static const char *const gradients[] = { "ste_clipped", "ste", NULL };

/* The tables differ in the widths that they take, and in nothing else. */
#define INT_OPTIONS(def_, min_, max_) { \
	QAT_INT(int_options, bits, def_, min_, max_, "bits of a code"), \
	QAT_INT(int_options, group_size, 0, 0, 1 << 24, \
		"columns that share a scale; must divide the columns; 0: no groups"), \
	QAT_ENUM(int_options, granularity, AUTO, granularities, \
		"what shares a scale; auto: group if group_size is given, else channel for a " \
		"weight, token for an input (tensor if not dynamic)"), \
	QAT_BOOL(int_options, symmetric, 1, "no zero point; false: range lo..hi of the block"), \
	QAT_BOOL(int_options, float_zero, 0, \
		"with symmetric: false, a float zero point (torchao's int4 groups)"), \
	QAT_ENUM(int_options, divisor, NARROW, divisors, \
		"of a symmetric scale; narrow: amax / qmax, codes -qmax..qmax; full: amax / " \
		"(2^(bits-1) - 0.5), codes -2^(bits-1)..qmax (torchao, compressed-tensors); " \
		"signed: the largest element, with its sign, / -2^(bits-1) (GGUF Q4_0)"), \
	QAT_ENUM(int_options, scale_format, 0, scale_formats, \
		"how a scale is stored; it is rounded to that before it is used"), \
	RANGE_OPTIONS(int_options), \
	QAT_BOOL(int_options, dynamic, 1, \
		"an input's range is its own each time; false: from a calibrate step"), \
	QAT_ENUM(int_options, gradient, STE_CLIPPED, gradients, \
		"ste_clipped: 0 where an element rounds past the codes' ends; ste: passed on"), \
	QAT_END \
}

static const qat_option options[][13] = {
	INT_OPTIONS(8, 2, 8), [2] = INT_OPTIONS(2, 2, 2), INT_OPTIONS(3, 3, 3),
	INT_OPTIONS(4, 4, 4), INT_OPTIONS(5, 5, 5), INT_OPTIONS(6, 6, 6),
	INT_OPTIONS(7, 7, 7), INT_OPTIONS(8, 8, 8),
};

static const char *const names[] = {
	[2] = "int2", "int3", "int4", "int5", "int6", "int7", "int8"
};

/* The divisors of `cols` next to n, from below and from above. */
static void divisors_near(int64_t *below, int64_t *above, int64_t cols, int64_t n)
{
	*below = n < cols ? n : cols;
	while (*below > 1 && cols % *below)
		--*below;
	*above = n < cols ? n : cols;
	while (*above < cols && cols % *above)
		++*above;
}

static int check_group(const int_options *o, const qat_site *site)
{
	int64_t below, above;

	if (!o->group_size)
		return qat_fail(QAT_EINVAL, "%s, %s: granularity: group needs a group_size",
				site->name, port_name(site));
	if (site->cols > 0 && site->cols % o->group_size == 0)
		return QAT_OK;
	divisors_near(&below, &above, site->cols, o->group_size);
	if (below == above)
		return qat_fail(QAT_EINVAL, "%s, %s: group_size %lld does not divide its %lld "
				"columns: the nearest that does is %lld", site->name,
				port_name(site), (long long)o->group_size, (long long)site->cols,
				(long long)below);
	return qat_fail(QAT_EINVAL, "%s, %s: group_size %lld does not divide its %lld columns: "
			"the nearest that do are %lld and %lld", site->name, port_name(site),
			(long long)o->group_size, (long long)site->cols, (long long)below,
			(long long)above);
}

static int granularity_of(const int_options *o, const qat_site *site)
{
	if (o->granularity != AUTO)
		return (int)o->granularity;
	if (o->group_size)
		return GROUP;
	if (site->port == QAT_PORT_WEIGHT)
		return CHANNEL;
	return o->dynamic ? TOKEN : TENSOR;
}

/* What contradicts itself whatever the site is. */
static int check_options(const int_options *o, const qat_site *site)
{
	const char *port = port_name(site);

	if (o->group_size && o->granularity != AUTO && o->granularity != GROUP)
		return qat_fail(QAT_EINVAL, "%s, %s: group_size %lld with granularity: %s: leave "
				"one of them out", site->name, port, (long long)o->group_size,
				granularities[o->granularity]);
	if (o->float_zero && o->symmetric)
		return qat_fail(QAT_EINVAL, "%s, %s: float_zero: true needs symmetric: false",
				site->name, port);
	if (!o->symmetric && o->divisor != NARROW)
		return qat_fail(QAT_EINVAL, "%s, %s: divisor: %s belongs to symmetric: true; an "
				"asymmetric range always uses all codes", site->name, port,
				divisors[o->divisor]);
	if (o->float_zero && o->ranges.range != MINMAX)
		return qat_fail(QAT_EINVAL, "%s, %s: range: %s with float_zero: true: such a range "
				"need not hold 0, and is minmax", site->name, port,
				range_names[o->ranges.range]);
	return range_check(&o->ranges, site, (int)o->dynamic, 1);
}

static void fill_range(qat_scheme *out, const int_options *o)
{
	const int32_t half = 1 << (o->bits - 1);

	out->qmax = half - 1;
	out->qmin = -half;
	out->zero = QAT_ZERO_NONE;
	if (!o->symmetric) {
		out->scale_rule = o->float_zero ? QAT_SCALE_FLOAT_ZERO : QAT_SCALE_MINMAX;
		out->zero = o->float_zero ? QAT_ZERO_FLOAT : QAT_ZERO_INT;
	} else if (o->divisor == SIGNED) {
		out->scale_rule = QAT_SCALE_SIGNED;
		out->divisor = -half;
	} else if (o->divisor == FULL) {
		out->scale_rule = QAT_SCALE_ABSMAX;
		out->divisor = half - 0.5;
	} else {
		out->scale_rule = QAT_SCALE_ABSMAX;
		out->divisor = out->qmax;
		out->qmin = -out->qmax;
	}
}

static int int_scheme(const void *self, const qat_site *site, int64_t index, qat_scheme *out)
{
	static const int32_t formats[] = { QAT_F32, QAT_BF16, QAT_F16 };
	const int_options *o = self;
	const int granularity = granularity_of(o, site);
	int rc = check_options(o, site);

	if (!rc && granularity == GROUP)
		rc = check_group(o, site);
	if (!rc)
		rc = check_port(site, granularity, (int)o->dynamic);
	if (!rc && index)
		rc = qat_fail(QAT_EINVAL, "%s: %s has one scheme, not a number %lld", site->name,
			      names[o->bits], (long long)index);
	if (rc)
		return rc;
	*out = (qat_scheme){
		.size = out->size,
		.numerics = QAT_NUMERICS,
		.grid = QAT_GRID_UNIFORM,
		.bits = (int32_t)o->bits,
		.block_rows = granularity == TENSOR ? 0 : 1,
		.block_cols = granularity == GROUP ? o->group_size : 0,
		.scale_format = formats[o->scale_format],
		.range = o->dynamic ? QAT_RANGE_DYNAMIC : QAT_RANGE_STATIC,
		.rounding = QAT_ROUND_NEAREST_EVEN,
		.gradient = o->gradient == STE ? QAT_GRAD_STE : QAT_GRAD_STE_CLIPPED,
		.name = names[o->bits],
	};
	fill_range(out, o);
	range_fill(&o->ranges, out);
	return QAT_OK;
}

static const qat_quantizer int_vtable = { .size = sizeof(qat_quantizer), .scheme = int_scheme };

#define INT_INTERFACE(name_, summary_, row_) { \
	.size = sizeof(qat_interface), .kind = QAT_KIND_QUANTIZER, .name = name_, \
	.summary = summary_, .options = options[row_], .options_size = sizeof(int_options), \
	.vtable = &int_vtable }

static const qat_interface interfaces[] = {
	INT_INTERFACE("int", "integers of 2 to 8 bits", 0),
	INT_INTERFACE("int2", "integers of 2 bits", 2),
	INT_INTERFACE("int3", "integers of 3 bits", 3),
	INT_INTERFACE("int4", "integers of 4 bits", 4),
	INT_INTERFACE("int5", "integers of 5 bits", 5),
	INT_INTERFACE("int6", "integers of 6 bits", 6),
	INT_INTERFACE("int7", "integers of 7 bits", 7),
	INT_INTERFACE("int8", "integers of 8 bits", 8),
};

static const qat_interface *const all[] = {
	&interfaces[0], &interfaces[1], &interfaces[2], &interfaces[3],
	&interfaces[4], &interfaces[5], &interfaces[6], &interfaces[7],
};

QAT_PLUGIN("int", all);
