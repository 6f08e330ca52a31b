"""Attention: queries, keys and values of each head, what norms and positions do to them, and what reads the values.

Axes: x is [tokens, features] for one example. T tokens, S of them keys, d features, H heads, K heads of keys, h features a head.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ...results.arguments import whole
from ...results.configuration import registered
from ..layers.attention import Mask, Scored, attend, scored
from ..layers.layer import ALL, FEATURES, PAST, Identity, Layer
from ..numerics.precision import wide
from ..parameters.depth import LayerNumber
from ..parameters.initializers import FanIn, Initialization
from .branch import Branch
from .rotary import Rotary

DROPOUT = "dropout"  # what a training step may put beside the parameters: a key, and a rate
POSITION_BIAS = "position_bias"  # what a model may: biases of the scores [H, T, S], by how far a key is from the query


def kept_probabilities(params, *shape: int):
    """Returns what multiplies the probabilities of attention [H, T, S]: 0 or 1/(1 − rate); None where nothing is dropped."""
    if DROPOUT not in params:
        return None
    rate = params[DROPOUT]["rate"]
    kept = jax.random.bernoulli(params[DROPOUT]["key"], (1 - rate).astype(jnp.float32), shape)
    return jnp.where(kept, 1 / (1 - rate), 0)


def beside_scores(params) -> dict[str, Any]:
    """Returns what stands beside the scores: logits of sinks, biases of pairs; None where there are none."""
    return {"sink": params.get("sink"), "bias": params.get(POSITION_BIAS)}


@registered
@dataclass(frozen=True)
class Attention(Branch):
    """Multi-head attention (Vaswani et al. 2017, eq. 1 and section 3.2.2), with grouped keys (Ainslie et al. 2023).

    A head has `head` features, `d/H` by default. `window` is how many tokens of the past a token sees, itself among them (and as
    many to the other side, where it is not `causal`), `first` how many at the beginning of its text it sees beyond (`Mask`);
    `scale` and `softcap` are those of the scores (see `attend`). With a `sink`, the softmax of every head has one logit more, a
    trained number that starts at `sink`.

    `query_norm`, `key_norm` and `value_norm` act on each head, before positions turn it (QK-norm: Henry et al. 2020, here
    with a norm of one's choice, as Qwen 3 and Gemma 3 have it; OLMo 2's acts on all heads together, `Joint`);
    `head_gain` sees a token's heads as its features.

    With a `value_mix` the input has two lanes, what everything is made of and the values of a block below, and so has the
    output: what the heads read, and the layer's own values. What they read is the mix of both values (Zhou et al. 2024).
    """

    heads: int = 4
    kv_heads: int | None = None
    causal: bool = True
    rotary: Rotary | None = None
    weights: Initialization = FanIn()
    bias: bool | tuple[str, ...] = False
    query_norm: Layer = Identity()
    key_norm: Layer = Identity()
    value_norm: Layer = Identity()
    value_mix: Layer = Identity()
    head_gain: Layer = Identity()
    inner: Layer = Identity()
    head: int | None = None
    window: int | LayerNumber | None = None
    scale: float | None = None
    softcap: float | None = None
    first: int = 0
    sink: float | None = None

    asks: ClassVar[tuple[str, ...]] = ("texts", "groups", DROPOUT, POSITION_BIAS)

    @property
    def mask(self) -> Mask:
        """Which tokens of its text a token sees."""
        return Mask(self.causal, self.window, self.first)

    @property
    def couples(self) -> str:
        """A token and those before it under a causal mask, else all tokens."""
        return PAST if self.causal else ALL

    def __post_init__(self):
        whole("heads", self.heads)
        for name, number in (("kv_heads", self.kv_heads), ("head", self.head)):
            if number is not None:
                whole(name, number)
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"kv_heads = {self.kv_heads} must divide heads = {self.heads}")
        Mask(self.causal, self.window, self.first)

    def init(self, key, width: int):
        """Returns the parameters of a branch, and of the sinks `{"sink": [H]}`, where heads have one."""
        params = super().init(key, width)
        if self.sink is not None:
            params["sink"] = jnp.full(self.heads, self.sink, jnp.float32)
        return params

    def size(self, width: int) -> int:
        """Returns the number of features of a head."""
        if not self.head and width % self.heads:
            raise ValueError(f"width = {width} is not a multiple of heads = {self.heads}: change one of them")
        return self.head or width // self.heads

    def matrix_shapes(self, width: int):
        """Returns `query`, `key`, `value` and `out`; key and value have `kv_heads · h` outputs."""
        size = self.size(width)
        if self.rotary and size % 2:
            raise ValueError(f"rotary positions need an even width a head, not {self.head or f'{width}/{self.heads}'}")
        all_heads, shared = size * self.heads, size * (self.kv_heads or self.heads)
        if self.mixes_values and shared > width:
            raise ValueError(
                f"values of {shared} features don't fit on a lane of {width}: take fewer kv_heads, or a smaller head"
            )
        return {
            "query": (width, all_heads),
            "key": (width, shared),
            "value": (width, shared),
            "out": (all_heads, width),
        }

    def inner_widths(self, width: int):
        """Returns norms, and a mix, on the features of a head, `head_gain` on the heads, `inner` on their concatenation."""
        size = self.size(width)
        by_head = dict.fromkeys(("query_norm", "key_norm", "value_norm", "value_mix"), size)
        return {**by_head, "head_gain": self.heads, "inner": size * self.heads}

    def seen(self, params, x):
        """Returns what keys and values are made of: the stream that the queries are of too."""
        return x

    def sources(self, params, x) -> dict[str, Any]:
        """Returns what queries, keys and values are made of."""
        if x.ndim == 3:
            return dict(zip(("query", "key", "value"), x, strict=True))
        seen = self.seen(params, x)
        return {"query": x, "key": seen, "value": seen}

    def queries_keys_values(self, params, x) -> tuple:
        """Returns what the scores are made of and what they weigh, normed and turned: q [T, H, h], k and v [S, K, h].

        Of three lanes queries, keys and values are made of one each.
        """
        q, k, own = self._heads(params, x)
        return q, k, self._mixed(params, own, x)

    def _heads(self, params, x) -> tuple:
        """Returns queries, keys and the layer's own values."""
        if self.mixes_values:
            x = x[0]
        head = self.size(x.shape[-1])
        heads = {}
        for name, u in self.sources(params, x).items():
            features = params[name](u)
            heads[name] = features.reshape(len(u), -1, head)
        q, k, v = (self.at(f"{name}_norm", params, u) for name, u in heads.items())
        if self.rotary:
            q, k = self.rotary(q), self.rotary(k)
        return q, k, v

    def _mixed(self, params, own, x):
        """Returns the layer's own values mixed with those on the second lane of its input, where it mixes any."""
        if not self.mixes_values:
            return own
        below = x[1][:, : own[0].size].reshape(own.shape)
        return self.at("value_mix", params, jnp.stack([own, below]))

    @property
    def mixes_values(self) -> bool:
        """Whether its values are mixed with those of another block."""
        return self.value_mix != Identity()

    def hiding(self, params, seen) -> dict:
        """Returns the parameters with biases that hide the other keys than those that are `seen` [T, S]."""
        none = jnp.zeros((self.heads, *seen.shape), wide(params["out"].kernel.dtype))
        return {**params, POSITION_BIAS: jnp.where(seen[None], params.get(POSITION_BIAS, none), -jnp.inf)}

    def opened(self, params, x, read):
        """Returns what is written of what the heads have read [T, H h]: all of it."""
        return read

    def scored(self, params, x) -> Scored:
        """Returns the probabilities that it reads the values with, and what they are made of."""
        q, k, _ = self.queries_keys_values(params, x)
        return scored(q, k, self.mask.of(params), self.scale, self.softcap, **beside_scores(params))

    def __call__(self, params, x):
        """Returns the branch's output [T, d]."""
        q, k, own = self._heads(params, x)
        v = self._mixed(params, own, x)
        kept = kept_probabilities(params, self.heads, len(q), len(k))
        read = attend(q, k, v, self.mask.of(params), self.scale, self.softcap, kept=kept, **beside_scores(params))
        if self.head_gain != Identity():
            by_head = read.reshape(len(q), self.heads, -1).swapaxes(1, 2)
            read = self.at("head_gain", params, by_head).swapaxes(1, 2).reshape(read.shape)
        y = params["out"](self.at("inner", params, self.opened(params, x, read)))
        if not self.mixes_values:
            return y
        lane = jnp.pad(own.reshape(len(own), -1), ((0, 0), (0, y.shape[-1] - own[0].size)))
        return jnp.stack([y, lane])


@registered
@dataclass(frozen=True)
class Joint(Layer):
    """A layer that acts on `heads` heads [T, heads, h] together, as on `heads · h` features: the QK-norm of OLMo 2."""

    layer: Layer
    heads: int
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """Returns the layer's parameters, for heads of `width` features."""
        return self.layer.init(key, self.heads * width)

    def __call__(self, params, x):
        """Returns the layer applied to the concatenated heads."""
        return self.layer(params, x.reshape(len(x), -1)).reshape(x.shape)
