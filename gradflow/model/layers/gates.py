"""Gains of one lane that are more than a number: with a backward rule of their own, of the step, of a condition, of the stream.

What enters from outside, a training step or a condition, is put beside a layer's parameters before the walk, by the names
in its `asks` (`Transformer.with_context`): a batch that says none of a step is one of step 0, and its condition is zero.

Axes: x is [tokens, features]; T tokens, d features.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from ...results.configuration import registered
from ..equation.sublayer import OfStream, Part
from ..numerics.precision import in_precision_of, times, with_leading_axes
from ..parameters.initializers import normal
from ..parameters.keys import at
from .layer import FEATURES, Layer, Number, Untrained
from .norms import LayerNorm


@registered
@dataclass(frozen=True)
class Shrunk(Layer):
    """`(1 − SiLU(g)) x` with one trained number g, `value` at the start."""

    value: float = 0.0
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """Returns `{"gate": []}`."""
        return {"gate": jnp.asarray(self.value, jnp.float32)}

    def __call__(self, params, x):
        """Returns `(1 − SiLU(g)) x`."""
        return (1 - jax.nn.silu(params["gate"])) * x

    def output_normals(self, params, y, inherited):
        """Returns the input's normal directions unchanged."""
        return inherited


@registered
@dataclass(frozen=True)
class Preserved(Shrunk):
    """`x − SiLU(g) stop(x)`: smaller forward, and backward as if nothing had been there (Chen et al. 2025 (GPAS), eq. 3).

    Its Jacobian, by its declared rule, is I. That of what it computes is the one of `Shrunk`: `as_computed`.
    """

    def __call__(self, params, x):
        """Returns `x − SiLU(g) stop(x)`."""
        return x - jax.nn.silu(params["gate"]) * jax.lax.stop_gradient(x)

    def as_computed(self) -> Layer:
        """Returns the same function with the derivative of what it computes."""
        return Shrunk(self.value)


@registered
@dataclass(frozen=True)
class StepGain(Untrained):
    """`min(t/(T n), 1) x` at training step t, n the `turns` at this block, T steps each (Chen et al. 2026 (ProRes), eq. 3).

    Nothing is trained. At step 0 it is 0.
    """

    turns: Number
    steps: float = 1000.0
    couples: ClassVar[str] = FEATURES
    asks: ClassVar[tuple[str, ...]] = ("step",)

    def __call__(self, params, x):
        """Returns the share of `x` that step t lets through."""
        step = jnp.asarray(params.get("step", 0.0), x.dtype)
        share = step / times(self.steps, jnp.asarray(self.turns, x.dtype))
        return jnp.minimum(share, 1) * x


class OfCondition(Layer):
    """What reads a condition c [d]: a linear map of SiLU(c), whose weights start at zero."""

    asks: ClassVar[tuple[str, ...]] = ("condition",)
    couples: ClassVar[str] = FEATURES

    def linear(self, width: int, *outputs: str) -> dict:
        """Returns `{name: {"kernel": [d, d], "bias": [d]}}`, all zero."""
        zeros = jnp.zeros((width, width), jnp.float32)
        return {name: {"kernel": zeros, "bias": zeros[0]} for name in outputs}

    def of_condition(self, params, name: str, x):
        """Returns that output for the condition [1, d], in the precision of `x`."""
        own = params[name]
        said = own["bias"][None]
        if "condition" in params:
            seen = jax.nn.silu(jnp.asarray(params["condition"], x.dtype))
            said = said + seen[None] @ own["kernel"]
        return said


@registered
@dataclass(frozen=True)
class ConditionGain(OfCondition):
    """`α(c) ⊙ x`, zero at the start (Peebles and Xie 2023 (DiT), section 3.2)."""

    def init(self, key, width: int):
        """Returns `{"gate": {"kernel": [d, d], "bias": [d]}}`."""
        return self.linear(width, "gate")

    def __call__(self, params, x):
        """Returns `α(c) ⊙ x`."""
        return self.of_condition(params, "gate", x) * x


@registered
@dataclass(frozen=True)
class Modulated(OfCondition):
    """`(1 + γ(c)) ⊙ N(x) + β(c)`, the norm alone at the start (Peebles and Xie 2023 (DiT), section 3.2)."""

    norm: Layer = LayerNorm(eps=1e-6, scale="none", bias=False)

    @property
    def centred(self) -> bool:
        """As the norm, where the shift is still zero."""
        return self.norm.centred

    def init(self, key, width: int):
        """Returns `{"norm", "scale", "shift"}`, the latter two linear maps."""
        return {"norm": self.norm.init(at(key, "norm"), width), **self.linear(width, "scale", "shift")}

    def __call__(self, params, x):
        """Returns the norm of `x`, scaled and shifted by the condition."""
        scale = 1 + self.of_condition(params, "scale", x)
        return scale * self.norm(params["norm"], x) + self.of_condition(params, "shift", x)

    def null_directions(self, params, x):
        """Returns those of the norm."""
        return self.norm.null_directions(params["norm"], x)


@registered
@dataclass(frozen=True)
class Gate(Layer):
    """`τ(x) ⊙ u`, `τ = σ(W x + b)` of the stream x, b at `bias` (Srivastava et al. 2015 (Highway), eqs. 2 and 3)."""

    bias: float = -2.0
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """Returns `{"weights": [d, d], "bias": [d]}`."""
        weights = normal(at(key, "gate"), width, width) * width**-0.5
        return {"weights": weights, "bias": jnp.full(width, self.bias, jnp.float32)}

    def bound(self, params) -> OfStream:
        """Returns the gain that waits for the stream it reads."""
        return OfStream(self, params)

    def opening(self, params, x):
        """Returns `τ(x)` [T, d]."""
        own = in_precision_of(x, params)
        return jax.nn.sigmoid(x @ own["weights"] + own["bias"][None])

    def at_stream(self, params, x) -> Part:
        """Returns the gain for the stream `x`: `u ↦ τ(x) ⊙ u`."""
        return partial(jnp.multiply, self.opening(params, x))

    def __call__(self, params, x):
        """Returns `τ(x) ⊙ x`."""
        return self.at_stream(params, x)(x)


@registered
@dataclass(frozen=True)
class ShutGate(Gate):
    """`(1 − τ(x)) ⊙ u` with τ the gate of another part, `of`, which trains it."""

    of: str = "write"

    def init(self, key, width: int):
        """Returns no parameters."""
        return {}

    def params_from(self, part: str) -> str:
        """Returns the part whose gate it is."""
        return self.of

    def opening(self, params, x):
        """Returns `1 − τ(x)` [T, d]."""
        return 1 - super().opening(params, x)


@registered
@dataclass(frozen=True)
class LowRank(Layer):
    """`β (x + B A x)`, A of `rank` rows and B zero at the start, β = `value` (Menghani et al. 2025 (LAuReL), eqs. 2 to 5)."""

    rank: int = 32
    value: float = 1.0
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """Returns `{"gain": [], "down": [d, rank], "up": [rank, d]}`."""
        return {
            "gain": jnp.asarray(self.value, jnp.float32),
            "down": normal(at(key, "down"), width, self.rank) * width**-0.5,
            "up": jnp.zeros((self.rank, width), jnp.float32),
        }

    def __call__(self, params, x):
        """Returns `β (x + B A x)`."""
        return params["gain"] * (x + x @ params["down"] @ params["up"])

    def output_normals(self, params, y, inherited):
        """Returns none: what was added moves freely."""
        return jnp.zeros_like(inherited)


# ---- free updates -------------------------------------------------------------------------------------------


@registered
@dataclass(frozen=True)
class Beside(Untrained):
    """From one array to two lanes, itself at `lane` and zero in the other: what (1) adds so lies side by side, and is not summed.

    With it in `skip` (lane 0) and `write` (lane 1), `norm_out` is any map x' = U(x, F).
    """

    lane: int
    couples: ClassVar[str] = FEATURES

    def __call__(self, params, x):
        """Returns `[x, 0]` or `[0, x]`."""
        lanes = [jnp.zeros_like(x), jnp.zeros_like(x)]
        lanes[self.lane] = x
        return jnp.stack(lanes)


@registered
@dataclass(frozen=True)
class Geodesic(Untrained):
    """`x cos θ + ‖x‖ sin θ v̂` of two lanes (x, F), `v = F − ⟨F, x̂⟩ x̂`, `θ = rate ‖v‖/‖x‖`: along the sphere, as far as v is long.

    Zheng 2026 (GeoNorm), eqs. 3 to 5. Tokens keep their norm. sin θ/θ is taken as one function, so that v = 0 is no exception.
    """

    rate: Number = 1.0
    couples: ClassVar[str] = FEATURES

    def __call__(self, params, lanes):
        """Returns the token that is reached."""
        x, f = lanes
        square = jnp.sum(x * x, axis=-1, keepdims=True)
        v = times(self.rate, f - jnp.sum(f * x, axis=-1, keepdims=True) / square * x)
        angle = jnp.sqrt(jnp.sum(v * v, axis=-1, keepdims=True) / square + jnp.finfo(x.dtype).tiny)
        return jnp.cos(angle) * x + jnp.sinc(angle / jnp.pi) * v

    def output_normals(self, params, y, inherited):
        """Returns none: the radius is the input's own."""
        return with_leading_axes(jnp.zeros((1, 1, 1), y.dtype), y[..., None]) * y[..., None]
