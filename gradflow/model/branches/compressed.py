"""Attention that reads near tokens one by one and far ones as entries, with keys that are the values too: DeepSeek-V4's.

    c = N'(W_DQ x);   q_h = R N(W_UQ,h c);   k = R N''(W_KV x), one for all heads;   e = R N_e(entry of a window)
    u_h = R⁻¹ softmax(q_h [k, e]ᵀ/√h) [k, e],   y = W_O [W_g u_g]_g

(DeepSeek-AI 2026 (DeepSeek-V4), section 2.3, as in transformers.) The softmax has a sink. A token sees the keys of a window
of tokens, and the entries of whole windows up to its own; R turns the last features of a head by the position of the token, or
of an entry's first token, and what was read back by that of the query: so it depends on how far apart they are. W_g takes the
heads of group g together to a few features.

Axes: x is [T, d]; H heads of h features, r of them turned; E entries; G groups of s features.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax.numpy as jnp

from ...results.configuration import registered
from ...results.fields import whole_fields
from ..layers.attention import Mask, Scored, attend, scored
from ..layers.layer import PAST, Identity, Layer
from ..layers.norms import RMSNorm
from ..parameters.initializers import FanIn, Initialization
from .attention import DROPOUT, kept_probabilities
from .branch import Branch
from .entries import Windows, chosen, index_scores, pooled, windows
from .rotary import Rotary


@registered
@dataclass(frozen=True)
class Index:
    """Which entries a token reads: the `active` that score highest, by `heads` of `head` features."""

    heads: int = 4
    head: int = 16
    active: int = 8

    def __post_init__(self):
        whole_fields(self, "heads", "head", "active")


@registered
@dataclass(frozen=True)
class Compression:
    """What an entry stands for: `size` tokens of a window, and those of the windows before it, `windows` in all.

    With an `index` a token reads those that it chooses, else all that it sees.
    """

    size: int = 4
    windows: int = 1
    index: Index | None = None

    def __post_init__(self):
        whole_fields(self, "size", "windows")


@registered
@dataclass(frozen=True)
class CompressedAttention(Branch):
    """Causal attention with entries: see above; without a `compression` it reads the `window` of tokens alone.

    `query_latent`, `query_norm`, `key_norm`, `entry_norm` and `index_norm` are norms, of c, of each head's query, of keys, of
    entries and of an index's entries. `sink` is what the trained logits beside the scores start at, `scale` that of the scores,
    1/√h by default. Cost: O(T (T + E) H h), E = ⌊T/size⌋: hidden pairs are computed too.
    """

    heads: int = 4
    head: int = 16
    query_rank: int = 32
    rotary_head: int = 8
    groups: int = 2
    group_rank: int = 16
    window: int = 128
    compression: Compression | None = None
    rotary: Rotary = Rotary(pairs="neighbours")
    scale: float | None = None
    sink: float = 0.0
    weights: Initialization = FanIn()
    bias: bool | tuple[str, ...] = False
    query_latent: Layer = RMSNorm()
    query_norm: Layer = RMSNorm(scale="none")
    key_norm: Layer = RMSNorm()
    entry_norm: Layer = RMSNorm()
    index_norm: Layer = RMSNorm()
    inner: Layer = Identity()

    asks: ClassVar[tuple[str, ...]] = ("texts", DROPOUT)
    couples: ClassVar[str] = PAST

    def __post_init__(self):
        whole_fields(self, "heads", "head", "query_rank", "rotary_head", "groups", "group_rank", "window")
        if self.heads * self.head % self.groups:
            raise ValueError(f"groups = {self.groups} must divide heads · head = {self.heads * self.head}")
        least = min([self.head, *self.entry_features.values()])
        if self.rotary_head % 2 or self.rotary_head > least:
            raise ValueError(f"rotary_head is {self.rotary_head}: an even number, at most {least}, is expected")

    @property
    def entry_features(self) -> dict[str, int]:
        """Features of the entries that it makes: of those that are read, and of those that an index scores."""
        if not self.compression:
            return {}
        if not self.compression.index:
            return {"entry": self.head}
        return {"entry": self.head, "index": self.compression.index.head}

    def matrix_shapes(self, width: int):
        """Returns the matrices of queries, keys, entries where there are some, their index, and of the output."""
        all_heads = self.heads * self.head
        shapes = {
            "query_down": (width, self.query_rank),
            "query": (self.query_rank, all_heads),
            "key": (width, self.head),
        }
        if own := self.compression:
            for kind, features in self.entry_features.items():
                shapes |= dict.fromkeys((kind, f"{kind}_gate"), (width, own.windows * features))
            if index := own.index:
                shapes |= {"index_query": (self.query_rank, index.heads * index.head)}
                shapes |= {"index_weight": (width, index.heads)}
        together = self.groups * self.group_rank
        return {**shapes, "out_down": (all_heads // self.groups, together), "out": (together, width)}

    def inner_widths(self, width: int):
        """Returns norms on what queries are made from, on heads, keys and entries; `inner` on the concatenated heads."""
        widths = {"query_latent": self.query_rank, "query_norm": self.head, "key_norm": self.head}
        of_entries = {f"{kind}_norm": features for kind, features in self.entry_features.items()}
        return {**widths, **of_entries, "inner": self.heads * self.head}

    def init(self, key, width: int):
        """Returns the parameters of a branch, `{"sink": [H]}`, and of entries b, `{"entry_place": [m, W h]}`, 0 at the start."""
        params = super().init(key, width)
        params["sink"] = jnp.full(self.heads, self.sink, jnp.float32)
        if own := self.compression:
            for kind, features in self.entry_features.items():
                params[f"{kind}_place"] = jnp.zeros((own.size, own.windows * features), jnp.float32)
        return params

    def __call__(self, params, x):
        """Returns the branch's output [T, d]."""
        q, keys, mask = self.queries_keys_mask(params, x)
        kept = kept_probabilities(params, self.heads, len(q), len(keys))
        read = attend(q, keys, keys, mask, self.scale, sink=params["sink"], kept=kept)
        back = self.turned(read.reshape(q.shape), -jnp.arange(len(x)))
        heads = self.at("inner", params, back.reshape(read.shape))
        return params["out"](self.by_group(params["out_down"], heads))

    def scored(self, params, x) -> Scored:
        """Returns the probabilities that it reads with, of tokens and behind them of entries, and what they are made of."""
        q, keys, mask = self.queries_keys_mask(params, x)
        return scored(q, keys, mask, self.scale, sink=params["sink"])

    def queries_keys_mask(self, params, x) -> tuple:
        """Returns queries [T, H, h], the keys of tokens and entries [T + E, 1, h], and which of them a query sees."""
        latent = self.at("query_latent", params, params["query_down"](x))
        q = self.at("query_norm", params, params["query"](latent).reshape(len(x), self.heads, self.head))
        k = self.turned(self.at("key_norm", params, params["key"](x))[:, None])
        mask = Mask(True, self.window).of(params)
        if not self.compression or len(x) < self.compression.size:
            return self.turned(q), k, mask
        own = windows(len(x), self.compression.size, mask.texts)
        far = self.entries("entry", params, x, own)
        beyond = own.seen
        if index := self.compression.index:
            beyond = chosen(self.index_scores(index, params, x, latent, own), beyond, index.active)
        return self.turned(q), jnp.concatenate([k, far]), replace(mask, beyond=beyond)

    def entries(self, kind: str, params, x, own: Windows):
        """Returns the turned entries of the windows [E, 1, h], those of "entry" or of "index"."""
        arrays = params[kind](x), params[f"{kind}_gate"](x), params[f"{kind}_place"]
        features = self.entry_features[kind]
        values, scores, bias = (array.reshape(len(array), -1, features) for array in arrays)
        made = self.at(f"{kind}_norm", params, pooled(values, scores, bias, own))
        return self.turned(made[:, None], own.starts)

    def index_scores(self, index: Index, params, x, latent, own: Windows):
        """Returns the scores of the entries [T, E]."""
        queries = params["index_query"](latent).reshape(len(x), index.heads, index.head)
        keys = self.entries("index", params, x, own)[:, 0]
        return index_scores(self.turned(queries), keys, params["index_weight"](x))

    def turned(self, u, positions=None):
        """Returns heads [T, H, h] whose last features are turned by these positions, 0, 1, … by default."""
        still, last = jnp.split(u, [u.shape[-1] - self.rotary_head], axis=-1)
        return jnp.concatenate([still, self.rotary(last, positions)], axis=-1)

    def by_group(self, matrix, heads):
        """Returns the features of each group of heads [T, G s]."""
        groups = heads.reshape(len(heads), self.groups, -1)
        kernel = matrix.kernel[...].reshape(-1, self.groups, self.group_rank)
        together = jnp.einsum("tgi,igs->tgs", groups, kernel).reshape(len(heads), -1)
        return together if matrix.bias is None else together + matrix.bias[...][None]
