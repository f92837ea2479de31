/* compare.c - qat-compare: what schemes cost a model, rounded and trained for. */
#include "kit.h"

#include <string.h>

enum { SCHEMES_MAX = 32 };

static const qat_front_option options[] = {
	{ "data", "FILE", NULL, "text or JSON lines to judge by; may be given several times", 1 },
	{ "schemes", "LIST", NULL, "of the weights, as in int4:32,mxfp4: names, with group\n"
	  "sizes where they have them", 1 },
	{ "train", "FILE", NULL, "to train on; may be given several times; default: the model is\n"
	  "only rounded", 0 },
	{ "activations", "NAME", NULL, "scheme of what comes in; default: none", 0 },
	FRONT_TRAINING,
	FRONT_RUN,
	{ .name = NULL }
};

static const char usage[] =
	"usage: qat-compare MODEL --data FILE --schemes LIST [--train FILE] [options]\n"
	"\n"
	"Rounds MODEL, a file, a folder or a hub name, by each scheme (ptq), and trains it for\n"
	"each (qat). The measure is the control, trained on the same tokens in full precision,\n"
	"and the control rounded (control-ptq): recovered is the part of that damage that\n"
	"training undid.\n"
	"\n"
	"  qat-compare SmolLM2.gguf --data test.txt --train valid.txt \\\n"
	"      --schemes int4:32,int3:32,mxfp4 --activations int8\n"
	"\n";

typedef struct plan {
	front_scheme scheme[SCHEMES_MAX], input;
	int count;
	int trained;		/* there is --train */
} plan;

static int read_schemes(plan *p, const qat_front_given *g)
{
	const char *at = qat_front_value(g, "schemes");

	for (;; at++) {
		const size_t n = strcspn(at, ",");
		int rc;

		if (p->count == SCHEMES_MAX)
			return qat_front_fail(QAT_EINVAL, "--schemes: more than %d", SCHEMES_MAX);
		rc = front_scheme_read(&p->scheme[p->count], at, n, "schemes");
		if (!rc && front_scheme_none(&p->scheme[p->count]))
			rc = qat_front_fail(QAT_EINVAL, "--schemes: none is no scheme: the model "
					    "as it is is compared with in any case");
		if (rc)
			return rc;
		p->count++;
		at += n;
		if (!*at)
			return front_scheme_of(&p->input, g, "activations");
	}
}

/* Two that differ only in what names cannot say, or not at all. */
static int check_labels(const plan *p)
{
	for (int i = 0; i < p->count; i++)
		for (int k = 0; k < i; k++)
			if (!strcmp(p->scheme[i].label, p->scheme[k].label))
				return qat_front_fail(QAT_EINVAL, "--schemes: %s is there twice",
						      p->scheme[i].label);
	return QAT_OK;
}

static int write_schemes(FILE *out, const qat_front_given *g, const plan *p)
{
	const char *input = front_scheme_none(&p->input) ? NULL : "a";
	int rc = QAT_OK;

	fputs("\n# How a matrix becomes codes and scales.\nschemes:\n", out);
	for (int i = 0; !rc && i < p->count; i++) {
		char name[128];

		snprintf(name, sizeof name, "w-%s", p->scheme[i].label);
		rc = front_write_scheme(out, name, &p->scheme[i]);
	}
	if (!rc)
		rc = front_write_scheme(out, "a", &p->input);
	fputs("\n# Where: the last rule that matches a site wins.\nsites:\n", out);
	for (int i = 0; !rc && i < p->count; i++) {
		char name[128];

		snprintf(name, sizeof name, "w-%s", p->scheme[i].label);
		rc = front_write_sites(out, g, p->scheme[i].label, name, input);
	}
	return rc;
}

static int write_fit(FILE *out, const qat_front_given *g)
{
	int rc;

	fputs("\nsettings: &fit {", out);
	rc = front_write_fit(out, g, 16);
	fputs("}\n", out);
	return rc;
}

static void write_states(FILE *out, const plan *p, const char *prefix)
{
	for (int i = 0; i < p->count; i++)
		fprintf(out, ", %s-%s", prefix, p->scheme[i].label);
}

static void write_judgement(FILE *out, const plan *p)
{
	fputs("  - task: evaluate\n    data: test\n    of: [base", out);
	write_states(out, p, "ptq");
	if (p->trained) {
		fputs(", control", out);
		write_states(out, p, "control-ptq");
		write_states(out, p, "qat");
	}
	fputs("]\n", out);
	for (int i = 0; p->trained && i < p->count; i++)
		fprintf(out, "  - {task: compare, of: [qat-%s], ptq: control-ptq-%s, "
			"control: control, data: test}\n", p->scheme[i].label,
			p->scheme[i].label);
}

static void write_steps(FILE *out, const plan *p)
{
	fputs("\nsteps:\n", out);
	for (int i = 0; i < p->count; i++)
		fprintf(out, "  - {task: quantize, from: base, sites: %s, as: ptq-%s}\n",
			p->scheme[i].label, p->scheme[i].label);
	if (p->trained)
		fputs("  # In full precision, on the same tokens: what a user would do otherwise.\n"
		      "  - {task: train, from: base, as: control, <<: *fit}\n", out);
	for (int i = 0; p->trained && i < p->count; i++)
		fprintf(out, "  - {task: quantize, from: control, sites: %s, as: control-ptq-%s}\n",
			p->scheme[i].label, p->scheme[i].label);
	for (int i = 0; p->trained && i < p->count; i++)
		fprintf(out, "  - {task: train, from: base, sites: %s, as: qat-%s, <<: *fit}\n",
			p->scheme[i].label, p->scheme[i].label);
	write_judgement(out, p);
}

static int write(FILE *out, const qat_front_given *g)
{
	plan p = { .trained = qat_front_values(g, "train", 0) != NULL };
	int rc = read_schemes(&p, g);

	if (!rc)
		rc = check_labels(&p);
	if (!rc)
		rc = front_write_head(out, g, p.count == 1 ? p.scheme[0].label : "compared");
	fputs("data:\n", out);
	if (!rc && p.trained)
		rc = front_write_data(out, g, "train", "train", 0);
	if (!rc)
		rc = front_write_data(out, g, "test", "data", 1);
	if (!rc)
		rc = write_schemes(out, g, &p);
	if (!rc && p.trained)
		rc = write_fit(out, g);
	if (!rc)
		write_steps(out, &p);
	return rc;
}

static const qat_front front = {
	.name = "qat-compare", .usage = usage, .word = "model", .options = options, .write = write
};

int main(int argc, char **argv)
{
	return qat_front_main(&front, argc, argv);
}
