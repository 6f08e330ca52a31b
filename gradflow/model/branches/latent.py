"""Multi-head latent attention: queries, keys and values from a few features each, and positions in features of their own.

    c = N(W_DKV x);   k_h = [W_UK,h c, R W_KR x],   v_h = W_UV,h c         the part that R turns is one for all heads
    c' = N'(W_DQ x);  q_h = [W_UQ,h c', R W_QR,h c']
    y = W_O [softmax(q_h k_hᵀ/√(h + r)) v_h]_h

(DeepSeek-AI 2024 (DeepSeek-V2), section 2.1, the norms from 3.1.2; deepseek-ai/DeepSeek-V3, inference/model.py, `MLA`.
What is here agrees with an independent library, see the tests.) R is rotary in halves; weights that turn
neighbours instead, as DeepSeek's do, are the same function with their columns sorted.

Axes: x is [T, d]; H heads with h features without a position, r with one, g of a value.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from ...results.configuration import registered
from ...results.fields import field_values
from ..layers.attention import Mask, Scored, attend, scored
from ..layers.layer import ALL, PAST, Identity, Layer
from ..layers.norms import RMSNorm
from ..parameters.initializers import FanIn, Initialization
from .attention import DROPOUT, kept_probabilities
from .branch import Branch
from .rotary import Rotary


@registered
@dataclass(frozen=True)
class LatentAttention(Branch):
    """Multi-head latent attention: see above.

    A head has `head` features without a position and `rotary_head` with one, a value `value_head`. `query_rank` None leaves
    the queries uncompressed, c' = x. `query_latent` and `key_value_latent` are the norms N' and N; `scale` is that of the scores,
    1/√(h + r) by default. Cost: that of attention with H heads of h + r features, O(T² H (h + r + g)).
    """

    heads: int = 4
    query_rank: int | None = 32
    key_value_rank: int = 16
    head: int = 16
    rotary_head: int = 8
    value_head: int = 16
    causal: bool = True
    rotary: Rotary = Rotary()
    scale: float | None = None
    weights: Initialization = FanIn()
    bias: bool | tuple[str, ...] = False
    query_latent: Layer = RMSNorm()
    key_value_latent: Layer = RMSNorm()
    inner: Layer = Identity()

    def __post_init__(self):
        for name in ("heads", "query_rank", "key_value_rank", "head", "rotary_head", "value_head"):
            number = field_values(self)[name]
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}: at least 1 is needed")
        if self.rotary_head % 2:
            raise ValueError(f"rotary_head is {self.rotary_head}: rotary positions need an even number of features")

    @property
    def couples(self) -> str:
        """A token and those before it under a causal mask, else all tokens."""
        return PAST if self.causal else ALL

    def matrix_shapes(self, width: int):
        """Returns the matrices by the paper's letters: DQ, UQ, QR, DKV, UK, KR, UV and O."""
        latent, from_latent = (self.query_rank or width), self.key_value_rank
        down = {"query_down": (width, self.query_rank)} if self.query_rank else {}
        return {
            **down,
            "query": (latent, self.heads * self.head),
            "query_rotary": (latent, self.heads * self.rotary_head),
            "key_value_down": (width, from_latent),
            "key": (from_latent, self.heads * self.head),
            "key_rotary": (width, self.rotary_head),
            "value": (from_latent, self.heads * self.value_head),
            "out": (self.heads * self.value_head, width),
        }

    def inner_widths(self, width: int):
        """Returns norms on what queries, and keys and values, are made from; `inner` on the concatenated heads."""
        query = {"query_latent": self.query_rank} if self.query_rank else {}
        return {**query, "key_value_latent": self.key_value_rank, "inner": self.heads * self.value_head}

    asks: ClassVar[tuple[str, ...]] = ("texts", "groups", DROPOUT)

    @property
    def mask(self) -> Mask:
        """Which tokens of its text a token sees."""
        return Mask(self.causal)

    def queries_keys_values(self, params, x) -> tuple:
        """Returns what the scores are made of and what they weigh: q and k [T, H, h + r], v [T, H, g]."""
        by_head = lambda name, u: params[name](u).reshape(len(x), -1, self.sizes[name])
        c = self.at("key_value_latent", params, params["key_value_down"](x))
        own = self.at("query_latent", params, params["query_down"](x)) if self.query_rank else x
        turned = self.rotary(by_head("key_rotary", x))  # [T, 1, r]
        shared = jnp.broadcast_to(turned, (len(x), self.heads, self.rotary_head))
        q = jnp.concatenate([by_head("query", own), self.rotary(by_head("query_rotary", own))], axis=-1)
        k = jnp.concatenate([by_head("key", c), shared], axis=-1)
        return q, k, by_head("value", c)

    def scored(self, params, x) -> Scored:
        """Returns the probabilities that it reads the values with, and what they are made of."""
        q, k, _ = self.queries_keys_values(params, x)
        return scored(q, k, self.mask.of(params), self.scale)

    def __call__(self, params, x):
        """Returns the branch's output [T, d]."""
        q, k, v = self.queries_keys_values(params, x)
        kept = kept_probabilities(params, self.heads, len(q), len(k))
        read = attend(q, k, v, self.mask.of(params), self.scale, kept=kept)
        return params["out"](self.at("inner", params, read))

    @property
    def sizes(self) -> dict[str, int]:
        """Features a head of what is split into heads."""
        plain, turned = dict.fromkeys(("query", "key"), self.head), ("query_rotary", "key_rotary")
        return {**plain, **dict.fromkeys(turned, self.rotary_head), "value": self.value_head}
