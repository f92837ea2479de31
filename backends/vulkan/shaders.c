/* shaders.c - the shaders as compiled by glslc when this was built. */
#include "vulkan.h"

static const uint32_t adamw[] =
#include "shaders/adamw.inc"
;
static const uint32_t append[] =
#include "shaders/append.inc"
;
static const uint32_t attention[] =
#include "shaders/attention.inc"
;
static const uint32_t attention_dkv[] =
#include "shaders/attention_dkv.inc"
;
static const uint32_t attention_dq[] =
#include "shaders/attention_dq.inc"
;
static const uint32_t columns[] =
#include "shaders/columns.inc"
;
static const uint32_t cross_entropy[] =
#include "shaders/cross_entropy.inc"
;
static const uint32_t cross_entropy_grad[] =
#include "shaders/cross_entropy_grad.inc"
;
static const uint32_t dequantize[] =
#include "shaders/dequantize.inc"
;
static const uint32_t embedding[] =
#include "shaders/embedding.inc"
;
static const uint32_t embedding_grad[] =
#include "shaders/embedding_grad.inc"
;
static const uint32_t flat[] =
#include "shaders/flat.inc"
;
static const uint32_t mask[] =
#include "shaders/mask.inc"
;
static const uint32_t matmul[] =
#include "shaders/matmul.inc"
;
static const uint32_t norm[] =
#include "shaders/norm.inc"
;
static const uint32_t norm_grad[] =
#include "shaders/norm_grad.inc"
;
static const uint32_t norm_grad_rows[] =
#include "shaders/norm_grad_rows.inc"
;
static const uint32_t observe[] =
#include "shaders/observe.inc"
;
static const uint32_t observe_counts[] =
#include "shaders/observe_counts.inc"
;
static const uint32_t qmatmul[] =
#include "shaders/qmatmul.inc"
;
static const uint32_t qmatmul_dot[] =
#include "shaders/qmatmul_dot.inc"
;
static const uint32_t qmatmul_tile[] =
#include "shaders/qmatmul_tile.inc"
;
static const uint32_t quantize[] =
#include "shaders/quantize.inc"
;
static const uint32_t quantize_mse[] =
#include "shaders/quantize_mse.inc"
;
static const uint32_t quantize_percentile[] =
#include "shaders/quantize_percentile.inc"
;
static const uint32_t quantize_scales[] =
#include "shaders/quantize_scales.inc"
;
static const uint32_t quantize_second[] =
#include "shaders/quantize_second.inc"
;
static const uint32_t reduce_rows[] =
#include "shaders/reduce_rows.inc"
;
static const uint32_t rope[] =
#include "shaders/rope.inc"
;
static const uint32_t sum_squares[] =
#include "shaders/sum_squares.inc"
;

#define SHADER(id, name_) [id] = { #name_, name_, sizeof name_ }
const vk_shader qat_vk_shaders[SHADERS] = {
	SHADER(SHADER_ADAMW, adamw),
	SHADER(SHADER_APPEND, append),
	SHADER(SHADER_ATTENTION, attention),
	SHADER(SHADER_ATTENTION_DKV, attention_dkv),
	SHADER(SHADER_ATTENTION_DQ, attention_dq),
	SHADER(SHADER_COLUMNS, columns),
	SHADER(SHADER_CROSS_ENTROPY, cross_entropy),
	SHADER(SHADER_CROSS_ENTROPY_GRAD, cross_entropy_grad),
	SHADER(SHADER_DEQUANTIZE, dequantize),
	SHADER(SHADER_EMBEDDING, embedding),
	SHADER(SHADER_EMBEDDING_GRAD, embedding_grad),
	SHADER(SHADER_FLAT, flat),
	SHADER(SHADER_MASK, mask),
	SHADER(SHADER_MATMUL, matmul),
	SHADER(SHADER_NORM, norm),
	SHADER(SHADER_NORM_GRAD, norm_grad),
	SHADER(SHADER_NORM_GRAD_ROWS, norm_grad_rows),
	SHADER(SHADER_OBSERVE, observe),
	SHADER(SHADER_OBSERVE_COUNTS, observe_counts),
	SHADER(SHADER_QMATMUL, qmatmul),
	SHADER(SHADER_QMATMUL_DOT, qmatmul_dot),
	SHADER(SHADER_QMATMUL_TILE, qmatmul_tile),
	SHADER(SHADER_QUANTIZE, quantize),
	SHADER(SHADER_QUANTIZE_MSE, quantize_mse),
	SHADER(SHADER_QUANTIZE_PERCENTILE, quantize_percentile),
	SHADER(SHADER_QUANTIZE_SCALES, quantize_scales),
	SHADER(SHADER_QUANTIZE_SECOND, quantize_second),
	SHADER(SHADER_REDUCE_ROWS, reduce_rows),
	SHADER(SHADER_ROPE, rope),
	SHADER(SHADER_SUM_SQUARES, sum_squares),
};
