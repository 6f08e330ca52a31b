"""Maps that couple a token to its past alone: block triangular, so that volumes are exact and systems are solved by substitution.

Row t of `A v` depends on v_s, s ≤ t. Where a norm took directions n from the domain, they are sent to directions q that the
token's own block reaches least; where it took them from the range, the other way round. With N the normals of the smaller space,

    Â = A + w Σ q nᵀ,        log|det Â| = Σ_b log|det Â_bb|        over blocks b of tokens on the diagonal,

is square and block triangular, and `Â x = b` takes one push a block. Of a map that is not smaller in its range, with Z = Â⁻ᵀ N,

    log vol A = log|det Â| + ½ log det ZᵀZ,        A⁺ᵀ = (1 − Z (ZᵀZ)⁻¹ Zᵀ) Â⁻ᵀ        on the domain

(`(AᵀA)⁻¹` is the inverse of a compression: Horn and Johnson 2013, section 0.7.3); of another one the same of its transpose. For
spaces of which one is the smaller at every token; else nothing here holds, and `fits` says so.

A map that couples all tokens is one block, where that is not too large.

Axes: by token an array is [T, c]; K normals a token; b blocks of m tokens.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from ...model.layers.layer import PAST
from .bidiagonal import transposed
from .functionals import rounding
from .matrices import one_by_one
from .operators import Operator
from .smallest import Inverse
from .spaces import Space, by_token, from_tokens

LARGEST = 512  # entries of a block
WHOLE = 4096  # entries of a map that couples all tokens, as one block: that matrix and its factors, 200 MB in float32
AT_A_TIME = 64  # vectors that are pushed together


class Exact(NamedTuple):
    """`log vol A`, and the pseudoinverse of A, `up` on its smaller side."""

    log_volume: jax.Array
    inverse: Inverse


def may_fit(op: Operator) -> bool:
    """Returns whether the operator is block triangular, or small enough for one block."""
    return op.couples == PAST or op.size <= WHOLE


def fits(op: Operator) -> jax.Array:
    """Returns whether it is, and one of the spaces is the smaller at every token."""
    lost = jnp.round(jnp.sum(op.domain.normals**2, axis=(1, 2)))
    missed = jnp.round(jnp.sum(op.range.normals**2, axis=(1, 2)))
    one_is_smaller = jnp.all(lost >= missed) | jnp.all(lost <= missed)
    return one_is_smaller & may_fit(op)


def bound(op: Operator) -> jax.Array:
    """Returns a singular value of the last token's own block, at least the smallest of A: nothing else reaches its entries alone.

    Infinite where that says nothing: tokens further down read it, or the range is the smaller. Cost: c pushes.
    """
    if op.couples != PAST:
        return jnp.asarray(jnp.inf, op.like.dtype)
    tokens, entries, _ = op.domain.normals.shape
    last = tokens - 1 if op.domain.real is None else jnp.sum(op.domain.real) - 1  # padding is behind

    def column(place):
        row = jax.nn.one_hot(place, entries, dtype=op.like.dtype)
        rows = jnp.zeros((tokens, entries), op.like.dtype).at[last].set(row)
        return by_token(op.apply(from_tokens(rows, op.like)))[last]

    own = jax.vmap(column)(jnp.arange(entries))
    values = jnp.linalg.svd(own, compute_uv=False)
    lost = jnp.round(jnp.sum(op.domain.normals[last] ** 2)).astype(int)
    least = values[entries - 1 - lost]
    return jnp.where(op.range.dimension < op.domain.dimension, jnp.inf, least)


def inverse(op: Operator, weight) -> Exact:
    """Returns the volume and the pseudoinverse of an operator that `fits`; not finite where it is singular.

    weight : w, of the size of the largest singular value

    Cost: `m c` pushes, or n where `push_within` is not said, and a push a block for
    each of K T normals, where a norm took directions from the smaller space; then `up` and `down` are a push a block each.
    """
    is_wide = op.range.dimension < op.domain.dimension
    blocks = diagonal_blocks(op)
    number = len(blocks)
    normals = jnp.where(is_wide, op.range.normals, op.domain.normals)
    added = weight * _completion(op, blocks, normals, is_wide) + _of_padding(op)
    factors = Factors(*one_by_one(jax.lax.linalg.lu)(blocks + _block_diagonal(added, number)))
    system = _System(op, added, factors)
    pivots = jnp.diagonal(factors.lu, axis1=1, axis2=2)
    log_determinant = jnp.sum(jnp.log(jnp.abs(pivots)))
    directions = _as_vectors(op, normals)
    there = jnp.sum(directions**2, axis=1)
    solved = _of_those_there(system, directions, is_wide)
    products = solved @ solved.T + jnp.diag(1 - jnp.round(there))
    lower = jnp.linalg.cholesky(products)
    log_volume = log_determinant + jnp.sum(jnp.log(jnp.diagonal(lower)))

    def unreached(u):
        along = solved @ u.ravel()
        shares = jax.scipy.linalg.cho_solve((lower, True), along)
        return (shares @ solved).reshape(u.shape)

    def up(b):
        u = from_tokens(system.solved(by_token(b), ~is_wide), op.like)
        return u - unreached(u)

    def down(u):
        reached = by_token(u - unreached(u))
        return Space(normals, op.domain.real).project(from_tokens(system.solved(reached, is_wide), op.like))

    tolerance = rounding(jnp.ones((), op.like.dtype), op.size)
    return Exact(log_volume, Inverse(up, down, tolerance))


def diagonal_blocks(op: Operator) -> jax.Array:
    """Returns the blocks [b, m c, m c] on the diagonal of the operator's matrix, [outputs, inputs]."""
    tokens, entries, _ = op.domain.normals.shape
    together = _tokens_together(tokens, entries) if op.couples == PAST else tokens
    size = together * entries
    if op.push_within is None or together == tokens:
        return _one_after_the_other(op, size)
    alone = op._replace(push=op.push_within(together))

    def column(place):
        unit = jax.nn.one_hot(place, size, dtype=op.like.dtype)
        in_every_block = jnp.tile(unit, tokens // together)
        return _pushed(alone, in_every_block).reshape(-1, size)

    columns = jax.lax.map(column, jnp.arange(size), batch_size=AT_A_TIME)
    return jnp.einsum("ibo->boi", columns)


def _one_after_the_other(op: Operator, size: int):
    """Returns the blocks by pushes of which each changes one block."""

    def column(place):
        unit = jax.nn.one_hot(place, op.size, dtype=op.like.dtype)
        return jax.lax.dynamic_slice(_pushed(op, unit), (place // size * size,), (size,))

    columns = jax.lax.map(column, jnp.arange(op.size), batch_size=AT_A_TIME)
    return columns.reshape(-1, size, size).mT


def _pushed(op: Operator, vector):
    """Returns `A v` of a vector [n], entries token by token."""
    rows = vector.reshape(op.domain.normals.shape[:2])
    return by_token(op.apply(from_tokens(rows, op.like))).ravel()


def _tokens_together(tokens: int, entries: int) -> int:
    """Returns how many tokens make a block: as many as `LARGEST` allows, and the same in all."""
    fitting = [number for number in range(1, tokens + 1) if tokens % number == 0 and number * entries <= LARGEST]
    return max(fitting, default=1)


def _block_diagonal(by_token_alone, number: int):
    """Returns matrices of single tokens [T, c, c] as `number` blocks of several."""
    tokens, entries, _ = by_token_alone.shape
    together = tokens // number
    units = jnp.eye(together, dtype=by_token_alone.dtype)
    of_block = by_token_alone.reshape(number, together, entries, entries)
    return jnp.einsum("btij,tu->btiuj", of_block, units).reshape(number, together * entries, -1)


def _completion(op: Operator, blocks, normals, is_wide):
    """Returns `Σ q nᵀ` of every token [T, c, c], of a map with the smaller range `Σ n qᵀ`; zeros where there are no normals."""
    tokens, entries, columns = normals.shape
    together = tokens // len(blocks)
    split = blocks.reshape(len(blocks), together, entries, together, entries)
    of_token = jnp.einsum("btitj->btij", split).reshape(tokens, entries, entries)

    def completed():
        downwards = jnp.where(is_wide, of_token.mT, of_token)
        left, _, _ = one_by_one(jnp.linalg.svd)(downwards)
        least_first = left[..., ::-1][..., :columns]
        sent = jnp.einsum("tik,tjk->tij", least_first, normals)
        return jnp.where(is_wide, sent.mT, sent)

    return jax.lax.cond(jnp.any(normals != 0), completed, lambda: jnp.zeros_like(of_token))


def _of_padding(op: Operator):
    """Returns the identity [T, c, c] of tokens that are padding, on which A is zero: so Â has an inverse, of the same volume."""
    _, entries, _ = op.domain.normals.shape
    if op.domain.real is None:
        return jnp.zeros((), op.like.dtype)
    return ~op.domain.real[:, None, None] * jnp.eye(entries, dtype=op.like.dtype)


def _as_vectors(op: Operator, normals):
    """Returns the normals as vectors [K T, n], zero where there is none: the first of all tokens, then the second."""
    tokens, entries, columns = normals.shape
    units = jnp.eye(tokens, dtype=normals.dtype)
    rows = jnp.einsum("tck,tu->ktuc", normals, units).reshape(-1, tokens, entries)
    as_arrays = jax.vmap(lambda of_one: from_tokens(of_one, op.like))(rows)
    return as_arrays.reshape(tokens * columns, -1)


def _of_those_there(system: "_System", vectors, is_wide):
    """Returns `Â⁻ᵀ` of vectors [k, n], of a wide map `Â⁻¹`, some at a time; zeros of zeros."""
    like = system.op.like

    def of_one(vector):
        rows = by_token(vector.reshape(like.shape))
        return from_tokens(system.solved(rows, ~is_wide), like).ravel()

    def of_some(some):
        return jax.lax.cond(jnp.any(some != 0), jax.vmap(of_one), jnp.zeros_like, some)

    tokens = by_token(jnp.zeros(like.shape)).shape[0]
    return jax.lax.map(of_some, vectors.reshape(-1, tokens, like.size)).reshape(vectors.shape)


class Factors(NamedTuple):
    """The factors of a square matrix B, or of a stack, as LAPACK packs them, `B[order] = L U` with 1 on the diagonal of L."""

    lu: jax.Array
    pivots: jax.Array
    order: jax.Array

    def solved(self, b):
        """Returns x of `B x = b`."""
        lower = solve_triangular(self.lu, b[self.order], lower=True, unit_diagonal=True)
        return solve_triangular(self.lu, lower)

    def solved_transposed(self, b):
        """Returns x of `Bᵀ x = b`."""
        upper = solve_triangular(self.lu, b, trans=1)
        ordered = solve_triangular(self.lu, upper, trans=1, lower=True, unit_diagonal=True)
        return jnp.zeros_like(b).at[self.order].set(ordered)


class _System(NamedTuple):
    """The completed map Â = A + `added`, with the factors of its blocks on the diagonal."""

    op: Operator
    added: jax.Array
    factors: Factors

    def push(self, rows):
        """Returns `Â v` of rows [T, c]."""
        pushed = by_token(self.op.apply(from_tokens(rows, self.op.like)))
        return pushed + jnp.einsum("tij,tj->ti", self.added, rows)

    def pull(self, rows):
        """Returns `Âᵀ v` of rows [T, c]."""
        return transposed(self.push, rows)(rows)

    def solved(self, b, transposed):
        """Returns x of `Â x = b`, from the first block on, or `Âᵀ x = b`, from the last, for rows [T, c]."""
        number, size, _ = self.factors.lu.shape

        def next_block(step, x):
            block = jnp.where(transposed, number - 1 - step, step)
            rest = b - jax.lax.cond(transposed, self.pull, self.push, x.reshape(b.shape))
            here = jax.lax.dynamic_slice(rest.ravel(), (block * size,), (size,))
            own = jax.tree.map(lambda of_blocks: of_blocks[block], self.factors)
            solved = jax.lax.cond(transposed, own.solved_transposed, own.solved, here)
            return jax.lax.dynamic_update_slice(x, solved, (block * size,))

        return jax.lax.fori_loop(0, number, next_block, jnp.zeros(b.size, b.dtype)).reshape(b.shape)
