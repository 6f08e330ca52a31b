"""The leading directions of a stack: tangents pushed up through its sublayers and kept orthonormal (Benettin et al. 1980).

    J_l Q_(l−1) = Q_l R_l,      growth of direction i at sublayer l: log R_ii

In logs, so that a thousand layers neither overflow nor vanish. Of the real tokens of the first example of a batch: a tangent
that is zero on padding stays so.

Axes: x is [T, d] or [lanes, T, d], n entries; S sublayers; k leading directions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..model.equation.sublayer import residual, walk
from ..model.inputs.context import own_inputs, real_tokens
from ..model.parameters.initializers import normal
from ..model.parameters.keys import at, root
from .meters.visits import at_bottom, first_inputs, of_real, where_finite


class Directions(NamedTuple):
    """Growths [S, k]; at the positions 0 … S what is kept of the directions; and their token-mean shares [S+1, k]."""

    growth: jax.Array
    kept: Any
    token_mean_shares: jax.Array


def nothing(tangents) -> tuple:
    """Returns nothing, for `leading_directions(…, keep=nothing)`."""
    return ()


def leading_directions(
    model,
    params,
    batch,
    leading: int,
    key,
    keep: Callable = nothing,
) -> Directions:
    """Returns the growth of `leading` random orthonormal tangents, and `keep(tangents)` of them at every position."""
    inputs = first_inputs(batch)
    real = real_tokens(own_inputs(model, inputs))
    used, x = at_bottom(model, params, inputs)
    if not 1 <= leading <= x.size:
        raise ValueError(f"leading is {leading}: between 1 and tokens × features = {x.size} directions can be followed")
    drawn = draws(at(root(key), "tangents"), leading, x)
    bottom, _ = orthonormalized(of_real(drawn, real))

    def visit(carry, parts, _):
        x, tangents = carry
        y, push = jax.linearize(partial(residual, parts=parts), x)
        pushed = jax.vmap(push)(tangents)
        tangents, growth = orthonormalized(pushed)
        report = Directions(growth, keep(tangents), token_mean_share(tangents, real))
        return (y, tangents), where_finite(y, report)

    def with_bottom(at_bottom, above):
        return jnp.concatenate([at_bottom[None], above])

    _, above = walk(model.stack, used["stack"], (x, bottom), visit)
    kept_at_bottom = keep(bottom)
    share_at_bottom = token_mean_share(bottom, real)
    return Directions(
        growth=above.growth,
        kept=jax.tree.map(with_bottom, kept_at_bottom, above.kept),
        token_mean_shares=with_bottom(share_at_bottom, above.token_mean_shares),
    )


def draws(key, number: int, like):
    """Returns arrays [m, …] from N(0, 1), shaped and typed like an array of the stream.

    Token by token: those of the first tokens are the same however many there are.
    """
    if like.ndim < 2:
        return normal(key, number, *like.shape).astype(like.dtype)
    *lanes, tokens, features = like.shape
    by_token = normal(key, tokens, number, *lanes, features)
    return jnp.moveaxis(by_token, 0, -2).astype(like.dtype)


def orthonormalized(tangents):
    """Returns orthonormal tangents [k, …] of the same span, and the logs of what each had grown to.

    Gram-Schmidt, each tangent against those before it three times: twice is enough for orthogonality to rounding (Giraud et
    al. 2005), but not of the rounding that is left where a norm removed a direction whole. Not LAPACK's QR: its threads may
    wait for each other on a busy machine, a hundredfold of what these small products take.
    """
    rows = tangents.reshape(len(tangents), -1)

    def one(i, carry):
        q, growth = carry
        v = rows[i]
        for _ in range(3):
            along = q @ v
            v = v - along @ q
        length = jnp.linalg.norm(v)
        unit = v / jnp.where(length > 0, length, 1.0)
        q = q.at[i].set(unit)
        growth = growth.at[i].set(jnp.log(length))
        return q, growth

    no_directions = jnp.zeros_like(rows)
    no_growth = jnp.zeros_like(rows[:, 0])
    q, growth = jax.lax.fori_loop(0, len(rows), one, (no_directions, no_growth))
    return q.reshape(tangents.shape), growth


def token_mean_share(tangents, real=None):
    """Returns the share [k] of each direction's squared norm that is the same on all tokens, of those that are `real` [T]."""
    if tangents.ndim < 3:
        return jnp.ones(len(tangents), tangents.dtype)
    tokens = tangents.shape[-2] if real is None else jnp.sum(real)
    sum_over_tokens = of_real(tangents, real).sum(-2)
    others = tuple(range(1, tangents.ndim - 1))
    return jnp.sum(sum_over_tokens**2, axis=others) / tokens
