/* pipeline_help.c - the keys of a pipeline file, as a page of help. */
#include "pipeline_internal.h"

int qat_pipeline_help(FILE *out)
{
	static const struct { const char *head; const qat_option *table; } parts[] = {
		{ "qatrun: 1\n", qat_pipeline_top_options },
		{ "\nmodel: the model, which is the state \"base\"; with init: random, config: has"
		  " its sizes\n", qat_pipeline_model_options },
		{ "\ndevice: with backend: NAME, the options of that backend stand beside these\n",
		  qat_pipeline_device_options },
		{ "\ndata: NAME: {dataset: PLUGIN, its options}\n"
		  "schemes: NAME: {quantizer: PLUGIN, its options}\n"
		  "sites: NAME: a list of rules, of which the last that matches wins\n",
		  qat_pipeline_rule_options }
	};
	int rc = QAT_OK;

	for (size_t i = 0; !rc && i < sizeof parts / sizeof *parts; i++) {
		fputs(parts[i].head, out);
		rc = qat_option_help(out, parts[i].table);
	}
	fputs("\ntrackers: a list of PLUGIN or {name: PLUGIN, its options}\n"
	      "steps: a list of {task: PLUGIN, its options}\n"
	      "settings, x-*: a place for anchors\n", out);
	return rc;
}
