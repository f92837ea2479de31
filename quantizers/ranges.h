/* ranges.h - the options that say which part of what was seen is the range, alike in the
 * quantizers that have them.
 */
#ifndef QAT_QUANTIZERS_RANGES_H
#define QAT_QUANTIZERS_RANGES_H

#include <qatrun/quantizer.h>

enum { MINMAX, PERCENTILE, MSE, EMA };

/* As it is called in a message. */
static inline const char *port_name(const qat_site *site)
{
	return site->port == QAT_PORT_WEIGHT ? "weight" : site->port == QAT_PORT_KV ? "kv"
	     : "input";
}

/* A member of the options. */
typedef struct range_options {
	int64_t range;
	double percentile, ema_rate;
} range_options;

static const char *const range_names[] = { "minmax", "percentile", "mse", "ema", NULL };

#define RANGE_OPTIONS(t_) \
	{ .name = "range", .type = QAT_OPT_ENUM, .offset = offsetof(t_, ranges.range), \
	  .choices = range_names, .help = "what the scale is made from; minmax: all that was " \
	  "seen; percentile: the elements nearest to 0; mse: the part with the least squared " \
	  "error; ema: with dynamic: false, a moving average over batches" }, \
	{ .name = "percentile", .type = QAT_OPT_FLOAT, .offset = offsetof(t_, ranges.percentile), \
	  .def = 99.99, .min = 50, .max = 100, .help = "with range: percentile, in percent" }, \
	{ .name = "ema_rate", .type = QAT_OPT_FLOAT, .offset = offsetof(t_, ranges.ema_rate), \
	  .def = 0.01, .min = 1e-6, .max = 1, .help = "with range: ema, weight of a new batch" }

static inline void range_fill(const range_options *o, qat_scheme *out)
{
	static const int32_t measures[] = { QAT_MEASURE_MINMAX, QAT_MEASURE_PERCENTILE,
					    QAT_MEASURE_MSE, QAT_MEASURE_EMA };

	out->measure = measures[o->range];
	out->measure_value = o->range == PERCENTILE ? o->percentile
			   : o->range == EMA ? o->ema_rate : 0.0;
}

/* What dynamic ranges, of weights and inputs, cannot be. `weights`: those of weights can
 * be searched for. */
static inline int range_check(const range_options *o, const qat_site *site, int dynamic,
			      int weights)
{
	const int weight = site->port == QAT_PORT_WEIGHT;
	const char *port = port_name(site);

	if (!dynamic || o->range == MINMAX || (weight && weights && o->range != EMA))
		return QAT_OK;
	if (weight)
		return qat_fail(QAT_EINVAL, "%s, weight: range: %s is for inputs with dynamic: "
				"false", site->name, range_names[o->range]);
	return qat_fail(QAT_EINVAL, "%s, %s: range: %s is measured by a calibrate step: say "
			"dynamic: false", site->name, port, range_names[o->range]);
}

#endif
