"""Reads of appended lanes by weights of their own for each token: attention over depth, and dynamic dense connections.

Trained weights start such that nothing goes through the weights at first: a read is then one by numbers, and theory takes it so.

Axes: x is [lanes, tokens, features]; n lanes, of which `count` have been written; W ways out.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from ...results.configuration import registered
from ..equation.sublayer import OfStream, Part
from ..numerics.precision import in_precision_of
from ..parameters.initializers import normal
from ..parameters.keys import at
from .functional import gelu, standardized
from .history import Count, at_lane, below
from .layer import FEATURES, Layer
from .norms import RMSNorm

# From lanes to one, with numbers for each token; to several; with a number for each token and feature.
READS = {"one": "tj,jt...->t...", "several": "wtj,jt...->wt...", "features": "wjtf,jtf->wtf"}


class DynamicRead(Layer):
    """`Σ_j M(x)_j u_j`, M(x) by token, from `READS`."""

    form: ClassVar[str]
    route: ClassVar[str] = "gather"
    couples: ClassVar[str] = FEATURES

    def weights(self, params, x):
        """M(x), in the precision of `x`."""
        raise NotImplementedError

    def bound(self, params) -> OfStream:
        """Returns the read that waits for the stream it reads."""
        return OfStream(self, params)

    def at_stream(self, params, x) -> Part:
        """Returns the read for the stream `x`."""
        return partial(jnp.einsum, READS[self.form], self.weights(in_precision_of(x, params), x))

    def __call__(self, params, x):
        """Returns what is read of `x`."""
        return self.at_stream(params, x)(x)


@registered
@dataclass(frozen=True)
class DepthAttention(DynamicRead):
    """`Σ_i α_i x_i`, `α = softmax_{i<count} ⟨w, N(x_i)⟩`, w trained from 0: at first the mean (Kimi Team 2026 (AttnRes))."""

    count: Count
    norm: Layer = RMSNorm()
    form: ClassVar[str] = "one"

    def init(self, key, width: int):
        """Returns `{"query": [d], "norm": those of N}`."""
        return {"query": jnp.zeros(width, jnp.float32), "norm": self.norm.init(at(key, "norm"), width)}

    def weights(self, params, x):
        """Returns α [T, n]."""
        scores = jnp.einsum("jtf,f->tj", self.norm(params["norm"], x), params["query"])
        there = below(self.count, len(x), x.dtype)[None] > 0
        return jax.nn.softmax(jnp.where(there, scores, -jnp.inf), axis=-1)

    def numbers(self, params, lanes: int, dtype):
        """Returns α at the start [n]."""
        there = below(self.count, lanes, dtype)
        return there / there.sum()


@registered
@dataclass(frozen=True)
class DenseRead(DynamicRead):
    """`Σ_{i<count} (a_wi + B_wi(x_last)) x_i` for each way w: `B(x) = W₂ GELU(W₁ N(x))` of the newest lane, N without a gain.

    a is 1 for the newest lane at the start, W₂ is 0. W₁ has as many outputs as there are ways and lanes together (Xiao et al.
    2025 (MUDDFormer), eqs. 4 to 6, and the authors' code, whose W₁ has the lanes that are there).
    """

    ways: int
    lanes: Count
    count: Count
    form: ClassVar[str] = "several"

    def init(self, key, width: int):
        """Returns `{"weights": a [W, n], "in": W₁ [d, W n], "out": W₂ [W n, W n]}`."""
        size = self.ways * self.lanes
        newest = at_lane(self.count - 1, self.lanes, jnp.float32)
        return {
            "weights": jnp.tile(newest[None], (self.ways, 1)),
            "in": normal(at(key, "in"), width, size) * width**-0.5,
            "out": jnp.zeros((size, size), jnp.float32),
        }

    def weights(self, params, x):
        """Returns the weights [W, T, n]."""
        newest = jnp.take(x, self.count - 1, axis=0)
        hidden = gelu(standardized(newest, 1e-6, False) @ params["in"])
        said = (hidden @ params["out"]).reshape(len(newest), self.ways, -1).swapaxes(0, 1)
        there = below(self.count, len(x), x.dtype)
        return (params["weights"][:, None] + said) * there[None, None]

    def numbers(self, params, lanes: int, dtype):
        """Returns the weights at the start [n], alike for all ways."""
        return at_lane(self.count - 1, lanes, dtype)


@registered
@dataclass(frozen=True)
class FeatureRead(DynamicRead):
    """`Σ_{i<count} (b_wi + ReLU(⟨N(x_i), v_w⟩)) ⊙ x_i` for each way w, b by feature.

    b = 1 and v = 0 at the start: at first the sum of all lanes (Heddes et al. 2025 (DeepCrossAttention), eq. 6, GRN-v3).
    """

    ways: int
    lanes: Count
    count: Count
    norm: Layer = RMSNorm()
    form: ClassVar[str] = "features"

    def init(self, key, width: int):
        """Returns `{"bias": b [W, n, d], "weights": v [W, d], "norm": those of N}`."""
        return {
            "bias": jnp.ones((self.ways, self.lanes, width), jnp.float32),
            "weights": jnp.zeros((self.ways, width), jnp.float32),
            "norm": self.norm.init(at(key, "norm"), width),
        }

    def weights(self, params, x):
        """Returns the weights [W, n, T, d]."""
        seen = jnp.einsum("jtf,wf->wjt", self.norm(params["norm"], x), params["weights"])
        there = below(self.count, len(x), x.dtype)
        return (params["bias"][:, :, None] + jax.nn.relu(seen)[..., None]) * there[None, :, None, None]

    def numbers(self, params, lanes: int, dtype):
        """Returns the weights at the start [n], alike for all ways."""
        return below(self.count, lanes, dtype)


@registered
@dataclass(frozen=True)
class Way(DynamicRead):
    """One way of a read that has several, by its number: as one lane."""

    reads: DynamicRead
    way: int

    def init(self, key, width: int):
        """Returns the parameters of the read."""
        return self.reads.init(key, width)

    def at_stream(self, params, x) -> Part:
        """Returns the read for the stream `x`."""
        several = self.reads.at_stream(params, x)

        def part(u):
            return several(u)[self.way]

        return part


@registered
@dataclass(frozen=True)
class Ways(Way):
    """The first ways of a read that has more: `way` of them, as lanes."""

    def at_stream(self, params, x) -> Part:
        """Returns the read for the stream `x`."""
        several = self.reads.at_stream(params, x)

        def part(u):
            return several(u)[: self.way]

        return part
