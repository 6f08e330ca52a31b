"""What an update does: to each weight, and to what the stack computes. Readings of weights before and after it.

A reading of an update is a function `(model, (before, after), batch) -> {quantity: array}` of the weights on both sides,
wrapped in `OfUpdate`, so that it is told from one of weights at a moment. `after − before` is the update as it was applied,
rounded to the weights' precision.

Axes: S sublayers, P parameter names, D = S + 1 positions of the stream.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ..model.equation.sublayer import residual, walk, with_context
from .gradients import by_outer, by_parameter, frobenius
from .signal import mean_square


@dataclass(frozen=True)
class OfUpdate:
    """A reading of an update, `(model, (before, after), batch) -> {quantity: array}`."""

    function: Callable[..., dict]

    def __call__(self, model, weights, batch) -> dict:
        """The reading."""
        return self.function(model, weights, batch)


def sizes(model, weights, batch) -> dict:
    """`update_norm`, `update_to_weight` and `update_angle` [S, P], and those of the parameters outside the stack.

    NaN where a weight is zero. Cost: a few reductions over the parameters.
    """
    before, after = weights
    pair = {name: _paired(before[name], after[name], axis=int(name == "stack")) for name in before}
    ofs = {"update_norm": _change, "update_to_weight": _relative_change, "update_angle": _angle}
    inside = {name: by_parameter(model.stack, pair["stack"], of) for name, of in ofs.items()}
    return {**inside, **{f"outer_{name}": by_outer(pair, of) for name, of in ofs.items()}}


def _paired(before, after, axis: int):
    """Every leaf before and after, along a new axis behind that of depth."""
    return jax.tree.map(lambda a, b: jnp.stack([a, b], axis), before, after)


def _change(both):
    return frobenius(both[1] - both[0])


def _relative_change(both):
    size = frobenius(both[0])
    return jnp.where(size > 0, _change(both) / size, jnp.nan)


def _angle(both):
    """`atan(‖Δ across W‖/(‖W‖ + Δ along W))`: exact for small angles too, since `Δ = W' − W` is then exact in floating point."""
    size, change = frobenius(both[0]), both[1] - both[0]
    unit = both[0] / size
    along = jnp.sum((jnp.conj(unit) * change).real)
    return jnp.where(frobenius(both[1]) > 0, jnp.arctan2(frobenius(change - along * unit), size + along), jnp.nan)


def change(model, weights, batch) -> dict:
    """`stream_change` [D] and `output_change`: how far one update moves the stream, and what is read out.

    Root mean squares over examples, tokens and features. Cost: two forward passes.
    """

    def streams(params, inputs):
        own = with_context(model, params, inputs)
        x, below = walk(model.stack, own["stack"], model.enter(params, inputs), _seen)
        return jnp.concatenate([below, x[None]]), model.leave(own, x)

    def moved(inputs):
        stream, out = (b - a for a, b in zip(*(streams(params, inputs) for params in weights), strict=True))
        return jax.vmap(mean_square)(stream), mean_square(out)

    stream, out = (squares.mean(0) ** 0.5 for squares in jax.lax.map(moved, batch["inputs"]))
    return {"stream_change": stream, "output_change": out}


def _seen(x, parts, _):
    """Visit: the forward pass; reports the sublayer's input."""
    return residual(x, parts), x


UPDATES = {"update": OfUpdate(sizes), "change": OfUpdate(change)}
