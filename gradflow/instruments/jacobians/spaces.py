"""Spaces of arrays of the stream, token by token: what is orthogonal to the *normals* of every token, and zero on padding.

Normals are orthonormal columns [T, c, K], a zero column where there is none: a space without normals is that of all arrays.
Tokens that are padding are no part of a space. Attention takes nothing from them, nor they from any other, so that a map
between spaces is that of the real tokens by themselves.

Axes: an array of the stream is [T, d] or [lanes, T, d]; by token it is [T, c], c = lanes · d; K normals a token.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..meters.visits import of_real

NORMALS = 4  # columns kept of each lane: two norms, one at either end of a map


def by_token(x):
    """Returns rows [T, c] from the stream's [T, d] or [lanes, T, d]; an array without tokens counts as one."""
    if x.ndim < 2:
        return x.reshape(1, -1)
    return jnp.moveaxis(x, -2, 0).reshape(x.shape[-2], -1)


def from_tokens(rows, like):
    """Returns the array shaped `like` from `by_token`'s rows [T, c]."""
    if len(like.shape) < 2:
        return rows.reshape(like.shape)
    *lanes, tokens, features = like.shape
    return jnp.moveaxis(rows.reshape(tokens, *lanes, features), 0, -2)


class Space(NamedTuple):
    """Arrays that are orthogonal to the normals of every token, and zero but on `real` tokens [T]; None: all are."""

    normals: jax.Array
    real: jax.Array | None = None

    @property
    def entries(self):
        """How many entries an array has on real tokens."""
        tokens, size, _ = self.normals.shape
        return size * (tokens if self.real is None else jnp.sum(self.real))

    @property
    def dimension(self):
        """Its dimension, over all real tokens."""
        number = jnp.round(jnp.sum(self.normals**2))
        return self.entries - number.astype(jnp.int32)

    def project(self, v):
        """Returns `v` without its components along the normals, and without padding."""
        rows = by_token(v)
        along_normals = jnp.einsum("tck,tc->tk", self.normals, rows)
        taken = jnp.einsum("tck,tk->tc", self.normals, along_normals)
        return of_real(from_tokens(rows - taken, v), self.real)


def orthogonal_to(normals, real) -> Space:
    """Returns the space with those normals, as far as they are of `real` tokens."""
    return Space(normals if real is None else jnp.where(real[:, None, None], normals, 0), real)


def everything(x, real=None) -> Space:
    """Returns the space of all arrays shaped like `x`, of `real` tokens."""
    return Space(no_normals(x), real)


def no_normals(x):
    """Returns [T, c, K] of zeros for arrays shaped like `x`, K = `NORMALS` a lane."""
    tokens, entries = by_token(jnp.zeros(x.shape, x.dtype)).shape
    lanes = entries // x.shape[-1]
    return jnp.zeros((tokens, entries, NORMALS * lanes), x.dtype)


def orthonormal(*columns, keep: int = NORMALS):
    """Returns orthonormal columns [T, c, keep] with the span of all the given ones, zeros in the place of what is missing."""
    given = jnp.concatenate(columns, axis=-1)
    largest = jnp.abs(given).max(axis=-2, keepdims=True)
    scaled = given / largest
    scaled = jnp.where(jnp.isfinite(scaled), scaled, 0.0)
    lengths = jnp.linalg.norm(scaled, axis=-2, keepdims=True)
    units = scaled / jnp.where(lengths > 0, lengths, 1.0)
    columns_and_zeros = gram_schmidt(units)
    squares = jnp.sum(columns_and_zeros**2, axis=-2, keepdims=True)
    zeros_last = jnp.argsort(-squares, axis=-1)
    in_order = jnp.take_along_axis(columns_and_zeros, zeros_last, axis=-1)
    kept = in_order[..., :keep]
    missing = keep - kept.shape[-1]
    return jnp.pad(kept, ((0, 0), (0, 0), (0, missing)))


@partial(jax.jit, static_argnames="least")
def gram_schmidt(columns, least: float = 1e-3):
    """Returns orthonormal columns [T, c, K] by Gram-Schmidt; zero where at most `least` of a column is left."""
    number = columns.shape[-1]

    def one(k, kept):
        v = columns[..., k]
        for _ in range(2):  # twice is enough (Parlett 1980, section 6.9)
            along_kept = jnp.einsum("tck,tc->tk", kept, v)
            v = v - jnp.einsum("tck,tk->tc", kept, along_kept)
        size = jnp.linalg.norm(v, axis=-1, keepdims=True)
        unit = v / jnp.where(size > 0, size, 1.0)
        column = jnp.where(size > least, unit, 0.0)
        return kept.at[..., k].set(column)

    return jax.lax.fori_loop(0, number, one, jnp.zeros_like(columns))


def without(normals, kernel):
    """Returns the space with those normals, less the directions of `null_directions` (orthonormal, [T, c, K]) that lie in it.

    They are the combinations of the kernel's columns that are orthogonal to all normals: the null space of the cosines.
    """
    cosines = jnp.einsum("tck,tcj->tjk", normals, kernel)
    inside = _combined(kernel, cosines)
    return orthonormal(normals, inside, keep=normals.shape[-1])


def common(one, other):
    """Returns the directions [T, c, K] that the spans of `one` and `other` (both orthonormal, [T, c, K]) share."""
    outside_other = one - jnp.einsum("tci,tki,tkj->tcj", other, other, one)
    products = jnp.einsum("tcj,tck->tjk", outside_other, outside_other)
    return _combined(one, products)


def _combined(columns, products):
    """Returns those combinations of the columns [T, c, K] whose weights are orthogonal to all of `products` [T, K, m]."""
    tokens, _, number = columns.shape
    unit = jnp.eye(number, dtype=columns.dtype)
    units = jnp.broadcast_to(unit, (tokens, number, number))
    together = jnp.concatenate([products, units], axis=-1)
    orthogonal = gram_schmidt(together)
    weights = orthogonal[..., products.shape[-1] :]
    return jnp.einsum("tcj,tji->tci", columns, weights)
