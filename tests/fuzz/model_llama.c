/* model_llama.c - the plugin under names of its own, beside another. */
#define qat_host_ host_llama
#define qat_plugin_v1 plugin_llama
extern const struct qat_host *qat_host_;
#include "models/llama.c"
