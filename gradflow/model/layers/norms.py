"""Norms: layers that set the scale of a token, and what is put in their place.

What an analyzer asks a norm beyond what it asks of any layer: the directions it takes from the stream, at its input
(`null_directions`) and at its output (`output_normals`). What only squashes takes none.

Axes: x is [tokens, features] for one example. T tokens, d features.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx

from ...results.arguments import suggestions
from ...results.configuration import registered
from ..numerics.precision import alike, common, times, with_leading_axes
from .functional import ACTIVATIONS, standardized
from .layer import FEATURES, Layer, Number, Untrained

# What multiplies a standardized token: γ, trained from 1; 1 + w, w trained from 0 (Gemma Team 2024); nothing.
SCALES = ("gain", "one_plus", "none")


class Standard(Layer):
    """What LayerNorm and RMSNorm share: the gain γ of a standardized token, as `scale` says."""

    eps: float
    scale: str
    couples: ClassVar[str] = FEATURES

    def __post_init__(self):
        if self.scale not in SCALES:
            raise ValueError(f"no scale {self.scale!r} of a norm: {suggestions(self.scale, SCALES)}")

    def of_flax(self, make, width: int, **options):
        """Flax's own layer, made with this eps and scale."""
        start = nnx.initializers.zeros if self.scale == "one_plus" else nnx.initializers.ones
        scaled = {"use_scale": self.scale != "none", "scale_init": start}
        return make(width, epsilon=self.eps, use_fast_variance=False, rngs=nnx.Rngs(0), **scaled, **options)

    def gain(self, params):
        """γ [d], or 1."""
        if self.scale == "none":
            return 1.0
        if self.scale == "one_plus":
            return 1 + params.scale[...]
        return params.scale[...]


@registered
@dataclass(frozen=True)
class LayerNorm(Standard):
    """`γ (x − mean)/σ + β` over features, `σ² = var + eps` (Ba et al. 2016, eq. 4); β where there is a `bias`.

    Jacobian at γ = 1: `(1/σ)(I − 11ᵀ/d − x̂x̂ᵀ/d)`.
    """

    eps: float = 1e-5
    scale: str = "gain"
    bias: bool = True

    def init(self, key, width: int):
        """Returns `nnx.LayerNorm` with γ = 1 and β = 0; the variance from centred values, not `E x² − (E x)²`."""
        return self.of_flax(nnx.LayerNorm, width, use_bias=self.bias)

    def __call__(self, params, x):
        """Returns the normalized `x`."""
        gain, shift = with_leading_axes(self.gain(params), x), with_leading_axes(self.shift(params), x)
        dtype = common(x, gain, shift)
        hat, gain, shift = alike(standardized(x, self.eps, True), gain, shift)
        return (hat * gain + shift).astype(dtype)

    def shift(self, params):
        """β [d], or 0."""
        return params.bias[...] if self.bias else 0.0

    def null_directions(self, params, x):
        """Returns the directions it removes from its input, for eps → 0: `1` and `x − mean`, columns [T, d, 2]."""
        return jnp.stack([jnp.ones_like(x), x - x.mean(-1, keepdims=True)], axis=-1)

    def output_normals(self, params, y, inherited):
        """Returns the directions its output can't move along, for eps → 0: `1/γ` and `(y − β)/γ²`, columns [T, d, 2]."""
        gain, shift = with_leading_axes(self.gain(params), y), with_leading_axes(self.shift(params), y)
        return jnp.stack([jnp.broadcast_to(1 / gain, y.shape), (y - shift) / gain**2], axis=-1)


@registered
@dataclass(frozen=True)
class RMSNorm(Standard):
    """`γ x/σ` over features, `σ² = mean(x²) + eps` (Zhang and Sennrich 2019, eq. 4).

    Jacobian at γ = 1: `(1/σ)(I − x̂x̂ᵀ/d)`.
    """

    eps: float = 1e-6
    scale: str = "gain"

    def init(self, key, width: int):
        """Returns `nnx.RMSNorm` with γ = 1."""
        return self.of_flax(nnx.RMSNorm, width)

    def __call__(self, params, x):
        """Returns the normalized `x`."""
        gain = with_leading_axes(self.gain(params), x)
        dtype = common(x, gain)
        hat, gain = alike(standardized(x, self.eps, False), gain)
        return (hat * gain).astype(dtype)

    def null_directions(self, params, x):
        """Returns the direction it removes from its input, for eps → 0: `x`, a column [T, d, 1]."""
        return x[..., None]

    def output_normals(self, params, y, inherited):
        """Returns the direction its output can't move along, for eps → 0: `y/γ²`, a column [T, d, 1]."""
        return (y / with_leading_axes(self.gain(params), y) ** 2)[..., None]


@registered
@dataclass(frozen=True)
class ScaledNorm(Layer):
    """`value · N(x)`: a norm whose output has a gain that is not trained."""

    norm: Any
    value: Number
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """Returns the parameters of the norm."""
        return self.norm.init(key, width)

    def __call__(self, params, x):
        """Returns `value · N(x)`."""
        return times(self.value, self.norm(params, x))

    def null_directions(self, params, x):
        """Returns the null directions of the norm."""
        return self.norm.null_directions(params, x)

    def output_normals(self, params, y, inherited):
        """Returns the normal directions of the norm at its own output."""
        return self.norm.output_normals(params, y / self.value, inherited)


@registered
@dataclass(frozen=True)
class Clipped(Untrained):
    """`min(max(x, −limit), limit)`: what OLMo has in the place of a norm on queries, keys and values (its code, `clip_qkv`)."""

    limit: float
    couples: ClassVar[str] = FEATURES

    def __call__(self, params, x):
        """Returns the clipped `x`."""
        return jnp.clip(x, -self.limit, self.limit)


@registered
@dataclass(frozen=True)
class Capped(Untrained):
    """`min(x, most)`."""

    most: float
    couples: ClassVar[str] = FEATURES

    def __call__(self, params, x):
        """Returns `x`, nowhere more than `most`."""
        return jnp.minimum(x, self.most)


class Squash(Layer):
    """What stands in a norm's place and squashes each entry: `γ φ(α x + s) + β`; α one trained number, s too, where it is there.

    It takes no direction from the stream.
    """

    activation: ClassVar[str]
    shifted: ClassVar[bool]
    alpha: float
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """Returns `{"alpha": [], ["shift": [],] "scale": [d], "bias": [d]}` with γ = 1, β = 0 and s = 0."""
        ones = jnp.ones(width, jnp.float32)
        params = {"alpha": jnp.asarray(self.alpha, jnp.float32), "scale": ones, "bias": 0 * ones}
        if self.shifted:
            params["shift"] = jnp.zeros((), jnp.float32)
        return params

    def __call__(self, params, x):
        """Returns the squashed `x`."""
        u = params["alpha"] * x
        if self.shifted:
            u = u + params["shift"]
        scale, bias = with_leading_axes(params["scale"], x), with_leading_axes(params["bias"], x)
        return scale * ACTIVATIONS[self.activation](u) + bias

    def null_directions(self, params, x):
        """Returns one column of zeros [T, d, 1]: it removes nothing from its input."""
        return jnp.zeros_like(x)[..., None]

    def output_normals(self, params, y, inherited):
        """Returns one column of zeros [T, d, 1]: its output can move along everything."""
        return jnp.zeros_like(y)[..., None]


@registered
@dataclass(frozen=True)
class DyT(Squash):
    """`γ tanh(α x) + β`, dynamic tanh (Zhu et al. 2025, Transformers without Normalization).

    α = 0.5 at the start, as in the authors' code; for language models they give attention, feed-forward and the last one each its
    own, and a trained gain √d to the embedding.
    """

    activation: ClassVar[str] = "tanh"
    shifted: ClassVar[bool] = False
    alpha: float = 0.5


@registered
@dataclass(frozen=True)
class Derf(Squash):
    """`γ erf(α x + s) + β`, dynamic erf, s one number (Chen et al. 2025, Stronger Normalization-Free Transformers).

    α = 0.5 and s = 0 at the start, as in the authors' code.
    """

    activation: ClassVar[str] = "erf"
    shifted: ClassVar[bool] = True
    alpha: float = 0.5
