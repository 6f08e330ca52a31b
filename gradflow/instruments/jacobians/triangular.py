"""Maps that couple a token to its past alone: block triangular, so that volumes are exact and systems are solved by substitution.

Row t of `A v` depends on v_s, s ≤ t. With the normals n of the domain sent to directions q that no token's own block reaches,

    Â = A + w Σ q nᵀ,        log|det Â| = Σ_b log|det Â_bb|        over blocks b of tokens on the diagonal,

is square and block triangular, and `Â x = b` takes one push a block. With `M = ÂᵀÂ`, N all normals and `S = Nᵀ M⁻¹ N`,

    log vol A = log|det Â| + ½ log det S,        (AᵀA)⁻¹ = M⁻¹ − M⁻¹ N S⁻¹ Nᵀ M⁻¹        on the domain

(the inverse of a compression: Horn and Johnson 2013, section 0.7.3). For spaces of which the domain is not the larger one at any
token; else nothing here holds, and `fits` says so.

Axes: by token an array is [T, c]; K normals a token; m tokens a block.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import lu_factor, lu_solve

from ...model.layers.layer import PAST
from .matrices import one_by_one
from .operators import Operator
from .spaces import by_token, from_tokens, project

LARGEST = 512  # entries of a block
AT_A_TIME = 64  # vectors that are pushed together


class Inverse(NamedTuple):
    """`log vol A`, and the map `(AᵀA)⁻¹` on the domain of A."""

    log_volume: jax.Array
    apply: Callable


def fits(op: Operator) -> jax.Array:
    """Returns whether a token is coupled to its past alone, and the domain is the larger space at no token."""
    lost = jnp.round(jnp.sum(op.domain**2, axis=(1, 2)))
    missed = jnp.round(jnp.sum(op.range**2, axis=(1, 2)))
    return jnp.all(lost >= missed) & (op.couples == PAST)


def inverse(op: Operator, weight) -> Inverse:
    """Returns the volume and the inverse of an operator that `fits`; not finite where it is singular.

    weight : w, of the size of the largest singular value

    Cost: n pushes, and 2 K T applications of M⁻¹ where a norm took directions from the domain; then `apply` is one of these, a
    push and a pull for every block of at most `LARGEST` entries.
    """
    blocks = diagonal_blocks(op)
    added = weight * _unreached(op, blocks)
    on_diagonal = _block_diagonal(added, len(blocks))
    factors = one_by_one(lu_factor)(blocks + on_diagonal)
    system = _System(op, added, factors)
    pivots = jnp.diagonal(factors[0], axis1=1, axis2=2)
    log_determinant = jnp.sum(jnp.log(jnp.abs(pivots)))
    normals = _as_vectors(op)
    there = jnp.sum(normals**2, axis=1)
    solved = system.of_all(normals)
    compressed = normals @ solved.T + jnp.diag(1 - jnp.round(there))
    lower = jnp.linalg.cholesky((compressed + compressed.T) / 2)
    log_volume = log_determinant + jnp.sum(jnp.log(jnp.diagonal(lower)))

    def apply(b):
        y = system.inverse(b)
        along = normals @ y.ravel()
        shares = jax.scipy.linalg.cho_solve((lower, True), along)
        taken = (shares @ solved).reshape(y.shape)
        return project(y - taken, op.domain)

    return Inverse(log_volume, apply)


def diagonal_blocks(op: Operator):
    """Returns the blocks [b, m c, m c] on the diagonal of the operator's matrix, [outputs, inputs]. Cost: n pushes."""
    tokens, entries = by_token(jnp.zeros(op.like.shape)).shape
    together = _tokens_together(tokens, entries)
    size = together * entries

    def column(place):
        rows = jax.nn.one_hot(place, op.size, dtype=op.like.dtype).reshape(tokens, entries)
        pushed = by_token(op.apply(from_tokens(rows, op.like))).ravel()
        return jax.lax.dynamic_slice(pushed, (place // size * size,), (size,))

    columns = jax.lax.map(column, jnp.arange(op.size), batch_size=AT_A_TIME)
    return columns.reshape(-1, size, size).mT


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


def _unreached(op: Operator, blocks):
    """Returns `Σ q nᵀ` of every token [T, c, c]: the normals of its domain go where its own block reaches least."""
    tokens, entries, columns = op.domain.shape
    together = tokens // len(blocks)
    split = blocks.reshape(len(blocks), together, entries, together, entries)
    of_token = jnp.einsum("btitj->btij", split).reshape(tokens, entries, entries)
    left, _, _ = one_by_one(jnp.linalg.svd)(of_token)
    least_first = left[..., ::-1][..., :columns]
    return jnp.einsum("tik,tjk->tij", least_first, op.domain)


def _as_vectors(op: Operator):
    """Returns the normals of the domain as vectors [T K, n], zero where there is none."""
    tokens, entries, columns = op.domain.shape
    units = jnp.eye(tokens, dtype=op.domain.dtype)
    rows = jnp.einsum("tck,tu->tkuc", op.domain, units).reshape(-1, tokens, entries)
    as_arrays = jax.vmap(lambda of_one: from_tokens(of_one, op.like))(rows)
    return as_arrays.reshape(tokens * columns, -1)


class _System(NamedTuple):
    """The completed map Â = A + `added`, with the factors of its blocks on the diagonal."""

    op: Operator
    added: jax.Array
    factors: tuple[jax.Array, jax.Array]

    def push(self, rows):
        """Returns `Â v` of rows [T, c]."""
        pushed = by_token(self.op.apply(from_tokens(rows, self.op.like)))
        return pushed + jnp.einsum("tij,tj->ti", self.added, rows)

    def pull(self, rows):
        """Returns `Âᵀ v` of rows [T, c]."""
        (pulled,) = jax.linear_transpose(self.push, rows)(rows)
        return pulled

    def inverse(self, b):
        """Returns `M⁻¹ b`, by `Âᵀ z = b`, from the last block on, and `Â y = z`, from the first."""
        rows = by_token(b)
        z = self._substituted(rows, self.pull, backwards=True)
        y = self._substituted(z, self.push, backwards=False)
        return from_tokens(y, self.op.like)

    def of_all(self, vectors):
        """Returns `M⁻¹` of vectors [k, n], one after the other; zeros of zeros."""

        def one(vector):
            there = jnp.any(vector != 0)
            return jax.lax.cond(
                there, lambda v: self.inverse(v.reshape(self.op.like.shape)).ravel(), jnp.zeros_like, vector
            )

        return jax.lax.map(one, vectors)

    def _substituted(self, b, through: Callable, *, backwards: bool):
        """Returns x of `through(x) = b`, block by block."""
        lu, order = self.factors
        number, size, _ = lu.shape

        def next_block(step, x):
            block = number - 1 - step if backwards else step
            rest = (b - through(x.reshape(b.shape))).ravel()
            here = jax.lax.dynamic_slice(rest, (block * size,), (size,))
            solved = lu_solve((lu[block], order[block]), here, trans=int(backwards))
            return jax.lax.dynamic_update_slice(x, solved, (block * size,))

        return jax.lax.fori_loop(0, number, next_block, jnp.zeros(b.size, b.dtype)).reshape(b.shape)
