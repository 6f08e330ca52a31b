"""Lanes that are gated feature by feature, and features that are cut into lanes.

Axes: x is [lanes, tokens, features]; n lanes, T tokens, d features.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ...results.configuration import registered
from ..equation.sublayer import OfStream, Part
from ..numerics.precision import in_precision_of
from ..parameters.initializers import normal
from ..parameters.keys import at
from .layer import FEATURES, Layer, Untrained
from .norms import RMSNorm


@registered
@dataclass(frozen=True)
class GatedRead(Layer):
    """`mean_i G_i(x) ⊙ N_i u_i`, `G = σ(W_u SiLU(W_d vec(N x)/n))`, N_i a norm of each lane's own (Qwen Team 2026)."""

    lanes: int
    rank: int = 32
    norm: Layer = RMSNorm()
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """Returns `{"norm": {lane: …}, "down": [n·d, rank], "up": [rank, n·d]}`."""
        size = self.lanes * width
        return {
            "norm": {str(i): self.norm.init(at(key, "norm", i), width) for i in range(self.lanes)},
            "down": normal(at(key, "down"), size, self.rank) * size**-0.5,
            "up": normal(at(key, "up"), self.rank, size) * self.rank**-0.5,
        }

    def normed(self, params, u):
        """Returns every lane behind its norm."""
        return jnp.stack([self.norm(params["norm"][str(i)], u[i]) for i in range(self.lanes)])

    def bound(self, params) -> OfStream:
        """Returns the gain that waits for the stream it reads."""
        return OfStream(self, params)

    def at_stream(self, params, x) -> Part:
        """Returns the read for the stream `x`."""
        own = in_precision_of(x, params)
        hidden = jax.nn.silu(side_by_side(self.normed(own, x)) @ own["down"] / self.lanes)
        gates = jax.nn.sigmoid(in_lanes(hidden @ own["up"], self.lanes))

        def part(u):
            return jnp.mean(gates * self.normed(own, u), axis=0)

        return part

    def __call__(self, params, x):
        """Returns what is read of `x`."""
        return self.at_stream(params, x)(x)


@registered
@dataclass(frozen=True)
class SharingRead(GatedRead):
    """The same, which also trains the weights by which a `GatedWrite` shares out what the branch puts out."""

    def init(self, key, width: int):
        """Returns `{"norm", "down", "up"}`, and `"inject"` [n·d, n]."""
        size = self.lanes * width
        inject = normal(at(key, "inject"), size, self.lanes) * size**-0.5
        return {**super().init(key, width), "inject": inject}


@registered
@dataclass(frozen=True)
class GatedWrite(GatedRead):
    """`s_i(x) u` to lane i, `s = 2σ(W_w vec(N x)/n)`, with the parameters of the read."""

    def init(self, key, width: int):
        """Returns no parameters."""
        return {}

    def params_from(self, part: str) -> str:
        """Returns the part whose parameters it uses."""
        return "read"

    def at_stream(self, params, x) -> Part:
        """Returns the write for the stream `x`."""
        own = in_precision_of(x, params)
        shares = 2 * jax.nn.sigmoid(side_by_side(self.normed(own, x)) @ own["inject"] / self.lanes).T

        def part(u):
            return shares[..., None] * u[None]

        return part


@registered
@dataclass(frozen=True)
class Cut(Layer):
    """From [T, d] to `fractions` lanes [m, T, d/m]: consecutive features."""

    fractions: int
    couples: ClassVar[str] = FEATURES

    def init(self, key, width: int):
        """Returns no parameters.

        Errors: ValueError where the width is no multiple.
        """
        if width % self.fractions:
            raise ValueError(f"a width of {width} can't be cut into {self.fractions} fractions: take a multiple")
        return {}

    def __call__(self, params, x):
        """Returns the fractions."""
        return in_lanes(x, self.fractions)


@registered
@dataclass(frozen=True)
class Merged(Untrained):
    """From lanes [m, T, d/m] to [T, d]."""

    couples: ClassVar[str] = FEATURES

    def __call__(self, params, x):
        """Returns the features of all lanes side by side."""
        return side_by_side(x)


def in_lanes(x, lanes: int):
    """Returns the features of each token [T, n·d] as lanes [n, T, d]."""
    return x.reshape(len(x), lanes, -1).swapaxes(0, 1)


def side_by_side(x):
    """Returns the lanes of each token [n, T, d] side by side [T, n·d]."""
    return x.swapaxes(0, 1).reshape(x.shape[1], -1)
