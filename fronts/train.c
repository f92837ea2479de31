/* train.c - qat-train: trains a model for a scheme, evaluates and saves it. */
#include "kit.h"

#include <string.h>

static const qat_front_option options[] = {
	{ "data", "FILE", NULL, "text or JSON lines to train on; may be given several times", 1 },
	{ "test", "FILE", NULL, "judge the model by, before and after; may be given several\n"
	  "times; default: it is not judged", 0 },
	{ "scheme", "NAME", NULL, "of the weights: int4, or with a group size int4:32, or none,\n"
	  "which trains in full precision", 1 },
	{ "group-size", "N", NULL, "columns of a weight that share a scale; default: a row", 0 },
	{ "activations", "NAME", NULL, "scheme of what comes in; default: none", 0 },
	FRONT_TRAINING,
	{ "gradient-bits", "N", NULL, "codes of gradients, 2 to 8 bits: faster where the schemes\n"
	  "allow it; default: floats", 0 },
	{ "moments", "NAME", NULL, "how AdamW keeps its two numbers for each parameter: f32, or\n"
	  "8bit, in a quarter of the memory; default: f32", 0 },
	FRONT_RUN,
	{ .name = NULL }
};

static const char usage[] =
	"usage: qat-train MODEL --data FILE --scheme NAME [options]\n"
	"\n"
	"Trains MODEL, a file, a folder or a hub name, for the scheme, and saves it as codes and\n"
	"scales in DIR/model. --scheme none trains in full precision.\n"
	"\n"
	"  qat-train SmolLM2.gguf --data train.txt --test test.txt \\\n"
	"      --scheme int4:32 --activations int8 --steps 100 --lr 2e-5 --precision bf16\n"
	"\n";

typedef struct schemes {
	front_scheme weight, input;
	int any;
} schemes;

static int read_schemes(schemes *s, const qat_front_given *g)
{
	const char *group = qat_front_value(g, "group-size");
	int rc = front_scheme_of(&s->weight, g, "scheme");

	if (!rc)
		rc = front_scheme_of(&s->input, g, "activations");
	if (!rc && group && front_scheme_none(&s->weight))
		rc = qat_front_fail(QAT_EINVAL, "--group-size: no weight has a scheme");
	if (!rc && group && *s->weight.group)
		rc = qat_front_fail(QAT_EINVAL, "--group-size: --scheme says %s already",
				    s->weight.group);
	if (!rc && group && strlen(group) >= sizeof s->weight.group)
		rc = qat_front_fail(QAT_EINVAL, "--group-size: %.40s... is no number", group);
	if (!rc && group)
		strcpy(s->weight.group, group);
	s->any = !front_scheme_none(&s->weight) || !front_scheme_none(&s->input);
	return rc;
}

static int write_schemes(FILE *out, const qat_front_given *g, const schemes *s)
{
	const int weight = !front_scheme_none(&s->weight), input = !front_scheme_none(&s->input);
	int rc;

	if (!s->any)
		return QAT_OK;
	fputs("\n# How a matrix becomes codes and scales.\nschemes:\n", out);
	rc = front_write_scheme(out, "w", &s->weight);
	if (!rc)
		rc = front_write_scheme(out, "a", &s->input);
	fputs("\n# Where: the last rule that matches a site wins.\nsites:\n", out);
	return rc ? rc : front_write_sites(out, g, "deploy", weight ? "w" : NULL,
					   input ? "a" : NULL);
}

static int write_steps(FILE *out, const qat_front_given *g, int quantized, int judged)
{
	const char *state = quantized ? "qat" : "tuned";
	int rc;

	fprintf(out, "\nsteps:\n  - {task: train, from: base, %sas: %s, ",
		quantized ? "sites: deploy, " : "", state);
	rc = front_write_fit(out, g, 5);
	fputs("}\n", out);
	if (judged)
		fprintf(out, "  - {task: evaluate, of: [base, %s], data: test}\n", state);
	if (quantized)
		fputs("  # Codes and scales, as they were trained: the model.path of another "
		      "run.\n", out);
	fprintf(out, "  - {task: save, from: %s, path: model}\n", state);
	return rc;
}

static int write(FILE *out, const qat_front_given *g)
{
	const int judged = qat_front_values(g, "test", 0) != NULL;
	schemes s;
	int rc = read_schemes(&s, g);

	if (!rc)
		rc = front_write_head(out, g, front_scheme_none(&s.weight) ? "tuned"
							: s.weight.label);
	fputs("data:\n", out);
	if (!rc)
		rc = front_write_data(out, g, "train", "data", 0);
	if (!rc && judged)
		rc = front_write_data(out, g, "test", "test", 1);
	if (!rc)
		rc = write_schemes(out, g, &s);
	return rc ? rc : write_steps(out, g, s.any, judged);
}

static const qat_front front = {
	.name = "qat-train", .usage = usage, .word = "model", .options = options, .write = write
};

int main(int argc, char **argv)
{
	return qat_front_main(&front, argc, argv);
}
