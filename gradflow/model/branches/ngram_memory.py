"""Memory of n-grams: rows of tables, looked up by the tokens alone, let onto the stream as far as the stream asks for them.

    e_t = the rows of token t side by side;    k_i = N W_K,i e,  v = W_V e            a key for each lane i, one value
    u_i = σ(±√|s_i|) v,  s_i = ⟨k_i, N x_i⟩/√d                                        ± the sign of s
    y_i = u_i + SiLU(conv N u_i)                                                      causal, each feature by itself

(Cheng et al. 2026 (Engram), arXiv 2601.07372, section 2; the root as qwen4_exp in transformers, with whose numbers the tests
compare: its convolution reads every N-th token of the past, N the longest n-gram.) Each N is a norm of its own.

Axes: the stream is [n, T, d], or [T, d] of one lane; H heads of the hash, E features of all rows together.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ...results.arguments import whole
from ...results.configuration import registered
from ..inputs.context import TOKENS, place_in_text
from ..inputs.ngrams import NGrams
from ..layers.feature_gates import in_lanes, side_by_side
from ..layers.lanes import PerLane
from ..layers.layer import PAST, Layer
from ..layers.norms import RMSNorm
from ..parameters.initializers import FanIn, Initialization, normal
from ..parameters.keys import at
from .branch import Branch
from .convolution import convolved


@registered
@dataclass(frozen=True)
class NGramMemory(Branch):
    """Memory of n-grams on a stream of so many `lanes`: see above. `features` is E, `taps` the kernel's.

    The table is drawn with rms 1, the kernel starts at 0.

    Errors: ValueError for features that the heads don't divide.
    """

    ngrams: NGrams = NGrams()
    lanes: int = 1
    features: int = 64
    taps: int = 4
    norm: Layer = RMSNorm()
    weights: Initialization = FanIn()
    bias: bool | tuple[str, ...] = False

    couples: ClassVar[str] = PAST
    asks: ClassVar[tuple[str, ...]] = (TOKENS, "texts")

    def __post_init__(self):
        whole("lanes", self.lanes)
        whole("taps", self.taps)
        if whole("features", self.features) % self.ngrams.total:
            raise ValueError(
                f"features = {self.features} is no multiple of the {self.ngrams.total} heads of n-grams: change one of them"
            )

    def matrix_shapes(self, width: int):
        """Returns `key`, with an output for every feature of every lane, and `value`."""
        return {"key": (self.features, self.lanes * width), "value": (self.features, width)}

    def layer_at(self, place: str) -> Layer:
        """Returns the norm of every lane: each place has its own."""
        return PerLane((self.norm,) * self.lanes)

    def inner_widths(self, width: int):
        """Returns the norms of keys, of the stream, and of what the convolution reads."""
        return dict.fromkeys(("key_norm", "query_norm", "value_norm"), width)

    def init(self, key, width: int):
        """Returns the parameters of a branch, `{"table": [rows, E/H], "kernel": [K, 1, n·d]}`."""
        table = normal(at(key, "table"), self.ngrams.rows, self.features // self.ngrams.total)
        kernel = jnp.zeros((self.taps, 1, self.lanes * width), jnp.float32)
        return {**super().init(key, width), "table": table, "kernel": kernel}

    def embedded(self, params):
        """Returns the rows of every token side by side [T, E]."""
        if TOKENS not in params:
            raise ValueError("a memory of n-grams without tokens: it belongs into the stack of a Transformer")
        rows = self.ngrams(params[TOKENS], params.get("texts"))
        return params["table"][rows].reshape(len(rows), -1)

    def __call__(self, params, x):
        """Returns the branch's output, of the shape of the stream."""
        lanes = x.reshape(self.lanes, *x.shape[-2:])
        rows = self.embedded(params)
        key = self.at("key_norm", params, in_lanes(params["key"](rows), self.lanes))
        alike = jnp.sum(key * self.at("query_norm", params, lanes), axis=-1, keepdims=True) * x.shape[-1] ** -0.5
        opened = jax.nn.sigmoid(jnp.sign(alike) * jnp.sqrt(jnp.maximum(jnp.abs(alike), 1e-6)))
        let_in = opened * params["value"](rows)[None]
        place = place_in_text(len(rows), params.get("texts"))
        read = side_by_side(self.at("value_norm", params, let_in))
        mixed = jax.nn.silu(convolved(read, params["kernel"], place, self.ngrams.longest))
        return (let_in + in_lanes(mixed, self.lanes)).reshape(x.shape)
