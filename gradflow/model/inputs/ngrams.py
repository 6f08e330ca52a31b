"""Hashed n-grams: from the last tokens of a text to rows of tables, whatever the number of different n-grams.

    h_n(t) = m_0 x_t ⊕ m_1 x_{t−1} ⊕ … ⊕ m_{n−1} x_{t−n+1},    row = h_n(t) mod p          n = 2 … N, a prime p a head

⊕ is bitwise; tokens before the text, or before the one that ended the last, are the token that ends texts. Multipliers are odd
and drawn by SplitMix64 (Steele et al. 2014) from a seed; the primes are the next ones behind a least number of rows.

(Cheng et al. 2026 (Engram), arXiv 2601.07372, section 2.2, without its compression of the vocabulary; numbers as qwen4_exp in
transformers, with which the tests compare.) Products have up to 63 bits, and JAX's whole numbers 32, so they are taken in limbs.

Axes: T tokens; H heads in all, `heads` for each n.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from ...results.configuration import registered
from ...results.fields import whole_fields
from .context import place_in_text, positions_in

BITS, LIMBS = 8, 8  # of a limb, and of a number of 64 bits
ALL_BITS, LARGEST = 2**64 - 1, 2**63 - 1
WEYL, LAYER = 0x9E3779B97F4A7C15, 10_007  # from one number to the next, from one layer to the next


@registered
@dataclass(frozen=True)
class NGrams:
    """The rows of n-grams of up to `longest` tokens, `heads` of each length, in tables of `least` rows or a few more.

    `end` is the token that ends a text. Each `layer` that has such tables, from 0, has its own primes and multipliers. All tables
    lie in one, of a number of rows that `multiple` divides.
    """

    vocabulary: int = 256
    longest: int = 3
    heads: int = 8
    least: int = 1000
    end: int = 0
    layer: int = 0
    seed: int = 1234
    multiple: int = 128

    def __post_init__(self):
        whole_fields(self, "vocabulary", "heads", "least", "multiple")
        whole_fields(self, "longest", least=2)
        whole_fields(self, "end", "layer", "seed", least=0)
        if self.rows >= 2**31:
            raise ValueError(
                f"least = {self.least} for {self.total} heads is {self.rows} rows: fewer than 2^31 are needed"
            )

    @property
    def total(self) -> int:
        """How many heads there are, of all lengths."""
        return (self.longest - 1) * self.heads

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many rows each head's table has, a prime; those of the layers below are other ones."""
        primes, number = [], self.least - 1
        for _ in range((self.layer + 1) * self.total):
            number = next_prime(number)
            primes.append(number)
        return tuple(primes[-self.total :])

    @property
    def rows(self) -> int:
        """How many rows the table of all heads has."""
        return math.ceil(sum(self.sizes) / self.multiple) * self.multiple

    @cached_property
    def multipliers(self) -> tuple[int, ...]:
        """What the tokens are multiplied by, the last token first; products stay below 2^63."""
        below = max(1, LARGEST // self.vocabulary // 2)
        seed = self.seed + LAYER * self.layer
        return tuple(2 * (mixed(seed + WEYL * (i + 1)) % below) + 1 for i in range(self.longest))

    def __call__(self, tokens, texts=None):
        """Returns the rows of each token [T, H], from the tokens and the numbers of their texts [T]. Cost: O(T H), exact."""
        said = self.since_end(tokens, place_in_text(len(tokens), texts))
        below = np.cumsum((0, *self.sizes[:-1]))  # rows of the heads in front
        mixed, rows = product(tokens, self.multipliers[0]), []
        for back in range(1, self.longest):
            before = jnp.where(said >= back, jnp.roll(tokens, back), self.end)
            mixed = mixed ^ product(before, self.multipliers[back])
            own = slice((back - 1) * self.heads, back * self.heads)
            rows.append(remainder(mixed, self.sizes[own]) + np.asarray(below[own], np.int32)[None])
        return jnp.concatenate(rows, axis=-1)

    def since_end(self, tokens, place):
        """Returns how many tokens of its text, behind the last that ends one, stand in front of each token [T]."""
        ended = jnp.roll(tokens, 1) == self.end
        return positions_in(jnp.cumsum(ended | (place == 0)))


def product(tokens, multiplier: int):
    """Returns `multiplier · tokens`, below 2^64, in limbs of 8 bits [8, T], the lowest first."""
    digits = [(multiplier >> BITS * place) % 2**BITS for place in range(LIMBS)]
    limbs, carry = [], jnp.zeros_like(tokens)
    for place in range(LIMBS):
        column = carry
        for low in range(min(place + 1, 4)):  # a token has 32 bits
            column = column + ((tokens >> BITS * low) % 2**BITS) * digits[place - low]
        limbs.append(column % 2**BITS)
        carry = column >> BITS
    return jnp.stack(limbs)


def remainder(limbs, sizes: tuple[int, ...]):
    """Returns the number in limbs modulo each of the sizes, below 2^31, bit by bit from the highest [T, H], int32."""
    bits = (limbs[:, None] >> jnp.arange(BITS, dtype=limbs.dtype)[None, :, None]) & 1
    from_highest = bits.reshape(LIMBS * BITS, -1, 1)[::-1].astype(jnp.uint32)
    modulus = jnp.asarray(sizes, jnp.uint32)[None]

    def step(left, bit):
        doubled = 2 * left + bit
        return jnp.where(doubled >= modulus, doubled - modulus, doubled), None

    start = jnp.zeros((limbs.shape[1], len(sizes)), jnp.uint32)
    return jax.lax.scan(step, start, from_highest)[0].astype(jnp.int32)


def mixed(number: int) -> int:
    """Returns the number that SplitMix64 draws at a state, 64 bits."""
    number = (number + WEYL) & ALL_BITS
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        number = ((number ^ number >> shift) * factor) & ALL_BITS
    return number ^ number >> 31


def next_prime(number: int) -> int:
    """Returns the least prime that is larger."""
    number += 1
    while number < 2 or any(number % divisor == 0 for divisor in range(2, math.isqrt(number) + 1)):
        number += 1
    return number
