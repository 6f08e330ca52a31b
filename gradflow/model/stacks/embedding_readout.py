"""Both ends of a Transformer: the embedding, from tokens to rows, and the readout, from what left the stream to logits.

Axes: tokens [T]; rows and stream [T, d]; V the vocabulary.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from ...results.arguments import real, whole
from ...results.configuration import registered
from ..branches.branch import linear
from ..layers.layer import Identity, Layer
from ..numerics.precision import wide
from ..parameters.initializers import FanIn, Initialization, normal
from ..parameters.keys import at


@registered
@dataclass(frozen=True)
class Embedding:
    """One row a token, plus one row a position where `context` is given; each entry of their sum has rms `rms`.

    `context` is the largest number of tokens (learned positions); None adds no positions (rotary attention has its own).
    `first` is the row of the first position (OPT counts from 2; those below are never read). With `types`, the first of that
    many rows is added to every token, or that of its type where a batch says types (BERT's segments). With `features`, a token's
    row has that many, and a matrix takes it to the stream before positions are added (OPT 350M; Lan et al. 2020, section 3.1).
    """

    vocabulary: int = 256
    context: int | None = 64
    rms: float = 1.0
    first: int = 0
    types: int = 0
    features: int | None = None

    def __post_init__(self):
        whole("vocabulary", self.vocabulary)
        if self.context is not None:
            whole("context", self.context)
        real("rms", self.rms, least=0)

    def rows(self) -> dict[str, int]:
        """Returns how many rows each table has whose rows are added up, `{table: rows}`."""
        rows = {"token": self.vocabulary}
        if self.context:
            rows["position"] = self.context + self.first
        if self.types:
            rows["type"] = self.types
        return rows

    def init(self, key, width: int):
        """Returns `{"token": Embed[, "position": Embed, "type": Embed, "project": Linear]}`; entries `N(0, rms²/tables)`."""
        rows = self.rows()
        std = self.rms * len(rows) ** -0.5
        widths = dict.fromkeys(rows, width)
        if self.features:
            widths["token"] = self.features
        params: dict[str, Any] = {}
        for table, number in rows.items():
            params[table] = _embed(std * normal(at(key, table), number, widths[table]))
        if self.features:
            params["project"] = linear(key, FanIn(), "project", self.features, width, width, False)
        return params

    def __call__(
        self, params, tokens: Int[Array, " token"], positions=None, types=None
    ) -> Float[Array, "token feature"]:
        """Returns the bottom of the stream; `positions` [T] are those of the tokens, 0 … T − 1 by default, `types` [T] 0."""
        x = params["token"].embedding[tokens]
        if "project" in params:
            x = params["project"](x)
        if "type" in params and types is None:
            x = x + params["type"].embedding[:1]
        elif "type" in params:
            x = x + params["type"].embedding[types]
        if "position" not in params:
            return x
        table = params["position"].embedding
        asked, learned = tokens.shape[-1], table.shape[0] - self.first
        if asked > learned:
            raise ValueError(f"{asked} tokens, but the model has learned {learned} positions: give it context={asked}")
        if positions is not None:
            return x + table[self.first + positions]
        return x + table[self.first : self.first + asked]


@registered
@dataclass(frozen=True)
class Sinusoidal:
    """`√d E[t] + P`, with `P[t, 2i] = sin(t/10000^(2i/d))` and `P[t, 2i + 1]` its cosine (Vaswani et al. 2017, section 3.5).

    Rows are drawn from `N(0, rms²/d)`, so that √d E has that rms (they don't say how theirs are drawn), and P has 1/√2.
    """

    vocabulary: int = 256
    rms: float = 1.0
    context: ClassVar[None] = None  # positions are computed, as many as there are tokens

    def init(self, key, width: int):
        """Returns `{"token": Embed}`."""
        return {"token": _embed(self.rms * width**-0.5 * normal(at(key, "token"), self.vocabulary, width))}

    def __call__(self, params, tokens: Int[Array, " token"], positions=None) -> Float[Array, "token feature"]:
        """Returns the bottom of the stream; `positions` [T] are those of the tokens, 0 … T − 1 by default."""
        rows = params["token"].embedding[tokens]
        waves = sinusoids(len(rows), rows.shape[-1], rows.dtype)
        if positions is not None:
            waves = waves[positions]
        return rows.shape[-1] ** 0.5 * rows + waves


@registered
@dataclass(frozen=True)
class Relative:
    """Token rows alone: how far a key is from its query attention knows from a trained bias of their score, one a head.

    Raffel et al. 2020 (T5), section 2.1: distances share `buckets` biases, those up to a quarter of them, or half under a causal
    mask, have one each, longer ones share them in steps of their logarithm up to `farthest`. All blocks of a stack have the same
    table; an encoder and its decoder have one each. The bucket of a distance is that of the authors' code, in float32.
    """

    heads: int
    vocabulary: int = 256
    buckets: int = 32
    farthest: int = 128
    rms: float = 1.0
    context: ClassVar[None] = None

    def __post_init__(self):
        whole("buckets", self.buckets, least=4)
        whole("farthest", self.farthest, least=self.buckets)

    def init(self, key, width: int):
        """Returns `{"token": Embed, "encoder_bias": Embed, "decoder_bias": Embed}`; biases `N(0, 1/d)`, tokens `N(0, rms²)`."""
        tables: dict[str, Any] = {"token": _embed(self.rms * normal(at(key, "token"), self.vocabulary, width))}
        for side in ("encoder", "decoder"):
            name = f"{side}_bias"
            tables[name] = _embed(width**-0.5 * normal(at(key, name), self.buckets, self.heads))
        return tables

    def __call__(self, params, tokens: Int[Array, " token"], positions=None) -> Float[Array, "token feature"]:
        """Returns the bottom of the stream, whatever the positions."""
        return params["token"].embedding[tokens]

    def biases(self, params, side: str, tokens: int) -> Float[Array, "head token token"]:
        """Returns the biases of the scores of so many tokens, of the stack of a `side`."""
        buckets = self.buckets_of(tokens, causal=side == "decoder")
        by_pair = params[f"{side}_bias"].embedding[buckets]
        return jnp.moveaxis(by_pair, -1, 0)

    def buckets_of(self, tokens: int, causal: bool) -> np.ndarray:
        """Returns the bucket [T, S] of each pair of a query and a key; those of keys ahead of their query come second."""
        ahead = np.arange(tokens)[None] - np.arange(tokens)[:, None]
        number = self.buckets if causal else self.buckets // 2
        distance = np.maximum(-ahead, 0) if causal else np.abs(ahead)
        near = number // 2
        steps = np.log(np.maximum(distance, 1).astype(np.float32) / near) / math.log(self.farthest / near)
        far = np.minimum(near + (steps * (number - near)).astype(int), number - 1)
        bucket = np.where(distance < near, distance, far)
        return bucket if causal else bucket + number * (ahead > 0)


def sinusoids(tokens: int, width: int, dtype=jnp.float32) -> Float[Array, "token feature"]:
    """Returns P: sines of the token's position, and beside each its cosine."""
    precise = wide(dtype)
    slow = 10_000.0 ** (-2 * jnp.arange(-(-width // 2), dtype=precise) / width)
    angle = jnp.arange(tokens, dtype=precise)[:, None] * slow[None, :]
    both = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    return both.reshape(tokens, -1)[:, :width].astype(dtype)


def _embed(table) -> nnx.Embed:
    return nnx.Embed(*table.shape, embedding_init=lambda *_: table, rngs=nnx.Rngs(0))


@registered
@dataclass(frozen=True)
class Readout:
    """`z = s (W B(out) + b)`, where `softcap` c is given `c tanh(z/c)`: what reads the logits, if it isn't a matrix alone.

    W is the table of token rows (tied, Press and Wolf 2017) or, drawn from `weights`, its own. `before` is B: BERT's transform,
    the matrix from the stream to narrower rows. `scale` is s, 1 by default (Granite, Cohere).
    """

    weights: Initialization | None = None
    bias: bool = False
    before: Layer = Identity()
    softcap: float | None = None
    scale: float | None = None

    def init(self, key, width: int, vocabulary: int, features: int | None = None):
        """Returns `{["before": …,] ["matrix": Linear,] ["bias": [V]]}`; `features` are those of a token's row, if not `width`."""
        params = {}
        before = self.before.init(at(key, "before"), width)
        if before != {}:
            params["before"] = before
        if self.weights is not None:
            params["matrix"] = linear(key, self.weights, "readout", features or width, vocabulary, width, False)
        if self.bias:
            params["bias"] = jnp.zeros(vocabulary, jnp.float32)
        return params

    def __call__(self, params, table, out):
        """Returns the logits [T, V], with `table` the token rows [V, d]."""
        out = self.before(params.get("before", {}), out)
        z = out @ table.T if self.weights is None else params["matrix"](out)
        if self.bias:
            z = z + params["bias"][None]
        if self.scale is not None:
            z = self.scale * z
        if self.softcap is not None:
            z = self.softcap * jnp.tanh(z / self.softcap)
        return z
