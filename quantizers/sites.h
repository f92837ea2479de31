/* sites.h - what the quantizers that have a granularity ask of a site, alike. */
#ifndef QAT_QUANTIZERS_SITES_H
#define QAT_QUANTIZERS_SITES_H

#include "ranges.h"

enum { AUTO, TENSOR, CHANNEL, TOKEN, GROUP };

static const char *const granularities[] = { "auto", "tensor", "channel", "token", "group", NULL };

/* What a granularity cannot be at a site; QAT_EINVAL, with a message. */
static inline int check_port(const qat_site *site, int granularity, int dynamic)
{
	const int weight = site->port == QAT_PORT_WEIGHT;

	if (granularity == TOKEN && weight)
		return qat_fail(QAT_EINVAL, "%s, weight: granularity: token is for inputs: a "
				"weight has channels", site->name);
	if (granularity == CHANNEL && !weight)
		return qat_fail(QAT_EINVAL, "%s, %s: granularity: channel is for weights: an input "
				"has tokens", site->name, port_name(site));
	if (dynamic)
		return QAT_OK;
	if (weight)
		return qat_fail(QAT_EINVAL, "%s, weight: dynamic: false is for inputs: a weight's "
				"range follows the weight", site->name);
	if (granularity != TENSOR)
		return qat_fail(QAT_EINVAL, "%s, %s: dynamic: false with granularity: %s: a "
				"calibrated range is one for all tokens: say granularity: tensor",
				site->name, port_name(site), granularities[granularity]);
	return QAT_OK;
}

#endif
