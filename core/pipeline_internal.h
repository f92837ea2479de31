/* pipeline_internal.h - the parts of a pipeline, in the order in which they are read. */
#ifndef QAT_PIPELINE_INTERNAL_H
#define QAT_PIPELINE_INTERNAL_H

#include "option.h"
#include "pipeline.h"

int qat_pipeline_read_model(qat_pipeline *p, const qat_yaml_node *node);
int qat_pipeline_read_device(qat_pipeline *p, const qat_yaml_node *node);
int qat_pipeline_read_data(qat_pipeline *p, const qat_yaml_node *node);
int qat_pipeline_read_schemes(qat_pipeline *p, const qat_yaml_node *node);
int qat_pipeline_read_sites(qat_pipeline *p, const qat_yaml_node *node);
int qat_pipeline_read_trackers(qat_pipeline *p, const qat_yaml_node *node);
int qat_pipeline_read_steps(qat_pipeline *p, const qat_yaml_node *node);

/* Fails at `at` unless its text is a valid name. `what`: "a state". */
int qat_pipeline_name(const qat_yaml_node *at, const char *what);

/* Fails at `at`: unknown `what` "text", with the nearest of p's names. `name` gives the
 * i-th name. */
typedef const char *qat_pipeline_names(const void *p, int64_t i);
int qat_pipeline_unknown(const qat_pipeline *p, const qat_yaml_node *at, const char *what,
			 qat_pipeline_names *name);

/* Tables of the parts, for --help. */
extern const qat_option qat_pipeline_top_options[];
extern const qat_option qat_pipeline_model_options[];
extern const qat_option qat_pipeline_device_options[];
extern const qat_option qat_pipeline_rule_options[];

const char *qat_pipeline_data_name(const void *p, int64_t i);
const char *qat_pipeline_scheme_name(const void *p, int64_t i);
const char *qat_pipeline_sites_name(const void *p, int64_t i);
const char *qat_pipeline_state_name(const void *p, int64_t i);

#endif
