"""Spectra that are known exactly: from the matrix of an operator, or from those of its tokens.

A factor that couples no tokens is a `c × c` block a token, all pushed at once; else its matrix is dense, of size n = T·c.
"""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ...model.layers.layer import FEATURES, NOTHING
from .functionals import CLEAR, deficits, extremes, functionals, ranked, rounding, with_errors
from .operators import Operator
from .spaces import by_token, from_tokens


def singular_values(ops: Mapping[str, Operator], memory: int = 2**28) -> dict:
    """Returns all n singular values of each operator, [T, c] or [1, n] as its `blocks`, descending in each. Cost: see `blocks`.

    Of the identity those beyond its rank are 0; of others those that are zero come out at rounding.
    A map to fewer entries than it has inputs takes the rest to zero.

    Matrices of one size are decomposed one after the other. On the CPU jaxlib spreads a batch of LAPACK calls over the
    threads that also run the program, and waits for them there: two batches at a time never end.
    """
    spectra = {}
    matrices: dict[tuple, dict[str, jax.Array]] = {}  # by their size
    for name, op in ops.items():
        if not op.through:
            spectra[name] = _within(op).astype(op.like.dtype)[None]
            continue
        matrix = blocks(op, memory)
        matrices.setdefault(matrix.shape[1:], {})[name] = matrix
    values_alone = partial(jnp.linalg.svd, compute_uv=False)
    for alike in matrices.values():
        stack = jnp.concatenate(list(alike.values()))
        values = one_by_one(values_alone)(stack)
        kernel = stack.shape[-1] - values.shape[-1]
        values = jnp.pad(values, ((0, 0), (0, kernel)))
        ends = np.cumsum([len(matrix) for matrix in alike.values()])
        by_operator = jnp.split(values, ends[:-1])
        spectra |= dict(zip(alike, by_operator, strict=True))
    return spectra


def one_by_one(decomposition):
    """Returns `decomposition` of a stack of matrices, one after the other; see `singular_values` for the reason."""
    return partial(jax.lax.map, decomposition)


def blocks(op: Operator, memory: int = 2**28):
    """Returns the matrix of the operator, [T, c, c] where it couples no tokens, else [1, n, n]; [outputs, inputs].

    Cost: c pushes, or n; as many at a time as `memory` bytes hold (an array and about sixteen of its size between).
    """
    rows = by_token(jnp.zeros(op.like.shape))
    tokens, features = rows.shape
    token_by_token = op.couples in (NOTHING, FEATURES)
    inputs = features if token_by_token else op.size
    units = jnp.eye(inputs, dtype=op.like.dtype)
    if token_by_token:
        units = jnp.broadcast_to(units[:, None], (inputs, tokens, features))
    else:
        units = units.reshape(inputs, tokens, features)

    def column(unit):
        pushed = op.apply(from_tokens(unit, op.like))
        return by_token(pushed)

    bytes_a_push = 16 * op.size * op.like.dtype.itemsize
    at_a_time = max(1, min(inputs, memory // bytes_a_push))
    columns = jax.lax.map(column, units, batch_size=at_a_time)
    if token_by_token:
        return jnp.einsum("itc->tci", columns)
    rows = columns.reshape(1, inputs, -1)
    return rows.mT


def _within(op: Operator):
    """Returns which of an operator's singular values, in descending order, are not beyond its rank."""
    return jnp.arange(op.size) < jnp.asarray(op.rank, int)


def exactly(op: Operator, values, size: int) -> dict:
    """Returns everything that is read from a spectrum known exactly, from `singular_values`; those listed are padded to `size`.

    Each is measured against its own matrix: of the tokens' matrices one may be large and another small.
    """
    noise = rounding(values[:, :1], values.shape[-1])
    heights = values / jnp.where(noise == 0, 1.0, noise)  # of a matrix of zeros all are 0
    height = heights.ravel()
    order = jnp.argsort(height, descending=True)
    values = values.ravel()[order]
    height = height[order]
    kept = _within(op) & ~(height <= 1)  # NaN is kept, and shows
    doubtful = kept & (height < CLEAR)
    known = ~doubtful.any()
    left = jnp.sum(kept)
    or_zero = jnp.where(kept, values, 0.0)
    largest = jnp.max(or_zero, initial=0.0)
    or_infinity = jnp.where(kept, values, jnp.inf)
    least_kept = jnp.min(or_infinity, initial=jnp.inf)
    smallest = jnp.where(left > 0, least_kept, jnp.nan)
    weights = kept.astype(values.dtype)
    numbers = functionals(values, weights, op.rank) | extremes(largest, smallest)
    certain = kept & ~doubtful
    listed = jnp.sort(jnp.where(certain, values, -1.0), descending=True)
    listed = jnp.where(listed < 0, jnp.nan, listed)
    beyond = (0, size - op.size)
    return {
        "singular_values": jnp.pad(listed, beyond, constant_values=jnp.nan),
        **deficits(op, left, known),
        **with_errors(ranked(numbers, known), {}),
        "spectrum_probes": jnp.zeros((), jnp.int32),
    }
