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

from ..model.equation.sublayer import bind_dynamic_gains, residual, walk, with_context
from ..model.numerics.precision import in_float32
from ..results.quantities import SIDES


def gain(model, params, batch) -> dict:
    """`composite_gain` [S+1, side]: `max |log |sum||` over the lanes of P_l, nat, mean over the tokens of the first example.

    0 where every sum is of size 1, so at the top; infinite where a lane receives nothing, or reaches nothing; NaN for a stream of
    one lane. Sums are carried in logs: no depth over- or underflows. Cost: one forward pass, and n skips a sublayer.
    """
    inputs = jax.tree.map(lambda a: a[0], batch["inputs"])
    if jax.eval_shape(model.enter, params, inputs).ndim < 3:
        size = model.stack.size
        return {"composite_gain": jnp.full((size + 1, len(SIDES)), jnp.nan)}
    logs, signs = _pulled(model, params, matrices(model, params, inputs))
    forward, _ = logsumexp(logs[..., :-1, :], axis=-1, b=signs[..., :-1, :], return_sign=True)
    sums = jnp.stack([forward, logs[..., -1, :]], axis=-1)  # log |·| [S+1, T, n, side]
    return {"composite_gain": jnp.abs(sums).max(-2).mean(-2)}


def matrices(model, params, inputs) -> Float[Array, "sublayer token lane lane"]:
    """A_1 … A_S: what every skip makes of a stream that is 1 in one lane and 0 in the others.

    Of a skip that is linear, and couples neither tokens nor features; of gains that differ by feature, the mean.
    """
    like = jax.eval_shape(model.enter, params, inputs)
    unit = in_float32(jnp.eye(like.shape[0], dtype=like.dtype))[..., None, None]
    units = jnp.broadcast_to(unit, (like.shape[0], *like.shape))
    made = lambda skip: jax.vmap(skip, out_axes=-1)(units).mean(-2)  # [i, T, j]
    see = lambda x, parts, _: (residual(x, parts), made(bind_dynamic_gains(parts, x)["skip"]))
    own, x = with_context(model, params, inputs), in_float32(model.enter(params, inputs))
    _, found = walk(model.stack, own["stack"], x, see)
    return jnp.swapaxes(found, 1, 2)


def products(model, params, inputs) -> Float[Array, "depth token lane lane"]:
    """P_0 … P_S of one example, by token."""
    logs, signs = _pulled(model, params, matrices(model, params, inputs))
    return (signs * jnp.exp(logs))[..., :-1, :]


def _pulled(model, params, found):
    """Rows of P_l, and last the sum of them, as the log of their size and their sign, both [S+1, T, n+1, n].

    The same walk from the top down: row vectors `v A_S … A_(l+1)`, for v a unit of each lane, and 1 in all.
    """
    tokens, lanes = found.shape[1:3]
    units = jnp.concatenate([jnp.eye(lanes, dtype=found.dtype), jnp.ones((1, lanes), found.dtype)])
    signs = jnp.broadcast_to(units, (tokens, *units.shape))
    top = jnp.log(signs), signs

    def visit(rows, _, a):
        logs, signs = (part[..., None] for part in rows)
        below = logsumexp(logs, axis=-2, b=signs * a[:, None], return_sign=True)
        return below, below

    _, seen = walk(model.stack, params["stack"], top, visit, found[::-1])
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest])[::-1], top, seen)
