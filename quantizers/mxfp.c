/* mxfp.c - OCP Microscaling: blocks of 32 float elements that share a power-of-two scale.
 *   x^ = 2^e * rne(x * 2^-e) on the grid of the element, E2M1 to E5M2
 * (OCP Microscaling Formats v1.0, 5.3 and 6.3).
 *
 * Gradient: under the floor rule the largest elements of a block saturate wherever
 * amax * 2^-e rounds past the grid's end (E2M1: in (7, 8)); nowhere else. A clipped
 * gradient would take it from those elements alone, which set the scale, while their
 * error stays below a quarter. So the straight-through gradient is the default, as in
 * torchao.
 */
#include <qatrun/quantizer.h>

enum { MXFP_BLOCK = 32 };
enum { STE, STE_CLIPPED };

typedef struct mxfp_options {
	int64_t element, scale_rule, gradient;
} mxfp_options;

static const struct element {
	int32_t ebits, mbits, emax;
	float largest;
} e2m1 = { 2, 1, 2, 6.0f }, e2m3 = { 2, 3, 2, 7.5f }, e3m2 = { 3, 2, 4, 28.0f },
  e4m3 = { 4, 3, 8, 448.0f }, e5m2 = { 5, 2, 15, 57344.0f };

static const struct element *const elements4[] = { &e2m1 };
static const struct element *const elements6[] = { &e2m3, &e3m2 };
static const struct element *const elements8[] = { &e4m3, &e5m2 };

static const char *const element_names4[] = { "e2m1", NULL };
static const char *const element_names6[] = { "e2m3", "e3m2", NULL };
static const char *const element_names8[] = { "e4m3", "e5m2", NULL };
static const char *const scale_rules[] = { "floor", "ceil", "even", NULL };
static const char *const gradients[] = { "ste", "ste_clipped", NULL };

#define MXFP_OPTIONS(names_) { \
	QAT_ENUM(mxfp_options, element, 0, names_, "exponent and mantissa bits of an element"), \
	QAT_ENUM(mxfp_options, scale_rule, 0, scale_rules, \
		"exponent of the scale; floor: that of amax, less that of the grid's end, as OCP " \
		"has it; ceil: nothing saturates; even: as floor, but up where amax would round " \
		"up to the next power of two"), \
	QAT_ENUM(mxfp_options, gradient, STE, gradients, \
		"ste: passed on; ste_clipped: 0 where an element saturates"), \
	QAT_END \
}

static const qat_option options4[] = MXFP_OPTIONS(element_names4);
static const qat_option options6[] = MXFP_OPTIONS(element_names6);
static const qat_option options8[] = MXFP_OPTIONS(element_names8);

static int fill(const mxfp_options *o, const qat_site *site, int64_t index, const char *name,
		const struct element *e, qat_scheme *out)
{
	static const int32_t rules[] = {
		QAT_SCALE_POW2_FLOOR, QAT_SCALE_POW2_CEIL, QAT_SCALE_POW2_EVEN
	};

	if (index)
		return qat_fail(QAT_EINVAL, "%s: %s has one scheme, not a number %lld",
				site->name, name, (long long)index);
	if (site->cols < 1 || site->cols % MXFP_BLOCK)
		return qat_fail(QAT_EINVAL, "%s: %s needs columns in multiples of %d, not %lld: "
				"leave this site out or give it another scheme", site->name, name,
				MXFP_BLOCK, (long long)site->cols);
	*out = (qat_scheme){
		.size = out->size,
		.numerics = QAT_NUMERICS,
		.grid = QAT_GRID_FLOAT,
		.bits = 1 + e->ebits + e->mbits,
		.ebits = e->ebits,
		.mbits = e->mbits,
		.emax = e->emax,
		.largest = e->largest,
		.block_rows = 1,
		.block_cols = MXFP_BLOCK,
		.scale_format = QAT_E8M0,
		.scale_rule = rules[o->scale_rule],
		.range = QAT_RANGE_DYNAMIC,
		.zero = QAT_ZERO_NONE,
		.rounding = QAT_ROUND_NEAREST_EVEN,
		.gradient = o->gradient == STE ? QAT_GRAD_STE : QAT_GRAD_STE_CLIPPED,
		.name = name,
	};
	return QAT_OK;
}

static int mxfp4_scheme(const void *self, const qat_site *site, int64_t index, qat_scheme *out)
{
	const mxfp_options *o = self;

	return fill(o, site, index, "mxfp4", elements4[o->element], out);
}

static int mxfp6_scheme(const void *self, const qat_site *site, int64_t index, qat_scheme *out)
{
	const mxfp_options *o = self;

	return fill(o, site, index, "mxfp6", elements6[o->element], out);
}

static int mxfp8_scheme(const void *self, const qat_site *site, int64_t index, qat_scheme *out)
{
	const mxfp_options *o = self;

	return fill(o, site, index, "mxfp8", elements8[o->element], out);
}

static const qat_quantizer mxfp4_vtable = { .size = sizeof(qat_quantizer), .scheme = mxfp4_scheme };
static const qat_quantizer mxfp6_vtable = { .size = sizeof(qat_quantizer), .scheme = mxfp6_scheme };
static const qat_quantizer mxfp8_vtable = { .size = sizeof(qat_quantizer), .scheme = mxfp8_scheme };

#define MXFP_INTERFACE(name_, summary_, options_, vtable_) { \
	.size = sizeof(qat_interface), .kind = QAT_KIND_QUANTIZER, .name = name_, \
	.summary = summary_, .options = options_, .options_size = sizeof(mxfp_options), \
	.vtable = &vtable_ }

static const qat_interface interfaces[] = {
	MXFP_INTERFACE("mxfp4", "4-bit floats E2M1, a power-of-two scale for 32 (OCP Microscaling)",
		       options4, mxfp4_vtable),
	MXFP_INTERFACE("mxfp6", "6-bit floats E2M3 or E3M2, a power-of-two scale for 32 (OCP "
		       "Microscaling)", options6, mxfp6_vtable),
	MXFP_INTERFACE("mxfp8", "8-bit floats E4M3 or E5M2, a power-of-two scale for 32 (OCP "
		       "Microscaling)", options8, mxfp8_vtable),
};

static const qat_interface *const all[] = { &interfaces[0], &interfaces[1], &interfaces[2] };

QAT_PLUGIN("mxfp", all);
