/* scheme.c - what a scheme may say, whoever said it: a plugin, or a state's document. */
#include "scheme.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const qat_scheme_field qat_scheme_fields[QAT_SCHEME_FIELDS] = {
	{ "grid", offsetof(qat_scheme, grid), 1, 3 },
	{ "bits", offsetof(qat_scheme, bits), 1, 8 },
	{ "exponent_bits", offsetof(qat_scheme, ebits), 0, 5 },
	{ "mantissa_bits", offsetof(qat_scheme, mbits), 0, 5 },
	{ "emax", offsetof(qat_scheme, emax), -32, 32 },
	{ "qmin", offsetof(qat_scheme, qmin), -128, 127 },
	{ "qmax", offsetof(qat_scheme, qmax), -128, 127 },
	{ "scale_format", offsetof(qat_scheme, scale_format), 1, 10 },
	{ "scale_rule", offsetof(qat_scheme, scale_rule), 1, 8 },
	{ "range", offsetof(qat_scheme, range), 0, 2 },
	{ "zero", offsetof(qat_scheme, zero), 0, 2 },
	{ "rounding", offsetof(qat_scheme, rounding), 0, 1 },
	{ "gradient", offsetof(qat_scheme, gradient), 0, 4 },
};

static const char *wrong_field(char out[96], const qat_scheme *s)
{
	for (int i = 0; i < QAT_SCHEME_FIELDS; i++) {
		const qat_scheme_field *f = &qat_scheme_fields[i];
		int32_t v;

		memcpy(&v, (const char *)s + f->offset, sizeof v);
		if (v >= f->min && v <= f->max)
			continue;
		snprintf(out, 96, "a scheme's %s is %d, out of range: %lld to %lld", f->key,
			 (int)v, (long long)f->min, (long long)f->max);
		return out;
	}
	return NULL;
}

static int wrong_format(int32_t f)
{
	return f != QAT_F32 && f != QAT_BF16 && f != QAT_F16 && f != QAT_E8M0 && f != QAT_E4M3;
}

static int wrong_float_grid(const qat_scheme *s)
{
	return s->ebits < 1 || 1 + s->ebits + s->mbits != s->bits ||
	       !(s->largest > 0.0f && s->largest <= 57344.0f);
}

static int wrong_divisor(const qat_scheme *s)
{
	const double least = s->scale_rule == QAT_SCALE_SIGNED ? -1e6 : 1e-3;

	if (s->scale_rule != QAT_SCALE_ABSMAX && s->scale_rule != QAT_SCALE_SIGNED)
		return 0;
	return !(s->divisor >= least && s->divisor <= 1e6 && s->divisor != 0.0);
}

static int wrong_table(const qat_scheme *s)
{
	if (!s->table)
		return 1;
	for (int i = 0; i < 1 << s->bits; i++)
		if (!isfinite(s->table[i]))
			return 1;
	return 0;
}

/* Whatever the grid: a document cannot hold them, nor a reader. */
static int wrong_number(const qat_scheme *s)
{
	return !isfinite(s->divisor) || !isfinite(s->measure_value) ||
	       !(s->largest >= 0.0f && s->largest <= 57344.0f);
}

const char *qat_scheme_wrong(char out[96], const qat_scheme *s)
{
	const char *field = wrong_field(out, s);

	if (field)
		return field;
	if (s->block_rows < 0 || s->block_cols < 0)
		return "a scheme's block is impossible";
	if (s->grid == QAT_GRID_FLOAT && wrong_float_grid(s))
		return "a scheme's float grid is impossible";
	if (s->grid == QAT_GRID_TABLE && wrong_table(s))
		return "a scheme's table of values is missing or not finite";
	if (wrong_format(s->scale_format))
		return "a scheme's scale format is unknown";
	if (s->grid == QAT_GRID_UNIFORM &&
	    (s->qmin > 0 || s->qmax < 1 || s->qmax >= 1 << (s->bits - 1) ||
	     s->qmin < -(1 << (s->bits - 1))))
		return "a scheme's range does not fit its bits";
	if (s->scale_rule == QAT_SCALE_TWO_LEVEL &&
	    (s->grid != QAT_GRID_FLOAT || s->scale_format != QAT_E4M3 || s->second_rows < 0))
		return "a scheme's scales of two levels are impossible";
	if (wrong_divisor(s))
		return "a scheme's divisor is impossible";
	return wrong_number(s) ? "a scheme has a number that is none or too large" : NULL;
}
