/* graph_schemes.h - for tests of graphs: two schemes that no quantizer had to make. */
#ifndef QAT_TEST_GRAPH_SCHEMES_H
#define QAT_TEST_GRAPH_SCHEMES_H

#include <qatrun/scheme.h>

#define INTEGERS .size = sizeof(qat_scheme), .numerics = QAT_NUMERICS, \
	.grid = QAT_GRID_UNIFORM, .scale_format = QAT_F32, .scale_rule = QAT_SCALE_ABSMAX, \
	.gradient = QAT_GRAD_STE_CLIPPED, .name = "test", .block_rows = 1

/* 8 bits for a row, 4 bits for groups of 8. */
static const qat_scheme rows8 = { INTEGERS, .bits = 8, .qmin = -127, .qmax = 127, .divisor = 127 };
static const qat_scheme groups4 = {
	INTEGERS, .bits = 4, .qmin = -8, .qmax = 7, .divisor = 7.5, .block_cols = 8
};
static const qat_scheme *const rows8_at[] = { &rows8 }, *const groups4_at[] = { &groups4 };
static const qat_scheme_set rows8_set = { sizeof rows8_set, -1, 1, rows8_at };
static const qat_scheme_set groups4_set = { sizeof groups4_set, -1, 1, groups4_at };

#endif
