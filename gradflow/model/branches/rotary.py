"""Rotary positions: queries and keys turned by an angle that grows with the token's position.

    features i and i + h/2 of token t turn by t f_i,    f_i = base^(−2i/h)          (Su et al. 2021, eq. 15 and 34)

A scaling takes the frequencies to those of a longer context. Axes: T tokens, H heads, h features a head.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ...results.arguments import known
from ...results.configuration import registered
from ..layers.layer import Number
from ..numerics.precision import wide


class Scaling(ABC):
    """What takes frequencies to those of a longer context; turned queries and keys are multiplied by `magnitude` each."""

    @property
    def magnitude(self) -> Number | None:
        """What that is: 1 by default, said as None."""
        return None

    @abstractmethod
    def __call__(self, frequency, tokens: int) -> Any:
        """Returns the frequencies [h/2] for a text of so many tokens, padding among them."""


@registered
@dataclass(frozen=True)
class Interpolated(Scaling):
    """`f/factor`: positions that are interpolated (Chen et al. 2023, Extending Context Window, eq. 4)."""

    factor: Any  # a number, once the block is known

    def __call__(self, frequency, tokens: int):
        """Returns the frequencies of the longer context."""
        return frequency / self.factor


@registered
@dataclass(frozen=True)
class Dynamic(Scaling):
    """Frequencies of a larger base where a text is longer than `context`: `base (factor T/context − factor + 1)^(h/(h − 2))`.

    At T tokens the slowest is interpolated as far as they need, the fastest stays ("dynamic NTK", as
    Peng et al. 2023 (YaRN) describe it; the formula is that of huggingface/transformers, modeling_rope_utils.py, where the
    longest text of a batch counts and its padding doesn't).
    """

    factor: float
    context: int

    def __call__(self, frequency, tokens: int):
        """Returns the frequencies for so many tokens."""
        half = len(frequency)
        larger = self.factor * max(tokens, self.context) / self.context - (self.factor - 1)
        return frequency * larger ** (-jnp.arange(half, dtype=frequency.dtype) / max(half - 1, 1))


@registered
@dataclass(frozen=True)
class Searched(Scaling):
    """`f_i/short_i` up to `context` tokens, `f_i/long_i` beyond: one factor a frequency (Ding et al. 2024, LongRoPE)."""

    short: tuple[float, ...]
    long: tuple[float, ...]
    context: int
    magnitude: Number | None = None

    def __call__(self, frequency, tokens: int):
        """Returns the frequencies for so many tokens."""
        factors = self.long if tokens > self.context else self.short
        return frequency / jnp.asarray(factors, frequency.dtype)


@registered
@dataclass(frozen=True)
class ByWavelength(Scaling):
    """Llama 3.1's: `f/factor` where less than `low` waves fit into the old `context`, f where more than `high` do.

    In between, `f ((1 − s)/factor + s)` with `s = (context f/2π − low)/(high − low)`. The paper (Llama Team 2024, section 3.4.3)
    gives the base alone; the constants are those of meta-llama/llama-models, models/llama3/model.py.
    """

    factor: float = 8.0
    low: float = 1.0
    high: float = 4.0
    context: int = 8192

    def __call__(self, frequency, tokens: int):
        """Returns the frequencies of the longer context."""
        waves = self.context * frequency / (2 * math.pi)
        share = jnp.clip((waves - self.low) / (self.high - self.low), 0, 1)
        return frequency * ((1 - share) / self.factor + share)


@registered
@dataclass(frozen=True)
class Yarn(Scaling):
    """YaRN's: f where more than `fast` turns fit into the old `context`, `f/factor` where less than `slow` do (Peng et al. 2023).

    In between the share of `f/factor` grows linearly with the number i of the frequency `base^(−2i/h)`, between whole
    numbers, as in the authors' code; it may reach i = h − 1, though there are h/2. `whole` False leaves the numbers as they are.
    The `magnitude` is √(1/t) of their eq. 22, `0.1 ln(factor) + 1` where a model was trained with it.
    """

    factor: Any = 40.0  # a number, once the block is known
    context: int = 4096
    fast: float = 32.0
    slow: float = 1.0
    base: float = 10_000.0
    magnitude: Number | None = None
    whole: bool = True

    def __call__(self, frequency, tokens: int):
        """Returns the frequencies of the longer context."""
        half = len(frequency)
        number = lambda turns: half * math.log(self.context / (2 * math.pi * turns)) / math.log(self.base)
        low, high = number(self.fast), number(self.slow)
        if self.whole:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, 2 * half - 1)
        share = jnp.clip((jnp.arange(half) - low) / max(high - low, 1e-3), 0, 1)
        return frequency * (share / self.factor + 1 - share)


@registered
@dataclass(frozen=True)
class Rotary:
    """Queries and keys turned by `t · base^(−2i/h)`, features i and i + h/2 a pair (Su et al. 2021, eq. 34, half-split).

    With `features`, the first so many of a head are turned, as h of them, and the others are left alone (GPT-J, GPT-NeoX).
    `turns` multiplies every angle: 0 in blocks that know no positions, 1 in the others. `pairs` are "halves", or "neighbours":
    features 2i and 2i + 1.
    """

    base: Number = 10_000.0
    scaling: Scaling | None = None
    features: int | None = None
    turns: Number | None = None
    pairs: str = "halves"

    def __post_init__(self):
        known("pairs", self.pairs, ("halves", "neighbours"))
        if self.features is not None and (self.features < 2 or self.features % 2):
            raise ValueError(f"features is {self.features}: rotary positions turn an even number of features of a head")

    def __call__(self, x: Float[Array, "token head feature"], positions=None) -> Float[Array, "token head feature"]:
        """Returns the turned `x`, of tokens at these positions [T], 0, 1, … by default."""
        if self.features is None:
            return self.turned(x, positions)
        return jnp.concatenate([self.turned(x[..., : self.features], positions), x[..., self.features :]], axis=-1)

    def turned(self, x, positions=None):
        """Returns `x` with all its features turned."""
        tokens, _, size = x.shape
        if positions is None:
            positions = jnp.arange(tokens)
        dtype = wide(x.dtype)  # positions past 256 are not numbers of bfloat16
        half = jnp.arange(size // 2, dtype=dtype)
        base: Any = self.base  # a number, once the block is known
        frequency = jnp.asarray(base, dtype) ** (-2 * half / size)
        frequency = self.scaling(frequency, tokens) if self.scaling else frequency
        angle = positions.astype(dtype)[:, None] * frequency[None, :].astype(dtype)
        if self.turns is not None:
            angle = angle * jnp.asarray(self.turns, dtype)
        cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
        if self.scaling and self.scaling.magnitude is not None:
            magnitude = jnp.asarray(self.scaling.magnitude, dtype)
            cos, sin = magnitude * cos, magnitude * sin
        cos, sin = cos.astype(x.dtype), sin.astype(x.dtype)
        if self.pairs == "neighbours":
            a, b = x[..., 0::2], x[..., 1::2]
            return jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape)
        a, b = jnp.split(x, 2, axis=-1)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
