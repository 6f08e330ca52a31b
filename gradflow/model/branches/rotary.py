"""Rotary positions: queries and keys turned by an angle that grows with the token's position.

    features i and i + h/2 of token t turn by t f_i,    f_i = base^(−2i/h)          (Su et al. 2021, eq. 15 and 34)

A scaling takes the frequencies to those of a longer context. Axes: T tokens, H heads, h features a head.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ...results.configuration import registered
from ..layers.layer import Number
from ..numerics.precision import wide


@registered
@dataclass(frozen=True)
class Interpolated:
    """`f/factor`: positions that are interpolated (Chen et al. 2023, Extending Context Window, eq. 4)."""

    factor: Number

    def __call__(self, frequency):
        """Returns the frequencies of the longer context."""
        return frequency / self.factor


@registered
@dataclass(frozen=True)
class ByWavelength:
    """Llama 3.1's: `f/factor` where less than `low` waves fit into the old `context`, f where more than `high` do.

    In between, `f ((1 − s)/factor + s)` with `s = (context f/2π − low)/(high − low)`. The paper (Llama Team 2024, section 3.4.3)
    gives the base alone; the constants are those of meta-llama/llama-models, models/llama3/model.py.
    """

    factor: float = 8.0
    low: float = 1.0
    high: float = 4.0
    context: int = 8192

    def __call__(self, frequency):
        """Returns the frequencies of the longer context."""
        waves = self.context * frequency / (2 * math.pi)
        share = jnp.clip((waves - self.low) / (self.high - self.low), 0, 1)
        return frequency * ((1 - share) / self.factor + share)


@registered
@dataclass(frozen=True)
class Yarn:
    """YaRN's: f where more than `fast` turns fit into the old `context`, `f/factor` where less than `slow` do (Peng et al. 2023).

    In between the share of `f/factor` grows linearly with the number i of the frequency `base^(−2i/h)`, between whole
    numbers, as in the authors' code; it may reach i = h − 1, though there are h/2.
    """

    factor: float = 40.0
    context: int = 4096
    fast: float = 32.0
    slow: float = 1.0
    base: float = 10_000.0

    def __call__(self, frequency):
        """Returns the frequencies of the longer context."""
        half = len(frequency)
        number = lambda turns: half * math.log(self.context / (2 * math.pi * turns)) / math.log(self.base)
        low, high = max(math.floor(number(self.fast)), 0), min(math.ceil(number(self.slow)), 2 * half - 1)
        share = jnp.clip((jnp.arange(half) - low) / max(high - low, 1e-3), 0, 1)
        return frequency * (share / self.factor + 1 - share)


@registered
@dataclass(frozen=True)
class Rotary:
    """Queries and keys turned by `t · base^(−2i/h)`, features i and i + h/2 a pair (Su et al. 2021, eq. 34, half-split)."""

    base: Number = 10_000.0
    scaling: Interpolated | ByWavelength | Yarn | None = None

    def __call__(self, x: Float[Array, "token head feature"]) -> Float[Array, "token head feature"]:
        """Returns the turned `x`."""
        tokens, _, size = x.shape
        dtype = wide(x.dtype)  # positions past 256 are not numbers of bfloat16
        half = jnp.arange(size // 2, dtype=dtype)
        base: Any = self.base  # a number, once the block is known
        frequency = jnp.asarray(base, dtype) ** (-2 * half / size)
        frequency = self.scaling(frequency) if self.scaling else frequency
        angle = jnp.arange(tokens, dtype=dtype)[:, None] * frequency[None, :].astype(dtype)
        cos, sin = jnp.cos(angle)[:, None].astype(x.dtype), jnp.sin(angle)[:, None].astype(x.dtype)
        a, b = jnp.split(x, 2, axis=-1)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
