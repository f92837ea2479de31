/* onednn.h - products by oneDNN, prepared once per shape. Without oneDNN qat_onednn_new
 * returns QAT_ENOTSUP, with no message. */
#ifndef QAT_CPU_ONEDNN_H
#define QAT_CPU_ONEDNN_H

#include "kernels/kernels.h"

typedef struct qat_onednn qat_onednn;

int qat_onednn_new(qat_onednn **out);
void qat_onednn_free(qat_onednn *o);
/* The library that is loaded, and the instructions that it uses. */
void qat_onednn_describe(char *out, size_t room);
int qat_onednn_matmul(qat_onednn *o, const qat_gemm_args *g);

#endif
