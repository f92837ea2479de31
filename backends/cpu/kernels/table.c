/* table.c - all tables of one ISA in one. Per ISA. */
#include "kernels.h"
#include "simd.h"

#define QAT_TEXT_(x) #x
#define QAT_TEXT(x) QAT_TEXT_(x)

extern const qat_gemm_kernels QAT_NAME(qat_gemm);
extern const qat_gemm_kernels QAT_NAME(qat_gemm_bf16);
extern const qat_quantize_kernels QAT_NAME(qat_quantize);
extern const qat_qmm_kernels QAT_NAME(qat_qmm);
extern const qat_attention_kernels QAT_NAME(qat_attention);
extern const qat_elementwise_kernels QAT_NAME(qat_elementwise);
extern const qat_norm_kernels QAT_NAME(qat_norm);
extern const qat_row_kernels QAT_NAME(qat_row);
extern const qat_grad_kernels QAT_NAME(qat_grad);
extern const qat_moment_kernels QAT_NAME(qat_moment);
extern const qat_ceiling_kernels QAT_NAME(qat_ceiling);

extern const qat_kernels QAT_NAME(qat_kernels);
const qat_kernels QAT_NAME(qat_kernels) = {
	.name = QAT_TEXT(QAT_ISA),
	.gemm = &QAT_NAME(qat_gemm),
	.quantize = &QAT_NAME(qat_quantize),
	.qmm = &QAT_NAME(qat_qmm),
	.attention = &QAT_NAME(qat_attention),
	.elementwise = &QAT_NAME(qat_elementwise),
	.norm = &QAT_NAME(qat_norm),
	.row = &QAT_NAME(qat_row),
	.gemm_bf16 = &QAT_NAME(qat_gemm_bf16),
	.grad = &QAT_NAME(qat_grad),
	.moment = &QAT_NAME(qat_moment),
	.ceiling = &QAT_NAME(qat_ceiling),
};
