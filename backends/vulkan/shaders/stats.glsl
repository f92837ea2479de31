// stats.glsl - what scale rules need to know of elements, gathered by a work group: after
// scheme.glsl and reduce.glsl. Numbers are compared as integers: devices may take subnormals
// for zeros.

struct Stats { uint amax, at; int lo, hi; uint bad; };

shared uint stats_amax[ROW_SIZE], stats_at[ROW_SIZE], stats_bad[ROW_SIZE];
shared int stats_lo[ROW_SIZE], stats_hi[ROW_SIZE];

Stats stats_none()
{
	return Stats(0u, 0xffffffffu, int(INF_BITS), -int(INF_BITS), 0u);
}

// x is element i of the block; `at` is the first of the largest magnitude.
void stats_add(inout Stats s, float x, uint i)
{
	const uint a = magnitude(x);

	s.bad |= uint(a >= INF_BITS);
	if (a <= INF_BITS && a > s.amax) {
		s.amax = a;
		s.at = i;
	}
	if (a <= INF_BITS) {
		s.lo = min(s.lo, ordered(x));
		s.hi = max(s.hi, ordered(x));
	}
}

Stats stats_all(Stats s)
{
	const uint t = gl_LocalInvocationID.x;

	barrier();
	stats_amax[t] = s.amax;
	stats_at[t] = s.at;
	stats_bad[t] = s.bad;
	stats_lo[t] = s.lo;
	stats_hi[t] = s.hi;
	barrier();
	for (uint n = ROW_SIZE / 2; n > 0; n /= 2) {
		if (t < n) {
			const uint a = stats_amax[t + n], at = stats_at[t + n];

			if (a > stats_amax[t] || (a == stats_amax[t] && at < stats_at[t])) {
				stats_amax[t] = a;
				stats_at[t] = at;
			}
			stats_bad[t] |= stats_bad[t + n];
			stats_lo[t] = min(stats_lo[t], stats_lo[t + n]);
			stats_hi[t] = max(stats_hi[t], stats_hi[t + n]);
		}
		barrier();
	}
	return Stats(stats_amax[0], stats_at[0], stats_lo[0], stats_hi[0], stats_bad[0]);
}
