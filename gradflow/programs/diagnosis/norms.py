"""Whether a function is a norm, and which one: by what it does to numbers, not by its name.

    f(c x) = f(x) for every c            a norm; over the features where c may be another for each token, of an example
                                         (GroupNorm) where it may be for each of these, else BatchNorm
    f(x + c 1) = f(x)                    that takes off the mean: LayerNorm; else RMSNorm
    |f(t x)| ∝ t/√(t² v + ε)             ε under the root; t/(t√v + ε) where it is added to it

Both are tried at sizes c so large that ε does not matter. A function that saturates (tanh, softmax) is no norm: at the size of
one it is another than at large sizes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

LARGE, LARGER = 2.0**7, 2.0**10  # powers of two are exact in any precision
SIZES = 2.0 ** np.arange(-30, 6)
ALMOST = 0.05  # of a function and of what it is at large sizes, with ε between them
HALF_WAY = (0.05, 0.95)  # where ε shows, as a share of the size at large input


class Norm(NamedTuple):
    """What a norm is: its kind by name, the axis that it is over (None for several), whether ε is added to the root, and ε.

    `eps_outside` and `eps` are None where ε doesn't show.
    """

    kind: str
    axis: int | None
    eps_outside: bool | None = None
    eps: float | None = None


def norm_of(f: Callable, shape: tuple[int, ...], dtype) -> Norm | None:
    """Returns the norm that a function of arrays of this shape is; None for any other function, and for one that is constant."""
    x, other = _drawn(shape, dtype, seed=0), _drawn(shape, dtype, seed=1)
    tolerance = max(1e-4, 2 * float(jnp.finfo(dtype).eps))

    def scaled(size, y=x):
        return f((size * y).astype(dtype))

    large = scaled(LARGE)
    if large.shape != shape or not _alike(large, scaled(LARGER), tolerance):
        return None
    if _alike(large, scaled(LARGE, other), tolerance) or not _alike(large, f(x), ALMOST):
        return None
    axis = _axis(scaled, shape, large, tolerance)
    if axis is None:
        kind = "BatchNorm"
        of_examples = _powers((shape[0], *[1] * len(shape[1:])))
        if _alike(scaled(of_examples), large, tolerance):
            kind = "GroupNorm"
        return Norm(kind, None, *_eps(scaled))
    spread = _drawn((*shape[:axis], 1, *shape[axis + 1 :]), dtype, seed=2)
    kind = "RMSNorm"
    if _alike(scaled(LARGE, x + spread), large, 8 * tolerance):
        kind = "LayerNorm"
    if axis != len(shape) - 1:
        kind = f"{kind} over axis {axis}"
    return Norm(kind, axis, *_eps(scaled))


def _drawn(shape, dtype, seed: int):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def _powers(shape):
    """Returns sizes, each a power of two."""
    return 2.0 ** np.random.default_rng(3).integers(6, 10, shape)


def _alike(one, other, tolerance: float) -> bool:
    """Returns whether two arrays are alike, up to a share of their size."""
    one, other = np.asarray(one, np.float32), np.asarray(other, np.float32)
    size = max(np.sqrt(np.mean(one**2)), np.sqrt(np.mean(other**2)))
    return bool(np.isfinite(size)) and bool(np.sqrt(np.mean((one - other) ** 2)) <= tolerance * size)


def _axis(scaled: Callable, shape: tuple[int, ...], large, tolerance: float) -> int | None:
    """Returns the axis over which a norm is taken: all others may each have a size of their own."""
    for axis in reversed(range(len(shape))):
        others = (*shape[:axis], 1, *shape[axis + 1 :])
        if np.prod(others) > 1 and shape[axis] > 1 and _alike(scaled(_powers(others)), large, tolerance):
            return axis
    return None


def _eps(scaled: Callable) -> tuple[bool | None, float | None]:
    """Returns whether ε is outside of the root, and ε; `(None, None)` where it can't be seen."""
    start = np.asarray(scaled(0.0), np.float32)
    full = _size(scaled(LARGE), start)
    rows = []
    for size in SIZES:
        share = _size(scaled(size), start) / full
        if HALF_WAY[0] < share < HALF_WAY[1]:
            rows.append((size, share))
    if len(rows) < 3 or not np.isfinite(full):
        return None, None
    sizes, shares = np.array(rows).T
    inside = sizes**2 * (1 / shares**2 - 1)
    outside = sizes * (1 / shares - 1)
    if np.std(np.log(outside)) < np.std(np.log(inside)):
        return True, float(np.median(outside))
    return False, float(np.median(inside))


def _size(y, start) -> float:
    return float(np.sqrt(np.mean((np.asarray(y, np.float32) - start) ** 2)))
