"""Signal: what the forward pass shows of the stream and its branches.

    rms(x) = √mean(x²),     token cosine = mean_{t≠s} ⟨x_t, x_s⟩/(‖x_t‖‖x_s‖)

Reported as mean squares and cosines, which average over examples; the root is taken afterwards (`model.accounts`).

Axes: x is [..., tokens, features].
"""

from typing import Any

import jax.numpy as jnp

from ...model.numerics.precision import in_float32, wide


def mean_square(x, real=None):
    """Returns `mean(x²)` over all entries, of `real` tokens [T] alone where these are said; in float32 or better."""
    squares = jnp.square(in_float32(x))
    if real is None:
        return jnp.mean(squares)
    by_token = jnp.mean(squares, axis=-1)
    return jnp.mean(by_token, where=jnp.broadcast_to(real, by_token.shape))


def token_cosine(x, real=None):
    """Returns the mean cosine between different tokens, in O(T d): `(‖Σ_t x̂_t‖² − T)/(T (T − 1))`; NaN for a single token.

    1: all tokens point the same way (rank collapse). Zero vectors count as orthogonal to everything. Of several lanes the mean
    over those that are not empty (B2T and parallel blocks have one that is, between blocks). NaN where x has no axis of tokens.
    Of `real` tokens [T] alone, where these are said.
    """
    if x.ndim < 2:
        return jnp.full((), jnp.nan, wide(x.dtype))
    x = in_float32(x)
    tokens: Any = x.shape[-2]
    if real is not None:
        x = x * real.astype(x.dtype)[:, None] if x.ndim == 2 else x * real.astype(x.dtype)[None, :, None]
        tokens = jnp.sum(real, dtype=x.dtype)
    length = jnp.linalg.norm(x, axis=-1, keepdims=True)
    unit = x / jnp.where(length > 0, length, 1)
    sum_over_tokens = unit.sum(-2)
    all_pairs = jnp.sum(sum_over_tokens**2, -1)
    with_itself = jnp.sum(unit**2, (-2, -1))
    if real is None:
        pairs = tokens * (tokens - 1) if tokens > 1 else jnp.nan
    else:
        pairs = jnp.where(tokens > 1, tokens * (tokens - 1), jnp.nan)
    by_lane = (all_pairs - with_itself) / pairs
    if x.ndim == 2:
        return by_lane
    total = jnp.sum(by_lane)
    is_filled = length.any((-2, -1))
    filled = jnp.sum(is_filled, dtype=x.dtype)
    return total / jnp.maximum(filled, 1)


def size_of_stream(x, real=None) -> dict:
    """Returns the least that is read at a position of the stream, of `real` tokens [T]."""
    return {"stream_rms": mean_square(x, real)}


def of_stream(x, real=None) -> dict:
    """Returns what is read at a position of the stream, of `real` tokens [T]."""
    return {**size_of_stream(x, real), "token_cosine": token_cosine(x, real)}


def of_sublayer(x, skip, branch, real=None) -> dict:
    """Returns what is read at a sublayer, of `real` tokens [T]: of its input, and of the two terms of its residual sum."""
    return {**of_stream(x, real), "skip_rms": mean_square(skip, real), "branch_rms": mean_square(branch, real)}
