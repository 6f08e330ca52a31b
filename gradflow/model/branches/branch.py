"""Branches: F of equation (1), made of matrices, with the layers that a wiring may set between them.

A *place* is where a layer can act inside a branch: `inner`, in front of the last matrix, on the hidden layer or on the
concatenated heads; in attention also on the queries, keys and values of each head and, one number a head, on the heads.
In a gated network they may act on what stands on either side of the product. All are the identity unless they are set, by the
branch's field or by a wiring's `inner_layers`.

Axes: x is [tokens, features] for one example. T tokens, d features.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from flax import nnx

from ...results.arguments import known, real
from ...results.configuration import registered
from ...results.fields import field_values
from ..layers.functional import ACTIVATIONS, affine
from ..layers.layer import FEATURES, Identity, Layer, as_layer, coupling
from ..parameters.initializers import FanIn, Initialization, Matrix, draw
from ..parameters.keys import at


class Linear(nnx.Linear):
    """Flax's `W x + b`, as `affine` takes it."""

    def __call__(self, inputs, out_sharding=None):
        """Returns `W x + b` [..., fan_out]."""
        bias = None if self.bias is None else self.bias[...]
        return affine(*self.promote_dtype((inputs, self.kernel[...], bias), dtype=self.dtype))


def linear(key, weights: Initialization, name: str, fan_in: int, fan_out: int, width: int, bias: bool) -> nnx.Linear:
    """Returns a `Linear` with its kernel drawn from `weights` and a zero bias where there is one."""
    kernel = draw(weights, at(key, name), Matrix(name, fan_in, fan_out, width))
    return Linear(fan_in, fan_out, use_bias=bias, kernel_init=lambda *_: kernel, rngs=nnx.Rngs(0))


class Branch(Layer):
    """A layer made of matrices: `matrix_shapes(width)` names them, all are drawn from `weights`.

    Each has a `bias`, or none has; or those have one that `bias` names (Qwen 2's queries, keys and values).
    `inner_widths(width)` names the fields that are layers themselves, with the number of features each acts on.
    """

    weights: Initialization
    bias: bool | tuple[str, ...]

    def matrix_shapes(self, width: int) -> dict[str, tuple[int, int]]:
        """Returns `{name: (fan_in, fan_out)}` of its matrices, the last of them the one that writes the output."""
        raise NotImplementedError

    def inner_widths(self, width: int) -> dict[str, int]:
        """Returns `{field: features}` of the layers inside it."""
        return {}

    def init(self, key, width: int):
        """Returns `{name: Linear}` for every matrix, and the parameters of the layers in `inner_widths` that have some."""
        params, shapes = {}, self.matrix_shapes(width)
        with_bias = self.with_bias(shapes)
        for name, (fan_in, fan_out) in shapes.items():
            params[name] = linear(key, self.weights, name, fan_in, fan_out, width, name in with_bias)
        for place, size in self.inner_widths(width).items():
            inside = self.layer_at(place).init(at(key, place), size)
            if inside != {}:
                params[place] = inside
        return params

    def with_bias(self, matrices: Iterable[str]) -> list[str]:
        """Returns which of its matrices have a bias."""
        if isinstance(self.bias, bool):
            return list(matrices) if self.bias else []
        return [known("matrix, whose bias is asked for:", name, list(matrices)) for name in self.bias]

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
    bias: bool | tuple[str, ...] = True
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
    """`W_down (φ(W_gate x) ⊙ W_up x)`, no biases by default (Shazeer 2020, eq. 6, SwiGLU with φ = SiLU).

    `on_gate` acts on W_gate x, in front of φ, `on_up` on W_up x: bounds, where a model has them.
    """

    ratio: float = 8 / 3
    activation: str = "silu"
    weights: Initialization = FanIn()
    bias: bool | tuple[str, ...] = False
    inner: Layer = Identity()
    on_gate: Layer = Identity()
    on_up: Layer = Identity()

    @property
    def couples(self) -> str:
        """The features of a token, or what a layer inside couples, if that is more."""
        return coupling(self.inner, self.on_gate, self.on_up, least=FEATURES)

    def matrix_shapes(self, width: int):
        """Returns `gate` and `up`, d -> ratio·d, and `down`, ratio·d -> d."""
        hidden = round(self.ratio * width)
        return {"gate": (width, hidden), "up": (width, hidden), "down": (hidden, width)}

    def inner_widths(self, width: int):
        """Returns the layers on both factors, and `inner` on the hidden layer."""
        return dict.fromkeys(("on_gate", "on_up", "inner"), round(self.ratio * width))

    def __call__(self, params, x):
        """Returns the branch's output [T, d]."""
        gate = self.at("on_gate", params, params["gate"](x))
        up = self.at("on_up", params, params["up"](x))
        hidden = ACTIVATIONS[self.activation](gate) * up
        return params["down"](self.at("inner", params, hidden))


@registered
@dataclass(frozen=True)
class Dense(Branch):
    """`φ(W x + b)`, to `features` or as many as came in: what stands between tables and the stream, or in front of a readout."""

    features: int | None = None
    activation: str = "linear"
    weights: Initialization = FanIn()
    bias: bool | tuple[str, ...] = True
    couples: ClassVar[str] = FEATURES

    def matrix_shapes(self, width: int):
        """Returns `dense`, width -> features."""
        return {"dense": (width, self.features or width)}

    def __call__(self, params, x):
        """Returns `φ(W x + b)`."""
        return ACTIVATIONS[self.activation](params["dense"](x))
