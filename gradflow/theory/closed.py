"""Closed forms of the field, each with its paper: short functions that the recursion is checked against.

Mean squares are per feature, gradients squared unless a name says norm. L counts blocks, l positions, n tokens, d features.
"""

import math

import jax.numpy as jnp

from .kernels import kernel

# ---- Xiong et al. 2020 --------------------------------------------------------------------------------------


def relu_square(std: float, width: int) -> float:
    """Returns `E‖ReLU X‖² = s² d/2` for `X ~ N(0, s² I_d)` (Xiong et al. 2020, lemma 1)."""
    return std**2 * width / 2


def post_norm_input() -> float:
    """Returns `E‖x‖²/d = 3/2` at the last norm of every post-norm block, in their setting (Xiong et al. 2020, lemma 2)."""
    return 1.5


def pre_norm_stream(blocks):
    """Returns `(1 + l/2, 1 + 3l/2)`: bounds of `E‖x_l‖²/d` after l pre-norm blocks (Xiong et al. 2020, lemma 2)."""
    lower = 1 + blocks / 2
    upper = 1 + 3 * blocks / 2
    return lower, upper


def chain_of_norms(blocks_above):
    """Returns `(2/3)^((L − l)/2)`: what the norms' Jacobians alone take from the norm of a post-norm gradient, with 3/2 at each.

    The factor in the bound behind theorem 1 of Xiong et al. 2020. It keeps J_N and drops `I + J_F`: a bound of one factor, not
    a prediction of the gradient, which the fork gives back (`post_norm_gain`).
    """
    return (2 / 3) ** (blocks_above / 2)


# ---- partial Jacobians --------------------------------------------------------------------------------------


def moments(activation: str, variance: float = 1.0, gain: float = 1.0) -> tuple[float, float]:
    """Returns `(A, C)` of a feed-forward branch at pre-activations of that variance: `C = g E φ²`, `A = g · variance · E φ'²`.

    C is what it adds to the stream's mean square, A its mean-square Jacobian at an input of mean square 1; `gain` is `std²
    fan_in` of the output matrix. (Doshi, He and Gromov 2023, eq. 8.)
    """
    covariance = jnp.full((1, 1), variance)
    value, slope = kernel(activation, covariance)
    mean_square = float(value[0, 0])
    mean_square_slope = float(slope[0, 0])
    jacobian = gain * variance * mean_square_slope
    added = gain * mean_square
    return jacobian, added


def post_norm_gain(activation: str, variance: float = 1.0, gain: float = 1.0) -> float:
    """Returns `χ = (1 + A)/(1 + C)`: mean-square gain of a post-norm feed-forward sublayer on a cotangent.

    1 for ReLU: the norm divides by what the fork multiplies by. GELU, SiLU and tanh amplify toward the input.

    >>> [round(post_norm_gain(name), 4) for name in ("relu", "gelu", "tanh")]
    [1.0, 1.0215, 1.0503]
    """
    a, c = moments(activation, variance, gain)
    return (1 + a) / (1 + c)


def pre_norm_profile(l, top, a: float, c: float, bottom: float = 1.0):
    """Returns `((L + l₀)/(l + l₀))^ζ`, `ζ = A/C`, `l₀ = q₀/C`: the partial Jacobian of a pre-norm stack from position l of L.

    q₀ is the mean square of the stream at the bottom. ζ = 1 for ReLU, where it is exact; else the limit of slow change.
    (Doshi, He and Gromov 2023, section 4: `(L/l)^ζ`.)
    """
    offset = bottom / c
    exponent = a / c
    return ((top + offset) / (l + offset)) ** exponent


# ---- attention ----------------------------------------------------------------------------------------------


def uniform_attention_moments(tokens: int, cosine: float, gain: float = 1.0) -> tuple[float, float]:
    """Returns `(A, C)` of attention that weighs n tokens alike: `A = s²/n`, `C = s² (1 + (n − 1) p)/n`, p the tokens' cosine.

    `gain` is s², the product of the squared gains of value and output. (Noci et al. 2022, section 3, has such attention.)
    """
    alike = 1 + (tokens - 1) * cosine
    jacobian = gain / tokens
    added = gain * alike / tokens
    return jacobian, added


def uniform_attention_gain(sublayers, tokens: int, gain: float = 1.0):
    """Returns `((n − 1)/n) (1 + s²)^(−k) + 1/n`: gain of an isotropic probe over k post-norm sublayers of uniform attention.

    For tokens that are aligned already. The part of the probe that is the same on all tokens passes whole, so the gain
    saturates at 1/n, its norm at `1/√n`, and does not decay.
    """
    shared = 1 / tokens
    varying = (tokens - 1) / tokens * (1.0 + gain) ** -sublayers
    return varying + shared


# ---- DeepScaleLM: moments of components ----------------------------------------------------------------------


def relu_moments(std: float) -> tuple[float, float]:
    """Returns `(s/√(2π), s² (π − 1)/(2π))`: mean and variance behind a ReLU (Kedia et al. 2024, table 1)."""
    circle = 2 * math.pi
    mean = std / math.sqrt(circle)
    variance = std**2 * (math.pi - 1) / circle
    return mean, variance


def relu_gradient(square: float) -> float:
    """Returns `σ_g²/2`: mean square of a gradient before a ReLU (Kedia et al. 2024, table 1)."""
    return square / 2


def layer_norm_gradient(square: float, variance: float) -> float:
    """Returns `σ_g²/σ_x²`: mean square of a gradient before a LayerNorm whose input has that variance.

    (Kedia et al. 2024, table 1.)
    """
    return square / variance


def value_gradient(square: float, correlation: float, tokens: int, gain: float = 1.0) -> float:
    """Returns `σ_g² g (1 + (n − 1) r_g)/n`: through uniform attention and the values, without dropout.

    (Kedia et al. 2024, table 1.) r_g is the correlation of the gradients of different tokens, g the squared gain `d σ_V²` of the
    value matrix.
    """
    alike = 1 + (tokens - 1) * correlation
    return square * gain * alike / tokens


# ---- DeepNorm -----------------------------------------------------------------------------------------------


def deepnorm(encoder: int = 0, decoder: int = 0) -> dict[str, tuple[float, float]]:
    """Returns `{"encoder": (α, β), "decoder": (α, β)}` for N encoder and M decoder blocks (Wang et al. 2022, figure 2).

    Alone, either has `((2N)^¼, (8N)^−¼)`. Together: encoder `(0.81 (N⁴M)^(1/16), 0.87 (N⁴M)^(−1/16))`, decoder `((3M)^¼,
    (12M)^−¼)`. β scales feed-forward, value and output matrices, not query and key.

    >>> deepnorm(decoder=8)["decoder"][0]
    2.0
    """
    if encoder < 0 or decoder < 0 or not encoder + decoder:
        raise ValueError(f"encoder = {encoder} and decoder = {decoder} blocks: at least 1 in all is needed")
    if not encoder:
        return {"decoder": _deepnorm_alone(decoder)}
    if not decoder:
        return {"encoder": _deepnorm_alone(encoder)}
    both = (encoder**4 * decoder) ** (1 / 16)
    encoder_alpha = 0.81 * both
    encoder_beta = 0.87 / both
    decoder_alpha = (3 * decoder) ** 0.25
    decoder_beta = (12 * decoder) ** -0.25
    return {
        "encoder": (encoder_alpha, encoder_beta),
        "decoder": (decoder_alpha, decoder_beta),
    }


def _deepnorm_alone(blocks: int) -> tuple[float, float]:
    """Returns (α, β) of an encoder or a decoder that stands alone."""
    alpha = (2 * blocks) ** 0.25
    beta = (8 * blocks) ** -0.25
    return alpha, beta
