"""Composite gain: what the skip matrices of a stream of several lanes do to a signal, one after the other.

    P_l = A_S … A_(l+1)

    forward   Σ_j P_l[i, j]   lane i at the top, of a signal that is the same in all lanes at position l
    backward  Σ_i P_l[i, j]   the cotangent of lane j at position l, of one that is the same in all lanes at the top

The skip of one lane is a number of its wiring; between lanes that are trained, nothing holds these sums near 1. Their largest
size (Xie et al. 2025 (mHC), section 3.1 and figure 3) shows a lane that is amplified and not one that is lost; the largest
|log| shows both. Every sublayer is a position of its own. What branches add, and norms on the stream, are not in P.

Axes: S sublayers, T tokens; i and j of n lanes, out and in.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from ..model.equation.sublayer import bind_dynamic_gains, residual, walk
from ..model.inputs.context import own_inputs, real_tokens
from ..model.numerics.precision import in_float32
from ..results.quantities import SIDES
from .meters.visits import at_bottom, first_inputs


def gain(model, params, batch) -> dict:
    """Returns `composite_gain` [S+1, side], nat: `max |log |sum||` over the lanes of P_l, mean over tokens of the first example.

    0 where every sum is of size 1, so at the top; infinite where a lane receives nothing, or reaches nothing; NaN for a stream of
    one lane. Sums are carried in logs: no depth over- or underflows. Cost: one forward pass, and n skips a sublayer.
    """
    inputs = first_inputs(batch)
    stream = jax.eval_shape(model.enter, params, inputs)
    if stream.ndim < 3:
        positions = model.stack.size + 1
        return {"composite_gain": jnp.full((positions, len(SIDES)), jnp.nan)}
    skips = matrices(model, params, inputs)
    logs, signs = _pulled(model, params, skips)
    rows = logs[..., :-1, :]
    signs_of_rows = signs[..., :-1, :]
    forward, _ = logsumexp(rows, axis=-1, b=signs_of_rows, return_sign=True)
    backward = logs[..., -1, :]
    sums = jnp.stack([forward, backward], axis=-1)  # log |·| [S+1, T, n, side]
    largest = jnp.abs(sums).max(-2)
    real = real_tokens(own_inputs(model, inputs))
    counted = None if real is None else real[None, :, None]
    return {"composite_gain": largest.mean(-2, where=counted)}


def matrices(model, params, inputs) -> Float[Array, "sublayer token lane lane"]:
    """Returns A_1 … A_S: what every skip makes of a stream that is 1 in one lane and 0 in the others.

    Of a skip that is linear, and couples neither tokens nor features; of gains that differ by feature, the mean.
    """
    like = jax.eval_shape(model.enter, params, inputs)
    lanes = like.shape[0]
    unit = in_float32(jnp.eye(lanes, dtype=like.dtype))
    units = jnp.broadcast_to(unit[..., None, None], (lanes, *like.shape))

    def visit(x, parts, _):
        y = residual(x, parts)
        skip = bind_dynamic_gains(parts, x)["skip"]
        of_units = jax.vmap(skip, out_axes=-1)(units)
        return y, of_units.mean(-2)  # [i, T, j]

    used, bottom = at_bottom(model, params, inputs)
    _, by_sublayer = walk(model.stack, used["stack"], bottom, visit)
    return jnp.swapaxes(by_sublayer, 1, 2)


def products(model, params, inputs) -> Float[Array, "depth token lane lane"]:
    """Returns P_0 … P_S of one example, by token."""
    skips = matrices(model, params, inputs)
    logs, signs = _pulled(model, params, skips)
    rows_and_sum = signs * jnp.exp(logs)
    return rows_and_sum[..., :-1, :]


def _pulled(model, params, skips):
    """Returns rows of P_l, and last the sum of them, as the log of their size and their sign, both [S+1, T, n+1, n].

    The same walk from the top down: row vectors `v A_S … A_(l+1)`, for v a unit of each lane, and 1 in all.
    """
    _, tokens, lanes, _ = skips.shape
    units = jnp.eye(lanes, dtype=skips.dtype)
    all_lanes = jnp.ones((1, lanes), skips.dtype)
    rows = jnp.concatenate([units, all_lanes])
    signs = jnp.broadcast_to(rows, (tokens, *rows.shape))
    top = (jnp.log(signs), signs)

    def visit(rows, _, a):
        logs, signs = rows
        terms = signs[..., None] * a[:, None]
        below = logsumexp(logs[..., None], axis=-2, b=terms, return_sign=True)
        return below, below

    def in_depth_order(top, from_top_down):
        whole = jnp.concatenate([top[None], from_top_down])
        return whole[::-1]

    _, below_top = walk(model.stack, params["stack"], top, visit, skips[::-1])
    return jax.tree.map(in_depth_order, top, below_top)
