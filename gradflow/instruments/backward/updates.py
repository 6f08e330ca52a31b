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

from ...model.equation.sublayer import walk, with_context
from ..meters.parameter_norms import by_outer, by_parameter, frobenius
from ..meters.signal import mean_square
from ..meters.visits import reporting_inputs


@dataclass(frozen=True)
class OfUpdate:
    """A reading of an update, `(model, (before, after), batch) -> {quantity: array}`."""

    function: Callable[..., dict]

    def __call__(self, model, weights, batch) -> dict:
        """Returns the reading."""
        return self.function(model, weights, batch)


def sizes(model, weights, batch) -> dict:
    """Returns `update_norm`, `update_to_weight` and `update_angle` [S, P], and those of the parameters outside the stack.

    NaN where a weight is zero. Cost: a few reductions over the parameters.
    """
    before, after = weights
    pairs = {}
    for name in before:
        behind_depth = 1 if name == "stack" else 0
        pairs[name] = _paired(before[name], after[name], axis=behind_depth)
    inside = {}
    for name, of_weight in SIZES.items():
        inside[name] = by_parameter(model.stack, pairs["stack"], of_weight)
    outside = {}
    for name, of_weight in SIZES.items():
        outside[f"outer_{name}"] = by_outer(pairs, of_weight)
    return inside | outside


def _paired(before, after, axis: int):
    """Returns every leaf before and after, along a new axis."""
    return jax.tree.map(lambda a, b: jnp.stack([a, b], axis), before, after)


def _change(both):
    """Returns `‖W' − W‖` of the pair (W, W')."""
    before, after = both
    return frobenius(after - before)


def _relative_change(both):
    """Returns `‖W' − W‖/‖W‖`; NaN where W is zero."""
    size = frobenius(both[0])
    return jnp.where(size > 0, _change(both) / size, jnp.nan)


def _angle(both):
    """Returns `atan(‖Δ across W‖/(‖W‖ + Δ along W))`.

    Exact for small angles too, since `Δ = W' − W` is then exact in floating point.
    """
    before, after = both
    size = frobenius(before)
    change = after - before
    unit = before / size
    products = jnp.conj(unit) * change
    along = jnp.sum(products.real)
    is_there = frobenius(after) > 0
    across = frobenius(change - along * unit)
    return jnp.where(is_there, jnp.arctan2(across, size + along), jnp.nan)


SIZES = {"update_norm": _change, "update_to_weight": _relative_change, "update_angle": _angle}


def change(model, weights, batch) -> dict:
    """Returns `stream_change` [D] and `output_change`: how far one update moves the stream, and what is read out.

    Root mean squares over examples, tokens and features. Cost: two forward passes.
    """

    def streams(params, inputs):
        used = with_context(model, params, inputs)
        bottom = model.enter(params, inputs)
        top, below = walk(model.stack, used["stack"], bottom, reporting_inputs)
        stream = jnp.concatenate([below, top[None]])
        return stream, model.leave(used, top)

    def moved(inputs):
        before, after = weights
        stream_before, out_before = streams(before, inputs)
        stream_after, out_after = streams(after, inputs)
        stream_change = stream_after - stream_before
        out_change = out_after - out_before
        return jax.vmap(mean_square)(stream_change), mean_square(out_change)

    stream, out = jax.lax.map(moved, batch["inputs"])
    return {
        "stream_change": stream.mean(0) ** 0.5,
        "output_change": out.mean(0) ** 0.5,
    }


UPDATES = {"update": OfUpdate(sizes), "change": OfUpdate(change)}
