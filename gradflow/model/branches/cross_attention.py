"""Cross-attention: attention to what an encoder has made of its source, the memory.

    y_t = W_out [softmax(q_t Kᵀ/√h) V],    K and V of the memory's tokens (Vaswani et al. 2017, section 3.2.3)

It closes over the memory, which is put beside its parameters: so it has one input, as in equation (1).

Axes: x is [T, d], the memory [S, d].
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from ...results.configuration import registered
from ..inputs.context import positions_in
from ..layers.attention import Scored
from ..layers.layer import FEATURES
from .attention import DROPOUT, Attention

MEMORY, MEMORY_TEXTS = "memory", "memory_texts"


@registered
@dataclass(frozen=True)
class CrossAttention(Attention):
    """Attention whose keys and values are made of the memory: to the stream a function of each token alone."""

    causal: bool = False
    asks: ClassVar[tuple[str, ...]] = (MEMORY, MEMORY_TEXTS, DROPOUT)
    couples: ClassVar[str] = FEATURES

    def __post_init__(self):
        super().__post_init__()
        if self.causal or self.rotary:
            raise ValueError("cross-attention sees all of its memory: it has no causal mask and no rotary positions")
        if self.window is not None:
            raise ValueError(f"cross-attention sees all of its memory: leave out its window of {self.window}")

    def seen(self, params, x):
        """Returns the memory, which lies where a parameter would."""
        if MEMORY not in params:
            raise ValueError("cross-attention without a memory: it belongs in the decoder of an EncoderDecoder")
        return params[MEMORY]

    def without_padding(self, params, x) -> dict:
        """Returns the parameters with what hides the padding of the memory from every token, where it has some."""
        if MEMORY_TEXTS not in params:
            return params
        real = params[MEMORY_TEXTS] >= 0
        return self.hiding(params, jnp.broadcast_to(real, (len(x), len(real))))

    def scored(self, params, x) -> Scored:
        """Returns the probabilities that it reads the values with, and what they are made of."""
        found = super().scored(self.without_padding(params, x), x)
        if MEMORY_TEXTS not in params:
            return found
        texts = params[MEMORY_TEXTS]
        begins = (positions_in(texts) == 0) & (texts >= 0)
        rows = lambda of_keys: jnp.broadcast_to(of_keys, found.seen.shape)
        return found._replace(seen=rows(texts >= 0), first=rows(begins))

    def __call__(self, params, x):
        """Returns the branch's output [T, d]."""
        return super().__call__(self.without_padding(params, x), x)
