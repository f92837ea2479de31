// attention.glsl - what the three attention shaders share. A work group has one head of one
// row; positions are taken ROW_SIZE at a time, a thread for each.

const uint HEAD_MOST = 256;
const uint LANES = HEAD_MOST / ROW_SIZE;	// channels of a head that a thread sums

layout(push_constant) uniform Push {
	uint rows, steps, heads, kv_heads, d, causal, window;
	float scale;
	uint keys;			// rows of k and v for each sequence
} p;

// Whether query position t sees key position j.
bool sees(uint t, uint j)
{
	return (p.causal == 0u || j <= t) && (p.window == 0u || j + p.window > t);
}
