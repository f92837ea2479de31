/* contract_quantizers.c - what quantizer.h and scheme.h promise, for every quantizer found
 * in QATRUN_PLUGIN_PATH: a newcomer's schemes are tested by being built.
 */
#include "plugin_host.h"
#include "plugin_files.h"

#include <qatrun/numerics.h>
#include <qatrun/quantizer.h>

enum { COLS = 256 };

QAT_HIDDEN const qat_host *qat_host_;	/* plugin.h asks for one; a host has none itself */

/* ---- what is called for every scheme ---- */

typedef struct subject {
	const char *name;
	const qat_quantizer *q;
	const void *self;
	const qat_site *site;
	const qat_scheme *s;
} subject;

#define must(c) ck_assert_msg(c, "%s, port %d: %s", x->name, x->site->port, #c)

static void check_grid(const subject *x)
{
	const qat_scheme *s = x->s;

	must(s->size == sizeof *s);
	must(s->numerics == QAT_NUMERICS);
	must(s->bits >= 1 && s->bits <= 8);
	must(s->grid >= QAT_GRID_UNIFORM && s->grid <= QAT_GRID_TABLE);
	if (s->grid == QAT_GRID_UNIFORM) {
		must(s->qmin >= -128 && s->qmin < s->qmax && s->qmax <= 127);
		must(s->qmax - s->qmin < 1 << s->bits);
	} else if (s->grid == QAT_GRID_FLOAT) {
		must(s->bits == 1 + s->ebits + s->mbits);
		must(s->ebits >= 1 && s->mbits >= 0);
		must(s->largest > 0 && s->largest < INFINITY);
		must(ilogbf(s->largest) == s->emax);
	} else {
		must(s->table != NULL);
		for (int i = 1; i < 1 << s->bits; i++)
			must(s->table[i - 1] < s->table[i]);
	}
}

static void check_rest(const subject *x)
{
	const qat_scheme *s = x->s;

	must(s->block_rows >= 0 && s->block_cols >= 0);
	must(!s->block_rows || x->site->rows % s->block_rows == 0);
	must(!s->block_cols || x->site->cols % s->block_cols == 0);
	must(s->scale_rule >= QAT_SCALE_ABSMAX && s->scale_rule <= QAT_SCALE_TWO_LEVEL);
	must(s->scale_format == QAT_F32 || s->scale_format == QAT_BF16 ||
	     s->scale_format == QAT_F16 || s->scale_format == QAT_E8M0 ||
	     s->scale_format == QAT_E4M3);
	must(qat_scale_is_pow2(s) == (s->scale_format == QAT_E8M0));
	must(s->range >= QAT_RANGE_DYNAMIC && s->range <= QAT_RANGE_LEARNED);
	must(s->zero >= QAT_ZERO_NONE && s->zero <= QAT_ZERO_FLOAT);
	must(s->zero == QAT_ZERO_NONE || s->grid == QAT_GRID_UNIFORM);
	must((s->scale_rule == QAT_SCALE_MINMAX) == (s->zero == QAT_ZERO_INT));
	must((s->scale_rule == QAT_SCALE_FLOAT_ZERO) == (s->zero == QAT_ZERO_FLOAT));
	must(s->scale_rule > QAT_SCALE_SIGNED || (s->divisor == s->divisor && s->divisor != 0));
	must(s->rounding == QAT_ROUND_NEAREST_EVEN || s->rounding == QAT_ROUND_STOCHASTIC);
	must(s->gradient >= QAT_GRAD_STE && s->gradient <= QAT_GRAD_HOST);
	must(s->name && *s->name);
}

/* n numbers that no two calls with another seed share, bell-shaped, of size `size`. */
static void fill(float *x, int n, uint64_t seed, float size)
{
	uint32_t w[4];

	for (int i = 0; i < n; i++) {
		qat_philox(w, seed, (uint64_t)i, 0, 0);
		x[i] = (qat_uniform(w[0]) + qat_uniform(w[1]) + qat_uniform(w[2]) - 1.5f) * size;
	}
}

static float block_scale(float *zero, const qat_scheme *s, const float *x, int n)
{
	qat_block_stats b;

	qat_stats_init(&b);
	for (int i = 0; i < n; i++)
		qat_stats_add(&b, x[i]);
	return qat_block_scale(s, &b, zero);
}

/* Quantizing what was dequantized changes nothing, given the same scale. */
static void check_codes(const subject *x, float size)
{
	const int n = x->s->block_cols ? (int)x->s->block_cols : COLS;
	float v[COLS], zero, scale;
	int pass, inside;

	must(n <= COLS);
	fill(v, n, 7, size);
	scale = block_scale(&zero, x->s, v, n);
	must(scale == scale && scale != 0);
	must(scale == qat_scale_stored(x->s, scale));
	for (int i = 0; i < n; i++) {
		const uint8_t code = qat_code(x->s, v[i], scale, zero, &pass);
		const float back = qat_decode(x->s, code, scale, zero);
		const uint8_t again = qat_code(x->s, back, scale, zero, &inside);

		must(back == back);
		must(fabsf(back - v[i]) <= size * 3);
		if (x->s->grid == QAT_GRID_UNIFORM && pass)
			must(fabsf(back - v[i]) <= fabsf(scale) * 0.501f);
		must(qat_decode(x->s, again, scale, zero) == back);
		if (x->s->grid == QAT_GRID_UNIFORM)
			must((int8_t)code >= x->s->qmin && (int8_t)code <= x->s->qmax);
		else
			must(code >> x->s->bits == 0);
	}
}

static void check_odd_blocks(const subject *x)
{
	const float zeros[4] = { 0, -0.0f, 0, 0 }, bad[4] = { 1, NAN, 2, 3 };
	float zero, scale = block_scale(&zero, x->s, zeros, 4);
	int inside;

	must(scale > 0);
	if (x->s->grid != QAT_GRID_TABLE)
		must(fabsf(qat_decode(x->s, qat_code(x->s, 0, scale, zero, &inside), scale, zero))
		     <= 1e-6f);
	scale = block_scale(&zero, x->s, bad, 4);
	must(scale != scale);
	scale = qat_decode(x->s, qat_code(x->s, 1, scale, zero, &inside), scale, zero);
	must(scale != scale);
}

static void check_site(subject *x)
{
	const int64_t count = x->q->count ? x->q->count(x->self, x->site) : 1;
	qat_scheme s, again;

	must(count >= 1);
	for (int64_t i = 0; i < count; i++) {
		memset(&s, 0x5a, sizeof s);
		s.size = sizeof s;
		host_message[0] = '\0';
		if (x->q->scheme(x->self, x->site, i, &s)) {
			must(host_message[0] && strstr(host_message, x->site->name));
			continue;
		}
		x->s = &s;
		check_grid(x);
		check_rest(x);
		memset(&again, 0x5a, sizeof again);
		again.size = sizeof again;
		must(x->q->scheme(x->self, x->site, i, &again) == QAT_OK);
		must(!memcmp(&again.numerics, &s.numerics,
			     offsetof(qat_scheme, name) - offsetof(qat_scheme, numerics)));
		if (s.range != QAT_RANGE_DYNAMIC)
			continue;
		check_codes(x, 1.0f);
		check_codes(x, 3e-5f);
		check_codes(x, 2e4f);
		check_odd_blocks(x);
	}
	host_message[0] = '\0';
	must(x->q->scheme(x->self, x->site, count, &s) < 0);
	must(host_message[0]);
	for (int64_t step = 0; x->q->select && step < 100; step++) {
		const int64_t i = x->q->select(x->self, x->site, step, 100);

		must(i >= 0 && i < count);
	}
}

/* Options that only a pipeline can give: a scheme that wraps another is not for us. */
static int needs_pipeline(const qat_interface *i)
{
	for (const qat_option *o = i->options; o && o->name; o++)
		if (o->flags & QAT_OPT_REQUIRED || o->type == QAT_OPT_SCHEME)
			return 1;
	return 0;
}

START_TEST(schemes)
{
	const qat_site sites[] = {
		{ sizeof(qat_site), QAT_PORT_WEIGHT, 64, COLS, "layers.0.mlp.up" },
		{ sizeof(qat_site), QAT_PORT_INPUT, 512, COLS, "layers.0.mlp.up" },
		{ sizeof(qat_site), QAT_PORT_KV, 512, COLS, "layers.0.attn" },
		{ sizeof(qat_site), QAT_PORT_WEIGHT, 7, 35, "lm_head" },
		{ sizeof(qat_site), QAT_PORT_WEIGHT, 1, 1, "embed" },
	};
	const qat_plugin *p = plugins[_i];

	ck_assert_int_eq(p->abi_major, QAT_ABI_MAJOR);
	ck_assert_int_eq(p->init(&host_table), QAT_OK);
	for (uint32_t k = 0; k < p->count; k++) {
		const qat_interface *i = p->interfaces[k];
		subject x = { .name = i->name, .q = i->vtable };
		void *self;

		if (i->kind != QAT_KIND_QUANTIZER || needs_pipeline(i))
			continue;
		ck_assert_uint_ge(x.q->size, offsetof(qat_quantizer, count));
		x.self = self = host_defaults(i);
		for (size_t n = 0; n < sizeof sites / sizeof *sites; n++) {
			x.site = &sites[n];
			check_site(&x);
		}
		free(self);
	}
}
END_TEST

int main(void)
{
	Suite *suite;
	TCase *t;

	find_plugins("quantizer-");
	if (!n_plugins) {
		puts("no quantizer-*.so in QATRUN_PLUGIN_PATH: nothing to test");
		return 77;
	}
	suite = suite_create("quantizers");
	t = tcase_create("contract");
	tcase_add_loop_test(t, schemes, 0, n_plugins);
	suite_add_tcase(suite, t);
	return host_run(suite);
}
