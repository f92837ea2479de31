// qmatmul_tile.glsl - products of codes that are integers as they stand, four of them in a
// word: tiles of 32 x 32 by 64 threads, 4 x 4 each (numeric contract 4, EXACT). Groups begin at
// whole words. Zero points come in by sums of the other side's codes. After qmatmul.glsl and
// dot4(), the sum of four products of signed bytes.

layout(local_size_x = 8, local_size_y = 8) in;

const uint TILE = 32u, WORDS = 8u;
shared uint xs[WORDS * TILE], ws[WORDS * TILE];

// `words` words of each row from column `first` on; the rest is 0.
void load(uint row, uint col, uint first, uint words)
{
	for (uint i = gl_LocalInvocationIndex; i < WORDS * TILE; i += 64u) {
		const uint word = i % WORDS, r = i / WORDS, to = word * TILE + r;

		xs[to] = row + r < p.m && word < words
		       ? x_w[((row + r) * p.k + first) / 4u + word] : 0u;
		ws[to] = col + r < p.n && word < words
		       ? w_w[((col + r) * p.k + first) / 4u + word] : 0u;
	}
}

// Sums of one group for this thread's outputs, and of its rows' codes.
struct Sums { int y[4][4], x[4], w[4]; };

Sums add(uint row, uint col, uint first)
{
	const uint r = gl_LocalInvocationID.y * 4u, s = gl_LocalInvocationID.x * 4u;
	const uint ones = 0x01010101u;
	Sums sum;

	for (uint i = 0u; i < 4u; i++) {
		sum.x[i] = sum.w[i] = 0;
		for (uint j = 0u; j < 4u; j++)
			sum.y[i][j] = 0;
	}
	for (uint at = first; at < first + p.group; at += 4u * WORDS) {
		barrier();
		load(row, col, at, (first + p.group - at) / 4u);
		barrier();
		for (uint k = 0u; k < WORDS; k++)
			for (uint i = 0u; i < 4u; i++) {
				const uint a = xs[k * TILE + r + i], b = ws[k * TILE + s + i];

				for (uint j = 0u; j < 4u; j++)
					sum.y[i][j] += dot4(a, ws[k * TILE + s + j]);
				if (IN5 == I8)
					sum.x[i] += dot4(a, ones);
				if (IN2 == I8)
					sum.w[i] += dot4(b, ones);
			}
	}
	return sum;
}

void add_terms(inout float y[4][4], const Sums sum, uint row, uint col, uint first)
{
	float sx[4], sw[4];
	int zx[4], zw[4];

	for (uint i = 0u; i < 4u; i++) {
		const uint m = min(row + i, p.m - 1u), n = min(col + i, p.n - 1u);

		sx[i] = x_scale(m, first);
		sw[i] = w_scale(n, first);
		zx[i] = x_zero(m, first);
		zw[i] = w_zero(n, first);
	}
	for (uint i = 0u; i < 4u; i++)
		for (uint j = 0u; j < 4u; j++) {
			const float term = scaled(sx[i], sw[j], sum.y[i][j] - zx[i] * sum.w[j] -
				zw[j] * sum.x[i] + int(p.group) * zx[i] * zw[j]);

			y[i][j] = p.group == p.k ? term : f_add(first == 0u ? 0.0 : y[i][j], term);
		}
}

void tile(uint row, uint col)
{
	const uint r = row + gl_LocalInvocationID.y * 4u, c = col + gl_LocalInvocationID.x * 4u;
	float y[4][4];

	for (uint first = 0u; first < p.k; first += p.group)
		add_terms(y, add(row, col, first), r, c, first);
	for (uint i = 0u; i < 4u; i++)
		for (uint j = 0u; j < 4u; j++)
			if (r + i < p.m && c + j < p.n)
				y_put((r + i) * p.n + c + j, p.has_bias != 0u
					? f_add(y[i][j], bias_at(c + j)) : y[i][j]);
}

void main()
{
	for (uint row = gl_WorkGroupID.y * TILE; row < p.m; row += gl_NumWorkGroups.y * TILE)
		for (uint col = gl_WorkGroupID.x * TILE; col < p.n;
		     col += gl_NumWorkGroups.x * TILE)
			tile(row, col);
}
