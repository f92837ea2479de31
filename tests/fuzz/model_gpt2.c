/* model_gpt2.c - the plugin under names of its own, beside another. */
#define qat_host_ host_gpt2
#define qat_plugin_v1 plugin_gpt2
extern const struct qat_host *qat_host_;
#include "models/gpt2.c"
