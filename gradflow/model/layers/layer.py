"""Layers: frozen descriptions that are functions `(params, x) -> x`; parameters are dicts with Flax's layers as leaves.

A layer's fields describe it, `init(key, width)` draws its parameters, `layer(params, x)` applies it. Every array in `params` is
trained; tables (rotary angles, masks) are computed. A pure function `(params, x) -> x` becomes a layer by `as_layer`.

What an analyzer wants to know of a layer, it asks; `Layer` has an answer to each question, which a subclass replaces where it
knows better.

Axes: x is [tokens, features] for one example; `vmap` goes outside. T tokens, d features, H heads, h features a head.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp

from ...results.arguments import shown
from ...results.configuration import registered
from ..equation.sublayer import Part, applied
from ..numerics.precision import times, with_leading_axes
from ..parameters.depth import LayerNumber, OfDepth

Number = float | OfDepth | LayerNumber

# Which entries a layer couples, from none to all: `NOTHING` is the identity, `FEATURES` those of one token.
NOTHING, FEATURES, PAST, ALL = COUPLINGS = ("nothing", "features", "past tokens", "all tokens")


class Layer(ABC):
    """What can stand in a place of equation (1): parameters that `init` draws, and a function of them and of the stream.

    `asks` names what it reads of an example beside the stream (`inputs.context`), which is put beside its parameters. One that
    couples tokens may ask for "groups", the number of each token's [T]: its derivative is then that of every group alone.
    """

    asks: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def init(self, key, width: int) -> Any:
        """Returns its parameters, drawn for a stream of that width."""

    @abstractmethod
    def __call__(self, params, x, /) -> Any:
        """Returns the layer applied to `x`."""

    @property
    def couples(self) -> str:
        """Which entries of the output a change of one entry of the input reaches, one of `COUPLINGS`: by default `ALL`."""
        return ALL

    @property
    def centred(self) -> bool:
        """Whether features whose mean is zero in front of it have that behind it: what theory asks beside a LayerNorm."""
        return True

    def null_directions(self, params, x) -> Any:
        """Returns the directions that it takes from its input `x`, columns [T, d, K]; None, the default, where it takes none."""
        return None

    def output_normals(self, params, y, inherited) -> Any:
        """Returns the directions that its output `y` can't move along, columns [T, d, K]; None, the default: it has none.

        `inherited` are those of its input.
        """
        return None

    def params_from(self, part: str) -> str:
        """Returns the part of (1) whose parameters it has: its own, `part`, unless another part trains them."""
        return part

    def bound(self, params) -> Part:
        """Returns the part of (1) that it is with these parameters, which are used in the stream's precision."""
        return partial(applied, self, params)

    def as_computed(self) -> "Layer":
        """Returns the layer whose derivative is that of what it computes: itself, unless it has a backward rule of its own."""
        return self


class Untrained(Layer):
    """What has no parameters."""

    def init(self, key, width: int) -> dict:
        """Returns none."""
        return {}


@dataclass(frozen=True)
class Function(Untrained):
    """A pure function `(params, x) -> x` as a layer, whose parameters are given: it draws none."""

    function: Callable[[Any, Any], Any]

    def __call__(self, params, x):
        """Returns `function(params, x)`."""
        return self.function(params, x)


@runtime_checkable
class Drawn(Protocol):
    """What draws parameters."""

    def init(self, *args, **options) -> Any:
        """Returns them."""
        ...


def as_layer(layer) -> Layer:
    """Returns a `Layer` as it is, and a pure function `(params, x) -> x` as one.

    Errors: TypeError for what draws parameters and is no `Layer`.
    """
    if isinstance(layer, Layer):
        return layer
    if isinstance(layer, Drawn):
        raise TypeError(
            f"{shown(layer)} has an init and is no layer: let its class inherit from gf.layers.Layer, or give a pure function "
            f"(params, x) -> x"
        )
    return Function(layer)


def coupling(*layers, least: str = NOTHING) -> str:
    """Returns the widest of what the layers couple, `least` at the least: one of `COUPLINGS`."""
    return max((least, *(as_layer(layer).couples for layer in layers)), key=COUPLINGS.index)


# ---- gains --------------------------------------------------------------------------------------------------


@registered
@dataclass(frozen=True)
class Identity(Untrained):
    """`x`: an absent part. Costs nothing."""

    couples: ClassVar[str] = NOTHING

    def __call__(self, params, x):
        """Returns `x`."""
        return x

    def output_normals(self, params, y, inherited):
        """Returns the input's normal directions unchanged."""
        return inherited


@registered
@dataclass(frozen=True)
class Zero(Untrained):
    """`0`: a sublayer without a skip path, so that any function is an instance of equation (1)."""

    couples: ClassVar[str] = FEATURES

    def __call__(self, params, x):
        """Returns zeros in the shape of `x`."""
        return jnp.zeros_like(x)


@registered
@dataclass(frozen=True)
class Gain(Untrained):
    """`value · x`, not trained."""

    value: Number
    couples: ClassVar[str] = FEATURES

    def __call__(self, params, x):
        """Returns `value · x`."""
        return times(self.value, x)

    def output_normals(self, params, y, inherited):
        """Returns the input's normal directions unchanged."""
        return inherited


@registered
@dataclass(frozen=True)
class Plus(Untrained):
    """`x + value`, not trained."""

    value: Number
    couples: ClassVar[str] = FEATURES

    def __call__(self, params, x):
        """Returns `x + value`."""
        return x + jnp.asarray(self.value, x.dtype)

    def output_normals(self, params, y, inherited):
        """Returns the input's normal directions unchanged."""
        return inherited


@registered
@dataclass(frozen=True)
class ScalarGain(Layer):
    """`a · x` with one trained number `a`, `value` at the start."""

    value: Number
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """Returns `{"gain": []}`."""
        return {"gain": jnp.asarray(self.value, jnp.float32)}

    def __call__(self, params, x):
        """Returns `a · x`."""
        return params["gain"] * x

    def output_normals(self, params, y, inherited):
        """Returns the input's normal directions unchanged."""
        return inherited


@registered
@dataclass(frozen=True)
class FeatureGain(Layer):
    """`λ ⊙ x` with one trained number a feature, all `value` at the start."""

    value: Number
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """Returns `{"gain": [d]}`."""
        return {"gain": jnp.asarray(self.value, jnp.float32) * jnp.ones(width, jnp.float32)}

    def __call__(self, params, x):
        """Returns `λ ⊙ x`."""
        return with_leading_axes(params["gain"], x) * x

    def output_normals(self, params, y, inherited):
        """Returns the input's normal directions divided by the gains."""
        return inherited / with_leading_axes(params["gain"][:, None], inherited)


@registered
@dataclass(frozen=True)
class Complement(Untrained):
    """`(1 − λ) ⊙ x` with λ the gain of another part, `of`, which trains it: the two make an interpolation.

    `value` is what that gain is at the start. It has no parameters of its own: it is bound to those of the other part.
    """

    of: str
    value: Number
    couples: ClassVar[str] = FEATURES

    def params_from(self, part: str) -> str:
        """Returns the part whose gain it complements."""
        return self.of

    def __call__(self, params, x):
        """Returns `(1 − λ) ⊙ x`."""
        return with_leading_axes(1 - params["gain"], x) * x

    def output_normals(self, params, y, inherited):
        """Returns the input's normal directions divided by the gains."""
        return inherited / with_leading_axes(1 - params["gain"][:, None], inherited)


@registered
@dataclass(frozen=True)
class Shift(Layer):
    """`x + b` with one trained number b, 0 at the start."""

    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """Returns `{"shift": []}`."""
        return {"shift": jnp.zeros((), jnp.float32)}

    def __call__(self, params, x):
        """Returns `x + b`."""
        return x + params["shift"]

    def output_normals(self, params, y, inherited):
        """Returns the input's normal directions unchanged."""
        return inherited
