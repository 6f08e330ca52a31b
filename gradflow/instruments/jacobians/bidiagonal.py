"""Golub-Kahan bidiagonalization `A V = U B` from several starts at once (Golub and Kahan 1965), continued until it says enough.

Vectors of both sides are kept orthogonal to all before them: those of one side are enough but where A is close to singular (Simon
and Zha 2000, section 3). What has converged costs no more steps.

Axes: m starts; k steps, `most` of them at most.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

ROUNDS = 4  # of doubling


class Bidiagonal(NamedTuple):
    """The matrices B so far [m, most, most], zero beyond the steps that were made, and the column to the right of them [m, most].

    With left and right singular vectors p and q of B, `A V q = σ U p` exactly, and `Aᵀ U p` is `σ V q` but for `|p · next|`.
    """

    matrix: jax.Array
    next: jax.Array


class _State(NamedTuple):
    """Vectors V and U [m, most, n], the next of V [m, …], and `α, β` of every step [m, most, 2]."""

    rights: jax.Array
    lefts: jax.Array
    right: jax.Array
    entries: jax.Array


def transposed(push: Callable, like) -> Callable:
    """Returns Aᵀ of a linear map A of arrays like this one."""

    def pull(cotangent):
        (pulled,) = jax.linear_transpose(push, like)(cotangent)
        return pulled

    return pull


def continued(
    push: Callable,
    pull: Callable,
    starts,
    most: int,
    read: Callable[[Bidiagonal], Any],
    enough: Callable[[Any, Any], Any],
) -> tuple[Any, Any]:
    """Returns `read(B)` at the end and at half of its steps; NaN for the latter where there was but one step.

    push, pull : A and Aᵀ, of one array
    starts : unit vectors [m, …] that A takes
    enough : `(now, before) -> bool`, asked whenever the number of steps has doubled

    Cost: m pushes, pulls and orthogonalizations a step; memory `2 m · most` vectors.
    """
    state = _begun(push, starts, most)
    nothing = jax.tree.map(lambda a: jnp.full(a.shape, jnp.nan, a.dtype), jax.eval_shape(read, _matrices(state, 0)))
    rounds = jnp.minimum(-(-most // 2 ** (ROUNDS - 1)) * 2 ** jnp.arange(ROUNDS), most)

    def goes_on(carry):
        steps, _, now, before = carry
        return (steps < most) & ~enough(now, before)

    def further(carry):
        steps, state, now, before = carry
        state = _step(push, pull, steps, state)
        steps = steps + 1
        now, before = jax.lax.cond(
            jnp.any(steps == rounds),
            lambda: (read(_matrices(state, steps)), now),
            lambda: (now, before),
        )
        return steps, state, now, before

    _, _, now, before = jax.lax.while_loop(goes_on, further, (jnp.zeros((), int), state, nothing, nothing))
    return now, before


def bidiagonal(push: Callable, pull: Callable, starts, steps: int) -> jax.Array:
    """Returns `B` [m, k, k] after so many steps; zero from where the Krylov space is used up."""
    state = jax.lax.fori_loop(0, steps, partial(_step, push, pull), _begun(push, starts, steps))
    return _matrices(state, steps).matrix


def _begun(push: Callable, starts, most: int) -> _State:
    """Returns the state before the first step."""
    number, *shape = starts.shape
    left = jax.eval_shape(push, starts[0])
    return _State(
        rights=jnp.zeros((number, most, math.prod(shape)), starts.dtype),
        lefts=jnp.zeros((number, most, left.size), left.dtype),
        right=starts,
        entries=jnp.zeros((number, most, 2), starts.dtype),
    )


def _step(push: Callable, pull: Callable, step, state: _State) -> _State:
    """Returns the state after one more step: `α u = A v − …` and `β v' = Aᵀ u − …`, less what lies along those before."""
    pushed = jax.vmap(push)(state.right)
    left, alpha = _normalized(_orthogonal(pushed, state.lefts))
    rights = state.rights.at[:, step].set(_flat(state.right))
    lefts = state.lefts.at[:, step].set(_flat(left))
    pulled = jax.vmap(pull)(left)
    right, beta = _normalized(_orthogonal(pulled, rights))
    entries = state.entries.at[:, step].set(jnp.stack([alpha, beta], axis=-1))
    return _State(rights, lefts, right, entries)


def _orthogonal(vectors, kept):
    """Returns vectors [m, …] without what lies along those kept [m, most, n]; those to come are zero.

    Taken away twice: of a vector of which little is left, rounding along them is more than a rounding (Giraud et al. 2005).
    All of them, at every step: to choose would copy them, which takes longer than the products.
    """

    def once(rest):
        along = jnp.einsum("mon,mkn->mok", rest, kept)
        return rest - jnp.einsum("mok,mkn->mon", along, kept)

    rest = _flat(vectors)[:, None]
    return once(once(rest)).reshape(vectors.shape)


def _flat(vectors):
    """Returns vectors [m, …] as [m, n]."""
    return vectors.reshape(len(vectors), -1)


def _times(numbers, vectors):
    """Returns vectors [m, …], each times its number [m]."""
    return numbers.reshape(-1, *[1] * (vectors.ndim - 1)) * vectors


def _normalized(vectors):
    """Returns unit vectors [m, …] and the lengths [m]; zeros of zeros."""
    lengths = jnp.sqrt(jnp.sum(vectors**2, axis=range(1, vectors.ndim)))
    return _times(1 / jnp.where(lengths == 0, 1, lengths), vectors), lengths


def _matrices(state: _State, steps) -> Bidiagonal:
    """Returns B, zero from where the Krylov space is used up.

    Beyond that point the iteration follows rounding: what comes after an entry that is zero to rounding is no part of A.
    """
    number, most, _ = state.entries.shape
    entries = state.entries.reshape(number, -1)  # α₁ β₁ α₂ β₂ …
    size = state.right[0].size
    least = 10 * size**0.5 * jnp.finfo(entries.dtype).eps * entries.max(axis=1, keepdims=True)
    is_made = jnp.arange(2 * most)[None] < 2 * steps
    is_alive = jnp.cumprod(~(entries <= least), axis=1).astype(bool)  # NaN is, and shows
    alive = jnp.where(is_made & is_alive, entries, 0).reshape(number, most, 2)
    is_last = jnp.arange(most)[None] == steps - 1
    following = jnp.where(is_last, alive[..., 1], 0)
    on_diagonal = jax.vmap(jnp.diag)(alive[..., 0])
    above = jnp.where(is_last, 0, alive[..., 1])[:, :-1]
    above_diagonal = jax.vmap(partial(jnp.diag, k=1))(above)
    return Bidiagonal(on_diagonal + above_diagonal, following)
