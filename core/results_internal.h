/* results_internal.h - the document, for the files that write and print it. */
#ifndef QAT_RESULTS_INTERNAL_H
#define QAT_RESULTS_INTERNAL_H

#include <jansson.h>

#include "results.h"

struct qat_row {
	json_t *object;		/* the document's */
	qat_results *results;
	qat_row *next;
};

struct qat_results {
	char *path;
	json_t *document;
	json_t *printed;	/* by list: how many of its rows */
	qat_row *rows;
	int failed;		/* memory ran out */
};

#endif
