// act.glsl - activations f(x) and slopes f'(x), after float.glsl. GELUs and SiLU are x times
// something between 0 and 1, whose error counts absolutely.

const uint GELU_TANH = 1, GELU_ERF = 2, SILU = 3;

float sigmoid(float x)
{
	return 1.0 / (1.0 + f_exp(negated(x)));
}

// sqrt(2 / pi) (x + 0.044715 x^3), twice: 1 + tanh(u) = 2 sigmoid(2 u).
float gelu_inner(float x)
{
	return 1.5957691216 * (x + 0.044715 * x * x * x);
}

// erfc(-x / sqrt 2) / 2, the normal distribution: Abramowitz and Stegun 7.1.26, 8e-8 off.
float normal_below(float x)
{
	const float z = absolute(x) * 0.70710678, t = 1.0 / (1.0 + 0.3275911 * z);
	const float tail = 0.5 * f_exp(-z * z) * t * (0.254829592 + t * (-0.284496736 +
			   t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));

	return x < 0.0 ? tail : 1.0 - tail;
}

float act(uint kind, float x)
{
	if (is_nan(x))
		return x;
	if (kind == GELU_TANH)
		return x * sigmoid(gelu_inner(x));
	if (kind == GELU_ERF)
		return x * normal_below(x);
	if (kind == SILU)
		return x * sigmoid(x);
	return x <= 0.0 ? 0.0 : x;
}

float act_slope(uint kind, float x)
{
	if (is_nan(x))
		return x;
	if (kind == 4u)
		return x <= 0.0 ? 0.0 : 1.0;
	if (kind != SILU && absolute(x) > 15.0)		// squares may overflow
		return x < 0.0 ? 0.0 : 1.0;
	if (kind == GELU_TANH) {
		const float s = sigmoid(gelu_inner(x));

		return s + x * s * (1.0 - s) * 1.5957691216 * (1.0 + 0.134145 * x * x);
	}
	if (kind == GELU_ERF)
		return normal_below(x) + x * 0.39894228 * f_exp(-0.5 * x * x);
	const float s = sigmoid(x);

	return s * (1.0 + x * (1.0 - s));
}
