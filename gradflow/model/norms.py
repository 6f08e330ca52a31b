"""Norms: layers that set the scale of a token, and what is put in their place.

What an analyzer asks a norm beyond what it asks of any layer: the directions it takes from the stream, at its input
(`kernel`) and at its output (`normals`). What only squashes takes none.

Axes: x is [tokens, features] for one example. T tokens, d features.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx

from ..results.configuration import registered
from .functions import standardized
from .layers import FEATURES, Number, times


@registered
@dataclass(frozen=True)
class LayerNorm:
    """`γ (x − mean)/σ + β` over features, `σ² = var + eps` (Ba et al. 2016, eq. 4).

    Jacobian at γ = 1: `(1/σ)(I − 11ᵀ/d − x̂x̂ᵀ/d)`.
    """

    eps: float = 1e-5
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """`nnx.LayerNorm` with γ = 1 and β = 0; the variance from centred values, not `E x² − (E x)²`."""
        return nnx.LayerNorm(width, epsilon=self.eps, use_fast_variance=False, rngs=nnx.Rngs(0))

    def __call__(self, params, x):
        """The normalized `x`."""
        scale, bias = params.scale[...], params.bias[...]
        return (standardized(x, self.eps, True) * scale + bias).astype(jnp.result_type(x, scale, bias))

    def kernel(self, params, x):
        """What it takes from its input `x`, for eps → 0: `1` and `x − mean`, columns [T, d, 2]."""
        return jnp.stack([jnp.ones_like(x), x - x.mean(-1, keepdims=True)], axis=-1)

    def normals(self, params, y, inherited):
        """What its output `y` can't move along, for eps → 0: `1/γ` and `(y − β)/γ²`, columns [T, d, 2]."""
        gain, bias = params.scale[...], params.bias[...]
        return jnp.stack([jnp.broadcast_to(1 / gain, y.shape), (y - bias) / gain**2], axis=-1)


@registered
@dataclass(frozen=True)
class RMSNorm:
    """`γ x/σ` over features, `σ² = mean(x²) + eps` (Zhang and Sennrich 2019, eq. 4).

    Jacobian at γ = 1: `(1/σ)(I − x̂x̂ᵀ/d)`.
    """

    eps: float = 1e-6
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """`nnx.RMSNorm` with γ = 1."""
        return nnx.RMSNorm(width, epsilon=self.eps, use_fast_variance=False, rngs=nnx.Rngs(0))

    def __call__(self, params, x):
        """The normalized `x`."""
        scale = params.scale[...]
        return (standardized(x, self.eps, False) * scale).astype(jnp.result_type(x, scale))

    def kernel(self, params, x):
        """What it takes from its input `x`, for eps → 0: `x`, a column [T, d, 1]."""
        return x[..., None]

    def normals(self, params, y, inherited):
        """What its output `y` can't move along, for eps → 0: `y/γ²`, a column [T, d, 1]."""
        return (y / params.scale[...] ** 2)[..., None]


@registered
@dataclass(frozen=True)
class ScaledNorm:
    """`value · N(x)`: a norm whose output has a gain that is not trained."""

    norm: Any
    value: Number
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """Those of the norm."""
        return self.norm.init(key, width)

    def __call__(self, params, x):
        """`value · N(x)`."""
        return times(self.value, self.norm(params, x))

    def kernel(self, params, x):
        """That of the norm."""
        return self.norm.kernel(params, x)

    def normals(self, params, y, inherited):
        """Those of the norm at its own output."""
        return self.norm.normals(params, y / self.value, inherited)


@registered
@dataclass(frozen=True)
class DyT:
    """`γ tanh(α x) + β`, dynamic tanh, α one trained number (Zhu et al. 2025, Transformers without Normalization)."""

    alpha: float = 0.5
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """`{"alpha": [], "scale": [d], "bias": [d]}` with γ = 1 and β = 0."""
        ones = jnp.ones(width, jnp.float32)
        return {"alpha": jnp.asarray(self.alpha, jnp.float32), "scale": ones, "bias": 0 * ones}

    def __call__(self, params, x):
        """The squashed `x`."""
        return params["scale"] * jnp.tanh(params["alpha"] * x) + params["bias"]

    def kernel(self, params, x):
        """It takes nothing from its input: one column of zeros, [T, d, 1]."""
        return jnp.zeros_like(x)[..., None]

    def normals(self, params, y, inherited):
        """Its output can move along everything: one column of zeros, [T, d, 1]."""
        return jnp.zeros_like(y)[..., None]
