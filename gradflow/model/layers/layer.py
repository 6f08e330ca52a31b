"""Layers: frozen descriptions that are functions `(params, x) -> x`; parameters are dicts with Flax's layers as leaves.

A layer's fields describe it, `init(key, width)` draws its parameters, `layer(params, x)` applies it. A pure function
`(params, x) -> x` of a user's has that signature and is a layer already. Every array in `params` is trained; tables
(rotary angles, masks) are computed.

What an analyzer wants to know of a layer, it asks: `couples`, which entries of the output a change of one entry of the
input reaches (one of `COUPLINGS`; a layer that does not say couples all tokens), and the directions a norm takes from
the stream, at its input (`null_directions`) and at its output (`output_normals`).

Axes: x is [tokens, features] for one example; `vmap` goes outside. T tokens, d features, H heads, h features a head.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import jax.numpy as jnp

from ...results.configuration import registered
from ..numerics.precision import times, with_leading_axes
from ..parameters.depth import LayerNumber, OfDepth

Number = float | OfDepth | LayerNumber

# Which entries a layer couples, from none to all: `NOTHING` is the identity, `FEATURES` those of one token.
NOTHING, FEATURES, PAST, ALL = COUPLINGS = ("nothing", "features", "past tokens", "all tokens")


def coupling(*layers, least: str = NOTHING) -> str:
    """The widest of what the layers couple, `least` at the least: one of `COUPLINGS`."""
    return max((least, *(getattr(layer, "couples", ALL) for layer in layers)), key=COUPLINGS.index)


class Layer(Protocol):
    """Anything that can stand in a place of equation (1). A pure function does where its parameters are given."""

    def init(self, key, width: int) -> Any:
        """Its parameters, drawn for a stream of that width."""
        ...

    def __call__(self, params, x, /) -> Any:
        """The layer applied."""
        ...


# ---- gains --------------------------------------------------------------------------------------------------


@registered
@dataclass(frozen=True)
class Identity:
    """`x`: an absent part. Costs nothing."""

    couples: ClassVar[str] = NOTHING

    def init(self, key, width: int):
        """No parameters."""
        return {}

    def __call__(self, params, x):
        """`x`."""
        return x

    def output_normals(self, params, y, inherited):
        """Those of its input."""
        return inherited


@registered
@dataclass(frozen=True)
class Zero:
    """`0`: a sublayer without a skip path, so that any function is an instance of equation (1)."""

    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """No parameters."""
        return {}

    def __call__(self, params, x):
        """Zeros in the shape of `x`."""
        return jnp.zeros_like(x)


@registered
@dataclass(frozen=True)
class Gain:
    """`value · x`, not trained."""

    value: Number
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """No parameters."""
        return {}

    def __call__(self, params, x):
        """`value · x`."""
        return times(self.value, x)

    def output_normals(self, params, y, inherited):
        """Those of its input."""
        return inherited


@registered
@dataclass(frozen=True)
class ScalarGain:
    """`a · x` with one trained number `a`, `value` at the start."""

    value: Number
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """`{"gain": []}`."""
        return {"gain": jnp.asarray(self.value, jnp.float32)}

    def __call__(self, params, x):
        """`a · x`."""
        return params["gain"] * x

    def output_normals(self, params, y, inherited):
        """Those of its input."""
        return inherited


@registered
@dataclass(frozen=True)
class FeatureGain:
    """`λ ⊙ x` with one trained number a feature, all `value` at the start."""

    value: Number
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """`{"gain": [d]}`."""
        return {"gain": jnp.asarray(self.value, jnp.float32) * jnp.ones(width, jnp.float32)}

    def __call__(self, params, x):
        """`λ ⊙ x`."""
        return with_leading_axes(params["gain"], x) * x

    def output_normals(self, params, y, inherited):
        """Those of its input, divided by the gains."""
        return inherited / with_leading_axes(params["gain"][:, None], inherited)


@registered
@dataclass(frozen=True)
class Complement:
    """`(1 − λ) ⊙ x` with λ the gain of another part, `of`, which trains it: the two make an interpolation.

    `value` is what that gain is at the start. It has no parameters of its own: it is bound to those of the other part.
    """

    of: str
    value: Number
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """No parameters."""
        return {}

    def __call__(self, params, x):
        """`(1 − λ) ⊙ x`."""
        return with_leading_axes(1 - params["gain"], x) * x

    def output_normals(self, params, y, inherited):
        """Those of its input, divided by the gains."""
        return inherited / with_leading_axes(1 - params["gain"][:, None], inherited)


@registered
@dataclass(frozen=True)
class Shift:
    """`x + b` with one trained number b, 0 at the start."""

    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """`{"shift": []}`."""
        return {"shift": jnp.zeros((), jnp.float32)}

    def __call__(self, params, x):
        """`x + b`."""
        return x + params["shift"]

    def output_normals(self, params, y, inherited):
        """Those of its input."""
        return inherited
