#version 460
// qmatmul_dot.comp - products of codes in tiles, by the device's integer dot product: OpSDot of
// SPIR-V with DotProductInput4x8BitPacked and DotProduct, format 0.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_spirv_intrinsics : require
#include "common.glsl"
#include "float.glsl"
#include "qmatmul.glsl"

spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6018, 6019],
		  id = 4450)
int packed_dot(uint a, uint b, spirv_literal int format);

int dot4(uint a, uint b) { return packed_dot(a, b, 0); }

#include "qmatmul_tile.glsl"
