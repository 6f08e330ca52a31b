"""Lanes: layers of a stream that has several, `[lanes, tokens, features]`.

Of equation (1) the gains are then matrices on the lane axis, and norms act lane by lane:

    skip    A: lanes -> lanes  (`mixed`)          read    C: lanes -> one  (`gathered`)
    write   B: one -> lanes    (`spread`)         norms   one a lane       (`PerLane`)

A matrix is a number for each pair of lanes, the same for all tokens and features; `Lanes` keeps it, `LaneGains` trains it.
Of gains that read the stream (`DynamicGains`, `ManifoldGains`) each token has a matrix of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from ...results.arguments import suggestions
from ...results.configuration import registered
from ..parameters.keys import at
from .layer import FEATURES, Layer, Number, Untrained, as_layer, coupling

# Einsums over the lane axis, by what they do with it.
ROUTES = {"mix": "ij,j...->i...", "gather": "j,j...->...", "spread": "i,...->i..."}


@registered
@dataclass(frozen=True)
class Lanes(Untrained):
    """`M x` on the lane axis, M not trained; `route` is one of `ROUTES`."""

    trained: ClassVar[bool] = False
    route: str
    matrix: tuple[Number, ...] | tuple[tuple[Number, ...], ...]
    couples: ClassVar[str] = FEATURES

    def __post_init__(self):
        if self.route not in ROUTES:
            raise ValueError(f"no route {self.route!r} between lanes: {suggestions(self.route, ROUTES)}")
        rows = [row for row in self.matrix if isinstance(row, tuple)]
        lanes = len(self.matrix)
        if self.route == "mix":
            fits = len(rows) == lanes and all(len(row) == lanes for row in rows)
            shape = "a row of as many numbers for each lane"
        else:
            fits = lanes > 0 and not rows
            shape = "one number a lane"
        if not fits:
            raise ValueError(f"the matrix of a {self.route} between lanes is {self.matrix}: it needs {shape}")

    def __call__(self, params, x):
        """Returns `M x`."""
        return jnp.einsum(ROUTES[self.route], self.numbers(x.dtype), x)

    def output_normals(self, params, y, inherited):
        """Returns, where one lane is gathered alone, the input's normal directions within it; of other routes none."""
        gathered_lanes = []
        for lane, weight in enumerate(self.matrix):
            left_out = isinstance(weight, float) and weight == 0
            if not left_out:
                gathered_lanes.append(lane)
        if self.route != "gather" or len(gathered_lanes) != 1 or self.trained:
            return jnp.zeros((y.shape[-2], y.size // y.shape[-2], 1), y.dtype)
        by_lane = inherited.reshape(len(inherited), len(self.matrix), -1, inherited.shape[-1])
        of_lane = by_lane[:, gathered_lanes[0]]
        return jnp.where(jnp.sum(of_lane**2, axis=-2, keepdims=True) > 1 - 1e-6, of_lane, 0.0)

    def numbers(self, dtype):
        """M as an array, [lanes, lanes] or [lanes]."""
        return jnp.stack([jnp.asarray(row, dtype) for row in self.matrix])


@registered
@dataclass(frozen=True)
class LaneGains(Lanes):
    """`M x` on the lane axis, M trained, `matrix` at the start."""

    trained: ClassVar[bool] = True

    def init(self, key, width: int):
        """Returns `{"matrix": M}`, float32."""
        return {"matrix": self.numbers(jnp.float32)}

    def __call__(self, params, x):
        """Returns `M x`."""
        return jnp.einsum(ROUTES[self.route], params["matrix"], x)


def mixed(*rows: tuple[Number, ...], kind: Callable[..., Lanes] = Lanes) -> Lanes:
    """Returns the gain from lanes to lanes, `x'_i = Σ_j M_ij x_j`, from the rows of M."""
    return kind("mix", rows)


def gathered(*weights: Number, kind: Callable[..., Lanes] = Lanes) -> Lanes:
    """Returns the gain from lanes to one, `Σ_j w_j x_j`."""
    return kind("gather", weights)


def spread(*weights: Number, kind: Callable[..., Lanes] = Lanes) -> Lanes:
    """Returns the gain from one to lanes, `x'_i = w_i x`."""
    return kind("spread", weights)


@dataclass(frozen=True)
class Several(Layer):
    """A layer that is made of others."""

    layers: tuple[Any, ...]

    @property
    def couples(self) -> str:
        """What the widest couples."""
        return coupling(*self.layers)

    def init(self, key, width: int):
        """Returns `{place: params}`, places counted from 1."""
        return {str(i): layer.init(at(key, i), width) for i, layer in self.numbered()}

    def numbered(self) -> list[tuple[int, Layer]]:
        """Returns `(place, layer)` in turn, places counted from 1."""
        return [(i, as_layer(layer)) for i, layer in enumerate(self.layers, 1)]


@registered
@dataclass(frozen=True)
class PerLane(Several):
    """One layer a lane."""

    @property
    def couples(self) -> str:
        """What the widest couples; the features of a token at the least, for lanes are some of them."""
        return coupling(*self.layers, least=FEATURES)

    def __call__(self, params, x):
        """Returns each lane after its layer."""
        if len(x) != len(self.layers):
            raise ValueError(f"a stream of {len(x)} lanes, but {len(self.layers)} layers: give one a lane")
        lanes = []
        for i, layer in self.numbered():
            lanes.append(layer(params[str(i)], x[i - 1]))
        return jnp.stack(lanes)

    def null_directions(self, params, x):
        """Returns what each lane's norm takes from its input, columns [T, lanes · d, K], each within one lane."""
        of_lanes = []
        for i, layer in self.numbered():
            of_lanes.append(layer.null_directions(params[str(i)], x[i - 1]))
        return _on_diagonal(x, of_lanes)

    def output_normals(self, params, y, inherited):
        """Returns what the output of each lane's norm can't move along, as columns; a lane without a norm moves freely."""
        free = jnp.zeros((*y.shape[1:], 1), y.dtype)
        of_lanes = []
        for i, layer in self.numbered():
            of_lanes.append(layer.output_normals(params[str(i)], y[i - 1], free))
        return _on_diagonal(y, of_lanes)


def _on_diagonal(x, columns: list):
    """Returns the lanes' columns [T, d, K], or None, as the blocks on a diagonal, [T, lanes · d, sum of K]."""
    none = jnp.zeros((*x.shape[1:], 0), x.dtype)
    blocks = [none if block is None else block for block in columns]
    rows = []
    for i in range(len(blocks)):
        row = []
        for j, block in enumerate(blocks):
            if i == j:
                row.append(block)
            else:
                row.append(jnp.zeros_like(block))
        rows.append(jnp.concatenate(row, axis=-1))
    return jnp.concatenate(rows, axis=-2)


@registered
@dataclass(frozen=True)
class Then(Several):
    """Layers one after the other."""

    def __call__(self, params, x):
        """Returns the output of the last layer."""
        for i, layer in self.numbered():
            x = layer(params[str(i)], x)
        return x
