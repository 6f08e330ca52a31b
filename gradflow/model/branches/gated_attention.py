"""Attention behind a gate, and attention to the tokens that an indexer chooses.

    y = W_out [r ⊙ σ(W_gate x)]                                        r what the heads have read
    I_ts = Σ_j ReLU⟨q_tj, k_s⟩,   k_s = R N(mean of W_k x over the block that begins at s)

A query sees the tokens of the complete blocks, within its text and its past, whose I is largest, and those behind the last
complete block. The choice is piecewise constant: no gradient goes through it, and what it is made of is not trained by the loss.

(Gate: Qiu et al. 2025 (Gated Attention), its form after the weighted values, feature by feature. Indexer: as qwen4_exp in
transformers, with whose numbers the tests compare; DeepSeek-AI 2025 (DeepSeek-V3.2), eq. 1, has one of single tokens.)

Axes: x is [T, d]; H heads with h features, j heads of the indexer; S keys.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from ...results.configuration import registered
from ...results.fields import whole_fields
from ..inputs.context import place_in_text
from ..layers.attention import Scored
from ..layers.functional import largest
from ..layers.layer import Layer
from ..layers.norms import RMSNorm
from ..numerics.precision import wide
from .attention import Attention


@registered
@dataclass(frozen=True)
class GatedAttention(Attention):
    """Attention whose heads' features are each multiplied by a sigmoid of a linear map of the token."""

    def matrix_shapes(self, width: int):
        """Returns `gate`, as large as `query`, and the matrices of attention."""
        shapes = super().matrix_shapes(width)
        return {"gate": shapes["query"], **shapes}

    def opened(self, params, x, read):
        """Returns what the gate leaves of what the heads have read."""
        stream = x[0] if self.mixes_values else x
        return read * jax.nn.sigmoid(params["gate"](self.sources(params, stream)["query"]))


@registered
@dataclass(frozen=True)
class IndexedAttention(GatedAttention):
    """The same of the tokens that an indexer of `index_heads` heads chooses: `blocks` blocks of `block` tokens, see above.

    Up to `blocks · block` tokens of the past it is gated attention. All scores are computed, and those of tokens that are not
    chosen left out: exact, in the time of attention to all. Of equal blocks the earlier is chosen. As many features of the
    indexer's queries and keys are turned as of the heads'.
    """

    index_heads: int = 4
    index_head: int = 16
    block: int = 4
    blocks: int = 8
    index_query_norm: Layer = RMSNorm()
    index_key_norm: Layer = RMSNorm()

    def __post_init__(self):
        super().__post_init__()
        whole_fields(self, "index_heads", "index_head", "block", "blocks")
        if not self.causal or self.window is not None or self.mixes_values:
            raise ValueError("indexed attention is causal, without a window or a value_mix: leave these as they are")

    def matrix_shapes(self, width: int):
        """Returns `index_query` and `index_key`, which has one head, and the matrices of gated attention."""
        own = {"index_query": (width, self.index_heads * self.index_head), "index_key": (width, self.index_head)}
        if self.rotary and self.turned(width) > self.index_head:
            raise ValueError(
                f"index_head is {self.index_head}: positions turn {self.turned(width)} features, so many are needed at least"
            )
        return {**own, **super().matrix_shapes(width)}

    def inner_widths(self, width: int):
        """Returns the norms of the indexer, and what gated attention has."""
        return {**dict.fromkeys(("index_query_norm", "index_key_norm"), self.index_head), **super().inner_widths(width)}

    def turned(self, width: int) -> int:
        """Returns how many features of a head are turned, where any are."""
        if self.rotary and self.rotary.features:
            return self.rotary.features
        return self.size(width)

    def indexed(self, params, x) -> tuple:
        """Returns the indexer's queries [T, j, …], and its key [S, …] of the block that begins at each token."""
        q = params["index_query"](x).reshape(len(x), self.index_heads, -1)
        k = params["index_key"](x)
        blocks = jnp.stack([jnp.roll(k, -after, axis=0) for after in range(self.block)], axis=1)  # [T, block, …]
        mean = blocks.mean(axis=1, keepdims=True)
        q, k = self.at("index_query_norm", params, q), self.at("index_key_norm", params, mean)
        if self.rotary:
            turn = replace(self.rotary, features=self.turned(x.shape[-1]))
            q, k = turn(q), turn(k)
        return q, k[:, 0]

    def chosen(self, params, x):
        """Returns which keys each query sees [T, S]."""
        place = place_in_text(len(x), params.get("texts"))
        visible = self.mask.of(params).seen((len(x), len(x)))
        q, k = self.indexed(params, x)
        scores = jax.nn.relu(jnp.einsum("tjf,sf->tjs", q, k, preferred_element_type=wide(x.dtype))).sum(1)
        begins = place % self.block == 0
        complete = place[None] + self.block <= place[:, None] + 1
        choice = visible & complete & begins[None]
        candidates = jnp.where(choice, jax.lax.stop_gradient(scores), -jnp.inf)
        best = choice & (largest(candidates, min(self.blocks, len(x))) > 0)
        block_begins = jnp.arange(len(x)) - place % self.block  # of each key
        behind = place[None] >= ((place + 1) // self.block * self.block)[:, None]
        return best[:, block_begins] | (visible & behind)

    def scored(self, params, x) -> Scored:
        """Returns the probabilities that it reads the values with, and what they are made of."""
        chosen = self.chosen(params, x)
        return super().scored(self.hiding(params, chosen), x)._replace(seen=chosen)

    def __call__(self, params, x):
        """Returns the branch's output [T, d]."""
        return super().__call__(self.hiding(params, self.chosen(params, x)), x)
