"""What the rows of a Gram matrix are, and what is counted of them: means, pairs, examples; never padding.

Axes: rows N of a Gram matrix are (lane,) example, token; E examples, T tokens.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..model.inputs.context import texts_said, tokens_of
from .gram import Gram, on_diagonal


class Rows(NamedTuple):
    """What the rows of a Gram matrix are: tokens of examples, perhaps on several lanes, lanes first.

    `texts` [E, T] are those of `TheoryContext`: no mean counts padding.
    """

    examples: int
    tokens: int
    texts: Array | None = None

    @classmethod
    def of(cls, inputs) -> "Rows":
        """Returns those of the inputs of a batch."""
        examples, tokens = tokens_of(inputs).shape
        return cls(examples, tokens, texts_said(inputs))

    def real(self, size: int):
        """Returns which of so many rows are no padding [N]."""
        if self.texts is None:
            return np.ones(size, bool)
        return jnp.tile((self.texts >= 0).ravel(), size // self.texts.size)

    def mean(self, values):
        """Returns the mean of values [N] over lanes, examples and, in each of them, its real tokens."""
        by_example = values.reshape(-1, self.examples, self.tokens)
        counted = None if self.texts is None else (self.texts >= 0)[None]
        return jnp.mean(by_example.mean(-1, where=counted))

    def mean_over_pairs(self, values, pairs):
        """Returns the mean over examples of that of values [N, N] over some pairs of rows; NaN where an example has none."""
        total = jnp.diagonal(self.over_examples(jnp.where(pairs, values, 0)))
        number = jnp.diagonal(self.over_examples(pairs))
        return jnp.mean(total / jnp.where(number > 0, number, jnp.nan))

    def by_token(self, k: Gram, dial) -> Gram:
        """Returns `K` with the dial of its token [T] on the diagonal of every row."""
        sequences = len(k) // self.tokens
        by_row = jnp.tile(dial, sequences)
        return on_diagonal(k, by_row)

    def by_examples(self, g: Gram, dial) -> Gram:
        """Returns `G` with every entry multiplied by the dial of its two examples [E, E]."""
        of_pairs = dial[None, :, None, None, :, None]
        weighted = self.paired(g) * of_pairs
        return weighted.reshape(g.shape)

    def over_examples(self, g: Gram):
        """Returns sums [E, E] of `G` over the rows of every pair of examples."""
        return self.paired(g).sum((0, 2, 3, 5))

    def paired(self, g: Gram):
        """Returns `G` with the axes lane, example, token of its two rows split."""
        lanes = len(g) // (self.examples * self.tokens)
        return g.reshape(lanes, self.examples, self.tokens, lanes, self.examples, self.tokens)

    def sequences(self, size: int):
        """Returns a mask [N, N] of the rows that belong to the same example and lane, padding with nothing."""
        sequence = np.arange(size) // self.tokens
        real = self.real(size)
        return (sequence[:, None] == sequence[None, :]) & real[:, None] & real[None, :]
