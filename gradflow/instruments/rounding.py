"""Rounding: every reading of the same weights and batch in bfloat16 and float32, against float64, and what is lost there.

    error of a reading r at a position      ‖r − r₆₄‖/‖r₆₄‖       over all that is read there: entries, tokens, weights, factors

Beside the readings of one backward pass, which are norms and so hide what turns, stand two arrays themselves: the stream, and the
gradient ∂loss/∂x_l of the whole batch. What is lost has a share of its own, by place:

    stream, gradient    entries that are not zero in float64, and here below the smallest normal number
    scores              attention probabilities of the keys that a query sees, below it
    norm sums           tokens in front of a norm that are not zero, but whose mean of squares is below it
    sum                 entries of a branch's term that are not zero, and leave the sum as the skip alone would be

The precision is that of the stream (`Transformer.precision`): weights are rounded where they are used, and sums of products,
norms and the softmax are in float32 or better. For float64 the same weights are widened. Padding is counted nowhere.

Axes: S + 1 positions of the stream; what is read at a sublayer stands at the position behind it.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from ..model.equation.sublayer import bind, recorded, walk, with_context
from ..model.inputs.batch import shares
from ..model.inputs.context import own_inputs, real_tokens
from ..model.numerics.precision import in_float32
from ..model.stacks.transformer import Transformer
from ..results.arguments import of_class
from ..results.quantities import ARRAYS, LOST, ROUNDED, ROUNDINGS
from .backward import gradients
from .forward.attention import Attending
from .meters.visits import of_real, with_params

EXACT = "float64"


def rounding(model, params, batch) -> dict:
    """Returns `rounding_error` [precision, rounded, S+1] and `lost_share` [precision, lost, S+1].

    Cost: six backward passes of the batch, a third of them in float64, and memory of the stream and its gradient everywhere.
    Errors: TypeError for what is no `Transformer`; ValueError without jax_enable_x64.
    """
    of_class("a model whose rounding is read", model, Transformer)
    exact = _seen(model, params, batch, EXACT)
    errors, shares_lost = [], []
    for precision in ROUNDINGS:
        seen = _seen(model, params, batch, precision)
        errors.append(jnp.stack([_error(seen[name], exact[name]) for name in ROUNDED]))
        of_arrays = [_flushed(seen[name], exact[name], precision) for name in ARRAYS]
        inside = [seen[name] for name in LOST if name not in ARRAYS]
        shares_lost.append(jnp.stack([*of_arrays, *inside]))
    return {"rounding_error": jnp.stack(errors), "lost_share": jnp.stack(shares_lost)}


def _seen(model, params, batch, precision: str) -> dict:
    """Returns `{what: [S+1, …]}` in that precision: both arrays, the readings, and the shares that are lost inside sublayers."""
    model = dataclasses.replace(model, precision=precision)
    if precision == EXACT:
        params = jax.tree.map(lambda leaf: leaf.astype(EXACT), params)
    streams, cotangents, inside = _arrays(model, params, batch)
    reading = gradients.reading(model, params, batch)
    rows = model.stack.size + 1
    by_position = {}
    for name in ROUNDED[len(ARRAYS) :]:
        values = reading[name]
        by_position[name] = _behind(values) if len(values) < rows else values
    return {"stream": streams, "gradient": cotangents, **by_position, **jax.tree.map(_behind, inside)}


def _behind(rows):
    """Returns rows of sublayers [S, …] as rows of positions [S+1, …]: NaN at the bottom."""
    nothing = jnp.full_like(rows[:1], jnp.nan)
    return jnp.concatenate([nothing, rows])


def _error(values, exact):
    """Returns `‖r − r₆₄‖/‖r₆₄‖` of each row, of what is a number in float64; 0 where both are the same, NaN of nothing."""
    there = ~jnp.isnan(_rows(exact))
    difference = jnp.linalg.norm(jnp.where(there, _rows(values) - _rows(exact), 0.0), axis=-1)
    size = jnp.linalg.norm(jnp.where(there, _rows(exact), 0.0), axis=-1)
    error = jnp.where(difference == 0, 0.0, difference / size)
    return jnp.where(there.any(-1), error, jnp.nan)


def _rows(values):
    return values.astype(EXACT).reshape(len(values), -1)


def _flushed(values, exact, precision: str):
    """Returns the share of entries of each row that are not zero in float64, and below the smallest normal number here."""
    there = _rows(exact) != 0
    flushed = there & (jnp.abs(_rows(values)) < float(jnp.finfo(precision).tiny))
    return _share(flushed, there, axis=-1)


def _share(which, among, axis=None):
    """Returns how many of `among` are so; 0 of none."""
    return jnp.sum(which, axis=axis, dtype=EXACT) / jnp.maximum(jnp.sum(among, axis=axis, dtype=EXACT), 1)


# ---- one precision ------------------------------------------------------------------------------------------


@jax.custom_vjp
def tapped(x, tap):
    """Returns `x`; backward, `tap`, an array like it, receives the cotangent that `x` has."""
    return x


tapped.defvjp(lambda x, tap: (x, None), lambda _, g: (g, g))


def _arrays(model, params, batch) -> tuple:
    """Returns the stream and the gradient of the batch's loss at all positions [S+1, B, …], and what is lost inside [S]."""

    def of_example(inputs, targets, share):
        used = with_context(model, params, inputs)
        bottom = model.enter(params, inputs)
        real = real_tokens(own_inputs(model, inputs))
        visit = partial(_visit, real=real)
        taps = jnp.zeros((model.stack.size, *bottom.shape), bottom.dtype), jnp.zeros_like(bottom)

        def loss(taps):
            inside, at_top = taps
            top, (below, lost) = walk(model.stack, used["stack"], bottom, visit, inside, bind=with_params)
            out = model.leave(used, tapped(top, at_top))
            return share * model.loss(used, out, targets), (below, top, lost)

        (below, at_top), (streams, top, lost) = jax.grad(loss, has_aux=True)(taps)
        stream = of_real(jnp.concatenate([streams, top[None]]), real)
        return stream, jnp.concatenate([below, at_top[None]]), lost

    share = shares(model, batch["targets"])
    streams, cotangents, lost = jax.vmap(of_example)(batch["inputs"], batch["targets"], share / len(share))
    return jnp.moveaxis(streams, 0, 1), jnp.moveaxis(cotangents, 0, 1), jax.tree.map(partial(jnp.mean, axis=0), lost)


def _visit(x, layers_and_params, tap, real=None):
    """Visit: the forward pass, its stream tapped; reports the stream, and the shares that are lost inside."""
    layers, params = layers_and_params
    y, records = recorded(bind(layers, params), tapped(x, tap), at=_ends)
    return y, (x, jax.lax.stop_gradient(_inside(layers, params, records, real)))


def _ends(part, u):
    """Returns a part's output, and as its record its input and its output."""
    y = part(u)
    return y, (u, y)


def _inside(layers, params, records, real) -> dict:
    """Returns the shares of one sublayer that are lost in its scores, its norms' sums, and its residual sum, of `real` tokens."""
    (_, skip), (_, branch), (total, _) = records["skip"], records["write"], records["norm_out"]
    term = of_real(branch, real)
    unfelt = (total == skip) & (term != 0)
    return {
        "scores": _of_scores(layers["branch"], params["branch"], records["branch"][0], real),
        "norm sums": _of_norms(layers, params, records, real),
        "sum": _share(unfelt, term != 0),
    }


def _of_scores(branch, params, x, real):
    """Returns the share of a branch's probabilities, of `real` queries, that are lost; NaN of one that attends to nothing."""
    if not isinstance(branch, Attending):
        return jnp.full((), jnp.nan, EXACT)
    scored = branch.scored(jax.tree.map(lambda leaf: leaf.astype(x.dtype), params), x)
    lost = scored.probabilities < float(jnp.finfo(scored.probabilities.dtype).tiny)
    seen = jnp.broadcast_to(of_real(scored.seen, real), lost.shape)
    return _share(lost & seen, seen)


def _of_norms(layers, params, records, real):
    """Returns the share of tokens in front of a sublayer's norms whose mean of squares is lost; NaN where it has no norm."""
    lost, among = [], []
    for part in ("norm_in", "norm_branch", "norm_out"):
        u, _ = records[part]
        if layers[part].null_directions(params[layers[part].params_from(part)], u) is None:
            continue
        square = jnp.mean(jnp.square(in_float32(u)), axis=-1)
        filled = jnp.any(of_real(u, real) != 0, axis=-1)
        lost.append(filled & (square < float(jnp.finfo(square.dtype).tiny)))
        among.append(filled)
    if not lost:
        return jnp.full((), jnp.nan, EXACT)
    return _share(jnp.stack(lost), jnp.stack(among))
