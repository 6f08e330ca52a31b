"""Branches: F of equation (1), made of matrices, with the layers that a wiring may set between them.

A *place* is where a layer can act inside a branch: `inner`, in front of the last matrix, on the hidden layer or on the
concatenated heads; in attention also on the queries, keys and values of each head and, one number a head, on the heads.
All are the identity unless they are set, by the branch's field or by a wiring's `inner_layers`.

Axes: x is [tokens, features] for one example. T tokens, d features, H heads, h features a head.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from flax import nnx

from ...results.arguments import known, real, whole
from ...results.configuration import registered
from ...results.fields import field_values
from ..layers.functional import ACTIVATIONS, Mask, Scored, attend, scored
from ..layers.layer import ALL, FEATURES, PAST, Identity, Layer, as_layer, coupling
from ..parameters.depth import LayerNumber
from ..parameters.initializers import FanIn, Initialization, Matrix, draw
from ..parameters.keys import at
from .rotary import Rotary


def linear(key, weights: Initialization, name: str, fan_in: int, fan_out: int, width: int, bias: bool) -> nnx.Linear:
    """Returns `nnx.Linear` with its kernel drawn from `weights` and a zero bias where there is one."""
    kernel = draw(weights, at(key, name), Matrix(name, fan_in, fan_out, width))
    return nnx.Linear(fan_in, fan_out, use_bias=bias, kernel_init=lambda *_: kernel, rngs=nnx.Rngs(0))


class Branch(Layer):
    """A layer made of matrices: `matrix_shapes(width)` names them, all are drawn from `weights`, each with a `bias` or none.

    `inner_widths(width)` names the fields that are layers themselves, with the number of features each acts on.
    """

    weights: Initialization
    bias: bool

    def matrix_shapes(self, width: int) -> dict[str, tuple[int, int]]:
        """Returns `{name: (fan_in, fan_out)}` of its matrices, the last of them the one that writes the output."""
        raise NotImplementedError

    def inner_widths(self, width: int) -> dict[str, int]:
        """Returns `{field: features}` of the layers inside it."""
        return {}

    def init(self, key, width: int):
        """Returns `{name: Linear}` for every matrix, and the parameters of the layers in `inner_widths` that have some."""
        params = {}
        for name, (fan_in, fan_out) in self.matrix_shapes(width).items():
            params[name] = linear(key, self.weights, name, fan_in, fan_out, width, self.bias)
        for place, size in self.inner_widths(width).items():
            inside = self.layer_at(place).init(at(key, place), size)
            if inside != {}:
                params[place] = inside
        return params

    def layer_at(self, place: str) -> Layer:
        """Returns the layer at a place inside the branch; the identity where it has no such place."""
        return as_layer(field_values(self).get(place, Identity()))

    def at(self, place: str, params, x):
        """Returns the layer at a place, applied."""
        return self.layer_at(place)(params.get(place, {}), x)

    def gains(self, width: int) -> dict[str, float]:
        """Returns `std² · fan_in` of every matrix: what a mean square is multiplied by at initialization."""
        gains = {}
        for name, (fan_in, fan_out) in self.matrix_shapes(width).items():
            gains[name] = self.weights.std(Matrix(name, fan_in, fan_out, width)) ** 2 * fan_in
        return gains


class OneHidden(Branch):
    """What feed-forward networks share: one hidden layer, of `ratio` times the width, on which `inner` acts."""

    ratio: float
    activation: str
    inner: Layer

    def __post_init__(self):
        known("activation", self.activation, ACTIVATIONS)
        real("ratio", self.ratio, above=0)

    @property
    def couples(self) -> str:
        """The features of a token, or what the layer inside couples, if that is more."""
        return coupling(self.inner, least=FEATURES)

    def inner_widths(self, width: int):
        """Returns `inner` on the hidden layer."""
        return {"inner": round(self.ratio * width)}


@registered
@dataclass(frozen=True)
class FeedForward(OneHidden):
    """`W_down φ(W_up x + b_up) + b_down`, hidden width `ratio · d` (Vaswani et al. 2017, eq. 2, with φ = ReLU)."""

    ratio: float = 4
    activation: str = "gelu"
    weights: Initialization = FanIn()
    bias: bool = True
    inner: Layer = Identity()

    def matrix_shapes(self, width: int):
        """Returns `up`, d -> ratio·d, and `down`, ratio·d -> d."""
        hidden = round(self.ratio * width)
        return {"up": (width, hidden), "down": (hidden, width)}

    def __call__(self, params, x):
        """Returns the branch's output [T, d]."""
        hidden = ACTIVATIONS[self.activation](params["up"](x))
        return params["down"](self.at("inner", params, hidden))


@registered
@dataclass(frozen=True)
class GatedFeedForward(OneHidden):
    """`W_down (φ(W_gate x) ⊙ W_up x)`, no biases by default (Shazeer 2020, eq. 6, SwiGLU with φ = SiLU)."""

    ratio: float = 8 / 3
    activation: str = "silu"
    weights: Initialization = FanIn()
    bias: bool = False
    inner: Layer = Identity()

    def matrix_shapes(self, width: int):
        """Returns `gate` and `up`, d -> ratio·d, and `down`, ratio·d -> d."""
        hidden = round(self.ratio * width)
        return {"gate": (width, hidden), "up": (width, hidden), "down": (hidden, width)}

    def __call__(self, params, x):
        """Returns the branch's output [T, d]."""
        hidden = ACTIVATIONS[self.activation](params["gate"](x)) * params["up"](x)
        return params["down"](self.at("inner", params, hidden))


@registered
@dataclass(frozen=True)
class Attention(Branch):
    """Multi-head attention (Vaswani et al. 2017, eq. 1 and section 3.2.2), with grouped keys (Ainslie et al. 2023).

    A head has `head` features, `d/H` by default. `window` is how many tokens of the past a token sees, itself among them;
    `scale` and `softcap` are those of the scores (see `attend`).

    `query_norm`, `key_norm` and `value_norm` act on each head, before positions turn it (QK-norm: Henry et al. 2020, here
    with a norm of one's choice, as Qwen 3 and Gemma 3 have it; OLMo 2's acts on all heads together, `Joint`);
    `head_gain` sees a token's heads as its features.
    """

    heads: int = 4
    kv_heads: int | None = None
    causal: bool = True
    rotary: Rotary | None = None
    weights: Initialization = FanIn()
    bias: bool = False
    query_norm: Layer = Identity()
    key_norm: Layer = Identity()
    value_norm: Layer = Identity()
    head_gain: Layer = Identity()
    inner: Layer = Identity()
    head: int | None = None
    window: int | LayerNumber | None = None
    scale: float | None = None
    softcap: float | None = None

    asks: ClassVar[tuple[str, ...]] = ("texts", "groups")

    @property
    def mask(self) -> Mask:
        """Which tokens of its text a token sees."""
        return Mask(self.causal, self.window)

    @property
    def couples(self) -> str:
        """A token and those before it under a causal mask, else all tokens."""
        return PAST if self.causal else ALL

    def __post_init__(self):
        whole("heads", self.heads)
        for name, number in (("kv_heads", self.kv_heads), ("head", self.head)):
            if number is not None:
                whole(name, number)
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"kv_heads = {self.kv_heads} must divide heads = {self.heads}")
        Mask(self.causal, self.window)

    def size(self, width: int) -> int:
        """Returns the number of features of a head."""
        if not self.head and width % self.heads:
            raise ValueError(f"width = {width} is not a multiple of heads = {self.heads}: change one of them")
        return self.head or width // self.heads

    def matrix_shapes(self, width: int):
        """Returns `query`, `key`, `value` and `out`; key and value have `kv_heads · h` outputs."""
        size = self.size(width)
        if self.rotary and size % 2:
            raise ValueError(f"rotary positions need an even width a head, not {self.head or f'{width}/{self.heads}'}")
        all_heads, shared = size * self.heads, size * (self.kv_heads or self.heads)
        return {
            "query": (width, all_heads),
            "key": (width, shared),
            "value": (width, shared),
            "out": (all_heads, width),
        }

    def inner_widths(self, width: int):
        """Returns norms on the features of a head, `head_gain` on the heads, `inner` on their concatenation."""
        size = self.size(width)
        by_head = dict.fromkeys(("query_norm", "key_norm", "value_norm"), size)
        return {**by_head, "head_gain": self.heads, "inner": size * self.heads}

    def seen(self, params, x):
        """Returns what keys and values are made of: the stream that the queries are of too."""
        return x

    def sources(self, params, x) -> dict[str, Any]:
        """Returns what queries, keys and values are made of."""
        if x.ndim == 3:
            return dict(zip(("query", "key", "value"), x, strict=True))
        seen = self.seen(params, x)
        return {"query": x, "key": seen, "value": seen}

    def queries_keys_values(self, params, x) -> tuple:
        """Returns what the scores are made of and what they weigh, normed and turned: q [T, H, h], k and v [S, K, h].

        Of three lanes queries, keys and values are made of one each.
        """
        head = self.size(x.shape[-1])
        heads = {}
        for name, u in self.sources(params, x).items():
            features = params[name](u)
            heads[name] = features.reshape(len(u), -1, head)
        q, k, v = (self.at(f"{name}_norm", params, u) for name, u in heads.items())
        if self.rotary:
            q, k = self.rotary(q), self.rotary(k)
        return q, k, v

    def scored(self, params, x) -> Scored:
        """Returns the probabilities that it reads the values with, and what they are made of."""
        q, k, _ = self.queries_keys_values(params, x)
        return scored(q, k, self.mask.of(params), self.scale, self.softcap)

    def __call__(self, params, x):
        """Returns the branch's output [T, d]."""
        q, k, v = self.queries_keys_values(params, x)
        read = attend(q, k, v, self.mask.of(params), self.scale, self.softcap)
        if self.head_gain != Identity():
            by_head = read.reshape(len(q), self.heads, -1).swapaxes(1, 2)
            read = self.at("head_gain", params, by_head).swapaxes(1, 2).reshape(read.shape)
        return params["out"](self.at("inner", params, read))


@registered
@dataclass(frozen=True)
class Joint(Layer):
    """A layer that acts on `heads` heads [T, heads, h] together, as on `heads · h` features: the QK-norm of OLMo 2."""

    layer: Layer
    heads: int
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """Returns the layer's parameters, for heads of `width` features."""
        return self.layer.init(key, self.heads * width)

    def __call__(self, params, x):
        """Returns the layer applied to the concatenated heads."""
        return self.layer(params, x.reshape(len(x), -1)).reshape(x.shape)


@registered
@dataclass(frozen=True)
class Dense(Branch):
    """`φ(W x + b)`, to `features` or as many as came in: what stands between tables and the stream, or in front of a readout."""

    features: int | None = None
    activation: str = "linear"
    weights: Initialization = FanIn()
    bias: bool = True
    couples: ClassVar[str] = FEATURES

    def matrix_shapes(self, width: int):
        """Returns `dense`, width -> features."""
        return {"dense": (width, self.features or width)}

    def __call__(self, params, x):
        """Returns `φ(W x + b)`."""
        return ACTIVATIONS[self.activation](params["dense"](x))
