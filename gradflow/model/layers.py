"""Layers: frozen descriptions that are functions `(params, x) -> x`; parameters are dicts with Flax's layers as leaves.

A layer's fields describe it, `init(key, width)` draws its parameters, `layer(params, x)` applies it. A pure function
`(params, x) -> x` of a user's has that signature and is a layer already. Every array in `params` is trained; tables
(rotary angles, masks) are computed.

What an analyzer wants to know of a layer, it asks: `couples`, which entries of the output a change of one entry of the
input reaches (one of `COUPLINGS`; a layer that does not say couples all tokens), and the directions a norm takes from
the stream, at its input (`kernel`) and at its output (`normals`).

Axes: x is [tokens, features] for one example; `vmap` goes outside. T tokens, d features, H heads, h features a head.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ..results.configuration import registered, suggestions
from .functions import ACTIVATIONS, attend
from .init import FanIn, Initialization, LayerNumber, Matrix, OfDepth, at, draw

Number = float | OfDepth | LayerNumber

# Which entries a layer couples, from none to all: `NOTHING` is the identity, `FEATURES` those of one token.
NOTHING, FEATURES, PAST, ALL = COUPLINGS = ("nothing", "features", "past tokens", "all tokens")


def coupling(*layers) -> str:
    """The widest of what the layers couple: one of `COUPLINGS`."""
    return max((getattr(layer, "couples", ALL) for layer in layers), key=COUPLINGS.index, default=NOTHING)


class Layer(Protocol):
    """Anything that can stand in a place of equation (1). A pure function does where its parameters are given."""

    def init(self, key, width: int) -> Any:
        """Its parameters, drawn for a stream of that width."""
        ...

    def __call__(self, params, x, /) -> Any:
        """The layer applied."""
        ...


def linear(key, weights: Initialization, name: str, fan_in: int, fan_out: int, width: int, bias: bool) -> nnx.Linear:
    """`nnx.Linear` with its kernel drawn from `weights` and a zero bias where there is one."""
    kernel = draw(weights, at(key, name), Matrix(name, fan_in, fan_out, width))
    return nnx.Linear(fan_in, fan_out, use_bias=bias, kernel_init=lambda *_: kernel, rngs=nnx.Rngs(0))


class Branch:
    """A layer that is made of matrices: `sides(width)` names them, all are drawn from `weights`, each with a `bias` or none."""

    weights: Initialization
    bias: bool

    def sides(self, width: int) -> dict[str, tuple[int, int]]:
        """`{name: (fan_in, fan_out)}` of its matrices."""
        raise NotImplementedError

    def init(self, key, width: int):
        """`{name: Linear}` for every matrix in `sides`."""
        sides = self.sides(width)
        return {name: linear(key, self.weights, name, *side, width, self.bias) for name, side in sides.items()}

    def gains(self, width: int) -> dict[str, float]:
        """`std² · fan_in` of every matrix: what a mean square is multiplied by at initialization."""
        matrices = {name: Matrix(name, *side, width) for name, side in self.sides(width).items()}
        return {name: self.weights.std(matrix) ** 2 * matrix.fan_in for name, matrix in matrices.items()}


def times(value, x):
    """`value · x` in the precision of `x`, whatever that of the number, which may be traced."""
    return jnp.asarray(value, x.dtype) * x


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

    def normals(self, params, y, inherited):
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

    def normals(self, params, y, inherited):
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

    def normals(self, params, y, inherited):
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
        return params["gain"] * x

    def normals(self, params, y, inherited):
        """Those of its input, divided by the gains."""
        return inherited / params["gain"][:, None]


# ---- branches -----------------------------------------------------------------------------------------------


@registered
@dataclass(frozen=True)
class FeedForward(Branch):
    """`W_down φ(W_up x + b_up) + b_down`, hidden width `ratio · d` (Vaswani et al. 2017, eq. 2, with φ = ReLU)."""

    ratio: float = 4
    activation: str = "gelu"
    weights: Initialization = FanIn()
    bias: bool = True
    couples: ClassVar[str] = FEATURES

    def __post_init__(self):
        _known_activation(self.activation)

    def sides(self, width: int):
        """`up`, d -> ratio·d, and `down`, ratio·d -> d."""
        hidden = round(self.ratio * width)
        return {"up": (width, hidden), "down": (hidden, width)}

    def __call__(self, params, x):
        """The branch's output [T, d]."""
        return params["down"](ACTIVATIONS[self.activation](params["up"](x)))


@registered
@dataclass(frozen=True)
class GatedFeedForward(Branch):
    """`W_down (φ(W_gate x) ⊙ W_up x)`, no biases by default (Shazeer 2020, eq. 6, SwiGLU with φ = SiLU)."""

    ratio: float = 8 / 3
    activation: str = "silu"
    weights: Initialization = FanIn()
    bias: bool = False
    couples: ClassVar[str] = FEATURES

    def __post_init__(self):
        _known_activation(self.activation)

    def sides(self, width: int):
        """`gate` and `up`, d -> ratio·d, and `down`, ratio·d -> d."""
        hidden = round(self.ratio * width)
        return {"gate": (width, hidden), "up": (width, hidden), "down": (hidden, width)}

    def __call__(self, params, x):
        """The branch's output [T, d]."""
        return params["down"](ACTIVATIONS[self.activation](params["gate"](x)) * params["up"](x))


@registered
@dataclass(frozen=True)
class Rotary:
    """Queries and keys turned by `t · base^(−2i/h)`, features i and i + h/2 a pair (Su et al. 2021, eq. 34, half-split)."""

    base: float = 10_000.0

    def __call__(self, x: Float[Array, "token head feature"]) -> Float[Array, "token head feature"]:
        """The turned `x`."""
        tokens, _, size = x.shape
        dtype = jnp.promote_types(x.dtype, jnp.float32)  # positions past 256 are not numbers of bfloat16
        half = jnp.arange(size // 2, dtype=dtype)
        angle = jnp.arange(tokens, dtype=dtype)[:, None] * self.base ** (-2 * half / size)
        cos, sin = jnp.cos(angle)[:, None].astype(x.dtype), jnp.sin(angle)[:, None].astype(x.dtype)
        a, b = jnp.split(x, 2, axis=-1)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


@registered
@dataclass(frozen=True)
class Attention(Branch):
    """Multi-head attention (Vaswani et al. 2017, eq. 1 and section 3.2.2), with grouped keys (Ainslie et al. 2023)."""

    heads: int = 4
    kv_heads: int | None = None
    causal: bool = True
    rotary: Rotary | None = None
    weights: Initialization = FanIn()
    bias: bool = False

    @property
    def couples(self) -> str:
        """A token and those before it under a causal mask, else all tokens."""
        return PAST if self.causal else ALL

    def __post_init__(self):
        if self.heads < 1:
            raise ValueError(f"heads is {self.heads}: at least 1 is needed")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"kv_heads = {self.kv_heads} must divide heads = {self.heads}")

    def sides(self, width: int):
        """`query`, `key`, `value` and `out`; key and value have `kv_heads · d/H` outputs."""
        if width % self.heads:
            raise ValueError(f"width = {width} is not a multiple of heads = {self.heads}: change one of them")
        if self.rotary and (width // self.heads) % 2:
            raise ValueError(f"rotary positions need an even width a head, not {width}/{self.heads}")
        shared = width // self.heads * (self.kv_heads or self.heads)
        return {
            "query": (width, width),
            "key": (width, shared),
            "value": (width, shared),
            "out": (width, width),
        }

    def __call__(self, params, x):
        """The branch's output [T, d]."""
        head = x.shape[-1] // self.heads
        q, k, v = (params[name](x).reshape(x.shape[0], -1, head) for name in ("query", "key", "value"))
        if self.rotary:
            q, k = self.rotary(q), self.rotary(k)
        return params["out"](attend(q, k, v, self.causal))


def _known_activation(name: str) -> None:
    if name not in ACTIVATIONS:
        raise ValueError(f"no activation {name!r}: {suggestions(name, ACTIVATIONS)}")
