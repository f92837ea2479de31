// reduce.glsl - sums and maxima over a work group of ROW_SIZE, always in the same order.

#define ROW_SIZE 64
#define ROWS layout(local_size_x = ROW_SIZE) in;

shared float reduce_part[ROW_SIZE];

float sum_all(float x)
{
	const uint t = gl_LocalInvocationID.x;

	barrier();
	reduce_part[t] = x;
	barrier();
	for (uint n = ROW_SIZE / 2; n > 0; n /= 2) {
		if (t < n) {
			precise float s = reduce_part[t] + reduce_part[t + n];

			reduce_part[t] = s;
		}
		barrier();
	}
	return reduce_part[0];
}

// Of numbers that are no NaN; a NaN may come out or not.
float max_all(float x)
{
	const uint t = gl_LocalInvocationID.x;

	barrier();
	reduce_part[t] = x;
	barrier();
	for (uint n = ROW_SIZE / 2; n > 0; n /= 2) {
		if (t < n)
			reduce_part[t] = max(reduce_part[t], reduce_part[t + n]);
		barrier();
	}
	return reduce_part[0];
}
