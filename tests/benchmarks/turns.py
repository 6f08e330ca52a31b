"""Timing of several ways to the same numbers: in turn, round by round, in one process."""

import time
from collections.abc import Callable, Mapping

import jax
import numpy as np


def timed(call, *args) -> float:
    """Seconds until all that `call` returns is there."""
    start = time.perf_counter()
    jax.block_until_ready(call(*args))
    return time.perf_counter() - start


def in_turn(ways: Mapping[str, Callable], rounds: int) -> dict[str, np.ndarray]:
    """Seconds [rounds] of every way, each the second of two calls, one after the other.

    PyTorch's threads spin for a while after a call; the first call of a pair lets them come to rest, so that they take no
    core from whoever comes next.
    """
    turns = [{way: (timed(call), timed(call))[1] for way, call in ways.items()} for _ in range(rounds)]
    return {way: np.array([turn[way] for turn in turns]) for way in ways}


def quartiles(ratios) -> str:
    """`median (lower quartile-upper quartile)`."""
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return f"{middle:.3f} ({low:.3f}-{high:.3f})"
