#version 460
// observe_counts.comp - the histogram of every range, on top of the one before: zeros into the
// workspace (KIND 0), elements counted there (KIND 1), added to the doubles (KIND 2).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "float.glsl"
#include "scheme.glsl"

FLAT
READER(0, x, IN0)
layout(std430, binding = 2) buffer Before { double before[]; };
layout(std430, binding = 11) buffer Counts { double counts[]; };
layout(std430, binding = 14) buffer Work { uint work[]; };

const uint BINS = 2560u;		// of numbers of one sign: numerics.h

uint bin_of(float v)
{
	const int m = clamp(int(magnitude(v) >> 17) - (103 << 6), 0, int(BINS) - 1);

	return floatBitsToUint(v) >> 31 != 0u ? BINS - 1u - uint(m) : BINS + uint(m);
}

void main()
{
	if (KIND == 1u) {
		FLAT_LOOP(i, p.rows * p.cols) {
			const float v = x_at(i);

			if (is_finite(v))
				atomicAdd(work[block_of(i / p.cols, i % p.cols) * 2u * BINS +
					       bin_of(v)], 1u);
		}
	} else {
		FLAT_LOOP(i, p.count * 2u * BINS) {
			if (KIND == 0u)
				work[i] = 0u;
			else
				counts[i] = before[i] + double(work[i]);
		}
	}
}
