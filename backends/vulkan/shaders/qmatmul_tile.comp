#version 460
// qmatmul_tile.comp - products of codes in tiles, on any device.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "qmatmul.glsl"

int dot4(uint a, uint b)
{
	int sum = 0;

	for (int i = 0; i < 32; i += 8)
		sum += bitfieldExtract(int(a), i, 8) * bitfieldExtract(int(b), i, 8);
	return sum;
}

#include "qmatmul_tile.glsl"
