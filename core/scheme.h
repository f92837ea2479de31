/* scheme.h - what a scheme may say, whoever said it: a plugin, or a state's document. */
#ifndef QAT_SCHEME_CHECK_H
#define QAT_SCHEME_CHECK_H

#include <qatrun/scheme.h>

/* Integer fields by the name that documents give them; bounds are what is accepted. */
typedef struct qat_scheme_field {
	const char *key;
	size_t offset;
	int64_t min, max;
} qat_scheme_field;

enum { QAT_SCHEME_FIELDS = 13 };

extern const qat_scheme_field qat_scheme_fields[QAT_SCHEME_FIELDS];

/* Why no kernel could run it: "a scheme's block is impossible"; NULL where nothing is
 * wrong. `out` holds what is said of a field. */
const char *qat_scheme_wrong(char out[96], const qat_scheme *s);

#endif
