"""Which tokens a branch's output depends on: each of three tokens is changed in turn, and where the output is another is seen.

A change reaches along an axis of tokens: to later places alone (causal), or to earlier ones too.
"""

from typing import NamedTuple

import numpy as np


class Coupling(NamedTuple):
    """Whether the output at a token depends on earlier tokens, and on later ones."""

    earlier: bool
    later: bool

    @property
    def words(self) -> str:
        """What it is called."""
        if not self.earlier and not self.later:
            return "token-wise"
        if not self.later:
            return "causal"
        if not self.earlier:
            return "later tokens alone"
        return "all tokens"


def coupling(f, x, axes: tuple[int, ...]) -> Coupling | None:
    """Returns how a function of a stream couples its tokens; None where its output does not change with its input.

    Several axes of tokens, as of an image, are taken together: along each, earlier and later.
    """
    before = np.asarray(f(x), np.float32)
    earlier = later = changed = False
    for axis in axes:
        length = x.shape[axis]
        if length < 2 or before.ndim != x.ndim or before.shape[axis] != length:
            continue
        for place in sorted({0, length // 2, length - 1}):
            moved = _moved(before, f(_changed(x, axis, place)), axis)
            changed = changed or bool(moved.any())
            earlier = earlier or bool(moved[place + 1 :].any())  # the output there depends on an earlier token
            later = later or bool(moved[:place].any())
    if not changed:
        return None
    return Coupling(earlier, later)


def responds(f, x) -> bool:
    """Returns whether the output of a function is another where its whole input is."""
    x = np.asarray(x)
    return not np.array_equal(np.asarray(f(x)), np.asarray(f((2 * x + 1).astype(x.dtype))))


def _changed(x, axis: int, place: int):
    """Returns the stream with one token another, by as much as it is large."""
    at = (slice(None),) * axis + (place,)
    changed = np.array(x, np.float32)
    size = np.sqrt(np.mean(changed**2)) or 1.0
    changed[at] += np.random.default_rng(place).standard_normal(changed[at].shape) * size
    return changed.astype(x.dtype)


def _moved(before, after, axis: int):
    """Returns at which places along an axis anything is another."""
    differs = np.asarray(after, np.float32) != before
    others = list(range(before.ndim))
    others.remove(axis)
    return differs.any(axis=tuple(others))
