/* test_scheme.c - schemes that no kernel could run, whether a plugin made them or a file. */
#include "kinds.h"	/* first: check.h has a macro `fail` */

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "scheme.h"

static const qat_scheme plain = {
	.size = sizeof plain, .numerics = QAT_NUMERICS, .grid = QAT_GRID_UNIFORM, .bits = 4,
	.qmin = -7, .qmax = 7, .block_rows = 1, .block_cols = 32, .scale_format = QAT_F32,
	.scale_rule = QAT_SCALE_ABSMAX, .divisor = 7.0,
};

static void refused(const qat_scheme *s, const char *why)
{
	char text[96];
	const char *said = qat_scheme_wrong(text, s);

	ck_assert_ptr_nonnull(said);
	ck_assert_ptr_nonnull(strstr(said, why));
}

START_TEST(fields)
{
	char text[96];

	ck_assert_ptr_null(qat_scheme_wrong(text, &plain));
	for (int i = 0; i < QAT_SCHEME_FIELDS; i++) {
		const qat_scheme_field *f = &qat_scheme_fields[i];
		const int32_t bad[] = { (int32_t)f->min - 1, (int32_t)f->max + 1, INT32_MIN, 99999 };

		for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
			qat_scheme s = plain;

			memcpy((char *)&s + f->offset, &bad[k], sizeof bad[k]);
			refused(&s, f->key);
		}
	}
}
END_TEST

START_TEST(together)
{
	qat_scheme s = plain;

	s.block_cols = -1;
	refused(&s, "block");
	s = plain;
	s.qmax = 8;
	refused(&s, "range does not fit");
	s = plain;
	s.scale_format = QAT_I32;
	refused(&s, "scale format");
	s = plain;
	s.divisor = NAN;
	refused(&s, "divisor");
	s = plain;
	s.grid = QAT_GRID_TABLE;
	refused(&s, "table");
	s.grid = QAT_GRID_FLOAT;
	refused(&s, "float grid");
	s = plain;
	s.scale_rule = QAT_SCALE_MINMAX;
	s.divisor = INFINITY;
	refused(&s, "a number that is none");
	s = plain;
	s.largest = INFINITY;
	refused(&s, "a number that is none");
	s.largest = -1.0f;
	refused(&s, "a number that is none");
	s = plain;
	s.grid = QAT_GRID_TABLE;
	s.bits = 1;
	s.table = (const float[]){ 0.0f, INFINITY };
	refused(&s, "table");
	s = plain;
	s.scale_rule = QAT_SCALE_TWO_LEVEL;
	refused(&s, "two levels");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("scheme");
	TCase *t = tcase_create("scheme");
	SRunner *r;
	int failed;

	tcase_add_test(t, fields);
	tcase_add_test(t, together);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
